"""What was a user's by the identity provider's word stays on nobody's account once it is not."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scim_matrix.store import accounts, record
from scim_matrix.sync.guard import Brake
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import IDP, Configuration, Deployment, deployed
from tests.homeserver.errors import MatrixError, forbidden
from tests.service.late import How, disables, row, whatever_else_can_be_done
from tests.service.test_late_changes import identities, losing, makes, putting, say

# What changes which identities lead to Ann's account.
takes_off = putting("external_ids", [])
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


@pytest.mark.parametrize("has_account", [False, True])
async def test_an_identity_goes_from_a_deleted_user_without_one_to_who_has_it_now(
    tmp_path: Path, has_account: bool
) -> None:
    """A former account is its user's still, whom the identity provider named no identity of."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        bob = await say(deployment, "bob", externalId="second") if has_account else None
        for subject in "first", None:
            await deployment.quiet()
            await say(deployment, "ann", ann, externalId=subject, active=False)
        assert (await deployment.scim("DELETE", f"/Users/{ann}"))[0] == 204
        await deployment.quiet()
        await say(deployment, "bob", bob, externalId="first")
        await deployment.quiet(400.0)
        assert leads_to(deployment, "first") == ["@bob:s"]
        assert deployment.world.accounts.get("@ann:s").locked


async def test_an_identity_goes_from_what_a_human_took_from_its_user_to_who_has_it_now(
    tmp_path: Path,
) -> None:
    """It was written there after all, by a request that had no answer."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann")
        deployment.world.account("@new:s")
        await deployment.quiet()
        losing(deployment, "bob")
        for subject in "bob", "ann":
            await say(deployment, "ann", ann, externalId=subject)
            await deployment.settle(10.0)
        await deployment.link(ann, "@new:s")
        await deployment.settle(10.0)
        former = deployment.world.accounts.get("@ann:s")
        former.links.append((IDP, "bob"))
        await deployment.quiet(3 * accounts.LATEST)
        former.locked = False
        with capture_logs() as logs:
            await deployment.quiet()
        assert "account_overtaken" not in [entry["event"] for entry in logs]
        await say(deployment, "bob")
        await deployment.quiet(400.0)
        assert leads_to(deployment, "bob") == ["@bob:s"]
        assert leads_to(deployment, "ann") == ["@new:s"]
        assert former.locked


@pytest.mark.parametrize("active", [True, False])
async def test_nobody_is_given_the_former_account_of_who_had_their_identity(
    tmp_path: Path, active: bool
) -> None:
    """Though they were stored inactive, and it could not be taken off before."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        await deployment.quiet()
        deployment.homeserver.before = refusing
        await say(deployment, "ann", ann, externalId="other", active=False)
        await deployment.settle(20.0)
        assert (await deployment.scim("DELETE", f"/Users/{ann}"))[0] == 204
        await deployment.settle(20.0)
        assert leads_to(deployment, "first") == ["@ann:s"]
        deployment.homeserver.before = lambda request: None
        bob = await say(deployment, "bob", externalId="first", active=active)
        await deployment.settle(20.0)
        await say(deployment, "bob", bob, externalId="first", active=True)
        await deployment.quiet()
        assert leads_to(deployment, "first") == ["@bob:s"]
        assert deployment.world.accounts.get("@ann:s").locked


@pytest.mark.parametrize("state", ["protected", "deactivated by a hand"])
async def test_nobody_is_let_into_anothers_account_though_nothing_is_done_to_their_own(
    tmp_path: Path, state: str
) -> None:
    """The identity that is theirs by now leads to somebody who is held, and to nobody then."""
    protected = ("@bob:s",) if state == "protected" else ()
    configuration = Configuration(brake=Brake(0, 0, 3600), protected_users=protected)
    async with deployed(tmp_path, configuration=configuration) as deployment:
        bobs = {"auth_provider": IDP, "external_id": "second"}
        deployment.world.account("@bob:s", external_ids=[bobs])
        ann = await say(deployment, "ann", externalId="first")
        bob = await say(deployment, "bob", externalId="second")
        await deployment.quiet()
        await say(deployment, "ann", ann, externalId="first", active=False)
        deployment.world.accounts.get("@bob:s").deactivated = state != "protected"
        await deployment.quiet()
        await say(deployment, "ann", ann, externalId="third", active=False)
        await say(deployment, "bob", bob, externalId="first")
        await deployment.settle(20.0)
        assert not deployment.world.accounts.get("@ann:s").locked
        assert leads_to(deployment, "first") == []
        assert leads_to(deployment, "second") == ["@bob:s"]


