"""Rooms are shown and asked for by their names, on a real Synapse."""

import json
from typing import Any

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    command,
    group_of,
    logged,
    on_a_terminal,
    ready,
    room_holds,
    settled,
    told,
)
from tests.synapse.steps import HOLD_ALL, compared


async def test_a_room_is_known_by_its_name_everywhere(
    admin: User, service: StartService, tag: str
) -> None:
    """Lists, the record and the log show it, and every command takes it in any case."""
    room = await admin.create_room(name=f"The Kitchen {tag}")
    async with service({"g": [room]}, **HOLD_ALL) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", name=f"{tag}cooks")
        await room_holds(admin, room, {f"{tag}ann"})
        await settled(idp)
        name = f"the kitchen {tag}"
        [mapped] = await told(process, "rooms")
        assert (mapped["name"], mapped["room_id"]) == (f"The Kitchen {tag}", room)
        [person] = await told(process, "rooms", name)
        assert person["membership"] == "join"
        [place] = await told(process, "users", "--match", f"{tag}*", "--rooms")
        assert place["name"] == f"The Kitchen {tag}"
        assert {e["kind"] for e in await logged(process, "--room", name)} == {"join"}
        assert f"room=The Kitchen {tag} " in (await command(process, "log", "--room", name))[1]
        assert f"The Kitchen {tag} {room}" in (await command(process, "groups"))[1]

        await idp.remove(group, people[f"{tag}ann"])
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 1)
        for words in (["status"], ["rooms"], ["users", "--rooms"], ["plan"], ["groups"]):
            shown = await on_a_terminal(process, *words)
            assert f"The Kitchen {tag}" in shown, shown
            assert any(room in line for line in shown.splitlines()), shown
            assert max(map(len, shown.splitlines())) <= 80, shown
        assert f"scim-matrix approve '{room}'" in await on_a_terminal(process, "status")
        lines = [json.loads(line) for line in (process.data_dir / "service.log").open()]
        assert {line["room"] for line in lines if line.get("room_id") == room} == {
            f"The Kitchen {tag}"
        }
        status, output = await command(process, "approve", name)
        assert (status, f"The Kitchen {tag} {room}" in output) == (0, True), output
        await room_holds(admin, room, set())


async def test_rooms_of_a_space_have_their_own_names(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Those that are followed and those that are not; a new name counts from the next comparison.

    A name that looks like another room's alias is none.
    """
    eve = await synapse.register(f"{tag}eve")
    space = await admin.create_room(
        name="Everything", room_alias_name=f"{tag}space", creation_content={"type": "m.space"}
    )
    alias = f"#{tag}space:{SERVER_NAME}"
    child = await admin.create_room(name=f"{tag}Crafts")
    other = await eve.create_room(name=f"{tag}Not for you")
    posing = await admin.create_room(name=alias)
    via = {"via": [SERVER_NAME]}

    async def put(by: User, room: str, event: str, content: dict[str, Any]) -> None:
        await by.call("PUT", f"/_matrix/client/v3/rooms/{room}/state/{event}", content)

    for room in (child, posing):
        await put(admin, space, f"m.space.child/{room}", via)
    # Somebody without a say in the room puts it there.
    mallory = await synapse.register(f"{tag}mallory")
    await admin.call("POST", f"/_synapse/admin/v1/join/{space}", {"user_id": mallory.user_id})
    await put(admin, space, "m.room.power_levels/", {"users": {mallory.user_id: 50}})
    await put(mallory, space, f"m.space.child/{other}", via)
    async with service({"g": [{"room": alias, "children": True}]}) as process:
        rows = await eventually(
            lambda: told(process, "rooms"),
            lambda found: sum(row["name"] is not None for row in found) == 3,
        )
        names = {row["room_id"]: (row["name"], row["standing"]) for row in rows}
        assert names == {
            space: (alias, "followed"),
            child: (f"{tag}Crafts", "followed"),
            other: (f"{tag}Not for you", "not_followed"),
            posing: (None, "followed"),
        }
        [listed] = [row for row in rows if row["room_id"] == child]
        assert listed["room"] == alias
        shown = await on_a_terminal(process, "rooms")
        assert f"{tag}Crafts" in shown
        assert max(map(len, shown.splitlines())) <= 80, shown
        assert (await command(process, "rooms", f"{tag}crafts"))[0] == 0

        await put(admin, posing, "m.room.name/", {"name": f"{tag}crafts"})
        await compared(process)
        status, output = await command(process, "rooms", f"{tag}CRAFTS")
        assert (status, "several rooms" in output) == (1, True), output
        assert f"'{child}'" in output
        assert f"'{posing}'" in output
