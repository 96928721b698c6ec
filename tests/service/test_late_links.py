"""A Matrix account that goes from one user to another is each time one user's whole and only."""

import copy
from pathlib import Path
from typing import Any

import pytest

from scim_matrix.matrix.accounts import MARK_PROVIDER
from scim_matrix.store import accounts, binding
from scim_matrix.store.accounts import LATEST
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import IDP, Configuration, Deployment, deployed
from tests.homeserver.errors import forbidden
from tests.service.late import USER, How, is_out, row, whatever_else_can_be_done
from tests.service.test_late_changes import OTHERS, TWO, held, identities, losing, putting, say

NOT_YET = "@ann:s may still be changed for its former user"


async def both(deployment: Deployment) -> tuple[str, str]:
    """Have Ann and Bob have accounts; return their ids."""
    made = await say(deployment, "ann"), await say(deployment, "bob")
    await deployment.quiet()
    return made


async def why_not(deployment: Deployment, scim_id: str) -> str | None:
    """Have a human say that Ann's account is somebody's; return why it is not."""
    async with deployment.database.write() as connection:
        [account] = await accounts.named(connection, scim_id)
        return await binding.link(connection, account, "@ann:s", "grace")


def put(deployment: Deployment, body: dict[str, Any]) -> None:
    """Have the homeserver carry out what it was asked to put on Ann's account."""
    deployment.world.accounts.put("@ann:s", copy.deepcopy(body))


async def test_an_account_is_in_one_hand_at_a_time(tmp_path: Path) -> None:
    """Taken from one user and given to another at once, it leads to the second and stays so."""
    async with deployed(tmp_path) as deployment:
        ann, bob = await both(deployment)
        await deployment.unlink(ann)
        assert await why_not(deployment, bob) is None
        async with deployment.while_slow(putting("external_ids", []), 30.0):
            await whatever_else_can_be_done()
        assert identities(deployment) == ["bob"]


async def test_what_is_taken_off_late_is_looked_at_whoever_has_it_by_then(tmp_path: Path) -> None:
    """It had no answer, and was asked for before a human gave the account away."""
    async with deployed(tmp_path) as deployment:
        ann, bob = await both(deployment)
        await deployment.unlink(ann)
        sent = losing(deployment, "external_ids")
        assert await why_not(deployment, bob) is None
        await deployment.settle(30.0)
        assert identities(deployment) == ["bob"]
        put(deployment, sent[0])
        await deployment.quiet(2 * LATEST)
        assert identities(deployment) == ["bob"]


@pytest.mark.parametrize("then", ["active", "deleted"])
async def test_what_is_taken_off_an_account_is_never_its_next_users(
    tmp_path: Path, then: str
) -> None:
    """Whose own link it keeps, whoever is kept from it, and when they are deleted."""
    async with deployed(tmp_path) as deployment:
        ann, bob = await both(deployment)
        await deployment.unlink(ann)
        await deployment.quiet()
        await deployment.link(bob, "@ann:s")
        await deployment.quiet()
        if then == "deleted":
            await deployment.scim("DELETE", f"/Users/{bob}")
        await say(deployment, "ann", ann, displayName="Ann")
        await deployment.quiet(4000.0)
        assert identities(deployment) == ["bob"]
        assert is_out(deployment) is (then == "deleted")


@pytest.mark.parametrize("ends", ["while it is on its way", "by a kill"])
async def test_an_account_that_a_link_is_being_taken_off_goes_to_nobody_yet(
    tmp_path: Path, ends: str
) -> None:
    """Nobody has been told yet what comes of that, or ever will be."""
    async with deployed(tmp_path) as deployment:
        ann, bob = await both(deployment)
        await deployment.unlink(ann)
        if ends == "by a kill":
            await deployment.die(putting("external_ids", []))
            await deployment.settle(5.0)
            why = await why_not(deployment, bob)
        else:
            async with deployment.while_slow(putting("external_ids", [])):
                why = await why_not(deployment, bob)
            assert await why_not(deployment, bob) is None
        assert why is not None
        assert why.startswith(NOT_YET)


async def test_what_is_refused_to_be_taken_off_keeps_nobody_waiting(tmp_path: Path) -> None:
    """It was answered, and nothing of it is carried out later."""
    async with deployed(tmp_path) as deployment:
        ann, bob = await both(deployment)

        takes_off = putting("external_ids", [])

        def before(request: Request) -> None:
            if takes_off(request):
                raise forbidden("not here")

        deployment.homeserver.before = before
        await deployment.unlink(ann)
        await deployment.settle(5.0)
        assert identities(deployment) == ["ann"]
        assert await why_not(deployment, bob) is None


