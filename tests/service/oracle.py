"""The queries that the agenda of rooms replaces, and has to agree with wherever it is asked."""

import copy
from collections.abc import Sequence

import orjson

from scim_matrix.store import grants, memberships
from scim_matrix.store.agenda import Agenda
from scim_matrix.store.database import Connection

ROOMS_DUE = """
WITH place (room_id, is_mapped) AS (
    SELECT room_id, count(*) FILTER (WHERE is_mapped) > 0 FROM (
        SELECT o.room_id, TRUE AS is_mapped FROM mapping p CROSS JOIN opening o
        WHERE p.standing = 'in_force' AND o.mapping_id = p.id AND o.standing = 'followed'
        UNION ALL SELECT room_id, FALSE FROM membership WHERE state = 'pruned'
        UNION ALL SELECT room_id, FALSE FROM membership WHERE brake <> 'free' AND brake = 'approved'
    ) s GROUP BY room_id
),
due (room_id, work) AS MATERIALIZED (
    SELECT p.room_id, CASE WHEN EXISTS (
            SELECT 1 FROM membership m CROSS JOIN account a
            WHERE m.room_id = p.room_id AND m.todo IS NOT NULL AND m.next_try <= :now
            AND (p.is_mapped OR m.state = 'pruned' OR m.brake = 'approved') AND a.id = m.account_id
            AND a.user_id IS NOT NULL AND a.bound_by <> 'migrated'
            AND (m.todo = 'leave' OR a.usable)
            AND NOT EXISTS (SELECT 1 FROM unsettled n WHERE n.account_id = m.account_id))
        THEN (SELECT count(*) FROM (SELECT 1 FROM membership m WHERE m.room_id = p.room_id
            AND m.todo IS NOT NULL AND m.next_try <= :now LIMIT :most) n)
        WHEN EXISTS (
            SELECT 1 FROM membership m CROSS JOIN account a
            WHERE m.room_id = p.room_id AND m.power_todo AND m.todo IS NULL AND m.next_try <= :now
            AND NOT EXISTS (SELECT 1 FROM room r WHERE r.room_id = p.room_id
                AND r.levels_unsure_until > :now)
            AND (p.is_mapped OR m.state = 'pruned' OR m.brake = 'approved') AND a.id = m.account_id
            AND a.user_id IS NOT NULL AND a.bound_by <> 'migrated'
            AND NOT EXISTS (SELECT 1 FROM unsettled n WHERE n.account_id = m.account_id))
        THEN 1 ELSE 0 END
    FROM place p WHERE p.room_id NOT IN (SELECT value FROM each_text(:besides))
    AND NOT EXISTS (SELECT 1 FROM room r WHERE r.room_id = p.room_id AND r.unusable IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM mapping u WHERE u.unsettled)
)
SELECT room_id FROM due WHERE work > 0 ORDER BY work, room_id
"""

NEXT_DUE = """
SELECT min(t) AS due FROM (
    SELECT * FROM (
        SELECT m.next_try AS t FROM membership m CROSS JOIN account a
        WHERE m.next_try > :after AND m.next_try > 0 AND a.id = m.account_id
        AND a.user_id IS NOT NULL
        AND ((m.todo IS NOT NULL AND (m.todo = 'leave' OR a.usable)) OR m.power_todo)
        AND (:anywhere OR m.state = 'pruned' OR m.brake = 'approved' OR EXISTS (
            SELECT 1 FROM opening o JOIN mapping p ON p.id = o.mapping_id
            WHERE o.room_id = m.room_id AND o.standing = 'followed' AND p.standing = 'in_force'))
        ORDER BY m.next_try LIMIT 1) f
    UNION ALL
    SELECT min(next_try) FROM account WHERE todo IS NOT NULL AND next_try > :after
    UNION ALL
    SELECT min(expires) FROM account WHERE expires > :after AND brake <> 'held'
    UNION ALL
    SELECT min(unsure_until) FROM account WHERE unsure_until > :after
    UNION ALL
    SELECT min(next_try) FROM room_reference WHERE standing <> 'pinned' AND next_try > :after
    UNION ALL
    SELECT min(levels_unsure_until) FROM room r WHERE levels_unsure_until > :after
    AND (:anywhere OR EXISTS (SELECT 1 FROM opening o JOIN mapping p ON p.id = o.mapping_id
        WHERE o.room_id = r.room_id AND o.standing = 'followed' AND p.standing = 'in_force'))
) moments
"""

ACCOUNTS_DUE = """
SELECT id, since, next_try FROM account WHERE todo IS NOT NULL AND next_try <= :now
AND (NOT :disabling OR (todo = 'disable' AND bound_by <> 'migrated')) ORDER BY since DESC, id
"""

COUNTED = """
SELECT room_id, count(*) AS memberships, count(todo) AS todo FROM membership GROUP BY room_id
"""


async def counts(connection: Connection) -> None:
    """Make sure that the numbers that are kept are those that are counted."""
    kept = await connection.execute_fetchall("SELECT * FROM room_count WHERE memberships > 0")
    counted = await connection.execute_fetchall(COUNTED)
    assert sorted(map(tuple, kept)) == sorted(map(tuple, counted))


async def rooms_due(
    connection: Connection, now: float, besides: Sequence[str], agenda: Agenda | None = None
) -> list[str]:
    """Return the rooms with work due, the least work first, as query and agenda say it."""
    values = {"now": now, "most": 50, "besides": orjson.dumps(besides).decode()}
    rows = await connection.execute_fetchall(ROOMS_DUE, values)
    expected = [row["room_id"] for row in rows]
    agenda = copy.deepcopy(agenda) or Agenda()
    await agenda.refresh(connection, now)
    found = agenda.smallest(besides, 1000)
    if await grants.is_left(connection):
        # Where everybody has become unsettled, that is seen after an empty turn.
        found = [room_id for room_id in found if room_id in expected]
    assert found == expected
    return expected


async def next_due(
    connection: Connection, after: float, agenda: Agenda | None = None
) -> float | None:
    """Return when the first work after a moment falls due, as query and agenda say it.

    What falls due in rooms that the map does not open may be left out: a change of the map tells.
    """
    found = [
        row["due"]
        for anywhere in (True, False)
        for row in await connection.execute_fetchall(
            NEXT_DUE, {"after": after, "anywhere": anywhere}
        )
    ]
    agenda = copy.deepcopy(agenda) or Agenda()
    await agenda.refresh(connection, after)
    moments = (agenda.next_due(), await memberships.next_due(connection, after))
    due = min(filter(None, moments), default=None)
    never = float("inf")
    first, last = (never if moment is None else moment for moment in found)
    assert first <= (never if due is None else due) <= last
    return due


async def accounts_due(
    connection: Connection, now: float, limit: int, besides: Sequence[int], *, disabling: bool
) -> list[int]:
    """Return the ids of accounts that are due, the newest change first.

    Of those that rested no more take part than are asked for: those whose rest ended first.
    """
    rows = await connection.execute_fetchall(ACCOUNTS_DUE, {"now": now, "disabling": disabling})
    free = [row for row in rows if row["id"] not in besides]
    rested = sorted((row for row in free if row["next_try"]), key=lambda row: row["next_try"])
    late = {row["id"] for row in rested[limit:]}
    return [row["id"] for row in free if row["id"] not in late][:limit]
