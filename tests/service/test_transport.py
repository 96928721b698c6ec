"""The transport to the homeserver: quoting, refusals, waits, bounds."""

import asyncio
import gzip
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest
from aiohttp import web

from scim_matrix.matrix.accounts import Change, MatrixAccount, NewAccount
from scim_matrix.matrix.errors import (
    NOT_INTROSPECTED,
    BannedError,
    FencedError,
    HomeserverError,
    NameTakenError,
    NotFoundError,
    PostponedError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    UnvouchedError,
)
from scim_matrix.matrix.server import Homeserver
from scim_matrix.matrix.transport import MAX_BODY
from tests.service.homeserver import (
    ACCOUNT,
    ANN,
    BOT,
    CHILD,
    EVENT,
    IDP,
    NOBODY,
    REQUESTS,
    ROOM,
    faking,
)

# -- Refusals -------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, {"errcode": "M_NOT_FOUND", "error": "no"}, NotFoundError),
        (404, {"errcode": "M_UNKNOWN", "error": "no"}, NotFoundError),
        # The endpoint is not known: nothing is said of the room.
        (404, {"errcode": "M_UNRECOGNIZED", "error": "no"}, RefusedError),
        (404, {"detail": "Not Found"}, UnavailableError),
        (403, {"errcode": "M_FORBIDDEN", "error": "no"}, RefusedError),
        (403, {"errcode": "M_BAD_STATE", "error": "banned"}, BannedError),
        (400, {"errcode": "M_USER_IN_USE", "error": "taken"}, NameTakenError),
        (403, {"errcode": "M_FORBIDDEN", "error": "You are not a server admin"}, TokenError),
        (400, {"errcode": "M_UNKNOWN", "error": "You are not a server admin"}, RefusedError),
        (403, {"errcode": 5, "error": "no"}, UnavailableError),
        (400, {"errcode": "M_BAD_JSON", "error": 5}, RefusedError),
        (400, {"errcode": "M_BAD_JSON"}, RefusedError),
        (401, {"errcode": "M_UNKNOWN_TOKEN", "error": "no"}, TokenError),
        (401, {}, UnavailableError),
        (413, {"errcode": "M_TOO_LARGE", "error": "no"}, RefusedError),
        (500, {"errcode": "M_UNKNOWN", "error": "no"}, UnavailableError),
        (503, {}, UnavailableError),
        (503, {"errcode": "M_UNKNOWN", "error": NOT_INTROSPECTED}, UnvouchedError),
        (600, {"errcode": "M_UNKNOWN"}, UnavailableError),
        (429, {"errcode": "M_LIMIT_EXCEEDED"}, RateLimitedError),
        (429, [], RateLimitedError),
    ],
)
@pytest.mark.parametrize("name", ["rooms.members", "rooms.kick"])
async def test_each_answer_means_one_error(
    name: str, status: int, body: Any, expected: type[Exception]
) -> None:
    """The status and the errcode decide, the same for what nio sends and for what we do."""
    async with faking() as (fake, homeserver):
        fake.says_json(body, status)
        with pytest.raises(HomeserverError) as raised:
            await REQUESTS[name].call(homeserver)
        assert expected is type(raised.value)


async def test_an_unknown_endpoint_is_no_missing_account() -> None:
    """A server without the admin API does not say that nobody has an account."""
    async with faking() as (fake, homeserver):
        fake.says_json({"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"}, 404)
        for look in (
            homeserver.accounts.get(ANN),
            homeserver.accounts.by_subject("1"),
            homeserver.accounts.by_mark("1"),
            homeserver.accounts.by_email("a@b.c"),
        ):
            with pytest.raises(RefusedError, match="M_UNRECOGNIZED"):
                await look


