"""Carry out a turn of a room's plan: removals, joins, invitations, power levels."""

import time
from collections.abc import Callable

import structlog

from scim_matrix.matrix.errors import (
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    WithheldError,
)
from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.pair import Pair
from scim_matrix.store import held as held_work
from scim_matrix.store import pairs, record
from scim_matrix.store.database import Database
from scim_matrix.store.record import Entry
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.guard import Brake, Tally
from scim_matrix.sync.plan import Action, Invite, Join, Kick, Policy, Spare, plan
from scim_matrix.sync.power import POWER_LEVELS, power_plan
from scim_matrix.sync.room_rights import RoomRights

log = structlog.get_logger(__name__)

# Short turns let a small change in another room overtake a large import.
TURN = 10


class RoomTurn:
    """Carries out what is left to do in rooms, behind the brake, and records how that ended.

    `take` raises UnavailableError and TokenError, which say something of the homeserver as a
    whole; what is wrong with one person is recorded.
    """

    def __init__(
        self, database: Database, homeserver: Homeserver, rights: RoomRights, brake: Brake
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._rights = rights
        self._brake = brake
        # What the service did lately and sync has not told yet: membership and when.
        self.acted: dict[tuple[str, str], tuple[str, float]] = {}

    async def take(self, room_id: str, may_go_on: Callable[[], bool]) -> None:
        """Carry out one turn of a room's plan, one change after the other.

        `may_go_on` is asked before each; where it says no, what is left stays for a later turn.
        """
        due = await self._due(room_id)
        removes = not all(pair.granted for pair in due)
        users = await self._rights.protection() if removes else self._rights.users
        for action in plan(due, users):
            if not may_go_on():
                return
            # The identity provider may have changed its mind since the plan was made.
            if await pairs.is_as_planned(self._database.reader, action.pair):
                await self._act(action)
        if len(due) < TURN and may_go_on():
            await self._powers(room_id)

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

    async def _act(self, action: Action) -> None:
        """Carry out one action and record how that ended."""
        pair = action.pair
        try:
            await self._carry_out(action)
        except TokenError:
            raise
        except RateLimitedError:
            raise
        except UnavailableError as error:
            # Perhaps it is about this one person: others go first next time.
            await self._postpone(pair, str(error), TRANSIENT.delay(pair.attempts))
            raise
        except (RefusedError, WithheldError) as error:
            await self._refused(action, error)
            return
        membership = {Join: "join", Invite: "invite", Kick: "leave"}.get(type(action))
        if membership is not None:
            self.acted[pair.room_id, pair.user_id] = (membership, time.monotonic())
        async with self._database.write() as connection:
            if membership is None:
                await pairs.forget(connection, pair.room_id, pair.user_id)
            else:
                await pairs.settle_pair(connection, pair.room_id, pair.user_id, membership)
            await record.add(connection, _entry(action, "spared" if not membership else "done"))
        log.info(
            _EVENTS[type(action)],
            room_id=pair.room_id,
            user_id=pair.user_id,
            group=pair.group_name,
            request=pair.request,
        )

    async def _carry_out(self, action: Action) -> None:
        """Ask the homeserver for one action."""
        room_id, user_id = action.pair.room_id, action.pair.user_id
        match action:
            case Join():
                await self._rights.with_power(
                    room_id, lambda: self._homeserver.force_join(room_id, user_id)
                )
            case Invite():
                await self._rights.with_power(
                    room_id, lambda: self._homeserver.invite(room_id, user_id)
                )
            case Kick(reason=reason):
                await self._rights.with_power(
                    room_id, lambda: self._homeserver.kick(room_id, user_id, reason), user_id
                )

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
            async with self._database.write() as connection:
                await pairs.settle_pair(connection, pair.room_id, pair.user_id, "ban")
        else:
            await self._postpone(pair, str(error), PERMANENT.delay(pair.attempts))

    async def _postpone(self, pair: Pair, error: str, delay: float) -> None:
        async with self._database.write() as connection:
            when = time.time() + delay
            await pairs.pair_failed(connection, pair.room_id, pair.user_id, error, when)

    # -- Power levels -----------------------------------------------------

    async def _powers(self, room_id: str) -> None:
        """Send one event with all power levels that are to change in a room."""
        due = await pairs.power_due(self._database.scanner, room_id, time.time())
        if not due:
            return
        users = await self._rights.protection()
        try:
            await self._rights.with_power(room_id, lambda: self._set_powers(room_id, due, users))
        except TokenError:
            raise
        except (RefusedError, WithheldError) as error:
            for pair in due:
                await self._power_refused(pair, error)

    async def _set_powers(self, room_id: str, due: list[Pair], users: Policy) -> None:
        levels = await self._rights.levels(room_id)
        if levels.of(users.service_user_id) < levels.needed(POWER_LEVELS):
            raise RefusedError(403, "M_FORBIDDEN", "the service may not change power levels")
        planned = power_plan(levels, due, users)
        if planned.content is not None:
            await self._homeserver.put_state(room_id, POWER_LEVELS, planned.content)
        entries = [_power_entry(pair, "done") for pair in planned.settled]
        async with self._database.write() as connection:
            await pairs.settle_power(connection, planned.settled)
            await record.add(connection, *entries)
        if planned.settled:
            log.info("power_levels_set", room_id=room_id, people=len(planned.settled))
        for pair, reason in planned.refused:
            await self._power_refused(pair, RefusedError(403, "M_FORBIDDEN", reason))

    async def _power_refused(self, pair: Pair, error: RefusedError | WithheldError) -> None:
        log.warning(
            "power_level_refused", room_id=pair.room_id, user_id=pair.user_id, error=str(error)
        )
        outcome: record.Outcome = "dry_run" if isinstance(error, WithheldError) else "refused"
        async with self._database.write() as connection:
            await record.add(connection, _power_entry(pair, outcome, str(error)))
        await self._postpone(pair, str(error), PERMANENT.delay(pair.attempts))


_EVENTS = {Join: "joined", Invite: "invited", Kick: "kicked", Spare: "removal_spared"}


def _entry(action: Action, outcome: record.Outcome, detail: str | None = None) -> Entry:
    pair = action.pair
    return Entry(
        {Join: "join", Invite: "invite"}.get(type(action), "kick"),
        outcome,
        pair.user_id,
        pair.room_id,
        pair.group_name,
        pair.request,
        pair.approved,
        detail,
    )


def _power_entry(pair: Pair, outcome: record.Outcome, detail: str | None = None) -> Entry:
    what = "given back" if pair.power is None else str(pair.power)
    return Entry(
        "power",
        outcome,
        pair.user_id,
        pair.room_id,
        pair.group_name,
        pair.request,
        detail=f"{what}: {detail}" if detail else what,
    )
