"""What the console says is behind a removal: who closed a room, which group, whatever its name."""

import asyncio
import json
import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from scim_matrix.store import story as story_of
from scim_matrix.store import views
from tests.conftest import eventually
from tests.service.client import call, made
from tests.service.conftest import SECRET
from tests.service.test_cli import run
from tests.service.visiting import ADMIN, SERVER, Scene, Visitor, visited

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")

# What a command needs to know beside the map.
VARIABLES = {
    "WEBHOOK_SECRET": SECRET,
    "MATRIX_URL": "http://127.0.0.1:1",
    "MATRIX_SERVER_NAME": SERVER,
    "MATRIX_ADMIN_USER_ID": ADMIN,
    "MATRIX_ADMIN_TOKEN": "token",
    "IDP_NAME": "oidc-x",
    "DATA_DIR": "data",
}
NONE_GO = {"REMOVAL_LIMIT_COUNT": "0", "REMOVAL_LIMIT_PERCENT": "0"}
GUEST = "@guest:example.org"


def text(page: str) -> str:
    """Return what of a page is read."""
    return " ".join(unescape(re.sub("<[^>]+>", "", page)).split())


async def emptied(scene: Scene, group: str, **more: Any) -> None:
    """Have a group, maybe under another name, hold nobody."""
    body = {"displayName": "Staff", "externalId": "staff", "members": [], **more}
    assert (await call(scene.client, "PUT", f"/Groups/{group}", body))[0] == 200


@pytest.mark.parametrize("setting", ["IDP_GROUP_TO_ROOM", "GROUP_MAP_FILE"])
async def test_who_closed_a_room_is_told_where_somebody_has_to_leave_it(
    tmp_path: Path, setting: str
) -> None:
    """The setting and its line, or the maker in the console, and when: never just a rule."""
    where, given = setting, json.dumps({"staff": [{"room": "!r1", "exclusive": True}]})
    if setting == "GROUP_MAP_FILE":
        file = tmp_path / "map.jsonc"
        file.write_text(given)
        where, given = f"GROUP_MAP_FILE {file}", str(file)
    async with visited(tmp_path, {}, **NONE_GO, **{setting: given}) as scene:
        for name in ("Team", "Board"):
            scene.world.account(GUEST)
            scene.world.bring(scene.room(name), GUEST)
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.shows("heldPairs", 1)
        visitor, page = await scene.visitor(), f"groups/{group}"
        told = rf"to hold nobody else, as said by {re.escape(where)} \(staff → \w+, .*\d\d:\d\d"
        for path in ("held", "rooms/!r1", f"people/{quote(GUEST)}"):
            assert re.search(told, text(await visitor.sees(path))), path
        for what in ("!r1", GUEST):
            ended = await asyncio.to_thread(
                run, "why", what, cwd=tmp_path, **VARIABLES, **{setting: given}
            )
            assert re.search(told, ended.stdout), ended
        asked = {"room": "!r2", "exclusive": "on"}
        assert (await visitor.send(page, f"{page}/mappings", **asked))[0] == 303
        await scene.shows("heldPairs", 2)
        assert f"as said by {ADMIN} in the console (Staff → Board, " in text(
            await visitor.sees("held")
        )
        people = re.findall(r'name="chosen" value="(\d+\.\d+)"', await visitor.sees("held"))
        for room, chosen in zip(("!r1", "!r2"), people[::2], strict=True):
            form = {"room": room, "decision": "approved", "chosen": chosen}
            assert (await visitor.send("held", "held", **form))[0] == 303
        await scene.shows("heldPairs", 0)
        await scene.settled()
        log = text(await visitor.sees("log?kind=kick&outcome=done"))
        assert f"as said by {where} (staff → Team, " in log
        assert f"as said by {ADMIN} in the console (Staff → Board, " in log


async def test_whoever_a_group_put_in_a_closed_room_once_leaves_for_its_being_closed(
    tmp_path: Path,
) -> None:
    """The group that gave the room before is not behind it, and is not said to be."""
    async with visited(tmp_path, {}, **NONE_GO) as scene:
        room = scene.room("Team")
        old = await scene.group("Old", "bob")
        visitor = await scene.visitor()
        assert (await visitor.send(f"groups/{old}", f"groups/{old}/mappings", room=room))[0] == 303
        await scene.settled()
        mapping = (await visitor.sees(f"groups/{old}")).split('name="mapping" value="')[1]
        form = {"mapping": mapping.split('"')[0], "people": "stay"}
        remove = f"groups/{old}/mappings/remove"
        assert (await visitor.send(f"groups/{old}", remove, **form))[0] == 303
        new = await scene.group("New", "ann")
        asked = {"room": room, "exclusive": "on"}
        assert (await visitor.send(f"groups/{new}", f"groups/{new}/mappings", **asked))[0] == 303
        await scene.shows("heldPairs", 1)
        held = text(await visitor.sees("held"))
        assert "(New → Team, " in held
        assert "Old" not in held
        needed = text(await visitor.sees("")).partition("Good to know")[0].partition("How it is")[0]
        assert "the room is to hold nobody else" in needed
        assert "because of Old" not in needed


