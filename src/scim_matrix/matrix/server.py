"""The homeserver: its rooms, its accounts, what happens there, and what concerns it as a whole."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self

import aiohttp
from pydantic import Field

from scim_matrix.matrix import delegation
from scim_matrix.matrix.accounts import Accounts
from scim_matrix.matrix.errors import (
    NotFoundError,
    NoTokenError,
    PostponedError,
    RefusedError,
    TokenError,
    WithheldError,
)
from scim_matrix.matrix.fence import always
from scim_matrix.matrix.live import Live
from scim_matrix.matrix.mas_answers import MasError
from scim_matrix.matrix.mas_client import MasClient
from scim_matrix.matrix.mas_token import MasToken
from scim_matrix.matrix.rooms import Rooms
from scim_matrix.matrix.synapse_accounts import SynapseAccounts, is_delegated
from scim_matrix.matrix.transport import (
    ADMIN_V1,
    ADMIN_V2,
    CLIENT_V3,
    PROBE_TIMEOUT,
    Answer,
    Done,
    Transport,
)

# The type of account data by which copies of a database are told apart.
INSTALLATION = "io.github.scim_matrix.installation"


class _Provider(Answer):
    id: str


class _Flow(Answer):
    type: str
    identity_providers: list[_Provider] = Field(default_factory=list)


class _Flows(Answer):
    flows: list[_Flow]


class _SignedIn(Answer):
    user_id: str
    access_token: str


class _Version(Answer):
    server_version: str


class _Whoami(Answer):
    user_id: str


class _Installation(Answer):
    id: str
    generation: int


class _Users(Answer):
    total: int


class Homeserver:
    """A Synapse homeserver, asked as its admin user.

    Every method, also of `rooms`, `accounts` and `live`, raises UnavailableError where nothing is
    known about the outcome, RateLimitedError with the wait that was asked for, RefusedError
    (NotFoundError) where the homeserver said no, and TokenError where it refuses the service
    itself. Nothing is retried here. With `dry_run`, whatever would change the homeserver raises
    WithheldError instead.

    `mas` is the Matrix Authentication Service where accounts belong to it, `door` where people
    sign in then (MAS, which has Synapse's endpoints for that), `token` what makes the service's
    own token there, where it has been given none.
    """

    def __init__(
        self,
        transport: Transport,
        accounts: Accounts,
        mas: MasClient | None = None,
        door: Transport | None = None,
        token: MasToken | None = None,
    ) -> None:
        self._transport = transport
        self._door = door or transport
        self.accounts = accounts
        self.mas = mas
        self._token = token
        self.rooms = Rooms(transport)
        self.live = Live(transport)

    @classmethod
    def connect(
        cls,
        url: str,
        user_id: str,
        token: str,
        idp: str,
        *,
        dry_run: bool = False,
        leads: Callable[[], bool] = always,
        tracing: Sequence[aiohttp.TraceConfig] = (),
    ) -> Self:
        """Return the homeserver at `url`; no request is sent yet. Needs a running event loop.

        `idp` is the identity provider as Synapse's admin API names it. Where `leads` says no,
        whatever would change the homeserver raises FencedError.
        """
        transport = Transport.connect(
            url, user_id, token, dry_run=dry_run, leads=leads, tracing=tracing
        )
        return cls(transport, SynapseAccounts(transport, idp))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()
        await self._door.close()
        if self.mas is not None:
            await self.mas.close()

    @property
    def user_id(self) -> str:
        """The Matrix user ID of the service's own account, as configured."""
        return self._transport.user_id

    @property
    def dry_run(self) -> bool:
        """Whether nothing is changed on it: whatever would raises WithheldError."""
        return self._transport.dry_run

    @property
    def token(self) -> str:
        """The access token in use."""
        return str(self._transport.client.access_token)

    @property
    def server_name(self) -> str:
        """The server name in `user_id`."""
        return self.user_id.partition(":")[2]

    async def server_version(self) -> str:
        """Return Synapse's version (admin API, Version)."""
        answer = await self._transport.request(
            "GET", *ADMIN_V1, "server_version", within=PROBE_TIMEOUT, shape=_Version
        )
        return answer.server_version

    async def sign_in(self) -> str:
        """Return whose the token is, having made sure of one that the homeserver takes.

        A token that the service makes itself is renewed here before its end, and where the
        homeserver refuses it. Raises NoTokenError where it cannot be had, and MismatchError where
        accounts do not belong to MAS, as whose the settings name them.
        """
        await self.renew_token()
        try:
            return await self.whoami()
        except TokenError as error:
            if self.mas is not None:
                with contextlib.suppress(PostponedError):
                    await delegation.make_sure(self._transport)
            if self._token is None or error.status != 401:
                raise
        refused = self._transport.client.access_token
        await self._use(self._token.renewed(refused))
        return await self.whoami()

    def take_stored_token(self) -> bool:
        """Use the token that was made before; tell whether there is any. Nothing is asked."""
        if self._token is not None:
            self._transport.client.access_token = self._token.stored() or ""
        return bool(self._transport.client.access_token)

    async def renew_token(self) -> None:
        """Renew the token that the service makes itself, where its end comes near."""
        if self._token is not None:
            await self._use(self._token.current())

    async def _use(self, made: Awaitable[str]) -> None:
        """Use a token of the service's own. Raises NoTokenError where it cannot be had."""
        try:
            self._transport.client.access_token = await made
        except MasError as error:
            raise NoTokenError(f"MAS gives the service no token: {error}") from error
        except (RefusedError, WithheldError) as error:
            raise NoTokenError(f"the service makes itself no token: {error}") from error

    async def whoami(self) -> str:
        """Return whose token this is, whatever `user_id` says (client-server API, whoami)."""
        answer = await self._transport.request(
            "GET", *CLIENT_V3, "account", "whoami", within=PROBE_TIMEOUT, shape=_Whoami
        )
        return answer.user_id

    async def is_there(self) -> None:
        """Ask whether it answers; with MAS also whether that still tells it whose the token is."""
        await (self.server_version() if self.mas is None else self.whoami())

    async def accounts_are_delegated(self) -> bool:
        """Tell whether accounts are managed elsewhere (Matrix Authentication Service).

        Synapse then refuses to list guests. Also proves that the token is an admin's.
        """
        try:
            await self._transport.request(
                *("GET", *ADMIN_V2, "users"),
                query={"limit": "1"},
                within=PROBE_TIMEOUT,
                shape=_Users,
            )
        except RefusedError as error:
            if is_delegated(error):
                return True
            raise
        return False

    async def lift_own_rate_limit(self) -> None:
        """Lift the message rate limit of the service's account (admin API, override_ratelimit)."""
        self._transport.changes("lift the rate limit of the service account")
        await self._transport.request(
            *("POST", *ADMIN_V1, "users", self.user_id, "override_ratelimit"),
            body={"messages_per_second": 0, "burst_count": 0},
            shape=Done,
        )

    async def installation(self) -> tuple[str, int] | None:
        """Return which database last served this homeserver, and its number, if any did.

        Kept in the service's own account data (client-server API, account_data).
        """
        try:
            answer = await self._transport.request(
                *("GET", *CLIENT_V3, "user", self.user_id, "account_data", INSTALLATION),
                shape=_Installation,
            )
        except NotFoundError:
            return None
        return answer.id, answer.generation

    async def put_installation(self, installation: str, generation: int) -> None:
        """Say which database serves this homeserver, and its number."""
        self._transport.changes("say which database serves the homeserver")
        await self._transport.request(
            *("PUT", *CLIENT_V3, "user", self.user_id, "account_data", INSTALLATION),
            body={"id": installation, "generation": generation},
            shape=Done,
        )

    async def sign_in_flows(self) -> list[str]:
        """Return the ways in which people sign in (client-server API, login)."""
        return [flow.type for flow in (await self._flows()).flows]

    async def sso_providers(self) -> frozenset[str]:
        """Return the IDs of the identity providers of single sign-on (login, m.login.sso)."""
        return frozenset(
            provider.id
            for flow in (await self._flows()).flows
            if flow.type == "m.login.sso"
            for provider in flow.identity_providers
        )

    async def issuer(self) -> str | None:
        """Return the issuer of MAS, None where Synapse keeps accounts itself: see `delegation`."""
        return await delegation.issuer(self._transport)

    async def _flows(self) -> _Flows:
        return await self._door.request("GET", *CLIENT_V3, "login", token="", shape=_Flows)

    async def who_signs_in(self, body: Mapping[str, Any], address: str | None = None) -> str:
        """Sign somebody in, return their user ID, and sign them out again at once.

        `address` is that of their browser: where Synapse's listener has `x_forwarded`, it counts
        attempts by that, not by the service's. Raises RefusedError where the sign-in fails.
        """
        headers = {} if address is None else _forwarded(address)
        answer = await self._door.request(
            *("POST", *CLIENT_V3, "login"),
            body=dict(body),
            token="",
            headers=headers,
            shape=_SignedIn,
        )
        await self._door.request(
            "POST", *CLIENT_V3, "logout", body={}, token=answer.access_token, shape=Done
        )
        return answer.user_id


def _forwarded(address: str) -> dict[str, str]:
    # Synapse misses the second where it has the first.
    return {"X-Forwarded-For": address, "X-Forwarded-Proto": "https"}
