"""Whether somebody may lead the service in a room: only as far as they could go alone (pure).

The service holds the highest power of a homeserver. Whoever steers it (the maker of a mapping in
the console, the moderator who puts a room into a space) is asked for the power that they would
need to do the same by hand, by the Matrix specification's rules for m.room.member and
m.room.power_levels. Asked again at each comparison, since power comes and goes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from scim_matrix.groupmap import Mapping
from scim_matrix.store.openings import MappingRow
from scim_matrix.sync.power import POWER_LEVELS, PowerLevels


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a step is followed, why, and what would change that; both are whole sentences.

    `cure` is empty where the step is followed.
    """

    followed: bool
    reason: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """What mappings do in a room beyond bringing a group's people in and taking them out.

    `power` is the highest power level that they give, None for none. With `exclusive` everybody
    else has to leave.
    """

    power: int | None = None
    exclusive: bool = False

    @classmethod
    def of(cls, *mappings: Mapping | MappingRow) -> Self:
        """Return what some mappings do together."""
        return cls(
            max((m.power for m in mappings if m.power is not None), default=None),
            any(m.exclusive for m in mappings),
        )


def by_administrator(user_id: str) -> Verdict:
    """Return the verdict on what an administrator of the homeserver does: always followed."""
    return Verdict(True, f"{user_id} administers the homeserver.")


def entitlement(levels: PowerLevels, user_id: str, joined: bool, reach: Reach) -> Verdict:
    """Tell whether a user could do by hand what mappings do in a room.

    `joined` is whether the user is in the room now. Whoever gives a power level must be able to
    send m.room.power_levels and have as much. Where everybody else has to leave, ordinary people
    must be below the user; who is above them stays all the same: ask `removal` for each.
    """
    if not joined:
        return Verdict(
            False,
            f"{user_id} is not in the room.",
            f"Let {user_id} join the room, or have somebody do this who has the power in it.",
        )
    own = levels.of(user_id)
    needs = {
        "to invite": levels.needed("invite"),
        "to remove people": levels.needed("kick"),
    }
    if reach.power is not None:
        needs["to change power levels"] = levels.needed(POWER_LEVELS)
        needs[f"to give power level {reach.power}"] = reach.power
    if reach.exclusive:
        needs["to remove ordinary members"] = levels.ordinary + 1
    lacks = {what: level for what, level in needs.items() if own < level}
    if not lacks:
        return Verdict(True, f"{user_id} has the power in the room to do this by hand.")
    listed = ", ".join(f"{level} {what}" for what, level in lacks.items())
    return Verdict(
        False,
        f"{user_id} has power level {own} in the room and needs {listed}.",
        f"Give {user_id} power level {max(lacks.values())} in the room,"
        " or have somebody do this who has it.",
    )


def removal(levels: PowerLevels, user_id: str, person: str, *, given: int | None = None) -> Verdict:
    """Tell whether a user could remove a person from a room, being entitled there otherwise.

    Matrix lets nobody be removed by somebody who has no more power. `given` is the power level
    that the service gave the person for this user's mapping: it does not shield from it.
    """
    own, theirs = levels.of(user_id), levels.of(person)
    if person == user_id or own > theirs or (given is not None and given == theirs <= own):
        return Verdict(True, f"{user_id} could remove {person} by hand.")
    return Verdict(
        False,
        f"{person} has power level {theirs} in the room, and {user_id}, who is behind this,"
        f" has {own}.",
        f"Have somebody with more power than {theirs} remove {person}, or lower their power level.",
    )


def everywhere(verdicts: Iterable[tuple[str, Verdict]]) -> Verdict:
    """Return the verdict on a step in several rooms: the first refusal, named by its room.

    `verdicts` are pairs of a room's name and the verdict there; there is at least one.
    """
    verdict = Verdict(False, "There is no room to do this in.", "Name a room.")
    for room, verdict in verdicts:
        if not verdict.followed:
            return Verdict(False, f"In {room}: {verdict.reason}", verdict.cure)
    return verdict
