"""No request, turn or probe reads a whole table of people: plans as SQLite makes them by default.

Scans of a partial index are none: they read what is held, pruned or to be done, not everybody.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from scim_matrix.app_keys import DATABASE
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.queries import load
from scim_matrix.store.sqlite import Sqlite
from tests.homeserver.deployment import deployed
from tests.service.conftest import Start

FILES = (
    *("accounts", "brake", "console", "grants", "groupmap", "memberships"),
    *("observed", "rooms", "second_accounts", "views"),
)
LARGE = {"account", "membership", "mapping_grant", "group_member", "unmanaged_member"}
# Those that read a whole table all the same, and why that is right.
KNOWN = {
    "brake.account_tally": "the brake's share is of all accounts; asked once for each to be taken",
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
        for connection in (self._database._writer, *self._database._readers):
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
