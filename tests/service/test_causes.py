"""The record names the request that asked for whatever is done to an account."""

from pathlib import Path
from typing import Any

import pytest

from scim_matrix.store import group_names, record
from scim_matrix.store.database import Database
from tests.homeserver.deployment import IDP, Deployment, deployed

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ANN = {"schemas": [SCHEMA], "userName": "ann", "externalId": "ext-ann"}


def activity(active: bool) -> dict[str, Any]:
    """Return a body that disables or enables a user."""
    operation = {"op": "replace", "path": "active", "value": active}
    return {"schemas": [PATCH], "Operations": [operation]}


async def cause(deployment: Deployment, method: str, path: str, body: Any = None) -> Any:
    """Send a request of an id of its own, and return what the record says asked for what it did."""
    status, _ = await deployment.scim(method, path, body, request_id="the-request")
    assert status < 300
    await deployment.quiet()
    found = await record.find(
        deployment.database.reader, users=["@ann:s"], rooms=(), since=0, limit=99
    )
    return found[-1]["kind"], found[-1]["request"]


@pytest.mark.parametrize("found", ["found", "not found yet"])
async def test_what_is_done_to_an_account_names_its_request(tmp_path: Path, found: str) -> None:
    """Whoever deletes or disables a user is told from whoever changed them before."""
    async with deployed(tmp_path) as deployment:
        deployment.world.account(
            "@ann:s", external_ids=[{"auth_provider": IDP, "external_id": "ext-ann"}]
        )
        deployment.homeserver.dark = found == "not found yet"
        _, user = await deployment.scim("POST", "/Users", ANN)
        await deployment.quiet()
        deployment.homeserver.dark = False
        path = f"/Users/{user['id']}"
        assert await cause(deployment, "DELETE", path) == ("lock", "the-request")
        assert await cause(deployment, "POST", "/Users", ANN) == ("update", "the-request")


async def test_what_disabling_does_names_its_request(tmp_path: Path) -> None:
    """And enabling too."""
    async with deployed(tmp_path) as deployment:
        _, user = await deployment.scim("POST", "/Users", ANN)
        await deployment.quiet()
        path = f"/Users/{user['id']}"
        for active, kind in ((False, "lock"), (True, "update")):
            assert await cause(deployment, "PATCH", path, activity(active)) == (kind, "the-request")


async def test_names_that_groups_had_are_forgotten_with_the_record(database: Database) -> None:
    """They explain what stands there; an identity provider may rename as often as it likes."""
    async with database.write("r1") as connection:
        await group_names.renamed(connection, "g", "Staff", "Team")
        assert [name.name for name in await group_names.former(connection)] == ["Staff"]
        await record.prune(connection, connection.at)
        assert [name.name for name in await group_names.former(connection)] == ["Staff"]
        await record.prune(connection, connection.at + 1)
        assert await group_names.former(connection) == []


async def test_a_group_that_is_sent_again_is_not_called_otherwise(tmp_path: Path) -> None:
    """Only another name is a change of the name."""
    async with deployed(tmp_path) as deployment:
        group = {"schemas": [GROUP], "displayName": "Staff", "externalId": "g"}
        _, made = await deployment.scim("POST", "/Groups", group)
        path = f"/Groups/{made['id']}"
        for name, names in (("Staff", []), ("Crew", ["Staff"])):
            sent = {**group, "displayName": name, "externalId": name}
            status, _ = await deployment.scim("PUT", path, sent)
            assert status == 200
            known = await group_names.former(deployment.database.reader)
            assert [one.name for one in known] == names


@pytest.mark.parametrize("there", [True, False])
async def test_an_account_that_was_found_is_on_record_as_that(tmp_path: Path, there: bool) -> None:
    """And one that was made as made, only."""
    async with deployed(tmp_path) as deployment:
        if there:
            link = {"auth_provider": IDP, "external_id": "ext-ann"}
            deployment.world.account("@ann:s", external_ids=[link])
        await deployment.scim("POST", "/Users", ANN)
        await deployment.quiet()
        found = await record.find(
            deployment.database.reader, users=["@ann:s"], rooms=(), since=0, limit=99
        )
        first = found[0]
        said = (first["kind"], first["detail"])
        assert said == (("bind", "found by link") if there else ("create", None))
        assert [row["kind"] for row in found].count("bind") == there
