"""What mapped groups grant, kept true inside each writing transaction.

Two steps: what each mapping gives each account (whether its room is known or not), and what that
means for memberships, by the rooms that the mapping opens. The identity provider revokes; what
the map no longer says is forgotten (docs/states.md).
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Self

import orjson

from scim_matrix.groupmap import key
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow, Statement
from scim_matrix.store.queries import load

Origin = Literal["identity_provider", "map"]

# For so many people at once it is worked out what the map means, and of so many mappings whom they
# reach: a SCIM request waits behind that.
PIECE = 100
SPREAD = 10
# From so many people on a resolved alias is worked out in pieces.
LARGE = 1000
# So many dropped lines end at once, with what they gave.
ENDED = 10

_Q = load("grants")

# What settling everything of those noted takes.
_WHOLE = ("open", "grant", "revoke", "want", "regain", "gain", "lose", "catch_up", "settled")


def touching(members: Iterable[str]) -> Statement:
    """Return the statement that notes that what `members` are granted may change.

    They are SCIM ids of users or groups. Note them before a change that cuts members off;
    `settle` computes the consequences, for users of nested groups too.
    """
    return _Q["touch_below"], {"members": orjson.dumps(list(members)).decode()}


async def touch_account(connection: Connection, account_id: int) -> None:
    """Note that what one account is granted may change."""
    await connection.execute_fetchall(_Q["touch_account"], {"account_id": account_id})


async def unsettle_mapping(connection: Connection, mapping_id: int) -> None:
    """Note that a mapping changed, or what it means; `settle_map` works out what follows."""
    await connection.execute_fetchall(_Q["unsettle_mapping"], {"mapping_id": mapping_id})


async def unsettle_everybody(connection: Connection) -> None:
    """Note that what the map gives every user may change."""
    await connection.execute_fetchall(_Q["unsettle_everybody"])


async def settle(
    connection: Connection,
    members: Iterable[str] = (),
    origin: Origin = "identity_provider",
    *,
    first: Iterable[Statement] = (),
) -> None:
    """Bring grants and memberships of everybody noted in line with groups and map.

    `members` are noted too, once the statements in `first` have run. `origin` says who made the
    difference: what the identity provider takes is revoked, and what the map no longer grants is
    forgotten.
    """
    await _settle(connection, origin, _WHOLE, {}, *first, touching(members))


async def _settle(
    connection: Connection,
    origin: Origin,
    names: Iterable[str],
    more: dict[str, str],
    *first: Statement,
    then: Iterable[Statement] = (),
) -> list[list[DatabaseRow]]:
    """Settle those noted once the statements in `first` have run; return the rows of the others."""
    others = list(then)
    values = {
        "origin": origin,
        "request": connection.cause,
        "tick": await connection.tick(),
        "at": connection.at,
        **more,
    }
    found = await together(
        connection,
        *first,
        *((_Q[name], values) for name in names),
        ("DELETE FROM touched", ()),
        ("DELETE FROM opened", ()),
        ("DELETE FROM wanted", ()),
        *others,
    )
    return found[len(found) - len(others) :]


# -- Changes of the map ---------------------------------------------------------


class Left(NamedTuple):
    """Whether mappings are left that changed, and whether accounts are that such ones reach."""

    mappings: bool
    accounts: bool

    @classmethod
    def of(cls, row: DatabaseRow) -> Self:
        """Return what a row of `is_left` says."""
        return cls(bool(row["mappings"]), bool(row["accounts"]))


async def settle_map(connection: Connection, limit: int = PIECE) -> bool:
    """Work out what changes of the map mean for some of those whom they reach.

    `limit` is for how many at most; tells whether others are left. They stay known, and nothing
    is done for them in rooms until it is their turn. Nobody may be noted as touched meanwhile.
    """
    return await spread(connection, limit) or any(await settle_people(connection, limit))


async def settle_people(connection: Connection, limit: int) -> Left:
    """Do so for whom changes reach that are spread already; returns what is left."""
    take = _Q["take"], {"limit": limit}
    [[row]] = await _settle(connection, "map", _WHOLE, {}, take, then=[(_Q["is_left"], ())])
    left = Left.of(row)
    if any(left):
        return left
    values = {"tick": await connection.tick(), "at": connection.at}
    await together(
        connection,
        (_Q["open_up_seen"], ()),
        (_Q["open_up_others"], ()),
        (_Q["open_up"], values),
        (_Q["forget_unmanaged"], values),
        (_Q["forget_members"], ()),
    )
    return left


async def spread(connection: Connection, limit: int = SPREAD) -> bool:
    """Note whom changes of some mappings reach; tells whether other mappings may be left."""
    limit = min(limit, SPREAD)
    found = await connection.execute_fetchall(_Q["unsettled_mappings"], {"limit": limit})
    if found:
        values = {"mappings": orjson.dumps([row["id"] for row in found]).decode()}
        names = ("spread_given", "spread_mapped", "spread")
        await together(connection, *((_Q[name], values) for name in names))
    return len(found) == limit


async def is_left(connection: Connection) -> bool:
    """Tell whether a change of the map has still to be worked out for somebody."""
    return any(await _left(connection))


async def is_spreading(connection: Connection) -> bool:
    """Tell whether it is not known yet whom a change of the map reaches."""
    return (await _left(connection)).mappings


async def _left(connection: Connection) -> Left:
    [row] = await connection.execute_fetchall(_Q["is_left"])
    return Left.of(row)


async def settle_first(connection: Connection, members: Iterable[str]) -> None:
    """Work out what the map changed before the identity provider changes something of `members`.

    So that what the one forgets and the other takes are never mistaken for each other. Costs one
    look where nothing is left to settle. Nobody may be noted as touched meanwhile.
    """
    mappings, left = await _left(connection)
    if not mappings and not left:
        return
    await together(connection, touching(members))
    if not mappings:
        await connection.execute_fetchall(_Q["spare_settled"])
    await settle(connection, origin="map")
    # What the identity provider revokes now is newer than what the map forgot.
    connection.go_on()


def giving(reference: str) -> Statement:
    """Return what tells `settle_reference` to how many a reference's mappings give something."""
    return _Q["given"], {"reference": reference, "most": LARGE}


