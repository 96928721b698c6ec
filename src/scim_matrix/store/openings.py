"""Which rooms mappings open, and on whose own power that rests."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import orjson

from scim_matrix.groupmap import Kind
from scim_matrix.store import grants, rooms
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow, Statement
from scim_matrix.store.queries import load

_Q = load("rooms")


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
        leaders_of(row["led_by"]) if "led_by" in row.keys() else (),  # noqa: SIM118
    )


def led_by(leaders: Iterable[str]) -> str | None:
    """Return those on whose own power it rests that a room is opened, as they are kept."""
    listed = sorted(leaders)
    return orjson.dumps(listed).decode() if listed else None


def leaders_of(led_by: str | None) -> tuple[str, ...]:
    """Return those on whose own power it rests, from how they are kept."""
    return () if led_by is None else tuple(orjson.loads(led_by))


async def mappings_of(connection: Connection, name: str) -> list[MappingRow]:
    """Return the mappings that name a reference, or did."""
    [found] = await together(connection, naming(name))
    return mappings(found)


def naming(name: str) -> Statement:
    """Return the statement that finds the mappings that name a reference, or did."""
    return _Q["mappings_of"], {"reference": name}


def mappings(rows: Iterable[DatabaseRow]) -> list[MappingRow]:
    """Return rows of mappings as values."""
    return [_mapping(row) for row in rows]


async def console_mappings(connection: Connection, room_id: str | None = None) -> list[MappingRow]:
    """Return the mappings made in the console, all or those that open a room."""
    found = await connection.execute_fetchall(_Q["console_mappings"], {"room_id": room_id})
    return [_mapping(row) for row in found]


async def led_into(connection: Connection, room_id: str) -> list[MappingRow]:
    """Return the mappings that open a room on somebody's own power, and whose it is."""
    found = await connection.execute_fetchall(_Q["led_into"], {"room_id": room_id})
    return [_mapping(row) for row in found]


async def is_given(connection: Connection, room_id: str) -> bool:
    """Tell whether a mapping opens a room that goes along with it wherever it goes."""
    return bool(await connection.execute_fetchall(_Q["is_given"], {"room_id": room_id}))


async def of_mapping(connection: Connection, mapping_id: int) -> list[Opening]:
    """Return the rooms below a mapping's space, as last judged."""
    found = await connection.execute_fetchall(_Q["openings"], {"mapping_id": mapping_id})
    return [
        Opening(
            row["room_id"],
            row["via"],
            row["standing"],
            row["reason"],
            row["cure"],
            leaders_of(row["led_by"]),
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
    last = await rooms.successors(connection)
    wanted: dict[str, Opening] = {}
    for child in children:
        if last(child.room_id) != child.room_id:
            return None
        present = wanted.get(child.room_id)
        # A room that one step leads to is followed, whatever others say.
        if present is None or _weight(child) < _weight(present):
            wanted[child.room_id] = child
    before = {child.room_id: child for child in await of_mapping(connection, mapping_id)}
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
            had = grants.would_have_had(mapping_id, child.room_id, connection.at)
            await connection.execute_fetchall(*had)
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


async def lead_too(
    connection: Connection, mapping_id: int, leaders: str | None, made_by: str
) -> None:
    """Have a mapping's own room rest on its maker's power too, beside theirs (as they are kept)."""
    together_with = led_by({*leaders_of(leaders), made_by})
    values = {"mapping_id": mapping_id, "led_by": together_with}
    await connection.execute_fetchall(_Q["lead"], values)


async def any_led(connection: Connection, room_id: str) -> bool:
    """Tell whether removals from a room may need somebody's own power."""
    return bool(await connection.execute_fetchall(_Q["any_led"], {"room_id": room_id}))


async def leading_away(
    connection: Connection, room_id: str, account_id: int
) -> list[frozenset[str]]:
    """Return on whose power those mappings in force rest that gave an account a room."""
    values = {"room_id": room_id, "account_id": account_id}
    found = await connection.execute_fetchall(_Q["leading_away"], values)
    return [frozenset(leaders_of(row["led_by"])) for row in found]


async def leading_exclusively(connection: Connection, room_id: str) -> list[frozenset[str]]:
    """Return on whose power those mappings in force rest that make a room exclusive."""
    found = await connection.execute_fetchall(_Q["leading_exclusively"], {"room_id": room_id})
    return [frozenset(leaders_of(row["led_by"])) for row in found]


async def spaces_of(connection: Connection, room_id: str) -> list[str]:
    """Return the mapped spaces whose rooms are opened too and that hold a room, or are it."""
    found = await connection.execute_fetchall(_Q["spaces_of"], {"room_id": room_id})
    return [row["room_id"] for row in found]


class Reaching(NamedTuple):
    """What reaches people through a room.

    The mappings of the console that open it, those that open the rooms below it too, and the IDs of
    the rooms below it that any mapping opens.
    """

    console: list[MappingRow]
    spaces: list[MappingRow]
    below: set[str]


async def reaching(connection: Connection, room_id: str) -> Reaching:
    """Return what reaches people through a room."""
    values = {"room_id": room_id}
    names = ("console_mappings", "spaces_mapped", "led_to")
    console, spaces, below = await together(connection, *((_Q[name], values) for name in names))
    return Reaching(mappings(console), mappings(spaces), {row["room_id"] for row in below})
