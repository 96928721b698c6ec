"""Rooms: what the map's references stand for, and which rooms mappings open."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from scim_matrix.groupmap import Kind
from scim_matrix.store import grants
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow
from scim_matrix.store.queries import load
from scim_matrix.store.text import folded

_Q = load("rooms")

# What a room calls itself: its name and its alias.
OwnName = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class RoomReference:
    """A room as the map names it, and what is known of it.

    `absent`: the alias led nowhere when it was first asked for. `candidate`: a room that it leads
    to and that is not followed. `led_by` are those on whose own power it rests that it stands for
    its room. `template` (JSON) says how to make it.
    """

    reference: str
    standing: Literal["unresolved", "waiting", "pinned"]
    room_id: str | None
    candidate: str | None
    absent: bool
    template: str | None
    attempts: int
    led_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MappingRow:
    """A mapping in the store; `room_id` is the room that it names, as far as that is known.

    `led_by` are those on whose own power its room rests, where it was read with one.
    """

    id: int
    origin: Literal["configuration", "console"]
    kind: Kind
    pattern: str
    reference: str
    power: int | None
    children: bool
    exclusive: bool
    made_by: str | None
    standing: Literal["in_force", "overruled", "suspended", "dropped"]
    room_id: str | None = None
    led_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """A room below a mapping's space: whether it is followed, and if not why and what to do.

    `led_by` are those on whose own power following it rests, all of them; nobody where only the
    configuration and administrators of the homeserver are behind it.
    """

    room_id: str
    via: str
    standing: Literal["followed", "not_followed"]
    reason: str | None = None
    cure: str | None = None
    led_by: tuple[str, ...] = ()


def _reference(row: DatabaseRow) -> RoomReference:
    return RoomReference(
        row["reference"],
        row["standing"],
        row["room_id"],
        row["candidate"],
        bool(row["absent"]),
        row["template"],
        row["attempts"],
        _leaders(row["led_by"]),
    )


def _mapping(row: DatabaseRow) -> MappingRow:
    return MappingRow(
        row["id"],
        row["origin"],
        row["kind"],
        row["pattern"],
        row["reference"],
        row["power"],
        bool(row["children"]),
        bool(row["exclusive"]),
        row["made_by"],
        row["standing"],
        row["room_id"] if "room_id" in row.keys() else None,  # noqa: SIM118
        _leaders(row["led_by"]) if "led_by" in row.keys() else (),  # noqa: SIM118
    )


# -- References ----------------------------------------------------------------


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


async def unresolved(
    connection: Connection, now: float, besides: Sequence[str], limit: int
) -> list[RoomReference]:
    """Return up to `limit` references to be asked for now (seconds since the epoch).

    Those in `besides` are left out.
    """
    values = {"now": now, "besides": orjson.dumps(besides).decode(), "limit": limit}
    found = await connection.execute_fetchall(_Q["unresolved"], values)
    return [_reference(row) for row in found]


async def retry_references(connection: Connection) -> None:
    """Ask again now for every reference that leads nowhere, or waits for a human."""
    await connection.execute_fetchall(
        "UPDATE room_reference SET next_try = 0 WHERE standing <> 'pinned'"
    )


async def references(connection: Connection, room_id: str) -> list[RoomReference]:
    """Return the references that stand for a room."""
    found = await connection.execute_fetchall(_Q["of_room"], {"room_id": room_id})
    return [_reference(row) for row in found]


async def reference(connection: Connection, name: str) -> RoomReference | None:
    """Return one reference of the map."""
    found = await connection.execute_fetchall(_Q["reference"], {"reference": name})
    return _reference(found[0]) if found else None


async def mappings_of(connection: Connection, name: str) -> list[MappingRow]:
    """Return the mappings that name a reference, or did."""
    found = await connection.execute_fetchall(_Q["mappings_of"], {"reference": name})
    return [_mapping(row) for row in found]


async def spaces(connection: Connection, room_id: str) -> list[MappingRow]:
    """Return the mappings that open the rooms of a space."""
    found = await connection.execute_fetchall(_Q["spaces_mapped"], {"room_id": room_id})
    return [_mapping(row) for row in found]


async def console_mappings(connection: Connection, room_id: str | None = None) -> list[MappingRow]:
    """Return the mappings made in the console, all or those that open a room."""
    found = await connection.execute_fetchall(_Q["console_mappings"], {"room_id": room_id})
    return [_mapping(row) for row in found]


async def pin(connection: Connection, name: str, room_id: str, leaders: Iterable[str] = ()) -> None:
    """Have a reference stand for a room; what its mappings give takes effect there.

    `leaders` are those on whose own power that rests. Where it stood for another room, what is
    known of everybody there counts in the new one.
    """
    former = await reference(connection, name)
    leaders = tuple(leaders)
    values = {"reference": name, "room_id": room_id, "led_by": led_by(leaders)}
    await connection.execute_fetchall(_Q["pin"], values)
    for mapping in await mappings_of(connection, name):
        behind = {*leaders, *filter(None, [mapping.made_by])}
        opens = {"mapping_id": mapping.id, "room_id": room_id, "led_by": led_by(behind)}
        if former is not None and former.room_id is not None:
            await connection.execute_fetchall(
                "DELETE FROM opening WHERE mapping_id = :mapping_id AND room_id = :room_id"
                " AND via IS NULL",
                {"mapping_id": mapping.id, "room_id": former.room_id},
            )
        await connection.execute_fetchall(_Q["open_own"], opens)
        if former is None or former.room_id is None:
            await grants.would_have_had(connection, mapping.id, room_id)
        else:
            await grants.unsettle_mapping(connection, mapping.id)
    if former is None or former.room_id is None:
        await grants.settle_reference(connection, name, room_id)
        return
    if former.room_id != room_id:
        await grants.carry(connection, former.room_id, room_id, name)
    await grants.settle_map(connection)


async def wait(
    connection: Connection,
    name: str,
    candidate: str,
    reason: str,
    cure: str,
    next_try: float,
) -> None:
    """Record that a reference leads to a room that a human must let in."""
    await connection.execute_fetchall(
        _Q["wait"],
        {
            "reference": name,
            "candidate": candidate,
            "reason": reason,
            "cure": cure,
            "next_try": next_try,
        },
    )


async def points_elsewhere(
    connection: Connection, name: str, candidate: str | None, reason: str | None, cure: str | None
) -> bool:
    """Record that a pinned reference's alias leads to another room; True where that is news.

    Without a candidate it leads where it should.
    """
    values = {"reference": name, "candidate": candidate, "reason": reason, "cure": cure}
    return bool(await connection.execute_fetchall(_Q["point_elsewhere"], values))


async def to_be_opened(
    connection: Connection, reference: str | None = None
) -> list[dict[str, Any]]:
    """Return what would be done in rooms that are not known, or not there, yet: in one or all.

    `room` as the map names it, `what` (create room, join, invite), `user`, `group`, `request`.
    """
    found = await connection.execute_fetchall(_Q["to_be_opened"], {"reference": reference})
    return [dict(row) for row in found]


async def fail_reference(
    connection: Connection,
    name: str,
    reason: str,
    next_try: float,
    *,
    absent: bool,
    cure: str | None = None,
) -> None:
    """Record why a reference leads nowhere, and when to try again (seconds since the epoch)."""
    await connection.execute_fetchall(
        _Q["fail_reference"],
        {
            "reference": name,
            "reason": reason,
            "cure": cure,
            "next_try": next_try,
            "absent": absent,
        },
    )


# -- Upgrades ------------------------------------------------------------------


async def successor(connection: Connection, room_id: str) -> str:
    """Return the room that took a room's place, at the end of all upgrades that were followed."""
    return (await successors(connection))(room_id)


