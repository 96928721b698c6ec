"""What the console says of a mapping before it is kept, and as it is kept."""

import asyncio
import re
from html import unescape
from pathlib import Path

import pytest

from scim_matrix.console import access
from tests.homeserver import Fault
from tests.service.test_cli import run
from tests.service.test_console_causes import VARIABLES
from tests.service.visiting import ADMIN, Scene, Visitor, visited

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")

BOSS = "@boss:example.org"


def text(page: str) -> str:
    """Return what of a page is read."""
    return " ".join(unescape(re.sub("<[^>]+>", "", page)).split())


async def told(visitor: Visitor, group: str, **form: str) -> str:
    """Return what a preview says."""
    _, page, _ = await visitor.send(f"groups/{group}", f"groups/{group}/preview", **form)
    return text(page).partition("What would happen? Open this room")[2]


def people(scene: Scene, room: str, *names: str) -> None:
    """Bring people into a room by hand."""
    for name in names:
        user_id = f"@{name}:example.org"
        if user_id != ADMIN:
            scene.world.account(user_id)
        scene.world.bring(room, user_id)


async def test_only_those_who_would_leave_a_closed_room_are_counted(tmp_path: Path) -> None:
    """Neither whom another group gives it, nor protected people, nor whom a human let stay."""
    protected = {"PROTECTED_USERS": "@vip:*"}
    async with visited(tmp_path, {"cooks": ["!r1"]}, **protected) as scene:
        room = scene.room("Team")
        people(scene, room, "guest", "vip", "ina")
        scene.world.account("@root:example.org", admin=True)
        scene.world.bring(room, "@root:example.org")
        # Whose account this is nobody knows: ina's user is in conflict with it.
        await scene.group("Others", "ina")
        await scene.group("Cooks", "cat", externalId="cooks")
        await scene.shows("conflictingAccounts", 1)
        await scene.settled()
        group = await scene.group("Staff", "ann")
        await scene.settled()
        said = await told(await scene.visitor(), group, room=room, exclusive="on")
        assert "1 other person there would have to leave" in said


async def test_a_manager_is_told_only_of_those_whom_they_could_remove(tmp_path: Path) -> None:
    """Whoever has as much power in the room stays, and is not counted."""
    async with visited(tmp_path, CONSOLE_MANAGERS=BOSS) as scene:
        scene.world.account(BOSS)
        room = scene.room("Team", creator=BOSS, version="10")
        people(scene, room, "guest", "chief", "bot")
        scene.world.levels(room, **{"boss": 60, "chief": 60, "bot": 100})
        admin, boss = await scene.visitor(), await scene.visitor("boss")
        group = await scene.group("Staff", "ann")
        await scene.settled()
        form = {"room": room, "exclusive": "on"}
        # A group is only counted for whom it opens a room already.
        assert (await boss.send(f"groups/{group}", f"groups/{group}/mappings", room=room))[0] == 303
        await scene.settled()
        # The guest and the manager, who is in none of the groups; the administrator sees the chief.
        assert "2 other people there would" in await told(boss, group, **form)
        assert "3 other people there would" in await told(admin, group, **form)


async def test_whom_only_a_suspended_mapping_keeps_is_said_to_stay(tmp_path: Path) -> None:
    """On every page and by `why`: not that the map lost them, nor what would take them out."""
    async with visited(tmp_path, CONSOLE_MANAGERS=BOSS) as scene:
        scene.world.account(BOSS)
        room = scene.room("Team", creator=BOSS, version="10")
        people(scene, room, "guest", "bot")
        scene.world.levels(room, boss=60, bot=100)
        admin, boss = await scene.visitor(), await scene.visitor("boss")
        group = await scene.group("Staff", "ann", "bob")
        await scene.settled()
        assert (await boss.send(f"groups/{group}", f"groups/{group}/mappings", room=room))[0] == 303
        await scene.settled()
        scene.world.levels(room, boss=0, bot=100)
        before = scene.database.clock.now()
        assert (await admin.send("", "compare"))[0] == 303
        await scene.compared(before)
        told = "there, left alone: Staff ("
        why = f"gave it, but the mapping is suspended: {BOSS} has power level 0 in the room"
        person = text(await admin.sees("people/@ann:example.org"))
        command = await asyncio.to_thread(run, "why", "ann", cwd=tmp_path, **VARIABLES)
        for story in (person, " ".join(command.stdout.split())):
            assert told in story
            assert why in story
            assert "Nobody is removed for that." in story
            assert "--prune" not in story
        page = text(await admin.sees(f"rooms/{room}"))
        assert "2 people left alone: their mapping is suspended" in page
        assert page.count("a group, whose mapping is suspended") == 2
        # The guest and the manager.
        assert page.count("in itby hand") == 2