async def test_nobody_is_asked_whom_an_identity_leads_to_where_nothing_is_to_be_done(
    tmp_path: Path,
) -> None:
    """Thousands of accounts may be looked at for a change that is there already."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann")
        await deployment.quiet()
        deployment.world.accounts.get("@ann:s").displayname = "Ann"
        before = len(deployment.homeserver.requests)
        await say(deployment, "ann", ann, displayName="Ann")
        await deployment.settle()
        asked = [request.path for request in deployment.homeserver.requests[before:]]
        assert any(path[-1] == "@ann:s" for path in asked)
        assert not any("auth_providers" in path for path in asked)
        assert (await row(deployment))["confirmed"] == "active"


def refusing(request: Request) -> None:
    """Refuse what changes which identities lead to Ann's account."""
    if takes_off(request):
        raise forbidden("not here")


@pytest.mark.parametrize("is_made", [True, False])
@pytest.mark.parametrize("then", ["inactive", "deleted"])
async def test_what_another_account_does_not_give_up_keeps_nobody_in(
    tmp_path: Path, then: str, is_made: bool
) -> None:
    """Whoever is to be out is found by the mark; where nobody is, one was asked for still."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        await deployment.quiet()
        deployment.homeserver.before = refusing
        await say(deployment, "ann", ann, externalId="third", active=False)
        await deployment.settle(20.0)
        lost = Fault("answer lost" if is_made else "request lost", makes("bob"))
        deployment.homeserver.faults.append(lost)
        bob = await say(deployment, "bob", externalId="second")
        await deployment.settle()
        await say(deployment, "bob", bob, externalId="first", active=False)
        if then == "deleted":
            assert (await deployment.scim("DELETE", f"/Users/{bob}"))[0] == 204
        await deployment.quiet(400.0)
        assert leads_to(deployment, "first") == ["@ann:s"]
        waiting = await deployment.database.reader.execute_fetchall(
            "SELECT problem, asked FROM account WHERE user_id IS NULL"
        )
        if is_made:
            assert deployment.world.accounts.get("@bob:s").locked
            assert waiting == []
        else:
            assert [(row["problem"], row["asked"] is None) for row in waiting] == [
                ("unavailable", False)
            ]


async def test_what_a_barred_account_does_not_give_up_keeps_nobody_in(tmp_path: Path) -> None:
    """A human said that it is not the user's, who is to be out of another one."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        await deployment.quiet()
        deployment.homeserver.before = refusing
        await deployment.unlink(ann)
        await deployment.settle(5.0)
        deployment.homeserver.before = lambda request: None
        deployment.homeserver.faults.append(Fault("answer lost", makes("other")))
        await say(deployment, "other", ann, externalId="second")
        await deployment.settle()
        deployment.world.accounts.get("@ann:s").links.append((IDP, "first"))
        deployment.homeserver.before = refusing
        await say(deployment, "other", ann, externalId="second", active=False)
        await deployment.quiet(400.0)
        assert deployment.world.accounts.get("@other:s").locked


@pytest.mark.parametrize("active", [True, False])
async def test_a_former_account_that_is_protected_goes_to_nobody_by_what_was_its_users(
    tmp_path: Path, active: bool
) -> None:
    """That is a conflict, which is shown; whoever had it has it back."""
    configuration = Configuration(protected_users=("@ann:s",))
    async with deployed(tmp_path, configuration=configuration) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        await deployment.quiet()
        for more in {"externalId": "other"}, {"externalId": "other", "active": False}:
            await say(deployment, "ann", ann, **more)
            await deployment.settle(20.0)
        assert (await deployment.scim("DELETE", f"/Users/{ann}"))[0] == 204
        bob = await say(deployment, "bob", externalId="first", active=active)
        await deployment.quiet()
        [account] = await accounts.named(deployment.database.reader, bob)
        assert (account.user_id, account.problem) == (None, "conflict")
        again = await say(deployment, "ann", externalId="other")
        await deployment.quiet()
        [account] = await accounts.named(deployment.database.reader, again)
        assert account.user_id == "@ann:s"