async def test_a_sign_in_that_fails_says_nothing_of_the_services_token() -> None:
    """401 to somebody else's request, as for a locked account, is a refusal of that request."""
    async with faking() as (fake, homeserver):
        fake.says_json({"errcode": "M_USER_LOCKED", "error": "locked"}, 401)
        with pytest.raises(RefusedError):
            await homeserver.who_signs_in({"type": "m.login.token"})
        assert "Authorization" not in fake.asked[0].headers


async def test_whom_a_kick_does_not_find_is_out() -> None:
    """They left meanwhile, or the answer to an earlier kick was lost."""
    async with faking() as (fake, homeserver):
        fake.says_json(
            {"errcode": "M_FORBIDDEN", "error": "The target user is not in the room"}, 403
        )
        await homeserver.rooms.kick(ROOM, ANN, "Removed from group G")
        assert fake.asked


@pytest.mark.parametrize("says", ["@ann:s is already in the room.", "You are not invited"])
async def test_whom_an_invitation_finds_in_the_room_is_in(says: str) -> None:
    """They joined meanwhile; whatever else is said is a refusal."""
    async with faking() as (fake, homeserver):
        fake.says_json({"errcode": "M_FORBIDDEN", "error": says}, 403)
        if "already" in says:
            assert not await homeserver.rooms.invite(ROOM, ANN)
        else:
            with pytest.raises(RefusedError, match=says):
                await homeserver.rooms.invite(ROOM, ANN)


async def test_a_token_error_is_no_refusal() -> None:
    """Whoever handles a refusal does not handle a bad token by accident."""
    assert not issubclass(TokenError, RefusedError)
    assert not issubclass(RateLimitedError, UnavailableError)
    assert issubclass(NotFoundError, RefusedError)


async def test_secrets_are_not_in_errors() -> None:
    """An answer of another shape is told by where it differs, not by what it holds."""
    async with faking() as (fake, homeserver):
        fake.says_json({"access_token": "hush-hush", "user_id": ["hush-hush"]})
        with pytest.raises(UnavailableError, match="user_id") as raised:
            await homeserver.who_signs_in({"type": "m.login.token"})
        assert "hush" not in str(raised.value)


