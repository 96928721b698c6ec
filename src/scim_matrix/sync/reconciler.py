"""The loop that carries out what is left to do, and survives a homeserver that is not there."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import structlog

from scim_matrix.matrix.errors import FencedError, HomeserverError, RefusedError, WithheldError
from scim_matrix.matrix.server import Homeserver
from scim_matrix.problems import OF_SERVERS
from scim_matrix.store import accounts, memberships, rooms, totals, unanswered
from scim_matrix.store.database import Database
from scim_matrix.store.errors import DatabaseError, NotLeadingError
from scim_matrix.sync.account_changes import AccountPolicy
from scim_matrix.sync.account_comparison import AccountComparison
from scim_matrix.sync.account_worker import AccountWorker
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.breaker import Breaker
from scim_matrix.sync.copies import Copies
from scim_matrix.sync.due import Due
from scim_matrix.sync.housekeeping import Housekeeping, Pace
from scim_matrix.sync.jobs import Job, Jobs
from scim_matrix.sync.live import LiveDrift
from scim_matrix.sync.observation import Observation
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.room_rights import RoomPolicy, RoomRights
from scim_matrix.sync.room_turn import RoomTurn
from scim_matrix.sync.servers import Lane, Servers
from scim_matrix.sync.settling import Settling

T = TypeVar("T")

log = structlog.get_logger(__name__)

# For so long (seconds) a turn goes on whatever is committed meanwhile: what is being written all
# the time would end every one before its first action.
TURN_SECONDS = 0.1

DRAIN_SECONDS = 4.0
_TELL_SECONDS = 1.0
# What may lie between an end and a start (seconds) for grace periods to pass meanwhile.
AWAY_AT_MOST = 3600.0
LONGEST_PAUSE = 60.0


class Reconciler:
    """Carries out the difference between what is granted and what is known, until stopped."""

    def __init__(
        self,
        database: Database,
        homeserver: Homeserver,
        servers: Servers,
        account_policy: AccountPolicy,
        room_policy: RoomPolicy,
        pace: Pace,
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._clock = database.clock
        self._pace = pace
        self._servers = servers
        # Which of them this has met itself: what was seen of rooms before says nothing.
        self._met: set[Breaker] = set()
        rights = RoomRights(homeserver, room_policy.users, database.clock, servers.mas)
        self._rights = rights
        self._observation = Observation(database, homeserver, rights, room_policy.on_self_leave)
        self._schedule = self._observation.schedule
        self._turn = RoomTurn(
            database, homeserver, rights, room_policy, self.synapse.took, self._schedule.doubt
        )
        worker = AccountWorker(
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
        self._housekeeping = Housekeeping(
            database,
            homeserver,
            servers,
            rights,
            self._schedule,
            self._comparison,
            self._copies,
            pace,
        )
        self._jobs = Jobs(servers, self._clock, self._room_name, self._ended)
        self._due = Due(
            database, servers, self._jobs, worker, self._observation, self._turn, self.wake
        )
        self._wake = asyncio.Event()
        self._commits = 0
        self._begun = False
        # What is written down of the servers, for commands; None: it may be an older process's.
        self._told: set[str] | None = None
        self._stopping = False
        self._abandoned = False

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

    async def _room_name(self, room: str) -> str:
        """Return what a room is called, by its ID or by the alias that is still asked for."""
        return room if room.startswith("#") else await rooms.name(self._database.reader, room)

    # -- What others ask and tell -----------------------------------------

    @property
    def synapse(self) -> Breaker:
        """What was last seen of the homeserver."""
        return self._servers.synapse

    @property
    def mas(self) -> Breaker | None:
        """What was last seen of MAS, None where accounts do not belong to it."""
        return self._servers.mas

    @property
    def delegated(self) -> bool:
        """Whether accounts belong to MAS, as the homeserver says."""
        return self._servers.delegated

    @property
    def follows_live(self) -> bool:
        """Whether changes made by hand are seen as they happen."""
        return self._live.is_following and self.synapse.is_usable

    def codes(self) -> Iterator[str]:
        """Yield the codes of what is wrong with the servers (scim_matrix/problems.py)."""
        yield from self._servers.codes()
        if self.removals_wait:
            yield "admins-unknown"
        if self.synapse.condition == "ready" and not self.follows_live:
            yield "live-drift-stopped"

    @property
    def removals_wait(self) -> bool:
        """Whether nobody is removed: nobody can say at present who administers the homeserver."""
        return self._rights.everybody_stays

    async def protection(self) -> Policy:
        """Return whom nobody removes, as the next removal would be decided."""
        return await self._rights.protection()

    @property
    def working(self) -> int:
        """How many rooms and accounts are being worked on."""
        return len(self._jobs.tasks)

    def wake(self) -> None:
        """Look for work now: something was committed."""
        self._commits += 1
        self._wake.set()

    def resume(self) -> None:
        """Look for work of every kind: another service may have committed something."""
        self._settling.resume()
        self.wake()

    def _doubt(self) -> None:
        """Ask whether the homeserver is there before anything else is done."""
        self.synapse.doubt()
        self._wake.set()

    def compare(self) -> None:
        """Compare every mapped room now: the map may name others, or a human asked for it."""
        self._housekeeping.compare()
        self._observation.others_opened.set()
        self._settling.resume(lines_end=True)
        self.wake()

    async def settle_map(self) -> None:
        """Work out what changes of the map mean for everybody who is left."""
        await self._settling.finish()

    # -- The loop ---------------------------------------------------------

    def stop(self) -> None:
        """Start nothing new; `run` returns once what is in flight has ended."""
        self._stopping = True
        self._wake.set()

    def abandon(self) -> None:
        """Start nothing new, and wait for nothing that is in flight: this does not lead any more.

        Whoever runs `run` cancels it.
        """
        self._abandoned = True
        self.stop()

    async def run(self) -> None:
        """Work until `stop`; returns once the actions in flight are recorded.

        Raises what neither a server nor the database is to blame for.
        """
        await self.begin()
        settling = asyncio.create_task(self._settling.run(), name="settling")
        settling.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                await self._rest()
                # Before the wake is cleared: `stop` may have cut the rest short by it.
                if self._stopping:
                    break
                if settling.done():
                    # Of whoever is unsettled nothing would be done any more, removals least of all.
                    settling.result()
                self._wake.clear()
                now = self._clock.now()
                await self._survive_round(now)
                pause = await self._survive(self._pause(now))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause or 0.0):
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
            if self._servers.resting_until <= now:
                await self._survive_round(now)
            if tasks := self._jobs.tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                continue
            await self._comparison.finish()
            resting_until = self._servers.resting_until
            due = max(resting_until, now + await self._pause(now))
            # Asked last: somebody may have made work while that was looked up.
            if not self._wake.is_set() or resting_until > now:
                return due

    async def close(self) -> None:
        """End what runs beside `settle`."""
        self.stop()
        await self._drain()

    async def _survive_round(self, now: float) -> None:
        await self._survive(self._round(now))
        await self._survive(self._tell_of_servers())

    async def _survive(self, work: Awaitable[T]) -> T | None:
        """Do a part of the loop; where a server or the database is out of reach, rest."""
        try:
            return await work
        except (FencedError, NotLeadingError):
            # Whoever runs this is told as well.
            self.stop()
        except HomeserverError as error:
            self._servers.trip(error)
        except (OSError, DatabaseError) as error:
            # The database is out of reach (full disk): nothing was acknowledged meanwhile.
            log.exception("reconcile_failed", error=str(error))
            delay = TRANSIENT.delay(5)
            for server in self._servers.all:
                server.rest(delay)
        return None

    async def _tell_of_servers(self) -> None:
        """Write down what ails the servers, where that has changed: commands cannot ask them."""
        ailing = {*self.codes()} & {*OF_SERVERS}
        known = all(server.condition != "unknown" for server in self._servers.all)
        if known and ailing != self._told:
            async with self._database.write() as connection:
                await totals.ail(connection, ailing, OF_SERVERS)
            self._told = ailing

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
            await unanswered.begin_anew(connection)
            await self._housekeeping.record_time(connection)
            await memberships.bound_rests(connection, connection.at + PERMANENT.longest)
            await accounts.move_home(connection, self._homeserver.server_name)
            if not self._homeserver.dry_run:
                await memberships.retry(connection, "withheld")
                await accounts.retry_withheld(connection)
        if put_off:
            log.warning("grace_periods_put_off", accounts=put_off)

    async def _drain(self) -> None:
        await self._comparison.stop()
        if not self._abandoned:
            await self._sign_off()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._jobs.drain(0.0 if self._abandoned else DRAIN_SECONDS)

    async def _sign_off(self) -> None:
        with contextlib.suppress(OSError, DatabaseError):
            async with self._database.write() as connection:
                await self._housekeeping.record_time(connection)
        if self.synapse.condition == "ready":
            # A copy made while this ran is told by the number that it ends with.
            with contextlib.suppress(HomeserverError, OSError, DatabaseError):
                async with asyncio.timeout(_TELL_SECONDS):
                    await self._copies.tell_apart()

    async def _rest(self) -> None:
        """Wait while every server is left alone; only `stop` cuts it short."""
        servers, clock = self._servers, self._clock
        while not self._stopping and (left := servers.resting_until - clock.now()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    async def _pause(self, looked_at: float) -> float:
        """Return for how long nothing new falls due (seconds)."""
        load = self._jobs.load
        if all(load[server] >= server.slots for server in self._servers.all):
            return LONGEST_PAUSE
        rests = [server.resting_until for server in self._servers.all]
        rests += self._jobs.rests
        moments = [until for until in rests if until > looked_at]
        # What a server that rests would have to do waits for its return.
        if self.synapse.resting_until <= looked_at:
            moments.append(self._housekeeping.compare_at)
        moments += await self._due.next(looked_at)
        left = min(moments) - self._clock.now() if moments else LONGEST_PAUSE
        return min(LONGEST_PAUSE, max(0.05, left))

    # -- Rounds -----------------------------------------------------------

    async def _round(self, now: float) -> None:
        """Start as much of the due work as there are slots for, no kind starving another."""
        if self.mas is not None:
            await self._servers.check(self.mas, self._be_sure_of_mas)
        await self._servers.check(self.synapse, self._be_sure_of_the_homeserver)
        if await self._housekeeping.run(now):
            self._follow_again()
        load = self._jobs.load
        if all(load[server] >= server.slots for server in self._servers.all):
            return
        lanes = {lane: deque(jobs) for lane, jobs in (await self._choose(now)).items()}
        running, of = self._jobs.lanes, self._servers.of
        while True:
            waiting = [
                lane
                for lane, jobs in lanes.items()
                if jobs and of(lane).is_usable and load[of(lane)] < of(lane).slots
            ]
            if not waiting:
                return
            lane = min(waiting, key=lambda lane: running[lane])
            self._jobs.start(lanes[lane].popleft())
            running[lane] += 1
            load[of(lane)] += 1

    async def _choose(self, now: float) -> dict[Lane, list[Job]]:
        """Return what could be started now, by lane, the smallest and newest first.

        Accounts before rooms where both have as much running: joins wait for them.
        """
        lanes: dict[Lane, list[Job]] = {"account": await self._due.accounts(now)}
        if not self.synapse.is_usable:
            return lanes
        await self._due.look(now)
        await self._housekeeping.record_comparison(observing=self._jobs.lanes["observe"] > 0)
        return {**lanes, **await self._due.rooms(now, self._turns_go_on())}

    def _turns_go_on(self) -> Callable[[float], bool]:
        """Return what tells turns that begin now, by how long they last, whether they go on."""
        commits = self._commits

        def may_go_on(seconds: float) -> bool:
            if self._stopping or self.synapse.rests_seconds:
                return False
            # Whatever was committed since may be smaller and newer than what is left here.
            return seconds < TURN_SECONDS or commits == self._commits

        return may_go_on

    def _ended(self, job: Job) -> None:
        self._wake.set()
        self._due.doubt(job)
        if job.lane != "account":
            # What the map means may have changed with what was seen.
            self._settling.resume()

    # -- Meeting the servers ----------------------------------------------

    async def _be_sure_of_mas(self) -> None:
        """Before any work on accounts in MAS, and where its answers said nothing, ask for it."""
        mas, breaker = self._homeserver.mas, self.mas
        assert mas is not None
        assert breaker is not None
        if breaker.condition == "ready" and breaker in self._met:
            if not breaker.there.is_set():
                await mas.version()
            return
        version = await self._servers.identify_mas()
        breaker.met(version)
        breaker.answered()
        self._met.add(breaker)
        log.info("mas_ready", version=version)
        # Whoever waited for it is looked at anew, and so are all whom a comparison has missed.
        waited = self._rights.everybody_stays
        await self._rights.renew()
        if waited:
            self._schedule.doubt_all()
        self._comparison.begin(self._pace.compare_every)

    async def _be_sure_of_the_homeserver(self) -> None:
        """Before any work, and where answers said nothing, ask whether it is there."""
        if self.synapse.condition != "ready" or self.synapse not in self._met:
            await self._meet()
        elif not self.synapse.there.is_set():
            await self._homeserver.is_there()

    async def _meet(self) -> None:
        """Ask who the homeserver is, and go on from how it is now."""
        version = await self._servers.identify_homeserver()
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
        self._met.add(self.synapse)
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

    def _follow_again(self) -> None:
        """Have live drift go on where it has failed."""
        if self._following is not None and self._following.done():
            log.error("live_drift_failed", exc_info=self._following.exception())
            self._following = asyncio.create_task(self._live.run(), name="live drift")
