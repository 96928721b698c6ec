"""The record: every action done, refused, failed or held, in order; old entries are pruned."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from scim_matrix.store.database import Connection

Kind = Literal[
    "join",
    "invite",
    "kick",
    "power",
    "create",
    "update",
    "lock",
    "suspend",
    "deactivate",
    "erase",
    "disable",
    "account",
    "bind",
    "link",
    "unlink",
    "alias",
    "create_room",
    "map",
    "unmap",
    "sync",
    "restore",
    "rename_group",
    "delete_group",
]
Outcome = Literal["done", "refused", "held", "approved", "dismissed", "asked", "spared", "dry_run"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One action: what, whom, where, because of which group and SCIM request, and how it ended.

    `by` is the human who decided or asked, `approved` whether one let it through. Of a group that
    was renamed (`detail` is its new name) or deleted `user_id` is the SCIM id.
    """

    kind: Kind
    outcome: Outcome
    user_id: str | None = None
    room_id: str | None = None
    group_name: str | None = None
    request: str | None = None
    approved: bool = False
    detail: str | None = None
    by: str | None = None


_OF_SOMEBODY = "user_id = :user_id AND room_id IS NOT DISTINCT FROM CAST(:room_id AS TEXT)"


async def add(connection: Connection, *entries: Entry) -> None:
    """Append entries with the time of the transaction.

    What a dry run would do is told once, however often it is tried again.
    """
    news = [entry for entry in entries if not await _is_told(connection, entry)]
    if news:
        await connection.executemany(
            "INSERT INTO action (at, kind, outcome, user_id, room_id, group_name, request,"
            " approved, detail, decided_by) VALUES (:at, :kind, :outcome, :user_id, :room_id,"
            " :group_name, :request, :approved, :detail, :by)",
            [{"at": connection.at, **asdict(entry)} for entry in news],
        )


async def _is_told(connection: Connection, entry: Entry) -> bool:
    if entry.outcome != "dry_run":
        return False
    whom = "user_id IS NULL AND room_id = :room_id" if entry.user_id is None else _OF_SOMEBODY
    return bool(
        await connection.execute_fetchall(
            f"SELECT 1 FROM action WHERE {whom} AND kind = :kind AND outcome = 'dry_run'"
            " AND group_name IS NOT DISTINCT FROM CAST(:group_name AS TEXT)"
            " AND request IS NOT DISTINCT FROM CAST(:request AS TEXT) LIMIT 1",
            asdict(entry),
        )
    )


async def find(
    connection: Connection,
    *,
    users: Sequence[str] | None,
    rooms: Sequence[str],
    since: float,
    limit: int,
    groups: Sequence[str] = (),
    request: str | None = None,
    kind: Kind | None = None,
    outcome: Outcome | None = None,
    before: int | None = None,
) -> list[dict[str, Any]]:
    """Return the newest entries, oldest first: of some users, of rooms, of groups, of a request.

    `groups` are names. `before` is the ID of an entry: what is newer, or is it, is left out.
    """
    conditions: list[str] = ["at >= :since"]
    exact = {"request": request, "kind": kind, "outcome": outcome}
    for column, value in exact.items():
        if value is not None:
            conditions.append(f"{column} = :{column}")
    if before is not None:
        conditions.append("id < :before")
    if users is not None:
        conditions.append("user_id IN (SELECT value FROM each_text(:users))")
    if groups:
        conditions.append("group_name IN (SELECT value FROM each_text(:groups))")
    if rooms:
        conditions.append("room_id IN (SELECT value FROM each_text(:rooms))")
    found = await connection.execute_fetchall(
        "SELECT id, at, kind, outcome, user_id, room_id, group_name, request, approved, detail,"
        f" decided_by AS by FROM action WHERE {' AND '.join(conditions)} ORDER BY id DESC"
        " LIMIT :limit",
        {
            **exact,
            "since": since,
            "before": before,
            "users": orjson.dumps(users).decode(),
            "groups": orjson.dumps(groups).decode(),
            "rooms": orjson.dumps(rooms).decode(),
            "limit": limit,
        },
    )
    return [dict(row) for row in found[::-1]]


async def prune(connection: Connection, before: float) -> None:
    """Forget entries older than a time (seconds since the epoch), and the names groups had then."""
    times = {"before": before}
    await connection.execute_fetchall("DELETE FROM action WHERE at < :before", times)
    await connection.execute_fetchall("DELETE FROM former_name WHERE until < :before", times)
