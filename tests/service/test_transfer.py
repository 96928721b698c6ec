"""`scim-matrix migrate-store`: an SQLite database goes to PostgreSQL whole or not at all."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from scim_matrix.groupmap import parse_group_map
from scim_matrix.store import brake, groupmap
from scim_matrix.store.database import Database, reading
from scim_matrix.store.errors import DatabaseError, DatabaseUnusableError, OccupiedError
from scim_matrix.store.migrations import load
from scim_matrix.store.occupancy import occupying
from scim_matrix.store.sqlite import DATABASE_NAME
from scim_matrix.store.transfer import Copied, transfer
from scim_matrix.sync.guard import Brake
from tests.homeserver.deployment import IDP, Configuration, Deployment, deployed
from tests.postgresql import Server, serving
from tests.service.directory import Directory
from tests.service.test_cli import run
from tests.service.test_migrations import Old

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
MAP = {"ext-staff": ["#staff:s"], "ext-leads": [{"room": "!leads", "powerLevel": 50}]}
NAMES = ("ann", "bob", "cat", "dan", "eve", "fay")
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"


async def made(deployment: Deployment, kind: str, **values: Any) -> str:
    """Make a resource and return its id."""
    status, answer = await deployment.scim(
        "POST", f"/{kind}s", {"schemas": [SCHEMA + kind], **values}
    )
    assert status == 201, answer
    return str(answer["id"])


async def members(deployment: Deployment, group: str, *ids: str) -> None:
    """Have a group hold these."""
    value = [{"value": scim_id} for scim_id in ids]
    await patched(deployment, group, {"op": "replace", "path": "members", "value": value})


async def patched(deployment: Deployment, group: str, operation: dict[str, Any]) -> None:
    """Change a group."""
    schema = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
    body = {"schemas": [schema], "Operations": [operation]}
    status, answer = await deployment.scim("PATCH", f"/Groups/{group}", body)
    assert status == 204, answer


async def lived(deployment: Deployment) -> dict[str, str]:
    """Have a service be used until every table has something in it; return the ids by name."""
    world = deployment.world
    for room_id in ("!staff", "!leads"):
        world.rooms.create(world.service, room_id=room_id, version="10")
    world.alias("#staff:s", "!staff")
    world.room("@guest:s", "@guest:s")
    world.bring("!staff", "@guest:s")
    await deployment.put_map(MAP)
    ids = {}
    for name in NAMES:
        emails = [{"value": f"{name}@corp.example", "primary": True}]
        told = {"displayName": f'{name} "é\\ \U0001f600"', "emails": emails}
        ids[name] = await made(deployment, "User", userName=name, externalId=f"x{name}", **told)
    everybody = [{"value": scim_id} for scim_id in ids.values()]
    for name, people in {"staff": everybody, "leads": everybody[:1]}.items():
        more = {"externalId": f"ext-{name}", "members": people}
        ids[name] = await made(deployment, "Group", displayName=name, **more)
    await deployment.quiet()
    # Fay signs in as somebody else; Eve is gone; of the others too many leave, who are held.
    world.account("@fay1:s")
    account = world.accounts.get("@fay1:s")
    account.links, account.displayname = [(IDP, "other")], world.accounts.get("@fay:s").displayname
    assert (await deployment.scim("DELETE", f"/Users/{ids['eve']}"))[0] == 204
    await deployment.quiet()
    await members(deployment, ids["staff"], ids["ann"])
    renamed = {"op": "replace", "path": "displayName", "value": "bosses"}
    await patched(deployment, ids["leads"], renamed)
    await deployment.quiet()
    return ids


async def copied(deployment: Deployment, url: SecretStr) -> list[Copied]:
    """Stop the service, with a line of the map that is worked out for nobody yet; copy it all."""
    await deployment.stop()
    deployment.map = parse_group_map(json.dumps(MAP | {"*": ["!all"]}))
    database = await Database.open(deployment.folder)
    async with database.write("group map") as connection:
        await groupmap.put(connection, deployment.map, piece=1)
        # Somebody is signed in to the console.
        await connection.execute_fetchall("INSERT INTO console_key VALUES ('cookies', 'a key')")
        await connection.execute_fetchall(
            "INSERT INTO console_session VALUES ('an id', '@admin:s', 1.5, 2.5)"
        )
        # The last of its numbers is not given again.
        await connection.execute_fetchall(
            "DELETE FROM action WHERE id = (SELECT max(id) FROM action)"
        )
    await database.close()
    return await transfer(deployment.folder, url)


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return what a statement finds in a folder's database."""
    with contextlib.closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        return connection.execute(sql).fetchall()


