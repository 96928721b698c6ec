"""Several services on one PostgreSQL: one of them acts on the homeserver, all of them answer."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from operator import lt
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from scim_matrix.app import _reconcilers
from scim_matrix.clock import Clock
from scim_matrix.demo.service import SECRET, ScimClient
from scim_matrix.map_loader import MapLoader
from scim_matrix.problems import OF_THE_MAP
from scim_matrix.store import leadership, lease, totals, views
from scim_matrix.store.database import Connection, Database, together
from scim_matrix.store.errors import DatabaseError, NotLeadingError
from scim_matrix.store.leadership import Leadership
from scim_matrix.store.lease import Lease
from scim_matrix.sync.replica import Replica as Service
from scim_matrix.sync.servers import Servers
from tests.conftest import eventually
from tests.fences import only
from tests.homeserver.server import Request
from tests.postgresql import Server, serving
from tests.service.conftest import environment
from tests.service.homeserver import faking
from tests.service.replicas import (
    ROOM,
    Replica,
    Surroundings,
    created,
    lost_by,
    made_by,
    surrounded,
)

# The database's clock, so many seconds ahead.
SHIFTED = """
CREATE OR REPLACE FUNCTION seconds_now() RETURNS DOUBLE PRECISION LANGUAGE sql VOLATILE
AS 'SELECT extract(epoch FROM clock_timestamp())::double precision + ({})'
"""
PEOPLE = [f"u{number}" for number in range(8)]
# `make chaos` tries each fence by itself as well.
FENCES = ["all", "none"]
if "EVERY_FENCE" in os.environ:
    FENCES += ["request", "transaction", "term"]


@pytest.fixture
async def around(postgresql: Server, tmp_path: Path) -> AsyncIterator[Surroundings]:
    """Return a homeserver and a database."""
    async with surrounded(postgresql, tmp_path) as surroundings:
        yield surroundings


@pytest.fixture
def own(postgresql: Server) -> Iterator[Server]:
    """Return a server that a test may stop."""
    with serving() as server:
        assert server is not None
        yield server


async def test_one_acts_and_any_answers(around: Surroundings) -> None:
    """What comes in at a follower is done by the leader, and a follower is ready too."""
    leader, follower = await around.replica(), await around.replica()
    for replica in (leader, follower):
        await eventually(replica.is_ready, bool)
    assert [await leader.leads(), await follower.leads()] == [True, False]
    await created(follower, "ann")
    await created(leader, "bob")
    await around.all_in("ann", "bob")
    assert follower.changes == []
    async with aiohttp.ClientSession() as session:
        for replica, leads in ((leader, "1.0"), (follower, "0.0")):
            async with session.get(f"{replica.url}/metrics") as answer:
                assert f"\nscim_matrix_leads {leads}\n" in await answer.text()


async def test_another_leads_after_a_kill(around: Surroundings) -> None:
    """Within seconds, without anybody's help, and nothing that was acknowledged is lost.

    Also where the database goes on with a clock that is behind (a failover).
    """
    leader, follower = await around.replica(), await around.replica()
    await created(leader, "ann")
    await around.all_in("ann")
    leader.homeserver.dark = True
    await created(leader, "bob")
    around.run(SHIFTED.format(-3600))
    await leader.stop(signal.SIGKILL)
    await eventually(follower.leads, bool, seconds=15)
    await around.all_in("ann", "bob")


async def test_another_leads_at_once_after_a_clean_stop(around: Surroundings) -> None:
    """Whoever ends says so: nobody waits for the end of the lease."""
    leader, follower = await around.replica(), await around.replica()
    await created(leader, "ann")
    await around.all_in("ann")
    assert await leader.stop() == 0
    # The lease would have run on for eight seconds at least.
    await eventually(follower.leads, bool, seconds=5)
    await created(follower, "bob")
    await around.all_in("ann", "bob")


@pytest.mark.parametrize("fence", FENCES)
async def test_who_was_paused_starts_nothing_after_another_has_taken_over(
    around: Surroundings, fence: str
) -> None:
    """Stopped with a plan in its hands, which is due still when it goes on.

    What tends its lease stands still for longer, so that nothing but the fences keeps it: all of
    them or any by itself, and without one it would act.
    """
    group_map = {"displayName:team": [ROOM]}
    first = None if fence == "all" else partial(only, fence)
    leader = await around.replica(group_map, first=first)
    follower = await around.replica(group_map)
    users = await created(leader, *PEOPLE)
    process = leader.process
    assert process is not None

    def pause(request: Request) -> None:
        if request.path[3:4] == ("join",):
            leader.homeserver.before = lambda request: None
            process.send_signal(signal.SIGSTOP)

    await eventually(made_by(leader), lambda seen: seen == len(PEOPLE))
    leader.homeserver.before = pause
    # Whoever takes over does nothing for now: all is left to be done.
    follower.homeserver.dark = True
    with around.holding_up(process.pid) as is_held_up:
        await eventually(is_held_up, bool)
        await ScimClient(leader.url).create_group("team", list(users.values()))
        await eventually(follower.leads, bool)
        assert len(around.joined()) == 1
        sent = len(leader.changes)

        async def acted() -> bool:
            return leader.changes[sent:] != []

        process.send_signal(signal.SIGCONT)
        goes_on = {"request": around.has_recorded_a_join, "none": acted}
        await eventually(goes_on.get(fence, lost_by(leader)), bool)
        # It has had the time to send what comes next.
        for _ in range(3):
            await leader.asked("/healthz")

    await eventually(lost_by(leader), bool)
    await eventually(leader.is_ready, bool)
    assert await leader.leads() is False
    follower.homeserver.dark = False
    await around.all_in(*PEOPLE)
    assert (leader.changes[sent:] != []) == (fence == "none")


async def test_who_cannot_begin_to_lead_rests_between_tries(around: Surroundings) -> None:
    """Others may lead meanwhile, and nobody's log fills; once it can be, all is done."""
    leader, follower = await around.replica(), await around.replica()
    await eventually(follower.is_ready, bool)
    around.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON installation"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
    )
    await leader.stop()

    async def failed_at() -> list[float]:
        events = map(json.loads, filter(lambda line: line[0] == "{", follower.log().splitlines()))
        return [
            datetime.fromisoformat(event["timestamp"]).timestamp()
            for event in events
            if event["event"] == "leading_failed"
        ]

    first, *others = await eventually(failed_at, lambda seen: len(seen) > 2)
    # Half of the first delay, and half of the second, which is twice as long.
    assert [later - first > least for later, least in zip(others, (0.5, 1.5), strict=False)] == [
        True,
        True,
    ]
    around.run("DROP TRIGGER refuse ON installation")
    await created(follower, "ann")
    await around.all_in("ann")


