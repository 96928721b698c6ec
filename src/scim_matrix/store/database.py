"""The database: a writer that runs whole transactions, and read-only readers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from scim_matrix.clock import Clock
from scim_matrix.store import sqlite
from scim_matrix.store.dialect import DatabaseRow, Driver, Statement, Values
from scim_matrix.store.errors import DatabaseError, NotLeadingError
from scim_matrix.store.leadership import Leadership, Term, moment
from scim_matrix.store.lease import Lease

# Who has waited for so long (seconds) to write tells that the database takes no writes; so does who
# gave up after that, for as long again as a client is told to wait.
STUCK_AFTER = 8.0
STUCK_FOR = 30.0

_TICK: Statement = ("UPDATE tick SET number = number + 1 RETURNING number", ())

# Where a database is: SQLite's folder, or the URL of PostgreSQL, which may hold a password.
Place = Path | SecretStr


class Connection:
    """One connection for a block of reading or writing; its rows have names.

    Within a writing transaction `cause` is the id of the request behind it and `at` its time
    (seconds since the epoch).
    """

    def __init__(
        self,
        connection: Driver,
        at: float = 0.0,
        cause: str | None = None,
        tick: int | None = None,
    ) -> None:
        self._connection = connection
        self._tick = tick
        self.at = at
        self.cause = cause

    async def execute_fetchall(self, sql: str, values: Values = ()) -> list[DatabaseRow]:
        """Run one statement and return its rows."""
        return await self._connection.fetch(sql, values)

    async def executemany(self, sql: str, values: Iterable[Values]) -> None:
        """Run one statement for each of several sets of values."""
        await self._connection.run_many(sql, values)

    async def execute_together(self, statements: Sequence[Statement]) -> list[list[DatabaseRow]]:
        """Run several statements without a pause between them (see `together`)."""
        return await self._connection.fetch_together(statements)

    async def tick(self) -> int:
        """Return the number of this block, which is above that of every one before.

        After `go_on` it is the next one.
        """
        if self._tick is None:
            await self.ticked()
        assert self._tick is not None
        return self._tick

    async def ticked(self, *statements: Statement) -> list[list[DatabaseRow]]:
        """Run statements as `together` does; with them the block gets a number if it has none."""
        if self._tick is not None:
            return await self.execute_together(statements)
        [tick], *found = await self.execute_together([_TICK, *statements])
        self._tick = int(tick["number"])
        return found

    def go_on(self) -> None:
        """Have what follows in this block be newer than what it did so far."""
        self._tick = None


async def together(connection: Connection, *statements: Statement) -> list[list[DatabaseRow]]:
    """Run statements one after the other without a pause between them; return their rows.

    Each awaited statement is a journey to the connection's thread and back, which costs more than
    most statements themselves; these make one. Where one fails the later ones do not run.
    """
    return await connection.execute_together(statements)


class Writer:
    """Runs blocks that write, one at a time; those that wait together share a commit."""

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self.driver = driver
        self._clock = clock
        self._turn = asyncio.Lock()
        self._shared: asyncio.Future[None] | None = None
        self._blocks = 0
        self._committing: asyncio.Task[None] | None = None
        # Since when each block waits that has not ended, and until when it counts that one gave up.
        self._waiting: dict[object, float] = {}
        self._stuck_until = float("-inf")

    @property
    def is_stuck(self) -> bool:
        """Whether blocks wait for long, or did lately and none was committed since."""
        now = moment()
        began = min(self._waiting.values(), default=now)
        return now < self._stuck_until or now - began >= STUCK_AFTER

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        """Know for how long a block waits for its turn, for answers and for its commit."""
        block, began = object(), moment()
        self._waiting[block] = began
        try:
            yield
        except BaseException:
            if moment() - began >= STUCK_AFTER:
                self._stuck_until = moment() + STUCK_FOR
            raise
        else:
            self._stuck_until = float("-inf")
        finally:
            del self._waiting[block]

    @contextlib.asynccontextmanager
    async def write(
        self, cause: str | None, term: Term | None, *, is_long: bool
    ) -> AsyncIterator[Connection]:
        """Run a block, within a term: see `Database.write`."""
        with self._timed():
            async with self._within(cause, term, is_long) as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def _within(
        self, cause: str | None, term: Term | None, is_long: bool
    ) -> AsyncIterator[Connection]:
        async with self._turn:
            if is_long and self._shared is not None:
                await _to_its_end(self._commit_shared(self._shared))
            before = None if self._shared is None else f"RELEASE SAVEPOINT block{self._blocks}"
            committed = self._shared = self._shared or self._share()
            self._blocks += 1
            # By a name of its own a block can undo none before it.
            block = f"block{self._blocks}"
            savepoint = f"SAVEPOINT {block}"
            try:
                # Shielded: what is cut off half-way would be known to nobody.
                tick = await asyncio.shield(self._enter(savepoint, before, term))
                yield Connection(self.driver, self._clock.now(), cause, tick)
            except BaseException as error:
                # Shielded: a second cancellation must not leave half a block behind.
                await asyncio.shield(self._undo(block, committed, error))
                raise
        await asyncio.shield(committed)

    async def _enter(self, savepoint: str, before: str | None, term: Term | None) -> int | None:
        """Begin a block, in a transaction of its own or behind the block `before`.

        Its term's fence has the term last until the transaction has ended, unless another has
        begun: that raises NotLeadingError. In the same journey it gets its number, which it returns
        (see `Connection.tick`); None where there is no fence.
        """
        fenced = [] if term is None or term.fence is None else [term.fence, _TICK]
        statements: list[Statement] = fenced
        if before is None:
            await self.driver.begin(savepoint)
        else:
            # In one journey: where much is written, many blocks share a transaction.
            statements = [(before, ()), (savepoint, ()), *fenced]
        if not statements:
            return None
        found = await self.driver.fetch_together(statements)
        if term is None or not fenced:
            return None
        *_, passed, [tick] = found
        if not (term.runs and passed):
            term.end()
            raise NotLeadingError("another service on this database leads, or may by now")
        return int(tick["number"])

    def _share(self) -> asyncio.Future[None]:
        """Return what tells of a commit, which takes its turn behind the blocks that wait."""
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._blocks = 0
        self._committing = asyncio.create_task(self._commit(committed), name="commit")
        return committed

    async def _commit(self, committed: asyncio.Future[None]) -> None:
        async with self._turn:
            if not committed.done():
                await self._commit_shared(committed)

    async def _commit_shared(self, committed: asyncio.Future[None]) -> None:
        self._shared = None
        try:
            # Each block is released before anything else: where the database has rolled it back by
            # itself, that fails.
            await self.driver.end(f"RELEASE SAVEPOINT block{self._blocks}")
        except DatabaseError as error:
            await self.driver.rollback()
            _fail(committed, error)
        else:
            committed.set_result(None)

    async def _undo(
        self, block: str, committed: asyncio.Future[None], error: BaseException
    ) -> None:
        try:
            await self.driver.fetch(f"ROLLBACK TO SAVEPOINT {block}")
        except DatabaseError as lost:
            # Nothing was begun, or the database has rolled back the whole transaction by itself (no
            # room on the disk, a connection that was lost).
            await self.driver.rollback()
            self._shared = None
            # Whoever shared it was not cancelled.
            _fail(committed, error if isinstance(error, Exception) else lost)

    async def close(self) -> None:
        """Close the connection once the running transaction has ended."""
        async with self._turn:
            await self.driver.close()


class Database:
    """The connections to one database.

    The writer runs one transaction at a time. `reader` (for short look-ups), `scanner` (for what
    grows with the data) and `counter` (for counting everything) see the last committed state and
    never wait for the writer. `leadership` says whether this service may act on what it reads.
    """

    def __init__(
        self,
        writer: Writer,
        readers: Sequence[Driver],
        clock: Clock,
        leadership: Leadership,
        term: Term | None = None,
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._term = term
        self.clock = clock
        self.leadership = leadership
        self.reader, self.scanner, self.counter = map(Connection, readers)

    @classmethod
    async def open(
        cls, place: Place, clock: Clock | None = None, *, serving: str | None = None
    ) -> "Database":
        """Open (and where needed create or migrate) a database.

        `clock` is what the times of writes go by. With `serving`, where a service listens, that
        one of the services on a database of PostgreSQL leads is seen to (a folder has but one, see
        `occupying`).

        Raises DatabaseError.
        """
        clock = clock or Clock()
        async with contextlib.AsyncExitStack() as opened:
            driver, leadership = await _open_writer(place, serving)
            opened.push_async_callback(driver.close)
            opened.push_async_callback(leadership.close)
            readers = []
            for _ in range(3):
                readers.append(await _open_reader(place))
                opened.push_async_callback(readers[-1].close)
            opened.pop_all()
        return cls(Writer(driver, clock), readers, clock, leadership)

    def during(self, term: Term) -> "Database":
        """Return the same database to whoever leads in a term: written to only while it lasts."""
        return Database(self._writer, self._readers, self.clock, self.leadership, term)

    def write(
        self, cause: str | None = None, *, is_long: bool = False
    ) -> contextlib.AbstractAsyncContextManager[Connection]:
        """Run a block wholly or not at all, and return once it is durable.

        `cause` is the id of the request behind it.

        Blocks run one at a time; those that wait for their turn when a transaction begins share
        it and its commit. What ran before a block that `is_long` is committed before that: nobody
        who is done waits for it. A block that raises or is cancelled is undone before the next one
        runs; where the commit fails, it fails for every block that shared it. Within a term that
        has ended nothing runs: that raises NotLeadingError.
        """
        return self._writer.write(cause, self._term, is_long=is_long)

    @property
    def is_stuck(self) -> bool:
        """Whether whoever writes waits for long, though the database may answer who reads."""
        return self._writer.is_stuck

    async def survey(self) -> None:
        """Have the database learn anew how much there is of what; nobody waits for that."""
        *_, counter = self._readers
        await counter.survey()

    async def damage(self) -> str | None:
        """Return what is damaged in the database, None where all is sound."""
        _, scanner, _ = self._readers
        return await scanner.damage()

    async def close(self) -> None:
        """Close the connections once the running transaction has ended."""
        await self.leadership.close()
        for connection in self._readers:
            await connection.close()
        await self._writer.close()


@contextlib.asynccontextmanager
async def reading(place: Place) -> AsyncIterator[Connection]:
    """Read a database that a service may be using, without ever waiting for its writer.

    Raises DatabaseError.
    """
    reader = await _open_reader(place, check=True)
    try:
        yield Connection(reader, time.time())
    finally:
        await reader.close()


async def _open_writer(place: Place, serving: str | None) -> tuple[Driver, Leadership]:
    if isinstance(place, Path):
        return await sqlite.open_writer(place), Leadership()
    from scim_matrix.store.postgresql import known_as
    from scim_matrix.store.postgresql_opening import open_listener, open_writer

    writer = await open_writer(place)
    if serving is None:
        return writer, Leadership()
    try:
        listener = await open_listener(place)
    except BaseException:
        await writer.close()
        raise
    return writer, Lease(listener, known_as(serving), writer.tells)


async def _open_reader(place: Place, *, check: bool = False) -> Driver:
    if isinstance(place, Path):
        return await sqlite.open_reader(place, check=check)
    from scim_matrix.store.postgresql_opening import open_reader

    return await open_reader(place, check=check)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait until a work has ended, also where that is cancelled meanwhile."""
    task, cancelled = asyncio.create_task(work), None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _fail(committed: asyncio.Future[None], error: Exception) -> None:
    committed.set_exception(error)
    # Retrieved here, in case every block that shared the commit was cancelled.
    committed.exception()