async def successors(connection: Connection) -> Callable[[str], str]:
    """Return what `successor` tells, of every room as they are now."""
    rows = await connection.execute_fetchall(_Q["successors"])
    following = {row["room_id"]: row["successor"] for row in rows}
    return lambda room_id: _last(room_id, following)


def _last(room_id: str, successors: Mapping[str, str]) -> str:
    seen = {room_id}
    while (following := successors.get(room_id)) is not None and following not in seen:
        seen.add(room_id := following)
    return room_id


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


async def led_into(connection: Connection, room_id: str) -> list[MappingRow]:
    """Return the mappings that open a room on somebody's own power, and whose it is."""
    found = await connection.execute_fetchall(_Q["led_into"], {"room_id": room_id})
    return [_mapping(row) for row in found]


async def is_given(connection: Connection, room_id: str) -> bool:
    """Tell whether a mapping opens a room that goes along with it wherever it goes."""
    return bool(await connection.execute_fetchall(_Q["is_given"], {"room_id": room_id}))


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


# -- Openings ------------------------------------------------------------------


def led_by(leaders: Iterable[str]) -> str | None:
    """Return those on whose own power it rests that a room is opened, as they are kept."""
    listed = sorted(leaders)
    return orjson.dumps(listed).decode() if listed else None


def led_by_maker(leaders: str | None, made_by: str | None) -> str | None:
    """Return those behind a room, as they are kept, with whoever made a mapping for it."""
    return led_by({*_leaders(leaders), *filter(None, [made_by])})


def _leaders(led_by: str | None) -> tuple[str, ...]:
    return () if led_by is None else tuple(orjson.loads(led_by))


async def openings(connection: Connection, mapping_id: int) -> list[Opening]:
    """Return the rooms below a mapping's space, as last judged."""
    found = await connection.execute_fetchall(_Q["openings"], {"mapping_id": mapping_id})
    return [
        Opening(
            row["room_id"],
            row["via"],
            row["standing"],
            row["reason"],
            row["cure"],
            _leaders(row["led_by"]),
        )
        for row in found
    ]


