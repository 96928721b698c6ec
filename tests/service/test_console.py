"""What the console says is so, on a homeserver in memory."""

import csv
import io
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest

from scim_matrix.console import access
from scim_matrix.console.linking import plain
from scim_matrix.problems import BY_CODE
from scim_matrix.store import console, record
from tests.conftest import eventually
from tests.service.client import call, made
from tests.service.visiting import ADMIN, Scene, Visitor, visited

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")


async def test_what_was_not_kept_is_not_said_to_be(tmp_path: Path) -> None:
    """A group that opens a room already goes on as it did, and the page says so."""
    async with visited(tmp_path) as scene:
        room, group = scene.room("Team"), await scene.group("Staff", "ann")
        visitor, page = await scene.visitor(), f"groups/{group}"
        told = []
        for power in ("", "50"):
            status, text, _ = await visitor.send(page, f"{page}/mappings", room=room, power=power)
            assert status == 303, text
            told.append(await visitor.sees(page))
        assert "Kept: " in told[0]
        assert "Kept: " not in told[1]
        assert "Nothing was changed: Staff opens " in told[1]
        assert "power level 50" not in told[1]


async def test_what_still_opens_a_room_is_told(tmp_path: Path) -> None:
    """Of a room that the configuration opens too it is not said that the group opens it no more."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        room, other = scene.room("Team"), scene.room("Lobby")
        assert room == "!r1"
        group = await scene.group("Staff", "ann", externalId="staff")
        visitor, page = await scene.visitor(), f"groups/{group}"
        for where, expected in ((room, "still opens"), (other, "no longer opens")):
            assert (await visitor.send(page, f"{page}/mappings", room=where))[0] == 303
            text = await visitor.sees(page)
            mapping = text.split('name="mapping" value="')[1].split('"')[0]
            remove = f"{page}/mappings/remove"
            status, _, _ = await visitor.send(page, remove, mapping=mapping, people="leave")
            assert status == 303
            assert f"Staff {expected}" in await visitor.sees(page)


async def test_beyond_the_end_of_a_list_is_its_beginning(tmp_path: Path) -> None:
    """Nobody is told that nothing is there where it stands on other pages; filters are kept."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        scene.room("Team")
        await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        visitor = await scene.visitor()
        for path, query in (
            ("groups", ""),
            ("groups", "show=mapped"),
            ("rooms", "q=Te"),
            ("rooms/!r1", "q=ann"),
            ("held", ""),
            ("log", "kind=join"),
        ):
            beyond = "before=1" if path == "log" else "from=900"
            status, _, leads = await visitor.ask("GET", f"{path}?{query}&{beyond}")
            there = f"{path}?{query}" if query else path
            assert (status, leads) == (303, f"/console/{there}")


async def test_whoever_is_disabled_is_held_for_that_and_not_for_their_group(
    tmp_path: Path,
) -> None:
    """Leavers and a group that lost its people look different where one decides."""
    limits = {"REMOVAL_LIMIT_PERCENT": "1", "REMOVAL_LIMIT_COUNT": "1"}
    async with visited(tmp_path, {"staff": ["!r1"]}, ON_DISABLE="nothing", **limits) as scene:
        scene.room("Team")
        names = ("ann", "bob", "cat", "dan")
        staff = await scene.group("Staff", *names, externalId="staff")
        await scene.settled()
        users = (await call(scene.client, "GET", "/Users"))[1]["Resources"]
        ids = {user["userName"]: user["id"] for user in users}
        for name, path, operation in (
            ("ann", f"/Groups/{staff}", {"path": f'members[value eq "{ids["ann"]}"]'}),
            ("bob", f"/Groups/{staff}", {"path": f'members[value eq "{ids["bob"]}"]'}),
            ("cat", f"/Users/{ids['cat']}", {"path": "active", "value": False}),
        ):
            change = {"op": "replace" if name == "cat" else "remove", **operation}
            body = {"schemas": [PATCH], "Operations": [change]}
            assert (await call(scene.client, "PATCH", path, body))[0] < 300
            await scene.settled()
        await scene.shows("heldPairs", 2)
        page = re.sub("<[^>]+>", "", await (await scene.visitor()).sees("held"))
        assert "Because Staff no longer gives it: 1 person" in page
        assert "Disabled or deleted at the identity provider: 1 person" in page


async def emptied(scene: Scene, group: str) -> None:
    """Have the identity provider take everybody out of a group."""
    body = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "members", "value": []}]}
    assert (await call(scene.client, "PATCH", f"/Groups/{group}", body))[0] < 300


