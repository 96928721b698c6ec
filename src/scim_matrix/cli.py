"""The command line."""

import asyncio
import datetime
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiosqlite
import click
import orjson

from scim_matrix import __version__
from scim_matrix.app import serve as run_service
from scim_matrix.config import IGNORED, ConfigurationError, Settings, environment
from scim_matrix.ops.logging import set_up
from scim_matrix.store import held, pairs, record
from scim_matrix.store.database import Database, DatabaseTooNewError, DatabaseUnusableError

EXIT_CONFIGURATION = 2
EXIT_NOTHING = 3

T = TypeVar("T")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="scim-matrix")
def main() -> None:
    """Keep a Matrix (Synapse) homeserver in line with an identity provider over SCIM 2.0.

    Settings come from the environment (and a .env file in the working directory); the README
    lists them.
    """


@main.command()
def serve() -> None:
    """Run the service until SIGTERM; SIGHUP reads the group map again.

    Exit status: 0 stopped on request, 1 the database or address cannot be used, 2 the
    configuration has mistakes (all of them are listed).
    """
    variables = environment()
    try:
        settings = Settings.load(variables)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"configuration: {problem}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    set_up(settings.log_level, settings.log_format)
    ignored = [name for name in IGNORED if name in variables]
    if ignored:
        click.echo(f"warning: {', '.join(ignored)} have no effect any more", err=True)
    try:
        asyncio.run(run_service(settings, variables))
    except (DatabaseTooNewError, DatabaseUnusableError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _beside(data_dir: Path, work: Callable[[aiosqlite.Connection], Coroutine[Any, Any, T]]) -> T:
    """Run one transaction on the database, beside a running service or without one."""

    async def run() -> T:
        database = await Database.open(data_dir)
        try:
            async with database.write("command line") as connection:
                return await work(connection)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except (DatabaseTooNewError, DatabaseUnusableError) as error:
        raise click.ClickException(str(error)) from error


_DATA_DIR = click.option(
    "--data-dir",
    envvar="DATA_DIR",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the database lives; from DATA_DIR if not given.",
)


def _decide(data_dir: Path, what: str, decision: Literal["approved", "dismissed"]) -> None:
    async def work(connection: aiosqlite.Connection) -> int:
        if what == "accounts":
            return await held.decide(connection, None, decision)
        rooms = await held.rooms_named(connection, what)
        if not rooms:
            raise click.ClickException(f"{what}: no mapped room has this alias or ID")
        return await held.decide(connection, rooms, decision)

    number = _beside(data_dir, work)
    click.echo(f"{number} {decision}")
    if number == 0:
        sys.exit(EXIT_NOTHING)


@main.command()
@_DATA_DIR
@click.argument("room")
def approve(data_dir: Path, room: str) -> None:
    """Let the held removals of ROOM (alias or room ID) go on.

    ROOM "accounts" means the accounts that are held from being locked or deactivated. A running
    service takes it up within seconds. Exit status: 0 something was approved, 3 nothing was held.
    """
    _decide(data_dir, room, "approved")


@main.command()
@_DATA_DIR
@click.argument("room")
def dismiss(data_dir: Path, room: str) -> None:
    """Drop the held removals of ROOM (alias or room ID): those people stay in the room.

    They are no longer managed there until a group grants them the room again. ROOM "accounts"
    means held accounts, which stay as they are. Exit status: 0 something was dismissed, 3 nothing
    was held.
    """
    _decide(data_dir, room, "dismissed")


@main.command()
@_DATA_DIR
@click.option(
    "--prune",
    is_flag=True,
    help="Also take out people of rooms that a forgotten mapping once gave them (the brake holds).",
)
def sync(data_dir: Path, prune: bool) -> None:
    """Have the running service compare every mapped room with the homeserver now."""

    async def work(connection: aiosqlite.Connection) -> int:
        number = await pairs.unforget(connection) if prune else 0
        await record.add(connection, record.Entry("sync", "asked", request="command line"))
        return number

    number = _beside(data_dir, work)
    if prune:
        click.echo(f"{number} people of forgotten mappings are to leave")


@main.command()
@_DATA_DIR
@click.option("--user", help="Only what was done to this user ID.")
@click.option("--room", help="Only what was done in this room (alias or room ID).")
@click.option("--since", type=click.DateTime(), help="Only from this time (UTC) on.")
@click.option("--limit", default=1000, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def log(
    data_dir: Path,
    user: str | None,
    room: str | None,
    since: datetime.datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show what was done, refused or held: when, what, whom, where, why, with which outcome."""
    start = 0.0 if since is None else since.replace(tzinfo=datetime.UTC).timestamp()

    async def work(connection: aiosqlite.Connection) -> list[dict[str, Any]]:
        rooms = [] if room is None else await held.rooms_named(connection, room) or [room]
        return await record.find(connection, user=user, rooms=rooms, since=start, limit=limit)

    for entry in _beside(data_dir, work):
        entry["at"] = datetime.datetime.fromtimestamp(entry["at"], datetime.UTC).isoformat(
            timespec="seconds"
        )
        if as_json:
            click.echo(orjson.dumps(entry))
        else:
            told = (f"{k}={v}" for k, v in entry.items() if v and k not in _IN_FRONT)
            click.echo(" ".join([*(entry[k] for k in _IN_FRONT[1:]), *told]))


_IN_FRONT = ("id", "at", "kind", "outcome")


@main.command()
def demo() -> None:
    """Show the main job for real: a throwaway Synapse, this service, a played identity provider.

    Needs the extra `demo` (pip install 'scim-matrix[demo]'). Everything runs on loopback in a
    temporary folder and is gone afterwards. Exit status 0 only if every room was right.
    """
    try:
        from scim_matrix.demo.show import run
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: pip install 'scim-matrix[demo]'"
        ) from error
    sys.exit(asyncio.run(run()))
