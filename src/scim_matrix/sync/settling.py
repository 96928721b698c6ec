"""Work out in pieces what changes of the map mean for everybody whom they reach."""

import asyncio
import time
from collections.abc import Callable

import structlog

from scim_matrix.store import grants
from scim_matrix.store.database import Database
from scim_matrix.store.errors import DatabaseError, NotLeadingError
from scim_matrix.sync.backoff import TRANSIENT

log = structlog.get_logger(__name__)

# How long one piece is to take (seconds): a SCIM request may have to wait behind it.
PIECE_SECONDS = 0.012
FEWEST, FIRST, MOST = 1, 16, 1000
# After so many of them, much is there that was not.
_SURVEYED_AFTER = (16, 256, 4096)


def resized(people: int, seconds: float) -> int:
    """Return how many people the next piece is for, after one of `people` took `seconds`."""
    fitting = people * PIECE_SECONDS / max(seconds, 1e-6)
    return int(min(MOST, max(FEWEST, min(fitting, 2 * people))))


class Settling:
    """Settles whoever is left after a change of the map; each piece is a transaction of its own.

    `settled` is called when nobody is left.
    """

    def __init__(self, database: Database, settled: Callable[[], None]) -> None:
        self._database = database
        self._settled = settled
        self._due = asyncio.Event()
        self._people = FIRST
        self._lines_end = True
        self._due.set()

    def resume(self, *, lines_end: bool = False) -> None:
        """Settle whoever is left, if anybody: what the map means may have changed.

        `lines_end`: the map itself may have, and lines that it dropped before may matter no more.
        """
        self._lines_end |= lines_end
        self._due.set()

    async def run(self) -> None:
        """Settle whoever is left, now and whenever `resume` says so, until cancelled."""
        attempts = 0
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.finish()
                attempts = 0
            except NotLeadingError:
                # Whoever leads by now goes on with it.
                return
            except (OSError, DatabaseError) as error:
                attempts += 1
                log.exception("settling_failed", error=str(error))
                await asyncio.sleep(TRANSIENT.delay(attempts))
                self._due.set()

    async def finish(self) -> None:
        """Settle everybody who is left, and end the lines that matter no more."""
        if await grants.is_left(self._database.reader):
            self._lines_end = True
            # What the last change let be settled quickly another one may not.
            self._people = FIRST
            pieces = 0
            left = grants.Left(mappings=True, accounts=True)
            while any(left := await self._piece(left)):
                pieces += 1
                if pieces in _SURVEYED_AFTER:
                    await self._database.survey()
            self._settled()
        while self._lines_end:
            async with self._database.write("group map") as connection:
                self._lines_end = await grants.end_dropped(connection)

    async def _piece(self, left: grants.Left) -> grants.Left:
        """Do one piece of what is left; return what is left then."""
        async with self._database.write("group map") as connection:
            # How long that takes says nothing of how long it takes to settle people.
            if left.mappings and await grants.spread(connection):
                return left
            start = time.perf_counter()
            left = await grants.settle_people(connection, self._people)
            seconds = time.perf_counter() - start
        self._people = resized(self._people, seconds)
        return left
