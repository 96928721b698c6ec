"""Where the service listens, bound before anything else is begun."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from scim_matrix.edge.door import HEAD_SECONDS, IDLE_SECONDS, Factory

# Filters may be longer than aiohttp lets a request line be; beyond this it answers for itself.
MAX_REQUEST_LINE = 64 * 1024

# How aiohttp serves: bodies are decompressed by edge/body.py, which bounds what they become.
OPTIONS: dict[str, Any] = {
    "max_line_size": MAX_REQUEST_LINE,
    "keepalive_timeout": IDLE_SECONDS,
    "auto_decompress": False,
}


class ListenError(Exception):
    """It cannot be listened there; the message names the setting."""


def protocol(runner: web.BaseRunner) -> asyncio.Protocol:
    """Return what serves one connection of a runner that is set up."""
    if runner.server is None:
        raise RuntimeError("the runner is not set up")
    return runner.server()


async def bind(
    make: Factory, passed: Iterable[socket.socket], host: str, port: int, tls: ssl.SSLContext | None
) -> list[asyncio.Server]:
    """Return servers on the sockets that were passed, else on host and port; none serves yet.

    Raises ListenError.
    """
    loop = asyncio.get_running_loop()
    # The time that a stranger may take for a TLS handshake; without TLS it must not be given.
    more: dict[str, Any] = {} if tls is None else {"ssl_handshake_timeout": HEAD_SECONDS}
    servers = [
        await loop.create_server(make, sock=own, ssl=tls, start_serving=False, **more)
        for own in passed
    ]
    if servers:
        return servers
    try:
        server = await loop.create_server(make, host, port, ssl=tls, start_serving=False, **more)
    except socket.gaierror as error:
        raise ListenError(f"LISTEN_HOST: {host!r} is no address here: {error.strerror}") from error
    except OSError as error:
        raise ListenError(_why(host, port, error)) from error
    return [server]


def _why(host: str, port: int, error: OSError) -> str:
    """Return which setting is to blame for an address that cannot be had."""
    reason = (error.strerror or str(error)).lower()
    # Newer Pythons go on to the next address of a name, and say then only that none was left.
    if error.errno in (errno.EADDRNOTAVAIL, None):
        return f"LISTEN_HOST: {host} is not an address of this machine"
    if error.errno == errno.EADDRINUSE:
        return f"LISTEN_PORT: {port} on {host} is in use by another program"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"LISTEN_PORT: {port} on {host} may not be used by this user: {reason}"
    return f"LISTEN_HOST, LISTEN_PORT: {host} port {port}: {reason}"
