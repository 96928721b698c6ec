"""A whole SQLite database into PostgreSQL: in one transaction, compared before it is committed."""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from scim_matrix.store import sqlite
from scim_matrix.store.errors import DatabaseError, DatabaseUnusableError, LimitExceededError
from scim_matrix.store.occupancy import occupying
from scim_matrix.store.postgresql import Postgresql
from scim_matrix.store.postgresql_opening import filling
from scim_matrix.store.sqlite import DATABASE_NAME, Sqlite
from scim_matrix.store.text import MOST_INDEXED, storable

# Rows that are in memory at a time.
_BATCH = 2000

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
_COLUMNS = """
SELECT column_name AS name, data_type AS kind, is_generated = 'ALWAYS' AS computed,
    is_identity = 'YES' AS numbered, EXISTS (SELECT 1 FROM pg_index i JOIN pg_attribute a
        ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
        WHERE i.indrelid = table_name::regclass AND a.attname = column_name) AS indexed
FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = :name
ORDER BY ordinal_position
"""
# What the identity provider calls what stands in an index, and whose it may be.
_ATTRIBUTES = {
    "user_name_key": "userName",
    "external_id": "externalId",
    "display_name_key": "displayName",
    "value_key": "an e-mail address",
    "value": "a member",
}
_WHOSE = ("id", "user_id", "group_id", "room_id")
_REFERENCES = """
SELECT conrelid::regclass::text AS name, confrelid::regclass::text AS parent
FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace
"""
# A number is given once only, though its row may be gone.
_GO_ON = "SELECT setval(pg_get_serial_sequence(:name, :column), :last)"


@dataclass(frozen=True)
class Copied:
    """A table that was copied, how many rows it has, and in how many a text had to be changed."""

    name: str
    rows: int
    changed: int


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str
    computed: bool
    numbered: bool
    indexed: bool


@dataclass(frozen=True)
class _Table:
    name: str
    columns: Sequence[_Column]

    @property
    def selected(self) -> str:
        return f"SELECT {', '.join(column.name for column in self.columns)} FROM {self.name}"

    def taken(self, row: Sequence[Any]) -> tuple[object, ...]:
        """Return a row as PostgreSQL has it. Raises DatabaseError."""
        pairs = zip(self.columns, row, strict=True)
        return tuple(self._taken(column, value) for column, value in pairs)

    def _taken(self, column: _Column, value: Any) -> object:
        match column.kind, value:
            case _, None:
                return None
            case "boolean", 0 | 1:
                return bool(value)
            case "bigint", int():
                return value
            case "double precision", int() | float():
                return float(value)
            case (("text" | "json"), str()):
                return storable(value)
        raise DatabaseError(f"{self.name}.{column.name} holds what is no {column.kind}")


@dataclass
class _Digest:
    """What a number of rows hold, in whichever order they come."""

    rows: int = 0
    total: int = 0

    def add(self, row: tuple[object, ...]) -> None:
        """Count a row in."""
        self.rows += 1
        told = hashlib.blake2b(repr(row).encode(), digest_size=16).digest()
        # A sum, in which two equal rows do not cancel each other out.
        self.total += int.from_bytes(told)


async def transfer(
    data_dir: Path, url: SecretStr, tell: Callable[[Copied], None] = lambda _: None
) -> list[Copied]:
    """Copy the database of a folder into one of PostgreSQL that holds no table, wholly or not.

    The folder's is brought up to date first, and kept from services and from all who would write
    meanwhile; it stays as it is. `tell` hears of each table once it is there and compared. Raises
    DatabaseError, OccupiedError where a service runs on the folder.
    """
    path = data_dir / DATABASE_NAME
    if not path.exists():
        raise DatabaseUnusableError(f"{path} does not exist")
    with occupying(data_dir, "migrate-store"):
        async with filling(url) as target:
            source = await sqlite.open_writer(data_dir)
            try:
                return await _copy_all(source, target, tell)
            finally:
                await source.close()


