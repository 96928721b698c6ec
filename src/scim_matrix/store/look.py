"""What the command line shows of the store: who is where and why, what is left, what fails."""

from collections.abc import Sequence
from typing import Any

import aiosqlite

from scim_matrix.store import grants
from scim_matrix.store.pairs import POWER_WORK, WORK

Rows = list[dict[str, Any]]


async def _rows(connection: aiosqlite.Connection, sql: str, values: Sequence[Any] = ()) -> Rows:
    cursor = await connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    found = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
    await cursor.close()
    return found


async def users(connection: aiosqlite.Connection, like: str | None) -> Rows:
    """Return users with their accounts; `like` is a glob of userName or user ID."""
    return await _rows(
        connection,
        "SELECT u.id, u.document ->> '$.userName' AS userName, a.user_id AS account,"
        " coalesce(a.wanted ->> '$.state', 'none') AS state,"
        " a.wanted IS a.applied AS applied, a.held, a.error,"
        " (SELECT count(*) FROM pair p WHERE p.user_id = a.user_id AND p.granted) AS rooms"
        " FROM scim_user u LEFT JOIN account a ON a.scim_id = u.id"
        " WHERE ?1 IS NULL OR u.document ->> '$.userName' GLOB ?1 OR a.user_id GLOB ?1"
        " ORDER BY u.user_name_key",
        (like,),
    )


async def groups(connection: aiosqlite.Connection, like: str | None) -> Rows:
    """Return groups with their members and mapped rooms; `like` is a glob of displayName."""
    return await _rows(
        connection,
        "SELECT g.id, g.display_name AS displayName, g.external_id AS externalId,"
        " (SELECT count(*) FROM group_member m WHERE m.group_id = g.id) AS members,"
        " (SELECT group_concat(DISTINCT m.room_reference) FROM mapping m WHERE"
        "  (m.kind = 'external_id' AND g.external_id = m.pattern)"
        "  OR (m.kind = 'display_name' AND g.display_name GLOB m.pattern)) AS rooms"
        " FROM scim_group g WHERE ?1 IS NULL OR g.display_name GLOB ?1"
        " ORDER BY g.display_name_key",
        (like,),
    )


async def mapped_rooms(connection: aiosqlite.Connection) -> Rows:
    """Return every reference of the map with its room and how many people are what there."""
    return await _rows(
        connection,
        "SELECT m.room_reference AS room, coalesce(c.room_id, r.room_id) AS room_id,"
        " group_concat(DISTINCT CASE m.kind WHEN 'everyone' THEN '*' WHEN 'display_name'"
        "  THEN 'displayName:' || m.pattern ELSE m.pattern END) AS keys,"
        " (SELECT count(*) FROM pair p WHERE p.room_id = coalesce(c.room_id, r.room_id)"
        "  AND p.granted) AS granted,"
        " (SELECT count(*) FROM pair p WHERE p.room_id = coalesce(c.room_id, r.room_id)"
        "  AND p.granted AND p.membership = 'join') AS joined,"
        " (SELECT count(*) FROM pair p WHERE p.room_id = coalesce(c.room_id, r.room_id)"
        "  AND p.held) AS held,"
        " (SELECT count(*) FROM stranger s WHERE s.room_id = coalesce(c.room_id, r.room_id))"
        "  AS strangers, r.error"
        " FROM mapping m JOIN room r ON r.reference = m.room_reference"
        " LEFT JOIN (SELECT reference, room_id FROM room_child"
        "  UNION ALL SELECT reference, room_id FROM room) c"
        "  ON c.reference = r.reference AND (m.children OR c.room_id IS r.room_id)"
        " GROUP BY m.room_reference, coalesce(c.room_id, r.room_id) ORDER BY 1, 2",
    )


async def people(
    connection: aiosqlite.Connection, *, room_id: str | None = None, user_id: str | None = None
) -> Rows:
    """Return who is in a room, or where somebody is, and why; the connection is a writer's."""
    pairs = await _rows(
        connection,
        "SELECT room_id, user_id, granted, membership, power, held, forgotten,"
        f" ({WORK}) OR ({POWER_WORK}) AS pending, error,"
        " (SELECT scim_id FROM account a WHERE a.user_id = pair.user_id) AS scim_id FROM pair"
        " WHERE (?1 IS NULL OR room_id = ?1) AND (?2 IS NULL OR user_id = ?2)"
        " UNION ALL SELECT room_id, user_id, 0, 'join', NULL, 0, 0, 0, NULL, NULL FROM stranger"
        " WHERE (?1 IS NULL OR room_id = ?1) AND (?2 IS NULL OR user_id = ?2)"
        " ORDER BY 1, 2",
        (room_id, user_id),
    )
    why: dict[tuple[str, str], list[str]] = {}
    scim_ids = [pair.pop("scim_id") for pair in pairs]
    for room, user, group, key, reference in await grants.reasons(
        connection, [i for i in scim_ids if i is not None]
    ):
        why.setdefault((room, user), []).append(f"{group} ({key} → {reference})")
    for pair in pairs:
        pair["because"] = "; ".join(why.get((pair["room_id"], pair["user_id"]), []))
    return pairs


async def left_to_do(connection: aiosqlite.Connection, limit: int) -> Rows:
    """Return what is pending, failing and held, what has waited longest first."""
    return await _rows(
        connection,
        "SELECT CASE WHEN held THEN 'held' WHEN error IS NULL THEN 'pending' ELSE 'failing' END"
        "  AS state, CASE WHEN NOT granted THEN 'leave' WHEN membership IS 'join' THEN 'power'"
        "  WHEN invite THEN 'invite' ELSE 'join' END AS what, room_id AS room, user_id AS user,"
        " group_name AS 'group', error AS reason, since FROM pair"
        f" WHERE held OR ({WORK}) OR ({POWER_WORK})"
        " UNION ALL SELECT CASE WHEN held THEN 'held' WHEN error IS NULL THEN 'pending'"
        "  ELSE 'failing' END, 'account ' || (wanted ->> '$.state'), NULL, user_id, NULL, error,"
        "  since FROM account WHERE held OR wanted IS NOT applied"
        " UNION ALL SELECT 'failing', 'room', reference, NULL, NULL, error, 0 FROM room"
        "  WHERE error IS NOT NULL ORDER BY since LIMIT ?",
        (limit,),
    )
