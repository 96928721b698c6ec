"""PostgreSQL: connections to a server, and the migrations that bring a database up to date."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.string import TextLoader
from pydantic import SecretStr

from scim_matrix.store import migrations
from scim_matrix.store.dialect import POSTGRESQL, DatabaseRow, Statement, Values
from scim_matrix.store.errors import DatabaseError, DatabaseUnusableError, LimitExceededError
from scim_matrix.store.postgresql_url import read
from scim_matrix.store.text import storable

T = TypeVar("T")

# Advisory locks of this database, by class and number.
_LOCKS = int.from_bytes(b"scim", "big")
_WRITING = 1
# Has a transaction wait until no other one writes.
_LOCK = f"SELECT pg_advisory_xact_lock({_LOCKS}, {_WRITING})"

# How long (seconds) an answer is waited for: a statement has ended by then (see _SESSION), unless
# what stands between lets a connection live and passes nothing on.
ANSWERED_WITHIN = 35.0
# And for each statement of many that are sent together.
_EACH_WITHIN = 0.01

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

# And whatever the URL says: texts are sent as what they are.
_OURS = {"client_encoding": "UTF8"}

# A commit is durable, whatever the server does for others. The server ends what takes too long, and
# the session of a client that has stopped or gone: it may hold the lock that writers wait for.
# Whoever waited for another sees what that one wrote, and goes on.
# Statements are written to go along indexes, in the order in which they join: the planner, which
# knows nothing of scratch tables nor of what has just been imported, would read whole tables.
# Compiling a statement takes longer than any of ours.
_SESSION = """
SET statement_timeout = '30s';
SET idle_in_transaction_session_timeout = '10s';
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3;
SET tcp_user_timeout = 15000;
SET default_transaction_isolation = 'read committed';
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
_READING = "SET default_transaction_read_only = on;"

# What a block notes for itself while it settles grants (store/queries/grants.sql). What the planner
# would put aside there, to go through it for each row of the others, is all lines of the map.
_SCRATCH = """
SET enable_material = off;
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
# What was deleted there stays in the way of whoever reads it until it is vacuumed, which no server
# does with temporary tables. The planner is to take them for what is small and comes first: of
# tables never analyzed, or analyzed while empty, it expects thousands of rows.
_TIDY = (
    "VACUUM touched, opened, wanted",
    """
