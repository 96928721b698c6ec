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


async def test_what_is_overdue_hides_no_later_work(database: Database) -> None:
    """A person who is left alone for long, or whose room is, delays nobody's next try."""
    active = Profile("active", "A", (), "ext")
    async with database.write() as connection:
        await grants.put_map(connection, [Mapping("everyone", "", "!room")])
        for name, next_try in (("ann", 100.0), ("bob", 200.0)):
            row = await resources.create(connection, "User", {"userName": name})
            await accounts.create(connection, row.id, f"@{name}:s", active)
            await accounts.applied(connection, f"@{name}:s", active)
            await pairs.pair_failed(connection, "!room", f"@{name}:s", "away", next_try)
        assert await pairs.next_due(connection, 99.0) == 100.0
        assert await pairs.next_due(connection, 150.0) == 200.0
        assert await pairs.next_due(connection, 200.0) is None
