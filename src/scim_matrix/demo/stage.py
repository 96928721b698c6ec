"""What the demonstration shows: requests beside rooms, the output of commands, a verdict."""

import asyncio
import json
import shlex
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import User

WIDTH = 80
SETTLE_SECONDS = 20.0
_MEMBERS_SHOWN = 2
_LINES_SHOWN = 32


@dataclass(frozen=True)
class Request:
    """What the identity provider sent, and the status it was answered with."""

    method: str
    path: str
    body: Any
    status: int


@dataclass
class IdentityProvider(ScimClient):
    """Sends requests, and keeps them and the names of what it made for showing."""

    sent: list[Request] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send one request and return status and JSON body (None if there is none)."""
        status, answer = await super().call(method, path, body, headers)
        self.sent.append(Request(method, path, body, status))
        if status == 201:
            self.names[answer["id"]] = answer.get("userName") or answer["displayName"]
        return status, answer

    def told(self) -> Iterator[str]:
        """Return what was sent, line by line, with names in place of SCIM ids."""
        for _, alike in groupby(self.sent, lambda r: (r.method, r.path, r.status)):
            first, *others = alike
            text = f"{first.method} {first.path}"
            if first.body is not None:
                text += f"\n{json.dumps(_shortened(first.body), ensure_ascii=False)}"
            for scim_id, name in self.names.items():
                text = text.replace(scim_id, name)
            yield f"{text}\n→ {first.status}" + (f", and {len(others)} more" if others else "")


def _shortened(value: Any) -> Any:
    """Return a body of which long lists show their beginning only."""
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if not isinstance(value, list):
        return value
    shown = [_shortened(inner) for inner in value[:_MEMBERS_SHOWN]]
    more = len(value) - len(shown)
    return [*shown, f"… {more} more"] if more else shown


@dataclass(frozen=True)
class Step:
    """What happens next, who must be in which room then, and which command tells of it.

    `says` is the heading, `why` what somebody should know who looks. `command` are the words of a
    command whose output must come to hold `shows`.
    """

    says: str
    why: str
    does: Callable[[], Awaitable[object]]
    then: dict[str, set[str]]
    command: tuple[str, ...] = ()
    shows: str = ""


class Stage:
    """The rooms on show, the requests beside them, and what has been wrong so far."""

    def __init__(
        self,
        console: Console,
        admin: User,
        rooms: dict[str, str],
        service: Service,
        idp: IdentityProvider,
    ) -> None:
        self._console = console
        self._admin = admin
        self._rooms = rooms
        # Commands print as they do on a terminal that is as wide as this one.
        as_there = {"FORCE_COLOR": "1", "COLUMNS": str(console.width)}
        self._terminal = replace(service, more={**service.more, **as_there})
        self._idp = idp
        self._steps = 0
        self.wrong = 0

    async def look(self) -> dict[str, set[str]]:
        """Return who is in each room besides the service's account."""
        return {
            name: await self._admin.members(room_id) - {"scim-bot"}
            for name, room_id in self._rooms.items()
        }

    async def play(self, step: Step) -> None:
        """Carry out a step, watch the rooms until they are right, or time is up."""
        self._steps += 1
        self._idp.sent.clear()
        self._console.rule(f"[bold]{self._steps}. {step.says}[/]", align="left", style="dim")
        self._console.print(step.why, highlight=False)
        begun = time.monotonic()
        before = seen = await self.look()
        with Live(self._scene(before, seen, step), console=self._console) as live:
            await step.does()
            # Where nothing is to change, that is known once the command tells so.
            output = await self._tells(step, begun)
            while (seen := await self.look()) != step.then:
                live.update(self._scene(before, seen, step))
                if time.monotonic() - begun > SETTLE_SECONDS:
                    break
                await asyncio.sleep(0.1)
            live.update(self._scene(before, seen, step))
        if not self._console.is_terminal:
            self._console.print()
        if step.command:
            self._copyable(Text(f"$ scim-matrix {shlex.join(step.command)}", style="bold"))
            self._copyable(Text(_end_of(output)))
        self._judge(step, seen, output, time.monotonic() - begun)

    def _copyable(self, lines: Text) -> None:
        """Print lines as they are: what may have to be copied is not wrapped."""
        self._console.print(lines, soft_wrap=True)

    async def _tells(self, step: Step, begun: float) -> str:
        """Return what the step's command prints, once it holds what it should."""
        output = ""
        while step.command:
            output = await self._terminal.told(*step.command)
            if _says(output, step.shows) or time.monotonic() - begun > SETTLE_SECONDS:
                break
            await asyncio.sleep(0.1)
        return output

    def _judge(self, step: Step, seen: dict[str, set[str]], output: str, seconds: float) -> None:
        if seen == step.then and _says(output, step.shows):
            self._console.print(f"[green]right[/] after {seconds:.1f} s\n", highlight=False)
            return
        self.wrong += 1
        should = "; ".join(f"{name}: {_people(people)}" for name, people in step.then.items())
        words = f", and the command should say {step.shows!r}" if step.shows else ""
        self._console.print("[red]WRONG[/]", f"should be {should}{words}\n", highlight=False)

    def _scene(self, before: dict[str, set[str]], seen: dict[str, set[str]], step: Step) -> Table:
        table = Table.grid(expand=True, padding=(0, 1))
        table.add_column(ratio=1)
        table.add_column(ratio=1)
        table.add_row("[dim]the identity provider sends[/]", "[dim]who is in the rooms[/]")
        requests = [Text(line, overflow="fold") for line in self._idp.told()]
        if step.command and not requests:
            requests = [Text("nothing")]
        rooms = [_room(name, before[name], seen[name], step.then[name]) for name in seen]
        table.add_row(Group(*requests), Group(*rooms))
        return table


def _says(output: str, words: str) -> bool:
    """Tell whether words are in what was printed, wherever its lines end."""
    return words in " ".join(output.split())


def _end_of(output: str) -> str:
    """Return what a command printed, of much the last line only."""
    lines = output.strip("\n").splitlines()
    return "\n".join(lines if len(lines) <= _LINES_SHOWN else ["…", lines[-1]])


def _people(people: set[str]) -> str:
    return ", ".join(sorted(people)) or "nobody"


def _room(name: str, before: set[str], seen: set[str], then: set[str]) -> Text:
    """Return a room with those who came in green and those who went in red."""
    text = Text.assemble((name, "bold"), f" ({len(seen)}) " + ("" if seen == then else "…"))
    text.append("\n")
    for person in sorted(seen - before):
        text.append(f"+{person} ", "green")
    for person in sorted(before - seen):
        text.append(f"-{person} ", "red")
    text.append(" ".join(sorted(seen & before)) or ("" if seen | before else "nobody"))
    return text
