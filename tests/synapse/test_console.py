"""The console without a browser: who may do what, on a real Synapse."""

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
from tests.conftest import eventually
from tests.synapse.conftest import StartService, group_of, mxid, ready, room_holds, settled
from tests.synapse.proxy import proxying

_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@dataclass
class Visitor:
    """A browser without scripts: keeps cookies (Secure ones too) and sends forms."""

    url: str
    cookies: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, **form: str) -> tuple[int, str, Mapping[str, str]]:
        """Send one request, without following where it leads."""
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
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

    async def visitor(self, name: str) -> Visitor:
        """Return somebody who is signed in."""
        visitor = Visitor(self.service.url)
        assert await visitor.sign_in(name) == 303
        return visitor


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
            yield Scene(process, idp, admin, group, people, own, other, f"{tag}manager")

    return run


async def test_the_console_is_off_unless_asked_for(service: StartService) -> None:
    """Without CONSOLE there is nothing there."""
    async with service({}) as process:
        for path in ("/console/", "/console/sign-in", "/console/static/htmx.min.js"):
            assert (await Visitor(process.url).ask("GET", path))[0] == 404


async def test_nobody_gets_in_without_signing_in(scene: Any) -> None:
    """Every page leads to the sign-in; a wrong password, a stranger and a forged form do not."""
    async with scene() as s:
        visitor = Visitor(s.service.url)
        for path in ("", "groups", f"groups/{s.group}", "rooms", f"rooms/{s.own}", "held", "log"):
            status, _, headers = await visitor.ask("GET", f"/console/{path}")
            assert (status, headers["Location"]) == (303, "/console/sign-in"), path
        assert await visitor.sign_in(s.manager, "wrong") == 403
        status, _, _ = await visitor.ask(
            "POST", "/console/sign-in", user=s.manager, password="password", csrf="forged"
        )
        assert status == 403
        name = s.manager.replace("manager", "nobody")
        path = f"/_synapse/admin/v2/users/{mxid(name)}"
        await s.admin.call("PUT", path, {"password": "password"})
        assert await visitor.sign_in(name) == 403
        assert (await visitor.ask("GET", "/console/groups"))[0] == 303
        devices = await s.admin.call("GET", f"/_synapse/admin/v2/users/{mxid(name)}/devices")
        assert devices["total"] == 0


async def test_a_manager_maps_only_rooms_they_manage(scene: Any) -> None:
    """In the own room it works; every other thing is refused by the server."""
    async with scene() as s:
        visitor = await s.visitor(s.manager)
        page = f"/console/groups/{s.group}"
        status, text, _ = await visitor.ask("GET", page)
        assert status == 200
        assert "Held removals" not in text
        _, headers = (await visitor.ask("GET", page))[1:]
        assert "script-src 'self'" in headers["Content-Security-Policy"]

        csrf = await visitor.token(page)
        status, text, _ = await visitor.ask("POST", f"{page}/preview", csrf=csrf, room=s.own)
        assert status == 200
        assert "This would add 2 people" in text
        assert await s.admin.members(s.own) == {"scim-bot", s.manager}

        for path in ("preview", "mappings"):
            assert await visitor.send(page, f"{page}/{path}", room=s.other) == 403
        csrf = await visitor.token(page)
        _, text, _ = await visitor.ask("POST", f"{page}/mappings", csrf=csrf, room=s.other)
        assert "You may only map rooms in which you yourself can invite and kick." in text
        assert "To the console" in text
        assert await visitor.send(page, f"{page}/mappings", room="#nowhere:demo.test") == 400
        assert await visitor.send(page, f"{page}/mappings", room=s.own) == 303
        await room_holds(s.admin, s.own, {s.manager, *s.people})

        for path in ("held", "log", "log?export=csv", f"rooms/{s.other}"):
            assert (await visitor.ask("GET", f"/console/{path}"))[0] == 403, path
        form = {"room": s.own, "decision": "approved"}
        assert await visitor.send(page, "/console/held", **form) == 403
        _, text, _ = await visitor.ask("GET", "/console/rooms")
        assert s.own in text
        assert s.other not in text
        status, _, _ = await visitor.ask("POST", f"{page}/mappings", room=s.own, csrf="forged")
        assert status == 403
        assert await visitor.send(page, "/console/sign-out") == 303
        assert (await visitor.ask("GET", page))[0] == 303


