"""Sessions of the console end by themselves and cannot be read or made elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from yarl import URL

from scim_matrix.console import session, sessions
from scim_matrix.store.database import Database, Place

Client = TestClient[Any, Any]

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")


async def _begin(request: web.Request) -> web.Response:
    await session.begin(request, request.query.get("user", "@ann:s"))
    return web.Response()


async def _who(request: web.Request) -> web.Response:
    found = await session.user(request)
    await request.config_dict[session.SESSIONS].drain()
    return web.Response(text=str(found))


async def _end(request: web.Request) -> web.Response:
    await session.end(request)
    return web.Response()


async def _end_all(request: web.Request) -> web.Response:
    await session.end_all(request, "@ann:s")
    return web.Response()


async def _check(request: web.Request) -> web.Response:
    made_here = await session.is_from_here(request)
    return web.Response(text=f"{made_here} {await session.token(request)}")


async def _say(request: web.Request) -> web.Response:
    await session.begin(request, "@ann:s")
    await session.token(request)
    await session.new_state(request)
    await session.say(request, await request.text())
    return web.Response()


async def _leave_for_sso(request: web.Request) -> web.Response:
    return web.Response(text=await session.new_state(request))


async def _return_from_sso(request: web.Request) -> web.Response:
    return web.Response(text=str(await session.is_state(request, request.query["state"])))


@pytest.fixture
async def client(aiohttp_client: Any, database: Database) -> Client:
    """Return a client of an application that has sessions."""
    app = web.Application(middlewares=[aiohttp_session.session_middleware(session.storage())])
    app[session.SESSIONS] = sessions.Sessions(database)
    app.add_routes(
        [
            web.get("/begin", _begin),
            web.route("*", "/who", _who),
            web.get("/end", _end),
            web.get("/end-all", _end_all),
            web.post("/check", _check),
            web.post("/say", _say),
            web.get("/leave", _leave_for_sso),
            web.get("/return", _return_from_sso),
        ]
    )
    client: Client = await aiohttp_client(app)
    return client


async def begun(client: Client, user: str = "@ann:s", **headers: str) -> str:
    """Begin a session and return its cookie."""
    async with client.get("/begin", params={"user": user}, headers=headers) as answer:
        return answer.cookies[session.COOKIE].OutputString()


async def who(client: Client, cookie: str, method: str = "GET", **headers: str) -> tuple[str, str]:
    """Return who a cookie stands for, and the cookie to go on with."""
    value = cookie.partition(";")[0]
    sent = {"Cookie": value, **headers}
    async with client.request(method, "/who", headers=sent) as answer:
        renewed = answer.cookies.get(session.COOKIE)
        return await answer.text(), value if renewed is None else renewed.OutputString()


async def test_the_cookie_is_sealed_and_guarded(client: Client) -> None:
    """Scripts and other sites do not get it, plain HTTP neither; nobody reads or forges it."""
    cookie = await begun(client)
    for word in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/console/"):
        assert word in cookie
    assert "ann" not in cookie
    assert (await who(client, cookie))[0] == "@ann:s"
    name, _, value = cookie.partition(";")[0].partition("=")
    forged = f"{name}={value[:-6]}AAAAAA"
    assert (await who(client, forged))[0] == "None"


@pytest.mark.parametrize("sign", ["a", "\u00e4", "\U0001f600", '"', "\n"])
async def test_no_browser_drops_a_cookie_for_what_is_said(client: Client, sign: str) -> None:
    """However long the names are that an action is about, and whatever they are written in."""
    async with client.post("/say", data=(sign * 9000).encode()) as answer:
        cookie = answer.cookies[session.COOKIE]
    assert 2000 < len(cookie.key) + len(cookie.value) <= 4096 - len("=")


def clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Set the time: no test waits for half an hour."""
    monkeypatch.setattr(time, "time", lambda: now)


