"""No request, turn or probe reads a whole table of people, as SQLite and PostgreSQL plan it.

Scans of a partial index are none: they read what is held, pruned or to be done, not everybody.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from scim_matrix.app_keys import DATABASE
from scim_matrix.store import queries
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.grants import settle_people
from scim_matrix.store.postgresql import Postgresql, written
from scim_matrix.store.queries import load
from scim_matrix.store.sqlite import Sqlite
from tests.homeserver.deployment import deployed
from tests.postgresql import Server
from tests.service.conftest import Start

FILES = (
    *("accounts", "brake", "console", "grants", "groupmap", "memberships"),
    *("observed", "rooms", "second_accounts", "views"),
)
LARGE = {"account", "membership", "mapping_grant", "group_member", "unmanaged_member"}
# Those that read a whole table all the same, and why that is right.
KNOWN = {
    "brake.account_tally": "the brake's share is of all accounts; asked once for each to be taken",
    "brake.doubt_removed": "once for each backup that is put back",
    "console.held_places": "of how many accounts some are held, and only where some are",
    "console.people_named": "looks for a part of a user ID, in indexes and on a reader",
    "memberships.bound_account_rests": "once at each start",
    "memberships.counts": "tells how much there is of everything, on a connection of its own",
    "memberships.prune": "a human's command about everybody whom the map forgot",
    "views.subjects": "counts everybody, for the command `check`",
    "views.places": "of who is unmanaged, who is seldom many, once for all who are listed",
    "views.pending_memberships": "shows all that would be done",
    "views.work": "shows all that is left",
}
# The same of statements that stand where they are used, by how they begin.
KNOWN_TOTALS = (
    "SELECT (SELECT count(*) FROM scim_user)",
    "SELECT min(since) AS since FROM (",
)
SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"


async def scans(connection: Connection, sql: str, values: Any = ()) -> list[str]:
    """Return the steps of a statement's plan that read a whole large table."""
    partial = {
        row["name"]
        for row in await connection.execute_fetchall(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'"
        )
    }
    named = dict.fromkeys(LARGE, True)
    for table, alias in re.findall(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)(?:\s+AS)?\s+(\w+)", sql):
        named[alias] = named.get(alias, False) or table in LARGE
    found = []
    for row in await connection.execute_fetchall(f"EXPLAIN QUERY PLAN {sql}", values):
        step = re.fullmatch(
            r"(?:SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?(?:INDEX (\w+)|PRIMARY KEY))?",
            row["detail"],
        )
        if step is not None and named.get(step[1], False) and step[2] not in partial:
            found.append(row["detail"])
    return found


def sentence(sql: str) -> str:
    """Return by what a statement can be told from others: its comment, or how it begins."""
    return sql.strip().partition("\n")[0][:90]


SENTENCES = {sentence(load(key.partition(".")[0])[key.partition(".")[2]]) for key in KNOWN}


@pytest.mark.parametrize("name", FILES)
async def test_every_statement_finds_by_index_whom_it_concerns(
    database: Database, name: str
) -> None:
    """Except those listed, each with its reason; none is listed in vain."""
    found = {}
    async with database.write() as connection:
        for query, sql in load(name).items():
            values = dict.fromkeys(re.findall(r":(\w+)", sql))
            if steps := await scans(connection, sql, values):
                found[f"{name}.{query}"] = steps
    expected = {key for key in KNOWN if key.startswith(f"{name}.")}
    assert expected == set(found), found


