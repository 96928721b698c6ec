"""How much there is of everything, for metrics and the command line."""

import time
from dataclasses import dataclass

import aiosqlite

from scim_matrix.store.pairs import POWER_WORK, WORK

# Days between the Julian day and the epoch of the operating system.
_EPOCH = 2440587.5


@dataclass(frozen=True, slots=True)
class Numbers:
    """Resources by kind, actions by kind and outcome, and how old what is pending is (seconds)."""

    resources: dict[str, int]
    actions: dict[tuple[str, str], int]
    oldest_pending: float
    compared_at: float


async def numbers(connection: aiosqlite.Connection) -> Numbers:
    """Count everything."""
    [(users, groups, members)] = await connection.execute_fetchall(
        "SELECT (SELECT count(*) FROM scim_user), (SELECT count(*) FROM scim_group),"
        " (SELECT count(*) FROM group_member)"
    )
    actions = await connection.execute_fetchall("SELECT kind, outcome, number FROM action_count")
    [(since,)] = await connection.execute_fetchall(
        f"SELECT min(since) FROM (SELECT min(since) AS since FROM pair WHERE {WORK}"
        f" UNION ALL SELECT min(since) FROM pair WHERE {POWER_WORK}"
        " UNION ALL SELECT min(since) FROM account WHERE wanted IS NOT applied AND NOT held)"
    )
    oldest = 0.0
    if since is not None and since > _EPOCH:
        oldest = max(0.0, time.time() - (since - _EPOCH) * 86400)
    return Numbers(
        {"users": users, "groups": groups, "members": members},
        {(kind, outcome): number for kind, outcome, number in actions},
        oldest,
        await when(connection, "compared"),
    )


async def happened(connection: aiosqlite.Connection, what: str) -> None:
    """Note that something happened now."""
    await connection.execute_fetchall(
        "INSERT INTO moment (what, at) VALUES (?1, ?2)"
        " ON CONFLICT (what) DO UPDATE SET at = excluded.at",
        (what, time.time()),
    )


async def when(connection: aiosqlite.Connection, what: str) -> float:
    """Return when something last happened (seconds since the epoch), 0 for never."""
    [(at,)] = await connection.execute_fetchall(
        "SELECT coalesce(max(at), 0) FROM moment WHERE what = ?", (what,)
    )
    return float(at)
