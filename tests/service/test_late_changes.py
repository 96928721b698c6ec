"""Whatever got no answer may be carried out late, and is looked at once more."""

from pathlib import Path
from typing import Any

import pytest

from scim_matrix.store import accounts, binding, brake
from scim_matrix.store.accounts import LATEST
from scim_matrix.sync.guard import Brake
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import IDP, Configuration, Deployment, deployed
from tests.homeserver.errors import MatrixError
from tests.service.late import (
    USER,
    How,
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

OTHERS = ("bob", "cat", "dan", "eve")
TWO = Brake(0, 2, 3600)


async def say(deployment: Deployment, name: str, scim_id: str | None = None, **more: Any) -> str:
    """Have the identity provider say who somebody is, new without a SCIM id; return that."""
    body = {"schemas": [USER], "userName": name, "externalId": name, **more}
    if scim_id is None:
        _, made = await deployment.scim("POST", "/Users", body)
        return str(made["id"])
    assert (await deployment.scim("PUT", f"/Users/{scim_id}", body))[0] == 200
    return scim_id


async def held(deployment: Deployment) -> set[str]:
    """Return whose accounts wait for a human."""
    return {str(one.user_id) for one in await brake.held_accounts(deployment.database.reader)}


def identities(deployment: Deployment) -> list[str]:
    """Return by which of the provider's subjects somebody signs in to Ann's account."""
    links = deployment.world.accounts.get("@ann:s").links
    return [subject for provider, subject in links if provider == IDP]


def putting(word: str, sent: list[dict[str, Any]]) -> Any:
    """Return what tells a request that puts a word on Ann's account, and keeps what it puts."""

    def is_meant(request: Request) -> bool:
        if (request.method, request.path[-1]) != ("PUT", "@ann:s") or word not in str(request.body):
            return False
        sent.append(request.body)
        return True

    return is_meant


def losing(deployment: Deployment, word: str) -> list[dict[str, Any]]:
    """Have the next request that puts a word on Ann's account get no answer; return what it puts.

    That is empty until then.
    """
    sent: list[dict[str, Any]] = []
    deployment.homeserver.faults.append(Fault("unavailable", putting(word, sent)))
    return sent


def makes(name: str) -> Any:
    """Return what tells a request that makes somebody's account, or changes it."""
    return lambda request: (request.method, request.path[-1]) == ("PUT", f"@{name}:s")


@pytest.mark.parametrize("on_disable", ["lock", "suspend"])
@pytest.mark.parametrize("said", ["another identity", "another name", "inactive", "deleted"])
async def test_what_is_said_while_an_account_is_made_is_done_once_it_is(
    tmp_path: Path, said: str, on_disable: Any
) -> None:
    """It was made by what had been said before: nobody takes that for what is said by now."""
    configuration = Configuration(on_disable=on_disable, on_delete=on_disable)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        scim_id = await say(deployment, "ann", externalId="first")
        async with deployment.while_slow(makes("ann"), 30.0):
            if said == "deleted":
                assert (await deployment.scim("DELETE", f"/Users/{scim_id}"))[0] == 204
            else:
                subject = "second" if said == "another identity" else "first"
                name, active = "Other" if said == "another name" else "ann", said != "inactive"
                more = {"externalId": subject, "displayName": name, "active": active}
                await say(deployment, "ann", scim_id, **more)
        account = deployment.world.accounts.get("@ann:s")
        assert is_out(deployment) is (said in ("inactive", "deleted"))
        assert identities(deployment) == ["second" if said == "another identity" else "first"]
        assert account.displayname == ("Other" if said == "another name" else "ann")


async def test_what_was_written_by_a_request_without_an_answer_goes_though_its_user_is_renamed(
    tmp_path: Path,
) -> None:
    """Whoever has that identity by now has an account of their own."""
    async with deployed(tmp_path) as deployment:
        deployment.homeserver.faults.append(Fault("answer lost", makes("ann")))
        scim_id = await say(deployment, "ann", externalId="first", emails=[{"value": "a@x.org"}])
        await deployment.settle()
        await say(deployment, "other", scim_id, externalId="second")
        await deployment.settle(30.0)
        await say(deployment, "bob", externalId="first")
        await deployment.quiet(3 * LATEST)
        assert identities(deployment) == ["second"]
        account = deployment.world.accounts.get("@ann:s")
        assert account.emails == []
        assert (IDP, "first") in deployment.world.accounts.get("@bob:s").links


async def test_what_may_still_lock_somebody_was_let_through(tmp_path: Path) -> None:
    """Though the identity provider took its word back between: nobody lets them be in vain."""
    async with deployed(tmp_path, configuration=Configuration(brake=TWO)) as deployment:
        scim_id = await ann(deployment)
        others = {name: await say(deployment, name) for name in OTHERS}
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", disables))
        for active in (False, True, False):
            await disabled(deployment, scim_id, active=active)
            await deployment.settle(5.0 * active)
        for name, other in others.items():
            await say(deployment, name, other, active=False)
        await deployment.settle(20.0)
        assert await held(deployment) == {f"@{name}:s" for name in OTHERS}
        assert is_out(deployment)


async def test_what_had_let_somebody_in_late_is_undone_whoever_else_is_held(
    tmp_path: Path,
) -> None:
    """They were let through when they were disabled."""
    async with deployed(tmp_path, configuration=Configuration(brake=TWO)) as deployment:
        scim_id = await ann(deployment)
        others = {name: await say(deployment, name) for name in OTHERS}
        await disabled(deployment, scim_id, active=False)
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", enables))
        for active in (True, False):
            await disabled(deployment, scim_id, active=active)
            await deployment.settle(5.0 * (not active))
        assert is_out(deployment)
        deployment.world.accounts.get("@ann:s").locked = False
        for name, other in others.items():
            await say(deployment, name, other, active=False)
        await deployment.settle(LATEST + 1.0)
        assert await held(deployment) == {f"@{name}:s" for name in OTHERS}
        assert is_out(deployment)


async def test_a_lock_lets_another_kind_of_it_through(tmp_path: Path) -> None:
    """Whoever may still be suspended is not held for being deleted, and let be in vain."""
    configuration = Configuration(brake=TWO, on_disable="suspend")
    async with deployed(tmp_path, configuration=configuration) as deployment:
        scim_id = await ann(deployment)
        others = [await say(deployment, name) for name in OTHERS]
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", disables))
        await disabled(deployment, scim_id, active=False)
        await deployment.settle()
        for one in (scim_id, *others):
            await deployment.scim("DELETE", f"/Users/{one}")
        await deployment.settle(20.0)
        assert await held(deployment) == {f"@{name}:s" for name in OTHERS}
        assert is_out(deployment)


async def test_what_may_let_people_in_late_lets_no_locks_through(tmp_path: Path) -> None:
    """Of many who were unlocked without an answer, and are disabled again, all are held."""
    async with deployed(tmp_path, configuration=Configuration(brake=TWO)) as deployment:
        people = {name: await say(deployment, name) for name in ("ann", *OTHERS)}
        await deployment.quiet()
        for name, scim_id in people.items():
            await say(deployment, name, scim_id, active=False)
        await deployment.settle(20.0)
        await deployment.decide("accounts", "approved")
        await deployment.settle(20.0)
        assert await held(deployment) == set()
        deployment.hands.passed += 86400.0
        await deployment.quiet()

        def unlocks(request: Request) -> bool:
            return request.body.get("locked") is False

        deployment.homeserver.faults += [Fault("unavailable", unlocks) for _ in people]
        for name, scim_id in people.items():
            await say(deployment, name, scim_id, active=True)
        await deployment.settle(30.0)
        assert deployment.homeserver.faults == []
        for name, scim_id in people.items():
            await say(deployment, name, scim_id, active=False)
        await deployment.settle(20.0)
        assert await held(deployment) == {f"@{name}:s" for name in people}


async def test_no_lock_lets_a_deactivation_through(tmp_path: Path) -> None:
    """Whoever was let be locked, which had no answer for the whole grace period, is held anew."""
    configuration = Configuration(brake=TWO, delete_grace=86400.0)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        people = {name: await say(deployment, name) for name in ("ann", *OTHERS)}
        await deployment.quiet()

        def before(request: Request) -> None:
            if request.body.get("locked"):
                raise MatrixError(500, "M_UNKNOWN", "Internal server error")

        deployment.homeserver.before = before
        for scim_id in people.values():
            await deployment.scim("DELETE", f"/Users/{scim_id}")
        await deployment.settle(60.0)
        await deployment.decide("accounts", "approved")
        await deployment.settle(60.0)
        deployment.hands.passed += 2 * 86400.0
        await deployment.quiet(60.0)
        assert await held(deployment) == {f"@{name}:s" for name in people}
        assert not any(one.deactivated for one in deployment.world.accounts.all.values())


@pytest.mark.parametrize("on_disable", ["suspend", "nothing"])
async def test_no_later_word_makes_a_late_request_a_hands(tmp_path: Path, on_disable: Any) -> None:
    """However else the account was disabled, or left as it is, between."""
    configuration = Configuration(on_disable=on_disable)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        scim_id = await ann(deployment)
        deployment.homeserver.faults.append(Fault("unavailable", disables))
        if on_disable == "suspend":
            await disabled(deployment, scim_id, active=False)
            await deployment.settle()
        await deployment.scim("DELETE", f"/Users/{scim_id}")
        await deployment.settle(10.0 if on_disable == "suspend" else 0.0)
        body = {"schemas": [USER], "userName": "ann", "externalId": "sub", "active": False}
        _, made = await deployment.scim("POST", "/Users", body)
        await deployment.settle()
        await disabled(deployment, made["id"], active=True)
        await deployment.settle(20.0)
        carry_out(deployment, "suspend" if on_disable == "suspend" else "lock")
        await deployment.quiet(LATEST)
        assert not is_out(deployment)
        known = await row(deployment)
        assert (known["by_hand"], known["unsure_until"]) == (None, None)


async def test_a_link_that_is_written_late_is_taken_off(tmp_path: Path) -> None:
    """Nobody signs in to an account by an identity that was its user's for a moment."""
    async with deployed(tmp_path) as deployment:
        scim_id = await say(deployment, "ann")
        await deployment.quiet()
        sent = losing(deployment, "wrong")
        await say(deployment, "ann", scim_id, externalId="wrong")
        await deployment.settle()
        await say(deployment, "ann", scim_id, externalId="right")
        await deployment.settle(5.0)
        assert "right" in identities(deployment)
        deployment.world.accounts.put("@ann:s", sent[0])
        assert "wrong" in identities(deployment)
        await deployment.settle(LATEST)
        assert identities(deployment) == ["right"]


async def test_a_link_of_an_account_that_is_made_late_is_taken_off(tmp_path: Path) -> None:
    """Asked for by a wrong identity, and made by the right one before that is carried out."""
    async with deployed(tmp_path) as deployment:
        sent = losing(deployment, "wrong")
        scim_id = await say(deployment, "ann", externalId="wrong")
        await deployment.settle()
        await say(deployment, "ann", scim_id, externalId="right")
        await deployment.settle(5.0)
        assert "right" in identities(deployment)
        deployment.world.accounts.put("@ann:s", sent[0])
        await deployment.settle(LATEST)
        assert identities(deployment) == ["right"]
        assert (await row(deployment))["unsure_until"] is None


async def test_an_address_that_is_written_late_is_taken_off(tmp_path: Path) -> None:
    """It is somebody else's by then."""
    async with deployed(tmp_path) as deployment:
        scim_id = await say(deployment, "ann")
        await deployment.quiet()
        sent = losing(deployment, "threepids")
        await say(deployment, "ann", scim_id, emails=[{"value": "chief@corp.example"}])
        await deployment.settle()
        await say(deployment, "ann", scim_id)
        await deployment.settle(5.0)
        deployment.world.accounts.put("@ann:s", sent[0])
        assert deployment.world.accounts.get("@ann:s").emails == ["chief@corp.example"]
        await deployment.settle(LATEST)
        assert deployment.world.accounts.get("@ann:s").emails == []


@pytest.mark.parametrize("then", ["nothing", "deleted", "linked elsewhere"])
async def test_an_account_that_is_being_taken_from_a_user_goes_to_nobody_yet(
    tmp_path: Path, then: str
) -> None:
    """What takes their link off may write the links as they were over the next one's."""
    async with deployed(tmp_path) as deployment:
        scim_id = await say(deployment, "ann")
        bob = await say(deployment, "bob")
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", putting("external_ids", [])))
        await deployment.unlink(scim_id)
        # By a retry it is off.
        await deployment.settle(10.0)
        assert deployment.world.accounts.get("@ann:s").links == []
        if then == "deleted":
            await deployment.scim("DELETE", f"/Users/{scim_id}")
        elif then == "linked elsewhere":
            deployment.world.account("@new:s")
            await deployment.link(scim_id, "@new:s")
        await deployment.settle(10.0)
        async with deployment.database.write() as connection:
            [account] = await accounts.named(connection, bob)
            why_not = await binding.link(connection, account, "@ann:s", "grace")
        assert why_not is not None
        assert why_not.startswith("@ann:s may still be changed for its former user")
        await deployment.quiet(2 * LATEST)
        deployment.hands.passed += LATEST
        await deployment.link(bob, "@ann:s")
        await deployment.quiet()
        assert (IDP, "bob") in deployment.world.accounts.get("@ann:s").links


async def test_what_may_still_be_made_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """Whoever was deleted while theirs was made has it late, and nobody has that name."""
    async with deployed(tmp_path) as deployment:

        def makes(request: Request) -> bool:
            return request.method == "PUT" and request.path[-1] == "@ann:s"

        deployment.homeserver.faults.append(Fault("request lost", makes))
        scim_id = await say(deployment, "ann")
        await deployment.settle()
        assert (await deployment.scim("DELETE", f"/Users/{scim_id}"))[0] == 204
        await say(deployment, "bob")
        await deployment.settle(10.0)
        assert "@bob:s" in deployment.world.accounts.all


async def test_what_has_its_answer_keeps_nobody_waiting(tmp_path: Path) -> None:
    """An account that was taken from its user can be the next one's at once."""
    async with deployed(tmp_path) as deployment:
        scim_id = await say(deployment, "ann")
        bob = await say(deployment, "bob")
        await deployment.quiet()
        await deployment.unlink(scim_id)
        await deployment.settle()
        assert deployment.world.accounts.get("@ann:s").links == []
        await deployment.link(bob, "@ann:s")
        await deployment.quiet()
        assert (IDP, "bob") in deployment.world.accounts.get("@ann:s").links


async def test_the_two_minutes_begin_when_an_answer_is_given_up(tmp_path: Path) -> None:
    """The requests before it may have taken long."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment)
        seen, begun = 0, deployment.hands.passed

        def after(request: Request) -> None:
            nonlocal seen
            if request.method == "GET" and request.path[-1] == "@ann:s":
                seen += 1
                deployment.hands.passed += 50.0 * (seen == 2)

        deployment.homeserver.after = after
        deployment.homeserver.faults.append(Fault("unavailable", disables))
        await disabled(deployment, scim_id, active=False)
        await deployment.settle()
        assert deployment.hands.passed - begun == 50.0
        await disabled(deployment, scim_id, active=True)
        await deployment.settle()
        deployment.hands.passed += LATEST - 10.0
        carry_out(deployment, "lock")
        await deployment.settle(10.0)
        assert not is_out(deployment)
        assert (await row(deployment))["by_hand"] is None


@pytest.mark.parametrize("how", ["lock", "deactivate"])
async def test_whoever_has_another_account_is_out_of_the_one_before(
    tmp_path: Path, how: How
) -> None:
    """Though what had let them in there is carried out late."""
    configuration = Configuration(on_disable=how)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        scim_id = await ann(deployment)
        deployment.world.account("@new:s")
        await disabled(deployment, scim_id, active=False)
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", enables))
        await disabled(deployment, scim_id, active=True)
        await deployment.settle()
        await deployment.link(scim_id, "@new:s")
        await deployment.settle(10.0)
        account = deployment.world.accounts.get("@ann:s")
        account.locked = account.deactivated = False
        await deployment.settle(LATEST)
        assert is_out(deployment)


@pytest.mark.parametrize("jumped", [180.0, -3600.0])
async def test_no_other_clock_ends_or_stretches_the_two_minutes(
    tmp_path: Path, jumped: float
) -> None:
    """They begin anew with a start: nobody watched the time before."""
    async with deployed(tmp_path) as deployment:
        scim_id = await unanswered(deployment)
        await deployment.stop()
        deployment.hands.jumped += jumped
        await deployment.start()
        await disabled(deployment, scim_id, active=True)
        await deployment.settle()
        deployment.hands.passed += LATEST - 5.0
        carry_out(deployment, "lock")
        await deployment.settle(5.0)
        assert not is_out(deployment)
        carry_out(deployment, "lock")
        await deployment.quiet()
        assert (is_out(deployment), (await row(deployment))["by_hand"]) == (True, "locked")


async def test_a_clock_that_was_ahead_keeps_nobody_in_doubt(tmp_path: Path) -> None:
    """The time was over by that clock when the service ended, and nothing had looked since."""
    async with deployed(tmp_path) as deployment:
        await deployment.stop()
        deployment.hands.jumped = 86400.0
        await deployment.start()
        await unanswered(deployment)
        deployment.hands.passed += LATEST
        await deployment.stop()
        deployment.hands.jumped = 0.0
        await deployment.start()
        known = await row(deployment)
        assert known["unsure_until"] == deployment.database.clock.now() + LATEST


async def test_whoever_was_deactivated_is_brought_back_whatever_answers_are_lost(
    tmp_path: Path,
) -> None:
    """Being reactivated had no answer, nor had what was asked for after that."""
    configuration = Configuration(on_disable="deactivate", on_self_leave="respect")
    async with deployed(tmp_path, configuration=configuration) as deployment:
        room = deployment.world.rooms.create(deployment.world.service, room_id="!room")
        await deployment.put_map({"*": ["!room"]})
        scim_id = await ann(deployment)
        await disabled(deployment, scim_id, active=False)
        await deployment.quiet(4000.0)
        assert room.membership("@ann:s") == "leave"
        deployment.homeserver.faults += [
            Fault("answer lost", enables),
            Fault("answer lost", putting("displayname", [])),
        ]
        await disabled(deployment, scim_id, active=True)
        await deployment.settle()
        await say(deployment, "ann", scim_id, externalId="sub", displayName="Ann")
        await deployment.quiet(2 * LATEST)
        assert deployment.homeserver.faults == []
        assert room.membership("@ann:s") == "join"


@pytest.mark.parametrize("later", [0.0, 1000.0])
async def test_the_next_one_is_not_locked_out_by_what_was_done_to_the_last(
    tmp_path: Path, later: float
) -> None:
    """The service had locked it, and takes that off from whoever it goes to."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment)
        bob = await say(deployment, "bob")
        await deployment.quiet()
        await disabled(deployment, scim_id, active=False)
        await deployment.settle()
        deployment.hands.passed += later
        await deployment.unlink(scim_id)
        await deployment.quiet()
        assert is_out(deployment)
        await deployment.link(bob, "@ann:s")
        await deployment.quiet()
        assert not is_out(deployment)


async def test_an_account_that_is_linked_back_is_known_as_before(tmp_path: Path) -> None:
    """What the service wrote on it is still its own."""
    async with deployed(tmp_path) as deployment:
        emails = [{"value": "old@corp.example"}]
        scim_id = await say(deployment, "ann", emails=emails)
        await deployment.quiet()
        await say(deployment, "ann", scim_id, active=False, emails=emails)
        await deployment.settle()
        await deployment.quiet()
        await deployment.unlink(scim_id)
        await deployment.settle()
        await deployment.link(scim_id, "@ann:s")
        emails = [{"value": "new@corp.example"}]
        await say(deployment, "ann", scim_id, active=True, emails=emails)
        await deployment.quiet()
        assert deployment.world.accounts.get("@ann:s").emails == ["new@corp.example"]


@pytest.mark.parametrize("then", ["active", "inactive", "deleted"])
async def test_a_link_that_is_written_after_all_is_taken_off_whoever_it_was(
    tmp_path: Path, then: str
) -> None:
    """Somebody was linked to another one's account by mistake, and unlinked at once."""
    async with deployed(tmp_path) as deployment:
        scim_id = await say(deployment, "ann")
        deployment.world.account("@carl:s")
        await deployment.quiet()
        sent: list[dict[str, Any]] = []

        def links(request: Request) -> bool:
            is_meant = request.path[-1] == "@carl:s" and "external_ids" in request.body
            sent.extend([request.body] * is_meant)
            return is_meant

        deployment.homeserver.faults.append(Fault("unavailable", links))
        await deployment.link(scim_id, "@carl:s")
        await deployment.settle(2.0)
        assert sent
        await deployment.unlink(scim_id)
        if then == "inactive":
            await say(deployment, "ann", scim_id, active=False)
        elif then == "deleted":
            await deployment.scim("DELETE", f"/Users/{scim_id}")
        await deployment.settle(10.0)
        deployment.world.accounts.put("@carl:s", sent[0])
        assert deployment.world.accounts.get("@carl:s").links != []
        await deployment.settle(2 * LATEST)
        assert deployment.world.accounts.get("@carl:s").links == []


async def test_what_is_refused_was_answered(tmp_path: Path) -> None:
    """An account whose lock is refused can be the next one's at once, and is not in doubt."""
    async with deployed(tmp_path) as deployment:
        scim_id = await ann(deployment)
        bob = await say(deployment, "bob")
        await deployment.quiet()
        deployment.homeserver.before = refuse
        await deployment.scim("DELETE", f"/Users/{scim_id}")
        await deployment.settle()
        known = await row(deployment)
        assert (known["problem"], known["unsure_until"]) == ("refused", None)
        await deployment.link(bob, "@ann:s")
        await deployment.quiet()
        assert (IDP, "bob") in deployment.world.accounts.get("@ann:s").links


async def test_whom_a_human_let_be_locked_is_whatever_else_is_held_since(tmp_path: Path) -> None:
    """The homeserver was away, and then more than the limit were to be locked beside them."""
    async with deployed(tmp_path, configuration=Configuration(brake=TWO)) as deployment:
        first = {name: await say(deployment, name) for name in ("ann", "bob", "cat")}
        then = {name: await say(deployment, name) for name in ("dan", "eve", "fay")}
        await deployment.quiet()
        for name, scim_id in first.items():
            await say(deployment, name, scim_id, active=False)
        await deployment.settle(20.0)
        deployment.homeserver.dark = True
        await deployment.decide("accounts", "approved")
        for name, scim_id in then.items():
            await say(deployment, name, scim_id, active=False)
        deployment.homeserver.dark = False
        await deployment.quiet()
        locked = {user for user, one in deployment.world.accounts.all.items() if one.locked}
        assert locked == {f"@{name}:s" for name in first}
        assert await held(deployment) == {f"@{name}:s" for name in then}


async def test_what_somebody_mended_by_hand_is_no_trouble_any_more(tmp_path: Path) -> None:
    """Nothing is left to be asked for, so that only seeing it ends what is shown."""
    async with deployed(tmp_path) as deployment:
        scim_id = await say(deployment, "ann")
        await deployment.quiet()
        deployment.homeserver.before = refuse
        await say(deployment, "ann", scim_id, active=False)
        await deployment.settle(20.0)
        assert (await row(deployment))["problem"] == "refused"
        deployment.world.accounts.get("@ann:s").locked = True
        await deployment.quiet(8000.0)
        seen = await row(deployment)
        assert [seen[name] for name in ("problem", "reason", "cure", "attempts")] == [
            *(None, None, None),
            0,
        ]
