"""What is wrong with a request before anybody looks at what it wants."""

import asyncio
import re
from ipaddress import IPv6Address

import orjson
import structlog
from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler, Middleware
from scim2_models import Error
from scim2_server.responses import SCIM_MEDIA_TYPE

log = structlog.get_logger(__name__)

SCIM = "/scim"
CONSOLE = "/console"
# A form of the console; larger ones get 413.
MOST_FORM_BYTES = 64 * 1024
_FORM = "application/x-www-form-urlencoded"
_FORM_SECONDS = 10.0
# A host name or IP address with a port or without; RFC 3986 allows more, names have no more.
_HOST = re.compile(
    r"(?:[A-Za-z0-9._-]{1,255}|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>\d{0,5}))?"
)


def scim_error(status: int, detail: str) -> web.Response:
    """Return a SCIM error (RFC 7644 section 3.12)."""
    body = Error(status=status, detail=detail).model_dump()
    return web.Response(
        status=status, body=orjson.dumps(body), headers={"Content-Type": SCIM_MEDIA_TYPE}
    )


def well_formed(public_url: str | None) -> Middleware:
    """Return the middleware that refuses what no handler can use.

    Below /scim every refusal is a SCIM error. Without `public_url` the addresses in answers come
    from the Host header, which then has to be one.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        below_scim = f"{request.path}/".startswith(f"{SCIM}/")
        try:
            if public_url is None and request.path.startswith((SCIM, CONSOLE)):
                _check_host(request)
            return await handler(request)
        except web.HTTPException as error:
            if not below_scim:
                raise
            return scim_error(error.status, error.reason)

    return middleware


def _check_host(request: web.Request) -> None:
    sent = request.headers.getall("Host", ())
    # Where the target has a host of its own that one counts (RFC 9112 section 3.2.2).
    if not all(map(_is_host, sent)) or not _is_host(request.url.raw_authority):
        raise web.HTTPBadRequest(
            reason="Bad Host", text="the Host header is no host name with a port"
        )


def _is_host(text: str) -> bool:
    """Tell whether a text is a host name or an IP address, with or without a port."""
    found = _HOST.fullmatch(text)
    if found is None or int(found["port"] or 0) > 65535:
        return False
    try:
        return found["v6"] is None or bool(IPv6Address(found["v6"]))
    except ValueError:
        return False


async def scim_expectation(request: web.Request) -> web.Response | None:
    """Answer `Expect: 100-continue`; refuse any other expectation as SCIM does.

    aiohttp asks this before any middleware.
    """
    if request.version != HttpVersion11:
        return None
    if request.headers.get("Expect", "").lower() != "100-continue":
        return scim_error(417, "Expect must be 100-continue")
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The answer proper has not begun.
    request.writer.output_size = 0
    return None


@web.middleware
async def small_forms(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let through forms as browsers send the console's: small, in UTF-8, uncompressed.

    Nothing is read before its size is known. A middleware.
    """
    if request.method in {"POST", "PUT", "PATCH"} or request.can_read_body:
        await _check_form(request)
    return await handler(request)


async def _check_form(request: web.Request) -> None:
    if "Content-Encoding" in request.headers:
        raise web.HTTPUnsupportedMediaType(text="forms are not compressed")
    try:
        charset = (request.charset or "utf-8").lower()
    except ValueError:
        charset = "unknown"
    if request.content_type != _FORM or charset not in {"utf-8", "utf8"}:
        raise web.HTTPUnsupportedMediaType(text=f"forms are {_FORM} in UTF-8")
    if request.content_length is None:
        raise web.HTTPLengthRequired
    if request.content_length > MOST_FORM_BYTES:
        raise web.HTTPRequestEntityTooLarge(MOST_FORM_BYTES, request.content_length)
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            # Kept by aiohttp for whoever asks for the form next.
            form = await request.read()
        form.decode("utf-8")
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the form did not arrive in time") from None
    except UnicodeDecodeError:
        raise web.HTTPBadRequest(text="the form is not UTF-8") from None
    except (web.RequestPayloadError, ConnectionError, EOFError):
        raise web.HTTPBadRequest(text="the form broke off") from None
