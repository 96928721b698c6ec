"""A console with somebody who manages rooms, and browsers without scripts to visit it."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from yarl import URL

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import Synapse, User
from tests.synapse.conftest import StartService, group_of, mxid, settled

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
_MAPPING = re.compile(r'name="mapping" value="([^"]+)"')


@dataclass
class Visitor:
    """A browser without scripts: keeps cookies (Secure ones too) and sends forms."""

    url: str
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, **form: str) -> tuple[int, str, Mapping[str, str]]:
        """Send one request, without following where it leads."""
        kept = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        headers = {"Cookie": kept, **self.headers}
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(
                method,
                URL(self.url + path, encoded=True),
                data=form or None,
                headers=headers,
                allow_redirects=False,
            ) as answer,
        ):
            for name, cookie in answer.cookies.items():
                self.cookies[name] = cookie.value
            return answer.status, await answer.text(), answer.headers

    async def token(self, path: str) -> str:
        """Return the token of the form on a page."""
        _, text, _ = await self.ask("GET", path)
        found = _CSRF.search(text)
        assert found is not None, text
        return found[1]

    async def send(self, page: str, path: str, **form: str) -> int:
        """Send a form found on a page; return the status."""
        status, _, _ = await self.ask("POST", path, csrf=await self.token(page), **form)
        return status

    async def sign_in(self, name: str, password: str = "password") -> int:
        """Sign in by password."""
        return await self.send("/console/sign-in", "/console/sign-in", user=name, password=password)


@dataclass
class Scene:
    """A service with its console, a group, two rooms, and a manager with power in one of them."""

    service: Service
    idp: ScimClient
    admin: User
    group: str
    people: dict[str, str]
    own: str
    other: str
    manager: str
    boss: User

    async def visitor(self, name: str) -> Visitor:
        """Return somebody who is signed in."""
        visitor = Visitor(self.service.url)
        assert await visitor.sign_in(name) == 303
        return visitor

    async def try_mapping(self, visitor: Visitor, room: str, **options: str) -> tuple[int, str]:
        """Ask for a mapping of the group; return the status and what is said."""
        page = f"/console/groups/{self.group}"
        csrf = await visitor.token(page)
        status, text, _ = await visitor.ask(
            "POST", f"{page}/mappings", csrf=csrf, room=room, **options
        )
        return status, text

    async def mapping(self, visitor: Visitor) -> str:
        """Return which mapping of the group a visitor may take out."""
        _, text, _ = await visitor.ask("GET", f"/console/groups/{self.group}")
        found = _MAPPING.findall(text)
        assert len(found) == 1, text
        return str(found[0])

    async def take_out(self, visitor: Visitor, mapping: str, people: str) -> int:
        """Take out a mapping of the group; the people stay or leave. Returns the status."""
        page = f"/console/groups/{self.group}"
        return await visitor.send(page, f"{page}/mappings/remove", mapping=mapping, people=people)

    async def leads(self, room: str) -> None:
        """Give the administrator power in a room of the manager's."""
        path = f"/_synapse/admin/v1/rooms/{room}/make_room_admin"
        await self.admin.call("POST", path, {"user_id": self.admin.user_id})
        await self.admin.call("POST", f"/_matrix/client/v3/join/{room}", {})

    async def joins(self, room: str, name: str) -> None:
        """Put somebody into a room, as an ordinary member."""
        path = f"/_synapse/admin/v1/join/{room}"
        await self.admin.call("POST", path, {"user_id": mxid(name)})


@pytest.fixture
def scene(synapse: Synapse, admin: User, service: StartService, tag: str) -> Any:
    """Return what sets the scene."""

    @asynccontextmanager
    async def run(group_map: dict[str, Any] | None = None, **more: str) -> AsyncIterator[Scene]:
        manager = await synapse.register(f"{tag}manager")
        own = await manager.create_room(room_version="10")
        await admin.call(
            "POST", f"/_synapse/admin/v1/rooms/{own}/make_room_admin", {"user_id": admin.user_id}
        )
        await admin.call("POST", f"/_matrix/client/v3/join/{own}", {})
        other = await admin.create_room()
        settings = {"CONSOLE": "true", "CONSOLE_MANAGERS": f"@{tag}manager:*", **more}
        async with service(group_map or {}, **settings) as process:
            idp = ScimClient(process.url)
            group, people = await group_of(idp, f"{tag}ann", f"{tag}bob", key=f"{tag}g")
            await settled(idp)
            yield Scene(process, idp, admin, group, people, own, other, f"{tag}manager", manager)

    return run
