"""Connections: how many there may be, and for how long one may say nothing of use."""

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

log = structlog.get_logger(__name__)

# A request's head has to arrive within this (seconds) from its first byte; a TLS handshake too.
HEAD_SECONDS = 10.0
# A connection on which nothing is asked for so long (seconds) is closed; proxies keep theirs 60.
IDLE_SECONDS = 75.0
# A client that takes nothing of its answer for so long (seconds) does not get the rest.
STALL_SECONDS = 30.0
# All connections together; identity providers open a handful.
MOST_CONNECTIONS = 512

Factory = Callable[[], asyncio.Protocol]

# What ends a head, and a body in chunks.
_END = b"\r\n\r\n"


class Door:
    """Lets connections in, and closes those whose request does not come or whose answer stays.

    Where there are too many, the one that has been without a request for longest makes room;
    where all are at work, the new one is closed. `middleware` has to be the application's
    outermost: it tells when a request has arrived.
    """

    def __init__(
        self,
        most: int = MOST_CONNECTIONS,
        head_seconds: float = HEAD_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._most = most
        self.head_seconds = head_seconds
        self.stall_seconds = stall_seconds
        # In the order in which they were last of use.
        self._open: dict[asyncio.BaseTransport, _Guarded] = {}

    def guard(self, make: Factory) -> Factory:
        """Return what makes a protocol like `make`'s for each connection that is let in."""
        return lambda: _Guarded(self, make())

    def enter(self, transport: asyncio.Transport, connection: "_Guarded") -> bool:
        """Note a new connection; False where there is no room for it."""
        if len(self._open) >= self._most:
            idle = next((t for t, c in self._open.items() if not c.at_work and not c.sends), None)
            log.warning("connections_full", most=self._most, made_room=idle is not None)
            if idle is None:
                return False
            self._open.pop(idle).end()
        self._open[transport] = connection
        return True

    def leave(self, transport: asyncio.BaseTransport) -> None:
        """Note that a connection has ended."""
        self._open.pop(transport, None)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell the connection that its request has arrived, and when it is answered."""
        transport = request.transport
        connection = None if transport is None else self._open.get(transport)
        if transport is None or connection is None:
            return await handler(request)
        connection.begin()
        try:
            return await handler(request)
        finally:
            chunked = request.headers.get("Transfer-Encoding") is not None
            connection.finish(None if chunked else request.content_length or 0)
            if transport in self._open:
                self._open[transport] = self._open.pop(transport)


class _Guarded(asyncio.Protocol):
    """One connection: hands everything on, and ends where a head does not come to its end."""

    def __init__(self, door: Door, inner: asyncio.Protocol) -> None:
        self._door = door
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self.at_work = False
        # Of what came since the last answer: its beginning, the length of that, of all, its end.
        self._head = bytearray()
        self._head_length = -1
        self._length = 0
        self._last = b""
        # Whether anything has come behind a request before that was answered.
        self._runs_ahead = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if not self._door.enter(transport, self):
            transport.abort()
            return
        self._transport = transport
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if not self.at_work and self._timer is None:
            self._start_timer()
        self._measure(data)
        self._inner.data_received(data)

    def _measure(self, data: bytes) -> None:
        self._length += len(data)
        self._last = (self._last + data[-len(_END) :])[-len(_END) :]
        if self._head_length < 0:
            start = max(0, len(self._head) - len(_END) + 1)
            self._head += data
            if (end := self._head.find(_END, start)) >= 0:
                self._head_length = end + len(_END)
                self._head.clear()

    def eof_received(self) -> bool | None:
        return None if self._transport is None else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_watching()
        if self._transport is not None:
            self._door.leave(self._transport)
            self._transport = None
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._watch()
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._stop_watching()
        self._inner.resume_writing()

    @property
    def sends(self) -> bool:
        """Whether there is something of an answer that the client has not taken yet."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def begin(self) -> None:
        """Note that a whole head has arrived."""
        self._stop_timer()
        self.at_work = True

    def finish(self, body_length: int | None) -> None:
        """Note that the request is answered; its body's length is None where it was in chunks.

        A beginning of the next head that came together with it has no limit of its own otherwise.
        Clients hardly ever send ahead: those that do are not waited for longer from then on.
        """
        if body_length is None:
            self._runs_ahead |= self._last != _END
        else:
            self._runs_ahead |= self._length > self._head_length + body_length
        self._head.clear()
        self._head_length, self._length, self._last = -1, 0, b""
        self.at_work = False
        if self._runs_ahead and self._transport is not None:
            self._start_timer()

    def end(self) -> None:
        """Close the connection at once."""
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    def _start_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._door.head_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        """Check later whether anything of what is to be sent has been taken."""
        if self._transport is not None:
            loop = asyncio.get_running_loop()
            left = self._transport.get_write_buffer_size()
            self._stall = loop.call_later(self._door.stall_seconds, self._check_taken, left)

    def _check_taken(self, left: int) -> None:
        if self._transport is None or self._transport.get_write_buffer_size() != left:
            self._watch()
        else:
            log.info("answer_not_taken", seconds=self._door.stall_seconds)
            self.end()

    def _stop_watching(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.sends:
            # Its time begins when the answer before it is taken.
            self._start_timer()
            return
        log.info("head_too_slow", seconds=self._door.head_seconds)
        self.end()
