"""SCIM users and groups as rows: written with their consequences, read by page."""

import datetime
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

from scim_matrix.store import grants, group_names
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow, Statement
from scim_matrix.store.text import composed, folded

Kind = Literal["User", "Group"]
Op = Literal["add", "remove", "replace", "display"]
TABLE: dict[Kind, str] = {"User": "scim_user", "Group": "scim_group"}
# Of an entry in `members` or `groups`.
ENTRY_PARTS = ("value", "display", "type", "$ref")
_COLUMNS = "id, document, created, last_modified, version"


class NoSuchResourceError(LookupError):
    """No resource of this type has this id."""


class TakenError(ValueError):
    """Another resource holds a value that must be unique; the message names the attribute."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stored resource: the SCIM attributes without id, meta and members, and its meta data."""

    kind: Kind
    id: str
    document: dict[str, Any]
    created: str
    last_modified: str
    version: int


def _now() -> str:
    # Always with microseconds: as text, times then sort as times.
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _row(kind: Kind, found: DatabaseRow) -> Row:
    return Row(
        kind,
        found["id"],
        orjson.loads(found["document"]),
        found["created"],
        found["last_modified"],
        found["version"],
    )


async def get(connection: Connection, kind: Kind, resource_id: str) -> Row:
    """Return one resource. Raises NoSuchResourceError."""
    found = list(
        await connection.execute_fetchall(
            f"SELECT {_COLUMNS} FROM {TABLE[kind]} WHERE id = :id", {"id": resource_id}
        )
    )
    if not found:
        raise NoSuchResourceError(f"{kind} {resource_id!r} not found")
    return _row(kind, found[0])


async def rows_by_seq(connection: Connection, kind: Kind, seqs: Sequence[int]) -> dict[int, Row]:
    """Return resources by their place in the order of creation."""
    found = await connection.execute_fetchall(
        f"SELECT {_COLUMNS}, seq FROM {TABLE[kind]}"
        " WHERE seq IN (SELECT value FROM each_number(:seqs))",
        {"seqs": orjson.dumps(seqs).decode()},
    )
    return {row["seq"]: _row(kind, row) for row in found}


def _external_id(document: dict[str, Any]) -> str | None:
    external_id = document.get("externalId")
    return None if external_id is None else composed(external_id)


def _user_values(document: dict[str, Any]) -> dict[str, Any]:
    display_name = document.get("displayName")
    return {
        "user_name_key": folded(document["userName"]),
        "external_id": _external_id(document),
        "active": document.get("active", True),
        "display_name_key": None if display_name is None else folded(display_name),
        "document": orjson.dumps(document).decode(),
    }


def _group_values(document: dict[str, Any]) -> dict[str, Any]:
    return {
        "external_id": _external_id(document),
        "display_name": document["displayName"],
        "display_name_key": folded(document["displayName"]),
        "document": orjson.dumps(document).decode(),
    }


# Besides the id: the column, and the attribute that it holds.
_UNIQUE: dict[Kind, tuple[str, str]] = {
    "User": ("user_name_key", "userName"),
    "Group": ("external_id", "externalId"),
}


def _values(kind: Kind, document: dict[str, Any]) -> dict[str, Any]:
    """Return what stands in the columns that a document decides."""
    return _user_values(document) if kind == "User" else _group_values(document)


async def _taken(
    connection: Connection, kind: Kind, resource_id: str, document: dict[str, Any]
) -> TakenError:
    """Return the error that names the attribute whose value another resource has."""
    column, attribute = _UNIQUE[kind]
    others = await connection.execute_fetchall(
        f"SELECT 1 FROM {TABLE[kind]} WHERE {column} = :value AND id <> :id",
        {"value": _values(kind, document)[column], "id": resource_id},
    )
    return TakenError(f"{attribute if others else 'id'}: another {kind} already has this value")


async def create(
    connection: Connection,
    kind: Kind,
    document: dict[str, Any],
    resource_id: str | None = None,
) -> Row:
    """Store a new resource, under a new id unless one is given, and return it. Raises TakenError.

    Groups that already listed the id as a member cannot exist, since ids are ours; a group
    keyed in the map is settled by the caller's member change.
    """
    values = _values(kind, document)
    now = _now()
    row = Row(kind, resource_id or str(uuid.uuid4()), document, now, now, 1)
    made = await connection.execute_fetchall(
        f"INSERT INTO {TABLE[kind]} (id, created, last_modified, {', '.join(values)})"
        f" VALUES (:id, :now, :now, {', '.join(f':{column}' for column in values)})"
        " ON CONFLICT DO NOTHING RETURNING 1",
        {**values, "id": row.id, "now": now},
    )
    if not made:
        raise await _taken(connection, kind, row.id, document)
    return row