async def test_the_two_minutes_begin_when_an_answer_is_given_up_whoever_has_it(
    tmp_path: Path,
) -> None:
    """A human has said meanwhile that the account is not the user's."""
    async with deployed(tmp_path) as deployment:
        ann, bob = await both(deployment)
        homeserver = deployment.homeserver
        reads: list[Request] = []

        def second_read(request: Request) -> bool:
            reads.extend([request] * ((request.method, request.path[-1]) == ("GET", "@ann:s")))
            return len(reads) == 2

        homeserver.faults.append(Fault("unavailable", putting("wrong", [])))
        await say(deployment, "ann", ann, externalId="wrong")
        async with deployment.while_slow(second_read):
            await deployment.unlink(ann)
            deployment.hands.passed += 50.0
        assert homeserver.faults == []
        deployment.hands.passed += LATEST - 30.0
        assert await why_not(deployment, bob) is not None


@pytest.mark.parametrize("then", ["deleted", "renamed", "inactive and renamed"])
async def test_an_account_that_may_still_be_made_for_one_is_made_for_nobody_else(
    tmp_path: Path, then: str
) -> None:
    """Made late, it would have the one's links, addresses and name."""
    async with deployed(tmp_path) as deployment:
        sent = losing(deployment, "")
        ann = await say(deployment, "ann", emails=[{"value": "ann@x.org"}])
        await deployment.settle()
        if then == "deleted":
            await deployment.scim("DELETE", f"/Users/{ann}")
        else:
            active = then == "renamed"
            await say(deployment, "anna", ann, externalId="ann", active=active)
        await deployment.settle()
        other = await say(deployment, "ann", externalId="other")
        await deployment.settle(10.0)
        assert "@ann:s" not in deployment.world.accounts.all
        [account] = await accounts.named(deployment.database.reader, other)
        assert account.reason is not None
        assert account.reason.startswith(NOT_YET)
        await deployment.quiet(2 * LATEST)
        assert identities(deployment) == ["other"]
        assert len(sent) == 1


@pytest.mark.parametrize("then", ["deleted", "inactive and renamed"])
async def test_who_is_out_waits_for_nothing_that_was_asked_for_them(
    tmp_path: Path, then: str
) -> None:
    """The account was made after all, and is theirs by the mark that it was made with."""
    async with deployed(tmp_path) as deployment:
        sent = losing(deployment, "")
        ann = await say(deployment, "ann")
        await deployment.settle()
        put(deployment, sent[0])
        if then == "deleted":
            await deployment.scim("DELETE", f"/Users/{ann}")
        else:
            await say(deployment, "anna", ann, externalId="ann", active=False)
        await deployment.settle(5.0)
        assert is_out(deployment)


async def test_a_name_that_was_asked_for_twice_is_as_much_in_doubt(tmp_path: Path) -> None:
    """The first time was over long before."""
    async with deployed(tmp_path) as deployment:
        sent: list[Request] = []

        def makes(request: Request) -> bool:
            sent.extend([request] * ("external_ids" in request.body))
            return "external_ids" in request.body

        deployment.homeserver.faults.append(Fault("unavailable", makes, times=1000))
        ann = await say(deployment, "ann")
        await deployment.settle()
        await say(deployment, "anna", ann, externalId="ann")
        deployment.hands.passed += LATEST + 20.0
        await deployment.settle()
        await say(deployment, "ann", ann)
        sent.clear()
        while not sent:
            await deployment.settle(10.0)
        assert sent[-1].path[-1] == "@ann:s"
        deployment.homeserver.faults.clear()
        await say(deployment, "annb", ann, externalId="ann")
        await say(deployment, "ann", externalId="other")
        await deployment.settle(10.0)
        assert "@ann:s" not in deployment.world.accounts.all


async def linked_late(deployment: Deployment, out: str) -> None:
    """Have Bob's identity lead to Ann's account, late, who is out by then."""
    ann = await say(deployment, "ann")
    await deployment.quiet()
    sent = losing(deployment, "bob")
    await say(deployment, "ann", ann, externalId="bob")
    await deployment.settle()
    await say(deployment, "ann", ann, externalId="new")
    await deployment.settle(10.0)
    if out == "deleted":
        await deployment.scim("DELETE", f"/Users/{ann}")
    else:
        await say(deployment, "ann", ann, externalId="new", active=False)
    await deployment.settle(10.0)
    put(deployment, sent[0])


