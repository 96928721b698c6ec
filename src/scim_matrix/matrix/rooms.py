"""Rooms of the homeserver: who is in them, what their state says, and changing both."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import nio

from scim_matrix.matrix.errors import (
    ALREADY_IN_THE_ROOM,
    NOT_FOUND,
    NOT_IN_THE_ROOM,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from scim_matrix.matrix.transport import ADMIN_V1, CLIENT_V3, Answer, Done, Transport
from scim_matrix.membership import Observed

CREATE = "m.room.create"
POWER_LEVELS = "m.room.power_levels"
SPACE_CHILD = "m.space.child"
# The most bytes of a kick's reason. Events are at most 65,536 bytes (413 above).
MAX_REASON = 512
# The most characters of a name that are kept.
MAX_NAME = 100


OwnName = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class RoomDetails:
    """A room as the admin API shows it; `replacement` is the room that it was upgraded to.

    `creator` and `version` are empty where the homeserver does not know them. `own_name` is what
    it calls itself: its name and its alias.
    """

    creator: str
    version: str
    replacement: str | None
    own_name: OwnName = (None, None)


@dataclass(frozen=True, slots=True)
class StateEvent:
    """A state event. What `content` holds is up to whoever sent it."""

    type: str
    state_key: str
    sender: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SpaceChild:
    """That a space holds a room, as `sender` said (m.space.child)."""

    space_id: str
    room_id: str
    sender: str


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A space and what is below it, at any depth.

    `rooms` are those of which the homeserver knows anything, the space itself included, with what
    they call themselves; a child that it does not know has an edge and is not among them.
    """

    children: tuple[SpaceChild, ...]
    rooms: Mapping[str, OwnName]


@dataclass(frozen=True, slots=True)
class PowerState:
    """What decides who has which power in a room.

    `power_levels` is the content of m.room.power_levels, None without one; `creation` that of
    m.room.create, whose sender is the `creator`; `version` is the room's.
    """

    power_levels: dict[str, Any] | None
    creation: dict[str, Any]
    creator: str
    version: str


class _Alias(Answer):
    room_id: str


class _Members(Answer):
    members: list[str]


class _Joined(Answer):
    joined_rooms: list[str]


class _Details(Answer):
    creator: str | None
    version: str | None
    tombstoned: bool = False
    # Whatever somebody wrote into the tombstone, and into the room's name.
    replacement_room: Any = None
    name: Any = None
    canonical_alias: Any = None


class _Listed(Answer):
    room_id: str
    name: Any = None
    canonical_alias: Any = None


class _List(Answer):
    rooms: list[_Listed]


class _Event(Answer):
    type: str
    state_key: str
    sender: str
    content: dict[str, Any]


class _MemberEvents(Answer):
    chunk: list[_Event]


class _State(Answer):
    state: list[_Event]


class _HierarchyRoom(Answer):
    room_id: str
    children_state: list[_Event]
    name: Any = None
    canonical_alias: Any = None


class _HierarchyPage(Answer):
    rooms: list[_HierarchyRoom]
    next_batch: str | None = None


class _Sent(Answer):
    event_id: str


class _Room(Answer):
    room_id: str


