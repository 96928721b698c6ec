"""Rooms: what the map's references stand for, what mappings open, and who was seen in a room."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from scim_matrix.groupmap import Kind
from scim_matrix.store import grants
from scim_matrix.store.database import Connection, together
from scim_matrix.store.queries import load

_Q = load("rooms")


@dataclass(frozen=True, slots=True)
class RoomReference:
    """A room as the map names it, and what is known of it.

    `absent`: the alias led nowhere when it was first asked for. `candidate`: a room that it leads
    to and that is not followed. `template` (JSON) says how to make it.
    """

    reference: str
    standing: Literal["unresolved", "waiting", "pinned"]
    room_id: str | None
    candidate: str | None
    absent: bool
    template: str | None
    attempts: int


@dataclass(frozen=True, slots=True)
class MappingRow:
    """A mapping in the store; `room_id` is the room that it names, as far as that is known."""

    id: int
    origin: Literal["configuration", "console"]
    kind: Kind
    pattern: str
    reference: str
    power: int | None
    children: bool
    exclusive: bool
    made_by: str | None
    standing: Literal["in_force", "overruled", "suspended"]
    room_id: str | None = None


@dataclass(frozen=True, slots=True)
class Opening:
    """A room below a mapping's space: whether it is followed, and if not why and what to do."""

    room_id: str
    via: str
    standing: Literal["followed", "not_followed"]
    reason: str | None = None
    cure: str | None = None


def _reference(row: sqlite3.Row) -> RoomReference:
    return RoomReference(
        row["reference"],
        row["standing"],
        row["room_id"],
        row["candidate"],
        bool(row["absent"]),
        row["template"],
        row["attempts"],
    )


def _mapping(row: sqlite3.Row) -> MappingRow:
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
    )


def _json(values: Iterable[str]) -> str:
    return orjson.dumps(list(values)).decode()


# -- References ----------------------------------------------------------------


async def mapped(connection: Connection) -> list[str]:
    """Return the IDs of every room that the map opens, suspended mappings included."""
    return [row["room_id"] for row in await connection.execute_fetchall(_Q["mapped"])]


async def unresolved(connection: Connection, now: float) -> list[RoomReference]:
    """Return the references that are to be asked for now (seconds since the epoch)."""
    found = await connection.execute_fetchall(_Q["unresolved"], {"now": now})
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
    """Return the mappings that name a reference."""
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


async def pin(connection: Connection, name: str, room_id: str) -> None:
    """Have a reference stand for a room; what its mappings give takes effect there.

    Where it stood for another room, what is known of everybody there counts in the new one.
    """
    former = await reference(connection, name)
    values = {"reference": name, "room_id": room_id}
    await connection.execute_fetchall(_Q["pin"], values)
    for mapping in await mappings_of(connection, name):
        opens = {"mapping_id": mapping.id, "room_id": room_id}
        if former is not None and former.room_id is not None:
            await connection.execute_fetchall(
                "DELETE FROM opening WHERE mapping_id = ? AND room_id = ? AND via IS NULL",
                (mapping.id, former.room_id),
            )
        await connection.execute_fetchall(_Q["open_own"], opens)
        await grants.touch_mapping(connection, mapping.id)
        if former is None or former.room_id is None:
            await grants.would_have_had(connection, mapping.id, room_id)
    if former is not None and former.room_id not in (None, room_id):
        assert former.room_id is not None
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
    rows = await connection.execute_fetchall(_Q["successors"])
    return _last(room_id, {row["room_id"]: row["successor"] for row in rows})


def _last(room_id: str, successors: Mapping[str, str]) -> str:
    seen = {room_id}
    while (following := successors.get(room_id)) is not None and following not in seen:
        seen.add(room_id := following)
    return room_id


async def upgraded(connection: Connection, room_id: str, replacement: str) -> None:
    """Follow an upgraded room to its replacement, with all that is known of everybody.

    Nobody is removed from the old one.
    """
    values = {"room_id": room_id, "successor": replacement}
    # An upgrade back to a former room takes its own former upgrade back.
    await connection.execute_fetchall(
        "UPDATE room SET successor = NULL WHERE room_id = ?", (replacement,)
    )
    opened = await connection.execute_fetchall(
        "SELECT DISTINCT mapping_id FROM opening WHERE room_id = ?", (room_id,)
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
        await grants.touch_mapping(connection, row["mapping_id"])
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
            "SELECT 1 FROM room WHERE room_id = ? AND upgrade_to IS NOT NULL", (room_id,)
        )
    )


