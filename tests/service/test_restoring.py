"""A backup that was put back removes nobody by itself; what is said since goes on."""

from pathlib import Path
from typing import Any

import pytest

from tests.homeserver.deployment import Deployment, deployed
from tests.homeserver.rooms import Room

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
NAMES = ("ann", "bob", "cat")


async def made(deployment: Deployment, kind: str, **values: Any) -> str:
    """Make a resource and return its id."""
    body = {"schemas": [SCHEMA + kind], **values}
    status, answer = await deployment.scim("POST", f"/{kind}s", body)
    assert status == 201, answer
    return str(answer["id"])


async def put_back(deployment: Deployment) -> tuple[Room, str, dict[str, str]]:
    """Put a backup back in which the removals of Bob and Cat are pending."""
    world = deployment.world
    room = world.rooms.create(world.service, room_id="!r")
    await deployment.put_map({"ext-staff": ["!r"]})
    ids = {name: await made(deployment, "User", userName=name) for name in NAMES}
    members = [{"value": scim_id} for scim_id in ids.values()]
    staff = await made(
        deployment, "Group", displayName="staff", externalId="ext-staff", members=members
    )
    await deployment.quiet()
    remaining = [{"value": ids["ann"]}]
    await patched(deployment, staff, "replace", remaining)
    await deployment.copy("backup")
    await patched(deployment, staff, "add", members)
    await deployment.quiet()
    await deployment.restore("backup")
    await deployment.quiet()
    assert joined(room) == {"ann", "bob", "cat"}
    return room, staff, ids


async def patched(deployment: Deployment, group_id: str, op: str, members: Any) -> None:
    """Change a group's members."""
    operation = {"op": op, "path": "members", "value": members}
    body = {"schemas": [PATCH], "Operations": [operation]}
    status, answer = await deployment.scim("PATCH", f"/Groups/{group_id}", body)
    assert status == 204, answer


def joined(room: Room) -> set[str]:
    """Return who is in a room, the service aside."""
    names = {name: room.membership(f"@{name}:s") for name in NAMES}
    return {name for name, membership in names.items() if membership == "join"}


async def test_adding_somebody_says_nothing_of_others(tmp_path: Path) -> None:
    """Nor does a group's new name, nor a user who is still active."""
    async with deployed(tmp_path) as deployment:
        room, staff, ids = await put_back(deployment)
        await patched(deployment, staff, "add", [{"value": ids["ann"]}])
        renaming = {"op": "replace", "path": "displayName", "value": "Staff"}
        body = {"schemas": [PATCH], "Operations": [renaming]}
        assert (await deployment.scim("PATCH", f"/Groups/{staff}", body))[0] == 204
        user = {"schemas": [SCHEMA + "User"], "userName": "bob", "displayName": "Bob"}
        assert (await deployment.scim("PUT", f"/Users/{ids['bob']}", user))[0] == 200
        await deployment.quiet()
        assert joined(room) == {"ann", "bob", "cat"}


async def test_a_member_that_is_taken_again_goes(tmp_path: Path) -> None:
    """Though for this database they were taken already; nobody else goes with them."""
    async with deployed(tmp_path) as deployment:
        room, staff, ids = await put_back(deployment)
        await patched(deployment, staff, "remove", [{"value": ids["bob"]}])
        await deployment.quiet()
        assert joined(room) == {"ann", "cat"}


@pytest.mark.parametrize("way", ["replace", "put", "delete"])
async def test_a_group_that_is_sent_whole_is_believed(tmp_path: Path, way: str) -> None:
    """Whoever it does not name goes."""
    async with deployed(tmp_path) as deployment:
        room, staff, ids = await put_back(deployment)
        members = [{"value": ids["ann"]}, {"value": ids["cat"]}]
        if way == "replace":
            await patched(deployment, staff, "replace", members)
        elif way == "put":
            body = {
                "schemas": [SCHEMA + "Group"],
                "displayName": "staff",
                "externalId": "ext-staff",
                "members": members,
            }
            assert (await deployment.scim("PUT", f"/Groups/{staff}", body))[0] == 200
        else:
            assert (await deployment.scim("DELETE", f"/Groups/{staff}"))[0] == 204
        await deployment.quiet()
        assert joined(room) == (set() if way == "delete" else {"ann", "cat"})


async def test_a_user_who_is_deleted_goes(tmp_path: Path) -> None:
    """From every room, and is locked."""
    async with deployed(tmp_path) as deployment:
        room, _, ids = await put_back(deployment)
        assert (await deployment.scim("DELETE", f"/Users/{ids['bob']}"))[0] == 204
        await deployment.quiet()
        assert joined(room) == {"ann", "cat"}
        assert deployment.world.accounts.get("@bob:s").locked


async def test_some_of_it_can_be_approved(tmp_path: Path) -> None:
    """What was shown goes; the rest once the backup is confirmed as a whole."""
    async with deployed(tmp_path) as deployment:
        room, *_ = await put_back(deployment)
        assert await deployment.decide("!r", "approved") == 2
        await deployment.quiet()
        assert joined(room) == {"ann"}
