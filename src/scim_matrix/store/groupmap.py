"""The map in force: the configuration's mappings and those made in the console."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import orjson

from scim_matrix.groupmap import Mapping
from scim_matrix.store import grants, openings, rooms
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow, Statement
from scim_matrix.store.queries import load
from scim_matrix.store.text import composed

_Q = load("groupmap")


def _row(mapping: Mapping) -> dict[str, Any]:
    """Return a line as it is stored: options in columns of their names.

    How its room is made belongs to the reference.
    """
    row = {field.name: getattr(mapping, field.name) for field in fields(mapping)}
    del row["create"]
    row["reference"] = row.pop("room")
    if mapping.kind == "external_id":
        row["pattern"] = composed(mapping.pattern)
    return row


async def put(
    connection: Connection, mappings: Sequence[Mapping], piece: int = grants.PIECE
) -> None:
    """Make `mappings` what the configuration says, and begin to settle what follows.

    Costs a few statements, however many lines differ. `piece` is for how many people what follows
    is worked out at once; others are left for `grants.settle_map`.
    """
    wanted = {(m["kind"], m["pattern"], m["reference"]): m for m in map(_row, mappings)}
    found = await connection.execute_fetchall(
        "SELECT * FROM mapping WHERE origin = 'configuration' AND standing <> 'dropped'"
    )
    present = {(r["kind"], r["pattern"], r["reference"]): r for r in found}
    dropped = [present[key]["id"] for key in present.keys() - wanted.keys()]
    here = {"origin": "configuration", "made_by": None, "made_at": connection.at, "alias": None}
    added = [{**values, **here} for key, values in wanted.items() if key not in present]
    altered = [
        {**values, **here}
        for key, values in wanted.items()
        if key in present and any(present[key][name] != values[name] for name in values)
    ]
    if dropped:
        await _drop(connection, dropped)
    if added:
        await _insert(connection, added)
    if altered:
        await _update(connection, altered)
    await _put_templates(connection, mappings)
    changed = bool(dropped or added or altered)
    if changed:
        await _overrule(connection)
    if changed or await _is_new(connection):
        await grants.settle_map(connection, piece)
    await grants.end_dropped(connection)


async def _is_new(connection: Connection) -> bool:
    """Have everybody's grants worked out where none ever were, as after an upgrade."""
    found = await connection.execute_fetchall(
        "SELECT 1 FROM mapping WHERE NOT EXISTS (SELECT 1 FROM mapping_grant) LIMIT 1"
    )
    if found:
        await grants.unsettle_everybody(connection)
    return bool(found)


async def _insert(connection: Connection, lines: Sequence[dict[str, Any]]) -> None:
    """Put lines in force; one that was dropped is put back, with what is known of it."""
    [stored, upgraded] = await together(connection, _put(lines), rooms.upgraded_rooms())
    # A room ID stands for itself, or for what it was upgraded to; an alias is asked for.
    last = rooms.following(upgraded)
    known = [
        {"reference": name, "room_id": last(name) if name.startswith("!") else None}
        for name in {line["reference"] for line in lines}
    ]
    ids = {"ids": _ids(stored)}
    [*_, made] = await together(
        connection,
        # What is below its space may be another by now: it is read again.
        (_Q["close_children"], ids),
        (_Q["refer"], {"known": orjson.dumps(known).decode()}),
        (_Q["open"], ids),
        (_Q["made"], ids),
    )
    for row in made:
        await openings.lead_too(connection, row["id"], row["led_by"], row["made_by"])


async def _update(connection: Connection, lines: Sequence[dict[str, Any]]) -> None:
    """Give lines in force other options; what is below a space is kept where it still counts."""
    [_, closed] = await together(
        connection,
        _put([line for line in lines if line["children"]]),
        _put([line for line in lines if not line["children"]]),
    )
    await connection.execute_fetchall(_Q["close_children"], {"ids": _ids(closed)})


