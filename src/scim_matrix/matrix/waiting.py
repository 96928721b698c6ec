"""How long work has waited for the answers of servers, whatever else it waited for."""

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp


@dataclass
class Waited:
    """How long answers took (seconds): None until one was waited for."""

    seconds: float | None = None


_waited: ContextVar[Waited | None] = ContextVar("waited", default=None)


@contextlib.contextmanager
def waiting() -> Iterator[Waited]:
    """Yield how long the requests of what is done meanwhile have waited for answers, all in all."""
    waited = Waited()
    token = _waited.set(waited)
    try:
        yield waited
    finally:
        _waited.reset(token)


async def timed(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Count how long an answer takes for whoever waits for it (a client middleware)."""
    begun = time.perf_counter()
    try:
        return await send(request)
    finally:
        if waited := _waited.get():
            waited.seconds = (waited.seconds or 0.0) + time.perf_counter() - begun
