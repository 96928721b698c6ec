"""Whatever a client sends: no 5xx, no traceback, no growth."""

import asyncio
import contextlib
import gzip
import json
import re
import socket
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scim_matrix.demo.service import SECRET, ScimClient, Service
from scim_matrix.demo.synapse import free_port

EXAMPLES = 400
# What a service may take for itself while it warms up (MiB).
WARMTH = 64
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


@dataclass
class Target:
    """A service in a process of its own, with one user and one group in it."""

    service: Service
    user: str
    group: str

    def log(self) -> str:
        """Return what it has logged so far."""
        return (self.service.data_dir / "service.log").read_text()

    def memory(self) -> int:
        """Return its memory (MiB)."""
        assert self.service.process is not None
        text = Path(f"/proc/{self.service.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert found is not None
        return int(found[1]) // 1024

    def answer(self, sent: bytes, *, ends: bool = False) -> bytes:
        """Send bytes on a connection of their own and return the answer.

        `ends`: no more will come, whatever was announced. Raises TimeoutError without an answer.
        """
        got = b""
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=10) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(sent)
                if ends:
                    connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while not whole(got, sent) and (part := connection.recv(65536)):
                    got += part
        return got


def ask(connection: socket.socket, sent: bytes) -> bytes:
    """Send a request on a connection and return the beginning of the answer; empty if closed."""
    connection.settimeout(10)
    try:
        connection.sendall(sent)
        return connection.recv(65536)
    except ConnectionError:
        return b""


