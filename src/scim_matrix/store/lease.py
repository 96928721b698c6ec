"""The lease by which one of several services on a database leads, and is known not to lead."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Protocol

import structlog

from scim_matrix.store.dialect import DatabaseRow, Driver, Values
from scim_matrix.store.errors import DatabaseError, DatabaseTooNewError
from scim_matrix.store.leadership import Leadership, Term, moment
from scim_matrix.store.queries import load

log = structlog.get_logger(__name__)

# How long (seconds) the lease has to stand unchanged, by the clock of whoever would take it, and by
# how much earlier its leader stops, by its own: nothing that it has begun is under way when another
# begins. What the database takes for the time decides nothing.
LEASE_SECONDS = 10.0
STOP_BEFORE = 2.0
# How often it is renewed, or asked for by the others, and whether something was committed.
TEND_EVERY = 2.0
# Who could not renew it, nor be told that somebody else has it, for so long (seconds) is not well.
WELL_FOR = 10.0
# Who has begun to write and not gone on for so long (seconds) keeps nobody waiting any longer: a
# leader that is paused holds the lease as well.
STANDS_STILL = 10.0
# A service that was not heard of for so long (seconds) runs no more.
GONE_AFTER = 15.0
# Who can do nothing for so long (seconds), while another service could, leaves it to that one.
UNABLE_FOR = 60.0

_Q = load("lease")
_GONE = {"seconds": GONE_AFTER}


class Listener(Driver, Protocol):
    """A connection that hears what others commit."""

    async def check_schema(self) -> None:
        """See that the schema is this version's. Raises DatabaseTooNewError, DatabaseError."""

    async def relieve(self, seconds: float) -> None:
        """End the session of who keeps writers waiting and has stood still for `seconds`."""

    async def fetch_shortly(self, sql: str, values: Values = ()) -> list[DatabaseRow]:
        """Run one statement and return its rows, none where others hold what it would change."""

    async def tell(self) -> None:
        """Wake all who listen."""

    async def heard(self, seconds: float) -> bool:
        """Wait until something was told or `seconds` have passed; tell whether it was."""


