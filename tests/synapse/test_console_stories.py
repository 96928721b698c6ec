"""The console tells the stories of people, rooms and groups, to administrators only."""

import re
from html import unescape
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from scim_matrix import problems
from scim_matrix.console.linking import plain
from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from tests.conftest import eventually
from tests.synapse import visiting
from tests.synapse.conftest import StartService, group_of, mxid, ready, room_holds, settled
from tests.synapse.steps import HOLD_ALL, bring_in, compared

scene = visiting.scene


async def test_people_are_found_by_what_they_are_known_by(scene: Any, tag: str) -> None:
    """By a part of the user name, name, e-mail or Matrix ID, in any case; else it is said."""
    async with scene() as s:
        await s.idp.create_user(
            f"{tag}zoe", displayName="Zoë Zimmer", emails=[{"value": f"{tag}post@EXAMPLE.com"}]
        )
        await settled(s.idp)
        admin = await s.visitor("scim-bot")
        for words in (f"{tag}ZO", "zoë zi", f"{tag}POST@", f"@{tag}zoe:"):
            status, page, _ = await admin.ask("GET", f"/console/people?q={quote(words)}")
            assert (status, "Zoë Zimmer" in page, f"{tag}ann" in page) == (200, True, False), words
        _, page, _ = await admin.ask("GET", "/console/people?q=nobody-at-all")
        assert "Nobody has “<bdi>nobody-at-all</bdi>”" in page
        _, page, _ = await admin.ask("GET", "/console/people")
        assert mxid(f"{tag}ann") in page
        assert (await admin.ask("GET", "/console/people/nobody"))[0] == 404


async def test_stories_lead_to_each_other(admin: User, service: StartService, tag: str) -> None:
    """From person to room to group, with what `scim-matrix why` tells."""
    room = await admin.create_room(name=f"{tag}Kitchen")
    async with service({"g": [room]}, CONSOLE="true") as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", name=f"{tag}Cooks")
        await room_holds(admin, room, {f"{tag}ann"})
        await admin.call(
            "PUT", f"/_synapse/admin/v2/users/{mxid(f'{tag}guest')}", {"password": "password"}
        )
        await bring_in(admin, room, f"{tag}guest")
        await settled(idp)
        await compared(process)
        visitor = visiting.Visitor(process.url)
        assert await visitor.sign_in("scim-bot") == 303
        of_room = f"/console/rooms/{quote(room, safe='')}"
        of_ann = f"/console/people/{quote(mxid(f'{tag}ann'), safe='')}"
        _, page, _ = await visitor.ask("GET", of_ann)
        assert "this service made it for this very user" in page
        assert f'href="{of_room}"' in page
        _, page, _ = await visitor.ask("GET", of_room)
        assert f"g → {tag}Kitchen" in page
        assert f'href="{of_ann}"' in page
        guest = quote(mxid(f"{tag}guest"), safe="")
        assert f'href="/console/people/{guest}"' in page
        _, page, _ = await visitor.ask("GET", f"/console/people/{guest}")
        assert "there by hand" in page
        _, page, _ = await visitor.ask("GET", f"/console/groups/{group}")
        assert f'href="/console/people/{people[f"{tag}ann"]}"' in page
        assert f'href="{of_room}"' in page


async def test_managers_get_no_stories(scene: Any) -> None:
    """They tell of rooms and people of others."""
    async with scene() as s:
        visitor = await s.visitor(s.manager)
        page = f"/console/groups/{s.group}"
        assert await visitor.send(page, f"{page}/mappings", room=s.own) == 303
        await room_holds(s.admin, s.own, {s.manager, *s.people})
        for path in ("people", f"people/{next(iter(s.people.values()))}", "people?q=a"):
            assert (await visitor.ask("GET", f"/console/{path}"))[0] == 403
        for path in (page, f"/console/rooms/{s.own}"):
            status, text, _ = await visitor.ask("GET", path)
            assert status == 200
            assert "Lately" not in text
            assert "/console/people" not in text


