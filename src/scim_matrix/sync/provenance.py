"""Which steps from the map to a room are followed (pure; SECURITY.md, Who may lead the service).

Every chain of reasons ends at the configuration, at an administrator of the homeserver, or at
somebody who could do the same in that very room by themselves. Each decision is a sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scim_matrix.sync.authority import Verdict
from scim_matrix.sync.plan import Policy


@dataclass(frozen=True, slots=True)
class Claim:
    """What a room says of its aliases (m.room.canonical_alias), who said so, and their say there.

    `own` is what `sender` may do in the room now: what somebody said who had the power once, or
    only that to send the event, is not the room's own word.
    """

    content: Mapping[str, Any]
    sender: str
    own: Verdict

    def names(self, alias: str) -> bool:
        """Tell whether an alias is among them."""
        others = self.content.get("alt_aliases")
        listed = others if isinstance(others, list) else []
        return alias in [self.content.get("alias"), *listed]

    def vouches(self, alias: str) -> bool:
        """Tell whether somebody with the say in the room says that an alias is its own."""
        return self.names(alias) and self.own.followed


def appeared(
    alias: str,
    room_id: str,
    creator: str | None,
    claim: Claim | None,
    users: Policy,
) -> Verdict:
    """Decide about a room whose alias appeared after it was mapped, or was there to be made.

    `creator` made the room, None where the homeserver does not know. Any member of a room may give
    it an alias, of one that the service made too, so the room has to say itself that it is its own.
    """
    if creator is not None and users.trusts(creator) and claim is not None and claim.vouches(alias):
        return Verdict(True, f"{creator}, who made {room_id}, administers the homeserver.")
    return Verdict(
        False,
        f"{alias} did not exist when it was mapped and leads to {room_id} now, made by"
        f" {creator or 'somebody whom this homeserver does not know'}.",
        f"If that is the room that is meant: scim-matrix approve '{alias}'",
    )


def made_anew(
    alias: str,
    deleted: str,
    found: str,
    creator: str | None,
    claim: Claim | None,
    users: Policy,
) -> Verdict:
    """Decide about an alias that leads to another room since its own was deleted.

    Whoever moves the alias of a room that is there has a say in that. The alias of one that was
    deleted is anybody's to take, so this is decided as `appeared` is.
    """
    known = appeared(alias, found, creator, claim, users)
    if known.followed:
        return Verdict(True, f"{deleted} was deleted from the homeserver. {known.reason}")
    return Verdict(
        False,
        f"{deleted} was deleted from the homeserver, and {alias} leads to {found} now, made by"
        f" {creator or 'somebody whom this homeserver does not know'}.",
        known.cure,
    )


def alias_moved(alias: str, pinned: str, found: str, claim: Claim | None) -> Verdict:
    """Decide about an alias that leads to another room than before, by what that room says."""
    named = f"or name {found} in the map."
    if claim is None or not claim.names(alias):
        return Verdict(
            False,
            f"{alias} leads to {found}, which does not say that it is its alias; {pinned} is kept.",
            f"If {found} is meant, have somebody with power there add {alias} to its addresses,"
            f" {named}",
        )
    if claim.own.followed:
        return Verdict(True, f"{found} itself says that {alias} is its alias.")
    return Verdict(
        False,
        f"{alias} leads to {found}, where {claim.sender} said that it is its alias and could not"
        f" do by themselves what the map would: {claim.own.reason} {pinned} is kept.",
        f"If {found} is meant, have somebody with power there add {alias} to its addresses anew,"
        f" {named}",
    )


def predecessor(creation: Mapping[str, Any]) -> str | None:
    """Return the room that one says it took the place of; `creation`: of its m.room.create."""
    former = creation.get("predecessor")
    named = former.get("room_id") if isinstance(former, dict) else None
    return named if isinstance(named, str) else None


def upgraded(room_id: str, replacement: str, creation: Mapping[str, Any] | None) -> Verdict:
    """Decide about a room that was upgraded.

    `creation` is the content of the new room's m.room.create, None where it is not known here.
    """
    if predecessor(creation or {}) == room_id:
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


def upgraded_beyond(room_id: str, replacement: str, own: Verdict, *others: Verdict) -> Verdict:
    """Decide about an upgrade where nobody whose power the room rests on has it in the new one."""
    return Verdict(
        False,
        f"{room_id} says that {replacement} takes its place, where those on whose power it is"
        f" opened could not do by themselves what the map would: {own.reason} {room_id} is kept.",
        f"{own.cure} Or name {replacement} in the map.",
    )


@dataclass(frozen=True, slots=True)
class Edge:
    """That a space holds a room, as `sender` said, with what can be known of the step.

    `own` is what the sender may do in the room; `parents` are those who said there that the space
    is its parent (m.space.parent), with what they may do in it.
    """

    space_id: str
    room_id: str
    sender: str
    own: Verdict
    parents: tuple[tuple[str, Verdict], ...] = ()


# Whose own power the way to a room rests on, all of them; nobody's where only administrators of
# the homeserver, and the configuration, are behind it.
Chain = frozenset[str]


@dataclass(frozen=True, slots=True)
class Step:
    """Whether a room in a space is followed, and whom that rests on.

    Any one of `leaders` is enough; None among them stands for an administrator.
    """

    verdict: Verdict
    leaders: tuple[str | None, ...] = ()

    def continued(self, chain: Chain) -> list[Chain]:
        """Return the chains with which the way goes on from here; none where it is not followed."""
        if None in self.leaders or chain & set(self.leaders):
            return [chain]
        return [chain | {leader} for leader in self.leaders if leader is not None]


def child(edge: Edge, users: Policy) -> Step:
    """Decide about a room in a mapped space."""
    if users.trusts(edge.sender):
        reason = f"{edge.sender} put it into the space and administers the homeserver."
        return Step(Verdict(True, reason), (None,))
    vouching = [(who, v) for who, v in ((edge.sender, edge.own), *edge.parents) if v.followed]
    if vouching:
        leaders = tuple(None if users.trusts(who) else who for who, _ in vouching)
        return Step(vouching[0][1], leaders)
    return Step(
        Verdict(
            False,
            f"{edge.sender} put {edge.room_id} into the space {edge.space_id}, and could not do"
            f" there by themselves what the map would: {edge.own.reason}",
            f"{edge.own.cure} Or have an administrator of the homeserver put it into the space.",
        )
    )


def beyond(leader: str, space_id: str, room_id: str, own: Verdict) -> Verdict:
    """Return the verdict on a room that somebody leads to without having the power in it.

    Whoever brought a space into the map leads no further in it than they could go alone.
    """
    return Verdict(
        False,
        f"{room_id} is in the space {space_id}, which is followed because of {leader}, who could"
        f" not do in the room by themselves what the map would: {own.reason}",
        f"{own.cure} Or have an administrator of the homeserver put the space into the one above.",
    )
