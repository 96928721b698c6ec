"""What is told of a homeserver that is not there or refuses, and of what is late."""

import asyncio
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from scim_matrix.app_keys import DATABASE, HEARING, REPLICA, TALLY
from scim_matrix.ops.health import Probes
from scim_matrix.store import memberships, record, references, views
from scim_matrix.store.sqlite import Sqlite
from scim_matrix.store.totals import totals
from tests.conftest import eventually
from tests.homeserver.deployment import Configuration, deployed
from tests.homeserver.server import Fault
from tests.service.client import made
from tests.service.conftest import Start


async def test_how_long_the_homeserver_is_left_alone_is_shown(start: Start) -> None:
    """While it rests, /readyz says for how long; /healthz is well all the same."""
    client = await start()

    async def ready() -> dict[str, Any]:
        async with client.get("/readyz") as answer:
            assert answer.status == 503
            found: dict[str, Any] = (await answer.json())["homeserver"]
            return found

    seen = await eventually(ready, lambda found: found["restsSeconds"] > 0)
    assert seen["restsSeconds"] <= 15
    async with client.get("/healthz") as answer:
        assert answer.status == 200


async def test_stopping_waits_for_no_homeserver_that_is_left_alone(start: Start) -> None:
    """Also where something woke the service meanwhile: there is nothing to finish."""
    client = await start()
    assert client.app is not None
    reconciler = client.app[REPLICA].reconciler
    await eventually(lambda: asyncio.sleep(0, reconciler.synapse.condition), lambda c: c == "down")
    reconciler.synapse.rest(3600.0)
    await made(client, "Users", userName="ann")
    # A minute passes before it looks around again by itself.
    async with asyncio.timeout(30):
        await client.close()


async def test_a_homeserver_that_goes_on_refusing_is_told_of_once(tmp_path: Path) -> None:
    """What is done anew with each attempt to meet it stands in the log once it has come to that."""
    async with deployed(tmp_path) as deployment:
        refuses = Fault("unavailable", lambda r: r.method == "PUT" and "account_data" in r.path, 4)
        deployment.homeserver.faults.append(refuses)
        with capture_logs() as logs:
            await deployment.quiet()
        lifted = [r for r in deployment.homeserver.requests if "override_ratelimit" in r.path]
        assert len(lifted) == 5
        assert [e["event"] for e in logs].count("rate_limit_lifted") == 1


async def test_what_waits_for_a_refused_account_is_not_late(tmp_path: Path) -> None:
    """Its own alert tells of the account; what else is due and not done counts as late."""
    async with deployed(tmp_path) as deployment:

        async def oldest() -> float:
            now = deployment.database.clock.now()
            return (await totals(deployment.database.reader, now)).oldest_pending

        world = deployment.world
        room = world.room("@admin:s").room_id
        await deployment.put_map({"g": [room]})
        world.account("@taken:s")
        members = [
            (await deployment.scim("POST", "/Users", {"userName": name}))[1]["id"]
            for name in ("ann", "taken")
        ]
        group = {"displayName": "g", "externalId": "g", "members": members}
        deployment.homeserver.dark = True
        assert (await deployment.scim("POST", "/Groups", group))[0] == 201
        await deployment.settle(1900.0)
        assert await oldest() >= 1800
        deployment.homeserver.dark = False
        await deployment.quiet()
        assert world.rooms.get(room).membership("@ann:s") == "join"
        assert world.rooms.get(room).membership("@taken:s") != "join"
        deployment.hands.passed += 3600
        assert await oldest() == 0