async def test_what_needs_a_human_comes_first(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Held removals by room, a conflict and a room that is not found, each with its way out."""
    room = await admin.create_room(name=f"{tag}Kitchen")
    await synapse.register(f"{tag}taken")
    group_map = {"g": [room, f"#{tag}nowhere:{SERVER_NAME}"]}
    async with service(group_map, CONSOLE="true", **HOLD_ALL) as process:
        idp = ScimClient(process.url)
        names = (f"{tag}ann", f"{tag}bob", f"{tag}taken")
        group, _ = await group_of(idp, *names, name=f"{tag}Staff")
        await room_holds(admin, room, {f"{tag}ann", f"{tag}bob"})
        await idp.ok("DELETE", f"/Groups/{group}")
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 2)
        visitor = visiting.Visitor(process.url)
        assert await visitor.sign_in("scim-bot") == 303
        _, page, _ = await visitor.ask("GET", "/console/")
        needs, rest = page.split("How it is")
        for code in ("removals-held", "account-conflict", "room-unresolved"):
            assert plain(problems.BY_CODE[code].means) in needs, code
        told = f"({room}): 2 people, because of {tag}Staff (deleted since)"
        assert told in Markup(needs).striptags()
        assert f'/groups/{group}">{tag}Staff (deleted since)</a>, since <time' in needs
        assert mxid(f"{tag}taken") in needs
        assert plain(problems.BY_CODE["room-unresolved"].cure) in needs
        assert 'Held removals <span class="count">2</span>' in page
        # What was done is told by kind, not by person.
        done = rest.split("Done lately")[1]
        assert (
            f"joining {tag}Kitchen, 2 people: done (because of {tag}Staff (deleted since)" in done
        )
        assert f"removal from {tag}Kitchen, 2 people: held for a human" in done
        assert mxid(f"{tag}ann") not in done


async def test_a_conflict_is_settled_where_it_is_shown(
    synapse: Synapse, scene: Any, tag: str
) -> None:
    """The overview leads to the person, whose page takes the account that is theirs."""
    async with scene() as s:
        await synapse.register(f"{tag}taken")
        user = await s.idp.create_user(f"{tag}taken")
        await eventually(
            lambda: ready(s.idp), lambda r: r["work"].get("conflictingAccounts", 0) == 1
        )
        admin, manager = await s.visitor("scim-bot"), await s.visitor(s.manager)
        _, page, _ = await admin.ask("GET", "/console/")
        assert f'href="/console/people/{quote(mxid(f"{tag}taken"), safe="")}">Say whose' in page
        assert 'Overview <span class="count">1</span>' in page
        path = f"/console/people/{user}"
        _, page, _ = await admin.ask("GET", f"/console/people/{quote(mxid(f'{tag}taken'))}")
        assert f'action="{path}/link"' in page
        for account, why in (
            ("taken", "Write the whole Matrix ID"),
            ("@somebody:other.test", "of another server than demo.test"),
            (mxid("scim-bot"), "the service&#39;s own account"),
            (mxid(f"{tag}nobody"), "does not exist on the homeserver"),
            (mxid(f"{tag}ann"), "is the account of"),
        ):
            csrf = await admin.token(path)
            status, page, _ = await admin.ask("POST", f"{path}/link", csrf=csrf, account=account)
            assert (status, why in page) == (400, True), page
        home = "/console/groups"
        assert await manager.send(home, f"{path}/link", account=mxid(f"{tag}taken")) == 403
        assert await admin.send(path, f"{path}/link", account=mxid(f"{tag}taken")) == 303
        _, page, _ = await admin.ask("GET", path)
        assert "Linked: " in page
        await settled(s.idp)
        _, page, _ = await admin.ask("GET", path)
        assert "a human said so" in page
        assert "Linked: " not in page


async def test_the_log_is_filtered_and_paged(scene: Any, tag: str) -> None:
    """By any part of a person, by kind and outcome, since a time; bad values are said."""
    async with scene() as s:
        for number in range(101):
            await s.idp.create_user(f"{tag}p{number}")
        await settled(s.idp)
        visitor = await s.visitor("scim-bot")

        async def log(query: str, expected: int = 200) -> str:
            status, page, _ = await visitor.ask("GET", f"/console/log?{query}")
            assert status == expected, page
            assert SERVER_NAME in page.split("</header>")[0]
            return str(page)

        page = await log(f"user={tag.upper()}AN&since=yesterday&kind=create&outcome=done")
        assert mxid(f"{tag}ann") in page
        assert mxid(f"{tag}bob") not in page
        assert page.count('scope="rowgroup"') >= 1
        assert "Nothing was recorded that fits" in await log(f"user={tag}ann&kind=kick")
        first = await log("kind=create")
        assert first.count("create <span") == 100
        [older] = re.findall(r'href="/console/log\?([^"]*before=[^"]*)"', first)
        second = await log(unescape(older))
        assert second.count("create <span") == 3
        assert mxid(f"{tag}ann") in second
        assert not set(re.findall(r"people/(%40[^\"]*p\d+%3A)", first)) & set(
            re.findall(r"people/(%40[^\"]*p\d+%3A)", second)
        )
        for bad in ("since=soon", "kind=murder", "outcome=x", "before=x"):
            assert 'role="alert"' in await log(bad, 400)
