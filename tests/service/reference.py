"""A small reference model of the design's rules: who is to be where, and who may be touched.

It hears what the identity provider, the map and people say, as the service does, and is told
after each settling what the service did. What it takes from the service's own database is where
the service stands (which room a reference is pinned to, what is held); each such step is checked
against the homeserver and never simply believed.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scim_matrix.groupmap import Mapping
from scim_matrix.matrix.accounts import MARK_PROVIDER
from scim_matrix.store.sqlite import DATABASE_NAME
from tests.homeserver.deployment import IDP, Configuration
from tests.homeserver.rooms import CANONICAL, CHILD, CREATE, LEVELS, PARENT, TOMBSTONE, Room
from tests.homeserver.world import World

Cause = Literal["identity provider", "map"]
# How a room and a person stand, as far as the model is sure.
State = Literal["granted", "revoked", "forgotten", "dismissed", "pruned", "excluded"]
Pair = tuple[str, str]
Key = tuple[str, str, str, str]


class Broken(AssertionError):
    """A promise that was not kept."""


def promise(kept: bool, said: str) -> None:
    """Fail where a promise was not kept."""
    if not kept:
        raise Broken(said)


@dataclass
class User:
    """A user as the identity provider has told it."""

    scim_id: str
    name: str
    subject: str | None
    active: bool

    @property
    def person(self) -> str:
        """Who it is: an SSO identity, or else the user itself."""
        return self.subject or f"user {self.scim_id}"


@dataclass
class Group:
    """A group as the identity provider has told it."""

    scim_id: str
    external_id: str
    members: set[str]


@dataclass
class Standing:
    """How a person stands in a room, and since which step. `stale`: only a backup says so."""

    state: State
    since: int
    stale: bool = False


@dataclass(frozen=True)
class Line:
    """A line of the map, or a mapping that somebody made in the console."""

    mapping: Mapping
    made_by: str | None = None

    @property
    def key(self) -> Key:
        """What tells it from others."""
        origin = "configuration" if self.made_by is None else "console"
        return origin, self.mapping.kind, self.mapping.pattern, self.mapping.room


class Known:
    """What stands in the service's database."""

    def __init__(self, folder: Path) -> None:
        connection = sqlite3.connect(f"file:{folder / DATABASE_NAME}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            self.accounts = _rows(connection, "account")
            self.mappings = _rows(connection, "mapping")
            self.openings = _rows(connection, "opening")
            self.references = {r["reference"]: r for r in _rows(connection, "room_reference")}
            self.rooms = {r["room_id"]: r for r in _rows(connection, "room")}
            self.memberships = _rows(connection, "membership")
            grants = _rows(connection, "mapping_grant")
        finally:
            connection.close()
        self.by_user_id = {a["user_id"]: a for a in self.accounts if a["user_id"]}
        self.by_scim_id = {a["scim_id"]: a for a in self.accounts if a["scim_id"]}
        self.ids = {
            (m["origin"], m["kind"], m["pattern"], m["reference"]): m for m in self.mappings
        }
        self.grants = {(grant["mapping_id"], grant["account_id"]) for grant in grants}
        users = {a["id"]: a["user_id"] for a in self.accounts}
        self.pairs = {(m["room_id"], users[m["account_id"]]): m for m in self.memberships}

    def opened(self, line: Line) -> set[str]:
        """Return the rooms that a line opens now."""
        row = self.ids.get(line.key)
        return set() if row is None or row["standing"] != "in_force" else self.means(line.key)

    def means(self, key: Key) -> set[str]:
        """Return the rooms that a line opens, or would, or did."""
        number = self.ids[key]["id"]
        return {
            o["room_id"]
            for o in self.openings
            if o["mapping_id"] == number and o["standing"] == "followed"
        }

    def is_dropped(self, key: Key) -> bool:
        """Tell whether a line is out of the map, and what it gave is known still."""
        return bool(self.ids.get(key, {}).get("standing") == "dropped")


def _rows(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


@dataclass
class Reference:
    """The model. `step` counts moves, so that later can be told from earlier."""

    world: World
    configuration: Configuration
    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    lines: dict[Key, Line] = field(default_factory=dict)
    # Lines that are out of the map, and still known.
    dropped: dict[Key, Line] = field(default_factory=dict)
    pairs: dict[Pair, Standing] = field(default_factory=dict)
    # What lines give: granted, or since when the identity provider has revoked it.
    given: dict[tuple[Key, str], int | None] = field(default_factory=dict)
    # Since when they give it by the identity provider's word, 0 where the map alone said so.
    told: dict[tuple[Key, str], int] = field(default_factory=dict)
    # The accounts that a person may have, and who a deleted user was, with how much time must have
    # passed, whatever clocks say, before anything but a lock is done to them.
    may_have: dict[str, set[str]] = field(default_factory=dict)
    former: dict[str, float] = field(default_factory=dict)
    # What hands did to accounts (locked, deactivated), and what the service did.
    by_hand: dict[str, set[str]] = field(default_factory=dict)
    by_service: dict[str, set[str]] = field(default_factory=dict)
    # Levels that people had of their own where the service gave one.
    own_level: dict[Pair, int | None] = field(default_factory=dict)
    # Who left a room by their own will, where that is respected.
    left: set[Pair] = field(default_factory=set)
    # Who left a room since the service last saw it.
    went: set[Pair] = field(default_factory=set)
    # Unapproved removals and disablings, by room, with when.
    removed: dict[str | None, list[tuple[float, str]]] = field(default_factory=dict)
    approved: set[tuple[str | None, str]] = field(default_factory=set)
    dismissed_accounts: set[str] = field(default_factory=set)
    # Rooms that some chain of reasons explains, by reference and for spaces by line.
    explained: dict[str, set[str]] = field(default_factory=dict)
    below: dict[Key, set[str]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    pins: dict[str, str] = field(default_factory=dict)
    successors: dict[str, str] = field(default_factory=dict)
    children_read: set[Key] = field(default_factory=set)
    stale_accounts: set[str] = field(default_factory=set)
    # What nobody can be sure of any more: accounts, and levels, that hands and service changed.
    unsure: set[str] = field(default_factory=set)
    level_unsure: set[Pair] = field(default_factory=set)
    left_surely: set[Pair] = field(default_factory=set)
    # Who every user was that there ever was, by SCIM id.
    persons: dict[str, str] = field(default_factory=dict)
    # Whose accounts were when that was last looked at.
    holders: dict[str, str] = field(default_factory=dict)
    # Accounts that a human replaced by others, and whether the service had made them.
    replaced: dict[str, bool] = field(default_factory=dict)
    step: int = 0

    # -- What is given ------------------------------------------------------

    def members(self, line: Line) -> set[str]:
        """Return the persons whom a line gives its rooms: active ones in the group."""
        if line.mapping.kind == "everyone":
            return {user.person for user in self.users.values() if user.active}
        found: set[str] = set()
        left = [g.scim_id for g in self.groups.values() if g.external_id == line.mapping.pattern]
        seen: set[str] = set()
        while left:
            if (group := left.pop()) in seen or group not in self.groups:
                continue
            seen.add(group)
            for member in self.groups[group].members:
                if member in self.users and self.users[member].active:
                    found.add(self.users[member].person)
                left.append(member)
        return found

    def in_force(self, known: Known) -> list[Line]:
        """Return the lines that count."""
        return [
            line
            for line in self.lines.values()
            if known.ids.get(line.key, {}).get("standing") == "in_force"
        ]

    def granted(self, known: Known) -> dict[Pair, list[Line]]:
        """Return who is granted which room, by which lines."""
        found: dict[Pair, list[Line]] = {}
        for line in self.in_force(known):
            persons = self.members(line)
            for room_id in known.opened(line):
                for person in persons:
                    found.setdefault((room_id, person), []).append(line)
        return found

    def settle(self, cause: Cause, known: Known) -> None:
        """Take in what somebody said: the identity provider revokes, the map forgets."""
        self.step += 1
        self._end_dropped(known)
        given = {
            (line.key, person) for line in self.lines.values() for person in self.members(line)
        }
        # Out of the map a line gives nobody anything new.
        given |= {
            (line.key, person) for line in self.dropped.values() for person in self.members(line)
        } & self.given.keys()
        for pair in given:
            if self.given.get(pair, 0) is not None:
                self.told[pair] = self.step if cause == "identity provider" else 0
            self.given[pair] = None
        for pair, since in list(self.given.items()):
            if pair[0] not in self.lines and pair[0] not in self.dropped:
                del self.given[pair]
            elif since is None and pair not in given:
                self.given[pair] = self.step if cause == "identity provider" else 0
        granted = self.granted(known)
        for where, standing in self.pairs.items():
            if standing.state == "granted" and where not in granted:
                lost: State = "revoked" if cause == "identity provider" else "forgotten"
                self.pairs[where] = Standing(lost, self.step)
        for where, lines in granted.items():
            standing = self.pairs.get(where, Standing("forgotten", 0))
            told = max(self.told[line.key, where[1]] for line in lines)
            # What the identity provider says of others, or said before, is no new word for them.
            if standing.state == "dismissed" and told <= standing.since:
                continue
            if standing.state != "granted":
                self.pairs[where] = Standing("granted", self.step)
                # Of somebody who left unseen nobody can say whether that was before.
                if told == self.step and self._is_seen_out(where, known):
                    self.left.discard(where)
                    self.left_surely.discard(where)
            # Nor, once they are only invited, whether they declined.
            if where in self.went and all(line.mapping.invite for line in lines):
                self.left.add(where)
        self._catch_up(known, granted)
        self._end_approvals(known)

    def _is_seen_out(self, where: Pair, known: Known) -> bool:
        """Tell whether the service does not think that a person is in a room."""
        row = self.account(where[1], known)
        pair = known.pairs.get((where[0], row["user_id"] if row else None))
        return pair is None or pair["observed"] in ("leave", "ban")

    def _end_approvals(self, known: Known) -> None:
        """What a human let through ends where it is no longer to be done."""
        for room_id, user_id in list(self.approved):
            person = self.whose(user_id, known) or user_id
            user = self.user(person)
            standing = None if room_id is None else self.pairs.get((room_id, person))
            if (room_id is None and user is not None and user.active) or (
                standing is not None and standing.state in ("granted", "dismissed")
            ):
                self.approved.discard((room_id, user_id))

    def _catch_up(self, known: Known, granted: dict[Pair, list[Line]]) -> None:
        """Revoke what the identity provider revoked while a room was out of the map's reach."""
        for line in self.in_force(known):
            alike = {k for k in (*self.lines, *self.dropped) if k[1:3] == line.key[1:3]}
            for room_id in known.opened(line):
                counts = {k for k in alike if k in known.ids and room_id in known.means(k)}
                for (key, person), since in self.given.items():
                    where = room_id, person
                    standing = self.pairs.get(where)
                    if key not in counts or not since or where in granted or standing is None:
                        continue
                    if standing.state == "forgotten" and since > standing.since:
                        self.pairs[where] = Standing("revoked", self.step)

    def take_lines(self, lines: Iterable[Line], known: Known) -> None:
        """Take in what the map says now; what it says no more is dropped.

        A line that is taken out before it was worked out for somebody has given them nothing.
        """
        told = {line.key: line for line in lines}
        for key, person in list(self.given):
            if key in self.lines and key not in told and known.is_dropped(key):
                row = self.account(person, known)
                if row is None or (known.ids[key]["id"], row["id"]) not in known.grants:
                    del self.given[key, person]
        self.dropped = {k: x for k, x in {**self.dropped, **self.lines}.items() if k not in told}
        self.lines = told

    def _end_dropped(self, known: Known) -> None:
        """Forget dropped lines that have ended, which only those may by whom nobody is anywhere."""
        for key in [k for k in self.dropped if not known.is_dropped(k)]:
            del self.dropped[key]
            room_id = self.pins.get(key[3])
            for line, person in self.given:
                where = room_id or "", person
                standing = self.pairs.get(where, Standing("granted", 0))
                # Of what only a backup has it is not known that it is one before it has ended.
                if line == key and standing.state == "forgotten" and not standing.stale:
                    row = self.account(person, known)
                    pair = known.pairs.get((where[0], row["user_id"] if row else None))
                    promise(
                        pair is None or pair["state"] != "forgotten" or pair["observed"] == "leave",
                        f"{key} has ended, and {where} is there by it alone",
                    )

    # -- What the service stands for ----------------------------------------

    def observe(self, known: Known) -> None:
        """Take in where the service stands now, each step checked, and what that means."""
        for user_id in known.by_user_id:
            # Whom its SSO link names has an account, once no other user does.
            if (person := self.whose(user_id, known)) is not None:
                holder = self.holders.get(user_id, person)
                if user_id in self.replaced:
                    self._inherit(person, user_id)
                elif holder != person and self.user(holder) is None:
                    self._inherit(person, user_id, holder)
                self.holders[user_id] = person
        for room_id, row in known.rooms.items():
            if (new := row["successor"]) and self.successors.get(room_id) != new:
                promise(self._is_upgrade(room_id, new), f"{room_id} was never upgraded to {new}")
                self.successors[room_id] = new
                self._carry(room_id, new, known)
        for name, row in known.references.items():
            room_id, before = row["room_id"], self.pins.get(name)
            if room_id is None:
                continue
            promise(
                room_id in self.explained.get(name, ()),
                f"{name} stands for {room_id}, which nothing explains",
            )
            if before is None:
                self._would_have_had(name, room_id, known)
            elif before != room_id:
                mine = {k for k in (*self.lines, *self.dropped) if k[3] == name}
                giving = {p for (key, p) in self.given if key in mine}
                self._carry(before, room_id, known, giving)
            self.pins[name] = room_id
        for line in self.lines.values():
            self._observe_children(line, known)
        self.settle("map", known)
        self.went = {where for where in self.went if not self._is_seen_out(where, known)}

    def _observe_children(self, line: Line, known: Known) -> None:
        if not line.mapping.children:
            self.children_read.discard(line.key)
            return
        own = known.references.get(line.mapping.room, {}).get("room_id")
        opened = known.opened(line) - {own}
        for room_id in opened:
            promise(
                room_id in self.below.get(line.key, ()),
                f"{room_id} is opened by {line.key}, which nothing explains",
            )
        if line.key not in self.children_read and known.ids[line.key]["children_known"]:
            self.children_read.add(line.key)
            for room_id in opened:
                self._revoke_given(line, room_id)

    def _would_have_had(self, name: str, room_id: str, known: Known) -> None:
        for line in (*self.lines.values(), *self.dropped.values()):
            if line.mapping.room == name:
                self._revoke_given(line, room_id)

    def _revoke_given(self, line: Line, room_id: str) -> None:
        """What a line gave before its room was known, and was revoked, counts there."""
        for (key, person), since in self.given.items():
            if key == line.key and since:
                self.pairs.setdefault((room_id, person), Standing("forgotten", 0))

    def _carry(self, old: str, new: str, known: Known, only: set[str] | None = None) -> None:
        """What is known of everybody in a room counts in the one that takes its place.

        Nobody is removed from the former one, unless it is still mapped otherwise.
        """
        self.approved |= {(new, user) for room_id, user in self.approved if room_id == old}
        for (room_id, person), standing in list(self.pairs.items()):
            if room_id != old or (only is not None and person not in only):
                continue
            there = self.pairs.get((new, person))
            if there is None or there.state == "forgotten":
                self.pairs[new, person] = Standing(standing.state, standing.since, standing.stale)
                if (old, person) in self.left:
                    self.left.add((new, person))
        dropped = {m["id"] for m in known.mappings if m["standing"] == "dropped"}
        opened = [o for o in known.openings if o["mapping_id"] not in dropped]
        if any(opening["room_id"] == old for opening in opened):
            return
        for where, standing in list(self.pairs.items()):
            if where[0] == old and standing.state in ("revoked", "pruned", "excluded"):
                self.pairs[where] = Standing("forgotten", standing.since, standing.stale)

    # -- Chains of reasons --------------------------------------------------

    def explain(self, known: Known) -> None:
        """Grow what some chain of reasons explains, after anything has changed."""
        for line in self.lines.values():
            name = line.mapping.room
            rooms = self.explained.setdefault(name, set())
            if name.startswith("!"):
                rooms.add(name)
            elif name in self.world.rooms.aliases:
                found = self.world.rooms.aliases[name]
                creator = self.world.rooms.get(found).state[CREATE, ""].sender
                pinned = name in self.pins
                if (
                    (not pinned and name not in self.absent)
                    or (not pinned and self.trusts(creator))
                    or (pinned and self.says_alias(found, name))
                ):
                    rooms.add(found)
            self._follow_upgrades(rooms)
            if line.mapping.children:
                below = self.below.setdefault(line.key, set())
                for space in set(rooms):
                    below |= self.children(line, space)
                self._follow_upgrades(below)

        for line in self.dropped.values():
            # What a line meant that is out of the map is found out still.
            name = line.mapping.room
            if name in self.world.rooms.aliases and name not in self.absent | self.pins.keys():
                self.explained.setdefault(name, set()).add(self.world.rooms.aliases[name])
        for rooms in (*self.explained.values(), *self.below.values()):
            self._follow_upgrades(rooms)

    def _follow_upgrades(self, rooms: set[str]) -> None:
        left = list(rooms)
        while left:
            room_id = left.pop()
            for new in (self._replacement(room_id), self.successors.get(room_id)):
                if new is not None and new not in rooms:
                    rooms.add(new)
                    left.append(new)

    def says_alias(self, room_id: str, alias: str) -> bool:
        """Tell whether a room says that an alias is its own, by somebody with the say there."""
        said = self.world.rooms.get(room_id).state.get((CANONICAL, ""))
        if said is None:
            return False
        room_id = self.last(room_id)
        room = self.world.rooms.get(room_id)
        lines = [line for line in self.lines.values() if line.mapping.room == alias]
        return alias in [said.content.get("alias"), *said.content.get("alt_aliases", [])] and all(
            self.may(said.sender, line, room) and self._reaches(said.sender, line, room_id)
            for line in lines
        )

    def _reaches(self, leader: str, line: Line, space_id: str) -> bool:
        """Tell whether somebody could go into all rooms that a line would open below a space."""
        if not line.mapping.children or self.trusts(leader):
            return True
        led = self.children(line, space_id, frozenset([leader]))
        return led == self.children(line, space_id)

    def _replacement(self, room_id: str) -> str | None:
        """Return what a room was genuinely upgraded to."""
        room = self.world.rooms.all.get(room_id)
        new = None if room is None else room.content(TOMBSTONE).get("replacement_room")
        return new if new is not None and self._is_upgrade(room_id, new) else None

    def _is_upgrade(self, room_id: str, new: str) -> bool:
        there = self.world.rooms.all.get(new)
        if there is None:
            return False
        predecessor = there.content(CREATE).get("predecessor", {})
        return bool(predecessor.get("room_id") == room_id)

    def trusts(self, user_id: str) -> bool:
        """Tell whether somebody has the same say as the service."""
        account = self.world.accounts.all.get(user_id)
        is_admin = account is not None and account.admin and not account.deactivated
        return user_id == self.world.service or is_admin

    def may(self, user_id: str, line: Line, room: Room) -> bool:
        """Tell whether somebody could do in a room by hand what a line does."""
        if self.trusts(user_id):
            return True
        account = self.world.accounts.all.get(user_id)
        if account is None or account.locked or account.suspended or account.deactivated:
            return False
        if room.membership(user_id) != "join":
            return False
        own, needed = room.level(user_id), [room.needed("invite"), room.needed("kick")]
        if line.mapping.power is not None:
            needed += [room.needed(LEVELS), line.mapping.power]
        if line.mapping.exclusive:
            needed.append(int(room.content(LEVELS).get("users_default", 0)) + 1)
        return own >= max(needed)

    def children(self, line: Line, space_id: str, led_by: frozenset[str] = frozenset()) -> set[str]:
        """Return the rooms below a space that a followed way leads to."""
        return {room_id for room_id, _ in self.ways(line, space_id, led_by)} - {space_id}

    def ways(
        self, line: Line, space_id: str, led_by: frozenset[str] = frozenset()
    ) -> set[tuple[str, frozenset[str]]]:
        """Return the rooms that ways lead to, each with those whose power the way rests on.

        All of these must be able to do in the room what the line does; `led_by` are those on whose
        power it rests that the space is opened.
        """
        found: set[tuple[str, frozenset[str]]] = set()
        left = [(space_id, led_by | self.makers(line))]
        while left:
            way = left.pop()
            parent = self.world.rooms.all.get(way[0])
            if way in found:
                continue
            found.add(way)
            if parent is None or not parent.is_space or not self.world.rooms.is_here(parent):
                continue
            for (kind, room_id), event in parent.state.items():
                if kind == CHILD and event.content.get("via") and room_id != space_id:
                    for who in self._behind(line, parent, self.last(room_id), event.sender):
                        leaders = way[1] if who is None else way[1] | {who}
                        room = self.world.rooms.all.get(self.last(room_id))
                        if all(self._leads(leader, line, room) for leader in leaders):
                            left.append((room_id, leaders))
        return found

    def _leads(self, leader: str, line: Line, room: Room | None) -> bool:
        return room is not None and self.world.rooms.is_here(room) and self.may(leader, line, room)

    def _behind(self, line: Line, space: Room, room_id: str, sender: str) -> set[str | None]:
        """Return who can have put a room into a space, None for an administrator."""
        room = self.world.rooms.all.get(room_id)
        if self.trusts(sender):
            return {None}
        if room is None or not self.world.rooms.is_here(room):
            return set()
        said = room.state.get((PARENT, space.room_id))
        senders = [sender]
        if said is not None and said.content.get("via"):
            senders.append(said.sender)
        able = [who for who in senders if self.may(who, line, room)]
        return {None if self.trusts(who) else who for who in able}

    def makers(self, line: Line) -> set[str]:
        """Return on whose own power a line itself rests."""
        return set() if line.made_by is None or self.trusts(line.made_by) else {line.made_by}

    def all_leaders(self) -> set[str | None]:
        """Return everybody on whose power anything may rest that the map means."""
        found: set[str | None] = {line.made_by for line in self.lines.values()}
        for room in self.world.rooms.all.values():
            said = [e for (kind, _), e in room.state.items() if kind in (CHILD, PARENT, CANONICAL)]
            found |= {event.sender for event in said}
        return found - {None, self.world.service}

    def last(self, room_id: str) -> str:
        """Return what took a room's place, as far as the service has followed that."""
        while (new := self.successors.get(room_id)) is not None:
            room_id = new
        return room_id

    def leaders(self, line: Line, room_id: str, known: Known) -> list[frozenset[str]]:
        """Return on whose power it may rest that a line opens a room, each way on its own."""
        own = known.references.get(line.mapping.room, {}).get("room_id")
        found = [frozenset(self.makers(line))] if own == room_id else []
        if line.mapping.children and own is not None:
            found += [way[1] for way in self.ways(line, own) if self.last(way[0]) == room_id]
        return found

    def could_remove(self, leaders: Iterable[str], room: Room, user_id: str) -> bool:
        """Tell whether all of some people could take somebody out of a room."""
        return all(
            self.trusts(who) or who == user_id or room.level(who) > room.level(user_id)
            for who in leaders
        )

    def maker_may(self, line: Line, room: Room) -> bool:
        """Tell whether the maker of a line may have it act in a room."""
        return all(self.may(maker, line, room) for maker in self.makers(line))

    # -- Whose --------------------------------------------------------------

    def account(self, person: str, known: Known) -> dict[str, Any] | None:
        """Return the service's row of a person's account: the user's, or what it left."""
        for user in self.users.values():
            if user.person == person:
                return known.by_scim_id.get(user.scim_id)
        for row in known.accounts:
            if row["scim_id"] is None and person in (row["subject"], f"user {row['mark']}"):
                return row
        return None

    def whose(self, user_id: str, known: Known) -> str | None:
        """Return the person whose account it is to the service, None where it is nobody's."""
        row = known.by_user_id.get(user_id)
        if row is None or row["desired"] == "unmanaged":
            return None
        if row["scim_id"] is not None:
            return self.users[row["scim_id"]].person
        if row["subject"] is None and row["mark"] is None:
            return None
        return row["subject"] or f"user {row['mark']}"

    def linked(self, person: str, user_id: str, known: Known) -> None:
        """Take in that a human said whose account it is; `known` is what was known before."""
        before, whose = self.account(person, known), self.whose(user_id, known)
        assert before is not None
        former = before["user_id"]
        self.may_have.setdefault(person, set()).add(user_id)
        if former == user_id:
            return
        self.dismissed_accounts.discard(person)
        for room_id, who in [where for where in self.pairs if where[1] == person]:
            standing = self.pairs[room_id, who]
            self.left.discard((room_id, who))
            self.left_surely.discard((room_id, who))
            if former is not None:
                if standing.state == "granted":
                    standing = Standing("revoked", self.step)
                else:
                    del self.pairs[room_id, who]
                    kept = self.is_given_by_a_suspended_line(room_id, who, known)
                    if standing.state == "revoked" and kept:
                        standing = Standing("forgotten", self.step)
                self.pairs[room_id, former] = standing
        if former is not None:
            self.replaced[former] = before["bound_by"] in ("made", "mark")
        self._inherit(person, user_id, whose)
        self.holders[user_id] = person
        if whose is not None:
            self.former.pop(whose, None)

    def _inherit(self, person: str, user_id: str, whose: str | None = None) -> None:
        """What is known of an account's rooms, and whose it was, counts for who has it now."""
        self.replaced.pop(user_id, None)
        for room_id, who in [w for w in self.pairs if w[1] in (user_id, whose)]:
            standing = self.pairs.pop((room_id, who))
            if standing.state != "excluded":
                self.pairs.setdefault((room_id, person), standing)

    def links(self) -> None:
        """Take in whom the homeserver's links and marks name."""
        self.persons |= {user.scim_id: user.person for user in self.users.values()}
        for account in self.world.accounts.all.values():
            for provider, identity in account.links:
                if provider == IDP:
                    self.may_have.setdefault(identity, set()).add(account.user_id)
                elif provider == MARK_PROVIDER and identity in self.persons:
                    person = self.persons[identity]
                    self.may_have.setdefault(person, set()).add(account.user_id)

    def is_given_by_a_suspended_line(self, room_id: str, person: str, known: Known) -> bool:
        """Tell whether a suspended mapping, which is shown, would have somebody stay."""
        return any(
            row["standing"] == "suspended"
            and person in self.members(line)
            and any(
                opening["mapping_id"] == row["id"] and opening["room_id"] == room_id
                for opening in known.openings
            )
            for line in self.lines.values()
            for row in [known.ids[line.key]]
        )

    def user(self, person: str) -> User | None:
        """Return the user who a person is now."""
        return next((u for u in self.users.values() if u.person == person), None)

    def is_protected(self, user_id: str) -> bool:
        """Tell whether an account is never to be touched."""
        protected = self.configuration.protected_users
        return self.trusts(user_id) or user_id in protected


def listed(found: Iterable[str]) -> str:
    """Return names as one text."""
    return ", ".join(sorted(found)) or "nobody"