async def made_in(folder: Path) -> None:
    """Make a database with a user in it."""
    database = await Database.open(folder)
    async with database.write() as connection:
        await Directory(connection).user("ann")
    await database.close()


def named(url: SecretStr) -> str:
    """Return the name of a database of PostgreSQL."""
    return url.get_secret_value().partition("@/")[2].partition("?")[0]


def tables(server: Server, url: SecretStr) -> list[tuple[object, ...]]:
    """Return which tables a database of PostgreSQL holds."""
    return server.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", named(url))


async def test_the_service_goes_on_where_it_was(tmp_path: Path, postgresql: Server) -> None:
    """Every table is copied; nobody is removed, nothing is asked twice, what was left is done."""
    url = postgresql.database()
    configuration = Configuration(brake=Brake(30, 1, 3600))
    async with deployed(tmp_path, configuration=configuration) as deployment:
        ids = await lived(deployment)
        held = await brake.held(deployment.database.reader)
        assert len(held) > 1
        done = await copied(deployment, url)
        counts = {
            name: rows(tmp_path, f"SELECT count(*) FROM {name}")[0][0]
            for (name,) in rows(tmp_path, _TABLES)
        }
        assert {one.name: one.rows for one in done} == counts
        # Nobody shares a folder.
        assert [name for name, count in counts.items() if count == 0] == ["replica"]
        assert [one for one in done if one.changed] == []

        deeds = len(deployment.world.deeds)
        deployment.world.rooms.create(deployment.world.service, room_id="!all")
        deployment.place = url
        await deployment.start()
        await deployment.quiet()
        expected = [("join", f"@{name}:s", "!all") for name in NAMES if name != "eve"]
        assert sorted(done_since(deployment, deeds)) == sorted(expected)
        assert [(one.room_id, one.user_id) for one in held] == [
            (one.room_id, one.user_id) for one in await brake.held(deployment.database.reader)
        ]
        assert (await brake.generation(deployment.database.reader))[1]
        assert not await brake.is_restored(deployment.database.reader)

        deeds = len(deployment.world.deeds)
        await deployment.decide("!staff", "approved")
        await members(deployment, ids["leads"], ids["bob"])
        await deployment.quiet()
        assert sorted(done_since(deployment, deeds)) == sorted(
            [
                *(("kick", one.user_id, one.room_id) for one in held),
                ("kick", "@ann:s", "!leads"),
                ("join", "@bob:s", "!leads"),
                ("levels", None, "!leads"),
            ]
        )


def done_since(deployment: Deployment, number: int) -> list[tuple[str, str | None, str | None]]:
    """Return what the service has done since it had done so much."""
    return [(d.what, d.user_id, d.room_id) for d in deployment.world.deeds[number:]]


async def test_numbers_go_on_after_the_highest_ever_given(
    tmp_path: Path, postgresql: Server
) -> None:
    """Those of rows that are gone are not given again, where there never was one they begin."""
    await made_in(tmp_path)
    database = await Database.open(tmp_path)
    async with database.write() as connection:
        for name in ("bob", "cat"):
            await Directory(connection).user(name)
        await connection.execute_fetchall("DELETE FROM account WHERE scim_id = 'cat'")
        await connection.execute_fetchall("DELETE FROM scim_user WHERE id <> 'ann'")
    await database.close()
    url = postgresql.database()
    await transfer(tmp_path, url)
    database = await Database.open(url)
    async with database.write() as connection:
        directory = Directory(connection)
        await directory.user("dan")
        await directory.group("staff")
        numbers = "SELECT seq FROM scim_user UNION ALL SELECT id FROM account ORDER BY 1"
        found = [number for (number,) in await connection.execute_fetchall(numbers)]
        [(group,)] = await connection.execute_fetchall("SELECT seq FROM scim_group")
    assert (found, group) == ([1, 1, 2, 4, 4], 1)
    await database.close()


