"""Rooms as Synapse keeps them (event_auth.py, handlers/room_member.py)."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.homeserver.errors import MatrixError, forbidden, not_found

CREATE, LEVELS, MEMBER = "m.room.create", "m.room.power_levels", "m.room.member"
RULES, TOMBSTONE, CANONICAL = "m.room.join_rules", "m.room.tombstone", "m.room.canonical_alias"
CHILD, PARENT, NAME = "m.space.child", "m.space.parent", "m.room.name"
# Above every level that can be given (MSC4289).
_CREATOR = 2**53


@dataclass(frozen=True)
class Event:
    """A state event."""

    type: str
    state_key: str
    sender: str
    content: dict[str, Any]

    def shown(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "type": self.type,
            "state_key": self.state_key,
            "sender": self.sender,
            "content": self.content,
        }


@dataclass
class Room:
    """A room: its state, which is all there is of it."""

    room_id: str
    state: dict[tuple[str, str], Event] = field(default_factory=dict)

    def content(self, event_type: str, state_key: str = "") -> dict[str, Any]:
        """Return what a state event holds, nothing where there is none."""
        event = self.state.get((event_type, state_key))
        return {} if event is None else event.content

    @property
    def version(self) -> str:
        """The room's version."""
        return str(self.content(CREATE)["room_version"])

    @property
    def creators(self) -> set[str]:
        """Who has all power without being listed."""
        creation = self.state[CREATE, ""]
        if int(self.version) < 12:
            return set() if (LEVELS, "") in self.state else {creation.sender}
        return {creation.sender, *creation.content.get("additional_creators", [])}

    @property
    def is_space(self) -> bool:
        """Whether it holds rooms."""
        return self.content(CREATE).get("type") == "m.space"

    @property
    def is_public(self) -> bool:
        """Whether anybody may join."""
        return bool(self.content(RULES).get("join_rule") == "public")

    def membership(self, user_id: str) -> str | None:
        """Return somebody's membership, None where they never had any."""
        return self.content(MEMBER, user_id).get("membership")

    def members(self, membership: str = "join") -> list[str]:
        """Return who has a membership."""
        return [
            key
            for (kind, key), event in self.state.items()
            if kind == MEMBER and event.content["membership"] == membership
        ]

    def level(self, user_id: str) -> int:
        """Return somebody's power level."""
        if user_id in self.creators:
            return _CREATOR
        levels = self.content(LEVELS)
        return int(levels.get("users", {}).get(user_id, levels.get("users_default", 0)))

    def needed(self, action: str) -> int:
        """Return the level that `kick`, `invite`, `ban` or a state event asks for."""
        levels = self.content(LEVELS)
        if action in ("kick", "ban", "invite"):
            return int(levels.get(action, 0 if action == "invite" else 50))
        return int(levels.get("events", {}).get(action, levels.get("state_default", 50)))


