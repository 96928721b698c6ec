"""Requests to MAS's admin API as a client of its own: its token, its requests, lists in pages.

MAS is the Matrix Authentication Service. Its admin API (`/api/admin/v1`) speaks JSON:API and has
no error codes: the status says what an answer means.
"""

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote, quote_plus, urlencode

import aiohttp
import orjson
from pydantic import ValidationError
from yarl import URL

from scim_matrix.matrix.answers import once
from scim_matrix.matrix.errors import WithheldError
from scim_matrix.matrix.fence import always, fenced
from scim_matrix.matrix.mas_answers import (
    ADMIN_SCOPE,
    WORDS,
    Answer,
    Denied,
    Discovery,
    Granted,
    MasTokenError,
    MasUnavailableError,
    One,
    Page,
    Resource,
    S,
    Shape,
    Site,
    Version,
    checked,
    no_answer,
    second,
    shaped,
)
from scim_matrix.matrix.transport import quoted_segment
from scim_matrix.matrix.waiting import timed

REQUEST_TIMEOUT = 60.0
PROBE_TIMEOUT = 5.0
# How long before its end a token is no longer used (seconds).
RENEW_BEFORE = 30.0
# How many resources a page has; MAS has no maximum.
PAGE = 500
# The largest body that is read, in bytes.
MAX_BODY = 16 * 1024 * 1024
# How long what was learnt of MAS's clock is believed (seconds): clocks are set and drift.
CLOCK_AGE = 600.0
_API = ("api", "admin", "v1")
# Filters, and what a resource that passes them has as they say.
_FILTERED = {
    "filter[user]": "user_id",
    "filter[provider]": "provider_id",
    "filter[subject]": "subject",
}
# MAS since when there is everything that is needed of it.
MINIMUM_VERSION = (1, 5)


@dataclass
class _Token:
    """A token of the client's own; `proven` once MAS has taken it."""

    value: str
    renew_at: float
    proven: bool = False

    def __repr__(self) -> str:
        return "_Token(…)"


# What each service does to be let in at all: tokens of MAS, and of Synapse through it.
_FOR_ONESELF = ("personal-sessions", "regenerate")


def _is_for_oneself(request: aiohttp.ClientRequest) -> bool:
    path = request.url.parts
    return "admin" not in path or path[-1] in _FOR_ONESELF