async def test_a_decision_that_is_sent_twice_says_what_came_of_the_first(tmp_path: Path) -> None:
    """Who decided, what and when, though the same people are held no more; not what came since."""
    limits = {"REMOVAL_LIMIT_PERCENT": "1", "REMOVAL_LIMIT_COUNT": "0"}
    async with visited(tmp_path, {"staff": ["!r1"]}, **limits) as scene:
        scene.room("Team")
        staff = await scene.group("Staff", "ann", "bob", externalId="staff")
        await scene.settled()
        await emptied(scene, staff)
        await scene.shows("heldPairs", 2)
        visitor = await scene.visitor()
        page = await visitor.sees("held")
        chosen = re.findall(r'name="chosen" value="(\d+\.\d+)"', page)
        assert len(chosen) == 2
        ann, bob = ({"room": "!r1", "chosen": one} for one in chosen)
        for form, decision, expected in (
            (ann, "approved", "Approved: 1 person is removed from Team now."),
            (ann, "approved", "Approved already by @bot:example.org ("),
            (ann, "dismissed", "Approved already by @bot:example.org ("),
            (bob, "dismissed", "Dismissed: 1 person stays in Team."),
            (bob, "approved", "Dismissed already by @bot:example.org ("),
        ):
            status, _, leads = await visitor.send("held", "held", decision=decision, **form)
            assert status == 303, leads
            said = re.sub("<[^>]+>", "", await visitor.sees("held"))
            assert expected in said, (decision, expected)
            assert "Nothing was done" not in said


async def test_held_removals_are_paged(tmp_path: Path) -> None:
    """Ten places to a page, and back by one."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        scene.room("Team")
        await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        await scene.write(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 45)"
            " INSERT INTO membership (account_id, room_id, state, brake, held_because, held_tick)"
            " SELECT a.id, printf('!h%02d', n), 'revoked', 'held', 'limit', 1"
            " FROM n CROSS JOIN account a"
        )
        visitor = await scene.visitor()
        page = await visitor.sees("held?from=10")
        assert "11 to 20 of 45" in page
        assert "/console/rooms/%21h11" in page
        assert "/console/rooms/%21h10" not in page
        assert 'href="/console/held?">Before' in page
        assert 'href="/console/held?from=20">Next' in page


async def test_the_homeserver_is_not_needed_to_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is away a page says so, and has the button with which one signs out."""
    async with visited(tmp_path) as scene:
        visitor = await scene.visitor()
        scene.homeserver.dark = True
        monkeypatch.setattr(access, "KEEP", 0.0)
        monkeypatch.setattr(access, "LASTING", 0.0)
        status, page, _ = await visitor.ask("GET", "people")
        assert (status, "does not answer" in page, "Sign out</button>" in page) == (503, True, True)
        copy = replace(visitor, cookies=dict(visitor.cookies))
        assert (await visitor.send("people", "sign-out"))[::2] == (303, "/console/sign-in")
        assert (await copy.ask("GET", "people"))[::2] == (303, "/console/sign-in")