async def update(
    connection: Connection, kind: Kind, resource_id: str, document: dict[str, Any]
) -> Row:
    """Replace a stored resource's attributes and count its version up.

    Raises NoSuchResourceError or TakenError. Whom it affects is settled in the same transaction.
    """
    await grants.settle_first(connection, [resource_id])
    values = _values(kind, document)
    former = await _name(connection, resource_id) if kind == "Group" else None
    assignments = ", ".join(f"{column} = :{column}" for column in values)
    unique, _ = _UNIQUE[kind]
    # Asked for within the statement: after an error PostgreSQL answers nothing more in this block.
    updated = await connection.execute_fetchall(
        f"UPDATE {TABLE[kind]} SET last_modified = :now, version = version + 1, {assignments}"
        f" WHERE id = :id AND NOT EXISTS (SELECT 1 FROM {TABLE[kind]} o"
        f" WHERE o.{unique} = :{unique} AND o.id <> :id) RETURNING {_COLUMNS}",
        {**values, "id": resource_id, "now": _now()},
    )
    if not updated:
        if await connection.execute_fetchall(
            f"SELECT 1 FROM {TABLE[kind]} WHERE id = :id", {"id": resource_id}
        ):
            raise await _taken(connection, kind, resource_id, document)
        raise NoSuchResourceError(f"{kind} {resource_id!r} not found")
    if former is not None and former != document["displayName"]:
        await group_names.renamed(connection, resource_id, former, document["displayName"])
    await grants.settle(connection, [resource_id])
    return _row(kind, updated[0])


async def _name(connection: Connection, group_id: str) -> str | None:
    found = await connection.execute_fetchall(
        "SELECT display_name FROM scim_group WHERE id = :id", {"id": group_id}
    )
    return found[0]["display_name"] if found else None


def _bumping(kind: Kind, resource_id: str) -> Statement:
    """Return the statement that counts a version up after a change outside the document."""
    return (
        f"UPDATE {TABLE[kind]} SET last_modified = :now, version = version + 1 WHERE id = :id",
        {"id": resource_id, "now": _now()},
    )


async def delete(connection: Connection, kind: Kind, resource_id: str) -> None:
    """Delete a resource; what it granted ends. Raises NoSuchResourceError."""
    former = await _name(connection, resource_id) if kind == "Group" else None
    _, deleted, *_ = await together(
        connection,
        grants.touching([resource_id]),
        (f"DELETE FROM {TABLE[kind]} WHERE id = :id RETURNING id", {"id": resource_id}),
        ("DELETE FROM group_member WHERE value = :id", {"id": resource_id}),
    )
    if not deleted:
        raise NoSuchResourceError(f"{kind} {resource_id!r} not found")
    if former is not None:
        await group_names.deleted(connection, resource_id, former)
    await grants.settle(connection)


# -- Members ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemberChange:
    """One step of changing a group's members.

    `members` is JSON text, a list of objects with `value` (the id of a user or group) and
    maybe `display`; `display` as an operation changes only that.
    """

    op: Op
    members: str


_SENT = (
    "SELECT e.value ->> 'value' AS value, e.value ->> 'display' AS display FROM each_entry(:sent) e"
)


async def change_members(
    connection: Connection, group_id: str, changes: Sequence[MemberChange]
) -> bool:
    """Apply member changes in order; return whether anything changed.

    The cost follows the number of members sent and changed, not the size of the group.
    """
    if await grants.is_left(connection):
        named = [entry["value"] for change in changes for entry in orjson.loads(change.members)]
        whole = [group_id] if any(change.op == "replace" for change in changes) else []
        await grants.settle_first(connection, [*whole, *named])
    changed = False
    for change in changes:
        sent = change.members
        if change.op == "replace":
            changed |= await _cut(connection, group_id, _NOT_SENT, sent)
        if change.op == "remove":
            changed |= await _cut(connection, group_id, _AMONG_SENT, sent)
        elif change.op == "display":
            changed |= await _rename(connection, group_id, sent)
        else:
            changed |= await _add(connection, group_id, sent)
    if changed:
        await grants.settle(connection, first=[_bumping("Group", group_id)])
    return changed


