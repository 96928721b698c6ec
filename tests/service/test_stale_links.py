"""What was a user's by the identity provider's word stays on nobody's account once it is not."""

from pathlib import Path

import pytest

from scim_matrix.store import accounts
from scim_matrix.sync.guard import Brake
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import IDP, Configuration, Deployment, deployed
from tests.service.late import How, row
from tests.service.test_late_changes import identities, say

HELD = Configuration(brake=Brake(0, 0, 3600))
STATES = {
    "locked": Configuration(),
    "deactivated": Configuration(on_disable="deactivate"),
    "held": HELD,
    "dismissed": HELD,
    "left as they are": Configuration(on_disable="nothing"),
}


def leads_to(deployment: Deployment, subject: str) -> list[str]:
    """Return whose account somebody signs in to by a subject."""
    everybody = deployment.world.accounts.all
    return [user for user, one in everybody.items() if (IDP, subject) in one.links]


@pytest.mark.parametrize("state", STATES)
async def test_nobody_is_let_into_the_account_of_who_is_out(tmp_path: Path, state: str) -> None:
    """Who had their identity by mistake, and whose account may be usable still."""
    async with deployed(tmp_path, configuration=STATES[state]) as deployment:
        ann = await say(deployment, "ann", externalId="bob")
        await deployment.quiet()
        assert leads_to(deployment, "bob") == ["@ann:s"]
        await say(deployment, "ann", ann, active=False)
        await deployment.quiet()
        if state == "dismissed":
            await deployment.decide("accounts", "dismissed")
        assert leads_to(deployment, "bob") == []
        known = await row(deployment)
        assert (known["confirmed"] == "disabled") is (state not in ("held", "dismissed"))
        await say(deployment, "bob")
        await deployment.quiet()
        assert leads_to(deployment, "bob") == ["@bob:s"]


CASES = ("of somebody new", "of somebody else", "exchanged", "of nobody named")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("state", STATES)
async def test_an_identity_goes_from_who_is_out_to_who_has_it_now(
    tmp_path: Path, state: str, case: str
) -> None:
    """It was theirs when they were put out, and is another one's since."""
    async with deployed(tmp_path, configuration=STATES[state]) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        bob = None
        if case in ("of somebody else", "exchanged"):
            bob = await say(deployment, "bob", externalId="second")
        await deployment.quiet()
        await say(deployment, "ann", ann, externalId="first", active=False)
        await deployment.quiet()
        if state == "dismissed":
            await deployment.decide("accounts", "dismissed")
        named = None if case == "of nobody named" else "meanwhile"
        await say(deployment, "ann", ann, externalId=named, active=False)
        await say(deployment, "bob", bob, externalId="first")
        if case == "exchanged":
            await say(deployment, "ann", ann, externalId="second", active=False)
        await deployment.settle(20.0)
        assert (leads_to(deployment, "first"), leads_to(deployment, "second")) == (["@bob:s"], [])


async def test_an_identity_goes_from_whom_a_hand_deactivated_to_who_has_it_now(
    tmp_path: Path,
) -> None:
    """Nothing else of their account is changed, and it stays deactivated."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="bob")
        await deployment.quiet()
        account = deployment.world.accounts.get("@ann:s")
        account.deactivated = True
        await deployment.quiet()
        await say(deployment, "ann", ann, displayName="Ann")
        await say(deployment, "bob")
        await deployment.quiet()
        assert leads_to(deployment, "bob") == ["@bob:s"]
        assert (account.deactivated, account.displayname) == (True, "ann")


async def test_what_is_not_known_to_be_another_ones_stays(tmp_path: Path) -> None:
    """The identity provider names no identity of who is out, or a hand put it there."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann")
        await deployment.quiet()
        await say(deployment, "ann", ann, active=False)
        links = deployment.world.accounts.get("@ann:s").links
        links.append((IDP, "bob"))
        bob = await say(deployment, "bob")
        await deployment.quiet()
        assert identities(deployment) == ["ann", "bob"]
        [account] = await accounts.named(deployment.database.reader, bob)
        assert account.problem == "conflict"
        body = {"schemas": [], "userName": "ann", "active": False}
        assert (await deployment.scim("PUT", f"/Users/{ann}", body))[0] == 200
        await deployment.quiet()
        assert identities(deployment) == ["ann", "bob"]


@pytest.mark.parametrize("how", ["lock", "deactivate"])
async def test_an_identity_that_cannot_be_taken_off_keeps_nobody_in(
    tmp_path: Path, how: How
) -> None:
    """Whoever is to be out is put out first."""
    async with deployed(tmp_path, configuration=Configuration(on_disable=how)) as deployment:
        ann = await say(deployment, "ann", externalId="bob")
        await deployment.quiet()

        def takes_off(request: Request) -> bool:
            return request.path[-1] == "@ann:s" and "external_ids" in request.body

        deployment.homeserver.faults.append(Fault("unavailable", takes_off, times=1000))
        await say(deployment, "ann", ann, active=False)
        await deployment.settle(20.0)
        account = deployment.world.accounts.get("@ann:s")
        assert account.locked or account.deactivated
        deployment.homeserver.faults.clear()
        await deployment.quiet(400.0)
        assert identities(deployment) == []


async def test_who_is_put_out_is_observed_no_more_where_nothing_is_to_be_taken_off(
    tmp_path: Path,
) -> None:
    """Thousands may be put out at once."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann")
        await deployment.quiet()
        deployment.homeserver.requests.clear()
        await say(deployment, "ann", ann, active=False)
        await deployment.settle(5.0)
        [*_, last] = [one for one in deployment.homeserver.requests if one.path[-1] == "@ann:s"]
        assert (last.method, last.body) == ("PUT", {"locked": True})


@pytest.mark.parametrize("then", ["active", "deleted", "without an identity"])
async def test_an_address_goes_with_whom_an_account_is_taken_from(
    tmp_path: Path, then: str
) -> None:
    """By it they could have the next one's password reset; what the next one has is theirs."""
    async with deployed(tmp_path) as deployment:
        addresses = [{"value": "ann@x.org"}, {"value": "both@x.org"}]
        ann = await say(deployment, "ann", emails=addresses)
        await deployment.quiet()
        account = deployment.world.accounts.get("@ann:s")
        account.emails.append("own@x.org")
        named = None if then == "without an identity" else "bob"
        own = [{"value": "both@x.org"}]
        bob = await say(deployment, "bob", externalId=named, emails=own)
        await deployment.quiet()
        await deployment.unlink(ann)
        await deployment.link(bob, "@ann:s")
        if then == "deleted":
            await deployment.scim("DELETE", f"/Users/{bob}")
        await deployment.quiet()
        assert sorted(account.emails) == ["both@x.org", "own@x.org"]
