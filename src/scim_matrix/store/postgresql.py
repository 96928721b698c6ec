"""PostgreSQL: connections to a server, and the migrations that bring a database up to date."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.string import TextLoader
from pydantic import SecretStr

from scim_matrix.store import migrations
from scim_matrix.store.dialect import POSTGRESQL, DatabaseRow, Statement, Values
from scim_matrix.store.errors import DatabaseError, DatabaseUnusableError
from scim_matrix.store.text import storable

T = TypeVar("T")

# Advisory locks of this database, by class and number.
_LOCKS = int.from_bytes(b"scim", "big")
_WRITING = 1
# Has a transaction wait until no other one writes.
_LOCK = f"SELECT pg_advisory_xact_lock({_LOCKS}, {_WRITING})"

# What libpq is told where the URL does not say otherwise. A failover is followed to the server that
# takes writes; one that has gone without a word is noticed.
_CONNECTING = {
    "connect_timeout": "5",
    "target_session_attrs": "read-write",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}

# A commit is durable, whatever the server does for others. The server ends what takes too long, and
# the session of a client that has stopped or gone: it may hold the lock that writers wait for.
# Statements are written to go along indexes, in the order in which they join: the planner, which
# knows nothing of scratch tables nor of what has just been imported, would read whole tables.
# Compiling a statement takes longer than any of ours.
_SESSION = """
SET statement_timeout = '30s';
SET idle_in_transaction_session_timeout = '10s';
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3;
SELECT set_config('synchronous_commit', 'on', FALSE)
WHERE current_setting('synchronous_commit') = 'off';
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_seqscan = off;
SET join_collapse_limit = 1;
SET from_collapse_limit = 1;
SET jit = off;
SET client_min_messages = warning;
SET standard_conforming_strings = on;
"""
# Filling a database takes what it takes; nobody else waits for it. What is read back to be compared
# is not rounded.
_FILLING = """
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL extra_float_digits = 1;
"""
_READING = "SET default_transaction_read_only = on;"

# What a block notes for itself while it settles grants (store/queries/grants.sql).
_SCRATCH = """
CREATE TEMP TABLE touched (account_id BIGINT PRIMARY KEY);
CREATE TEMP TABLE opened (
    account_id BIGINT, mapping_id BIGINT, group_name TEXT, PRIMARY KEY (account_id, mapping_id)
);
CREATE TEMP TABLE wanted (
    account_id BIGINT, room_id TEXT, group_name TEXT, power BIGINT, invite BOOLEAN,
    led BOOLEAN, told BIGINT, request TEXT,
    PRIMARY KEY (account_id, room_id)
);
"""

# Ends the session of whoever has the writers' lock and has not gone on for so many seconds. The
# server does that by itself (idle_in_transaction_session_timeout), but not behind statements that
# went together: the library has a Flush follow the Sync, which turns that clock off until the next
# statement, and who stands still sends none.
_RELIEVE = f"""
SELECT pg_terminate_backend(a.pid) FROM pg_locks l
JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = {_LOCKS} AND l.objid = {_WRITING} AND l.granted
AND a.state LIKE 'idle in transaction%'
AND a.state_change < clock_timestamp() - CAST(:seconds AS DOUBLE PRECISION) * INTERVAL '1 second'
"""
# How long a statement waits, of those that are not worth waiting for.
_SHORTLY = "SELECT set_config('lock_timeout', '1s', TRUE)"

# Where services tell each other that something was committed.
_CHANNEL = "scim_matrix"

_MIGRATIONS = "postgresql"
_DATABASE = """
SELECT current_setting('server_version_num')::int AS version, d.datcollate AS collation,
    pg_encoding_to_char(d.encoding) AS encoding,
    EXISTS (SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu') AS icu
FROM pg_database d WHERE d.datname = current_database()
"""
_TABLES = """
SELECT c.relname AS name FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'f') ORDER BY 1
"""
# Texts are sorted by their code points, as SQLite does.
_BY_CODE_POINT = ("C", "POSIX", "C.UTF-8", "C.utf8")

_PARTS = re.compile(r"('(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*)|(?<![:\w]):(\w+)")


@lru_cache(maxsize=1000)
def written(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a statement with `$1`, `$2` … for its values, and their names in that order."""
    names: list[str] = []

    def numbered(part: re.Match[str]) -> str:
        if part[1]:
            return "" if part[1].startswith("--") else part[1]
        if part[2] not in names:
            names.append(part[2])
        return f"${names.index(part[2]) + 1}"

    return _PARTS.sub(numbered, POSTGRESQL.written(sql)).encode(), tuple(names)


