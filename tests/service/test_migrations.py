"""Databases of every earlier schema, with everything in them, are opened and mean the same."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from scim_matrix.groupmap import Mapping
from scim_matrix.store import (
    accounts,
    binding,
    brake,
    grants,
    groupmap,
    memberships,
    observed,
    references,
    rooms,
)
from scim_matrix.store.accounts import Disablement, Profile, Written
from scim_matrix.store.database import Database
from scim_matrix.store.errors import DatabaseError
from scim_matrix.store.migrations import load
from scim_matrix.store.sqlite import DATABASE_NAME
from scim_matrix.store.text import composed, folded
from tests.service import oracle

# What came with which schema: holding, forgetting and the record; options, leaving by choice and
# spaces; mappings of the console.
GUARD, OPTIONS, CONSOLE = 3, 4, 6
EARLIER = [number for number, _ in load()[:6]]
JULIAN = 2460000.5
SECONDS = (JULIAN - 2440587.5) * 86400
EXPIRES = 2_000_000_000.0

MAP = [
    Mapping("external_id", "ext-staff", "#staff:s"),
    Mapping("display_name", "eng-*", "#later:s"),
    Mapping("everyone", "", "!all"),
]
MAP_WITH_OPTIONS = [
    *MAP,
    Mapping("external_id", "ext-leads", "!staff", power=50),
    Mapping("external_id", "ext-leads", "#space:s", children=True),
    Mapping("external_id", "ext-leads", "#unread:s", children=True),
    Mapping("external_id", "ext-leads", "!old", invite=True),
    Mapping("external_id", "ext-leads", "!vip", exclusive=True),
]


def said(mapping: Mapping) -> dict[str, Any]:
    """Return key and options of a mapping."""
    return {k: v for k, v in asdict(mapping).items() if k not in ("room", "create")}


class Old:
    """A database as an earlier version left it."""

    def __init__(self, path: Path, version: int) -> None:
        self.version = version
        self.connection = sqlite3.connect(path)
        for function in (folded, composed):
            self.connection.create_function(function.__name__, 1, function)
        self.connection.execute("PRAGMA foreign_keys = ON")
        for number, script in load():
            if number <= version:
                self.connection.executescript(f"{script}; PRAGMA user_version = {number};")
        self._group("staff", "ann", "bob", "una", "inner")
        self._group("inner", "nat")
        self._group("leads", "ann", "rob", "vic")
        self._group("eng-1", "ann")
        self._accounts()
        self._map()
        self._pairs()
        self.connection.commit()
        self.connection.close()

    def insert(self, table: str, **values: Any) -> None:
        """Insert a row, leaving out the columns that this version does not have."""
        found = self.connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
        present = {name for (name,) in found}
        kept = {name: value for name, value in values.items() if name in present}
        self.connection.execute(
            f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({', '.join('?' * len(kept))})",
            tuple(kept.values()),
        )

    def _group(self, name: str, *members: str) -> None:
        self.insert(
            "scim_group",
            id=name,
            external_id=f"ext-{name}",
            display_name=name,
            display_name_key=name,
            document=orjson.dumps({"displayName": name, "externalId": f"ext-{name}"}).decode(),
            created="2024",
            last_modified="2024",
        )
        for member in members:
            self.insert("group_member", group_id=name, value=member, display=None)

    # -- Accounts ----------------------------------------------------------

    def account(
        self,
        name: str,
        wanted: str = "active",
        applied: str | None = "active",
        *,
        is_user: bool = True,
        subject: str | None = "",
        **more: Any,
    ) -> None:
        """Store an account, and its user where there is one."""
        if is_user:
            self.insert(
                "scim_user",
                id=name,
                user_name_key=name,
                external_id=f"ext-{name}",
                active=int(wanted == "active"),
                document=orjson.dumps({"userName": name, "active": wanted == "active"}).decode(),
                created="2024",
                last_modified="2024",
            )
        self.insert(
            "account",
            **{
                "user_id": f"@{name}:s",
                "scim_id": name if is_user else None,
                "subject": f"ext-{name}" if subject == "" else subject,
                "wanted": old_profile(name, wanted, subject),
                "applied": None if applied is None else old_profile(name, applied, subject),
                "ready": int(applied is not None),
                "since": JULIAN,
                "request": f"request-{name}",
                **more,
            },
        )

    def _accounts(self) -> None:
        for name in ("ann", "bob", "nat", "rob", "una", "vic", *LEAVERS):
            if name != "bob":
                self.account(name)
        self.account("bob", applied=None)
        self.account("kim", subject=None)
        self.account("cat", "disabled", "active")
        self.account("dan", "disabled", "disabled")
        self.account("lea", "disabled", None)
        self.account("back", "active", "disabled")
        self.account("eve", "deleted", "active", is_user=False, expires=EXPIRES)
        self.account("fay", "expired", "deleted", is_user=False)
        self.account("gil", "deleted", None, is_user=False, expires=EXPIRES)
        if self.version >= GUARD:
            self.account("hal", "disabled", "active", held=1)
            self.account("hob", "deleted", "active", is_user=False, held=1, expires=EXPIRES)
            self.account("jon", "disabled", "active", approved=1)
            self.account("ivy", "disabled", "disabled")
            self.account("ira", "deleted", "deleted", is_user=False, expires=EXPIRES)
            self.account("iza", "disabled", "disabled")
            for name, request in (("ivy", "ivy"), ("ira", "ira"), ("iza", "of-another-time")):
                self.record("disable", "dismissed", name, request=f"request-{request}")

    # -- The map -----------------------------------------------------------

    @property
    def map(self) -> list[Mapping]:
        """The configuration's map of this version."""
        return MAP_WITH_OPTIONS if self.version >= OPTIONS else MAP

    def _map(self) -> None:
        for mapping in self.map:
            self._mapping(mapping)
        self.room("#staff:s", "!staff", error="no power there")
        self.room("#later:s", None, error="not found", attempts=3, next_try=1e12)
        self.room("!all", "!all")
        if self.version >= OPTIONS:
            template = orjson.dumps({"name": "Space"}).decode()
            self.room("!staff", "!staff")
            self.room("#space:s", "!space", template=template)
            self.room("#unread:s", "!unread")
            self.room("!old", "!new")
            self.room("!vip", "!vip")
            for child in ("!child", "!room"):
                self.insert("room_child", reference="#space:s", room_id=child)
            self.insert("stranger", room_id="!vip", user_id="@guest:s")
            self.insert("stranger", room_id="!staff", user_id="@guest:s")
        if self.version >= CONSOLE:
            for reference, room_id in (("#ops:s", "!ops"), ("#nowhere:s", None)):
                mapping = Mapping("group_id", "inner", reference, children=True)
                self._mapping(mapping)
                self._mapping(mapping, "console_mapping", made_by="@mod:s", made_at=SECONDS)
                self.room(reference, room_id)
            self.insert("room_child", reference="#ops:s", room_id="!below")

    def _mapping(self, mapping: Mapping, table: str = "mapping", **more: Any) -> None:
        self.insert(table, room_reference=mapping.room, **said(mapping), **more)

    def room(self, reference: str, room_id: str | None, **more: Any) -> None:
        """Store what a reference stands for."""
        self.insert("room", reference=reference, room_id=room_id, **more)

    # -- Memberships -------------------------------------------------------

    def pair(self, room_id: str, name: str, *, granted: bool, **more: Any) -> None:
        """Store a pair."""
        values = {"group_name": "staff", "membership": "join", "since": JULIAN, **more}
        values.setdefault("request", f"request-{name}")
        self.insert("pair", room_id=room_id, user_id=f"@{name}:s", granted=int(granted), **values)

    def record(self, kind: str, outcome: str, name: str, **more: Any) -> None:
        """Store an entry of the record."""
        self.insert("action", at=SECONDS, kind=kind, outcome=outcome, user_id=f"@{name}:s", **more)

    def _pairs(self) -> None:
        active = ["ann", "bob", "nat", "rob", "una", "vic", "kim", "back", *LEAVERS]
        for name in active:
            self.pair("!all", name, granted=True, group_name="everyone")
        for name in ("ann", "nat", "bob"):
            self.pair("!staff", name, granted=True, membership=None if name == "bob" else "join")
        self.pair("!staff", "una", granted=True, membership="ban")
        self.pair("!staff", "mia", granted=False)
        self.pair("!staff", "ned", granted=False, membership="leave")
        self.pair("!staff", "eve", granted=False)
        # Never made: whoever has the name by now is somebody else.
        self.pair("!staff", "gil", granted=False, membership=None)
        if self.version >= GUARD:
            self.pair("!gone", "ann", granted=False, forgotten=1)
            self.pair("!staff", "pat", granted=False, held=1)
            self.pair("!staff", "qia", granted=False, approved=1)
            self.pair("!gone", "tom", granted=False, request="sync --prune")
            self.pair("!staff", "oda", granted=False, forgotten=1)
            # Let stay, granted again, and forgotten later.
            self.pair("!gone", "wes", granted=False, forgotten=1, request="request-later")
            for room_id, name in (("!staff", "oda"), ("!gone", "wes")):
                self.record("kick", "dismissed", name, room_id=room_id, request=f"request-{name}")
        if self.version >= OPTIONS:
            self._pairs_with_options()
        if self.version >= CONSOLE:
            for room_id in ("!ops", "!below"):
                self.pair(room_id, "nat", granted=True, group_name="inner")

    def _pairs_with_options(self) -> None:
        leads = {"group_name": "leads"}
        self.connection.execute(
            "UPDATE pair SET group_name = 'leads', power = 50, power_set = 50"
            " WHERE room_id = '!staff' AND user_id = '@ann:s'"
        )
        for room_id in ("!space", "!child", "!room", "!unread", "!vip"):
            for name in ("ann", "rob", "vic"):
                self.pair(room_id, name, granted=True, **leads)
        for name, membership in (("ann", "join"), ("rob", "left"), ("vic", "invite")):
            self.pair("!new", name, granted=True, invite=1, membership=membership, **leads)
        self.pair("!staff", "rob", granted=True, power=50, membership="leave", **leads)
        self.pair("!staff", "vic", granted=True, power=50, power_set=None, **leads)
        self.pair("!gone", "rob", granted=False, forgotten=1, membership="left", **leads)
        self.pair("!gone", "kim", granted=False, membership="leave", power_set=20)
        # Nobody's, some with an account of this service, one let stay.
        exclusive = {"group_name": None, "request": "exclusive"}
        for name in ("sam", "kim"):
            self.pair("!vip", name, granted=False, **exclusive)
        self.pair("!vip", "out", granted=False, held=1, **exclusive)
        self.pair("!vip", "sue", granted=False, forgotten=1, **exclusive)
        self.record("kick", "dismissed", "sue", room_id="!vip", request="exclusive")


