"""Rooms of the map: what references stand for, and who was seen in them."""

from collections.abc import Collection, Iterable
from typing import Literal

import aiosqlite
import orjson

from scim_matrix.pair import RoomReference
from scim_matrix.store import grants
from scim_matrix.store.database import Statement, together
from scim_matrix.store.pairs import WORK


async def mapped(connection: aiosqlite.Connection) -> list[str]:
    """Return the IDs of every room that the map opens and that is known."""
    found = await connection.execute_fetchall(f"SELECT DISTINCT room_id FROM ({grants.ROOMS})")
    return [room_id for (room_id,) in found]


async def unresolved(connection: aiosqlite.Connection, now: float) -> list[RoomReference]:
    """Return the room references that are to be resolved now."""
    found = await connection.execute_fetchall(
        "SELECT reference, attempts, template FROM room WHERE room_id IS NULL AND next_try <= ?",
        (now,),
    )
    return [RoomReference(*row) for row in found]


async def references(
    connection: aiosqlite.Connection, room_id: str
) -> list[tuple[RoomReference, bool]]:
    """Return the references that stand for a room, and whether its children are opened too."""
    found = await connection.execute_fetchall(
        "SELECT r.reference, r.attempts, r.template, max(m.children)"
        " FROM room r JOIN mapping m ON m.room_reference = r.reference WHERE r.room_id = ?"
        " GROUP BY r.reference",
        (room_id,),
    )
    return [
        (RoomReference(name, attempts, template), bool(children))
        for name, attempts, template, children in found
    ]


async def resolved(connection: aiosqlite.Connection, reference: str, room_id: str) -> None:
    """Record the room ID behind a reference; the grants it opens take effect."""
    await connection.execute_fetchall(
        "UPDATE room SET room_id = ?, error = NULL, attempts = 0 WHERE reference = ?",
        (room_id, reference),
    )
    await grants.settle_map_change(connection)


async def moved(connection: aiosqlite.Connection, room_id: str, replacement: str) -> None:
    """Follow an upgraded room to its replacement; nobody is removed from the old one."""
    await connection.execute_fetchall(
        "UPDATE room SET room_id = ?, error = NULL WHERE room_id = ?", (replacement, room_id)
    )
    await grants.settle_map_change(connection)


async def children_are(
    connection: aiosqlite.Connection, reference: str, children: Collection[str]
) -> bool:
    """Record which rooms are in a space, and tell whether these are others than before.

    Rooms taken out of it are forgotten as those taken out of the map are.
    """
    found = await connection.execute_fetchall(
        "SELECT room_id FROM room_child WHERE reference = ?", (reference,)
    )
    if {room_id for (room_id,) in found} == set(children):
        return False
    await connection.execute_fetchall("DELETE FROM room_child WHERE reference = ?", (reference,))
    await connection.executemany(
        "INSERT INTO room_child (reference, room_id) VALUES (?, ?)",
        [(reference, child) for child in set(children)],
    )
    await grants.settle_map_change(connection)
    return True


async def failed(
    connection: aiosqlite.Connection, reference: str, error: str, next_try: float
) -> None:
    """Record why a reference or its room cannot be used, and when to try again."""
    await connection.execute_fetchall(
        "UPDATE room SET attempts = attempts + 1, error = ?, next_try = ?"
        " WHERE reference = ? OR room_id = ?",
        (error, next_try, reference, reference),
    )


async def works(connection: aiosqlite.Connection, room_id: str) -> None:
    """Forget what was wrong with a room."""
    await connection.execute_fetchall(
        "UPDATE room SET error = NULL WHERE room_id = ? AND error IS NOT NULL", (room_id,)
    )