@pytest.mark.parametrize(
    ("waits", "ends"),
    [
        ([sessions.IDLE_SECONDS - 60] * 2, False),
        ([sessions.IDLE_SECONDS + 60], True),
        ([sessions.IDLE_SECONDS - 60] * 26, True),
    ],
    ids=["used", "idle", "long"],
)
async def test_sessions_end(
    client: Client, monkeypatch: pytest.MonkeyPatch, waits: list[int], ends: bool
) -> None:
    """Half an hour without use ends one, and twelve hours whatever happens."""
    cookie = await begun(client)
    now = time.time()
    found = ""
    for wait in waits:
        now += wait
        clock(monkeypatch, now)
        found, cookie = await who(client, cookie)
    assert (found == "None") is ends


@pytest.mark.parametrize(
    ("method", "expected"), [("GET", "None"), ("POST", "@ann:s")], ids=["refreshes", "is-asked"]
)
async def test_a_page_that_refreshes_itself_keeps_no_session(
    client: Client, monkeypatch: pytest.MonkeyPatch, method: str, expected: str
) -> None:
    """Somebody has to do something, if only ask what would happen."""
    cookie = await begun(client)
    now = time.time()
    for wait in (sessions.IDLE_SECONDS - 60, sessions.IDLE_SECONDS + 60):
        clock(monkeypatch, now + wait)
        found, cookie = await who(client, cookie, method, **{"HX-Request": "true"})
    assert found == expected


async def test_a_copied_cookie_is_worth_nothing_once_signed_out(client: Client) -> None:
    """The session ends at the service, wherever its cookie is; other sessions go on."""
    cookie, other = await begun(client), await begun(client)
    async with client.get("/end", headers={"Cookie": cookie.partition(";")[0]}) as answer:
        assert answer.cookies[session.COOKIE].value == ""
    assert (await who(client, cookie))[0] == "None"
    assert (await who(client, other))[0] == "@ann:s"


async def test_a_new_sign_in_ends_the_one_before_it(client: Client) -> None:
    """Whoever signs in again in the same browser leaves no session behind."""
    cookie = await begun(client)
    again = await begun(client, Cookie=cookie.partition(";")[0])
    assert (await who(client, cookie))[0] == "None"
    assert (await who(client, again))[0] == "@ann:s"


async def test_somebody_is_signed_out_everywhere(client: Client) -> None:
    """All of their sessions end, nobody else's."""
    own, other = [await begun(client), await begun(client)], await begun(client, "@bob:s")
    async with client.get("/end-all"):
        pass
    assert [(await who(client, cookie))[0] for cookie in own] == ["None", "None"]
    assert (await who(client, other))[0] == "@bob:s"


@pytest.fixture
async def two(place: Place) -> AsyncIterator[list[Database]]:
    """Return one database as two services have it."""
    opened = [await Database.open(place) for _ in range(2)]
    yield opened
    for database in opened:
        await database.close()


