"""Which work may start."""

from dataclasses import replace

from scim_matrix.groupmap import Mapping
from scim_matrix.store import accounts, grants, pairs, resources
from scim_matrix.store.accounts import Profile
from scim_matrix.store.database import Database


async def test_a_join_waits_until_the_account_is_active(database: Database) -> None:
    """Nobody is joined before the account exists, nor before it is unlocked again."""
    active = Profile("active", "Ann", (), "ext")
    async with database.write() as connection:
        await grants.put_map(connection, [Mapping("everyone", "", "!room")])
        row = await resources.create(connection, "User", {"userName": "ann"})
        await accounts.create(connection, row.id, "@ann:s", active)
        assert await pairs.rooms_due(connection, 1, []) == []

        locked = replace(active, state="disabled")
        await accounts.applied(connection, "@ann:s", locked)
        assert await pairs.rooms_due(connection, 1, []) == []

        await accounts.applied(connection, "@ann:s", active)
        assert await pairs.rooms_due(connection, 1, []) == ["!room"]