def whole(got: bytes, sent: bytes) -> bool:
    """Tell whether an answer has arrived with its body."""
    head, end, body = got.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    if not end:
        return False
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return sent.startswith(b"HEAD ") or length is None or len(body) >= int(length[1])


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Run a service without a homeserver."""
    with asyncio.Runner() as runner:
        url = f"http://127.0.0.1:{free_port()}"
        folder = tmp_path_factory.mktemp("fuzz")
        more = {"CONSOLE": "true", "LOG_FORMAT": "console", "MAX_BODY_BYTES": "256KiB"}
        service = Service(folder, url, "@bot:demo.test", "the-admin-token", "{}", more)
        runner.run(service.start())
        idp = ScimClient(service.url)
        user = runner.run(idp.create_user("ann"))
        group = runner.run(idp.create_group("g", [user]))
        yield Target(service, user, group)
        runner.run(service.stop())


def bounded(examples: int) -> settings:
    """Return settings for a test that asks the service so often, the same way every time."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False),
    st.text(max_size=12),
    st.sampled_from(["", "True", "https://x/y", "ann", "\ud800", "\x00", "a" * 300]),
)
ATTRIBUTES = [
    *("schemas", "id", "externalId", "meta", "userName", "displayName", "name", "emails"),
    *("active", "photos", "x509Certificates", "members", "groups", "password", "profileUrl"),
    *("value", "type", "primary", "$ref", "display", "formatted", ENTERPRISE, "manager"),
    *("Operations", "op", "path", "filter", "attributes", "sortBy", "startIndex", "count"),
    *('emails[type eq "work"].value', 'members[value eq "x"]', f"{ENTERPRISE}:manager", "x.y"),
]
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(ATTRIBUTES), inner, max_size=4),
    ),
    max_leaves=8,
)
paths_in_patches = st.one_of(st.sampled_from(ATTRIBUTES), st.text(max_size=10))
patches = st.fixed_dictionaries(
    {
        "Operations": st.lists(
            st.fixed_dictionaries(
                {"op": st.sampled_from(["add", "Replace", "remove", "x"])},
                optional={"path": paths_in_patches, "value": documents},
            ),
            min_size=1,
            max_size=3,
        )
    }
)
resources = st.dictionaries(st.sampled_from(ATTRIBUTES), documents, max_size=5).map(
    lambda d: {"userName": "u", "displayName": "d", **d}
)
contents = st.one_of(
    st.binary(max_size=60),
    st.one_of(documents, patches, resources).map(lambda d: json.dumps(d).encode()),
    st.sampled_from([b"", b"a=b&csrf=x", b"user=%ff&password=%00", b"--x\r\n\r\n", b"[" * 9000]),
)
CODERS = [bytes, bytes, gzip.compress, zlib.compress, lambda b: gzip.compress(b)[:-3]]
bodies = st.builds(lambda coder, content: coder(content), st.sampled_from(CODERS), contents)
BOMBS = {"packed": gzip.compress(b" " * 5_000_000), "plain": b" " * 300_000}

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "QUERY", "get"]
PATHS = [
    *("/", "/healthz", "/metrics", "/scim", "/scim/v2", "/scim/v2/", "/scim/v2/Users"),
    *("/scim/v2/Groups", "/scim/v2/Users/{user}", "/scim/v2/Groups/{group}", "/scim/v2/Bulk"),
    *("/scim/v2/Users/.search", "/scim/v2/.search", "/scim/v2/Schemas", "/scim/v2/Me"),
    *("/scim/v2/ResourceTypes/User", "/scim/v2/ServiceProviderConfig", "/scim/v1/Users"),
    *("/console", "/console/", "/console/sign-in", "/console/held", "/console/groups/x/preview"),
    *("http://x/scim/v2/Users", "http://u@x/scim/v2/Users", "x:1", "/console/static/" + "a" * 300),
    *("/console/static/..%2f..%2fapp.py", "/console/sign-out", "/console/rooms/%21x", "//", "*"),
]
paths = st.one_of(
    st.sampled_from(PATHS),
    st.builds("/scim/v2/{}".format, st.text(max_size=8).map(lambda t: quote(t, errors="replace"))),
    st.binary(max_size=6).map(lambda b: "/scim/v2/" + "".join(f"%{c:02x}" for c in b)),
)
FILTERS = ['userName eq "ann"', "emails[", 'a eq "\\"', "not (", "manager pr", 'id gt "\ud800"']
queries = st.one_of(
    st.just(""),
    st.sampled_from(FILTERS).map(lambda f: "filter=" + quote(f, errors="surrogatepass")),
    st.dictionaries(
        st.sampled_from(["filter", "attributes", "count", "startIndex", "sortBy", "cursor"]),
        st.text(max_size=10),
        max_size=3,
    ).map(lambda d: "&".join(f"{k}={quote(v, errors='replace')}" for k, v in d.items())),
    st.sampled_from(["%", "a=%ff", "filter=%00", "count=99999999999999999999", "x" * 9000]),
)
HEADERS: list[tuple[str, list[str]]] = [
    ("Host", ["", "x", "a:99999", "a:b", "[::1", "x y", "\xe9", 'evil"><']),
    ("Authorization", [f"Bearer {SECRET}"] * 6 + ["Bearer wrong", "Basic eDp5", "\xff\xfe", ""]),
    (
        "Content-Type",
        [
            *("application/scim+json", "application/json; charset=nonsense", "text/csv", "", ";;"),
            *("application/x-www-form-urlencoded", "multipart/form-data", "application/json"),
            *(
                "application/x-www-form-urlencoded; charset=nonsense",
                "multipart/form-data;boundary=",
            ),
        ],
    ),
    ("Content-Encoding", ["gzip", "deflate", "br", "gzip, gzip", "identity", "nonsense", ""]),
    ("Expect", ["100-continue", "nonsense"]),
    ("X-Forwarded-For", ["1.2.3.4", "[::1]:5", "nonsense, , 1.2.3.4:99999", "\xff"]),
    ("X-Request-ID", ["ok", "a b", "\xff"]),
    ("If-Match", ['W/"1"', "*", "\xff", ""]),
    ("If-None-Match", ['W/"1"', "*", "nonsense"]),
    ("Range", ["bytes=0-1", "bytes=9-", "nonsense"]),
    ("Accept", ["*/*", "text/html", "nonsense"]),
    ("Upgrade", ["websocket", "h2c"]),
    ("Connection", ["close", "upgrade", "keep-alive"]),
    ("Origin", ["null", "https://elsewhere"]),
]
heads = st.lists(
    st.one_of([st.tuples(st.just(name), st.sampled_from(values)) for name, values in HEADERS]),
    max_size=6,
    unique_by=lambda pair: pair[0],
)
FRAMES = ["length", "length", "length", "chunked", "short", "long", "broken", "both", "none"]


def written(
    target: Target,
    line: tuple[str, str, str],
    head: list[tuple[str, str]],
    body: bytes,
    framing: str,
) -> bytes:
    """Return a request as it goes over the wire."""
    method, path, query = line
    path = path.replace("{user}", target.user).replace("{group}", target.group)
    named = {name for name, _ in head}
    lines = [f"{method} {path}{'?' + query if query else ''} HTTP/1.1"]
    if "Host" not in named:
        lines.append("Host: x")
    if "Authorization" not in named:
        lines.append(f"Authorization: Bearer {SECRET}")
    lines += [f"{name}: {value}" for name, value in head]
    size = len(body)
    lengths = {"length": size, "short": max(0, size - 1), "long": size + 9, "both": 3}
    if framing in lengths:
        lines.append(f"Content-Length: {lengths[framing]}")
    if framing in ("chunked", "broken", "both"):
        lines.append("Transfer-Encoding: chunked")
        announced = b"zz" if framing == "broken" else b"%x" % size
        body = announced + b"\r\n" + body + b"\r\n0\r\n\r\n"
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def judge(target: Target, sent: bytes, got: bytes) -> None:
    """Fail where an answer is not one that a client's own mistake may get."""
    for status in re.findall(rb"HTTP/1\.[01] (\d{3})", got):
        path = sent.split(b" ", 2)[1]
        # Without a homeserver nobody is let into the console; RFC 7644 section 3.11 has the 501.
        away = path.startswith(b"/console") and status == b"503"
        unsupported = path.lower().startswith(b"/scim/v2/me") and status == b"501"
        assert status < b"500" or away or unsupported, (sent[:3000], got[:1000])
    assert b'evil"' not in got, (sent[:3000], got[:1000])
    head, _, body = got.partition(b"\r\n\r\n")
    refused = re.match(rb"HTTP/1\.1 (4\d\d) ", head)
    known = re.match(rb"(GET|POST|PUT|PATCH|DELETE|OPTIONS) /scim(/| )", sent) is not None
    if refused and known and b"application/scim+json" in head:
        # The answer to what came behind the request may follow.
        error, _ = json.JSONDecoder().raw_decode(body.decode("utf-8", "replace"))
        assert error["status"] == refused[1].decode(), (sent[:3000], got)
    assert target.service.process is not None
    assert target.service.process.returncode is None


