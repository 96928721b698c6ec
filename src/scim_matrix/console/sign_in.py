"""Signing in with the homeserver: by SSO, or by password where it offers that."""

import secrets
from collections.abc import Callable
from urllib.parse import urlencode

import aiohttp_jinja2
import structlog
from aiohttp import web

from scim_matrix.console import session
from scim_matrix.console.access import Access
from scim_matrix.matrix.errors import (
    HomeserverError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
)
from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.scim.attempts import Attempts

log = structlog.get_logger(__name__)

SIGN_IN = "/console/sign-in"
HOME = "/console/"


class SignIn:
    """The pages before the console.

    The homeserver's token is used once, to learn who it is, and logged out at once. Browsers
    reach this service at `public_url` and the homeserver at `homeserver_url`.
    """

    def __init__(
        self,
        homeserver: Callable[[], Homeserver],
        access: Access,
        attempts: Attempts,
        public_url: str | None,
        homeserver_url: str,
    ) -> None:
        self._homeserver = homeserver
        self._access = access
        self._attempts = attempts
        self._public_url = public_url
        self._homeserver_url = homeserver_url.rstrip("/")

    async def show(self, request: web.Request) -> web.StreamResponse:
        """GET: the ways in that the homeserver offers."""
        return await self._page(request)

    async def _page(
        self, request: web.Request, problem: str = "", status: int = 200
    ) -> web.StreamResponse:
        try:
            flows = await self._homeserver().sign_in_flows()
        except HomeserverError:
            flows, problem, status = [], "The homeserver does not answer. Try again later.", 503
        context = {
            "csrf": await session.token(request),
            "problem": problem,
            "password": "m.login.password" in flows,
            "sso": "m.login.sso" in flows,
        }
        return await aiohttp_jinja2.render_template_async(
            "sign_in.html", request, context, status=status
        )

    async def password(self, request: web.Request) -> web.StreamResponse:
        """POST: user name and password."""
        form = await request.post()
        return await self._enter(
            request,
            {
                "type": "m.login.password",
                "identifier": {"type": "m.id.user", "user": str(form.get("user", ""))},
                "password": str(form.get("password", "")),
            },
        )

    async def sso(self, request: web.Request) -> web.StreamResponse:
        """GET: on to the homeserver, which sends back to `returned`."""
        kept = await session.current(request)
        kept["state"] = secrets.token_urlsafe(16)
        origin = self._public_url or request.url.origin()
        back = f"{origin}/console/sso?{urlencode({'state': kept['state']})}"
        where = f"{self._homeserver_url}/_matrix/client/v3/login/sso/redirect"
        raise web.HTTPFound(f"{where}?{urlencode({'redirectUrl': back})}")

    async def returned(self, request: web.Request) -> web.StreamResponse:
        """GET: back from the homeserver with a login token."""
        kept = await session.current(request)
        expected = kept.pop("state", None)
        given = request.query.get("state", "")
        if expected is None or not secrets.compare_digest(given, str(expected)):
            return await self._page(request, "This sign-in was not begun here. Try again.", 400)
        token = request.query.get("loginToken", "")
        return await self._enter(request, {"type": "m.login.token", "token": token})

    async def _enter(self, request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        address = self._attempts.address(request.remote, request.headers.get("X-Forwarded-For"))
        if self._attempts.wait(address) is not None:
            return await self._page(request, "Too many attempts. Wait a minute.", 429)
        try:
            user_id = await self._homeserver().who_signs_in(body)
        except RefusedError:
            self._attempts.failed(address)
            return await self._page(request, "That did not work. Check name and password.", 403)
        except RateLimitedError:
            return await self._page(request, "Too many attempts. Wait a minute.", 429)
        except UnavailableError:
            return await self._page(request, "The homeserver does not answer. Try again.", 503)
        if not await self._access.may_enter(user_id):
            log.warning("console_refused", user_id=user_id)
            return await self._page(request, "You may not use this console.", 403)
        log.info("console_entered", user_id=user_id)
        await session.begin(request, user_id)
        raise web.HTTPSeeOther(HOME)

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """POST: sign out."""
        (await session.current(request)).invalidate()
        raise web.HTTPSeeOther(SIGN_IN)
