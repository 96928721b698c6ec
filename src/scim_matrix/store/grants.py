"""Which (account, room) pairs mapped groups grant, kept true inside each writing transaction."""

from collections.abc import Iterable, Sequence

import aiosqlite
import orjson

from scim_matrix.groupmap import Mapping
from scim_matrix.store.database import Statement, together
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
_OPENED = """
WITH RECURSIVE above (scim_id, group_id) AS (
    SELECT t.scim_id, m.group_id FROM touched_user t CROSS JOIN group_member m
    WHERE m.value = t.scim_id
    UNION SELECT above.scim_id, m.group_id FROM above CROSS JOIN group_member m
    WHERE m.value = above.group_id
),
opening (scim_id, reference, children, power, invite, group_name, kind, pattern) AS (
    SELECT above.scim_id, m.room_reference, m.children, m.power, m.invite, g.display_name,
        m.kind, m.pattern
    FROM above CROSS JOIN scim_group g CROSS JOIN mapping m
    WHERE g.id = above.group_id
    AND ((m.kind = 'external_id' AND g.external_id = m.pattern)
        OR (m.kind = 'display_name' AND g.display_name GLOB m.pattern))
    UNION ALL
    SELECT t.scim_id, m.room_reference, m.children, m.power, m.invite, 'everyone',
        m.kind, m.pattern
    FROM touched_user t CROSS JOIN mapping m WHERE m.kind = 'everyone'
),
opened (scim_id, room_id, power, invite, group_name, kind, pattern, reference) AS (
    SELECT o.scim_id, r.room_id, o.power, o.invite, o.group_name, o.kind, o.pattern, o.reference
    FROM opening o CROSS JOIN room r WHERE r.reference = o.reference AND r.room_id IS NOT NULL
    UNION ALL
    SELECT o.scim_id, c.room_id, o.power, o.invite, o.group_name, o.kind, o.pattern, o.reference
    FROM opening o CROSS JOIN room_child c WHERE o.children AND c.reference = o.reference
)
"""

_GRANTED = f"""
{_OPENED}
SELECT opened.room_id AS room_id, a.user_id AS user_id, min(opened.group_name) AS group_name,
    max(opened.power) AS power, min(opened.invite) AS invite
FROM opened CROSS JOIN scim_user u CROSS JOIN account a
WHERE u.id = opened.scim_id AND u.active AND a.scim_id = u.id
GROUP BY opened.room_id, a.user_id
"""

# Who left and was let go is granted the room anew by a new grant, or by one that no longer
# leaves it to them.
_GRANT = f"""
INSERT INTO pair (room_id, user_id, granted, group_name, power, invite, request, since)
SELECT room_id, user_id, 1, group_name, power, invite, cause(), julianday('now')
FROM ({_GRANTED}) WHERE true
ON CONFLICT (room_id, user_id) DO UPDATE SET
    granted = 1, group_name = excluded.group_name, held = 0, approved = 0, forgotten = 0,
    power = excluded.power, invite = excluded.invite,
    membership = CASE WHEN membership = 'left' AND (NOT granted OR invite > excluded.invite)
        THEN 'leave' ELSE membership END,
    request = CASE granted WHEN 1 THEN request ELSE excluded.request END,
    since = CASE granted WHEN 1 THEN since ELSE excluded.since END,
    attempts = CASE granted WHEN 1 THEN attempts ELSE 0 END,
    next_try = CASE granted WHEN 1 THEN next_try ELSE 0 END,
    error = CASE granted WHEN 1 THEN error END
WHERE granted = 0 OR forgotten OR group_name IS NOT excluded.group_name
    OR power IS NOT excluded.power OR invite <> excluded.invite
"""

# What stands for the request behind a removal that a human asked for after the map forgot it.
PRUNED = "sync --prune"
# The same for somebody whom no group ever gave a room that is to hold nobody else.
EXCLUSIVE = "exclusive"

