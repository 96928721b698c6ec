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
) -> type[aiohttp.ClientRequest]:
    """Return requests that are not sent where they would change something and `leads` says no.

    Asked at the last moment, when there is a connection: a process that was stopped for a while,
    with a request in its hands, must not send it when it goes on. What does not only read and is
    not `spared` raises FencedError then.
    """

    class Fenced(aiohttp.ClientRequest):
        """A request that looks once more before it is sent."""

        async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
            if self.method not in _READING and not spared(self) and not leads():
                raise FencedError("another service leads, or may by now: nothing was sent")
            return await super().send(conn)

    return Fenced
