"""A socket between the service and Synapse: counts requests, injects faults on demand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

# Given method and path: an answer of its own, or None to ask Synapse.
Fault = Callable[[str, str], web.Response | None]


@dataclass
class Proxy:
    """A running proxy. `fault` answers instead of Synapse; `lost` drops Synapse's answer."""

    upstream: str
    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    # When each request came (seconds of the event loop's clock).
    moments: list[float] = field(default_factory=list)
    fault: Fault = lambda method, path: None
    lost: Callable[[str, str], bool] = lambda method, path: False
    # What to wait for before a request is passed on.
    delay: Callable[[str, str], Awaitable[None]] | None = None
    # What to wait for before Synapse's answer is passed on.
    after: Callable[[str, str], Awaitable[None]] | None = None
    # Given method, path and body of an answer with status 200: what is answered instead.
    rewrite: Callable[[str, str, bytes], bytes] | None = None
    # Headers of what is passed on, in place of its own.
    headers: dict[str, str] = field(default_factory=dict)
    # Nothing answers: connections are cut as soon as something is asked.
    dark: bool = False

    @property
    def asked(self) -> list[tuple[str, str]]:
        """The requests so far, without the one that waits for something to happen."""
        return [(method, path) for method, path in self.requests if "/v3/sync?" not in path]

    def lights_on(self) -> None:
        """Answer again, and lose nothing more."""
        self.lost = lambda method, path: False
        self.after = None
        self.dark = False

    def lose_next(self, is_meant: Callable[[str, str], bool]) -> asyncio.Event:
        """Have one request carried out and its answer lost; from then on it is dark.

        Returns the event that is set once that has happened.
        """
        lost = asyncio.Event()

        def lose(method: str, path: str) -> bool:
            if lost.is_set() or not is_meant(method, path):
                return False
            self.dark = True
            lost.set()
            return True

        self.lost = lose
        return lost

    def withhold_next(self, is_meant: Callable[[str, str], bool]) -> asyncio.Event:
        """Have one request carried out and never answered; from then on it is dark.

        Returns the event that is set once that has happened.
        """
        withheld = asyncio.Event()

        async def withhold(method: str, path: str) -> None:
            if not withheld.is_set() and is_meant(method, path):
                self.dark = True
                withheld.set()
                await asyncio.Event().wait()

        self.after = withhold
        return withheld

    def hold(self, is_meant: Callable[[str, str], bool]) -> tuple[asyncio.Event, asyncio.Event]:
        """Keep requests waiting until told otherwise.

        Returns the event that is set once one is there, and the one that lets them all go on.
        """
        held, free = asyncio.Event(), asyncio.Event()

        async def wait(method: str, path: str) -> None:
            if is_meant(method, path):
                held.set()
                await free.wait()

        self.delay = wait
        return held, free

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Forward one request."""
        self.requests.append((request.method, request.raw_path))
        self.moments.append(asyncio.get_running_loop().time())
        if self.dark:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.delay is not None:
            await self.delay(request.method, request.raw_path)
        if (answer := self.fault(request.method, request.raw_path)) is not None:
            return answer
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method,
                self.upstream + request.raw_path,
                data=await request.read(),
                headers=headers,
            ) as upstream,
        ):
            body = await upstream.read()
            self.statuses.append(upstream.status)
            if self.after is not None:
                await self.after(request.method, request.raw_path)
            if self.lost(request.method, request.raw_path):
                assert request.transport is not None
                request.transport.abort()
            if self.rewrite is not None and upstream.status == 200:
                body = self.rewrite(request.method, request.raw_path, body)
            return web.Response(
                status=upstream.status,
                body=body,
                content_type=upstream.content_type,
                headers=self.headers,
            )


@contextlib.asynccontextmanager
async def proxying(upstream: str) -> AsyncIterator[Proxy]:
    """Run a proxy on a free loopback port."""
    proxy = Proxy(upstream)
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield proxy
    finally:
        await runner.cleanup()
