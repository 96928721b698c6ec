"""What a page says of an action: what happened, and what will (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass

from scim_matrix.groupmap import Mapping
from scim_matrix.store.brake import Decision, Earlier
from scim_matrix.story.words import people, when

_IN_LOG = "The log says how each ended."
DRY = "DRY_RUN is on: nothing of that is done on the homeserver before it is off."


def decided(
    decision: Decision,
    room: str | None,
    number: int,
    chosen: int,
    earlier: Sequence[Earlier] = (),
    *,
    dry: bool,
) -> str:
    """Return what a decision about held removals means; `room` is None for accounts.

    `number` of those `chosen` were still held as they were shown; about others somebody had decided
    `earlier`, by the same click sent twice or elsewhere. `dry`: as what would be (DRY_RUN).
    """
    told = [_decided(decision, room, number, decision.capitalize(), dry)] if number else []
    for one in earlier:
        by = f" by {one.by}" if one.by else ""
        head = f"{one.decision.capitalize()} already{by} ({when(one.at)})"
        told.append(_decided(one.decision, room, one.number, head, dry))
    left = chosen - number - sum(one.number for one in earlier)
    if left > 0:
        others = "1 of those you chose is" if left == 1 else f"{left} are"
        told = told or ["Nothing was done."]
        told.append(f"{others} no longer held as shown here: nothing was decided about them.")
    return " ".join(told)


def _decided(decision: Decision, room: str | None, number: int, head: str, dry: bool) -> str:
    who = people(number) if room is not None else f"{number} account{'' if number == 1 else 's'}"
    verb, end = "is" if number == 1 else "are", _IN_LOG
    if dry:
        verb, end = "would be", DRY
    if decision == "approved" and room is not None:
        return f"{head}: {who} {verb} removed from {room} now. {end}"
    if decision == "approved":
        shown = "as was shown" if number == 1 else "each as was shown"
        return f"{head}: {who} {verb} disabled now, {shown}. {end}"
    if room is not None:
        stays = "stays" if number == 1 else "stay"
        return (
            f"{head}: {who} {stays} in {room}. Nobody is removed for this any more; they are"
            " managed again once the identity provider grants them the room anew."
        )
    stays = "stays as it is" if number == 1 else "stay as they are"
    return f"{head}: {who} {stays}, until the identity provider says something new of the user."


@dataclass(frozen=True, slots=True)
class Meeting:
    """How many of a group are in a room and how many are not, and how many others have to leave."""

    room: str
    outside: int
    inside: int
    others: int


def would_map(
    mapping: Mapping, room: str, meetings: Sequence[Meeting], powerless: str | None = None
) -> str:
    """Return what a mapping would lead to, in its room and in those below it.

    `room` is what its room is called, `powerless` why its power level cannot be given. Without
    meetings nobody is counted, since the numbers are not to be known.
    """
    what = "invite" if mapping.invite else "add"
    sentences = []
    if not meetings:
        below = " and the rooms below it" if mapping.children else ""
        sentences.append(f"This would {what} the group's people to {room}{below}.")
        if mapping.exclusive:
            sentences.append("Others would have to leave, whom no other group gives the room.")
    for meeting in meetings:
        verb = "is" if meeting.inside == 1 else "are"
        sentences.append(
            f"This would {what} {people(meeting.outside)} to {meeting.room};"
            f" {meeting.inside} of the group {verb} in it already."
        )
        if mapping.exclusive and meeting.others:
            noun = "person" if meeting.others == 1 else "people"
            sentences.append(
                f"{meeting.others} other {noun} there would have to leave: nobody protects them,"
                " and no other group gives them the room."
            )
    return " ".join([*sentences, *_power(mapping, meetings, powerless)])


def _power(mapping: Mapping, meetings: Sequence[Meeting], why: str | None) -> list[str]:
    """Return who would get a power level, or that nobody does and why."""
    if mapping.power is None or why is not None:
        return _powerless(mapping, why)
    who = "Whoever of the group is there" if len(meetings) != 1 else _all_of(meetings[0])
    once = ", once they have accepted" if mapping.invite else ""
    return [f"{who} would get power level {mapping.power}{once}; who has more keeps it."]


def _all_of(meeting: Meeting) -> str:
    """Return all of a group, who would be in a room then."""
    number = meeting.outside + meeting.inside
    return "The 1 person of the group" if number == 1 else f"All {number} people of the group"


def _powerless(mapping: Mapping, why: str | None) -> list[str]:
    """Return that a power level is not given, and why."""
    if why is None:
        return []
    return [f"Power level {mapping.power} cannot be given there: {why}."]


def mapped(
    group: str, room: str, mapping: Mapping, powerless: str | None = None, *, dry: bool
) -> str:
    """Return what a mapping that was kept leads to; see `would_map` and `decided`."""
    what = "invited to" if mapping.invite else "brought into"
    others = " Others leave it, through the brake." if mapping.exclusive else ""
    told = (
        f"Kept: whoever is active in {group} is {what} {room} from now on, and leaves it with the"
        f" group.{others} Those who are in the group already are on their way."
    )
    if dry:
        told = f"Kept: whoever is active in {group} would be {what} {room}. {DRY}"
    elif mapping.power is not None and powerless is None:
        told += f" They get power level {mapping.power} there; who has more keeps it."
    return " ".join([told, *_powerless(mapping, powerless)])


def mapped_already(group: str, room: str) -> str:
    """Return what becomes of a mapping that is not kept, since there is one."""
    return (
        f"Nothing was changed: {group} opens {room} already, as shown below. Remove that mapping"
        " first to open the room in another way."
    )


def unmapped(group: str, room: str, removals: int | None, *, still_opens: bool, dry: bool) -> str:
    """Return what taking a mapping out leads to: so many removals, None where all stay.

    `still_opens` is whether another mapping of the group opens the room; `dry` as in `decided`.
    """
    told = f"Taken out: {group} no longer opens {room}."
    if still_opens:
        told = f"Taken out. {group} still opens {room} by another mapping, shown below."
    if removals is None:
        return f"{told} Its people stay where they are, and nobody removes them for this."
    if removals == 0:
        return f"{told} Nobody has to leave for it."
    number = "1 removal" if removals == 1 else f"{removals} removals"
    if dry:
        return f"{told} {number} would follow. {DRY}"
    follow = "follows" if removals == 1 else "follow"
    return f"{told} {number} {follow}; unusually many would be held for an administrator first."


def let_in(alias: str, room: str, *, is_that: bool, dry: bool) -> str:
    """Return what letting an alias in leads to; `is_that`: it still led to the room shown.

    `dry` as in `decided`.
    """
    if not is_that:
        return f"Nothing was done: {alias} does not wait to be let in to {room} any more."
    come = f"would come there. {DRY}" if dry else "are on their way there."
    return f"{alias} stands for {room} from now on: its people {come}"


def linked(user: str, account: str, *, dry: bool) -> str:
    """Return what saying whose account is whose leads to; `dry` as in `decided`."""
    if dry:
        return (
            f"Linked: {account} is {user}'s. Its profile would be brought in line and it would be"
            f" brought into its rooms now. {DRY}"
        )
    return (
        f"Linked: {account} is {user}'s. Its profile is brought in line and it is brought into its"
        " rooms now. An account that they had before leaves the rooms it was given, and is locked"
        " where this service made it."
    )


def compared(*, dry: bool) -> str:
    """Return what having everything compared leads to; `dry` as in `decided`."""
    put_right = f"would be put right. {DRY}" if dry else "is put right."
    return (
        f"Every mapped room and account is compared with the homeserver now, and whatever differs"
        f" {put_right} “Rooms last compared” says when that is done for rooms."
    )
