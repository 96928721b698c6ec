"""People, rooms, groups and what was done are found by what they are called, and all of them."""

import asyncio
import csv
import io
import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from scim_matrix.console import log
from scim_matrix.store import console as store
from scim_matrix.store import record
from scim_matrix.store.record import Entry
from tests.service.client import call, made
from tests.service.visiting import Scene, visited

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")


def text(page: str) -> str:
    """Return what of a page is read."""
    return " ".join(unescape(re.sub("<[^>]+>", "", page)).split())


async def on_record(scene: Scene, *entries: Entry) -> None:
    """Have things done."""
    async with scene.writing() as connection:
        await record.add(connection, *entries)


@pytest.mark.parametrize(
    "names",
    [
        {"displayName": "Nora Nodisplay-Smith"},
        {"name": {"formatted": "Nora Nodisplay-Smith"}},
        {"name": {"givenName": "Nora", "familyName": "Nodisplay-Smith"}},
    ],
)
async def test_people_are_found_by_their_names(tmp_path: Path, names: dict[str, Any]) -> None:
    """Whatever attribute these came in, in any order and with any blanks, or by an ID exactly."""
    async with visited(tmp_path) as scene:
        user = await made(scene.client, "Users", userName="n1", externalId="E-1", **names)
        await made(scene.client, "Users", userName="other", displayName="Noah Other")
        visitor = await scene.visitor()
        for words in ("nora", "SMITH", "smith nora", "Nora  nodis", "n1", "E-1", user["id"]):
            page = text(await visitor.sees(f"people?q={quote(words)}"))
            assert "@n1:example.org" in page, words
            assert "@other:example.org" not in page, words
        assert "Nobody has" in text(await visitor.sees("people?q=nora+other"))


async def test_rooms_are_found_by_whatever_they_are_called(tmp_path: Path) -> None:
    """Their own name though the map has an alias, a part of it or of an ID, in any case."""
    async with visited(tmp_path, {"staff": ["#general:example.org"]}) as scene:
        room = scene.room("Town Square")
        scene.world.alias("#general:example.org", room)
        await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        visitor = await scene.visitor()
        for words in ("town", "SQUARE", "#GENERAL:example.org", "general", room, room[:3].upper()):
            listed = text(await visitor.sees(f"rooms?q={quote(words)}"))
            assert f"#general:example.org{room}" in listed, words
            found = text(await visitor.sees(f"log?kind=join&room={quote(words)}"))
            assert "@ann:example.org" in found, words
        assert "No such room" in await visitor.sees("rooms?q=nowhere")


async def test_groups_are_found_in_the_log_by_a_part_of_their_names(tmp_path: Path) -> None:
    """Of those that they had as well; what nothing is known by is said."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        body = {"displayName": "Crew", "externalId": "staff", "members": []}
        assert (await call(scene.client, "PUT", f"/Groups/{group}", body))[0] == 200
        visitor = await scene.visitor()
        for words in ("Staff", "staf", "CRE", "crew", group):
            found = text(await visitor.sees(f"log?kind=join&group={words}"))
            assert "@ann:example.org" in found, words
        for what in ("user", "room", "group"):
            said = text(await visitor.sees(f"log?{what}=nowhere"))
            called = "person" if what == "user" else what
            assert f"No {called} is known by “nowhere”." in said
            assert "Nothing was recorded that fits" in said
        await on_record(scene, Entry("kick", "done", "@gone:example.org", "!gone", "Gone"))
        for query in ("user=@gone:example.org", "room=!gone", "group=Gone"):
            assert "@gone:example.org" in text(await visitor.sees(f"log?{query}")), query


async def test_all_who_fit_a_filter_of_the_log_are_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many: on its pages and in the CSV; where they are too many it is said."""
    async with visited(tmp_path) as scene:
        names = [f"bulk{number}" for number in range(105)]
        await asyncio.gather(*(made(scene.client, "Users", userName=name) for name in names))
        await on_record(
            scene, *(Entry("kick", "done", f"@{name}:example.org", "!r1") for name in names)
        )
        visitor = await scene.visitor()
        assert ">Older</a>" in await visitor.sees("log?user=bulk&kind=kick")
        monkeypatch.setattr(log, "CHUNK", 10)
        sheet = await visitor.sees("log?user=bulk&kind=kick&export=csv")
        rows = [row["user_id"] for row in csv.DictReader(io.StringIO(sheet))]
        assert rows == [f"'@{name}:example.org" for name in names[::-1]]
        assert "More than" not in await visitor.sees("log?user=bulk")
        monkeypatch.setattr(log, "PEOPLE", 100)
        assert "More than 100 people have “bulk” in what they are known by" in text(
            await visitor.sees("log?user=bulk")
        )


async def test_people_of_a_room_are_found_and_told_by_name(tmp_path: Path) -> None:
    """Whoever is there by hand as well, and by any part of their ID in any case."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        room = scene.room("Team")
        for name in ("u8f3", "u9a1"):
            await made(scene.client, "Users", userName=name, displayName=f"Person {name[1:]}")
        await scene.settled()
        scene.world.bring(room, "@u9a1:example.org")
        [user] = (await call(scene.client, "GET", "/Users?filter=userName%20eq%20%22u8f3%22"))[1][
            "Resources"
        ]
        members = [{"value": user["id"]}]
        await made(scene.client, "Groups", displayName="Staff", externalId="staff", members=members)
        await scene.settled()
        visitor, before = await scene.visitor(), scene.database.clock.now()
        assert (await visitor.send("", "compare"))[0] == 303
        await scene.compared(before)
        for words, expected in (("PERSON 8", "8f3"), ("@U9A1", "9a1"), ("person 9a1", "9a1")):
            page = text(await visitor.sees(f"rooms/{room}?q={quote(words)}"))
            people = re.findall(r"Person (\w+)@u\1:", page.partition("Who is in it")[2])
            assert people == [expected], words
        assert "Nobody here has" in await visitor.sees(f"rooms/{room}?q=nobody")


@pytest.mark.parametrize("most", [1000, 0])
async def test_a_groups_members_are_all_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """By name, of very many in any order, page by page; and found by a part of their name."""
    monkeypatch.setattr(store, "SORTED", most)
    async with visited(tmp_path) as scene:
        names = [f"u{number:03}" for number in range(103)]
        inner = await made(scene.client, "Groups", displayName="U-Boats", members=[])
        users = await asyncio.gather(
            *(made(scene.client, "Users", userName=n, displayName=n.upper()) for n in names)
        )
        members = [{"value": one["id"]} for one in [*users, inner]] + [{"value": "nobody-yet"}]
        group = (await made(scene.client, "Groups", displayName="All", members=members))["id"]
        visitor, shown = await scene.visitor(), []
        for part in ("", "?from=100"):
            page = (await visitor.sees(f"groups/{group}{part}")).partition("Members (105)")[2]
            shown += re.findall(r"(U\d+|U-Boats|nobody-yet)</(?:a|bdi)>", page)
        expected = ["U-Boats", *(name.upper() for name in names), "nobody-yet"]
        assert sorted(shown) == sorted(expected)
        assert (shown == expected) == bool(most)
        for words, found in (("u10", {"U100", "U101", "U102"}), ("BOAT", {"U-Boats"})):
            page = (await visitor.sees(f"groups/{group}?q={words}")).partition("Members (105)")[2]
            assert {*re.findall(r">(U\d+|U-Boats)</a>", page)} == found, words
        assert "Nobody in this group has" in await visitor.sees(f"groups/{group}?q=nowhere")
