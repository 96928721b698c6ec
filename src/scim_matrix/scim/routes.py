"""SCIM over aiohttp: bearer secret, payload in, the library's answer out."""

import hmac
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import orjson
import structlog
from aiohttp import web
from pydantic import ValidationError
from scim2_models import Error, SCIMException, ScimProvider
from scim2_models.exceptions import UnauthorizedException
from scim2_server.requests import ScimRequest
from scim2_server.responses import SCIM_MEDIA_TYPE, ScimResponse

from scim_matrix.scim import members, payload
from scim_matrix.scim.people import Identity
from scim_matrix.scim.protocol import DEFAULT_PAGE, MAX_RESULTS, USER, Handler, Service
from scim_matrix.scim.storage import RequestStorage
from scim_matrix.store import resources
from scim_matrix.store.database import Database
from scim_matrix.store.resources import MemberChange

log = structlog.get_logger(__name__)
PREFIX = "/scim/v2"


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
    ) -> None:
        self._database = database
        self._provider = provider
        self._identity = identity
        self._secrets = [s.encode() for s in secrets]
        self._public_url = public_url
        self._committed = committed
        self._service = Service(provider)
        self._attributes = {
            "users": payload.attributes_of(provider.schemas, USER),
            "groups": payload.attributes_of(provider.schemas, members.GROUP),
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one SCIM request; whatever goes wrong is a SCIM error body."""
        try:
            self._authorize(request)
            return await self._serve(request)
        except (SCIMException, ValidationError) as error:
            return _answer(self._service.error_response(error))
        except web.HTTPRequestEntityTooLarge:
            return _error(413, "the body is larger than MAX_BODY_BYTES")
        except (sqlite3.OperationalError, OSError) as error:
            log.exception("store_failed", error=str(error))
            return _error(503, "the database cannot be used right now", {"Retry-After": "30"})

    def _authorize(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        sent = token.strip().encode("utf-8", "surrogateescape")
        # Every secret is compared, so that the time says nothing about which one matched.
        matches = [hmac.compare_digest(sent, secret) for secret in self._secrets]
        if scheme.lower() != "bearer" or not any(matches):
            raise UnauthorizedException(detail="the bearer secret is missing or wrong")

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(PREFIX).rstrip("/") or "/"
        body = await request.read()
        changes: Sequence[MemberChange] = ()
        segments = path.lstrip("/").split("/")
        attributes = self._attributes.get(segments[0].lower())
        if attributes is not None and len(segments) <= 2 and segments[-1] != ".search":
            body, changes = self._read(request.method, segments[0].lower(), body)
        writes = request.method in {"POST", "PUT", "PATCH", "DELETE"} and "search" not in path
        storage = RequestStorage(
            self._database,
            self._provider,
            self._identity,
            writes=writes,
            member_changes=changes,
        )
        scim_request = ScimRequest(
            method=request.method,
            base_url=f"{self._public_url or request.url.origin()}{PREFIX}",
            path=path,
            query=_query(request.query_string),
            headers=dict(request.headers),
            body=body,
        )
        answer = await Handler(self._service, storage).handle(scim_request)
        if writes:
            self._committed()
        if answer.body is not None and segments[0].lower() == "groups":
            await self._put_members_back(answer.body, scim_request)
        return _answer(answer)

    def _read(
        self, method: str, endpoint: str, body: bytes
    ) -> tuple[bytes, Sequence[MemberChange]]:
        """Return a body in the form the library gets, and the member changes taken off it."""
        if method not in {"POST", "PUT", "PATCH"}:
            return body, ()
        document = payload.parse(body)
        changes: Sequence[MemberChange] = ()
        if method == "PATCH":
            document = payload.canonical_patch(document)
            if endpoint == "groups":
                changes = members.take_from_patch(document)
        else:
            document = payload.canonical(document, self._attributes[endpoint])
            if endpoint == "groups":
                changes = members.take_from_resource(document)
            payload.check(endpoint.removesuffix("s"), document)
            document.setdefault("schemas", [USER if endpoint == "users" else members.GROUP])
        return orjson.dumps(document), changes

    async def _put_members_back(self, body: dict[str, Any], request: ScimRequest) -> None:
        wanted = _asks_for_members(request.query)
        groups = body.get("Resources", []) if "totalResults" in body else [body]
        for group in groups:
            if wanted and "id" in group:
                found = await resources.members(self._database.reader, group["id"])
                for member in found:
                    if "type" in member:
                        member["$ref"] = f"{request.base_url}/{member['type']}s/{member['value']}"
                group["members"] = found


def _asks_for_members(query: Any) -> bool:
    def names(parameter: str) -> list[str]:
        listed = query.get(parameter, "").split(",")
        return [n.strip().lower().removeprefix(f"{members.GROUP.lower()}:") for n in listed]

    if query.get("attributes"):
        return any(n.split(".")[0] == "members" for n in names("attributes"))
    return "members" not in names("excludedAttributes")


def _query(text: str) -> dict[str, str]:
    """Parse a query string; a plus sign is itself where blanks are written %20 (e-mail tags)."""
    plus_is_plus = "%20" in text
    pairs = parse_qsl(text.replace("+", "%2B") if plus_is_plus else text, keep_blank_values=True)
    query = {unquote_plus(k): v for k, v in pairs}
    for name, least in (("startIndex", 1), ("count", 0)):
        value = query.get(name, "")
        if value.lstrip("-").isdigit():
            query[name] = str(min(max(int(value[:20]), least), MAX_RESULTS * 10**9))
    query.setdefault("count", str(DEFAULT_PAGE))
    return query


def _answer(answer: ScimResponse) -> web.Response:
    body = None if answer.body is None else orjson.dumps(answer.body)
    return web.Response(status=int(answer.status), body=body, headers=answer.headers)


def _error(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    body = Error(status=status, detail=detail).model_dump()
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        headers={"Content-Type": SCIM_MEDIA_TYPE, **(headers or {})},
    )
