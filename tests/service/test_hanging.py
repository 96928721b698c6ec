"""A database that answers who reads, and keeps who writes waiting."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg
import pytest

from scim_matrix.app_keys import REPLICA
from scim_matrix.scim import routes
from scim_matrix.store import database as store
from scim_matrix.store import postgresql as postgresql_driver
from scim_matrix.store.database import Database, Place
from scim_matrix.store.sqlite import DATABASE_NAME
from tests.conftest import eventually
from tests.homeserver.server import TOKEN
from tests.homeserver.server import serving as homeserver_at
from tests.homeserver.world import World
from tests.postgresql import Server, serving
from tests.service.client import made
from tests.service.conftest import Client, Start

NAMES = [f"u{number}" for number in range(6)]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait for as long as they do elsewhere."""
    monkeypatch.setattr(routes, "ANSWERED_WITHIN", 1.0)
    monkeypatch.setattr(store, "STUCK_AFTER", 0.5)


@contextlib.asynccontextmanager
async def held(place: Place) -> AsyncIterator[None]:
    """Have whoever writes users wait, as a copy of the file or a REINDEX does."""
    lock = "BEGIN IMMEDIATE"
    other: sqlite3.Connection | psycopg.Connection
    if isinstance(place, Path):
        other = sqlite3.connect(
            place / DATABASE_NAME, isolation_level=None, check_same_thread=False, timeout=30
        )
    else:
        other = psycopg.connect(place.get_secret_value())
        lock = "LOCK TABLE scim_user IN EXCLUSIVE MODE"
    with contextlib.closing(other):
        # The service has to go on, so as to let go of it.
        await asyncio.to_thread(other.execute, lock)
        yield


def where(place: Place) -> dict[str, str]:
    """Return the settings that lead to a database."""
    if isinstance(place, Path):
        return {"DATA_DIR": str(place)}
    return {"DATA_DIR": "", "DATABASE_URL": place.get_secret_value()}


async def post(client: Client, name: str) -> tuple[int, str | None]:
    """Create a user; return the status and when to come again."""
    body = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": name}
    async with client.post("/scim/v2/Users", json=body) as answer:
        return answer.status, answer.headers.get("Retry-After")


def health(client: Client) -> Callable[[], "asyncio.Task[int]"]:
    """Return what asks whether the service is well."""

    async def look() -> int:
        async with client.get("/healthz") as answer:
            return answer.status

    return lambda: asyncio.create_task(look())


@pytest.mark.usefixtures("hurried")
async def test_whoever_waits_to_write_is_told_to_come_again(place: Place, start: Start) -> None:
    """All of them at once, not one after the other; nothing of what they sent is there."""
    client = await start(**where(place))
    await made(client, "Users", userName="ann")
    async with held(place):
        # One by one they would take a minute at least.
        answers = await asyncio.wait_for(
            asyncio.gather(*(post(client, name) for name in NAMES)), timeout=20
        )
    assert answers == [(503, "30")] * len(NAMES)
    async with client.get("/scim/v2/Users") as answer:
        assert (await answer.json())["totalResults"] == 1
    for name in NAMES:
        assert (await post(client, name))[0] == 201


async def test_a_service_whose_writers_wait_is_neither_well_nor_able(
    place: Place, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads is answered meanwhile, and once nobody waits any more all is well."""
    monkeypatch.setattr(store, "STUCK_AFTER", 0.5)
    async with homeserver_at(World("example.org", "@bot:example.org")) as homeserver:
        client = await start(**where(place), MATRIX_URL=homeserver.url, MATRIX_ADMIN_TOKEN=TOKEN)
        assert client.app is not None
        replica = client.app[REPLICA]
        await eventually(lambda: asyncio.sleep(0, replica.is_able), bool)
        async with held(place):
            posted = asyncio.create_task(post(client, "ann"))
            await eventually(health(client), lambda status: status == 503)
            assert not posted.done()
            assert not replica.is_able
        assert (await posted)[0] == 201
        # Others may have waited in the same line.
        await eventually(health(client), lambda status: status == 200)
        assert replica.is_able
        await client.close()


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    """Return the database itself."""
    opened = await Database.open(place)
    yield opened
    await opened.close()


async def write(database: Database) -> None:
    """Write something."""
    async with database.write() as connection:
        await connection.execute_fetchall("DELETE FROM scim_user")


async def given_up(place: Place, database: Database) -> asyncio.Task[None]:
    """Wait to write for too long, and give that up; return what waited, which has ended."""
    async with held(place):
        writing = asyncio.create_task(write(database))
        await eventually(lambda: asyncio.sleep(0, database.is_stuck), bool)
        writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    return writing


async def test_a_database_that_was_waited_for_in_vain_is_stuck(
    place: Place, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nobody waits any more: until something is committed."""
    monkeypatch.setattr(store, "STUCK_AFTER", 0.5)
    writing = await given_up(place, database)
    assert writing.cancelled()
    assert database.is_stuck
    await write(database)
    assert not database.is_stuck


async def test_whoever_gave_up_is_forgotten(
    place: Place, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody is sent any more, nothing will be committed that shows that all is well."""
    monkeypatch.setattr(store, "STUCK_AFTER", 0.5)
    monkeypatch.setattr(store, "STUCK_FOR", 1.0)
    await given_up(place, database)
    await eventually(lambda: asyncio.sleep(0, database.is_stuck), lambda stuck: not stuck)


async def test_a_commit_that_does_not_come_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its standby is away: the connection is given up, and what was sent is there wholly or not."""
    with serving() as own:
        assert own is not None
        url = own.filled()
        client = await start(**where(url))
        await made(client, "Users", userName="ann")
        monkeypatch.setattr(store, "STUCK_AFTER", 0.5)
        # Sooner than whoever waits for the answer gives up.
        monkeypatch.setattr(postgresql_driver, "ANSWERED_WITHIN", 2.0)
        wait_for_standby(own, "nobody")
        assert await asyncio.wait_for(post(client, "bob"), timeout=20) == (503, "30")
        await eventually(health(client), lambda status: status == 503)
        # That one is taken for lost, whatever comes of it.
        name = url.get_secret_value().partition("@/")[2].partition("?")[0]
        sessions = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            f" AND datname = '{name}' AND query LIKE '%COMMIT%'"
        )
        assert own.run(sessions) != []
        wait_for_standby(own, "")
        answered = await eventually(lambda: post(client, "bob"), lambda answer: answer[0] != 503)
        assert answered[0] in (201, 409)
        await eventually(health(client), lambda status: status == 200)
        async with client.get("/scim/v2/Users") as answer:
            users = (await answer.json())["Resources"]
        assert sorted(user["userName"] for user in users) == ["ann", "bob"]
        await client.close()


def wait_for_standby(server: Server, names: str) -> None:
    """Have commits wait for standbys of these names."""
    server.run(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    server.run("SELECT pg_reload_conf()")
