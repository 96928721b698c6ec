"""What disables or enables an account, got no answer and is carried out late, is the service's."""

from pathlib import Path
from typing import Any

import pytest

from scim_matrix.store import accounts, binding
from scim_matrix.store.accounts import LATEST, Disablement
from scim_matrix.sync.guard import Brake
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import IDP, Configuration, Deployment, deployed
from tests.service.late import (
    USER,
    How,
    Kind,
    ann,
    carry_out,
    disabled,
    disables,
    enables,
    is_out,
    refuse,
    row,
    unanswered,
)


async def stays_hers(deployment: Deployment) -> None:
    """See that Ann can use her account, though she is locked out late."""
    carry_out(deployment, "lock")
    await deployment.quiet(LATEST)
    assert not is_out(deployment)
    assert (await row(deployment))["by_hand"] is None


@pytest.mark.parametrize("how", ["lock", "suspend", "deactivate"])
@pytest.mark.parametrize("carried_out", ["late", "at once and late", "never"])
async def test_whoever_is_active_again_can_use_their_account(
    tmp_path: Path, how: How, carried_out: str
) -> None:
    """Whenever it is carried out within two minutes, and though something else changes as well."""
    configuration = Configuration(on_disable=how)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        kind: Kind = "answer lost" if carried_out.startswith("at once") else "unavailable"
        scim_id = await unanswered(deployment, kind)
        await disabled(deployment, scim_id, active=True)
        await deployment.settle(LATEST / 2)
        known = await row(deployment)
        assert (is_out(deployment), known["usable"], known["by_hand"]) == (False, True, None)
        assert (known["problem"], known["todo"]) == (None, None)
        if carried_out.endswith("late"):
            carry_out(deployment, how)
        await deployment.quiet(LATEST)
        known = await row(deployment)
        assert (is_out(deployment), known["by_hand"], known["problem"]) == (False, None, None)
        assert (known["doing"], known["unsure_until"], known["todo"]) == (None, None, None)
        assert not known["locked_by_us"] | known["suspended_by_us"] | known["deactivated_by_us"]
        # From then on what a hand does stays.
        deployment.world.accounts.get("@ann:s").locked = True
        await deployment.quiet()
        assert deployment.world.accounts.get("@ann:s").locked
        assert (await row(deployment))["by_hand"] == "locked"


async def test_what_is_awaited_outlasts_a_process(tmp_path: Path) -> None:
    """Killed while it brings the account in line, the service knows of it still."""
    async with deployed(tmp_path) as deployment:
        scim_id = await unanswered(deployment, "answer lost")
        await disabled(deployment, scim_id, active=True)
        deployment.hands.passed += 5.0
        await deployment.die(lambda r: r.path[-1] == "@ann:s" and r.body.get("locked") is False)
        deployment.hands.passed += 5.0
        await deployment.settle()
        assert not is_out(deployment)
        await stays_hers(deployment)


async def test_what_was_asked_for_before_the_end_of_a_process_is_awaited(tmp_path: Path) -> None:
    """Killed before the answer is here, the service knows of it still."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment)
        await disabled(deployment, scim_id, active=False)
        await deployment.die(disables)
        deployment.world.accounts.get("@ann:s").locked = False
        await disabled(deployment, scim_id, active=True)
        await deployment.settle()
        await stays_hers(deployment)


async def test_the_answer_to_a_retry_is_not_that_to_the_request_before(tmp_path: Path) -> None:
    """Which may be carried out after it."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment)
        deployment.homeserver.faults.append(Fault("unavailable", disables))
        await disabled(deployment, scim_id, active=False)
        await deployment.settle(5.0)
        assert is_out(deployment)
        await disabled(deployment, scim_id, active=True)
        await deployment.settle(5.0)
        assert not is_out(deployment)
        await stays_hers(deployment)


async def test_what_else_is_said_of_somebody_makes_nothing_later(tmp_path: Path) -> None:
    """Two minutes after the request a lock is a hand's, however often a name changed since."""
    async with deployed(tmp_path) as deployment:
        scim_id = await unanswered(deployment)
        await disabled(deployment, scim_id, active=True)
        for number in range(2):
            await deployment.settle(LATEST - 20.0)
            deployment.hands.passed += LATEST - 20.0
            body: dict[str, Any] = {"userName": "ann", "externalId": "sub", "active": True}
            body["displayName"] = f"Ann {number}"
            await deployment.scim("PUT", f"/Users/{scim_id}", {"schemas": [USER], **body})
        await deployment.settle()
        carry_out(deployment, "lock")
        await deployment.quiet()
        assert (is_out(deployment), (await row(deployment))["by_hand"]) == (True, "locked")


