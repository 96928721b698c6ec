"""What the stories of people, rooms and groups are made of (scim_matrix/story)."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from scim_matrix.groupmap import Sources
from scim_matrix.store import rooms
from scim_matrix.store.database import Connection
from scim_matrix.store.group_names import former
from scim_matrix.store.queries import load
from scim_matrix.store.text import folded
from scim_matrix.story.rows import Former, Group, Person, Room
from scim_matrix.story.words import spans

# So many things that were done are told.
LATELY = 10
# Where nobody knows in which settings the map stands.
UNTOLD = Sources()

_Q = load("story")


async def _rows(connection: Connection, query: str, **values: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.execute_fetchall(_Q[query], values)]


async def accounts_called(connection: Connection, name: str) -> list[int]:
    """Return the accounts that a SCIM id, user name or Matrix user ID stands for.

    Where there is none, that of somebody whom the identity provider deleted, by its localpart.
    """
    found = await _rows(connection, "accounts_called", name=name, folded=folded(name))
    if not found and (known := await _rows(connection, "any_account")):
        server = known[0]["user_id"].partition(":")[2]
        user_id = f"@{name.lower()}:{server}"
        found = await _rows(connection, "accounts_of_deleted", user_id=user_id)
    return [row["id"] for row in found]


async def groups_called(connection: Connection, name: str) -> list[str]:
    """Return the IDs of the groups that an ID, externalId or name stands for.

    Where there is none, those that were called so once, or had that ID.
    """
    found = await _rows(connection, "groups_called", name=name, folded=folded(name))
    if found:
        return [row["id"] for row in found]
    known = await former(connection)
    meant = [one.group_id for one in known if one.group_id == name or one.name == name]
    return list(dict.fromkeys(meant))


async def closed(
    connection: Connection, room_ids: Iterable[str], sources: Sources = UNTOLD
) -> list[dict[str, Any]]:
    """Return the lines of the map that let nobody else be in some rooms.

    `said_in` is the setting that each stands in, unless it was made in the console.
    """
    found = await _rows(connection, "closed", rooms=orjson.dumps(list(room_ids)).decode())
    return [
        {**row, "said_in": sources.of(row["kind"], row["pattern"], row["reference"])}
        for row in found
    ]


async def is_seen(connection: Connection, user_id: str) -> bool:
    """Tell whether somebody without an account row is in a room by hand, or on record."""
    [row] = await _rows(connection, "is_seen", user_id=user_id)
    return bool(row["seen"])


async def person(
    connection: Connection,
    account_id: int | None,
    user_id: str | None = None,
    sources: Sources = UNTOLD,
) -> Person:
    """Return what a person's story is made of; `user_id` is for somebody without an account row."""
    found = await _rows(connection, "account", id=account_id)
    account = found[0] if found else None
    if account is not None:
        user_id = account["user_id"] or account["proposed"]
    scim_id = account["scim_id"] if account is not None else None
    edges = await _rows(connection, "edges", id=scim_id)
    around = orjson.dumps([row["outer_id"] for row in edges]).decode()
    hand = await _rows(connection, "places_by_hand", user_id=user_id)
    places = await _rows(connection, "places", id=account_id)
    return Person(
        user_id,
        account,
        edges,
        await _rows(connection, "keys", groups=around),
        await _rows(connection, "given", id=account_id),
        places,
        [row["room_id"] for row in hand],
        await _rows(connection, "second_accounts", id=account_id),
        await _rows(connection, "lately_to", user_id=user_id, limit=LATELY),
        await rooms.names(connection),
        await closed(
            connection, [p["room_id"] for p in places if p["state"] == "excluded"], sources
        ),
        await former(connection),
    )


async def room(connection: Connection, room_id: str, sources: Sources = UNTOLD) -> Room:
    """Return what a room's story is made of."""
    found = await _rows(connection, "room", room_id=room_id)
    hand = await _rows(connection, "people_by_hand", room_id=room_id)
    return Room(
        room_id,
        found[0] if found else None,
        await _rows(connection, "references", room_id=room_id),
        await _rows(connection, "openers", room_id=room_id),
        await _rows(connection, "people", room_id=room_id),
        [row["user_id"] for row in hand],
        await _rows(connection, "lately_in", room_id=room_id, limit=LATELY),
        await rooms.names(connection),
        await closed(connection, [room_id], sources),
        await former(connection),
        [row["user_id"] for row in await _rows(connection, "people_held", room_id=room_id)],
    )


async def group(connection: Connection, group_id: str) -> Group:
    """Return what a group's story is made of, of one that was deleted too."""
    known = await former(connection)
    found = await _rows(connection, "group", id=group_id)
    row = found[0] if found else await _deleted(connection, group_id, known)
    edges = await _rows(connection, "edges", id=group_id)
    around = [group_id, *(row["outer_id"] for row in edges)]
    openers = await _rows(connection, "openers_of", groups=orjson.dumps(around).decode())
    called = spans(group_id, row["display_name"] if found else None, known)
    told = orjson.dumps(called).decode()
    return Group(
        row,
        await _rows(connection, "inside", id=group_id),
        edges,
        openers,
        await _rows(connection, "leaving", spans=told),
        await _rows(connection, "lately_by", id=group_id, spans=told, limit=LATELY),
        await rooms.names(connection),
        known,
    )


async def _deleted(
    connection: Connection, group_id: str, known: Sequence[Former]
) -> dict[str, Any]:
    """Return the row of a group that is no more: its last name, and until when it had it."""
    last = next((one for one in known if one.group_id == group_id), None)
    if last is not None:
        return {"id": group_id, "display_name": last.name, "deleted": last.until}
    given = await _rows(connection, "name_given", id=group_id)
    name = given[0]["group_name"] if given else group_id
    return {"id": group_id, "display_name": name, "deleted": None}


async def lately(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return what was done of late anywhere, alike things together, the newest first."""
    return await _rows(connection, "lately", limit=limit)
