"""The database file: durable, migrated, refused when newer, never held up by a writer."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from scim_matrix.store.database import (
    DATABASE_NAME,
    Database,
    DatabaseTooNewError,
    DatabaseUnusableError,
    migrations,
)


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    """A database of a newer version is left as it is, with a sentence that says what to do."""
    await (await Database.open(tmp_path)).close()
    with sqlite3.connect(tmp_path / DATABASE_NAME) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    with pytest.raises(DatabaseTooNewError, match="run the newer version"):
        await Database.open(tmp_path)


async def test_what_is_not_a_database_is_refused(tmp_path: Path) -> None:
    """A file that is something else is named, not overwritten."""
    (tmp_path / DATABASE_NAME).write_bytes(b"not a database" * 1000)
    with pytest.raises(DatabaseUnusableError, match=DATABASE_NAME):
        await Database.open(tmp_path)
    assert (tmp_path / DATABASE_NAME).read_bytes().startswith(b"not a database")


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A DATA_DIR that cannot be used is an error at start that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnusableError, match="file"):
        await Database.open(tmp_path / "file" / "data")


async def test_settings_that_make_commits_durable(database: Database) -> None:
    """WAL, synchronous=FULL and foreign keys are on for the writer."""
    async with database.write() as connection:
        for pragma, expected in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            [(value,)] = await connection.execute_fetchall(f"PRAGMA {pragma}")
            assert expected == value


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    """A read is answered while a transaction is open, with the last committed state."""
    insert = "INSERT INTO room (reference) VALUES ('!a')"
    async with database.write() as connection:
        await connection.execute_fetchall(insert)
        [(before,)] = await database.reader.execute_fetchall("SELECT count(*) FROM room")
    [(after,)] = await database.reader.execute_fetchall("SELECT count(*) FROM room")
    assert (before, after) == (0, 1)


async def test_a_cancelled_transaction_leaves_nothing(database: Database) -> None:
    """Cancellation rolls back before anyone else writes, and the writer goes on working."""
    inside = asyncio.Event()

    async def write_and_hang() -> None:
        async with database.write() as connection:
            await connection.execute_fetchall("INSERT INTO room (reference) VALUES ('!a')")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_and_hang())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.write() as connection:
        await connection.execute_fetchall("INSERT INTO room (reference) VALUES ('!b')")
    rows = await database.reader.execute_fetchall("SELECT reference FROM room")
    assert [tuple(row) for row in rows] == [("!b",)]


def test_migrations_are_numbered_without_gaps() -> None:
    """The schema version counts the migrations."""
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))
