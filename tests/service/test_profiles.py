"""What of users' profiles accounts cannot have yet: tried again, at the pace that befits it."""

from pathlib import Path
from typing import Any

from scim_matrix.store import accounts, record, views
from tests.homeserver.deployment import IDP, Deployment, deployed
from tests.homeserver.errors import MatrixError
from tests.homeserver.server import Request

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
HOUR = 3600.0


async def user(deployment: Deployment, name: str, **more: Any) -> str:
    """Create a user; return its id."""
    body = {"schemas": [USER], "userName": name, "externalId": f"ext-{name}", **more}
    status, answer = await deployment.scim("POST", "/Users", body)
    assert status == 201, answer
    return str(answer["id"])


async def become(deployment: Deployment, scim_id: str, name: str, subject: str) -> None:
    """Have a user's externalId be another one."""
    body = {"schemas": [USER], "userName": name, "externalId": subject}
    status, answer = await deployment.scim("PUT", f"/Users/{scim_id}", body)
    assert status == 200, answer


async def shown(deployment: Deployment, name: str) -> dict[str, Any]:
    """Return what `scim-matrix users` shows of somebody."""
    [row] = await views.users(deployment.database.reader, name)
    return dict(row)


def emails(deployment: Deployment, user_id: str) -> list[str]:
    """Return the e-mails of an account."""
    return deployment.world.accounts.get(user_id).emails


async def asked(deployment: Deployment, seconds: float) -> list[Request]:
    """Return what is asked of the homeserver within a while."""
    deployment.homeserver.requests.clear()
    await deployment.settle(seconds)
    return list(deployment.homeserver.requests)


async def left_without(deployment: Deployment) -> None:
    """Have Ann be left without an address, which somebody's account has."""
    deployment.world.account(
        "@old:s", threepids=[{"medium": "email", "address": "ann@x.test"}], displayname="Old"
    )
    await deployment.put_map({})
    await user(deployment, "ann", emails=[{"value": "ann@x.test"}, {"value": "own@x.test"}])
    await deployment.quiet()
    assert emails(deployment, "@ann:s") == ["own@x.test"]
    assert "ann@x.test belongs to @old:s" in (await shown(deployment, "ann"))["notice"]


async def test_an_address_that_its_holder_gave_up_is_given_at_the_next_comparison(
    tmp_path: Path,
) -> None:
    """Nobody has to say anything anew; and what was shown of it is shown no more."""
    async with deployed(tmp_path) as deployment:
        await left_without(deployment)
        deployment.world.account("@old:s", threepids=[])
        await deployment.settle(1.2 * HOUR)
        assert sorted(emails(deployment, "@ann:s")) == ["ann@x.test", "own@x.test"]
        assert (await shown(deployment, "ann"))["notice"] is None


async def test_an_address_that_its_holder_keeps_costs_a_request_at_each_comparison(
    tmp_path: Path,
) -> None:
    """It is shown meanwhile, and nothing that comes to nothing is recorded as done."""
    async with deployed(tmp_path) as deployment:
        await left_without(deployment)
        requests = await asked(deployment, 10 * HOUR)
        about = [r for r in requests if "threepid" in r.path or "@ann:s" in r.path]
        assert {r.path[-1] for r in about} == {"ann@x.test"}
        assert 8 <= len(about) <= 12
        assert "ann@x.test belongs to @old:s" in (await shown(deployment, "ann"))["notice"]
        found = await record.find(
            deployment.database.reader, users=["@ann:s"], rooms=(), since=0, limit=99
        )
        assert [row["kind"] for row in found] == ["create"]


async def test_few_of_many_addresses_are_asked_for_at_once(tmp_path: Path) -> None:
    """A comparison asks for some of what very many people were not given, another for others."""
    async with deployed(tmp_path) as deployment:
        addresses = [f"p{n}@x.test" for n in range(50)]
        deployment.world.account(
            "@old:s", threepids=[{"medium": "email", "address": a} for a in addresses]
        )
        await deployment.put_map({})
        await user(deployment, "ann", emails=[{"value": a} for a in addresses])
        await deployment.quiet()
        seen = set()
        for _ in range(8):
            requests = await asked(deployment, 1.15 * HOUR)
            about = {r.path[-1] for r in requests if "threepid" in r.path}
            assert len(about) <= 40
            seen |= about
        assert len(seen) > 40


async def test_an_address_that_an_account_has_is_asked_for_no_more(tmp_path: Path) -> None:
    """Whatever else changes of the user."""
    async with deployed(tmp_path) as deployment:
        scim_id = await user(deployment, "ann", emails=[{"value": "ann@x.test"}])
        await deployment.quiet()
        assert emails(deployment, "@ann:s") == ["ann@x.test"]
        more = {"emails": [{"value": "ann@x.test"}], "displayName": "Ann Lee"}
        body = {"schemas": [USER], "userName": "ann", "externalId": "ext-ann", **more}
        assert (await deployment.scim("PUT", f"/Users/{scim_id}", body))[0] == 200
        sent = await asked(deployment, 1.0)
        assert deployment.world.accounts.get("@ann:s").displayname == "Ann Lee"
        assert [request.path for request in sent if "threepid" in request.path] == []


