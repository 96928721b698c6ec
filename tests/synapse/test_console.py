"""The console without a browser: who may do what, on a real Synapse."""

import contextlib
import re
import sqlite3
from html import unescape
from typing import Any

from yarl import URL

from scim_matrix.demo.synapse import Synapse
from scim_matrix.store.sqlite import DATABASE_NAME
from tests.conftest import eventually
from tests.synapse import visiting
from tests.synapse.conftest import StartService, account, mxid, ready, room_holds, settled
from tests.synapse.proxy import proxying
from tests.synapse.steps import HOLD_ALL, restarted
from tests.synapse.visiting import Visitor

scene = visiting.scene


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
        # How large a group is that opens no room of theirs is not told.
        assert "This would add the group's people to" in unescape(text)
        assert await s.admin.members(s.own) == {"scim-bot", s.manager}

        for path in ("preview", "mappings"):
            assert await visitor.send(page, f"{page}/{path}", room=s.other) == 403
        csrf = await visitor.token(page)
        _, text, _ = await visitor.ask("POST", f"{page}/mappings", csrf=csrf, room=s.other)
        assert "You may only map rooms in which you yourself can invite and kick." in text
        assert "To the console" in text
        assert await visitor.send(page, f"{page}/mappings", room="#nowhere:demo.test") == 403
        assert await visitor.send(page, f"{page}/mappings", room=s.own) == 303
        await room_holds(s.admin, s.own, {s.manager, *s.people})
        csrf = await visitor.token(page)
        _, text, _ = await visitor.ask("POST", f"{page}/preview", csrf=csrf, room=s.own)
        assert "This would add 0 people" in text

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
        assert await s.take_out(manager, await s.mapping(admin), "leave") == 403
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

        async def mapped() -> None:
            assert await visitor.send(page, f"{page}/mappings", room=s.own) == 303
            await room_holds(s.admin, s.own, {s.manager, *s.people})
            await settled(s.idp)

        for choice, left in (("stay", {s.manager, *s.people}), ("leave", {s.manager})):
            await mapped()
            assert await s.take_out(visitor, await s.mapping(visitor), choice) == 303
            await room_holds(s.admin, s.own, left)
            await settled(s.idp)
            assert await s.admin.members(s.own) - {"scim-bot"} == left

        await mapped()
        await restarted(s.service)
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
        # The first mapping of a new database.
        assert await s.take_out(visitor, "1", "leave") == 404


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
        assert "2 of 2 managed people would leave" in text
        assert ">G (deleted since)</a> no longer gives it: 2 people, since <time" in text
        for beyond in ("100", "9" * 5000):
            assert (await visitor.ask("GET", f"/console/held?from={beyond}"))[0] == 303
        form = {"room": s.other, "decision": "approved"}
        assert await visitor.send("/console/held", "/console/held", **form) == 400
        _, text, _ = await visitor.ask("GET", "/console/held")
        ticked = r'value="(\S+)"> <bdi>[^<]+</bdi></label>.*?>(@[^<]+)</a>'
        held = {name: key for key, name in re.findall(ticked, text)}
        form["chosen"] = held[mxid(f"{tag}ann")]
        assert await visitor.send("/console/held", "/console/held", **form) == 303
        _, text, _ = await visitor.ask("GET", "/console/held")
        assert "Approved: 1 person is removed from" in text
        _, text, _ = await visitor.ask("GET", "/console/held")
        assert "Approved" not in text
        await room_holds(s.admin, s.other, {f"{tag}bob"})
        form["chosen"] = held[mxid(f"{tag}bob")].partition(".")[0] + ".1"
        assert await visitor.send("/console/held", "/console/held", **form) == 303
        _, text, _ = await visitor.ask("GET", "/console/held")
        assert "Nothing was done. 1 of those you chose is no longer held as shown" in text
        assert mxid(f"{tag}bob") in text
        form["chosen"] = held[mxid(f"{tag}bob")]
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
        assert f'"kick","done","\'{mxid(f"{tag}ann")}","{s.other}"' in text
        assert "approved" in text


async def test_looking_never_waits_for_a_writer(scene: Any) -> None:
    """Every page is shown while somebody else writes, and writes nothing itself."""
    async with scene() as s:
        visitor = await s.visitor("scim-bot")
        person = next(iter(s.people.values()))
        own = (f"groups/{s.group}", f"rooms/{s.own}", f"people/{person}")
        file = s.service.data_dir / DATABASE_NAME
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            for path in ("", "people", "groups", "rooms", "held", "log", "log?export=csv", *own):
                assert (await visitor.ask("GET", f"/console/{path}"))[0] == 200, path
            writer.execute("ROLLBACK")