@pytest.mark.parametrize(
    ("name", "index"), [("due", "account_turn"), ("due_disabling", "account_disabling")]
)
async def test_accounts_in_turn_are_the_first_of_an_index(
    database: Database, name: str, index: str
) -> None:
    """Sorted are only those few of which some are chosen, however many others wait or rest."""
    sql = load("accounts")[name]
    values = dict.fromkeys(re.findall(r":(\w+)", sql))
    found = await database.reader.execute_fetchall(f"EXPLAIN QUERY PLAN {sql}", values)
    steps = [row["detail"] for row in found if " account " in row["detail"]]
    sorts = [row["detail"] for row in found if row["detail"].startswith("USE TEMP B-TREE")]
    assert [
        "SEARCH account USING INTEGER PRIMARY KEY (rowid=?)",
        f"SEARCH account USING INDEX {index} (next_try=?)",
        f"SEARCH account USING INDEX {index} (next_try>? AND next_try<?)",
    ] == steps
    assert sorts == ["USE TEMP B-TREE FOR ORDER BY"]


async def test_where_people_are_is_found_from_those_who_are_listed(database: Database) -> None:
    """Nothing is gone through for each of them: only who is unmanaged, once for all."""
    sql = load("views")["places"]
    assert await scans(database.reader, sql, {"user_ids": "[]"}) == ["SCAN u"]
    reasons = load("grants")["reasons_of"]
    assert await scans(database.reader, reasons, {"accounts": "[]"}) == []


class Trace:
    """Every statement that a database runs, from now on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, str] = {}

    async def begin(self) -> None:
        """Listen on each of its connections."""
        for connection in (self._database._writer.driver, *self._database._readers):
            assert isinstance(connection, Sqlite)
            await connection.set_trace_callback(self._note)

    def _note(self, sql: str) -> None:
        text = re.sub(r"^(--[^\n]*\n)+", "", sql.strip())
        if re.match(r"(WITH|SELECT|INSERT|UPDATE|DELETE)\b", text):
            self._seen.setdefault(sentence(sql), sql)

    async def scans(self) -> dict[str, list[str]]:
        """Return the whole large tables that were read, by statement."""
        seen = dict(self._seen)
        assert len(seen) > 5
        async with self._database.write() as connection:
            found = {key: await scans(connection, sql) for key, sql in seen.items()}
        return {key: steps for key, steps in found.items() if steps}


def unknown(found: Iterable[str]) -> set[str]:
    """Return which statements are not known to read whole tables."""
    return {key for key in found if key not in SENTENCES and not key.startswith(KNOWN_TOTALS)}


async def test_requests_and_turns_read_whom_they_concern(tmp_path: Path) -> None:
    """What the identity provider sends, and what that leads to, as it is really run."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        for room_id in ("!r", "!x"):
            world.rooms.create(world.service, room_id=room_id)
        world.alias("#a:s", "!r")
        trace = Trace(deployment.database)
        await trace.begin()
        ids: list[str] = []
        for name in ("ann", "bob"):
            body: dict[str, Any] = {
                "schemas": [SCHEMA + "User"],
                "userName": name,
                "externalId": name,
                "emails": [{"value": f"{name}@x"}],
            }
            _, user = await deployment.scim("POST", "/Users", body)
            ids.append(user["id"])
        group = {
            "schemas": [SCHEMA + "Group"],
            "displayName": "staff",
            "externalId": "g",
            "members": [{"value": scim_id} for scim_id in ids],
        }
        _, made = await deployment.scim("POST", "/Groups", group)
        path, user = f"/Groups/{made['id']}", f"/Users/{ids[1]}"
        await deployment.put_map(
            {
                "g": [{"room": "#a:s", "powerLevel": 50}],
                "*": [{"room": "!x", "exclusive": True}],
                "displayName:s*": ["!r"],
            }
        )
        await deployment.quiet()
        for op, members in (("remove", ids[1:]), ("add", ids), ("replace", ids[:1])):
            operation = {
                "op": op,
                "path": "members",
                "value": [{"value": scim_id} for scim_id in members],
            }
            body = {
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                "Operations": [operation],
            }
            assert (await deployment.scim("PATCH", path, body))[0] == 204
            await deployment.quiet()
        requests: list[tuple[str, str, Any]] = [
            ("PUT", path, group),
            ("GET", path, None),
            ("GET", f"/Groups?filter=members%20eq%20%22{ids[0]}%22", None),
            ("GET", "/Users?filter=userName%20eq%20%22ann%22", None),
            ("GET", "/Users?filter=externalId%20eq%20%22ann%22", None),
            ("GET", user, None),
            ("PUT", user, {"schemas": [SCHEMA + "User"], "userName": "bob", "active": False}),
            ("DELETE", user, None),
            ("DELETE", path, None),
        ]
        for method, where, sent in requests:
            status, answer = await deployment.scim(method, where, sent)
            assert status < 300, answer
            await deployment.quiet()
        found = await trace.scans()
        assert unknown(found) == set(), found


