"""Who administers the homeserver is asked where somebody may have to be spared, and else not."""

from pathlib import Path

import pytest

from scim_matrix.store import record, views
from tests.homeserver.deployment import Deployment, deployed
from tests.homeserver.rooms import Room

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


async def with_group(deployment: Deployment, *names: str) -> tuple[Room, str, list[str]]:
    """Have people whose accounts are made, and a group of nobody that opens a room; return all."""
    room = deployment.world.rooms.create(deployment.world.service, room_id="!r")
    ids = []
    for name in names:
        user = {"schemas": [SCHEMA + "User"], "userName": name, "externalId": name}
        ids.append((await deployment.scim("POST", "/Users", user))[1]["id"])
    group = {"schemas": [SCHEMA + "Group"], "displayName": "staff", "externalId": "g"}
    _, made = await deployment.scim("POST", "/Groups", group)
    await deployment.put_map({"g": ["!r"]})
    await deployment.quiet()
    return room, f"/Groups/{made['id']}", ids


async def changed(deployment: Deployment, group: str, op: str, member: str) -> int:
    """Change who is in a group a minute later; return how often administrators were asked for."""
    deployment.hands.passed += 60.0
    begun = len(deployment.homeserver.requests)
    operation = {"op": op, "path": "members", "value": [{"value": member}]}
    body = {"schemas": [PATCH], "Operations": [operation]}
    assert (await deployment.scim("PATCH", group, body))[0] == 204
    await deployment.settle()
    asked = deployment.homeserver.requests[begun:]
    return len([request for request in asked if "admins" in request.query])


async def test_many_removals_ask_seldom_who_administers(tmp_path: Path) -> None:
    """No more often than turns begin at once: what was told is believed for seconds."""
    async with deployed(tmp_path) as deployment:
        _, group, [ann] = await with_group(deployment, "ann")
        rooms = [f"!r{number}" for number in range(12)]
        made = [
            deployment.world.rooms.create(deployment.world.service, room_id=room_id)
            for room_id in rooms
        ]
        await deployment.put_map({"g": rooms})
        await deployment.quiet()
        assert await changed(deployment, group, "add", ann) == 0
        assert 1 <= await changed(deployment, group, "remove", ann) <= 4
        assert {room.membership("@ann:s") for room in made} == {"leave"}


async def test_what_is_done_in_rooms_is_recorded_as_that(tmp_path: Path) -> None:
    """Who was joined, who was removed, and who would have been but for what protects them."""
    async with deployed(tmp_path) as deployment:
        _, group, [ann, bob] = await with_group(deployment, "ann", "bob")
        await deployment.restart(protected_users=("@bob:s",))
        for op in ("add", "remove"):
            for member in (ann, bob):
                await changed(deployment, group, op, member)
        told = await record.find(
            deployment.database.reader, users=None, rooms=["!r"], since=0, limit=10
        )
        assert [(row["user_id"], row["kind"], row["outcome"]) for row in told] == [
            ("@ann:s", "join", "done"),
            ("@bob:s", "join", "done"),
            ("@ann:s", "kick", "done"),
            ("@bob:s", "kick", "spared"),
        ]


async def test_joins_ask_nobody_who_administers(tmp_path: Path) -> None:
    """It is asked before somebody is removed."""
    async with deployed(tmp_path) as deployment:
        room, group, [ann, bob] = await with_group(deployment, "ann", "bob")
        assert await changed(deployment, group, "add", ann) == 0
        assert await changed(deployment, group, "add", bob) == 0
        assert [room.membership(user_id) for user_id in ("@ann:s", "@bob:s")] == ["join"] * 2
        assert await changed(deployment, group, "remove", ann) == 1
        assert room.membership("@ann:s") == "leave"


@pytest.mark.parametrize("why", ["is protected by PROTECTED_USERS", "administers the homeserver"])
async def test_nothing_is_changed_of_the_account_of_somebody_protected(
    tmp_path: Path, why: str
) -> None:
    """Neither their name nor whether they are locked; what would be done is shown, and kept."""
    async with deployed(tmp_path) as deployment:
        _, _, [ann] = await with_group(deployment, "ann")
        if "PROTECTED_USERS" in why:
            await deployment.restart(protected_users=("@ann:s",))
        else:
            deployment.world.account("@ann:s", admin=True)
        before = deployment.world.accounts.get("@ann:s").shown()
        for more in ({"displayName": "Ann Lee"}, {"active": False}):
            user = {"schemas": [SCHEMA + "User"], "userName": "ann", "externalId": "ann", **more}
            assert (await deployment.scim("PUT", f"/Users/{ann}", user))[0] == 200
            await deployment.settle()
            [shown] = await views.users(deployment.database.reader, "ann")
            assert shown["problem"] == f"@ann:s {why}", more
        assert deployment.world.accounts.get("@ann:s").shown() == before
