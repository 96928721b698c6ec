"""The console in this process, on a homeserver in memory, with somebody who looks at it."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientSession, DummyCookieJar
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from scim_matrix.app import make_app
from scim_matrix.app_keys import DATABASE
from scim_matrix.store import totals
from scim_matrix.store.database import Connection, Database
from tests.conftest import eventually
from tests.homeserver import Event, MemoryHomeserver, Room, World, serving
from tests.homeserver.rooms import NAME
from tests.service.client import made
from tests.service.conftest import SECRET, Client, environment

SERVER = "example.org"
ADMIN = f"@bot:{SERVER}"
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@dataclass
class Visitor:
    """A browser without scripts; `page` is where it is, which it tells with a form.

    `headers` are those of the last answer.
    """

    client: Client | ClientSession
    cookies: dict[str, str] = field(default_factory=dict)
    page: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, *fields: tuple[str, str], **form: str
    ) -> tuple[int, str, str]:
        """Send a request, maybe with a form; return status, page, and where it leads.

        `fields` are those that a form has several times.
        """
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if method == "GET":
            self.page = path
        else:
            headers["Referer"] = f"http://localhost/console/{self.page}"
        async with self.client.request(
            method,
            URL(f"/console/{path}", encoded=True),
            data=[*form.items(), *fields] or None,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            self.headers = answer.headers
            self.cookies |= {name: cookie.value for name, cookie in answer.cookies.items()}
            return answer.status, await answer.text(), answer.headers.get("Location", "")

    async def sees(self, path: str) -> str:
        """Return a page that is there."""
        status, page, _ = await self.ask("GET", path)
        assert status == 200, page
        return page

    async def send(self, page: str, path: str, **form: str) -> tuple[int, str, str]:
        """Send a form that stands on a page; see `ask`."""
        found = _CSRF.search((await self.ask("GET", page))[1])
        assert found is not None
        return await self.ask("POST", path, csrf=found[1], **form)

    async def sign_in(self, name: str) -> None:
        """Sign in as somebody."""
        status, page, _ = await self.send("sign-in", "sign-in", user=name, password="password")
        assert status == 303, page


@dataclass
class Scene:
    """A service whose console is visited, and the homeserver under it."""

    world: World
    homeserver: MemoryHomeserver
    client: Client
    database: Database

    async def visitor(self, name: str = "bot") -> Visitor:
        """Return somebody who is signed in."""
        visitor = Visitor(self.client)
        await visitor.sign_in(name)
        return visitor

    def room(self, name: str, *, creator: str = ADMIN, **more: Any) -> str:
        """Make a room of a name and return its ID."""
        room: Room = self.world.room(creator, **more)
        self.world.rooms.put(room, Event(NAME, "", creator, {"name": name}))
        return room.room_id

    async def group(self, name: str, *people: str, **more: Any) -> str:
        """Create people, and a group of them, and return its ID."""
        users = [await made(self.client, "Users", userName=person) for person in people]
        members = [{"value": user["id"]} for user in users]
        group = await made(self.client, "Groups", displayName=name, members=members, **more)
        return str(group["id"])

    async def _ready(self) -> dict[str, Any]:
        async with self.client.get("/readyz") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def settled(self) -> None:
        """Wait until nothing is left to do."""
        await eventually(
            self._ready,
            lambda r: (
                r["ready"] and not (r["work"]["pendingPairs"] or r["work"]["pendingAccounts"])
            ),
        )

    async def compared(self, since: float) -> None:
        """Wait until every room has been compared since a time (seconds since the epoch)."""
        await eventually(
            lambda: totals.when(self.database.reader, "compared"), lambda at: at >= since
        )

    async def shows(self, what: str, number: int) -> None:
        """Wait until there is so much of some work."""
        await eventually(self._ready, lambda r: r["work"].get(what) == number)

    async def write(self, statement: str, *values: Any) -> None:
        """Change the database, to what it takes long to come to."""
        async with self.database.write("test") as connection:
            await connection.execute_fetchall(statement, values)

    def writing(self) -> contextlib.AbstractAsyncContextManager[Connection]:
        """Return a transaction."""
        return self.database.write("test")


@contextlib.asynccontextmanager
async def visited(
    folder: Path, group_map: dict[str, Any] | None = None, **more: str
) -> AsyncIterator[Scene]:
    """Run the service with its console."""
    async with serving(World(SERVER, ADMIN)) as homeserver:
        settings = environment(
            folder,
            **{
                "MATRIX_URL": homeserver.url,
                "CONSOLE": "true",
                "IDP_GROUP_TO_ROOM": orjson.dumps(group_map or {}).decode(),
                **more,
            },
        )
        app = make_app(settings)
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with TestClient(
            TestServer(app), headers=headers, cookie_jar=DummyCookieJar()
        ) as client:
            yield Scene(homeserver.world, homeserver, client, app[DATABASE])