async def test_everything_is_compared_when_asked(scene: Any, tag: str) -> None:
    """The page says so, and whoever was taken out by hand comes back."""
    async with scene() as s:
        admin, manager = await s.visitor("scim-bot"), await s.visitor(s.manager)
        page = f"/console/groups/{s.group}"
        assert await admin.send(page, f"{page}/mappings", room=s.other) == 303
        _, text, _ = await admin.ask("GET", page)
        assert f"Kept: whoever is active in G is brought into {s.other}" in unescape(
            re.sub("<[^>]+>", "", text)
        )
        assert await manager.send(page, "/console/compare") == 403
        assert await admin.send("/console/", "/console/compare") == 303
        _, text, _ = await admin.ask("GET", "/console/")
        assert "is compared with the homeserver now" in text
        _, text, _ = await admin.ask("GET", "/console/log?kind=sync")
        assert mxid("scim-bot") in text


async def test_held_accounts_are_decided_on(scene: Any, tag: str) -> None:
    """One stays as it is, another is locked, and the page says which."""
    async with scene(**HOLD_ALL) as s:
        visitor = await s.visitor("scim-bot")

        async def decide(name: str, decision: str) -> str:
            off = {"op": "replace", "value": {"active": False}}
            await s.idp.patch(f"/Users/{s.people[name]}", off)
            await eventually(lambda: ready(s.idp), lambda r: r["work"]["heldAccounts"] == 1)
            _, text, _ = await visitor.ask("GET", "/console/held")
            assert "accounts would be locked</h2>" in text
            assert mxid(name) in text
            [chosen] = set(re.findall(r'name="chosen" value="([^"]+)"', text))
            form = {"room": "accounts", "decision": decision, "chosen": chosen}
            assert await visitor.send("/console/held", "/console/held", **form) == 303
            _, text, _ = await visitor.ask("GET", "/console/held")
            assert "Nothing is held." in text
            return str(text)

        assert "Dismissed: 1 account stays as it is" in await decide(f"{tag}ann", "dismissed")
        assert "Approved: 1 account is disabled now, as was shown" in await decide(
            f"{tag}bob", "approved"
        )

        async def is_locked(name: str) -> bool:
            return bool((await account(s.admin, name))["locked"])

        await eventually(lambda: is_locked(f"{tag}bob"), bool)
        assert not await is_locked(f"{tag}ann")


async def test_guessing_passwords_is_stopped(scene: Any, tag: str) -> None:
    """After four wrong ones even the right one waits, for this name and from this address only."""
    async with scene(TRUSTED_PROXIES="127.0.0.0/8") as s:
        guesser = Visitor(s.service.url, headers={"X-Forwarded-For": "203.0.113.5"})
        statuses = [await guesser.sign_in(s.manager, "wrong") for _ in range(4)]
        assert statuses == [403] * 4
        for name in (s.manager, mxid(s.manager), s.manager.upper()):
            csrf = await guesser.token("/console/sign-in")
            form = {"user": name, "password": "password", "csrf": csrf}
            status, text, headers = await guesser.ask("POST", "/console/sign-in", **form)
            wait = headers["Retry-After"]
            assert status == 429
            assert 1 <= int(wait) <= 60
            assert f"Try again in {wait} second" in text
        assert await guesser.sign_in("scim-bot") == 303
        elsewhere = Visitor(s.service.url, headers={"X-Forwarded-For": "203.0.113.6"})
        assert await elsewhere.sign_in(s.manager) == 303


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
        for forged in ("%C3%A4", "%FF", "", "%00"):
            await visitor.ask("GET", "/console/sso/begin")
            path = f"/console/sso?loginToken=x&state={forged}"
            assert (await visitor.ask("GET", path))[0] == 400


async def test_a_room_or_homeserver_that_is_gone_is_said(synapse: Synapse, scene: Any) -> None:
    """A page that needs the homeserver says so, instead of failing."""
    async with proxying(synapse.url) as proxy, scene(MATRIX_URL=proxy.url) as s:
        visitor = await s.visitor("scim-bot")
        status, text, _ = await visitor.ask("GET", "/console/rooms/!gone:demo.test")
        assert status == 200
        assert "The homeserver does not show this room" in text
        proxy.dark = True
        status, text, _ = await visitor.ask("GET", f"/console/rooms/{s.own}")
        assert (status, "What follows is as last seen" in text) == (200, True)
        assert "The homeserver does not answer" in text


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
