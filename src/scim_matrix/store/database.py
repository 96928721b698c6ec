"""One SQLite file: a writer that runs whole transactions, and read-only readers."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

import aiosqlite

from scim_matrix.clock import Clock
from scim_matrix.store import text

DATABASE_NAME = "scim-matrix.sqlite3"

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


class DatabaseTooNewError(Exception):
    """The database was written by a newer version of this service."""


class DatabaseUnusableError(Exception):
    """The database cannot be opened or written (permissions, full disk, not a database)."""


def migrations() -> list[tuple[int, str]]:
    """Return the bundled migrations as (number, SQL), in order."""
    folder = resources.files("scim_matrix.store.migrations")
    scripts = sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql"))
    return [(int(name.split("_")[0]), (folder / name).read_text("utf-8")) for name in scripts]


Values = Sequence[object] | Mapping[str, object]
Statement = tuple[str, Values]


class _Sqlite(aiosqlite.Connection):
    """A connection whose thread can be handed several statements at once."""

    async def fetch_together(self, statements: Sequence[Statement]) -> list[list[sqlite3.Row]]:
        """Run statements one after the other and return the rows of each."""
        hand_over: Any = self._execute
        return cast("list[list[sqlite3.Row]]", await hand_over(self._fetch_together, statements))

    def _fetch_together(self, statements: Sequence[Statement]) -> list[Iterable[sqlite3.Row]]:
        return [self._execute_fetchall(sql, values) for sql, values in statements]


async def _connect(path: Path | str, *, uri: bool = False) -> _Sqlite:
    connection = _Sqlite(
        lambda: sqlite3.connect(path, isolation_level=None, uri=uri), iter_chunk_size=64
    )
    await connection
    return connection


class Connection:
    """One connection for a block of reading or writing; its rows have names.

    Within a writing transaction `cause` is the id of the request behind it and `at` its time
    (seconds since the epoch).
    """

    def __init__(self, connection: _Sqlite, at: float = 0.0, cause: str | None = None) -> None:
        self._connection = connection
        self._tick: int | None = None
        self.at = at
        self.cause = cause

    async def execute_fetchall(self, sql: str, values: Values = ()) -> list[sqlite3.Row]:
        """Run one statement and return its rows."""
        return list(await self._connection.execute_fetchall(sql, cast(Any, values)))

    async def executemany(self, sql: str, values: Iterable[Values]) -> None:
        """Run one statement for each of several sets of values."""
        cursor = await self._connection.executemany(sql, cast(Any, values))
        await cursor.close()

    async def execute_together(self, statements: Sequence[Statement]) -> list[list[sqlite3.Row]]:
        """Run several statements without a pause between them (see `together`)."""
        return await self._connection.fetch_together(statements)

    async def tick(self) -> int:
        """Return the number of this block, which is above that of every one before.

        After `go_on` it is the next one.
        """
        if self._tick is None:
            [row] = await self.execute_fetchall(
                "UPDATE tick SET number = number + 1 RETURNING number"
            )
            self._tick = int(row["number"])
        return self._tick

    def go_on(self) -> None:
        """Have what follows in this block be newer than what it did so far."""
        self._tick = None


async def together(connection: Connection, *statements: Statement) -> list[list[sqlite3.Row]]:
    """Run statements one after the other without a pause between them; return their rows.

    Each awaited statement is a journey to the connection's thread and back, which costs more than
    most statements themselves; these make one. Where one fails the later ones do not run.
    """
    return await connection.execute_together(statements)


class Database:
    """The connections to one database file.

    The writer runs one transaction at a time. `reader` (for short look-ups), `scanner` (for what
    grows with the data) and `counter` (for counting everything) see the last committed state and
    never wait for the writer (WAL).
    """

    def __init__(
        self,
        writer: _Sqlite,
        reader: _Sqlite,
        scanner: _Sqlite,
        counter: _Sqlite,
        clock: Clock,
    ) -> None:
        self._writer = writer
        self._readers = (reader, scanner, counter)
        self._turn = asyncio.Lock()
        self._shared: asyncio.Future[None] | None = None
        self._blocks = 0
        self._committing: asyncio.Task[None] | None = None
        self.clock = clock
        self.reader = Connection(reader)
        self.scanner = Connection(scanner)
        self.counter = Connection(counter)

    @classmethod
    async def open(cls, data_dir: Path, clock: Clock | None = None) -> "Database":
        """Open (and where needed create or migrate) the database in `data_dir`.

        `clock` is what the times of writes go by.

        Raises DatabaseTooNewError or DatabaseUnusableError.
        """
        path = data_dir / DATABASE_NAME
        try:
            await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
            writer = await _connect(path)
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
            await writer.executescript(_SCRATCH)
            writer.row_factory = sqlite3.Row
            uri = f"{path.absolute().as_uri()}?mode=ro"
            readers = [await _open_reader(uri) for _ in range(3)]
            reader, scanner, counter = readers
            database = cls(writer, reader, scanner, counter, clock or Clock())
        except sqlite3.Error as error:
            await writer.close()
            raise DatabaseUnusableError(f"{path}: {error}") from error
        except BaseException:
            await writer.close()
            raise
        return database

    @contextlib.asynccontextmanager
    async def write(self, cause: str | None = None) -> AsyncIterator[Connection]:
        """Run a block wholly or not at all, and return once it is durable.

        `cause` is the id of the request behind it.

        Blocks run one at a time; those that wait for their turn when a transaction begins share
        it and its commit. A block that raises or is cancelled is undone before the next one
        runs; where the commit fails, it fails for every block that shared it.
        """
        async with self._turn:
            before = f"RELEASE block{self._blocks}"
            if self._shared is None:
                before, self._shared = "BEGIN IMMEDIATE", self._share()
            committed = self._shared
            self._blocks += 1
            # By a name of its own a block can undo none before it.
            block = f"block{self._blocks}"
            try:
                await self._writer.fetch_together([(before, ()), (f"SAVEPOINT {block}", ())])
                yield Connection(self._writer, self.clock.now(), cause)
            except BaseException as error:
                # Shielded: a second cancellation must not leave half a block behind.
                await asyncio.shield(self._undo(block, committed, error))
                raise
        await asyncio.shield(committed)

    def _share(self) -> asyncio.Future[None]:
        """Return what tells of a commit, which takes its turn behind the blocks that wait."""
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._blocks = 0
        self._committing = asyncio.create_task(self._commit(committed), name="commit")
        return committed

    async def _commit(self, committed: asyncio.Future[None]) -> None:
        async with self._turn:
            if committed.done():
                return
            self._shared = None
            try:
                # Each block is released before anything else: where SQLite has rolled it back by
                # itself, that fails.
                await self._writer.fetch_together(
                    [(f"RELEASE block{self._blocks}", ()), ("COMMIT", ())]
                )
            except sqlite3.Error as error:
                await self._writer.rollback()
                _fail(committed, error)
            else:
                committed.set_result(None)

    async def _undo(
        self, block: str, committed: asyncio.Future[None], error: BaseException
    ) -> None:
        try:
            await self._writer.execute_fetchall(f"ROLLBACK TO {block}")
        except sqlite3.Error:
            # Nothing was begun, or SQLite has rolled back the whole transaction by itself (no room
            # on the disk).
            await self._writer.rollback()
            self._shared = None
            _fail(committed, error)

    async def close(self) -> None:
        """Close the connections once the running transaction has ended."""
        async with self._turn:
            for connection in (*self._readers, self._writer):
                await connection.close()


@contextlib.asynccontextmanager
async def reading(data_dir: Path) -> AsyncIterator[Connection]:
    """Read a database that a service may be using, without ever waiting for its writer.

    Raises DatabaseTooNewError or DatabaseUnusableError.
    """
    path = data_dir / DATABASE_NAME
    try:
        reader = await _open_reader(f"{path.absolute().as_uri()}?mode=ro")
    except sqlite3.Error as error:
        raise DatabaseUnusableError(f"{path}: {error}") from error
    try:
        [(version,)] = await reader.execute_fetchall("PRAGMA user_version")
        known = migrations()[-1][0]
        if version > known:
            raise DatabaseTooNewError(f"{path} has schema version {version}, this is {known}")
        if version < known:
            raise DatabaseUnusableError(
                f"{path} has schema version {version}, this is {known}: start the service first"
            )
        yield Connection(reader, time.time())
    except sqlite3.Error as error:
        raise DatabaseUnusableError(f"{path}: {error}") from error
    finally:
        await reader.close()


def _fail(committed: asyncio.Future[None], error: BaseException) -> None:
    committed.set_exception(error)
    # Retrieved here, in case every block that shared the commit was cancelled.
    committed.exception()


async def _open_reader(uri: str) -> _Sqlite:
    reader = await _connect(uri, uri=True)
    await _add_functions(reader)
    reader.row_factory = sqlite3.Row
    return reader


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