async def observe(
    connection: aiosqlite.Connection,
    room_id: str,
    joined: Iterable[str],
    protected: Iterable[str],
) -> list[str]:
    """Record who is in a room, strangers included; correct what was thought of managed pairs.

    Whoever was invited, banned or let go stays so unless found in the room; see `undone`. A room
    that is to hold nobody without a grant loses strangers, those in `protected` aside.
    Somebody granted it by invitation who is gone is not invited again. Returns the user IDs of
    others who are granted the room, were in it, and no longer are.
    """
    found = orjson.dumps(list(joined)).decode()
    missing, *_ = await together(
        connection,
        (
            "SELECT user_id FROM pair WHERE room_id = ?2 AND granted AND membership = 'join'"
            " AND NOT invite AND user_id NOT IN (SELECT value FROM json_each(?1))",
            (found, room_id),
        ),
        (
            "UPDATE pair SET membership = CASE"
            " WHEN user_id IN (SELECT value FROM json_each(?1)) THEN 'join'"
            " WHEN membership IN ('invite', 'ban', 'left') THEN membership"
            " WHEN granted AND invite AND membership = 'join' THEN 'left' ELSE 'leave' END"
            " WHERE room_id = ?2",
            (found, room_id),
        ),
        ("DELETE FROM stranger WHERE room_id = ?", (room_id,)),
        (
            "INSERT INTO stranger (room_id, user_id) SELECT ?2, value FROM json_each(?1)"
            " WHERE value NOT IN"
            " (SELECT user_id FROM pair WHERE room_id = ?2 AND NOT forgotten)",
            (found, room_id),
        ),
        *_excluding(room_id, protected),
    )
    return [user_id for (user_id,) in missing]


def _excluding(room_id: str, protected: Iterable[str], only: str | None = None) -> list[Statement]:
    """Return the statements that make removals of strangers in a room that is to hold no others.

    Of all of them, or of `only` one.

    Only where somebody is granted the room: before the identity provider has sent its groups
    everybody would be a stranger.
    """
    condition = (
        f"EXISTS (SELECT 1 FROM ({grants.ROOMS}) WHERE room_id = ?1 AND exclusive)"
        " AND EXISTS (SELECT 1 FROM pair WHERE room_id = ?1 AND granted)"
        " AND user_id NOT IN (SELECT value FROM json_each(?2)) AND (?3 IS NULL OR user_id = ?3)"
    )
    values = (room_id, orjson.dumps(list(protected)).decode(), only)
    return [
        (
            "INSERT INTO pair (room_id, user_id, granted, membership, request, since)"
            f" SELECT room_id, user_id, 0, 'join', '{grants.EXCLUSIVE}', julianday('now')"
            f" FROM stranger WHERE room_id = ?1 AND {condition}"
            " ON CONFLICT (room_id, user_id) DO UPDATE SET granted = 0, membership = 'join',"
            " forgotten = 0, held = 0, approved = 0, request = excluded.request,"
            " group_name = NULL, attempts = 0, next_try = 0, error = NULL",
            values,
        ),
        (f"DELETE FROM stranger WHERE room_id = ?1 AND {condition}", values),
    ]


async def waiting(connection: aiosqlite.Connection, room_id: str) -> set[str]:
    """Return which memberships other than joined were last known in a room: invite, ban."""
    found = await connection.execute_fetchall(
        "SELECT DISTINCT membership FROM pair WHERE room_id = ? AND membership IN ('invite', 'ban')"
        " AND NOT forgotten",
        (room_id,),
    )
    return {membership for (membership,) in found}


async def undone(
    connection: aiosqlite.Connection, room_id: str, membership: str, still: Iterable[str]
) -> None:
    """Correct those thought invited or banned who no longer are.

    An invitation that is gone was declined, which is respected; who is no longer banned may come
    back.
    """
    await connection.execute_fetchall(
        "UPDATE pair SET membership = CASE WHEN granted AND membership = 'invite' THEN 'left'"
        " ELSE 'leave' END WHERE room_id = ?1 AND membership = ?2"
        " AND user_id NOT IN (SELECT value FROM json_each(?3))",
        (room_id, membership, orjson.dumps(list(still)).decode()),
    )


