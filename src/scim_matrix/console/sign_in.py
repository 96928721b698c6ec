"""Signing in with the homeserver: by SSO, or by password where it offers that."""

import math
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import aiohttp_jinja2
import structlog
from aiohttp import web
from yarl import URL

from scim_matrix.console import session
from scim_matrix.console.access import Access
from scim_matrix.edge.address import Address, Network, asking, counted_as
from scim_matrix.matrix.errors import (
    HomeserverError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
)
from scim_matrix.matrix.server import Homeserver
from scim_matrix.scim.attempts import WINDOW_SECONDS, Attempts

log = structlog.get_logger(__name__)

SIGN_IN = "/console/sign-in"
HOME = "/console/"
# So many wrong passwords for one user name from one address, within a minute. Synapse counts all
# sign-ins of an address and stops at five.
ALLOWED = 4
# The longest user ID (Matrix specification, User Identifiers).
_LONGEST_NAME = 255
_WRONG = "That did not work. Check name and password."


class SignIn:
    """The pages before the console.

    The homeserver's token is used once, to learn who it is, and logged out at once. Browsers
    reach this service at `public_url` and the homeserver at `homeserver_url`. Wrong passwords
    count against who sends them, for the name that they are sent for: nobody else has to wait.
    """

    def __init__(
        self,
        homeserver: Callable[[], Homeserver],
        access: Access,
        trusted_proxies: Sequence[Network],
        public_url: str | None,
        homeserver_url: str,
    ) -> None:
        self._homeserver = homeserver
        self._access = access
        self._trusted = trusted_proxies
        self._attempts = Attempts(trusted_proxies, ALLOWED)
        self._public_url = public_url
        self._homeserver_url = homeserver_url.rstrip("/")

    async def show(self, request: web.Request) -> web.StreamResponse:
        """GET: the ways in that the homeserver offers."""
        return await self._page(request)

    async def _page(
        self, request: web.Request, problem: str = "", status: int = 200
    ) -> web.Response:
        try:
            flows = await self._homeserver().sign_in_flows()
        except HomeserverError:
            flows, problem, status = [], "The homeserver does not answer. Try again later.", 503
        context = {
            "csrf": await session.token(request),
            "notice": await session.said(request),
            "problem": problem,
            "password": "m.login.password" in flows,
            "sso": "m.login.sso" in flows,
        }
        return await aiohttp_jinja2.render_template_async(
            "sign_in.html", request, context, status=status
        )

    async def _too_many(self, request: web.Request, seconds: float) -> web.Response:
        """Say for how long to wait, in words and as a header."""
        wait = max(1, math.ceil(seconds))
        unit = "second" if wait == 1 else "seconds"
        text = f"Too many attempts. Try again in {wait} {unit}."
        answer = await self._page(request, text, 429)
        answer.headers["Retry-After"] = str(wait)
        return answer

    async def password(self, request: web.Request) -> web.StreamResponse:
        """POST: user name and password."""
        form = await request.post()
        name = str(form.get("user", "")).strip()
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            return await self._page(request, _WRONG, 403)
        address = self._address(request)
        # Synapse takes a whole user ID for its localpart's, in whatever case.
        counted = f"{counted_as(address)} {name.lower().removeprefix('@').partition(':')[0]}"
        wait = self._attempts.wait(counted)
        if wait is not None:
            return await self._too_many(request, wait)
        body: dict[str, object] = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": name},
            "password": str(form.get("password", "")),
        }
        return await self._enter(request, body, lambda: self._attempts.failed(counted))

    def _address(self, request: web.Request) -> Address | None:
        lines = request.headers.getall("X-Forwarded-For", [])
        return asking(request.remote, lines, self._trusted)

    async def sso(self, request: web.Request) -> web.StreamResponse:
        """GET: on to the homeserver, which sends back to `returned`."""
        origin = self._public_url or request.url.origin()
        back = f"{origin}/console/sso?{urlencode({'state': await session.new_state(request)})}"
        where = f"{self._homeserver_url}/_matrix/client/v3/login/sso/redirect"
        raise web.HTTPFound(f"{where}?{urlencode({'redirectUrl': back})}")

    async def returned(self, request: web.Request) -> web.StreamResponse:
        """GET: back from the homeserver with a login token."""
        if not await session.is_state(request, request.query.get("state", "")):
            return await self._page(request, "This sign-in was not begun here. Try again.", 400)
        token = request.query.get("loginToken", "")
        # Nobody guesses a login token: failures are not counted.
        return await self._enter(request, {"type": "m.login.token", "token": token}, lambda: None)

    async def _enter(
        self, request: web.Request, body: dict[str, object], failed: Callable[[], None]
    ) -> web.StreamResponse:
        address = self._address(request)
        try:
            user_id = await self._homeserver().who_signs_in(
                body, None if address is None else str(address)
            )
        except RateLimitedError as error:
            return await self._too_many(request, error.retry_after or WINDOW_SECONDS)
        except RefusedError:
            failed()
            return await self._page(request, _WRONG, 403)
        except UnavailableError:
            return await self._page(request, "The homeserver does not answer. Try again.", 503)
        if not await self._access.may_enter(user_id, anew=True):
            log.warning("console_refused", user_id=user_id)
            return await self._page(request, "You may not use this console.", 403)
        log.info("console_entered", user_id=user_id)
        page = await session.back(request) or HOME
        await session.begin(request, user_id)
        raise web.HTTPSeeOther(URL(page, encoded=True))

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """POST: sign out."""
        await session.end(request)
        raise web.HTTPSeeOther(SIGN_IN)