@pytest.mark.parametrize(
    ("ails", "code"), [("away", "homeserver-down"), ("token", "homeserver-refused")]
)
async def test_whoever_is_signed_in_reads_what_ails_the_homeserver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ails: str, code: str
) -> None:
    """All pages are there and say what is wrong; nobody else comes in, nobody changes a thing."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        scene.room("Team")
        staff = await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        scene.world.account("@boss:example.org", admin=True)
        visitor = await scene.visitor("boss")
        token = await visitor.sees("held")
        if ails == "away":
            scene.homeserver.dark = True
        else:
            scene.world.account(ADMIN, admin=False)
        monkeypatch.setattr(access, "KEEP", 0.0)
        for path in ("held", "log", "people", "groups", f"groups/{staff}", "rooms", "rooms/!r1"):
            page = await visitor.sees(path)
            assert f"{plain(BY_CODE[code].means)} You see what is known here" in page, path
        await scene.group("More", "bob")
        card = f"<h3>{plain(BY_CODE[code].means)}</h3>"
        await eventually(lambda: visitor.sees(""), lambda page: card in page)
        csrf = token.split('name="csrf" value="')[1].split('"')[0]
        status, page, _ = await visitor.ask("POST", "compare", csrf=csrf)
        assert (status, f"Code: {code}" in page) == (503, True)
        assert plain(BY_CODE[code].means) in page
        assert plain(BY_CODE[code].cure) in page
        stranger = Visitor(scene.client)
        if ails == "token":
            form = {"user": "boss", "password": "password"}
            status, page, _ = await stranger.send("sign-in", "sign-in", **form)
            assert (status, f"Code: {code}" in page) == (503, True)
        assert (await stranger.ask("GET", "held"))[0] == 303


async def test_an_account_of_another_server_is_nobodys_here(tmp_path: Path) -> None:
    """It is not linked, and a link to somebody there whom nobody knows is one to nobody."""
    async with visited(tmp_path) as scene:
        await scene.group("Staff", "ann")
        await scene.settled()
        visitor = await scene.visitor()
        status, page, _ = await visitor.ask("GET", f"people/{quote('@x:other.test')}")
        assert (status, "Nobody is known as @x:other.test" in page) == (404, True)
        path = (await visitor.sees("people")).split('href="/console/people/')[1].split('"')[0]
        status, page, _ = await visitor.send(
            f"people/{path}", f"people/{path}/link", account="@x:other.test"
        )
        assert (status, "of another server than example.org" in page) == (400, True)


async def test_the_log_as_csv_says_who_decided(tmp_path: Path) -> None:
    """Beside what was done to whom."""
    async with visited(tmp_path) as scene:
        entry = record.Entry("kick", "approved", "@ann:example.org", "!r1", by="@boss:example.org")
        async with scene.writing() as connection:
            await record.add(connection, entry)
        visitor = await scene.visitor()
        [row] = csv.DictReader(io.StringIO(await visitor.sees("log?kind=kick&export=csv")))
        assert (row["outcome"], row["by"]) == ("approved", "'@boss:example.org")


@pytest.mark.parametrize("is_in_it", [False, True])
async def test_what_is_in_a_space_is_told_to_those_in_it(tmp_path: Path, is_in_it: bool) -> None:
    """A manager who puts somebody else's space into their own learns of no room there."""
    boss = "@boss:example.org"
    async with visited(tmp_path, CONSOLE_MANAGERS=boss) as scene:
        scene.world.account(boss)
        # Rooms are asked about in the order of their IDs.
        secret = scene.room("Secret")
        own = scene.room("Own", creator=boss, space=True)
        foreign = scene.room("Foreign", space=True)
        scene.world.child(own, boss, foreign)
        scene.world.child(foreign, ADMIN, secret)
        if is_in_it:
            scene.world.bring(foreign, boss)
            scene.world.levels(foreign, boss=100)
        group = await scene.group("Staff", "ann")
        visitor, page = await scene.visitor("boss"), f"groups/{group}"
        for path in ("preview", "mappings"):
            asked = {"room": own, "children": "on"}
            status, text, _ = await visitor.send(page, f"{page}/{path}", **asked)
            assert status == 403
            told = text.split('role="alert"')[1]
            assert (secret in told, "You may only map rooms" in told) == (is_in_it, True)


async def test_a_preview_counts_one_person_as_one(tmp_path: Path) -> None:
    """Who would come, who is there already, and who would have to leave."""
    async with visited(tmp_path) as scene:
        room = scene.room("Team")
        scene.world.account("@guest:example.org")
        scene.world.bring(room, "@guest:example.org")
        group = await scene.group("Staff", "ann")
        visitor, page = await scene.visitor(), f"groups/{group}"
        asked = {"room": room, "exclusive": "on"}
        _, text, _ = await visitor.send(page, f"{page}/preview", **asked)
        assert f"This would add 1 person to {room}; 0 of the group are in it already." in text
        assert "1 other person there would have to leave" in text


async def test_a_preview_counts_in_the_rooms_of_a_space_too(tmp_path: Path) -> None:
    """Whoever would have to leave a room below it is told before, not only in the space."""
    async with visited(tmp_path) as scene:
        space, below = scene.room("House", space=True), scene.room("Kitchen")
        scene.world.child(space, ADMIN, below)
        scene.world.account("@guest:example.org")
        scene.world.bring(below, "@guest:example.org")
        group = await scene.group("Staff", "ann")
        visitor, page = await scene.visitor(), f"groups/{group}"
        asked = {"room": space, "exclusive": "on", "children": "on"}
        _, text, _ = await visitor.send(page, f"{page}/preview", **asked)
        for room in (space, below):
            assert f"This would add 1 person to {room}; 0 of the group are in it already." in text
        assert text.count("would have to leave") == 1


