"""Whoever signed in by SSO as another account is seen by the comparison, at little cost."""

from pathlib import Path
from typing import Any

import pytest

from scim_matrix.groupmap import Mapping
from scim_matrix.ops.check_sign_in import of_sign_in
from scim_matrix.problems import cure_of_second
from scim_matrix.store import accounts, groupmap, observed, second_accounts, story, views
from scim_matrix.story import person
from scim_matrix.sync.second_accounts import Search
from tests.homeserver.deployment import IDP, Deployment, deployed
from tests.service.conftest import environment

USER = "urn:ietf:params:scim:schemas:core:2.0:User"


async def provision(deployment: Deployment, name: str, subject: str) -> str:
    """Have the identity provider send somebody, and wait for the account; return the SCIM id."""
    body = {"schemas": [USER], "userName": name, "externalId": subject}
    status, user = await deployment.scim("POST", "/Users", body)
    assert status == 201
    await deployment.quiet()
    return str(user["id"])


def signs_in(
    deployment: Deployment, user_id: str, subject: str | None, name: str | None = None
) -> None:
    """Have Synapse make an account for a subject that it does not know, or without one."""
    deployment.world.account(user_id)
    account = deployment.world.accounts.get(user_id)
    account.links = [] if subject is None else [(IDP, subject)]
    account.displayname = name


async def shown(deployment: Deployment) -> dict[str, Any]:
    """Return what `users` shows of the only user, after a comparison."""
    await deployment.quiet()
    [user] = await views.users(deployment.database.reader, None)
    return user


@pytest.mark.parametrize(
    ("user_id", "subject", "name", "told"),
    [
        ("@ann1:s", "other", "ann", True),
        ("@ann1:s", "other", "Somebody Else", False),
        ("@anna:s", "other", "ann", False),
        ("@bob1:s", "other", "ann", False),
        # Made by hand, with a password.
        ("@ann1:s", None, "ann", False),
    ],
)
async def test_who_has_a_second_account_is_told(
    tmp_path: Path, user_id: str, subject: str | None, name: str, told: bool
) -> None:
    """Only an account of the user's name with a number, whose subject no user has."""
    async with deployed(tmp_path) as deployment:
        await provision(deployment, "ann", "sub")
        signs_in(deployment, user_id, subject, name)
        problem = (await shown(deployment))["problem"]
        expected = (
            f"signed in by SSO as another account, {user_id}, whose subject is {subject};"
            " theirs is sub"
        )
        assert problem == (expected if told else None)


async def test_an_account_that_another_user_has_is_theirs(tmp_path: Path) -> None:
    """Somebody whom the identity provider sends under such a name is themselves."""
    async with deployed(tmp_path) as deployment:
        await provision(deployment, "ann", "sub")
        await provision(deployment, "ann1", "other")
        # As their account has it from elsewhere.
        signs_in(deployment, "@ann1:s", "third")
        await deployment.quiet()
        assert await second_accounts.found(deployment.database.reader) == []


async def test_an_account_that_a_users_subject_leads_to_is_no_strangers(tmp_path: Path) -> None:
    """Whoever it is: that is for whom the two are to be told apart, and no second account."""
    async with deployed(tmp_path) as deployment:
        await provision(deployment, "ann", "sub")
        bob = await provision(deployment, "bob", "other")
        signs_in(deployment, "@ann1:s", "other")
        await deployment.quiet()
        assert await second_accounts.found(deployment.database.reader) == []
        # Once he is nobody, nor is his subject anybody's.
        await deployment.scim("DELETE", f"/Users/{bob}")
        await deployment.quiet()
        told = await second_accounts.found(deployment.database.reader)
        assert [(one.user_id, one.subject) for one in told] == [("@ann1:s", "other")]


async def test_whoever_is_deleted_has_no_second_account(tmp_path: Path) -> None:
    """An account that is no user's any more is nobody's first one."""
    async with deployed(tmp_path) as deployment:
        scim_id = await provision(deployment, "ann", "sub")
        signs_in(deployment, "@ann1:s", "other")
        await deployment.scim("DELETE", f"/Users/{scim_id}")
        await deployment.quiet()
        assert await second_accounts.found(deployment.database.reader) == []


async def test_what_else_is_wrong_with_somebodys_account_is_told_first(tmp_path: Path) -> None:
    """Whoever has a second account too: with what mends the first."""
    async with deployed(tmp_path) as deployment:
        await provision(deployment, "ann", "sub")
        signs_in(deployment, "@ann1:s", "other")
        assert (await shown(deployment))["cure"] is not None
        async with deployment.database.write() as connection:
            [account] = await accounts.named(connection, "ann")
            await accounts.fail(connection, account, "refused", "no", 1e12, "mend it")
        [user] = await views.users(deployment.database.reader, None)
        assert (user["problem"], user["cure"]) == ("no", "mend it")


async def test_it_is_told_no_more_once_it_is_settled(tmp_path: Path) -> None:
    """The next comparison forgets an account that nobody can use any more."""
    async with deployed(tmp_path) as deployment:
        await provision(deployment, "ann", "sub")
        signs_in(deployment, "@ann1:s", "other")
        assert (await shown(deployment))["cure"] is not None
        deployment.world.accounts.get("@ann1:s").deactivated = True
        assert (await shown(deployment))["problem"] is None