async def test_who_was_paused_does_nothing_for_who_has_left(around: Surroundings) -> None:
    """They have asked another service by then, and perhaps for something else."""
    other, paused = await around.replica(), await around.replica()
    await eventually(paused.is_ready, bool)
    ann = (await created(other, "ann"))["ann"]
    process = paused.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    _, writer = await asyncio.open_connection("127.0.0.1", paused.port)
    body = b'{"Operations": [{"op": "replace", "value": {"active": false}}]}'
    writer.write(
        b"PATCH /scim/v2/Users/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/scim+json\r\nContent-Length: %d\r\n\r\n%s"
        % (ann.encode(), SECRET.encode(), len(body), body)
    )
    await writer.drain()
    writer.close()
    process.send_signal(signal.SIGCONT)

    async def logged() -> bool:
        return f"/Users/{ann}" in paused.log()

    await eventually(logged, bool)
    assert (await ScimClient(other.url).ok("GET", f"/Users/{ann}"))["active"] is True


async def test_a_decision_at_a_follower_is_taken_up(around: Surroundings) -> None:
    """A human need not know which of the services leads."""
    leader, follower = await around.replica(), await around.replica()
    await eventually(leader.is_ready, bool)
    await created(leader, "ann")
    await around.all_in("ann")
    before = len(leader.homeserver.requests)
    await follower.told("sync")

    async def looked() -> bool:
        return any(r.path[-1] == "members" for r in leader.homeserver.requests[before:])

    await eventually(looked, bool)
    assert follower.changes == []