async def test_a_group_is_told_by_the_names_that_it_had_and_has(tmp_path: Path) -> None:
    """After a rename causes say both names and lead to the group, whose story has them all."""
    async with visited(tmp_path, {"displayName:Staff": ["!r1"]}, **NONE_GO) as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        await emptied(scene, group, displayName="Crew")
        await scene.shows("heldPairs", 1)
        newcomer = await scene.group("Staff", "bob", externalId="other")
        await scene.settled()
        visitor = await scene.visitor()
        link = f'<a href="/console/groups/{group}">Staff (Crew now)</a>'
        for path in ("held", "log?kind=kick", "log?group=Crew", "rooms/!r1"):
            assert link in await visitor.sees(path), path
        for path in ("rooms/!r1", f"people/{quote('@ann:example.org')}"):
            assert "Staff (Crew now) no longer gives it" in text(await visitor.sees(path)), path
        story = text(await visitor.sees(f"groups/{group}"))
        assert "It was called Staff until " in story
        assert "1 person to leave Team" in story
        assert "joining Team, @ann:example.org: done (because of Staff (Crew now)" in story
        assert "the group Staff is called Crew from then on" in story
        # The people of a group lead to it.
        bob = await visitor.sees(f"people/{quote('@bob:example.org')}")
        assert f'<li><a href="/console/groups/{newcomer}">Staff</a>.</li>' in bob
        # Another group has the name by now: what it did is its own.
        other = text(await visitor.sees(f"groups/{newcomer}"))
        assert "@bob:example.org: done (because of Staff;" in other
        assert "@ann:example.org" not in other
        assert "to leave Team" not in other


async def test_whom_a_group_no_longer_brings_is_told_though_another_opens_the_room(
    tmp_path: Path,
) -> None:
    """Renamed out of its pattern or deleted: its story has them still, and no other's has."""
    opened = {"displayName:Staff": ["!r1"], "displayName:Cooks": ["!r1"]}
    async with visited(tmp_path, opened, PROTECTED_USERS="@ann:*") as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann")
        cooks = await scene.group("Cooks", "bob")
        await scene.settled()
        body = {"displayName": "Crew", "members": []}
        assert (await call(scene.client, "PUT", f"/Groups/{group}", body))[0] == 200
        # Nothing is held: she is protected.
        await scene.shows("sparedPairs", 1)
        visitor = await scene.visitor()
        assert "1 person to leave Team" in text(await visitor.sees(f"groups/{group}"))
        assert "to leave" not in text(await visitor.sees(f"groups/{cooks}"))
        assert (await call(scene.client, "DELETE", f"/Groups/{group}"))[0] == 204
        assert "1 person to leave Team" in text(await visitor.sees(f"groups/{group}"))


async def test_a_group_that_is_gone_has_a_page_and_no_dead_link(tmp_path: Path) -> None:
    """Whatever it is still behind leads there; so does what nobody ever was."""
    async with visited(tmp_path, {"staff": ["!r1"]}, **NONE_GO) as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        assert (await call(scene.client, "DELETE", f"/Groups/{group}"))[0] == 204
        await scene.shows("heldPairs", 1)
        visitor = await scene.visitor()
        assert f'<a href="/console/groups/{group}">Staff (deleted since)</a>' in (
            await visitor.sees("held")
        )
        story = text(await visitor.sees(f"groups/{group}"))
        assert "The identity provider deleted this group." in story
        assert "Staff was deleted there" in story
        assert "1 person to leave Team" in story
        assert "Open a room for this group" not in story
        assert "groups that are gone" not in await visitor.sees("groups")
        assert (await visitor.ask("GET", "groups/none"))[0] == 404
        for name in ("Staff", group):
            assert await story_of.groups_called(scene.database.reader, name) == [group]
        assert await story_of.groups_called(scene.database.reader, "staff-x") == []
        members = [{"value": "nobody-yet"}]
        lonely = (await made(scene.client, "Groups", displayName="Lonely", members=members))["id"]
        page = await visitor.sees(f"groups/{lonely}")
        assert "nobody-yet (not sent yet)" in text(page)
        assert "/console/people/nobody-yet" not in page


