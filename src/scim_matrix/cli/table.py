"""Tables as wide as a terminal (pure): nothing that may have to be copied is cut or broken."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest

from rich.cells import cell_len, set_cell_size

# A row: the lines of each cell, by column.
Row = Mapping[str, Sequence[str]]

# What is read, and may be wrapped between words; everything else may have to be copied.
PROSE = frozenset(
    ("because", "cure", "detail", "found", "keys", "notice", "problem", "reason", "rooms")
)
# A command is copied as a whole.
_COMMAND = re.compile(r"`scim-matrix [^`]*`|scim-matrix (?:'[^']*'|[^,;'`])+")
_GAP = "  "


def laid_out(rows: Sequence[Row], width: int) -> Iterator[str]:
    """Return the lines of a table in so many columns of a terminal.

    Where it does not fit, the longest cells of each row stand below it. A piece that is longer
    than a line goes on beyond it.
    """
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    least = {name: _least(rows, name) for name in columns}
    below: list[str] = []
    while len(columns) > 1 and _total(least[name] for name in columns) > width:
        longest = max(columns, key=lambda name: (name in PROSE, least[name]))
        columns.remove(longest)
        below.append(longest)
    widths = _widths(rows, {name: least[name] for name in columns}, width)
    yield from _line([[name] for name in columns], widths.values())
    for row in rows:
        cells = [_wrapped_cell(row[name], name, widths[name]) for name in columns]
        yield from _line(cells, widths.values())
        yield from _below({name: row[name] for name in row if name in below}, width)


def wrapped(text: str, width: int) -> list[str]:
    """Return prose in lines of at most so many columns; words and commands are not broken."""
    lines = textwrap.wrap(
        _COMMAND.sub(lambda command: command[0].replace(" ", "\0"), text),
        max(1, width),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def _wrapped_cell(lines: Sequence[str], column: str, width: int) -> list[str]:
    if column not in PROSE:
        return list(lines)
    return [part for line in lines for part in wrapped(line, width)]


def _least(rows: Sequence[Row], column: str) -> int:
    """Return how wide a column has to be for nothing to be broken that must not be."""
    lines = {line for row in rows for line in row[column]}
    if column in PROSE:
        lines = {piece for line in lines for piece in wrapped(line, 1)}
    return max(map(cell_len, {column, *lines}))


def _total(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + len(_GAP) * (len(found) - 1)


def _widths(rows: Sequence[Row], least: Mapping[str, int], width: int) -> dict[str, int]:
    """Return how wide each column is: as its cells, less where prose may be wrapped."""
    widths = {
        name: max([least[name], *(cell_len(line) for row in rows for line in row[name])])
        for name in least
    }
    while _total(widths.values()) > width:
        widest = max(widths, key=lambda name: widths[name] - least[name])
        if widths[widest] == least[widest]:
            break
        widths[widest] -= 1
    return widths


def _line(cells: Sequence[Sequence[str]], widths: Iterable[int]) -> Iterator[str]:
    sizes = list(widths)
    for parts in zip_longest(*cells, fillvalue=""):
        padded = [
            set_cell_size(part, size) if cell_len(part) < size else part
            for part, size in zip(parts, sizes, strict=True)
        ]
        yield _GAP.join(padded).rstrip()


def _below(cells: Row, width: int) -> Iterator[str]:
    """Return the lines of cells that stand below their row, each behind its column's name."""
    indent = max(map(len, cells), default=0) + 2 * len(_GAP)
    for name, lines in cells.items():
        label = f"{_GAP}{name}".ljust(indent)
        for part in _wrapped_cell(lines, name, width - indent):
            yield label + part
            label = " " * indent
