"""Mappings made in the console, and what the console asks before one is made or removed."""

import time
from collections.abc import Iterable
from typing import Any

import aiosqlite
import orjson

from scim_matrix.groupmap import Mapping
from scim_matrix.store import grants

_KEY = "kind = ? AND pattern = ? AND room_reference = ?"


async def mappings(connection: aiosqlite.Connection) -> list[Mapping]:
    """Return the mappings made in the console."""
    found = await connection.execute_fetchall(
        "SELECT kind, pattern, room_reference, power, children, invite, exclusive"
        " FROM console_mapping ORDER BY made_at"
    )
    return [
        Mapping(kind, pattern, room, power, bool(children), bool(invite), bool(exclusive))
        for kind, pattern, room, power, children, invite, exclusive in found
    ]


async def add(connection: aiosqlite.Connection, mapping: Mapping, made_by: str) -> bool:
    """Keep a mapping; False where one of the same group and room is there already."""
    found = await connection.execute_fetchall(
        "INSERT OR IGNORE INTO console_mapping (kind, pattern, room_reference, power, children,"
        " invite, exclusive, made_by, made_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING 1",
        (
            mapping.kind,
            mapping.pattern,
            mapping.room,
            mapping.power,
            mapping.children,
            mapping.invite,
            mapping.exclusive,
            made_by,
            time.time(),
        ),
    )
    return bool(found)


async def remove(connection: aiosqlite.Connection, kind: str, pattern: str, room: str) -> bool:
    """Drop a mapping made in the console; False where there is none."""
    found = await connection.execute_fetchall(
        f"DELETE FROM console_mapping WHERE {_KEY} RETURNING 1", (kind, pattern, room)
    )
    return bool(found)


async def granted(connection: aiosqlite.Connection, reference: str) -> list[tuple[str, str]]:
    """Return the (room ID, user ID) pairs granted in the rooms that a reference stands for."""
    found = await connection.execute_fetchall(
        "SELECT room_id, user_id FROM pair WHERE granted AND room_id IN ("
        "SELECT room_id FROM room WHERE reference = ?1"
        " UNION SELECT room_id FROM room_child WHERE reference = ?1)",
        (reference,),
    )
    return [(row[0], row[1]) for row in found]


async def take_out(connection: aiosqlite.Connection, pairs: Iterable[tuple[str, str]]) -> int:
    """Make removals of those of some pairs that no mapping grants any more; return how many."""
    number = 0
    for room_id, user_id in pairs:
        found = await connection.execute_fetchall(
            "UPDATE pair SET forgotten = 0, approved = 0, attempts = 0, next_try = 0, request = ?"
            " WHERE room_id = ? AND user_id = ? AND forgotten AND NOT granted RETURNING 1",
            (grants.PRUNED, room_id, user_id),
        )
        number += len(list(found))
    return number


async def accounts_of(connection: aiosqlite.Connection, group_id: str) -> set[str]:
    """Return the user IDs of a group's active people, those of groups inside it included."""
    found = await connection.execute_fetchall(
        "WITH RECURSIVE below (id) AS (SELECT ?1 UNION"
        " SELECT m.value FROM below CROSS JOIN group_member m WHERE m.group_id = below.id)"
        " SELECT a.user_id FROM below CROSS JOIN scim_user u CROSS JOIN account a"
        " WHERE u.id = below.id AND u.active AND a.scim_id = u.id",
        (group_id,),
    )
    return {user_id for (user_id,) in found}


async def group(connection: aiosqlite.Connection, group_id: str) -> dict[str, Any] | None:
    """Return a group with its name, externalId and members' names, None if there is none."""
    found = list(
        await connection.execute_fetchall(
            "SELECT display_name, external_id, (SELECT json_group_array(name) FROM ("
            " SELECT coalesce(u.document ->> '$.displayName', u.document ->> '$.userName',"
            "  g.display_name, m.value) AS name FROM group_member m"
            " LEFT JOIN scim_user u ON u.id = m.value LEFT JOIN scim_group g ON g.id = m.value"
            " WHERE m.group_id = ?1 ORDER BY name LIMIT 500)),"
            " (SELECT count(*) FROM group_member WHERE group_id = ?1)"
            " FROM scim_group WHERE id = ?1",
            (group_id,),
        )
    )
    if not found:
        return None
    name, external_id, members, number = found[0]
    return {
        "id": group_id,
        "displayName": name,
        "externalId": external_id,
        "members": orjson.loads(members),
        "number": number,
    }


async def of_group(
    connection: aiosqlite.Connection, name: str, external_id: str | None
) -> list[dict[str, Any]]:
    """Return the mappings in force that a group falls under, with who made them, if anybody."""
    cursor = await connection.execute(
        "SELECT m.kind, m.pattern, m.room_reference AS room, m.power, m.children, m.invite,"
        " m.exclusive, c.made_by, r.room_id, r.error FROM mapping m"
        " JOIN room r ON r.reference = m.room_reference"
        " LEFT JOIN console_mapping c USING (kind, pattern, room_reference)"
        " WHERE (m.kind = 'external_id' AND m.pattern = ?1)"
        " OR (m.kind = 'display_name' AND ?2 GLOB m.pattern) OR m.kind = 'everyone'"
        " ORDER BY m.room_reference",
        (external_id, name),
    )
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
    await cursor.close()
    return rows
