"""Whether somebody may lead the service in a room: only as far as they could go alone (pure).

The service holds the highest power of a homeserver. Whoever steers it (the maker of a mapping in
the console, the moderator who puts a room into a space) is asked for the power that they would
need to do the same by hand, by the Matrix specification's rules for m.room.member and
m.room.power_levels. Asked again at each comparison, since power comes and goes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from scim_matrix.sync.power import POWER_LEVELS, PowerLevels


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a step is followed, why, and what would change that; both are whole sentences.

    `cure` is empty where the step is followed.
    """

    followed: bool
    reason: str
    cure: str = ""


def by_administrator(user_id: str) -> Verdict:
    """Return the verdict on what an administrator of the homeserver does: always followed."""
    return Verdict(True, f"{user_id} administers the homeserver.")


def entitlement(
    levels: PowerLevels, user_id: str, joined: bool, *, power: int | None, exclusive: bool
) -> Verdict:
    """Tell whether a user could bring a group's people in and take them out again by hand.

    `joined` is whether the user is in the room now. `power` is the power level that the people
    are to have, None for none: whoever gives it must be able to send m.room.power_levels and
    have as much. `exclusive` means that everybody else has to leave, so that ordinary people
    must be below the user. Who is above them stays all the same: ask `removal` for each.
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
    if power is not None:
        needs["to change power levels"] = levels.needed(POWER_LEVELS)
        needs[f"to give power level {power}"] = power
    if exclusive:
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
