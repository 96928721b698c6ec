"""Which steps from the map to a room are followed (pure; SECURITY.md, Who may lead the service).

Every chain of reasons ends at the configuration, at an administrator of the homeserver, or at
somebody who could do the same in that very room by themselves. Each decision is a sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scim_matrix.sync.authority import Verdict
from scim_matrix.sync.plan import Policy


def appeared(
    alias: str,
    room_id: str,
    creator: str | None,
    canonical: Mapping[str, Any],
    users: Policy,
) -> Verdict:
    """Decide about a room whose alias appeared after it was mapped, or was there to be made.

    `creator` made the room, None where the homeserver does not know; `canonical` is the content
    of its m.room.canonical_alias. Any member of a room may give it an alias, of one that the
    service made too, so the room has to say itself that it is its own.
    """
    if creator is not None and users.trusts(creator) and alias in _aliases(canonical):
        return Verdict(True, f"{creator}, who made {room_id}, administers the homeserver.")
    return Verdict(
        False,
        f"{alias} did not exist when it was mapped and leads to {room_id} now, made by"
        f" {creator or 'somebody whom this homeserver does not know'}.",
        f"If that is the room that is meant: scim-matrix approve '{alias}'",
    )


def alias_moved(alias: str, pinned: str, found: str, canonical: Mapping[str, Any]) -> Verdict:
    """Decide about an alias that leads to another room than before.

    `canonical` is the content of that room's m.room.canonical_alias.
    """
    if alias in _aliases(canonical):
        return Verdict(True, f"{found} itself says that {alias} is its alias.")
    return Verdict(
        False,
        f"{alias} leads to {found}, which does not say that it is its alias; {pinned} is kept.",
        f"If {found} is meant, have somebody with power there add {alias} to its addresses,"
        f" or name {found} in the map.",
    )


def _aliases(canonical: Mapping[str, Any]) -> list[Any]:
    """Return the aliases that a room says are its own (m.room.canonical_alias)."""
    others = canonical.get("alt_aliases")
    return [canonical.get("alias"), *(others if isinstance(others, list) else [])]


def names(canonical: Mapping[str, Any], alias: str) -> bool:
    """Tell whether a room says itself that an alias is its own."""
    return alias in _aliases(canonical)


def upgraded(room_id: str, replacement: str, creation: Mapping[str, Any] | None) -> Verdict:
    """Decide about a room that was upgraded.

    `creation` is the content of the new room's m.room.create, None where it is not known here.
    """
    predecessor = (creation or {}).get("predecessor")
    if isinstance(predecessor, dict) and predecessor.get("room_id") == room_id:
        return Verdict(True, f"{replacement} names {room_id} as its predecessor.")
    why = (
        "which this homeserver does not know"
        if creation is None
        else "which does not name it as its predecessor"
    )
    return Verdict(
        False,
        f"{room_id} says that {replacement} takes its place, {why}; {room_id} is kept.",
        f"Name {replacement} in the map if it is meant, or remove the tombstone's reason.",
    )


@dataclass(frozen=True, slots=True)
class Edge:
    """That a space holds a room, as `sender` said, with what can be known of the step.

    `own` is what the sender may do in the room; `parents` are the verdicts on those who said
    there that the space is its parent (m.space.parent).
    """

    space_id: str
    room_id: str
    sender: str
    own: Verdict
    parents: tuple[Verdict, ...] = ()


def child(edge: Edge, users: Policy) -> Verdict:
    """Decide about a room in a mapped space."""
    if users.trusts(edge.sender):
        return Verdict(True, f"{edge.sender} put it into the space and administers the homeserver.")
    for verdict in (edge.own, *edge.parents):
        if verdict.followed:
            return verdict
    return Verdict(
        False,
        f"{edge.sender} put {edge.room_id} into the space {edge.space_id}, and could not do there"
        f" by themselves what the map would: {edge.own.reason}",
        f"{edge.own.cure} Or have an administrator of the homeserver put it into the space.",
    )
