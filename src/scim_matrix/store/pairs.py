"""Managed (account, room) pairs and rooms: the work left, and its outcomes."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import aiosqlite
import orjson

from scim_matrix.pair import Pair, RoomReference
from scim_matrix.store import grants

# The same words as the partial index pair_work, so that SQLite uses it.
WORK = """
NOT held AND NOT forgotten
AND ((granted = 1 AND membership IS NOT 'join' AND membership IS NOT 'ban')
 OR (granted = 0 AND membership IS NOT 'leave' AND membership IS NOT 'ban'))
"""

# A join waits until the account is there and active (coming back reactivates it first).
# The same for pair joined with account, which has some of the names too.
_PAIR_WORK = WORK.replace("NOT held", "NOT p.held")

_STARTABLE = "(NOT p.granted OR (a.ready AND a.applied ->> '$.state' = 'active'))"


async def rooms_due(
    connection: aiosqlite.Connection, now: float, besides: Sequence[str]
) -> list[str]:
    """Return the IDs of rooms with work due, the one with the least work first."""
    found = await connection.execute_fetchall(
        f"SELECT p.room_id FROM pair p LEFT JOIN account a USING (user_id) WHERE {_PAIR_WORK}"
        f" AND p.next_try <= ? AND {_STARTABLE}"
        " AND p.room_id NOT IN (SELECT value FROM json_each(?))"
        " GROUP BY p.room_id ORDER BY count(*)",
        (now, orjson.dumps(besides).decode()),
    )
    return [room_id for (room_id,) in found]


async def due(connection: aiosqlite.Connection, room_id: str, now: float, limit: int) -> list[Pair]:
    """Return up to `limit` pairs of a room whose difference is due, removals first."""
    found = await connection.execute_fetchall(
        "SELECT p.room_id, p.user_id, p.granted, p.membership, p.group_name, p.attempts,"
        " a.ready, a.is_protected, p.request, p.approved"
        " FROM pair p LEFT JOIN account a USING (user_id)"
        f" WHERE {_PAIR_WORK} AND p.room_id = ? AND p.next_try <= ? AND {_STARTABLE}"
        " ORDER BY p.granted, p.next_try LIMIT ?",
        (room_id, now, limit),
    )
    return [_pair(row) for row in found]


async def all_pairs(connection: aiosqlite.Connection) -> list[Pair]:
    """Return every managed pair."""
    found = await connection.execute_fetchall(
        "SELECT p.room_id, p.user_id, p.granted, p.membership, p.group_name, p.attempts,"
        " a.ready, a.is_protected, p.request, p.approved"
        " FROM pair p LEFT JOIN account a USING (user_id)"
        " ORDER BY p.room_id, p.granted, p.user_id"
    )
    return [_pair(row) for row in found]


def _pair(row: sqlite3.Row | Sequence[Any]) -> Pair:
    room_id, user_id, granted, membership, group_name, attempts, *rest = row
    ready, is_protected, request, approved = rest
    return Pair(
        room_id,
        user_id,
        bool(granted),
        membership,
        group_name,
        attempts,
        account_ready=bool(ready),
        is_protected=bool(is_protected),
        request=request,
        approved=bool(approved),
    )


async def next_due(connection: aiosqlite.Connection) -> float | None:
    """Return when the next work falls due (seconds since the epoch), None if there is none."""
    [(when,)] = await connection.execute_fetchall(
        f"""SELECT min(t) FROM (
            SELECT min(p.next_try) AS t FROM pair p LEFT JOIN account a USING (user_id)
                WHERE {_PAIR_WORK} AND {_STARTABLE}
            UNION ALL SELECT min(next_try) FROM account WHERE wanted IS NOT applied AND NOT held
            UNION ALL SELECT min(expires) FROM account WHERE expires IS NOT NULL
            UNION ALL SELECT min(next_try) FROM room WHERE room_id IS NULL)"""
    )
    return None if when is None else float(when)


async def settle_pair(
    connection: aiosqlite.Connection, room_id: str, user_id: str, membership: str
) -> None:
    """Record the membership that an action led to or found."""
    await connection.execute_fetchall(
        "UPDATE pair SET membership = ?, attempts = 0, next_try = 0, error = NULL"
        " WHERE room_id = ? AND user_id = ?",
        (membership, room_id, user_id),
    )


async def forget(connection: aiosqlite.Connection, room_id: str, user_id: str) -> None:
    """Stop managing a pair: whoever is in the room stays there."""
    await connection.execute_fetchall(
        "UPDATE pair SET forgotten = 1, held = 0, error = NULL WHERE room_id = ? AND user_id = ?",
        (room_id, user_id),
    )


async def unforget(connection: aiosqlite.Connection) -> int:
    """Make removals of what was forgotten, and return how many people that concerns."""
    found = await connection.execute_fetchall(
        "UPDATE pair SET forgotten = 0, approved = 0, attempts = 0, next_try = 0, request = ?"
        " WHERE forgotten AND NOT granted AND membership IS NOT 'leave' RETURNING 1",
        (grants.PRUNED,),
    )
    return len(list(found))


async def is_as_planned(connection: aiosqlite.Connection, pair: Pair) -> bool:
    """Tell whether a pair is still what a plan was made from: the IdP may have changed its mind."""
    found = await connection.execute_fetchall(
        f"SELECT 1 FROM pair WHERE room_id = ? AND user_id = ? AND granted = ? AND {WORK}",
        (pair.room_id, pair.user_id, pair.granted),
    )
    return bool(found)


async def pair_failed(
    connection: aiosqlite.Connection, room_id: str, user_id: str, error: str, next_try: float
) -> None:
    """Record that an action failed, and when to try again (seconds since the epoch)."""
    await connection.execute_fetchall(
        "UPDATE pair SET attempts = attempts + 1, error = ?, next_try = ?"
        " WHERE room_id = ? AND user_id = ?",
        (error, next_try, room_id, user_id),
    )


async def observe(connection: aiosqlite.Connection, room_id: str, joined: Iterable[str]) -> None:
    """Record who is in a room: managed pairs found there or missing there are corrected."""
    await connection.execute_fetchall(
        "UPDATE pair SET membership = CASE WHEN user_id IN (SELECT value FROM json_each(?1))"
        " THEN 'join' ELSE CASE membership WHEN 'ban' THEN 'ban' ELSE 'leave' END END"
        " WHERE room_id = ?2",
        (orjson.dumps(list(joined)).decode(), room_id),
    )


async def mapped_rooms(connection: aiosqlite.Connection) -> list[str]:
    """Return the IDs of every mapped room that is known."""
    found = await connection.execute_fetchall(
        "SELECT DISTINCT room_id FROM room WHERE room_id IS NOT NULL"
    )
    return [room_id for (room_id,) in found]


async def unresolved(connection: aiosqlite.Connection, now: float) -> list[RoomReference]:
    """Return the room references that are to be resolved now."""
    found = await connection.execute_fetchall(
        "SELECT reference, attempts FROM room WHERE room_id IS NULL AND next_try <= ?", (now,)
    )
    return [RoomReference(reference, attempts) for reference, attempts in found]


async def resolved(connection: aiosqlite.Connection, reference: str, room_id: str) -> None:
    """Record the room ID behind a reference; the grants it opens take effect."""
    await connection.execute_fetchall(
        "UPDATE room SET room_id = ?, error = NULL, attempts = 0 WHERE reference = ?",
        (room_id, reference),
    )
    await grants.settle_map_change(connection)


async def room_failed(
    connection: aiosqlite.Connection, reference: str, error: str, next_try: float
) -> None:
    """Record why a reference or its room cannot be used, and when to try again."""
    await connection.execute_fetchall(
        "UPDATE room SET attempts = attempts + 1, error = ?, next_try = ?"
        " WHERE reference = ? OR room_id = ?",
        (error, next_try, reference, reference),
    )


async def room_works(connection: aiosqlite.Connection, room_id: str) -> None:
    """Forget what was wrong with a room."""
    await connection.execute_fetchall(
        "UPDATE room SET error = NULL WHERE room_id = ? AND error IS NOT NULL", (room_id,)
    )


async def trouble(connection: aiosqlite.Connection) -> dict[str, int]:
    """Return how much is pending, failing and held, and how many rooms cannot be used."""
    [counts] = await connection.execute_fetchall(
        f"""SELECT
            (SELECT count(*) FROM pair WHERE {WORK}),
            (SELECT count(*) FROM pair WHERE {WORK} AND error IS NOT NULL),
            (SELECT count(*) FROM account WHERE wanted IS NOT applied AND NOT held),
            (SELECT count(*) FROM account WHERE wanted IS NOT applied AND error IS NOT NULL),
            (SELECT count(*) FROM room WHERE error IS NOT NULL),
            (SELECT count(*) FROM pair WHERE held),
            (SELECT count(*) FROM account WHERE held)"""
    )
    names = (
        "pendingPairs",
        "failingPairs",
        "pendingAccounts",
        "failingAccounts",
        "failingRooms",
        "heldPairs",
        "heldAccounts",
    )
    return dict(zip(names, counts, strict=True))