class MasClient:
    """MAS, asked as a client that may administer it (`policy.data.admin_clients`).

    Every method returns an answer of the expected shape or raises MasUnavailableError where
    nothing is known about the outcome, MasRateLimitedError, RefusedError (NotFoundError) where MAS
    said no, and MasTokenError where it does not take the client. Nothing is retried here, but once
    with a new token where one that was good is refused: MAS has done nothing then.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        issuer: str,
        client_id: str,
        client_secret: str,
        *,
        dry_run: bool,
        clock: Callable[[], float],
        page: int,
    ) -> None:
        self._session = session
        self._base = issuer.rstrip("/")
        self._client = (client_id, client_secret)
        self._dry_run = dry_run
        self._clock = clock
        self._page = page
        self._endpoint: str | None = None
        self._by_form = False
        self._token: _Token | None = None
        self._fetching = asyncio.Lock()
        # How far MAS's clock (seconds since the epoch) is at most ahead of ours, and since when.
        self._ahead: float | None = None
        self._noted_at = 0.0

    @classmethod
    def connect(
        cls,
        issuer: str,
        client_id: str,
        client_secret: str,
        *,
        dry_run: bool = False,
        leads: Callable[[], bool] = always,
        tracing: Sequence[aiohttp.TraceConfig] = (),
        clock: Callable[[], float] = time.monotonic,
        page: int = PAGE,
    ) -> Self:
        """Return a client of the MAS at `issuer`; no request is sent yet.

        Needs a running event loop. `clock` counts seconds; lists are read `page` resources at
        a time. Where `leads` says no, what would change something raises FencedError.
        """
        session = aiohttp.ClientSession(
            trace_configs=list(tracing),
            middlewares=[timed, once(MasUnavailableError, "is MAS_URL MAS's issuer?")],
            request_class=fenced(leads, _is_for_oneself),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return cls(
            session, issuer, client_id, client_secret, dry_run=dry_run, clock=clock, page=page
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def changes(self, what: str) -> None:
        """Say that what follows would change something: with DRY_RUN that ends here.

        Raises WithheldError, which tells `what` would have been done.
        """
        if self._dry_run:
            raise WithheldError(f"DRY_RUN: would {what}")

    def moment(self) -> datetime | None:
        """Return what MAS's clock shows at most; None where it has not answered yet.

        Nothing that was made before has a later time. Where MAS has lately said when it made
        something it is right to some milliseconds, otherwise to a second.
        """
        if self._ahead is None:
            return None
        return datetime.fromtimestamp(self._clock() + self._ahead, UTC)

    def _learn_clock(self, shown: float, asked_at: float) -> None:
        """Take in what MAS's clock showed at most when an answer was made."""
        ahead, now = shown - asked_at, self._clock()
        if self._ahead is None or ahead <= self._ahead or now - self._noted_at > CLOCK_AGE:
            self._ahead, self._noted_at = ahead, now

    # -- The admin API ----------------------------------------------------

    async def version(self) -> str:
        """Return MAS's version, such as `v1.22.0` (`GET /version`, since 1.4)."""
        answer = await self._ask("GET", ("version",), within=PROBE_TIMEOUT)
        return shaped(answer.body, Version).version

    async def server_name(self) -> str:
        """Return the Matrix server name that MAS serves (`GET /site-config`, since 1.3)."""
        answer = await self._ask("GET", ("site-config",), within=PROBE_TIMEOUT)
        return shaped(answer.body, Site).server_name

    async def one(
        self, method: str, *path: str, of: type[S], body: dict[str, Any] | None = None
    ) -> tuple[int, Resource[S]]:
        """Send one request about one resource; return the status and the resource.

        `path` are the segments below the API's base, unquoted.
        """
        answer = await self._ask(method, path, body=body)
        found: Resource[S] = shaped(answer.body, One[of]).data  # type: ignore[valid-type]
        made_at = getattr(found.attributes, "created_at", None)
        # Only where it is told to the fraction of a second.
        if answer.status == 201 and isinstance(made_at, datetime) and made_at.microsecond:
            self._learn_clock(made_at.timestamp(), answer.asked_at)
        return answer.status, found

    async def delete(self, *path: str) -> None:
        """Delete a resource."""
        await self._ask("DELETE", path)

    async def pages(
        self, *path: str, of: type[S], query: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[Resource[S], ...]]:
        """Yield every resource of a list, in pages and in the order in which they were made."""
        sent = {**(query or {}), "page[first]": str(self._page), "count": "false"}
        while True:
            answer = await self._ask("GET", path, query=sent)
            page = shaped(answer.body, Page[of])  # type: ignore[valid-type]
            found = tuple(page.data)
            if any(_is_unasked(resource.attributes, sent) for resource in found):
                raise MasUnavailableError("no usable answer: a list of what was not asked for")
            yield found
            if page.links.next is None:
                return
            # The link may lack what a proxy has before the path: only the place is taken from it.
            if not found or found[-1].id == sent.get("page[after]"):
                raise MasUnavailableError("no usable answer: a list that does not go on")
            sent["page[after]"] = found[-1].id

    async def all(self, *path: str, of: type[S], query: Mapping[str, str]) -> list[Resource[S]]:
        """Return every resource of a short list."""
        return [r async for page in self.pages(*path, of=of, query=query) for r in page]

    async def _ask(
        self,
        method: str,
        path: Sequence[str],
        *,
        query: Mapping[str, str] | None = None,
        body: dict[str, Any] | None = None,
        within: float = REQUEST_TIMEOUT,
    ) -> Answer:
        """Send one request with the client's token; return the answer (2xx)."""
        url = "/".join([self._base, *_API, *map(quoted_segment, path)])
        if query:
            url += "?" + urlencode(query, quote_via=quote, safe="")
        headers = {"Accept": "application/json"}
        data = None
        if body is not None:
            data, headers["Content-Type"] = orjson.dumps(body), "application/json"

        async def send(token: _Token) -> Answer:
            with_token = {**headers, "Authorization": f"Bearer {token.value}"}
            answer = await self._send(method, url, within, data=data, headers=with_token)
            token.proven = token.proven or answer.status != 401
            return answer

        token = await self._current()
        answer = await send(token)
        # A token that was never taken would not be taken anew either (a missing scope), and each
        # one that is fetched leaves a session behind for ever.
        if answer.status == 401 and token.proven:
            answer = await send(await self._current(instead_of=token))
        return checked(answer)

    async def _send(
        self, method: str, url: str, within: float, *, data: Any, headers: Mapping[str, str]
    ) -> Answer:
        asked_at = self._clock()
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=within),
            ) as response:
                body = await _bounded(response)
        except (aiohttp.ClientError, OSError) as error:
            raise MasUnavailableError(f"MAS: {type(error).__name__}: {error}") from error
        if (told := second(response.headers)) is not None:
            self._learn_clock(told + 1, asked_at)
        return Answer(response.status, response.headers, body, asked_at)

    # -- The client's own token -------------------------------------------

    async def _current(self, instead_of: _Token | None = None) -> _Token:
        """Return the token, a new one only where there is none but `instead_of` or it ends."""
        async with self._fetching:
            token = self._token
            if token is None or token is instead_of or self._clock() >= token.renew_at:
                token = self._token = await self._fetch()
            return token

    async def _fetch(self) -> _Token:
        """Fetch a token by client_secret_basic, or by client_secret_post where MAS wants that."""
        if self._endpoint is None:
            url = f"{self._base}/.well-known/openid-configuration"
            answer = await self._send("GET", url, PROBE_TIMEOUT, data=None, headers={})
            if answer.status != 200:
                raise no_answer(answer)
            self._endpoint = shaped(answer.body, Discovery).token_endpoint
        asked_at = self._clock()
        answer = await self._grant(self._endpoint)
        if _refuses_client(answer):
            self._by_form = not self._by_form
            answer = await self._grant(self._endpoint)
        if answer.status != 200:
            # Perhaps MAS has moved; the next try asks again where.
            self._endpoint = None
            if not 400 <= answer.status < 500 or answer.status == 429:
                raise no_answer(answer)
            denied = shaped(answer.body, Denied)
            raise MasTokenError(
                answer.status,
                denied.error[:WORDS],
                f"{denied.error_description[:WORDS]} (is the client in MAS's `clients` and "
                "`policy.data.admin_clients`, and are MAS_CLIENT_ID and MAS_CLIENT_SECRET right?)",
            )
        granted = shaped(answer.body, Granted)
        margin = min(RENEW_BEFORE, granted.expires_in / 2)
        return _Token(granted.access_token, asked_at + granted.expires_in - margin)

    async def _grant(self, endpoint: str) -> Answer:
        client_id, secret = self._client
        form = {"grant_type": "client_credentials", "scope": ADMIN_SCOPE}
        headers = {"Accept": "application/json"}
        if self._by_form:
            form |= {"client_id": client_id, "client_secret": secret}
        else:
            # RFC 6749, section 2.3.1: both are encoded as in a form before they are joined.
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return await self._send("POST", endpoint, REQUEST_TIMEOUT, data=form, headers=headers)


def _is_unasked(attributes: Shape, query: Mapping[str, str]) -> bool:
    """Tell whether a filter would have left something out: a proxy may drop the whole query."""
    return any(
        getattr(attributes, attribute, query[name]) != query[name]
        for name, attribute in _FILTERED.items()
        if name in query
    )


def is_too_old(version: str) -> bool:
    """Tell whether a MAS of this version lacks something that is needed of it (1.5 has all)."""
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    return numbers is None or (int(numbers[1]), int(numbers[2])) < MINIMUM_VERSION


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            response.close()
            raise aiohttp.ClientPayloadError(f"a body of more than {MAX_BODY} bytes")
    return bytes(body)


def _refuses_client(answer: Answer) -> bool:
    """Tell whether the way in which the client said who it is was wrong, or who it is."""
    if answer.status not in (400, 401):
        return False
    try:
        return Denied.model_validate_json(answer.body).error == "invalid_client"
    except ValidationError:
        return False