@pytest.mark.parametrize(
    ("version", "levels", "power", "why"),
    [
        ("10", {"bot": 100}, "100", "power level 100 is not below the service's own, 100"),
        ("10", {"bot": 100}, "99", None),
        # The service may take as much as a local user has.
        ("10", {"bot": 0, "boss": 60}, "60", "power level 60 is not below the service's own, 60"),
        ("10", {"bot": 0, "boss": 60}, "50", None),
        ("10", {"bot": 0, "boss": 40}, "10", "changing power levels takes 50 in the room, and"),
    ],
)
async def test_a_power_level_that_cannot_be_given_is_told_with_the_reason(
    tmp_path: Path, version: str, levels: dict[str, int], power: str, why: str | None
) -> None:
    """Before the mapping is kept and as it is; then the group, the room and its row say so."""
    async with visited(tmp_path) as scene:
        scene.world.account(BOSS)
        room = scene.room("Team", creator=BOSS, version=version)
        people(scene, room, "bot")
        scene.world.levels(room, **levels)
        group = await scene.group("Staff", "ann")
        await scene.settled()
        visitor, page = await scene.visitor(), f"groups/{group}"
        form = {"room": room, "power": power}
        asked = await told(visitor, group, **form)
        assert (f"Power level {power} cannot be given" in asked) == (why is not None)
        assert (f"would get power level {power};" in asked) == (why is None)
        assert (await visitor.send(page, f"{page}/mappings", **form))[0] == 303
        kept = text(await visitor.sees(page))
        assert (f"Power level {power} cannot be given there: {why}" in kept) == (why is not None)
        await scene.shows("failingPairs", int(why is not None))


async def test_a_room_whose_power_level_is_refused_is_not_said_to_be_fine(tmp_path: Path) -> None:
    """The group's page and story, the list of rooms and the room's story say who goes without."""
    async with visited(
        tmp_path, {"staff": [{"room": "!r1:example.org", "powerLevel": 100}]}
    ) as scene:
        scene.room("Team", version="10")
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.shows("failingPairs", 1)
        visitor = await scene.visitor()
        why = "power level 100 is not below the service's own, 100"
        page = text(await visitor.sees(f"groups/{group}"))
        assert f"power level 100 not given to 1: {why}" in page
        assert f"1 person without the power level: {why}." in page
        story = text(await visitor.sees("rooms/!r1:example.org"))
        assert f"without their power level: {why}." in story
        for path in ("rooms", "rooms?show=with+a+problem"):
            assert "1 without their power level" in text(await visitor.sees(path)), path
        assert "in line" not in text(await visitor.sees("rooms"))


async def test_an_alias_of_a_server_that_is_away_is_told_in_the_form(tmp_path: Path) -> None:
    """Which server does not answer, and what else the room may be called; not that all is away."""
    async with visited(tmp_path) as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann")
        await scene.settled()
        visitor, page = await scene.visitor(), f"groups/{group}"
        for path in ("preview", "mappings"):
            scene.homeserver.faults.append(
                Fault("unavailable", lambda request: "#team:away.example" in request.path)
            )
            asked = {"room": "#team:away.example"}
            status, answer, _ = await visitor.send(page, f"{page}/{path}", **asked)
            assert status == 400
            said = "away.example does not answer, so it is not known which room #team:away.example"
            assert said in text(answer)
            assert 'value="#team:away.example"' in answer
        scene.homeserver.faults.append(
            Fault("unavailable", lambda request: "directory" in request.path)
        )
        asked = {"room": "#team:example.org"}
        assert (await visitor.send(page, f"{page}/mappings", **asked))[0] == 503


async def test_a_room_is_mapped_by_the_name_that_it_is_known_by(tmp_path: Path) -> None:
    """One of that name is meant, of several none; and what nobody is called is said to be so."""
    async with visited(tmp_path, {"staff": ["!r1", "!r2", "!r3"]}) as scene:
        for name in ("Team", "Board", "Board"):
            scene.room(name)
        await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        group = await scene.group("Cooks", "bob")
        visitor, page = await scene.visitor(), f"groups/{group}"
        for name, says in (
            ("Board", "Several rooms are called “Board”. Say which by its ID: !r2, !r3."),
            ("Kitchen", "No room that this service knows is called “Kitchen”. Write its address"),
        ):
            status, answer, _ = await visitor.send(page, f"{page}/mappings", room=name)
            assert (status, says in text(answer)) == (400, True)
        assert "This would add 1 person to Team (!r1); 0" in await told(visitor, group, room="team")
        assert (await visitor.send(page, f"{page}/mappings", room="team"))[0] == 303
        shown = text(await visitor.sees(page))
        assert "Kept: whoever is active in Cooks is brought into Team (!r1) from now on" in shown
        assert "No line of the map" not in shown


