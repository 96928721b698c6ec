"""Power levels: what a room's m.room.power_levels event has to say for its groups (pure)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from scim_matrix.membership import Membership
from scim_matrix.sync.plan import Policy

POWER_LEVELS = "m.room.power_levels"
# Above every level that an event can hold (canonical JSON).
_CREATORS = 2**53
# More than anybody has: an event that says anything but a number lets nobody do anything.
_NOBODY = 2 * _CREATORS


@dataclass(frozen=True, slots=True)
class PowerLevels:
    """A room's power levels (Matrix specification, m.room.power_levels).

    `creators` are those who have all power without being listed: from room version 12 on, or
    where a room has no such event.
    """

    content: dict[str, Any]
    creators: frozenset[str] = frozenset()

    def of(self, user_id: str) -> int:
        """Return the power level of a user; that of a creator is above every other."""
        if user_id in self.creators:
            return _CREATORS
        users = self.content.get("users", {})
        return _level(users[user_id]) if user_id in users else self.ordinary

    @property
    def ordinary(self) -> int:
        """The power level of those who are not listed."""
        return _level(self.content.get("users_default", 0))

    def needed(self, action: str) -> int:
        """Return the power level that `kick`, `invite` or an event type (state) asks for."""
        if action in ("kick", "invite"):
            return _level(self.content.get(action, 50 if action == "kick" else 0), _NOBODY)
        default = self.content.get("state_default", 50)
        return _level(self.content.get("events", {}).get(action, default), _NOBODY)


def out_of_reach(levels: PowerLevels, service: str, server: str, wanted: int) -> str | None:
    """Return why the service cannot give a power level in a room, None where it can.

    Where it may not change levels it takes the level of the local user who has most, 100 where that
    is a creator (Synapse, rest/admin/rooms.py, MakeRoomAdminRestServlet).
    """
    own, needed = levels.of(service), levels.needed(POWER_LEVELS)
    if own < needed:
        local = [user for user in levels.content.get("users", {}) if _is_of(user, server)]
        highest = [levels.of(user) for user in local if user not in levels.creators]
        highest += [100 for user in levels.creators if _is_of(user, server)]
        own = max([own, *highest])
    if own < needed:
        return (
            f"changing power levels takes {needed} in the room, and nobody of {server} whose power"
            " the service could take has that"
        )
    return not_below(wanted, own) if wanted >= own else None


def not_below(wanted: int, own: int) -> str:
    """Return why nobody gets a level: Matrix lets nobody take back what is not below their own."""
    return f"power level {wanted} is not below the service's own, {own}"


def _is_of(user_id: str, server: str) -> bool:
    return user_id.partition(":")[2] == server


def power_levels(
    content: dict[str, Any] | None, creation: dict[str, Any], creator: str, version: str
) -> PowerLevels:
    """Return a room's power levels from its m.room.power_levels and m.room.create events.

    From room version 12 on (MSC4289) creators are above the levels and not listed.
    """
    above = (version.isdigit() and int(version) >= 12) or version == "org.matrix.hydra.11"
    if content is not None and not above:
        return PowerLevels(content)
    return PowerLevels(
        content or {}, frozenset([creator, *creation.get("additional_creators", [])])
    )


def _level(value: Any, otherwise: int = 0) -> int:
    # Rooms before version 10 may hold levels as text.
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return otherwise


Level = int | None


@dataclass
class PowerPlan:
    """What becomes of memberships whose power differs.

    `content` is the new event, None without one. `tries` are the levels that it gives (with the
    level of their own that people had before), `reached` is what holds once it is sent: the level
    that the service has given, None once it was taken back, and the one before it.
    """

    content: dict[str, Any] | None = None
    tries: list[tuple[Membership, Level, Level]] = field(default_factory=list)
    reached: list[tuple[Membership, Level, Level]] = field(default_factory=list)
    refused: list[tuple[Membership, str]] = field(default_factory=list)


def power_plan(levels: PowerLevels, pairs: Iterable[Membership], policy: Policy) -> PowerPlan:
    """Return one event for all memberships of a room: given while granted, given back afterwards.

    Levels that somebody gave by hand are respected while they are higher, and come back when the
    group's go; nobody with as much power as the service is touched, and nobody gets as much: it
    could not be taken back.
    """
    own = levels.of(policy.service_user_id)
    users = dict(levels.content.get("users", {}))
    result = PowerPlan()
    for pair in pairs:
        current = levels.of(pair.user_id)
        entry = _level(users[pair.user_id]) if pair.user_id in users else None
        given = pair.power_given
        if pair.power_tried is not None and entry == pair.power_tried:
            # The answer was lost, and it had been done.
            given = pair.power_tried
        # Who had more before was given nothing: a hand lowered it since.
        is_ours = current == given and (pair.power_before is None or pair.power_before <= current)
        before = pair.power_before if is_ours else entry
        wanted = pair.power if pair.state == "granted" else None
        if wanted is not None and before is not None:
            wanted = max(wanted, before)
        if wanted is None or (is_ours and current > wanted):
            if not is_ours:
                result.reached.append((pair, None, None))
            elif (reason := policy.protection(pair.user_id)) is not None:
                result.refused.append((pair, reason))
            elif current >= own:
                result.refused.append((pair, "has as much power as the service"))
            else:
                _set(users, pair.user_id, before if wanted is None else wanted)
                if wanted is not None:
                    result.tries.append((pair, wanted, before))
                result.reached.append(
                    (pair, None, None) if wanted is None else (pair, pair.power, before)
                )
        elif current >= wanted:
            result.reached.append((pair, pair.power, before))
        elif wanted >= own:
            result.refused.append((pair, not_below(wanted, own)))
        else:
            _set(users, pair.user_id, wanted)
            result.tries.append((pair, wanted, before))
            result.reached.append((pair, pair.power, before))
    if users != levels.content.get("users", {}):
        result.content = {**levels.content, "users": users}
    return result


def _set(users: dict[str, Any], user_id: str, level: Level) -> None:
    if level is None:
        users.pop(user_id, None)
    else:
        users[user_id] = level