async def put_children(
    connection: Connection, mapping_id: int, children: Iterable[Opening]
) -> bool | None:
    """Record which rooms are below a mapping's space; True where these are others than before.

    None, and nothing is recorded, where one of them was upgraded since they were judged. Rooms
    taken out of the space, or followed no more, are forgotten as those taken out of the map are;
    what the identity provider revoked before they were first read counts there too.
    """
    last = await successors(connection)
    wanted: dict[str, Opening] = {}
    for child in children:
        if last(child.room_id) != child.room_id:
            return None
        present = wanted.get(child.room_id)
        # A room that one step leads to is followed, whatever others say.
        if present is None or _weight(child) < _weight(present):
            wanted[child.room_id] = child
    before = {child.room_id: child for child in await openings(connection, mapping_id)}
    first = await connection.execute_fetchall(_Q["children_known"], {"mapping_id": mapping_id})
    if before == wanted and not first:
        return False
    for room_id in before.keys() - wanted.keys():
        await connection.execute_fetchall(
            _Q["close_child"], {"mapping_id": mapping_id, "room_id": room_id}
        )
    for child in wanted.values():
        await connection.execute_fetchall(
            _Q["open_child"],
            {
                "mapping_id": mapping_id,
                "room_id": child.room_id,
                "via": child.via,
                "standing": child.standing,
                "reason": child.reason,
                "cure": child.cure,
                "led_by": led_by(child.led_by),
            },
        )
        if first and child.standing == "followed":
            await grants.would_have_had(connection, mapping_id, child.room_id)
    await grants.unsettle_mapping(connection, mapping_id)
    await grants.settle_map(connection)
    return True


def _weight(child: Opening) -> tuple[bool, int]:
    return child.standing == "not_followed", len(child.led_by)


async def stand(
    connection: Connection,
    mapping_id: int,
    standing: Literal["in_force", "suspended"],
    reason: str | None = None,
    cure: str | None = None,
) -> bool:
    """Put a mapping in force or suspend it; True where that is news."""
    changed = await connection.execute_fetchall(
        _Q["stand"],
        {"mapping_id": mapping_id, "standing": standing, "reason": reason, "cure": cure},
    )
    if changed:
        await grants.unsettle_mapping(connection, mapping_id)
        await grants.settle_map(connection)
    return bool(changed)


async def lead(connection: Connection, mapping_id: int, leaders: Iterable[str]) -> bool:
    """Record on whose own power a mapping's own room rests; True where that is news."""
    changed = await connection.execute_fetchall(
        _Q["lead"], {"mapping_id": mapping_id, "led_by": led_by(leaders)}
    )
    if changed:
        await grants.unsettle_mapping(connection, mapping_id)
        await grants.settle_map(connection)
    return bool(changed)


async def any_led(connection: Connection, room_id: str) -> bool:
    """Tell whether removals from a room may need somebody's own power."""
    return bool(await connection.execute_fetchall(_Q["any_led"], {"room_id": room_id}))


async def leading_away(
    connection: Connection, room_id: str, account_id: int
) -> list[frozenset[str]]:
    """Return on whose power those mappings in force rest that gave an account a room."""
    values = {"room_id": room_id, "account_id": account_id}
    found = await connection.execute_fetchall(_Q["leading_away"], values)
    return [frozenset(_leaders(row["led_by"])) for row in found]


async def leading_exclusively(connection: Connection, room_id: str) -> list[frozenset[str]]:
    """Return on whose power those mappings in force rest that make a room exclusive."""
    found = await connection.execute_fetchall(_Q["leading_exclusively"], {"room_id": room_id})
    return [frozenset(_leaders(row["led_by"])) for row in found]


async def unusable(connection: Connection, room_id: str, reason: str) -> None:
    """Record why a room cannot be used at present."""
    await connection.execute_fetchall(_Q["disable"], {"room_id": room_id, "reason": reason})


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


async def with_own_name(connection: Connection, name: str) -> list[str]:
    """Return the room IDs of the rooms that call themselves so, by name or alias."""
    found = await connection.execute_fetchall(
        _Q["with_own_name"], {"name": name, "folded": folded(name)}
    )
    return [row["room_id"] for row in found]


async def spaces_of(connection: Connection, room_id: str) -> list[str]:
    """Return the mapped spaces whose rooms are opened too and that hold a room, or are it."""
    found = await connection.execute_fetchall(_Q["spaces_of"], {"room_id": room_id})
    return [row["room_id"] for row in found]


async def led_to(connection: Connection, room_id: str) -> list[str]:
    """Return the IDs of the rooms below a space that mappings of the space open."""
    found = await connection.execute_fetchall(_Q["led_to"], {"room_id": room_id})
    return [row["room_id"] for row in found]
