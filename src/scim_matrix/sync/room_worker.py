"""Work on one room: find it, look who is in it, carry out a turn of its plan."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

import orjson
import structlog

from scim_matrix.matrix.errors import (
    NotFoundError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    WithheldError,
)
from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.pair import Pair, RoomReference
from scim_matrix.store import held as held_work
from scim_matrix.store import pairs, record, rooms
from scim_matrix.store.database import Database
from scim_matrix.store.record import Entry
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.guard import Brake, Tally
from scim_matrix.sync.plan import Action, Invite, Join, Kick, Policy, Spare, plan
from scim_matrix.sync.power import (
    POWER_LEVELS,
    PowerLevels,
    creators_have_all_power,
    power_plan,
)

log = structlog.get_logger(__name__)

# Short turns let a small change in another room overtake a large import.
TURN = 10
# For how long (seconds) the list of the homeserver's administrators is believed.
ADMINS_KEEP = 60.0


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """How rooms are treated: whom nobody removes, when to hold, what leaving by oneself means."""

    users: Policy
    brake: Brake
    on_self_leave: Literal["rejoin", "respect"]


class RoomWorker:
    """Carries out what is left to do in rooms.

    Its methods raise UnavailableError and TokenError, which say something of the homeserver as a
    whole; what is wrong with one room or person is recorded.
    """

    def __init__(self, database: Database, homeserver: Homeserver, policy: RoomPolicy) -> None:
        self._database = database
        self._homeserver = homeserver
        self._policy = policy
        self._admins_known = 0.0
        self._users = policy.users
        # Compared since the last comparison was due.
        self.observed: set[str] = set()
        # What the service did lately and sync has not told yet: membership and when.
        self.acted: dict[tuple[str, str], tuple[str, float]] = {}
        # Set when the map opens other rooms than before.
        self.others_opened = asyncio.Event()

    # -- Looking ----------------------------------------------------------

    async def resolve(self, room: RoomReference) -> None:
        """Find the room behind a reference; make it where the map says how."""
        try:
            room_id = await self._resolve(room)
        except TokenError:
            raise
        except (RefusedError, RateLimitedError, WithheldError) as error:
            # A burst of new rooms is rate limited, which is no reason to stop all else.
            limited = error.retry_after if isinstance(error, RateLimitedError) else None
            delay = PERMANENT.delay(room.attempts) if limited is None else limited
            log.warning("room_unresolved", room=room.reference, error=str(error))
            reason = f"does not resolve: {error}"
            async with self._database.write() as connection:
                await rooms.failed(connection, room.reference, reason, time.time() + delay)
            return
        async with self._database.write() as connection:
            await rooms.resolved(connection, room.reference, room_id)
        self.others_opened.set()
        log.info("room_resolved", room=room.reference, room_id=room_id)

    async def _resolve(self, room: RoomReference) -> str:
        try:
            return await self._homeserver.resolve_alias(room.reference)
        except NotFoundError:
            if room.template is None:
                raise
        template = orjson.loads(room.template)
        if not room.reference.endswith(":" + self._homeserver.user_id.split(":", 1)[1]):
            raise RefusedError(400, "M_INVALID_PARAM", "only a room of this server can be created")
        room_id = await self._homeserver.create_room(room.reference, template)
        log.info("room_created", room=room.reference, room_id=room_id)
        async with self._database.write() as connection:
            entry = Entry("create_room", "done", None, room_id, detail=room.reference)
            await record.add(connection, entry)
        return room_id

    async def observe(self, room_id: str) -> None:
        """Compare a room with what is thought of it: where it is, what is below it, who is in."""
        self.observed.add(room_id)
        try:
            await self._observe(room_id)
        except (TokenError, UnavailableError):
            self.observed.discard(room_id)
            raise
        except RefusedError as error:
            log.warning("room_unknown", room_id=room_id, error=str(error))
            async with self._database.write() as connection:
                await rooms.failed(connection, room_id, str(error), 0)

    async def _observe(self, room_id: str) -> None:
        for room, with_children in await rooms.references(self._database.scanner, room_id):
            if await self._has_moved(room, room_id):
                return
            if with_children:
                await self._look_below(room.reference, room_id)
            if room.template is not None:
                await self._place(room.template, room_id)
        details = await self._homeserver.details(room_id)
        if details.replacement is not None:
            log.warning("room_upgraded", room_id=room_id, replacement=details.replacement)
            async with self._database.write() as connection:
                await rooms.moved(connection, room_id, details.replacement)
            self.others_opened.set()
            return
        users = await self.protection()
        joined = await self._homeserver.members(room_id)
        protected = [user_id for user_id in joined if users.protects(user_id)]
        joined = [user_id for user_id in joined if user_id != users.service_user_id]
        async with self._database.write() as connection:
            await rooms.works(connection, room_id)
            missing = await rooms.observe(connection, room_id, joined, protected)
        if missing:
            log.warning("people_missing", room_id=room_id, people=len(missing))
        await self._look_closer(room_id, missing)

    async def _has_moved(self, room: RoomReference, room_id: str) -> bool:
        """Ask anew what an alias stands for; where it is another room, that one is meant now."""
        if not room.reference.startswith("#"):
            return False
        try:
            found = await self._homeserver.resolve_alias(room.reference)
        except TokenError:
            raise
        except RefusedError as error:
            # The room may well be there still: it is kept until the alias names another.
            log.warning("alias_gone", room=room.reference, room_id=room_id, error=str(error))
            return False
        if found == room_id:
            return False
        log.warning("alias_moved", room=room.reference, room_id=found, former=room_id)
        async with self._database.write() as connection:
            await rooms.resolved(connection, room.reference, found)
        self.others_opened.set()
        return True

    async def _look_below(self, reference: str, space_id: str) -> None:
        """Follow which rooms a space holds."""
        children = await self._homeserver.space_rooms(space_id)
        async with self._database.write() as connection:
            changed = await rooms.children_are(connection, reference, children)
        if changed:
            self.others_opened.set()
            log.info("space_changed", room_id=space_id, rooms=len(children))

    async def _place(self, template: str, room_id: str) -> None:
        """Put a room into the space it belongs to, unless somebody did or undid that before."""
        space = orjson.loads(template)["space"]
        if space is None:
            return
        try:
            if space.startswith("#"):
                space = await self._homeserver.resolve_alias(space)
            if await self._homeserver.state(space, "m.space.child", room_id) is not None:
                return
            via = {"via": [self._homeserver.user_id.split(":", 1)[1]]}
            await self._with_power(
                space,
                lambda: self._homeserver.put_state(space, "m.space.child", via, room_id),
            )
            await self._homeserver.put_state(room_id, "m.space.parent", via, space)
        except TokenError:
            raise
        except (RefusedError, WithheldError) as error:
            log.warning("room_not_placed", room_id=room_id, space=space, error=str(error))

    async def _look_closer(self, room_id: str, missing: list[str]) -> None:
        """Ask what the list of those joined cannot tell, where it matters."""
        waiting = await rooms.waiting(self._database.scanner, room_id)
        powerful = await rooms.powerful(self._database.scanner, room_id)
        try:
            for membership in waiting:
                still = await self._homeserver.member_events(room_id, membership)
                async with self._database.write() as connection:
                    await rooms.undone(connection, room_id, membership, still)
            if missing and self._policy.on_self_leave == "respect":
                left = await self._homeserver.member_events(room_id, "leave")
                themselves = [user for user, sender in left.items() if user == sender]
                async with self._database.write() as connection:
                    await rooms.respect(connection, room_id, themselves)
            if powerful:
                levels = await self._levels(room_id)
                async with self._database.write() as connection:
                    await rooms.powers_are(
                        connection, room_id, [(user, levels.of(user)) for user in powerful]
                    )
        except TokenError:
            raise
        except RefusedError as error:
            # Only somebody in the room may ask; without an answer things stay as they are.
            log.info("room_not_seen_from_inside", room_id=room_id, error=str(error))

    # -- A turn -----------------------------------------------------------

    async def turn(self, room_id: str, may_go_on: Callable[[], bool]) -> None:
        """Carry out one turn of a room's plan, one change after the other.

        `may_go_on` is asked before each; where it says no, what is left stays for a later turn.
        """
        if room_id not in self.observed:
            await self.observe(room_id)
        due = await self._due(room_id)
        users = self._users
        if not all(pair.granted for pair in due):
            users = await self.protection()
        for action in plan(due, users):
            if not may_go_on():
                return
            # The identity provider may have changed its mind since the plan was made.
            if await pairs.is_as_planned(self._database.reader, action.pair):
                await self._act(action)
        if len(due) < TURN and may_go_on():
            await self._powers(room_id)

    async def protection(self) -> Policy:
        """Return who is protected, administrators who have become that lately included."""
        if time.monotonic() > self._admins_known + ADMINS_KEEP or not self._admins_known:
            self._users = replace(self._policy.users, admins=await self._homeserver.admins())
            self._admins_known = time.monotonic()
        return self._users

    async def _due(self, room_id: str) -> list[Pair]:
        """Return a turn's work in a room; removals only as far as the brake lets them."""
        now = time.time()
        brake = self._policy.brake
        due = await pairs.due(self._database.scanner, room_id, now, TURN)
        if all(pair.granted or pair.approved for pair in due):
            return due
        # Counted and read in one transaction: what comes in between is counted next time.
        async with self._database.write() as connection:
            counts = await held_work.room_counts(connection, room_id, now - brake.window)
            if not brake.holds(Tally(*counts)):
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
                await self._with_power(
                    room_id, lambda: self._homeserver.force_join(room_id, user_id)
                )
            case Invite():
                await self._with_power(room_id, lambda: self._homeserver.invite(room_id, user_id))
            case Kick(reason=reason):
                await self._with_power(
                    room_id, lambda: self._homeserver.kick(room_id, user_id, reason), user_id
                )

    async def _with_power(
        self, room_id: str, request: Callable[[], Awaitable[None]], kicked: str | None = None
    ) -> None:
        """Send a request; where the service lacks power in the room, take it and send again.

        Not to kick somebody with as much power as the service has, who is protected by that.
        """
        try:
            await request()
        except TokenError:
            raise
        except RefusedError as error:
            if error.status != 403 or error.errcode != "M_FORBIDDEN":
                raise
            if kicked is not None and await self._is_able_to_kick(room_id):
                raise RefusedError(
                    403, "M_FORBIDDEN", f"{kicked} has as much power in the room as the service"
                ) from error
            log.info("taking_room_admin", room_id=room_id, because=str(error))
            await self._homeserver.become_room_admin(room_id)
            await request()

    async def _is_able_to_kick(self, room_id: str) -> bool:
        try:
            levels = await self._levels(room_id)
        except TokenError:
            raise
        except RefusedError:
            # The service is not in the room.
            return False
        return levels.of(self._homeserver.user_id) >= levels.needed("kick")

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

    async def _levels(self, room_id: str) -> PowerLevels:
        """Read a room's power levels, and who has all power without being listed."""
        content = await self._homeserver.state(room_id, POWER_LEVELS)
        creation = await self._homeserver.state(room_id, "m.room.create") or {}
        details = await self._homeserver.details(room_id)
        if content is not None and not creators_have_all_power(details.version):
            return PowerLevels(content)
        more = creation.get("additional_creators", []) if content is not None else []
        return PowerLevels(content or {}, frozenset([details.creator, *more]))

    async def _powers(self, room_id: str) -> None:
        """Send one event with all power levels that are to change in a room."""
        due = await pairs.power_due(self._database.scanner, room_id, time.time())
        if not due:
            return
        users = await self.protection()
        try:
            await self._with_power(room_id, lambda: self._set_powers(room_id, due, users))
        except TokenError:
            raise
        except (RefusedError, WithheldError) as error:
            for pair in due:
                await self._power_refused(pair, error)

    async def _set_powers(self, room_id: str, due: list[Pair], users: Policy) -> None:
        levels = await self._levels(room_id)
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
