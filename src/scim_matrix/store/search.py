"""Searches: the page of a filtered and sorted collection, by index or by cursor (RFC 9865)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scim2_models import InvalidCursorException, Resource, SearchRequest

from scim_matrix.store import filters
from scim_matrix.store.database import Connection
from scim_matrix.store.resources import TABLE, Kind, Row, rows_by_seq

Models = Mapping[Kind, type[Resource[Any]]]

_RANK: dict[Kind, int] = {"User": 0, "Group": 1}
_KINDS: dict[int, Kind] = {rank: kind for kind, rank in _RANK.items()}


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a search; `next` and `previous` are cursor positions (RFC 9865)."""

    total: int
    rows: list[Row]
    next: dict[str, Any] | None = None
    previous: dict[str, Any] | None = None


async def search(
    connection: Connection,
    models: Models,
    request: SearchRequest[Any],
    position: Any = None,
) -> Found:
    """Return the page of `request` over the resource types of `models`, taken as one collection.

    Without a sort they come oldest first. `position` is one that an earlier page returned; it
    raises InvalidCursorException where it is not.
    """
    parts: list[str] = []
    values: dict[str, Any] = {}
    for kind, model in models.items():
        where = filters.where(kind, model, request.filter, values)
        parts.append(
            f"SELECT {_RANK[kind]} AS rank, r.seq, {filters.sort_key(kind, model, request)} AS k"
            f" FROM {TABLE[kind]} r WHERE {where}"
        )
    source = f"({' UNION ALL '.join(parts)}) found"
    [(total,)] = await connection.execute_fetchall(f"SELECT count(*) FROM {source}", values)
    descending = request.sort_order == SearchRequest.SortOrder.descending
    order = _Order(
        sorted_by_key=request.sort_by is not None,
        several=len(models) > 1,
        descending=descending and request.sort_by is not None,
    )
    if request.cursor is not None:
        return await _cursor_page(connection, source, values, order, request.count, total, position)
    keys = await connection.execute_fetchall(
        f"SELECT rank, seq, k FROM {source} ORDER BY {order.by()} LIMIT :limit OFFSET :offset",
        {
            **values,
            "limit": total if request.count is None else request.count,
            "offset": request.start_index_0 or 0,
        },
    )
    return Found(total, await _rows(connection, list(keys)))


async def members_selected(
    connection: Connection,
    model: type[Resource[Any]],
    group_id: str,
    expression: str,
    base_url: str,
) -> list[str]:
    """Return the ids of those members of a group whom a filter selects.

    `base_url` is what each `$ref` begins with. Raises as `filters.selecting_members`.
    """
    values = {"id": group_id, "base": base_url}
    query = filters.selecting_members(model, expression, values)
    return [row["value"] for row in await connection.execute_fetchall(query, values)]


@dataclass(frozen=True, slots=True)
class _Order:
    """The total order of a search: the sort key, then the order of creation."""

    sorted_by_key: bool
    several: bool
    descending: bool

    def _terms(self) -> list[str]:
        key = ["k IS NULL", "coalesce(k, '')"] if self.sorted_by_key else []
        return [*key, *(["rank"] if self.several else []), "seq"]

    def by(self, *, backwards: bool = False) -> str:
        """Return the terms of ORDER BY; `backwards` turns the order around."""
        way = " DESC" if self.descending != backwards else ""
        return ", ".join(f"{term}{way}" for term in self._terms())

    def beyond(self, row: Any, *, backwards: bool = False) -> tuple[str, dict[str, Any]]:
        """Return the condition for rows after a (rank, seq, key) row, or before it."""
        rank, seq, key = row
        values: dict[str, Any] = {}
        if self.sorted_by_key:
            values |= {"none": key is None, "key": "" if key is None else key}
        values |= {"rank": rank, "seq": seq} if self.several else {"seq": seq}
        sign = "<" if self.descending != backwards else ">"
        edge = ", ".join(f":{name}" for name in values)
        return f"({', '.join(self._terms())}) {sign} ({edge})", values


async def _cursor_page(
    connection: Connection,
    source: str,
    values: dict[str, Any],
    order: _Order,
    count: int | None,
    total: int,
    position: Any,
) -> Found:
    if count == 0:
        return Found(total, [])
    backwards, anchor = _read(position)
    beyond, bound = ("TRUE", {}) if anchor is None else order.beyond(anchor, backwards=backwards)
    keys = list(
        await connection.execute_fetchall(
            f"SELECT rank, seq, k FROM {source} WHERE {beyond}"
            f" ORDER BY {order.by(backwards=backwards)} LIMIT :limit",
            {**values, **bound, "limit": total if count is None else count},
        )
    )
    if backwards:
        keys.reverse()

    async def position_if_any(direction: str, edge: Any) -> dict[str, Any] | None:
        condition, bound = order.beyond(edge, backwards=direction == "previous")
        [(more,)] = await connection.execute_fetchall(
            f"SELECT EXISTS (SELECT 1 FROM {source} WHERE {condition})", {**values, **bound}
        )
        rank, seq, key = edge
        return {"d": direction, "r": rank, "s": seq, "k": key} if more else None

    return Found(
        total,
        await _rows(connection, keys),
        next=await position_if_any("next", keys[-1]) if keys else None,
        previous=await position_if_any("previous", keys[0]) if keys else None,
    )


def _read(position: Any) -> tuple[bool, tuple[int, int, Any] | None]:
    if position is None:
        return False, None
    try:
        return position["d"] == "previous", (position["r"], position["s"], position["k"])
    except (TypeError, KeyError):
        raise InvalidCursorException from None


async def _rows(connection: Connection, keys: list[Any]) -> list[Row]:
    found: dict[tuple[int, int], Row] = {}
    for rank, kind in _KINDS.items():
        if seqs := [seq for r, seq, _ in keys if r == rank]:
            rows = await rows_by_seq(connection, kind, seqs)
            found |= {(rank, seq): row for seq, row in rows.items()}
    return [found[rank, seq] for rank, seq, _ in keys if (rank, seq) in found]
