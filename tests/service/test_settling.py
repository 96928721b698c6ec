"""What a change of the map means is worked out in pieces, and comes to the same as all at once."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from scim_matrix.groupmap import Mapping
from scim_matrix.store import grants, groupmap, memberships, references, resources
from scim_matrix.store.database import Connection, Database, Place
from scim_matrix.store.resources import MemberChange
from scim_matrix.store.sqlite import Sqlite
from scim_matrix.sync.settling import FEWEST, FIRST, MOST, PIECE_SECONDS, Settling, resized
from tests.homeserver.deployment import deployed
from tests.postgresql import Server
from tests.service import oracle
from tests.service.directory import Directory

PEOPLE = [f"p{n}" for n in range(6)]
GROUPS = ["red", "blue", "all"]
LINES = [
    Mapping("external_id", "ext-red", "!r0"),
    Mapping("display_name", "b*", "!r1", power=50),
    Mapping("everyone", "", "!r2"),
    Mapping("external_id", "ext-all", "!r3"),
    Mapping("external_id", "ext-blue", "!r0"),
]
EVERYBODY = 1000


async def filled(place: Place) -> Database:
    """Return a database with people and groups, one group in another."""
    database = await Database.open(place)
    async with database.write() as connection:
        people = Directory(connection)
        for name in PEOPLE:
            await people.account(name)
        for name in GROUPS:
            await people.group(name)
        await people.members("all", "red")
    return database


async def change_somebody(connection: Connection, chance: random.Random) -> None:
    """Have the identity provider say something new of a user or a group."""
    people, who, group = Directory(connection), chance.choice(PEOPLE), chance.choice(GROUPS[:2])
    match chance.randrange(4):
        case 0:
            await people.activity(who, active=chance.random() < 0.6)
        case 1:
            await people.members(group, *chance.sample(PEOPLE, 3))
        case 2:
            document = {"displayName": chance.choice(["blue", "green"]), "externalId": "ext-blue"}
            await resources.update(connection, "Group", "blue", document)
        case _:
            member = MemberChange(chance.choice(["add", "remove"]), f'[{{"value": "{who}"}}]')
            await resources.change_members(connection, group, [member])


async def all_rows(database: Database) -> list[tuple[object, ...]]:
    """Return what is granted, by whom, and what that means."""
    found = []
    for sql in (
        "SELECT room_id, account_id, state, power, group_name FROM membership ORDER BY 1, 2",
        "SELECT account_id, m.pattern, m.reference, g.state, g.origin FROM mapping_grant g"
        " JOIN mapping m ON m.id = g.mapping_id WHERE m.standing <> 'dropped' ORDER BY 1, 2, 3",
        "SELECT pattern, reference FROM mapping WHERE standing <> 'dropped' ORDER BY 1, 2",
    ):
        found += [tuple(row) for row in await database.reader.execute_fetchall(sql)]
    return found


@pytest.mark.parametrize("seed", range(12))
async def test_in_pieces_it_comes_to_the_same(tmp_path: Path, seed: int) -> None:
    """Whatever the identity provider says between two pieces."""
    seen = []
    for piece in (EVERYBODY, 1):
        chance = random.Random(seed)
        database = await filled(tmp_path / str(piece))
        settling = Settling(database, lambda: None)
        for _ in range(5):
            async with database.write() as connection:
                lines = chance.sample(LINES, chance.randrange(len(LINES) + 1))
                await groupmap.put(connection, lines, piece)
            for _ in range(3):
                left = chance.randrange(4)
                async with database.write() as connection:
                    await change_somebody(connection, chance)
                    for _ in range(left):
                        await grants.settle_map(connection, piece)
            await settling.finish()
            assert not await grants.is_left(database.reader)
        seen.append(await all_rows(database))
        await database.close()
    at_once, in_pieces = seen
    assert at_once == in_pieces


async def test_who_is_left_is_known_after_a_crash(tmp_path: Path) -> None:
    """What was not worked out before it is worked out after it."""
    database = await filled(tmp_path)
    async with database.write() as connection:
        await groupmap.put(connection, [Mapping("everyone", "", "!r")], piece=1)
        await grants.settle_map(connection, 2)
    await database.close()
    database = await Database.open(tmp_path)
    async with database.write() as connection:
        states = await Directory(connection).states("!r")
    assert 0 < len(states) < len(PEOPLE)
    await Settling(database, lambda: None).finish()
    async with database.write() as connection:
        states = await Directory(connection).states("!r")
    assert set(PEOPLE) == set(states)
    await database.close()


async def test_what_is_planned_for_is_what_is_there(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of the map outruns the server, which would plan for a few rows for a minute."""
    lines = [*LINES, *(Mapping("external_id", f"none-{n}", f"!none{n}") for n in range(200))]
    # Pieces grow as long as they are quick: else it would take thousands of people.
    monkeypatch.setattr("scim_matrix.sync.settling.MOST", 1)
    database = await filled(postgresql.filled())
    async with database.write() as connection:
        people = Directory(connection)
        for number in range(grants.PIECE + 20):
            await people.user(f"q{number}")
        await groupmap.put(connection, lines, piece=0)
    await Settling(database, lambda: None).finish()
    [(planned,)] = await database.reader.execute_fetchall(
        "SELECT reltuples FROM pg_class WHERE relname = 'mapping'"
    )
    assert planned == len(lines)
    await database.close()