async def test_without_a_database_nobody_leads(own: Server, tmp_path: Path) -> None:
    """A leader that cannot renew its lease stops; once the database is back there is one again."""
    async with surrounded(own, tmp_path) as around:
        leader, follower = await around.replica(), await around.replica()
        await created(leader, "ann")
        await around.all_in("ann")
        own.stop()
        await eventually(lost_by(leader), bool)
        for replica in (leader, follower):
            assert (await replica.asked("/healthz"))[0] == 503
            assert await replica.leads() is False
        own.start()
        for replica in (leader, follower):
            await eventually(replica.is_ready, bool)

        async def leading() -> list[bool]:
            return sorted([await leader.leads(), await follower.leads()])

        await eventually(leading, lambda seen: seen == [False, True])
        await created(follower, "bob")
        await around.all_in("ann", "bob")


async def test_a_lease_that_was_taken_out_is_put_back(around: Surroundings) -> None:
    """Nobody ends for it, and one of them leads in a later term."""
    leader, follower = await around.replica(), await around.replica()
    await created(leader, "ann")
    await around.all_in("ann")
    [before] = around.run("SELECT epoch FROM lease")
    around.run("DELETE FROM lease")
    await eventually(lost_by(leader), bool)

    async def leading() -> list[bool]:
        return sorted([await leader.leads(), await follower.leads()])

    await eventually(leading, lambda seen: seen == [False, True])
    assert around.run("SELECT epoch FROM lease") > [before]
    await created(follower, "bob")
    await around.all_in("ann", "bob")


async def test_who_can_do_nothing_leaves_it_to_another(around: Surroundings) -> None:
    """A leader whose token is refused makes way for a service that is let in, and stays away."""
    leader = await around.replica(None, {"MATRIX_ADMIN_TOKEN": "wrong"}, first=soon_outdone)

    async def refused() -> bool:
        return "homeserver_refused" in leader.log()

    await eventually(refused, bool)
    assert await leader.leads()
    follower = await around.replica()
    await created(leader, "ann")
    await around.all_in("ann")
    assert "leadership_given_up" in leader.log()
    assert [await leader.leads(), await follower.leads()] == [False, True]
    # It is asked whether it would lead.
    assert await follower.stop() == 0
    await eventually(leader.leads, bool)


def soon_outdone() -> None:
    """Have whoever can do nothing leave it to others soon."""
    lease.UNABLE_FOR = 1.0


async def test_a_newer_version_takes_the_database_over(around: Surroundings) -> None:
    """Whoever runs still answers nothing wrong, ends by itself and says why."""
    leader, follower = await around.replica(), await around.replica()
    await created(leader, "ann")
    await around.all_in("ann")
    sent = len(leader.changes)
    assert leader.process is not None
    assert follower.process is not None
    with around.holding_up(leader.process.pid) as is_held_up:
        await eventually(is_held_up, bool)
        around.run("UPDATE schema_version SET number = 9999")
        body = {"userName": "bob"}
        for replica in (leader, follower):
            with contextlib.suppress(aiohttp.ClientConnectionError):
                assert (await ScimClient(replica.url).call("POST", "/Users", body))[0] == 503
    for replica in (leader, follower):
        assert replica.process is not None
        assert await asyncio.wait_for(replica.process.wait(), 30) == 1
        assert "database_too_new" in replica.log()
        assert "run the newer version" in replica.log()
    assert around.run("SELECT holder FROM lease") == [(None,)]
    assert around.run("SELECT user_name_key FROM scim_user") == [("ann",)]
    assert leader.changes[sent:] == []
    assert follower.changes == []


async def test_maps_that_differ_are_told(around: Surroundings) -> None:
    """The leader's counts; whoever has another one is named."""
    leader = await around.replica()
    follower = await around.replica({"*": [ROOM, "!other"]})
    assert leader.process is not None
    assert follower.process is not None
    await eventually(codes_of(follower), lambda seen: "group-map-differs" in seen)
    told = await follower.told("status")
    assert f"the group map of scim-matrix {follower.process.pid} on " in told
    assert f"ledBy: scim-matrix {leader.process.pid} on " in told
    await follower.stop()
    await eventually(codes_of(leader), lambda seen: "group-map-differs" not in seen)


async def test_settings_that_differ_are_told(around: Surroundings) -> None:
    """Whoever has another one that decides what is done is named, with which one it is."""
    await around.replica()
    follower = await around.replica(None, {"ON_DELETE": "lock", "LOG_LEVEL": "debug"})
    assert follower.process is not None
    codes = await eventually(codes_of(follower), lambda seen: "settings-differ" in seen)
    assert "group-map-differs" not in codes
    told = await follower.told("status")
    assert f"the settings of scim-matrix {follower.process.pid} on " in told
    assert ", which leads: ON_DELETE" in told
    assert "LOG_LEVEL" not in told


