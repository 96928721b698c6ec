"""The session of a request: who is signed in, and that a form comes from here."""

import hmac
import itertools
import json
import secrets
import time

import aiohttp_session
from aiohttp import web
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet

from scim_matrix.console.sessions import LONGEST_SECONDS, USE_EVERY, Sessions

COOKIE = "scim_matrix_console"
SESSIONS = web.AppKey("SESSIONS", Sessions)
# So many bytes are said of an action, as the cookie holds them: a browser drops cookies of more
# than 4096, and the whole session with them. Sealing adds a third, and all else takes 700.
_MOST_SAID = 2000
# A page's path that is longer is not gone back to.
_LONGEST_PATH = 500
_ID, _TOKEN, _STATE, _SAID, _BACK = "id", "csrf", "state", "said", "back"


class _Sealed(EncryptedCookieStorage):
    """Cookies sealed by the library, which stumbles over those that no browser made.

    The key is that of SESSIONS, which is there once the service runs.
    """

    async def load_session(self, request: web.Request) -> aiohttp_session.Session:
        self._fernet = Fernet(await request.config_dict[SESSIONS].key())
        return await super().load_session(request)

    def load_cookie(self, request: web.Request) -> str | None:
        cookie = super().load_cookie(request)
        return cookie if cookie is not None and cookie.isascii() else None


def storage() -> EncryptedCookieStorage:
    """Return what seals cookies, for every service on the database.

    A cookie holds the ID of a session and what guards forms; who that is and for how long is
    known to SESSIONS only, so that a copy of the cookie is worth nothing once that has ended.
    """
    return _Sealed(
        # Until the first request.
        Fernet(Fernet.generate_key()),
        cookie_name=COOKIE,
        path="/console/",
        httponly=True,
        secure=True,
        samesite="Lax",
        max_age=LONGEST_SECONDS,
    )


async def begin(request: web.Request, user_id: str) -> None:
    """Sign somebody in, in a new session; one that the request belonged to ends."""
    await end(request)
    cookie = await aiohttp_session.new_session(request)
    cookie[_ID] = await request.config_dict[SESSIONS].begin(user_id, time.time())


async def user(request: web.Request) -> str | None:
    """Return who is signed in, None for nobody. Pages that refresh themselves are no use."""
    sessions, now = request.config_dict[SESSIONS], time.time()
    session_id = str((await aiohttp_session.get_session(request)).get(_ID, ""))
    found = await sessions.find(session_id, now)
    if found is None:
        return None
    refreshes = request.method == "GET" and "HX-Request" in request.headers
    if not refreshes and now - found.used >= USE_EVERY:
        sessions.use(session_id, now)
    return found.user_id


async def end(request: web.Request) -> None:
    """Sign out whoever is signed in, wherever else their cookie may be."""
    cookie = await aiohttp_session.get_session(request)
    await request.config_dict[SESSIONS].end(str(cookie.get(_ID, "")))
    cookie.invalidate()


async def end_all(request: web.Request, user_id: str) -> None:
    """Sign somebody out everywhere."""
    await request.config_dict[SESSIONS].end_all(user_id)


async def token(request: web.Request) -> str:
    """Return what a form of this session must send along."""
    cookie = await aiohttp_session.get_session(request)
    if _TOKEN not in cookie:
        cookie[_TOKEN] = secrets.token_urlsafe(32)
    return str(cookie[_TOKEN])


async def is_from_here(request: web.Request) -> bool:
    """Tell whether a form was made for this session."""
    form = await request.post()
    expected = (await aiohttp_session.get_session(request)).get(_TOKEN)
    return _is_same(str(form.get("csrf", "")), expected)


async def say(request: web.Request, text: str) -> None:
    """Have the next page say what an action did, and what will come of it."""
    cookie = await aiohttp_session.get_session(request)
    sizes = itertools.accumulate(len(json.dumps(one)) - len('""') for one in text)
    fitting = sum(size <= _MOST_SAID for size in sizes)
    cookie[_SAID] = text if fitting == len(text) else f"{text[:fitting]}…"


async def said(request: web.Request) -> str | None:
    """Return what this page has to say of the last action, once."""
    cookie = await aiohttp_session.get_session(request)
    return cookie.pop(_SAID, None) if _SAID in cookie else None


async def was_signed_in(request: web.Request) -> bool:
    """Tell whether somebody was signed in here, and has not signed out."""
    return _ID in await aiohttp_session.get_session(request)


async def come_back(request: web.Request, path: str) -> None:
    """Keep to which page of the console (with its query) whoever signs in is led."""
    if path.startswith("/console/") and len(path) <= _LONGEST_PATH:
        (await aiohttp_session.get_session(request))[_BACK] = path


async def back(request: web.Request) -> str | None:
    """Return the page that whoever signs in was kept from, if any."""
    found = (await aiohttp_session.get_session(request)).get(_BACK)
    return None if found is None else str(found)


async def new_state(request: web.Request) -> str:
    """Return what single sign-on, begun now, has to come back with."""
    cookie = await aiohttp_session.get_session(request)
    cookie[_STATE] = secrets.token_urlsafe(16)
    return str(cookie[_STATE])


async def is_state(request: web.Request, given: str) -> bool:
    """Tell whether single sign-on that comes back was begun in this session; once only."""
    cookie = await aiohttp_session.get_session(request)
    return _is_same(given, cookie.pop(_STATE, None))


def _is_same(given: str, expected: str | None) -> bool:
    # Only text in ASCII can be compared in constant time; anything may be given.
    return expected is not None and hmac.compare_digest(
        given.encode("utf-8", "replace"), expected.encode()
    )