_NOT_SENT = f"value NOT IN (SELECT value FROM ({_SENT}) s)"
_AMONG_SENT = f"value IN (SELECT value FROM ({_SENT}) s)"


async def _rename(connection: Connection, group_id: str, sent: str) -> bool:
    renamed = await connection.execute_fetchall(
        f"UPDATE group_member SET display = s.display FROM ({_SENT}) s"
        " WHERE group_id = :group_id AND group_member.value = s.value"
        " AND group_member.display IS DISTINCT FROM s.display RETURNING 1",
        {"group_id": group_id, "sent": sent},
    )
    return bool(renamed)


async def _cut(connection: Connection, group_id: str, which: str, sent: str) -> bool:
    gone = await connection.execute_fetchall(
        f"DELETE FROM group_member WHERE group_id = :group_id AND {which} RETURNING value",
        {"group_id": group_id, "sent": sent},
    )
    if gone:
        await together(connection, grants.touching(value for (value,) in gone))
    return bool(gone)


async def _add(connection: Connection, group_id: str, sent: str) -> bool:
    new = await connection.execute_fetchall(
        f"INSERT INTO group_member (group_id, value, display)"
        f" SELECT :group_id, value, max(display) FROM ({_SENT}) s WHERE TRUE GROUP BY value"
        f" ON CONFLICT (group_id, value) DO UPDATE SET display = excluded.display"
        f" WHERE excluded.display IS NOT NULL"
        f" AND group_member.display IS DISTINCT FROM excluded.display RETURNING value",
        {"group_id": group_id, "sent": sent},
    )
    if new:
        await together(connection, grants.touching(value for (value,) in new))
    return bool(new)


async def members(
    connection: Connection, groups: Sequence[str], parts: Sequence[str], base_url: str
) -> dict[str, str]:
    """Return the members of each group that has any, as JSON text.

    `parts` are the sub-attributes wanted; `type` and `$ref` are known once the member exists.
    """
    found = await connection.execute_fetchall(
        f"SELECT m.group_id, list_of(without_nulls({_object(parts, 'm.resource')}))"
        " FROM (SELECT gm.group_id, gm.value, gm.display, CAST(:base AS TEXT) AS base,"
        " CASE WHEN u.id IS NOT NULL THEN 'User' WHEN g.id IS NOT NULL THEN 'Group' END AS resource"
        " FROM group_member gm LEFT JOIN scim_user u ON u.id = gm.value"
        " LEFT JOIN scim_group g ON g.id = gm.value"
        " WHERE gm.group_id IN (SELECT value FROM each_text(:groups))"
        " ORDER BY gm.group_id, gm.value) m GROUP BY m.group_id",
        {"groups": orjson.dumps(groups).decode(), "base": base_url},
    )
    return dict(cast("Iterable[tuple[str, str]]", found))


async def groups(
    connection: Connection, users: Sequence[str], parts: Sequence[str], base_url: str
) -> dict[str, str]:
    """Return the groups of each user that is in any, directly or through others, as JSON text."""
    found = await connection.execute_fetchall(
        f"""WITH RECURSIVE above (user_id, group_id, direct) AS (
            SELECT gm.value, gm.group_id, 1 FROM each_text(:users) u CROSS JOIN group_member gm
            WHERE gm.value = u.value
            UNION SELECT above.user_id, gm.group_id, 0 FROM above CROSS JOIN group_member gm
            WHERE gm.value = above.group_id)
        SELECT m.user_id, list_of(without_nulls({_object(parts, "m.kind")}))
        FROM (SELECT above.user_id, g.id AS value, g.display_name AS display,
                CAST(:base AS TEXT) AS base, 'Group' AS resource,
                CASE WHEN max(above.direct) = 1 THEN 'direct' ELSE 'indirect' END AS kind
            FROM above JOIN scim_group g ON g.id = above.group_id
            GROUP BY above.user_id, g.seq ORDER BY above.user_id, g.seq) m
        GROUP BY m.user_id""",
        {"users": orjson.dumps(users).decode(), "base": base_url},
    )
    return dict(cast("Iterable[tuple[str, str]]", found))


def _object(parts: Sequence[str], kind: str) -> str:
    columns = {
        "value": "m.value",
        "display": "m.display",
        "type": kind,
        "$ref": "m.base || '/' || m.resource || 's/' || m.value",
    }
    return "object_of(" + ", ".join(f"'{part}', {columns[part]}" for part in parts) + ")"
