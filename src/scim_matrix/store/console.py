"""What the console shows of people, groups and rooms, and asks before a mapping is made."""

from collections.abc import Iterable
from typing import Any

import orjson

from scim_matrix.groupmap import key
from scim_matrix.store.database import Connection
from scim_matrix.store.queries import load
from scim_matrix.store.text import composed, folded

Rows = list[dict[str, Any]]

# Of a group with so many members at most these are sorted.
SORTED = 5_000

_Q = load("console")


async def _rows(connection: Connection, query: str, **values: Any) -> Rows:
    return [dict(row) for row in await connection.execute_fetchall(_Q[query], values)]


def _json(values: Iterable[Any]) -> str:
    return orjson.dumps(list(values)).decode()


async def accounts_of(connection: Connection, group_id: str) -> set[str]:
    """Return the user IDs of a group's active people, those of groups inside it included."""
    found = await connection.execute_fetchall(
        "WITH RECURSIVE below (id) AS (SELECT CAST(:group_id AS TEXT) UNION"
        " SELECT m.value FROM below CROSS JOIN group_member m WHERE m.group_id = below.id)"
        " SELECT coalesce(a.user_id, a.proposed) AS user_id"
        " FROM below CROSS JOIN scim_user u CROSS JOIN account a"
        " WHERE u.id = below.id AND u.active AND a.scim_id = u.id"
        " AND coalesce(a.user_id, a.proposed) IS NOT NULL",
        {"group_id": group_id},
    )
    return {row["user_id"] for row in found}


async def group(connection: Connection, group_id: str) -> dict[str, Any] | None:
    """Return a group with its name and externalId, None if there is none.

    `number` says how many members it has.
    """
    found = await connection.execute_fetchall(
        "SELECT display_name, external_id, (SELECT count(*) FROM group_member"
        " WHERE group_id = g.id) AS number FROM scim_group g WHERE id = :group_id",
        {"group_id": group_id},
    )
    if not found:
        return None
    return {
        "id": group_id,
        "displayName": found[0]["display_name"],
        "externalId": found[0]["external_id"],
        "number": found[0]["number"],
    }


async def members_of(
    connection: Connection, group_id: str, words: str, limit: int, offset: int
) -> Rows:
    """Return members of a group, with some text in their name or user name if that is given.

    By name, but of very many: looking up all their names would take longer than a page may.
    `number` is how many there are in all.
    """
    values = {"group_id": group_id, "limit": limit, "offset": offset}
    if words:
        return await _rows(connection, "members_named", words=folded(words), **values)
    return await _rows(connection, "members_of", most=SORTED, **values)


async def of_group(connection: Connection, group_id: str) -> list[dict[str, Any]]:
    """Return the mappings that a group falls under, with who made them, if anybody.

    Of a group that is gone those that were made of it in the console. `room_id` is the room that a
    mapping names, `rooms` are those that it opens. To so many people (`powerless`) its power level
    is not given, for a reason (`power_reason`).
    """
    found = await connection.execute_fetchall(
        "SELECT m.id, m.kind, m.pattern, coalesce(m.alias, m.reference) AS room, m.reference,"
        " m.power, m.children, m.invite, m.exclusive, m.made_by, m.standing,"
        " coalesce(m.reason, r.reason, t.unusable) AS error, coalesce(m.cure, r.cure,"
        "  CASE WHEN t.unusable IS NOT NULL THEN 'scim-matrix check' END) AS cure, r.room_id"
        " FROM mapping m JOIN room_reference r ON r.reference = m.reference"
        " LEFT JOIN scim_group g ON g.id = :group_id LEFT JOIN room t ON t.room_id = r.room_id"
        " WHERE m.standing IN ('in_force', 'suspended') AND ((m.kind = 'group_id'"
        "  AND m.pattern = :group_id) OR (m.kind = 'external_id' AND m.pattern = g.external_id)"
        "  OR (m.kind = 'display_name' AND matches(m.pattern, g.display_name))"
        "  OR (m.kind = 'everyone' AND g.id IS NOT NULL))"
        " ORDER BY m.reference",
        {"group_id": group_id},
    )
    return [
        {
            **row,
            "rooms": await _opened(connection, row["id"]),
            **(await _rows(connection, "powerless", id=row["id"]))[0],
        }
        for row in found
    ]