class Rooms:
    """Every room and alias that the homeserver knows. `events` are all state events, in order."""

    def __init__(self, server_name: str) -> None:
        self.server_name = server_name
        self.all: dict[str, Room] = {}
        self.aliases: dict[str, str] = {}
        self.events: list[tuple[str, Event]] = []
        # Called after each.
        self.happened: Callable[[], object] = lambda: None
        self._numbers = itertools.count(1)

    def get(self, room_id: str) -> Room:
        """Return a room. Raises MatrixError."""
        if room_id not in self.all:
            raise not_found("Room not found")
        return self.all[room_id]

    def resolve(self, alias: str) -> str:
        """Return what an alias stands for. Raises MatrixError."""
        if alias not in self.aliases:
            raise not_found(f"Room alias {alias} not found")
        return self.aliases[alias]

    def is_here(self, room: Room) -> bool:
        """Tell whether anybody of this homeserver is in a room."""
        return any(user.endswith(f":{self.server_name}") for user in room.members())

    def put(self, room: Room, event: Event) -> None:
        """Add a state event, whoever may send it."""
        room.state[event.type, event.state_key] = event
        self.events.append((room.room_id, event))
        self.happened()

    def create(
        self,
        creator: str,
        *,
        room_id: str | None = None,
        version: str = "12",
        alias: str | None = None,
        public: bool = False,
        space: bool = False,
        creation: dict[str, Any] | None = None,
        levels: dict[str, Any] | None = None,
    ) -> Room:
        """Make a room. Raises MatrixError where the alias is taken."""
        if alias is not None and alias in self.aliases:
            raise MatrixError(400, "M_ROOM_IN_USE", "Room alias already taken")
        if room_id is None:
            number = next(self._numbers)
            room_id = f"!r{number}" if int(version) >= 12 else f"!r{number}:{self.server_name}"
        room = self.all[room_id] = Room(room_id)
        kind = {"type": "m.space"} if space else {}
        content = {"room_version": version, **kind, **(creation or {})}
        self.put(room, Event(CREATE, "", creator, content))
        self.put(room, Event(MEMBER, creator, creator, {"membership": "join"}))
        own = {} if int(version) >= 12 else {creator: 100}
        content = {"users": own, "invite": 0, "kick": 50, "ban": 50, **(levels or {})}
        self.put(room, Event(LEVELS, "", creator, content))
        rule = {"join_rule": "public" if public else "invite"}
        self.put(room, Event(RULES, "", creator, rule))
        if alias is not None:
            self.aliases[alias] = room_id
            self.put(room, Event(CANONICAL, "", creator, {"alias": alias}))
        return room

    def delete(self, room_id: str) -> None:
        """Have nobody be in a room and nothing be known of it, as Synapse's deletion with purge."""
        for user_id in self.get(room_id).members():
            self.leave(room_id, user_id)
        del self.all[room_id]
        self.aliases = {a: room for a, room in self.aliases.items() if room != room_id}

    # -- Memberships --------------------------------------------------------

    def _member(self, room: Room, sender: str, target: str, membership: str) -> None:
        self.put(room, Event(MEMBER, target, sender, {"membership": membership}))

    def invite(self, room_id: str, sender: str, target: str) -> None:
        """Invite somebody. Raises MatrixError."""
        room = self.get(room_id)
        present = room.membership(target)
        if present == "ban":
            raise MatrixError(403, "M_BAD_STATE", "Cannot invite user who was banned")
        if room.membership(sender) != "join":
            raise forbidden(f"{sender} not in room {room_id}.")
        if present == "join":
            raise forbidden(f"{target} is already in the room.")
        if room.level(sender) < room.needed("invite"):
            raise forbidden("You don't have permission to invite users")
        self._member(room, sender, target, "invite")

    def join(self, room_id: str, user_id: str) -> None:
        """Have somebody join. Raises MatrixError."""
        room = self.all.get(room_id)
        if room is None or not self.is_here(room):
            raise MatrixError(
                404,
                "M_UNKNOWN",
                "Can't join remote room because no servers that are in the room have been"
                " provided.",
            )
        present = room.membership(user_id)
        if present == "join":
            return
        if present == "ban":
            raise MatrixError(403, "M_BAD_STATE", "Cannot join user who was banned")
        if present != "invite" and not room.is_public:
            raise forbidden("You are not invited to this room.")
        self._member(room, user_id, user_id, "join")

    def leave(self, room_id: str, user_id: str) -> None:
        """Have somebody leave, or decline an invitation."""
        room = self.get(room_id)
        if room.membership(user_id) in ("join", "invite"):
            self._member(room, user_id, user_id, "leave")

    def kick(self, room_id: str, sender: str, target: str) -> None:
        """Take somebody out. Raises MatrixError."""
        room = self.get(room_id)
        if room.membership(target) in (None, "leave", "ban"):
            raise forbidden("The target user is not in the room")
        if room.membership(sender) != "join":
            raise forbidden(f"{sender} not in room {room_id}.")
        own = room.level(sender)
        if own < room.needed("kick") or own <= room.level(target):
            raise forbidden(f"You cannot kick user {target}.")
        self._member(room, sender, target, "leave")

    def ban(self, room_id: str, sender: str, target: str) -> None:
        """Ban somebody. Raises MatrixError."""
        room = self.get(room_id)
        own = room.level(sender)
        if room.membership(sender) != "join" or own < room.needed("ban"):
            raise forbidden("You don't have permission to ban")
        if own <= room.level(target):
            raise forbidden("You don't have permission to ban this user")
        self._member(room, sender, target, "ban")

    def force_join(self, room_id: str, admin: str, target: str) -> None:
        """Bring somebody in (admin API, Edit Room Membership). Raises MatrixError."""
        room = self.all.get(room_id)
        if room is not None and self.is_here(room) and not room.is_public:
            self.invite(room_id, admin, target)
        self.join(room_id, target)

    # -- State --------------------------------------------------------------

    def send(
        self, room_id: str, sender: str, event_type: str, state_key: str, content: dict[str, Any]
    ) -> None:
        """Send a state event. Raises MatrixError."""
        room = self.get(room_id)
        if room.membership(sender) != "join":
            raise forbidden(f"User {sender} not in room {room_id}")
        own, needed = room.level(sender), room.needed(event_type)
        if own < needed:
            raise forbidden(
                "You don't have permission to post that to the room. "
                f"user_level ({own}) < send_level ({needed})"
            )
        if event_type == LEVELS:
            _check_levels(room, sender, content)
        self.put(room, Event(event_type, state_key, sender, content))

    def make_admin(self, room_id: str, user_id: str) -> None:
        """Give somebody power in a room (admin API, Make Room Admin). Raises MatrixError."""
        room = self.get(room_id)
        levels = dict(room.content(LEVELS).get("users", {}))
        ordered = sorted(levels, key=lambda user: int(levels[user]))
        powerful = [*ordered, *sorted(room.creators)]
        here = [
            user
            for user in powerful
            if user.endswith(f":{self.server_name}") and room.membership(user) == "join"
        ]
        if not here:
            raise MatrixError(400, "M_UNKNOWN", "No local admin user in room")
        as_user = here[-1]
        content = {**room.content(LEVELS), "users": {**levels, user_id: levels.get(as_user, 100)}}
        try:
            self.send(room_id, as_user, LEVELS, "", content)
        except MatrixError as error:
            raise MatrixError(
                400,
                "M_UNKNOWN",
                "No local admin user in room with power to update power levels.",
            ) from error
        if room.membership(user_id) not in ("join", "invite") and not room.is_public:
            self.invite(room_id, as_user, user_id)

    def hierarchy(self, space_id: str) -> list[dict[str, Any]]:
        """Return a space and the rooms below it (handlers/room_summary.py)."""
        found: list[dict[str, Any]] = []
        left, seen = [space_id], set()
        while left:
            room = self.all.get(room_id := left.pop())
            if room_id in seen or room is None or not self.is_here(room):
                continue
            seen.add(room_id)
            children = [
                event
                for (kind, _), event in room.state.items()
                if kind == CHILD and room.is_space and isinstance(event.content.get("via"), list)
            ]
            found.append(
                {
                    "room_id": room_id,
                    "name": room.content(NAME).get("name"),
                    "canonical_alias": room.content(CANONICAL).get("alias"),
                    "children_state": [e.shown() for e in children],
                }
            )
            left += [event.state_key for event in reversed(children)]
        return found


def _check_levels(room: Room, sender: str, content: dict[str, Any]) -> None:
    """Refuse levels that the sender may not give or take (event_auth.py, _check_power_levels)."""
    for user in content.get("users", {}):
        if int(room.version) >= 12 and user in room.creators:
            raise MatrixError(
                400, "M_BAD_JSON", f"Creator user {user} must not appear in content.users"
            )
    own, before = room.level(sender), room.content(LEVELS).get("users", {})
    after = content.get("users", {})
    for user in before.keys() | after.keys():
        old, new = before.get(user), after.get(user)
        if old == new:
            continue
        if user != sender and old is not None and int(old) == own:
            raise forbidden("You don't have permission to remove ops level equal to your own")
        if any(level is not None and int(level) > own for level in (old, new)):
            raise forbidden("You don't have permission to add ops level greater than your own")
