"""Sessions of the console end by themselves and cannot be read or made elsewhere."""

import time
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from scim_matrix.console import session

Client = TestClient[Any, Any]

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")


async def _begin(request: web.Request) -> web.Response:
    await session.begin(request, "@ann:s")
    return web.Response()


async def _who(request: web.Request) -> web.Response:
    return web.Response(text=str((await session.current(request)).get("user")))


@pytest.fixture
async def client(aiohttp_client: Any) -> Client:
    """Return a client of an application that has sessions."""
    app = web.Application(middlewares=[aiohttp_session.session_middleware(session.storage())])
    app.add_routes([web.get("/begin", _begin), web.get("/who", _who)])
    client: Client = await aiohttp_client(app)
    return client


async def begun(client: Client) -> str:
    """Begin a session and return its cookie."""
    async with client.get("/begin") as answer:
        return answer.cookies[session.COOKIE].OutputString()


async def who(client: Client, cookie: str, **headers: str) -> tuple[str, str]:
    """Return who a cookie stands for, and the cookie to go on with."""
    value = cookie.partition(";")[0]
    async with client.get("/who", headers={"Cookie": value, **headers}) as answer:
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


def clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Set the time: no test waits for half an hour."""
    monkeypatch.setattr(time, "time", lambda: now)


@pytest.mark.parametrize(
    ("waits", "ends"),
    [
        ([session.IDLE_SECONDS - 60] * 2, False),
        ([session.IDLE_SECONDS + 60], True),
        ([session.IDLE_SECONDS - 60] * 26, True),
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


async def test_a_page_that_refreshes_itself_keeps_no_session(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has to do something."""
    cookie = await begun(client)
    now = time.time()
    for wait in (session.IDLE_SECONDS - 60, session.IDLE_SECONDS + 60):
        clock(monkeypatch, now + wait)
        found, cookie = await who(client, cookie, **{"HX-Request": "true"})
    assert found == "None"