def codes_of(replica: Replica) -> Callable[[], Awaitable[list[str]]]:
    """Return what asks a service for its problems."""

    async def codes() -> list[str]:
        return list((await replica.asked("/readyz"))[1]["codes"])

    return codes


# -- In the store ---------------------------------------------------------------


@pytest.fixture
async def two(postgresql: Server) -> AsyncIterator[list[Database]]:
    """Return one database as two services have it; the first has begun to lead."""
    url = postgresql.filled()
    opened = [await Database.open(url, serving=f"listening on {port}") for port in (1, 2)]
    for database in opened:
        await database.leadership.begin()
    yield opened
    for database in opened:
        await database.close()


async def put_room(connection: Connection, room_id: str) -> None:
    """Store a room."""
    sql = "INSERT INTO room (room_id) VALUES (:room_id)"
    await connection.execute_fetchall(sql, {"room_id": room_id})


async def stored(database: Database) -> list[str]:
    """Return which rooms are stored."""
    found = await database.reader.execute_fetchall("SELECT room_id FROM room ORDER BY 1")
    return [room_id for (room_id,) in found]


async def take_over(first: Database, second: Database) -> None:
    """Have the lease end, and another service lead before the first one looks."""
    async with first.write() as connection:
        await connection.execute_fetchall("UPDATE lease SET holder = NULL")
    await second.leadership.begin()


async def test_one_of_two_leads(two: list[Database]) -> None:
    """The other one knows who does; whoever resigns leaves it to the other."""
    first, second = (database.leadership for database in two)
    assert [first.leads, second.leads] == [True, False]
    assert str(second.leader).endswith("listening on 1")
    await first.resign()
    await second.begin()
    assert [first.leads, second.leads] == [False, True]


@contextlib.asynccontextmanager
async def service_on(database: Database, file: Path) -> AsyncIterator[Service]:
    """Return a service on a database, with a map in a file."""
    settings = environment(file.parent, GROUP_MAP_FILE=str(file))
    async with faking() as (_, homeserver):
        servers = Servers(homeserver, Clock(), 4)
        # It could act.
        servers.synapse.met("1")
        make = _reconcilers(settings, homeserver, servers)
        yield Service(database, servers, MapLoader(settings), make)


async def test_who_does_not_lead_puts_no_map_in_force(two: list[Database], tmp_path: Path) -> None:
    """Though its own has changed: that counts once it leads."""
    first, second = two
    file = tmp_path / "map.jsonc"
    file.write_text('{"g": ["!former"]}')
    async with service_on(second, file) as follower:
        await follower.begin()
        file.write_text('{"g": ["!own"]}')
        await follower.reload_map()
        mapped = "SELECT reference FROM mapping"
        assert await first.reader.execute_fetchall(mapped) == []
        await first.leadership.resign()
        await follower.begin()
        [row] = await first.reader.execute_fetchall(mapped)
        assert row["reference"] == "!own"


async def test_who_could_not_begin_to_lead_follows(two: list[Database], tmp_path: Path) -> None:
    """Its own map has a mistake by then, which is told: it is not put in force, nor tried again."""
    first, second = two
    file = tmp_path / "map.jsonc"
    file.write_text('{"g": ["!own"]}')
    await first.leadership.resign()
    async with first.write() as connection:
        await connection.execute_fetchall(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'no'; END $$"
        )
        await connection.execute_fetchall(
            "CREATE TRIGGER refuse BEFORE UPDATE ON installation"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        )
    async with service_on(second, file) as follower:
        running = asyncio.create_task(follower.run())
        with capture_logs() as logs:

            async def has_failed() -> bool:
                return any(line["event"] == "leading_failed" for line in logs)

            await eventually(has_failed, bool)
            await first.leadership.begin()
            assert first.leadership.leads
            file.write_text('{"g": [5]}')
            await follower.reload_map()
        assert "group_map_waits" not in [line["event"] for line in logs]
        assert set(await totals.ailing(first.reader, OF_THE_MAP)) == {*OF_THE_MAP}
        assert follower.term == 0
        follower.stop()
        await running


async def has_woken(service: Service, woken: int) -> bool:
    """Tell whether a service has looked for work more than so often since it was told of it."""
    return service.reconciler._commits > woken