def _put(lines: Sequence[dict[str, Any]]) -> Statement:
    """Return what stores lines, and returns their ids."""
    return _Q["put"], {"lines": orjson.dumps(lines).decode()}


def _ids(rows: Sequence[DatabaseRow]) -> str:
    return orjson.dumps([row["id"] for row in rows]).decode()


async def _drop(connection: Connection, ids: Sequence[int]) -> None:
    await connection.execute_fetchall(_Q["drop"], {"ids": orjson.dumps(ids).decode()})


async def _overrule(connection: Connection) -> None:
    """Let the configuration win where both say something of the same group and room.

    Where it no longer does, the console's counts once its maker was asked for.
    """
    found = await connection.execute_fetchall(
        "SELECT c.id, c.standing = 'overruled' AS was, m.id IS NOT NULL AS wins FROM mapping c"
        " LEFT JOIN mapping m ON m.origin = 'configuration' AND m.kind = c.kind"
        " AND m.pattern = c.pattern AND m.reference = c.reference AND m.standing <> 'dropped'"
        " WHERE c.origin = 'console' AND c.standing <> 'dropped'"
    )
    for row in found:
        if row["was"] != row["wins"]:
            await connection.execute_fetchall(
                "UPDATE mapping SET standing = :standing, reason = :reason, cure = NULL,"
                " unsettled = TRUE WHERE id = :id",
                {
                    "id": row["id"],
                    "standing": "overruled" if row["wins"] else "suspended",
                    "reason": None if row["wins"] else "its maker has not been asked for yet",
                },
            )


async def _put_templates(connection: Connection, mappings: Sequence[Mapping]) -> None:
    templates = {m.room: orjson.dumps(m.create).decode() for m in mappings if m.create is not None}
    found = await connection.execute_fetchall(
        "SELECT reference, template FROM room_reference WHERE template IS NOT NULL"
    )
    present = {row["reference"]: row["template"] for row in found}
    if present != templates:
        await connection.execute_fetchall("UPDATE room_reference SET template = NULL")
        await connection.executemany(
            "UPDATE room_reference SET template = :template WHERE reference = :name",
            [{"name": name, "template": template} for name, template in templates.items()],
        )


# -- The console's -------------------------------------------------------------


async def add(connection: Connection, mapping: Mapping, made_by: str, alias: str | None) -> bool:
    """Keep a mapping made in the console; False where one of the same group and room is there.

    `mapping.room` is a room ID, `alias` what its maker called it.
    """
    values = _row(mapping)
    found = await connection.execute_fetchall(
        "SELECT 1 FROM mapping WHERE origin = 'console' AND kind = :kind AND pattern = :pattern"
        " AND reference = :reference AND standing <> 'dropped'",
        values,
    )
    if found:
        return False
    more = {"origin": "console", "made_by": made_by, "made_at": connection.at, "alias": alias}
    await _insert(connection, [{**values, **more}])
    await _overrule(connection)
    await grants.settle_map(connection)
    return True


async def remove(connection: Connection, mapping_id: int) -> list[tuple[str, int]] | None:
    """Drop a mapping made in the console; None where there is none.

    Returns the (room ID, account) pairs that it granted and that were forgotten for it.
    """
    given = await connection.execute_fetchall(
        "SELECT o.room_id, g.account_id FROM mapping m"
        " JOIN opening o ON o.mapping_id = m.id AND o.standing = 'followed'"
        " JOIN mapping_grant g ON g.mapping_id = m.id AND g.state = 'granted'"
        " WHERE m.id = :id AND m.origin = 'console' AND m.standing <> 'dropped'",
        {"id": mapping_id},
    )
    made_here = await connection.execute_fetchall(
        "SELECT 1 FROM mapping WHERE id = :id AND origin = 'console' AND standing <> 'dropped'",
        {"id": mapping_id},
    )
    if not made_here:
        return None
    await _drop(connection, [mapping_id])
    await grants.settle_map(connection)
    await grants.end_dropped(connection)
    return [(row["room_id"], row["account_id"]) for row in given]