async def test_a_manager_names_rooms_of_their_own_only(tmp_path: Path) -> None:
    """A name that only a room of others has is one that nobody is called by."""
    async with visited(
        tmp_path, {"staff": ["!r1", "!r2:example.org"]}, CONSOLE_MANAGERS=BOSS
    ) as scene:
        scene.world.account(BOSS)
        scene.room("Team")
        own = scene.room("Team", creator=BOSS, version="10")
        scene.room("Secret")
        await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        visitor = await scene.visitor("boss")
        group = await scene.group("Cooks", "bob")
        page = f"groups/{group}"
        for name, status in (("Secret", 400), ("Team", 303)):
            found, answer, _ = await visitor.send(page, f"{page}/mappings", room=name)
            assert found == status, answer
        assert own in text(await visitor.sees(page))


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (
            {"power": "101"},
            "The power level must be from 0 (as everybody) to 100 (administrator); 50 is a",
        ),
        ({"power": "-1"}, "The power level must be from 0 (as everybody) to 100"),
        ({"power": "much"}, "The power level must be a whole number from 0 to 100."),
        ({"room": "!a b"}, "The room is not a room alias (#name:server) or room ID"),
        ({"room": ""}, "The room is not a room alias (#name:server) or room ID"),
    ],
)
async def test_what_is_wrong_with_a_form_is_said_in_words(
    tmp_path: Path, form: dict[str, str], says: str
) -> None:
    """Which field, and what would be right."""
    async with visited(tmp_path) as scene:
        room = scene.room("Team")
        group = await scene.group("Staff", "ann")
        visitor, page = await scene.visitor(), f"groups/{group}"
        for path in ("preview", "mappings"):
            status, answer, _ = await visitor.send(page, f"{page}/{path}", **{"room": room, **form})
            assert (status, says in text(answer)) == (400, True), answer


async def test_a_preview_asks_for_the_rooms_of_a_space_once(tmp_path: Path) -> None:
    """Whether a manager may open them and whom they hold is told from one answer."""
    async with visited(tmp_path, CONSOLE_MANAGERS=BOSS) as scene:
        scene.world.account(BOSS)
        space = scene.room("House", creator=BOSS, version="10", space=True)
        below = scene.room("Kitchen", creator=BOSS, version="10")
        scene.world.child(space, BOSS, below)
        group = await scene.group("Staff", "ann")
        visitor, page = await scene.visitor("boss"), f"groups/{group}"
        assert (await visitor.send(page, f"{page}/mappings", room=space))[0] == 303
        await scene.settled()
        before = len(scene.homeserver.requests)
        said = await told(visitor, group, room=space, children="on")
        assert "to Kitchen" in said or below in said
        asked = [r for r in scene.homeserver.requests[before:] if "hierarchy" in r.path]
        assert len(asked) == 1


async def test_a_managers_group_asks_for_each_room_once_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often its page is looked at; who is in the group is told by what is so by then."""
    rooms = [f"!r{number}" for number in range(1, 8)]
    async with visited(tmp_path, {"staff": rooms}, CONSOLE_MANAGERS=BOSS) as scene:
        scene.world.account(BOSS)
        for name in rooms:
            room = scene.room(name[1:], version="12")
            scene.world.bring(room, BOSS)
            scene.world.levels(room, boss=60)
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        boss = await scene.visitor("boss")
        monkeypatch.setattr(access, "KEEP", 0.0)

        async def asked_for() -> set[str]:
            del scene.homeserver.requests[:]
            assert "Members (1)" in await boss.sees(f"groups/{group}")
            paths = [one.path for one in scene.homeserver.requests if "state" in one.path]
            return {room for room in rooms for path in paths if room in path}

        assert await asked_for() == {*rooms}
        assert await asked_for() == {rooms[0]}
        scene.world.levels(rooms[0], boss=0)
        assert "Members" not in await boss.sees(f"groups/{group}")