async def test_what_waits_for_a_hand_or_is_withheld_is_not_late(tmp_path: Path) -> None:
    """Nothing is pending, failing or late of accounts deactivated by hand, dead rooms, dry runs."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room, dead = (world.room("@admin:s").room_id for _ in range(2))
        await deployment.put_map({"g": [room, {"room": dead, "mode": "invite"}], "h": [room]})
        (_, gus), (_, hal) = [
            await deployment.scim("POST", "/Users", {"userName": name}) for name in ("gus", "hal")
        ]
        await deployment.quiet()
        world.account("@gus:s", deactivated=True)
        world.rooms.delete(dead)
        deployment.reconciler.compare()
        await deployment.quiet()
        await deployment.restart(dry_run=True)
        for key, user in (("g", gus), ("h", hal)):
            members = [{"value": user["id"]}]
            group = {"displayName": key, "externalId": key, "members": members}
            assert (await deployment.scim("POST", "/Groups", group))[0] == 201
        assert (await deployment.scim("POST", "/Users", {"userName": "ida"}))[0] == 201
        await deployment.quiet()
        deployment.hands.passed += 3600

        reader = deployment.database.reader
        rows = await views.left_to_do(reader, 100)
        assert sorted((row["state"], row["user"] or row["room"]) for row in rows) == [
            ("by_hand", "@gus:s"),
            ("by_hand", "@gus:s"),
            ("failing", dead),
            ("withheld", "@hal:s"),
            ("withheld", "@ida:s"),
        ]
        assert all(row["reason"] and row["cure"] for row in rows if row["state"] == "by_hand")
        counts = await memberships.counts(reader)
        names = ("pendingPairs", "pendingAccounts", "failingAccounts")
        assert [counts[name] for name in names] == [0, 0, 0]
        assert (counts["withheldPairs"], counts["withheldAccounts"]) == (1, 1)
        assert (await totals(reader, deployment.database.clock.now())).oldest_pending == 0

        # Each thing is told once, though it is tried again by then.
        await deployment.quiet()
        told = await record.find(reader, users=None, rooms=(), since=0, limit=100)
        would = [(row["kind"], row["user_id"]) for row in told if row["outcome"] == "dry_run"]
        assert sorted(would) == [("account", "@ida:s"), ("join", "@hal:s")]


async def test_a_dry_run_tells_how_somebody_new_would_come_into_rooms(tmp_path: Path) -> None:
    """As the map says of each room: joined to it, or invited."""
    async with deployed(tmp_path, configuration=Configuration(dry_run=True)) as deployment:
        world = deployment.world
        modes = {"!joined": "join", "!invited": "invite"}
        for room_id in modes:
            world.room(world.service, room_id=room_id)
        lines = [{"room": room_id, "mode": mode} for room_id, mode in modes.items()]
        await deployment.put_map({"*": lines})
        assert (await deployment.scim("POST", "/Users", {"userName": "ann"}))[0] == 201
        await deployment.quiet()
        told = await record.find(
            deployment.database.reader, users=None, rooms=[*modes], since=0, limit=100
        )
        assert {row["room_id"]: row["kind"] for row in told} == modes
        assert {(row["user_id"], row["outcome"]) for row in told} == {("@ann:s", "dry_run")}


async def test_a_dry_run_tells_the_rooms_it_would_make_and_for_whom(tmp_path: Path) -> None:
    """Each once, with how they would come in; nobody whose account is in conflict or who is out."""
    async with deployed(tmp_path, configuration=Configuration(dry_run=True)) as deployment:
        deployment.world.account("@eve:s")
        ids = {}
        for name in ("ann", "bob", "cat", "eve"):
            _, user = await deployment.scim("POST", "/Users", {"userName": name})
            ids[name] = {"value": user["id"]}
        # So that it is known whose account is in conflict.
        await deployment.quiet()
        new = {"room": "#new:s", "create": {"name": "New"}}
        of_g, of_h, known = {**new, "mode": "invite"}, {**new, "mode": "join"}, "#known:s"
        lines = {"g": [of_g], "h": [of_h], "i": ["#unmade:s", known]}
        await deployment.put_map({**lines, "*": [{"room": "#gone:s", "create": {"name": "Gone"}}]})
        for name, members in ("g", ["ann", "bob", "cat", "eve"]), ("h", ["ann"]), ("i", ["cat"]):
            group = {
                "displayName": name,
                "externalId": name,
                "members": [ids[member] for member in members],
            }
            _, made_group = await deployment.scim("POST", "/Groups", group, f"of-{name}")
        room = deployment.world.room(deployment.world.service)
        deployment.world.alias(known, room.room_id)
        await deployment.quiet()
        would = {
            ("#new:s", "create room", None, None, None),
            ("#new:s", "join", "@ann:s", "g", "of-h"),
            ("#new:s", "invite", "@bob:s", "g", "of-g"),
            ("#new:s", "invite", "@cat:s", "g", "of-g"),
            ("#unmade:s", "join", "@cat:s", "i", "of-i"),
        }
        reader = deployment.database.reader

        async def shown(reference: str | None = None) -> set[tuple[str | None, ...]]:
            rows = await references.to_be_opened(reader, reference)
            found = [(r["room"], r["what"], r["user"], r["group"], r["request"]) for r in rows]
            assert len(set(found)) == len(found)
            return set(found)

        assert {one[:4] for one in await shown("#gone:s")} > {
            ("#gone:s", "create room", None, None)
        }
        # What the map says no more counts no more, before that has been settled.
        await deployment.put_map(lines)
        assert await shown() == would
        await deployment.quiet()
        assert await shown() == would
        assert await shown("#new:s") == {one for one in would if one[0] == "#new:s"}
        told = await record.find(reader, users=None, rooms=["#new:s"], since=0, limit=100)
        assert {(r["outcome"], r["kind"], r["user_id"], r["group_name"]) for r in told} == {
            ("dry_run", what.replace(" ", "_"), user, group)
            for room_id, what, user, group, _ in would
            if room_id == "#new:s"
        }

        # Whoever leaves their group would not come in.
        await deployment.scim("PUT", f"/Groups/{made_group['id']}", {**group, "members": []})
        await deployment.quiet()
        assert await shown("#unmade:s") == set()


async def test_a_dry_run_tells_whom_nobody_would_be_given_an_account(tmp_path: Path) -> None:
    """Whose name somebody else has: it is asked for, since making one would not tell."""
    async with deployed(tmp_path, configuration=Configuration(dry_run=True)) as deployment:
        deployment.world.account("@ann:s")
        for name in ("ann", "bob"):
            assert (await deployment.scim("POST", "/Users", {"userName": name}))[0] == 201
        await deployment.quiet()
        shown = {
            row["userName"]: row for row in await views.users(deployment.database.reader, None)
        }
        assert [shown[name]["state"] for name in ("ann", "bob")] == ["conflict", "pending"]
        assert "@ann:s exists" in shown["ann"]["problem"]
        told = await record.find(
            deployment.database.reader, users=None, rooms=(), since=0, limit=10, outcome="dry_run"
        )
        assert [row["user_id"] for row in told] == ["@bob:s"]


async def test_the_database_is_asked_once_for_all_who_ask_at_the_same_time(start: Start) -> None:
    """Also where who asked first goes away meanwhile; whoever asks later has it asked anew."""
    app = (await start()).app
    assert app is not None
    database = app[DATABASE]
    probes = Probes(database, app[REPLICA], app[TALLY], app[HEARING])
    reader = database._readers[0]
    assert isinstance(reader, Sqlite)
    seen: list[str] = []
    await reader.set_trace_callback(
        lambda statement: seen.extend([statement] * ("room LIMIT" in statement))
    )
    gone, *others = (asyncio.create_task(probes._database_answers()) for _ in range(30))
    # By one turn all have begun to ask, and none can have its answer.
    await asyncio.sleep(0)
    gone.cancel()
    assert await asyncio.gather(*others) == [True] * 29
    assert len(seen) == 1
    assert await probes._database_answers()
    assert len(seen) == 2
