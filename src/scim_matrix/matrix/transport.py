"""Requests to the homeserver and what may be believed of its answers: the place of distrust."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import nio
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from yarl import URL

from scim_matrix.matrix.answers import misshapen, once
from scim_matrix.matrix.errors import (
    BAD_STATE,
    NOT_A_SERVER_ADMIN,
    NOT_INTROSPECTED,
    UNRECOGNIZED,
    USER_IN_USE,
    BannedError,
    NameTakenError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    UnvouchedError,
    WithheldError,
)
from scim_matrix.matrix.fence import always, fenced
from scim_matrix.matrix.waiting import timed

CLIENT_V1 = ("_matrix", "client", "v1")
CLIENT_V3 = ("_matrix", "client", "v3")
ADMIN_V1 = ("_synapse", "admin", "v1")
ADMIN_V2 = ("_synapse", "admin", "v2")

_ELSEWHERE = "does MATRIX_URL say where the homeserver itself answers?"
REQUEST_TIMEOUT = 60.0
PROBE_TIMEOUT = 5.0
# The largest body that is read, in bytes, after decompression.
MAX_BODY = 64 * 1024 * 1024
# How long a server may ask us to wait, in seconds.
LEAST_WAIT, LONGEST_WAIT = 0.5, 300.0
# Characters of the homeserver's own words that are kept.
_WORDS = 500
# What nio raises where a body is not what it expects.
_ODD = (LookupError, TypeError, ValueError, AttributeError, AssertionError, RecursionError)


class Answer(BaseModel):
    """The shape that an answer must have at least; other keys are left aside."""

    model_config = ConfigDict(strict=True, frozen=True)


class Done(Answer):
    """An answer of which nothing is needed but that it is there (a JSON object)."""


A = TypeVar("A", bound=Answer)


class Transport:
    """One homeserver, asked as the service's own account.

    `request` and `call` return an answer of the expected shape or raise UnavailableError
    where nothing is known about the outcome, RateLimitedError, RefusedError (NotFoundError) where
    the homeserver said no, TokenError where it does not know the service or not as an
    administrator. Whatever an answer holds, they raise nothing else. Nothing is retried here.
    """

    def __init__(
        self,
        client: nio.AsyncClient,
        session: aiohttp.ClientSession,
        user_id: str,
        *,
        dry_run: bool,
    ) -> None:
        # For the client-server API's requests whose path and body nio knows: see `call`.
        self.client = client
        # As configured. What nio holds is what an answer said.
        self.user_id = user_id
        self._session = session
        self._base = str(URL(client.homeserver))
        self.dry_run = dry_run

    @classmethod
    def connect(
        cls,
        url: str,
        user_id: str,
        token: str,
        *,
        dry_run: bool = False,
        leads: Callable[[], bool] = always,
        tracing: Sequence[aiohttp.TraceConfig] = (),
    ) -> Self:
        """Return a transport to `url`; no request is sent yet. Needs a running event loop.

        Where `leads` says no, what would change something as the service's own account raises
        FencedError.
        """
        config = nio.AsyncClientConfig(
            max_timeouts=0, max_limit_exceeded=0, request_timeout=REQUEST_TIMEOUT
        )
        client = nio.AsyncClient(url.rstrip("/"), user_id, config=config)
        client.access_token = token
        client.user_id = user_id

        def is_of_others(request: aiohttp.ClientRequest) -> bool:
            # Who signs in to the console does so anywhere.
            return request.headers.get("Authorization") != f"Bearer {client.access_token}"

        session = aiohttp.ClientSession(
            trace_configs=list(tracing),
            middlewares=[timed, once(UnavailableError, _ELSEWHERE)],
            request_class=fenced(leads, is_of_others),
            response_class=_BoundedResponse,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        client.client_session = session
        return cls(client, session, user_id, dry_run=dry_run)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    def changes(self, what: str) -> None:
        """Say that the next request would change the homeserver: with DRY_RUN that ends here.

        Raises WithheldError, which tells `what` would have been done.
        """
        if self.dry_run:
            raise WithheldError(f"DRY_RUN: would {what}")

    async def request(self, method: str, *path: str, shape: type[A], **more: Any) -> A:
        """Send one request and return its answer; see `exchange`."""
        return (await self.exchange(method, *path, shape=shape, **more))[1]

    async def exchange(
        self,
        method: str,
        *path: str,
        shape: type[A],
        query: Mapping[str, str] | None = None,
        body: Any = None,
        within: float = REQUEST_TIMEOUT,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, A]:
        """Send one request and return the status (2xx) and its answer.

        `path` are the segments, unquoted; whatever they hold, they stay segments. `within` is in
        seconds. The request is the service's own unless `token` is another's (empty: nobody's).
        """
        used = self.client.access_token if token is None else token
        sent = {**(headers or {}), **({"Authorization": f"Bearer {used}"} if used else {})}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            sent["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method,
                self._url(path, query),
                data=data,
                headers=sent,
                ssl=self.client.ssl,
                timeout=aiohttp.ClientTimeout(total=within),
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        answer = _checked(response.status, response.headers, content, own=token is None)
        return response.status, _shaped(answer, shape)

    async def call(self, call: Awaitable[Any], shape: type[A]) -> A:
        """Await a call of nio's client and return the answer.

        nio takes some failures for success (a proxy's HTML page) and stumbles over strange
        bodies: only status and body count, not what nio makes of them.
        """
        try:
            response = (await call).transport_response
            content = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        except _ODD as error:
            raise UnavailableError(f"no usable answer: nio fails with {error!r}") from error
        return _shaped(_checked(response.status, response.headers, content, own=True), shape)

    def _url(self, path: Sequence[str], query: Mapping[str, str] | None) -> URL:
        """Return the URL as it is to be sent: nothing between here and the socket reads it."""
        text = "/".join([self._base.rstrip("/"), *map(quoted_segment, path)])
        if query:
            text += "?" + urlencode(query, quote_via=quote, safe="")
        return URL(text, encoded=True)


class _BoundedResponse(aiohttp.ClientResponse):
    """A response whose body is never held when it is larger than MAX_BODY."""

    async def read(self) -> bytes:
        if self._body is None:
            body = bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY:
                    self.close()
                    raise aiohttp.ClientPayloadError(f"a body of more than {MAX_BODY} bytes")
            self._body = bytes(body)
        return await super().read()


def quoted_segment(segment: str) -> str:
    """Return a path segment quoted whole; `.` and `..` would be taken for directories."""
    quoted = quote(segment, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def _unreachable(error: Exception) -> UnavailableError:
    return UnavailableError(f"{type(error).__name__}: {error}")


def _shaped(answer: dict[str, Any], shape: type[A]) -> A:
    try:
        return shape.model_validate(answer)
    except ValidationError as error:
        raise UnavailableError(f"no usable answer: {misshapen(error)}") from None


def _checked(status: int, headers: Mapping[str, str], body: bytes, *, own: bool) -> dict[str, Any]:
    """Return the JSON object of a 2xx answer, or raise what the answer means.

    `own` tells whether the service's own token was used: only then is it that which is refused.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    said = answer if isinstance(answer, dict) else {}
    wait = _wait(headers, said)
    if status == 429:
        raise RateLimitedError("429: rate limited", wait)
    if not isinstance(answer, dict):
        what = "without JSON" if answer is None else "with JSON that is no object"
        raise UnavailableError(
            f"no usable answer: status {status} {what}: is MATRIX_URL a Synapse homeserver?", wait
        )
    if 200 <= status < 300:
        return answer
    errcode, message = said.get("errcode"), str(said.get("error", ""))[:_WORDS]
    if message == NOT_INTROSPECTED:
        raise UnvouchedError(f"MAS does not tell the homeserver whose token it is: {message}", wait)
    if not 400 <= status < 500 or not isinstance(errcode, str):
        raise UnavailableError(f"no usable answer: {status} {errcode}: {message}", wait)
    if own and (status == 401 or (status == 403 and NOT_A_SERVER_ADMIN in message)):
        raise TokenError(status, errcode, message)
    # Whoever does not know the endpoint says nothing of the thing asked for.
    if status == 404 and errcode != UNRECOGNIZED:
        raise NotFoundError(status, errcode, message)
    raise _REFUSALS.get(errcode, RefusedError)(status, errcode, message)


_REFUSALS: dict[str, type[RefusedError]] = {USER_IN_USE: NameTakenError, BAD_STATE: BannedError}


def _wait(headers: Mapping[str, str], answer: dict[str, Any]) -> float | None:
    """Return how long we are asked to wait (seconds), within bounds; None if we are not."""
    milliseconds, header = answer.get("retry_after_ms"), headers.get("Retry-After", "")
    if isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool):
        seconds = milliseconds / 1000
    elif header.isdecimal():
        seconds = float(header)
    else:
        return None
    return max(LEAST_WAIT, min(seconds, LONGEST_WAIT))
