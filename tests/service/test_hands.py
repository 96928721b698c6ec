"""What hands do, beside the service: it stays, is seen, and is never taken for its own."""

import asyncio
from pathlib import Path

import pytest

from scim_matrix.store import accounts, binding, memberships, views
from tests.conftest import eventually
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import IDP, Deployment, deployed
from tests.homeserver.server import Kind

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:User"
# After so long (seconds) what failed has been tried again.
WHILE = 7200.0


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


@pytest.mark.parametrize("fault", [None, "unavailable"])
async def test_whom_a_hand_deactivates_is_not_joined_again(
    tmp_path: Path, fault: Kind | None
) -> None:
    """Their leaving every room is not taken for their will, even before their account is looked at.

    A hand brings them back.
    """
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        for room_id in ("!one", "!two"):
            world.room(world.service, room_id=room_id)
        await deployment.put_map({"*": ["!one", "!two"]})
        await ann(deployment)
        assert world.rooms.get("!two").membership("@ann:s") == "join"
        deeds = len(world.deeds)

        if fault is not None:
            looked_at = Fault(fault, lambda request: request.path[-2:] == ("users", "@ann:s"))
            deployment.homeserver.faults.append(looked_at)
        world.account("@ann:s", deactivated=True)
        await deployment.settle(100.0)
        assert world.deeds[deeds:] == []
        await deployment.quiet()
        assert world.deeds[deeds:] == []
        [user] = await views.users(deployment.database.reader, None)
        assert (user["problem"], bool(user["cure"])) == ("deactivated by hand", True)

        world.account("@ann:s", deactivated=False)
        await deployment.quiet()
        assert [deed.what for deed in world.deeds[deeds:]] == ["join", "join"]


async def test_whom_a_comparison_finds_deactivated_is_not_joined_any_more(tmp_path: Path) -> None:
    """From the list of all accounts on, before the account itself has been looked at."""
    async with deployed(tmp_path) as deployment:
        await ann(deployment)
        async with deployment.database.write() as connection:
            [account] = await accounts.named(connection, "ann")
            assert account.usable
            await accounts.doubt(connection, {account.id: False})
            [account] = await accounts.named(connection, "ann")
            assert account.usable
        await deployment.quiet()
        async with deployment.database.write() as connection:
            await accounts.doubt(connection, {account.id: True})
            [account] = await accounts.named(connection, "ann")
            assert not account.usable


async def test_whose_account_is_gone_has_nothing_left_to_be_disabled(tmp_path: Path) -> None:
    """Where the homeserver was put back from a backup that does not know it, say."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment)
        del deployment.world.accounts.all["@ann:s"]
        await activity(deployment, scim_id, active=False)
        assert "@ann:s" not in deployment.world.accounts.all
        counts = await memberships.counts(deployment.database.reader)
        assert counts["pendingAccounts"] == 0
        await activity(deployment, scim_id, active=True)
        assert not deployment.world.accounts.get("@ann:s").locked


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


async def test_who_is_unlinked_takes_along_only_what_the_service_wrote(tmp_path: Path) -> None:
    """Another identity that leads to the account, or one of another provider, is its own."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        theirs = [
            {"auth_provider": IDP, "external_id": "other"},
            {"auth_provider": "saml", "external_id": "ext-ann"},
        ]
        world.account("@ann:s", external_ids=theirs)
        scim_id = await ann(deployment)
        await decide(deployment, scim_id, "link")
        written = {(IDP, "ext-ann"), ("scim-matrix", scim_id)}
        kept = {(IDP, "other"), ("saml", "ext-ann")}
        assert set(world.accounts.get("@ann:s").links) == kept | written

        await decide(deployment, scim_id, "unlink")
        assert set(world.accounts.get("@ann:s").links) == kept
        [user] = await views.users(deployment.database.reader, None)
        assert user["state"] == "conflict"


async def test_an_account_that_leads_elsewhere_by_now_is_linked_again_by_a_human_only(
    tmp_path: Path,
) -> None:
    """Where a hand gave it to another identity, the user's leads to it beside that if told so."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        scim_id = await ann(deployment)
        world.account("@ann:s", external_ids=[{"auth_provider": IDP, "external_id": "heir"}])
        await named(deployment, scim_id, "Ann Lee")
        [user] = await views.users(deployment.database.reader, None)
        assert user["problem"] == "another SSO identity than the user's leads to @ann:s by now"
        assert user["cure"] == f"if it is theirs: scim-matrix users link {scim_id} @ann:s"
        assert world.accounts.get("@ann:s").links == [(IDP, "heir")]
        assert world.accounts.get("@ann:s").displayname != "Ann Lee"

        await decide(deployment, scim_id, "link")
        account = world.accounts.get("@ann:s")
        assert {(IDP, "heir"), (IDP, "ext-ann")} < set(account.links)
        assert account.displayname == "Ann Lee"


async def test_an_account_that_was_taken_from_a_user_is_left_alone(tmp_path: Path) -> None:
    """Once they have another it is not even looked at, and what a hand gives it stays there."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        scim_id = await ann(deployment)
        await decide(deployment, scim_id, "unlink")
        assert world.accounts.get("@ann:s").links == []
        subject = {"auth_provider": IDP, "external_id": "ext-ann"}
        world.account("@annie:s", external_ids=[subject])
        await deployment.settle(WHILE)
        [user] = await views.users(deployment.database.reader, None)
        assert (user["account"], user["state"]) == ("@annie:s", "active")

        begun = len(deployment.homeserver.requests)
        await named(deployment, scim_id, "Ann Lee")
        assert world.accounts.get("@annie:s").displayname == "Ann Lee"
        asked = deployment.homeserver.requests[begun:]
        assert not [request for request in asked if "@ann:s" in request.path]

        world.account("@annie:s", external_ids=[])
        world.account("@ann:s", external_ids=[subject])
        await named(deployment, scim_id, "Ann Ash")
        assert world.accounts.get("@ann:s").links == [(IDP, "ext-ann")]
        [user] = await views.users(deployment.database.reader, None)
        assert user["problem"] == "the user's SSO identity leads to @ann:s"


