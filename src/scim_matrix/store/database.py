"""One SQLite file: a writer that runs whole transactions, and a read-only reader."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from importlib import resources
from pathlib import Path
from typing import Any

import aiosqlite

from scim_matrix.store import text

DATABASE_NAME = "scim-matrix.sqlite3"


class DatabaseTooNewError(Exception):
    """The database was written by a newer version of this service."""


class DatabaseUnusableError(Exception):
    """The database cannot be opened or written (permissions, full disk, not a database)."""


def migrations() -> list[tuple[int, str]]:
    """Return the bundled migrations as (number, SQL), in order."""
    folder = resources.files("scim_matrix.store.migrations")
    scripts = sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql"))
    return [(int(name.split("_")[0]), (folder / name).read_text("utf-8")) for name in scripts]


class Database:
    """The connections to one database file.

    The writer runs one transaction at a time; the reader sees the last committed state and
    never waits for the writer (WAL).
    """

    def __init__(self, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self._writer = writer
        self._turn = asyncio.Lock()
        self.reader = reader

    @classmethod
    async def open(cls, data_dir: Path) -> "Database":
        """Open (and where needed create or migrate) the database in `data_dir`.

        Raises DatabaseTooNewError or DatabaseUnusableError.
        """
        path = data_dir / DATABASE_NAME
        try:
            await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
            writer = await aiosqlite.connect(path, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise DatabaseUnusableError(f"{path}: {error}") from error
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                await writer.execute_fetchall(f"PRAGMA {pragma}")
            await writer.execute_fetchall("PRAGMA busy_timeout=5000")
            await _add_functions(writer)
            await _migrate(writer)
            # A write that changes nothing still proves that the file can be written.
            await writer.executescript("BEGIN IMMEDIATE; COMMIT;")
            await writer.execute_fetchall(
                "CREATE TEMP TABLE touched_user (scim_id TEXT PRIMARY KEY) WITHOUT ROWID"
            )
            reader = await aiosqlite.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
            )
            await _add_functions(reader)
        except sqlite3.Error as error:
            await writer.close()
            raise DatabaseUnusableError(f"{path}: {error}") from error
        except BaseException:
            await writer.close()
            raise
        return cls(writer, reader)

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[aiosqlite.Connection]:
        """Run a block in one durable transaction: all of it or nothing.

        A block that raises or is cancelled is rolled back before anyone else writes.
        """
        async with self._turn:
            try:
                await self._writer.execute_fetchall("BEGIN IMMEDIATE")
                yield self._writer
                await self._writer.commit()
            except BaseException:
                # Shielded: a second cancellation must not leave the transaction open.
                await asyncio.shield(self._writer.rollback())
                raise

    async def close(self) -> None:
        """Close both connections once the running transaction has ended."""
        async with self._turn:
            await self.reader.close()
            await self._writer.close()


async def _add_functions(connection: aiosqlite.Connection) -> None:
    """Give SQL the forms in which strings are compared (the protocol library's default ones)."""
    for function in (text.folded, text.composed):
        await connection.create_function(
            function.__name__, 1, _null_safe(function), deterministic=True
        )


def _null_safe(function: Callable[[str], str]) -> Callable[[Any], Any]:
    return lambda value: function(value) if isinstance(value, str) else value


async def _migrate(writer: aiosqlite.Connection) -> None:
    [(version,)] = await writer.execute_fetchall("PRAGMA user_version")
    known = migrations()
    if version > known[-1][0]:
        raise DatabaseTooNewError(
            f"the database has schema version {version}, this version of scim-matrix knows "
            f"up to {known[-1][0]}: run the newer version, or restore an older backup"
        )
    for number, script in known:
        if number > version:
            try:
                await writer.executescript(
                    f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
                )
            except BaseException:
                await writer.rollback()
                raise
