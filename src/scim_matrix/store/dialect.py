"""SQL as every database of ours takes it: what each calls otherwise has a name of its own here.

Statements stand in what SQLite and PostgreSQL have in common: `:name` for values, IS [NOT] DISTINCT
FROM, ON CONFLICT, conditions that are TRUE or FALSE, `->>` with a plain key, times as values. For
the rest they name these functions, and a database's dialect says what it has in place of each:

| function | what it is |
|---|---|
| `each_text(list)`, `each_number(list)` | a table of what a JSON list holds: `value` |
| `each_entry(document, path)` | of a list in a document (else the whole): `key`, `value`, `atom` |
| `each_value(document, path)` | of all that stands anywhere below: `atom` |
| `text_at(document, path)` | the text at a path |
| `list_of(value)`, `comma_list(DISTINCT text)` | what a group has, as JSON and as text |
| `object_of(key, value, …)`, `without_nulls(document)` | a JSON object; what is NULL left out |
| `matches(pattern, text)` | whether a text is as a pattern with `*`, `?` and `[…]` says |
| `place_in(text, part)` | where a part begins in a text, from 1 on; 0 where it is not there |
| `seconds_now()` | the time by the database's clock (seconds since the epoch) |
| `hint(condition)` | what follows from the other conditions, and leads SQLite to an index |

`folded(text)` and `composed(text)` are the functions of `store/text.py`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

Values = Sequence[object] | Mapping[str, object]
Statement = tuple[str, Values]


class DatabaseRow(Protocol):
    """A row that a statement returned: its values in order, and by their names."""

    def __getitem__(self, key: int | str, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def keys(self) -> list[str]:
        """Return the names in order."""


class Driver(Protocol):
    """A connection to a database. Whatever fails raises a DatabaseError."""

    async def fetch(self, sql: str, values: Values = ()) -> list[DatabaseRow]:
        """Run one statement and return its rows."""

    async def fetch_together(self, statements: Sequence[Statement]) -> list[list[DatabaseRow]]:
        """Run statements one after the other and return the rows of each."""

    async def run_many(self, sql: str, values: Iterable[Values]) -> None:
        """Run one statement for each of several sets of values."""

    async def begin(self, savepoint: str) -> None:
        """Begin a transaction that may write, and a savepoint in it."""

    async def end(self, release: str) -> None:
        """Release the last savepoint, and make durable what the transaction did."""

    async def rollback(self) -> None:
        """Undo the transaction, where there is one."""

    async def survey(self) -> None:
        """Have the database learn anew how much there is of what, as it plans by that."""

    async def damage(self) -> str | None:
        """Return what is damaged, None where all is sound."""

    async def close(self) -> None:
        """Close the connection."""


class Dialect:
    """What a database has in place of the functions that statements name: how each call begins."""

    def __init__(self, calls: Mapping[str, str]) -> None:
        self.calls = calls
        self._named = re.compile(rf"\b({'|'.join(calls)})\(")
        self.written = lru_cache(maxsize=1000)(self._written)

    def _written(self, sql: str) -> str:
        """Return a statement as the database takes it."""
        return self._named.sub(lambda call: self.calls[call[1]], sql)


SQLITE = Dialect(
    {
        "each_text": "json_each(",
        "each_number": "json_each(",
        "each_entry": "json_each(",
        "each_value": "json_tree(",
        "text_at": "json_extract(",
        "list_of": "json_group_array(",
        "comma_list": "group_concat(",
        "object_of": "json_object(",
        "without_nulls": "json_patch('{}', ",
        "matches": "glob(",
        "place_in": "instr(",
        "seconds_now": "((julianday('now') - 2440587.5) * 86400.0",
        "hint": "(",
    }
)
# The others are functions of its schema. A hint would be one join more to its planner, which begins
# with that: of scratch tables it knows nothing.
POSTGRESQL = Dialect(
    {"list_of": "json_agg(", "object_of": "json_build_object(", "hint": "(TRUE OR "}
)
