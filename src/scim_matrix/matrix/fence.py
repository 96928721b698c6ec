"""The last look before a request: only who leads changes anything on a server."""

from collections.abc import Callable

import aiohttp

from scim_matrix.matrix.errors import FencedError

_READING = ("GET", "HEAD")


def always() -> bool:
    """Lead: there is nobody else."""
    return True


def fenced(
    leads: Callable[[], bool], spared: Callable[[aiohttp.ClientRequest], bool]
) -> aiohttp.ClientMiddlewareType:
    """Return what keeps requests from being sent that would change something (a client middleware).

    Asked at the last moment: a process that was stopped for a while, with a request in its hands,
    must not send it when it goes on. Where `leads` says no, whatever does not only read and is not
    `spared` raises FencedError.
    """

    async def send_leading(
        request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if request.method not in _READING and not spared(request) and not leads():
            raise FencedError("another service leads, or may by now: nothing was sent")
        return await send(request)

    return send_leading
