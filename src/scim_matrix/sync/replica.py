"""A service among those on its database: it reconciles while it leads, and else stands ready."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

import structlog

from scim_matrix.problems import OF_THE_MAP
from scim_matrix.store import totals
from scim_matrix.store.database import Database
from scim_matrix.store.errors import DatabaseError
from scim_matrix.store.leadership import Term
from scim_matrix.sync.backoff import TRANSIENT
from scim_matrix.sync.reconciler import Reconciler
from scim_matrix.sync.servers import Servers

log = structlog.get_logger(__name__)

# How often (seconds) is looked for decisions of commands and for another map, whatever was told.
POLL_SECONDS = 2.0
# How often who does not lead asks the servers whether they are there.
LOOK_EVERY = 15.0


class GroupMap(Protocol):
    """The group map of this service's configuration."""

    @property
    def digest(self) -> str:
        """What tells this map from others."""

    @property
    def settings(self) -> str:
        """What tells the settings beside it from others."""

    @property
    def has_changed(self) -> bool:
        """Whether it is to be loaded again."""

    async def load(self) -> bool:
        """Load it again; False where it cannot be used."""

    async def put_in_force(self, database: Database) -> None:
        """Put it in force."""


class Replica:
    """Leads whenever no other service on the database does; then a reconciler runs.

    `make` returns a reconciler that writes to a database. Each term has its own: what the last one
    knew of rooms and accounts may not be so any more.
    """

    def __init__(
        self,
        database: Database,
        servers: Servers,
        group_map: GroupMap,
        make: Callable[[Database], Reconciler],
    ) -> None:
        self._database = database
        self._leadership = database.leadership
        self._leadership.goes_by(lambda: self.is_able)
        self._servers = servers
        self._map = group_map
        # Whether it was loaded, and is not in force yet.
        self._map_waits = False
        self._map_refused = False
        self._make = make
        self._term: Term | None = None
        # The one that runs while this leads; otherwise one that only answers what it is asked.
        self.reconciler = make(database)
        # How often in a row it could not begin to lead.
        self._failures = 0
        self._decided = 0.0
        self._heard = asyncio.Event()
        self._stopping = asyncio.Event()

    # -- What others ask and tell -----------------------------------------

    @property
    def leads(self) -> bool:
        """Whether this service leads."""
        return self._leadership.leads

    @property
    def is_able(self) -> bool:
        """Whether this service could act: the servers and the database take what it sends."""
        ready = all(server.condition == "ready" for server in self._servers.all)
        return ready and not self._database.is_stuck

    @property
    def leader(self) -> str | None:
        """Which service leads where there may be several, as far as is known."""
        return self._leadership.leader

    @property
    def term(self) -> int:
        """The number of the term in which this service leads, 0 where it does not."""
        return self._term.number if self._term is not None and self.leads else 0

    def codes(self) -> Iterator[str]:
        """Yield the codes of what is wrong with the servers (scim_matrix/problems.py)."""
        yield from self.reconciler.codes() if self.leads else self._servers.codes()

    def wake(self) -> None:
        """Look for work now: something was committed here."""
        self.reconciler.wake()

    def decided(self) -> None:
        """Take up what was decided here; who leads is told by the commit."""
        self._heard.set()

    async def reload_map(self) -> None:
        """Load the group map again, and put it in force where this service leads.

        Where the database does not take it now, that is tried again until it does.
        """
        self._map_refused = not await self._map.load()
        self._map_waits = True
        await self._put_map()

    async def _put_map(self) -> None:
        if not self._map_waits:
            return
        self._leadership.configured(self._map.digest, self._map.settings)
        try:
            if self._term is not None:
                await self._map.put_in_force(self._database.during(self._term))
                self.reconciler.compare()
            await self._tell_of_map()
        except DatabaseError as error:
            log.warning("group_map_waits", error=str(error), in_force="the former map")
            return
        self._map_waits = False

    async def _tell_of_map(self) -> None:
        """Write down that the map has a mistake, or none any more: commands cannot ask."""
        told = await totals.ailing(self._database.reader, OF_THE_MAP)
        if self._map_refused != bool(told):
            async with self._database.write() as connection:
                await totals.ail(connection, OF_THE_MAP if self._map_refused else (), OF_THE_MAP)

    # -- Leading ------------------------------------------------------------

    async def begin(self) -> None:
        """Try to lead, and prepare for it, before requests are taken. Raises DatabaseError."""
        self._leadership.configured(self._map.digest, self._map.settings)
        self._decided = await totals.when(self._database.reader, "decided")
        await self._leadership.begin()
        # One with a mistake would have kept this service from starting.
        await self._tell_of_map()
        if self.leads:
            await self._prepare(await self._leadership.led())

    async def _prepare(self, term: Term) -> None:
        led = self._database.during(term)
        self._term, self.reconciler = term, self._make(led)
        await self._map.put_in_force(led)
        self.reconciler.compare()
        await self.reconciler.begin()

    def stop(self) -> None:
        """Start nothing new; `run` returns once what is in flight has ended."""
        self._stopping.set()
        self._leadership.leave()
        self.reconciler.stop()

    async def run(self) -> None:
        """Lead when it can be, until `stop`.

        Raises what the reconciler raises, and DatabaseTooNewError once a newer version has taken
        the database over.
        """
        tasks = [
            asyncio.create_task(self._terms(), name="terms"),
            asyncio.create_task(self._leadership.run(self._hear), name="leadership"),
            asyncio.create_task(self._listen(), name="group map and decisions"),
        ]
        try:
            # The others do not end by themselves but by a fault.
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            await _end(*tasks)
            await self._leadership.resign()

    async def _terms(self) -> None:
        while (term := await self._next_term()) is not None:
            await self._lead(term)

    async def _next_term(self) -> Term | None:
        """Wait until this service leads; None where it ends before."""
        waiting = asyncio.create_task(self._leadership.led(), name="waits to lead")
        looking = asyncio.create_task(self._look(), name="looks at the servers")
        try:
            await _first(waiting, self._stopping.wait())
            return None if self._stopping.is_set() else waiting.result()
        finally:
            await _end(waiting, looking)

    async def _look(self) -> None:
        """While another service leads, see for oneself whether the servers are there."""
        while True:
            if not self.leads:
                await self._servers.look()
            await asyncio.sleep(LOOK_EVERY)

    async def _lead(self, term: Term) -> None:
        """Run a reconciler until the term ends or is given up, or this service ends.

        Where it cannot begin, which leaves the term to others, this service rests.
        """
        try:
            if self._term is not term:
                await self._prepare(term)
        except DatabaseError as error:
            log.warning("leading_failed", error=str(error))
            self._failures += 1
            self._term, self.reconciler = None, self._make(self._database)
            await self._leadership.resign(TRANSIENT.delay(self._failures))
            return
        self._failures = 0
        if self._stopping.is_set():
            self.reconciler.stop()
        work = asyncio.create_task(self.reconciler.run(), name="reconciler")
        try:
            await _first(work, term.over.wait())
            if not term.over.is_set():
                await work
                return
            if term.ended.is_set():
                log.warning("leadership_lost", term=term.number)
            else:
                log.warning("leadership_given_up", term=term.number)
        finally:
            # Nothing that it began must be under way when another begins.
            if not work.done():
                self.reconciler.abandon()
            await _end(work)
        self._term, self.reconciler = None, self._make(self._database)
        if not term.ended.is_set():
            await self._leadership.resign()

    # -- What others did ----------------------------------------------------

    def _hear(self) -> None:
        self.reconciler.resume()
        self._heard.set()

    async def _listen(self) -> None:
        """Take up decisions, and another map, for as long as this runs."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._heard.wait()
            self._heard.clear()
            try:
                if self._map.has_changed:
                    await self.reload_map()
                else:
                    await self._put_map()
                latest = await totals.when(self._database.reader, "decided")
            except DatabaseError:
                # It is told of by whoever else asks.
                continue
            if latest != self._decided:
                self._decided = latest
                self.reconciler.compare()


async def _first(task: asyncio.Task[Any], other: Coroutine[Any, Any, Any]) -> None:
    """Wait until a task or something else has ended."""
    beside = asyncio.create_task(other)
    try:
        await asyncio.wait((task, beside), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _end(beside)


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Have tasks end, whatever comes of it."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
