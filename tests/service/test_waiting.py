"""What tells how much may be asked of a server at once: how long its answers take, no more."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import pytest

from scim_matrix.clock import Clock
from scim_matrix.matrix.errors import HomeserverError
from scim_matrix.matrix.mas_client import MasClient
from scim_matrix.matrix.server import Homeserver
from scim_matrix.matrix.waiting import waiting
from scim_matrix.sync.in_flight import ENOUGH, USUAL
from scim_matrix.sync.jobs import Job, Jobs
from scim_matrix.sync.servers import Servers
from tests.service.homeserver import faking

# More than it takes to know how long an answer usually takes.
ASKED = 2 * ENOUGH


async def _slots_after(
    homeserver: Homeserver, work: Callable[[], Awaitable[object]], jobs: int
) -> int:
    """Return how much is asked at once after so many jobs of one kind."""
    servers = Servers(homeserver, Clock(), 64)

    async def name(key: str) -> str:
        return key

    async def job() -> None:
        await work()

    running = Jobs(servers, Clock(), name, lambda _: None)
    for number in range(jobs):
        running.start(Job(f"account {number}", "account", job, "make"))
        await asyncio.gather(*running.tasks)
    return servers.synapse.slots


async def test_answers_tell_how_much_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once enough of them were as fast as ever."""
    # As fast as each other whatever else the machine does.
    monkeypatch.setattr(time, "perf_counter", itertools.count().__next__)
    async with faking() as (fake, homeserver):
        fake.says_json({"server_version": "1.150.0"})
        assert await _slots_after(homeserver, homeserver.server_version, ENOUGH) == USUAL
        assert await _slots_after(homeserver, homeserver.server_version, ASKED) > USUAL


async def test_work_that_asks_nothing_tells_nothing_of_a_server() -> None:
    """The database may be fast or slow."""

    async def ask_nothing() -> None:
        return None

    async with faking() as (_, homeserver):
        assert await _slots_after(homeserver, ask_nothing, ASKED) == USUAL


async def test_what_else_is_waited_for_does_not_count() -> None:
    """An answer takes as long as it takes, whatever comes before and after it."""
    async with faking() as (fake, homeserver):
        fake.says_json({"server_version": "1.150.0"})
        with waiting() as waited:
            assert waited.seconds is None
            await homeserver.server_version()
            assert waited.seconds is not None
            once = waited.seconds
            await asyncio.to_thread(sum, range(100_000))
            assert waited.seconds == once
            await homeserver.server_version()
            assert waited.seconds > once > 0
        await homeserver.server_version()
        with waiting() as others:
            pass
        assert others.seconds is None


async def test_an_answer_of_mas_counts_whatever_it_says() -> None:
    """Its client has connections of its own."""
    async with faking() as (fake, _):
        fake.says_json({}, 500)
        mas = MasClient.connect(fake.url, "client", "secret")
        with waiting() as waited, pytest.raises(HomeserverError):
            await mas.version()
        await mas.close()
        assert waited.seconds is not None