async def test_acts_told_together_name_what_they_have_in_common(tmp_path: Path) -> None:
    """No human, request or reason of one of them is said to be that of all."""
    async with visited(tmp_path) as scene:
        people = [f"@p{number}:example.org" for number in range(6)]
        async with scene.writing() as connection:
            for who, by, why, request in zip(
                people,
                ("@boss:x", "@boss:x", "@vice:x", "@vice:x", None, None),
                ("late", "late", "ill", "gone", None, "tired"),
                ("r1", "r1", None, "r2", None, "r3"),
                strict=True,
            ):
                entry = record.Entry(
                    "kick", "done", who, "!r1", "Staff", request, detail=why, by=by
                )
                await record.add(connection, entry)
        page = unescape(re.sub("<[^>]+>", "", await (await scene.visitor()).sees("")))
        assert "2 people: done by @boss:x (because of Staff; late; request r1)" in page
        assert "2 people: done by @vice:x (because of Staff)" in page
        assert "2 people: done (because of Staff)" in page


async def test_rooms_that_are_called_alike_are_told_apart(tmp_path: Path) -> None:
    """Wherever somebody decides, the ID stands beside what a room calls itself."""
    limits = {"REMOVAL_LIMIT_COUNT": "0", "REMOVAL_LIMIT_PERCENT": "0"}
    async with visited(tmp_path, {"staff": ["!r1", "!r2"]}, **limits) as scene:
        for _ in range(2):
            scene.room("Board")
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        empty = {"displayName": "Staff", "externalId": "staff", "members": []}
        assert (await call(scene.client, "PUT", f"/Groups/{group}", empty))[0] == 200
        await scene.shows("heldPairs", 2)
        visitor = await scene.visitor()
        for path in ("", "held", "rooms", f"groups/{group}"):
            page = (await visitor.sees(path)).split("Lately")[0]
            shown = re.findall(r"<[^<>]*>([^<>]*)", page)
            for room_id in ("!r1", "!r2"):
                assert any(room_id in text for text in shown), (path, room_id)


async def test_each_problem_has_its_way_out(tmp_path: Path) -> None:
    """A button to where it is settled or looked at, and its code with cause and cure."""
    async with visited(tmp_path, {"staff": ["!r1", "#gone:example.org"]}) as scene:
        scene.room("Team", version="10", creator="@boss:example.org")
        await scene.group("Staff", "ann", "bob", externalId="staff")
        await scene.shows("failingRooms", 2)
        await scene.write(
            "UPDATE membership SET problem = 'refused', reason = 'no', next_try = 4e9"
        )
        await scene.write(
            "INSERT INTO room (room_id, unusable) VALUES ('!bad', 'nobody there')"
            " ON CONFLICT DO UPDATE SET unusable = excluded.unusable"
        )
        await scene.write(OPENED)
        visitor = await scene.visitor()
        page = await visitor.sees("")
        assert 'href="/console/rooms?q=%23gone%3Aexample.org"' in page
        assert 'href="/console/rooms/%21bad">Look at the room' in page
        codes = re.findall(r'href="/console/problems/([a-z-]+)"', page)
        assert {"room-unresolved", "room-unusable"} <= {*codes}
        for code in codes:
            problem, told = BY_CODE[code], await visitor.sees(f"problems/{code}")
            assert plain(problem.cause) in told
            assert plain(problem.cure) in told
        assert "<code>create</code> object" in await visitor.sees("problems/room-unresolved")
        assert (await visitor.ask("GET", "problems/none"))[0] == 404


