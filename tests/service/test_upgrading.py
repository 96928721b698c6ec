"""Accounts that an older version wrote down, asked for once."""

from pathlib import Path

import pytest

from scim_matrix.store import record
from scim_matrix.store.database import Connection
from tests.homeserver.deployment import IDP, Deployment, deployed
from tests.service.directory import Directory


async def written_down(connection: Connection, name: str, *, active: bool) -> None:
    """Have an account as the migration leaves one that an older version wrote down."""
    people = Directory(connection)
    await people.user(name, active=active, subject=f"ext-{name}")
    await people.binds(name, usable=False)
    await connection.execute_fetchall(
        "UPDATE account SET bound_by = 'migrated', locked_by_us = ?1, suspended_by_us = ?1,"
        " deactivated_by_us = ?1 WHERE scim_id = ?2",
        (not active, name),
    )


async def account(deployment: Deployment, name: str) -> tuple[object, ...]:
    """Return how an account is known: user ID, why, and what is wrong."""
    [row] = await deployment.database.reader.execute_fetchall(
        "SELECT user_id, bound_by, problem FROM account WHERE scim_id = ?", (name,)
    )
    return tuple(row)


async def test_a_linked_account_is_kept(tmp_path: Path) -> None:
    """The link proves whose it is; what the older version locked is unlocked."""
    async with deployed(tmp_path) as deployment:
        link = {"auth_provider": IDP, "external_id": "ext-ann"}
        deployment.world.account("@ann:s", external_ids=[link])
        deployment.world.accounts.get("@ann:s").locked = True
        async with deployment.database.write() as connection:
            await written_down(connection, "ann", active=False)
            await Directory(connection).activity("ann", active=True, subject="ext-ann")
        await deployment.quiet()
        assert await account(deployment, "ann") == ("@ann:s", "link", None)
        assert not deployment.world.accounts.get("@ann:s").locked


async def test_somebody_elses_account_is_left_alone(tmp_path: Path) -> None:
    """It is a conflict, whatever an older version did with it."""
    async with deployed(tmp_path) as deployment:
        deployment.world.account("@ann:s", displayname="Another Ann")
        async with deployment.database.write() as connection:
            await written_down(connection, "ann", active=True)
        await deployment.quiet()
        assert await account(deployment, "ann") == (None, None, "conflict")
        assert deployment.world.accounts.get("@ann:s").displayname == "Another Ann"
        told = await record.find(
            deployment.database.reader, users=["@ann:s"], rooms=(), since=0, limit=10
        )
        assert {(entry["kind"], entry["outcome"]) for entry in told} == {("account", "refused")}
        assert told[0]["detail"].startswith("an older version took @ann:s for this user's")


async def test_a_deleted_users_account_is_locked_though_nothing_leads_to_it(
    tmp_path: Path,
) -> None:
    """An older version locked it as theirs: nobody is left of whom it could be asked anew."""
    async with deployed(tmp_path) as deployment:
        deployment.world.account("@ann:s", displayname="Ann")
        async with deployment.database.write() as connection:
            await written_down(connection, "ann", active=True)
            await Directory(connection).deletes("ann", 1000.0)
        await deployment.quiet()
        assert deployment.world.accounts.get("@ann:s").locked


@pytest.mark.parametrize("taken", [False, True])
async def test_an_account_that_was_never_made_is_nobodys(tmp_path: Path, taken: bool) -> None:
    """Who takes the name before the user is active keeps it."""
    async with deployed(tmp_path) as deployment:
        async with deployment.database.write() as connection:
            await written_down(connection, "ann", active=False)
        await deployment.quiet()
        assert await account(deployment, "ann") == (None, None, None)

        if taken:
            deployment.world.account("@ann:s", displayname="Another Ann")
        async with deployment.database.write() as connection:
            await Directory(connection).activity("ann", active=True, subject="ext-ann")
        await deployment.quiet()
        expected = (None, None, "conflict") if taken else ("@ann:s", "made", None)
        assert await account(deployment, "ann") == expected
        name = deployment.world.accounts.get("@ann:s").displayname
        assert name == ("Another Ann" if taken else "Ann")


async def test_nothing_is_left_of_a_deleted_user_who_had_no_account(tmp_path: Path) -> None:
    """Nor is anybody removed or locked in its name."""
    async with deployed(tmp_path) as deployment:
        async with deployment.database.write() as connection:
            await written_down(connection, "ann", active=True)
            await Directory(connection).deletes("ann", 1000.0)
        await deployment.quiet()
        found = await deployment.database.reader.execute_fetchall("SELECT id FROM account")
        assert found == []
