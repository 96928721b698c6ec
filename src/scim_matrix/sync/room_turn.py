"""Carry out a turn of a room's plan: removals, joins, invitations, then power levels."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

import structlog

from scim_matrix.matrix.errors import (
    BannedError,
    NoTokenError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    WithheldError,
)
from scim_matrix.matrix.server import Homeserver
from scim_matrix.membership import Membership, Observed
from scim_matrix.store import brake, memberships, record, rooms, story
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.errors import DatabaseError
from scim_matrix.store.record import Entry
from scim_matrix.story.words import why_closed
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.delegation import Leaders, leaders, leading
from scim_matrix.sync.guard import Tally
from scim_matrix.sync.plan import Action, Invite, Join, Kick, Policy, Spare, plan
from scim_matrix.sync.room_levels import RoomLevels
from scim_matrix.sync.room_rights import OvertakenError, RoomPolicy, RoomRights

log = structlog.get_logger(__name__)

# Short turns let a small change in another room overtake a large import.
TURN = 10
# An action that changed nothing has no event: for so long (seconds) one is waited for.
ACTED_SECONDS = 30.0
_MAY_BE_GRANTED = "it is not known yet whose accounts those are who are granted the room"


class RoomTurn:
    """Carries out what is left to do in rooms, behind the brake, and records how that ended.

    `take` raises PostponedError and TokenError, which say something of the homeserver as a
    whole; what is wrong with one person is recorded.
    """

    def __init__(
        self,
        database: Database,
        homeserver: Homeserver,
        rights: RoomRights,
        policy: RoomPolicy,
        took: Callable[[str, float], None],
        doubt: Callable[[Iterable[str]], None],
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._rights = rights
        self._policy = policy
        # Told of each action and how long it took (seconds).
        self._took = took
        # Told of rooms that are to be compared.
        self._doubt = doubt
        # What the service did lately and sync has not told yet: membership and when.
        self._acted: dict[tuple[str, str], tuple[Observed, float]] = {}
        # Whose removals are under way: room ID and user ID.
        self._removing: set[tuple[str, str]] = set()
        self.levels = RoomLevels(database, homeserver, rights)

    def tells_of_removal(self, room_id: str, user_id: str) -> bool:
        """Tell whether the answer to a removal is here and sync has not told of it, or is to come.

        By that it is recorded.
        """
        return (room_id, user_id) in self._removing or self.acted(room_id, user_id) == "leave"

    def acted(self, room_id: str, user_id: str) -> Observed | None:
        """Return what the service did of which sync has not told yet, None for nothing."""
        observed, _ = self._acted.get((room_id, user_id), (None, 0.0))
        return observed

    @contextlib.contextmanager
    def sync_told(self, seen: Iterable[tuple[str, str | None, Observed | None]]) -> Iterator[None]:
        """Wait no more for what sync told: (room ID, user ID, membership); old waits end too.

        What could not be taken in is told again, and waited for until then.
        """
        now = self._database.clock.now()
        told, before = set(seen), dict(self._acted)
        for (room_id, user_id), (observed, at) in before.items():
            if (room_id, user_id, observed) in told or now > at + ACTED_SECONDS:
                del self._acted[room_id, user_id]
        try:
            yield
        except BaseException:
            self._acted = before | self._acted
            raise

    async def take(self, room_id: str, may_go_on: Callable[[float], bool]) -> None:
        """Carry out one turn of a room's plan, one change after the other.

        `may_go_on` is asked before each with how long (seconds) they have taken so far; where it
        says no, what is left stays for a later turn.
        """
        # Whoever only joins needs nobody's protection, which would be a request every few seconds.
        users, behind = self._policy.users, None
        if await memberships.any_leaves(self._database.reader, room_id, self._database.clock.now()):
            users = await self._rights.protection()
            behind = await leaders(self._database.reader, self._rights, room_id, users)
        actions, is_full = await self._hand_out(room_id, users, behind)
        clock = self._database.clock
        begun = clock.now()
        left = list(actions)
        try:
            for action in actions:
                if not may_go_on(clock.now() - begun):
                    return
                # The identity provider may have changed its mind since the plan was made.
                if not await memberships.is_as_planned(self._database.reader, action.pair):
                    continue
                left.remove(action)
                pair = action.pair.room_id, action.pair.user_id
                try:
                    if isinstance(action, Kick):
                        self._removing.add(pair)
                    await self._act(action)
                except OvertakenError:
                    left.append(action)
                except (RateLimitedError, TokenError, NoTokenError):
                    left.append(action)
                    raise
                except DatabaseError:
                    # What the answer was could not be written, and sync may have told before that.
                    self._doubt([room_id])
                    raise
                finally:
                    self._removing.discard(pair)
        finally:
            if left:
                async with self._database.write() as connection:
                    await memberships.not_asked(connection, (action.pair for action in left))
        if not is_full and may_go_on(clock.now() - begun):
            await self.levels.bring_in_line(room_id)

    async def _hand_out(
        self, room_id: str, users: Policy, behind: Leaders | None
    ) -> tuple[list[Action], bool]:
        """Return a turn's actions, removals only as far as the brake lets them.

        Who is `behind` removals is None where nobody was to leave when that was asked: whoever is
        by now leaves in the next turn.

        Counted and handed out in one transaction, which also records that what is handed out is
        under way: until its answer arrives, the outcome is not known.
        """
        held = 0
        async with self._database.write() as connection:
            if behind is not None:
                held = await self._hold_back(connection, room_id, users, behind)
            due = await memberships.due(connection, room_id, connection.at, TURN)
            actions = await _within(connection, behind, plan(due, users))
            if not self._homeserver.dry_run:
                under_way = [a.pair for a in actions if not isinstance(a, Spare)]
                await memberships.begin(connection, under_way)
        if held:
            log.error(
                "removals_held",
                room_id=room_id,
                people=held,
                cure=f"scim-matrix approve '{room_id}', or to keep them: scim-matrix dismiss"
                f" '{room_id}'",
            )
        return actions, len(due) >= TURN

    async def _hold_back(
        self, connection: Connection, room_id: str, users: Policy, behind: Leaders
    ) -> int:
        """Hold removals that the brake does not let through; return how many."""
        now, held = connection.at, 0
        if not self._homeserver.dry_run:
            held = await brake.hold_room(connection, room_id, "restored")
        next_try = now + TRANSIENT.longest
        await memberships.wait_for_identities(connection, room_id, _MAY_BE_GRANTED, next_try)
        due = await memberships.due(connection, room_id, now, TURN)
        if any(pair.was_spared and pair.todo == "leave" for pair in due):
            # All whom nothing protects any more are counted together.
            spared = plan(await memberships.spared(connection, room_id), users)
            freed = [
                a.pair for a in await _within(connection, behind, spared) if isinstance(a, Kick)
            ]
            await memberships.end_sparing(connection, freed)
            due = await memberships.due(connection, room_id, now, TURN)
        if not self._homeserver.dry_run and any(
            pair.todo == "leave" and pair.approved_by is None for pair in due
        ):
            since = now - self._policy.brake.window
            counts = await brake.room_tally(connection, room_id, since)
            if self._policy.brake.holds(Tally(*counts)):
                held += await brake.hold_room(connection, room_id, "limit")
        return held

    async def _act(self, action: Action) -> None:
        """Carry out one action and record how that ended.

        Raises OvertakenError where it was not asked for after all.
        """
        pair = action.pair
        if isinstance(action, Spare):
            await self._spare(pair, action.reason)
            return
        begun = time.perf_counter()
        try:
            observed = await self._carry_out(action)
        except UnavailableError as error:
            # Perhaps it is about this one person: others go first next time.
            await self._failed(pair, "unavailable", str(error), TRANSIENT.delay(pair.attempts))
            raise
        except (RefusedError, WithheldError) as error:
            await self._refused(action, error)
            return
        self._took(type(action).__name__, time.perf_counter() - begun)
        self._acted[pair.room_id, pair.user_id] = (observed, self._database.clock.now())
        async with self._database.write() as connection:
            heard = await memberships.reach(connection, pair, observed)
            why = await self._why(connection, pair) if isinstance(action, Kick) else None
            await record.add(connection, _entry(action, "done", why))
        self._compare(pair, observed, heard)
        log.info(
            _EVENTS[type(action)],
            room_id=pair.room_id,
            user_id=pair.user_id,
            group=pair.group_name,
            request=pair.request,
        )

    def _compare(self, pair: Membership, reached: Observed, heard: Observed | None) -> None:
        """Take note of what was heard while an action was under way."""
        if heard is not None:
            # Its own event has come, or another one before or after it: whatever comes is news.
            self._acted.pop((pair.room_id, pair.user_id), None)
        if heard not in (None, reached):
            self._doubt([pair.room_id])

    async def _why(self, connection: Connection, pair: Membership) -> str | None:
        """Return why somebody leaves whom no group had put there; of others the group says it."""
        if pair.state != "excluded":
            return None
        names = {pair.room_id: await rooms.name(connection, pair.room_id)}
        closed = await story.closed(connection, [pair.room_id], self._policy.sources)
        return why_closed(closed, names)

    async def _carry_out(self, action: Join | Invite | Kick) -> Observed:
        """Ask the homeserver for one action; return the membership that it led to or found."""
        room_id, user_id = action.pair.room_id, action.pair.user_id
        rooms = self._homeserver.rooms

        async def is_wanted() -> bool:
            return await memberships.is_as_planned(self._database.reader, action.pair)

        match action:
            case Join():
                await self._rights.with_power(
                    room_id, lambda: rooms.force_join(room_id, user_id), is_wanted=is_wanted
                )
                return "join"
            case Invite():
                invited = await self._rights.with_power(
                    room_id, lambda: rooms.invite(room_id, user_id), is_wanted=is_wanted
                )
                return "invite" if invited else "join"
            case Kick(reason=reason):
                await self._rights.with_power(
                    room_id, lambda: rooms.kick(room_id, user_id, reason), user_id, is_wanted
                )
                return "leave"

    async def _spare(self, pair: Membership, reason: str) -> None:
        """Leave somebody in a room until what protects them has gone; record it once."""
        if not pair.was_spared:
            log.warning("removal_spared", room_id=pair.room_id, user_id=pair.user_id, reason=reason)
        async with self._database.write() as connection:
            next_try = connection.at + PERMANENT.delay(pair.attempts)
            await memberships.fail(connection, pair, "spared", reason, next_try)
            if not pair.was_spared:
                await record.add(connection, _entry(Spare(pair, reason), "spared", reason))

    async def _refused(
        self, action: Join | Invite | Kick, error: RefusedError | WithheldError
    ) -> None:
        pair = action.pair
        withheld = isinstance(error, WithheldError)
        banned = pair.todo != "leave" and isinstance(error, BannedError)
        log.warning(
            "action_withheld" if withheld else "action_refused",
            room_id=pair.room_id,
            user_id=pair.user_id,
            todo=pair.todo,
            banned=banned,
            error=str(error),
            request=pair.request,
        )
        async with self._database.write() as connection:
            outcome: record.Outcome = "dry_run" if withheld else "refused"
            await record.add(connection, _entry(action, outcome, str(error)))
            if banned:
                heard = await memberships.reach(connection, pair, "ban")
        if banned:
            self._compare(pair, "ban", heard)
        else:
            problem: memberships.Problem = "withheld" if withheld else "refused"
            await self._failed(pair, problem, str(error), PERMANENT.delay(pair.attempts))

    async def _failed(
        self, pair: Membership, problem: memberships.Problem, error: str, delay: float
    ) -> None:
        async with self._database.write() as connection:
            when = connection.at + delay
            await memberships.fail(connection, pair, problem, error, when)


_EVENTS = {Join: "joined", Invite: "invited", Kick: "kicked"}
_KINDS: dict[type[Action], record.Kind] = {
    Join: "join",
    Invite: "invite",
    Kick: "kick",
    Spare: "kick",
}


async def _within(
    connection: Connection, behind: Leaders | None, actions: Iterable[Action]
) -> list[Action]:
    """Spare whom nobody behind a removal could remove by themselves.

    Removals of which it was not asked who is behind them wait for the next turn.
    """
    decided: list[Action] = []
    for action in actions:
        if isinstance(action, Join | Invite):
            decided.append(action)
        elif behind is None:
            continue
        elif (
            isinstance(action, Spare) or (chains := await leading(connection, action.pair)) is None
        ):
            decided.append(action)
        elif behind.asked:
            reason = behind.refusal(action.pair, chains)
            decided.append(action if reason is None else Spare(action.pair, reason))
    return decided


def _entry(action: Action, outcome: record.Outcome, detail: str | None = None) -> Entry:
    pair = action.pair
    return Entry(
        _KINDS[type(action)],
        outcome,
        pair.user_id,
        pair.room_id,
        None if pair.state == "excluded" else pair.group_name,
        pair.request,
        pair.approved_by is not None,
        detail,
        pair.approved_by,
    )
