"""What every test may use."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest

from scim_matrix.store.database import Place
from tests import postgresql as servers

T = TypeVar("T")
# Homeservers and databases sync each commit: milliseconds on a disk, nothing in memory.
_MEMORY = Path("/dev/shm")
_ROOM = 2 * 2**30  # Bytes; containers often have 64 MiB of it.


def pytest_configure() -> None:
    """Have temporary directories in memory where there is room, unless told where.

    No example fails for how long it takes, which says how busy the machine is.
    """
    hypothesis.settings.register_profile("unhurried", deadline=None)
    hypothesis.settings.load_profile("unhurried")
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run first what takes minutes: left to the end, a run would wait for that alone."""
    items.sort(key=lambda item: item.get_closest_marker("minutes") is None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.Server]:
    """Run a PostgreSQL, once for all tests of a process."""
    with servers.serving() as server:
        if server is None:
            pytest.skip("POSTGRESQL IS NOT HERE: install Debian's package postgresql")
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return where an empty database is, of either kind."""
    if request.param == "sqlite":
        return tmp_path
    server: servers.Server = request.getfixturevalue("postgresql")
    return server.filled()


async def eventually(
    look: Callable[[], Awaitable[T]], accept: Callable[[T], bool], seconds: float = 30.0
) -> T:
    """Look again and again until what is seen is accepted; fail with what was seen last.

    Less often the longer it takes: others use the processors meanwhile.
    """
    seen, pause = await look(), 0.02
    try:
        async with asyncio.timeout(seconds):
            while not accept(seen):
                await asyncio.sleep(pause)
                seen, pause = await look(), min(1.2 * pause, 0.2)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s; last seen: {seen!r}") from None
    return seen