LEAVERS = ("mia", "ned", "oda", "pat", "qia", "tom", "wes")


def old_profile(name: str, state: str, subject: str | None = "") -> str:
    """Return an account's profile as earlier versions stored it."""
    return orjson.dumps(
        {
            "display_name": f'{name} "\u00fc" \\ \n',
            "emails": [f"{name}@x"],
            "state": state,
            "subject": f"ext-{name}" if subject == "" else subject,
        },
        option=orjson.OPT_SORT_KEYS,
    ).decode()


def profile(name: str, subject: str | None = "") -> str:
    """Return the same as it is stored now."""
    said = f"ext-{name}" if subject == "" else subject
    return Profile(f'{name} "\u00fc" \\ \n', (f"{name}@x",), said).dump()


@pytest.fixture(params=EARLIER)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Old:
    """Return a database of each earlier version."""
    return Old(tmp_path / DATABASE_NAME, request.param)


@pytest.fixture
async def opened(old: Old, tmp_path: Path) -> AsyncIterator[Database]:
    """Return it as the present version opens it."""
    database = await Database.open(tmp_path)
    yield database
    await database.close()


async def rows(database: Database, sql: str) -> list[dict[str, Any]]:
    """Return rows as dictionaries."""
    return [dict(row) for row in await database.reader.execute_fetchall(sql)]