async def test_the_cure_is_the_same_everywhere_and_destroys_nothing(tmp_path: Path) -> None:
    """`users`, `why` and `check` say to link the account that they use; none to deactivate one."""
    async with deployed(tmp_path) as deployment:
        scim_id = await provision(deployment, "ann", "sub")
        signs_in(deployment, "@ann1:s", "other")
        cure = (await shown(deployment))["cure"]
        assert cure == cure_of_second(scim_id, "@ann1:s")
        settings = environment(deployment.folder, DATA_DIR=str(deployment.folder))
        findings = await of_sign_in(settings, deployment.accounts)
        assert [f.cure for f in findings if f.verdict == "error"] == [cure]
        # Whoever complains from the second account has the story of the first one.
        [account] = await story.accounts_called(deployment.database.reader, "@ann1:s")
        told = person.story(await story.person(deployment.database.reader, account))
        assert cure in [line.cure for part in told.parts for line in part.lines]


async def test_whom_the_identity_provider_deleted_is_no_stranger(tmp_path: Path) -> None:
    """`check` does not take them for one, and `why` finds them by the name that they had."""
    async with deployed(tmp_path) as deployment:
        await provision(deployment, "ann", "sub")
        ola = await provision(deployment, "ola", "ext-ola")
        signs_in(deployment, "@ola:s", "ext-ola")
        assert (await deployment.scim("DELETE", f"/Users/{ola}"))[0] == 204
        await deployment.quiet()
        assert {verdict for verdict, _ in await checked(deployment)} == {"ok"}
        assert len(await story.accounts_called(deployment.database.reader, "Ola")) == 1
        # Not before whoever has the name now.
        again = await provision(deployment, "ola", "other")
        [found] = await story.accounts_called(deployment.database.reader, "ola")
        account = (await story.person(deployment.database.reader, found)).account
        assert account is not None
        assert account["scim_id"] == again


async def test_few_accounts_are_asked_for(tmp_path: Path) -> None:
    """However many names are so, no more than a few are asked for one by one."""
    async with deployed(tmp_path) as deployment:
        await provision(deployment, "user", "sub")
        for number in range(1, 9):
            signs_in(deployment, f"@user{number}:s", f"other-{number}")
        search = Search(deployment.database.reader, deployment.accounts, most=3)
        async for page in deployment.accounts.listed():
            await search.among(page)
        assert len(search.found) == 3


async def checked(deployment: Deployment) -> list[tuple[str, str]]:
    """Return what `check` says of single sign-on."""
    settings = environment(deployment.folder, DATA_DIR=str(deployment.folder))
    return [(f.verdict, f.found) for f in await of_sign_in(settings, deployment.accounts)]


async def test_check_tells_how_many_can_sign_in(tmp_path: Path) -> None:
    """Nothing before there are users; then who is linked, and who has nothing to be linked by."""
    async with deployed(tmp_path) as deployment:
        assert await checked(deployment) == []
        await provision(deployment, "ann", "sub")
        assert await checked(deployment) == [
            ("ok", "1 of 1 users' accounts are linked by their externalId")
        ]
        await deployment.scim("POST", "/Users", {"schemas": [USER], "userName": "bob"})
        await deployment.quiet()
        assert await checked(deployment) == [
            ("ok", "1 of 2 users' accounts are linked by their externalId"),
            ("warning", "1 of 2 users have no externalId: no sign-in leads to their accounts"),
        ]


async def test_check_looks_at_the_newest_accounts_that_are_nobodys(tmp_path: Path) -> None:
    """Who came with a subject that no user has is counted among twenty, administrators aside."""
    async with deployed(tmp_path) as deployment:
        await provision(deployment, "ann", "sub")
        signs_in(deployment, "@old:s", "other")
        for number in range(19):
            signs_in(deployment, f"@x{number}y:s", None)
        signs_in(deployment, "@zoe:s", "z")
        signs_in(deployment, "@boss:s", "b")
        deployment.world.accounts.get("@boss:s").admin = True
        assert (await checked(deployment))[1] == (
            "warning",
            "of the 20 newest accounts that are no user's, 1 signed in through oidc-x with a"
            " subject that no user has, such as @zoe:s (z)",
        )


async def test_check_counts_whoever_is_to_leave_a_closed_room_as_nobodys(tmp_path: Path) -> None:
    """That something is known of an account makes it no user's."""
    async with deployed(tmp_path) as deployment:
        await provision(deployment, "ann", "sub")
        signs_in(deployment, "@guest:s", "other")
        async with deployment.database.write() as connection:
            await groupmap.put(connection, [Mapping("everyone", "", "!room", exclusive=True)])
            await observed.observe(connection, "!room", ["@ann:s", "@guest:s"], [])
            assert await observed.is_known(connection, "!room", "@guest:s", "join")
        assert (await checked(deployment))[1][1].endswith("such as @guest:s (other)")