async def _opened(connection: Connection, mapping_id: int) -> list[str]:
    found = await connection.execute_fetchall(
        "SELECT room_id FROM opening WHERE mapping_id = :id AND standing = 'followed'"
        " ORDER BY via IS NOT NULL, room_id",
        {"id": mapping_id},
    )
    return [row["room_id"] for row in found]


async def groups_opening(connection: Connection, rooms: Iterable[str]) -> list[dict[str, Any]]:
    """Return the groups that open any of some rooms, with these and the number of members."""
    found = await connection.execute_fetchall(
        "SELECT DISTINCT g.id, g.display_name, g.display_name_key, o.room_id, (SELECT count(*)"
        "  FROM group_member n WHERE n.group_id = g.id) AS members"
        " FROM opening o JOIN mapping m ON m.id = o.mapping_id"
        " JOIN scim_group g ON (m.kind = 'external_id' AND g.external_id = m.pattern)"
        "  OR (m.kind = 'group_id' AND g.id = m.pattern)"
        "  OR (m.kind = 'display_name' AND matches(m.pattern, g.display_name))"
        " WHERE o.standing = 'followed' AND m.standing IN ('in_force', 'suspended')"
        " AND o.room_id IN (SELECT value FROM each_text(:rooms))"
        " ORDER BY g.display_name_key, g.id, o.room_id",
        {"rooms": _json(rooms)},
    )
    groups: dict[str, dict[str, Any]] = {}
    for row in found:
        name, members = row["display_name"], row["members"]
        group = {"id": row["id"], "display_name": name, "members": members, "rooms": []}
        groups.setdefault(row["id"], group)["rooms"].append(row["room_id"])
    return list(groups.values())


async def groups_listed(
    connection: Connection, words: str, mapped: bool | None, limit: int, offset: int = 0
) -> Rows:
    """Return groups with some text in their names, in whatever case: their IDs and names.

    `mapped`: those that the map names, or those that it does not (None: both). `number` is how
    many there are in all.
    """
    values = {"words": folded(words), "mapped": mapped, "limit": limit, "offset": offset}
    return await _rows(connection, "groups_listed", **values)


async def groups_by_name(connection: Connection, names: Iterable[str]) -> dict[str, str]:
    """Return the IDs of the groups that have some names, those left out that several have."""
    keys = _json({folded(name) for name in names})
    found = await _rows(connection, "groups_by_name", keys=keys)
    return {row["display_name"]: row["id"] for row in found if row["number"] == 1}


async def group_names(connection: Connection, group_ids: Iterable[str]) -> list[str]:
    """Return what some groups are called now."""
    found = await connection.execute_fetchall(
        "SELECT g.display_name FROM each_text(:groups) j CROSS JOIN scim_group g"
        " WHERE g.id = j.value ORDER BY g.display_name_key",
        {"groups": _json(group_ids)},
    )
    return [row["display_name"] for row in found]


async def groups_opened(connection: Connection, groups: Iterable[str]) -> dict[str, Rows]:
    """Return what the map says of groups, by ID: a row for each room, or one without a room."""
    found: dict[str, Rows] = {}
    for row in await _rows(connection, "groups_opened", groups=_json(groups)):
        found.setdefault(row["id"], []).append(row)
    return found


async def rooms_listed(connection: Connection) -> Rows:
    """Return the rooms of the map, each once, and the references that lead to none.

    And the rooms that are `unmapped` though somebody is to leave them. What is wrong with one of
    several references to a room is told of the room.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in await _rows(connection, "rooms_listed"):
        found.setdefault(row["room_id"] or row["reference"], row)
    return list(found.values())


async def rooms_counted(connection: Connection, rooms: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return how many people should be in rooms, are there by a group, and are there otherwise."""
    found = await _rows(connection, "rooms_counted", rooms=_json(rooms))
    return {row["room_id"]: row for row in found}


async def rooms_opened_by(connection: Connection, rooms: Iterable[str]) -> dict[str, Rows]:
    """Return what opens rooms, by ID: a group (`group_id`), or what the map says (`name`)."""
    found: dict[str, Rows] = {}
    for row in await _rows(connection, "rooms_opened_by", rooms=_json(rooms)):
        found.setdefault(row["room_id"], []).append(row)
    return found


