"""The homeserver: matrix-nio as the admin user, Synapse admin calls over the same session."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import nio
import orjson

from scim_matrix.matrix.errors import (
    NotFoundError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    WithheldError,
)

REQUEST_TIMEOUT = 60.0
PROBE_TIMEOUT = 5.0
# Milliseconds that a sync waits for something to happen.
LIVE_TIMEOUT = 30_000
MEMBER = "m.room.member"
LIVE_TYPES = [MEMBER, "m.room.power_levels", "m.room.tombstone", "m.space.child"]


@dataclass(frozen=True, slots=True)
class RoomDetails:
    """A room as the admin API shows it; `replacement` is the room that it was upgraded to."""

    creator: str
    version: str
    replacement: str | None


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """A state event that sync brought; `membership` where it is about a member."""

    room_id: str
    type: str
    sender: str
    state_key: str | None
    membership: str | None


class Homeserver:
    """Requests to one Synapse homeserver as its admin user.

    Every method raises UnavailableError (RateLimitedError with the wait that was asked for)
    where nothing is known about the outcome, and RefusedError (NotFoundError, TokenError) where
    the homeserver said no. Nothing is retried here. With `dry_run`, whatever would change the
    homeserver raises WithheldError instead.
    """

    def __init__(self, client: nio.AsyncClient, *, dry_run: bool) -> None:
        self._client = client
        self._dry_run = dry_run

    @classmethod
    def connect(
        cls,
        url: str,
        user_id: str,
        token: str,
        *,
        dry_run: bool = False,
        tracing: Sequence[aiohttp.TraceConfig] = (),
    ) -> Self:
        """Return a homeserver at `url`; no request is sent yet. Needs a running event loop."""
        config = nio.AsyncClientConfig(
            max_timeouts=0, max_limit_exceeded=0, request_timeout=REQUEST_TIMEOUT
        )
        client = nio.AsyncClient(url.rstrip("/"), user_id, config=config)
        client.access_token = token
        client.user_id = user_id
        client.client_session = aiohttp.ClientSession(
            trace_configs=list(tracing), middlewares=[_once]
        )
        return cls(client, dry_run=dry_run)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    @property
    def user_id(self) -> str:
        """The Matrix user ID of the service's own account."""
        return str(self._client.user_id)

    # -- Transport --------------------------------------------------------

    async def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        within: float | None = None,
        token: str | None = None,
    ) -> dict[str, Any]:
        """Send one request, as the admin unless `token` is another's (empty: as nobody)."""
        used = self._client.access_token if token is None else token
        headers = {"Authorization": f"Bearer {used}"} if used else {}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers["Content-Type"] = "application/json"
        try:
            async with await self._client.send(
                method, path, data=data, headers=headers, timeout=within
            ) as response:
                return _checked(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"{type(error).__name__}: {error}") from error

    async def _nio(self, call: Any, expected: type) -> Any:
        """Await a nio call; trust the transport's status and body, then nio's class.

        nio reports some failures as success (a proxy's HTML page), so its word is not enough.
        """
        try:
            reply = await call
            response = reply.transport_response
            if response is None:
                raise UnavailableError(f"no answer: {reply}")
            _checked(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"{type(error).__name__}: {error}") from error
        if not isinstance(reply, expected):
            raise UnavailableError(f"an answer that cannot be read: {type(reply).__name__}")
        return reply

    def _changes(self, what: str) -> None:
        if self._dry_run:
            raise WithheldError(f"DRY_RUN: would {what}")

    # -- Signing in -------------------------------------------------------

    async def sign_in_flows(self) -> list[str]:
        """Return the ways in which people sign in (client-server API, login)."""
        answer = await self._request("GET", "/_matrix/client/v3/login")
        return [str(flow["type"]) for flow in answer["flows"]]

    async def who_signs_in(self, body: dict[str, Any]) -> str:
        """Sign somebody in, return their user ID, and sign them out again at once."""
        answer = await self._request("POST", "/_matrix/client/v3/login", body, token="")
        token = str(answer["access_token"])
        await self._request("POST", "/_matrix/client/v3/logout", {}, token=token)
        return str(answer["user_id"])

    # -- Server -----------------------------------------------------------

    async def server_version(self) -> str:
        """Return Synapse's version (admin API, Server version)."""
        answer = await self._request(
            "GET", "/_synapse/admin/v1/server_version", within=PROBE_TIMEOUT
        )
        return str(answer["server_version"])

    async def whoami(self) -> str:
        """Return whose token this is (client-server API, whoami)."""
        reply = await self._nio(self._client.whoami(), nio.WhoamiResponse)
        return str(reply.user_id)

    async def accounts_are_delegated(self) -> bool:
        """Tell whether accounts are managed elsewhere (Matrix Authentication Service).

        Synapse then refuses to list guests. Also proves that the token is an admin's.
        """
        try:
            await self._request("GET", "/_synapse/admin/v2/users?limit=1", within=PROBE_TIMEOUT)
        except RefusedError as error:
            if error.status == 400:
                return True
            raise
        return False

    async def lift_own_rate_limit(self) -> None:
        """Lift the message rate limit of the service's account (admin API, override_ratelimit)."""
        self._changes("lift the rate limit of the service account")
        await self._request(
            "POST",
            f"/_synapse/admin/v1/users/{quote(self.user_id)}/override_ratelimit",
            {"messages_per_second": 0, "burst_count": 0},
        )

    # -- Rooms ------------------------------------------------------------

    async def resolve_alias(self, alias: str) -> str:
        """Return the room ID behind an alias."""
        reply = await self._nio(
            self._client.room_resolve_alias(alias), nio.RoomResolveAliasResponse
        )
        return str(reply.room_id)

    async def members(self, room_id: str) -> list[str]:
        """Return the user IDs joined to a room (admin API, Room members)."""
        answer = await self._request(
            "GET", f"/_synapse/admin/v1/rooms/{quote(room_id, safe='')}/members"
        )
        return list(answer["members"])

    async def details(self, room_id: str) -> RoomDetails:
        """Return what the admin API knows of a room (Room Details)."""
        answer = await self._request("GET", f"/_synapse/admin/v1/rooms/{quote(room_id, safe='')}")
        replacement = answer.get("replacement_room") if answer.get("tombstoned") else None
        return RoomDetails(
            answer["creator"],
            answer["version"],
            replacement if isinstance(replacement, str) else None,
        )

    async def member_events(self, room_id: str, membership: str) -> dict[str, str]:
        """Return who has a membership in a room, and the sender of the event that says so.

        Client-server API, Get room members: the service has to be in the room.
        """
        answer = await self._request(
            "GET",
            f"/_matrix/client/v3/rooms/{quote(room_id, safe='')}/members?membership={membership}",
        )
        return {event["state_key"]: event["sender"] for event in answer["chunk"]}

    async def space_rooms(self, space_id: str) -> list[str]:
        """Return the IDs of all rooms below a space, at any depth (admin API, hierarchy).

        Synapse visits each room once, so that cycles end.
        """
        path = f"/_synapse/admin/v1/rooms/{quote(space_id, safe='')}/hierarchy"
        found: list[str] = []
        token = ""
        while True:
            answer = await self._request("GET", path + token)
            found += [room["room_id"] for room in answer["rooms"]]
            if "next_batch" not in answer:
                return [room_id for room_id in found if room_id != space_id]
            token = f"?from={quote(answer['next_batch'], safe='')}"

    async def state(self, room_id: str, event_type: str, key: str = "") -> dict[str, Any] | None:
        """Return the content of a state event of a room the service is in, None without one."""
        try:
            return await self._request("GET", _state_path(room_id, event_type, key))
        except NotFoundError:
            return None

    async def full_state(self, room_id: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the content of all of a room's state by type and key (admin API, Room State).

        Works without being in the room; members of large rooms make it long.
        """
        path = f"/_synapse/admin/v1/rooms/{quote(room_id, safe='')}/state"
        answer = await self._request("GET", path)
        return {(e["type"], e["state_key"]): e["content"] for e in answer["state"]}

    async def put_state(
        self, room_id: str, event_type: str, content: dict[str, Any], key: str = ""
    ) -> None:
        """Send a state event."""
        self._changes(f"send {event_type}")
        await self._request("PUT", _state_path(room_id, event_type, key), content)

    async def create_room(self, alias: str, template: dict[str, Any]) -> str:
        """Create a private room with an alias and return its ID (createRoom).

        `template` has `name`, `topic` and `encrypted`. Raises RefusedError with the errcode
        M_ROOM_IN_USE where the alias exists.
        """
        self._changes(f"create the room {alias}")
        encryption = {
            "type": "m.room.encryption",
            "content": {"algorithm": "m.megolm.v1.aes-sha2"},
        }
        reply = await self._nio(
            self._client.room_create(
                alias=alias.removeprefix("#").split(":", 1)[0],
                name=template["name"],
                topic=template["topic"],
                preset=nio.RoomPreset.private_chat,
                initial_state=[encryption] if template["encrypted"] else [],
            ),
            nio.RoomCreateResponse,
        )
        return str(reply.room_id)

    async def invite(self, room_id: str, user_id: str) -> None:
        """Invite a user to a room. Being in it already is success."""
        self._changes("invite")
        try:
            await self._nio(self._client.room_invite(room_id, user_id), nio.RoomInviteResponse)
        except RefusedError as error:
            if not (error.status == 403 and "already in the room" in error.message):
                raise

    async def force_join(self, room_id: str, user_id: str) -> None:
        """Bring a local user into a room (admin API, Edit room membership).

        Already being in the room is success.
        """
        self._changes("join")
        try:
            await self._request(
                "POST",
                f"/_synapse/admin/v1/join/{quote(room_id, safe='')}",
                {"user_id": user_id},
            )
        except RefusedError as error:
            if not (error.status == 403 and "already in the room" in error.message):
                raise

    async def kick(self, room_id: str, user_id: str, reason: str) -> None:
        """Take a user out of a room. Not being in the room is success."""
        self._changes("kick")
        try:
            await self._nio(self._client.room_kick(room_id, user_id, reason), nio.RoomKickResponse)
        except RefusedError as error:
            if not (error.status == 403 and "not in the room" in error.message):
                raise

    async def become_room_admin(self, room_id: str) -> None:
        """Give the service's account power in a room and put it there.

        Admin API, Make Room Admin (needs a local user with power in the room), then join.
        """
        self._changes("make itself admin of the room")
        await self._request(
            "POST",
            f"/_synapse/admin/v1/rooms/{quote(room_id, safe='')}/make_room_admin",
            {"user_id": self.user_id},
        )
        await self._nio(self._client.join(room_id), nio.JoinResponse)

    # -- Live -------------------------------------------------------------

    async def upload_filter(self, rooms: Sequence[str]) -> str:
        """Store a filter that lets through who comes and goes in these rooms; return its ID."""
        nothing: dict[str, Any] = {"types": []}
        reply = await self._nio(
            self._client.upload_filter(
                presence=nothing,
                account_data=nothing,
                room={
                    "rooms": list(rooms),
                    "state": nothing,
                    "ephemeral": nothing,
                    "account_data": nothing,
                    "timeline": {"types": LIVE_TYPES, "limit": 100},
                },
            ),
            nio.UploadFilterResponse,
        )
        return str(reply.filter_id)

    async def live_position(self) -> str:
        """Return the token from which `sync` goes on from now."""
        reply = await self._nio(
            self._client.sync(sync_filter={"room": {"rooms": []}}, set_presence="offline"),
            nio.SyncResponse,
        )
        return str(reply.next_batch)

    async def sync(self, filter_id: str, since: str) -> tuple[str, list[LiveEvent], set[str]]:
        """Wait for something to happen (client-server API, sync).

        Returns the token to go on from, the events, and the IDs of rooms where some were left
        out.
        """
        reply = await self._nio(
            self._client.sync(
                timeout=LIVE_TIMEOUT, sync_filter=filter_id, since=since, set_presence="offline"
            ),
            nio.SyncResponse,
        )
        events, gaps = [], set()
        for room_id, room in reply.rooms.join.items():
            if room.timeline.limited:
                gaps.add(room_id)
            for event in room.timeline.events:
                source = event.source
                content = source.get("content", {})
                events.append(
                    LiveEvent(
                        room_id,
                        source["type"],
                        source["sender"],
                        source.get("state_key"),
                        content.get("membership"),
                    )
                )
        return str(reply.next_batch), events, gaps

    # -- Accounts ---------------------------------------------------------

    async def admins(self) -> frozenset[str]:
        """Return the user IDs of the homeserver's administrators (admin API, List Accounts)."""
        found: set[str] = set()
        path = "/_synapse/admin/v2/users?admins=true&guests=false&limit=1000"
        answer = await self._request("GET", path)
        while True:
            # A Synapse that does not know the parameter lists everybody.
            found.update(user["name"] for user in answer["users"] if user["admin"])
            if "next_token" not in answer:
                return frozenset(found)
            answer = await self._request("GET", f"{path}&from={quote(answer['next_token'])}")

    async def account_by_link(self, idp: str, external_id: str) -> str | None:
        """Return the account linked to an SSO identity, if any (admin API)."""
        try:
            answer = await self._request(
                "GET",
                f"/_synapse/admin/v1/auth_providers/{quote(idp, safe='')}"
                f"/users/{quote(external_id, safe='')}",
            )
        except NotFoundError:
            return None
        return str(answer["user_id"])

    async def account(self, user_id: str) -> dict[str, Any] | None:
        """Return an account as the admin API shows it, None if there is none."""
        try:
            return await self._request("GET", f"/_synapse/admin/v2/users/{quote(user_id)}")
        except NotFoundError:
            return None

    async def put_account(self, user_id: str, body: dict[str, Any]) -> None:
        """Create or change an account (admin API v2). `external_ids` and `threepids` replace."""
        self._changes("change the account")
        await self._request("PUT", f"/_synapse/admin/v2/users/{quote(user_id)}", body)

    async def suspend(self, user_id: str, *, suspend: bool) -> None:
        """Suspend an account or lift that (admin API)."""
        self._changes("suspend the account or lift that")
        await self._request(
            "PUT", f"/_synapse/admin/v1/suspend/{quote(user_id)}", {"suspend": suspend}
        )

    async def deactivate(self, user_id: str, *, erase: bool) -> None:
        """Deactivate an account: devices, keys and e-mail bindings are lost (admin API)."""
        self._changes("deactivate the account")
        await self._request(
            "POST", f"/_synapse/admin/v1/deactivate/{quote(user_id)}", {"erase": erase}
        )


async def _once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again where the connection broke (a client middleware)."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error


def _state_path(room_id: str, event_type: str, key: str) -> str:
    room = quote(room_id, safe="")
    return f"/_matrix/client/v3/rooms/{room}/state/{event_type}/{quote(key, safe='')}"


def _checked(status: int, headers: Any, body: bytes) -> dict[str, Any]:
    """Return the JSON object of a 2xx answer, or raise what the answer means."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnavailableError(
            f"status {status} without JSON: is MATRIX_URL a Synapse homeserver?",
            _retry_after(headers, {}),
        ) from error
    if not isinstance(answer, dict):
        raise UnavailableError(f"status {status} with JSON that is no object")
    if 200 <= status < 300:
        return answer
    errcode, message = str(answer.get("errcode", "")), str(answer.get("error", ""))
    if status == 429:
        raise RateLimitedError("429: rate limited", _retry_after(headers, answer))
    if status >= 500:
        raise UnavailableError(f"{status} {errcode}: {message}", _retry_after(headers, answer))
    if status == 401 or (status == 403 and "server admin" in message):
        raise TokenError(status, errcode, message)
    if status == 404:
        raise NotFoundError(status, errcode, message)
    raise RefusedError(status, errcode, message)


def _retry_after(headers: Any, answer: dict[str, Any]) -> float | None:
    milliseconds = answer.get("retry_after_ms")
    if isinstance(milliseconds, int | float):
        return milliseconds / 1000
    seconds = headers.get("Retry-After", "")
    return float(seconds) if seconds.isdigit() else None
