"""What happens in rooms, as it happens (client-server API, sync)."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import Field

from scim_matrix.matrix.transport import CLIENT_V3, Answer, Transport
from scim_matrix.membership import MEMBERSHIPS, Observed

# Milliseconds that a sync waits for something to happen, and seconds more until it is given up.
SYNC_WAIT = 30_000
_GRACE = 15.0
MEMBER = "m.room.member"
LIVE_TYPES = (
    MEMBER,
    "m.room.power_levels",
    "m.room.tombstone",
    "m.room.canonical_alias",
    "m.space.child",
    "m.space.parent",
)


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """A state event that sync brought; `membership` where it is about a member."""

    room_id: str
    type: str
    sender: str
    state_key: str | None
    membership: Observed | None
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """What sync brought. `gaps` are the IDs of rooms where events were left out.

    `position` is the token to go on from.
    """

    position: str
    events: tuple[LiveEvent, ...]
    gaps: frozenset[str]


class _Filter(Answer):
    filter_id: str


class _Event(Answer):
    type: str
    sender: str
    state_key: str | None = None
    content: dict[str, Any] = Field(default_factory=dict)


class _Timeline(Answer):
    events: list[_Event] = Field(default_factory=list)
    limited: bool = False


class _JoinedRoom(Answer):
    timeline: _Timeline = _Timeline()


class _Rooms(Answer):
    join: dict[str, _JoinedRoom] = Field(default_factory=dict)


class _Sync(Answer):
    next_batch: str
    rooms: _Rooms = _Rooms()


class Live:
    """Follows the rooms that the service's account is in.

    Not through nio's own sync: that keeps a copy of every room and reads whatever anybody wrote
    into an event. What each method raises is what the transport raises.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def upload_filter(self, rooms: Sequence[str]) -> str:
        """Store a filter that lets through who comes and goes in these rooms; return its ID."""
        nothing: dict[str, Any] = {"types": []}
        call = self._transport.client.upload_filter(
            user_id=self._transport.user_id,
            presence=nothing,
            account_data=nothing,
            room={
                "rooms": list(rooms),
                "state": nothing,
                "ephemeral": nothing,
                "account_data": nothing,
                "timeline": {"types": list(LIVE_TYPES), "limit": 100},
            },
        )
        return (await self._transport.call(call, _Filter)).filter_id

    async def position(self) -> str:
        """Return the token from which `sync` goes on from now."""
        # Whoever asks the same again within two minutes gets Synapse's former answer: after a
        # restart what happened since the start before would be told as if it happened now.
        never_asked = f"!{secrets.token_hex(8)}:nowhere.invalid"
        nothing = orjson.dumps({"room": {"rooms": [], "not_rooms": [never_asked]}}).decode()
        answer = await self._sync({"filter": nothing, "timeout": "0"}, _GRACE)
        return answer.next_batch

    async def sync(self, filter_id: str, since: str) -> LiveBatch:
        """Wait for something to happen after the token `since`; see SYNC_WAIT."""
        query = {"filter": filter_id, "since": since, "timeout": str(SYNC_WAIT)}
        answer = await self._sync(query, SYNC_WAIT / 1000 + _GRACE)
        rooms = answer.rooms.join
        return LiveBatch(
            answer.next_batch,
            tuple(
                _live(room_id, event)
                for room_id, room in rooms.items()
                for event in room.timeline.events
            ),
            frozenset(room_id for room_id, room in rooms.items() if room.timeline.limited),
        )

    async def _sync(self, query: dict[str, str], within: float) -> _Sync:
        return await self._transport.request(
            *("GET", *CLIENT_V3, "sync"),
            query={"set_presence": "offline", **query},
            within=within,
            shape=_Sync,
        )


def _live(room_id: str, event: _Event) -> LiveEvent:
    said = event.content.get("membership") if event.type == MEMBER else None
    # Whatever else somebody wrote there is no membership.
    membership = next((word for word in MEMBERSHIPS if word == said), None)
    return LiveEvent(room_id, event.type, event.sender, event.state_key, membership, event.content)