async def test_what_is_seen_is_as_old_as_the_answer(tmp_path: Path) -> None:
    """Asked for within the two minutes and recorded after them, it is looked at once more."""
    async with deployed(tmp_path) as deployment:
        homeserver = deployment.homeserver
        scim_id = await unanswered(deployment)
        homeserver.dark = True
        await disabled(deployment, scim_id, active=True)
        deployment.hands.passed += LATEST - 5.0
        homeserver.dark = False

        def after(request: Request) -> None:
            if request.method == "GET" and request.path[-1] == "@ann:s":
                homeserver.after = lambda request: None
                deployment.hands.passed += 6.0
                carry_out(deployment, "lock")

        homeserver.after = after
        await deployment.quiet()
        assert not is_out(deployment)
        assert (await row(deployment))["by_hand"] is None


@pytest.mark.parametrize("how", ["lock", "suspend", "deactivate"])
@pytest.mark.parametrize("restarted", [False, True])
async def test_whoever_is_disabled_again_is_out(tmp_path: Path, how: How, restarted: bool) -> None:
    """Though what had let them in is carried out after that."""
    configuration = Configuration(on_disable=how)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        scim_id = await ann(deployment)
        await disabled(deployment, scim_id, active=False)
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", enables))
        await disabled(deployment, scim_id, active=True)
        await deployment.settle()
        await disabled(deployment, scim_id, active=False)
        await deployment.settle(LATEST / 2)
        assert is_out(deployment)
        account = deployment.world.accounts.get("@ann:s")
        account.locked = account.suspended = account.deactivated = False
        if restarted:
            await deployment.restart()
        await deployment.settle(LATEST)
        assert is_out(deployment)
        known = await row(deployment)
        assert (known["unsure_until"], known["todo"]) == (None, None)


async def test_what_was_let_through_is_not_held_by_its_retry(tmp_path: Path) -> None:
    """Nobody whom a human lets be is locked by what was sent before."""
    configuration = Configuration(brake=Brake(0, 2, 3600))
    async with deployed(tmp_path, configuration=configuration) as deployment:
        scim_id = await ann(deployment)
        others = {}
        for name in ("bob", "cat", "dan", "eve"):
            body = {"schemas": [USER], "userName": name, "externalId": name}
            others[name] = (await deployment.scim("POST", "/Users", body))[1]["id"]
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", disables))
        await disabled(deployment, scim_id, active=False)
        await deployment.settle()
        for name, other in others.items():
            inactive: dict[str, Any] = {"userName": name, "externalId": name, "active": False}
            await deployment.scim("PUT", f"/Users/{other}", {"schemas": [USER], **inactive})
        await deployment.settle(20.0)
        assert ((await row(deployment))["brake"], is_out(deployment)) == ("free", True)
        await deployment.decide("accounts", "dismissed")
        await deployment.quiet()
        locked = {user for user, one in deployment.world.accounts.all.items() if one.locked}
        assert "@ann:s" in locked
        assert len(locked) < len(others)


@pytest.mark.parametrize("how", ["lock", "suspend"])
async def test_what_was_never_done_is_a_hands_from_then_on(tmp_path: Path, how: How) -> None:
    """Though the account could not be brought in line for days."""
    configuration = Configuration(on_disable=how)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        scim_id = await ann(deployment)
        deployment.world.account("@other:s")
        deployment.homeserver.faults.append(Fault("unavailable", disables))
        await disabled(deployment, scim_id, active=False)
        await deployment.settle()
        others = deployment.world.accounts.get("@other:s").links
        others.append((IDP, "new"))
        body = {"schemas": [USER], "userName": "ann", "externalId": "new", "active": True}
        await deployment.scim("PUT", f"/Users/{scim_id}", body)
        await deployment.settle(20.0)
        deployment.hands.passed += 86400.0
        await deployment.settle(20.0)
        known = await row(deployment)
        assert (known["problem"], known["doing"]) == ("refused", None)
        carry_out(deployment, how)
        others.clear()
        await deployment.quiet(8000.0)
        assert is_out(deployment)
        assert (await row(deployment))["by_hand"] == f"{how}ed"


async def test_whoever_leaves_a_room_meanwhile_stays_out(tmp_path: Path) -> None:
    """They were never deactivated, which would have taken them out of it."""
    configuration = Configuration(on_disable="deactivate", on_self_leave="respect")
    async with deployed(tmp_path, configuration=configuration) as deployment:
        room = deployment.world.rooms.create(deployment.world.service, room_id="!room")
        await deployment.put_map({"*": ["!room"]})
        scim_id = await unanswered(deployment)
        await disabled(deployment, scim_id, active=True)
        await deployment.settle(LATEST / 4)
        assert room.membership("@ann:s") == "join"
        deployment.world.part("@ann:s")
        await deployment.quiet(2 * LATEST)
        assert room.membership("@ann:s") == "leave"


