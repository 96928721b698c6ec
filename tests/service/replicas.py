"""Several services on one PostgreSQL, and what they act on."""

import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from scim_matrix.demo.service import ScimClient
from tests.conftest import eventually
from tests.homeserver.server import TOKEN, MemoryHomeserver, Request
from tests.homeserver.server import serving as homeserver_at
from tests.homeserver.world import World
from tests.postgresql import Server
from tests.preforked import PreforkedService

BOT = "@bot:demo.test"
ROOM = "!room"


class Replica(PreforkedService):
    """One of the services, and its own way to the homeserver."""

    homeserver: MemoryHomeserver

    @property
    def changes(self) -> list[Request]:
        """What it sent that would change something."""
        return [request for request in self.homeserver.requests if request.changes]

    async def asked(self, path: str) -> tuple[int, Any]:
        """Ask it something."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}{path}", timeout=aiohttp.ClientTimeout(total=10)) as answer,
        ):
            return answer.status, await answer.json()

    async def leads(self) -> bool:
        """Tell whether it says that it leads."""
        return bool((await self.asked("/readyz"))[1]["leads"])

    async def is_ready(self) -> bool:
        """Tell whether it is fit for traffic."""
        return (await self.asked("/readyz"))[0] == 200

    def log(self) -> str:
        """Return what it has logged."""
        return (self.data_dir / "service.log").read_text()


@dataclass
class Surroundings:
    """A homeserver and a database, and the services on them."""

    world: World
    server: Server
    url: str
    folder: Path
    replicas: list[Replica] = field(default_factory=list)
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def replica(
        self,
        group_map: dict[str, Any] | None = None,
        more: Mapping[str, str] | None = None,
        *,
        first: Callable[[], None] | None = None,
    ) -> Replica:
        """Start one more service, with more settings; `first` is what its process does first."""
        homeserver = await self._stack.enter_async_context(homeserver_at(self.world))
        replica = Replica(
            self.folder / f"r{len(self.replicas)}",
            homeserver.url,
            BOT,
            TOKEN,
            json.dumps(group_map or {"*": [ROOM]}),
            {"DATA_DIR": "", "DATABASE_URL": self.url, **(more or {})},
            hurried=False,
            first=first,
        )
        replica.homeserver = homeserver
        self.replicas.append(replica)
        homeservers = [one.homeserver for one in self.replicas]
        self.world.rooms.happened = lambda: [one.stir() for one in homeservers]
        await replica.start()
        return replica

    @contextlib.contextmanager
    def holding_up(self, pid: int) -> Iterator[Callable[[], Awaitable[bool]]]:
        """Have what tends a service's lease wait; yields what tells whether it does."""
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "SELECT 1 FROM replica WHERE name LIKE %s FOR UPDATE", (f"scim-matrix {pid} %",)
            )

            async def waits() -> bool:
                return self.server.run("SELECT 1 FROM pg_locks WHERE NOT granted") != []

            yield waits

    def run(self, sql: str) -> list[tuple[object, ...]]:
        """Run a statement in the database; return its rows."""
        return self.server.run(sql, self.url.partition("@/")[2].partition("?")[0])

    async def has_recorded_a_join(self) -> bool:
        """Tell whether the record has a join."""
        return self.run("SELECT 1 FROM action WHERE kind = 'join'") != []

    async def close(self) -> None:
        """Stop every service."""
        for replica in self.replicas:
            if replica.process is not None and replica.process.returncode is None:
                replica.process.send_signal(signal.SIGCONT)
            await replica.stop()
        await self._stack.aclose()

    def joined(self) -> set[str]:
        """Return who is in the room."""
        return {user for user in self.world.rooms.get(ROOM).members() if user != BOT}

    async def all_in(self, *names: str) -> None:
        """Wait until these, and nobody else, are in the room."""
        wanted = {f"@{name}:demo.test" for name in names}

        async def look() -> set[str]:
            return self.joined()

        await eventually(look, lambda seen: seen == wanted)


async def created(replica: Replica, *names: str) -> dict[str, str]:
    """Have the identity provider create users at one of the services; return their ids."""
    client = ScimClient(replica.url)
    return {name: await client.create_user(name) for name in names}


@contextlib.asynccontextmanager
async def surrounded(server: Server, folder: Path) -> AsyncIterator[Surroundings]:
    """Run a homeserver with an empty room, beside an empty database."""
    world = World("demo.test", BOT)
    world.room(BOT, room_id=ROOM)
    surroundings = Surroundings(world, server, server.filled().get_secret_value(), folder)
    try:
        yield surroundings
    finally:
        await surroundings.close()


def lost_by(replica: Replica) -> Callable[[], Awaitable[bool]]:
    """Return what tells whether a service has noticed that it leads no more."""

    async def look() -> bool:
        return "leadership_lost" in replica.log()

    return look


def made_by(replica: Replica) -> Callable[[], Awaitable[int]]:
    """Return what tells how many accounts a service has made."""

    async def look() -> int:
        return replica.log().count('"did": "create"')

    return look