INSERT INTO touched VALUES (0);
INSERT INTO opened VALUES (0, 0);
INSERT INTO wanted VALUES (0, '');
ANALYZE touched, opened, wanted;
DELETE FROM touched;
DELETE FROM opened;
DELETE FROM wanted;
""",
)
# What changes of the map, and imports, add to and read.
_GROWING = (
    *("account", "group_member", "mapping", "mapping_grant", "membership", "opening"),
    *("room", "room_reference", "scim_group", "scim_user", "unsettled"),
)
# Which of them are more than a page. An empty one that was never analyzed is planned for as if it
# had ten, an analyzed one as if it stayed empty: it would be read whole, by whatever index.
_GROWN = """
SELECT value AS name FROM each_text(:tables)
WHERE pg_relation_size(CAST(value AS regclass)) > CAST(current_setting('block_size') AS INTEGER)
"""
# After so many rows that were deleted there.
_TIDY_AFTER = 500
_EMPTYING = frozenset(f"DELETE FROM {table}" for table in ("touched", "opened", "wanted"))

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

MIGRATIONS = "postgresql"
_SCHEMA = "SELECT number FROM schema_version"

# The class of errors of what is too large or too complex (PostgreSQL, appendix A).
_LIMITS = "54"

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
            told = read(url)
        except ValueError as error:
            raise DatabaseUnusableError(f"DATABASE_URL: {error}") from error
        self.name = _name(told)
        name = known_as()
        self._conninfo = make_conninfo(
            **{**_CONNECTING, "application_name": name.encode()[:63].decode(errors="ignore")}
            | told
            | _OURS
        )
        self._read_only = read_only
        self._listens = listens
        # Whether what is committed here concerns services that listen.
        self._tells = True
        self._prepared = False
        self._until_tidy = 0
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
            connection = await self._connected()
            self._prepared = True
            await self._make_scratch(connection)

    async def _make_ready(self, connection: _Connection) -> None:
        """Have a new connection run what it needs before anything else."""
        reading = _READING if self._read_only else ""
        listening = f"LISTEN {_CHANNEL};" if self._listens else ""
        await _run(connection, _SESSION + reading + listening)
        if self._prepared:
            await self._make_scratch(connection)

    async def _make_scratch(self, connection: _Connection) -> None:
        await _run(connection, _SCRATCH)
        await self._tidy(connection)

    async def _tidy(self, connection: _Connection) -> None:
        for script in _TIDY:
            await _run(connection, script)
        self._until_tidy = _TIDY_AFTER

    async def backend(self) -> int:
        """Return the number of the server's process behind this connection."""
        [row] = await self.fetch("SELECT pg_backend_pid() AS number")
        return int(row["number"])

    @property
    def told_backend(self) -> int:
        """Which one that is, as whoever was connected to has told."""
        return 0 if self._connection is None else self._connection.info.backend_pid

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
            await _answered(connection, self._make_ready(connection), ANSWERED_WITHIN)
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
        if (error.sqlstate or "").startswith(_LIMITS):
            # Of psycopg's it is an OperationalError, as if it could be well tomorrow.
            return LimitExceededError(f"{self.name}: {error.diag.message_primary}")
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
            if len(sets) == 1:
                await connection.execute(text, sets[0])
                return
            async with connection.cursor() as cursor:
                await cursor.executemany(text, sets)

        if sets:
            await self._again(run, patience=_EACH_WITHIN * len(sets))

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
        """Begin a transaction that may write, once no other one does, and a savepoint in it.

        Raises DatabaseTooNewError where a newer version has changed the schema by now.
        """
        # Asked once nobody else writes: nobody changes the schema then before this has ended.
        check = f"; {_SCHEMA}" if self._prepared else ""

        async def run(connection: _Connection) -> int | None:
            if self._prepared and self._until_tidy <= 0:
                await self._tidy(connection)
            script = f"BEGIN; {_LOCK}; {savepoint}{check}"
            cursor = await connection.execute(script.encode(), prepare=False)
            while cursor.nextset():
                pass
            # Without making a row of it: this is part of every transaction.
            number = cursor.pgresult.get_value(0, 0) if cursor.pgresult and check else None
            return None if number is None else int(number)

        number = await self._again(run, begins=True)
        if number is not None:
            try:
                migrations.check(self.name, number, MIGRATIONS)
            except DatabaseError:
                await self.rollback()
                raise

    async def end(self, release: str) -> None:
        """Release the last savepoint, and make durable what the transaction did."""
        async with self._lock, self._errors():
            tell = f"NOTIFY {_CHANNEL}; " if self._tells else ""
            connection = await self._connected()
            await self._in_time(connection, _run(connection, f"{release}; {tell}COMMIT"))
            self._within = False

    async def rollback(self) -> None:
        """Undo the transaction, where there is one."""
        async with self._lock:
            self._within = False
            connection = self._connection
            if connection is None or connection.closed:
                return
            try:
                await self._in_time(connection, _run(connection, "ROLLBACK"))
            except psycopg.Error:
                await connection.close()

    async def damage(self) -> str | None:
        """Return what is damaged: nothing that could be asked for."""
        return None

    async def survey(self) -> None:
        """Have the server learn anew how much there is of what.

        It does so by itself once a minute; a change of the map outruns that, and statements that
        are planned for a few rows read a thousand of them each time. A table that somebody else
        vacuums is left out: that may take long, and the change would wait for it.
        """
        tables = orjson.dumps(_GROWING).decode()
        grown = [row["name"] for row in await self.fetch(_GROWN, {"tables": tables})]
        if grown:
            await self.run(f"ANALYZE (SKIP_LOCKED) {', '.join(grown)}")

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
        await self.fetch(f"NOTIFY {_CHANNEL}")

    async def heard(self, seconds: float) -> bool:
        """Wait until something was told or `seconds` have passed; tell whether it was.

        What was told while the connection was lost is not heard.
        """

        async def wait(connection: _Connection) -> bool:
            waiting = connection.notifies(timeout=seconds, stop_after=1)
            return bool([notification async for notification in waiting])

        return await self._again(wait, patience=seconds)

    async def check_schema(self) -> None:
        """See that the schema is the one that this version knows.

        Raises DatabaseTooNewError where a newer version has changed it by now.
        """
        [row] = await self.fetch(_SCHEMA)
        migrations.check(self.name, row["number"], MIGRATIONS)

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
        self,
        work: Callable[[_Connection], Awaitable[T]],
        *,
        begins: bool = False,
        patience: float = 0.0,
    ) -> T:
        """Do what needs a connection, once more on a new one where it turns out to have gone."""
        async with self._lock, self._errors():
            connection = await self._connected()
            try:
                done = await self._in_time(connection, work(connection), patience)
            except psycopg.OperationalError:
                if self._within or not connection.closed:
                    raise
                connection = await self._connected()
                done = await self._in_time(connection, work(connection), patience)
            self._within |= begins
            return done

    async def _in_time(
        self, connection: _Connection, answer: Awaitable[T], patience: float = 0.0
    ) -> T:
        """Return an answer; where none comes in time the connection is lost.

        `patience` is how much longer than usual one is waited for (seconds).
        """
        # Who fills or migrates a database waits as long as that takes.
        serves = self._prepared or self._read_only or self._listens
        if not serves:
            return await answer
        return await _answered(connection, answer, ANSWERED_WITHIN + patience)

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
        for (sql, _), cursor in zip(statements, cursors, strict=True):
            if sql in _EMPTYING:
                self._until_tidy -= cursor.rowcount
        return [list(await c.fetchall()) if c.description else [] for c in cursors]


async def _answered(connection: _Connection, answer: Awaitable[T], seconds: float) -> T:
    """Return an answer; where none comes within `seconds` the connection is lost.

    It is ended below the library, which would wait for the server once more where a wait is
    cancelled.
    """
    timer = asyncio.get_running_loop().call_later(seconds, _end, connection)
    try:
        return await answer
    finally:
        timer.cancel()


def _end(connection: _Connection) -> None:
    """Have a connection's socket end, which stays the library's."""
    if not connection.closed:
        # The other side may have ended it in this very moment.
        with (
            socket.socket(fileno=os.dup(connection.fileno())) as wire,
            contextlib.suppress(OSError),
        ):
            wire.shutdown(socket.SHUT_RDWR)


async def _run(connection: _Connection, script: str) -> None:
    """Run several statements, which have no values, in one journey."""
    await connection.execute(script.encode(), prepare=False)


def _name(told: Mapping[str, str]) -> str:
    """Return what a database is called, without what may be secret."""
    host = told.get("host") or told.get("hostaddr") or os.environ.get("PGHOST")
    return f"PostgreSQL at {host or 'the local socket'}, {told.get('dbname', '')}"


def known_as(serving: str | None = None) -> str:
    """Return what others are told of this process, and of the service that it is."""
    here = f"scim-matrix {os.getpid()} on {socket.gethostname()}"
    return here if serving is None else f"{here}, {serving}"