async def test_each_change_begins_with_a_small_piece(tmp_path: Path) -> None:
    """However quickly the one before was settled: nobody knows yet how long this one takes."""
    database = await filled(tmp_path)
    async with database.write() as connection:
        people = Directory(connection)
        for number in range(3 * FIRST):
            await people.user(f"q{number}")
    settling = Settling(database, lambda: None)
    first = []
    for room_id in ("!first", "!second"):
        async with database.write() as connection:
            lines = [*LINES, Mapping("everyone", "", room_id)]
            await groupmap.put(connection, lines, piece=0)
        await settling.finish()
        pieces = await database.reader.execute_fetchall(
            "SELECT count(*) AS people FROM membership WHERE room_id = :room GROUP BY tick"
            " ORDER BY tick",
            {"room": room_id},
        )
        first.append(pieces[0]["people"])
    await database.close()
    assert first == [FIRST] * 2


@pytest.mark.parametrize("piece", [0, grants.PIECE])
async def test_lines_that_matter_no_more_end_once_all_is_settled(
    tmp_path: Path, piece: int
) -> None:
    """However many the map drops at once, and whether or not somebody was left to settle."""
    async with deployed(tmp_path) as deployment:
        lines = [Mapping("external_id", f"g{number}", "!r") for number in range(3 * grants.ENDED)]
        left = []
        for given in (lines, []):
            async with deployment.database.write() as connection:
                await groupmap.put(connection, given, piece)
            deployment.reconciler.compare()
            await deployment.settle()
            sql = "SELECT count(*) AS number FROM mapping"
            [row] = await deployment.database.reader.execute_fetchall(sql)
            left.append(row["number"])
    assert left == [len(lines), 0]


async def test_nothing_is_done_for_whom_it_is_not_worked_out(tmp_path: Path) -> None:
    """Neither joins by a line that is gone, nor removals that a new line takes back."""
    database = await filled(tmp_path)
    line = Mapping("external_id", "ext-red", "!r")
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [line])
        await people.members("red", "p0", "p1")
        await people.observed("join", "p0", room_id="!r")
        await people.members("red", "p1")
        due = await memberships.due(connection, "!r", connection.at, 10)
        assert {("p0", "leave"), ("p1", "join")} == {(p.user_id[1:3], p.todo) for p in due}
        await groupmap.put(connection, [Mapping("everyone", "", "!r")], piece=1)
        assert await memberships.due(connection, "!r", connection.at, 10) == []
        assert await oracle.rooms_due(connection, connection.at, []) == []
        assert not any([await memberships.is_as_planned(connection, pair) for pair in due])
    await Settling(database, lambda: None).finish()
    async with database.write() as connection:
        due = await memberships.due(connection, "!r", connection.at, 10)
        assert {("leave")} & {pair.todo for pair in due} == set()
        assert await oracle.rooms_due(connection, connection.at, []) == ["!r"]
    await database.close()


async def changes(connection: Connection) -> int:
    """Return how many rows were changed so far."""
    [row] = await connection.execute_fetchall("SELECT total_changes() AS number")
    return int(row["number"])


async def put_whole(connection: Connection, lines: Sequence[Mapping]) -> None:
    """Put a map in force, and work out at once what it means for everybody."""
    await groupmap.put(connection, lines)
    while await grants.settle_map(connection, EVERYBODY):
        pass


async def test_a_resolved_alias_costs_what_its_own_room_holds(tmp_path: Path) -> None:
    """However many other rooms those people are granted."""
    costs = []
    for others in (1, 30):
        database = await filled(tmp_path / str(others))
        async with database.write() as connection:
            lines = [Mapping("everyone", "", f"!other{n}") for n in range(others)]
            await put_whole(connection, [*lines, Mapping("everyone", "", "#a:s")])
            before = await changes(connection)
            await references.pin(connection, "#a:s", "!a")
            costs.append(await changes(connection) - before)
            assert set(PEOPLE) == set(await Directory(connection).states("!a"))
        await database.close()
    few, many = costs
    assert few == many


async def test_that_a_reference_leads_nowhere_is_said_of_no_other(database: Database) -> None:
    """Nor of a room that one stands for already."""
    async with database.write() as connection:
        lines = [Mapping("everyone", "", name) for name in ("#a:s", "#b:s", "!c")]
        await put_whole(connection, lines)
        for name in ("#a:s", "!c"):
            await references.fail(connection, name, "gone", 9.0, absent=True)
        found = await connection.execute_fetchall("SELECT reference, reason FROM room_reference")
        assert dict(map(tuple, found)) == {"#a:s": "gone", "#b:s": None, "!c": None}