@pytest.mark.parametrize("by", ["unlink", "link"])
async def test_what_is_under_way_outlasts_a_humans_word(tmp_path: Path, by: str) -> None:
    """Whom the account goes to next is not locked out by it."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment)
        deployment.world.account("@new:s")
        body = {"schemas": [USER], "userName": "bob", "externalId": "other"}
        _, bob = await deployment.scim("POST", "/Users", body)
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", disables))
        await disabled(deployment, scim_id, active=False)
        await deployment.settle()
        if by == "unlink":
            await deployment.unlink(scim_id)
        else:
            await deployment.link(scim_id, "@new:s")
        async with deployment.database.write() as connection:
            [account] = await accounts.named(connection, bob["id"])
            why_not = await binding.link(connection, account, "@ann:s", "grace")
        assert why_not is not None
        assert why_not.startswith("@ann:s may still be changed for its former user")
        carry_out(deployment, "lock")
        await deployment.quiet(2 * LATEST)
        deployment.hands.passed += LATEST
        await deployment.link(bob["id"], "@ann:s")
        await deployment.quiet(2 * LATEST)
        [account] = await accounts.named(deployment.database.reader, bob["id"])
        assert account.user_id == "@ann:s"
        assert not is_out(deployment)


@pytest.mark.parametrize("by", ["link", "human"])
async def test_an_account_that_is_being_locked_goes_to_nobody_yet(tmp_path: Path, by: str) -> None:
    """It would be the next one's who is locked out: whoever it goes to waits for two minutes."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment)
        homeserver = deployment.homeserver
        homeserver.faults.append(Fault("unavailable", disables))
        await deployment.scim("DELETE", f"/Users/{scim_id}")
        await deployment.settle()
        body = {"schemas": [USER], "userName": "bob", "externalId": "other"}
        if by == "link":
            deployment.world.accounts.get("@ann:s").links.append((IDP, "other"))
        _, bob = await deployment.scim("POST", "/Users", body)
        homeserver.faults.append(Fault("unavailable", disables))
        if by == "human":
            async with deployment.database.write() as connection:
                [account] = await accounts.named(connection, bob["id"])
                why_not = await binding.link(connection, account, "@ann:s", "grace")
            assert why_not == (
                "@ann:s may still be changed for its former user, by a request that had no answer:"
                " try again in a few minutes"
            )
        else:
            await deployment.settle()
            [account] = await accounts.named(deployment.database.reader, bob["id"])
            assert (account.user_id, account.problem) == (None, "unavailable")
            assert account.reason is not None
            assert "@ann:s may still be changed for its former user" in account.reason
        await deployment.quiet(LATEST)
        deployment.hands.passed += LATEST
        if by == "human":
            await deployment.link(bob["id"], "@ann:s")
        await deployment.quiet()
        [account] = await accounts.named(deployment.database.reader, bob["id"])
        assert account.user_id == "@ann:s"
        assert not is_out(deployment)


async def test_who_is_disabled_again_does_not_wait(tmp_path: Path) -> None:
    """What is awaited of somebody who is active is no reason to leave them in any longer."""
    async with deployed(tmp_path) as deployment:
        scim_id = await unanswered(deployment)
        await disabled(deployment, scim_id, active=True)
        deployment.hands.passed += 5.0
        async with deployment.while_slow(lambda r: r.path[-1] == "@ann:s"):
            await disabled(deployment, scim_id, active=False)
        assert is_out(deployment)


async def test_what_was_seen_of_one_account_says_nothing_of_another(tmp_path: Path) -> None:
    """A human has said meanwhile that it is the user's."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment)
        deployment.world.account("@new:s")
        async with deployment.database.write() as connection:
            [before] = await accounts.named(connection, scim_id)
        await deployment.link(scim_id, "@new:s")
        await deployment.quiet()
        await disabled(deployment, scim_id, active=False)
        await deployment.quiet()
        async with deployment.database.write() as connection:
            await accounts.not_done(connection, before, Disablement())
            [known] = await accounts.named(connection, scim_id)
        assert (known.user_id, known.ours) == ("@new:s", Disablement(locked=True))


async def test_an_account_stays_its_users_though_it_is_being_locked(tmp_path: Path) -> None:
    """A human may say so, whatever is under way; and of others once a lock was refused."""
    async with deployed(tmp_path) as deployment:
        scim_id = await unanswered(deployment)
        await deployment.link(scim_id, "@ann:s")
        deployment.homeserver.before = refuse
        await deployment.scim("DELETE", f"/Users/{scim_id}")
        await deployment.quiet()
        assert (await row(deployment))["problem"] == "refused"
        deployment.hands.passed += LATEST
        body = {"schemas": [USER], "userName": "bob", "externalId": "other"}
        _, bob = await deployment.scim("POST", "/Users", body)
        await deployment.link(bob["id"], "@ann:s")
