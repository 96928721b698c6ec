"""Commands by which a human decides: approve, dismiss, sync."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scim_matrix.cli.database import BY, PLACE, read, write
from scim_matrix.cli.output import show, with_names
from scim_matrix.cli.rooms import find
from scim_matrix.store import brake, grants, memberships, record, references, rooms, totals
from scim_matrix.store.brake import Decision, Held
from scim_matrix.store.database import Connection, Place
from scim_matrix.story.words import people

EXIT_NOTHING = 3
EXIT_WAITED = 4
# A service that takes nothing up for so long (seconds) is not running.
PATIENCE = 30.0
LOOK_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class _Decided:
    """What a decision was about: held work that it covers, an alias, or a restored backup."""

    held: list[Held]
    alias: str | None = None
    freed: int = 0
    names: Mapping[str, str] = field(default_factory=dict)


async def _let_in(connection: Connection, alias: str, room_id: str, by: str) -> _Decided:
    return _Decided([], alias=await references.let_in(connection, alias, room_id, by))


def _either(alias: str, room_id: str | None, candidate: str) -> str:
    """Return why an approval does not say what is meant, and how it would."""
    return (
        f"{alias} leads to {candidate}, and removals from {room_id} are held:"
        f" approve or dismiss {room_id} first"
    )


def _decide(place: Place, what: str, decision: Decision, by: str) -> None:
    async def work(connection: Connection) -> _Decided:
        if what == "restored" and decision == "approved":
            return _Decided([], freed=await brake.end_restoration(connection, by))
        if what == "accounts":
            shown = await brake.held_accounts(connection)
            return _Decided(await brake.decide(connection, shown, decision, by))
        reference = await references.get(connection, what)
        candidate = reference.candidate if reference is not None else None
        named = await find(connection, what)
        if not named and reference is None:
            raise click.ClickException(f"{what}: no mapped room has this name, alias or ID")
        shown = await brake.held(connection, named)
        if candidate is not None and decision == "approved":
            if shown:
                raise click.ClickException(_either(what, shown[0].room_id, candidate))
            return await _let_in(connection, what, candidate, by)
        if not shown and reference is not None and reference.led_by and decision == "approved":
            assert reference.room_id is not None
            return await _let_in(connection, what, reference.room_id, by)
        names = await rooms.names(connection)
        return _Decided(await brake.decide(connection, shown, decision, by), names=names)

    decided = write(place, f"command line {by}", work)
    if decided.alias is not None:
        click.echo(f"{what} stands for {decided.alias} from now on")
        return
    if decided.held:
        rows = [
            {
                "user": one.user_id,
                "room": one.room_id,
                "group": one.group_name,
                "request": one.request,
            }
            for one in decided.held
        ]
        show(with_names(rows, decided.names), as_json=False, empty="")
    if not decided.held and not decided.freed:
        click.echo(f"{_nothing(what)}: nobody was {decision}")
        sys.exit(EXIT_NOTHING)
    click.echo(f"{len(decided.held) + decided.freed} {decision} by {by}")


def _nothing(what: str) -> str:
    """Return that there was nothing to decide about."""
    if what == "restored":
        return "no backup that was put back waits to be confirmed"
    return "no account is held" if what == "accounts" else f"no removal is held in {what}"


@click.command()
@PLACE
@BY
@click.argument("target")
def approve(place: Place, by: str, target: str) -> None:
    """Let what waits for a human go on: exactly what is held now, which is printed.

    TARGET is a room (name, alias or room ID) with held removals; "accounts" for accounts that are
    held from being locked or deactivated; an alias of the map that leads to a room nobody vouches
    for; or "restored" to let removals go on that only a backup put back speaks of. A room that is
    called by one of these two words goes by its alias or ID. A running service takes it up within
    seconds. Exit status: 0 something was approved, 3 nothing was held.
    """
    _decide(place, target, "approved", by)


@click.command()
@PLACE
@BY
@click.argument("target")
def dismiss(place: Place, by: str, target: str) -> None:
    """Drop the held removals of TARGET (a room's name, alias or ID): those people stay there.

    They stay until the identity provider grants them the room anew, in exclusive rooms and
    through `sync --prune` too. "accounts" means held accounts, which stay as they are. Exit
    status: 0 something was dismissed, 3 nothing was held.
    """
    _decide(place, target, "dismissed", by)


@click.command()
@PLACE
@BY
@click.option(
    "--prune",
    is_flag=True,
    help="Also take out people of rooms that a forgotten mapping once gave them (the brake holds).",
)
@click.option(
    "--wait/--no-wait",
    default=None,
    help="Wait until everything is done, showing how far it is; the default on a terminal.",
)
def sync(place: Place, by: str, prune: bool, wait: bool | None) -> None:
    """Have the running service compare every mapped room with the homeserver now.

    Exit status: 0 asked for (with --wait: done), 4 the service did not take it up.
    """

    async def work(connection: Connection) -> int:
        number = 0
        if prune:
            # Only whom the map has forgotten can be taken out.
            while await grants.settle_map(connection):
                pass
            number = await memberships.prune(connection)
        await record.add(connection, record.Entry("sync", "asked", request="command line", by=by))
        return number

    asked = time.time()
    # SCIM requests wait behind each of these pieces, and not behind all of them.
    while prune and write(place, "sync --prune", grants.settle_map):
        pass
    number = write(place, "sync --prune" if prune else "sync", work)
    if prune:
        are = "is" if number == 1 else "are"
        click.echo(f"{people(number)} of forgotten mappings {are} to leave")
    if sys.stdout.isatty() if wait is None else wait:
        _wait(place, asked)


def _wait(place: Place, asked: float) -> None:
    async def ask(connection: Connection) -> tuple[float, int]:
        work = await memberships.counts(connection)
        left = work["pendingPairs"] + work["pendingAccounts"]
        failing = work["failingPairs"] + work["failingAccounts"]
        return await totals.when(connection, "compared"), left - failing

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]}")
    with Progress(*columns, rate, TimeRemainingColumn(), transient=True) as progress:
        task = progress.add_task("comparing", total=None, rate="")
        total, seen, moved = 0, -1, time.monotonic()
        while True:
            compared, left = read(place, ask)
            if compared >= asked and left <= 0:
                break
            if left != seen:
                seen, moved = left, time.monotonic()
            elif time.monotonic() > moved + PATIENCE:
                click.echo("nothing moves: is the service running?", err=True)
                sys.exit(EXIT_WAITED)
            if compared >= asked:
                total = max(total, left)
                speed = progress.tasks[task].speed or 0
                progress.update(
                    task,
                    description="changing rooms",
                    total=total,
                    completed=total - left,
                    rate=f"{speed:.1f}/s",
                )
            time.sleep(LOOK_EVERY)
    click.echo("compared; nothing is left to do but what is held or fails")
