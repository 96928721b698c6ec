"""SQLite: one file, connections to it, and the migrations that bring it up to date."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import aiosqlite

from scim_matrix.store import access, migrations, text
from scim_matrix.store.dialect import SQLITE, DatabaseRow, Statement, Values
from scim_matrix.store.errors import DatabaseError, DatabaseUnusableError

DATABASE_NAME = "scim-matrix.sqlite3"
SQLITE_VERSION = sqlite3.sqlite_version

# What a block notes for itself while it settles grants (store/queries/grants.sql).
_SCRATCH = """
CREATE TEMP TABLE touched (account_id INTEGER PRIMARY KEY);
CREATE TEMP TABLE opened (
    account_id INTEGER, mapping_id INTEGER, group_name TEXT, PRIMARY KEY (account_id, mapping_id)
) WITHOUT ROWID;
CREATE TEMP TABLE wanted (
    account_id INTEGER, room_id TEXT, group_name TEXT, power INTEGER, invite BOOLEAN,
    led BOOLEAN, told INTEGER, request TEXT,
    PRIMARY KEY (account_id, room_id)
) WITHOUT ROWID;
"""


def _error(path: Path, error: sqlite3.Error) -> DatabaseError:
    unusable = isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError
    if unusable and (why := access.told(path)) is not None:
        return DatabaseUnusableError(f"{why} ({error})")
    if unusable and not path.exists():
        return DatabaseUnusableError(
            f"{path} is not there yet: the service makes it when it starts (scim-matrix serve);"
            " or is another DATA_DIR meant?"
        )
    return (DatabaseUnusableError if unusable else DatabaseError)(f"{path}: {error}")


class Sqlite(aiosqlite.Connection):
    """A connection whose thread can be handed several statements at once.

    Whatever fails raises a DatabaseError.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        where = f"{path.absolute().as_uri()}?mode=ro" if read_only else path
        super().__init__(
            lambda: sqlite3.connect(where, isolation_level=None, uri=read_only), iter_chunk_size=64
        )

    async def survey(self) -> None:
        """Do nothing: statements join in the order in which they are written."""

    async def damage(self) -> str | None:
        """Return what is damaged, None where all is sound."""
        [(verdict,)] = await self.execute_fetchall("PRAGMA quick_check(1)")
        return None if verdict == "ok" else str(verdict)

    async def begin(self, savepoint: str) -> None:
        """Begin a transaction that may write, and a savepoint in it."""
        await self.fetch_together([("BEGIN IMMEDIATE", ()), (savepoint, ())])

    async def end(self, release: str) -> None:
        """Release the last savepoint, and make durable what the transaction did."""
        await self.fetch_together([(release, ()), ("COMMIT", ())])

    async def open(self) -> None:
        """Connect."""
        try:
            await self
        except sqlite3.Error as error:
            # Its thread still speaks to this loop, which ends with the command that failed.
            await asyncio.to_thread(self._thread.join)
            raise _error(self.path, error) from error

    async def fetch(self, sql: str, values: Values = ()) -> list[DatabaseRow]:
        """Run one statement and return its rows."""
        return list(await self.execute_fetchall(SQLITE.written(sql), cast(Any, values)))

    async def run_many(self, sql: str, values: Iterable[Values]) -> None:
        """Run one statement for each of several sets of values."""
        cursor = await self.executemany(SQLITE.written(sql), cast(Any, values))
        await cursor.close()

    async def fetch_together(self, statements: Sequence[Statement]) -> list[list[DatabaseRow]]:
        """Run statements one after the other and return the rows of each."""
        return cast("list[list[DatabaseRow]]", await self._execute(self._together, statements))

    def _together(self, statements: Sequence[Statement]) -> list[Iterable[DatabaseRow]]:
        return [self._execute_fetchall(SQLITE.written(sql), values) for sql, values in statements]

    # All that the library asks of SQLite goes through here.
    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        hand_over: Any = super()._execute
        try:
            return await hand_over(fn, *args, **kwargs)
        except sqlite3.Error as error:
            raise _error(self.path, error) from error


async def open_writer(data_dir: Path) -> Sqlite:
    """Open (and where needed create or migrate) the database in a folder, to write.

    Raises DatabaseError.
    """
    path = data_dir / DATABASE_NAME
    try:
        await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnusableError(access.told(path) or f"{path}: {error}") from error
    writer = Sqlite(path)
    await writer.open()
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            await writer.execute_fetchall(f"PRAGMA {pragma}")
        await writer.execute_fetchall("PRAGMA busy_timeout=10000")
        await _add_functions(writer)
        await _migrate(writer)
        # A write that changes nothing still proves that the file can be written.
        await writer.executescript("BEGIN IMMEDIATE; COMMIT;")
        await writer.executescript(_SCRATCH)
        writer.row_factory = sqlite3.Row
    except BaseException:
        await writer.close()
        raise
    return writer


async def open_reader(data_dir: Path, *, check: bool = False) -> Sqlite:
    """Open the database in a folder to read, never waiting for a writer.

    Raises DatabaseError; with `check` also where its schema is not that of this version.
    """
    reader = Sqlite(data_dir / DATABASE_NAME, read_only=True)
    await reader.open()
    try:
        await _add_functions(reader)
        if check:
            migrations.check(str(reader.path), await _version(reader))
    except BaseException:
        await reader.close()
        raise
    reader.row_factory = sqlite3.Row
    return reader


async def _version(connection: aiosqlite.Connection) -> int:
    [(version,)] = await connection.execute_fetchall("PRAGMA user_version")
    return int(version)


async def _add_functions(connection: aiosqlite.Connection) -> None:
    """Give SQL the forms in which strings are compared (the protocol library's default ones)."""
    for function in (text.folded, text.composed):
        await connection.create_function(
            function.__name__, 1, _null_safe(function), deterministic=True
        )


def _null_safe(function: Callable[[str], str]) -> Callable[[Any], Any]:
    return lambda value: function(value) if isinstance(value, str) else value


async def _migrate(writer: Sqlite) -> None:
    """Bring the schema up to date.

    Where it fails the transaction ends with the connection, and nothing has changed.
    """
    for number, script in migrations.missing(str(writer.path), await _version(writer)):
        await writer.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
        )