async def test_a_mapping_of_a_group_that_is_gone_is_taken_out(tmp_path: Path) -> None:
    """Groups and rooms lead to it, and the room is open no more afterwards."""
    async with visited(tmp_path) as scene:
        room = scene.room("Team")
        group = await scene.group("Staff", "ann")
        visitor, page = await scene.visitor(), f"groups/{group}"
        assert (await visitor.send(page, f"{page}/mappings", room=room))[0] == 303
        await scene.settled()
        assert (await call(scene.client, "DELETE", f"/Groups/{group}"))[0] == 204
        await scene.settled()
        assert f'<a href="/console/groups/{group}">Staff</a>: ' in await visitor.sees("groups")
        assert f'<a href="/console/groups/{group}">Staff (deleted)</a>' in (
            await visitor.sees("rooms")
        )
        mapping = (await visitor.sees(page)).split('name="mapping" value="')[1].split('"')[0]
        form = {"mapping": mapping, "people": "stay"}
        status, _, leads = await visitor.send(page, f"{page}/mappings/remove", **form)
        assert (status, leads) == (303, f"/console/{page}")
        assert "Taken out: Staff no longer opens Team" in text(await visitor.sees(page))
        assert "No room is mapped" in text(await visitor.sees("rooms"))


async def mapped_and_taken_out(scene: Scene, group: str, room: str, waits: str) -> Visitor:
    """Map a room by hand, empty the group, and take the mapping out while one removal `waits`."""
    visitor, page = await scene.visitor(), f"groups/{group}"
    assert (await visitor.send(page, f"{page}/mappings", room=room))[0] == 303
    await scene.settled()
    await emptied(scene, group)
    await scene.shows(waits, 1)
    mapping = (await visitor.sees(page)).split('name="mapping" value="')[1].split('"')[0]
    form = {"mapping": mapping, "people": "stay"}
    assert (await visitor.send(page, f"{page}/mappings/remove", **form))[0] == 303
    return visitor


async def test_a_room_that_the_map_names_no_more_is_shown_while_removals_are_held(
    tmp_path: Path,
) -> None:
    """Whoever looks for the room in the list of rooms finds it, with how many are held."""
    async with visited(tmp_path, {}, **NONE_GO) as scene:
        room = scene.room("Team")
        group = await scene.group("Staff", "ann")
        visitor = await mapped_and_taken_out(scene, group, room, "heldPairs")
        await scene.settled()
        for path in ("rooms", "rooms?show=held", "rooms?show=no+longer+mapped", "rooms?q=Team"):
            shown = text(await visitor.sees(path))
            assert "Team!r1" in shown, path
            assert "1 held the map no longer names it" in shown, path
        told = await asyncio.to_thread(run, "rooms", "--json", cwd=tmp_path, DATA_DIR="data")
        [row] = [json.loads(line) for line in told.stdout.splitlines()]
        assert {"room_id": "!r1", "name": "Team", "held": 1, "standing": "unmapped"}.items() <= (
            row.items()
        )
        assert (
            row["cure"] == "scim-matrix approve '!r1', or to keep them: scim-matrix dismiss '!r1'"
        )
        inside = await asyncio.to_thread(run, "rooms", "Team", cwd=tmp_path, DATA_DIR="data")
        assert "@ann:example.org" in inside.stdout


async def test_a_room_out_of_the_map_is_listed_where_a_removal_waits_for_the_line(
    tmp_path: Path,
) -> None:
    """By commands as by the console, with what ends the wait; once nobody is to leave, no more."""
    async with visited(tmp_path, PROTECTED_USERS="@ann:*") as scene:
        room = scene.room("Team")
        group = await scene.group("Staff", "ann")
        await mapped_and_taken_out(scene, group, room, "sparedPairs")
        [row] = await views.mapped_rooms(scene.database.reader)
        assert (row["standing"], row["cure"]) == (
            "unmapped",
            "put the line back, or scim-matrix sync --prune",
        )
        await scene.write("UPDATE membership SET observed = 'leave'")
        assert await views.mapped_rooms(scene.database.reader) == []