async def no_upgrade(connection: Connection, room_id: str) -> None:
    """Record that a room is not upgraded, as far as anybody says."""
    await connection.execute_fetchall(_Q["no_upgrade"], {"room_id": room_id})


# -- Openings ------------------------------------------------------------------


async def openings(connection: Connection, mapping_id: int) -> list[Opening]:
    """Return the rooms below a mapping's space, as last judged."""
    found = await connection.execute_fetchall(_Q["openings"], {"mapping_id": mapping_id})
    return [Opening(*row) for row in found]


async def put_children(
    connection: Connection, mapping_id: int, children: Iterable[Opening]
) -> bool:
    """Record which rooms are below a mapping's space; True where these are others than before.

    Rooms taken out of the space, or followed no more, are forgotten as those taken out of the
    map are; what the identity provider revoked before they were first read counts there too.
    """
    rows = await connection.execute_fetchall(_Q["successors"])
    successors = {row["room_id"]: row["successor"] for row in rows}
    wanted: dict[str, Opening] = {}
    for child in children:
        room_id = _last(child.room_id, successors)
        present = wanted.get(room_id)
        # A room that one step leads to is followed, whatever others say.
        if present is None or present.standing == "not_followed":
            wanted[room_id] = Opening(room_id, child.via, child.standing, child.reason, child.cure)
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
            },
        )
        if first and child.standing == "followed":
            await grants.would_have_had(connection, mapping_id, child.room_id)
    await grants.touch_mapping(connection, mapping_id)
    await grants.settle_map(connection)
    return True


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
        await grants.touch_mapping(connection, mapping_id)
        await grants.settle_map(connection)
    return bool(changed)


async def makers(connection: Connection, room_id: str) -> list[tuple[str | None, bool]]:
    """Return who made each mapping that opens a room now, and whether it is exclusive.

    None stands for the configuration.
    """
    found = await connection.execute_fetchall(_Q["makers"], {"room_id": room_id})
    return [(row["made_by"], bool(row["exclusive"])) for row in found]


async def unusable(connection: Connection, room_id: str, reason: str) -> None:
    """Record why a room cannot be used at present."""
    await connection.execute_fetchall(_Q["disable"], {"room_id": room_id, "reason": reason})


async def names(connection: Connection) -> dict[str, str]:
    """Return what the map calls the rooms that it knows, by room ID."""
    return {row["room_id"]: row["name"] for row in await connection.execute_fetchall(_Q["names"])}


async def named(connection: Connection, name: str) -> list[str]:
    """Return the room IDs that a name stands for: an alias of the map, or a room ID itself."""
    found = await connection.execute_fetchall(_Q["named"], {"name": name})
    return [row["room_id"] for row in found]


async def spaces_of(connection: Connection, room_id: str) -> list[str]:
    """Return the mapped spaces whose rooms are opened too and that hold a room, or are it."""
    found = await connection.execute_fetchall(_Q["spaces_of"], {"room_id": room_id})
    return [row["room_id"] for row in found]


async def led_to(connection: Connection, room_id: str) -> list[str]:
    """Return the IDs of the rooms below a space that mappings of the space open."""
    found = await connection.execute_fetchall(_Q["led_to"], {"room_id": room_id})
    return [row["room_id"] for row in found]


# -- Who is in a room ----------------------------------------------------------


async def observe(
    connection: Connection, room_id: str, joined: Sequence[str], protected: Iterable[str]
) -> list[str]:
    """Record who is in a room, unmanaged members included; correct what was thought of others.

    Whoever was invited, banned or let go stays so unless found in the room; see `undo`. A room
    that is to hold nobody else loses unmanaged members, those in `protected` aside. Returns the
    user IDs of those who are granted the room, were in it, and no longer are.
    """
    values = {
        "room_id": room_id,
        "joined": _json(joined),
        "tick": await connection.tick(),
        "at": connection.at,
    }
    missing, *_ = await together(
        connection,
        (_Q["missing"], values),
        (_Q["observe"], values),
        (_Q["end_approvals"], values),
        (_Q["clear_members"], values),
        (_Q["see_members"], values),
        (_Q["enable"], values),
        (_Q["compared"], values),
    )
    kept = set(protected)
    await _exclude(connection, room_id, [user for user in joined if user not in kept])
    return [row["user_id"] for row in missing]


