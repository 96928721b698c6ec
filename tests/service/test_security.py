"""Against guessing, sniffing and slow clients."""

import asyncio

import pytest

from scim_matrix.scim import attempts, routes
from tests.service.client import ERROR, call
from tests.service.conftest import Start

WRONG = {"Authorization": "Bearer wrong"}


async def test_an_address_that_guesses_is_made_to_wait(start: Start) -> None:
    """After ten failures a minute even the right secret is not looked at; others go on."""
    client = await start(TRUSTED_PROXIES="127.0.0.0/8")
    guesser = {"X-Forwarded-For": "203.0.113.5, 198.51.100.7"}
    for _ in range(attempts.ALLOWED):
        assert (await call(client, "GET", "/Users", **WRONG, **guesser))[0] == 401
    path = "/scim/v2/Users"
    async with client.get(path, headers=guesser) as answer:
        assert answer.status == 429
        assert 0 < int(answer.headers["Retry-After"]) <= attempts.WINDOW_SECONDS
        assert (await answer.json(content_type=None))["schemas"] == [ERROR]
    for other in ({"X-Forwarded-For": "198.51.100.8"}, {}):
        assert (await call(client, "GET", "/Users", **other))[0] == 200


async def test_a_forged_address_is_not_believed(start: Start) -> None:
    """Without TRUSTED_PROXIES the connection's own address counts."""
    client = await start()
    for number in range(attempts.ALLOWED):
        forged = {"X-Forwarded-For": f"198.51.100.{number}"}
        assert (await call(client, "GET", "/Users", **WRONG, **forged))[0] == 401
    assert (await call(client, "GET", "/Users", **{"X-Forwarded-For": "192.0.2.1"}))[0] == 429


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
        b"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer first\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    assert b" 408 " in await reader.readline()
    writer.close()
