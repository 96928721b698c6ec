"""The stand-in for MAS towards clients that sign in as before MAS (its resource `compat`)."""

import secrets
from datetime import timedelta
from typing import Any

from aiohttp import web
from yarl import URL

from scim_matrix.demo.mas_homeserver import HomeserverSide
from scim_matrix.demo.mas_state import Account, CompatLogin, CompatSession, State

_CLIENT = "/_matrix/client/{version:r0|v3}"
# How long a login token is good after somebody has agreed to the sign-in.
_TOKEN_LIFE = timedelta(seconds=30)


class _ProblemError(Exception):
    def __init__(self, status: int, errcode: str, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.errcode = errcode


class Compat:
    """Sign-in by password, where MAS has them, and through a browser; signing out."""

    def __init__(self, state: State, homeserver: HomeserverSide, url: str) -> None:
        self._state = state
        self._homeserver = homeserver
        self._url = url

    def routes(self) -> list[web.RouteDef]:
        """Return what is served."""
        return [
            web.get(f"{_CLIENT}/login", self._flows),
            web.post(f"{_CLIENT}/login", self._login),
            web.post(f"{_CLIENT}/logout", self._logout),
            web.get(f"{_CLIENT}/login/sso/redirect", self._redirect),
        ]

    def agree(self, login: CompatLogin, account: Account) -> str:
        """Have somebody who is signed in agree; return where their browser is sent."""
        login.user_id, login.agreed_at = account.id, self._state.now()
        return str(URL(login.redirect_url).update_query(loginToken=login.token))

    async def _flows(self, request: web.Request) -> web.Response:
        flows: list[dict[str, Any]] = [{"type": "m.login.sso", "oauth_aware_preferred": True}]
        if self._state.password_login:
            flows.insert(0, {"type": "m.login.password"})
        return web.json_response({"flows": [*flows, {"type": "m.login.token"}]})

    async def _redirect(self, request: web.Request) -> web.Response:
        login = CompatLogin(secrets.token_urlsafe(24), request.query["redirectUrl"])
        identifier = self._state.ulid()
        self._state.compat_logins[identifier] = login
        raise web.HTTPSeeOther(f"{self._url}/complete-compat-sso/{identifier}")

    async def _login(self, request: web.Request) -> web.Response:
        try:
            account = self._who(await request.json())
        except _ProblemError as problem:
            body = {"errcode": problem.errcode, "error": str(problem)}
            return web.json_response(body, status=problem.status)
        device = secrets.token_urlsafe(8)
        await self._homeserver.do("upsert_device", account, device_id=device)
        session = CompatSession(self._state.ulid(), self._state.now(), account.id, None, device)
        self._state.compat_sessions[session.id] = session
        token = f"mct_{secrets.token_urlsafe(24)}"
        self._state.tokens[token] = session
        user_id = f"@{account.username}:{self._state.server_name}"
        return web.json_response({"user_id": user_id, "access_token": token, "device_id": device})

    def _who(self, body: dict[str, Any]) -> Account:
        """Return who signs in. Raises _ProblemError."""
        if body["type"] == "m.login.token":
            return self._by_token(body["token"])
        if body["type"] != "m.login.password" or not self._state.password_login:
            raise _ProblemError(400, "M_UNKNOWN", "Invalid login type")
        name = body["identifier"]["user"].removeprefix("@").partition(":")[0]
        account = self._state.account_named(name)
        if account is None or account.deactivated_at is not None:
            raise _ProblemError(403, "M_FORBIDDEN", "Invalid username/password")
        if account.locked_at is not None:
            raise _ProblemError(401, "M_USER_LOCKED", "User account has been locked")
        if self._state.passwords.get(account.id) != body["password"]:
            raise _ProblemError(403, "M_FORBIDDEN", "Invalid username/password")
        return account

    def _by_token(self, token: str) -> Account:
        found = [login for login in self._state.compat_logins.values() if login.token == token]
        invalid = _ProblemError(403, "M_FORBIDDEN", "Invalid login token")
        if not found or found[0].agreed_at is None or found[0].is_used:
            raise invalid
        account = self._state.accounts[found[0].user_id or ""]
        if self._state.now() > found[0].agreed_at + _TOKEN_LIFE:
            raise _ProblemError(403, "M_FORBIDDEN", "Login token expired")
        if account.deactivated_at is not None:
            raise invalid
        if account.locked_at is not None:
            raise _ProblemError(401, "M_USER_LOCKED", "User account has been locked")
        found[0].is_used = True
        return account

    async def _logout(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        session = self._state.tokens.get(token)
        if not isinstance(session, CompatSession) or session.finished_at is not None:
            body = {"errcode": "M_UNKNOWN_TOKEN", "error": "Invalid access token"}
            return web.json_response(body, status=401)
        session.finished_at = self._state.now()
        account = self._state.accounts[session.user_id]
        self._homeserver.later(lambda: self._homeserver.sync_devices(account))
        return web.json_response({})
