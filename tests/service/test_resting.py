"""Nothing is asked of a homeserver that is away, nor done where there is nothing to do."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from scim_matrix.store.sqlite import DATABASE_NAME
from tests.conftest import eventually
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import Deployment, deployed

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ROOMS = [f"!room{number}" for number in range(20)]
# So many requests at once, where nobody has said yet how fast the homeserver is.
IN_FLIGHT = 4


async def make(deployment: Deployment, kind: str, **attributes: Any) -> str:
    """Have a user or a group, and return its id."""
    body = {"schemas": [SCHEMA + kind], **attributes}
    status, made = await deployment.scim("POST", f"/{kind}s", body)
    assert status == 201
    return str(made["id"])


async def test_a_homeserver_that_is_away_is_not_asked_for_each_room(tmp_path: Path) -> None:
    """Once an answer says nothing, it is asked whether it is there before all else."""
    async with deployed(tmp_path) as deployment:
        for room_id in ROOMS:
            deployment.world.rooms.create(deployment.world.service, room_id=room_id)
        ann = await make(deployment, "User", userName="ann", externalId="ann")
        group = await make(deployment, "Group", displayName="G", externalId="g", members=[])
        await deployment.put_map({"g": ROOMS})
        await deployment.quiet()
        deployment.homeserver.dark = True
        begun = len(deployment.homeserver.requests)
        operation = {"op": "add", "path": "members", "value": [{"value": ann}]}
        body = {"schemas": [PATCH], "Operations": [operation]}
        assert (await deployment.scim("PATCH", f"/Groups/{group}", body))[0] == 204
        await deployment.settle(60.0)
        deployment.homeserver.dark = False
        asked = deployment.homeserver.requests[begun:]
        assert 0 < len([r for r in asked if "join" in r.path]) <= IN_FLIGHT


async def test_no_more_is_worked_on_at_once_than_the_homeserver_takes(tmp_path: Path) -> None:
    """Accounts, rooms to be looked at and rooms with work together, though each has enough."""
    async with deployed(tmp_path) as deployment:
        for room_id in ROOMS:
            deployment.world.rooms.create(deployment.world.service, room_id=room_id)
        members = [{"value": await make(deployment, "User", userName="ann", externalId="ann")}]
        group = {"displayName": "G", "externalId": "g"}
        await make(deployment, "Group", **group, members=members)
        await deployment.put_map({"g": ROOMS[:10], "h": ROOMS[10:]})
        await deployment.quiet()
        for number in range(10):
            await make(deployment, "User", userName=f"u{number}", externalId=f"u{number}")
        await make(deployment, "Group", displayName="H", externalId="h", members=members)
        deployment.reconciler.compare()
        working: list[int] = []
        deployment.homeserver.before = lambda request: working.append(deployment.reconciler.working)
        await deployment.settle()
        assert max(working) == IN_FLIGHT


async def test_a_room_that_cannot_be_compared_is_tried_again_after_a_rest(tmp_path: Path) -> None:
    """One that a homeserver has no answer about is not asked for without a pause."""
    async with deployed(tmp_path) as deployment:
        for room_id in ROOMS[:2]:
            deployment.world.rooms.create(deployment.world.service, room_id=room_id)
        await deployment.put_map({"g": ROOMS[:2]})
        await deployment.quiet()

        def is_about_it(request: Request) -> bool:
            return request.path[-2:] == (ROOMS[0], "members")

        deployment.homeserver.faults.append(Fault("unavailable", is_about_it, 5))
        begun = len(deployment.homeserver.requests)
        deployment.reconciler.compare()
        await deployment.settle()
        once = [r for r in deployment.homeserver.requests[begun:] if is_about_it(r)]
        assert len(once) == 1
        await deployment.settle(300.0)
        assert not deployment.homeserver.faults


async def test_what_failed_is_tried_again_once_it_has_rested(tmp_path: Path) -> None:
    """Seconds later, though nothing else happens."""
    async with deployed(tmp_path) as deployment:
        room = deployment.world.rooms.create(deployment.world.service, room_id=ROOMS[0])
        ann = await make(deployment, "User", userName="ann", externalId="ann")
        await deployment.put_map({"g": ROOMS[:1]})
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", lambda r: "join" in r.path))
        members = [{"value": ann}]
        await make(deployment, "Group", displayName="G", externalId="g", members=members)
        await deployment.settle(10.0)
        assert room.membership("@ann:s") == "join"


async def test_a_room_is_looked_for_again_as_soon_as_the_homeserver_lets_it_be(
    tmp_path: Path,
) -> None:
    """A burst of new rooms is rate limited for seconds; what is refused rests for minutes."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id=ROOMS[0])
        world.alias("#a:s", ROOMS[0])
        members = [{"value": await make(deployment, "User", userName="ann", externalId="ann")}]
        await make(deployment, "Group", displayName="G", externalId="g", members=members)
        await deployment.quiet()
        deployment.homeserver.faults.append(
            Fault("rate limited", lambda request: "#a:s" in request.path)
        )
        await deployment.put_map({"g": ["#a:s"]})
        await deployment.settle(10.0)
        assert room.membership("@ann:s") == "join"


async def test_who_has_nothing_to_do_does_nothing(tmp_path: Path) -> None:
    """It waits to be woken, or for the time at which something falls due."""
    async with deployed(tmp_path) as deployment:
        await make(deployment, "User", userName="ann", externalId="ann")
        await deployment.quiet()
        running = asyncio.create_task(deployment.reconciler.run())
        clock = deployment.database.clock
        asked: list[float] = []
        told = clock.monotonic

        def monotonic() -> float:
            asked.append(told())
            return asked[-1]

        clock.monotonic = monotonic
        await eventually(lambda: rounds(deployment, asked), lambda seen: seen == 0)
        deployment.reconciler.stop()
        await running


async def rounds(deployment: Deployment, asked: list[float]) -> int:
    """Return how often it was asked what time it is while some requests were answered."""
    before = len(asked)
    for _ in range(20):
        assert (await deployment.scim("GET", "/Users"))[0] == 200
    return len(asked) - before


async def test_what_the_database_refuses_is_no_fault_of_the_homeserver(tmp_path: Path) -> None:
    """It is told as what it is, and the homeserver is not asked whether it is well."""
    async with deployed(tmp_path) as deployment:
        await deployment.quiet()
        refusing = sqlite3.connect(tmp_path / DATABASE_NAME)
        refusing.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE OF user_id ON account"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        await make(deployment, "User", userName="ann", externalId="ann")
        begun = len(deployment.homeserver.requests)
        with capture_logs() as logs:
            await deployment.settle()
        refusing.execute("DROP TRIGGER refuse")
        refusing.close()
        events = [entry["event"] for entry in logs]
        assert "action_failed" in events
        assert "no_usable_answer" not in events
        asked = [request.path[-1] for request in deployment.homeserver.requests[begun:]]
        assert "server_version" not in asked
        await deployment.settle(60.0)
        assert "@ann:s" in deployment.world.accounts.all
