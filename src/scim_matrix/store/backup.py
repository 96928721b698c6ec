"""A consistent copy of a live database, and back (SQLite's online backup)."""

import contextlib
import os
import sqlite3
from pathlib import Path

from scim_matrix.store.migrations import load
from scim_matrix.store.sqlite import DATABASE_NAME

# Pages copied at a time; between them a running service writes.
_PAGES = 1000


class BackupError(Exception):
    """A copy cannot be made or put back; the message says why."""


def backup(data_dir: Path, target: Path) -> None:
    """Copy the database to a new file that only its owner may read. Raises BackupError."""
    source = data_dir / DATABASE_NAME
    if not source.exists():
        raise BackupError(f"{source} does not exist")
    if target.exists():
        raise BackupError(f"{target} exists already")
    partial = target.with_name(f".{target.name}.partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with contextlib.closing(sqlite3.connect(partial)) as copy:
            with contextlib.closing(
                sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)
            ) as live:
                live.backup(copy, pages=_PAGES)
            copy.execute("PRAGMA journal_mode=DELETE")
            _check(copy)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.rename(target)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def restore(data_dir: Path, source: Path) -> None:
    """Replace the database by a copy. Raises BackupError, also while a service uses it."""
    target = data_dir / DATABASE_NAME
    try:
        with contextlib.closing(
            sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
        ) as copy:
            _check(copy)
            data_dir.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(target, timeout=1.0)) as database:
                _be_alone(database)
                copy.backup(database)
                _mark_as_restored(database)
    except (OSError, sqlite3.Error) as error:
        raise BackupError(f"{source}: {error}") from error


def _be_alone(database: sqlite3.Connection) -> None:
    """Take the database for this connection alone, which fails while any other has it open."""
    try:
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
        # In WAL mode readers do not hinder that, but they do hinder the end of WAL.
        [(mode,)] = database.execute("PRAGMA journal_mode=DELETE").fetchall()
        if mode != "delete":
            raise BackupError("the database is in use: stop the service first")
    except sqlite3.OperationalError as error:
        raise BackupError(f"the database is in use: stop the service first ({error})") from error


def _mark_as_restored(database: sqlite3.Connection) -> None:
    """Have the homeserver's number tell that this is a copy, however new it is.

    Nobody is signed in by it: they may have signed out since.
    """
    names = "SELECT name FROM sqlite_master WHERE type = 'table'"
    tables = {name for (name,) in database.execute(names)}
    if "installation" in tables:
        database.execute("UPDATE installation SET generation = 0")
    if "console_session" in tables:
        database.execute("DELETE FROM console_session")
    database.commit()


def _check(copy: sqlite3.Connection) -> None:
    [(verdict,)] = copy.execute("PRAGMA integrity_check(1)").fetchall()
    [(version,)] = copy.execute("PRAGMA user_version").fetchall()
    if verdict != "ok":
        raise BackupError(f"it is damaged: {verdict}")
    if not 1 <= version <= load()[-1][0]:
        raise BackupError(f"it is no database of this version of scim-matrix (schema {version})")
