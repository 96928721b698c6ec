"""A human says whose account is whose: nobody is left anywhere who should be out."""

from pathlib import Path
from typing import Any

import pytest

from scim_matrix.matrix.accounts import MARK_PROVIDER
from scim_matrix.store import accounts, binding, record, views
from scim_matrix.store.dialect import DatabaseRow
from tests.homeserver import Fault, Request
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


@pytest.mark.parametrize("said", ["link", "unlink"])
@pytest.mark.parametrize("active", [True, False])
async def test_an_answer_about_one_account_says_nothing_of_another(
    tmp_path: Path, active: bool, said: str
) -> None:
    """What a human says while a request is under way is done as if it had been said before."""
    configuration = Configuration(on_disable="suspend")
    async with deployed(tmp_path, configuration=configuration) as deployment:
        world = deployment.world
        user = {"schemas": [SCHEMA + "User"], "userName": "ann", "externalId": "sub"}
        _, made = await deployment.scim("POST", "/Users", user)
        await deployment.quiet()
        world.account("@annie:s")
        former, other = world.accounts.get("@ann:s"), world.accounts.get("@annie:s")
        changed = {**user, "displayName": "Anna", "active": active}
        await deployment.scim("PUT", f"/Users/{made['id']}", changed)
        async with deployment.while_slow(lambda r: r.changes and "@ann:s" in r.path):
            if said == "link":
                await deployment.link(made["id"], "@annie:s")
            else:
                await deployment.unlink(made["id"])
        await deployment.quiet(8000.0)
        account = await account_row(deployment)
        if said == "unlink":
            assert (account["user_id"], account["problem"]) == (None, "conflict")
            assert former.links == [] or not active
        else:
            assert (account["user_id"], account["problem"]) == ("@annie:s", None)
            assert former.locked or former.suspended
            assert other.suspended is not active
        if said == "link" and active:
            assert other.shown()["displayname"] == "Anna"
            assert (IDP, "sub") in other.links
            assert former.links == []


async def account_row(deployment: Deployment) -> DatabaseRow:
    """Return what is stored of the only user's account."""
    [row] = await deployment.database.reader.execute_fetchall(
        "SELECT * FROM account WHERE scim_id IS NOT NULL"
    )
    return row


async def test_what_went_wrong_is_not_said_over_a_humans_word(tmp_path: Path) -> None:
    """Whoever settles a conflict while it is looked at again waits for no next try."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.account("@ann:s", external_ids=[{"auth_provider": IDP, "external_id": "other"}])
        user = {"schemas": [SCHEMA + "User"], "userName": "ann", "externalId": "sub"}
        _, made = await deployment.scim("POST", "/Users", user)
        await deployment.quiet()
        deployment.reconciler.compare()
        async with deployment.while_slow(lambda r: "@ann:s" in r.path, 8000.0):
            await deployment.link(made["id"], "@ann:s")
        account = await account_row(deployment)
        assert (account["user_id"], account["problem"]) == ("@ann:s", None)
        assert (IDP, "sub") in world.accounts.get("@ann:s").links


@pytest.mark.parametrize("joined", [True, False])
async def test_a_turn_goes_on_without_whom_a_human_says_is_another(
    tmp_path: Path, joined: bool
) -> None:
    """Nobody is kicked or joined for a user whose account it is no more."""
    async with deployed(tmp_path) as deployment:
        world, homeserver = deployment.world, deployment.homeserver
        room = world.room(world.service, room_id="!r")
        await deployment.put_map({"g": ["!r"]})
        ids = {}
        for name in ("ann", "bob"):
            user = {"schemas": [SCHEMA + "User"], "userName": name, "externalId": name}
            ids[name] = (await deployment.scim("POST", "/Users", user))[1]["id"]
        world.account("@new:s")
        group: dict[str, Any] = {"schemas": [SCHEMA + "Group"], "displayName": "g"}
        group |= {"externalId": "g", "members": [{"value": one} for one in ids.values()]}
        _, made = await deployment.scim("POST", "/Groups", group | {"members": []})
        path = f"/Groups/{made['id']}"
        if joined:
            await deployment.scim("PUT", path, group)
        await deployment.quiet()

        def acts(request: Request) -> bool:
            return request.path[-1] == "kick" if joined else "join" in request.path

        await deployment.scim("PUT", path, group | ({"members": []} if joined else {}))
        async with deployment.while_slow(acts):
            begun = len(homeserver.requests)
            under_way = next(r for r in reversed(homeserver.requests) if acts(r)).body["user_id"]
            left = "bob" if under_way == "@ann:s" else "ann"
            # Another process says so: what is handed out goes on.
            async with deployment.database.write() as connection:
                [account] = await accounts.named(connection, ids[left])
                if joined:
                    said = "is somebody else's"
                    await binding.unbind(
                        connection, account, f"@{left}:s", said, "link", 0.0, barred=f"@{left}:s"
                    )
                else:
                    assert await binding.link(connection, account, "@new:s", "ann") is None
        asked = [r.body["user_id"] for r in homeserver.requests[begun:] if acts(r)]
        assert f"@{left}:s" not in asked, asked
        await deployment.quiet(8000.0)
        assert room.membership(f"@{left}:s") == ("join" if joined else None)
        assert joined or room.membership("@new:s") == "join"


async def test_an_account_that_may_have_been_made_is_not_forgotten_for_another(
    tmp_path: Path,
) -> None:
    """Until it is known what came of it, no human can say whose the other one is."""
    async with deployed(tmp_path) as deployment:
        world, homeserver = deployment.world, deployment.homeserver
        world.account("@annie:s")
        is_made = Fault("answer lost", lambda r: r.method == "PUT" and r.path[-1] == "@ann:s")
        homeserver.faults.append(is_made)
        user = {"schemas": [SCHEMA + "User"], "userName": "ann", "externalId": "sub"}
        _, made = await deployment.scim("POST", "/Users", user)
        await deployment.settle()
        async with deployment.database.write() as connection:
            [account] = await accounts.named(connection, made["id"])
            why_not = await binding.link(connection, account, "@annie:s", "ann")
        assert why_not is not None
        assert why_not.startswith("@ann:s was asked for")
        await deployment.quiet()
        await deployment.link(made["id"], "@annie:s")
        await deployment.quiet()
        assert world.accounts.get("@ann:s").links == []
        assert (IDP, "sub") in world.accounts.get("@annie:s").links


async def test_who_is_out_of_a_room_is_not_asked_to_leave_it_for_being_somebody_elses(
    tmp_path: Path,
) -> None:
    """What is known of an account in rooms is known of it whoever it belongs to."""
    async with deployed(tmp_path) as deployment:
        await ann(deployment, "sub")
        body = {"schemas": [SCHEMA + "User"], "userName": "bob", "externalId": "other"}
        _, bob = await deployment.scim("POST", "/Users", body)
        await deployment.quiet()
        begun = len(deployment.homeserver.requests)
        async with deployment.database.write("command line ann") as connection:
            [account] = await accounts.named(connection, bob["id"])
            assert await binding.link(connection, account, "@ann:s", "ann") is None
        deployment.reconciler.wake()
        await deployment.settle()
        assert (IDP, "other") in deployment.world.accounts.get("@ann:s").links
        asked = {request.path for request in deployment.homeserver.requests[begun:]}
        assert [path for path in asked if "rooms" in path] == []
