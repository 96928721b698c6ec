"""Accounts that were asked for, without an answer, of users who are disabled meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from scim_matrix.matrix.accounts import MARK_PROVIDER
from scim_matrix.store.accounts import LATEST
from scim_matrix.sync.backoff import PERMANENT
from tests.homeserver.deployment import Configuration, Deployment, deployed
from tests.homeserver.server import Fault, Request

USER = "urn:ietf:params:scim:schemas:core:2.0:User"


def creates(request: Request) -> bool:
    """Tell whether a request makes an account."""
    return request.method == "PUT" and "external_ids" in request.body


async def disabled_while_asked_for(deployment: Deployment) -> str:
    """Have Ann disabled once the request that makes her account is lost; return her id."""
    deployment.homeserver.faults.append(Fault("request lost", creates))
    _, user = await deployment.scim("POST", "/Users", {"schemas": [USER], "userName": "ann"})
    await deployment.settle()
    scim_id = str(user["id"])
    await changed(deployment, scim_id, active=False)
    await deployment.settle(LATEST / 2)
    deployment.hands.passed += 10.0
    return scim_id


async def test_none_is_made_for_whoever_is_disabled_while_theirs_is_looked_for(
    tmp_path: Path,
) -> None:
    """What was decided then is not so any more; whoever is enabled again gets theirs."""
    async with deployed(tmp_path) as deployment:
        user = {"schemas": [USER], "userName": "ann"}
        _, made = await deployment.scim("POST", "/Users", user)
        async with deployment.while_slow(lambda request: MARK_PROVIDER in request.path):
            await changed(deployment, made["id"])
        assert "@ann:s" not in deployment.world.accounts.all
        assert not [request for request in deployment.homeserver.requests if creates(request)]
        await changed(deployment, made["id"], active=True)
        await deployment.settle(LATEST)
        assert "@ann:s" in deployment.world.accounts.all


@pytest.mark.parametrize("active", [True, False])
async def test_what_a_user_is_to_be_no_more_is_not_done(tmp_path: Path, active: bool) -> None:
    """Not for a moment, where it changes while the account is looked at: some of it is for good."""
    configuration = Configuration(on_disable="deactivate")
    async with deployed(tmp_path, configuration=configuration) as deployment:
        homeserver = deployment.homeserver
        user = {"schemas": [USER], "userName": "ann"}
        _, made = await deployment.scim("POST", "/Users", user)
        await deployment.settle()
        await changed(deployment, made["id"], active=active)
        await deployment.settle()
        await changed(deployment, made["id"], active=not active)
        async with deployment.while_slow(lambda request: request.path[-1] == "@ann:s"):
            begun = len(homeserver.requests)
            await changed(deployment, made["id"], active=active)
        assert not [request for request in homeserver.requests[begun:] if request.changes]
        assert deployment.world.accounts.get("@ann:s").deactivated is not active


async def changed(deployment: Deployment, scim_id: str, **values: Any) -> None:
    """Have the identity provider say something new of Ann."""
    body = {"schemas": [USER], "userName": "ann", "active": False, **values}
    assert (await deployment.scim("PUT", f"/Users/{scim_id}", body))[0] == 200


async def is_looked_for(deployment: Deployment) -> bool:
    """Tell whether it is still to be found out whether Ann has an account."""
    rows = await deployment.database.reader.execute_fetchall(
        "SELECT 1 FROM account WHERE todo IS NOT NULL"
    )
    return bool(rows)


@pytest.mark.parametrize("in_between", [{}, {"displayName": "Ann B"}])
async def test_one_that_comes_late_is_locked(tmp_path: Path, in_between: dict[str, Any]) -> None:
    """Until it surely comes no more it is looked for, whatever else is said meanwhile."""
    async with deployed(tmp_path) as deployment:
        scim_id = await disabled_while_asked_for(deployment)
        if in_between:
            await changed(deployment, scim_id, **in_between)
            await deployment.settle()
        mark = {"auth_provider": MARK_PROVIDER, "external_id": scim_id}
        deployment.world.account("@ann:s", external_ids=[mark])
        await deployment.settle(LATEST)
        assert deployment.world.accounts.get("@ann:s").locked
        assert not await is_looked_for(deployment)


async def test_one_of_whoever_was_deleted_that_comes_late_goes_with_the_grace(
    tmp_path: Path,
) -> None:
    """It is locked when it is found, and deactivated when any other account would be."""
    configuration = Configuration(delete_grace=10 * LATEST)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        deployment.homeserver.faults.append(Fault("request lost", creates))
        _, user = await deployment.scim("POST", "/Users", {"schemas": [USER], "userName": "ann"})
        await deployment.settle()
        assert (await deployment.scim("DELETE", f"/Users/{user['id']}"))[0] == 204
        await deployment.settle(LATEST / 2)
        mark = {"auth_provider": MARK_PROVIDER, "external_id": user["id"]}
        deployment.world.account("@ann:s", external_ids=[mark])
        await deployment.settle(LATEST)
        late = deployment.world.accounts.get("@ann:s")
        assert (late.locked, late.deactivated) == (True, False)
        await deployment.settle(configuration.delete_grace)
        assert deployment.world.accounts.get("@ann:s").deactivated


async def test_one_that_never_comes_is_looked_for_no_longer(tmp_path: Path) -> None:
    """A clock that is set back in between keeps nobody looking for it."""
    async with deployed(tmp_path) as deployment:
        await disabled_while_asked_for(deployment)
        assert await is_looked_for(deployment)
        deployment.hands.jumped -= 30 * 86400.0
        await deployment.restart()
        await deployment.settle(PERMANENT.longest + 2 * LATEST)
        assert not await is_looked_for(deployment)


async def test_one_that_is_asked_for_again_is_looked_for_anew(tmp_path: Path) -> None:
    """That an earlier one never came says nothing of a later one."""
    async with deployed(tmp_path) as deployment:
        scim_id = await disabled_while_asked_for(deployment)
        deployment.hands.passed += 2 * LATEST
        deployment.homeserver.faults.append(Fault("request lost", creates))
        await changed(deployment, scim_id, active=True)
        await deployment.settle()
        await changed(deployment, scim_id)
        await deployment.settle(LATEST / 2)
        assert await is_looked_for(deployment)


async def test_making_an_account_tells_whether_its_name_is_free(tmp_path: Path) -> None:
    """It is not asked for before that as well: an import makes thousands."""
    async with deployed(tmp_path) as deployment:
        await deployment.scim("POST", "/Users", {"schemas": [USER], "userName": "ann"})
        await deployment.settle()
        asked = [r.method for r in deployment.homeserver.requests if "@ann:s" in r.path]
        assert asked == ["GET", "PUT"]
