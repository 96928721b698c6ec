"""What hands do, beside the service: it stays, is seen, and is never taken for its own."""

import asyncio
from pathlib import Path

from tests.homeserver.deployment import Deployment, deployed

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:User"


async def ann(deployment: Deployment) -> str:
    """Have a user with an account, and return the SCIM id."""
    status, user = await deployment.scim(
        "POST", "/Users", {"schemas": [SCHEMA], "userName": "ann", "externalId": "ext-ann"}
    )
    assert status == 201
    await deployment.quiet()
    return str(user["id"])


async def activity(deployment: Deployment, scim_id: str, *, active: bool) -> None:
    """Have the user active or not, and settle."""
    user = {"schemas": [SCHEMA], "userName": "ann", "externalId": "ext-ann", "active": active}
    assert (await deployment.scim("PUT", f"/Users/{scim_id}", user))[0] == 200
    await deployment.quiet()


async def test_what_was_undone_is_the_services_doing_no_more(tmp_path: Path) -> None:
    """Also where a hand did something else to the account meanwhile."""
    async with deployed(tmp_path) as deployment:
        account = deployment.world.accounts
        scim_id = await ann(deployment)
        await activity(deployment, scim_id, active=False)
        assert account.get("@ann:s").locked
        account.get("@ann:s").suspended = True
        await activity(deployment, scim_id, active=True)
        assert (account.get("@ann:s").locked, account.get("@ann:s").suspended) == (False, True)

        # A hand locks it later: that is not the lock which the service once made.
        account.get("@ann:s").locked = True
        await deployment.quiet(4000.0)
        assert account.get("@ann:s").locked
        await activity(deployment, scim_id, active=True)
        assert account.get("@ann:s").locked


async def test_a_lock_of_the_service_ends_with_a_hands_deactivation(tmp_path: Path) -> None:
    """Once the hand brings the account back, the user has it again."""
    async with deployed(tmp_path) as deployment:
        account = deployment.world.accounts
        scim_id = await ann(deployment)
        await activity(deployment, scim_id, active=False)
        account.get("@ann:s").deactivated = True
        await activity(deployment, scim_id, active=True)
        assert account.get("@ann:s").deactivated

        account.get("@ann:s").deactivated = False
        await deployment.quiet(4000.0)
        assert not account.get("@ann:s").locked


async def test_hands_are_not_said_to_be_seen_while_the_homeserver_is_away(tmp_path: Path) -> None:
    """They are again once it is back."""
    async with deployed(tmp_path) as deployment:
        deployment.world.room(deployment.world.service, room_id="!room")
        await deployment.put_map({"*": ["!room"]})
        await deployment.quiet()
        assert deployment.reconciler.follows_live
        deployment.homeserver.dark = True
        deployment.reconciler.compare()
        await deployment.reconciler.settle()
        assert not deployment.reconciler.follows_live
        deployment.homeserver.dark = False
        await deployment.quiet()
        assert deployment.reconciler.follows_live


async def test_following_ends_whenever_it_is_cancelled(tmp_path: Path) -> None:
    """Also at the moment at which the map opens other rooms: else the service would not stop."""
    async with deployed(tmp_path) as deployment:
        deployment.world.room(deployment.world.service, room_id="!room")
        await deployment.put_map({"*": ["!room"]})
        await deployment.quiet()
        reconciler = deployment.reconciler
        assert reconciler._following is not None
        reconciler._following.cancel()
        await asyncio.wait([reconciler._following])
        for turns in range(12):
            following = asyncio.create_task(reconciler._live._follow())
            deployment.homeserver.waiting.clear()
            await deployment.homeserver.followed()
            reconciler._observation.others_opened.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            if following.cancel():
                await asyncio.wait([following])
                assert following.cancelled(), f"after {turns} turns of the loop"
