"""What rooms are called, and that it costs nothing to know."""

import asyncio
from collections import Counter
from pathlib import Path

from scim_matrix.groupmap import Mapping
from scim_matrix.store import groupmap, references, rooms
from scim_matrix.store.database import Database
from scim_matrix.sync import room_names
from tests.homeserver.deployment import deployed
from tests.homeserver.rooms import NAME


async def test_only_news_is_written(database: Database) -> None:
    """A comparison that finds what is known already does not wait for the writer."""
    seen = {"!a": ("General", "#general:s"), "!b": (None, None)}
    await room_names.record(database, seen)
    assert await rooms.names(database.reader) == {"!a": "General"}
    async with database.write(), asyncio.timeout(5):
        await room_names.record(database, seen)
    await room_names.record(database, {"!a": (None, "#general:s")})
    assert await rooms.names(database.reader) == {"!a": "#general:s"}


async def test_the_maps_alias_goes_before_what_a_room_says(database: Database) -> None:
    """The administrator chose it; a room that is mapped by its ID is called as it says itself."""
    async with database.write() as connection:
        await groupmap.put(
            connection, [Mapping("everyone", "", "#board:s"), Mapping("everyone", "", "!lobby")]
        )
        await references.pin(connection, "#board:s", "!board")
        await rooms.record_own_names(
            connection, [("!board", ("Fun", None)), ("!lobby", ("Lobby", "#l:s"))]
        )
    assert await rooms.names(database.reader) == {"!board": "#board:s", "!lobby": "Lobby"}
    assert await rooms.name(database.reader, "!board") == "#board:s"
    assert await rooms.name(database.reader, "!unknown") == "!unknown"


async def test_names_are_found_where_nothing_else_is_meant(database: Database) -> None:
    """An alias of the map and an ID mean what they say, whatever some room calls itself."""
    async with database.write() as connection:
        await groupmap.put(connection, [Mapping("everyone", "", "#board:s")])
        await references.pin(connection, "#board:s", "!board")
        await rooms.record_own_names(
            connection,
            [
                ("!eve", ("General", "#board:s")),
                ("!old", ("Lobby", None)),
                ("!new", ("Lobby", None)),
            ],
        )
        await rooms.upgraded(connection, "!old", "!new")
    reader = database.reader
    assert await rooms.named(reader, "#board:s") == ["!board"]
    assert await rooms.named(reader, "!old") == ["!old", "!new"]
    assert await rooms.named(reader, "General") == []
    assert await rooms.with_own_name(reader, "gENERAL") == ["!eve"]
    assert await rooms.with_own_name(reader, "lobby") == ["!new"]
    assert await rooms.with_own_name(reader, "nothing") == []


async def test_a_name_costs_no_request(tmp_path: Path) -> None:
    """What is asked of a room when it is compared is what was asked before rooms had names."""
    async with deployed(tmp_path) as deployment:
        room = deployment.world.room("@admin:s").room_id
        deployment.world.rooms.send(room, "@admin:s", NAME, "", {"name": "Kitchen"})
        await deployment.put_map({"g": [room]})
        await deployment.quiet()
        assert await rooms.names(deployment.database.reader) == {room: "Kitchen"}
        requests = deployment.homeserver.requests
        asked = Counter(r.path[r.path.index(room) + 1 :] for r in requests if room in r.path)
        assert set(asked) <= {(), ("members",), ("state",)}
        assert NAME not in {r.query.get("type", NAME) for r in requests if "state" in r.path}
        assert asked[()] == asked["members",]
