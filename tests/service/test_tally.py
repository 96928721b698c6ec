"""What is counted, once for all who ask."""

import asyncio

from scim_matrix.app_keys import DATABASE, REPLICA
from scim_matrix.ops.hearing import Hearing
from scim_matrix.ops.metrics import Metrics
from scim_matrix.store.database import Database
from scim_matrix.store.sqlite import Sqlite
from scim_matrix.store.tally import Counted, Tally
from tests.conftest import eventually
from tests.service.conftest import Start
from tests.service.directory import Directory


async def user(database: Database, name: str) -> None:
    """Have one more user."""
    async with database.write() as connection:
        await Directory(connection).user(name)


async def test_whoever_asks_at_the_same_time_gets_the_same_numbers(database: Database) -> None:
    """Thirty who ask at once, and thirty who ask meanwhile, cost two counts."""
    tally = Tally(database)
    early = [asyncio.create_task(tally.counted()) for _ in range(30)]
    await asyncio.sleep(0)
    late = [asyncio.create_task(tally.counted()) for _ in range(30)]
    found = await asyncio.gather(*early, *late)
    assert len({id(each) for each in found}) <= 2


async def test_who_asks_after_a_change_is_told_of_it(database: Database) -> None:
    """Though somebody else asked before it, and is not answered yet."""
    tally = Tally(database)
    for number in range(1, 20):
        earlier = asyncio.create_task(tally.counted())
        await user(database, f"u{number}")
        assert (await tally.counted()).totals.resources["users"] == number
        await earlier


async def test_somebody_who_goes_away_takes_the_numbers_from_nobody(database: Database) -> None:
    """A request that is cancelled does not end the counting that others wait for."""
    tally = Tally(database)
    gone, stays = (asyncio.create_task(tally.counted()) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert isinstance(await stays, Counted)


async def test_slow_counting_holds_nobody_up(database: Database) -> None:
    """The last numbers are shown at once, and the new ones as soon as they are there."""
    tally = Tally(database, large=-1)
    before = await tally.counted()
    await user(database, "ann")
    assert await tally.counted() is before

    async def users() -> int:
        return (await tally.counted()).totals.resources["users"]

    await eventually(users, lambda number: number == 1)


async def test_slow_counting_rests(database: Database) -> None:
    """However often it is asked for, so that counting takes no core of its own."""
    tally = Tally(database, large=-1, rest=1e9)
    before = await tally.counted()
    seen: list[str] = []
    counter = database._readers[2]
    assert isinstance(counter, Sqlite)
    await counter.set_trace_callback(seen.append)
    assert [await tally.counted() for _ in range(3)] == [before] * 3
    await database.counter.execute_fetchall("SELECT 1")
    assert seen == ["SELECT 1"]


async def test_metrics_are_written_once_for_all_who_ask_at_the_same_time(start: Start) -> None:
    """Writing costs more than answering; whoever asks later gets what is true then."""
    app = (await start()).app
    assert app is not None
    database, replica, metrics = app[DATABASE], app[REPLICA], Metrics(Hearing(0.0))

    async def text() -> bytes:
        answer = await metrics.show(await Tally(database).counted(), replica)
        assert isinstance(answer.body, bytes)
        return answer.body

    counted = await Tally(database).counted()
    shown = await asyncio.gather(*(metrics.show(counted, replica) for _ in range(30)))
    assert len({id(answer.body) for answer in shown}) == 1
    assert b'scim_matrix_resources{kind="users"} 0.0' in await text()
    await user(database, "ann")
    assert b'scim_matrix_resources{kind="users"} 1.0' in await text()
