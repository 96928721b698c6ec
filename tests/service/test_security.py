"""Against guessing, sniffing and slow clients."""

import asyncio

import pytest

from scim_matrix.scim import attempts, routes
from tests.service.client import ERROR, call
from tests.service.conftest import SECRET, Start

WRONG = {"Authorization": "Bearer wrong"}


async def test_an_address_that_guesses_is_made_to_wait(start: Start) -> None:
    """After ten failures a minute the next one is 429 with the time to wait; others go on."""
    client = await start(TRUSTED_PROXIES="127.0.0.0/8")
    guesser = {"X-Forwarded-For": "203.0.113.5, 198.51.100.7"}
    for _ in range(attempts.ALLOWED):
        assert (await call(client, "GET", "/Users", **WRONG, **guesser))[0] == 401
    async with client.get("/scim/v2/Users", headers={**WRONG, **guesser}) as answer:
        assert answer.status == 429
        assert 0 < int(answer.headers["Retry-After"]) <= attempts.WINDOW_SECONDS
        assert (await answer.json(content_type=None))["schemas"] == [ERROR]
    other = {"X-Forwarded-For": "198.51.100.8"}
    assert (await call(client, "GET", "/Users", **WRONG, **other))[0] == 401


async def test_the_right_secret_always_passes(start: Start) -> None:
    """Who guesses from behind the identity provider's proxy does not stop the identity provider."""
    client = await start()
    for _ in range(attempts.ALLOWED + 1):
        last, _ = await call(client, "GET", "/Users", **WRONG)
    assert last == 429
    assert (await call(client, "GET", "/Users"))[0] == 200
    assert (await call(client, "GET", "/Users", **WRONG))[0] == 429


async def test_a_forged_address_is_not_believed(start: Start) -> None:
    """Without TRUSTED_PROXIES the connection's own address counts."""
    client = await start()
    for number in range(attempts.ALLOWED):
        forged = {"X-Forwarded-For": f"198.51.100.{number}"}
        assert (await call(client, "GET", "/Users", **WRONG, **forged))[0] == 401
    forged = {"X-Forwarded-For": "192.0.2.1"}
    assert (await call(client, "GET", "/Users", **WRONG, **forged))[0] == 429


async def test_every_line_of_forwarded_addresses_is_read(start: Start) -> None:
    """A proxy may add a line of its own: the last line's last address is the nearest."""
    client = await start(TRUSTED_PROXIES="127.0.0.0/8")
    lines = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "198.51.100.7:4711")]
    wrong = [*lines, *WRONG.items()]
    for _ in range(attempts.ALLOWED + 1):
        async with client.get("/scim/v2/Users", headers=wrong) as answer:
            last = answer.status
    assert last == 429
    same = {"X-Forwarded-For": "198.51.100.7"}
    assert (await call(client, "GET", "/Users", **WRONG, **same))[0] == 429


def test_failures_are_forgotten_where_there_are_too_many_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory is bounded: the address that failed last is kept, the oldest goes."""
    monkeypatch.setattr(attempts, "_REMEMBERED", 3)
    kept = attempts.Attempts(())
    for number in range(4):
        for _ in range(attempts.ALLOWED):
            kept.failed(f"192.0.2.{number}")
    assert kept.wait("192.0.2.0") is None
    assert kept.wait("192.0.2.3") is not None


async def test_answers_are_not_kept_and_not_sniffed(start: Start) -> None:
    """Every answer says so, errors included."""
    client = await start()
    for path in ("/scim/v2/Users", "/scim/v2/Nothing", "/healthz", "/metrics", "/nothing"):
        async with client.get(path) as answer:
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
            assert answer.headers["Cache-Control"] == "no-store", path


async def test_a_body_that_does_not_come_is_not_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is 408 with a SCIM error body."""
    monkeypatch.setattr(routes, "_BODY_SECONDS", 0.1)
    client = await start()
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(
        f"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        "Content-Length: 100\r\n\r\n{".encode()
    )
    assert b" 408 " in await reader.readline()
    writer.close()