async def test_what_a_hand_wrote_stays_on_an_account_that_was_never_asked_for(
    tmp_path: Path,
) -> None:
    """Though the same was asked for by the user's former name, to no avail."""
    async with deployed(tmp_path) as deployment:
        deployment.homeserver.faults.append(Fault("request lost", makes("ann")))
        ann = await say(deployment, "ann", externalId="first", emails=[{"value": "a@x.org"}])
        await deployment.settle()
        ids = [{"auth_provider": IDP, "external_id": name} for name in ("second", "first")]
        deployment.world.account("@new:s", external_ids=ids)
        account = deployment.world.accounts.get("@new:s")
        account.emails.append("a@x.org")
        observed = (
            "INSERT INTO account (user_id, bound_by, desired, profile)"
            " VALUES ('@new:s', 'observed', 'unmanaged', '{}')"
        )
        async with deployment.database.write() as connection:
            await connection.execute_fetchall(observed)
        await say(deployment, "new", ann, externalId="second", emails=[{"value": "b@x.org"}])
        await deployment.quiet(400.0)
        assert sorted(account.emails) == ["a@x.org", "b@x.org"]
        assert leads_to(deployment, "first") == leads_to(deployment, "second") == ["@new:s"]


@pytest.mark.parametrize("by_hand", [False, True])
async def test_whoever_is_to_be_out_is_found_though_their_identity_leads_to_another_account(
    tmp_path: Path, by_hand: bool
) -> None:
    """Theirs was made by a request without an answer: its mark leads to them."""
    async with deployed(tmp_path, configuration=HELD) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        await deployment.quiet()
        if by_hand:
            deployment.world.accounts.get("@ann:s").links.append((IDP, "theirs"))
        for subject in "first", "third":
            await say(deployment, "ann", ann, externalId=subject, active=False)
            await deployment.settle(20.0)
        deployment.homeserver.faults.append(Fault("answer lost", makes("bob")))
        bob = await say(deployment, "bob", externalId="second")
        await deployment.settle()
        await say(deployment, "bob", bob, externalId="theirs" if by_hand else "first", active=False)
        await deployment.quiet(400.0)
        await deployment.decide("accounts", "approved")
        await deployment.quiet(400.0)
        assert deployment.world.accounts.get("@bob:s").locked


async def test_who_exchange_theirs_have_them_whatever_else_leads_to_them(tmp_path: Path) -> None:
    """What a hand wrote stays; it was no hand that took the other one off."""
    async with deployed(tmp_path) as deployment:
        ids = {"ann": "first", "bob": "second"}
        scim_ids = {name: await say(deployment, name, externalId=x) for name, x in ids.items()}
        await deployment.quiet()
        deployment.world.accounts.get("@ann:s").links.append((IDP, "by hand"))
        await deployment.quiet()
        for name, subject in ("bob", "meanwhile"), ("ann", "second"), ("bob", "first"):
            await say(deployment, name, scim_ids[name], externalId=subject)
        await deployment.quiet(400.0)
        assert leads_to(deployment, "first") == ["@bob:s"]
        assert sorted(identities(deployment)) == ["by hand", "second"]


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


async def test_what_is_theirs_again_leads_to_them_again(tmp_path: Path) -> None:
    """The identity provider takes its word back before anything was compared."""
    async with deployed(tmp_path, configuration=HELD) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        await deployment.quiet()
        await say(deployment, "ann", ann, externalId="second", active=False)
        await deployment.settle(20.0)
        assert leads_to(deployment, "first") == []
        await say(deployment, "ann", ann, externalId="first", active=True)
        await deployment.settle(20.0)
        assert leads_to(deployment, "first") == ["@ann:s"]


async def test_what_was_another_ones_for_a_moment_leads_to_who_has_it(tmp_path: Path) -> None:
    """They took it off while its owner's own work rested, and had another one then."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        bob = await say(deployment, "bob", externalId="second")
        await deployment.quiet()

        def is_asked_for(request: Request) -> bool:
            return request.path[-1] == "third"

        deployment.homeserver.faults.append(Fault("unavailable", is_asked_for))
        await say(deployment, "ann", ann, externalId="third")
        await deployment.settle(0.5)
        await say(deployment, "bob", bob, externalId="first")
        await deployment.settle(0.5)
        await say(deployment, "bob", bob, externalId="second")
        await say(deployment, "ann", ann, externalId="first")
        await deployment.settle(60.0)
        assert (leads_to(deployment, "first"), leads_to(deployment, "second")) == (
            ["@ann:s"],
            ["@bob:s"],
        )


@pytest.mark.parametrize("then", ["locked", "let in by a hand"])
async def test_what_a_hand_wrote_since_stays(tmp_path: Path, then: str) -> None:
    """The service took the same off before, which it had written itself."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="bob")
        await deployment.quiet()
        await say(deployment, "ann", ann, active=False)
        await deployment.quiet()
        account = deployment.world.accounts.get("@ann:s")
        account.links.append((IDP, "bob"))
        account.locked = then == "locked"
        bob = await say(deployment, "bob")
        await deployment.quiet()
        assert leads_to(deployment, "bob") == ["@ann:s"]
        [hers] = await accounts.named(deployment.database.reader, bob)
        assert hers.problem == "conflict"