async def test_dropped_lines_end_a_few_at_a_time(tmp_path: Path) -> None:
    """Each with what it gave to everybody: a thousand at once would hold requests up."""
    database = await filled(tmp_path)
    async with database.write() as connection:
        lines = [Mapping("everyone", "", f"#r{n}:s") for n in range(2 * grants.ENDED)]
        await put_whole(connection, lines)
        for n in range(2 * grants.ENDED):
            await references.fail(connection, f"#r{n}:s", "gone", 0.0, absent=True)
        await put_whole(connection, [])
        assert await grants.end_dropped(connection)
        [row] = await connection.execute_fetchall("SELECT count(*) AS n FROM mapping")
        assert row["n"] == grants.ENDED
    await Settling(database, lambda: None).finish()
    assert await database.reader.execute_fetchall("SELECT * FROM mapping") == []
    await database.close()


async def test_that_lines_end_costs_what_their_own_rooms_hold(tmp_path: Path) -> None:
    """However many other rooms those people are in, who are told apart from whom it concerns."""
    costs = []
    for others in (1, 30):
        database = await filled(tmp_path / str(others))
        driver = database._writer.driver
        assert isinstance(driver, Sqlite)
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        async with database.write() as connection:
            kept = [Mapping("everyone", "", f"!kept{n}") for n in range(others)]
            gone = [Mapping("everyone", "", f"!gone{n}") for n in range(5)]
            await put_whole(connection, [*kept, *gone])
            for line in gone:
                await Directory(connection).observed("leave", *PEOPLE, room_id=line.room)
            await groupmap.put(connection, kept, piece=1)
            while await grants.settle_map(connection, EVERYBODY):
                pass
            await driver.set_progress_handler(count, 10)
            assert not await grants.end_dropped(connection)
            await driver.set_progress_handler(count, 0)
            [row] = await connection.execute_fetchall("SELECT count(*) AS n FROM mapping")
            assert row["n"] == others
        costs.append(steps)
        await database.close()
    few, many = costs
    assert many < 1.5 * few


async def test_a_line_ends_and_work_goes_on_once_everybody_is_settled(database: Database) -> None:
    """Whoever was left waits for that; where nobody was, nobody is woken."""
    woken = 0

    def wake() -> None:
        nonlocal woken
        woken += 1

    settling = Settling(database, wake)
    await settling.finish()
    assert woken == 0
    async with database.write() as connection:
        for name in PEOPLE:
            await Directory(connection).account(name)
        await groupmap.put(connection, [Mapping("everyone", "", "#r:s")], EVERYBODY)
        await references.fail(connection, "#r:s", "gone", 0.0, absent=True)
        await groupmap.put(connection, [], piece=1)
        [row] = await connection.execute_fetchall("SELECT standing FROM mapping")
    assert row["standing"] == "dropped"
    await settling.finish()
    assert woken == 1
    assert await database.reader.execute_fetchall("SELECT * FROM mapping") == []


async def test_an_alias_that_reaches_very_many_is_settled_in_pieces(
    database: Database,
) -> None:
    """So that no request waits behind tens of thousands of memberships."""
    async with database.write() as connection:
        await connection.execute_fetchall(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :most)"
            " INSERT INTO scim_user (id, user_name_key, active, document, created, last_modified)"
            " SELECT 'u' || i, 'u' || i, TRUE, '{}', '', '' FROM n",
            {"most": grants.LARGE},
        )
        await connection.execute_fetchall(
            "INSERT INTO account (scim_id, desired, profile) SELECT id, 'active', '{}'"
            " FROM scim_user"
        )
        await groupmap.put(connection, [Mapping("everyone", "", "#a:s")], 2 * grants.LARGE)
        await references.pin(connection, "#a:s", "!a")
        assert await grants.is_left(connection)
    await Settling(database, lambda: None).finish()
    [row] = await database.reader.execute_fetchall("SELECT count(*) AS n FROM membership")
    assert row["n"] == grants.LARGE


@pytest.mark.parametrize(
    ("people", "seconds", "expected"),
    [
        *((100, PIECE_SECONDS, 100), (100, 2 * PIECE_SECONDS, 50), (100, PIECE_SECONDS / 2, 200)),
        *((100, 0.0, 200), (100, 1000 * PIECE_SECONDS, FEWEST)),
    ],
)
def test_a_piece_is_as_large_as_its_time_allows(people: int, seconds: float, expected: int) -> None:
    """And grows no faster than twofold."""
    assert expected == resized(people, seconds)
    assert resized(MOST, 0.0) == MOST


async def test_whom_many_lines_reach_is_noted_a_few_lines_at_a_time(database: Database) -> None:
    """A thousand new lines at once would hold requests up, whomever they reach."""
    lines = [Mapping("everyone", "", f"#r{n}:s") for n in range(2 * grants.SPREAD)]
    async with database.write() as connection:
        await groupmap.put(connection, lines, EVERYBODY)
        [row] = await connection.execute_fetchall(
            "SELECT count(*) AS n FROM mapping WHERE unsettled"
        )
    assert row["n"] == grants.SPREAD
    await Settling(database, lambda: None).finish()
    assert not await grants.is_left(database.reader)
