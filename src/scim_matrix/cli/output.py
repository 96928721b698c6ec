"""How commands read times and print data: a table for people, JSON lines for programs."""

import datetime
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scim_matrix.settings_values import seconds

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


class Since(click.ParamType[float]):
    """A moment: a date and time in UTC, or how long ago it was, such as 2h."""

    name = "time"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Return seconds since the epoch."""
        text = str(value)
        if re.fullmatch(r"\d+\s*[smhd]", text.strip().lower()):
            return time.time() - cast("int", seconds(text))
        found: datetime.datetime = click.DateTime().convert(text, parameter, context)
        return found.replace(tzinfo=datetime.UTC).timestamp()


# Control characters (C0, C1), line separators, what turns the direction of writing, surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """Return a text whose control characters a terminal shows instead of obeying them."""
    return _UNSAFE.sub(lambda c: c[0].encode("unicode_escape").decode(), text)


def json_line(value: Any) -> str:
    """Return a value as JSON in one line that is safe on a terminal as well."""
    text = orjson.dumps(value).decode()
    # orjson escapes C0 by itself; the others are only ever inside strings.
    return _UNSAFE.sub(lambda c: f"\\u{ord(c[0]):04x}", text)


def show(rows: Iterable[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print rows: as JSON lines, or as a table that leaves out columns without any value."""
    found = list(rows)
    if as_json:
        for row in found:
            click.echo(json_line(row))
        return
    console = Console(soft_wrap=False)
    if not found:
        console.print(empty)
        return
    columns = [name for name in found[0] if any(row[name] not in (None, "", 0) for row in found)]
    table = Table(*columns)
    for row in found:
        table.add_row(*(Text("" if row[c] is None else visible(str(row[c]))) for c in columns))
    if not console.is_terminal:
        # Into a pipe nothing is cut off.
        console.width = 1000
    console.print(table)