async def respect(connection: aiosqlite.Connection, room_id: str, users: Iterable[str]) -> None:
    """Leave those out who left a room by their own will, until they are granted it anew."""
    await connection.execute_fetchall(
        "UPDATE pair SET membership = 'left' WHERE room_id = ?1 AND membership = 'leave'"
        " AND granted AND user_id IN (SELECT value FROM json_each(?2))",
        (room_id, orjson.dumps(list(users)).decode()),
    )


async def powers_are(
    connection: aiosqlite.Connection, room_id: str, levels: Iterable[tuple[str, int]]
) -> None:
    """Correct the power levels thought given where a room's event says a lower one."""
    await connection.executemany(
        "UPDATE pair SET power_set = NULL"
        " WHERE room_id = ? AND user_id = ? AND granted AND power_set > ?",
        [(room_id, user_id, level) for user_id, level in levels],
    )


async def powerful(connection: aiosqlite.Connection, room_id: str) -> list[str]:
    """Return the user IDs of those whom the service gave a power level in a room."""
    found = await connection.execute_fetchall(
        "SELECT user_id FROM pair WHERE room_id = ? AND power_set NOTNULL AND granted", (room_id,)
    )
    return [user_id for (user_id,) in found]


async def noted(
    connection: aiosqlite.Connection,
    room_id: str,
    user_id: str,
    membership: Literal["join", "leave", "ban"],
    *,
    protected: bool,
    respected: bool,
) -> bool:
    """Record one membership as it was seen to change; tell whether that makes work.

    Somebody joining whom nobody manages is a stranger. Who left is not brought back where that
    is `respected`, or where they are granted the room by invitation.
    """
    _, known, work, _ = await together(
        connection,
        (
            "UPDATE pair SET next_try = 0, membership = CASE"
            " WHEN ?3 = 'leave' AND granted AND (invite OR ?4) THEN 'left' ELSE ?3 END"
            " WHERE room_id = ?1 AND user_id = ?2 AND NOT forgotten AND membership IS NOT ?3",
            (room_id, user_id, membership, respected),
        ),
        (
            "SELECT 1 FROM pair WHERE room_id = ?1 AND user_id = ?2 AND NOT forgotten",
            (room_id, user_id),
        ),
        (
            f"SELECT 1 FROM pair WHERE room_id = ?1 AND user_id = ?2 AND {WORK}",
            (room_id, user_id),
        ),
        ("DELETE FROM stranger WHERE room_id = ?1 AND user_id = ?2", (room_id, user_id)),
    )
    if known or membership != "join":
        return bool(work)
    await together(
        connection,
        ("INSERT INTO stranger (room_id, user_id) VALUES (?, ?)", (room_id, user_id)),
        *_excluding(room_id, [user_id] if protected else [], user_id),
    )
    return True


async def is_known(
    connection: aiosqlite.Connection, room_id: str, user_id: str, membership: str
) -> bool:
    """Tell whether a membership is what is thought of a managed pair already."""
    found = await connection.execute_fetchall(
        "SELECT 1 FROM pair WHERE room_id = ? AND user_id = ? AND NOT forgotten AND membership = ?",
        (room_id, user_id, membership),
    )
    return bool(found)


async def names(connection: aiosqlite.Connection) -> dict[str, str]:
    """Return what the map calls the rooms that it knows, by room ID."""
    found = await connection.execute_fetchall(
        "SELECT room_id, min(reference) FROM room WHERE room_id NOTNULL GROUP BY room_id"
    )
    return {row[0]: row[1] for row in found}


async def spaces_of(connection: aiosqlite.Connection, room_id: str) -> list[str]:
    """Return the mapped spaces whose rooms are opened too and that hold a room, or are it."""
    found = await connection.execute_fetchall(
        "SELECT DISTINCT r.room_id FROM mapping m JOIN room r ON r.reference = m.room_reference"
        " WHERE m.children AND (r.room_id = ?1 OR EXISTS (SELECT 1 FROM room_child c"
        " WHERE c.reference = r.reference AND c.room_id = ?1))",
        (room_id,),
    )
    return [space_id for (space_id,) in found]
