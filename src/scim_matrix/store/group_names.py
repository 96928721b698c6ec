"""What groups were called: what is done because of one goes by the name that it had then."""

from typing import Any

import orjson

from scim_matrix.store import record
from scim_matrix.store.database import Connection
from scim_matrix.store.queries import load
from scim_matrix.store.text import folded
from scim_matrix.story.rows import Former

_Q = load("story")
# Names that ended are moments: when a group was last called so, and by which request that ended.
_CALLED = "called "


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
    what = _CALLED + orjson.dumps([group_id, name, connection.cause]).decode()
    await connection.execute_fetchall(_Q["end_name"], {"what": what, "at": connection.at})


async def former(connection: Connection) -> list[Former]:
    """Return the names that groups had, the newest end first, and what has become of each."""
    rows = await connection.execute_fetchall(_Q["former"])
    ended = [(*orjson.loads(row["what"].removeprefix(_CALLED)), row["at"]) for row in rows]
    if not ended:
        return []
    living = await _living(connection, ended)
    return [
        Former(
            group_id,
            name,
            until,
            living.get(group_id),
            any(now == name and other != group_id for other, now in living.items()),
            request,
        )
        for group_id, name, request, until in ended
    ]


async def _living(connection: Connection, ended: list[Any]) -> dict[str, str]:
    """Return what those groups are called now, and others that have one of the names."""
    values = {
        "ids": orjson.dumps([group_id for group_id, *_ in ended]).decode(),
        "keys": orjson.dumps([folded(name) for _, name, *_ in ended]).decode(),
    }
    found = await connection.execute_fetchall(_Q["called_now"], values)
    return {row["id"]: row["display_name"] for row in found}
