"""Rooms that the map has made: how they are made, and into which space they are put."""

from pathlib import Path
from typing import Any

import pytest

from scim_matrix.store import record, views
from tests.homeserver.deployment import Deployment, deployed
from tests.homeserver.rooms import CHILD, PARENT, Room

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
NEW, SPACE = "#new:s", "#space:s"


async def opened(
    deployment: Deployment, alias: str, *others: str, **template: Any
) -> list[dict[str, Any]]:
    """Have the map open a room to everybody, Ann among them; return what was sent to make any."""
    create = {"name": "New", **template}
    await deployment.put_map({"*": [*others, {"room": alias, "create": create}]})
    await deployment.scim("POST", "/Users", {"schemas": [f"{SCHEMA}User"], "userName": "ann"})
    await deployment.quiet()
    return [r.body for r in deployment.homeserver.requests if r.path[-1] == "createRoom"]


def made(deployment: Deployment) -> Room:
    """Return the room that was made, which Ann is in."""
    world = deployment.world
    room = world.rooms.get(world.rooms.aliases[NEW])
    assert room.membership("@ann:s") == "join"
    return room


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_room_is_made_as_the_map_says(tmp_path: Path, encrypted: bool) -> None:
    """Private, by its name and topic, encrypted where that is asked for; and that is recorded."""
    async with deployed(tmp_path) as deployment:
        [sent] = await opened(deployment, NEW, topic="News", encrypted=encrypted)
        said = (sent["room_alias_name"], sent["name"], sent["topic"], sent["preset"])
        assert said == ("new", "New", "News", "private_chat")
        kinds = [event["type"] for event in sent.get("initial_state", [])]
        assert kinds == (["m.room.encryption"] if encrypted else [])
        [entry] = await record.find(
            deployment.database.reader,
            users=None,
            rooms=(),
            since=0,
            limit=10,
            kind="create_room",
        )
        told = (entry["outcome"], entry["room_id"], entry["detail"])
        assert told == ("done", made(deployment).room_id, NEW)


async def test_no_room_is_made_for_an_alias_of_another_server(tmp_path: Path) -> None:
    """Nor one of the same name here, which nobody has asked for."""
    async with deployed(tmp_path) as deployment:
        assert await opened(deployment, "#new:elsewhere") == []
        [row] = await views.left_to_do(deployment.database.reader, 10)
        assert row["room"] == "#new:elsewhere"
        assert "only a room of this server can be created" in row["reason"]


@pytest.mark.parametrize("space", ["!space", SPACE])
async def test_a_room_is_put_into_the_space_that_the_map_names(tmp_path: Path, space: str) -> None:
    """By its ID, or by an alias that the map leads to a room by: whoever made that."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.room("@eve:s", room_id="!space", space=True)
        world.alias(SPACE, "!space", canonical=False)
        await deployment.put_map({"*": [SPACE]})
        await deployment.quiet()
        await opened(deployment, NEW, SPACE, space=space)
        new = made(deployment)
        assert room.content(CHILD, new.room_id) == {"via": ["s"]}
        assert new.content(PARENT, "!space") == {"via": ["s"]}


async def test_a_space_that_does_not_say_that_the_alias_is_its_own_is_not_meant(
    tmp_path: Path,
) -> None:
    """The room is made and opened all the same."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.room(world.service, room_id="!space", space=True)
        world.alias(SPACE, "!space", canonical=False)
        await opened(deployment, NEW, space=SPACE)
        assert room.content(CHILD, made(deployment).room_id) == {}
