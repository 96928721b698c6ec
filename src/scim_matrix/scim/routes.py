"""SCIM over aiohttp: bearer secret, request in, the library's answer out."""

import asyncio
import hmac
import math
import re
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import orjson
import structlog
from aiohttp import web
from scim2_models import ScimProvider
from scim2_models.exceptions import UnauthorizedException
from scim2_server.requests import ScimRequest
from scim2_server.responses import SCIM_MEDIA_TYPE, ScimResponse

from scim_matrix.edge import body
from scim_matrix.edge.body import BodyError
from scim_matrix.edge.requests import scim_error
from scim_matrix.scim import answers
from scim_matrix.scim.attempts import Attempts
from scim_matrix.scim.incoming import Incoming, Reader
from scim_matrix.scim.people import Identity
from scim_matrix.scim.protocol import Handler, Service
from scim_matrix.scim.storage import RequestStorage
from scim_matrix.store.database import Database
from scim_matrix.store.errors import DatabaseUnusableError

log = structlog.get_logger(__name__)

PREFIX = "/scim/v2"
# Reading a body of this size keeps the event loop for about a millisecond.
_LARGE_BODY = 64 * 1024
# Whoever waits for the database for longer (seconds) is told to come again; clients give up later.
ANSWERED_WITHIN = 25.0
# A client that sends its body more slowly than this (seconds) is cut off.
_BODY_SECONDS = 60.0
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class ScimEndpoint:
    """Serves everything under /scim/v2.

    `committed` is called after each write, to wake the reconciler.
    """

    def __init__(
        self,
        database: Database,
        provider: ScimProvider,
        identity: Identity,
        secrets: Sequence[str],
        public_url: str | None,
        committed: Callable[[], None],
        attempts: Attempts,
    ) -> None:
        self._database = database
        self._provider = provider
        self._identity = identity
        self._secrets = [s.encode() for s in secrets]
        self._public_url = public_url
        self._committed = committed
        self._attempts = attempts
        self._service = Service(provider, secret=secrets[0])
        self._reader = Reader(provider)
        # What is undone though nobody waits for it is not to be collected half-way.
        self._answering: set[asyncio.Task[ScimResponse]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one SCIM request; whatever goes wrong is a SCIM error body.

        Its id, the client's own X-Request-ID where that is usable, stands in the answer, in
        every line of the log and in the record of what follows.
        """
        sent = request.headers.get("X-Request-ID", "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex[:16]
        start = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request=request_id):
            answer = await self._answered(request, request_id)
            log.info(
                "scim_request",
                method=request.method,
                path=request.path,
                status=answer.status,
                milliseconds=round((time.perf_counter() - start) * 1000, 1),
            )
        answer.headers["X-Request-ID"] = request_id
        return answer

    async def _answered(self, request: web.Request, request_id: str) -> web.StreamResponse:
        if not self._shows_secret(request):
            return self._refusal(request)
        try:
            return await self._serve(request, request_id)
        except BodyError as error:
            return scim_error(error.status, str(error))
        except Exception as error:  # noqa: BLE001 - logged there, and still answered as SCIM
            answer = self._service.error_response(error)
            if answer.status == 503:
                answer.headers["Retry-After"] = "30"
            return _answer(answer)

    def _shows_secret(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        sent = token.strip().encode("utf-8", "surrogateescape")
        # Every secret is compared, so that the time says nothing about which one matched.
        matches = [hmac.compare_digest(sent, secret) for secret in self._secrets]
        return scheme.lower() == "bearer" and any(matches)

    def _refusal(self, request: web.Request) -> web.Response:
        """Return 401, or 429 to an address that has guessed too often.

        Only who is wrong comes here: guessing from behind the identity provider's own proxy does
        not stop the identity provider.
        """
        lines = request.headers.getall("X-Forwarded-For", ())
        address = self._attempts.address(request.remote, lines)
        if (wait := self._attempts.wait(address)) is not None:
            log.warning("too_many_failures", address=address)
            refusal = scim_error(429, "too many requests without the right bearer secret")
            refusal.headers["Retry-After"] = str(math.ceil(wait))
            return refusal
        self._attempts.failed(address)
        error = UnauthorizedException(detail="the bearer secret is missing or wrong")
        return _answer(self._service.error_response(error))

    async def _serve(self, request: web.Request, request_id: str) -> web.StreamResponse:
        incoming = await self._read(request)
        base_url = f"{self._public_url or request.url.origin()}{PREFIX}"
        storage = RequestStorage(
            self._database,
            self._provider,
            self._identity,
            writes=incoming.writes,
            cause=request_id,
            member_changes=incoming.changes,
            base_url=base_url,
            is_gone=lambda: request.transport is None or request.transport.is_closing(),
        )
        headers = {"content-type": SCIM_MEDIA_TYPE, **_lower(request.headers)}
        if incoming.answers_with_groups:
            # Its version does not count its groups: 304 might be wrong.
            headers.pop("if-none-match", None)
        scim_request = ScimRequest(
            method=incoming.method,
            base_url=base_url,
            path=incoming.path,
            query=incoming.query,
            headers=headers,
            body=incoming.body,
        )
        handler = Handler(self._service, storage, incoming.steps)
        answer = await self._in_time(handler.handle(scim_request))
        if incoming.writes:
            self._committed()
        if answer.body is not None:
            await answers.complete(
                self._database.scanner, answer.body, incoming.selection, base_url
            )
            answers.narrow(self._provider, answer.body, incoming.narrowings)
            if incoming.path.lower().startswith("/schemas"):
                answers.list_external_id(answer.body)
        return _answer(answer)

    async def _in_time(self, answering: Coroutine[Any, Any, ScimResponse]) -> ScimResponse:
        """Return an answer, and where there is none in time have what leads to it be undone.

        Nobody waits for that: what does not answer may not say either that it has stopped. Raises
        DatabaseUnusableError.
        """
        task = asyncio.create_task(answering, name="answer")
        self._answering.add(task)
        task.add_done_callback(self._ended)
        try:
            done, _ = await asyncio.wait((task,), timeout=ANSWERED_WITHIN)
        finally:
            # Where the client has gone, too.
            task.cancel()
        if not done:
            raise DatabaseUnusableError(f"no answer within {ANSWERED_WITHIN:.0f} seconds")
        return task.result()

    def _ended(self, task: asyncio.Task[ScimResponse]) -> None:
        self._answering.discard(task)
        if not task.cancelled():
            # Retrieved here, in case nobody waits for it any more.
            task.exception()

    async def _read(self, request: web.Request) -> Incoming:
        sent = await body.read(request, request.client_max_size, _BODY_SECONDS)
        read = self._reader.read
        parts = (
            request.method,
            request.path.removeprefix(PREFIX),
            request.rel_url.raw_query_string,
            sent,
        )
        return read(*parts) if len(sent) < _LARGE_BODY else await asyncio.to_thread(read, *parts)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _answer(answer: ScimResponse) -> web.Response:
    body = None if answer.body is None else orjson.dumps(answer.body)
    return web.Response(status=int(answer.status), body=body, headers=answer.headers)