async def test_whoever_leads_looks_for_what_others_committed(
    two: list[Database], tmp_path: Path
) -> None:
    """As for what was committed here, and not only when something falls due."""
    first, second = two
    file = tmp_path / "map.jsonc"
    file.write_text('{"g": ["!room"]}')
    async with service_on(first, file) as leader:
        await leader.begin()
        running = asyncio.create_task(leader.run())
        for room_id in ("!one", "!two", "!three"):
            woken = leader.reconciler._commits
            async with second.write() as connection:
                await put_room(connection, room_id)
            await eventually(partial(has_woken, leader, woken), bool)
        leader.stop()
        await running


async def test_who_leads_no_more_writes_nothing(two: list[Database]) -> None:
    """The transaction itself finds out: its own clock says that it leads still."""
    first, second = two
    term = await first.leadership.led()
    led = first.during(term)
    async with led.write() as connection:
        await put_room(connection, "!before")
    await take_over(first, second)
    assert term.runs
    with pytest.raises(NotLeadingError):
        async with led.write() as connection:
            await put_room(connection, "!after")
    assert not term.runs
    async with first.write() as connection:
        await put_room(connection, "!request")
    assert await stored(first) == ["!before", "!request"]
    assert (await second.leadership.led()).number == term.number + 1


async def test_blocks_of_another_kind_outlast_one_that_does_not_lead(two: list[Database]) -> None:
    """They share a transaction, and only what needs the leadership is undone."""
    first, second = two
    led = first.during(await first.leadership.led())
    await take_over(first, second)

    async def write(database: Database, room_id: str) -> None:
        async with database.write() as connection:
            await put_room(connection, room_id)

    ended = await asyncio.gather(
        write(first, "!a"), write(led, "!b"), write(first, "!c"), return_exceptions=True
    )
    assert [type(one) for one in ended] == [type(None), NotLeadingError, type(None)]
    assert await stored(first) == ["!a", "!c"]


