"""Users, groups, accounts and memberships in a store, for tests of the store itself."""

from collections.abc import Sequence

import orjson

from scim_matrix.groupmap import Mapping
from scim_matrix.membership import Membership, Observed
from scim_matrix.store import accounts, binding, memberships, resources
from scim_matrix.store.accounts import Account, Confirmation, Disablement, Profile, Wanted, Written
from scim_matrix.store.database import Connection
from scim_matrix.store.dialect import DatabaseRow
from scim_matrix.store.memberships import membership
from scim_matrix.store.resources import MemberChange

ROOM = "!room"
TO_ALL = Mapping("everyone", "", ROOM)


def profile(name: str, subject: str | None = None) -> Profile:
    """Return the profile of a user of this name."""
    return Profile(name.capitalize(), (), subject)


def wanted(name: str, *, active: bool = True, subject: str | None = None) -> Wanted:
    """Return what the account of a user of this name should be."""
    return Wanted("active" if active else "disabled", profile(name, subject), f"@{name}:s")


class Directory:
    """What the identity provider and the homeserver say, within one writing transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- The identity provider ---------------------------------------------

    async def user(self, name: str, *, active: bool = True, subject: str | None = None) -> str:
        """Store a user whose account is not known yet, and return the SCIM id: the name."""
        document = {"userName": name, "active": active}
        await resources.create(self._connection, "User", document, name)
        said = wanted(name, active=active, subject=subject)
        await accounts.create(self._connection, name, said, "externalId")
        return name

    async def activity(self, scim_id: str, *, active: bool, subject: str | None = None) -> None:
        """Have a user active or not."""
        document = {"userName": scim_id, "active": active}
        await resources.update(self._connection, "User", scim_id, document)
        said = wanted(scim_id, active=active, subject=subject)
        await accounts.change(self._connection, scim_id, said, "externalId")

    async def deletes(self, scim_id: str, grace: float = 0.0) -> None:
        """Delete a user."""
        await accounts.release(self._connection, scim_id, grace)
        await resources.delete(self._connection, "User", scim_id)

    async def group(self, name: str, *members: str) -> str:
        """Store a group of the externalId ext-NAME with members, and return its id: the name."""
        document = {"displayName": name, "externalId": f"ext-{name}"}
        await resources.create(self._connection, "Group", document, name)
        await self.members(name, *members)
        return name

    async def members(self, group_id: str, *members: str) -> None:
        """Have a group hold exactly these members."""
        sent = orjson.dumps([{"value": member} for member in members]).decode()
        await resources.change_members(self._connection, group_id, [MemberChange("replace", sent)])

    # -- Accounts ----------------------------------------------------------

    async def account(self, name: str, *, subject: str | None = None) -> str:
        """Store a user whose account was made, and is as it should be; return the SCIM id."""
        scim_id = await self.user(name, subject=subject)
        await self.binds(scim_id, usable=True)
        await self.confirms(scim_id)
        return scim_id

    async def account_of(self, name: str) -> Account:
        """Return the account of a user, of a former one too."""
        account = await accounts.get(self._connection, await self.account_id(name))
        assert account is not None
        return account

    async def account_id(self, name: str) -> int:
        """Return the number of the account of a user, of a former one too."""
        [row] = await self._connection.execute_fetchall(
            "SELECT id FROM account WHERE scim_id = :name OR user_id = :whole OR proposed = :whole",
            {"name": name, "whole": f"@{name}:s"},
        )
        return int(row["id"])

    async def binds(self, scim_id: str, *, usable: bool) -> None:
        """Have it known that @NAME:s is a user's account."""
        account = await self.account_of(scim_id)
        assert await binding.bind(self._connection, account, f"@{scim_id}:s", "made") is None
        if usable:
            await accounts.use(self._connection, account.id)

    async def confirms(self, name: str) -> None:
        """Have an account be as it should be."""
        account = await self.account_of(name)
        is_active = account.desired == "active"
        seen = Confirmation(Disablement(locked=not is_active), Written(), usable=is_active)
        assert await accounts.confirm(self._connection, account, seen)

    # -- Rooms -------------------------------------------------------------

    async def rows(self, room_id: str | None = None) -> list[DatabaseRow]:
        """Return what is stored of memberships, by room and user."""
        return await self._connection.execute_fetchall(
            "SELECT m.*, coalesce(a.user_id, a.proposed) AS user_id FROM membership m"
            " JOIN account a ON a.id = m.account_id WHERE m.room_id = coalesce(:room_id, m.room_id)"
            " ORDER BY m.room_id, user_id",
            {"room_id": room_id},
        )

    async def states(self, room_id: str = ROOM) -> dict[str, str]:
        """Return the state of everybody in a room, by name."""
        rows = await self.rows(room_id)
        return {row["user_id"][1:].partition(":")[0]: row["state"] for row in rows}

    async def membership(self, room_id: str, name: str) -> Membership:
        """Return one membership."""
        [found] = [r for r in await self.rows(room_id) if r["user_id"] == f"@{name}:s"]
        return membership(found)

    async def row(self, name: str, room_id: str = ROOM) -> DatabaseRow:
        """Return all that is stored of one membership."""
        [found] = [r for r in await self.rows(room_id) if r["user_id"] == f"@{name}:s"]
        return found

    async def observed(self, observed: Observed, *names: str, room_id: str = ROOM) -> None:
        """Have people be in a room in some way, by an action of the service."""
        for name in names:
            pair = await self.membership(room_id, name)
            await memberships.reach(self._connection, pair, observed)

    async def unmanaged(self, room_id: str = ROOM) -> Sequence[str]:
        """Return who is in a room without being managed."""
        found = await self._connection.execute_fetchall(
            "SELECT user_id FROM unmanaged_member WHERE room_id = :room_id ORDER BY 1",
            {"room_id": room_id},
        )
        return [row["user_id"] for row in found]