async def test_of_how_many_removals_are_held_is_told(tmp_path: Path) -> None:
    """Those by hand are not counted, and the page says who is."""
    async with visited(tmp_path, {"staff": ["!r1"]}, **NONE_GO) as scene:
        room = scene.room("Team")
        scene.world.account(GUEST)
        scene.world.bring(room, GUEST)
        group = await scene.group("Staff", "ann", "bob", externalId="staff")
        await scene.settled()
        users = (await call(scene.client, "GET", "/Users"))[1]["Resources"]
        [bob] = [{"value": user["id"]} for user in users if user["userName"] == "bob"]
        await emptied(scene, group, members=[bob])
        await scene.shows("heldPairs", 1)
        held = text(await (await scene.visitor()).sees("held"))
        assert "Team: 1 of 2 managed people would leave" in held
        assert "whoever is there by hand is not counted" in held


async def test_whom_a_human_let_stay_is_there_by_that_alone(tmp_path: Path) -> None:
    """Neither the list of the room's people nor its story tell them a second time, as by hand."""
    async with visited(tmp_path, {"staff": ["!r1"]}, **NONE_GO) as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        await emptied(scene, group)
        await scene.shows("heldPairs", 1)
        visitor = await scene.visitor()
        chosen = re.findall(r'name="chosen" value="([^"]+)"', await visitor.sees("held"))[0]
        form = {"room": "!r1", "decision": "dismissed", "chosen": chosen}
        assert (await visitor.send("held", "held", **form))[0] == 303
        before = scene.database.clock.now()
        assert (await visitor.send("", "compare"))[0] == 303
        await scene.compared(before)
        page = text(await visitor.sees("rooms/!r1"))
        assert "@ann:example.org staying, as a human decided." in page
        assert page.count("@ann:example.orgin it") == 1
        assert "by hand" not in page


async def test_a_room_that_is_gone_is_not_told_as_if_it_were_there(tmp_path: Path) -> None:
    """Whoever was in it was so when last seen, on each page; nobody leaves it either."""
    async with visited(tmp_path, {"staff": ["!r1"]}, **NONE_GO) as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann", "bob", externalId="staff")
        await scene.settled()
        users = (await call(scene.client, "GET", "/Users"))[1]["Resources"]
        [bob] = [{"value": user["id"]} for user in users if user["userName"] == "bob"]
        await emptied(scene, group, members=[bob])
        await scene.shows("heldPairs", 1)
        await scene.write("UPDATE room SET unusable = '404 M_NOT_FOUND: Room not found'")
        visitor = await scene.visitor()
        told = "the room cannot be used at present, 404 M_NOT_FOUND: Room not found."
        for path in ("people/@bob:example.org", f"groups/{group}"):
            page = text(await visitor.sees(path))
            assert told in page, path
            assert "scim-matrix check" in page, path
        [row] = re.findall("<tr>.*?</tr>", (await visitor.sees(f"groups/{group}")), re.DOTALL)[1:2]
        assert "404 M_NOT_FOUND" in row
        held = text(await visitor.sees("held"))
        assert "nobody leaves it until that is mended: 404 M_NOT_FOUND: Room not found" in held


async def test_a_room_that_nobody_can_be_joined_to_has_a_problem(tmp_path: Path) -> None:
    """The list of rooms says so where people are refused, and finds it as one."""
    async with visited(tmp_path, {"staff": ["!r1:example.org"]}) as scene:
        scene.world.account(GUEST)
        scene.room("Team", creator=GUEST, version="10")
        scene.world.levels("!r1:example.org", guest=0)
        await scene.group("Staff", "ann", externalId="staff")
        await scene.shows("failingPairs", 1)
        page = text(await (await scene.visitor()).sees("rooms?show=with+a+problem"))
        assert "Team!r1:example.org" in page
        assert "1 refused" in page


async def test_an_alias_that_waits_is_let_in_where_it_is_shown(tmp_path: Path) -> None:
    """From the overview on, for the room that was shown and no other, by whoever said so."""
    alias = "#late:example.org"
    async with visited(tmp_path, {"staff": [alias]}) as scene:
        await scene.group("Staff", "ann", externalId="staff")
        await scene.shows("failingRooms", 1)
        scene.world.account(GUEST)
        room = scene.room("Mine", creator=GUEST, version="12")
        scene.world.alias(alias, room)
        visitor = await scene.visitor()
        await visitor.send("", "compare")

        async def waiting() -> str:
            return await visitor.sees(f"rooms?q={quote(alias)}")

        await eventually(waiting, lambda page: "Let it in" in page)
        assert f'href="/console/rooms?q={quote(alias, safe="")}">Decide</a>' in (
            await visitor.sees("")
        )
        form = {"alias": alias, "room": "!another"}
        assert (await visitor.send("rooms", "rooms/let-in", **form))[0] == 303
        assert "Nothing was done" in text(await waiting())
        form = {"alias": alias, "room": room}
        assert (await visitor.send("rooms", "rooms/let-in", **form))[0] == 303
        assert f"{alias} stands for {room} from now on" in text(await waiting())
        assert "Let it in" not in await waiting()
        assert f"by {ADMIN}" in text(await visitor.sees("log?kind=alias"))


