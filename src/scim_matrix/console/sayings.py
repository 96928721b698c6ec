"""What a page says of an action: what happened, and what will (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass

from scim_matrix.groupmap import Mapping
from scim_matrix.store.brake import Decision
from scim_matrix.story.words import people


def decided(decision: Decision, room: str | None, number: int, chosen: int) -> str:
    """Return what a decision about held removals means; `room` is None for accounts.

    `number` of those `chosen` were still held as they were shown.
    """
    told = _decided(decision, room, number) if number else "Nothing was done."
    if chosen == number:
        return told
    others = "1 of those you chose is" if chosen - number == 1 else f"{chosen - number} are"
    return f"{told} {others} no longer held as shown here: nothing was decided about them."


def _decided(decision: Decision, room: str | None, number: int) -> str:
    who = people(number) if room is not None else f"{number} account{'' if number == 1 else 's'}"
    verb = "is" if number == 1 else "are"
    if decision == "approved" and room is not None:
        return f"Approved: {who} {verb} removed from {room} now. The log says how each ended."
    if decision == "approved":
        return f"Approved: {who} {verb} locked or deactivated now. The log says how each ended."
    if room is not None:
        stays = "stays" if number == 1 else "stay"
        return (
            f"Dismissed: {who} {stays} in {room}. Nobody is removed for this any more; they are"
            " managed again once the identity provider grants them the room anew."
        )
    stays = "stays as it is" if number == 1 else "stay as they are"
    return f"Dismissed: {who} {stays}, until the identity provider says something new of the user."


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
    return " ".join([*sentences, *_powerless(mapping, powerless)])


def _powerless(mapping: Mapping, why: str | None) -> list[str]:
    """Return that a power level is not given, and why."""
    if why is None:
        return []
    return [f"Power level {mapping.power} cannot be given there: {why}."]


def mapped(group: str, room: str, mapping: Mapping, powerless: str | None = None) -> str:
    """Return what a mapping that was kept leads to; see `would_map`."""
    what = "is invited to" if mapping.invite else "is brought into"
    others = " Others leave it, through the brake." if mapping.exclusive else ""
    told = (
        f"Kept: whoever is active in {group} {what} {room} from now on, and leaves it with the"
        f" group.{others} Those who are in the group already are on their way."
    )
    return " ".join([told, *_powerless(mapping, powerless)])


def mapped_already(group: str, room: str) -> str:
    """Return what becomes of a mapping that is not kept, since there is one."""
    return (
        f"Nothing was changed: {group} opens {room} already, as shown below. Remove that mapping"
        " first to open the room in another way."
    )


def unmapped(group: str, room: str, removals: int | None, *, still_opens: bool) -> str:
    """Return what taking a mapping out leads to: so many removals, None where all stay.

    `still_opens` is whether another mapping of the group opens the room.
    """
    told = f"Taken out: {group} no longer opens {room}."
    if still_opens:
        told = f"Taken out. {group} still opens {room} by another mapping, shown below."
    if removals is None:
        return f"{told} Its people stay where they are, and nobody removes them for this."
    if removals == 0:
        return f"{told} Nobody has to leave for it."
    number = "1 removal follows" if removals == 1 else f"{removals} removals follow"
    return f"{told} {number}; unusually many would be held for an administrator first."


def let_in(alias: str, room: str, *, is_that: bool) -> str:
    """Return what letting an alias in leads to; `is_that`: it still led to the room shown."""
    if not is_that:
        return f"Nothing was done: {alias} does not wait to be let in to {room} any more."
    return f"{alias} stands for {room} from now on: its people are on their way there."


def linked(user: str, account: str) -> str:
    """Return what saying whose account is whose leads to."""
    return (
        f"Linked: {account} is {user}'s. Its profile is brought in line and it is brought into its"
        " rooms now. An account that they had before leaves the rooms it was given, and is locked"
        " where this service made it."
    )