async def test_what_postgresql_cannot_have_is_replaced_and_told(
    tmp_path: Path, postgresql: Server
) -> None:
    """U+0000 and lone surrogates, escaped or not, and what is no UTF-8: the rest is as it was."""
    await made_in(tmp_path)
    document = (
        r'{"userName":"ann","displayName":"a\u0000 \\\u0000 \ud800 \ud83d\ude00 \udc00\\ud800"}'
    )
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.create_function("folded", 1, str)
        connection.execute("UPDATE scim_user SET document = ?", (document,))
        for number, name in enumerate((b"a\0b", b"\xed\xa0\x80c", b"d\xff")):
            connection.execute(
                "INSERT INTO room (room_id, name) VALUES (?, CAST(? AS TEXT))", (f"!{number}", name)
            )
        connection.execute("INSERT INTO room (room_id, name) VALUES ('!3', '\U0001f600')")
        connection.commit()
    url = postgresql.database()
    done = {one.name: one.changed for one in await transfer(tmp_path, url)}
    assert {name: changed for name, changed in done.items() if changed} == {
        "scim_user": 1,
        "room": 3,
    }
    async with reading(url) as reader:
        found = await reader.execute_fetchall("SELECT name FROM room ORDER BY room_id")
        assert [name for (name,) in found] == [
            *("a\ufffdb", "\ufffd\ufffd\ufffdc", "d\ufffd", "\U0001f600")
        ]
        [(name,)] = await reader.execute_fetchall(
            "SELECT text_at(document, '$.displayName') FROM scim_user"
        )
        assert name == "a\ufffd \\\ufffd \ufffd \U0001f600 \ufffd\\ud800"