async def test_a_managers_power_in_the_room_decides(scene: Any) -> None:
    """Being in a room without power is not enough, nor power in a room they are not in."""
    async with scene() as s:
        await s.admin.call(
            "POST", f"/_synapse/admin/v1/join/{s.other}", {"user_id": mxid(s.manager)}
        )
        manager, admin = await s.visitor(s.manager), await s.visitor("scim-bot")
        page = f"/console/groups/{s.group}"
        assert await manager.send(page, f"{page}/mappings", room=s.other) == 403
        assert await admin.send(page, f"{page}/mappings", room=s.other) == 303
        key = {"kind": "external_id", "pattern": f"{s.manager.removesuffix('manager')}g"}
        removal = {**key, "room": s.other, "people": "leave"}
        assert await manager.send(page, f"{page}/mappings/remove", **removal) == 403
        await room_holds(s.admin, s.other, {s.manager, *s.people})

        levels = {s.admin.user_id: 100, mxid(s.manager): 50}
        elsewhere = await s.admin.create_room(
            room_version="10", power_level_content_override={"users": levels}
        )
        assert await manager.send(page, f"{page}/mappings", room=elsewhere) == 403


async def test_what_becomes_of_people_when_a_mapping_goes(scene: Any) -> None:
    """They stay, or they leave, as was chosen; the configuration's mappings are read-only."""
    async with scene() as s:
        visitor = await s.visitor(s.manager)
        page = f"/console/groups/{s.group}"
        key = {"kind": "external_id", "pattern": f"{s.manager.removesuffix('manager')}g"}

        async def mapped() -> None:
            assert await visitor.send(page, f"{page}/mappings", room=s.own) == 303
            await room_holds(s.admin, s.own, {s.manager, *s.people})
            await settled(s.idp)

        for choice, left in (("stay", {s.manager, *s.people}), ("leave", {s.manager})):
            await mapped()
            form = {**key, "room": s.own, "people": choice}
            assert await visitor.send(page, f"{page}/mappings/remove", **form) == 303
            await room_holds(s.admin, s.own, left)
            await settled(s.idp)
            assert await s.admin.members(s.own) - {"scim-bot"} == left

        await mapped()
        await s.service.stop()
        await s.service.start()
        await settled(s.idp)
        assert await s.admin.members(s.own) - {"scim-bot"} == {s.manager, *s.people}


async def test_mappings_of_the_configuration_are_read_only(scene: Any, tag: str) -> None:
    """They show with their origin and cannot be removed here, by administrators neither."""
    room = f"#{tag}configured:demo.test"
    entry = {"room": room, "create": {"name": "Configured"}}
    async with scene({f"{tag}g": [entry]}) as s:
        visitor = await s.visitor("scim-bot")
        page = f"/console/groups/{s.group}"
        _, text, _ = await visitor.ask("GET", page)
        assert "the configuration" in text
        form = {"kind": "external_id", "pattern": f"{tag}g", "room": room, "people": "leave"}
        assert await visitor.send(page, f"{page}/mappings/remove", **form) == 404