@given(
    line=st.tuples(st.sampled_from(METHODS), paths, queries),
    head=heads,
    body=st.one_of(bodies, bodies, bodies, st.sampled_from(sorted(BOMBS))),
    framing=st.sampled_from(FRAMES),
)
@bounded(EXAMPLES)
def test_any_request(
    target: Target,
    line: tuple[str, str, str],
    head: list[tuple[str, str]],
    body: bytes | str,
    framing: str,
) -> None:
    """Methods, heads, bodies, codings and framing in any mixture get an answer below 500."""
    content = BOMBS[body] if isinstance(body, str) else body
    sent = written(target, line, head, content, framing)
    judge(target, sent, target.answer(sent, ends=framing not in ("length", "chunked", "short")))


@given(
    line=st.tuples(
        st.sampled_from(["POST", "PUT", "PATCH"]),
        st.sampled_from([p for p in PATHS if p.startswith("/scim/v2/")]),
        st.just(""),
    ),
    document=st.one_of(patches, resources, documents),
)
@bounded(EXAMPLES)
def test_any_document(target: Target, line: tuple[str, str, str], document: Any) -> None:
    """SCIM payloads of known attributes with values of any kind get an answer below 500."""
    sent = written(target, line, [("Connection", "close")], json.dumps(document).encode(), "length")
    judge(target, sent, target.answer(sent))


@given(sent=st.one_of(st.binary(max_size=80), st.text(max_size=40).map(str.encode)))
@bounded(100)
def test_any_bytes(target: Target, sent: bytes) -> None:
    """What is no HTTP at all is refused or closed."""
    judge(target, b"- - " + sent, target.answer(sent, ends=True))


@pytest.mark.parametrize(
    "name",
    ["a" * 5000, "%00", "a%00.css", "..%2f..%2fsite.py", "%252e%252e%252fsite.py", "%ff", ""],
)
def test_any_file(target: Target, name: str) -> None:
    """Of files there are only the console's own, whatever a name could mean to a disk."""
    for path, expected in ((name, b"404"), ("console.css", b"200")):
        line = ("GET", f"/console/static/{path}", "")
        sent = written(target, line, [("Connection", "close")], b"", "none")
        assert target.answer(sent).split()[1] == expected


def test_connections_have_an_end(target: Target) -> None:
    """512 connections are open at most: whoever comes is served, those idle for longest go."""
    ordinary = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", target.service.port)))
            for _ in range(512)
        ]
        # Only what the service has accepted counts, and it accepts in order.
        assert ask(idle[-1], ordinary).startswith(b"HTTP/1.1 200")
        assert ask(idle[0], ordinary).startswith(b"HTTP/1.1 200")
        assert target.answer(ordinary).startswith(b"HTTP/1.1 200")
        assert ask(idle[1], ordinary) == b""
        assert ask(idle[0], ordinary).startswith(b"HTTP/1.1 200")


def test_nothing_was_left_behind(target: Target) -> None:
    """After all of that: no traceback, no secret in the log, no more memory, few series."""
    ordinary = written(target, ("GET", "/metrics", ""), [("Connection", "close")], b"", "none")
    log, metrics = target.log(), target.answer(ordinary).decode()
    assert "Traceback" not in log, log[log.index("Traceback") - 3000 :][:6000]
    assert SECRET not in log
    assert "the-admin-token" not in log
    assert metrics.count("\nscim_matrix_requests_total{") < 600
    before = target.memory()
    bomb = written(
        target,
        ("POST", "/scim/v2/Users", ""),
        [("Content-Encoding", "gzip"), ("Connection", "close")],
        gzip.compress(b" " * 50_000_000),
        "length",
    )
    for _ in range(50):
        assert b" 413 " in target.answer(bomb)[:20]
    assert target.memory() - before < WARMTH // 4
    assert before < 100 + WARMTH
