"""In which rooms something is due, kept as it changes, is what the query for all rooms says."""

import random

import pytest

from scim_matrix.groupmap import Mapping
from scim_matrix.membership import Observed
from scim_matrix.store import (
    accounts,
    binding,
    brake,
    grants,
    groupmap,
    memberships,
    observed,
    rooms,
)
from scim_matrix.store.agenda import Agenda
from scim_matrix.store.database import Connection, Database, Place
from scim_matrix.store.memberships import membership
from scim_matrix.sync.schedule import Schedule
from tests.service import oracle
from tests.service.directory import Directory
from tests.service.test_settling import LINES, PEOPLE, change_somebody, filled

OBSERVED: tuple[Observed, ...] = ("join", "leave", "invite", "ban")
DECISIONS: tuple[brake.Decision, ...] = ("approved", "dismissed")
STAND_OTHERWISE = """
UPDATE opening SET standing = CASE standing WHEN 'followed' THEN 'not_followed' ELSE 'followed' END
WHERE room_id = :room_id
"""


async def happen(connection: Connection, chance: random.Random) -> None:
    """Have something happen that may change what is due: in a room, to an account, to the map."""
    people, who = Directory(connection), chance.choice(PEOPLE)
    room_id, at = f"!r{chance.randrange(4)}", float(chance.randrange(100))
    pairs = [membership(row) for row in await people.rows() if row["user_id"] == f"@{who}:s"]
    match chance.randrange(15):
        case 0 | 1 if pairs:
            how = chance.choice(OBSERVED)
            await memberships.reach(connection, chance.choice(pairs), how)
        case 2 if pairs:
            await memberships.fail(connection, chance.choice(pairs), "refused", "no", at)
        case 3 if pairs:
            await memberships.begin(connection, pairs)
        case 4:
            await brake.hold_room(connection, room_id, "limit")
        case 5:
            decision = chance.choice(DECISIONS)
            await brake.decide(connection, await brake.held(connection), decision, "eve")
        case 6:
            await rooms.unusable(connection, room_id, "gone")
        case 7:
            await observed.observe(connection, room_id, [f"@{who}:s"], [])
        case 8:
            account = await people.account_of(who)
            await binding.unbind(connection, account, None, "whose?", "ask", at)
        case 9:
            account = await people.account_of(who)
            await binding.bind(connection, account, f"@{who}:s", "human")
            await accounts.use(connection, account.id)
        case 10:
            sql = "DELETE FROM membership WHERE room_id = :room_id AND account_id % 2 = 0"
            await connection.execute_fetchall(sql, {"room_id": room_id})
        case 11:
            sql = "DELETE FROM opening WHERE room_id = :room_id"
            await connection.execute_fetchall(sql, {"room_id": room_id})
        case 12:
            await connection.execute_fetchall(STAND_OTHERWISE, {"room_id": room_id})
        case _:
            await groupmap.put(connection, chance.sample(LINES, 3), piece=1)


@pytest.mark.parametrize("seed", range(8))
async def test_what_is_kept_is_what_is_asked(place: Place, seed: int) -> None:
    """After whatever happens, and at whatever time it is looked at again."""
    chance, agenda, schedule = random.Random(seed), Agenda(), Schedule()
    database = await filled(place)
    some = 0
    for step in range(60):
        async with database.write() as connection:
            await change_somebody(connection, chance)
            await happen(connection, chance)
            if chance.random() < 0.5:
                await grants.settle_map(connection, 2)
        if chance.random() < 0.7:
            now = 2.0 * step
            others = await agenda.refresh(database.reader, now)
            schedule.maps(others, await rooms.mapped_of(database.reader, others))
            mapped = sorted(await rooms.mapped(database.reader))
            assert mapped == sorted(schedule.waiting)
            schedule.doubt_all()
            assert mapped == sorted(schedule.waiting)
            some += len(await oracle.rooms_due(database.reader, now, [], agenda))
            await oracle.next_due(database.reader, now, agenda)
            await oracle.counts(database.reader)
    assert some
    await database.close()


async def test_a_room_where_everybody_became_unsettled_is_left_after_a_turn(place: Place) -> None:
    """And taken again once somebody is settled: no turn after turn finds nothing to do."""
    agenda, database = Agenda(), await filled(place)
    async with database.write() as connection:
        await groupmap.put(connection, [Mapping("everyone", "", "!r")])
    await agenda.refresh(database.reader, 1.0)
    assert agenda.smallest([], 1) == ["!r"]
    async with database.write() as connection:
        await grants.unsettle_everybody(connection)
    agenda.doubt("!r")
    await agenda.refresh(database.reader, 1.0)
    assert agenda.smallest([], 1) == []
    async with database.write() as connection:
        await grants.settle_map(connection, 1)
    await agenda.refresh(database.reader, 1.0)
    assert agenda.smallest([], 1) == ["!r"]
    await database.close()


@pytest.mark.parametrize("disabling", [True, False])
@pytest.mark.parametrize("seed", range(6))
async def test_accounts_in_turn_are_those_that_are_due(
    database: Database, seed: int, disabling: bool
) -> None:
    """The newest change first; only of more than are asked for may some that rested wait."""
    chance, some = random.Random(seed), 0
    async with database.write() as connection:
        people = Directory(connection)
        for number in range(30):
            await people.user(f"p{number}", active=chance.random() < 0.5)
        for limit in (1, 4, 30):
            for _ in range(10):
                await connection.execute_fetchall(
                    "UPDATE account SET since = :since, next_try = :next_try WHERE id = :id",
                    {
                        "id": chance.randrange(1, 31),
                        "since": chance.random(),
                        "next_try": chance.choice([0.0, chance.random() * 100]),
                    },
                )
                if chance.random() < 0.5:
                    who = await people.account_of(f"p{chance.randrange(30)}")
                    await binding.bind(connection, who, f"@{who.scim_id}:s", "record")
                now, besides = 100 * chance.random(), chance.sample(range(1, 31), 3)
                found = await accounts.due(connection, now, limit, besides, disabling=disabling)
                expected = await oracle.accounts_due(
                    connection, now, limit, besides, disabling=disabling
                )
                assert expected == [account.id for account in found]
                some += len(found)
    assert some


async def test_looking_again_takes_no_more_room(database: Database) -> None:
    """However often something changes in a room where what is left rests for long."""
    agenda = Agenda()
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [Mapping("everyone", "", "!r")])
        await people.account("ann")
        pair = await people.membership("!r", "ann")
        await memberships.fail(connection, pair, "refused", "no", 1e12)
    for _ in range(9):
        agenda.doubt("!r")
        await agenda.refresh(database.reader, 1.0)
    assert agenda.next_due() == 1e12
    assert len(agenda._soonest) == 1