async def test_writing_renews_the_lease(
    two: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes over between the fence of a transaction and its commit."""
    first, second = two
    led = first.during(await first.leadership.led())
    await second.leadership.begin()
    async with led.write() as connection:
        await put_room(connection, "!r")
        # It has not seen any renewal for so long.
        go_on(monkeypatch)
        taking = asyncio.create_task(second.leadership.begin())
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
        await eventually(lambda: first.reader.execute_fetchall(waits), bool)
    await taking
    assert second.leadership.leads is False
    assert await stored(second) == ["!r"]


async def test_who_stands_still_keeps_nobody_waiting(
    two: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in a transaction that renews the lease, behind statements that went together.

    The server's own clock does not run then.
    """
    first, second = two
    monkeypatch.setattr(lease, "STANDS_STILL", 0.0)
    led = first.during(await first.leadership.led())

    async def stand_still() -> None:
        async with led.write() as connection:
            await together(connection, ("SELECT 1", ()), ("SELECT 2", ()))
            await second.leadership.begin()
            async with second.write() as other:
                await put_room(other, "!r")
            await put_room(connection, "!late")

    with pytest.raises(DatabaseError):
        await stand_still()
    assert await stored(second) == ["!r"]


async def test_a_lease_that_is_held_is_not_waited_for(
    two: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would take it looks after those that stand still meanwhile."""
    first, second = two
    await second.leadership.begin()
    async with first.during(await first.leadership.led()).write():
        go_on(monkeypatch)
        await second.leadership.begin()
        assert not second.leadership.leads


def go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have those who wait for the lease see that it has stood for as long as it lasts."""
    then = leadership.moment() + lease.LEASE_SECONDS
    monkeypatch.setattr(lease, "moment", lambda: then)


@pytest.mark.parametrize("seconds", [-3600, 3600])
async def test_the_clock_of_the_database_decides_nothing(
    two: list[Database], seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it jumps nobody takes over, and nobody waits until it is what it was."""
    first, second = (database.leadership for database in two)
    await second.begin()
    await two[0].reader.execute_fetchall("SET default_transaction_read_only = off")
    await two[0].reader.execute_fetchall(SHIFTED.format(seconds))
    await second.begin()
    assert [first.leads, second.leads] == [True, False]
    go_on(monkeypatch)
    await second.begin()
    assert second.leads


async def test_a_lease_that_is_not_there_is_held(
    two: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leads may not know yet; the next term is above that one's, whoever begins it."""
    first, second = (database.leadership for database in two)
    term = await first.led()
    for each in (first, first, second):
        await each.begin()
    async with two[0].write() as connection:
        await connection.execute_fetchall("UPDATE lease SET epoch = epoch + 7")
        await connection.execute_fetchall("UPDATE replica SET epoch = 8")
        await connection.execute_fetchall("DELETE FROM lease")
    assert term.runs
    for _ in range(2):
        await second.begin()
        assert second.leads is False
    await first.begin()
    assert first.leads is False
    go_on(monkeypatch)
    await second.begin()
    assert (await second.led()).number == 9


async def test_who_can_do_nothing_leads_where_nobody_else_could(
    two: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And makes way once somebody could, for as long as that is so."""
    monkeypatch.setattr(lease, "UNABLE_FOR", 0.0)
    first, second = (database.leadership for database in two)
    able = {first: False, second: False}
    for each in able:
        each.goes_by(partial(able.__getitem__, each))
    term = await first.led()
    for each in (second, first, first):
        await each.begin()
    assert not term.over.is_set()
    able[second] = True
    for each in (second, first, first):
        await each.begin()
    assert term.over.is_set()
    assert not term.ended.is_set()
    await first.resign()
    await first.begin()
    assert first.leads is False
    able[second] = False
    for each in (second, first):
        await each.begin()
    assert [first.leads, second.leads] == [False, True]


async def test_who_rests_begins_no_term(two: list[Database]) -> None:
    """Also where nobody else leads; without a rest it may begin one at once."""
    one, other = (database.leadership for database in two)
    await one.begin()
    await one.resign()
    await one.begin()
    assert one.leads
    await one.resign(60.0)
    await one.begin()
    assert not one.leads
    await other.begin()
    assert other.leads


async def test_who_ends_begins_no_term(two: list[Database]) -> None:
    """What it has in hand ends; whoever else there is leads meanwhile, able or not."""
    first, second = (database.leadership for database in two)
    # Nobody else could act.
    first.goes_by(lambda: False)
    await first.begin()
    await first.resign()
    second.leave()
    await second.begin()
    assert (second.leads, second.leader) == (False, None)
    await first.begin()
    assert first.leads


async def test_a_term_ends_by_itself_where_it_cannot_be_renewed(
    own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By this process's own clock: the database cannot tell it. Another one begins thereafter."""
    # A term is waited for to end here, and then the lease as long again.
    monkeypatch.setattr(lease, "LEASE_SECONDS", 3.0)
    database = await Database.open(own.filled(), serving="listening on 1")
    leadership = database.leadership
    assert isinstance(leadership, Lease)
    await leadership.begin()
    term = await leadership.led()
    own.stop()
    await asyncio.wait_for(term.ended.wait(), 30)
    assert leadership.leads is False
    own.start()
    [seen] = await database.reader.execute_fetchall("SELECT holder FROM lease")
    assert seen["holder"] is not None
    # Though nobody else has begun one.
    with pytest.raises(NotLeadingError):
        async with database.during(term).write() as connection:
            await put_room(connection, "!late")
    assert await stored(database) == []

    async def leads() -> bool:
        await leadership.begin()
        return leadership.leads

    await eventually(leads, bool)
    assert (await leadership.led()).number > term.number
    await database.close()


async def test_a_term_lasts_as_long_as_it_is_renewed(
    two: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether anything is written meanwhile or not; no new one begins for that."""
    first = two[0].leadership
    term = await first.led()
    passed = 0.0
    moment = leadership.moment
    # Nobody waits for a lease to pass nine times: the clock that both go by is ahead by so much.
    for module in (lease, leadership):
        monkeypatch.setattr(module, "moment", lambda: moment() + passed)
    for _ in range(9):
        passed += (lease.LEASE_SECONDS - lease.STOP_BEFORE) / 2
        await first.begin()
        assert first.term is term
        assert first.leads


async def test_an_outage_of_the_database_is_told_once(
    own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the lease is tried meanwhile; the next outage is told again."""
    # It is tried several times in each of two outages.
    monkeypatch.setattr(lease, "TEND_EVERY", 0.1)
    database = await Database.open(own.filled(), serving="listening on 1")
    led = database.leadership
    assert isinstance(led, Lease)
    tries: list[str] = []
    check = led._listener.check_schema

    async def noted() -> None:
        tries.append("begun")
        await check()

    # Each try begins with it, and goes on to the database as before.
    monkeypatch.setattr(led._listener, "check_schema", noted)
    own.stop()
    with capture_logs() as logs:
        async with looked_at(led, monkeypatch) as waits:
            for outage in (1, 2):
                await eventually(partial(counted, tries), partial(lt, len(tries) + 3))
                told = [entry["event"] for entry in logs]
                assert told.count("lease_not_renewed") == outage
                own.start()
                # The second look begins once the first one has ended well.
                looks = len(waits) + 1
                await eventually(partial(counted, waits), partial(lt, looks))
                own.stop()
    own.start()
    await database.close()


async def test_who_has_ended_is_told_of_no_more(postgresql: Server) -> None:
    """At once: not only when they were not heard of for long."""
    url = postgresql.filled()
    first, second = [await Database.open(url, serving=f"listening on {port}") for port in (1, 2)]
    for database, group_map in ((first, "one"), (second, "other")):
        database.leadership.configured(group_map, "{}")
        await database.leadership.begin()
    assert "group-map-differs" in await views.codes(first.reader)
    await second.close()
    assert "group-map-differs" not in await views.codes(first.reader)
    await first.close()


async def test_a_commit_wakes_the_others(two: list[Database]) -> None:
    """Whoever leads hears of it, and whoever leads tells nobody of its own."""
    first, second = two
    heard = asyncio.Event()
    running = asyncio.create_task(first.leadership.run(heard.set))
    await asyncio.wait_for(heard.wait(), 30)
    heard.clear()
    async with second.write() as connection:
        # Nothing that a look at the number of transactions would find.
        await put_room(connection, "!r")
    await asyncio.wait_for(heard.wait(), 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_whoever_resigns_wakes_the_others(
    two: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need not look to begin, and do not for an hour."""
    monkeypatch.setattr(lease, "TEND_EVERY", 3600.0)
    first, second = (database.leadership for database in two)
    async with two[0].write() as connection:
        await connection.execute_fetchall("DELETE FROM replica")
    running = asyncio.create_task(second.run(lambda: None))
    # Once it has said that it runs it only waits.
    reader = two[0].reader
    await eventually(lambda: reader.execute_fetchall("SELECT 1 FROM replica"), bool)
    await first.resign()
    try:
        await asyncio.wait_for(second.led(), 30)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_follower_hears_of_what_it_is_not_told(two: list[Database]) -> None:
    """What whoever leads commits is found by its number: a look at the lease brings it along."""
    first, second = two
    heard = asyncio.Event()
    running = asyncio.create_task(second.leadership.run(heard.set))
    await asyncio.wait_for(heard.wait(), 30)
    heard.clear()
    async with first.write() as connection:
        await connection.tick()
    await asyncio.wait_for(heard.wait(), 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_lease_is_looked_at_at_intervals(
    two: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever leads as by the others: sooner only by who may take it before the next look."""
    # Several looks are waited for here, and below a lease that is over between two of them.
    monkeypatch.setattr(lease, "TEND_EVERY", 0.1)
    first, second = (database.leadership for database in two)
    async with looked_at(first, monkeypatch) as waits:
        await eventually(partial(counted, waits), lambda looks: looks > 3)
    assert first.term is not None
    assert set(waits) == {0.1}
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.25)
    async with looked_at(second, monkeypatch) as waits:

        async def shortest() -> float:
            return min(waits, default=0.1)

        await eventually(shortest, lambda one: one < 0.1)
    assert all(0 < one <= 0.1 for one in waits)


async def counted(things: Sequence[object]) -> int:
    """Return how many there are by now."""
    return len(things)


@contextlib.asynccontextmanager
async def looked_at(
    leadership: Leadership, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[float]]:
    """Have a lease be looked at; return for how long (seconds) it is waited until the next time."""
    assert isinstance(leadership, Lease)
    waits: list[float] = []
    heard = leadership._listener.heard

    async def noted(seconds: float) -> bool:
        waits.append(seconds)
        return await heard(seconds)

    # It waits as before; for how long is nowhere else to be seen.
    monkeypatch.setattr(leadership._listener, "heard", noted)
    running = asyncio.create_task(leadership.run(lambda: None))
    yield waits
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
