"""A human says whose account is whose: nobody is left anywhere who should be out."""

from pathlib import Path
from typing import Any

import pytest

from scim_matrix.matrix.accounts import MARK_PROVIDER
from scim_matrix.store import accounts, binding, record, views
from tests.homeserver.deployment import IDP, Configuration, Deployment, deployed

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


async def ann(deployment: Deployment, subject: str | None) -> str:
    """Have Ann be in a room, in others by hand, and linked to another account; return her id."""
    world = deployment.world
    world.room(world.service, room_id="!room", version="10", levels={"users": {world.service: 100}})
    world.room(world.service, room_id="!hers")
    world.account("@annie:s")
    await deployment.put_map({"ext-staff": [{"room": "!room", "powerLevel": 50}]})
    body: dict[str, Any] = {"schemas": [SCHEMA + "User"], "userName": "ann", "externalId": subject}
    _, user = await deployment.scim("POST", "/Users", body)
    body = {"displayName": "staff", "externalId": "ext-staff", "members": [{"value": user["id"]}]}
    await deployment.scim("POST", "/Groups", {"schemas": [SCHEMA + "Group"], **body})
    await deployment.quiet()
    for user_id in ("@ann:s", "@annie:s"):
        world.bring("!hers", user_id)
    assert places(deployment) == {"@ann:s": {"!room": 50, "!hers": 0}, "@annie:s": {"!hers": 0}}
    await deployment.link(user["id"], "@annie:s")
    await deployment.quiet()
    return str(user["id"])


def places(deployment: Deployment) -> dict[str, dict[str, int]]:
    """Return in which rooms both accounts are, with which power."""
    return {
        user_id: {
            room.room_id: room.level(user_id)
            for room in deployment.world.rooms.all.values()
            if room.membership(user_id) == "join"
        }
        for user_id in ("@ann:s", "@annie:s")
    }


@pytest.mark.parametrize("subject", ["sub", None])
async def test_the_account_before_loses_all_that_was_the_users(
    tmp_path: Path, subject: str | None
) -> None:
    """Its rooms, its power, what leads to it, and, made by the service, its use; and it is told."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment, subject)
        world = deployment.world
        former, present = world.accounts.get("@ann:s"), world.accounts.get("@annie:s")
        assert places(deployment) == {"@ann:s": {"!hers": 0}, "@annie:s": {"!room": 50, "!hers": 0}}
        assert world.rooms.get("!room").level("@ann:s") == 0
        assert former.links == []
        expected = {(MARK_PROVIDER, scim_id), *([(IDP, subject)] if subject else [])}
        assert set(present.links) == expected
        assert (former.locked, former.deactivated, present.locked) == (True, False, False)
        found = await record.find(
            deployment.database.reader, users=["@annie:s"], rooms=(), since=0, limit=99
        )
        [said] = [row for row in found if row["kind"] == "link"]
        assert said["detail"] == (
            f"user {scim_id}, in place of @ann:s, which is locked and leaves the rooms it was given"
        )


async def test_an_account_that_is_a_users_is_linked_to_nobody_else(tmp_path: Path) -> None:
    """Whoever says so is told whose it is, and both users keep their accounts and rooms."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment, "sub")
        before = places(deployment)
        body = {"schemas": [SCHEMA + "User"], "userName": "bob", "externalId": "other"}
        _, bob = await deployment.scim("POST", "/Users", body)
        await deployment.quiet()
        async with deployment.database.write("command line grace") as connection:
            [account] = await accounts.named(connection, bob["id"])
            why_not = await binding.link(connection, account, "@annie:s", "grace")
        assert why_not == f"@annie:s is the account of another user, {scim_id}"
        await deployment.quiet()
        assert places(deployment) == before
        for user, user_id in ((scim_id, "@annie:s"), (bob["id"], "@bob:s")):
            [account] = await accounts.named(deployment.database.reader, user)
            assert account.user_id == user_id


@pytest.mark.parametrize("way", ["deleted", "disabled"])
async def test_who_is_disabled_is_who_was_linked_last(tmp_path: Path, way: str) -> None:
    """The account before stays as it was left, whatever time passes."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment, "sub")
        if way == "deleted":
            await deployment.scim("DELETE", f"/Users/{scim_id}")
        else:
            operation = {"op": "replace", "path": "active", "value": False}
            body = {"schemas": [PATCH], "Operations": [operation]}
            await deployment.scim("PATCH", f"/Users/{scim_id}", body)
        await deployment.quiet()
        former = deployment.world.accounts.get("@ann:s")
        present = deployment.world.accounts.get("@annie:s")
        assert places(deployment) == {"@ann:s": {"!hers": 0}, "@annie:s": {"!hers": 0}}
        assert (former.locked, present.locked) == (True, True)
        deployment.hands.passed += 8 * 86400
        await deployment.quiet()
        assert (former.deactivated, present.deactivated) == (False, way == "deleted")


async def test_who_is_linked_back_has_it_all_again(tmp_path: Path) -> None:
    """The account is unlocked, since it was the service that locked it."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment, "sub")
        await deployment.link(scim_id, "@ann:s")
        await deployment.quiet()
        former, present = (
            deployment.world.accounts.get("@annie:s"),
            deployment.world.accounts.get("@ann:s"),
        )
        assert places(deployment) == {"@ann:s": {"!room": 50, "!hers": 0}, "@annie:s": {"!hers": 0}}
        assert (former.locked, present.locked) == (False, False)
        assert (IDP, "sub") in present.links
        assert former.links == []


async def test_an_account_nobody_has_looked_at_is_not_known_to_be_linked(tmp_path: Path) -> None:
    """What was seen of the account before, its SSO link, says nothing of the one a human names."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment, "sub")
        assert (await views.subjects(deployment.database.reader))["linked"] == 1
        deployment.homeserver.dark = True
        await deployment.link(scim_id, "@ann:s")
        await deployment.quiet()
        assert (await views.subjects(deployment.database.reader))["linked"] == 0


async def test_the_account_before_stays_where_it_is_protected(tmp_path: Path) -> None:
    """Until the protection has gone."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment, "sub")
        await deployment.restart(protected_users=("@annie:s",))
        await deployment.link(scim_id, "@ann:s")
        await deployment.quiet()
        assert "!room" in places(deployment)["@annie:s"]


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("name", ["ann", "bot"])
async def test_the_services_own_account_is_no_users(
    tmp_path: Path, name: str, active: bool
) -> None:
    """Whatever name they have, and whomever their SSO identity leads to: it is never touched."""
    configuration = Configuration(delete_grace=3600.0)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        own = deployment.world.service
        link = {"auth_provider": IDP, "external_id": "ext-ann"}
        deployment.world.account(own, external_ids=[link] if name == "ann" else [])
        before = deployment.world.accounts.get(own).shown()
        body = {
            "schemas": [SCHEMA + "User"],
            "userName": name,
            "externalId": "ext-ann",
            "active": active,
        }
        _, made = await deployment.scim("POST", "/Users", body)
        await deployment.settle(60.0)
        [account] = await deployment.database.reader.execute_fetchall(
            "SELECT user_id, problem, reason FROM account"
        )
        assert account["user_id"] is None
        if active:
            assert account["problem"] == "conflict"
        await deployment.scim("PUT", f"/Users/{made['id']}", body | {"active": False})
        await deployment.settle(60.0)
        await deployment.scim("DELETE", f"/Users/{made['id']}")
        await deployment.settle(configuration.delete_grace)
        assert deployment.world.accounts.get(own).shown() == before