async def test_an_administrator_sees_everything_and_decides(scene: Any, tag: str) -> None:
    """Overview, rooms, log with export, and held removals approved."""
    limits = {"REMOVAL_LIMIT_COUNT": "1", "REMOVAL_LIMIT_PERCENT": "10"}
    async with scene(**limits) as s:
        visitor = await s.visitor("scim-bot")
        page = f"/console/groups/{s.group}"
        assert await visitor.send(page, f"{page}/mappings", room=s.other, power="50") == 303
        await room_holds(s.admin, s.other, set(s.people))
        await settled(s.idp)
        await s.idp.ok("DELETE", f"/Groups/{s.group}")
        await eventually(lambda: ready(s.idp), lambda r: r["work"]["heldPairs"] == 2)
        _, text, _ = await visitor.ask("GET", "/console/held")
        assert mxid(f"{tag}ann") in text
        form = {"room": s.other, "decision": "approved"}
        assert await visitor.send("/console/held", "/console/held", **form) == 303
        await room_holds(s.admin, s.other, set())
        _, text, _ = await visitor.ask("GET", f"/console/rooms/{s.other}")
        assert "has all power in it, enough to invite and to kick" in text
        _, text, _ = await visitor.ask("GET", f"/console/rooms/{s.own}")
        assert "has power level 100 in it, enough to invite and to kick" in text
        for path in ("", "groups?q=G", "rooms", f"rooms/{s.other}", "log?user=x", "log"):
            assert (await visitor.ask("GET", f"/console/{path}"))[0] == 200, path
        status, text, headers = await visitor.ask("GET", f"/console/log?room={s.other}&export=csv")
        assert status == 200
        assert headers["Content-Type"].startswith("text/csv")
        assert f"kick,done,{mxid(f'{tag}ann')},{s.other}" in text
        assert "approved" in text


async def test_guessing_passwords_is_stopped(scene: Any) -> None:
    """After ten wrong ones even the right one has to wait."""
    async with scene() as s:
        visitor = Visitor(s.service.url)
        statuses = [await visitor.sign_in(s.manager, "wrong") for _ in range(10)]
        assert statuses == [403] * 10
        assert await visitor.sign_in(s.manager) == 429


async def test_sso_must_have_been_begun_here(scene: Any) -> None:
    """A login token that somebody else sends is not taken."""
    addresses = {"PUBLIC_URL": "https://scim.test", "MATRIX_PUBLIC_URL": "https://matrix.test"}
    async with scene(**addresses) as s:
        visitor = Visitor(s.service.url)
        status, _, headers = await visitor.ask("GET", "/console/sso/begin")
        assert status == 302
        where = URL(headers["Location"])
        assert str(where.with_query(None)) == (
            "https://matrix.test/_matrix/client/v3/login/sso/redirect"
        )
        assert where.query["redirectUrl"].startswith("https://scim.test/console/sso?state=")
        assert (await visitor.ask("GET", "/console/sso?loginToken=x&state=forged"))[0] == 400
        state = URL(URL(headers["Location"]).query["redirectUrl"]).query["state"]
        await visitor.ask("GET", "/console/sso/begin")
        assert (await visitor.ask("GET", f"/console/sso?loginToken=x&state={state}"))[0] == 400


async def test_a_room_or_homeserver_that_is_gone_is_said(synapse: Synapse, scene: Any) -> None:
    """A page that needs the homeserver says so, instead of failing."""
    async with proxying(synapse.url) as proxy, scene(MATRIX_URL=proxy.url) as s:
        visitor = await s.visitor("scim-bot")
        status, text, _ = await visitor.ask("GET", "/console/rooms/!gone:demo.test")
        assert status == 200
        assert "The homeserver does not show this room" in text
        proxy.dark = True
        status, text, _ = await visitor.ask("GET", f"/console/rooms/{s.own}")
        assert (status, "does not answer" in text) == (503, True)


async def test_sso_signs_in_with_a_login_token(scene: Any) -> None:
    """The homeserver's token says who it is, once."""
    async with scene() as s:
        # Synapse makes such a token itself when single sign-on ends; here an admin asks for one.
        visitor = Visitor(s.service.url)
        _, _, headers = await visitor.ask("GET", "/console/sso/begin")
        state = URL(URL(headers["Location"]).query["redirectUrl"]).query["state"]
        made = await s.admin.call("POST", "/_matrix/client/v1/login/get_token", {})
        token = made["login_token"]
        status, _, _ = await visitor.ask("GET", f"/console/sso?loginToken={token}&state={state}")
        assert status == 303
        assert (await visitor.ask("GET", "/console/"))[0] == 200