@pytest.mark.parametrize(
    ("decision", "inside"), [("approved", {ADMIN}), ("dismissed", {ADMIN, "@ann:example.org"})]
)
async def test_what_a_group_no_longer_gives_is_decided_on_in_all_rooms_at_once(
    tmp_path: Path, decision: str, inside: set[str]
) -> None:
    """Those who were shown, in whatever room, and nobody else: who is held since waits."""
    opened = {"staff": ["!r1", "!r2"], "cooks": ["!r1", "!r3"]}
    async with visited(tmp_path, opened, **NONE_GO) as scene:
        for name in ("Team", "Board", "Kitchen"):
            scene.room(name)
        staff = await scene.group("Staff", "ann", externalId="staff")
        cooks = await scene.group("Cooks", "bob", externalId="cooks")
        await scene.settled()
        await emptied(scene, staff)
        await scene.shows("heldPairs", 2)
        visitor = await scene.visitor()
        links = re.findall(r'href="/console/(held/together[^"]+)"', await visitor.sees("held"))
        assert links[-1] == "held/together?group=Staff"
        [request] = re.findall(r"request=(\w+)$", links[0])
        page = await visitor.sees(links[0])
        assert "2 people would leave 2 rooms" in text(page)
        # Held since: no part of what was shown.
        await emptied(scene, cooks, displayName="Cooks", externalId="cooks")
        await scene.shows("heldPairs", 4)
        chosen = re.findall(r'name="chosen" value="([^"]+)"', page)
        assert [one.split()[0] for one in chosen] == ["!r1", "!r2"]
        form = [("csrf", re.findall(r'name="csrf" value="([^"]+)"', page)[0])]
        form += [("chosen", one) for one in chosen]
        form += [("decision", decision), ("request", request)]
        status, _, leads = await visitor.ask("POST", "held/together", *form)
        assert (status, leads) == (303, f"/console/held/together?request={request}")
        said = text(await visitor.sees(leads.removeprefix("/console/")))
        assert "Nothing of it is held any more" in said
        verdict = decision.capitalize()
        assert f"{verdict}: 2 people" in said
        assert (await visitor.ask("POST", "held/together", *form))[::2] == (303, leads)
        said = text(await visitor.sees(leads.removeprefix("/console/")))
        assert f"{verdict} already by @bot:example.org (" in said
        assert "): 2 people" in said
        assert "nothing was decided" not in said
        await scene.shows("heldPairs", 2)
        await scene.settled()
        assert {*scene.world.rooms.get("!r2").members("join")} == inside
        assert "@bob:example.org" in scene.world.rooms.get("!r1").members("join")


async def test_who_is_only_invited_is_not_said_to_be_in_the_room(tmp_path: Path) -> None:
    """What would be withdrawn is their invitation, whether some or all are only invited."""
    invited = {"staff": [{"room": "!r1", "mode": "invite"}]}
    async with visited(tmp_path, invited, **NONE_GO) as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann", "bob", externalId="staff")
        await scene.settled()
        await emptied(scene, group)
        await scene.shows("heldPairs", 2)
        visitor = await scene.visitor()
        assert "Nobody of them is in the room: their invitations would be withdrawn" in text(
            await visitor.sees("held")
        )
        scene.world.bring("!r1", "@ann:example.org")
        before = scene.database.clock.now()
        assert (await visitor.send("", "compare"))[0] == 303
        await scene.compared(before)
        assert "1 of them is not in the room" in text(await visitor.sees("held"))


async def test_the_account_in_question_stands_in_the_form_that_settles_it(tmp_path: Path) -> None:
    """Nobody has to copy what the page knows; whose it is they say themselves."""
    async with visited(tmp_path) as scene:
        scene.world.account(GUEST)
        await scene.group("Staff", "guest")
        await scene.shows("conflictingAccounts", 1)
        page = await (await scene.visitor()).sees("people/guest")
        assert f'name="account" required value="{GUEST}"' in page
