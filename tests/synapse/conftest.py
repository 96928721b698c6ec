"""A real Synapse for the whole run, and a service of its own for each test."""

import asyncio
import contextlib
import itertools
import json
import os
import pty
import re
import termios
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User, running
from tests.conftest import eventually
from tests.preforked import PreforkedService

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
def hurried() -> bool:
    """Return whether time passes faster in services; tests of the time it takes say False."""
    return True


@pytest.fixture
def service(synapse: Synapse, admin: User, tmp_path: Path, hurried: bool) -> StartService:
    """Return what starts a service on its own data directory."""

    @contextlib.asynccontextmanager
    async def start(group_map: dict[str, Any], **more: str) -> AsyncIterator[Service]:
        process = PreforkedService(
            tmp_path / "data",
            more.pop("MATRIX_URL", synapse.url),
            admin.user_id,
            admin.token,
            json.dumps(group_map),
            more,
            hurried=hurried,
        )
        await process.start()
        try:
            yield process
        finally:
            await process.stop()

    return start


class Staffed(NamedTuple):
    """A service, its identity provider, a group there and the people whom it let into a room."""

    process: Service
    idp: ScimClient
    group: str
    people: dict[str, str]


class StartStaffed(Protocol):
    """Starts a service with people in a room for the duration of a block."""

    def __call__(
        self,
        line: str | dict[str, Any],
        *names: str,
        room: str | None = None,
        **more: str,
    ) -> AbstractAsyncContextManager[Staffed]:
        """Run it with a line of the map for the group `g`; all of them are in the room.

        `room` is its ID where the line names it by an alias, or is a space's.
        """


@pytest.fixture
def staffed(admin: User, service: StartService) -> StartStaffed:
    """Return what starts a service on which a group has brought people into a room, at rest."""

    @contextlib.asynccontextmanager
    async def start(
        line: str | dict[str, Any], *names: str, room: str | None = None, **more: str
    ) -> AsyncIterator[Staffed]:
        room = room or (line if isinstance(line, str) else line["room"])
        before = await admin.members(room) - {"scim-bot"}
        async with service({"g": [line]}, **more) as process:
            idp = ScimClient(process.url)
            group, people = await group_of(idp, *names)
            await room_holds(admin, room, before | people.keys())
            await settled(idp)
            yield Staffed(process, idp, group, people)

    return start


async def room_holds(admin: User, room_id: str, expected: set[str], seconds: float = 30.0) -> None:
    """Wait until a room holds exactly these localparts besides the service's account."""

    async def look() -> set[str]:
        return await admin.members(room_id) - {"scim-bot"}

    await eventually(look, lambda seen: seen == expected, seconds)


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


async def group_of(
    idp: ScimClient, *names: str, key: str = "g", name: str = "G"
) -> tuple[str, dict[str, str]]:
    """Create users and a group of them; return the group's SCIM id and theirs by name."""
    people = {person: await idp.create_user(person) for person in names}
    return await idp.create_group(name, list(people.values()), externalId=key), people


async def follows(client: ScimClient) -> None:
    """Wait until the service sees changes made by hand as they happen."""
    await eventually(lambda: ready(client), lambda s: s["homeserver"].get("liveDrift"))


async def levels(admin: User, room_id: str) -> dict[str, int]:
    """Return the power levels that are set in a room, by localpart, the service's left out."""
    path = f"/_matrix/client/v3/rooms/{room_id}/state/m.room.power_levels"
    users = (await admin.call("GET", path))["users"]
    return {u[1:].split(":")[0]: n for u, n in users.items() if u != admin.user_id}


def mxid(name: str) -> str:
    """Return the user ID of a localpart."""
    return f"@{name}:{SERVER_NAME}"


async def signed_in(admin: User, name: str) -> User:
    """Return somebody whom the service created, signed in (admin API, Login as a user)."""
    answer = await admin.call("POST", f"/_synapse/admin/v1/users/{mxid(name)}/login", {})
    return User(admin.url, mxid(name), answer["access_token"])


async def command(service: Service, *words: str) -> tuple[int, str]:
    """Run a command of the command line beside a service."""
    output = service.data_dir.with_name(f"command-{next(_numbers)}.txt")
    process = await service.spawn(*words, output=output)
    return await process.wait(), output.read_text()


