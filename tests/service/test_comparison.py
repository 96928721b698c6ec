"""Comparing many rooms at intervals: not all at once, and what is suspicious first."""

from pathlib import Path
from typing import Any

import pytest

from scim_matrix.store import references, totals
from tests.homeserver import Fault
from tests.homeserver.deployment import Configuration, Deployment, deployed
from tests.homeserver.rooms import LEVELS, MEMBER, Event

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
INTERVAL = 3600.0
ROOMS = 40


def compared(deployment: Deployment, since: int) -> list[str]:
    """Return the rooms whose members were read since so many requests, in order."""
    asked = deployment.homeserver.requests[since:]
    return [r.path[-2] for r in asked if r.path[-1] == "members"]


async def with_rooms(deployment: Deployment) -> list[str]:
    """Have rooms that the map opens, all compared, and return their IDs."""
    names = [f"!r{n:02}" for n in range(ROOMS)]
    for room_id in names:
        deployment.world.rooms.create(deployment.world.service, room_id=room_id)
    await deployment.put_map({"g": names})
    await deployment.quiet()
    return names


async def test_rooms_are_compared_over_the_interval(tmp_path: Path) -> None:
    """Each once, those of which something is wrong at once, with two requests for each."""
    async with deployed(tmp_path) as deployment:
        names = await with_rooms(deployment)
        last = names[-1]
        async with deployment.database.write() as connection:
            await connection.execute_fetchall(
                "UPDATE room SET unusable = 'it was' WHERE room_id = ?", (last,)
            )
        begun = len(deployment.homeserver.requests)
        deployment.hands.passed += 1.1 * INTERVAL
        await deployment.settle()
        assert sorted(compared(deployment, begun)) == [names[0], last]
        await deployment.settle(INTERVAL / 2)
        assert sorted(compared(deployment, begun)) == names
        asked = [r for r in deployment.homeserver.requests[begun:] if "rooms" in r.path]
        assert len(asked) <= 2 * ROOMS


async def test_whoever_asks_has_all_rooms_compared_at_once(tmp_path: Path) -> None:
    """By `scim-matrix sync`, or a change of the map."""
    async with deployed(tmp_path) as deployment:
        names = await with_rooms(deployment)
        begun = len(deployment.homeserver.requests)
        deployment.reconciler.compare()
        await deployment.settle()
        assert sorted(compared(deployment, begun)) == names


async def test_a_comparison_that_failed_is_made_again(tmp_path: Path) -> None:
    """Of that room, as soon as the homeserver has rested; who came and went meanwhile is seen."""
    async with deployed(tmp_path) as deployment:
        failing = (await with_rooms(deployment))[7]
        begun = len(deployment.homeserver.requests)
        fault = Fault("unavailable", lambda r: r.path[-2:] == (failing, "members"))
        deployment.homeserver.faults.append(fault)
        asked_at = deployment.database.clock.now()
        deployment.reconciler.compare()
        await deployment.settle(INTERVAL / 10)
        assert not deployment.homeserver.faults
        assert compared(deployment, begun).count(failing) == 2
        # All were compared when the last one was.
        assert await totals.when(deployment.database.reader, "compared") > asked_at


async def test_an_alias_costs_no_third_request(tmp_path: Path) -> None:
    """Where the service is in the room it hears of an upgrade, and need not ask for one."""
    async with deployed(tmp_path) as deployment:
        for n in range(ROOMS):
            deployment.world.rooms.create(deployment.world.service, room_id=f"!r{n:02}")
            deployment.world.alias(f"#r{n:02}:s", f"!r{n:02}")
        await deployment.put_map({"g": [f"#r{n:02}:s" for n in range(ROOMS)]})
        await deployment.quiet()
        await deployment.quiet()
        begun = len(deployment.homeserver.requests)
        deployment.hands.passed += 1.1 * INTERVAL
        await deployment.settle(INTERVAL / 2)
        assert len(compared(deployment, begun)) == ROOMS
        asked = [r.path for r in deployment.homeserver.requests[begun:]]
        assert len([p for p in asked if {"rooms", "directory"} & set(p)]) <= 2 * ROOMS


async def test_an_alias_that_moves_before_its_room_is_compared_is_followed(tmp_path: Path) -> None:
    """What it stood for when it was resolved is believed for one comparison and no longer."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        for room_id in ("!room", "!other"):
            world.rooms.create(world.service, room_id=room_id)
        world.alias("#room:s", "!room")
        deployment.homeserver.faults.append(Fault("unavailable", lambda r: "!room" in r.path))
        await deployment.put_map({"g": ["#room:s"]})
        await deployment.settle()
        assert not deployment.homeserver.faults
        world.alias("#room:s", "!other")
        await deployment.quiet()
        reference = await references.get(deployment.database.reader, "#room:s")
        assert reference is not None
        assert reference.room_id == "!other"


@pytest.mark.parametrize("respected", [True, False])
async def test_who_left_while_nobody_looked_has_left_by_choice(
    tmp_path: Path, respected: bool
) -> None:
    """Whoever was removed by somebody else has not, and comes back in any case."""
    respect = Configuration(on_self_leave="respect" if respected else "rejoin")
    async with deployed(tmp_path, configuration=respect) as deployment:
        world = deployment.world
        room = world.room(world.service, room_id="!r")
        await deployment.put_map({"*": ["!r"]})
        for name in ("ann", "bob"):
            body = {"schemas": [SCHEMA + "User"], "userName": name}
            assert (await deployment.scim("POST", "/Users", body))[0] == 201
        await deployment.quiet()
        await deployment.stop()
        world.rooms.leave("!r", "@ann:s")
        world.rooms.put(room, Event(MEMBER, "@bob:s", world.service, {"membership": "leave"}))
        await deployment.start()
        await deployment.quiet()
        assert room.membership("@bob:s") == "join"
        assert room.membership("@ann:s") == ("leave" if respected else "join")


async def test_a_room_that_the_service_is_not_in_is_taken_to_remove_somebody(
    tmp_path: Path,
) -> None:
    """Where it may not, since it is not there, nobody has as much power as it would have."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.room("@boss:s", room_id="!r")
        await deployment.put_map({"g": ["!r"]})
        body: dict[str, Any] = {"schemas": [SCHEMA + "User"], "userName": "ann"}
        _, ann = await deployment.scim("POST", "/Users", body)
        members = [{"value": ann["id"]}]
        body = {"displayName": "G", "externalId": "g", "members": members}
        await deployment.scim("POST", "/Groups", {"schemas": [SCHEMA + "Group"], **body})
        await deployment.quiet()
        assert room.membership("@ann:s") == "join"
        world.rooms.leave("!r", world.service)
        await deployment.quiet()
        await deployment.scim("DELETE", f"/Users/{ann['id']}")
        await deployment.settle()
        assert room.membership("@ann:s") == "leave"


async def test_what_was_refused_is_tried_again_once_its_room_is_compared(tmp_path: Path) -> None:
    """Whoever mends something and asks for a comparison need not wait for the next try."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        levels = {"users": {world.service: 50}}
        room = world.room(world.service, room_id="!r", version="10", levels=levels)
        await deployment.put_map({"*": [{"room": "!r", "powerLevel": 50}]})
        body = {"schemas": [SCHEMA + "User"], "userName": "ann"}
        await deployment.scim("POST", "/Users", body)
        await deployment.quiet()
        assert room.level("@ann:s") == 0
        higher = {"users": {world.service: 100}}
        world.rooms.put(room, Event(LEVELS, "", world.service, higher))
        await deployment.quiet(0.0)
        assert room.level("@ann:s") == 50