async def test_probes_read_no_whole_table_but_to_count(start: Start) -> None:
    """And whether the process is alive, none at all."""
    client = await start()
    assert client.app is not None
    trace = Trace(client.app[DATABASE])
    await trace.begin()
    await client.get("/healthz")
    await client.get("/readyz")
    await client.get("/metrics")
    found = await trace.scans()
    assert unknown(found) == set(), found


# What PostgreSQL plans by: many people, each in three groups that open a room.
FILLED = """
SET session_replication_role = replica;
INSERT INTO scim_user (id, user_name_key, active, document, created, last_modified)
SELECT 'u' || n, 'u' || n, TRUE, '{}', '2020', '2020' FROM generate_series(1, 5000) n;
INSERT INTO group_member (group_id, value)
SELECT 'g' || n % 100, 'u' || n / 3 + 1 FROM generate_series(0, 14999) n;
INSERT INTO account (scim_id, user_id, bound_by, desired, profile, confirmed, usable)
SELECT 'u' || n, '@u' || n || ':s', 'made', 'active', '{}', 'active', TRUE
FROM generate_series(1, 5000) n;
INSERT INTO mapping (origin, kind, pattern, reference)
SELECT 'configuration', 'external_id', 'x' || n, '!r' || n FROM generate_series(1, 100) n;
INSERT INTO opening (mapping_id, room_id, standing)
SELECT n, '!r' || n, 'followed' FROM generate_series(1, 100) n;
INSERT INTO mapping_grant (account_id, mapping_id, state, origin, tick)
SELECT n / 3 + 1, n % 100 + 1, 'granted', 'identity_provider', 1 FROM generate_series(0, 14999) n;
INSERT INTO membership (room_id, account_id, state, observed, fit)
SELECT '!r' || n % 100 + 1, n / 3 + 1, 'granted', 'join', 2 FROM generate_series(0, 14999) n;
INSERT INTO unmanaged_member (room_id, user_id)
SELECT '!r' || n % 100 + 1, '@s' || n || ':s' FROM generate_series(1, 5000) n;
SET session_replication_role = origin;
ANALYZE;
"""
# Those that it may read a whole table for all the same.
KNOWN_THERE = {
    "console.people_named": KNOWN["console.people_named"],
    "console.members_named": "looks for a part of a name, in indexes and on a reader",
    "grants.spread_mapped": "a line of everybody is about everybody; nothing is read for others",
    "memberships.bound_account_rests": KNOWN["memberships.bound_account_rests"],
    "memberships.prune": KNOWN["memberships.prune"],
    "views.progress": "counts everybody, for the command `status --watch`",
    "views.users": "lists everybody, for the command `users`",
}
# And those that do so in a new database, until the server has analyzed its tables by itself, which
# it does within a minute or two of the first rows. Scratch tables it never analyzes.
KNOWN_AT_FIRST = {
    "accounts.doubt_gone",
    "console.reasons_of",
    "console.staying",
    "grants.reasons_of",
    "memberships.counts",
    "views.pending_memberships",
    "views.work",
}


def whole(plan: dict[str, Any], partial: set[str]) -> list[str]:
    """Return which large tables a plan of PostgreSQL reads from one end to the other."""
    found = [step for part in plan.get("Plans", []) for step in whole(part, partial)]
    reads = plan["Node Type"] in ("Seq Scan", "Index Scan", "Index Only Scan")
    by_index = "Index Cond" in plan or plan.get("Index Name") in partial
    if reads and not by_index and plan["Relation Name"] in LARGE | {"scim_user"}:
        found.append(f"{plan['Node Type']} {plan['Relation Name']}")
    return found