async def people_in(
    connection: Connection, room_id: str, words: str, limit: int, offset: int
) -> Rows:
    """Return who is in a room or should be, by a part of their user ID or name, and by what.

    `number` is how many there are in all.
    """
    values = {"room_id": room_id, "words": folded(words), "limit": limit, "offset": offset}
    found = await _rows(connection, "people_in", **values)
    accounts = [row["account_id"] for row in found if row["account_id"] is not None]
    why: dict[int, list[str]] = {}
    for row in await _rows(connection, "reasons_of", room_id=room_id, accounts=_json(accounts)):
        told = f"{row['group_name']} ({key(row['kind'], row['pattern'])})"
        why.setdefault(row["account_id"], []).append(told)
    return [{**row, "because": "; ".join(why.get(row["account_id"], []))} for row in found]


async def staying(connection: Connection, room_id: str, inside: Iterable[str]) -> set[str]:
    """Return who would stay in a room that is to hold nobody else, of those `inside` and others."""
    found = await _rows(connection, "staying", room_id=room_id, inside=_json(inside))
    return {row["user_id"] for row in found}


async def of_nobody(connection: Connection) -> Rows:
    """Return the mappings made in the console whose group is gone, with its last name."""
    return await _rows(connection, "of_nobody")


async def held_places(connection: Connection, limit: int, offset: int) -> Rows:
    """Return where removals are held, those of accounts (`room_id` None) first.

    `number` of `managed` people are held there, of whom some are only `invited`; `places` is how
    many rows there are in all.
    """
    return await _rows(connection, "held_places", limit=limit, offset=offset)


async def held_causes(connection: Connection, room_id: str | None) -> Rows:
    """Return because of what something is held in a place (None: accounts), the most first."""
    return await _rows(connection, "held_causes", room_id=room_id)


async def held_in(connection: Connection, room_id: str | None, limit: int) -> Rows:
    """Return whose removal from a room is held, or (None) whose account from being disabled."""
    if room_id is None:
        return await _rows(connection, "held_users", limit=limit)
    return await _rows(connection, "held_people", room_id=room_id, limit=limit)


async def held_spread(connection: Connection, limit: int) -> Rows:
    """Return the requests and groups because of which removals are held in several rooms."""
    return await _rows(connection, "held_spread", limit=limit)


async def held_of(
    connection: Connection, request: str | None, group_name: str | None, limit: int
) -> Rows:
    """Return whose removals are held because of a request or a group by name, room by room.

    `number` is how many there are in all.
    """
    values = {"request": request, "group_name": group_name}
    return await _rows(connection, "held_of", limit=limit, **values)


async def people_named(connection: Connection, words: str, limit: int) -> Rows:
    """Return at most so many people with some text, in whatever case, in what they are known by.

    That is their user name, name (its words in any order), e-mail addresses and Matrix user ID; or
    whose SCIM id or externalId it is.
    """
    text = folded(" ".join(words.split()))
    first, second, rest = (*text.split(maxsplit=2), "", "", "")[:3]
    values = {
        "words": text,
        "first": first,
        "second": second,
        "rest": rest,
        "quoted": orjson.dumps(text).decode()[1:-1],
    }
    exact = composed(words.strip())
    return await _rows(connection, "people_named", exact=exact, limit=limit, **values)


async def needing(connection: Connection, limit: int) -> Rows:
    """Return what a human may have to settle, by its code (scim_matrix/problems.py).

    At most `limit` rows of each code; `alike` is how many there are.
    """
    return await _rows(connection, "needing", limit=limit)


async def user_name(connection: Connection, scim_id: str) -> str:
    """Return a user's `userName`, the SCIM id where there is no such user."""
    found = await connection.execute_fetchall(
        "SELECT document ->> 'userName' AS name FROM scim_user WHERE id = :id", {"id": scim_id}
    )
    return str(found[0]["name"]) if found else scim_id


async def user_ids(connection: Connection, accounts: Iterable[int]) -> dict[int, str]:
    """Return the Matrix user IDs of accounts that have one, by account."""
    found = await connection.execute_fetchall(
        "SELECT id, user_id FROM account WHERE user_id IS NOT NULL"
        " AND id IN (SELECT value FROM each_number(:accounts))",
        {"accounts": _json(accounts)},
    )
    return {row["id"]: row["user_id"] for row in found}
