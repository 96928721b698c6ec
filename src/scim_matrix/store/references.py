"""What the references of the map stand for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from scim_matrix.store import grants, openings, record, rooms
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow, Statement
from scim_matrix.store.openings import leaders_of, led_by
from scim_matrix.store.queries import load

_Q = load("rooms")


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


def _reference(row: DatabaseRow) -> RoomReference:
    return RoomReference(
        row["reference"],
        row["standing"],
        row["room_id"],
        row["candidate"],
        bool(row["absent"]),
        row["template"],
        row["attempts"],
        leaders_of(row["led_by"]),
    )


async def unresolved(
    connection: Connection, now: float, besides: Sequence[str], limit: int
) -> list[RoomReference]:
    """Return up to `limit` references to be asked for now (seconds since the epoch).

    Those in `besides` are left out.
    """
    values = {"now": now, "besides": orjson.dumps(besides).decode(), "limit": limit}
    found = await connection.execute_fetchall(_Q["unresolved"], values)
    return [_reference(row) for row in found]


async def retry(connection: Connection) -> None:
    """Ask again now for every reference that leads nowhere, or waits for a human."""
    await connection.execute_fetchall(
        "UPDATE room_reference SET next_try = 0 WHERE standing <> 'pinned'"
    )


async def of_room(connection: Connection, room_id: str) -> list[RoomReference]:
    """Return the references that stand for a room."""
    found = await connection.execute_fetchall(_Q["of_room"], {"room_id": room_id})
    return [_reference(row) for row in found]


async def get(connection: Connection, name: str) -> RoomReference | None:
    """Return one reference of the map."""
    found = await connection.execute_fetchall(_Q["reference"], {"reference": name})
    return _reference(found[0]) if found else None


async def pin(connection: Connection, name: str, room_id: str, leaders: Iterable[str] = ()) -> str:
    """Have a reference stand for a room; what its mappings give takes effect there.

    Where the room was upgraded that is the one that took its place. `leaders` are those on whose
    own power that rests. Where it stood for another room, what is known of everybody there counts
    in the new one. Returns the room that it stands for.
    """
    stood, naming, upgraded, given = await together(
        connection,
        (_Q["reference"], {"reference": name}),
        openings.naming(name),
        rooms.upgraded_rooms(),
        grants.giving(name),
    )
    former = stood[0]["room_id"] if stood else None
    room_id = rooms.following(upgraded)(room_id)
    leaders = tuple(leaders)
    values = {"reference": name, "room_id": room_id, "led_by": led_by(leaders)}
    pinned: list[Statement] = [(_Q["pin"], values)]
    mappings = openings.mappings(naming)
    for mapping in mappings:
        behind = {*leaders, *filter(None, [mapping.made_by])}
        opens = {"mapping_id": mapping.id, "room_id": room_id, "led_by": led_by(behind)}
        if former is None:
            would_have_had = grants.would_have_had(mapping.id, room_id, connection.at)
            pinned += [(_Q["open_own"], opens), would_have_had]
        else:
            closes = {"mapping_id": mapping.id, "room_id": former}
            pinned += [(_Q["close_own"], closes), (_Q["open_own"], opens)]
    if former is None:
        await grants.settle_reference(connection, name, room_id, pinned, given)
        return room_id
    await together(connection, *pinned)
    for mapping in mappings:
        await grants.unsettle_mapping(connection, mapping.id)
    if former != room_id:
        await grants.carry(connection, former, room_id, name)
    await grants.settle_map(connection)
    return room_id


async def let_in(connection: Connection, name: str, room_id: str, by: str) -> str:
    """Have an alias stand for a room because a human (`by`) says so, on nobody's own power.

    Returns the room, which is the one that took its place where that was upgraded.
    """
    room_id = await pin(connection, name, room_id)
    entry = record.Entry("alias", "approved", None, room_id, detail=name, by=by)
    await record.add(connection, entry)
    return room_id


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


async def fail(
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
