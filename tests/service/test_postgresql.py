"""What only PostgreSQL can do or have happen to it, and what it must do as SQLite does."""

import asyncio
import contextlib
import random
import sys
import unicodedata
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import psycopg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from scim_matrix.app_keys import REPLICA
from scim_matrix.groupmap import Mapping
from scim_matrix.store import grants, groupmap, references
from scim_matrix.store import postgresql as postgresql_driver
from scim_matrix.store.database import Connection, Database, reading, together
from scim_matrix.store.errors import (
    DatabaseError,
    DatabaseTooNewError,
    DatabaseUnusableError,
    LimitExceededError,
)
from scim_matrix.store.migrations import load
from scim_matrix.store.postgresql_opening import open_listener
from scim_matrix.store.text import folded
from tests.conftest import eventually
from tests.pgbouncer import pooling
from tests.postgresql import Server, serving
from tests.service.client import made
from tests.service.conftest import Start
from tests.service.directory import Directory
from tests.service.test_cli import good, run
from tests.service.test_map_reload import rooms_in_force
from tests.wire import wired

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:User"


@pytest.fixture
async def database(postgresql: Server) -> AsyncIterator[Database]:
    """Return an empty database."""
    opened = await Database.open(postgresql.filled())
    yield opened
    await opened.close()