async def named(deployment: Deployment, scim_id: str, name: str) -> None:
    """Have the user be called otherwise, and settle."""
    user = {"schemas": [SCHEMA], "userName": "ann", "externalId": "ext-ann", "displayName": name}
    assert (await deployment.scim("PUT", f"/Users/{scim_id}", user))[0] == 200
    await deployment.settle()


async def decide(deployment: Deployment, scim_id: str, what: str) -> None:
    """Say as `scim-matrix users link` and `unlink` do whose account @ann:s is, and settle."""
    async with deployment.database.write("command line") as connection:
        [account] = await accounts.named(connection, scim_id)
        if what == "link":
            assert await binding.bind(connection, account, "@ann:s", "human") is None
        else:
            await binding.unbind(
                connection, account, "@ann:s", "not theirs", "link another", 0.0, barred="@ann:s"
            )
    await deployment.quiet()


async def follows_live(deployment: Deployment, follows: bool) -> None:
    """Wait until changes made by hand are seen as they happen, or no more: following has a pace."""

    async def look() -> bool:
        return deployment.reconciler.follows_live

    await eventually(look, lambda seen: seen is follows)


async def test_hands_are_not_said_to_be_seen_while_the_homeserver_is_away(tmp_path: Path) -> None:
    """They are again once it is back."""
    async with deployed(tmp_path) as deployment:
        deployment.world.room(deployment.world.service, room_id="!room")
        await deployment.put_map({"*": ["!room"]})
        await deployment.quiet()
        await follows_live(deployment, True)
        deployment.homeserver.dark = True
        deployment.reconciler.compare()
        await deployment.reconciler.settle()
        await follows_live(deployment, False)
        deployment.homeserver.dark = False
        await deployment.quiet()
        await follows_live(deployment, True)


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


async def test_what_the_service_itself_will_not_give_is_told_without_a_status(
    tmp_path: Path,
) -> None:
    """The homeserver was not asked, so that no answer of it is the reason."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        levels = {"users": {world.service: 50}}
        world.room(world.service, room_id="!room", version="10", levels=levels)
        await deployment.put_map({"*": [{"room": "!room", "powerLevel": 50}]})
        await ann(deployment)
        [row] = await views.left_to_do(deployment.database.reader, 10)
        assert row["reason"] == "power level 50 is not below the service's own, 50"


async def test_a_join_that_is_refused_for_another_reason_is_no_ban(tmp_path: Path) -> None:
    """It is shown as failing, and tried again."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.room(world.service, room_id="!room")
        await deployment.put_map({"*": ["!room"]})

        def vanish(request: Request) -> None:
            if "join" in request.path:
                world.rooms.leave("!room", world.service)

        deployment.homeserver.before = vanish
        await ann(deployment)
        shown = await views.left_to_do(deployment.database.reader, 10)
        assert [(row["state"], row["user"]) for row in shown] == [("failing", "@ann:s")]


async def test_no_power_is_taken_where_none_is_missing(tmp_path: Path) -> None:
    """Who is banned a moment before is not invited, whatever power the service has there."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.room(world.service, room_id="!room")
        await deployment.put_map({"*": [{"room": "!room", "mode": "invite"}]})

        def ban(request: Request) -> None:
            if request.path[-1] == "invite":
                world.rooms.ban("!room", world.service, "@ann:s")

        deployment.homeserver.before = ban
        await ann(deployment)
        assert room.membership("@ann:s") == "ban"
        asked = [request.path[-1] for request in deployment.homeserver.requests]
        assert "invite" in asked
        assert "make_room_admin" not in asked


async def test_power_is_taken_where_levels_are_to_be_given_and_the_service_has_none(
    tmp_path: Path,
) -> None:
    """Whoever is to have a level has it then, though it is above what the service had at first."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        levels = {"users": {"@owner:s": 100}}
        room = world.room("@owner:s", world.service, room_id="!room", version="10", levels=levels)
        await deployment.put_map({"*": [{"room": "!room", "powerLevel": 50}]})
        await ann(deployment)
        assert room.level("@ann:s") == 50
        assert await views.left_to_do(deployment.database.reader, 10) == []


async def test_hands_are_not_said_to_be_seen_where_only_they_are_not_told(tmp_path: Path) -> None:
    """Everything else may well be answered."""
    async with deployed(tmp_path) as deployment:
        deployment.world.room(deployment.world.service, room_id="!room")
        await deployment.put_map({"*": ["!room"]})
        await deployment.quiet()
        await follows_live(deployment, True)
        deployment.homeserver.faults.append(
            Fault("unavailable", lambda request: request.path[-1] == "sync", times=1000)
        )
        deployment.world.account("@eve:s")
        deployment.world.bring("!room", "@eve:s")

        async def look() -> tuple[bool, bool]:
            await deployment.reconciler.settle()
            return deployment.reconciler.synapse.is_usable, deployment.reconciler.follows_live

        await eventually(look, lambda seen: seen == (True, False))
