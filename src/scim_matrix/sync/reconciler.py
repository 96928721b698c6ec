"""The loop that carries out what is left to do, and survives a homeserver that is not there."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Coroutine
from dataclasses import dataclass
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
from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.pair import Pair, RoomReference
from scim_matrix.store import accounts, pairs, record
from scim_matrix.store import held as held_work
from scim_matrix.store.accounts import Account
from scim_matrix.store.database import Database
from scim_matrix.store.record import Entry
from scim_matrix.sync import accounts as account_actions
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.guard import Brake, Tally
from scim_matrix.sync.plan import Action, Join, Kick, Policy, Spare, plan

log = structlog.get_logger(__name__)

# Short turns let a small change in another room overtake a large import.
TURN = 10
DRAIN_SECONDS = 4.0
PRUNE_EVERY = 3600.0


@dataclass
class HomeserverState:
    """What was last seen of the homeserver, for /readyz and the log."""

    condition: Literal["unknown", "ready", "down", "refused"] = "unknown"
    detail: str = "not asked yet"
    version: str | None = None
    delegated: bool = False


class Reconciler:
    """Carries out the difference between what is granted and what is known, until stopped."""

    def __init__(
        self,
        database: Database,
        homeserver: Homeserver,
        policy: account_actions.AccountPolicy,
        *,
        brake: Brake,
        record_keep: float,
        concurrency: int,
        lift_rate_limit: bool,
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._policy = policy
        self._brake = brake
        self._record_keep = record_keep
        self._pruned = 0.0
        self._concurrency = concurrency
        self._lift_rate_limit = lift_rate_limit
        self._wake = asyncio.Event()
        self._stopping = False
        self._running: dict[str, asyncio.Task[None]] = {}
        self._resting_until = 0.0
        self._failures = 0
        self._observed: set[str] = set()
        self.state = HomeserverState()

    @property
    def users(self) -> Policy:
        """Who is never touched."""
        return self._policy.users

    def wake(self) -> None:
        """Look for work now: something was committed."""
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`; returns once the actions in flight are recorded."""
        while not self._stopping:
            self._wake.clear()
            try:
                await self._round()
            except HomeserverError as error:
                self._trip(error)
            except (OSError, sqlite3.Error) as error:
                # The database is out of reach (full disk): nothing was acknowledged meanwhile.
                log.exception("reconcile_failed", error=str(error))
                self._resting_until = time.time() + TRANSIENT.delay(5)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(await self._pause()):
                    await self._wake.wait()
            if self._resting_until > time.time() and not self._stopping:
                await self._rest()
        if self._running:
            _, hanging = await asyncio.wait(self._running.values(), timeout=DRAIN_SECONDS)
            # Not recorded, so done again after the next start, where that is harmless.
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    def rooms_changed(self) -> None:
        """Read every mapped room again: the map may name others now."""
        self._observed.clear()
        self._wake.set()

    def stop(self) -> None:
        """Start nothing new; `run` returns once what is in flight has ended."""
        self._stopping = True
        self._wake.set()

    async def _rest(self) -> None:
        """Wait out the breaker; only `stop` cuts it short."""
        while not self._stopping and (left := self._resting_until - time.time()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    async def _pause(self) -> float:
        """Return how long nothing will fall due (seconds)."""
        if self._running and len(self._running) >= self._concurrency:
            return 60.0
        due = await pairs.next_due(self._database.scanner)
        if due is None:
            return 60.0
        # Work that is due but not startable (its room is busy) wakes us when its task ends.
        left = due - time.time()
        return 60.0 if left <= 0 and self._running else min(60.0, max(0.05, left))

    # -- Rounds -----------------------------------------------------------

    async def _round(self) -> None:
        """Start as much of the due work as concurrency allows."""
        if self.state.condition != "ready":
            await self._meet()
        now = time.time()
        await self._prune_record(now)
        reader = self._database.scanner
        if await accounts.any_expired(reader, now):
            async with self._database.write() as connection:
                await accounts.expire(connection, now)
        for reference in await pairs.unresolved(reader, now):
            await self._resolve(reference)
        for room_id in await pairs.mapped_rooms(reader):
            if room_id not in self._observed:
                await self._observe(room_id)
        free = self._concurrency - len(self._running)
        busy = list(self._running)
        for account in await accounts.due(reader, now, free, busy):
            self._start(account.user_id, self._account(account))
        for room_id in await pairs.rooms_due(reader, now, busy):
            if len(self._running) >= self._concurrency:
                break
            self._start(room_id, self._room(room_id))

    async def _prune_record(self, now: float) -> None:
        if now < self._pruned + PRUNE_EVERY:
            return
        self._pruned = now
        async with self._database.write() as connection:
            await record.prune(connection, now - self._record_keep)

    def _start(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"reconcile {key}")
        self._running[key] = task

        def ended(task: asyncio.Task[None]) -> None:
            del self._running[key]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("action_failed", what=key, error=repr(error), exc_info=error)
                self._resting_until = time.time() + TRANSIENT.delay(5)
            self._wake.set()

        task.add_done_callback(ended)

    async def _meet(self) -> None:
        """Ask who the homeserver is before any work, and after it was away."""
        version = await self._homeserver.server_version()
        whoami = await self._homeserver.whoami()
        if whoami != self._homeserver.user_id:
            raise TokenError(
                403, "M_FORBIDDEN", f"the token is {whoami}'s, not MATRIX_ADMIN_USER_ID's"
            )
        delegated = await self._homeserver.accounts_are_delegated()
        if self._lift_rate_limit:
            with contextlib.suppress(WithheldError):
                await self._homeserver.lift_own_rate_limit()
                log.info("rate_limit_lifted", user_id=self._homeserver.user_id)
        self._failures = 0
        self.state = HomeserverState(
            "ready", "answers; the token is an admin's", version, delegated
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
            delay = TRANSIENT.delay(self._failures)
        self._failures += 1
        self._resting_until = max(self._resting_until, time.time() + delay)
        if isinstance(error, RateLimitedError):
            log.info("rate_limited", seconds=round(delay, 1))
            return
        condition: Literal["down", "refused"] = (
            "refused" if isinstance(error, RefusedError) else "down"
        )
        if self.state.condition != condition:
            log.warning("homeserver_" + condition, error=str(error))
        self.state = HomeserverState(condition, str(error), self.state.version)

    # -- Work -------------------------------------------------------------

    async def _resolve(self, room: RoomReference) -> None:
        try:
            room_id = await self._homeserver.resolve_alias(room.reference)
        except TokenError:
            raise
        except RefusedError as error:
            log.warning("room_unresolved", room=room.reference, error=str(error))
            async with self._database.write() as connection:
                await pairs.room_failed(
                    connection,
                    room.reference,
                    f"does not resolve: {error}",
                    time.time() + PERMANENT.delay(room.attempts),
                )
            return
        async with self._database.write() as connection:
            await pairs.resolved(connection, room.reference, room_id)
        log.info("room_resolved", room=room.reference, room_id=room_id)

    async def _observe(self, room_id: str) -> None:
        """Read who is in a room once, so that what is already so is not asked for."""
        try:
            joined = await self._homeserver.members(room_id)
        except TokenError:
            raise
        except RefusedError as error:
            log.warning("room_unknown", room_id=room_id, error=str(error))
            async with self._database.write() as connection:
                await pairs.room_failed(connection, room_id, str(error), 0)
        else:
            async with self._database.write() as connection:
                await pairs.room_works(connection, room_id)
                await pairs.observe(connection, room_id, joined)
        self._observed.add(room_id)

    async def _account(self, account: Account) -> None:
        async def may_disable() -> bool:
            return await self._may_disable(account)

        try:
            done = await account_actions.apply(
                self._homeserver,
                account,
                self._policy,
                may_disable,
                delegated=self.state.delegated,
            )
        except account_actions.HeldError:
            return
        except (TokenError, UnavailableError) as error:
            self._trip(error)
            return
        except (
            RefusedError,
            WithheldError,
            account_actions.ConflictError,
            account_actions.MissingAccountError,
        ) as error:
            await self._account_failed(account, error, account.attempts)
            return
        async with self._database.write() as connection:
            if done.user_id != account.user_id and not await accounts.rename(
                connection, account.user_id, done.user_id
            ):
                taken = f"{done.user_id} is linked to this user but is another user's"
                conflict = account_actions.ConflictError(taken)
            else:
                conflict = None
                await accounts.applied(
                    connection, done.user_id, account.wanted, protected=done.is_protected
                )
                if done.did is not None:
                    entry = Entry(
                        done.did,
                        "done",
                        done.user_id,
                        request=account.request,
                        approved=account.approved,
                    )
                    await record.add(connection, entry)
        if conflict is not None:
            await self._account_failed(account, conflict, 3)
            return
        log.info("account_applied", user_id=done.user_id, did=done.did, request=account.request)

    async def _account_failed(self, account: Account, error: Exception, attempts: int) -> None:
        outcome: record.Outcome = "dry_run" if isinstance(error, WithheldError) else "refused"
        log.warning(
            "account_failed", user_id=account.user_id, error=str(error), request=account.request
        )
        entry = Entry(
            "account", outcome, account.user_id, request=account.request, detail=str(error)
        )
        async with self._database.write() as connection:
            await record.add(connection, entry)
            await accounts.failed(
                connection, account.user_id, str(error), time.time() + PERMANENT.delay(attempts)
            )

    async def _may_disable(self, account: Account) -> bool:
        """Ask the brake about one more account; where it holds, all that are waiting are held."""
        if account.approved:
            return True
        since = time.time() - self._brake.window
        async with self._database.write() as connection:
            done, pending, held, managed = await held_work.account_counts(connection, since)
            if not self._brake.holds(Tally(done, max(1, pending), held, managed)):
                return True
            number = await held_work.hold_accounts(connection, account.user_id)
        log.error("accounts_held", accounts=number, cure="scim-matrix approve accounts, or dismiss")
        return False

    async def _room(self, room_id: str) -> None:
        """Carry out one turn of a room's plan, one change after the other."""
        for action in plan(await self._due(room_id), self.users):
            if self._stopping or self._resting_until > time.time():
                return
            # The identity provider may have changed its mind since the plan was made.
            if not await pairs.is_as_planned(self._database.reader, action.pair):
                continue
            try:
                await self._carry_out(action)
            except (TokenError, UnavailableError) as error:
                self._trip(error)
                return
            except (RefusedError, WithheldError) as error:
                await self._refused(action, error)
            else:
                await self._done(action)

    async def _due(self, room_id: str) -> list[Pair]:
        """Return a turn's work in a room; removals only as far as the brake lets them."""
        now = time.time()
        due = await pairs.due(self._database.scanner, room_id, now, TURN)
        if all(pair.granted or pair.approved for pair in due):
            return due
        # Counted and read in one transaction: what comes in between is counted next time.
        async with self._database.write() as connection:
            counts = await held_work.room_counts(connection, room_id, now - self._brake.window)
            if not self._brake.holds(Tally(*counts)):
                return await pairs.due(connection, room_id, now, TURN)
            number = await held_work.hold_room(connection, room_id)
            left = await pairs.due(connection, room_id, now, TURN)
        log.error(
            "removals_held",
            room_id=room_id,
            people=number,
            cure=f"scim-matrix approve '{room_id}', or dismiss",
        )
        return left

    async def _carry_out(self, action: Action) -> None:
        """Ask the homeserver for one action."""
        room_id, user_id = action.pair.room_id, action.pair.user_id
        match action:
            case Join():
                await self._with_power(
                    room_id, lambda: self._homeserver.force_join(room_id, user_id)
                )
            case Kick(reason=reason):
                await self._with_power(
                    room_id, lambda: self._homeserver.kick(room_id, user_id, reason)
                )

    async def _done(self, action: Action) -> None:
        pair = action.pair
        async with self._database.write() as connection:
            match action:
                case Spare():
                    await pairs.forget(connection, pair.room_id, pair.user_id)
                case Join():
                    await pairs.settle_pair(connection, pair.room_id, pair.user_id, "join")
                case Kick():
                    await pairs.settle_pair(connection, pair.room_id, pair.user_id, "leave")
            spared = isinstance(action, Spare)
            await record.add(connection, _entry(action, "spared" if spared else "done"))
        log.info(
            {Join: "joined", Kick: "kicked", Spare: "removal_spared"}[type(action)],
            room_id=pair.room_id,
            user_id=pair.user_id,
            group=pair.group_name,
            request=pair.request,
        )

    async def _with_power(self, room_id: str, request: Any) -> None:
        """Send a request; where the service lacks power in the room, take it and send again."""
        try:
            await request()
        except TokenError:
            raise
        except RefusedError as error:
            if error.status != 403 or error.errcode != "M_FORBIDDEN":
                raise
            log.info("taking_room_admin", room_id=room_id, because=str(error))
            await self._homeserver.become_room_admin(room_id)
            await request()

    async def _refused(self, action: Action, error: RefusedError | WithheldError) -> None:
        pair = action.pair
        withheld = isinstance(error, WithheldError)
        banned = pair.granted and isinstance(error, RefusedError) and error.errcode == "M_BAD_STATE"
        log.warning(
            "action_withheld" if withheld else "action_refused",
            room_id=pair.room_id,
            user_id=pair.user_id,
            granted=pair.granted,
            banned=banned,
            error=str(error),
            request=pair.request,
        )
        async with self._database.write() as connection:
            outcome: record.Outcome = "dry_run" if withheld else "refused"
            await record.add(connection, _entry(action, outcome, str(error)))
            if banned:
                await pairs.settle_pair(connection, pair.room_id, pair.user_id, "ban")
            else:
                await pairs.pair_failed(
                    connection,
                    pair.room_id,
                    pair.user_id,
                    str(error),
                    time.time() + PERMANENT.delay(pair.attempts),
                )


def _entry(action: Action, outcome: record.Outcome, detail: str | None = None) -> Entry:
    pair = action.pair
    return Entry(
        "join" if isinstance(action, Join) else "kick",
        outcome,
        pair.user_id,
        pair.room_id,
        pair.group_name,
        pair.request,
        pair.approved,
        detail,
    )
