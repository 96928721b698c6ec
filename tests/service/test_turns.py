"""Turns in rooms while the identity provider goes on writing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from scim_matrix.store import record
from scim_matrix.sync.reconciler import TURN_SECONDS
from scim_matrix.sync.room_turn import TURN
from tests.conftest import eventually
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import Deployment, deployed

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
# So many rooms keep all busy that are worked on at once.
BUSY = 4


async def made(deployment: Deployment, kind: str, **attributes: Any) -> str:
    """Have a user or a group, and return its id."""
    body = {"schemas": [SCHEMA + kind], **attributes}
    status, answer = await deployment.scim("POST", f"/{kind}s", body)
    assert status == 201
    return str(answer["id"])


async def people(deployment: Deployment, number: int) -> list[dict[str, str]]:
    """Have people with accounts, and return them as members."""
    names = [f"u{n}" for n in range(number)]
    ids = [await made(deployment, "User", userName=name, externalId=name) for name in names]
    await deployment.quiet()
    return [{"value": scim_id} for scim_id in ids]


async def test_turns_go_on_while_something_is_written_all_the_time(tmp_path: Path) -> None:
    """As when a company is imported: its rooms do not wait for the end of that."""
    async with deployed(tmp_path) as deployment:
        room = deployment.world.rooms.create(deployment.world.service, room_id="!room")
        members = await people(deployment, 2 * TURN)
        await made(deployment, "Group", displayName="G", externalId="g", members=members)
        await deployment.put_map({"g": ["!room"]})

        async def write() -> None:
            while True:
                deployment.reconciler.wake()
                # So that there is a commit whenever anything else goes on.
                await asyncio.sleep(0)

        async def joined() -> int:
            return len([user for user in room.members() if user != deployment.world.service])

        tasks = [asyncio.create_task(write()), asyncio.create_task(deployment.settle())]
        try:
            await eventually(joined, lambda number: number == len(members))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_turn_ends_where_the_service_stops(tmp_path: Path) -> None:
    """What is under way is waited for; everything else is done after the next start."""
    async with deployed(tmp_path) as deployment:
        room = deployment.world.rooms.create(deployment.world.service, room_id="!room")
        members = await people(deployment, 5)
        await made(deployment, "Group", displayName="G", externalId="g", members=members)
        homeserver = deployment.homeserver
        homeserver.faults.append(Fault("slow", lambda request: "join" in request.path))
        await deployment.put_map({"g": ["!room"]})
        settling = asyncio.create_task(deployment.settle())
        await homeserver.hung.wait()
        deployment.reconciler.stop()
        settling.cancel()
        homeserver.given_up.set()
        await deployment.restart()
        assert len(room.members()) == 1 + 1
        await deployment.quiet()
        assert len(room.members()) == 1 + len(members)


async def test_a_turn_that_has_lasted_makes_way(tmp_path: Path) -> None:
    """What is committed meanwhile, and smaller, comes before the rest of it."""
    async with deployed(tmp_path) as deployment:
        rooms = [f"!room{number}" for number in range(BUSY)]
        for room_id in (*rooms, "!small"):
            deployment.world.rooms.create(deployment.world.service, room_id=room_id)
        members = await people(deployment, TURN)
        await deployment.put_map({"large": rooms, "small": ["!small"]})
        await deployment.quiet()
        await made(deployment, "Group", displayName="L", externalId="large", members=members)
        order: list[str] = []
        small = asyncio.Event()

        def is_done(request: Request) -> None:
            if "join" in request.path:
                order.append(request.path[-1])
                deployment.hands.passed += TURN_SECONDS
                small.set()

        deployment.homeserver.before = is_done
        settling = asyncio.create_task(deployment.settle())
        await small.wait()
        await made(deployment, "Group", displayName="S", externalId="small", members=members[:1])
        await settling
        assert order.index("!small") < len(order) / 2, order
        assert len(order) == BUSY * TURN + 1


@pytest.mark.parametrize("mode", ["join", "invite"])
async def test_whoever_cannot_be_removed_keeps_nobody_else_in(tmp_path: Path, mode: str) -> None:
    """Where the homeserver answers that removal with an error, whenever it is asked.

    It is asked less and less often, and nobody is said to be out who is in, or invited, still.
    """
    async with deployed(tmp_path) as deployment:
        room = deployment.world.rooms.create(deployment.world.service, room_id="!room")
        *members, last = await people(deployment, 4)
        paths = []
        for name, held in (("most", members), ("last", [last])):
            group = await made(deployment, "Group", displayName=name, externalId=name, members=held)
            paths.append(f"/Groups/{group}")
        await deployment.put_map({"most": ["!room"], "last": [{"room": "!room", "mode": mode}]})
        await deployment.quiet()

        def kicks_one(request: Request) -> bool:
            return request.path[-1] == "kick" and request.body["user_id"] == "@u3:s"

        async def removed() -> list[str]:
            found = await record.find(
                deployment.database.reader, users=None, rooms=(), since=0, limit=100
            )
            return sorted(row["user_id"] for row in found if row["kind"] == "kick")

        deployment.homeserver.faults.append(Fault("unavailable", kicks_one, times=1000))
        for path in paths:
            assert (await deployment.scim("DELETE", path))[0] == 204
        await deployment.settle(600.0)
        assert [user for user in room.members() if user != "@u3:s"] == ["@bot:s"]
        assert room.membership("@u3:s") == mode
        assert await removed() == ["@u0:s", "@u1:s", "@u2:s"]
        asked = [request for request in deployment.homeserver.requests if kicks_one(request)]
        assert 10 < len(asked) < 100
        deployment.homeserver.faults.clear()
        await deployment.settle(60.0)
        assert room.membership("@u3:s") == "leave"
        assert await removed() == ["@u0:s", "@u1:s", "@u2:s", "@u3:s"]
