"""A stand-in for the Matrix Authentication Service (MAS), beside a real Synapse.

It has what Synapse asks MAS for (discovery, introspection), what a service asks it for (a token
of its own, the admin API) and what people do with it (sign in, also as before MAS), and can be
told to fail.
"""

import asyncio
import base64
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web

from scim_matrix.demo.mas_admin import AdminApi, Handler
from scim_matrix.demo.mas_compat import Compat
from scim_matrix.demo.mas_homeserver import HomeserverSide
from scim_matrix.demo.mas_state import (
    API,
    Account,
    ClientToken,
    CompatSession,
    Link,
    OAuth2Session,
    PersonalSession,
    Provider,
    State,
    UserSession,
)
from scim_matrix.demo.synapse import SERVER_NAME, Delegation, Synapse, User, free_port

CLIENT_ID = "01J0SC1MMATR1XC1ENT0000000"
CLIENT_SECRET = "demo-mas-client-secret"
ISSUER = "https://idp.demo.test"
TOKEN_LIFE = timedelta(seconds=300)
USER_SCOPE = "urn:matrix:client:api:*"
TOKEN_PATH = "/oauth2/token"
_INTROSPECTION = "/oauth2/introspect"


class SignInRefusedError(Exception):
    """MAS lets somebody who comes from an identity provider not in."""


@dataclass(frozen=True)
class Exchange:
    """A request to the admin API and what was answered, as they were on the wire."""

    method: str
    path: str
    query: list[tuple[str, str]]
    content_type: str
    sent: bytes
    status: int
    answered_type: str
    answered: bytes