# The rooms that mappings open, by reference; the rooms of a space where a mapping says so.
ROOMS = """
SELECT m.room_reference AS reference, r.room_id AS room_id, m.exclusive AS exclusive
FROM mapping m JOIN room r ON r.reference = m.room_reference WHERE r.room_id IS NOT NULL
UNION ALL SELECT m.room_reference, c.room_id, m.exclusive
FROM mapping m JOIN room_child c ON c.reference = m.room_reference WHERE m.children
"""

# A removal that nobody has looked at yet, because of the present request.
_REVOKED = (
    "granted = 0, power = NULL, held = 0, approved = 0, request = cause(),"
    " since = julianday('now'), attempts = 0, next_try = 0, error = NULL"
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
    `settling` computes the consequences, for users of nested groups too.
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


async def reasons(
    connection: aiosqlite.Connection, scim_ids: Iterable[str]
) -> list[tuple[str, str, str, str, str]]:
    """Return why users are granted rooms: room ID, user ID, group, key of the map, reference.

    `connection` is within a writing transaction.
    """
    await together(connection, touching(scim_ids))
    found = await connection.execute_fetchall(
        f"{_OPENED} SELECT DISTINCT opened.room_id, a.user_id, opened.group_name,"
        " CASE opened.kind WHEN 'everyone' THEN '*' WHEN 'display_name'"
        " THEN 'displayName:' || opened.pattern ELSE opened.pattern END, opened.reference"
        " FROM opened CROSS JOIN scim_user u CROSS JOIN account a"
        " WHERE u.id = opened.scim_id AND u.active AND a.scim_id = u.id ORDER BY 1, 2, 3"
    )
    await connection.execute_fetchall("DELETE FROM touched_user")
    return [(row[0], row[1], row[2], row[3], row[4]) for row in found]


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
        f" AND room_id NOT IN (SELECT room_id FROM ({ROOMS}))"
    )
    await connection.execute_fetchall(
        f"DELETE FROM pair WHERE NOT granted AND request = '{EXCLUSIVE}' AND membership = 'join'"
        f" AND room_id NOT IN (SELECT room_id FROM ({ROOMS}) WHERE exclusive)"
    )
    await connection.execute_fetchall(
        f"DELETE FROM stranger WHERE room_id NOT IN (SELECT room_id FROM ({ROOMS}))"
    )
    await connection.execute_fetchall("DELETE FROM touched_user")


async def put_map(connection: aiosqlite.Connection, mappings: Sequence[Mapping]) -> None:
    """Make `mappings` the map in force and settle what follows from it, if it is another one."""
    rows = {
        (m.kind, composed(m.pattern) if m.kind == "external_id" else m.pattern, m.room): (
            m.power,
            m.children,
            m.invite,
            m.exclusive,
        )
        for m in mappings
    }
    columns = "kind, pattern, room_reference, power, children, invite, exclusive"
    present = await connection.execute_fetchall(f"SELECT {columns} FROM mapping")
    changed = {(*key, *options) for key, options in rows.items()} != {tuple(r) for r in present}
    if changed:
        await connection.execute_fetchall("DELETE FROM mapping")
        await connection.executemany(
            f"INSERT INTO mapping ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(*key, *options) for key, options in rows.items()],
        )
        await connection.execute_fetchall(
            "DELETE FROM room WHERE reference NOT IN (SELECT room_reference FROM mapping)"
        )
        await connection.execute_fetchall(
            "DELETE FROM room_child WHERE reference NOT IN"
            " (SELECT room_reference FROM mapping WHERE children)"
        )
        # A room ID stands for itself; an alias is asked for.
        await connection.execute_fetchall(
            "INSERT OR IGNORE INTO room (reference, room_id)"
            " SELECT DISTINCT room_reference,"
            " CASE WHEN room_reference LIKE '!%' THEN room_reference END FROM mapping"
        )
    await connection.execute_fetchall("UPDATE room SET template = NULL WHERE template IS NOT NULL")
    await connection.executemany(
        "UPDATE room SET template = ? WHERE reference = ?",
        [(orjson.dumps(m.create).decode(), m.room) for m in mappings if m.create is not None],
    )
    if changed:
        await settle_map_change(connection)
