"""A real Synapse for the whole run, and a service of its own for each test."""

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
import pytest_asyncio

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import Synapse, User, running
from tests.conftest import eventually

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Run these on one loop: the homeserver's process belongs to it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.synapse)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def synapse(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Synapse]:
    """Run a homeserver."""
    async with running(tmp_path_factory.mktemp("synapse")) as homeserver:
        yield homeserver


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def admin(synapse: Synapse) -> User:
    """Return the service's account, a server admin."""
    return await synapse.register("scim-bot", admin=True)


@pytest.fixture
def tag() -> str:
    """Return a prefix for names, so that tests sharing a homeserver do not meet."""
    return f"t{next(_numbers)}-"


class StartService(Protocol):
    """Starts a service for the duration of a block."""

    def __call__(
        self, group_map: dict[str, Any], **more: str
    ) -> AbstractAsyncContextManager[Service]:
        """Run it with a group map and more environment variables."""


@pytest.fixture
def service(synapse: Synapse, admin: User, tmp_path: Path) -> StartService:
    """Return what starts a service on its own data directory."""

    @contextlib.asynccontextmanager
    async def start(group_map: dict[str, Any], **more: str) -> AsyncIterator[Service]:
        process = Service(
            tmp_path / "data",
            more.pop("MATRIX_URL", synapse.url),
            admin.user_id,
            admin.token,
            json.dumps(group_map),
            more,
        )
        await process.start()
        try:
            yield process
        finally:
            await process.stop()

    return start


async def room_holds(admin: User, room_id: str, expected: set[str]) -> None:
    """Wait until a room holds exactly these localparts besides the service's account."""

    async def look() -> set[str]:
        return await admin.members(room_id) - {"scim-bot"}

    await eventually(look, lambda seen: seen == expected)


async def ready(client: ScimClient) -> dict[str, Any]:
    """Return what /readyz says, and its HTTP status."""
    async with aiohttp.ClientSession() as session, session.get(f"{client.url}/readyz") as answer:
        return {"status": answer.status, **await answer.json()}


async def settled(client: ScimClient) -> None:
    """Wait until nothing is left to do."""
    await eventually(
        lambda: ready(client),
        lambda s: s["ready"] and not (s["work"]["pendingPairs"] or s["work"]["pendingAccounts"]),
    )