@dataclass
class Mas:
    """A running stand-in; `stop` and `start` keep its state and port.

    The faults are those of a bad network: `fault` answers instead of it, `lost` drops its answer,
    `delay` is waited for first, and while `dark` connections are cut as soon as something is
    asked. `watch` is shown every request to the admin API that was answered.
    """

    homeserver_url: str
    secret: str
    state: State = field(default_factory=lambda: State(SERVER_NAME))
    # How clients have to say who they are: client_secret_basic or client_secret_post.
    auth_method: str = "client_secret_basic"
    client_secret: str = CLIENT_SECRET
    # Whether the client is named in `policy.data.admin_clients`.
    client_is_admin: bool = True
    port: int = field(default_factory=free_port)
    requests: list[tuple[str, str]] = field(default_factory=list)
    fault: Callable[[str, str], web.Response | None] = lambda method, path: None
    lost: Callable[[str, str], bool] = lambda method, path: False
    delay: Callable[[str, str], Awaitable[None]] | None = None
    dark: bool = False
    watch: Callable[[Exchange], None] | None = None
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self.homeserver = HomeserverSide(self.homeserver_url, self.secret, self.state)
        self.provider = self.add_provider(ISSUER)
        self.compat = Compat(self.state, self.homeserver, self.url)

    @property
    def url(self) -> str:
        """Where it answers; with a slash at its end the issuer, as MAS has it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """What the service is told to use it; IDP_NAME is not needed then."""
        return {
            "IDP_NAME": "",
            "MAS_URL": f"{self.url}/",
            "MAS_CLIENT_ID": CLIENT_ID,
            "MAS_CLIENT_SECRET": CLIENT_SECRET,
        }

    @property
    def asked(self) -> list[tuple[str, str]]:
        """The requests to the admin API so far, without its prefix."""
        return [(m, p.removeprefix(API)) for m, p in self.requests if p.startswith(API)]

    @property
    def tokens_fetched(self) -> int:
        """How often a client asked for a token of its own."""
        return sum(path == TOKEN_PATH for _, path in self.requests)

    # -- Running ----------------------------------------------------------

    async def start(self) -> None:
        """Start it on its port."""
        api = AdminApi(self.state, self.homeserver, CLIENT_ID)
        app = web.Application(middlewares=[self._badly, self._watched, api.guard])
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_post(TOKEN_PATH, self._token)
        app.router.add_post(_INTROSPECTION, self._introspect)
        app.router.add_routes(api.routes())
        app.router.add_routes(self.compat.routes())
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.homeserver.start()

    async def stop(self) -> None:
        """Stop it; its state stays."""
        await self.homeserver.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _badly(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Fail where that is asked for."""
        method, path = request.method, request.raw_path
        self.requests.append((method, path))
        if self.dark:
            return _cut(request)
        if self.delay is not None:
            await self.delay(method, path)
        if (instead := self.fault(method, path)) is not None:
            return instead
        answer = await handler(request)
        return _cut(request) if self.lost(method, path) else answer

    @web.middleware
    async def _watched(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        sent = await request.read()
        answer = await handler(request)
        if self.watch is not None and request.path.startswith(API):
            assert isinstance(answer, web.Response)
            body = answer.body if isinstance(answer.body, bytes) else b""
            self.watch(
                Exchange(
                    request.method,
                    request.raw_path.partition("?")[0],
                    list(request.query.items()),
                    request.headers.get("Content-Type", ""),
                    sent,
                    answer.status,
                    answer.content_type,
                    body,
                )
            )
        return answer

    # -- OAuth 2.0 --------------------------------------------------------

    async def _discovery(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": f"{self.url}/",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": self.url + TOKEN_PATH,
                "introspection_endpoint": self.url + _INTROSPECTION,
                "account_management_uri": f"{self.url}/account/",
                "token_endpoint_auth_methods_supported": [
                    "client_secret_basic",
                    "client_secret_post",
                ],
                "response_types_supported": ["code"],
            }
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        method, client, secret = _credentials(request.headers.get("Authorization", ""), form)
        if (method, client, secret) != (self.auth_method, CLIENT_ID, self.client_secret):
            return _refused(401, "invalid_client", "Client authentication failed")
        if form.get("grant_type") != "client_credentials":
            return _refused(400, "unsupported_grant_type", "Unsupported grant type")
        scope = str(form.get("scope", ""))
        if scope and not self.client_is_admin:
            return _refused(403, "access_denied", "The policy denied the request")
        token = f"mat_{secrets.token_urlsafe(24)}"
        self.state.client_tokens[token] = ClientToken(scope, self.state.now() + TOKEN_LIFE)
        return web.json_response(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": int(TOKEN_LIFE.total_seconds()),
                "scope": scope,
            }
        )

    async def _introspect(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.secret}":
            return _refused(401, "invalid_client", "Client authentication failed")
        session = self.state.tokens.get(str((await request.post()).get("token")))
        if session is None or not self._goes_on(session):
            return web.json_response({"active": False})
        actor = session.actor_user_id if isinstance(session, PersonalSession) else session.user_id
        account = self.state.accounts[actor]
        answer: dict[str, Any] = {
            "active": True,
            "username": account.username,
            "sub": account.id,
            "token_type": "access_token",
            "scope": USER_SCOPE if isinstance(session, CompatSession) else session.scope,
        }
        if isinstance(session, CompatSession):
            answer["device_id"] = session.device_id
        if isinstance(session, PersonalSession) and session.expires_at is not None:
            answer["expires_in"] = int((session.expires_at - self.state.now()).total_seconds())
        return web.json_response(answer)

    def _goes_on(self, session: OAuth2Session | CompatSession | PersonalSession) -> bool:
        if isinstance(session, PersonalSession):
            ended = session.revoked_at is not None or (
                session.expires_at is not None and session.expires_at <= self.state.now()
            )
            return not ended and self.state.accounts[session.actor_user_id].is_active
        return session.finished_at is None and self.state.accounts[session.user_id].is_active

    def expire_tokens(self) -> None:
        """End the life of every token that a client has fetched for itself."""
        self.state.client_tokens.clear()

    # -- What happens to MAS by hand --------------------------------------

    def add_provider(self, issuer: str, *, enabled: bool = True) -> Provider:
        """Configure one more identity provider to sign in with."""
        now = self.state.now()
        provider = Provider(self.state.ulid(), now, issuer, issuer, None if enabled else now)
        self.state.providers[provider.id] = provider
        return provider

    async def add_account(self, username: str, *, admin: bool = False) -> Account:
        """Make an account as `mas-cli` does; there may be one in Synapse already."""
        account = Account(self.state.ulid(), self.state.now(), username, admin)
        await self.homeserver.provision(account)
        self.state.accounts[account.id] = account
        return account

    def add_link(self, subject: str, account: Account | None) -> Link:
        """Say who somebody is at the identity provider."""
        now, owner = self.state.now(), None if account is None else account.id
        link = Link(self.state.ulid(), now, self.provider.id, subject, owner)
        self.state.links[link.id] = link
        return link

    async def sign_in(self, subject: str, username: str, device: str) -> User:
        """Let somebody come from the identity provider, as MAS does by default.

        `username` is what the account would be called that is made where nothing is linked.
        Raises SignInRefusedError.
        """
        links = self.state.links.values()
        link = next((x for x in links if x.subject == subject and x.user_id is not None), None)
        if link is not None:
            account = self.state.accounts[link.user_id or ""]
        elif self.state.account_named(username) is not None:
            raise SignInRefusedError(f"{username} exists and is not linked to {subject}")
        else:
            account = await self.add_account(username)
            self.add_link(subject, account)
        return await self.session(account, device)

    async def session(self, account: Account, device: str, scope: str = USER_SCOPE) -> User:
        """Sign an account in with a device. Raises SignInRefusedError."""
        if not account.is_active:
            raise SignInRefusedError(f"{account.username} is locked or deactivated")
        state, now = self.state, self.state.now()
        await self.homeserver.do("upsert_device", account, device_id=device)
        browser = UserSession(state.ulid(), now, account.id)
        state.user_sessions[browser.id] = browser
        scope = f"{scope} urn:matrix:client:device:{device}"
        session = OAuth2Session(
            state.ulid(), now, account.id, None, CLIENT_ID, scope, device_id=device
        )
        state.oauth2_sessions[session.id] = session
        return self._user(account, session)

    async def old_session(self, account: Account, device: str) -> User:
        """Sign an account in with a client that does not know MAS."""
        await self.homeserver.do("upsert_device", account, device_id=device)
        session = CompatSession(self.state.ulid(), self.state.now(), account.id, None, device)
        self.state.compat_sessions[session.id] = session
        return self._user(account, session)

    async def synapse_admin(self, username: str) -> User:
        """Return a new administrator of the server, with a token that Synapse takes for one."""
        account = await self.add_account(username, admin=True)
        return await self.session(account, "ADMIN", f"{USER_SCOPE} urn:synapse:admin:*")

    def _user(self, account: Account, session: OAuth2Session | CompatSession) -> User:
        token = f"mat_{secrets.token_urlsafe(24)}"
        self.state.tokens[token] = session
        user_id = f"@{account.username}:{self.state.server_name}"
        return User(self.homeserver_url, user_id, token)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _refused(status: int, error: str, words: str) -> web.Response:
    return web.json_response({"error": error, "error_description": words}, status=status)


def _credentials(header: str, form: Any) -> tuple[str, str, str]:
    """Return how a client said who it is, its id and its secret (RFC 6749, section 2.3.1)."""
    if header.startswith("Basic "):
        client, _, secret = base64.b64decode(header[6:]).decode().partition(":")
        return "client_secret_basic", unquote_plus(client), unquote_plus(secret)
    return "client_secret_post", str(form.get("client_id")), str(form.get("client_secret"))


@contextlib.asynccontextmanager
async def delegating(folder: Path) -> AsyncIterator[tuple[Mas, Synapse]]:
    """Run a homeserver whose accounts belong to a stand-in for MAS, for the time of a block."""
    secret = secrets.token_urlsafe(16)
    synapse = Synapse(folder)
    mas = Mas(synapse.url, secret)
    synapse.delegation = Delegation(mas.url, secret)
    await mas.start()
    try:
        await synapse.start()
        try:
            yield mas, synapse
        finally:
            await synapse.stop()
    finally:
        await asyncio.shield(mas.stop())
