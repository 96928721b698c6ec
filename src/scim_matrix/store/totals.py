"""How much there is of everything, for metrics and the command line."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import orjson

from scim_matrix.store.database import Connection, together

# compared: every mapped room was; decided: a command decided or asked for something.
Moment = Literal["compared", "decided"]


@dataclass(frozen=True, slots=True)
class Totals:
    """Resources by kind, actions by kind and outcome, and how old what is pending is (seconds).

    `compared_at` is when every mapped room had been compared (seconds since the epoch). `rows` is
    how much there is to count.
    """

    resources: dict[str, int]
    actions: dict[tuple[str, str], int]
    oldest_pending: float
    compared_at: float
    restored: bool
    rows: int


async def totals(connection: Connection, now: float) -> Totals:
    """Count everything; `now` is in seconds since the epoch."""
    [resources] = await connection.execute_fetchall(
        "SELECT (SELECT count(*) FROM scim_user) AS users,"
        " (SELECT count(*) FROM scim_group) AS groups,"
        " (SELECT count(*) FROM group_member) AS members"
    )
    actions = await connection.execute_fetchall("SELECT kind, outcome, number FROM action_count")
    [oldest] = await connection.execute_fetchall(
        "SELECT min(since) AS since FROM ("
        " SELECT min(m.since) AS since FROM membership m JOIN account a ON a.id = m.account_id"
        " WHERE (m.todo IS NOT NULL OR m.power_todo)"
        " AND (m.problem IS NULL OR m.problem = 'unavailable')"
        " AND (m.todo IS NULL OR m.todo = 'leave' OR a.by_hand IS DISTINCT FROM 'deactivated')"
        " AND m.since > 0 AND a.problem IS NULL AND a.user_id IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM room r WHERE r.room_id = m.room_id"
        " AND r.unusable IS NOT NULL)"
        " AND EXISTS (SELECT 1 FROM opening o JOIN mapping p ON p.id = o.mapping_id"
        " WHERE o.room_id = m.room_id AND o.standing = 'followed' AND p.standing = 'in_force')"
        " UNION ALL SELECT min(since) FROM account WHERE todo IS NOT NULL AND since > 0"
        " AND (problem IS NULL OR problem = 'unavailable')) pending"
    )
    [memberships] = await connection.execute_fetchall(
        "SELECT coalesce(sum(memberships), 0) AS number FROM room_count"
    )
    [installation] = await connection.execute_fetchall("SELECT restored_tick FROM installation")
    return Totals(
        dict(resources),
        {(row["kind"], row["outcome"]): row["number"] for row in actions},
        0.0 if oldest["since"] is None else max(0.0, now - oldest["since"]),
        await when(connection, "compared"),
        installation["restored_tick"] is not None,
        sum(dict(resources).values()) + memberships["number"],
    )


async def happened(connection: Connection, what: Moment) -> None:
    """Record that something happened now."""
    await connection.execute_fetchall(
        "INSERT INTO moment (what, at) VALUES (:what, :at)"
        " ON CONFLICT (what) DO UPDATE SET at = excluded.at",
        {"what": what, "at": connection.at},
    )


async def ail(connection: Connection, codes: Collection[str], known: Collection[str]) -> None:
    """Record what ails now of all that is `known` to happen to servers, and since when."""
    begin = (
        "INSERT INTO moment (what, at) SELECT value, CAST(:at AS DOUBLE PRECISION)"
        " FROM each_text(:codes) WHERE TRUE ON CONFLICT (what) DO NOTHING"
    )
    end = "DELETE FROM moment WHERE what IN (SELECT value FROM each_text(:codes))"
    ails = [code for code in known if code in codes]
    well = [code for code in known if code not in codes]
    await together(
        connection,
        (begin, {"at": connection.at, "codes": orjson.dumps(ails).decode()}),
        (end, {"codes": orjson.dumps(well).decode()}),
    )


async def ailing(connection: Connection, known: Collection[str]) -> dict[str, float]:
    """Return what ails of all that is `known` to, since when (seconds since the epoch)."""
    found = await connection.execute_fetchall(
        "SELECT what, at FROM moment WHERE what IN (SELECT value FROM each_text(:known))"
        " ORDER BY at, what",
        {"known": orjson.dumps(list(known)).decode()},
    )
    return {row["what"]: row["at"] for row in found}


async def when(connection: Connection, what: Moment) -> float:
    """Return when something last happened (seconds since the epoch), 0 for never."""
    [row] = await connection.execute_fetchall(
        "SELECT coalesce(max(at), 0) AS at FROM moment WHERE what = :what", {"what": what}
    )
    return float(row["at"])
