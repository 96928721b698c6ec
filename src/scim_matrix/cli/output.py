"""How commands read times and names, and print data: tables for people, JSON for programs."""

import re
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import click
import orjson
from rich.console import Console

from scim_matrix.cli.table import laid_out
from scim_matrix.console.times import moment
from scim_matrix.writing import TURNING

Rows = list[dict[str, Any]]

# As wide as a pipe is taken to be.
PIPE = 1_000_000
_ROOM = ("room", "room_id", "name")

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


class Since(click.ParamType[float]):
    """A moment as people write it, in UTC unless it says: see console/times.py."""

    name = "time"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Return seconds since the epoch."""
        try:
            return moment(str(value), time.time())
        except ValueError as error:
            self.fail(str(error), parameter, context)


# Control characters (C0, C1), line separators, what turns the direction of writing, surrogates.
_UNSAFE = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029{TURNING}\ud800-\udfff]")


def visible(text: str) -> str:
    """Return a text whose control characters a terminal shows instead of obeying them."""
    return _UNSAFE.sub(lambda c: c[0].encode("unicode_escape").decode(), text)


def json_line(value: Any) -> str:
    """Return a value as JSON in one line that is safe on a terminal as well."""
    text = orjson.dumps(value).decode()
    # orjson escapes C0 by itself; the others are only ever inside strings.
    return _UNSAFE.sub(lambda c: f"\\u{ord(c[0]):04x}", text)


def with_names(rows: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> Rows:
    """Return rows about rooms with what each room is called (None: it has no name)."""
    return [{**row, "name": names.get(row.get("room_id") or row.get("room") or "")} for row in rows]


def show(
    rows: Iterable[Mapping[str, Any]],
    *,
    as_json: bool,
    empty: str,
    leave_out: Collection[str] = (),
) -> None:
    """Print rows: as JSON lines, or as a table that leaves out columns without any value.

    Columns in `leave_out` say nothing to people. Rows of `with_names` show a room's name first
    and its ID below it.
    """
    found = list(rows)
    if as_json:
        for row in found:
            click.echo(json_line(row))
        return
    if not found:
        click.echo(empty)
        return
    console = Console()
    # Into a pipe every row is one line.
    width, joint = (console.width, "\n") if console.is_terminal else (PIPE, " ")
    for line in laid_out([_cells(row, leave_out, joint) for row in found], width):
        click.echo(line)


def _cells(row: Mapping[str, Any], leave_out: Collection[str], joint: str) -> dict[str, list[str]]:
    """Return the lines of each cell of a row; a room's name and ID are one cell."""
    cells: dict[str, list[str]] = {}
    for column, value in row.items():
        if column in leave_out or (column in _ROOM and "room" in cells):
            continue
        if column in _ROOM and "name" in row:
            cells |= _room(row)
        else:
            cells[column] = _lines(value)
    return {column: joint.join(lines).splitlines() for column, lines in cells.items()}


def _room(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the cell of a room, and of what the map calls the space that it is opened with."""
    reference = row.get("room")
    room_id = row.get("room_id") or reference
    title = row["name"] or reference or room_id
    space = [] if reference in (None, title, room_id) else _lines(reference)
    cell = [visible(str(line)) for line in dict.fromkeys((title, room_id)) if line]
    return {"room": cell, "space": space}


def _lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return [visible(str(line)) for line in value]
    if value in (None, "", 0):
        return []
    return ["yes" if value is True else visible(str(value))]
