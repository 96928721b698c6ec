"""Request bodies, bounded by what they become: read, decompressed, or refused."""

import asyncio
import zlib

from aiohttp import web

# Bytes made at a time: between two such steps others have their turn.
_STEP = 256 * 1024
# What zlib is told of what it gets: the size of its window, and 16 more for gzip.
_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW_DEFLATE = -zlib.MAX_WBITS
# The parts that gzip data may be made of; what compresses in blocks of 64 KiB needs 512 for 32 MiB.
_MOST_MEMBERS = 1024


class BodyError(Exception):
    """A body that cannot be used; `status` says how, the message why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def encoding(request: web.Request) -> str:
    """Return the content coding of a request (RFC 9110 section 8.4.1), "identity" for none.

    Raises BodyError for one that is not known here, or for several.
    """
    sent = ", ".join(request.headers.getall("Content-Encoding", ())).strip().lower()
    name = sent.removeprefix("x-") or "identity"
    if name not in {"identity", "gzip", "deflate"}:
        raise BodyError(415, "Content-Encoding must be gzip, deflate or identity")
    return name


async def read(request: web.Request, limit: int, seconds: float) -> bytes:
    """Return a body of at most `limit` bytes, decompressed, that arrives within `seconds`.

    Nothing larger is ever held. Raises BodyError.
    """
    coding = encoding(request)
    if (request.content_length or 0) > limit:
        raise BodyError(413, "the body is too large")
    sent = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while chunk := await request.content.readany():
                sent += chunk
                if len(sent) > limit:
                    raise BodyError(413, "the body is too large")
    except TimeoutError:
        raise BodyError(408, "the body did not arrive in time") from None
    except (web.RequestPayloadError, ConnectionError, EOFError):
        raise BodyError(400, "the body broke off, or is not framed as HTTP says") from None
    if coding == "identity" or not sent:
        return bytes(sent)
    return await asyncio.to_thread(decompressed, bytes(sent), limit)


def decompressed(sent: bytes, limit: int) -> bytes:
    """Return what gzip or deflate data becomes. Raises BodyError, before it holds over `limit`.

    gzip data may have several members (RFC 1952 section 2.2). "deflate" means zlib's format; raw
    data, as some clients send it, is understood too.
    """
    # RFC 1950: the first byte of zlib data ends in 8 (deflate); gzip begins with 1f 8b.
    is_gzip = sent[:2] == b"\x1f\x8b"
    form = _GZIP if is_gzip else _ZLIB if sent[0] & 0x0F == 8 else _RAW_DEFLATE
    became = bytearray()
    left = memoryview(sent)
    try:
        for _ in range(_MOST_MEMBERS if is_gzip else 1):
            left = _inflate(form, left, became, limit)
            if not left:
                return bytes(became)
    except zlib.error:
        raise BodyError(400, "the body is not what its Content-Encoding says") from None
    if is_gzip:
        raise BodyError(400, f"the body has more than {_MOST_MEMBERS} gzip members")
    raise BodyError(400, "the body is not what its Content-Encoding says")


def _inflate(form: int, sent: memoryview, became: bytearray, limit: int) -> memoryview:
    """Decompress up to the end of one stream and return what stands behind it.

    Raises zlib.error or BodyError.
    """
    machine = zlib.decompressobj(form)
    while not machine.eof:
        part = sent[:_STEP]
        step = machine.decompress(part, _STEP)
        sent = sent[len(part) - len(machine.unconsumed_tail or machine.unused_data) :]
        # All may be read and something of it still be to come.
        if not step and not part:
            raise zlib.error("it breaks off")
        became += step
        if len(became) > limit:
            raise BodyError(413, "the body is too large once it is decompressed")
    return sent