@pytest.mark.parametrize("out", ["deleted", "inactive"])
@pytest.mark.parametrize("how", ["lock", "deactivate"])
async def test_a_link_that_is_written_late_on_who_is_out_leads_nobody_there(
    tmp_path: Path, how: How, out: str
) -> None:
    """It was another one's by mistake, who is somebody else."""
    async with deployed(tmp_path, configuration=Configuration(on_disable=how)) as deployment:
        await linked_late(deployment, out)
        await deployment.quiet(2 * LATEST)
        assert identities(deployment) == []
        assert is_out(deployment)
        bob = await say(deployment, "bob")
        await deployment.quiet()
        [account] = await accounts.named(deployment.database.reader, bob)
        assert account.user_id == "@bob:s"


async def test_a_link_that_is_written_late_is_taken_off_who_was_let_in_late_too(
    tmp_path: Path,
) -> None:
    """They are locked anew first."""
    async with deployed(tmp_path) as deployment:
        await linked_late(deployment, "inactive")
        deployment.hands.passed += LATEST
        deployment.world.accounts.get("@ann:s").locked = False
        await deployment.settle(10.0)
        assert (identities(deployment), is_out(deployment)) == ([], True)


@pytest.mark.parametrize("by", ["themselves", "the settings"])
async def test_nothing_is_taken_off_the_account_of_who_is_protected_by_now(
    tmp_path: Path, by: str
) -> None:
    """They administer the homeserver since they were locked, or are named in the settings."""
    async with deployed(tmp_path) as deployment:
        await linked_late(deployment, "inactive")
        if by == "themselves":
            deployment.world.accounts.get("@ann:s").admin = True
        else:
            await deployment.restart(protected_users=("@ann:s",))
        bob = await say(deployment, "bob")
        await deployment.quiet(2 * LATEST)
        assert "bob" in identities(deployment)
        [account] = await accounts.named(deployment.database.reader, bob)
        assert account.problem == "conflict"


async def test_where_an_account_is_gone_meanwhile_nothing_leads_to_it(tmp_path: Path) -> None:
    """A human has deleted it while it was observed."""
    async with deployed(tmp_path) as deployment:
        await linked_late(deployment, "inactive")
        all_accounts, times = deployment.world.accounts.all, 0

        def second(request: Request) -> bool:
            nonlocal times
            times += (request.method, request.path[-1]) == ("GET", "@ann:s")
            if times == 2:
                all_accounts.pop("@ann:s", None)
            return False

        deployment.homeserver.faults.append(Fault("unavailable", second))
        deployment.hands.passed += LATEST
        await deployment.settle()
        found = await row(deployment)
        assert times == 2
        assert (found["confirmed"], found["problem"]) == ("disabled", None)


async def test_a_link_that_is_written_late_on_a_former_account_is_taken_off(
    tmp_path: Path,
) -> None:
    """Whoever had it has another one by then."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann")
        deployment.world.account("@new:s")
        await deployment.quiet()
        sent = losing(deployment, "bob")
        await say(deployment, "ann", ann, externalId="bob")
        await deployment.settle()
        await say(deployment, "ann", ann)
        await deployment.settle(10.0)
        await deployment.unlink(ann)
        await deployment.link(ann, "@new:s")
        await deployment.settle(10.0)
        put(deployment, {"external_ids": [{"auth_provider": IDP, "external_id": "bob"}]})
        await deployment.quiet(3 * LATEST)
        assert len(sent) == 1
        assert identities(deployment) == []


async def test_whose_identity_nobody_says_keeps_the_one_that_leads_to_them(
    tmp_path: Path,
) -> None:
    """A request had no answer, and then the user is put out by a PUT that leaves it out."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann")
        await deployment.quiet()
        losing(deployment, "displayname")
        await say(deployment, "ann", ann, displayName="Ann")
        await deployment.settle()
        body = {"schemas": [USER], "userName": "ann", "active": False}
        assert (await deployment.scim("PUT", f"/Users/{ann}", body))[0] == 200
        await deployment.quiet(3 * LATEST)
        assert (identities(deployment), is_out(deployment)) == (["ann"], True)


