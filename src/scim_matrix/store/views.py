"""What commands and pages show of the store: who is where and why, what is left, what fails."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from scim_matrix.course import Amount
from scim_matrix.membership import Membership
from scim_matrix.store import grants
from scim_matrix.store.database import Connection
from scim_matrix.store.lease import GONE_AFTER
from scim_matrix.store.memberships import membership
from scim_matrix.store.queries import load

Rows = list[dict[str, Any]]

_Q = load("views")


async def _rows(connection: Connection, query: str, **values: Any) -> Rows:
    return [dict(row) for row in await connection.execute_fetchall(_Q[query], values)]


async def users(connection: Connection, like: str | None) -> Rows:
    """Return users with their accounts; `like` is a glob of userName or user ID."""
    return await _rows(connection, "users", like=like)


async def subjects(connection: Connection) -> dict[str, int]:
    """Return how many users there are, have an SSO subject, and have an account linked to it."""
    [row] = await _rows(connection, "subjects")
    return row


async def leader(connection: Connection) -> str | None:
    """Return which of several services leads, None for none or where there is but one."""
    found = await connection.execute_fetchall(load("lease")["leader"], {"seconds": GONE_AFTER})
    return found[0]["name"] if found else None


async def groups(connection: Connection, like: str | None) -> Rows:
    """Return groups with their members and mapped rooms; `like` is a glob of displayName."""
    return await _rows(connection, "groups", like=like)


async def mapped_rooms(connection: Connection) -> Rows:
    """Return every room of the map, whether it is followed, and how many people are in it.

    And the rooms that are `unmapped` though somebody is to leave them.
    """
    return await _rows(connection, "rooms")


async def people(connection: Connection, room_id: str) -> Rows:
    """Return who is in a room, and why."""
    found = await _rows(connection, "people", room_id=room_id)
    return _because(found, await grants.reasons(connection, room_id))


async def places(connection: Connection, user_ids: Iterable[str]) -> Rows:
    """Return where some are, one after the other, and why."""
    listed = orjson.dumps(list(user_ids)).decode()
    found = await _rows(connection, "places", user_ids=listed)
    for row in found:
        del row["number"]
    managed = {row["account_id"] for row in found} - {None}
    return _because(found, await grants.reasons_of(connection, managed))


def _because(rows: Rows, why: Mapping[tuple[str, int], list[str]]) -> Rows:
    for row in rows:
        row["because"] = "; ".join(why.get((row["room_id"], row.pop("account_id")), []))
    return rows


async def left_to_do(connection: Connection, limit: int) -> Rows:
    """Return what is pending, failing, held, spared, conflicting or not followed."""
    return await _rows(connection, "work", limit=limit)


async def pinned(connection: Connection) -> Rows:
    """Return what references of the map stand for, and where their aliases lead instead."""
    return await _rows(connection, "pinned")


async def codes(connection: Connection) -> list[str]:
    """Return the codes of the problems that there are (scim_matrix/problems.py)."""
    return [row["code"] for row in await connection.execute_fetchall(_Q["codes"])]


async def pending_memberships(connection: Connection) -> list[Membership]:
    """Return what would be done in rooms, for accounts that are still to be made too."""
    found = await connection.execute_fetchall(_Q["pending_memberships"])
    return [membership(row) for row in found]


async def pending_accounts(connection: Connection) -> Rows:
    """Return what would be done to accounts."""
    return await _rows(connection, "pending_accounts")


async def progress(connection: Connection) -> dict[str, Amount]:
    """Return how far accounts and memberships are, from numbers that are kept."""
    [row] = await _rows(connection, "progress")
    return {what: Amount(row[what], row[f"{what}_left"]) for what in ("accounts", "memberships")}