async def settle_reference(
    connection: Connection,
    reference: str,
    room_id: str,
    first: Iterable[Statement],
    given: Sequence[DatabaseRow],
) -> None:
    """Settle that a reference stands for a room, which nothing was known of before.

    The statements in `first` run before. Costs what its mappings give, in that room only; where
    that is much it is done in pieces. `given` are the rows of `giving`.
    """
    number = given[0]["number"]
    if 0 < number < LARGE:
        names = ("want_room", "regain", "gain", "catch_up")
        touch = _Q["touch_given"], {"reference": reference}
        await _settle(connection, "map", names, {"room_id": room_id}, *first, touch)
        return
    unsettle = [(_Q["unsettle_reference"], {"reference": reference})] if number else []
    await together(connection, *first, *unsettle)


def would_have_had(mapping_id: int, room_id: str, at: float) -> Statement:
    """Return what notes what a mapping gave, and the provider took, before its room was known.

    For a room that a mapping opens for the first time: whoever is in it would have been put there.
    `at` is the time of the transaction (seconds since the epoch).
    """
    return _Q["would_have_had"], {"mapping_id": mapping_id, "room_id": room_id, "at": at}


async def end_dropped(connection: Connection) -> bool:
    """End some dropped mappings of which nothing matters any more; tell whether others are left."""
    ended = await connection.execute_fetchall(_Q["end_dropped"], {"most": ENDED})
    return len(ended) == ENDED


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


async def reasons(connection: Connection, room_id: str) -> dict[tuple[str, int], list[str]]:
    """Return why accounts are granted a room, by room ID and account, as sentences."""
    return _sentences(await connection.execute_fetchall(_Q["reasons"], {"room_id": room_id}))


async def reasons_of(
    connection: Connection, account_ids: Iterable[int]
) -> dict[tuple[str, int], list[str]]:
    """Return why some accounts are granted their rooms, as `reasons` does."""
    listed = orjson.dumps(list(account_ids)).decode()
    return _sentences(await connection.execute_fetchall(_Q["reasons_of"], {"accounts": listed}))


def _sentences(rows: Iterable[DatabaseRow]) -> dict[tuple[str, int], list[str]]:
    found: dict[tuple[str, int], list[str]] = {}
    for row in rows:
        why = f"{row['group_name']} ({key(row['kind'], row['pattern'])} → {row['reference']})"
        found.setdefault((row["room_id"], row["account_id"]), []).append(why)
    return found