async def test_a_name_that_the_homeserver_keeps_for_something_else_is_a_conflict(
    tmp_path: Path,
) -> None:
    """What to look for is told, and the user gets the account once the name is free."""
    async with deployed(tmp_path) as deployment:

        def refuse(request: Request) -> None:
            if request.method == "PUT" and "@ann:s" in request.path:
                raise MatrixError(400, "M_USER_IN_USE", "Kept for a bridge")

        deployment.homeserver.before = refuse
        await user(deployment, "ann")
        await deployment.quiet()
        [row] = await views.left_to_do(deployment.database.reader, 10)
        assert row["state"] == "conflict"
        assert row["reason"] == "@ann:s cannot be made: Kept for a bridge"
        deployment.homeserver.before = lambda request: None
        await deployment.settle(2 * HOUR)
        assert await views.left_to_do(deployment.database.reader, 10) == []
        assert "@ann:s" in deployment.world.accounts.all


async def test_a_subject_that_somebody_else_has_is_asked_for_slowly(tmp_path: Path) -> None:
    """A user's externalId that leads to an account by hand is settled by a hand: that is shown."""
    async with deployed(tmp_path) as deployment:
        deployment.world.account(
            "@boss:s", external_ids=[{"auth_provider": IDP, "external_id": "ext-boss"}]
        )
        await deployment.put_map({})
        ann = await user(deployment, "ann")
        await deployment.quiet()
        await become(deployment, ann, "ann", "ext-boss")
        requests = await asked(deployment, 10 * HOUR)
        looks = [r for r in requests if "auth_providers" in r.path and r.path[-1] == "ext-boss"]
        assert 5 <= len(looks) <= 30
        row = await shown(deployment, "ann")
        assert row["problem"] == "the user's SSO identity leads to @boss:s"
        assert f"scim-matrix users link {ann} @boss:s" in row["cure"]
        boss = deployment.world.accounts.get("@boss:s")
        assert (IDP, "ext-boss") in boss.links


async def test_two_users_who_exchange_their_subjects_wait_for_seconds(tmp_path: Path) -> None:
    """Neither account keeps what the other is to have: that is over at once, not in an hour."""
    async with deployed(tmp_path) as deployment:
        await deployment.put_map({})
        ann, bob = await user(deployment, "ann"), await user(deployment, "bob")
        await deployment.quiet()
        await become(deployment, ann, "ann", "meanwhile")
        await become(deployment, bob, "bob", "ext-ann")
        await become(deployment, ann, "ann", "ext-bob")
        await deployment.settle(15.0)
        links = {
            name: [i for p, i in deployment.world.accounts.get(f"@{name}:s").links if p == IDP]
            for name in ("ann", "bob")
        }
        assert links == {"ann": ["ext-bob"], "bob": ["ext-ann"]}


async def test_a_subject_is_given_up_by_the_account_that_has_it_and_needs_it_no_more(
    tmp_path: Path,
) -> None:
    """Not by whoever else changes theirs meanwhile."""
    async with deployed(tmp_path) as deployment:
        await deployment.put_map({})
        ann, bob = await user(deployment, "ann"), await user(deployment, "bob")
        await deployment.quiet()
        await become(deployment, ann, "ann", "meanwhile")
        # What else is to be changed of his has nothing to do with it.
        body = {"schemas": [USER], "userName": "bob", "externalId": "ext-bob", "displayName": "B"}
        assert (await deployment.scim("PUT", f"/Users/{bob}", body))[0] == 200
        found = {
            (account, subject)
            for account in ("@ann:s", "@bob:s", "@boss:s")
            for subject in ("ext-ann", "ext-bob", "meanwhile")
            if await accounts.gives_up(deployment.database.reader, account, subject)
        }
        assert found == {("@ann:s", "ext-ann")}


async def test_a_subject_that_a_protected_user_keeps_is_asked_for_slowly(tmp_path: Path) -> None:
    """A swap that cannot come about, since one of the two is spared, is no reason to hurry."""
    async with deployed(tmp_path) as deployment:
        await deployment.put_map({})
        ann, bob = await user(deployment, "ann"), await user(deployment, "bob")
        await deployment.quiet()
        await deployment.restart(protected_users=("@bob:s",))
        await become(deployment, bob, "bob", "other")
        await become(deployment, ann, "ann", "ext-bob")
        await deployment.settle(300.0)
        requests = await asked(deployment, 10 * HOUR)
        looks = [r for r in requests if "auth_providers" in r.path and r.path[-1] == "ext-bob"]
        assert 5 <= len(looks) <= 30


async def test_whoever_comes_back_gets_the_profile_of_now(tmp_path: Path) -> None:
    """Not the one that they were deleted with."""
    async with deployed(tmp_path) as deployment:
        first = await user(deployment, "ann", displayName="Ann")
        await deployment.settle()
        assert (await deployment.scim("DELETE", f"/Users/{first}"))[0] == 204
        await deployment.settle()
        account = deployment.world.accounts.get("@ann:s")
        assert (account.displayname, account.locked) == ("Ann", True)
        await user(deployment, "ann", displayName="Ann Lee")
        await deployment.settle()
        assert (account.displayname, account.locked) == ("Ann Lee", False)


async def test_whoever_comes_back_before_they_had_an_account_gets_one_of_their_name_now(
    tmp_path: Path,
) -> None:
    """Nothing was asked for by the name before."""
    async with deployed(tmp_path) as deployment:
        await deployment.settle()
        deployment.homeserver.dark = True
        first = await user(deployment, "ann", externalId="ext")
        assert (await deployment.scim("DELETE", f"/Users/{first}"))[0] == 204
        await user(deployment, "annie", externalId="ext")
        deployment.homeserver.dark = False
        await deployment.settle(60.0)
        made = set(deployment.world.accounts.all) - {deployment.world.service}
        assert made == {"@annie:s"}
