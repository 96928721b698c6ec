"""The database file: durable, migrated, refused when newer, never held up by a writer."""

import asyncio
import os
import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest

from scim_matrix.store import resources
from scim_matrix.store.database import Connection, Database, Place, reading
from scim_matrix.store.errors import (
    DatabaseError,
    DatabaseTooNewError,
    DatabaseUnusableError,
)
from scim_matrix.store.migrations import load
from scim_matrix.store.occupancy import NAME as LOCK_NAME
from scim_matrix.store.occupancy import occupying
from scim_matrix.store.sqlite import DATABASE_NAME, Sqlite
from scim_matrix.store.text import folded
from tests.conftest import eventually
from tests.service.directory import Directory


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


async def use(folder: Path, first: str) -> None:
    """Use a folder by the lock on it, or by the database in it."""
    if first == "lock":
        with occupying(folder, "here"):
            return
    await (await Database.open(folder)).close()


FIRST_USE = pytest.mark.parametrize(
    ("first", "file"), [("lock", LOCK_NAME), ("database", DATABASE_NAME)], ids=["lock", "database"]
)


@FIRST_USE
async def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, first: str, file: str
) -> None:
    """A DATA_DIR that cannot be used is an error at start that names it, and what is wrong."""
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnusableError, match=rf"/file/data/{file}: .*Not a directory"):
        await use(tmp_path / "file" / "data", first)