async def test_times_are_copied_to_the_last_digit(tmp_path: Path, postgresql: Server) -> None:
    """Also where the server rounds what it shows, as those before version 12 did."""
    at = 1_700_000_000.1 + 2**-22
    await made_in(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.execute("INSERT INTO moment (what, at) VALUES ('decided', ?)", (at,))
        connection.commit()
    url = postgresql.database()
    postgresql.run(f"ALTER DATABASE {named(url)} SET extra_float_digits = 0")
    await transfer(tmp_path, url)
    postgresql.run(f"ALTER DATABASE {named(url)} RESET extra_float_digits")
    assert postgresql.run("SELECT at FROM moment", named(url)) == [(at,)]


async def test_what_others_keep_in_the_file_is_left_out(tmp_path: Path, postgresql: Server) -> None:
    """Tools that replicate it have tables of their own there."""
    await made_in(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.execute("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
    url = postgresql.database()
    assert "_litestream_seq" not in {one.name for one in await transfer(tmp_path, url)}
    assert ("_litestream_seq",) not in tables(postgresql, url)


async def test_an_older_versions_database_is_brought_up_to_date(
    tmp_path: Path, postgresql: Server
) -> None:
    """It is copied as this version has it."""
    Old(tmp_path / DATABASE_NAME, 6)
    url = postgresql.database()
    done = {one.name: one.rows for one in await transfer(tmp_path, url)}
    assert rows(tmp_path, "PRAGMA user_version") == [(load()[-1][0],)]
    assert rows(tmp_path, "SELECT count(*) FROM membership") == [(done["membership"],)]
    assert done["membership"] > 20


@pytest.mark.parametrize("kind", ["filled", "others"])
async def test_a_database_that_holds_a_table_is_left_as_it_is(
    tmp_path: Path, postgresql: Server, kind: str
) -> None:
    """Whether it is one that a service has made, or somebody else's."""
    await made_in(tmp_path)
    if kind == "filled":
        url = postgresql.filled()
    else:
        url = postgresql.database()
        postgresql.run("CREATE TABLE theirs (number INTEGER)", named(url))
    before = tables(postgresql, url)
    with pytest.raises(DatabaseUnusableError, match="holds tables already") as raised:
        await transfer(tmp_path, url)
    assert all(str(name) in str(raised.value) for (name,) in before)
    assert tables(postgresql, url) == before


async def test_a_folder_without_a_database_is_left_empty(
    tmp_path: Path, postgresql: Server
) -> None:
    """None is made there to be copied."""
    url = postgresql.database()
    with pytest.raises(DatabaseUnusableError, match=f"{DATABASE_NAME} does not exist"):
        await transfer(tmp_path, url)
    assert list(tmp_path.iterdir()) == []
    assert tables(postgresql, url) == []


async def test_what_is_damaged_is_not_copied(tmp_path: Path, postgresql: Server) -> None:
    """Though all that is to be copied could still be read."""
    await made_in(tmp_path)
    sql = "SELECT rootpage FROM sqlite_master WHERE name = 'account_proposed'"
    [(page,)] = rows(tmp_path, sql)
    with (tmp_path / DATABASE_NAME).open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"x" * 4096)
    url = postgresql.database()
    with pytest.raises(DatabaseUnusableError, match=f"{DATABASE_NAME} is damaged"):
        await transfer(tmp_path, url)
    assert tables(postgresql, url) == []


async def test_a_service_on_the_folder_must_be_stopped_first(
    tmp_path: Path, postgresql: Server
) -> None:
    """What it would write meanwhile would be missing."""
    await made_in(tmp_path)
    url = postgresql.database()
    by = rf"served already by process {os.getpid()} on .*, 127\.0\.0\.1:5000, since "
    with occupying(tmp_path, "127.0.0.1:5000"), pytest.raises(OccupiedError, match=by):
        await transfer(tmp_path, url)
    assert tables(postgresql, url) == []


async def test_nobody_writes_to_either_meanwhile(tmp_path: Path, postgresql: Server) -> None:
    """No service starts on the folder; one that starts on the copy waits until it is whole."""
    await made_in(tmp_path)
    url = postgresql.database()
    refused: list[str] = []
    starting: list[asyncio.Task[Database]] = []

    def tell(_: Copied) -> None:
        if starting:
            return
        starting.append(asyncio.create_task(Database.open(url)))
        with pytest.raises(OccupiedError, match="migrate-store"), occupying(tmp_path, "here"):
            pass
        with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_NAME, timeout=0)) as other:
            try:
                other.execute("UPDATE tick SET number = 99")
            except sqlite3.OperationalError as error:
                refused.append(str(error))

    await transfer(tmp_path, url, tell)
    assert refused == ["database is locked"]
    database = await starting[0]
    [(scim_id,)] = await database.reader.execute_fetchall("SELECT id FROM scim_user")
    assert scim_id == "ann"
    await database.close()
    assert rows(tmp_path, "SELECT number < 99 FROM tick") == [(1,)]


@pytest.fixture
def own(postgresql: Server) -> Iterator[Server]:
    """Return a server that a test may stop."""
    assert postgresql
    with serving() as server:
        assert server is not None
        yield server


async def test_a_server_that_stops_half_way_has_nothing(tmp_path: Path, own: Server) -> None:
    """The same command does it all once it is back."""
    await made_in(tmp_path)
    url = own.database()

    def tell(copied: Copied) -> None:
        if copied.name == "membership":
            own.stop()

    with pytest.raises(DatabaseUnusableError):
        await transfer(tmp_path, url, tell)
    own.start()
    assert tables(own, url) == []
    assert await transfer(tmp_path, url)


_KILLED = """
import asyncio, os, pathlib, signal, sys
from pydantic import SecretStr
from scim_matrix.store.transfer import transfer
def tell(copied):
    if copied.name == "membership":
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(transfer(pathlib.Path(sys.argv[1]), SecretStr(sys.argv[2]), tell))
"""


async def test_a_command_that_is_killed_half_way_leaves_nothing(
    tmp_path: Path, postgresql: Server
) -> None:
    """Nor does it keep the folder or the database from whoever comes next."""
    await made_in(tmp_path)
    url = postgresql.database()
    command = [sys.executable, "-c", _KILLED, str(tmp_path), url.get_secret_value()]
    killed = await asyncio.to_thread(subprocess.run, command)
    assert killed.returncode == -signal.SIGKILL
    assert await transfer(tmp_path, url)