class Rooms:
    """Requests about rooms. What each raises is what the transport raises."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    # -- Reading ----------------------------------------------------------

    async def resolve_alias(self, alias: str) -> str:
        """Return the room ID behind an alias (client-server API, directory)."""
        call = self._transport.client.room_resolve_alias(alias)
        return (await self._transport.call(call, _Alias)).room_id

    async def members(self, room_id: str) -> list[str]:
        """Return the user IDs joined to a room (admin API, Room Members)."""
        answer = await self._transport.request(
            "GET", *ADMIN_V1, "rooms", room_id, "members", shape=_Members
        )
        return answer.members

    async def joined_by(self, user_id: str) -> frozenset[str]:
        """Return the IDs of the rooms that a local user is in (admin API, Joined Rooms)."""
        answer = await self._transport.request(
            "GET", *ADMIN_V1, "users", user_id, "joined_rooms", shape=_Joined
        )
        return frozenset(answer.joined_rooms)

    async def details(self, room_id: str) -> RoomDetails:
        """Return what the admin API knows of a room (Room Details)."""
        answer = await self._transport.request("GET", *ADMIN_V1, "rooms", room_id, shape=_Details)
        replacement = answer.replacement_room if answer.tombstoned else None
        return RoomDetails(
            answer.creator or "",
            answer.version or "",
            replacement if isinstance(replacement, str) else None,
            _own_name(answer.name, answer.canonical_alias),
        )

    async def listed(self, limit: int) -> dict[str, OwnName]:
        """Return the rooms with the most people, and what they call themselves (List Room)."""
        answer = await self._transport.request(
            *("GET", *ADMIN_V1, "rooms"),
            query={"order_by": "joined_members", "limit": str(limit)},
            shape=_List,
        )
        return {room.room_id: _own_name(room.name, room.canonical_alias) for room in answer.rooms}

    async def member_events(self, room_id: str, membership: Observed) -> dict[str, str]:
        """Return who has a membership in a room, and the sender of the event that says so.

        Client-server API, Get room members: the service has to be in the room.
        """
        answer = await self._transport.request(
            *("GET", *CLIENT_V3, "rooms", room_id, "members"),
            query={"membership": membership},
            shape=_MemberEvents,
        )
        return {event.state_key: event.sender for event in answer.chunk}

    async def hierarchy(self, space_id: str) -> Hierarchy:
        """Return what is below a space (admin API, Room Hierarchy; m.space.child).

        Works without being in any of the rooms. Synapse visits each room once, so that cycles
        end. A child without servers to reach it by (`via`) has been taken out of its space.
        """
        children: list[SpaceChild] = []
        rooms: dict[str, OwnName] = {}
        async for page in self._hierarchy_pages(space_id):
            for room in page.rooms:
                rooms[room.room_id] = _own_name(room.name, room.canonical_alias)
                children += [
                    SpaceChild(room.room_id, event.state_key, event.sender)
                    for event in room.children_state
                    if event.type == SPACE_CHILD and _is_list_with_entries(event.content.get("via"))
                ]
        return Hierarchy(tuple(children), rooms)

    async def _hierarchy_pages(self, space_id: str) -> AsyncIterator[_HierarchyPage]:
        query: dict[str, str] = {}
        seen: set[str] = set()
        while True:
            page = await self._transport.request(
                *("GET", *ADMIN_V1, "rooms", space_id, "hierarchy"),
                query=query,
                shape=_HierarchyPage,
            )
            yield page
            if page.next_batch is None:
                return
            if not page.rooms or page.next_batch in seen:
                raise UnavailableError("no usable answer: pages of a hierarchy without an end")
            seen.add(page.next_batch)
            query = {"from": page.next_batch}

    async def state(self, room_id: str, event_type: str) -> tuple[StateEvent, ...]:
        """Return a room's state events of a type (admin API, Room State).

        Works without being in the room. A Synapse that does not know the parameter `type` sends
        everything.
        """
        answer = await self._transport.request(
            *("GET", *ADMIN_V1, "rooms", room_id, "state"),
            query={"type": event_type},
            shape=_State,
        )
        return tuple(
            StateEvent(event.type, event.state_key, event.sender, event.content)
            for event in answer.state
            if event.type == event_type
        )

    async def state_event(
        self, room_id: str, event_type: str, state_key: str = ""
    ) -> StateEvent | None:
        """Return one state event, None without one; see `state`."""
        events = await self.state(room_id, event_type)
        return next((event for event in events if event.state_key == state_key), None)

    async def power_state(self, room_id: str) -> PowerState:
        """Return what decides about power in a room, in two requests; see `state`.

        Raises NotFoundError where the homeserver knows no state of the room: nobody of it is in
        there.
        """
        creation = await self.state_event(room_id, CREATE)
        if creation is None:
            raise NotFoundError(404, NOT_FOUND, f"no state of {room_id} is known here")
        levels = await self.state_event(room_id, POWER_LEVELS)
        # Rooms of version 1 do not say so (m.room.create, room_version).
        version = creation.content.get("room_version", "1")
        return PowerState(
            levels.content if levels else None, creation.content, creation.sender, str(version)
        )

    # -- Changing ---------------------------------------------------------

    async def put_state(
        self, room_id: str, event_type: str, content: dict[str, Any], state_key: str = ""
    ) -> None:
        """Send a state event (client-server API); the service has to be in the room."""
        self._transport.changes(f"send {event_type}")
        await self._transport.request(
            *("PUT", *CLIENT_V3, "rooms", room_id, "state", event_type, state_key),
            body=content,
            shape=_Sent,
        )

    async def create_room(self, alias: str, template: dict[str, Any]) -> str:
        """Create a private room with an alias and return its ID (client-server API, createRoom).

        `template` has `name`, `topic` and `encrypted`. Raises RefusedError with the errcode
        M_ROOM_IN_USE where the alias exists.
        """
        self._transport.changes(f"create the room {alias}")
        encryption = {
            "type": "m.room.encryption",
            "content": {"algorithm": "m.megolm.v1.aes-sha2"},
        }
        call = self._transport.client.room_create(
            alias=alias.removeprefix("#").split(":", 1)[0],
            name=template["name"],
            topic=template["topic"],
            preset=nio.RoomPreset.private_chat,
            initial_state=[encryption] if template["encrypted"] else [],
        )
        return (await self._transport.call(call, _Room)).room_id

    async def invite(self, room_id: str, user_id: str) -> bool:
        """Invite a user to a room (client-server API).

        Being in it already is success; tells whether they are not.
        """
        self._transport.changes("invite")
        try:
            await self._transport.call(self._transport.client.room_invite(room_id, user_id), Done)
        except RefusedError as error:
            if ALREADY_IN_THE_ROOM not in error.message:
                raise
            return False
        return True

    async def force_join(self, room_id: str, user_id: str) -> None:
        """Bring a local user into a room (admin API, Edit Room Membership).

        Already being in the room is success.
        """
        self._transport.changes("join")
        try:
            await self._transport.request(
                "POST", *ADMIN_V1, "join", room_id, body={"user_id": user_id}, shape=_Room
            )
        except RefusedError as error:
            if ALREADY_IN_THE_ROOM not in error.message:
                raise

    async def kick(self, room_id: str, user_id: str, reason: str) -> None:
        """Take a user out of a room (client-server API). Not being in the room is success.

        Of a long `reason` the beginning is sent.
        """
        self._transport.changes("kick")
        call = self._transport.client.room_kick(room_id, user_id, _shortened(reason))
        try:
            await self._transport.call(call, Done)
        except RefusedError as error:
            if NOT_IN_THE_ROOM not in error.message:
                raise

    async def become_room_admin(self, room_id: str) -> None:
        """Give the service's account power in a room and put it there.

        Admin API, Make Room Admin (needs a local user with power in the room), then join.
        """
        self._transport.changes("make itself admin of the room")
        await self._transport.request(
            *("POST", *ADMIN_V1, "rooms", room_id, "make_room_admin"),
            body={"user_id": self._transport.user_id},
            shape=Done,
        )
        await self._transport.call(self._transport.client.join(room_id), _Room)


def _own_name(name: Any, alias: Any) -> OwnName:
    """Return what a room calls itself, as far as that can be shown in place of its ID.

    A name that looks like an alias or an ID may be taken for another room's, and is left out.
    """
    shown = " ".join(name.split()) if isinstance(name, str) else ""
    if shown.startswith(("#", "!", "@")):
        shown = ""
    if len(shown) > MAX_NAME:
        shown = shown[: MAX_NAME - 1] + "…"
    return shown or None, alias if isinstance(alias, str) and alias else None


def _is_list_with_entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _shortened(text: str) -> str:
    """Return a text of at most MAX_REASON bytes, cut between characters."""
    encoded = text.encode()
    if len(encoded) <= MAX_REASON:
        return text
    return encoded[: MAX_REASON - len("…".encode())].decode(errors="ignore") + "…"
