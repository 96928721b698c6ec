"""What a page says of an action: what happened, and what will (pure)."""

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
    """How many of a group are in a room and how many are not, and how many others are there."""

    outside: int
    inside: int
    others: int


def would_map(mapping: Mapping, meeting: Meeting | None) -> str:
    """Return what a mapping would lead to; the numbers are None where they are not to be known."""
    what = "invite" if mapping.invite else "add"
    if meeting is None:
        told = f"This would {what} the group's people to {mapping.room}."
        leaving = "Others"
    else:
        verb = "is" if meeting.inside == 1 else "are"
        told = (
            f"This would {what} {people(meeting.outside)} to {mapping.room};"
            f" {meeting.inside} of the group {verb} in it already."
        )
        noun = "person" if meeting.others == 1 else "people"
        leaving = f"{meeting.others} other {noun}" if meeting.others else ""
    if mapping.exclusive and leaving:
        told += f" {leaving} would have to leave, unless another group opens the room for them."
    return told


def mapped(group: str, room: str, mapping: Mapping) -> str:
    """Return what a mapping that was kept leads to."""
    what = "is invited to" if mapping.invite else "is brought into"
    others = " Others leave it, through the brake." if mapping.exclusive else ""
    return (
        f"Kept: whoever is active in {group} {what} {room} from now on, and leaves it with the"
        f" group.{others} Those who are in the group already are on their way."
    )


def unmapped(group: str, room: str, removals: int | None) -> str:
    """Return what taking a mapping out leads to: so many removals, None where all stay."""
    told = f"Taken out: {group} no longer opens {room}."
    if removals is None:
        return f"{told} Its people stay where they are, and nobody removes them for this."
    if removals == 0:
        return f"{told} Nobody has to leave for it."
    number = "1 removal follows" if removals == 1 else f"{removals} removals follow"
    return f"{told} {number}; unusually many would be held for an administrator first."


def linked(user: str, account: str) -> str:
    """Return what saying whose account is whose leads to."""
    return (
        f"Linked: {account} is {user}'s. Its profile is brought in line and it is brought into its"
        " rooms now. An account that they had before leaves the rooms it was given, and is locked"
        " where this service made it."
    )
