"""How commands reach the database of a service that may be running."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from scim_matrix.cli.environment import INSTALLED, environment
from scim_matrix.config import ConfigurationError, Settings, place_of
from scim_matrix.store import access, totals
from scim_matrix.store.database import Connection, Database, Place, reading
from scim_matrix.store.errors import DatabaseError

T = TypeVar("T")


def _needed(context: click.Context, _: click.Parameter, value: Path | None) -> Place | None:
    if context.resilient_parsing:
        return value
    if value is not None:
        return _folder(value)
    try:
        place = place_of({**environment(), "DATA_DIR": ""})
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    if place is None:
        raise click.UsageError(
            "DATA_DIR and DATABASE_URL are not known: give --data-dir or --env-file, be"
            f" somebody who may read {INSTALLED}, or run this where the service runs (podman exec"
            f" scim-matrix scim-matrix {context.info_name}); docs/operating.md has it for each way"
            " to deploy"
        )
    return place


def _folder(path: Path) -> Path:
    """Return a folder that is there."""
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        raise click.UsageError(f"DATA_DIR: {path} is no folder")
    why = access.told(path) or (
        "the service makes it when it starts (scim-matrix serve); in a container, run this there;"
        " or is another one meant?"
    )
    raise click.UsageError(f"DATA_DIR: {path} is not there: {why}")


PLACE = click.option(
    "--data-dir",
    "place",
    default=lambda: environment().get("DATA_DIR") or None,
    callback=_needed,
    type=click.Path(path_type=Path),
    help="Where the database lives; from DATA_DIR or DATABASE_URL if not given.",
)


def settings_with(place: Place) -> Settings:
    """Return the settings, with the database that a command was told. Raises ConfigurationError."""
    variables = environment()
    for name in ("DATA_DIR", "DATABASE_URL", "DATABASE_URL_FILE"):
        variables.pop(name, None)
    if isinstance(place, Path):
        return Settings.load({**variables, "DATA_DIR": str(place)})
    return Settings.load({**variables, "DATABASE_URL": place.get_secret_value()})


def _operator() -> str:
    """Return who runs this command, as far as the operating system tells."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


BY = click.option(
    "--by",
    default=_operator,
    help="Who decides, for the record; the operating system's user if not given.",
)


def _run(work: Callable[[], Awaitable[T]]) -> T:
    async def run() -> T:
        return await work()

    try:
        return asyncio.run(run())
    except DatabaseError as error:
        raise click.ClickException(str(error)) from error


def read(place: Place, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Read the database, without ever holding up a service that writes."""

    async def run() -> T:
        async with reading(place) as connection:
            return await work(connection)

    return _run(run)


def write(place: Place, cause: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run one transaction on the database, beside a running service or without one.

    A running service takes up what was decided within seconds. `cause` stands in the record as
    the request behind it.
    """

    async def run() -> T:
        database = await Database.open(place)
        try:
            async with database.write(cause) as connection:
                await totals.happened(connection, "decided")
                return await work(connection)
        finally:
            await database.close()

    return _run(run)
