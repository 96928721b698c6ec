"""The demonstration: rooms before and after, step by step, and a verdict."""

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from scim_matrix.demo.mas import delegating
from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, User, running

SETTLE_SECONDS = 20.0


@dataclass(frozen=True)
class Step:
    """What the identity provider does next, and who must be in which room afterwards."""

    says: str
    does: Callable[[], Awaitable[object]]
    then: dict[str, set[str]]


class Stage:
    """The rooms on show, and what is known of them."""

    def __init__(self, console: Console, admin: User, rooms: dict[str, str]) -> None:
        self._console = console
        self._admin = admin
        self._rooms = rooms
        self.wrong = 0

    async def look(self) -> dict[str, set[str]]:
        """Return who is in each room besides the service's account."""
        return {
            name: await self._admin.members(room_id) - {"scim-bot"}
            for name, room_id in self._rooms.items()
        }

    def _table(self, says: str, seen: dict[str, set[str]], then: dict[str, set[str]]) -> Table:
        table = Table(title=says, title_justify="left", min_width=64)
        table.add_column("room")
        table.add_column("members")
        table.add_column("")
        for name, members in seen.items():
            right = "[green]right[/]" if members == then[name] else "[yellow]…[/]"
            table.add_row(name, ", ".join(sorted(members)) or "-", right)
        return table

    async def play(self, step: Step) -> None:
        """Carry out a step and watch the rooms until they are right, or time is up."""
        begun = time.monotonic()
        seen = await self.look()
        with Live(self._table(step.says, seen, step.then), console=self._console) as live:
            await step.does()
            while (seen := await self.look()) != step.then:
                live.update(self._table(step.says, seen, step.then))
                if time.monotonic() - begun > SETTLE_SECONDS:
                    break
                await asyncio.sleep(0.1)
            live.update(self._table(step.says, seen, step.then))
        if seen == step.then:
            self._console.print(f"  right after {time.monotonic() - begun:.1f} s\n")
        else:
            self.wrong += 1
            self._console.print(f"  [red]WRONG[/]: should be {step.then}\n")


@dataclass(frozen=True)
class Ground:
    """A homeserver to show it on: its administrator, a guest, what else the service is told."""

    url: str
    admin: User
    guest: User
    settings: dict[str, str]


@contextlib.asynccontextmanager
async def _plain(folder: Path) -> AsyncIterator[Ground]:
    """Run a homeserver that keeps its accounts itself."""
    async with running(folder) as synapse:
        admin = await synapse.register("scim-bot", admin=True)
        yield Ground(synapse.url, admin, await synapse.register("guest"), {})


@contextlib.asynccontextmanager
async def _with_mas(folder: Path) -> AsyncIterator[Ground]:
    """Run a homeserver whose accounts belong to a stand-in for MAS."""
    async with delegating(folder) as (mas, synapse):
        admin = await mas.synapse_admin("scim-bot")
        guest = await mas.session(await mas.add_account("guest"), "GUEST")
        yield Ground(synapse.url, admin, guest, mas.settings)


async def run(*, with_mas: bool) -> int:
    """Play the whole demonstration; return 0 if every room was right, else 1.

    With MAS on a homeserver whose accounts belong to a stand-in for it.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="scim-matrix-demo-") as name:
        folder = Path(name)
        beside = " beside a stand-in for MAS" if with_mas else ""
        console.print(f"starting a throwaway Synapse{beside} …")
        (folder / "synapse").mkdir()
        start = _with_mas if with_mas else _plain
        async with start(folder / "synapse") as ground:
            admin, guest = ground.admin, ground.guest
            general = await admin.create_room(room_alias_name="general", name="General")
            lab = await admin.create_room(room_version="12", name="Lab")
            # Invited by hand: nobody granted this, so nobody may take it away.
            await admin.call(
                "POST", f"/_matrix/client/v3/rooms/{lab}/invite", {"user_id": guest.user_id}
            )
            await guest.call("POST", f"/_matrix/client/v3/join/{lab}", {})
            group_map = {
                "grp-staff": [f"#general:{SERVER_NAME}"],
                "displayName:Engineering": [lab, f"#general:{SERVER_NAME}"],
            }
            console.print("the group map:", json.dumps(group_map, indent=2))
            service = Service(
                folder / "data",
                ground.url,
                admin.user_id,
                # With MAS the service makes itself one.
                "" if with_mas else admin.token,
                json.dumps(group_map),
                ground.settings,
            )
            await service.start()
            try:
                stage = Stage(console, admin, {"#general": general, "Lab (version 12)": lab})
                await _story(stage, ScimClient(service.url))
            finally:
                await service.stop()
    if stage.wrong:
        console.print(f"[bold red]{stage.wrong} steps left a room wrong[/]")
        return 1
    console.print("[bold green]every room was right after every step[/]")
    return 0


async def _story(stage: Stage, idp: ScimClient) -> None:
    ids: dict[str, str] = {}

    async def arrive() -> None:
        for name in ("erika", "max", "lena"):
            ids[name] = await idp.create_user(name, displayName=name.title())

    async def staff() -> None:
        ids["staff"] = await idp.create_group(
            "Staff", [ids["erika"], ids["max"], ids["lena"]], externalId="grp-staff"
        )

    async def engineering() -> None:
        ids["eng"] = await idp.create_group("Engineering", [ids["erika"], ids["max"]])

    async def move() -> None:
        await idp.remove(ids["eng"], ids["max"])
        await idp.add(ids["eng"], ids["lena"])

    async def disable() -> None:
        await idp.patch(f"/Users/{ids['erika']}", {"op": "replace", "value": {"active": False}})

    async def delete() -> None:
        await idp.ok("DELETE", f"/Groups/{ids['staff']}")

    def rooms(general: set[str], lab: set[str]) -> dict[str, set[str]]:
        return {"#general": general, "Lab (version 12)": lab | {"guest"}}

    everyone = {"erika", "max", "lena"}
    for step in (
        Step("three people are created; no group, no room", arrive, rooms(set(), set())),
        Step("group Staff opens #general", staff, rooms(everyone, set())),
        Step(
            "group Engineering opens both rooms",
            engineering,
            rooms(everyone, {"erika", "max"}),
        ),
        Step(
            "max leaves Engineering, lena joins it; Staff keeps max in #general",
            move,
            rooms(everyone, {"erika", "lena"}),
        ),
        Step("erika is disabled", disable, rooms({"max", "lena"}, {"lena"})),
        Step(
            "group Staff is deleted; Engineering keeps lena in #general",
            delete,
            rooms({"lena"}, {"lena"}),
        ),
    ):
        await stage.play(step)
