"""A homeserver that answers as a test says, at a socket, and every request that we know of it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from scim_matrix.matrix.accounts import Change, MatrixAccount, NewAccount
from scim_matrix.matrix.server import Homeserver

BOT = "@bot:s"
IDP = "oidc-x"
ROOM = "!room:s"
ANN = "@ann:s"

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """A request as it came: `path` is what stood in the request line."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return what the body says."""
        return orjson.loads(self.body)


async def _nothing(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({})


@dataclass
class Fake:
    """Answers every request with `answer`; `asked` are the requests so far."""

    answer: Answer = _nothing
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def says(
        self, body: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with a body from now on."""
        content = body.encode() if isinstance(body, str) else body

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            more = {"Content-Type": "application/json", **(headers or {})}
            return web.Response(status=status, body=content, headers=more)

        self.answer = answer

    def says_json(
        self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with JSON from now on."""
        self.says(orjson.dumps(body), status, headers)

    def says_in_turn(self, *answers: tuple[int, Any]) -> None:
        """Answer with JSON, the last answer again and again."""
        left = list(answers)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            return web.json_response(body, status=status)

        self.answer = answer

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        body = await request.read()
        self.asked.append(Asked(request.method, request.raw_path, dict(request.headers), body))
        return await self.answer(request)


@asynccontextmanager
async def faking(**options: Any) -> AsyncIterator[tuple[Fake, Homeserver]]:
    """Run a fake, and connect to it."""
    fake = Fake()
    async with RawTestServer(fake.handle) as server:
        fake.url = str(server.make_url("")).rstrip("/")
        homeserver = Homeserver.connect(fake.url, BOT, "token", IDP, **options)
        try:
            yield fake, homeserver
        finally:
            await homeserver.close()


@dataclass(frozen=True)
class Request:
    """A method of the homeserver: how to call it, and answers that satisfy it, in turn.

    `changes` tells whether it would change the homeserver, `anything` whether any JSON object
    answers it (where the specification promises no key).
    """

    call: Callable[[Homeserver], Awaitable[Any]]
    answers: tuple[tuple[int, Any], ...]
    changes: bool = False
    anything: bool = False


EVENT = {"type": "m.room.create", "state_key": "", "sender": ANN, "content": {}}
MEMBER = {"type": "m.room.member", "state_key": ANN, "sender": BOT, "content": {}}
CHILD = {"type": "m.space.child", "state_key": ROOM, "sender": ANN, "content": {"via": ["s"]}}
ACCOUNT = {
    "name": ANN,
    "displayname": "Ann",
    "threepids": [{"medium": "email", "address": "ann@x.org"}],
    "external_ids": [{"auth_provider": IDP, "external_id": "1"}],
    "admin": False,
    "deactivated": False,
    "locked": False,
    "suspended": False,
    "erased": False,
}
LISTED = {
    "name": ANN,
    "displayname": None,
    "admin": True,
    "deactivated": False,
    "locked": False,
    "erased": False,
}
NOBODY = (404, {"errcode": "M_NOT_FOUND", "error": "User not found"})
PRESENT = MatrixAccount(ANN)


async def _listed(homeserver: Homeserver) -> list[tuple[MatrixAccount, ...]]:
    return [page async for page in homeserver.accounts.listed()]


def _change(change: Change, *answers: tuple[int, Any], **present: Any) -> Request:
    account = {**ACCOUNT, **present}
    return Request(
        lambda h: h.accounts.change(PRESENT, change), ((200, account), *answers), changes=True
    )


# By the attribute of the homeserver, the method, and what of it where there are several ways.
REQUESTS: dict[str, Request] = {
    "server_version": Request(lambda h: h.server_version(), ((200, {"server_version": "1"}),)),
    "is_there": Request(lambda h: h.is_there(), ((200, {"server_version": "1"}),)),
    "whoami": Request(lambda h: h.whoami(), ((200, {"user_id": BOT}),)),
    "sign_in": Request(lambda h: h.sign_in(), ((200, {"user_id": BOT}),)),
    "accounts_are_delegated": Request(
        lambda h: h.accounts_are_delegated(), ((200, {"users": [LISTED], "total": 1}),)
    ),
    "lift_own_rate_limit": Request(
        lambda h: h.lift_own_rate_limit(), ((200, {}),), changes=True, anything=True
    ),
    "installation": Request(lambda h: h.installation(), ((200, {"id": "x", "generation": 3}),)),
    "put_installation": Request(
        lambda h: h.put_installation("x", 4), ((200, {}),), changes=True, anything=True
    ),
    "sign_in_flows": Request(
        lambda h: h.sign_in_flows(), ((200, {"flows": [{"type": "m.login.password"}]}),)
    ),
    "issuer": Request(lambda h: h.issuer(), ((200, {"issuer": "https://mas.s/"}),)),
    "sso_providers": Request(
        lambda h: h.sso_providers(),
        ((200, {"flows": [{"type": "m.login.sso", "identity_providers": [{"id": IDP}]}]}),),
    ),
    "who_signs_in": Request(
        lambda h: h.who_signs_in({"type": "m.login.token"}),
        ((200, {"user_id": ANN, "access_token": "t"}), (200, {})),
    ),
    "rooms.resolve_alias": Request(
        lambda h: h.rooms.resolve_alias("#a:s"), ((200, {"room_id": ROOM, "servers": ["s"]}),)
    ),
    "rooms.members": Request(lambda h: h.rooms.members(ROOM), ((200, {"members": [ANN]}),)),
    "rooms.joined_by": Request(
        lambda h: h.rooms.joined_by(ANN), ((200, {"joined_rooms": [ROOM]}),)
    ),
    "rooms.details": Request(
        lambda h: h.rooms.details(ROOM),
        ((200, {"creator": ANN, "version": "12", "tombstoned": True, "replacement_room": "!n"}),),
    ),
    "rooms.listed": Request(lambda h: h.rooms.listed(10), ((200, {"rooms": [{"room_id": ROOM}]}),)),
    "rooms.member_events": Request(
        lambda h: h.rooms.member_events(ROOM, "invite"), ((200, {"chunk": [MEMBER]}),)
    ),
    "rooms.hierarchy": Request(
        lambda h: h.rooms.hierarchy("!space:s"),
        (
            (200, {"rooms": [{"room_id": "!s", "children_state": [CHILD]}], "next_batch": "2"}),
            (200, {"rooms": [{"room_id": ROOM, "children_state": []}]}),
        ),
    ),
    "rooms.state": Request(
        lambda h: h.rooms.state(ROOM, "m.room.create"), ((200, {"state": [EVENT]}),)
    ),
    "rooms.state_event": Request(
        lambda h: h.rooms.state_event(ROOM, "m.room.create"), ((200, {"state": [EVENT]}),)
    ),
    "rooms.power_state": Request(
        lambda h: h.rooms.power_state(ROOM), ((200, {"state": [EVENT]}), (200, {"state": []}))
    ),
    "rooms.put_state": Request(
        lambda h: h.rooms.put_state(ROOM, "m.room.power_levels", {}),
        ((200, {"event_id": "$e"}),),
        changes=True,
    ),
    "rooms.create_room": Request(
        lambda h: h.rooms.create_room("#a:s", {"name": "A", "topic": "", "encrypted": True}),
        ((200, {"room_id": ROOM}),),
        changes=True,
    ),
    "rooms.invite": Request(
        lambda h: h.rooms.invite(ROOM, ANN), ((200, {}),), changes=True, anything=True
    ),
    "rooms.force_join": Request(
        lambda h: h.rooms.force_join(ROOM, ANN), ((200, {"room_id": ROOM}),), changes=True
    ),
    "rooms.kick": Request(
        lambda h: h.rooms.kick(ROOM, ANN, "why"), ((200, {}),), changes=True, anything=True
    ),
    "rooms.become_room_admin": Request(
        lambda h: h.rooms.become_room_admin(ROOM), ((200, {}), (200, {"room_id": ROOM})), True
    ),
    "accounts.admins": Request(
        lambda h: h.accounts.admins(), ((200, {"users": [LISTED], "total": 1}),)
    ),
    "accounts.by_subject": Request(
        lambda h: h.accounts.by_subject("1"), ((200, {"user_id": ANN}), (200, ACCOUNT))
    ),
    "accounts.by_mark": Request(
        lambda h: h.accounts.by_mark("1"), ((200, {"user_id": ANN}), (200, ACCOUNT))
    ),
    "accounts.by_email": Request(
        lambda h: h.accounts.by_email("a@b.c"), ((200, {"user_id": ANN}),)
    ),
    "accounts.get": Request(lambda h: h.accounts.get(ANN), ((200, ACCOUNT),)),
    "accounts.get_without_homeserver": Request(
        lambda h: h.accounts.get_without_homeserver(ANN), ((200, ACCOUNT),)
    ),
    "accounts.listed": Request(
        _listed,
        ((200, {"users": [LISTED], "next_token": "1", "total": 2}), (200, {"users": [LISTED]})),
    ),
    "accounts.create": Request(
        lambda h: h.accounts.create(NewAccount(ANN, "id", "1", "Ann", ("ann@x.org",))),
        (NOBODY, (201, ACCOUNT)),
        changes=True,
    ),
    "accounts.change: profile": _change(Change(display_name="A"), (200, ACCOUNT)),
    "accounts.change: add": _change(Change(add_mark="id", add_emails=("b@x.org",)), (200, ACCOUNT)),
    "accounts.change: drop": _change(Change(drop_subjects=("1",)), (200, ACCOUNT), (200, ACCOUNT)),
    "accounts.change: lock": _change(Change(locked=True), (200, ACCOUNT)),
    "accounts.change: reactivate": _change(
        Change(deactivated=False), (200, ACCOUNT), deactivated=True
    ),
    "accounts.change: suspend": _change(Change(suspended=True), (200, {})),
    "accounts.change: deactivate": _change(
        Change(deactivated=True), (200, {"id_server_unbind_result": "success"})
    ),
    "accounts.change: erase": _change(
        Change(deactivated=True, erase=True),
        (200, {"id_server_unbind_result": "success"}),
        deactivated=True,
    ),
    "accounts.change: nothing": _change(
        Change(
            display_name=" Ann ",
            add_emails=("Ann@x.org",),
            drop_emails=("gone@x.org",),
            add_subject="1",
            drop_marks=("gone",),
            locked=False,
            suspended=False,
            deactivated=False,
        )
    ),
    "accounts.change: still nothing": _change(
        Change(locked=True, suspended=True, deactivated=True, erase=True),
        **dict.fromkeys(("locked", "suspended", "deactivated", "erased"), True),
    ),
    "live.upload_filter": Request(
        lambda h: h.live.upload_filter([ROOM]), ((200, {"filter_id": "1"}),)
    ),
    "live.position": Request(lambda h: h.live.position(), ((200, {"next_batch": "1"}),)),
    "live.sync": Request(
        lambda h: h.live.sync("1", "1"),
        (
            (
                200,
                {
                    "next_batch": "2",
                    "rooms": {"join": {ROOM: {"timeline": {"events": [MEMBER], "limited": True}}}},
                },
            ),
        ),
    ),
}