async def by_user(database: Database, *columns: str) -> dict[str, Any]:
    """Return columns of accounts, by the user ID that they have or would get."""
    found = await rows(
        database,
        f"SELECT coalesce(user_id, proposed) AS name, {', '.join(columns)} FROM account",
    )
    return {row["name"][1:].partition(":")[0]: tuple(row[c] for c in columns) for row in found}


async def states(database: Database, *columns: str) -> dict[tuple[str, str], Any]:
    """Return columns of memberships, by room and name."""
    found = await rows(
        database,
        "SELECT coalesce(a.user_id, a.proposed) AS name, m.* FROM membership m"
        " JOIN account a ON a.id = m.account_id",
    )
    return {
        (row["room_id"], row["name"][1:].partition(":")[0]): tuple(row[c] for c in columns)
        for row in found
    }


async def mapping_rows(database: Database) -> list[dict[str, Any]]:
    """Return mappings as far as anybody said them."""
    names = ["origin", "reference", "made_by", "alias", "standing", *said(MAP[0])]
    found = await rows(database, "SELECT * FROM mapping ORDER BY id")
    return [{name: row[name] for name in names} for row in found]


# -- The file ------------------------------------------------------------------


async def test_the_file_is_whole(old: Old, opened: Database, tmp_path: Path) -> None:
    """No damage, nothing dangling, no table of the former shape, the version counted up."""
    async with opened.write() as connection:
        [(verdict,)] = await connection.execute_fetchall("PRAGMA integrity_check")
        assert verdict == "ok"
        assert await connection.execute_fetchall("PRAGMA foreign_key_check") == []
    assert await rows(opened, "PRAGMA user_version") == [{"user_version": len(load())}]
    tables = await rows(opened, "SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    gone = {"pair", "stranger", "room_child", "console_mapping", "new_account", "new_mapping"}
    assert not gone & {row["name"] for row in tables}
    assert not [row["name"] for row in tables if "new_" in (row["sql"] or "")]


async def test_it_is_the_schema_of_a_new_database(opened: Database, tmp_path: Path) -> None:
    """Upgraded or new, there is one schema: tables, columns, checks and indexes."""
    (tmp_path / "new").mkdir()
    new = await Database.open(tmp_path / "new")
    schema = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
    assert await rows(opened, schema) == await rows(new, schema)
    await new.close()


async def test_what_the_identity_provider_said_is_kept(opened: Database) -> None:
    """Users, groups and members as they were, found by what is looked up."""
    users = await rows(opened, "SELECT id FROM scim_user WHERE external_id = 'ext-ann'")
    assert users == [{"id": "ann"}]
    members = await rows(opened, "SELECT group_id, value FROM group_member ORDER BY 1, 2")
    assert [tuple(row.values()) for row in members] == [
        ("eng-1", "ann"),
        ("inner", "nat"),
        ("leads", "ann"),
        ("leads", "rob"),
        ("leads", "vic"),
        *(("staff", name) for name in ("ann", "bob", "inner", "una")),
    ]


async def test_what_cannot_be_is_refused(opened: Database) -> None:
    """States contradict each other no more."""
    contradictions = [
        "UPDATE account SET brake = 'held' WHERE proposed IS NULL",
        "UPDATE account SET bound_by = NULL WHERE user_id IS NOT NULL",
        "UPDATE account SET desired = 'active', expires = 1 WHERE expires IS NULL",
        "UPDATE account SET desired = 'gone'",
        "UPDATE membership SET brake = 'approved' WHERE state = 'granted'",
        "UPDATE membership SET left_by_choice = TRUE WHERE state = 'revoked'",
        "UPDATE membership SET observed = 'left'",
        "UPDATE room_reference SET room_id = NULL WHERE standing = 'pinned'",
        "UPDATE room_reference SET standing = 'waiting' WHERE standing = 'unresolved'",
        "UPDATE mapping SET made_by = '@a:s' WHERE origin = 'configuration'",
        "INSERT INTO membership (room_id, account_id, state) VALUES ('!r', 99999, 'granted')",
    ]
    for statement in contradictions:
        with pytest.raises(DatabaseError):
            async with opened.write() as connection:
                await connection.execute_fetchall(statement)


# -- Accounts ------------------------------------------------------------------


async def test_accounts_are_desired_as_before(old: Old, opened: Database) -> None:
    """With everything that is known of them; those that never were anybody's are gone."""
    made = ["ann", "nat", "rob", "una", "vic", "kim", "back", *LEAVERS]
    expected: dict[str, Any] = {name: ("active", name, "migrated") for name in made}
    expected |= {
        "bob": ("active", "bob", None),
        "cat": ("disabled", "cat", "migrated"),
        "dan": ("disabled", "dan", "migrated"),
        "lea": ("disabled", "lea", None),
        "eve": ("deleted", None, "migrated"),
        "fay": ("expired", None, "migrated"),
    }
    if old.version >= GUARD:
        expected |= {n: ("disabled", n, "migrated") for n in ("hal", "jon", "ivy", "iza")}
        expected |= dict.fromkeys(("hob", "ira"), ("deleted", None, "migrated"))
    if old.version >= OPTIONS:
        expected |= dict.fromkeys(("sam", "out", "sue"), ("unmanaged", None, "observed"))
    assert expected == await by_user(opened, "desired", "scim_id", "bound_by")


async def test_users_without_a_subject_are_known_by_their_scim_id(opened: Database) -> None:
    """As those are whose account is made now."""
    found = await by_user(opened, "scim_id", "mark")
    assert {mark == scim_id for scim_id, mark in found.values()} == {True}


async def test_profiles_are_as_the_service_writes_them(opened: Database) -> None:
    """Byte for byte, so that a request that changes nothing makes no work."""
    found = await by_user(opened, "profile", "subject")
    assert found["ann"] == (profile("ann"), "ext-ann")
    assert found["bob"] == (profile("bob"), "ext-bob")
    assert found["kim"] == (profile("kim", None), None)


async def test_what_the_service_did_may_be_undone(opened: Database) -> None:
    """Where an account was last made to be other than active; and what was written taken back."""
    for name, is_ours in (("ann", False), ("cat", False), ("dan", True), ("fay", True)):
        [account] = [a for a in await every(opened) if a.user_id == f"@{name}:s"]
        assert account.ours == Disablement(is_ours, is_ours, is_ours), name
        assert account.written == Written(frozenset({f"{name}@x"}), frozenset({f"ext-{name}"}))
    [kim] = [a for a in await every(opened) if a.user_id == "@kim:s"]
    assert kim.written == Written(frozenset({"kim@x"}))
    [bob] = [a for a in await every(opened) if a.proposed == "@bob:s"]
    assert (bob.user_id, bob.written) == (None, Written())


async def every(database: Database) -> list[accounts.Account]:
    """Return every account."""
    found = [
        await accounts.get(database.reader, row["id"])
        for row in await rows(database, "SELECT id FROM account WHERE desired <> 'unmanaged'")
    ]
    return [account for account in found if account is not None]


async def verified(database: Database) -> None:
    """Have every account be found to be its user's."""
    async with database.write() as connection:
        for account in await every(database):
            if account.user_id is not None:
                assert await binding.bind(connection, account, account.user_id, "record") is None


async def test_every_account_is_looked_at_once(old: Old, opened: Database) -> None:
    """Nothing is believed of it, nobody is joined before, and all times are the epoch's."""
    found = await by_user(opened, "todo", "usable", "confirmed", "since")
    for name in ("ann", "back", "cat", "dan", "eve", "fay"):
        assert found[name][:3] == ("verify", 0, None)
    assert found["bob"][:3] == ("provision", 0, None)
    # Stored inactive, and nobody made an account: one that is linked is looked for.
    assert found["lea"][:3] == ("disable", 0, None)
    since = SECONDS if old.version >= OPTIONS else 0
    assert {row[3] for name, row in found.items() if name not in ("sam", "out", "sue")} == {since}


async def test_what_was_under_way_is_in_doubt(opened: Database) -> None:
    """It may be carried out after the start: the time begins then."""
    rows = await opened.reader.execute_fetchall(
        "SELECT user_id, desired, confirmed, doing, unsure_until, unsure_of FROM account"
    )
    for row in rows:
        under_way = row["confirmed"] is None and row["user_id"] and row["desired"] != "unmanaged"
        assert row["unsure_until"] == (0.0 if under_way else None)
        assert row["unsure_of"] == (row["doing"] if under_way else None)
    assert {row["unsure_until"] for row in rows} >= {0.0}


async def test_grace_periods_go_on(old: Old, opened: Database) -> None:
    """Of deleted accounts only."""
    found = await by_user(opened, "expires")
    expected = {"eve", "hob"} if old.version >= GUARD else {"eve"}
    assert {name for name, (expires,) in found.items() if expires is not None} == expected
    assert found["eve"] == (EXPIRES,)


async def test_held_accounts_wait_on(old: Old, opened: Database) -> None:
    """What was approved and not done yet is looked at by the brake again."""
    await verified(opened)
    found = await by_user(opened, "brake", "held_because", "todo")
    held = {name for name, (state, *_) in found.items() if state == "held"}
    assert held == ({"hal", "hob"} if old.version >= GUARD else set())
    for name in held:
        assert found[name] == ("held", "limit", None)
    assert {state for state, *_ in found.values()} <= {"held", "free"}
    if held:
        assert found["jon"] == ("free", None, "disable")
        shown = [one.user_id for one in await brake.held_accounts(opened.reader)]
        assert shown == ["@hal:s", "@hob:s"]


async def test_an_account_that_a_human_let_be_is_let_be(old: Old, opened: Database) -> None:
    """Until the identity provider says something new; a decision of another time is none."""
    if old.version < GUARD:
        return
    await verified(opened)
    found = await by_user(opened, "problem", "todo", "expires")
    assert found["ivy"] == ("dismissed", None, None)
    assert found["ira"] == ("dismissed", None, None)
    assert found["iza"] == (None, "disable", None)


# -- The map -------------------------------------------------------------------


async def test_the_map_is_what_it_was(old: Old, opened: Database) -> None:
    """The configuration's with all options; the console's mean the room that they meant."""
    expected = [
        {
            "origin": "configuration",
            "reference": m.room,
            **said(m),
            "made_by": None,
            "alias": None,
            "standing": "in_force",
        }
        for m in old.map
    ]
    found = await mapping_rows(opened)
    configured = [row for row in found if row["origin"] == "configuration"]
    assert sorted(expected, key=str) == sorted(configured, key=str)
    console = [row for row in found if row["origin"] == "console"]
    assert [(r["reference"], r["alias"], r["made_by"], r["children"]) for r in console] == (
        [("#nowhere:s", "#nowhere:s", "@mod:s", 1), ("!ops", "#ops:s", "@mod:s", 1)]
        if old.version >= CONSOLE
        else []
    )


async def test_rooms_of_the_console_rest_on_their_makers_power(old: Old, opened: Database) -> None:
    """The configuration's rest on nobody's."""
    found = await rows(
        opened,
        "SELECT DISTINCT m.made_by, o.led_by FROM opening o JOIN mapping m ON m.id = o.mapping_id",
    )
    expected: dict[str | None, str | None] = {None: None}
    if old.version >= CONSOLE:
        expected["@mod:s"] = '["@mod:s"]'
    assert {row["made_by"]: row["led_by"] for row in found} == expected


async def test_references_stand_for_the_rooms_they_stood_for(old: Old, opened: Database) -> None:
    """Pinned where they were known, asked for at once where not."""
    found = await rows(opened, "SELECT * FROM room_reference")
    expected = {
        "#staff:s": ("pinned", "!staff"),
        "#later:s": ("unresolved", None),
        "!all": ("pinned", "!all"),
    }
    if old.version >= OPTIONS:
        expected |= {
            "!staff": ("pinned", "!staff"),
            "#space:s": ("pinned", "!space"),
            "#unread:s": ("pinned", "!unread"),
            "!old": ("pinned", "!new"),
            "!vip": ("pinned", "!vip"),
        }
    if old.version >= CONSOLE:
        expected |= {"!ops": ("pinned", "!ops"), "#nowhere:s": ("unresolved", None)}
    assert expected == {r["reference"]: (r["standing"], r["room_id"]) for r in found}
    unresolved = {r.reference for r in await references.unresolved(opened.reader, 0.0, [], 100)}
    assert unresolved == {r for r, (standing, _) in expected.items() if standing == "unresolved"}
    templates = {r["reference"]: r["template"] for r in found if r["template"]}
    assert templates == ({"#space:s": '{"name":"Space"}'} if old.version >= OPTIONS else {})


async def test_upgrades_that_were_followed_are_known(old: Old, opened: Database) -> None:
    """Whoever names the former room again means the one that took its place."""
    followed = "!new" if old.version >= OPTIONS else "!old"
    assert await rooms.successor(opened.reader, "!old") == followed
    assert await rooms.successor(opened.reader, "!all") == "!all"


async def test_a_room_that_could_not_be_used_is_asked_again_first(opened: Database) -> None:
    """With the reason shown meanwhile."""
    found = await rows(opened, "SELECT room_id, unusable FROM room WHERE unusable IS NOT NULL")
    assert found == [{"room_id": "!staff", "unusable": "no power there"}]


async def test_mappings_open_what_they_opened(old: Old, opened: Database) -> None:
    """Their own rooms and those of spaces, each by what names it."""
    found = await rows(
        opened,
        "SELECT m.reference, o.room_id, o.via FROM opening o JOIN mapping m ON m.id = o.mapping_id"
        " WHERE o.standing = 'followed'",
    )
    expected: set[tuple[str, str, str | None]] = {
        ("#staff:s", "!staff", None),
        ("!all", "!all", None),
    }
    if old.version >= OPTIONS:
        expected |= {
            ("!staff", "!staff", None),
            ("#space:s", "!space", None),
            ("#space:s", "!child", "!space"),
            ("#space:s", "!room", "!space"),
            ("#unread:s", "!unread", None),
            ("!old", "!new", None),
            ("!vip", "!vip", None),
        }
    if old.version >= CONSOLE:
        expected |= {("!ops", "!ops", None), ("!ops", "!below", "!ops")}
    assert expected == {tuple(row.values()) for row in found}


async def test_a_space_that_was_never_read_is_known_to_be_so(old: Old, opened: Database) -> None:
    """What is revoked before its rooms are first read counts there too."""
    found = await rows(opened, "SELECT reference FROM mapping WHERE children_known ORDER BY 1")
    known = {row["reference"] for row in found}
    expected = {"#space:s"} if old.version >= OPTIONS else set()
    assert known == (expected | {"!ops"} if old.version >= CONSOLE else expected)


# -- Memberships ---------------------------------------------------------------


def expected_states(version: int) -> dict[tuple[str, str], tuple[str, str | None, str | None]]:
    """Return what has become of every pair: state, membership, and what is left to do."""
    granted = ("granted", "join", None)
    names = ["ann", "nat", "rob", "una", "vic", "kim", "back", *LEAVERS]
    expected: dict[tuple[str, str], tuple[str, str | None, str | None]] = {
        ("!all", name): granted for name in names
    }
    expected |= {
        # Not in any room as far as anybody knows: the account is still to be made.
        ("!all", "bob"): ("granted", None, "join"),
        ("!staff", "bob"): ("granted", None, "join"),
        ("!staff", "ann"): granted,
        ("!staff", "nat"): granted,
        ("!staff", "una"): ("granted", "ban", None),
        ("!staff", "mia"): ("revoked", "join", "leave"),
        ("!staff", "ned"): ("revoked", "leave", None),
        ("!staff", "eve"): ("revoked", "join", "leave"),
    }
    if version >= GUARD:
        expected |= {
            ("!gone", "ann"): ("forgotten", "join", None),
            ("!gone", "tom"): ("pruned", "join", "leave"),
            ("!gone", "wes"): ("forgotten", "join", None),
            ("!staff", "oda"): ("dismissed", "join", None),
            ("!staff", "pat"): ("revoked", "join", None),
            ("!staff", "qia"): ("revoked", "join", "leave"),
        }
    if version >= OPTIONS:
        expected |= {
            (room_id, name): granted
            for room_id in ("!space", "!child", "!room", "!unread", "!vip")
            for name in ("ann", "rob", "vic")
        }
        expected |= {
            ("!new", "ann"): granted,
            ("!new", "rob"): ("granted", "leave", None),
            ("!new", "vic"): ("granted", "invite", None),
            ("!staff", "rob"): ("granted", "leave", "join"),
            ("!staff", "vic"): granted,
            ("!gone", "rob"): ("forgotten", "leave", None),
            ("!gone", "kim"): ("revoked", "leave", None),
            ("!vip", "sam"): ("excluded", "join", "leave"),
            ("!vip", "kim"): ("excluded", "join", "leave"),
            ("!vip", "out"): ("excluded", "join", None),
            ("!vip", "sue"): ("dismissed", "join", None),
        }
    if version >= CONSOLE:
        expected |= {(room_id, "nat"): granted for room_id in ("!ops", "!below")}
    return expected


async def test_every_pair_has_a_state_with_a_name(old: Old, opened: Database) -> None:
    """None lost, and what is left to do follows from it."""
    assert expected_states(old.version) == await states(opened, "state", "observed", "todo")


async def test_nothing_is_asked_of_an_account_that_was_never_made(opened: Database) -> None:
    """Whoever has that name by now is somebody else."""
    found = await rows(opened, "SELECT * FROM account WHERE user_id = '@gil:s'")
    assert found == []


async def test_held_removals_wait_on(old: Old, opened: Database) -> None:
    """They can be shown and decided; what was approved before is looked at again."""
    found = await states(opened, "brake", "held_because")
    held = {key for key, (state, _) in found.items() if state == "held"}
    expected = {("!staff", "pat")} if old.version >= GUARD else set()
    assert held == (expected | {("!vip", "out")} if old.version >= OPTIONS else expected)
    assert set(found.values()) <= {("free", None), ("held", "limit")}
    shown = await brake.held(opened.reader)
    async with opened.write() as connection:
        decided = await brake.decide(connection, shown, "approved", "ann")
    assert {(one.room_id, one.user_id) for one in decided} == {
        (room_id, f"@{name}:s") for room_id, name in held
    }


async def test_who_left_by_themselves_stays_out(old: Old, opened: Database) -> None:
    """Also where the map has forgotten the room since."""
    found = await states(opened, "left_by_choice", "invite")
    left = {key for key, (by_choice, _) in found.items() if by_choice}
    expected = {("!new", "rob"), ("!gone", "rob")} if old.version >= OPTIONS else set()
    assert left == expected
    invited = {key for key, (_, invite) in found.items() if invite}
    assert invited == ({("!new", n) for n in ("ann", "rob", "vic")} if expected else set())


async def test_what_people_decided_outlasts_a_change_of_the_map(old: Old, opened: Database) -> None:
    """Who was let stay, or has left, is granted the room anew by the identity provider alone."""
    async with opened.write() as connection:
        lines = [Mapping("everyone", "", "!staff"), Mapping("everyone", "", "!new", invite=True)]
        await groupmap.put(connection, lines)
        while await grants.settle_map(connection):
            pass
    found = await states(opened, "state", "group_name", "left_by_choice")
    assert found["!staff", "ann"] == ("granted", "everyone", 0)
    if old.version >= GUARD:
        assert found["!staff", "oda"][0] == "dismissed"
    if old.version >= OPTIONS:
        assert found["!new", "rob"] == ("granted", "everyone", 1)


async def test_power_levels_go_on(old: Old, opened: Database) -> None:
    """What is granted and what was given; what is still to be given, or back."""
    found = await states(opened, "power", "power_given", "power_todo")
    powers = {key: value for key, value in found.items() if value != (None, None, 0)}
    expected: dict[Any, Any] = {}
    if old.version >= OPTIONS:
        expected = {
            ("!staff", "ann"): (50, 50, 0),
            ("!staff", "vic"): (50, None, 1),
            ("!staff", "rob"): (50, None, 0),
            ("!gone", "kim"): (None, 20, 1),
        }
    assert expected == powers


async def test_groups_requests_and_times_are_kept(old: Old, opened: Database) -> None:
    """For the record; words that stood for something else are no requests any more."""
    found = await states(opened, "group_name", "request", "since")
    request = "request-mia" if old.version >= GUARD else None
    since = SECONDS if old.version >= OPTIONS else 0
    assert found["!staff", "mia"] == ("staff", request, since)
    if old.version >= GUARD:
        assert found["!gone", "tom"][1] is None
    if old.version >= OPTIONS:
        assert found["!vip", "sam"] == (None, None, SECONDS)


async def test_unmanaged_members_are_kept(old: Old, opened: Database) -> None:
    """Those who were seen without a grant."""
    found = await rows(opened, "SELECT room_id, user_id FROM unmanaged_member ORDER BY 1")
    expected = [("!staff", "@guest:s"), ("!vip", "@guest:s")] if old.version >= OPTIONS else []
    assert [tuple(row.values()) for row in found] == expected


async def test_it_is_a_copy_where_the_homeserver_has_seen_a_later_one(opened: Database) -> None:
    """It is older than the numbers that tell copies."""
    assert (await brake.generation(opened.reader))[1] == 0


async def test_the_record_goes_on(old: Old, opened: Database) -> None:
    """Entries of before are kept, without anybody's name."""
    found = await rows(opened, "SELECT outcome, decided_by FROM action")
    number = 0 if old.version < GUARD else 5 if old.version < OPTIONS else 6
    assert found == [{"outcome": "dismissed", "decided_by": None}] * number


# -- Going on ------------------------------------------------------------------


async def test_the_same_map_changes_nobodys_state(old: Old, opened: Database) -> None:
    """Putting it in force works out who grants what, and nothing else."""
    columns = ("state", "observed", "todo", "left_by_choice", "brake", "power", "power_todo")
    before = await states(opened, *columns)
    mappings = await mapping_rows(opened)
    async with opened.write("group map") as connection:
        await groupmap.put(connection, old.map)
    assert before == await states(opened, *columns)
    assert mappings == await mapping_rows(opened)

    found = await rows(
        opened,
        "SELECT m.reference, coalesce(a.user_id, a.proposed) AS name, g.state, g.origin"
        " FROM mapping_grant g JOIN mapping m ON m.id = g.mapping_id"
        " JOIN account a ON a.id = g.account_id",
    )
    assert {(row["state"], row["origin"]) for row in found} == {("granted", "map")}
    given: dict[str, set[str]] = {}
    for row in found:
        given.setdefault(row["reference"], set()).add(row["name"][1:].partition(":")[0])
    everybody = {"ann", "bob", "nat", "rob", "una", "vic", "kim", "back", *LEAVERS}
    expected = {"#staff:s": {"ann", "bob", "una", "nat"}, "#later:s": {"ann"}, "!all": everybody}
    if old.version >= OPTIONS:
        leads = {"ann", "rob", "vic"}
        names = ("!staff", "#space:s", "#unread:s", "!old", "!vip")
        expected |= dict.fromkeys(names, leads)
    if old.version >= CONSOLE:
        expected |= {"!ops": {"nat"}, "#nowhere:s": {"nat"}}
    assert expected == given


async def test_work_goes_on_once_accounts_are_known(old: Old, opened: Database) -> None:
    """Removals once it is known whose they are, joins once they are usable."""
    async with opened.write("group map") as connection:
        await groupmap.put(connection, old.map)
        await observed.observe(connection, "!staff", ["@mia:s", "@eve:s", "@ann:s"], [])
        assert await memberships.due(connection, "!staff", 1.0, 100) == []
        assert "!staff" not in await oracle.rooms_due(connection, 1.0, [])
    await verified(opened)
    async with opened.write() as connection:
        due = await memberships.due(connection, "!staff", 1.0, 100)
        assert {(p.user_id, p.todo) for p in due} >= {("@mia:s", "leave"), ("@eve:s", "leave")}
        assert "join" not in {p.todo for p in due}
        assert "!staff" in await oracle.rooms_due(connection, 1.0, [])


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """The file is as the earlier version left it, and can be opened by it."""
    path = tmp_path / DATABASE_NAME
    Old(path, 6)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE account SET wanted = json_set(wanted, '$.state', 'odd')")
        connection.commit()
        before = list(connection.iterdump())
    with pytest.raises(Exception, match="CHECK constraint failed"):
        await Database.open(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before
        assert connection.execute("PRAGMA user_version").fetchone() == (6,)
