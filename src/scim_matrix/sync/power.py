"""Power levels: what a room's m.room.power_levels event has to say for its groups (pure)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from scim_matrix.pair import Pair
from scim_matrix.sync.plan import Policy

POWER_LEVELS = "m.room.power_levels"
_CREATORS = 1000


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
        return _level(users.get(user_id, self.content.get("users_default", 0)))

    def needed(self, action: str) -> int:
        """Return the power level that `kick`, `invite` or an event type (state) asks for."""
        if action in ("kick", "invite"):
            return _level(self.content.get(action, 50 if action == "kick" else 0))
        default = self.content.get("state_default", 50)
        return _level(self.content.get("events", {}).get(action, default))


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


def _level(value: Any) -> int:
    # Rooms before version 10 may hold levels as text.
    return int(value)


@dataclass
class PowerPlan:
    """What becomes of pairs whose power differs: `content` is the new event, None without one."""

    content: dict[str, Any] | None = None
    settled: list[Pair] = field(default_factory=list)
    refused: list[tuple[Pair, str]] = field(default_factory=list)


def power_plan(levels: PowerLevels, pairs: Iterable[Pair], policy: Policy) -> PowerPlan:
    """Return one event for all pairs of a room: given while granted, given back afterwards.

    Levels that somebody gave by hand and that are higher are respected; nobody with as much
    power as the service is touched, and nobody gets as much: it could not be taken back.
    """
    own = levels.of(policy.service_user_id)
    users = dict(levels.content.get("users", {}))
    result = PowerPlan()
    for pair in pairs:
        current = levels.of(pair.user_id)
        given_by_us = pair.power_set is not None and current == pair.power_set
        if pair.power is None or (given_by_us and current > pair.power):
            if not given_by_us or policy.protects(pair.user_id):
                result.settled.append(pair)
            elif current >= own:
                result.refused.append((pair, "has as much power as the service"))
            else:
                _set(users, pair)
                result.settled.append(pair)
        elif current >= pair.power:
            result.settled.append(pair)
        elif pair.power >= own:
            result.refused.append(
                (pair, f"power level {pair.power} is not below the service's own, {own}")
            )
        else:
            _set(users, pair)
            result.settled.append(pair)
    if users != levels.content.get("users", {}):
        result.content = {**levels.content, "users": users}
    return result


def _set(users: dict[str, Any], pair: Pair) -> None:
    if pair.power is None:
        users.pop(pair.user_id, None)
    else:
        users[pair.user_id] = pair.power
