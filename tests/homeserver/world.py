"""What a homeserver holds: accounts and rooms, with the hands of people on them."""

from dataclasses import dataclass
from typing import Any

from tests.homeserver.accounts import Accounts
from tests.homeserver.rooms import CANONICAL, CHILD, LEVELS, TOMBSTONE, Event, Room, Rooms


@dataclass(frozen=True)
class Deed:
    """Something that the service had done: what, to whom, where.

    `before` and `after` are accounts as they are shown alone, or levels by user ID.
    """

    what: str
    user_id: str | None
    room_id: str | None = None
    before: Any = None
    after: Any = None


class World:
    """Accounts and rooms of one homeserver, and what people do by hand.

    `service` is the user ID of the service's account, an administrator. `deeds` are what it did.
    """

    def __init__(self, server_name: str = "s", service: str = "@bot:s") -> None:
        self.service = service
        self.server_name = server_name
        self.accounts = Accounts(server_name)
        self.rooms = Rooms(server_name)
        self.account_data: dict[str, dict[str, Any]] = {}
        self.deeds: list[Deed] = []
        self.accounts.put(service, {"admin": True})

    # -- By hand ------------------------------------------------------------

    def account(self, user_id: str, **more: Any) -> None:
        """Make an account, or change one, as an administrator does by hand."""
        suspended = more.pop("suspended", None)
        self.accounts.put(user_id, more)
        if suspended is not None:
            self.accounts.get(user_id).suspended = suspended
        if self.accounts.get(user_id).deactivated:
            self.part(user_id)

    def room(self, creator: str, *joined: str, **more: Any) -> Room:
        """Make a room with people in it."""
        room = self.rooms.create(creator, **more)
        for user in joined:
            self.bring(room.room_id, user)
        return room

    def bring(self, room_id: str, user_id: str) -> None:
        """Bring somebody into a room, invited by whoever is in it and may."""
        room = self.rooms.get(room_id)
        if room.membership(user_id) == "ban":
            self.rooms.put(room, _member(room, user_id, "leave"))
        if room.membership(user_id) != "join":
            self.rooms.put(room, _member(room, user_id, "join"))

    def part(self, user_id: str) -> None:
        """Have a deactivated account leave its rooms and decline its invitations."""
        for room_id in self.rooms.all:
            self.rooms.leave(room_id, user_id)

    def levels(self, room_id: str, **levels: int | None) -> None:
        """Set power levels by localpart, None for none, as somebody above them does."""
        room = self.rooms.get(room_id)
        users = dict(room.content(LEVELS).get("users", {}))
        for name, level in levels.items():
            users.pop(f"@{name}:{self.server_name}", None)
            if level is not None:
                users[f"@{name}:{self.server_name}"] = level
        content = {**room.content(LEVELS), "users": users}
        self.rooms.put(room, Event(LEVELS, "", next(iter(room.creators), self.service), content))

    def upgrade(
        self, room_id: str, sender: str, to: str | None = None, *, genuine: bool = True
    ) -> Room:
        """Replace a room by a new one, whose creation says so where it is `genuine`.

        Its power levels are copied, as Synapse does.
        """
        old = self.rooms.get(room_id)
        levels = old.content(LEVELS)
        if int(old.version) >= 12:
            users = {u: level for u, level in levels["users"].items() if u != sender}
            levels = {**levels, "users": users}
        new = self.rooms.create(
            sender,
            room_id=to,
            version=old.version,
            space=old.is_space,
            creation={"predecessor": {"room_id": room_id}} if genuine else {},
            levels=levels,
        )
        self.tombstone(room_id, sender, new.room_id)
        return new

    def tombstone(self, room_id: str, sender: str, replacement: str) -> None:
        """Say that another room takes a room's place."""
        room = self.rooms.get(room_id)
        content = {"replacement_room": replacement, "body": ""}
        self.rooms.put(room, Event(TOMBSTONE, "", sender, content))

    def child(self, space_id: str, sender: str, room_id: str, *, present: bool = True) -> None:
        """Put a room into a space, or take it out."""
        content = {"via": [self.server_name]} if present else {}
        self.rooms.put(self.rooms.get(space_id), Event(CHILD, room_id, sender, content))

    def alias(self, alias: str, room_id: str, *, canonical: bool = True) -> None:
        """Have an alias stand for a room, which says so itself where it is `canonical`."""
        self.rooms.aliases[alias] = room_id
        if canonical:
            room = self.rooms.get(room_id)
            said = [*room.content(CANONICAL).get("alt_aliases", []), alias]
            creator = next(iter(room.state.values())).sender
            self.rooms.put(room, Event(CANONICAL, "", creator, {"alt_aliases": said}))


def _member(room: Room, user_id: str, membership: str) -> Event:
    sender = next(iter(room.state.values())).sender
    return Event("m.room.member", user_id, sender, {"membership": membership})
