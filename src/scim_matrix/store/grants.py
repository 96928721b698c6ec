"""Which (account, room) pairs mapped groups grant, kept true inside each writing transaction."""

from collections.abc import Iterable

import aiosqlite
import orjson

from scim_matrix.groupmap import Mapping
from scim_matrix.store.database import Statement
from scim_matrix.store.text import composed

# Everybody below some members: users among them, users of groups among them, and so on.
_TOUCH = """
WITH RECURSIVE below (id) AS (
    SELECT value FROM json_each(?)
    UNION SELECT m.value FROM below CROSS JOIN group_member m WHERE m.group_id = below.id
)
INSERT OR IGNORE INTO touched_user
SELECT u.id FROM below CROSS JOIN scim_user u WHERE u.id = below.id
"""

# What everybody touched is granted. The joins start from the few who are touched: CROSS JOIN
# keeps SQLite from starting at the many memberships of everybody else.
_GRANTED = """
WITH RECURSIVE above (scim_id, group_id) AS (
    SELECT t.scim_id, m.group_id FROM touched_user t CROSS JOIN group_member m
    WHERE m.value = t.scim_id
    UNION SELECT above.scim_id, m.group_id FROM above CROSS JOIN group_member m
    WHERE m.value = above.group_id
),
rooms (scim_id, room_id, group_name) AS (
    SELECT above.scim_id, r.room_id, g.display_name
    FROM above CROSS JOIN scim_group g CROSS JOIN mapping m CROSS JOIN room r
    WHERE g.id = above.group_id AND r.reference = m.room_reference AND r.room_id IS NOT NULL
    AND ((m.kind = 'external_id' AND g.external_id = m.pattern)
        OR (m.kind = 'display_name' AND g.display_name GLOB m.pattern))
    UNION ALL
    SELECT t.scim_id, r.room_id, 'everyone'
    FROM touched_user t CROSS JOIN mapping m CROSS JOIN room r
    WHERE m.kind = 'everyone' AND r.reference = m.room_reference AND r.room_id IS NOT NULL
)
SELECT rooms.room_id, a.user_id, min(rooms.group_name)
FROM rooms CROSS JOIN scim_user u CROSS JOIN account a
WHERE u.id = rooms.scim_id AND u.active AND a.scim_id = u.id
GROUP BY rooms.room_id, a.user_id
"""

_GRANT = f"""
INSERT INTO pair (room_id, user_id, granted, group_name, request)
SELECT room_id, user_id, 1, group_name, cause() FROM (
    SELECT room_id, user_id, 1, "min(rooms.group_name)" AS group_name FROM ({_GRANTED})
) WHERE true
ON CONFLICT (room_id, user_id) DO UPDATE SET
    granted = 1, group_name = excluded.group_name, held = 0, approved = 0, forgotten = 0,
    request = CASE granted WHEN 1 THEN request ELSE excluded.request END,
    attempts = CASE granted WHEN 1 THEN attempts ELSE 0 END,
    next_try = CASE granted WHEN 1 THEN next_try ELSE 0 END,
    error = CASE granted WHEN 1 THEN error END
WHERE granted = 0 OR forgotten OR group_name IS NOT excluded.group_name
"""

# What stands for the request behind a removal that a human asked for after the map forgot it.
PRUNED = "sync --prune"

# A removal that nobody has looked at yet, because of the present request.
_REVOKED = (
    "granted = 0, held = 0, approved = 0, request = cause(),"
    " attempts = 0, next_try = 0, error = NULL"
)

_LOST = f"""
granted = 1
AND user_id IN (
    SELECT a.user_id FROM touched_user t CROSS JOIN account a WHERE a.scim_id = t.scim_id)
AND (room_id, user_id) NOT IN (SELECT room_id, user_id FROM ({_GRANTED}))
"""


def touching(members: Iterable[str]) -> Statement:
    """Return the statement that notes that what `members` are granted may change.

    They are SCIM ids of users or groups. Note them before a change that cuts members off;
    `settle` computes the consequences, for users of nested groups too.
    """
    return _TOUCH, (orjson.dumps(list(members)).decode(),)


def settling(members: Iterable[str] = ()) -> list[Statement]:
    """Return the statements that bring the pairs of everybody noted in line with groups and map.

    `members` are noted too. A grant that ended stays as a managed pair to be removed.
    """
    return [
        touching(members),
        (_GRANT, ()),
        (f"UPDATE pair SET {_REVOKED} WHERE {_LOST}", ()),
        ("DELETE FROM touched_user", ()),
    ]


async def revoke_account(connection: aiosqlite.Connection, user_id: str) -> None:
    """End every grant of an account whose user was deleted."""
    await connection.execute_fetchall(
        f"UPDATE pair SET {_REVOKED} WHERE user_id = ? AND granted = 1", (user_id,)
    )


async def settle_map_change(connection: aiosqlite.Connection) -> None:
    """Bring all pairs in line after the map or a room's ID changed.

    What the map no longer grants stops being managed and is marked so: nobody is removed for it
    unless a human asks for that.
    """
    await connection.execute_fetchall("INSERT OR IGNORE INTO touched_user SELECT id FROM scim_user")
    await connection.execute_fetchall(_GRANT)
    forgotten = "granted = 0, forgotten = 1, held = 0, approved = 0, error = NULL"
    await connection.execute_fetchall(f"UPDATE pair SET {forgotten} WHERE {_LOST}")
    await connection.execute_fetchall(
        f"UPDATE pair SET {forgotten} WHERE NOT forgotten AND request IS NOT '{PRUNED}'"
        " AND room_id NOT IN (SELECT room_id FROM room WHERE room_id IS NOT NULL)"
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
