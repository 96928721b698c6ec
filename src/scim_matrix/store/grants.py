"""What mapped groups grant, kept true inside each writing transaction.

Two steps: what each mapping gives each account (whether its room is known or not), and what that
means for memberships, by the rooms that the mapping opens. The identity provider revokes; what
the map no longer says is forgotten (docs/states.md).
"""

from collections.abc import Iterable
from typing import Literal

import orjson

from scim_matrix.groupmap import key
from scim_matrix.store.database import Connection, Statement, together
from scim_matrix.store.queries import load

Origin = Literal["identity_provider", "map"]

_Q = load("grants")


def touching(members: Iterable[str]) -> Statement:
    """Return the statement that notes that what `members` are granted may change.

    They are SCIM ids of users or groups. Note them before a change that cuts members off;
    `settle` computes the consequences, for users of nested groups too.
    """
    return _Q["touch_below"], {"members": orjson.dumps(list(members)).decode()}


async def touch_account(connection: Connection, account_id: int) -> None:
    """Note that what one account is granted may change."""
    await connection.execute_fetchall(_Q["touch_account"], {"account_id": account_id})


async def touch_mapping(connection: Connection, mapping_id: int, *, new: bool = False) -> None:
    """Note everybody whom a mapping gives something, or, where it is new, will."""
    query = "touch_mapped" if new else "touch_given"
    await connection.execute_fetchall(_Q[query], {"mapping_id": mapping_id})


async def touch_everybody(connection: Connection) -> None:
    """Note every user's account."""
    await connection.execute_fetchall(_Q["touch_everybody"])


async def settle(
    connection: Connection,
    members: Iterable[str] = (),
    origin: Origin = "identity_provider",
) -> None:
    """Bring grants and memberships of everybody noted in line with groups and map.

    `members` are noted too. `origin` says who made the difference: what the identity provider
    takes is revoked, and what the map no longer grants is forgotten.
    """
    values = {
        "origin": origin,
        "request": connection.cause,
        "tick": await connection.tick(),
        "at": connection.at,
    }
    names = ("open", "grant", "revoke", "want", "regain", "gain", "lose", "catch_up")
    await together(
        connection,
        touching(members),
        *((_Q[name], values) for name in names),
        ("DELETE FROM touched", ()),
        ("DELETE FROM opened", ()),
        ("DELETE FROM wanted", ()),
    )


async def settle_map(connection: Connection) -> None:
    """Bring everybody noted in line after the map, or what it means, changed."""
    await settle(connection, origin="map")
    tick = {"tick": await connection.tick()}
    await together(
        connection,
        (_Q["open_up_seen"], ()),
        (_Q["open_up_others"], ()),
        (_Q["open_up"], tick),
        (_Q["forget_unmanaged"], ()),
        (_Q["forget_members"], ()),
    )


async def would_have_had(connection: Connection, mapping_id: int, room_id: str) -> None:
    """Note what a mapping gave, and the identity provider took, before its room was known.

    For a room that a mapping opens for the first time: whoever is in it would have been put there.
    """
    values = {"mapping_id": mapping_id, "room_id": room_id, "at": connection.at}
    await connection.execute_fetchall(_Q["would_have_had"], values)


async def end_dropped(connection: Connection) -> None:
    """End dropped mappings of which nothing matters any more."""
    await connection.execute_fetchall(_Q["end_dropped"])


async def carry(
    connection: Connection, room_id: str, successor: str, reference: str | None = None
) -> None:
    """Have what is known of everybody in a room count in the room that takes its place.

    Nobody is removed from the former one. Where only what a reference stands for has moved, it
    is about those whom its mappings give something, and not about power levels, which only
    upgrades copy.
    """
    values = {
        "room_id": room_id,
        "successor": successor,
        "reference": reference,
        "tick": await connection.tick(),
    }
    await together(connection, (_Q["carry"], values), (_Q["leave_behind"], values))


async def reasons(
    connection: Connection, *, room_id: str | None = None, account_id: int | None = None
) -> dict[tuple[str, int], list[str]]:
    """Return why accounts are granted rooms, by room ID and account, as sentences."""
    found: dict[tuple[str, int], list[str]] = {}
    for row in await connection.execute_fetchall(
        _Q["reasons"], {"room_id": room_id, "account_id": account_id}
    ):
        why = f"{row['group_name']} ({key(row['kind'], row['pattern'])} → {row['reference']})"
        found.setdefault((row["room_id"], row["account_id"]), []).append(why)
    return found