async def test_what_is_kept_is_bounded(
    two: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a user and in all only so many sessions run; the one used least lately ends first."""
    monkeypatch.setattr(sessions, "MOST", 15)
    kept = sessions.Sessions(two[0])
    bob = await kept.begin("@bob:s", 0)
    first, second, *_ = [
        await kept.begin("@ann:s", number / 100) for number in range(sessions.MOST_OF_A_USER)
    ]
    kept.use(first, 1)
    await kept.drain()
    await kept.begin("@ann:s", 2)
    assert await kept.find(first, 3) is not None
    assert await kept.find(second, 3) is None
    assert await kept.find(bob, 3) is not None
    for number in range(5):
        await kept.begin(f"@c{number}:s", 4)
    assert await kept.find(bob, 5) is None


async def test_a_use_that_cannot_be_written_down_is_no_error(database: Database) -> None:
    """Whoever asked has their answer by then; it is tried again with the next request."""
    kept = sessions.Sessions(database)
    session_id = await kept.begin("@ann:s", 0)
    async with database.write() as connection:
        await connection.execute_fetchall("ALTER TABLE console_session RENAME TO away")
    kept.use(session_id, 100)
    await kept.drain()
    async with database.write() as connection:
        await connection.execute_fetchall("ALTER TABLE away RENAME TO console_session")
    for now in (200, 300):
        kept.use(session_id, now)
        await kept.drain()
        found = await kept.find(session_id, now)
        assert found is not None
        assert found.used == now


async def test_every_service_knows_who_is_signed_in(two: list[Database]) -> None:
    """Cookies of one are opened at the other, and a session that ends there is over here."""
    here, there = map(sessions.Sessions, two)
    keys = await asyncio.gather(here.key(), there.key())
    assert keys[0] == keys[1]
    session_id = await here.begin("@ann:s", 0)
    found = await there.find(session_id, 1)
    assert found is not None
    assert found.user_id == "@ann:s"
    rows = await two[0].reader.execute_fetchall("SELECT id FROM console_session")
    assert session_id not in [row["id"] for row in rows]
    await there.end(session_id)
    assert await here.find(session_id, 1) is None


@pytest.mark.parametrize("value", ["x", "\xff\xfe", "\xe4" * 40, '"', "gAAAAA==", "a b;c"])
async def test_a_garbage_cookie_is_nobodys(client: Client, value: str) -> None:
    """Whatever a cookie holds, it stands for nobody and is no error."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    head = f"GET /who HTTP/1.1\r\nHost: x\r\nCookie: {session.COOKIE}={value}\r\n\r\n"
    writer.write(head.encode("latin-1"))
    async with asyncio.timeout(10):
        assert b" 200 " in await reader.readline()
        assert (await reader.readuntil(b"None")).endswith(b"None")
    writer.close()


@pytest.mark.parametrize("forged", ["", "x", "\u00e4\U0001f600", "%ED%A0%80", "%FF%00"])
async def test_a_forged_form_is_refused(client: Client, forged: str) -> None:
    """Whatever a form's token holds, it is not this session's, and is no error."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    headers = {"Cookie": (await begun(client)).partition(";")[0]}
    async with client.post("/check", headers=headers) as answer:
        token = (await answer.text()).split()[1]
        headers["Cookie"] = answer.cookies[session.COOKIE].OutputString().partition(";")[0]
    async with client.post("/check", data=f"csrf={forged}", headers=headers | kind) as answer:
        assert (answer.status, await answer.text()) == (200, f"False {token}")
    async with client.post("/check", data={"csrf": token}, headers=headers) as answer:
        assert (await answer.text()) == f"True {token}"


@pytest.mark.parametrize("form", [{}, {"csrf": ""}, {"csrf": "None"}])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_a_form_without_a_token_is_refused(
    client: Client, form: dict[str, str], signed_in: bool
) -> None:
    """Also where the session has none yet: that two have none is no likeness."""
    headers = {"Cookie": (await begun(client)).partition(";")[0]} if signed_in else {}
    async with client.post("/check", data=form, headers=headers) as answer:
        assert (await answer.text()).split()[0] == "False"
        if answer.cookies:
            headers["Cookie"] = answer.cookies[session.COOKIE].OutputString().partition(";")[0]
    async with client.post("/check", data=form, headers=headers) as answer:
        assert (await answer.text()).split()[0] == "False"


@pytest.mark.parametrize("forged", ["", "x", "\u00e4\U0001f600", "%ED%A0%80", "%FF%00"])
async def test_a_forged_state_is_refused(client: Client, forged: str) -> None:
    """Whatever single sign-on comes back with, only what it was sent with is that, and is once."""
    async with client.get("/leave") as answer:
        state = await answer.text()
        cookie = answer.cookies[session.COOKIE].OutputString().partition(";")[0]
    for given, expected in ((forged, "False"), (state, "True")):
        url = URL(f"/return?state={given}", encoded=given.startswith("%"))
        async with client.get(url, headers={"Cookie": cookie}) as answer:
            assert (answer.status, await answer.text()) == (200, expected)
    spent = answer.cookies[session.COOKIE].OutputString().partition(";")[0]
    async with client.get("/return", params={"state": state}, headers={"Cookie": spent}) as answer:
        assert await answer.text() == "False"