@FIRST_USE
async def test_whoever_may_not_make_the_folder_is_told_who_may(
    tmp_path: Path, first: str, file: str
) -> None:
    """Its owner and what to type, where it is to be made in somebody else's."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    # Root may write everywhere, and others are told of what is their own.
    ours = os.geteuid()
    os.seteuid(ours or 10001)
    try:
        with pytest.raises(DatabaseUnusableError) as refused:
            await use(closed / "data", first)
    finally:
        os.seteuid(ours)
    told = str(refused.value)
    assert ("run it as root (sudo …)" if ours == 0 else f"chmod u+rwx {closed}") in told
    assert file not in told


@pytest.mark.skipif(os.geteuid() != 0, reason="folders are given to others by root only")
@pytest.mark.parametrize(
    ("owner", "cure"),
    [(10001, "chmod u+rwx {}"), (10002, "run it as user 10002 or root (sudo -u '#10002' …)")],
    ids=["ours", "another's"],
)
def test_whoever_may_not_write_is_told_what_opens_the_folder(owner: int, cure: str) -> None:
    """Its owner to give themselves leave, others to run it as its owner, by number if need be."""
    with tempfile.TemporaryDirectory() as closed:
        Path(closed).chmod(0o500)
        os.chown(closed, owner, -1)
        os.seteuid(10001)
        try:
            with (
                pytest.raises(DatabaseUnusableError) as refused,
                occupying(Path(closed) / "data", "here"),
            ):
                raise AssertionError("it was occupied")
        finally:
            os.seteuid(0)
    assert cure.format(closed) in str(refused.value)


async def test_a_folder_that_is_not_there_is_made_with_those_above(tmp_path: Path) -> None:
    """By whoever is first to use it: the lock on it, or the database."""
    for first in ("lock", "database"):
        folder = tmp_path / first / "below" / "data"
        if first == "lock":
            with occupying(folder, "here"):
                assert folder.is_dir()
        await (await Database.open(folder)).close()
        with occupying(folder, "here"):
            assert (folder / DATABASE_NAME).exists()


async def test_what_cannot_be_opened_is_let_go(tmp_path: Path) -> None:
    """Nothing of the database is in use afterwards, and no thread waits for more."""
    await (await Database.open(tmp_path)).close()
    with sqlite3.connect(tmp_path / DATABASE_NAME) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    before = set(threading.enumerate())
    with pytest.raises(DatabaseTooNewError):
        await Database.open(tmp_path)
    with pytest.raises(DatabaseTooNewError):
        async with reading(tmp_path):
            raise AssertionError("it was opened")
    # Those of the event loop's own pool aside, which serve whatever is next.
    left = [t for t in threading.enumerate() if t not in before and "asyncio" not in t.name]
    for thread in left:
        await asyncio.to_thread(thread.join, 5.0)
    assert [thread for thread in left if thread.is_alive()] == []


async def test_a_resource_that_is_not_there_is_told_from_a_name_that_is_taken(
    database: Database,
) -> None:
    """Whoever changes what somebody deleted meanwhile is told that."""
    async with database.write() as connection:
        await Directory(connection).user("ann")
        await Directory(connection).user("bob")
        named_ann = {"userName": "ann", "active": True}
        with pytest.raises(resources.TakenError):
            await resources.update(connection, "User", "bob", named_ann)
        with pytest.raises(resources.NoSuchResourceError):
            await resources.update(connection, "User", "nobody", {**named_ann, "userName": "x"})


async def test_errors_say_of_what_kind_they_are(tmp_path: Path) -> None:
    """What contradicts itself and what cannot be read are told apart."""
    database = await Database.open(tmp_path)
    with pytest.raises(DatabaseError, match=DATABASE_NAME) as raised:
        async with database.write() as connection:
            await connection.execute_fetchall(
                "INSERT INTO membership (room_id, account_id, state) VALUES ('!r', 9, 'in')"
            )
    assert raised.type is DatabaseError
    await database.close()
    with (tmp_path / DATABASE_NAME).open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * 200_000)
    async with reading(tmp_path) as reader:
        with pytest.raises(DatabaseUnusableError, match=DATABASE_NAME):
            await reader.execute_fetchall("SELECT * FROM scim_user")


async def test_settings_that_make_commits_durable(database: Database) -> None:
    """WAL, synchronous=FULL and foreign keys are on for the writer."""
    async with database.write() as connection:
        for pragma, expected in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            [(value,)] = await connection.execute_fetchall(f"PRAGMA {pragma}")
            assert expected == value


async def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    """A read is answered while a transaction is open, with the last committed state."""
    insert = "INSERT INTO room (room_id) VALUES ('!a')"
    async with database.write() as connection:
        await connection.execute_fetchall(insert)
        [(before,)] = await database.reader.execute_fetchall("SELECT count(*) FROM room")
    [(after,)] = await database.reader.execute_fetchall("SELECT count(*) FROM room")
    assert (before, after) == (0, 1)


async def test_who_reads_changes_nothing(place: Place) -> None:
    """Whatever the statement: what is written goes through the one writer, and its term."""
    database = await Database.open(place)
    for connection in (database.reader, database.scanner, database.counter):
        with pytest.raises(DatabaseError):
            await connection.execute_fetchall("INSERT INTO room (room_id) VALUES ('!a')")
    await database.close()


async def test_a_cancelled_transaction_leaves_nothing(database: Database) -> None:
    """Cancellation rolls back before anyone else writes, and the writer goes on working."""
    inside = asyncio.Event()

    async def write_and_hang() -> None:
        async with database.write() as connection:
            await connection.execute_fetchall("INSERT INTO room (room_id) VALUES ('!a')")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write_and_hang())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.write() as connection:
        await connection.execute_fetchall("INSERT INTO room (room_id) VALUES ('!b')")
    rows = await database.reader.execute_fetchall("SELECT room_id FROM room")
    assert [tuple(row) for row in rows] == [("!b",)]


def test_migrations_are_numbered_without_gaps() -> None:
    """The schema version counts the migrations."""
    assert [number for number, _ in load()] == list(range(1, len(load()) + 1))


# A reference that only the commit finds dangling.
DANGLING = (
    "PRAGMA defer_foreign_keys = ON",
    "INSERT INTO group_member (group_id, value) VALUES ('no such group', 'x')",
)


async def _insert(connection: Connection, room_id: str) -> None:
    sql = "INSERT INTO room (room_id) VALUES (:room_id)"
    await connection.execute_fetchall(sql, {"room_id": room_id})


async def _rooms(database: Database) -> list[str]:
    found = await database.reader.execute_fetchall("SELECT room_id FROM room ORDER BY 1")
    return [room_id for (room_id,) in found]


async def test_writers_that_wait_share_a_commit(database: Database) -> None:
    """Twenty writers at once cost a commit or two, and each returns when it is durable."""

    async def commits() -> int:
        [(number,)] = await database.reader.execute_fetchall("PRAGMA data_version")
        return int(number)

    async def write(number: int) -> None:
        async with database.write() as connection:
            await _insert(connection, f"!{number:02}")
        assert f"!{number:02}" in await _rooms(database)

    before = await commits()
    await asyncio.gather(*map(write, range(20)))
    assert await commits() - before <= 2
    assert await _rooms(database) == [f"!{n:02}" for n in range(20)]


async def test_nobody_who_is_done_waits_for_a_long_block(database: Database) -> None:
    """What ran before it is durable while it runs; what waits behind it comes after it."""
    inside, ends = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with database.write() as connection:
            await _insert(connection, "!first")

    async def long() -> None:
        async with database.write(is_long=True) as connection:
            await _insert(connection, "!long")
            inside.set()
            await ends.wait()

    async def last() -> None:
        async with database.write() as connection:
            await _insert(connection, "!last")

    works = [asyncio.create_task(work()) for work in (first, long, last)]
    await inside.wait()
    await works[0]
    assert await _rooms(database) == ["!first"]
    ends.set()
    await asyncio.gather(*works)
    assert await _rooms(database) == ["!first", "!last", "!long"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_long_block_that_is_cancelled_leaves_what_was_before_it(
    database: Database, fails: bool
) -> None:
    """That is durable, or whoever wrote it is told; what waits comes after that."""

    async def write(room_id: str, *more: str, is_long: bool = False) -> None:
        async with database.write(is_long=is_long) as connection:
            await _insert(connection, room_id)
            for statement in more:
                await connection.execute_fetchall(statement)

    loop, begun, goes_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold(statement: str) -> None:
        if statement.startswith("RELEASE"):
            loop.call_soon_threadsafe(begun.set)
            goes_on.wait(10)

    driver = database._writer.driver
    assert isinstance(driver, Sqlite)
    await driver.set_trace_callback(hold)
    works = write("!first", *(DANGLING if fails else ())), write("!long", is_long=True)
    first, long, last = map(asyncio.create_task, (*works, write("!last")))
    # What is before it is being committed.
    await begun.wait()
    for _ in range(2):
        long.cancel()
        # A turn in which it hears of this one; by itself it is not over.
        await asyncio.sleep(0)
    assert not long.done()
    goes_on.set()
    async with asyncio.timeout(10):
        told = await asyncio.gather(first, long, last, return_exceptions=True)
    assert list(map(type, told)) == [
        DatabaseError if fails else type(None),
        asyncio.CancelledError,
        type(None),
    ]
    assert await _rooms(database) == [*([] if fails else ["!first"]), "!last"]


async def test_a_block_that_fails_is_undone_alone(database: Database) -> None:
    """What raises or is cancelled leaves nothing; its neighbours in the same commit stay."""
    inside = asyncio.Event()

    async def write(number: int) -> None:
        async with database.write() as connection:
            await _insert(connection, f"!{number}")
            if number == 1:
                raise ValueError("a mistake")
            if number == 2:
                inside.set()
                await asyncio.Event().wait()

    tasks = [asyncio.create_task(write(n)) for n in range(5)]
    await inside.wait()
    tasks[2].cancel()
    tasks[3].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(d) for d in done] == [
        type(None),
        ValueError,
        asyncio.CancelledError,
        asyncio.CancelledError,
        type(None),
    ]
    assert await _rooms(database) == ["!0", "!4"]


async def test_who_is_cancelled_waiting_for_a_commit_takes_it_from_nobody(place: Place) -> None:
    """Whoever shares it is told of it, it is made, and what comes next is written too."""
    database = await Database.open(place)

    async def first() -> None:
        async with database.write() as connection:
            await _insert(connection, "!a")

    async def second() -> None:
        async with database.write() as connection:
            await _insert(connection, "!b")
            one.cancel()
            await asyncio.wait([one])

    one, two = asyncio.create_task(first()), asyncio.create_task(second())
    told = await asyncio.gather(one, two, return_exceptions=True)
    assert [type(each) for each in told] == [asyncio.CancelledError, type(None)]
    async with database.write() as connection:
        await _insert(connection, "!c")
    assert await _rooms(database) == ["!a", "!b", "!c"]
    await database.close()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_block_is_cancelled_whole_whenever_that_is(
    place: Place, times: int, fails: bool
) -> None:
    """Of it is all or nothing; its neighbours are durable, or told that they are not."""
    database = await Database.open(place)

    async def write(room_id: str) -> None:
        async with database.write() as connection:
            await _insert(connection, f"{room_id}1")
            await _insert(connection, f"{room_id}2")
            if fails and room_id.endswith("b"):
                raise ValueError("a mistake")

    for turns in range(60):
        names = [f"!{turns:02}{name}" for name in ("a", "b", "c")]
        tasks = [asyncio.create_task(write(name)) for name in names]
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(times):
            tasks[1].cancel()
            await asyncio.sleep(0)
        told = await asyncio.gather(*tasks, return_exceptions=True)
        found = await _rooms(database)
        kept = [[room for room in found if room.startswith(name)] for name in names]
        whole = [[f"{name}1", f"{name}2"] for name in names]
        assert kept[1] == whole[1] or (kept[1] == [] and told[1] is not None)
        for neighbour in (0, 2):
            # Whoever is cancelled twice may take PostgreSQL's connection along.
            is_lost = times == 2 and isinstance(told[neighbour], DatabaseError)
            assert is_lost or told[neighbour] is None
            assert kept[neighbour] == ([] if is_lost else whole[neighbour])
    await database.close()


async def test_two_lose_no_update(place: Place) -> None:
    """Transactions of two processes run one at a time, from their first statement on."""
    opened = [await Database.open(place) for _ in range(2)]
    [before] = await opened[0].reader.execute_fetchall("SELECT number FROM tick")

    async def count(database: Database) -> None:
        for _ in range(50):
            async with database.write() as connection:
                [row] = await connection.execute_fetchall("SELECT number FROM tick")
                await connection.execute_fetchall(
                    "UPDATE tick SET number = :number", {"number": row["number"] + 1}
                )

    await asyncio.gather(*map(count, opened))
    [after] = await opened[0].reader.execute_fetchall("SELECT number FROM tick")
    assert after["number"] - before["number"] == 100
    for database in opened:
        await database.close()


async def test_a_commit_that_fails_fails_for_everybody_in_it(database: Database) -> None:
    """No writer that shared the commit is told that its change is durable; later ones are."""

    async def write(room_id: str, *more: str) -> None:
        async with database.write() as connection:
            await _insert(connection, room_id)
            for statement in more:
                await connection.execute_fetchall(statement)

    done = await asyncio.gather(
        write("!a"), write("!b", *DANGLING), write("!c"), return_exceptions=True
    )
    assert [type(d) for d in done] == [DatabaseError] * 3
    assert await _rooms(database) == []
    await write("!d")
    assert await _rooms(database) == ["!d"]


async def test_a_full_disk_fails_whoever_shared_the_transaction(database: Database) -> None:
    """Where SQLite rolls everything back by itself, only what is there was acknowledged."""
    async with database.write() as connection:
        [(pages,)] = await connection.execute_fetchall("PRAGMA page_count")
        await connection.execute_fetchall(f"PRAGMA max_page_count = {pages + 2}")

    async def write(room_id: str) -> None:
        async with database.write() as connection:
            await _insert(connection, room_id)

    room_ids = ["!a", "!" + "x" * 100_000, "!b"]
    done = await asyncio.gather(*map(write, room_ids), return_exceptions=True)
    assert isinstance(done[1], DatabaseUnusableError)
    kept = [r for r, result in zip(room_ids, done, strict=True) if result is None]
    assert await _rooms(database) == kept
    async with database.write() as connection:
        await connection.execute_fetchall("PRAGMA max_page_count = 1000000")
    await write("!c")
    assert "!c" in await _rooms(database)


async def test_nothing_is_acknowledged_that_was_rolled_back_unseen(database: Database) -> None:
    """A block that goes on after SQLite has rolled everything back is told, as are all with it."""

    async def write(room_id: str, *more: str) -> None:
        async with database.write() as connection:
            await _insert(connection, room_id)
            for statement in more:
                await connection.execute_fetchall(statement)

    done = await asyncio.gather(
        write("!a"), write("!b", "ROLLBACK"), write("!c"), return_exceptions=True
    )
    kept = [r for r, result in zip(("!a", "!b", "!c"), done, strict=True) if result is None]
    assert "!b" not in kept
    assert set(kept) <= set(await _rooms(database))
    await write("!d")
    assert "!d" in await _rooms(database)


@pytest.mark.parametrize("version", [number for number, _ in load()[:-1]])
async def test_old_databases_are_brought_up_to_date(tmp_path: Path, version: int) -> None:
    """What an older version wrote is kept, and found by what newer ones look up."""
    with sqlite3.connect(tmp_path / DATABASE_NAME) as connection:
        connection.create_function("folded", 1, folded)
        for number, script in load():
            if number <= version:
                connection.executescript(f"{script}; PRAGMA user_version = {number};")
        connection.execute(
            "INSERT INTO scim_user (id, user_name_key, active, document, created, last_modified)"
            " VALUES ('u', 'ann', 1, ?, 'now', 'now')",
            ('{"userName": "ann", "emails": [{"value": "\u00c4NN@A.example"}, {"type": "x"}]}',),
        )
    connection.close()
    database = await Database.open(tmp_path)
    found = await database.reader.execute_fetchall("SELECT value_key, user_id FROM user_email")
    assert [tuple(row) for row in found] == [("\u00e4nn@a.example", "u")]
    [(version,)] = await database.reader.execute_fetchall("PRAGMA user_version")
    assert version == load()[-1][0]
    await database.close()


async def test_what_is_closed_leaves_nothing_behind(tmp_path: Path) -> None:
    """Each connection has a thread of its own, which would keep the process from ending."""

    async def own() -> list[str]:
        threads = [thread.name for thread in threading.enumerate()]
        # Those that asyncio keeps for whatever comes.
        return [name for name in threads if not name.startswith("asyncio_")]

    before = await own()
    database = await Database.open(tmp_path)
    assert len(await own()) > len(before)
    await database.close()
    await eventually(own, lambda names: names == before)
