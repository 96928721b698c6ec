"""A backup that was put back removes nobody by itself; what is said since goes on."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from scim_matrix.console.sessions import Sessions
from scim_matrix.store import backup, brake
from scim_matrix.store.database import Database
from scim_matrix.store.sqlite import DATABASE_NAME
from scim_matrix.sync.copies import RENEW_EVERY
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


@pytest.mark.parametrize("way", ["PUT", "PATCH"])
async def test_a_user_who_is_disabled_again_is_locked(tmp_path: Path, way: str) -> None:
    """Though for this database they were disabled already."""
    async with deployed(tmp_path) as deployment:
        bob = await made(deployment, "User", userName="bob")

        async def becomes(active: bool, method: str = "PUT") -> None:
            body = {"schemas": [SCHEMA + "User"], "userName": "bob", "active": active}
            if method == "PATCH":
                operation = {"op": "replace", "path": "active", "value": active}
                body = {"schemas": [PATCH], "Operations": [operation]}
            assert (await deployment.scim(method, f"/Users/{bob}", body))[0] == 200

        await deployment.quiet()
        await becomes(False)
        await deployment.copy("backup")
        await becomes(True)
        await deployment.quiet()
        await deployment.restore("backup")
        await deployment.quiet()
        assert not deployment.world.accounts.get("@bob:s").locked
        await becomes(False, way)
        await deployment.quiet()
        assert deployment.world.accounts.get("@bob:s").locked


async def test_some_of_it_can_be_approved(tmp_path: Path) -> None:
    """What was shown goes; the rest once the backup is confirmed as a whole."""
    async with deployed(tmp_path) as deployment:
        room, *_ = await put_back(deployment)
        assert await deployment.decide("!r", "approved") == 2
        await deployment.quiet()
        assert joined(room) == {"ann"}


async def staffed(deployment: Deployment) -> tuple[Room, str, list[dict[str, str]]]:
    """Have a group whose members are in its room."""
    room = deployment.world.rooms.create(deployment.world.service, room_id="!r")
    await deployment.put_map({"ext-staff": ["!r"]})
    members = [{"value": await made(deployment, "User", userName=name)} for name in NAMES]
    staff = await made(
        deployment, "Group", displayName="staff", externalId="ext-staff", members=members
    )
    await deployment.quiet()
    return room, staff, members


async def test_a_file_put_back_is_told_though_the_service_was_killed(tmp_path: Path) -> None:
    """From the first change on that came some minutes after the last."""
    async with deployed(tmp_path) as deployment:
        room, staff, members = await staffed(deployment)
        await patched(deployment, staff, "replace", members[:1])
        await deployment.copy("copy")
        deployment.hands.passed += RENEW_EVERY
        await patched(deployment, staff, "replace", members)
        await deployment.settle()
        await deployment.kill()
        await deployment.put_file_back("copy")
        await deployment.quiet()
        assert joined(room) == {"ann", "bob", "cat"}
        assert await brake.is_restored(deployment.database.reader)


async def test_the_number_is_counted_up_where_something_changed(tmp_path: Path) -> None:
    """Once within minutes, and not while nothing changes."""
    async with deployed(tmp_path) as deployment:
        _, staff, members = await staffed(deployment)

        async def counted(*remaining: dict[str, str]) -> int:
            before = await brake.generation(deployment.database.reader)
            if remaining:
                await patched(deployment, staff, "replace", list(remaining))
            await deployment.settle()
            after = await brake.generation(deployment.database.reader)
            assert before[1] is not None
            assert after[1] is not None
            assert await deployment.reconciler._homeserver.installation() == after
            return after[1] - before[1]

        deployment.hands.passed += RENEW_EVERY
        assert await counted(*members[:2]) == 1
        assert await counted(*members) == 0
        deployment.hands.passed += RENEW_EVERY
        assert await counted() == 1
        deployment.hands.passed += RENEW_EVERY
        assert await counted() == 0


@pytest.mark.parametrize("known", ["another", "no"])
async def test_a_database_that_the_homeserver_has_not_seen_last_is_a_copy(
    tmp_path: Path, known: str
) -> None:
    """Of another installation, or of a version before there was a number; a new one is none."""
    async with deployed(tmp_path) as deployment:
        room, staff, members = await staffed(deployment)
        assert not await brake.is_restored(deployment.database.reader)
        await patched(deployment, staff, "replace", members[:1])
        await deployment.kill()
        change = "generation = 0" if known == "no" else "generation = 1000"
        with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as file:
            file.execute(f"UPDATE installation SET id = 'other', {change}")
            file.commit()
        await deployment.start()
        await deployment.quiet()
        assert joined(room) == {"ann", "bob", "cat"}
        assert await brake.is_restored(deployment.database.reader)


async def test_a_new_database_is_no_copy(tmp_path: Path) -> None:
    """Though the homeserver has seen another one."""
    async with deployed(tmp_path) as deployment:
        await deployment.quiet()
        await deployment.kill()
        for ending in ("", "-wal", "-shm"):
            (tmp_path / f"{DATABASE_NAME}{ending}").unlink(missing_ok=True)
        await deployment.start()
        await deployment.quiet()
        assert not await brake.is_restored(deployment.database.reader)


async def test_nobody_is_signed_in_by_a_backup(tmp_path: Path) -> None:
    """Whoever has signed out since would be let in again by a copy of their cookie."""
    async with deployed(tmp_path) as deployment:
        sessions = Sessions(deployment.database)
        session_id = await sessions.begin("@ann:s", 0)
        await deployment.quiet()
        await deployment.copy("backup")
        await sessions.end(session_id)
        await deployment.restore("backup")
        await deployment.quiet()
        assert await Sessions(deployment.database).find(session_id, 1) is None


async def test_nobody_is_signed_in_by_a_backup_while_the_homeserver_is_away(tmp_path: Path) -> None:
    """What it says of sessions is gone before a service starts on it."""
    database = await Database.open(tmp_path)
    session_id = await Sessions(database).begin("@ann:s", 0)
    backup.backup(tmp_path, tmp_path / "copy")
    await database.close()
    backup.restore(tmp_path, tmp_path / "copy")
    database = await Database.open(tmp_path)
    found = await Sessions(database).find(session_id, 1)
    await database.close()
    assert found is None


async def test_a_backup_is_put_where_nothing_was_before(tmp_path: Path) -> None:
    """The folder is made with those above it."""
    target, source = tmp_path / "there" / "deeper", tmp_path / "here"
    source.mkdir()
    await (await Database.open(source)).close()
    backup.restore(target, source / DATABASE_NAME)
    assert (target / DATABASE_NAME).exists()