async def _copy_all(
    source: Sqlite, target: Postgresql, tell: Callable[[Copied], None]
) -> list[Copied]:
    if (damage := await source.damage()) is not None:
        raise DatabaseUnusableError(f"{source.path} is damaged: {damage}")
    source.row_factory = None
    # What is no UTF-8 becomes lone surrogates, which are not storable.
    source.text_factory = lambda found: found.decode("utf-8", "surrogateescape")
    await source.begin("SAVEPOINT transfer")
    copied = []
    for table in await _tables(source, target):
        copied.append(await _copy(source, target, table))
        tell(copied[-1])
    await source.rollback()
    return copied


async def _tables(source: Sqlite, target: Postgresql) -> list[_Table]:
    """Return the tables of the schema, those before others that the others refer to.

    What else is in the file, as replication tools have it there, is not ours.
    """
    columns = {name: await _columns(target, name) for (name,) in await source.fetch(_TABLES)}
    parents: dict[str, set[str]] = {name: set() for name, found in columns.items() if found}
    for row in await target.fetch(_REFERENCES):
        parents[row["name"]].add(row["parent"])
    return [_Table(name, columns[name]) for name in TopologicalSorter(parents).static_order()]


async def _columns(target: Postgresql, name: str) -> list[_Column]:
    return [_Column(*row) for row in await target.fetch(_COLUMNS, {"name": name})]


async def _copy(source: Sqlite, target: Postgresql, table: _Table) -> Copied:
    """Copy a table, and compare what is there then, computed columns included."""
    given = [number for number, column in enumerate(table.columns) if not column.computed]
    names = [table.columns[number].name for number in given]
    # What they would do has been done, and is copied too.
    await target.run(f"ALTER TABLE {table.name} DISABLE TRIGGER USER; DELETE FROM {table.name}")
    expected, changed = _Digest(), 0
    async with contextlib.aclosing(_batches(source, table)) as batches:
        async for batch in batches:
            rows = [table.taken(row) for row in batch]
            changed += sum(row != tuple(before) for row, before in zip(rows, batch, strict=True))
            for row in rows:
                expected.add(row)
            sent = [[row[number] for number in given] for row in rows]
            try:
                await target.copy(table.name, names, sent)
            except LimitExceededError as error:
                raise LimitExceededError(f"{_longest(table, rows)}: {error}") from error
    await _go_on(source, target, table)
    await target.run(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")
    if await _found(target, table) != expected:
        raise DatabaseError(f"{table.name} is not in {target.name} as it is in {source.path}")
    return Copied(table.name, expected.rows, changed)


def _longest(table: _Table, rows: Iterable[tuple[object, ...]]) -> str:
    """Return where the longest text stands that is indexed, and how long it is."""
    columns = [number for number, column in enumerate(table.columns) if column.indexed]
    size, row, number = max(
        ((len(str(row[number]).encode()), row, number) for row in rows for number in columns),
        key=lambda found: found[0],
    )
    names = [column.name for column in table.columns]
    attribute = _ATTRIBUTES.get(names[number], names[number])
    whose = [name for name in _WHOSE if name in names and name != names[number]]
    told = f" {whose[0]} {row[names.index(whose[0])]}" if whose else ""
    return f"{table.name}{told}: {attribute} has {size} bytes, more than {MOST_INDEXED}"


async def _batches(source: Sqlite, table: _Table) -> AsyncGenerator[list[Any], None]:
    async with source.execute(table.selected) as cursor:
        while batch := list(await cursor.fetchmany(_BATCH)):
            yield batch


async def _found(target: Postgresql, table: _Table) -> _Digest:
    found = _Digest()
    await target.run(f"DECLARE found NO SCROLL CURSOR FOR {table.selected}")
    while batch := await target.fetch(f"FETCH {_BATCH} FROM found"):
        for row in batch:
            found.add(tuple(row))
    await target.run("CLOSE found")
    return found


async def _go_on(source: Sqlite, target: Postgresql, table: _Table) -> None:
    """Have the numbers that the database gives go on after the highest one ever given."""
    for column in (column for column in table.columns if column.numbered):
        values = {"name": table.name, "column": column.name}
        [(last,)] = await source.fetch(
            "SELECT max(number) FROM (SELECT seq AS number FROM sqlite_sequence WHERE name = :name"
            f" UNION ALL SELECT max({column.name}) FROM {table.name})",
            values,
        )
        # None or 0 where there never was one.
        if last:
            await target.fetch(_GO_ON, {**values, "last": last})
