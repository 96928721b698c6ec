"""Which (account, room) pairs mapped groups grant, kept true inside each writing transaction."""

from collections.abc import Iterable

import aiosqlite
import orjson

from scim_matrix.groupmap import Mapping
from scim_matrix.store.text import composed

# Everybody below some members: users among them, users of groups among them, and so on.
_TOUCH = """
WITH RECURSIVE below (id) AS (
    SELECT value FROM json_each(?)
    UNION SELECT m.value FROM below JOIN group_member m ON m.group_id = below.id
)
INSERT OR IGNORE INTO touched_user SELECT u.id FROM below JOIN scim_user u ON u.id = below.id
"""

_GRANTED = """
WITH RECURSIVE above (scim_id, group_id) AS (
    SELECT t.scim_id, m.group_id FROM touched_user t JOIN group_member m ON m.value = t.scim_id
    UNION SELECT above.scim_id, m.group_id FROM above JOIN group_member m
        ON m.value = above.group_id
),
rooms (scim_id, room_id, group_name) AS (
    SELECT above.scim_id, mg.room_id, mg.display_name
    FROM above JOIN mapped_group mg ON mg.group_id = above.group_id
    UNION ALL
    SELECT t.scim_id, r.room_id, 'everyone'
    FROM touched_user t JOIN mapping m ON m.kind = 'everyone'
    JOIN room r ON r.reference = m.room_reference AND r.room_id IS NOT NULL
)
SELECT rooms.room_id, a.user_id, min(rooms.group_name)
FROM rooms JOIN scim_user u ON u.id = rooms.scim_id AND u.active
JOIN account a ON a.scim_id = u.id
GROUP BY rooms.room_id, a.user_id
"""

_GRANT = f"""
INSERT INTO pair (room_id, user_id, granted, group_name)
SELECT room_id, user_id, 1, group_name FROM (
    SELECT room_id, user_id, 1, "min(rooms.group_name)" AS group_name FROM ({_GRANTED})
) WHERE true
ON CONFLICT (room_id, user_id) DO UPDATE SET
    granted = 1, group_name = excluded.group_name,
    attempts = CASE granted WHEN 1 THEN attempts ELSE 0 END,
    next_try = CASE granted WHEN 1 THEN next_try ELSE 0 END,
    error = CASE granted WHEN 1 THEN error END
WHERE granted = 0 OR group_name IS NOT excluded.group_name
"""

_LOST = f"""
granted = 1
AND user_id IN (SELECT a.user_id FROM touched_user t JOIN account a ON a.scim_id = t.scim_id)
AND (room_id, user_id) NOT IN (SELECT room_id, user_id FROM ({_GRANTED}))
"""


async def touch(connection: aiosqlite.Connection, members: Iterable[str]) -> None:
    """Note that what `members` (SCIM ids of users or groups) are granted may change.

    Call it before a change that cuts members off and after one that adds them; `settle` then
    computes the consequences for everybody noted, users of nested groups included.
    """
    await connection.execute_fetchall(_TOUCH, (orjson.dumps(list(members)).decode(),))


async def settle(connection: aiosqlite.Connection) -> None:
    """Bring the pairs of everybody touched in line with groups and map.

    A grant that ended stays as a managed pair to be removed.
    """
    await connection.execute_fetchall(_GRANT)
    await connection.execute_fetchall(
        f"UPDATE pair SET granted = 0, attempts = 0, next_try = 0, error = NULL WHERE {_LOST}"
    )
    await connection.execute_fetchall("DELETE FROM touched_user")


async def revoke_account(connection: aiosqlite.Connection, user_id: str) -> None:
    """End every grant of an account whose user was deleted."""
    await connection.execute_fetchall(
        "UPDATE pair SET granted = 0, attempts = 0, next_try = 0, error = NULL"
        " WHERE user_id = ? AND granted = 1",
        (user_id,),
    )


async def settle_map_change(connection: aiosqlite.Connection) -> None:
    """Bring all pairs in line after the map or a room's ID changed.

    What the map no longer grants stops being managed; nobody is removed for it.
    """
    await connection.execute_fetchall("INSERT OR IGNORE INTO touched_user SELECT id FROM scim_user")
    await connection.execute_fetchall(_GRANT)
    await connection.execute_fetchall(f"DELETE FROM pair WHERE {_LOST}")
    await connection.execute_fetchall(
        "DELETE FROM pair WHERE room_id NOT IN (SELECT room_id FROM room WHERE room_id IS NOT NULL)"
    )
    await connection.execute_fetchall("DELETE FROM touched_user")


async def put_map(connection: aiosqlite.Connection, mappings: Iterable[Mapping]) -> None:
    """Make `mappings` the map in force and settle what follows from it."""
    await connection.execute_fetchall("DELETE FROM mapping")
    await connection.executemany(
        "INSERT OR IGNORE INTO mapping (kind, pattern, room_reference) VALUES (?, ?, ?)",
        [
            (m.kind, composed(m.pattern) if m.kind == "external_id" else m.pattern, m.room)
            for m in mappings
        ],
    )
    await connection.execute_fetchall(
        "DELETE FROM room WHERE reference NOT IN (SELECT room_reference FROM mapping)"
    )
    # A room ID stands for itself; an alias is asked for.
    await connection.execute_fetchall(
        "INSERT OR IGNORE INTO room (reference, room_id)"
        " SELECT DISTINCT room_reference,"
        " CASE WHEN room_reference LIKE '!%' THEN room_reference END FROM mapping"
    )
    await settle_map_change(connection)
