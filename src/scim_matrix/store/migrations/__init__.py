"""Numbered schema migrations, applied in order at start: SQLite's, and PostgreSQL's below."""

from functools import cache
from importlib import resources


@cache
def load(folder: str = ".") -> tuple[tuple[int, str], ...]:
    """Return the migrations of a folder as (number, SQL), in order."""
    place = resources.files(__name__) / folder
    scripts = sorted(f.name for f in place.iterdir() if f.name.endswith(".sql"))
    return tuple((int(name.split("_")[0]), (place / name).read_text("utf-8")) for name in scripts)
