"""Commands that work on the database beside a running service."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import click

from scim_matrix.config import environment
from scim_matrix.store.database import Database, DatabaseTooNewError, DatabaseUnusableError

T = TypeVar("T")

DATA_DIR = click.option(
    "--data-dir",
    default=lambda: environment().get("DATA_DIR"),
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the database lives; from DATA_DIR if not given.",
)


def beside(data_dir: Path, work: Callable[[aiosqlite.Connection], Coroutine[Any, Any, T]]) -> T:
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
