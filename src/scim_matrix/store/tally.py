"""Count everything once for all who ask at the same time."""

import asyncio
import time
from dataclasses import dataclass

from scim_matrix.store import memberships, totals, views
from scim_matrix.store.database import Database
from scim_matrix.store.totals import Totals

# Where there are more rows, counting is not waited for once there are numbers.
LARGE = 200_000
# And rests for so many times as long as it took: it takes at most a tenth of a core.
REST = 9.0


@dataclass(frozen=True, slots=True)
class Counted:
    """What there is, and how much of it is pending, failing, held or shown for a human.

    `codes` say which problems there are (scim_matrix/problems.py).
    """

    totals: Totals
    work: dict[str, int]
    codes: list[str]


class Tally:
    """Numbers for probes, metrics and pages, however many ask.

    Whoever asks gets what was counted since, shared with all who asked meanwhile. Where a million
    memberships make that slow the last numbers are shown at once and counted anew meanwhile, on
    a connection that nothing else waits for, and not again before it has rested.
    """

    def __init__(self, database: Database, large: int = LARGE, rest: float = REST) -> None:
        self._database = database
        self._rest = rest
        self._large = large
        self._running: asyncio.Task[Counted] | None = None
        self._next: asyncio.Task[Counted] | None = None
        self._last: Counted | None = None
        self._seconds = 0.0
        self._ended = 0.0

    async def counted(self) -> Counted:
        """Return the numbers. Raises what the database raises."""
        slow = self._last is not None and self._last.totals.rows > self._large
        rests = slow and time.perf_counter() < self._ended + self._rest * self._seconds
        if self._next is None and not rests:
            self._next = asyncio.create_task(self._count(self._running), name="tally")
        if self._last is not None and slow:
            return self._last
        assert self._next is not None
        # What somebody else waits for as well must outlive this request.
        return await asyncio.shield(self._next)

    async def stop(self) -> None:
        """End what is being counted."""
        tasks = [task for task in (self._running, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _count(self, running: "asyncio.Task[Counted] | None") -> Counted:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        start = time.perf_counter()
        reader = self._database.counter
        found = Counted(
            await totals.totals(reader, self._database.clock.now()),
            await memberships.counts(reader),
            await views.codes(reader),
        )
        self._ended = time.perf_counter()
        self._seconds = self._ended - start
        self._last = found
        return found
