"""How commands reach the database of a service that may be running."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from scim_matrix.cli.environment import INSTALLED, environment
from scim_matrix.store import totals
from scim_matrix.store.database import Connection, Database, reading
from scim_matrix.store.errors import DatabaseError

T = TypeVar("T")


def _needed(context: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    if value is None and not context.resilient_parsing:
        raise click.UsageError(
            f"DATA_DIR is not known: give --data-dir or --env-file, be somebody who may read"
            f" {INSTALLED}, or run this where the service runs (podman exec scim-matrix"
            f" scim-matrix {context.info_name}); docs/operating.md has it for each way to deploy"
        )
    return value


DATA_DIR = click.option(
    "--data-dir",
    default=lambda: environment().get("DATA_DIR"),
    callback=_needed,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the database lives; from DATA_DIR if not given.",
)


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


def read(data_dir: Path, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Read the database, without ever holding up a service that writes."""

    async def run() -> T:
        async with reading(data_dir) as connection:
            return await work(connection)

    return _run(run)


def write(data_dir: Path, cause: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Run one transaction on the database, beside a running service or without one.

    A running service takes up what was decided within seconds. `cause` stands in the record as
    the request behind it.
    """

    async def run() -> T:
        database = await Database.open(data_dir)
        try:
            async with database.write(cause) as connection:
                await totals.happened(connection, "decided")
                return await work(connection)
        finally:
            await database.close()

    return _run(run)