# -- Waits ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "header", "expected"),
    [
        (1500, None, 1.5),
        (0, None, 0.5),
        (-5000, None, 0.5),
        (3_600_000, None, 300.0),
        (1e300, None, 300.0),
        (2**63, None, 300.0),
        (1.5, None, 0.5),
        (True, None, None),
        ("2000", None, None),
        ([], None, None),
        (None, "7", 7.0),
        (None, "0", 0.5),
        (None, "3600", 300.0),
        (None, "9" * 5000, 300.0),
        (None, "-1", None),
        (None, "nan", None),
        (None, "²", None),
        (None, "Wed, 21 Oct 2065 07:28:00 GMT", None),
        (None, None, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("name", ["rooms.members", "rooms.kick"])
async def test_a_server_may_ask_for_half_a_second_to_five_minutes(
    name: str, status: int, asked: Any, header: str | None, expected: float | None
) -> None:
    """What it asks for is kept within that, and what is no time is not asked for."""
    async with faking() as (fake, homeserver):
        body = {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": asked}
        fake.says_json(body, status, {} if header is None else {"Retry-After": header})
        with pytest.raises(PostponedError) as raised:
            await REQUESTS[name].call(homeserver)
        assert expected == raised.value.retry_after


@pytest.mark.parametrize("body", ["<html>", '{"retry_after_ms": NaN}', '{"retry_after_ms": 1e999}'])
async def test_a_page_may_ask_for_time_too(body: str) -> None:
    """The header counts where the body cannot be read."""
    async with faking() as (fake, homeserver):
        fake.says(body, 503, headers={"Retry-After": "4"})
        with pytest.raises(UnavailableError) as raised:
            await homeserver.rooms.members(ROOM)
        assert raised.value.retry_after == 4.0


# -- Bounds ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["rooms.members", "rooms.kick"])
async def test_a_body_without_an_end_is_left(name: str) -> None:
    """No more than 64 MiB of it are read."""
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while sent < 2 * MAX_BODY:
            await response.write(b" " * 2**20)
            sent += 2**20
        return response

    async with faking() as (fake, homeserver):
        fake.answer = answer
        with pytest.raises(UnavailableError, match="a body of more than"):
            await REQUESTS[name].call(homeserver)
    assert MAX_BODY <= sent < MAX_BODY + 2**24


async def test_a_compressed_body_counts_as_what_it_becomes() -> None:
    """64 KiB that become 65 MiB are not read to the end."""
    async with faking() as (fake, homeserver):
        small = gzip.compress(b'{"members": []' + b" " * (MAX_BODY + 2**20) + b"}")
        assert len(small) < 2**17
        fake.says(small, headers={"Content-Encoding": "gzip"})
        with pytest.raises(UnavailableError, match="a body of more than"):
            await homeserver.rooms.members(ROOM)


async def test_a_large_body_is_read() -> None:
    """A room with very many members is no fault."""
    members = [f"@user-{n}:example.org" for n in range(200_000)]
    async with faking() as (fake, homeserver):
        fake.says_json({"members": members})
        assert members == await homeserver.rooms.members(ROOM)


@pytest.mark.parametrize("name", ["rooms.hierarchy", "accounts.listed", "accounts.admins"])
async def test_pages_without_an_end_are_left(name: str) -> None:
    """The same page again, or an empty one with more to come, is no usable answer."""
    user = {"name": ANN, "displayname": None, "admin": True, "deactivated": False}
    space = {"room_id": ROOM, "children_state": []}
    more = {"next_batch": "1", "next_token": "1"}
    async with faking() as (fake, homeserver):
        pages: list[dict[str, Any]] = [{"users": [user], "rooms": [space]}]
        pages.append({"users": [], "rooms": []})
        for page in pages:
            fake.says_json({**page, **more})
            with pytest.raises(UnavailableError, match="without an end"):
                async with asyncio.timeout(10):
                    await REQUESTS[name].call(homeserver)
        assert len(fake.asked) <= 3


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("left the group", "left the group"),
        ("x" * 512, "x" * 512),
        ("x" * 70_000, "x" * 509 + "…"),
        ("ü" * 70_000, "ü" * 254 + "…"),
        ("😀" * 70_000, "😀" * 127 + "…"),
    ],
)
async def test_a_long_reason_is_cut_between_characters(reason: str, expected: str) -> None:
    """Synapse refuses an event that is too large, and the person would stay."""
    async with faking() as (fake, homeserver):
        await homeserver.rooms.kick(ROOM, ANN, reason)
        assert {"user_id": ANN, "reason": expected} == fake.asked[0].json()


# -- Paths ----------------------------------------------------------------

NAMES = ["a/b", "x/../y", "..", ".", "...", "%", "%2e%2e", "a?b", "a#b", "a b", "é😀", "a;b", "a+b"]
NAMES += ["a&b=c", "//", "a\\b", "\n"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_stays_one_segment_of_the_path(name: str) -> None:
    """Whatever stands in a name, nothing on the way to the socket takes it for a path."""
    user, room, alias = f"@{name}:s", f"!{name}:s", f"#{name}:s"
    async with faking() as (fake, homeserver):
        accounts, rooms = homeserver.accounts, homeserver.rooms
        admin, client = "/_synapse/admin", "/_matrix/client/v3"
        for look, before, value, after in [
            (accounts.get(user), f"{admin}/v2/users/", user, ""),
            (accounts.by_subject(name), f"{admin}/v1/auth_providers/{IDP}/users/", name, ""),
            (accounts.by_mark(name), f"{admin}/v1/auth_providers/scim-matrix/users/", name, ""),
            (rooms.members(room), f"{admin}/v1/rooms/", room, "/members"),
            (rooms.details(room), f"{admin}/v1/rooms/", room, ""),
            (rooms.hierarchy(room), f"{admin}/v1/rooms/", room, "/hierarchy"),
            (rooms.force_join(room, user), f"{admin}/v1/join/", room, ""),
            (rooms.resolve_alias(alias), f"{client}/directory/room/", alias, ""),
            (rooms.invite(room, user), f"{client}/rooms/", room, "/invite"),
            (rooms.kick(room, user, ""), f"{client}/rooms/", room, "/kick"),
        ]:
            fake.asked.clear()
            fake.says_json({"errcode": "M_FORBIDDEN", "error": "no"}, 403)
            with pytest.raises(RefusedError):
                await look
            path = fake.asked[0].path
            assert path.startswith(before), path
            assert path.endswith(after)
            segment = path.removeprefix(before).removesuffix(after)
            assert not set("/?# \n").intersection(segment)
            assert segment.strip("."), "a directory"
            assert value == unquote(segment)


async def test_queries_are_quoted_too() -> None:
    """What a homeserver gave as the token of a page comes back as it was."""
    async with faking() as (fake, homeserver):
        room = {"room_id": ROOM, "children_state": []}
        token = "a&limit=1#+ %/é"
        fake.says_in_turn((200, {"rooms": [room], "next_batch": token}), (200, {"rooms": []}))
        seen = []
        answer = fake.answer

        async def noting(request: web.BaseRequest) -> web.StreamResponse:
            seen.append(dict(request.query))
            return await answer(request)

        fake.answer = noting
        await homeserver.rooms.hierarchy("!space:s")
        assert [{}, {"from": token}] == seen


# -- Who it is ------------------------------------------------------------


async def test_an_answer_does_not_change_who_the_service_is() -> None:
    """whoami tells what the homeserver says; the configured user ID stays to compare it with."""
    async with faking() as (fake, homeserver):
        fake.says_json({"user_id": "@other:elsewhere", "device_id": "D"})
        assert await homeserver.whoami() == "@other:elsewhere"
        assert homeserver.user_id == BOT
        assert homeserver.server_name == "s"
        fake.says_json({})
        await homeserver.lift_own_rate_limit()
        assert "%40bot%3As" in fake.asked[-1].path


async def test_a_cookie_is_not_sent_back() -> None:
    """What one answer sets is not part of the next request: sign-ins of others go this way."""
    async with faking() as (fake, _):
        # Cookies of an address are not kept in any case.
        named = Homeserver.connect(fake.url.replace("127.0.0.1", "localhost"), BOT, "token", IDP)
        try:
            fake.says("{}", headers={"Set-Cookie": "session=1; Path=/"})
            await named.lift_own_rate_limit()
            await named.rooms.kick(ROOM, ANN, "")
        finally:
            await named.close()
        assert "Cookie" not in fake.asked[1].headers


async def test_what_waited_for_its_connection_is_not_sent_by_who_leads_no_more() -> None:
    """Names, handshakes and a process that was stopped take their time, and another leads by then.

    Reading goes on.
    """
    leads = True

    async def another_begins_to_lead(*_: object) -> None:
        nonlocal leads
        leads = False

    connecting = aiohttp.TraceConfig()
    connecting.on_connection_create_end.append(another_begins_to_lead)
    async with faking() as (fake, _):
        homeserver = Homeserver.connect(
            fake.url, BOT, "token", IDP, leads=lambda: leads, tracing=[connecting]
        )
        try:
            with pytest.raises(FencedError):
                await homeserver.rooms.kick(ROOM, ANN, "")
            assert not leads
            assert fake.asked == []
            fake.says_json({"user_id": BOT})
            assert await homeserver.whoami() == BOT
        finally:
            await homeserver.close()


async def test_the_browsers_address_is_passed_on() -> None:
    """Synapse counts attempts to sign in by it, where it trusts the service."""
    async with faking() as (fake, homeserver):
        fake.says_json({"user_id": ANN, "access_token": "t"})
        assert await homeserver.who_signs_in({"type": "m.login.token"}, "203.0.113.9") == ANN
        login, logout = fake.asked
        assert login.headers["X-Forwarded-For"] == "203.0.113.9"
        assert "Authorization" not in login.headers
        assert logout.headers["Authorization"] == "Bearer t"
        await homeserver.who_signs_in({"type": "m.login.token"})
        assert "X-Forwarded-For" not in fake.asked[2].headers


# -- What others may have written -----------------------------------------


async def test_what_people_write_into_events_is_no_fault_of_the_homeserver() -> None:
    """Contents of any shape are read; only what has the meaning of the word counts."""
    async with faking() as (fake, homeserver):
        contents: list[Any] = [{}, {"via": []}, {"via": {}}, {"via": "s"}, {"via": None}]
        children = [{**CHILD, "content": content} for content in contents] + [CHILD]
        other = {**CHILD, "type": "m.room.topic"}
        fake.says_json({"rooms": [{"room_id": "!s", "children_state": [other, *children]}]})
        found = await homeserver.rooms.hierarchy("!s")
        assert [(c.space_id, c.room_id, c.sender) for c in found.children] == [("!s", ROOM, ANN)]

        replacements: list[Any] = [None, 5, [], {}]
        for replacement in replacements:
            body = {"tombstoned": True, "replacement_room": replacement}
            fake.says_json({"creator": None, "version": None, **body})
            assert (await homeserver.rooms.details(ROOM)).replacement is None

        strange = {"type": "m.room.power_levels", "sender": ANN, "content": {"membership": {}}}
        timeline = {"events": [strange, {**strange, "type": "m.room.member"}]}
        fake.says_json({"next_batch": "2", "rooms": {"join": {ROOM: {"timeline": timeline}}}})
        batch = await homeserver.live.sync("1", "1")
        assert [event.membership for event in batch.events] == [None, None]


@pytest.mark.parametrize(
    ("name", "alias", "shown"),
    [
        ("General", "#general:s", ("General", "#general:s")),
        ("  two\n lines ", None, ("two lines", None)),
        ("#board:s", "#mine:s", (None, "#mine:s")),
        ("!board:s", "", (None, None)),
        (" @ceo:s", 5, (None, None)),
        ({"a": 1}, None, (None, None)),
        ("x" * 101, None, ("x" * 99 + "…", None)),
    ],
)
async def test_what_a_room_calls_itself_is_read_with_care(
    name: Any, alias: Any, shown: tuple[str | None, str | None]
) -> None:
    """Whoever is in a room writes its name: nothing that looks like another room is taken."""
    async with faking() as (fake, homeserver):
        own = {"name": name, "canonical_alias": alias}
        fake.says_json({"creator": ANN, "version": "12", **own})
        assert (await homeserver.rooms.details(ROOM)).own_name == shown
        fake.says_json({"rooms": [{"room_id": ROOM, "children_state": [], **own}]})
        assert (await homeserver.rooms.hierarchy("!s")).rooms == {ROOM: shown}
        fake.says_json({"rooms": [{"room_id": ROOM, **own}]})
        assert await homeserver.rooms.listed(10) == {ROOM: shown}


async def test_a_synapse_that_does_not_know_the_type_sends_everything() -> None:
    """Only events of the type that was asked for are returned."""
    async with faking() as (fake, homeserver):
        topic = {**EVENT, "type": "m.room.topic"}
        fake.says_json({"state": [topic, EVENT]})
        assert [e.type for e in await homeserver.rooms.state(ROOM, "m.room.create")] == [
            "m.room.create"
        ]


async def test_nobody_can_say_who_the_administrators_are() -> None:
    """Where accounts are delegated there is no list of them: not an empty one."""
    async with faking() as (fake, homeserver):
        fake.says_json({"errcode": "M_INVALID_PARAM", "error": "guests"}, 400)
        assert await homeserver.accounts.admins() is None
        assert await homeserver.accounts_are_delegated() is True
        fake.says_json({"errcode": "M_UNKNOWN", "error": "something"}, 400)
        for look in (homeserver.accounts.admins(), homeserver.accounts_are_delegated()):
            with pytest.raises(RefusedError):
                await look


@pytest.mark.parametrize(
    ("status", "errcode"),
    [(404, "M_UNKNOWN"), (400, "M_UNRECOGNIZED"), (403, "M_NOT_FOUND"), (403, "M_FORBIDDEN")],
)
async def test_only_that_nobody_knows_the_question_says_that_synapse_keeps_accounts(
    status: int, errcode: str
) -> None:
    """Any other refusal may come from what stands before it, and leaves that open."""
    async with faking() as (fake, homeserver):
        fake.says_json({"errcode": errcode, "error": "no"}, status)
        with pytest.raises(UnavailableError, match="it cannot be told whether"):
            await homeserver.issuer()
        fake.says_json({"errcode": "M_UNRECOGNIZED", "error": "no"}, 404)
        assert await homeserver.issuer() is None


@pytest.mark.parametrize("said", ["true", "false", 1, 0, None, "", []])
@pytest.mark.parametrize("key", ["admin", "deactivated", "locked", "suspended", "erased"])
async def test_yes_and_no_are_not_guessed(key: str, said: Any) -> None:
    """Whether somebody is an administrator, locked or gone is true or false, or not known."""
    async with faking() as (fake, homeserver):
        fake.says_json({**ACCOUNT, key: said})
        with pytest.raises(UnavailableError, match=key):
            await homeserver.accounts.get(ANN)


async def test_an_account_that_somebody_made_in_between_does_not_pass_for_ours() -> None:
    """200 to a creation means that it was there: our mark and link are taken off it again."""
    async with faking() as (fake, homeserver):
        mark = {"auth_provider": "scim-matrix", "external_id": "id"}
        link = {"auth_provider": IDP, "external_id": "1"}
        foreign = {"auth_provider": "saml", "external_id": "9"}
        there = {**ACCOUNT, "external_ids": [mark, link, foreign]}
        fake.says_in_turn(NOBODY, (200, there), (200, ACCOUNT))
        with pytest.raises(NameTakenError):
            await homeserver.accounts.create(NewAccount(ANN, "id", "1", None, ()))
        _, put, undo = fake.asked
        assert [mark, link] == put.json()["external_ids"], "the mark comes first"
        assert {"external_ids": [foreign]} == undo.json()


async def test_an_account_that_is_gone_is_not_made_by_a_change_of_it() -> None:
    """Synapse would make one of whatever is asked of a name that it does not know."""
    async with faking() as (fake, homeserver):
        fake.says_in_turn(NOBODY)
        with pytest.raises(NotFoundError, match=f"404 M_NOT_FOUND: .*{ANN}"):
            await homeserver.accounts.change(MatrixAccount(ANN), Change(display_name="Ann"))
        assert [asked.method for asked in fake.asked] == ["GET"]


@pytest.mark.parametrize(
    ("name", "email"),
    [("x" * 257, None), ("nul\0", None), *((None, e) for e in ("a", "a@b@c", "@b", "a@", "@"))],
)
async def test_what_synapse_would_refuse_half_way_is_not_sent(
    name: str | None, email: str | None
) -> None:
    """It makes the account first, and would leave it there without the mark."""
    async with faking() as (fake, homeserver):
        emails = () if email is None else (email,)
        with pytest.raises(RefusedError, match=r"^400 M_INVALID_PARAM: .* does not take"):
            await homeserver.accounts.create(NewAccount(ANN, "id", None, name, emails))
        assert fake.asked == []
