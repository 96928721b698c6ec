"""Invitations that had no answer: whoever is to leave by then has none for good."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest

from tests.conftest import eventually
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import Deployment, deployed
from tests.homeserver.errors import MatrixError
from tests.service.test_live import (
    ROOM,
    becomes,
    comparisons,
    followed,
    in_group,
    kicks,
    person,
    put_members,
    say,
)

Asked = Literal["invite", "join"]


def invites(request: Request) -> bool:
    """Tell whether Ann is invited."""
    return request.path[-1] == "invite" and request.body["user_id"] == "@ann:s"


def joins(request: Request) -> bool:
    """Tell whether Ann is joined."""
    return "join" in request.path and request.body.get("user_id") == "@ann:s"


async def without(deployment: Deployment, mode: str) -> tuple[str, str]:
    """Have Bob in the room, and Ann in no group; return the group's path, and Ann's id."""
    world = deployment.world
    world.rooms.create(world.service, room_id=ROOM)
    group, [ann, _] = await in_group(deployment, "ann", "bob", mode=mode)
    for user_id in ("@ann:s", "@bob:s"):
        if world.rooms.get(ROOM).membership(user_id) != "join":
            say(world, user_id, user_id, "join")
    await deployment.quiet()
    await put_members(deployment, group, "remove", ann)
    await becomes(deployment, "@ann:s", "leave")
    return group, ann


async def invited_in_vain(deployment: Deployment, asked: Asked) -> tuple[str, str]:
    """Have Ann be granted the room, and be invited without an answer while the room is compared."""
    group, ann = await without(deployment, "invite" if asked == "invite" else "join")
    homeserver = deployment.homeserver
    if asked == "invite":
        # The second time it is done.
        homeserver.faults.append(Fault("unavailable", invites))
        homeserver.faults.append(Fault("answer lost", invites))
    else:

        def half(request: Request) -> None:
            if joins(request):
                homeserver.before = lambda request: None
                deployment.world.rooms.invite(ROOM, deployment.world.service, "@ann:s")
                raise MatrixError(500, "M_UNKNOWN", "Internal server error")

        homeserver.before = half
    await put_members(deployment, group, "add", ann)

    async def is_invited() -> bool:
        deployment.hands.passed += 0.1
        await deployment.settle()
        return deployment.world.rooms.get(ROOM).membership("@ann:s") == "invite"

    await eventually(is_invited, bool)
    return group, ann


async def by_the_provider(deployment: Deployment, group: str, ann: str) -> None:
    """The group goes."""
    await put_members(deployment, group, "remove", ann)


async def by_the_map(deployment: Deployment, group: str, ann: str) -> None:
    """The map forgets the group, which another one keeps in force, and a human prunes."""
    await deployment.put_map({"*": [{"room": "!other"}], "h": [{"room": ROOM}]})
    await deployment.quiet()
    assert await deployment.prune() > 0


@pytest.mark.parametrize("asked", ["invite", "join"])
@pytest.mark.parametrize("taken", [by_the_provider, by_the_map])
async def test_an_invitation_without_an_answer_is_withdrawn(
    tmp_path: Path, asked: Asked, taken: Callable[[Deployment, str, str], Awaitable[None]]
) -> None:
    """Though the room was compared before whoever has it was to leave."""
    async with deployed(tmp_path) as deployment:
        group, ann = await invited_in_vain(deployment, asked)
        await taken(deployment, group, ann)
        await deployment.settle(60.0)
        await deployment.quiet()
        assert deployment.world.rooms.get(ROOM).membership("@ann:s") == "leave"
        assert [user_id for user_id, _ in await kicks(deployment)].count("@ann:s") == 2


@pytest.mark.parametrize("heard", [True, False])
async def test_an_invitation_that_comes_late_is_withdrawn(tmp_path: Path, heard: bool) -> None:
    """Where it is heard at once, else by a comparison; after that nobody is asked for it."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        group, ann = await without(deployment, "invite")
        deployment.homeserver.faults.append(Fault("request lost", invites))
        await put_members(deployment, group, "add", ann)
        await deployment.settle()
        await put_members(deployment, group, "remove", ann)
        await deployment.settle(60.0)
        if not heard:
            await deployment.stop()
        world.rooms.invite(ROOM, world.service, "@ann:s")
        if not heard:
            await deployment.start()
            await followed(deployment)
        await becomes(deployment, "@ann:s", "leave")
        deployment.hands.passed += 1000.0
        await deployment.quiet()
        begun = len(deployment.homeserver.requests)
        await deployment.quiet()
        asked = [request.query.get("membership") for request in deployment.homeserver.requests]
        assert "invite" not in asked[begun:]


async def test_who_is_invited_and_granted_the_room_stays_so(tmp_path: Path) -> None:
    """The invitation that had no answer was done, and is no reason to remove anybody."""
    async with deployed(tmp_path) as deployment:
        await invited_in_vain(deployment, "invite")
        begun = len(await kicks(deployment))
        await deployment.settle(600.0)
        await deployment.quiet()
        assert deployment.world.rooms.get(ROOM).membership("@ann:s") == "invite"
        assert len(await kicks(deployment)) == begun


async def test_whom_a_human_invites_is_left_alone(tmp_path: Path) -> None:
    """They are out by then, and somebody else's join has no answer."""
    async with deployed(tmp_path) as deployment:
        group, _ = await without(deployment, "join")
        say(deployment.world, "@owner:s", "@ann:s", "invite")
        await deployment.quiet()
        deployment.homeserver.faults.append(
            Fault("unavailable", lambda request: "join" in request.path)
        )
        await put_members(deployment, group, "add", await person(deployment, "cat"))
        await deployment.settle(60.0)
        await deployment.quiet()
        room = deployment.world.rooms.get(ROOM)
        assert (room.membership("@cat:s"), room.membership("@ann:s")) == ("join", "invite")


async def test_whom_the_service_invites_by_hand_is_nobody_to_it(tmp_path: Path) -> None:
    """What sync tells then is taken in all the same."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id=ROOM)
        await in_group(deployment, "ann")
        begun = len(deployment.homeserver.requests)
        say(world, world.service, "@guest:s", "invite")
        say(world, "@owner:s", "@ann:s", "leave")
        await becomes(deployment, "@ann:s", "join")
        assert room.membership("@guest:s") == "invite"
        assert comparisons(deployment, begun) == 0


async def test_where_the_service_is_banned_nobody_else_is_taken_for_that(tmp_path: Path) -> None:
    """Whoever is granted the room comes into it once the ban has ended."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.account("@owner:s")
        levels = {"users": {world.service: 100, "@owner:s": 100}}
        world.rooms.create(world.service, room_id=ROOM, version="10", levels=levels)
        world.bring(ROOM, "@owner:s")
        group, [ann, _] = await in_group(deployment, "ann", "bob")
        await put_members(deployment, group, "remove", ann)
        await becomes(deployment, "@ann:s", "leave")
        say(world, "@owner:s", world.service, "ban")
        await deployment.settle()
        await put_members(deployment, group, "add", ann)
        await deployment.settle(60.0)
        [row] = await deployment.database.reader.execute_fetchall(
            "SELECT todo, problem, reason FROM membership WHERE todo IS NOT NULL"
        )
        assert (row["todo"], row["problem"]) == ("join", "refused")
        assert "the service's own account" in row["reason"]
        say(world, "@owner:s", world.service, "leave")
        await deployment.settle(7200.0)
        await becomes(deployment, "@ann:s", "join")
