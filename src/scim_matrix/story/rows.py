"""What a story is made of, as the store tells it, and the story itself (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]
Rows = Sequence[Row]


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence or two, what to do about it, and the room that it is about, if any.

    `is_held` tells that it is about what the brake holds for a human; `group` is the ID and the
    name of the group with whose name it begins.
    """

    text: str
    cure: str | None = None
    room_id: str | None = None
    is_held: bool = False
    group: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a story under a heading."""

    heading: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Story:
    """The story of somebody or something, in parts that all say something."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Former:
    """A name that a group had until a time (seconds since the epoch).

    `now` is what the group is called now, None where the identity provider deleted it; `is_taken`
    whether another is called so by now. `request` ended the name, and what it led to is done later.
    """

    group_id: str
    name: str
    until: float
    now: str | None
    is_taken: bool = False
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """A person, from store/story.py; see store/queries/story.sql for the columns.

    `account` is None for somebody who is only in rooms (`by_hand`) or on record. `edges` lead from
    the user through groups to groups; `keys` say which mappings these fall under; `given` is what
    mappings give, room by room; `places` are memberships; `seconds` are accounts that they signed
    in to by SSO besides their own. `names` are what rooms are called; `closed` are the lines of the
    map that let nobody else be in the rooms of `places`; `former` what groups were called.
    """

    user_id: str | None
    account: Row | None
    edges: Rows
    keys: Rows
    given: Rows
    places: Rows
    by_hand: Sequence[str]
    seconds: Rows
    lately: Rows
    names: Mapping[str, str]
    closed: Rows = ()
    former: Sequence[Former] = ()


@dataclass(frozen=True, slots=True)
class Room:
    """A room: the row of it, the references and mappings that lead there, who is in it by what.

    `closed` are the lines of the map that let nobody else be there, `held` those whose removal
    waits for a human.
    """

    room_id: str
    room: Row | None
    references: Rows
    openers: Rows
    people: Rows
    by_hand: Sequence[str]
    lately: Rows
    names: Mapping[str, str]
    closed: Rows = ()
    former: Sequence[Former] = ()
    held: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A group: its row, the groups in it and around it, what opens rooms for it, who waits.

    Of one that the identity provider deleted the row has nothing but its ID and its last name.
    """

    group: Row
    inside: Rows
    edges: Rows
    openers: Rows
    leaving: Rows
    lately: Rows
    names: Mapping[str, str] = field(default_factory=dict)
    former: Sequence[Former] = ()