async def on_a_terminal(service: Service, *words: str, columns: int = 80) -> str:
    """Return what a command shows on a terminal of so many columns."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, columns))
    shown = bytearray()
    loop = asyncio.get_running_loop()
    os.set_blocking(ours, False)

    def take() -> None:
        with contextlib.suppress(BlockingIOError):
            shown.extend(os.read(ours, 65536))

    loop.add_reader(ours, take)
    try:
        process = await service.spawn(*words, output=Path(os.ttyname(its)))
        await process.wait()
        take()
    finally:
        loop.remove_reader(ours)
        os.close(its)
        os.close(ours)
    return shown.decode().replace("\r\n", "\n")


async def logged(service: Service, *words: str) -> list[dict[str, Any]]:
    """Return what `scim-matrix log` tells."""
    status, output = await command(service, "log", "--json", *words)
    assert status == 0, output
    return [json.loads(line) for line in output.splitlines()]


async def told(service: Service, *words: str) -> list[dict[str, Any]]:
    """Return the JSON lines that a command prints."""
    status, output = await command(service, *words, "--json")
    assert status in (0, 1), output
    assert "Traceback" not in output, output
    return [json.loads(line) for line in output.splitlines()]


async def at_rest(client: ScimClient) -> None:
    """Wait until nothing is left to do but what waits for somebody or is tried again later."""

    def rests(seen: dict[str, Any]) -> bool:
        work = seen["work"]
        conflicting = work.get("conflictingAccounts", 0)
        return bool(
            seen["ready"]
            and work["pendingPairs"] <= work["failingPairs"]
            and work["pendingAccounts"] <= work["failingAccounts"] + conflicting
        )

    await eventually(lambda: ready(client), rests)


async def metric(service: Service, name: str) -> float:
    """Return a metric that has no labels."""
    path = f"{service.url}/metrics"
    async with aiohttp.ClientSession() as session, session.get(path) as answer:
        text = await answer.text()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


async def compared(service: Service) -> None:
    """Have everything compared with the homeserver; return once that and its work are done."""

    async def when() -> float:
        return await metric(service, "scim_matrix_last_comparison_timestamp_seconds")

    # The first comparison, at the start, has ended: it cannot be taken for the one asked for.
    await eventually(when, lambda at: at > 0)
    asked = time.time()
    status, output = await command(service, "sync", "--no-wait")
    assert status == 0, output
    await eventually(when, lambda at: at >= asked)
    await at_rest(ScimClient(service.url))


async def shown(service: Service, what: str, name: str, /, **values: Any) -> dict[str, Any]:
    """Wait until `users` or `rooms` has a line about somebody or a room with these values.

    A value that is a type stands for whatever is of it.
    """

    async def look() -> list[dict[str, Any]]:
        key = "userName" if what == "users" else "room"
        return [line for line in await told(service, what) if line[key] == name]

    def fits(line: dict[str, Any]) -> bool:
        return all(
            key in line
            and (isinstance(line[key], value) if isinstance(value, type) else line[key] == value)
            for key, value in values.items()
        )

    lines = await eventually(look, lambda seen: any(fits(line) for line in seen), 15)
    return next(line for line in lines if fits(line))


async def shown_with_cure(service: Service, what: str, name: str, **values: Any) -> dict[str, Any]:
    """Wait for a line as `shown` does, which must say why it is so and what to do."""
    return await shown(service, what, name, **{"problem": str, "cure": str, **values})


async def account(admin: User, name: str) -> dict[str, Any]:
    """Return what matters of an account, so that it can be compared with what it was."""
    path = f"/_synapse/admin/v2/users/{quote(mxid(name), safe='')}"
    found = await admin.call("GET", path)
    what = ("displayname", "threepids", "external_ids", "admin", "locked", "suspended")
    return {key: found[key] for key in (*what, "deactivated", "erased")}


async def set_account(admin: User, name: str, /, **values: Any) -> None:
    """Make or change an account by hand (admin API)."""
    await admin.call("PUT", f"/_synapse/admin/v2/users/{quote(mxid(name), safe='')}", values)


async def set_level(by: User, room_id: str, user_id: str, level: int) -> None:
    """Give somebody a power level in a room by hand."""
    path = f"/_matrix/client/v3/rooms/{room_id}/state/m.room.power_levels"
    content = await by.call("GET", path)
    content["users"][user_id] = level
    await by.call("PUT", path, content)