async def _exclude(connection: Connection, room_id: str, users: Iterable[str]) -> None:
    """Have those leave an exclusive room who are there without a grant."""
    values: dict[str, Any] = {"room_id": room_id, "at": connection.at}
    [row] = await connection.execute_fetchall(_Q["is_exclusive"], values)
    if not row["exclusive"]:
        return
    found = await connection.execute_fetchall(
        "SELECT user_id FROM unmanaged_member WHERE room_id = ?", (room_id,)
    )
    values["users"] = _json({r["user_id"] for r in found} & set(users))
    await together(
        connection,
        (_Q["know_unmanaged"], values),
        (_Q["exclude"], values),
        (_Q["manage_excluded"], values),
    )


async def kinds_waiting(connection: Connection, room_id: str) -> set[str]:
    """Return which memberships other than joined were last known in a room."""
    found = await connection.execute_fetchall(_Q["kinds_waiting"], {"room_id": room_id})
    return {row["observed"] for row in found}


async def any_unknown(connection: Connection, room_id: str) -> bool:
    """Tell whether nobody knows of somebody who is to leave a room whether they are invited."""
    return bool(await connection.execute_fetchall(_Q["any_unknown"], {"room_id": room_id}))


async def find_invited(connection: Connection, room_id: str, invited: Iterable[str]) -> None:
    """Correct those thought out of a room who are invited."""
    values = {"room_id": room_id, "still": _json(invited)}
    await connection.execute_fetchall(_Q["find_invited"], values)


async def undo(connection: Connection, room_id: str, observed: str, still: Iterable[str]) -> None:
    """Correct those thought invited or banned who no longer are: `still` are those who are.

    An invitation that is gone was declined, which is respected; who is no longer banned may come
    back.
    """
    await connection.execute_fetchall(
        _Q["undo"],
        {
            "room_id": room_id,
            "observed": observed,
            "still": _json(still),
            "tick": await connection.tick(),
        },
    )


async def respect(connection: Connection, room_id: str, users: Iterable[str]) -> None:
    """Leave those out who left a room by their own will, until they are granted it anew."""
    await connection.execute_fetchall(
        _Q["respect"],
        {"room_id": room_id, "users": _json(users), "tick": await connection.tick()},
    )


async def powerful(connection: Connection, room_id: str) -> list[tuple[str, int]]:
    """Return whom the service gave a power level in a room: user ID and account."""
    found = await connection.execute_fetchall(_Q["powerful"], {"room_id": room_id})
    return [(row["user_id"], row["account_id"]) for row in found]


async def powers_are(
    connection: Connection, room_id: str, levels: Iterable[tuple[int, int]]
) -> None:
    """Correct the power levels thought given where an account's is lower in the room."""
    await connection.executemany(
        _Q["lost_power"],
        [{"room_id": room_id, "account_id": a, "level": level} for a, level in levels],
    )


async def see(
    connection: Connection,
    room_id: str,
    user_id: str,
    observed: Literal["join", "leave", "ban"],
    *,
    protected: bool,
    respected: bool,
) -> bool:
    """Record one membership as it was seen to change; tell whether that makes work.

    Somebody joining whom nothing manages is an unmanaged member. Who left is not brought back
    where that is `respected`, or where they are granted the room by invitation.
    """
    values = {
        "room_id": room_id,
        "user_id": user_id,
        "observed": observed,
        "respected": respected,
        "tick": await connection.tick(),
    }
    _, _, known = await together(
        connection, (_Q["see_one"], values), (_Q["gone_member"], values), (_Q["one"], values)
    )
    if known and known[0]["state"] not in ("forgotten", "dismissed"):
        return known[0]["todo"] is not None
    if observed != "join":
        return False
    await connection.execute_fetchall(
        "INSERT INTO unmanaged_member (room_id, user_id) VALUES (?, ?)", (room_id, user_id)
    )
    if not protected:
        await _exclude(connection, room_id, [user_id])
    return True


async def is_known(connection: Connection, room_id: str, user_id: str, observed: str) -> bool:
    """Tell whether a membership is what is thought of a managed account already."""
    found = await connection.execute_fetchall(_Q["one"], {"room_id": room_id, "user_id": user_id})
    return bool(found) and found[0]["observed"] == observed
