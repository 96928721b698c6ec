"""Rooms: which ones the map opens, what took their place, what they are called."""

from collections.abc import Callable, Collection, Iterable, Mapping

import orjson

from scim_matrix.store import grants
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow, Statement
from scim_matrix.store.queries import load
from scim_matrix.store.text import folded

_Q = load("rooms")

# What a room calls itself: its name and its alias.
OwnName = tuple[str | None, str | None]


async def mapped(connection: Connection) -> list[str]:
    """Return the IDs of every room that the map opens, suspended mappings included."""
    return [row["room_id"] for row in await connection.execute_fetchall(_Q["mapped"])]


async def mapped_of(connection: Connection, room_ids: Collection[str]) -> list[str]:
    """Return which of some rooms the map opens, suspended mappings included."""
    values = {"rooms": orjson.dumps(list(room_ids)).decode()}
    found = await connection.execute_fetchall(_Q["mapped_of"], values)
    return [row["room_id"] for row in found]


async def suspicious(connection: Connection) -> list[str]:
    """Return the IDs of rooms of which something is known to be wrong."""
    return [row["room_id"] for row in await connection.execute_fetchall(_Q["suspicious"])]


async def is_new(connection: Connection, room_id: str) -> bool:
    """Tell whether a room has never been compared with the homeserver."""
    return not await connection.execute_fetchall(
        "SELECT 1 FROM room WHERE room_id = :room_id AND compared_at IS NOT NULL",
        {"room_id": room_id},
    )


async def is_known(connection: Connection, room_id: str) -> bool:
    """Tell whether anything is known of anybody in a room."""
    return bool(
        await connection.execute_fetchall(
            "SELECT 1 FROM membership WHERE room_id = :room_id LIMIT 1", {"room_id": room_id}
        )
    )


async def unusable(connection: Connection, room_id: str, reason: str) -> None:
    """Record why a room cannot be used at present."""
    await connection.execute_fetchall(_Q["disable"], {"room_id": room_id, "reason": reason})


async def unsure_of_levels(connection: Connection, until: float | None, room_id: str) -> None:
    """Record until when (seconds since the epoch) a request on power levels may be carried out.

    None once it is answered.
    """
    values = {"room_id": room_id, "until": until}
    await connection.execute_fetchall(_Q["unsure_of_levels"], values)


# -- Upgrades ----------------------------------------------------------------


async def successor(connection: Connection, room_id: str) -> str:
    """Return the room that took a room's place, at the end of all upgrades that were followed."""
    return (await successors(connection))(room_id)


async def successors(connection: Connection) -> Callable[[str], str]:
    """Return what `successor` tells, of every room as they are now."""
    [rows] = await together(connection, upgraded_rooms())
    return following(rows)


def upgraded_rooms() -> Statement:
    """Return the statement that finds the rooms that others took the place of."""
    return _Q["successors"], ()


def following(rows: Iterable[DatabaseRow]) -> Callable[[str], str]:
    """Return what `successor` tells, from the rows of `upgraded_rooms`."""
    successors = {row["room_id"]: row["successor"] for row in rows}
    return lambda room_id: _last(room_id, successors)


def _last(room_id: str, successors: Mapping[str, str]) -> str:
    seen = {room_id}
    while (following := successors.get(room_id)) is not None and following not in seen:
        seen.add(room_id := following)
    return room_id


async def upgraded(
    connection: Connection, room_id: str, replacement: str, staying: Iterable[int] = ()
) -> None:
    """Follow an upgraded room to its replacement, with all that is known of everybody.

    Nobody is removed from the old one. `staying` are the mappings that go on in it, since those
    on whose power they rest have no say in the replacement.
    """
    values = {
        "room_id": room_id,
        "successor": replacement,
        "staying": orjson.dumps(list(staying)).decode(),
    }
    # An upgrade back to a former room takes its own former upgrade back.
    await connection.execute_fetchall(
        "UPDATE room SET successor = NULL WHERE room_id = :successor", values
    )
    opened = await connection.execute_fetchall(
        "SELECT DISTINCT mapping_id FROM opening WHERE room_id = :room_id", values
    )
    await together(
        connection,
        (_Q["succeed"], values),
        (_Q["succeed_references"], values),
        (_Q["open_successor"], values),
        (_Q["close"], values),
    )
    await grants.carry(connection, room_id, replacement)
    for row in opened:
        await grants.unsettle_mapping(connection, row["mapping_id"])
    await grants.settle_map(connection)