def _arguments(values: Values, names: Sequence[str]) -> list[object]:
    given: Any = values
    found = (given[name] for name in names)
    return [storable(value) if isinstance(value, str) else value for value in found]


class _Row(tuple[Any, ...]):
    """Values in order, and by their names."""

    __slots__ = ()
    places: Mapping[str, int] = {}

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self.places[key] if isinstance(key, str) else key)

    def keys(self) -> list[str]:
        return list(self.places)


@lru_cache(maxsize=1000)
def _kind(names: tuple[str, ...]) -> type[_Row]:
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    return type("Row", (_Row,), {"__slots__": (), "places": {name: places[name] for name in names}})


def _rows(cursor: Any) -> Callable[[Sequence[Any]], _Row]:
    return _kind(tuple(column.name for column in cursor.description or ()))


_Connection = psycopg.AsyncConnection[_Row]


class Postgresql:
    """A connection that is made anew where it has gone; never within a transaction.

    Whatever fails raises a DatabaseError. One that `listens` hears of what others commit.
    """

    def __init__(self, url: SecretStr, *, read_only: bool = False, listens: bool = False) -> None:
        try:
            told = conninfo_to_dict(url.get_secret_value())
        except psycopg.Error as error:
            raise DatabaseUnusableError("DATABASE_URL: is no URL of PostgreSQL") from error
        self.name = f"PostgreSQL at {told.get('host', 'localhost')}, {told.get('dbname', '')}"
        name = known_as()
        self._conninfo = make_conninfo(
            **{**_CONNECTING, "application_name": name.encode()[:63].decode(errors="ignore")}
            | {key: str(value) for key, value in told.items() if value is not None}
        )
        self._read_only = read_only
        self._listens = listens
        # Whether what is committed here concerns services that listen.
        self._tells = True
        self._prepared = False
        self._within = False
        self._lock = asyncio.Lock()
        self._connection: _Connection | None = None

    # -- The connection -----------------------------------------------------

    async def open(self) -> None:
        """Connect."""
        async with self._lock, self._errors():
            await self._connect()

    async def prepare(self) -> None:
        """Have this connection, and those that come in its place, be ready to write."""
        async with self._lock, self._errors():
            self._prepared = True
            await _run(await self._connected(), _SCRATCH)

    async def _connect(self) -> _Connection:
        connection = await psycopg.AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            row_factory=_rows,
            cursor_factory=psycopg.AsyncRawCursor,
        )
        try:
            # Documents stay text, which the store reads by itself.
            for kind in ("json", "jsonb"):
                connection.adapters.register_loader(kind, TextLoader)
            await _run(connection, _SESSION + _READING if self._read_only else _SESSION)
            if self._listens:
                await _run(connection, f"LISTEN {_CHANNEL}")
            if self._prepared:
                await _run(connection, _SCRATCH)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return connection

    async def _connected(self) -> _Connection:
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        if self._within:
            raise DatabaseUnusableError(f"{self.name}: the connection was lost")
        return await self._connect()

    @contextlib.asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        try:
            yield
        except psycopg.Error as error:
            # Without its context: the server's own words tell what stands in the row.
            raise self._error(error) from None

    def _error(self, error: psycopg.Error) -> DatabaseError:
        unusable = (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            psycopg.errors.IdleInTransactionSessionTimeout,
            psycopg.errors.ReadOnlySqlTransaction,
            psycopg.errors.InsufficientPrivilege,
        )
        if isinstance(error, unusable):
            reason = error.diag.message_primary or " ".join(str(error).split())
            return DatabaseUnusableError(f"{self.name}: {reason}")
        about = error.diag.constraint_name or error.diag.column_name or ""
        if isinstance(error, psycopg.ProgrammingError):
            about = error.diag.message_primary or ""
        return DatabaseError(
            f"{self.name}: {type(error).__name__} {error.sqlstate} {about}".strip()
        )

    # -- Statements ---------------------------------------------------------

    async def fetch(self, sql: str, values: Values = ()) -> list[DatabaseRow]:
        """Run one statement and return its rows."""
        [rows] = await self.fetch_together([(sql, values)])
        return rows

    async def fetch_together(self, statements: Sequence[Statement]) -> list[list[DatabaseRow]]:
        """Run statements one after the other and return the rows of each."""
        return await self._again(lambda connection: self._together(connection, statements))

    async def run_many(self, sql: str, values: Iterable[Values]) -> None:
        """Run one statement for each of several sets of values."""
        text, names = written(sql)
        sets = [_arguments(each, names) for each in values]

        async def run(connection: _Connection) -> None:
            async with connection.cursor() as cursor:
                await cursor.executemany(text, sets)

        if sets:
            await self._again(run)

    async def copy(
        self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> None:
        """Put many rows into a table."""
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()

        async def run(connection: _Connection) -> None:
            async with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    await copy.write_row(row)

        await self._again(run)

    async def run(self, script: str) -> None:
        """Run several statements without values."""
        await self._again(lambda connection: _run(connection, script))

    async def begin(self, savepoint: str) -> None:
        """Begin a transaction that may write, once no other one does, and a savepoint in it."""

        async def run(connection: _Connection) -> None:
            await _run(connection, f"BEGIN; {_LOCK}; {savepoint}")

        await self._again(run, begins=True)

    async def end(self, release: str) -> None:
        """Release the last savepoint, and make durable what the transaction did."""
        async with self._lock, self._errors():
            tell = f"NOTIFY {_CHANNEL}; " if self._tells else ""
            await _run(await self._connected(), f"{release}; {tell}COMMIT")
            self._within = False

    async def rollback(self) -> None:
        """Undo the transaction, where there is one."""
        async with self._lock:
            self._within = False
            connection = self._connection
            if connection is None or connection.closed:
                return
            try:
                await connection.execute(b"ROLLBACK")
            except psycopg.Error:
                await connection.close()

    async def damage(self) -> str | None:
        """Return what is damaged: nothing that could be asked for."""
        return None

    async def close(self) -> None:
        """Close the connection once what it does has ended."""
        async with self._lock:
            connection = self._connection
            if connection is None or connection.closed:
                return
            await connection.close()

    # -- Other services -----------------------------------------------------

    def tells(self, tells: bool) -> None:
        """Say whether services that listen are to be told of what is committed here."""
        self._tells = tells

    async def tell(self) -> None:
        """Wake all who listen."""
        await self.run(f"NOTIFY {_CHANNEL}")

    async def heard(self, seconds: float) -> bool:
        """Wait until something was told or `seconds` have passed; tell whether it was.

        What was told while the connection was lost is not heard.
        """

        async def wait(connection: _Connection) -> bool:
            waiting = connection.notifies(timeout=seconds, stop_after=1)
            return bool([notification async for notification in waiting])

        return await self._again(wait)

    async def relieve(self, seconds: float) -> None:
        """Have the server end who keeps writers waiting and has stood still for so long."""
        await self.fetch(_RELIEVE, {"seconds": seconds})

    async def fetch_shortly(self, sql: str, values: Values = ()) -> list[DatabaseRow]:
        """Run one statement and return its rows, none where others hold what it would change."""

        async def run(connection: _Connection) -> list[DatabaseRow]:
            try:
                return (await self._together(connection, [(_SHORTLY, ()), (sql, values)]))[1]
            except psycopg.errors.LockNotAvailable:
                return []

        return await self._again(run)

    async def _again(
        self, work: Callable[[_Connection], Awaitable[T]], *, begins: bool = False
    ) -> T:
        """Do what needs a connection, once more on a new one where it turns out to have gone."""
        async with self._lock, self._errors():
            connection = await self._connected()
            try:
                done = await work(connection)
            except psycopg.OperationalError:
                if self._within or not connection.closed:
                    raise
                done = await work(await self._connected())
            self._within |= begins
            return done

    async def _together(
        self, connection: _Connection, statements: Sequence[Statement]
    ) -> list[list[DatabaseRow]]:
        one_journey = connection.pipeline() if len(statements) > 1 else contextlib.nullcontext()
        cursors = []
        try:
            async with one_journey:
                for sql, values in statements:
                    text, names = written(sql)
                    cursors.append(await connection.execute(text, _arguments(values, names)))
        except psycopg.Error:
            # The library takes those for prepared that the server passed over, and fails with them
            # ever after; within a transaction it forgets them by the rollback that follows.
            if len(statements) > 1 and not self._within:
                await connection.close()
            raise
        return [list(await c.fetchall()) if c.description else [] for c in cursors]


async def _run(connection: _Connection, script: str) -> None:
    """Run several statements, which have no values, in one journey."""
    await connection.execute(script.encode(), prepare=False)


def known_as(serving: str | None = None) -> str:
    """Return what others are told of this process, and of the service that it is."""
    here = f"scim-matrix {os.getpid()} on {socket.gethostname()}"
    return here if serving is None else f"{here}, {serving}"


async def open_listener(url: SecretStr) -> Postgresql:
    """Open a database to hear what others commit. Raises DatabaseError."""
    listener = Postgresql(url, listens=True)
    await listener.open()
    return listener


async def open_writer(url: SecretStr) -> Postgresql:
    """Open (and where needed fill or migrate) a database, to write.

    Raises DatabaseError.
    """
    writer = Postgresql(url)
    await writer.open()
    try:
        await _check_database(writer)
        await _migrate(writer)
        await writer.prepare()
    except BaseException:
        await writer.close()
        raise
    return writer


@contextlib.asynccontextmanager
async def filling(url: SecretStr) -> AsyncIterator[Postgresql]:
    """Fill a database that holds no table, wholly or not at all; it has the schema's by then.

    Raises DatabaseError, also where there is a table.
    """
    writer = Postgresql(url)
    await writer.open()
    try:
        await _check_database(writer)
        await writer.begin("SAVEPOINT filling")
        await writer.run(_FILLING)
        await _check_empty(writer)
        await _apply(writer)
        yield writer
        await writer.end("RELEASE SAVEPOINT filling")
    finally:
        # Nothing, where all is done.
        await writer.rollback()
        await writer.close()


async def open_reader(url: SecretStr, *, check: bool = False) -> Postgresql:
    """Open a database to read, never waiting for a writer.

    Raises DatabaseError; with `check` also where its schema is not that of this version.
    """
    reader = Postgresql(url, read_only=True)
    await reader.open()
    try:
        if check:
            migrations.check(reader.name, await _version(reader), _MIGRATIONS)
    except BaseException:
        await reader.close()
        raise
    return reader


async def _check_database(writer: Postgresql) -> None:
    """Refuse a database in which texts would be compared or sorted otherwise than in SQLite."""
    [row] = await writer.fetch(_DATABASE)
    problem = None
    if row["version"] < 140000:
        problem = f"is version {row['version'] // 10000}: 14 or later is needed"
    elif row["encoding"] != "UTF8" or row["collation"] not in _BY_CODE_POINT:
        problem = (
            f"has encoding {row['encoding']} and collation {row['collation']}: make it by CREATE"
            " DATABASE … TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C', as Synapse's"
        )
    elif not row["icu"]:
        problem = "knows no collation und-x-icu: a server that was built with ICU is needed"
    if problem is not None:
        raise DatabaseUnusableError(f"{writer.name} {problem}")


async def _check_empty(writer: Postgresql) -> None:
    found = await writer.fetch(_TABLES)
    if found:
        names = ", ".join(row["name"] for row in found)
        raise DatabaseUnusableError(
            f"{writer.name} holds tables already ({names}): give an empty database, as made by"
            " CREATE DATABASE"
        )


async def _version(connection: Postgresql) -> int:
    [found] = await connection.fetch("SELECT to_regclass('schema_version') IS NOT NULL AS there")
    if not found["there"]:
        return 0
    [row] = await connection.fetch("SELECT number FROM schema_version")
    return int(row["number"])


async def _migrate(writer: Postgresql) -> None:
    """Bring the schema up to date: whoever starts at the same time waits, and finds it done."""
    await writer.begin("SAVEPOINT migration")
    try:
        await _apply(writer)
        await writer.end("RELEASE SAVEPOINT migration")
    except BaseException:
        await writer.rollback()
        raise


async def _apply(writer: Postgresql) -> None:
    for number, script in migrations.missing(writer.name, await _version(writer), _MIGRATIONS):
        await writer.run(script)
        await writer.fetch("UPDATE schema_version SET number = :number", {"number": number})
