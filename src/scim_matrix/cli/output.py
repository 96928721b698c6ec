"""How commands print data: a table for people, JSON lines for programs."""

from collections.abc import Iterable, Mapping
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def show(rows: Iterable[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print rows: as JSON lines, or as a table that leaves out columns without any value."""
    found = list(rows)
    if as_json:
        for row in found:
            click.echo(orjson.dumps(row))
        return
    console = Console(soft_wrap=False)
    if not found:
        console.print(empty)
        return
    columns = [name for name in found[0] if any(row[name] not in (None, "", 0) for row in found)]
    table = Table(*columns)
    for row in found:
        table.add_row(*(Text("" if row[c] is None else str(row[c])) for c in columns))
    if not console.is_terminal:
        # Into a pipe nothing is cut off.
        console.width = 1000
    console.print(table)