@pytest.mark.parametrize("kind", ["unavailable", "forbidden"])
async def test_who_is_put_out_is_recorded_as_that_whatever_cannot_be_taken_off(
    tmp_path: Path, kind: str
) -> None:
    """Nothing of them is left to be done, or shown as failing, or counted by the brake."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="bob")
        await deployment.quiet()

        stays = True

        def before(request: Request) -> None:
            if stays and takes_off(request):
                raise forbidden("not here") if kind == "forbidden" else MatrixError(502, "", "")

        deployment.homeserver.before = before
        await say(deployment, "ann", ann, active=False)
        await deployment.settle(5.0)
        assert deployment.world.accounts.get("@ann:s").locked
        known = await row(deployment)
        assert (known["confirmed"], known["todo"], known["problem"]) == ("disabled", None, None)
        assert leads_to(deployment, "bob") == ["@ann:s"]
        stays = False
        await say(deployment, "bob")
        await deployment.quiet()
        assert leads_to(deployment, "bob") == ["@bob:s"]


async def test_a_deleted_users_account_is_not_who_has_their_wrong_identitys(
    tmp_path: Path,
) -> None:
    """They were held with too many others for it to be taken off by then."""
    async with deployed(tmp_path, configuration=HELD) as deployment:
        ann = await say(deployment, "ann", externalId="bob")
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("unavailable", takes_off, times=1000))
        await say(deployment, "ann", ann, active=False)
        await deployment.settle(5.0)
        await deployment.scim("DELETE", f"/Users/{ann}")
        await deployment.settle(5.0)
        assert leads_to(deployment, "bob") == ["@ann:s"]
        deployment.homeserver.faults.clear()
        await say(deployment, "bob")
        await deployment.quiet()
        assert leads_to(deployment, "bob") == ["@bob:s"]


async def test_nobody_takes_anything_off_whoever_is_being_put_out(tmp_path: Path) -> None:
    """What is known of that has an answer first, which would end what is in doubt since."""
    async with deployed(tmp_path) as deployment:
        ann = await say(deployment, "ann", externalId="first")
        await deployment.quiet()
        taken = 0

        def counted(request: Request) -> bool:
            nonlocal taken
            taken += takes_off(request)
            return False

        deployment.homeserver.faults.append(Fault("unavailable", counted))
        await say(deployment, "ann", ann, externalId="second", active=False)
        await say(deployment, "bob", externalId="first")
        async with deployment.while_slow(disables, 30.0):
            await whatever_else_can_be_done()
            assert taken == 0
        assert leads_to(deployment, "first") == ["@bob:s"]


async def test_a_dry_run_takes_nothing_off(tmp_path: Path) -> None:
    """Neither from who is out nor for who needs it, which waits."""
    nothing = Configuration(on_disable="nothing")
    async with deployed(tmp_path, configuration=nothing) as deployment:
        ann = await say(deployment, "ann", externalId="bob")
        await deployment.quiet()
        await deployment.restart(dry_run=True)
        await say(deployment, "ann", ann, active=False)
        await deployment.quiet()
        assert (await row(deployment))["problem"] is None
        bob = await say(deployment, "bob")
        await deployment.quiet()
        assert leads_to(deployment, "bob") == ["@ann:s"]
        [his] = await accounts.named(deployment.database.reader, bob)
        assert his.problem == "withheld"
        told = await record.find(
            deployment.database.reader, users=None, rooms=(), since=0, limit=10, outcome="dry_run"
        )
        assert [entry["detail"] for entry in told] == ["DRY_RUN: would change @ann:s"]
        await deployment.restart(dry_run=False)
        await deployment.quiet()
        assert leads_to(deployment, "bob") == ["@bob:s"]