@pytest.fixture
def own(postgresql: Server) -> Iterator[Server]:
    """Return a server that a test may stop."""
    with serving() as server:
        assert server is not None
        yield server


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://scim:pass-word@localhost:1/books", "localhost"),
        ("postgresql://scim:pass-word@/books?hostaddr=127.0.0.1&port=1", "127.0.0.1"),
        ("postgresql://scim:pass-word@/books?port=1", "the local socket"),
    ],
)
async def test_a_database_is_called_by_where_it_is(
    monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    """Whatever is said of it begins so, whichever way its address says it."""
    monkeypatch.delenv("PGHOST", raising=False)
    with pytest.raises(DatabaseUnusableError) as refused:
        await Database.open(SecretStr(address))
    assert str(refused.value).startswith(f"PostgreSQL at {said}, books: ")
    assert "pass-word" not in str(refused.value)


async def test_texts_are_sent_as_what_they_are_whatever_the_address_says(
    postgresql: Server,
) -> None:
    """A name that another encoding could not hold is kept."""
    url = SecretStr(f"{postgresql.filled().get_secret_value()}&client_encoding=LATIN1")
    database = await Database.open(url)
    async with database.write() as connection:
        await insert(connection, "!\u0142\u00f3d\u017a \u5f35")
    assert await rooms(database) == ["!\u0142\u00f3d\u017a \u5f35"]
    await database.close()


async def test_writers_go_on_whatever_isolation_is_the_default_of_their_role(
    postgresql: Server,
) -> None:
    """Whoever waited for another's transaction changes what that one changed."""
    url = postgresql.filled()
    name = url.get_secret_value().partition("@/")[2].partition("?")[0]
    sql = "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'"
    postgresql.run(sql.format(name))
    opened = [await Database.open(url) for _ in range(2)]

    async def count_up(database: Database) -> None:
        async with database.write() as connection:
            await connection.tick()

    await asyncio.gather(*(count_up(database) for database in opened * 10))
    [(number,)] = await opened[0].reader.execute_fetchall("SELECT number FROM tick")
    assert number == 21
    for database in opened:
        await database.close()


async def test_what_is_too_large_is_no_outage(database: Database) -> None:
    """Nobody is told to come again with what the database takes at no time."""
    with pytest.raises(LimitExceededError, match="index row size") as refused:
        async with database.write() as connection:
            await insert(connection, "!" + random.Random(1).randbytes(4000).hex())
    assert not isinstance(refused.value, DatabaseUnusableError)
    async with database.write() as connection:
        await insert(connection, "!after")


async def test_what_was_worked_out_stays_in_nobodys_way(database: Database) -> None:
    """No server clears scratch tables by itself: they would be read whole, longer each time."""
    async with database.write() as connection:
        people = Directory(connection)
        for number in range(10):
            await people.account(f"p{number}")
        lines = [Mapping("everyone", "", f"!r{number}") for number in range(100)]
        await groupmap.put(connection, lines)
    sizes = []
    for _ in range(8):
        async with database.write() as connection:
            await grants.unsettle_everybody(connection)
            while await grants.settle_map(connection):
                pass
            [(size,)] = await connection.execute_fetchall(
                "SELECT pg_table_size('touched') + pg_table_size('opened')"
                " + pg_table_size('wanted')"
            )
            sizes.append(size)
    assert sizes[-1] <= 2 * sizes[1], sizes


async def insert(connection: Connection, room_id: str) -> None:
    """Store a room."""
    sql = "INSERT INTO room (room_id) VALUES (:room_id)"
    await connection.execute_fetchall(sql, {"room_id": room_id})


async def rooms(database: Database) -> list[str]:
    """Return which rooms are stored."""
    found = await database.reader.execute_fetchall("SELECT room_id FROM room ORDER BY 1")
    return [room_id for (room_id,) in found]


async def test_several_may_start_on_an_empty_database(postgresql: Server) -> None:
    """One of them makes the schema, the others find it."""
    url = postgresql.database()
    opened = await asyncio.gather(*(Database.open(url) for _ in range(3)))
    async with opened[0].write() as connection:
        await insert(connection, "!r")
    assert [await rooms(database) for database in opened] == [["!r"]] * 3
    for database in opened:
        await database.close()


async def test_a_database_of_the_first_form_of_a_migration_becomes_what_others_are(
    postgresql: Server,
) -> None:
    """0015 made views only at first: triggers and indexes are those of every other one."""
    name = str(postgresql.database().get_secret_value()).partition("@/")[2].partition("?")[0]
    for number, script in load("postgresql"):
        if number <= 15:
            first = script.partition("-- Whose turn it is")[0]
            postgresql.run(f"{first}; UPDATE schema_version SET number = {number}", name)
    await (await Database.open(postgresql.url(name))).close()
    whole = postgresql.filled().get_secret_value().partition("@/")[2].partition("?")[0]
    for what in (
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        "SELECT proname, prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname = 'public' AND prorettype = 'trigger'::regtype ORDER BY 1",
    ):
        assert postgresql.run(what, name) == postgresql.run(what, whole)


async def test_a_newer_database_is_refused(postgresql: Server) -> None:
    """A database of a newer version is left as it is and let go, to be written and to be read."""
    url = postgresql.filled()
    name = str(url.get_secret_value()).partition("@/")[2].partition("?")[0]
    postgresql.run("UPDATE schema_version SET number = 9999", name)

    async def connected() -> list[tuple[object, ...]]:
        return postgresql.run(f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}'")

    async def is_let_go() -> None:
        # Before the server ends what stands still in a transaction.
        await eventually(connected, lambda pids: not pids, 8.0)

    with pytest.raises(DatabaseTooNewError, match="run the newer version") as written:
        await Database.open(url)
    await is_let_go()
    with pytest.raises(DatabaseTooNewError, match="9999") as read:
        async with reading(url):
            pass
    await is_let_go()
    # Whoever was told holds on to what was told.
    assert written.tb is not None
    assert read.tb is not None


async def test_what_no_service_has_filled_is_not_read(postgresql: Server) -> None:
    """A command says that the service must be started first."""
    with pytest.raises(DatabaseUnusableError, match="start the service first"):
        async with reading(postgresql.database()):
            pass


async def test_a_database_that_sorts_otherwise_is_refused(postgresql: Server) -> None:
    """It is said how to make one that compares texts as the service does."""
    postgresql.run("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII'")
    with pytest.raises(DatabaseUnusableError, match=r"SQL_ASCII.*LOCALE 'C'"):
        await Database.open(postgresql.url("ascii"))


async def test_a_server_without_icu_is_refused(postgresql: Server) -> None:
    """It could not fold texts as Python does."""
    url = postgresql.database()
    name = str(url.get_secret_value()).partition("@/")[2].partition("?")[0]
    postgresql.run("DELETE FROM pg_collation WHERE collname = 'und-x-icu'", name)
    with pytest.raises(DatabaseUnusableError, match="built with ICU"):
        await Database.open(url)


async def test_a_server_that_starts_again_is_no_error_for_who_asks_then(own: Server) -> None:
    """Connections that were lost are made anew, those that write with all that they need."""
    database = await Database.open(own.filled())
    async with database.write() as connection:
        await insert(connection, "!a")
    own.stop()
    own.start()
    assert await rooms(database) == ["!a"]
    async with database.write() as connection:
        await insert(connection, "!b")
        assert await connection.execute_fetchall("SELECT * FROM touched") == []
    assert await rooms(database) == ["!a", "!b"]
    await database.close()


async def test_a_server_that_is_away_fails_what_is_asked_then(own: Server) -> None:
    """A block that was under way is undone, its rest does not run on another connection."""
    database = await Database.open(own.filled())

    async def under_way() -> None:
        async with database.write() as connection:
            await insert(connection, "!a")
            own.stop()
            with pytest.raises(DatabaseUnusableError):
                await insert(connection, "!b")
            own.start()
            await insert(connection, "!c")

    with pytest.raises(DatabaseUnusableError, match="connection was lost"):
        await under_way()
    assert await rooms(database) == []
    own.stop()
    with pytest.raises(DatabaseUnusableError):
        await rooms(database)
    with pytest.raises(DatabaseUnusableError):
        async with database.write():
            pass
    own.start()
    async with database.write() as connection:
        await insert(connection, "!d")
    assert await rooms(database) == ["!d"]
    await database.close()


async def test_a_newer_version_takes_the_database_over(postgresql: Server) -> None:
    """Whoever has it open writes nothing from then on, whatever shares a commit, and says why."""
    url = postgresql.filled()
    database = await Database.open(url)

    async def write(room_id: str) -> None:
        async with database.write() as connection:
            await insert(connection, room_id)

    await write("!a")
    name = str(url.get_secret_value()).partition("@/")[2].partition("?")[0]
    postgresql.run("UPDATE schema_version SET number = 9999", name)
    ended = await asyncio.gather(*(write(f"!{n}") for n in range(3)), return_exceptions=True)
    assert [type(one) for one in ended] == [DatabaseTooNewError] * 3
    assert await rooms(database) == ["!a"]
    postgresql.run(f"UPDATE schema_version SET number = {load('postgresql')[-1][0]}", name)
    await write("!b")
    assert await rooms(database) == ["!a", "!b"]
    await database.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_hands_connections_on_is_refused(postgresql: Server, mode: str) -> None:
    """At once and with its cure, to whoever only reads too, instead of failing oddly later."""
    url = postgresql.filled()
    async with pooling(postgresql, pool_mode=mode) as through:
        with pytest.raises(DatabaseUnusableError, match=r"between transactions.*mode session"):
            await Database.open(through(url))
        with pytest.raises(DatabaseUnusableError, match="between transactions"):
            async with reading(through(url)):
                pass


async def test_a_pooler_that_takes_connections_in_turn_is_refused(postgresql: Server) -> None:
    """Though no two who ask one after the other get the same one."""
    url = postgresql.filled()
    async with pooling(postgresql, pool_mode="transaction", server_round_robin="1") as through:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                connecting = psycopg.AsyncConnection.connect(through(url).get_secret_value())
                connection = await stack.enter_async_context(await connecting)
                # Within a transaction it has its own until all of them have one.
                await connection.execute("SELECT 1")
        with pytest.raises(DatabaseUnusableError, match="between transactions"):
            await Database.open(through(url))


async def test_a_pooler_in_session_mode_works(postgresql: Server) -> None:
    """All connections write, read and hear what others commit."""
    url = postgresql.filled()
    async with pooling(postgresql, pool_mode="session") as through:
        database = await Database.open(through(url), serving="listening on 1")
        async with database.write() as connection:
            await insert(connection, "!a")
            assert await connection.execute_fetchall("SELECT * FROM touched") == []
        assert await rooms(database) == ["!a"]
        async with reading(through(url)) as connection:
            assert len(await connection.execute_fetchall("SELECT * FROM room")) == 1
        await database.close()


async def test_a_connection_that_falls_silent_is_given_up(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing ends it: what reads goes on by another one, what was being written fails."""
    # Longer than a connection takes to open where the machine is busy.
    monkeypatch.setattr(postgresql_driver, "ANSWERED_WITHIN", 2.0)
    async with wired(postgresql) as wire:
        database = await Database.open(wire.url(postgresql.filled()), serving="listening on 1")
        await database.leadership.begin()

        async def under_way() -> None:
            async with database.write() as connection:
                await insert(connection, "!a")
                wire.falls_silent()
                await insert(connection, "!b")

        async with asyncio.timeout(30):
            with pytest.raises(DatabaseUnusableError):
                await under_way()
            assert await rooms(database) == []
            async with database.write() as connection:
                await insert(connection, "!c")
            assert await rooms(database) == ["!c"]
            wire.falls_silent()
            await database.leadership.begin()
            assert database.leadership.is_well
            async with database.write() as connection:
                await insert(connection, "!d")
            assert await rooms(database) == ["!c", "!d"]
        await database.close()


async def test_commits_are_durable(postgresql: Server) -> None:
    """Also on a server that lets others lose theirs."""
    url = postgresql.filled()
    name = str(url.get_secret_value()).partition("@/")[2].partition("?")[0]
    postgresql.run(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database = await Database.open(url)
    async with database.write() as connection:
        [(value,)] = await connection.execute_fetchall("SHOW synchronous_commit")
        assert value == "on"
    await database.close()


async def test_what_was_noted_in_passing_is_cleared_away(database: Database) -> None:
    """What each transaction notes of whom it concerns does not pile up for the ones after it."""
    people = [{"id": n} for n in range(30)]
    for _ in range(501):
        async with database.write() as connection:
            noted = "INSERT INTO touched (account_id) VALUES (:id)"
            await connection.executemany(noted, people)
            await connection.execute_fetchall("DELETE FROM touched")
    [row] = await database._writer.driver.fetch("SELECT pg_relation_size('touched') AS size")
    assert row["size"] <= 3 * 8192


async def test_a_cancelled_block_leaves_those_that_share_its_commit(database: Database) -> None:
    """Whatever it was doing: it is undone, and what comes next runs."""

    async def sleeping() -> None:
        async with database.write() as connection:
            await insert(connection, "!cancelled")
            reached.set()
            await connection.execute_fetchall("SELECT pg_sleep(3)")

    reached = asyncio.Event()
    task = asyncio.create_task(sleeping())
    await reached.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.write() as connection:
        await insert(connection, "!r")
    assert await rooms(database) == ["!r"]


async def test_errors_tell_no_values(database: Database) -> None:
    """What the server says of a row is not repeated, nor is a password."""

    async def write() -> None:
        async with database.write() as connection:
            await insert(connection, "!secret")
            await insert(connection, "!secret")

    with pytest.raises(DatabaseError) as raised:
        await write()
    assert "room_pkey" in str(raised.value)
    assert "secret" not in f"{raised.value} {raised.value.__cause__}"
    nowhere = SecretStr("postgresql://ann:pass-word@127.0.0.1:1/x")
    with pytest.raises(DatabaseUnusableError) as refused:
        await Database.open(nowhere)
    assert "127.0.0.1" in str(refused.value)
    assert "pass-word" not in str(refused.value)


async def test_a_block_that_stood_still_is_told_to_come_again(
    postgresql: Server, database: Database
) -> None:
    """The server has ended it by then, so that others may write: nobody else is at fault."""

    async def sessions() -> object:
        [[number]] = postgresql.run(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SET LOCAL idle%'"
        )
        return number

    async def stand_still() -> None:
        async with database.write() as connection:
            await connection.execute_fetchall("SET LOCAL idle_in_transaction_session_timeout = 500")
            await eventually(sessions, lambda number: number == 1)
            await eventually(sessions, lambda number: number == 0)
            await insert(connection, "!late")

    with pytest.raises(DatabaseUnusableError):
        await stand_still()
    assert await rooms(database) == []


async def test_one_that_fails_of_several_sent_together_ends_them(database: Database) -> None:
    """What comes after it does not run, what went before is undone, and its own error is told."""

    async def write(*room_ids: str) -> None:
        sql = "INSERT INTO room (room_id) VALUES (:room_id)"
        async with database.write() as connection:
            await together(connection, *((sql, {"room_id": room_id}) for room_id in room_ids))

    with pytest.raises(DatabaseError, match="UniqueViolation"):
        await write("!a", "!b", "!b", "!c")
    await write("!d", "!e")
    assert await rooms(database) == ["!d", "!e"]


async def test_an_error_among_several_is_no_end_of_their_statements(postgresql: Server) -> None:
    """Sent together often enough to be prepared, they go on after one of them has failed."""
    driver = await open_listener(postgresql.filled())
    put = "INSERT INTO room (room_id) VALUES (:room_id)"
    drop = "DELETE FROM room WHERE room_id = :room_id"

    async def both(room_id: str, other: str) -> None:
        await driver.fetch_together([(put, {"room_id": room_id}), (drop, {"room_id": other})])

    await both("!a", "!b")
    for number in range(4):
        await both(f"!{number}", f"!{number}")
    for _ in range(2):
        with pytest.raises(DatabaseError, match="UniqueViolation"):
            await both("!a", "!a")
    await both("!c", "!a")
    assert [row["room_id"] for row in await driver.fetch("SELECT room_id FROM room")] == ["!c"]
    await driver.close()


async def test_nul_is_kept_out(database: Database) -> None:
    """A name with U+0000, which PostgreSQL cannot have, has U+FFFD in its place."""
    async with database.write() as connection:
        await insert(connection, "!a\0b")
    assert await rooms(database) == ["!a\ufffdb"]
    values = orjson.dumps(["a\0", "\\u0000"]).decode()
    found = await database.reader.execute_fetchall(
        "SELECT value FROM each_text(:values)", {"values": values}
    )
    assert [value for (value,) in found] == ["a\ufffd", "\\u0000"]


@pytest.fixture
async def both(database: Database, tmp_path: Path) -> AsyncIterator[list[Connection]]:
    """Return what reads an empty database of either kind."""
    sqlite = await Database.open(tmp_path)
    yield [database.reader, sqlite.reader]
    await sqlite.close()


async def test_patterns_match_as_in_sqlite(both: list[Connection]) -> None:
    """Whatever a pattern holds: sets, ranges, what is never closed, what is special elsewhere."""
    chosen = random.Random(7)
    pairs = [
        [
            "".join(chosen.choices("aab*?[[]]^-.\\|(){}+$é\nz:", k=chosen.randint(0, 9))),
            "".join(chosen.choices("ab*?[]^-.\\é\nz:", k=chosen.randint(0, 4))),
        ]
        for _ in range(4000)
    ]
    values = orjson.dumps([{"pattern": pattern, "text": text} for pattern, text in pairs]).decode()
    sql = (
        "SELECT matches(e.value ->> 'pattern', e.value ->> 'text') AS so"
        " FROM each_entry(:pairs) e ORDER BY e.key"
    )
    found = [
        [bool(row["so"]) for row in await connection.execute_fetchall(sql, {"pairs": values})]
        for connection in both
    ]
    assert any(found[0])
    differing = [pair for pair, *so in zip(pairs, *found, strict=True) if so[0] != so[1]]
    assert differing == []


def _is_known_to_all(sign: str) -> bool:
    """Tell whether Unicode has had a sign for so long that every ICU knows it."""
    return unicodedata.ucd_3_2_0.category(sign) != "Cn"


async def test_texts_are_compared_and_sorted_as_in_sqlite(both: list[Connection]) -> None:
    """Folded as in Python, whatever the language, and sorted by code point."""
    signs = [
        sign
        for sign in map(chr, range(1, sys.maxunicode + 1))
        # Later Unicode versions than Python's know more letters.
        if unicodedata.category(sign) not in ("Cn", "Cs")
    ]
    words = ["ΑΣ", "ΑΣ Β", "Σ", "İstanbul", "STRASSE", "ǅ", "e\u0301", "\u212b", "a-b", "ab", "B"]
    texts = words + random.Random(3).sample(signs, 5000)
    values = {"texts": orjson.dumps(texts).decode()}
    for connection in both:
        rows = await connection.execute_fetchall(
            "SELECT folded(e.atom) AS folded FROM each_entry(:texts) e ORDER BY e.key", values
        )
        told = [(text, row["folded"]) for text, row in zip(texts, rows, strict=True)]
        # An old ICU leaves letters of later scripts as they are.
        known = [t for t in told if t[0] != t[1] or all(map(_is_known_to_all, t[0]))]
        assert [(text, fold) for text, fold in known if fold != folded(text)] == []
        rows = await connection.execute_fetchall(
            "SELECT value FROM each_text(:texts) t ORDER BY value", values
        )
        assert [value for (value,) in rows] == sorted(texts)


async def test_both_schemas_have_the_same_columns(both: list[Connection]) -> None:
    """Each table, its columns and what may not be NULL, and the number of the schema."""
    postgresql, sqlite = both
    theirs = await postgresql.execute_fetchall(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'schema_version'"
    )
    ours = await sqlite.execute_fetchall(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_xinfo(m.name) c"
        " WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite%'"
    )
    assert sorted(map(tuple, theirs)) == sorted(map(tuple, ours))
    names = [
        await connection.execute_fetchall(sql)
        for connection, sql in (
            (
                postgresql,
                "SELECT indexname FROM pg_indexes WHERE indexdef NOT LIKE '% UNIQUE %'"
                " AND indexname <> 'membership_former'"
                " AND schemaname = 'public'",
            ),
            (sqlite, "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"),
        )
    ]
    assert sorted(map(tuple, names[0])) == sorted(map(tuple, names[1]))
    assert load("postgresql")[-1][0] == load()[-1][0]


async def test_the_service_is_well_again_by_itself(own: Server, start: Start) -> None:
    """While the database is away it says so, to identity providers when to come again."""
    url = own.filled().get_secret_value()
    client = await start(DATA_DIR="", DATABASE_URL=url)
    await made(client, "Users", userName="ann")

    async def health() -> int:
        async with client.get("/healthz") as answer:
            return answer.status

    assert await health() == 200
    own.stop()
    with capture_logs() as logs:
        # Between two rounds of its own work as well.
        assert client.app is not None
        client.app[REPLICA].wake()
        await eventually(
            lambda: asyncio.sleep(0, [entry["event"] for entry in logs]),
            # Where it rests for the homeserver first, another could lead before the second time.
            lambda events: events.count("reconcile_failed") > ("leadership_lost" not in events),
        )
    assert await health() == 503
    body = {"schemas": [SCHEMA], "userName": "bob"}
    async with client.post("/scim/v2/Users", json=body) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        assert (await answer.json())["detail"] == "the database cannot be used right now"
    own.start()
    await eventually(health, lambda status: status == 200)
    await made(client, "Users", userName="bob")


async def test_a_turn_that_does_not_come_is_waited_for_once(postgresql: Server) -> None:
    """Whoever writes is told in time; the connection stays, and what it does next is done."""
    url = postgresql.filled()
    database, other = await Database.open(url), postgresql_driver.Postgresql(url)
    writer = database._writer.driver
    assert isinstance(writer, postgresql_driver.Postgresql)
    backend = await writer.backend()
    await writer.run("SET statement_timeout = '200ms'")
    await other.open()
    await other.begin("SAVEPOINT other")
    for _ in range(6):
        with pytest.raises(DatabaseError, match="statement timeout"):
            async with database.write():
                pass
    await other.rollback()
    await other.close()
    async with database.write() as connection:
        await connection.execute_fetchall("INSERT INTO room (room_id) VALUES ('!r')")
    assert await writer.backend() == backend
    await database.close()


async def test_a_map_changed_while_the_database_is_away_is_in_force_afterwards(
    own: Server, start: Start, tmp_path: Path
) -> None:
    """It is said that it waits, and nobody has to change it again."""
    file = tmp_path / "map.jsonc"
    file.write_text('{"g": ["!one"]}')
    url = own.filled().get_secret_value()
    client = await start(DATA_DIR="", DATABASE_URL=url, GROUP_MAP_FILE=str(file))
    assert await rooms_in_force(client) == ["!one"]
    own.stop()
    with capture_logs() as logs:
        file.write_text('{"g": ["!another"]}')
        await eventually(
            lambda: asyncio.sleep(0, [entry["event"] for entry in logs]),
            lambda events: "group_map_waits" in events,
        )
    own.start()

    async def mapped() -> list[str]:
        try:
            return await rooms_in_force(client)
        except DatabaseError:
            return []

    await eventually(mapped, lambda seen: seen == ["!another"])


async def test_the_service_is_well_again_where_all_its_connections_fell_silent(
    postgresql: Server, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is given up in time; whoever waited for one is answered or told to come again."""
    monkeypatch.setattr(postgresql_driver, "ANSWERED_WITHIN", 0.5)
    async with wired(postgresql) as wire:
        url = wire.url(postgresql.filled()).get_secret_value()
        client = await start(DATA_DIR="", DATABASE_URL=url)
        await made(client, "Users", userName="ann")
        wire.falls_silent()

        async def created() -> int:
            body = {"schemas": [SCHEMA], "userName": "bob"}
            async with client.post("/scim/v2/Users", json=body) as answer:
                return answer.status

        assert await eventually(created, lambda status: status != 503) == 201
        for path in ("/healthz", "/metrics", "/scim/v2/Users"):
            async with client.get(path) as answer:
                assert answer.status == 200
        await client.close()


async def test_a_service_that_cannot_write_is_not_well(own: Server, start: Start) -> None:
    """Though all connections are there: its server takes no writes, as after a failover."""
    client = await start(DATA_DIR="", DATABASE_URL=own.filled().get_secret_value())

    async def health() -> int:
        async with client.get("/healthz") as answer:
            return answer.status

    assert await health() == 200
    own.run("ALTER SYSTEM SET default_transaction_read_only = on")
    own.run("SELECT pg_reload_conf()")
    await eventually(health, lambda status: status == 503)
    own.run("ALTER SYSTEM RESET default_transaction_read_only")
    own.run("SELECT pg_reload_conf()")
    await eventually(health, lambda status: status == 200)


async def test_commands_find_the_database(postgresql: Server, tmp_path: Path) -> None:
    """By the settings, beside a service or without one; what SQLite alone has is told of."""
    url = postgresql.filled()
    variables = {**good(tmp_path), "DATA_DIR": "", "DATABASE_URL": url.get_secret_value()}
    database = await Database.open(url)
    async with database.write() as connection:
        await groupmap.put(connection, [Mapping("everyone", "", "#room:s")])
        await references.pin(connection, "#room:s", "!room", ["@eve:s"])

    async def ran(*words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(run, *words, cwd=tmp_path, **variables)
        return done.returncode, done.stdout + done.stderr

    assert "!room" in (await ran("rooms"))[1]
    assert (await ran("approve", "#room:s", "--by", "Grace"))[0] == 0
    [entry] = await database.reader.execute_fetchall("SELECT * FROM action")
    assert (entry["kind"], entry["room_id"], entry["decided_by"]) == ("alias", "!room", "Grace")
    status, told = await ran("backup", "copy")
    assert (status, "pg_dump" in told) == (1, True)
    await database.close()
