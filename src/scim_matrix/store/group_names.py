"""What groups were called: what is done because of one goes by the name that it had then."""

from collections.abc import Sequence

import orjson

from scim_matrix.store import record
from scim_matrix.store.database import Connection
from scim_matrix.store.dialect import DatabaseRow
from scim_matrix.store.queries import load
from scim_matrix.store.text import folded
from scim_matrix.story.rows import Former

_Q = load("story")


async def renamed(connection: Connection, group_id: str, name: str, now: str) -> None:
    """Record that the identity provider calls a group otherwise from now on."""
    await _end(connection, "rename_group", group_id, name, now)


async def deleted(connection: Connection, group_id: str, name: str) -> None:
    """Record that the identity provider deleted a group."""
    await _end(connection, "delete_group", group_id, name)


async def _end(
    connection: Connection, kind: record.Kind, group_id: str, name: str, now: str | None = None
) -> None:
    entry = record.Entry(
        kind, "asked", group_id, group_name=name, request=connection.cause, detail=now
    )
    await record.add(connection, entry)
    await connection.execute_fetchall(
        _Q["end_name"],
        {
            "group_id": group_id,
            "name": name,
            "request": connection.cause,
            "until": connection.at,
        },
    )


async def former(connection: Connection) -> list[Former]:
    """Return the names that groups had, the newest end first, and what has become of each."""
    ended = await connection.execute_fetchall(_Q["former"])
    if not ended:
        return []
    living = await _living(connection, ended)
    return [
        Former(
            row["group_id"],
            row["name"],
            row["until"],
            living.get(row["group_id"]),
            any(now == row["name"] and g != row["group_id"] for g, now in living.items()),
            row["request"],
        )
        for row in ended
    ]


async def _living(connection: Connection, ended: Sequence[DatabaseRow]) -> dict[str, str]:
    """Return what those groups are called now, and others that have one of the names."""
    values = {
        "ids": orjson.dumps([row["group_id"] for row in ended]).decode(),
        "keys": orjson.dumps([folded(row["name"]) for row in ended]).decode(),
    }
    found = await connection.execute_fetchall(_Q["called_now"], values)
    return {row["id"]: row["display_name"] for row in found}
