"""Who leads: the one of the services on a database that may act on the homeserver."""

import asyncio
import time
from collections.abc import Callable

from scim_matrix.store.dialect import Statement

# Also runs on while the machine sleeps, where there is such a clock.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def moment() -> float:
    """Return the time by which terms end (seconds), on a clock that nobody can set."""
    return time.clock_gettime(_CLOCK)


class Term:
    """A time in which this service leads.

    `number` is higher than that of every term before, whoever's. `fence` is the statement that
    returns a row within a writing transaction only while the term lasts, and has it last until that
    has ended; None where nobody else could lead.
    """

    def __init__(self, number: int = 0, fence: Statement | None = None) -> None:
        self.number = number
        self.fence = fence
        self.ended = asyncio.Event()
        # Set where it has ended, or is to be given up.
        self.over = asyncio.Event()
        self._until = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        """Whether it lasts still, as far as this process can tell by itself."""
        return not self.ended.is_set() and moment() < self._until

    def prolong(self, until: float) -> None:
        """Have it end by itself at a `moment`, unless it is prolonged again."""
        self._until = until
        if self._timer is None:
            self._watch()

    def _watch(self) -> None:
        left = self._until - moment()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self._watch)
        else:
            self.end()

    def end(self) -> None:
        """End it now."""
        self.ended.set()
        self.over.set()
        if self._timer is not None:
            self._timer.cancel()

    def give_up(self) -> None:
        """Have whoever acts in it end that and resign."""
        self.over.set()


class Leadership:
    """The leadership of a service that has its database to itself: it leads always."""

    def __init__(self) -> None:
        self.term: Term | None = Term()

    @property
    def leads(self) -> bool:
        """Whether this service may act on the homeserver."""
        return self.term is not None and self.term.runs

    @property
    def is_well(self) -> bool:
        """Whether this service could write to the database lately, as far as is seen to here."""
        return True

    @property
    def leader(self) -> str | None:
        """Who leads, as far as is known: a process, its host and where it listens."""
        return None

    def configured(self, group_map: str, settings: str) -> None:
        """Have others know what this service's configuration says: see MapLoader."""

    def goes_by(self, able: Callable[[], bool]) -> None:
        """Have others know whether this service could act, which `able` tells."""

    def leave(self) -> None:
        """Begin no term any more: this service ends."""

    async def begin(self) -> None:
        """Try to lead, and know who does otherwise."""

    async def run(self, heard: Callable[[], None]) -> None:
        """Lead, or wait to do so, until cancelled; `heard`: another service may have committed."""
        await asyncio.Event().wait()

    async def led(self) -> Term:
        """Wait until this service leads, and return its term."""
        assert self.term is not None
        return self.term

    async def resign(self, rest: float = 0.0) -> None:
        """Leave the leadership to others at once: all that was begun in this term has ended.

        This service begins none for `rest` seconds.
        """

    async def close(self) -> None:
        """Close what this needed."""
