"""What the brake counts and holds, and what a human decides about it."""

from collections.abc import Sequence
from typing import Literal

import aiosqlite

from scim_matrix.store import record
from scim_matrix.store.pairs import WORK
from scim_matrix.store.record import Entry

Counts = tuple[int, int]

# Kinds of actions that take an account away from its user.
DISABLING = ("lock", "suspend", "deactivate", "erase")
_DISABLED = "wanted ->> '$.state' <> 'active'"
_DISABLING_NOW = f"{_DISABLED} AND NOT approved AND applied ->> '$.state' <> wanted ->> '$.state'"


async def room_counts(connection: aiosqlite.Connection, room_id: str, since: float) -> Counts:
    """Return how many people of a room were removed since a time, are to be, or wait, and of whom.

    The second number is how many managed people were in the room before.
    """
    return await _counts(
        connection,
        "SELECT user_id FROM action WHERE room_id = ?1 AND kind = 'kick' AND outcome = 'done'"
        " AND NOT approved AND at >= ?2",
        f"SELECT user_id FROM pair WHERE room_id = ?1 AND NOT granted AND NOT approved"
        f" AND (held OR ({WORK}))",
        "SELECT user_id FROM pair WHERE room_id = ?1 AND membership IN ('join', 'invite')"
        " AND NOT forgotten",
        (room_id, since),
    )


async def account_counts(connection: aiosqlite.Connection, user_id: str, since: float) -> Counts:
    """Return how many accounts were disabled since a time, are to be, or wait, and of how many.

    `user_id` is one that is to be disabled in any case.
    """
    return await _counts(
        connection,
        f"SELECT user_id FROM action WHERE kind IN {DISABLING} AND outcome = 'done'"
        " AND NOT approved AND at >= ?2 UNION SELECT ?1",
        f"SELECT user_id FROM account WHERE held OR ({_DISABLING_NOW})",
        "SELECT user_id FROM account WHERE applied ->> '$.state' = 'active'",
        (user_id, since),
    )


async def _counts(
    connection: aiosqlite.Connection,
    done: str,
    waiting: str,
    present: str,
    values: tuple[str, float],
) -> Counts:
    """Count people, each once however often they were removed."""
    [(removed, managed)] = await connection.execute_fetchall(
        f"WITH done (user_id) AS ({done}), waiting (user_id) AS ({waiting})"
        " SELECT (SELECT count(*) FROM (SELECT user_id FROM done UNION SELECT * FROM waiting)),"
        f" (SELECT count(*) FROM (SELECT user_id FROM done UNION {present}))",
        values,
    )
    return removed, managed


async def hold_room(connection: aiosqlite.Connection, room_id: str) -> int:
    """Hold the pending removals of a room and return how many these are."""
    found = await connection.execute_fetchall(
        f"UPDATE pair SET held = 1 WHERE room_id = ? AND NOT granted AND NOT approved AND {WORK}"
        " RETURNING user_id, group_name, request",
        (room_id,),
    )
    entries = [Entry("kick", "held", user, room_id, group, req) for user, group, req in found]
    await record.add(connection, *entries)
    return len(entries)


async def hold_accounts(connection: aiosqlite.Connection, user_id: str) -> int:
    """Hold an account and all others that are to be disabled; return how many these are."""
    found = await connection.execute_fetchall(
        f"UPDATE account SET held = 1 WHERE {_DISABLED} AND NOT approved AND NOT held"
        " AND (user_id = ? OR applied ->> '$.state' <> wanted ->> '$.state')"
        " RETURNING user_id, request",
        (user_id,),
    )
    entries = [Entry("disable", "held", user, request=request) for user, request in found]
    await record.add(connection, *entries)
    return len(entries)


async def decide(
    connection: aiosqlite.Connection,
    rooms: Sequence[str] | None,
    decision: Literal["approved", "dismissed"],
) -> int:
    """Let held removals of rooms go on, or drop them so that people stay; return how many.

    Without rooms it is about held accounts: dismissed ones stay as they are until the identity
    provider says something new of them.
    """
    if rooms is not None:
        change = "approved = 1" if decision == "approved" else "forgotten = 1"
        found = await connection.execute_fetchall(
            f"UPDATE pair SET held = 0, attempts = 0, next_try = 0, {change}"
            f" WHERE held AND room_id IN ({', '.join('?' * len(rooms))})"
            " RETURNING 'kick', user_id, room_id, group_name, request",
            tuple(rooms),
        )
    else:
        change = "approved = 1" if decision == "approved" else "applied = wanted"
        found = await connection.execute_fetchall(
            f"UPDATE account SET held = 0, attempts = 0, next_try = 0, {change} WHERE held"
            " RETURNING 'disable', user_id, NULL, NULL, request"
        )
    entries = [Entry(kind, decision, *rest) for kind, *rest in found]
    await record.add(connection, *entries)
    return len(entries)


async def rooms_named(connection: aiosqlite.Connection, name: str) -> list[str]:
    """Return the room IDs that a name stands for: an alias of the map, or a room ID itself."""
    found = await connection.execute_fetchall(
        "SELECT room_id FROM room WHERE reference = ?1 AND room_id IS NOT NULL"
        " UNION SELECT room_id FROM pair WHERE room_id = ?1",
        (name,),
    )
    return [room_id for (room_id,) in found]
