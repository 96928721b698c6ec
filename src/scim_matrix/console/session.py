"""Sessions: who is signed in, for how long, and that a form comes from here."""

import hmac
import secrets
import time

import aiohttp_session
from aiohttp import web
from aiohttp_session import Session
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet

IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 12 * 3600
COOKIE = "scim_matrix_console"


def storage() -> EncryptedCookieStorage:
    """Return where sessions are: in a cookie sealed with a key that dies with the process."""
    return EncryptedCookieStorage(
        Fernet(Fernet.generate_key()),
        cookie_name=COOKIE,
        path="/console/",
        httponly=True,
        secure=True,
        samesite="Lax",
        max_age=LONGEST_SECONDS,
    )


async def begin(request: web.Request, user_id: str) -> None:
    """Sign somebody in, in a new session."""
    session = await aiohttp_session.new_session(request)
    now = time.time()
    session.update(user=user_id, begun=now, seen=now, csrf=secrets.token_urlsafe(32))


async def current(request: web.Request) -> Session:
    """Return the session, emptied where it is over. Pages that refresh themselves are no use."""
    session = await aiohttp_session.get_session(request)
    now = time.time()
    if "user" in session:
        idle, age = now - float(session["seen"]), now - float(session["begun"])
        if idle > IDLE_SECONDS or age > LONGEST_SECONDS:
            session.invalidate()
        elif idle > 1 and not (request.method == "GET" and "HX-Request" in request.headers):
            session["seen"] = now
    return session


async def token(request: web.Request) -> str:
    """Return what a form of this session must send along."""
    session = await current(request)
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(32)
    return str(session["csrf"])


async def is_from_here(request: web.Request) -> bool:
    """Tell whether a form was made for this session."""
    form = await request.post()
    expected = (await current(request)).get("csrf")
    return bool(expected) and hmac.compare_digest(str(form.get("csrf", "")), str(expected))
