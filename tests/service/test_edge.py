"""The HTTP edge: connections, heads, bodies, and what is wrong with a request as such."""

import asyncio
import contextlib
import gzip
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from scim_matrix.edge import body, listening, requests
from scim_matrix.edge.door import Door
from tests.conftest import eventually
from tests.service.client import ERROR, call
from tests.service.conftest import SECRET, Start

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


# -- Connections ------------------------------------------------------------

# More than the system keeps of an answer that nobody takes.
LARGE = 30_000_000
PIECE = b"x" * 100_000


class Entrance:
    """A tiny application behind a door; `/wait` answers when `go` is set."""

    def __init__(self, door: Door) -> None:
        self.go = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)
        self._door = door
        self._app = web.Application(middlewares=[door.middleware])
        self._app.router.add_get("/", self._at_once)
        self._app.router.add_post("/", self._at_once)
        self._app.router.add_get("/wait", self._wait)
        self._app.router.add_get("/large", self._large)
        self._app.router.add_get("/pieces", self._pieces)
        self.written = 0
        self.port = 0

    async def _at_once(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="here")

    async def _wait(self, request: web.Request) -> web.Response:
        self.waiting.release()
        await self.go.wait()
        return web.Response(text="waited")

    async def _large(self, request: web.Request) -> web.Response:
        return web.Response(body=b"x" * LARGE)

    async def _pieces(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": str(LARGE)})
        await answer.prepare(request)
        for _ in range(LARGE // len(PIECE)):
            await answer.write(PIECE)
            self.written += len(PIECE)
        return answer

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Entrance"]:
        """Serve."""
        runner = web.AppRunner(self._app, access_log=None, **listening.OPTIONS)
        make = self._door.guard(lambda: listening.protocol(runner))
        [server] = await listening.bind(make, [], "127.0.0.1", 0, None)
        await runner.setup()
        await server.start_serving()
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self.go.set()
            server.close()
            await runner.cleanup()

    async def connect(self, sent: str = "") -> Stream:
        """Open a connection and send something."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent.encode())
        await writer.drain()
        return reader, writer


async def answered(stream: Stream, path: str = "/") -> bytes:
    """Ask on a connection and return the answer's first line; empty where it was closed."""
    _, writer = stream
    with contextlib.suppress(ConnectionError):
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()
        return await first_line(stream)
    return b""


async def first_line(stream: Stream) -> bytes:
    """Return the first line that comes on a connection and skip the rest of the answer."""
    reader, _ = stream
    async with asyncio.timeout(10):
        try:
            line = await reader.readline()
            while (header := await reader.readline()).strip():
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            if line:
                await reader.readexactly(length)
        except ConnectionError:
            return b""
        return line


async def test_a_head_that_does_not_come_to_its_end_is_not_waited_for() -> None:
    """From its first byte a head has so long, on a new connection and on one already used."""
    async with Entrance(Door(head_seconds=0.1)).opened() as entrance:
        half = "GET / HTTP/1.1\r\nHost: x\r\n"
        fresh = await entrance.connect(half)
        assert await first_line(fresh) == b""
        used = await entrance.connect()
        assert b" 200 " in await answered(used)
        used[1].write(half.encode())
        assert await first_line(used) == b""


WHOLE = {
    "none": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "length": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    "chunks": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    "3\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("body", WHOLE)
@pytest.mark.parametrize("ahead", [1, 2])
async def test_a_head_behind_a_request_is_not_waited_for_either(body: str, ahead: int) -> None:
    """Half a head that comes together with whole requests has no more time than any other.

    Who sends nothing ahead keeps the connection, as proxies do.
    """
    async with Entrance(Door(head_seconds=0.1)).opened() as entrance:
        quiet = await entrance.connect(WHOLE[body])
        assert b" 200 " in await first_line(quiet)
        running_ahead = await entrance.connect(WHOLE[body] * ahead + "GET / HTTP/1.1\r\nHo")
        for _ in range(ahead):
            assert b" 200 " in await first_line(running_ahead)
        assert await first_line(running_ahead) == b""
        assert b" 200 " in await answered(quiet)


async def test_a_request_that_has_arrived_may_take_its_time() -> None:
    """The limit for heads does not touch work that takes longer."""
    async with Entrance(Door(head_seconds=0.1)).opened() as entrance:
        working = await entrance.connect("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await entrance.waiting.acquire()
        # Another connection's head times out meanwhile: the limit has passed.
        assert await first_line(await entrance.connect("GET")) == b""
        entrance.go.set()
        assert b" 200 " in await first_line(working)


async def test_a_body_may_take_its_time() -> None:
    """The limit for heads does not touch what comes in pieces behind one."""
    async with Entrance(Door(head_seconds=0.1)).opened() as entrance:
        head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
        reader, writer = await entrance.connect(head)
        for piece in (b"a", b"b"):
            assert b" 200 " in await answered(await entrance.connect())
            writer.write(piece)
            await writer.drain()
        # Another connection's head times out meanwhile: the limit has passed.
        assert await first_line(await entrance.connect("GET")) == b""
        writer.write(b"c")
        assert b" 200 " in await first_line((reader, writer))


async def test_an_answer_that_nobody_takes_is_not_kept() -> None:
    """Who asks and takes nothing loses the connection; who takes an answer has it whole."""

    async def told() -> list[Any]:
        return [entry["event"] for entry in logs]

    asking = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
    async with Entrance(Door(stall_seconds=0.1)).opened() as entrance:
        loop = asyncio.get_running_loop()
        with (
            capture_logs() as logs,
            socket.create_connection(("127.0.0.1", entrance.port)) as silent,
        ):
            silent.setblocking(False)
            await loop.sock_sendall(silent, asking)
            reader, writer = await entrance.connect(asking.decode())
            async with asyncio.timeout(30):
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(LARGE) == b"x" * LARGE
                assert await eventually(told, bool) == ["answer_not_taken"]
                got = 0
                with contextlib.suppress(ConnectionError):
                    while part := await loop.sock_recv(silent, 1 << 20):
                        got += len(part)
        assert got < LARGE
        assert b" 200 " in await answered((reader, writer))


async def test_what_nobody_takes_yet_is_not_made() -> None:
    """An answer that is made in pieces waits for whoever takes it, and goes on with them."""
    async with Entrance(Door()).opened() as entrance:
        passing = await entrance.connect()
        reader, _ = await entrance.connect("GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in await answered(passing)
            assert entrance.written < LARGE
            assert await reader.readexactly(LARGE) == b"x" * LARGE


async def test_who_takes_a_part_of_an_answer_and_then_nothing_loses_the_connection() -> None:
    """That it was taken once says nothing of later."""

    async def told() -> list[Any]:
        return [entry["event"] for entry in logs]

    async with Entrance(Door(stall_seconds=0.1)).opened() as entrance:
        loop = asyncio.get_running_loop()
        with (
            capture_logs() as logs,
            socket.create_connection(("127.0.0.1", entrance.port)) as client,
        ):
            client.setblocking(False)
            await loop.sock_sendall(client, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            got = 0
            while got < LARGE // 4:
                got += len(await loop.sock_recv(client, 1 << 20))
            assert await eventually(told, bool) == ["answer_not_taken"]


async def test_who_takes_an_answer_slowly_has_it_whole() -> None:
    """However often it is looked whether anything has been taken, and what they ask later, too."""
    async with Entrance(Door(head_seconds=0.15, stall_seconds=0.2)).opened() as entrance:
        now = asyncio.get_running_loop().time
        passing = await entrance.connect()
        reader, writer = await entrance.connect("GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            await reader.readuntil(b"\r\n\r\n")
            left = LARGE
            for _ in range(8):
                # So much that the service is rid of some of it.
                await reader.readexactly(LARGE // 20)
                left -= LARGE // 20
                until = now() + 0.04
                while now() < until:
                    assert b" 200 " in await answered(passing)
            assert await reader.readexactly(left) == b"x" * left
            # Heads that do not come in time tell how time passes.
            for _ in range(3):
                assert await first_line(await entrance.connect("GET")) == b""
            assert b" 200 " in await answered((reader, writer))


async def test_an_answer_that_is_being_taken_is_not_cut() -> None:
    """Neither half a head behind the request nor somebody who needs room ends it."""
    door = Door(most=2, head_seconds=0.1)
    asking = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
    async with Entrance(door).opened() as entrance:
        reader, writer = await entrance.connect(f"{asking}GET / HT")
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head
            # Begun later and over: so the time for the half head has passed as well.
            assert await first_line(await entrance.connect("GET")) == b""
            await entrance.connect()
            assert b" 200 " in await answered(await entrance.connect())
            assert await reader.readexactly(LARGE) == b"x" * LARGE
            assert await reader.read() == b""
        writer.close()


async def test_an_idle_connection_makes_room() -> None:
    """With too many connections the one longest without a request goes, whoever comes is served."""
    async with Entrance(Door(most=2)).opened() as entrance:
        first, second = await entrance.connect(), await entrance.connect()
        assert b" 200 " in await answered(second)
        assert b" 200 " in await answered(first)
        third = await entrance.connect()
        assert b" 200 " in await answered(third)
        assert await answered(second) == b""
        assert b" 200 " in await answered(first)


async def test_connections_at_work_stay() -> None:
    """Where all that may be are at work, a new one is closed at once and they are finished."""
    async with Entrance(Door(most=2)).opened() as entrance:
        working = [
            await entrance.connect("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(2)
        ]
        for _ in working:
            await entrance.waiting.acquire()
        assert await first_line(await entrance.connect()) == b""
        entrance.go.set()
        for stream in working:
            assert b" 200 " in await first_line(stream)
        assert b" 200 " in await answered(await entrance.connect())


# -- Bodies -----------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    """Compress without any header, as some clients understand "deflate"."""
    machine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return machine.compress(data) + machine.flush()


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("gzip", lambda data: b"".join(gzip.compress(data[n : n + 1]) for n in range(len(data)))),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
    ],
)
async def test_compressed_bodies_are_understood(
    start: Start, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    """gzip and deflate, in the forms that clients send, are the same as the plain body."""
    client = await start()
    sent = compress(b'{"userName": "ann"}')
    status, user = await call(client, "POST", "/Users", sent, **{"Content-Encoding": coding})
    assert (status, user["userName"]) == (201, "ann")


@pytest.mark.parametrize(
    ("coding", "sent", "expected"),
    [
        ("br", b"x", 415),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), 415),
        ("gzip", b"not gzip at all", 400),
        ("gzip", gzip.compress(b'{"userName": "ann"}', mtime=0)[:-6], 400),
        ("deflate", zlib.compress(b'{"userName": "ann"}') + b"more", 400),
        ("gzip", gzip.compress(b'{"userName": "ann"}', mtime=0) + b"more", 400),
        ("gzip", gzip.compress(b"{}", mtime=0) + gzip.compress(b"  ", mtime=0)[:-1], 400),
        ("gzip", gzip.compress(b" " * 600_000, mtime=0) * 2, 413),
        ("gzip", gzip.compress(b" " * 3_000_000, mtime=0), 413),
        ("deflate", raw_deflate(b" " * 3_000_000), 413),
    ],
)
async def test_compressed_bodies_that_cannot_be(
    start: Start, coding: str, sent: bytes, expected: int
) -> None:
    """Unknown codings are 415, broken data 400, and 413 is for what a body becomes, as SCIM."""
    client = await start(MAX_BODY_BYTES="1000000")
    assert len(sent) < 10_000
    status, error = await call(client, "POST", "/Users", sent, **{"Content-Encoding": coding})
    assert (status, error["schemas"], error["status"]) == (expected, [ERROR], str(expected))
    if status == 400:
        assert error["detail"] == "the body is not what its Content-Encoding says"


@pytest.mark.parametrize("length", [n * 256 * 1024 + d for n in (1, 2) for d in (-1, 0, 1, 258)])
def test_bodies_of_any_length_come_out_whole(length: int) -> None:
    """What is made in steps is what was sent, wherever a step ends; one byte over is refused."""
    sent = gzip.compress(b"a" * length, mtime=0)
    assert body.decompressed(sent, length) == b"a" * length
    with pytest.raises(body.BodyError):
        body.decompressed(sent, length - 1)


def test_a_body_of_many_members_ends() -> None:
    """Each member costs time, whether or not anything is in it: there is an end to that."""
    member = gzip.compress(b"", mtime=0)
    assert body.decompressed(member * 1024, 10) == b""
    with pytest.raises(body.BodyError, match="more than 1024 gzip members") as caught:
        body.decompressed(member * 1_000_000, 10)
    assert caught.value.status == 400


def test_a_body_never_becomes_more_than_its_limit() -> None:
    """Of a compressed body no more is ever held than the limit allows."""
    bomb = gzip.compress(b"a" * 50_000_000, mtime=0)
    tracemalloc.start()
    try:
        with pytest.raises(body.BodyError) as caught:
            body.decompressed(bomb, 1_000_000)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413
    assert most < 3_000_000


@pytest.mark.parametrize(
    ("headers", "sent", "expected"),
    [
        (FORM, b"a=" + b"x" * requests.MOST_FORM_BYTES, 413),
        ({**FORM, "Content-Encoding": "gzip"}, gzip.compress(b"a=b", mtime=0), 415),
        ({"Content-Type": f"{FORM['Content-Type']}; charset=nonsense"}, b"a=b", 415),
        ({"Content-Type": f"{FORM['Content-Type']}; charset=latin-1"}, b"a=b", 415),
        ({"Content-Type": "multipart/form-data"}, b"--x", 415),
        (FORM, b"user=\xff\xfe", 400),
    ],
)
async def test_forms_that_no_browser_sends(
    start: Start, headers: dict[str, str], sent: bytes, expected: int
) -> None:
    """The console's forms are small, uncompressed and UTF-8; anything else is refused unread."""
    client = await start(CONSOLE="true")
    async with client.post("/console/sign-in", data=sent, headers=headers) as answer:
        assert answer.status == expected


async def test_a_form_of_unknown_length_is_not_read(start: Start) -> None:
    """Without a Content-Length there is 411, before a byte of the form is taken."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"a=b"

    client = await start(CONSOLE="true")
    async with client.post("/console/sign-in", data=parts(), headers=FORM) as answer:
        assert answer.status == 411


# -- Heads ------------------------------------------------------------------


def heads() -> Iterator[tuple[str, str, int]]:
    """Name heads that are wrong, what is sent, and the status."""
    post = f"Authorization: Bearer {SECRET}\r\nContent-Type: application/scim+json\r\n"
    yield "empty host", f"GET /scim/v2/Users HTTP/1.1\r\nHost:\r\n{post}\r\n", 400
    yield "bad port", f"GET /scim/v2/Users HTTP/1.1\r\nHost: a:99999\r\n{post}\r\n", 400
    for host in ('evil"><', "a b", "a,b", "user@a", "a/b", "[::1", "[::g]", "a:b", "a:1:2", "\xe9"):
        yield "no host", f"GET /scim/v2/Users HTTP/1.1\r\nHost: {host}\r\n{post}\r\n", 400
    yield "broken: two", f"GET /scim/v2/Users HTTP/1.1\r\nHost: a\r\nHost: b\r\n{post}\r\n", 400
    yield "target", f"GET http://user@a/scim/v2/Users HTTP/1.1\r\nHost: x\r\n{post}\r\n", 400
    yield "host aside", f"GET http://a/scim/v2/Users HTTP/1.1\r\nHost: a b\r\n{post}\r\n", 400
    for target in ('http://e"><', "http://a:99999"):
        yield "broken target", f"GET {target}/scim/v2/Users HTTP/1.1\r\nHost: x\r\n{post}\r\n", 400
    for path in (
        "%00",
        "%2500",
        "%252e%252e%252f",
        "%",
        "%ff",
        "a" * 5000,
        "%2e%2e/%2e%2e/healthz",
    ):
        yield "nobody", f"GET /scim/v2/Users/{path} HTTP/1.1\r\nHost: x\r\n{post}\r\n", 404
    yield "connect", "CONNECT a:443 HTTP/1.1\r\nHost: x\r\n\r\n", 404
    lots = "".join(f"X-{n}: y\r\n" for n in range(1000))
    yield "broken: lots", f"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\n{post}{lots}\r\n", 400
    both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    yield "broken: both", f"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\n{post}{both}", 400
    for framing in (
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: +2",
        "Content-Length: 2,2",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ):
        head = f"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\n{post}{framing}\r\n\r\n"
        yield f"broken: {framing}", f"{head}0\r\n\r\n", 400
    yield "bad port", "GET /console/sign-in HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400
    yield "newline", f"GET /scim/v2/x%0ay HTTP/1.1\r\nHost: x\r\n{post}\r\n", 404
    yield "below", f"GET /scim/v3/Users HTTP/1.1\r\nHost: x\r\n{post}\r\n", 404
    yield "root", f"GET /scim HTTP/1.1\r\nHost: x\r\n{post}\r\n", 404
    yield "expects", f"GET /scim/v2/Users HTTP/1.1\r\nHost: x\r\nExpect: gifts\r\n{post}\r\n", 417
    chunked = f"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\n{post}Transfer-Encoding: chunked\r\n\r\n"
    yield "broken chunk", f"{chunked}zz\r\n", 400


async def test_malformed_requests(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with a request is 4xx, below /scim a SCIM error, and no traceback."""
    client = await start(CONSOLE="true")
    for why, head, expected in heads():
        caplog.clear()
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(head.encode())
        async with asyncio.timeout(10):
            assert f" {expected} ".encode() in await reader.readline(), (why, head[:200])
            told = b""
            while (line := await reader.readline()).strip():
                told += line
        writer.close()
        # What is no request at all aiohttp answers for itself; ops/logging.py makes one line of it.
        if not why.startswith("broken"):
            if "GET /scim" in head:
                assert b"application/scim+json" in told, (why, head[:200])
            assert not [r for r in caplog.records if r.exc_info], (why, head[:200])


async def test_hosts_that_are_hosts(start: Start) -> None:
    """Names and addresses, with a port or without, stand in the addresses of answers."""
    client = await start()
    for host in ("x", "a-b_c.example.org:443", "10.0.0.1:5000", "[::1]:80", "x:"):
        status, user = await call(client, "POST", "/Users", {"userName": host}, Host=host)
        assert status == 201, host
        shown = host.removesuffix(":").removesuffix(":80")
        assert user["meta"]["location"].startswith(f"http://{shown}/scim/v2/Users/"), host


async def test_old_and_too_new_protocols(start: Start) -> None:
    """HTTP/1.0 is served, chunks with extensions and trailers too; no upgrade is taken up."""
    client = await start()
    upgrade = "Host: x\r\nConnection: Upgrade\r\nUpgrade: "
    for number, (version, more) in enumerate(
        (
            ("1.0", ""),
            ("1.0", "Connection: keep-alive\r\n"),
            ("1.1", f"{upgrade}h2c\r\n"),
            ("1.1", f"{upgrade}websocket\r\n"),
        )
    ):
        body, later = (f'{{"userName":"{what}{number}"}}' for what in "ab")
        end = "0;end\r\nX-Trailer: t\r\n\r\n"
        for framed in (
            f"Content-Length: {len(body)}\r\n\r\n{body}",
            f'Transfer-Encoding: chunked\r\n\r\n{len(later):x};a="b;c"\r\n{later}\r\n{end}',
        ):
            reader, writer = await asyncio.open_connection(client.host, client.port)
            line = f"POST /scim/v2/Users HTTP/{version}\r\nAuthorization: Bearer {SECRET}\r\n"
            writer.write((line + more + framed).encode())
            assert b" 201 " in await first_line((reader, writer)), (version, more, framed)
            writer.close()


async def test_who_asks_before_it_sends_is_told_to_go_on(start: Start) -> None:
    """With HTTP/1.1, however it is written; HTTP/1.0 knows of no such answer before the answer."""
    client = await start()
    for number, (version, expected) in enumerate(
        (("1.1", "100-continue"), ("1.1", "100-Continue"), ("1.0", "100-continue"))
    ):
        body = f'{{"userName":"{number}"}}'
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(
            f"POST /scim/v2/Users HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
            f"Expect: {expected}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        if version == "1.1":
            async with asyncio.timeout(10):
                told = await reader.readuntil(b"\r\n\r\n")
            assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body.encode())
        assert b" 201 " in await first_line((reader, writer)), (version, expected)
        writer.close()


async def test_with_a_public_url_the_host_does_not_matter(start: Start) -> None:
    """Addresses in answers then come from the setting, so a broken Host header harms nothing."""
    client = await start(PUBLIC_URL="https://scim.example.org")
    status, user = await call(client, "POST", "/Users", {"userName": "u"}, Host="a:99999")
    assert status == 201
    assert user["meta"]["location"].startswith("https://scim.example.org/scim/v2/Users/")
