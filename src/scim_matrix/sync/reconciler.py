"""The loop that carries out what is left to do, and survives a homeserver that is not there."""

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import structlog

from scim_matrix.matrix.errors import (
    HomeserverError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    WithheldError,
)
from scim_matrix.matrix.server import Homeserver
from scim_matrix.store import accounts, memberships, record, rooms, totals
from scim_matrix.store.database import Database
from scim_matrix.sync.account_changes import AccountPolicy
from scim_matrix.sync.account_comparison import AccountComparison
from scim_matrix.sync.account_worker import AccountWorker
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.copies import Copies
from scim_matrix.sync.live import LiveDrift
from scim_matrix.sync.observation import Observation
from scim_matrix.sync.room_rights import RoomPolicy, RoomRights
from scim_matrix.sync.room_turn import RoomTurn

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 4.0
_TELL_SECONDS = 1.0
PRUNE_EVERY = 3600.0
LONGEST_PAUSE = 60.0


@dataclass
class HomeserverState:
    """What was last seen of the homeserver, for /readyz and the log."""

    condition: Literal["unknown", "ready", "down", "refused"] = "unknown"
    detail: str = "not asked yet"
    version: str | None = None
    delegated: bool = False
    # Nobody is removed: who administers the homeserver is not known, and nobody is protected.
    removals_wait: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """How often everything is compared and how long the record is kept (seconds), how much at once.

    `lift_rate_limit` lifts the service account's own limit of messages.
    """

    compare_every: float
    record_keep: float
    concurrency: int
    lift_rate_limit: bool