async def test_what_a_human_takes_back_leads_to_nobody_however_often_they_came(
    tmp_path: Path,
) -> None:
    """They were deleted and came back, and had another account by a human's word for a while."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann")
        deployment.world.account("@new:s")
        await deployment.quiet()
        await deployment.scim("DELETE", f"/Users/{ann}")
        await deployment.settle(20.0)
        again = await say(deployment, "ann")
        await deployment.quiet()
        await deployment.link(again, "@new:s")
        await deployment.quiet()
        links = deployment.world.accounts.get("@new:s").links
        assert set(links) == {(IDP, "ann"), (MARK_PROVIDER, again)}
        await deployment.unlink(again)
        await deployment.quiet()
        assert deployment.world.accounts.get("@new:s").links == []


@pytest.mark.parametrize("then", ["active", "inactive", "deleted"])
async def test_a_link_that_comes_back_late_is_taken_off_again(tmp_path: Path, then: str) -> None:
    """A human took the account from its user, and what took the link off had no answer."""
    async with deployed(tmp_path) as deployment:
        ann, _ = await both(deployment)
        sent = losing(deployment, "external_ids")
        await deployment.unlink(ann)
        await deployment.settle(10.0)
        assert identities(deployment) == []
        if then == "deleted":
            await deployment.scim("DELETE", f"/Users/{ann}")
        elif then == "inactive":
            await say(deployment, "ann", ann, active=False)
        await deployment.settle(10.0)
        put(deployment, sent[0])
        assert identities(deployment) == ["ann"]
        await deployment.settle(LATEST)
        assert identities(deployment) == []


async def test_an_account_that_is_made_again_late_is_locked_where_its_user_is_out(
    tmp_path: Path,
) -> None:
    """It was gone when the user was disabled, and may come."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann")
        await deployment.quiet()
        del deployment.world.accounts.all["@ann:s"]
        sent = losing(deployment, "")
        await say(deployment, "ann", ann, displayName="Ann")
        await deployment.settle()
        await say(deployment, "ann", ann, active=False)
        await deployment.settle(5.0)
        assert (await row(deployment))["confirmed"] == "disabled"
        put(deployment, sent[0])
        await deployment.settle(LATEST)
        assert is_out(deployment)


def puts_out(request: Request) -> bool:
    """Tell whether a request takes anybody's account out of use."""
    return request.changes and ("deactivate" in request.path or bool(request.body.get("locked")))


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("how", ["lock", "deactivate"])
async def test_what_was_let_through_long_ago_is_held_anew(
    tmp_path: Path, how: How, restarted: bool
) -> None:
    """The homeserver was away, and all are active and inactive again meanwhile."""
    configuration = Configuration(brake=TWO, on_disable=how)
    names = ("ann", *OTHERS)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        ids = {name: await say(deployment, name) for name in names}
        await deployment.quiet()
        for name, scim_id in ids.items():
            await say(deployment, name, scim_id, active=False)
        await deployment.settle(20.0)
        assert len(await held(deployment)) == len(names)
        deployment.homeserver.faults.append(Fault("unavailable", puts_out, times=len(names)))
        await deployment.decide("accounts", "approved")
        await deployment.settle(60.0)
        assert is_out(deployment)
        for name, scim_id in ids.items():
            await say(deployment, name, scim_id, active=True)
        await deployment.settle(20.0)
        assert not is_out(deployment)
        deployment.homeserver.dark = True
        deployment.hands.passed += 86400.0
        for name, scim_id in ids.items():
            await say(deployment, name, scim_id, active=False)
        await deployment.settle(5.0)
        if restarted:
            await deployment.restart()
        deployment.homeserver.dark = False
        deployment.hands.passed += 60.0
        await deployment.quiet(200.0)
        assert len(await held(deployment)) == len(names)
        assert not is_out(deployment)


async def test_the_identity_of_whoever_has_an_account_since_stays_on_it(tmp_path: Path) -> None:
    """The identity provider says by then that it is the former user's."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann")
        await deployment.quiet()
        await deployment.unlink(ann)
        await deployment.quiet()
        put(deployment, {"external_ids": [{"auth_provider": IDP, "external_id": "new"}]})
        await say(deployment, "ann", ann, externalId="new")
        await deployment.quiet(4000.0)
        assert identities(deployment) == ["new"]


async def test_what_the_next_user_has_is_not_taken_for_the_last_ones(tmp_path: Path) -> None:
    """The last one was told to have that identity by mistake, and it was written for them."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="bob")
        await deployment.quiet()
        await deployment.unlink(ann)
        await deployment.quiet()
        await say(deployment, "ann", ann)
        bob = await say(deployment, "bob")
        await deployment.quiet()
        await deployment.link(bob, "@ann:s")
        await deployment.quiet()
        taken: list[dict[str, Any]] = []
        is_taken = putting("external_ids", taken)
        deployment.homeserver.faults.append(Fault("unavailable", is_taken, times=9))
        await say(deployment, "ann", ann, displayName="Ann")
        await deployment.quiet(4000.0)
        assert (identities(deployment), taken) == (["bob"], [])
