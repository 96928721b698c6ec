"""The world at a socket: Synapse's requests, answers, errors and long polls, and faults."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import orjson
from aiohttp import web

from tests.homeserver.errors import MatrixError, forbidden, not_found
from tests.homeserver.rooms import CANONICAL, CREATE, LEVELS, MEMBER, NAME, PARENT, TOMBSTONE
from tests.homeserver.world import Deed, World

# request lost: not done; answer lost: done, and nobody hears of it; hangs: done, and answered no
# more; slow: done and answered, once somebody says so; the others are not done.
Kind = Literal["request lost", "answer lost", "hangs", "slow", "unavailable", "rate limited"]
TOKEN = "token"


@dataclass(frozen=True)
class Request:
    """A request that came in: its path's segments unquoted, and how it was answered."""

    method: str
    path: tuple[str, ...]
    body: dict[str, Any]
    query: dict[str, str]

    @property
    def changes(self) -> bool:
        """Whether it asks for a change that anybody would see."""
        return self.method != "GET" and self.path[-1] not in ("filter", "override_ratelimit")


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that are meant."""

    kind: Kind
    is_meant: Callable[[Request], bool] = lambda request: True
    times: int = 1


class MemoryHomeserver:
    """Answers for a world. `faults` go wrong in order; while it is `dark` nothing is answered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.url = ""
        self.dark = False
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        # Called with each request, before and after it is done.
        self.before: Callable[[Request], None] = lambda request: None
        self.after: Callable[[Request], None] = lambda request: None
        # Set once a request hangs, or is slow; it is until the other one is set.
        self.hung, self.given_up = asyncio.Event(), asyncio.Event()
        # Syncs that wait, by the position they wait from.
        self.waiting: dict[int, int] = {}
        self._stir = asyncio.Event()
        self.stir = self._stir.set
        world.rooms.happened = self.stir
        self._synced = asyncio.Event()
        self._filters: dict[str, Any] = {}
        self._numbers = itertools.count(1)

    # -- At the socket ------------------------------------------------------

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """Answer one request."""
        sent = await http.read()
        path = tuple(map(unquote, http.raw_path.partition("?")[0].split("/")[1:]))
        request = Request(http.method, path, orjson.loads(sent or b"{}"), dict(http.query))
        self.requests.append(request)
        fault = next((f for f in self.faults if f.is_meant(request)), None)
        if fault is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
        kind = fault.kind if fault is not None else None
        if self.dark or kind == "request lost":
            return self._cut(http)
        if kind == "unavailable":
            return web.Response(status=502, text="<html>bad gateway</html>")
        if kind == "rate limited":
            return _json(429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 1000})
        try:
            if not _is_for_signing_in(request.path) and (
                http.headers.get("Authorization") != f"Bearer {TOKEN}"
            ):
                raise MatrixError(401, "M_UNKNOWN_TOKEN", "Invalid access token passed.")
            self.before(request)
            status, answer = await self._answer(request)
        except MatrixError as error:
            status, answer = error.status, {"errcode": error.errcode, "error": error.error}
        self.after(request)
        if kind in ("hangs", "slow"):
            self.hung.set()
            await self.given_up.wait()
        if kind in ("answer lost", "hangs") or self.dark:
            return self._cut(http)
        return _json(status, answer)

    def _cut(self, http: web.Request) -> web.Response:
        assert http.transport is not None
        http.transport.abort()
        return web.Response()

    async def _answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        path = request.path[2:]
        if request.path[:2] == ("_synapse", "admin"):
            if not self.world.accounts.get(self.world.service).admin:
                raise forbidden("You are not a server admin")
            return self._admin(request, path)
        if request.path[:3] == ("_matrix", "client", "v3"):
            return await self._client(request, path[1:])
        raise _unrecognized()

    async def followed(self) -> None:
        """Wait until a sync waits for what is still to happen."""
        while not self.waiting.get(len(self.world.rooms.events)):
            self._synced.clear()
            await self._synced.wait()

    # -- Admin API ----------------------------------------------------------

    def _admin(self, request: Request, path: tuple[str, ...]) -> tuple[int, dict[str, Any]]:
        accounts, rooms = self.world.accounts, self.world.rooms
        body = request.body
        match (request.method, *path):
            case ("GET", "v1", "server_version"):
                return 200, {"server_version": "1.163.0"}
            case ("GET", "v2", "users"):
                return 200, accounts.page(request.query)
            case ("GET", "v2", "users", user_id):
                if not accounts.is_mine(user_id):
                    raise MatrixError(400, "M_UNKNOWN", "Can only look up local users")
                return 200, accounts.get(user_id).shown()
            case ("PUT", "v2", "users", user_id):
                with self._account_deed(user_id):
                    status, account = accounts.put(user_id, body)
                return status, account.shown()
            case ("GET", "v1", "users", user_id, "joined_rooms"):
                accounts.get(user_id)
                joined = [i for i, r in rooms.all.items() if r.membership(user_id) == "join"]
                return 200, {"joined_rooms": joined, "total": len(joined)}
            case ("POST", "v1", "users", _, "override_ratelimit"):
                return 200, {"messages_per_second": 0, "burst_count": 0}
            case ("PUT", "v1", "suspend", user_id):
                with self._account_deed(user_id):
                    accounts.get(user_id).suspended = body["suspend"]
                return 200, {f"user_{user_id}_suspended": body["suspend"]}
            case ("POST", "v1", "deactivate", user_id):
                with self._account_deed(user_id):
                    accounts.deactivate(user_id, erase=body.get("erase", False))
                return 200, {"id_server_unbind_result": "success"}
            case ("GET", "v1", "auth_providers", provider, "users", identity):
                return 200, {"user_id": accounts.linked(provider, identity)}
            case ("GET", "v1", "threepid", "email", "users", address):
                return 200, {"user_id": accounts.with_email(address)}
            case ("POST", "v1", "join", room_id):
                accounts.get(user_id := body["user_id"])
                rooms.force_join(room_id, self.world.service, user_id)
                self._did("join", user_id, room_id)
                return 200, {"room_id": room_id}
            case ("GET", "v1", "rooms", room_id):
                return 200, self._details(room_id)
            case ("GET", "v1", "rooms", room_id, "members"):
                members = rooms.get(room_id).members()
                return 200, {"members": members, "total": len(members)}
            case ("GET", "v1", "rooms", room_id, "state"):
                wanted = request.query.get("type")
                events = rooms.get(room_id).state.values() if self._is_here(room_id) else ()
                return 200, {"state": [e.shown() for e in events if wanted in (None, e.type)]}
            case ("GET", "v1", "rooms", room_id, "hierarchy"):
                return 200, {"rooms": rooms.hierarchy(room_id)}
            case ("POST", "v1", "rooms", room_id, "make_room_admin"):
                before = self._levels(room_id)
                rooms.make_admin(room_id, body["user_id"])
                self._did("levels", None, room_id, before, self._levels(room_id))
                return 200, {}
        raise _unrecognized()

    def _is_here(self, room_id: str) -> bool:
        return self.world.rooms.is_here(self.world.rooms.get(room_id))

    def _details(self, room_id: str) -> dict[str, Any]:
        room = self.world.rooms.get(room_id)
        tombstone = room.state.get((TOMBSTONE, ""))
        return {
            "room_id": room_id,
            "creator": room.state[CREATE, ""].sender,
            "version": room.version,
            "name": room.content(NAME).get("name"),
            "canonical_alias": room.content(CANONICAL).get("alias"),
            "joined_members": len(room.members()),
            "tombstoned": tombstone is not None,
            "replacement_room": tombstone and tombstone.content.get("replacement_room"),
        }

    # -- Client-server API --------------------------------------------------

    async def _client(self, request: Request, path: tuple[str, ...]) -> tuple[int, dict[str, Any]]:
        rooms, service, body = self.world.rooms, self.world.service, request.body
        match (request.method, *path):
            case ("GET", "login"):
                return 200, {"flows": [{"type": "m.login.password"}]}
            case ("POST", "login"):
                user_id = f"@{body['identifier']['user']}:{self.world.server_name}"
                if user_id not in self.world.accounts.all or body["password"] != "password":
                    raise forbidden("Invalid username or password")
                return 200, {"user_id": user_id, "access_token": "theirs"}
            case ("POST", "logout"):
                return 200, {}
            case ("GET", "account", "whoami"):
                return 200, {"user_id": service}
            case ("GET", "user", _, "account_data", kind):
                if kind not in self.world.account_data:
                    raise not_found("Account data not found")
                return 200, self.world.account_data[kind]
            case ("PUT", "user", _, "account_data", kind):
                self.world.account_data[kind] = body
                return 200, {}
            case ("POST", "user", _, "filter"):
                filter_id = str(next(self._numbers))
                self._filters[filter_id] = body
                return 200, {"filter_id": filter_id}
            case ("GET", "sync"):
                return 200, await self._sync(request.query)
            case ("GET", "directory", "room", alias):
                return 200, {"room_id": rooms.resolve(alias), "servers": [self.world.server_name]}
            case ("POST", "createRoom"):
                name = body.get("room_alias_name")
                full = f"#{name}:{self.world.server_name}" if name else None
                room = rooms.create(service, alias=full)
                return 200, {"room_id": room.room_id}
            case ("POST", "join", room_id):
                rooms.join(room_id, service)
                return 200, {"room_id": room_id}
            case ("POST", "rooms", room_id, "invite"):
                rooms.invite(room_id, service, body["user_id"])
                self._did("invite", body["user_id"], room_id)
                return 200, {}
            case ("POST", "rooms", room_id, "kick"):
                rooms.kick(room_id, service, body["user_id"])
                self._did("kick", body["user_id"], room_id, after=body.get("reason"))
                return 200, {}
            case ("GET", "rooms", room_id, "members"):
                room = rooms.get(room_id)
                if room.membership(service) != "join":
                    raise forbidden(
                        f"User {service} not in room {room_id}, and room previews are disabled"
                    )
                wanted = request.query.get("membership")
                chunk = [
                    event.shown()
                    for (event_type, _), event in room.state.items()
                    if event_type == MEMBER and wanted in (None, event.content["membership"])
                ]
                return 200, {"chunk": chunk}
            case ("PUT", "rooms", room_id, "state", kind, state_key):
                before = self._levels(room_id)
                rooms.send(room_id, service, kind, state_key, body)
                if kind == LEVELS:
                    self._did("levels", None, room_id, before, self._levels(room_id))
                elif kind != PARENT:
                    self._did(kind, None, room_id)
                return 200, {"event_id": f"$e{len(rooms.events)}"}
        raise _unrecognized()

    async def _sync(self, query: dict[str, str]) -> dict[str, Any]:
        """Wait until something happened in the rooms of the filter, or the time is over."""
        rooms, given = self.world.rooms, query["filter"]
        content = orjson.loads(given) if given.startswith("{") else self._filters[given]
        wanted = content["room"]["rooms"]
        since = int(query["since"][1:]) if "since" in query else len(rooms.events)
        loop = asyncio.get_running_loop()
        until = loop.time() + int(query.get("timeout", "0")) / 1000
        while not (found := self._news(wanted, since)) and loop.time() < until:
            # What happened in other rooms is passed over.
            since = len(rooms.events)
            with self._waits_from(since), contextlib.suppress(TimeoutError):
                self._stir.clear()
                async with asyncio.timeout(until - loop.time()):
                    await self._stir.wait()
        return {
            "next_batch": f"s{len(rooms.events)}",
            "rooms": {"join": {r: _timeline(e, content) for r, e in found.items()}},
        }

    @contextlib.contextmanager
    def _waits_from(self, since: int) -> Iterator[None]:
        self.waiting[since] = self.waiting.get(since, 0) + 1
        self._synced.set()
        try:
            yield
        finally:
            self.waiting[since] -= 1

    def _news(self, wanted: list[str], since: int) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for room_id, event in self.world.rooms.events[since:]:
            room = self.world.rooms.all.get(room_id)
            if room is None or room_id not in wanted:
                continue
            if room.membership(self.world.service) == "join":
                found.setdefault(room_id, []).append(event.shown())
        return found

    # -- What the service did -----------------------------------------------

    def _levels(self, room_id: str) -> dict[str, int]:
        return dict(self.world.rooms.get(room_id).content(LEVELS).get("users", {}))

    def _did(
        self, what: str, user_id: str | None, room_id: str, before: Any = None, after: Any = None
    ) -> None:
        self.world.deeds.append(Deed(what, user_id, room_id, before, after))

    @contextlib.contextmanager
    def _account_deed(self, user_id: str) -> Iterator[None]:
        known = self.world.accounts.all
        before = known[user_id].shown() if user_id in known else None
        try:
            yield
        finally:
            if user_id in known:
                after = known[user_id].shown()
                if known[user_id].deactivated:
                    self.world.part(user_id)
                if before != after:
                    self.world.deeds.append(Deed("account", user_id, None, before, after))


def _timeline(events: list[dict[str, Any]], content: dict[str, Any]) -> dict[str, Any]:
    """Return the last events, as many as a filter lets through, and whether others are left out."""
    limit = content["room"].get("timeline", {}).get("limit", 10)
    return {"timeline": {"events": events[-limit:], "limited": len(events) > limit}}


def _json(status: int, answer: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(answer), content_type="application/json")


def _is_for_signing_in(path: tuple[str, ...]) -> bool:
    """Tell whether a request is one by which people sign in, with "password", and out."""
    return path[:3] == ("_matrix", "client", "v3") and path[-1] in ("login", "logout")


def _unrecognized() -> MatrixError:
    return MatrixError(404, "M_UNRECOGNIZED", "Unrecognized request")


@contextlib.asynccontextmanager
async def serving(world: World) -> AsyncIterator[MemoryHomeserver]:
    """Serve a world on a free loopback port."""
    homeserver = MemoryHomeserver(world)
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", homeserver.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    homeserver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield homeserver
    finally:
        await runner.cleanup()