Lane = Literal["observe", "room", "account"]
_ACCOUNT = "account "


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done now; only one job of a key runs at a time."""

    key: str
    lane: Lane
    work: Callable[[], Coroutine[Any, Any, None]]


class Reconciler:
    """Carries out the difference between what is granted and what is known, until stopped."""

    def __init__(
        self,
        database: Database,
        homeserver: Homeserver,
        account_policy: AccountPolicy,
        room_policy: RoomPolicy,
        pace: Pace,
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        rights = RoomRights(homeserver, room_policy.users, database.clock)
        self._clock = database.clock
        self._dry_run = room_policy.dry_run
        self._rights = rights
        self._observation = Observation(database, homeserver, rights, room_policy.on_self_leave)
        self._turn = RoomTurn(database, homeserver, rights, room_policy)
        self._accounts = AccountWorker(
            database, homeserver.accounts, account_policy, rights, room_policy.brake
        )
        self._copies = Copies(database, homeserver)
        self._comparison = AccountComparison(
            database, homeserver.accounts, account_policy, self.wake
        )
        self._live = LiveDrift(
            database,
            homeserver.live,
            homeserver.user_id,
            self._observation,
            self._turn,
            rights,
            room_policy.on_self_leave,
            self.wake,
            self._doubt,
        )
        self._following: asyncio.Task[None] | None = None
        self._pace = pace
        self._compare_at = 0.0
        self._comparing = False
        self._prune_at = 0.0
        self._jump = 0.0
        self._wake = asyncio.Event()
        self._commits = 0
        self._begun = False
        self._stopping = False
        self._running: dict[str, tuple[Lane, asyncio.Task[None]]] = {}
        # Jobs that said nothing: how often in a row, and until when they are left alone.
        self._ailing: dict[str, tuple[int, float]] = {}
        self._slots = float(pace.concurrency)
        self._resting_until = 0.0
        self._failures = 0
        self.state = HomeserverState()

    @property
    def follows_live(self) -> bool:
        """Whether changes made by hand are seen as they happen."""
        return self._live.works and self._live.homeserver_ready.is_set()

    @property
    def rests_seconds(self) -> float:
        """For how long the homeserver is left alone from now on, as it asked or as it ails."""
        return max(0.0, self._resting_until - self._clock.now())

    @property
    def working(self) -> int:
        """How many rooms and accounts are being worked on."""
        return len(self._running)

    def wake(self) -> None:
        """Look for work now: something was committed."""
        self._commits += 1
        self._wake.set()

    def _doubt(self) -> None:
        """Ask whether the homeserver is there before anything else is done."""
        self._live.homeserver_ready.clear()
        self._wake.set()

    def compare(self) -> None:
        """Compare every mapped room now: the map may name others, or a human asked for it."""
        self._compare_at = 0.0
        self._observation.others_opened.set()
        self.wake()

    def stop(self) -> None:
        """Start nothing new; `run` returns once what is in flight has ended."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`; returns once the actions in flight are recorded."""
        await self._begin()
        try:
            while not self._stopping:
                await self._rest()
                self._wake.clear()
                now = self._clock.now()
                await self._survive_round(now)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(await self._pause(now)):
                        await self._wake.wait()
        finally:
            await self._drain()

    async def settle(self) -> float:
        """Do all that is due now, without waiting for anything that rests.

        In place of `run`, where time is handed in; end it with `close`. Returns when something
        falls due again (seconds since the epoch).
        """
        if not self._begun:
            await self._begin()
        while True:
            self._wake.clear()
            now = self._clock.now()
            if self._resting_until <= now:
                await self._survive_round(now)
            if self._running:
                tasks = [task for _, task in self._running.values()]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                continue
            await self._comparison.finish()
            if not self._wake.is_set() or self._resting_until > now:
                return now + await self._pause(now)

    async def close(self) -> None:
        """End what runs beside `settle`."""
        self.stop()
        await self._drain()

    async def _survive_round(self, now: float) -> None:
        """Run a round; where the homeserver or the database is out of reach, rest."""
        try:
            await self._round(now)
        except HomeserverError as error:
            self._trip(error)
        except (OSError, sqlite3.Error) as error:
            # The database is out of reach (full disk): nothing was acknowledged meanwhile.
            log.exception("reconcile_failed", error=str(error))
            self._resting_until = self._clock.now() + TRANSIENT.delay(5)

    async def _begin(self) -> None:
        """Let no rest outlast the longest one, and try at once what a dry run withheld."""
        self._begun = True
        async with self._database.write() as connection:
            await memberships.bound_rests(connection, connection.at + PERMANENT.longest)
            await accounts.move_home(connection, self._homeserver.server_name)
            if not self._dry_run:
                await memberships.retry(connection, "withheld")
                await accounts.retry_withheld(connection)

    async def _drain(self) -> None:
        await self._comparison.stop()
        if self.state.condition == "ready":
            # A copy made while this ran is told by the number that it ends with.
            with contextlib.suppress(HomeserverError, OSError, sqlite3.Error):
                async with asyncio.timeout(_TELL_SECONDS):
                    await self._copies.tell_apart()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._running:
            tasks = [task for _, task in self._running.values()]
            _, hanging = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
            # Not recorded, so done again after the next start, where that is harmless.
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    async def _rest(self) -> None:
        """Wait out the breaker; only `stop` cuts it short."""
        while not self._stopping and (left := self._resting_until - self._clock.now()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    async def _pause(self, looked_at: float) -> float:
        """Return how long nothing will fall due that had not when last looked at (seconds)."""
        if len(self._running) >= int(self._slots):
            return LONGEST_PAUSE
        rests = [self._resting_until, *(until for _, until in self._ailing.values())]
        moments = [self._compare_at, *(until for until in rests if until > looked_at)]
        # Work that was due then and has not started waits for the end of a task or a rest.
        due = await memberships.next_due(self._database.scanner, looked_at)
        if due is not None:
            moments.append(due)
        return min(LONGEST_PAUSE, max(0.05, min(moments) - self._clock.now()))

    # -- Rounds -----------------------------------------------------------

    async def _round(self, now: float) -> None:
        """Start as much of the due work as there are slots for, no kind starving another."""
        await self._be_sure_of_the_homeserver()
        await self._keep_house(now)
        free = int(self._slots) - len(self._running)
        if free <= 0:
            return
        lanes = {lane: deque(jobs) for lane, jobs in (await self._due(now, free)).items()}
        if not self._live.homeserver_ready.is_set() or self._resting_until > self._clock.now():
            return
        running = Counter(lane for lane, _ in self._running.values())
        for _ in range(free):
            waiting = [lane for lane, jobs in lanes.items() if jobs]
            if not waiting:
                return
            lane = min(waiting, key=lambda lane: running[lane])
            self._start(lanes[lane].popleft())
            running[lane] += 1

    async def _keep_house(self, now: float) -> None:
        """Do what time alone brings: the next comparison, expired accounts, old records."""
        if now >= self._compare_at:
            # Jittered, so that many services do not ask at once.
            self._compare_at = now + self._pace.compare_every * random.uniform(0.9, 1.1)
            # Whom protection spared may have lost it.
            await self._rights.renew()
            self._observation.doubt_all()
            self._comparing = True
            async with self._database.write() as connection:
                await accounts.retry_stopped(connection)
                await rooms.retry_references(connection)
            self._comparison.begin(self._pace.compare_every)
            if self._following is not None and self._following.done():
                log.error("live_drift_failed", exc_info=self._following.exception())
                self._following = asyncio.create_task(self._live.run(), name="live drift")
        # A deadline that only one of two clocks has reached is not believed.
        reached = self._clock.reached
        if await accounts.any_expired(self._database.scanner, reached):
            async with self._database.write() as connection:
                await accounts.expire(connection, reached)
        if (jump := self._clock.jump) != self._jump:
            self._jump = jump
            log.warning("clock_jumped", seconds=round(jump), kept="rests and deadlines")
        await self._copies.renew()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_EVERY
            async with self._database.write() as connection:
                await record.prune(connection, now - self._pace.record_keep)

    async def _due(self, now: float, limit: int) -> dict[Lane, list[Job]]:
        """Return what could be started now, by lane, the smallest and newest first."""
        reader = self._database.scanner
        busy = [*self._running, *(k for k, (_, until) in self._ailing.items() if until > now)]
        accounts_busy = [int(k.partition(" ")[2]) for k in busy if k.startswith(_ACCOUNT)]
        with_work = await memberships.rooms_due(reader, now, busy)
        commits = self._commits

        def may_go_on() -> bool:
            # Whatever was committed since may be smaller and newer than what is left here.
            return (
                not self._stopping
                and self._resting_until <= self._clock.now()
                and commits == self._commits
            )

        mapped = await rooms.mapped(reader)
        await self._record_comparison(mapped)
        observations = [
            Job(reference.reference, "observe", partial(self._observation.resolve, reference))
            for reference in await rooms.unresolved(reader, now)
        ]
        observations += [
            Job(room_id, "observe", partial(self._observation.observe, room_id))
            for room_id in mapped
            if self._observation.is_due(room_id) and room_id not in with_work
        ]
        return {
            "observe": [job for job in observations if job.key not in busy],
            "room": [
                Job(room_id, "room", partial(self._room, room_id, may_go_on))
                for room_id in with_work
            ],
            "account": [
                Job(
                    f"{_ACCOUNT}{account.id}",
                    "account",
                    partial(self._accounts.work, account, delegated=self.state.delegated),
                )
                for account in await accounts.due(reader, now, limit, accounts_busy)
            ],
        }

    async def _record_comparison(self, mapped: Iterable[str]) -> None:
        """Record when every mapped room has been compared."""
        observing = any(lane == "observe" for lane, _ in self._running.values())
        if self._comparing and not observing and not any(map(self._observation.is_due, mapped)):
            self._comparing = False
            async with self._database.write() as connection:
                await totals.happened(connection, "compared")

    async def _room(self, room_id: str, may_go_on: Callable[[], bool]) -> None:
        """Take a turn of a room; before the first one observe it: much may be so already."""
        if self._observation.is_due(room_id):
            await self._observation.observe(room_id)
            # What it is, and who may lead the service there, may be otherwise than was thought.
            self.wake()
            return
        try:
            await self._turn.take(room_id, may_go_on)
        except UnavailableError:
            # After an unknown outcome the room is observed, not remembered.
            self._observation.doubt([room_id])
            raise

    def _start(self, job: Job) -> None:
        task = asyncio.create_task(job.work(), name=f"reconcile {job.key}")
        self._running[job.key] = (job.lane, task)
        task.add_done_callback(partial(self._ended, job))

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        del self._running[job.key]
        self._wake.set()
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._ailing.pop(job.key, None)
            self._slots = min(float(self._pace.concurrency), self._slots + 1 / self._slots)
            return
        if isinstance(error, RateLimitedError | TokenError):
            self._trip(error)
            return
        failures, _ = self._ailing.get(job.key, (0, 0.0))
        self._ailing[job.key] = (failures + 1, self._clock.now() + TRANSIENT.delay(failures))
        if isinstance(error, UnavailableError):
            log.warning("no_usable_answer", what=job.key, error=str(error))
            if self._slots == 1:
                self._resting_until = max(
                    self._resting_until, self._clock.now() + TRANSIENT.delay(1)
                )
            self._slots = max(1.0, self._slots / 2)
            self._doubt()
        else:
            log.error("action_failed", what=job.key, error=repr(error), exc_info=error)

    # -- The homeserver ---------------------------------------------------

    async def _be_sure_of_the_homeserver(self) -> None:
        """Before any work, and where answers said nothing, ask whether it is there."""
        if self.state.condition != "ready":
            await self._meet()
        elif not self._live.homeserver_ready.is_set():
            await self._homeserver.server_version()
        self._live.homeserver_ready.set()
        self._failures = 0

    async def _meet(self) -> None:
        """Ask who the homeserver is."""
        version = await self._homeserver.server_version()
        whoami = await self._homeserver.whoami()
        if whoami != self._homeserver.user_id:
            raise TokenError(
                403,
                "M_FORBIDDEN",
                f"the token is {whoami}'s, not that of MATRIX_ADMIN_USER_ID"
                f" ({self._homeserver.user_id}) at MATRIX_SERVER_NAME",
            )
        delegated = await self._homeserver.accounts_are_delegated()
        if self._pace.lift_rate_limit:
            with contextlib.suppress(WithheldError):
                await self._homeserver.lift_own_rate_limit()
                log.info("rate_limit_lifted", user_id=self._homeserver.user_id)
        await self._copies.tell_apart()
        # Whatever happened while nobody looked is seen before anything is done.
        self._observation.doubt_all()
        users = await self._rights.renew()
        with contextlib.suppress(RefusedError):
            await self._live.begin()
        if self._following is None:
            self._following = asyncio.create_task(self._live.run(), name="live drift")
        self.state = HomeserverState(
            "ready",
            "answers; the token is an admin's",
            version,
            delegated,
            removals_wait=users.admins is None and not users.protected_users,
        )
        log.info("homeserver_ready", version=version, delegated_authentication=delegated)
        if delegated:
            log.warning(
                "delegated_authentication",
                detail="accounts are managed by the Matrix Authentication Service: none is "
                "created, locked or deactivated; rooms of existing accounts are kept in line",
            )

    def _trip(self, error: HomeserverError) -> None:
        """Leave the homeserver alone for a while, then meet it again."""
        if isinstance(error, UnavailableError) and error.retry_after is not None:
            delay = error.retry_after
        else:
            delay = TRANSIENT.delay(self._failures + 1)
        self._failures += 1
        self._resting_until = max(self._resting_until, self._clock.now() + delay)
        if isinstance(error, RateLimitedError):
            self._slots = max(1.0, self._slots / 2)
            log.info("rate_limited", seconds=round(delay, 1))
            return
        condition: Literal["down", "refused"] = (
            "refused" if isinstance(error, RefusedError | TokenError) else "down"
        )
        self._live.homeserver_ready.clear()
        if self.state.condition != condition:
            log.warning("homeserver_" + condition, error=str(error))
        self.state = HomeserverState(condition, str(error), self.state.version)
