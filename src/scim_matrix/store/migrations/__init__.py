"""Numbered schema migrations, applied in order at start: SQLite's, and PostgreSQL's below."""

from functools import cache
from importlib import resources

from scim_matrix.store.errors import DatabaseTooNewError, DatabaseUnusableError


@cache
def load(folder: str = ".") -> tuple[tuple[int, str], ...]:
    """Return the migrations of a folder as (number, SQL), in order."""
    place = resources.files(__name__) / folder
    scripts = sorted(f.name for f in place.iterdir() if f.name.endswith(".sql"))
    return tuple((int(name.split("_")[0]), (place / name).read_text("utf-8")) for name in scripts)


def missing(name: str, version: int, folder: str = ".") -> list[tuple[int, str]]:
    """Return which of a folder's migrations a database of a schema version has not had yet.

    `name` tells people which database it is. Raises DatabaseTooNewError.
    """
    known = load(folder)
    if version > known[-1][0]:
        raise DatabaseTooNewError(
            f"{name} has schema version {version}, this version of scim-matrix knows up to"
            f" {known[-1][0]}: run the newer version, or restore an older backup"
        )
    return [(number, script) for number, script in known if number > version]


def check(name: str, version: int, folder: str = ".") -> None:
    """Refuse a schema version that is not this service's own. Raises DatabaseError."""
    if missing(name, version, folder):
        raise DatabaseUnusableError(
            f"{name} has schema version {version}, this version of scim-matrix needs"
            f" {load(folder)[-1][0]}: start the service first"
        )