@pytest.mark.parametrize("filled", [False, True])
async def test_every_statement_finds_by_index_whom_it_concerns_in_postgresql(
    postgresql: Server, filled: bool
) -> None:
    """With many people, and in a new database: what was planned there goes on for long.

    A survey before there is anybody does not have it plan for nobody.
    """
    url = postgresql.filled()
    database = await Database.open(url)
    writer = database._writer.driver
    assert isinstance(writer, Postgresql)
    if filled:
        await writer.run(FILLED)
    else:
        await database.survey()
    await writer.run("SET plan_cache_mode = force_generic_plan")
    indexes = "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '% WHERE %'"
    partial = {row["indexname"] for row in await writer.fetch(indexes)}
    found = {}
    for name in sorted(file.stem for file in Path(queries.__file__).parent.glob("*.sql")):
        for query, sql in load(name).items():
            text, names = written(sql)
            await writer.run(f"PREPARE asked AS {text.decode()}")
            given = f"({', '.join(['NULL'] * len(names))})" if names else ""
            [[plan]] = await writer.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE asked{given}")
            await writer.run("DEALLOCATE asked")
            if steps := whole(orjson.loads(plan)[0]["Plan"], partial):
                found[f"{name}.{query}"] = steps
    await database.close()
    known = KNOWN_THERE.keys() if filled else KNOWN_THERE.keys() | KNOWN_AT_FIRST
    assert found.keys() <= known, found


# A map of many lines has come over the people of FILLED, and nothing of it is worked out yet.
UNSETTLED = """
SET session_replication_role = replica;
DELETE FROM mapping_grant;
DELETE FROM membership;
INSERT INTO scim_group
    (id, external_id, display_name, display_name_key, document, created, last_modified)
SELECT 'g' || n, 'x' || n, 'G' || n, 'g' || n, '{}', '2020', '2020' FROM generate_series(0, 99) n;
INSERT INTO unsettled (account_id) SELECT id FROM account;
SET session_replication_role = origin;
"""
SETTLED = 200


def read(plan: dict[str, Any]) -> float:
    """Return how many rows the steps of a plan that was run have read, those in vain included."""
    removed = sum(float(plan.get(f"Rows Removed by {by}", 0)) for by in ("Filter", "Join Filter"))
    here = float(plan["Actual Loops"]) * (float(plan["Actual Rows"]) + removed)
    return here + sum(map(read, plan.get("Plans", [])))


async def test_a_piece_of_a_change_of_the_map_reads_whom_it_is_for(postgresql: Server) -> None:
    """However many they are at once, as soon as PostgreSQL was told that much is there by now."""
    database = await Database.open(postgresql.filled())
    writer = database._writer.driver
    assert isinstance(writer, Postgresql)
    await writer.run(FILLED.replace("ANALYZE;", "") + UNSETTLED)
    for _ in range(16):
        async with database.write() as connection:
            await settle_people(connection, 1)
    await database.survey()
    numbers = {}
    async with database.write() as connection:
        values = {"origin": "map", "request": None, "at": 0.0, "limit": SETTLED}
        values["tick"] = await connection.tick()
        for name in ("take", "open", "grant", "revoke", "want", "regain", "gain", "lose"):
            sql = f"EXPLAIN (ANALYZE, FORMAT JSON) {load('grants')[name]}"
            [[plan]] = await connection.execute_fetchall(sql, values)
            numbers[name] = read(orjson.loads(plan)[0]["Plan"])
        [granted] = await connection.execute_fetchall("SELECT count(*) AS number FROM membership")
    await database.close()
    assert granted["number"] >= 2 * SETTLED
    assert max(numbers.values()) < 60 * SETTLED, numbers
