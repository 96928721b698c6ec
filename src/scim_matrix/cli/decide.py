"""Commands by which a human decides: approve, dismiss, sync."""

import sys
import time
from pathlib import Path
from typing import Literal

import aiosqlite
import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scim_matrix.cli.beside import DATA_DIR, beside
from scim_matrix.store import held, numbers, pairs, record

EXIT_NOTHING = 3
EXIT_WAITED = 4
# A service that takes nothing up for so long (seconds) is not running.
PATIENCE = 30.0
LOOK_EVERY = 0.5


def _decide(data_dir: Path, what: str, decision: Literal["approved", "dismissed"]) -> None:
    async def work(connection: aiosqlite.Connection) -> int:
        if what == "accounts":
            return await held.decide(connection, None, decision)
        rooms = await held.rooms_named(connection, what)
        if not rooms:
            raise click.ClickException(f"{what}: no mapped room has this alias or ID")
        return await held.decide(connection, rooms, decision)

    number = beside(data_dir, work)
    click.echo(f"{number} {decision}")
    if number == 0:
        sys.exit(EXIT_NOTHING)


@click.command()
@DATA_DIR
@click.argument("room")
def approve(data_dir: Path, room: str) -> None:
    """Let the held removals of ROOM (alias or room ID) go on.

    ROOM "accounts" means the accounts that are held from being locked or deactivated. A running
    service takes it up within seconds. Exit status: 0 something was approved, 3 nothing was held.
    """
    _decide(data_dir, room, "approved")


@click.command()
@DATA_DIR
@click.argument("room")
def dismiss(data_dir: Path, room: str) -> None:
    """Drop the held removals of ROOM (alias or room ID): those people stay in the room.

    They are no longer managed there until a group grants them the room again. ROOM "accounts"
    means held accounts, which stay as they are. Exit status: 0 something was dismissed, 3 nothing
    was held.
    """
    _decide(data_dir, room, "dismissed")


@click.command()
@DATA_DIR
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
def sync(data_dir: Path, prune: bool, wait: bool | None) -> None:
    """Have the running service compare every mapped room with the homeserver now.

    Exit status: 0 asked for (with --wait: done), 4 the service did not take it up.
    """

    async def work(connection: aiosqlite.Connection) -> int:
        number = await pairs.unforget(connection) if prune else 0
        await record.add(connection, record.Entry("sync", "asked", request="command line"))
        return number

    asked = time.time()
    number = beside(data_dir, work)
    if prune:
        click.echo(f"{number} people of forgotten mappings are to leave")
    if sys.stdout.isatty() if wait is None else wait:
        _wait(data_dir, asked)


def _wait(data_dir: Path, asked: float) -> None:
    async def look(connection: aiosqlite.Connection) -> tuple[float, int]:
        work = await pairs.trouble(connection)
        left = work["pendingPairs"] + work["pendingAccounts"]
        failing = work["failingPairs"] + work["failingAccounts"]
        return await numbers.when(connection, "compared"), left - failing

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]}")
    with Progress(*columns, rate, TimeRemainingColumn(), transient=True) as progress:
        task = progress.add_task("comparing", total=None, rate="")
        total, seen, moved = 0, -1, time.monotonic()
        while True:
            compared, left = beside(data_dir, look)
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
