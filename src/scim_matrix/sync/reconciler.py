"""The loop that carries out what is left to do, and survives a homeserver that is not there."""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import structlog

from scim_matrix.matrix.delegation import PLAIN, PLAIN_CURE
from scim_matrix.matrix.errors import (
    FORBIDDEN,
    HomeserverError,
    MismatchError,
    NoTokenError,
    PostponedError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    UnvouchedError,
    WithheldError,
)
from scim_matrix.matrix.mas_answers import MasError, MasUnavailableError
from scim_matrix.matrix.mas_client import is_too_old
from scim_matrix.matrix.server import Homeserver
from scim_matrix.store import accounts, memberships, record, references, rooms, totals
from scim_matrix.store.agenda import Agenda
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.errors import DatabaseError
from scim_matrix.sync.account_changes import AccountPolicy
from scim_matrix.sync.account_comparison import AccountComparison
from scim_matrix.sync.account_worker import AccountWorker
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.breaker import Breaker
from scim_matrix.sync.copies import Copies
from scim_matrix.sync.live import LiveDrift
from scim_matrix.sync.observation import Observation
from scim_matrix.sync.room_rights import RoomPolicy, RoomRights
from scim_matrix.sync.room_turn import RoomTurn
from scim_matrix.sync.settling import Settling

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 4.0
_TELL_SECONDS = 1.0
PRUNE_EVERY = 3600.0
# How often the time is written down, and what may lie between an end and a start (seconds) for
# grace periods to pass meanwhile.
NOTE_EVERY = 300.0
AWAY_AT_MOST = 3600.0
LONGEST_PAUSE = 60.0
# Over how much of the interval the rooms are compared.
_SPREAD = 0.8


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
# Where it is not known whether the homeserver has its accounts in MAS, none is touched there.
_NEVER_MET = ("unknown", "mismatched")


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done now; only one job of a key runs at a time.

    `kind` is what its duration is compared with, where it is one request after the other and
    nothing else.
    """

    key: str
    lane: Lane
    work: Callable[[], Coroutine[Any, Any, None]]
    kind: str | None = None


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
        self._clock = database.clock
        # Each is left alone for itself: what ails one does not stop work on the other.
        self.synapse = Breaker("homeserver", database.clock, pace.concurrency)
        self.mas: Breaker | None = None
        if homeserver.mas is not None:
            self.mas = Breaker("mas", database.clock, pace.concurrency)
        # Whether accounts belong to MAS, says the homeserver.
        self.delegated = False
        rights = RoomRights(homeserver, room_policy.users, database.clock, self.mas)
        self._rights = rights
        self._observation = Observation(database, homeserver, rights, room_policy.on_self_leave)
        self._schedule = self._observation.schedule
        self._turn = RoomTurn(database, homeserver, rights, room_policy, self.synapse.took)
        self._accounts = AccountWorker(
            database,
            homeserver.accounts,
            account_policy,
            rights,
            room_policy.brake,
            dry_run=homeserver.dry_run,
        )
        self._copies = Copies(database, homeserver)
        self._comparison = AccountComparison(
            database, homeserver.accounts, account_policy, self.wake
        )
        self._live = self._live_drift(room_policy)
        self._following: asyncio.Task[None] | None = None
        self._settling = Settling(database, self.wake)
        self._agenda = Agenda()
        self._pace = pace
        self._compare_at = 0.0
        self._at_once = True
        self._comparing = False
        self._prune_at = 0.0
        self._note_at = 0.0
        self._jump = 0.0
        self._wake = asyncio.Event()
        self._commits = 0
        self._begun = False
        self._stopping = False
        self._running: dict[str, tuple[Lane, asyncio.Task[None]]] = {}
        # Jobs that said nothing: how often in a row, and until when they are left alone.
        self._ailing: dict[str, tuple[int, float]] = {}
        # What rooms that are worked on are called.
        self._names: dict[str, str] = {}

    def _live_drift(self, policy: RoomPolicy) -> LiveDrift:
        return LiveDrift(
            self._database,
            self._homeserver.live,
            self._homeserver.user_id,
            self._observation,
            self._turn,
            self._rights,
            policy.on_self_leave,
            self.wake,
            self._doubt,
            self.synapse.there,
        )

    @property
    def follows_live(self) -> bool:
        """Whether changes made by hand are seen as they happen."""
        return self._live.is_following and self.synapse.is_usable

    def codes(self) -> Iterator[str]:
        """Yield the codes of what is wrong with the servers (scim_matrix/problems.py)."""
        for server in (self.synapse, self.mas):
            if server is not None and server.condition not in ("unknown", "ready"):
                yield f"{server.name}-{server.condition}"
        if self.removals_wait:
            yield "admins-unknown"
        if self.synapse.condition == "ready":
            if not self.follows_live:
                yield "live-drift-stopped"
            if self.delegated and self.mas is None:
                yield "delegated-authentication"

    @property
    def removals_wait(self) -> bool:
        """Whether nobody is removed: nobody can say at present who administers the homeserver."""
        return self._rights.everybody_stays

    @property
    def _servers(self) -> list[Breaker]:
        return [self.synapse] if self.mas is None else [self.synapse, self.mas]

    def _server(self, lane: Lane) -> Breaker:
        """Return the server that work of a lane is mostly done on."""
        return self.mas if lane == "account" and self.mas is not None else self.synapse

    def _blamed(self, error: HomeserverError) -> Breaker:
        """Return the server that an error is about."""
        about_mas = isinstance(error, MasError | NoTokenError | UnvouchedError)
        return self.mas if about_mas and self.mas is not None else self.synapse

    def _trip(self, error: HomeserverError) -> None:
        """Leave the server alone that an error is about; without a token that is Synapse too."""
        if isinstance(error, NoTokenError | UnvouchedError):
            self.synapse.trip(error)
            self._blamed(error).doubt()
        else:
            self._blamed(error).trip(error)

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
        self.synapse.doubt()
        self._wake.set()

    def compare(self) -> None:
        """Compare every mapped room now: the map may name others, or a human asked for it."""
        self._compare_at = 0.0
        self._at_once = True
        self._observation.others_opened.set()
        self._settling.resume(lines_end=True)
        self.wake()

    async def settle_map(self) -> None:
        """Work out what changes of the map mean for everybody who is left."""
        await self._settling.finish()

    def stop(self) -> None:
        """Start nothing new; `run` returns once what is in flight has ended."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`; returns once the actions in flight are recorded."""
        await self.begin()
        settling = asyncio.create_task(self._settling.run(), name="settling")
        try:
            while True:
                await self._rest()
                # Before the wake is cleared: `stop` may have cut the rest short by it.
                if self._stopping:
                    break
                self._wake.clear()
                now = self._clock.now()
                await self._survive_round(now)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(await self._pause(now)):
                        await self._wake.wait()
        finally:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)
            await self._drain()

    async def settle(self) -> float:
        """Do all that is due now, without waiting for anything that rests.

        In place of `run`, where time is handed in; end it with `close`. Returns when something
        falls due again (seconds since the epoch).
        """
        await self.begin()
        while True:
            await self._settling.finish()
            self._wake.clear()
            now = self._clock.now()
            if self._resting_until() <= now:
                await self._survive_round(now)
            if self._running:
                tasks = [task for _, task in self._running.values()]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                continue
            await self._comparison.finish()
            resting_until = self._resting_until()
            if not self._wake.is_set() or resting_until > now:
                return max(resting_until, now + await self._pause(now))

    async def close(self) -> None:
        """End what runs beside `settle`."""
        self.stop()
        await self._drain()

    async def _survive_round(self, now: float) -> None:
        """Run a round; where a server or the database is out of reach, rest."""
        try:
            await self._round(now)
        except HomeserverError as error:
            self._trip(error)
        except (OSError, DatabaseError) as error:
            # The database is out of reach (full disk): nothing was acknowledged meanwhile.
            log.exception("reconcile_failed", error=str(error))
            delay = TRANSIENT.delay(5)
            for server in self._servers:
                server.rest(delay)

    async def begin(self) -> None:
        """Prepare the work, before SCIM requests are taken; once.

        No rest outlasts the longest one, no grace period passes by a clock that nobody watched,
        and what a dry run withheld is tried at once.
        """
        if self._begun:
            return
        self._begun = True
        async with self._database.write() as connection:
            put_off = await accounts.put_off(connection, AWAY_AT_MOST)
            await self._record_time(connection)
            await memberships.bound_rests(connection, connection.at + PERMANENT.longest)
            await accounts.move_home(connection, self._homeserver.server_name)
            if not self._homeserver.dry_run:
                await memberships.retry(connection, "withheld")
                await accounts.retry_withheld(connection)
        if put_off:
            log.warning("grace_periods_put_off", accounts=put_off)

    async def _drain(self) -> None:
        await self._comparison.stop()
        with contextlib.suppress(OSError, DatabaseError):
            async with self._database.write() as connection:
                await self._record_time(connection)
        if self.synapse.condition == "ready":
            # A copy made while this ran is told by the number that it ends with.
            with contextlib.suppress(HomeserverError, OSError, DatabaseError):
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
        """Wait while every server is left alone; only `stop` cuts it short."""
        while not self._stopping and (left := self._resting_until() - self._clock.now()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    def _resting_until(self) -> float:
        """Return until when every server is left alone."""
        return min(server.resting_until for server in self._servers)

    def _load(self) -> Counter[Breaker]:
        """Return how much is being asked of each server."""
        return Counter(self._server(lane) for lane, _ in self._running.values())

    async def _pause(self, looked_at: float) -> float:
        """Return for how long nothing new falls due (seconds)."""
        load = self._load()
        if all(load[server] >= server.slots for server in self._servers):
            return LONGEST_PAUSE
        rests = [server.resting_until for server in self._servers]
        rests += [until for _, until in self._ailing.values()]
        moments = [until for until in rests if until > looked_at]
        # What a server that rests would have to do waits for its return.
        if self.synapse.resting_until <= looked_at:
            moments.append(self._compare_at)
        # Work that was due then and has not started waits for the end of a task or a rest.
        due = await memberships.next_due(self._database.scanner, looked_at)
        later = (due, self._agenda.next_due(), self._schedule.next_due)
        moments += [moment for moment in later if moment is not None]
        left = min(moments) - self._clock.now() if moments else LONGEST_PAUSE
        return min(LONGEST_PAUSE, max(0.05, left))

    # -- Rounds -----------------------------------------------------------

    async def _round(self, now: float) -> None:
        """Start as much of the due work as there are slots for, no kind starving another."""
        if self.mas is not None:
            await self._check_server(self.mas, self._be_sure_of_mas)
        await self._check_server(self.synapse, self._be_sure_of_the_homeserver)
        await self._housekeeping(now)
        load = self._load()
        if all(load[server] >= server.slots for server in self._servers):
            return
        lanes = {lane: deque(jobs) for lane, jobs in (await self._due(now)).items()}
        running = Counter(lane for lane, _ in self._running.values())
        while True:
            waiting = [
                lane
                for lane, jobs in lanes.items()
                if jobs
                and self._server(lane).is_usable
                and load[self._server(lane)] < self._server(lane).slots
            ]
            if not waiting:
                return
            lane = min(waiting, key=lambda lane: running[lane])
            self._start(lanes[lane].popleft())
            running[lane] += 1
            load[self._server(lane)] += 1

    async def _check_server(self, server: Breaker, ask: Callable[[], Awaitable[None]]) -> None:
        """Before any work on a server, and where answers said nothing, ask whether it is there."""
        if server.rests_seconds:
            return
        try:
            await ask()
        except HomeserverError as error:
            server.trip(error)
            self._blamed(error).doubt()
        else:
            server.answered()

    async def _housekeeping(self, now: float) -> None:
        """Do what time alone brings: the next comparison, expired accounts, old records."""
        if now >= self._compare_at and self.synapse.is_usable:
            # Jittered, so that many services do not ask at once.
            self._compare_at = now + self._pace.compare_every * random.uniform(0.9, 1.1)
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
        if self.synapse.is_usable:
            await self._copies.renew()
        if now >= self._note_at:
            async with self._database.write() as connection:
                await self._record_time(connection)
        if now >= self._prune_at and self.synapse.is_usable:
            if self._prune_at:
                await self._homeserver.renew_token()
            self._prune_at = now + PRUNE_EVERY
            async with self._database.write() as connection:
                await record.prune(connection, now - self._pace.record_keep)

    async def _record_time(self, connection: Connection) -> None:
        self._note_at = self._clock.now() + NOTE_EVERY
        await accounts.record_time(connection)

    async def _due(self, now: float) -> dict[Lane, list[Job]]:
        """Return what could be started now, by lane, the smallest and newest first.

        Accounts before rooms where both have as much running: joins wait for them.
        """
        lanes: dict[Lane, list[Job]] = {"account": await self._accounts_due(now)}
        return lanes if not self.synapse.is_usable else {**lanes, **await self._rooms_due(now)}

    def _busy(self, now: float) -> list[str]:
        """Return the keys of what is being worked on, or left alone."""
        return [*self._running, *(k for k, (_, until) in self._ailing.items() if until > now)]

    async def _accounts_due(self, now: float) -> list[Job]:
        """Return the accounts that could be worked on now.

        While Synapse is away and MAS is not, those that are to be disabled: all else needs both.
        """
        server, there = self._server("account"), self.synapse.is_usable
        if not server.is_usable or (not there and self.synapse.condition in _NEVER_MET):
            return []
        busy = [int(k.partition(" ")[2]) for k in self._busy(now) if k.startswith(_ACCOUNT)]
        found = await accounts.due(
            self._database.scanner, now, server.slots, busy, disabling=not there
        )
        work = partial(
            self._accounts.work,
            delegated=self.delegated and self.mas is None,
            without_homeserver=not there,
        )
        return [
            Job(f"{_ACCOUNT}{one.id}", "account", partial(work, one), f"{one.todo} {one.bound_by}")
            for one in found
        ]

    async def _rooms_due(self, now: float) -> dict[Lane, list[Job]]:
        """Return the rooms that could be worked on or looked at now, as many as there are slots."""
        reader, slots = self._database.scanner, self.synapse.slots
        busy = self._busy(now)
        if others := await self._agenda.refresh(reader, now):
            self._schedule.maps(others, await rooms.mapped_of(reader, others))
        self._schedule.fall_due(now)
        await self._record_comparison()
        commits = self._commits

        def may_go_on() -> bool:
            # Whatever was committed since may be smaller and newer than what is left here.
            return (
                not self._stopping and not self.synapse.rests_seconds and commits == self._commits
            )

        observations = [
            Job(reference.reference, "observe", partial(self._observation.resolve, reference))
            for reference in await references.unresolved(reader, now, busy, slots)
        ]
        # Those with work are compared before the first turn is taken there.
        looked_at = (
            room_id
            for room_id in self._schedule.waiting
            if room_id not in busy and not self._agenda.has_work(room_id)
        )
        observations += [
            Job(room_id, "observe", partial(self._observation.observe, room_id))
            for room_id in itertools.islice(looked_at, slots)
        ]
        return {
            "observe": observations,
            "room": [
                Job(room_id, "room", partial(self._room, room_id, may_go_on))
                for room_id in self._agenda.smallest(busy, slots)
            ],
        }

    async def _record_comparison(self) -> None:
        """Record when every mapped room has been compared."""
        observing = any(lane == "observe" for lane, _ in self._running.values())
        left = self._schedule.waiting or self._schedule.next_due is not None
        if self._comparing and not observing and not left:
            self._comparing = False
            async with self._database.write() as connection:
                await totals.happened(connection, "compared")

    async def _room(self, room_id: str, may_go_on: Callable[[], bool]) -> None:
        """Take a turn of a room; before the first one observe it: much may be so already."""
        if self._schedule.is_due(room_id):
            await self._observation.observe(room_id)
            # What it is, and who may lead the service there, may be otherwise than was thought.
            self.wake()
            return
        try:
            await self._turn.take(room_id, may_go_on)
        except PostponedError:
            # After an unknown outcome the room is observed, not remembered.
            self._schedule.doubt([room_id])
            raise

    def _start(self, job: Job) -> None:
        work = job.work() if job.lane == "account" else self._in_room(job)
        task = asyncio.create_task(work, name=f"reconcile {job.key}")
        self._running[job.key] = (job.lane, task)
        task.add_done_callback(partial(self._ended, job, time.perf_counter()))

    async def _in_room(self, job: Job) -> None:
        """Do a room's work, with what the room is called in whatever is logged of it."""
        self._names[job.key] = name = await rooms.name(self._database.reader, job.key)
        with structlog.contextvars.bound_contextvars(room=name):
            await job.work()

    def _ended(self, job: Job, begun: float, task: asyncio.Task[None]) -> None:
        del self._running[job.key]
        name = self._names.pop(job.key, job.key)
        self._wake.set()
        if job.lane != "account":
            self._agenda.doubt(job.key)
            # What the map means may have changed with what was seen.
            self._settling.resume()
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._ailing.pop(job.key, None)
            if job.kind is not None:
                self._server(job.lane).took(job.kind, time.perf_counter() - begun)
            return
        if isinstance(error, RateLimitedError | TokenError | UnvouchedError):
            self._trip(error)
            return
        failures, _ = self._ailing.get(job.key, (0, 0.0))
        self._ailing[job.key] = (failures + 1, self._clock.now() + TRANSIENT.delay(failures))
        if isinstance(error, UnavailableError):
            blamed = self._blamed(error)
            log.warning(
                "no_usable_answer", what=job.key, name=name, by=blamed.name, error=str(error)
            )
            blamed.failed()
            # MAS also says so where Synapse does not answer it.
            told = isinstance(error, MasUnavailableError) and error.answered
            (self.synapse if told else blamed).doubt()
        else:
            log.error("action_failed", what=job.key, name=name, error=repr(error), exc_info=error)

    # -- The homeserver ---------------------------------------------------

    async def _be_sure_of_mas(self) -> None:
        """Before any work on accounts in MAS, and where its answers said nothing, ask for it."""
        mas, breaker = self._homeserver.mas, self.mas
        assert mas is not None
        assert breaker is not None
        if breaker.condition == "ready":
            if not breaker.there.is_set():
                await mas.version()
            return
        version = await mas.version()
        if is_too_old(version):
            raise MismatchError(f"MAS is {version}, and 1.5 is the oldest that has what is needed")
        served = await mas.server_name()
        if served != self._homeserver.server_name:
            raise MismatchError(f"MAS_URL serves {served}, not MATRIX_SERVER_NAME")
        breaker.met(version)
        breaker.answered()
        log.info("mas_ready", version=version)
        # Whoever waited for it is looked at anew, and so are all whom a comparison has missed.
        waited = self._rights.everybody_stays
        await self._rights.renew()
        if waited:
            self._schedule.doubt_all()
        self._comparison.begin(self._pace.compare_every)

    async def _be_sure_of_the_homeserver(self) -> None:
        """Before any work, and where answers said nothing, ask whether it is there."""
        if self.synapse.condition != "ready":
            await self._meet()
        elif not self.synapse.there.is_set():
            await self._homeserver.is_there()

    async def _meet(self) -> None:
        """Ask who the homeserver is."""
        whoami = await self._homeserver.sign_in()
        version = await self._homeserver.server_version()
        if whoami != self._homeserver.user_id:
            raise TokenError(
                403,
                FORBIDDEN,
                f"the token is {whoami}'s, not that of MATRIX_ADMIN_USER_ID"
                f" ({self._homeserver.user_id}) at MATRIX_SERVER_NAME",
            )
        self.delegated = await self._homeserver.accounts_are_delegated()
        if self.mas is not None and not self.delegated:
            raise MismatchError(f"{PLAIN}; {PLAIN_CURE}")
        limit_lifted = False
        if self._pace.lift_rate_limit:
            with contextlib.suppress(WithheldError):
                await self._homeserver.lift_own_rate_limit()
                limit_lifted = True
        await self._copies.tell_apart()
        # Whatever happened while nobody looked is seen before anything is done.
        self._schedule.doubt_all()
        await self._rights.renew()
        with contextlib.suppress(RefusedError):
            await self._live.begin()
        if self._following is None:
            self._following = asyncio.create_task(self._live.run(), name="live drift")
        self.synapse.met(version)
        log.info("homeserver_ready", version=version, delegated_authentication=self.delegated)
        if limit_lifted:
            log.info("rate_limit_lifted", user_id=self._homeserver.user_id)
        if self.delegated and self.mas is None:
            log.warning(
                "delegated_authentication",
                detail="accounts belong to the Matrix Authentication Service, and MAS_URL is not "
                "set: none is created, locked or deactivated; rooms of existing accounts are kept "
                "in line",
            )
