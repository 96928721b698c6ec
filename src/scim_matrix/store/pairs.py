"""Managed (account, room) pairs: the work left, and its outcomes."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import aiosqlite
import orjson

from scim_matrix.pair import Pair
from scim_matrix.store import grants

# The same words as the partial index pair_work, so that SQLite uses it.
WORK = """
NOT held AND NOT forgotten
AND membership IS NOT 'ban' AND membership IS NOT 'left'
AND ((granted = 1 AND membership IS NOT 'join' AND NOT (invite AND membership IS 'invite'))
    OR (granted = 0 AND membership IS NOT 'leave'))
"""

# A power level waits for the membership that it belongs to.
POWER_WORK = """
power IS NOT power_set AND NOT held AND NOT forgotten
AND ((granted = 1 AND membership IS 'join') OR (granted = 0 AND membership IN ('leave', 'ban')))
"""

# The same for pair joined with account, which has some of the names too.
_PAIR_WORK = WORK.replace("NOT held", "NOT p.held")

# A join waits until the account is there and active (coming back reactivates it first).
_STARTABLE = "(NOT p.granted OR (a.ready AND a.applied ->> '$.state' = 'active'))"

_PAIR = """
SELECT p.room_id, p.user_id, p.granted, p.membership, p.group_name, p.attempts, a.ready,
    p.request, p.approved, p.invite, p.power, p.power_set
FROM pair p LEFT JOIN account a USING (user_id)
"""

# Work in a room that cannot be used waits until it is seen to work again.
_USABLE = "p.room_id NOT IN (SELECT room_id FROM room WHERE error IS NOT NULL AND room_id NOTNULL)"


async def rooms_due(
    connection: aiosqlite.Connection, now: float, besides: Sequence[str]
) -> list[str]:
    """Return the IDs of rooms with work due, the one with the least work first."""
    found = await connection.execute_fetchall(
        f"""
        SELECT p.room_id FROM (
            SELECT p.room_id FROM pair p LEFT JOIN account a USING (user_id)
            WHERE {_PAIR_WORK} AND p.next_try <= ?1 AND {_STARTABLE} AND {_USABLE}
            UNION ALL
            SELECT p.room_id FROM pair p WHERE {POWER_WORK} AND p.next_try <= ?1 AND {_USABLE}
        ) p WHERE p.room_id NOT IN (SELECT value FROM json_each(?2))
        GROUP BY p.room_id ORDER BY count(*)""",
        (now, orjson.dumps(besides).decode()),
    )
    return [room_id for (room_id,) in found]


async def due(connection: aiosqlite.Connection, room_id: str, now: float, limit: int) -> list[Pair]:
    """Return up to `limit` pairs of a room whose membership is due: removals, then the newest."""
    found = await connection.execute_fetchall(
        f"{_PAIR} WHERE {_PAIR_WORK} AND p.room_id = ? AND p.next_try <= ? AND {_STARTABLE}"
        f" AND {_USABLE}"
        " ORDER BY p.granted, p.since DESC, p.user_id LIMIT ?",
        (room_id, now, limit),
    )
    return [_pair(row) for row in found]


async def held(connection: aiosqlite.Connection) -> list[Pair]:
    """Return the pairs whose removal waits for a human."""
    found = await connection.execute_fetchall(f"{_PAIR} WHERE p.held ORDER BY 1, 2")
    return [_pair(row) for row in found]


async def power_due(connection: aiosqlite.Connection, room_id: str, now: float) -> list[Pair]:
    """Return the pairs of a room whose power level is due."""
    found = await connection.execute_fetchall(
        f"{_PAIR} WHERE {POWER_WORK.replace('NOT held', 'NOT p.held')}"
        " AND p.room_id = ? AND p.next_try <= ?",
        (room_id, now),
    )
    return [_pair(row) for row in found]


def _pair(row: sqlite3.Row | Sequence[Any]) -> Pair:
    room_id, user_id, granted, membership, group_name, attempts, ready, *rest = row
    request, approved, invite, power, power_set = rest
    return Pair(
        room_id,
        user_id,
        bool(granted),
        membership,
        group_name,
        attempts,
        account_ready=bool(ready),
        request=request,
        approved=bool(approved),
        invite=bool(invite),
        power=power,
        power_set=power_set,
    )


async def next_due(connection: aiosqlite.Connection, after: float) -> float | None:
    """Return when the first work after a moment falls due, None if there is none.

    Both are seconds since the epoch.
    """
    [(when,)] = await connection.execute_fetchall(
        f"""SELECT min(t) FROM (
            SELECT min(p.next_try) AS t FROM pair p LEFT JOIN account a USING (user_id)
                WHERE {_PAIR_WORK} AND {_STARTABLE} AND {_USABLE} AND p.next_try > :after
            UNION ALL SELECT min(next_try) FROM pair p
                WHERE {POWER_WORK} AND {_USABLE} AND next_try > :after
            UNION ALL SELECT min(next_try) FROM account
                WHERE wanted IS NOT applied AND NOT held AND next_try > :after
            UNION ALL SELECT min(expires) FROM account WHERE expires > :after
            UNION ALL SELECT min(next_try) FROM room
                WHERE room_id IS NULL AND next_try > :after)""",
        {"after": after},
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


async def settle_power(connection: aiosqlite.Connection, settled: Iterable[Pair]) -> None:
    """Record that people have the power level that they were granted, or gave it back."""
    await connection.executemany(
        "UPDATE pair SET power_set = ?, attempts = 0, next_try = 0, error = NULL"
        " WHERE room_id = ? AND user_id = ?",
        [(pair.power, pair.room_id, pair.user_id) for pair in settled],
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


async def trouble(connection: aiosqlite.Connection) -> dict[str, int]:
    """Return how much is pending, failing and held, and how many rooms cannot be used."""
    [counts] = await connection.execute_fetchall(
        f"""SELECT
            (SELECT count(*) FROM pair WHERE {WORK})
                + (SELECT count(*) FROM pair WHERE {POWER_WORK}),
            (SELECT count(*) FROM pair WHERE ({WORK} OR {POWER_WORK}) AND error IS NOT NULL),
            (SELECT count(*) FROM account WHERE wanted IS NOT applied AND NOT held),
            (SELECT count(*) FROM account WHERE wanted IS NOT applied AND error IS NOT NULL),
            (SELECT count(*) FROM room WHERE error IS NOT NULL),
            (SELECT count(*) FROM pair WHERE held),
            (SELECT count(*) FROM account WHERE held),
            (SELECT count(*) FROM stranger)"""
    )
    names = (
        "pendingPairs",
        "failingPairs",
        "pendingAccounts",
        "failingAccounts",
        "failingRooms",
        "heldPairs",
        "heldAccounts",
        "strangers",
    )
    return dict(zip(names, counts, strict=True))