async def test_what_does_not_fit_is_named_and_nothing_is_copied(
    tmp_path: Path, postgresql: Server
) -> None:
    """SQLite keeps what a column is not made for; what it holds is not repeated."""
    await made_in(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.execute("UPDATE account SET tick = 'secret'")
        connection.commit()
    url = postgresql.database()
    with pytest.raises(DatabaseError, match=r"account\.tick holds what is no bigint") as raised:
        await transfer(tmp_path, url)
    assert "secret" not in str(raised.value)
    assert tables(postgresql, url) == []


# Drops what is inserted into a table, from when its other triggers are off.
_DROPPING = """
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION spoil() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_query() LIKE 'ALTER TABLE room DISABLE TRIGGER USER%'
    AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgname = 'spoilt')
    THEN CREATE TRIGGER spoilt BEFORE INSERT ON room FOR EACH ROW EXECUTE FUNCTION nothing();
    END IF; END $$;
CREATE EVENT TRIGGER spoiling ON ddl_command_end WHEN TAG IN ('ALTER TABLE')
EXECUTE FUNCTION spoil();
"""


async def test_what_an_index_does_not_take_is_named(tmp_path: Path, postgresql: Server) -> None:
    """Whose it is and which attribute, so that somebody can shorten it; nothing else is said."""
    await made_in(tmp_path)
    name = "".join(map(chr, range(0x4E00, 0x4E00 + 2000)))
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.execute("UPDATE scim_user SET display_name_key = ?", (name,))
        connection.commit()
    url = postgresql.database()
    variables = {"DATA_DIR": str(tmp_path), "DATABASE_URL": url.get_secret_value()}
    done = await asyncio.to_thread(run, "migrate-store", cwd=tmp_path, **variables)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    told = (
        "Error: nothing was copied: scim_user id ann: displayName has 6000 bytes, more than 1024: "
    )
    assert line.startswith(told)
    assert line.endswith('for index "scim_user_display_name"')
    assert tables(postgresql, url) == []


async def test_a_copy_that_is_not_the_same_is_undone(tmp_path: Path, postgresql: Server) -> None:
    """Whatever it was that made the difference."""
    await made_in(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.execute("INSERT INTO room (room_id) VALUES ('!r')")
        connection.commit()
    url = postgresql.database()
    postgresql.run(_DROPPING, named(url))
    with pytest.raises(DatabaseError, match="room is not in PostgreSQL"):
        await transfer(tmp_path, url)
    assert tables(postgresql, url) == []


def test_the_command_says_what_it_did(tmp_path: Path, postgresql: Server) -> None:
    """Each table with its rows, and what to do next; a second time it refuses."""
    folder = tmp_path / "data"
    asyncio.run(made_in(folder))
    url = postgresql.database().get_secret_value()
    done = run("migrate-store", cwd=tmp_path, DATA_DIR=str(folder), DATABASE_URL=url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "scim_user: 1 rows\n" in done.stdout
    assert "start the service with DATABASE_URL and without DATA_DIR" in done.stdout
    assert "ann" in run("users", cwd=tmp_path, DATABASE_URL=url).stdout
    again = run("migrate-store", "--data-dir", str(folder), cwd=tmp_path, DATABASE_URL=url)
    assert (again.returncode, again.stdout) == (1, "")
    assert "nothing was copied: " in again.stderr
    assert "holds tables already" in again.stderr


@pytest.mark.parametrize("missing", ["DATA_DIR", "DATABASE_URL"])
def test_the_command_needs_to_know_both(tmp_path: Path, missing: str) -> None:
    """It says which settings they are."""
    variables = {"DATA_DIR": str(tmp_path), "DATABASE_URL": "postgresql://ann:secret@db/scim"}
    del variables[missing]
    done = run("migrate-store", cwd=tmp_path, **variables)
    assert (done.returncode, missing in done.stderr, "secret" in done.stderr) == (2, True, False)
