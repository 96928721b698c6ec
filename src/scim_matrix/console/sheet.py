"""Tables as CSV that a spreadsheet takes for text (OWASP, CSV Injection)."""

import csv
import io
from collections.abc import Iterable, Sequence

# Whatever makes a spreadsheet take a cell for a formula, in any width.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def cell(text: str) -> str:
    """Return a text that no spreadsheet evaluates: one like a formula gets a quote in front."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def to_csv(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV; every cell is quoted, whatever the spreadsheet separates by."""
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows(map(cell, row) for row in rows)
    return file.getvalue()