async def test_what_waits_for_a_human_is_no_import_that_stands_still(tmp_path: Path) -> None:
    """Neither an account in conflict nor its memberships are shown as still in line."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        scene.room("Team")
        scene.world.account("@ann:example.org")
        await scene.group("Staff", "ann", "bob", externalId="staff")
        await scene.shows("conflictingAccounts", 1)
        await scene.settled()
        page = await (await scene.visitor()).sees("")
        assert "Say whose account it is" in page
        assert "in line</dt>" not in page


async def test_whoever_is_spared_is_no_import_that_stands_still(tmp_path: Path) -> None:
    """What a protection holds up is done when it ends, and not in line before."""
    spared = {"PROTECTED_USERS": "@ann:example.org"}
    async with visited(tmp_path, {"staff": ["!r1"]}, **spared) as scene:
        scene.room("Team")
        staff = await scene.group("Staff", "ann", "bob", externalId="staff")
        await scene.settled()
        users = (await call(scene.client, "GET", "/Users"))[1]["Resources"]
        [ann] = (user["id"] for user in users if user["userName"] == "ann")
        emptied = {"op": "remove", "path": f'members[value eq "{ann}"]'}
        disabled = {"op": "replace", "path": "active", "value": False}
        for path, operation in ((f"/Groups/{staff}", emptied), (f"/Users/{ann}", disabled)):
            body = {"schemas": [PATCH], "Operations": [operation]}
            assert (await call(scene.client, "PATCH", path, body))[0] < 300
        await scene.settled()
        await scene.shows("sparedPairs", 1)
        assert "in line</dt>" not in await (await scene.visitor()).sees("")


# The map leads to every room that is known.
OPENED = (
    "INSERT INTO opening (mapping_id, room_id, via, standing)"
    " SELECT (SELECT min(id) FROM mapping), room_id, '!space', 'followed' FROM room WHERE TRUE"
    " ON CONFLICT DO NOTHING"
)


async def test_how_many_have_a_problem_is_told(tmp_path: Path) -> None:
    """Five of them by name, and of each kind however many there are of another."""
    async with visited(tmp_path, {"g": ["#one:example.org"]}) as scene:
        await scene.shows("failingRooms", 1)
        await scene.write(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 300)"
            " INSERT INTO room (room_id, unusable, upgrade_to) SELECT '!x' || n,"
            " CASE WHEN n > 2 THEN 'nobody there' END, CASE WHEN n < 3 THEN '!y' END FROM n"
        )
        await scene.write(OPENED)
        page = await (await scene.visitor()).sees("")
        assert "… and 293 more of the kind." in page
        assert page.count("/console/rooms/%21x1&#34;") + page.count('/console/rooms/%21x1"') > 0


async def test_what_came_of_a_request_is_a_click_away(tmp_path: Path) -> None:
    """From wherever the console names a request, and nothing of another one."""
    limits = {"REMOVAL_LIMIT_COUNT": "0", "REMOVAL_LIMIT_PERCENT": "0"}
    async with visited(tmp_path, {"staff": ["!r1"]}, **limits) as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        empty = {"displayName": "Staff", "externalId": "staff", "members": []}
        assert (await call(scene.client, "PUT", f"/Groups/{group}", empty))[0] == 200
        await scene.shows("heldPairs", 1)
        visitor = await scene.visitor()
        [request] = {*re.findall(r"log[?]request=([0-9a-f]+)", await visitor.sees("held"))}
        assert f"log?request={request}" in await visitor.sees("log?kind=kick")
        page = await visitor.sees(f"log?request={request}")
        assert page.count("<td data-label=") // 5 == 1
        assert "held" in page
        assert "Nothing was recorded" in await visitor.sees("log?request=none")


async def test_whoever_was_deleted_is_found_by_their_name(tmp_path: Path) -> None:
    """And by their address: with what became of them, for as long as their account is known."""
    async with visited(tmp_path) as scene:
        names = {"displayName": "Ánn Archer", "emails": [{"value": "Archer@example.org"}]}
        user = await made(scene.client, "Users", userName="ann", **names)
        await scene.group("Staff", "bob")
        await scene.settled()
        assert (await call(scene.client, "DELETE", f"/Users/{user['id']}"))[0] == 204
        await scene.settled()
        visitor = await scene.visitor()
        for words in ("%C3%A1nn arch", "archer@", "@ann"):
            page = await visitor.sees(f"people?q={words.replace(' ', '+')}")
            assert ">Ánn Archer</a>" in page, words
            assert "deleted at the identity provider" in page
            assert "bob" not in page
        path = page.split('href="/console/people/')[1].split('"')[0]
        assert "deleted the user of this account" in await visitor.sees(f"people/{path}")


async def test_whoever_is_deleted_is_found_by_any_part_of_their_name_and_addresses(
    tmp_path: Path,
) -> None:
    """In whatever case, with signs that JSON writes otherwise, and by nothing that JSON adds."""
    async with visited(tmp_path) as scene:
        user = await made(
            scene.client,
            "Users",
            userName="ann",
            displayName='Ännchen "Nan" O\\Neil',
            emails=[{"value": "nan@example.org"}, {"value": "o.neil@example.org"}],
        )
        await scene.settled()
        assert (await call(scene.client, "DELETE", f"/Users/{user['id']}"))[0] == 204
        await scene.settled()
        reader = scene.database.reader
        for words in ("ÄNNCHEN", 'n "nan', '"', "o\\n", "NAN@", "o.neil@example"):
            found = await console.people_named(reader, words, 10)
            assert [(one["account"], one["is_deleted"]) for one in found] == [
                ("@ann:example.org", 1)
            ], words
        for words in ("display_name", '","', "emails", '\\"'):
            assert await console.people_named(reader, words, 10) == [], words