class Lease(Leadership):
    """The leadership of one of several services, by a lease that it takes and renews.

    Whoever would take it watches it stand unchanged; whoever holds it stops earlier than that. Each
    goes by its own clock, which nobody can set.

    `told` is what others are told of this service. `telling` is called with whether its commits
    are to be told to the others: those of who leads concern nobody else.
    """

    def __init__(self, listener: Listener, told: str, telling: Callable[[bool], None]) -> None:
        super().__init__()
        self.term = None
        self._listener = listener
        self._told = told
        self._telling = telling
        self._holder = uuid.uuid4().hex
        self._leader: str | None = None
        self._leads = asyncio.Event()
        self._tick = -1
        self._tended_at = float("-inf")
        self._map: str | None = None
        self._settings: str | None = None
        self._able: Callable[[], bool] = lambda: True
        # Since when this one leads without being able, while another service is.
        self._outdone_at: float | None = None
        self._leaves = False
        # Until when (a `moment`) it begins no term.
        self._rests_until = float("-inf")
        # What stood in the lease, since when (a `moment`), and the highest term that was seen.
        self._seen: tuple[int, int] | None = None
        self._seen_at = float("-inf")
        self._known = 0

    @property
    def is_well(self) -> bool:
        """Whether the lease was tended lately: it is written to whoever has it."""
        return moment() < self._tended_at + WELL_FOR

    @property
    def leader(self) -> str | None:
        """Who leads, as was last seen."""
        return self._leader

    async def begin(self) -> None:
        """Try to lead, and know who does otherwise. Raises DatabaseError."""
        await self._tend()

    async def run(self, heard: Callable[[], None]) -> None:
        """Renew the lease or try to take it, until cancelled; a database that is away is survived.

        `heard` is called where another service may have committed something. Raises
        DatabaseTooNewError once a newer version has taken the database over.
        """
        is_away = False
        while True:
            try:
                await self._listener.check_schema()
                await self._tend()
                told = await self._listener.heard(self._patience())
                if await self._committed() or told:
                    heard()
                is_away = False
            except DatabaseTooNewError:
                # Whoever is of that version does all from here on.
                raise
            except DatabaseError as error:
                if not is_away:
                    log.warning("lease_not_renewed", error=str(error))
                is_away = True
                await asyncio.sleep(TEND_EVERY / 4)

    async def led(self) -> Term:
        """Wait until this service leads, and return its term."""
        while self.term is None or not self.term.runs:
            self._leads.clear()
            await self._leads.wait()
        return self.term

    async def resign(self, rest: float = 0.0) -> None:
        """End the term and have others begin theirs; begin none for `rest` seconds."""
        self._rests_until = moment() + rest
        if self.term is not None:
            values = self._values(self.term.number)
            self._end(self.term)
            with contextlib.suppress(DatabaseError):
                await self._listener.fetch(_Q["resign"], values)
                await self._listener.tell()

    def leave(self) -> None:
        """Begin no term any more: this service ends."""
        self._leaves = True

    async def close(self) -> None:
        """Be known to run no more."""
        with contextlib.suppress(DatabaseError):
            await self._listener.fetch(_Q["leave"], {"holder": self._holder})
        await self._listener.close()

    def configured(self, group_map: str, settings: str) -> None:
        """Have others know what this service's configuration says: see MapLoader."""
        self._map, self._settings = group_map, settings

    def goes_by(self, able: Callable[[], bool]) -> None:
        """Have others know whether this service could act, which `able` tells."""
        self._able = able

    # -- Taking and renewing ------------------------------------------------

    async def _tend(self) -> None:
        """Renew the term that runs, or begin one where nobody leads."""
        if self.term is not None and not self.term.runs:
            self._end(self.term)
        await self._listener.relieve(STANDS_STILL)
        if self.term is not None:
            await self._renew(self.term)
        other_is_able = await self._report()
        if self.term is not None:
            self._compare(self.term, other_is_able)
        else:
            await self._take(other_is_able)
        self._tended_at = moment()

    async def _renew(self, term: Term) -> None:
        asked = moment()
        if await self._listener.fetch(_Q["renew"], self._values(term.number)):
            term.prolong(asked + LEASE_SECONDS - STOP_BEFORE)
        else:
            self._end(term)

    async def _report(self) -> bool:
        """Tell others of this service; return whether one of them could act."""
        report = {
            "holder": self._holder,
            "name": self._told,
            "map": self._map,
            "settings": self._settings,
            "epoch": self._known,
            "able": self._is_able,
        }
        other = {"holder": self._holder}
        _, _, able = await self._listener.fetch_together(
            [(_Q["report"], report), (_Q["forget"], _GONE), (_Q["able"], other)]
        )
        return bool(able)

    def _compare(self, term: Term, other_is_able: bool) -> None:
        """Have the term be given up once another service could long do what this one cannot."""
        if self._is_able or not other_is_able:
            self._outdone_at = None
        elif self._outdone_at is None:
            self._outdone_at = moment()
        elif moment() >= self._outdone_at + UNABLE_FOR:
            term.give_up()

    async def _take(self, other_is_able: bool) -> None:
        # Looked at first: taking it has others wait who renew it.
        seen = await self._free()
        if seen is None or self._leaves or moment() < self._rests_until:
            return
        if other_is_able and not self._is_able:
            return
        asked = moment()
        self._known += 1
        values = {"holder": self._holder, "name": self._told, "number": self._known, **seen}
        # Whoever has it may stand still in a transaction that renews it.
        if await self._listener.fetch_shortly(_Q["take"], values):
            number = self._known
            term = Term(number, (_Q["renew"], self._values(number)))
            term.prolong(asked + LEASE_SECONDS - STOP_BEFORE)
            self.term, self._leader, self._outdone_at = term, self._told, None
            self._telling(False)
            self._leads.set()
            log.info("leads", term=number)

    async def _free(self) -> dict[str, object] | None:
        """Return what stands in the lease where nobody holds it any more."""
        found = await self._listener.fetch(_Q["seen"])
        if not found:
            # Taken out by hand, perhaps from under somebody who leads still: put back as held, so
            # that it is waited for until whoever that was has stopped.
            await self._listener.fetch(_Q["put_back"], {"epoch": self._known})
            return None
        [row] = found
        if (row["epoch"], row["renewed"]) != self._seen:
            # From the answer on: what was read had been written by then.
            self._seen, self._seen_at = (row["epoch"], row["renewed"]), moment()
        self._known = max(self._known, row["epoch"])
        is_free = row["holder"] is None or moment() >= self._seen_at + LEASE_SECONDS
        self._leader = None if is_free else row["name"]
        return {"epoch": row["epoch"], "renewed": row["renewed"]} if is_free else None

    def _patience(self) -> float:
        """Return how long (seconds) may be waited until the lease is looked at again."""
        left = self._seen_at + LEASE_SECONDS - moment()
        # Who may not take it though it is free need not hurry.
        return left if self.term is None and 0 < left < TEND_EVERY else TEND_EVERY

    def _end(self, term: Term) -> None:
        term.end()
        self.term = None
        self._leads.clear()
        self._telling(True)

    @property
    def _is_able(self) -> bool:
        return not self._leaves and self._able()

    def _values(self, number: int) -> dict[str, object]:
        return {"holder": self._holder, "epoch": number}

    async def _committed(self) -> bool:
        """Tell whether anything was committed since this was last asked."""
        [row] = await self._listener.fetch("SELECT number FROM tick")
        before, self._tick = self._tick, row["number"]
        return before != self._tick