async def refuse_upgrade(
    connection: Connection, room_id: str, replacement: str, reason: str, cure: str
) -> bool:
    """Record that an upgrade is not followed; True where that is news."""
    values = {"room_id": room_id, "upgrade_to": replacement, "reason": reason, "cure": cure}
    return bool(await connection.execute_fetchall(_Q["refuse_upgrade"], values))


async def is_upgrade_refused(connection: Connection, room_id: str) -> bool:
    """Tell whether an upgrade of a room is shown as not followed."""
    return bool(
        await connection.execute_fetchall(
            "SELECT 1 FROM room WHERE room_id = :room_id AND upgrade_to IS NOT NULL",
            {"room_id": room_id},
        )
    )


async def no_upgrade(connection: Connection, room_id: str) -> None:
    """Record that a room is not upgraded, as far as anybody says."""
    await connection.execute_fetchall(_Q["no_upgrade"], {"room_id": room_id})


# -- Names -------------------------------------------------------------------


async def names(connection: Connection) -> dict[str, str]:
    """Return what rooms are called, by room ID; those without a name are left out.

    The map's alias comes first, since whoever is in a room may call it what they like.
    """
    found = await connection.execute_fetchall(_Q["names"])
    return {row["room_id"]: row["name"] for row in found}


async def name(connection: Connection, room_id: str) -> str:
    """Return what one room is called (see `names`), its ID where it has no name."""
    [row] = await connection.execute_fetchall(_Q["name"], {"room_id": room_id})
    return room_id if row["name"] is None else str(row["name"])


async def renamed(connection: Connection, seen: Mapping[str, OwnName]) -> list[tuple[str, OwnName]]:
    """Return those of some rooms whose own names have changed since they were last seen."""
    listed = orjson.dumps(list(seen)).decode()
    found = await connection.execute_fetchall(_Q["own_names"], {"rooms": listed})
    known = {row["room_id"]: (row["name"], row["alias"]) for row in found}
    return [(room, own) for room, own in seen.items() if known.get(room, (None, None)) != own]


async def record_own_names(connection: Connection, seen: Iterable[tuple[str, OwnName]]) -> None:
    """Record what rooms call themselves."""
    values = [{"room_id": room, "name": own[0], "alias": own[1]} for room, own in seen]
    await connection.executemany(_Q["record_own_name"], values)


async def named(connection: Connection, name: str) -> list[str]:
    """Return the room IDs that a name stands for: an alias of the map, or a room ID itself.

    Those of rooms that took a room's place come after it.
    """
    found = await connection.execute_fetchall(_Q["named"], {"name": name})
    following = await successors(connection)
    ids = [row["room_id"] for row in found]
    return list(dict.fromkeys([*ids, *map(following, ids)]))


async def with_words(connection: Connection, words: str) -> list[str]:
    """Return the IDs of the rooms with some text, in whatever case, in what they are known by.

    That is their name, their alias and the map's, and their ID.
    """
    found = await connection.execute_fetchall(_Q["with_words"], {"words": folded(words)})
    return [row["room_id"] for row in found]


async def with_own_name(connection: Connection, name: str) -> list[str]:
    """Return the room IDs of the rooms that call themselves so, by name or alias."""
    found = await connection.execute_fetchall(
        _Q["with_own_name"], {"name": name, "folded": folded(name)}
    )
    return [row["room_id"] for row in found]
