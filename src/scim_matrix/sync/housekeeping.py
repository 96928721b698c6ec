"""What time alone brings: the next comparison, expired accounts, old records."""

import random
from dataclasses import dataclass

import structlog

from scim_matrix.matrix.server import Homeserver
from scim_matrix.store import accounts, record, references, rooms, totals, unanswered
from scim_matrix.store.database import Connection, Database
from scim_matrix.sync.account_comparison import AccountComparison
from scim_matrix.sync.copies import Copies
from scim_matrix.sync.room_rights import RoomRights
from scim_matrix.sync.schedule import Schedule
from scim_matrix.sync.servers import Servers

log = structlog.get_logger(__name__)

PRUNE_EVERY = 3600.0
# How often the time is written down (seconds).
NOTE_EVERY = 300.0
# Over how much of the interval the rooms are compared.
_SPREAD = 0.8


@dataclass(frozen=True, slots=True)
class Pace:
    """How often everything is compared and how long the record is kept (seconds).

    `lift_rate_limit` lifts the service account's own limit of messages.
    """

    compare_every: float
    record_keep: float
    lift_rate_limit: bool


class Housekeeping:
    """Does what falls due by itself, while the servers that it needs are there."""

    def __init__(
        self,
        database: Database,
        homeserver: Homeserver,
        servers: Servers,
        rights: RoomRights,
        schedule: Schedule,
        comparison: AccountComparison,
        copies: Copies,
        pace: Pace,
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._servers = servers
        self._rights = rights
        self._schedule = schedule
        self._comparison = comparison
        self._copies = copies
        self._clock = database.clock
        self._pace = pace
        # When everything is compared next (seconds since the epoch).
        self.compare_at = 0.0
        self._at_once = True
        self._comparing = False
        self._prune_at = 0.0
        self._note_at = 0.0
        self._jump = 0.0

    def compare(self) -> None:
        """Have every mapped room compared now, all at once."""
        self.compare_at = 0.0
        self._at_once = True

    async def run(self, now: float) -> bool:
        """Do what is due (now: seconds since the epoch); tell whether a comparison began."""
        usable = self._servers.synapse.is_usable
        begins = now >= self.compare_at and usable
        if begins:
            await self._begin_comparison(now)
        await self._expire()
        await self._look(now)
        self._tell_jump()
        if self._servers.synapse.is_usable:
            await self._copies.renew()
        if now >= self._note_at:
            async with self._database.write() as connection:
                await self.record_time(connection)
        if now >= self._prune_at and self._servers.synapse.is_usable:
            await self._prune(now)
        return begins

    async def _begin_comparison(self, now: float) -> None:
        # Jittered, so that many services do not ask at once.
        self.compare_at = now + self._pace.compare_every * random.uniform(0.9, 1.1)
        # Whom protection spared may have lost it.
        await self._rights.renew()
        if self._at_once:
            self._schedule.doubt_all()
        else:
            suspicious = await rooms.suspicious(self._database.scanner)
            within = self._pace.compare_every * _SPREAD
            self._schedule.doubt_by_and_by(now, within, suspicious)
        self._at_once = False
        self._comparing = True
        async with self._database.write() as connection:
            await accounts.retry_stopped(connection)
            await references.retry(connection)
        self._comparison.begin(self._pace.compare_every)

    async def _expire(self) -> None:
        # A deadline that only one of two clocks has reached is not believed.
        reached = self._clock.reached
        if await accounts.any_expired(self._database.scanner, reached):
            async with self._database.write() as connection:
                await accounts.expire(connection, reached)

    async def _look(self, now: float) -> None:
        """Have accounts looked at once more on which what got no answer is over."""
        if await unanswered.any_over(self._database.scanner, now):
            async with self._database.write() as connection:
                await unanswered.look(connection, now)

    def _tell_jump(self) -> None:
        if (jump := self._clock.jump) != self._jump:
            self._jump = jump
            log.warning("clock_jumped", seconds=round(jump), kept="rests and deadlines")

    async def _prune(self, now: float) -> None:
        if self._prune_at:
            await self._homeserver.renew_token()
        self._prune_at = now + PRUNE_EVERY
        async with self._database.write() as connection:
            await record.prune(connection, now - self._pace.record_keep)

    async def record_time(self, connection: Connection) -> None:
        """Write the time down, by which a start tells how long nobody was there."""
        self._note_at = self._clock.now() + NOTE_EVERY
        await accounts.record_time(connection)

    async def record_comparison(self, *, observing: bool) -> None:
        """Record when every mapped room has been compared; `observing`: some are being so."""
        left = self._schedule.waiting or self._schedule.next_due is not None
        if self._comparing and not observing and not left:
            self._comparing = False
            async with self._database.write() as connection:
                await totals.happened(connection, "compared")
