"""Who comes and goes is seen as it happens, before any comparison; what is left out is compared."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from scim_matrix.matrix.live import MEMBER
from scim_matrix.store import memberships, record, views
from scim_matrix.store.sqlite import DATABASE_NAME
from scim_matrix.sync.guard import Brake
from tests.conftest import eventually
from tests.homeserver import Fault, Request, World
from tests.homeserver.deployment import Configuration, Deployment, deployed
from tests.homeserver.errors import MatrixError
from tests.homeserver.rooms import LEVELS, Event
from tests.homeserver.server import Kind

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ROOM = "!room"
# Synapse is asked for no more events of a room at once.
MOST_EVENTS = 100


async def person(deployment: Deployment, name: str) -> str:
    """Have the identity provider make somebody; return their id."""
    user = {"schemas": [SCHEMA + "User"], "userName": name, "externalId": name}
    return str((await deployment.scim("POST", "/Users", user))[1]["id"])


async def in_group(deployment: Deployment, *names: str, **options: Any) -> tuple[str, list[str]]:
    """Have people in a group, which opens a room with options; return its path, and their ids."""
    ids = [await person(deployment, name) for name in names]
    group = {"schemas": [SCHEMA + "Group"], "displayName": "staff", "externalId": "g"}
    members = {"members": [{"value": scim_id} for scim_id in ids]}
    _, made = await deployment.scim("POST", "/Groups", {**group, **members})
    await deployment.put_map({"g": [{"room": ROOM, **options}]})
    await followed(deployment)
    return f"/Groups/{made['id']}", ids


async def followed(deployment: Deployment) -> None:
    """Settle, and wait until the room is followed: that has a pace of its own."""
    await deployment.quiet()

    async def look() -> bool:
        return deployment.reconciler.follows_live

    await eventually(look, bool)


def say(world: World, sender: str, user_id: str, membership: str) -> None:
    """Have somebody come or go, by themselves or by another's hand."""
    event = Event(MEMBER, user_id, sender, {"membership": membership})
    world.rooms.put(world.rooms.get(ROOM), event)


async def back(deployment: Deployment) -> None:
    """Settle until ann is in the room."""
    await becomes(deployment, "@ann:s", "join")


async def becomes(deployment: Deployment, user_id: str, membership: str) -> None:
    """Settle until somebody is in the room, or out: what was heard may come between two rounds."""

    async def look() -> str | None:
        await deployment.settle()
        return deployment.world.rooms.get(ROOM).membership(user_id)

    await eventually(look, lambda seen: seen == membership)


def comparisons(deployment: Deployment, begun: int) -> int:
    """Return how often it was asked who is in the room, since so many requests."""
    asked = ("_synapse", "admin", "v1", "rooms", ROOM, "members")
    return [request.path for request in deployment.homeserver.requests[begun:]].count(asked)


async def test_whom_a_hand_kicks_is_back_at_once(tmp_path: Path) -> None:
    """It was not their own will, and no comparison is waited for."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id=ROOM)
        await in_group(deployment, "ann")
        begun = len(deployment.homeserver.requests)
        say(world, "@owner:s", "@ann:s", "leave")
        await back(deployment)
        assert room.membership("@ann:s") == "join"
        assert comparisons(deployment, begun) == 0


async def test_who_comes_into_an_exclusive_room_is_out_at_once(tmp_path: Path) -> None:
    """But for whom is protected: of them no removal is even thought of."""
    protecting = Configuration(protected_users=("@vip:*",))
    async with deployed(tmp_path, configuration=protecting) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id=ROOM)
        for name in ("@vip:s", "@guest:s"):
            world.account(name)
        await in_group(deployment, "ann", exclusive=True)
        begun = len(deployment.homeserver.requests)
        for name in ("@vip:s", "@guest:s"):
            say(world, name, name, "join")
        await becomes(deployment, "@guest:s", "leave")
        assert room.membership("@vip:s") == "join"
        assert comparisons(deployment, begun) == 0
        left = await views.left_to_do(deployment.database.reader, 10)
        assert "@vip:s" not in [row["user_id"] for row in left]


async def test_whom_the_map_forgot_and_is_protected_may_come_back(tmp_path: Path) -> None:
    """Of them no removal is even thought of, though the room is to hold nobody else by now."""
    protecting = Configuration(protected_users=("@vip:*",))
    async with deployed(tmp_path, configuration=protecting) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id=ROOM)
        await in_group(deployment, "vip")
        group = {"schemas": [SCHEMA + "Group"], "displayName": "others", "externalId": "h"}
        members = {"members": [{"value": await person(deployment, "bob")}]}
        assert (await deployment.scim("POST", "/Groups", {**group, **members}))[0] == 201
        await deployment.put_map({"h": [{"room": ROOM, "exclusive": True}]})
        await followed(deployment)
        for membership in ("leave", "join"):
            say(world, "@vip:s", "@vip:s", membership)
            await becomes(deployment, "@vip:s", membership)
        # What sync told of her has been taken in once it has of whoever is kicked after that.
        say(world, "@owner:s", "@bob:s", "leave")
        await becomes(deployment, "@bob:s", "join")
        assert room.membership("@vip:s") == "join"
        left = await views.left_to_do(deployment.database.reader, 10)
        assert "@vip:s" not in [row["user_id"] for row in left]


async def test_the_service_is_nobody_in_its_own_rooms(tmp_path: Path) -> None:
    """Not even one whom nothing manages, where it comes back after it was thrown out."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        world.account("@guest:s")
        await in_group(deployment, "ann")
        say(world, "@owner:s", world.service, "leave")
        for user_id in (world.service, "@guest:s"):
            say(world, user_id, user_id, "join")

        async def unmanaged() -> int:
            await deployment.settle()
            return (await memberships.counts(deployment.database.reader))["unmanagedMembers"]

        assert await eventually(unmanaged, bool) == 1


async def test_what_a_former_leader_had_sent_is_seen_when_it_is_done(tmp_path: Path) -> None:
    """The homeserver may carry it out long after another leads; its own costs no comparison."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        levels = {"users": {world.service: 100}}
        room = world.rooms.create(world.service, room_id=ROOM, version="10", levels=levels)
        await in_group(deployment, "ann", powerLevel=50)
        begun = len(deployment.homeserver.requests)
        say(world, world.service, "@ann:s", "leave")
        await back(deployment)
        assert (room.membership("@ann:s"), room.level("@ann:s")) == ("join", 50)
        assert comparisons(deployment, begun) == 0

        former = {"users": {world.service: 100, "@bob:s": 50}}
        world.rooms.put(room, Event(LEVELS, "", world.service, former))
        await deployment.settle()
        assert (room.level("@ann:s"), room.level("@bob:s")) == (50, 50)
        assert comparisons(deployment, begun) == 1


async def test_what_sync_leaves_out_is_compared(tmp_path: Path) -> None:
    """At once, where more happened in a room than it tells, a removal by hand among it."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id=ROOM)
        await in_group(deployment, "ann")
        running = asyncio.create_task(deployment.reconciler.run())

        async def is_in() -> bool:
            return room.membership("@ann:s") == "join"

        # After the first it rests.
        for told in (0, MOST_EVENTS):
            begun = len(deployment.homeserver.requests)
            say(world, "@owner:s", "@ann:s", "leave")
            for _ in range(told):
                # Of this there is nothing to do.
                say(world, world.service, world.service, "join")
            await eventually(is_in, bool)
            await deployment.homeserver.followed()
            assert comparisons(deployment, begun) == (1 if told else 0)
        deployment.reconciler.stop()
        await running


async def test_who_joins_by_themselves_speaks_for_no_backup(tmp_path: Path) -> None:
    """A removal that only a backup speaks of waits, however often they come and go meanwhile."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id=ROOM)
        group, [_, bob] = await in_group(deployment, "ann", "bob", mode="invite")
        for user_id in ("@ann:s", "@bob:s"):
            say(world, user_id, user_id, "join")
        await deployment.settle()
        operation = {"op": "remove", "path": f'members[value eq "{bob}"]'}
        body = {"schemas": [PATCH], "Operations": [operation]}
        assert (await deployment.scim("PATCH", group, body))[0] == 204
        await deployment.settle()
        assert room.membership("@bob:s") == "leave"
        await deployment.copy("copy")
        await deployment.restore("copy")
        await followed(deployment)
        say(world, "@bob:s", "@bob:s", "join")
        await deployment.settle()
        assert room.membership("@bob:s") == "join"
        rows = await views.left_to_do(deployment.database.reader, 10)
        assert [(row["state"], row["user"]) for row in rows] == [("held", "@bob:s")]


async def test_who_comes_before_their_invitation_is_known_to_be_in_the_room(
    tmp_path: Path,
) -> None:
    """So that they get at once the power that their group gives there."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        levels = {"users": {world.service: 100}}
        room = world.rooms.create(world.service, room_id=ROOM, version="10", levels=levels)

        def come(request: Request) -> None:
            if request.path[-1] == "invite":
                world.bring(ROOM, "@ann:s")

        deployment.homeserver.before = come
        await in_group(deployment, "ann", mode="invite", powerLevel=50)
        assert (room.membership("@ann:s"), room.level("@ann:s")) == ("join", 50)


async def test_what_is_not_followed_any_more_is_looked_at_closely(tmp_path: Path) -> None:
    """Where only changes are not told: an upgrade that was not heard of is seen at an interval."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.room(world.service, room_id=ROOM)
        await in_group(deployment, "ann")
        await deployment.quiet()
        deployment.homeserver.faults.append(
            Fault("unavailable", lambda request: request.path[-1] == "sync", times=10**6)
        )
        # What is being waited for is told still.
        world.account("@eve:s")
        world.bring(ROOM, "@eve:s")

        async def look() -> bool:
            await deployment.reconciler.settle()
            return deployment.reconciler.follows_live

        await eventually(look, lambda seen: not seen)
        new = world.upgrade(ROOM, world.service)
        await deployment.settle(2 * 3600.0)
        assert new.membership("@ann:s") == "join"


async def kicks(deployment: Deployment) -> list[tuple[str, str | None]]:
    """Return the removals that are recorded as done: whose, and what is said of it."""
    found = await record.find(deployment.database.reader, users=None, rooms=(), since=0, limit=100)
    return [
        (row["user_id"], row["detail"])
        for row in found
        if row["kind"] == "kick" and row["outcome"] == "done"
    ]


async def taken_out_in_vain(deployment: Deployment, kind: Kind) -> int:
    """Have Ann's group go, and the request for her removal go wrong.

    Returns how many requests there were before.
    """
    deployment.world.rooms.create(deployment.world.service, room_id=ROOM)
    group, _ = await in_group(deployment, "ann")
    begun = len(deployment.homeserver.requests)
    deployment.homeserver.faults.append(Fault(kind, _removes))
    assert (await deployment.scim("DELETE", group))[0] == 204
    await deployment.settle()
    return begun


@pytest.mark.parametrize("sender", ["@bot:s", "@ann:s"])
async def test_a_removal_that_is_carried_out_late_is_recorded(tmp_path: Path, sender: str) -> None:
    """Without a comparison, by the service's own event; not where they leave by themselves."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        begun = await taken_out_in_vain(deployment, "request lost")
        say(world, sender, "@ann:s", "leave")

        async def heard() -> int:
            await deployment.settle()
            return (await memberships.counts(deployment.database.reader))["pendingPairs"]

        await eventually(heard, lambda number: number == 0)
        assert comparisons(deployment, begun) == 0
        late = [("@ann:s", "its answer was lost")]
        assert await kicks(deployment) == (late if sender == world.service else [])
        await deployment.quiet()
        assert await kicks(deployment) == (late if sender == world.service else [])


async def test_a_removal_counts_though_more_is_heard_at_once(tmp_path: Path) -> None:
    """It was carried out late, and whoever it was about came back and left by themselves."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        await taken_out_in_vain(deployment, "request lost")
        for sender, membership in ((world.service, "leave"), ("@ann:s", "join")):
            say(world, sender, "@ann:s", membership)
        say(world, "@ann:s", "@ann:s", "leave")

        async def recorded() -> list[tuple[str, str | None]]:
            await deployment.settle()
            return await kicks(deployment)

        await eventually(recorded, lambda found: found == [("@ann:s", "its answer was lost")])


async def test_a_removal_that_was_answered_is_not_recorded_again(tmp_path: Path) -> None:
    """It is heard of once they are back, together with that."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        await in_group(deployment, "ann")
        begun = len(world.rooms.events)
        for sender, membership in ((world.service, "leave"), ("@ann:s", "join")):
            say(world, sender, "@ann:s", membership)
        assert len(world.rooms.events) == begun + 2
        await deployment.settle()
        await deployment.quiet()
        assert await kicks(deployment) == []


async def put_members(deployment: Deployment, group: str, op: str, scim_id: str) -> None:
    """Have the identity provider add somebody to a group, or remove them."""
    operation = {"op": op, "path": "members", "value": [{"value": scim_id}]}
    body = {"schemas": [PATCH], "Operations": [operation]}
    assert (await deployment.scim("PATCH", group, body))[0] == 204


async def sync_is_slow(deployment: Deployment) -> None:
    """Have sync tell of nothing more until the homeserver's `given_up` is set."""
    homeserver = deployment.homeserver
    homeserver.hung.clear()
    homeserver.given_up.clear()
    homeserver.faults.append(Fault("slow", lambda request: request.path[-1] == "sync"))

    async def has_begun() -> bool:
        # Of this there is nothing to do.
        say(deployment.world, deployment.world.service, deployment.world.service, "join")
        return homeserver.hung.is_set()

    await eventually(has_begun, bool)


@pytest.mark.parametrize("kind", ["unavailable", "request lost"])
async def test_a_removal_is_recorded_once_though_the_join_after_it_fails(
    tmp_path: Path, kind: Kind
) -> None:
    """It was answered, and is heard of when nothing is known of whoever is granted the room again.

    Where it had no answer it is recorded when it is heard of.
    """
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        group, [ann] = await in_group(deployment, "ann")
        is_answered = kind == "unavailable"
        if not is_answered:
            deployment.homeserver.faults.append(Fault("answer lost", _removes))
        # Sync tells of nothing until all is over.
        await sync_is_slow(deployment)
        for op in ("remove", "add"):
            if op == "add":
                deployment.homeserver.faults.append(Fault(kind, _joins))
            await put_members(deployment, group, op, ann)
            await deployment.reconciler.settle()
        deployment.homeserver.given_up.set()
        await deployment.settle(60.0)
        await becomes(deployment, "@ann:s", "join")
        detail = None if is_answered else "its answer was lost"
        assert await kicks(deployment) == [("@ann:s", detail)]


async def test_a_removal_is_recorded_though_the_room_is_granted_again(tmp_path: Path) -> None:
    """It was done, the service killed, and all that before the comparison at the start."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        group, [ann] = await in_group(deployment, "ann")
        await put_members(deployment, group, "remove", ann)
        await deployment.die(_removes)
        await put_members(deployment, group, "add", ann)
        await becomes(deployment, "@ann:s", "join")
        await deployment.quiet()
        assert await kicks(deployment) == [("@ann:s", "its answer was lost")]


async def test_what_could_not_be_taken_in_is_told_again(tmp_path: Path) -> None:
    """Whoever came back meanwhile is out as soon as it can be, without a comparison."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.account("@guest:s")
        world.rooms.create(world.service, room_id=ROOM)
        group, _ = await in_group(deployment, "ann")
        assert (await deployment.scim("DELETE", group))[0] == 204
        await becomes(deployment, "@ann:s", "leave")
        deployment.hands.passed += 60.0
        administrators = Fault("unavailable", lambda request: request.path[-2:] == ("v2", "users"))
        deployment.homeserver.faults.append(administrators)
        begun = len(deployment.homeserver.requests)
        for name in ("@guest:s", "@ann:s"):
            say(world, name, name, "join")

        async def failed() -> int:
            return len(deployment.homeserver.faults)

        await eventually(failed, lambda number: number == 0)
        await becomes(deployment, "@ann:s", "leave")
        assert comparisons(deployment, begun) == 0


async def test_a_removal_under_way_is_recorded_once_though_the_room_is_granted_again(
    tmp_path: Path,
) -> None:
    """Its event is heard of before its answer."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        group, [ann] = await in_group(deployment, "ann")
        await put_members(deployment, group, "remove", ann)
        async with deployment.while_slow(_removes):
            await put_members(deployment, group, "add", ann)
            await deployment.homeserver.followed()
        await becomes(deployment, "@ann:s", "join")
        await deployment.quiet()
        assert await kicks(deployment) == [("@ann:s", None)]


async def test_an_answered_removal_that_is_told_twice_is_recorded_once(tmp_path: Path) -> None:
    """What came with it could not be taken in the first time, and the join after it failed."""
    async with deployed(tmp_path) as deployment:
        world, homeserver = deployment.world, deployment.homeserver
        world.account("@guest:s")
        world.rooms.create(world.service, room_id=ROOM)
        group, [ann] = await in_group(deployment, "ann")
        await sync_is_slow(deployment)
        # Of whoever nobody manages it is asked whether they are protected.
        say(world, "@guest:s", "@guest:s", "join")
        await put_members(deployment, group, "remove", ann)
        await deployment.reconciler.settle()
        deployment.hands.passed += 10.0
        asks = Fault("unavailable", lambda request: request.path[-2:] == ("v2", "users"))
        homeserver.faults += [asks, Fault("unavailable", _joins, times=3)]
        homeserver.given_up.set()

        async def failed() -> bool:
            return asks not in homeserver.faults

        await eventually(failed, bool)
        await put_members(deployment, group, "add", ann)
        await deployment.reconciler.settle()

        async def follows() -> bool:
            return deployment.reconciler.follows_live

        await eventually(follows, bool)
        await homeserver.followed()
        await deployment.settle(60.0)
        await becomes(deployment, "@ann:s", "join")
        assert await kicks(deployment) == [("@ann:s", None)]


async def test_a_removal_that_could_not_be_written_down_is_recorded_soon(tmp_path: Path) -> None:
    """Its answer is lost by that, and it was heard of before: the room is compared."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        group, _ = await in_group(deployment, "ann")
        database = sqlite3.connect(deployment.folder / DATABASE_NAME)
        database.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON action WHEN NEW.kind = 'kick'"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        database.commit()
        assert (await deployment.scim("DELETE", group))[0] == 204
        async with deployment.while_slow(_removes):
            await deployment.homeserver.followed()
        database.execute("DROP TRIGGER refuse")
        database.commit()
        database.close()
        await deployment.settle(60.0)
        assert await kicks(deployment) == [("@ann:s", "its answer was lost")]


async def test_a_token_that_is_refused_removes_nobody(tmp_path: Path) -> None:
    """Whoever leaves by themselves then is out by no removal."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        group, _ = await in_group(deployment, "ann")

        def end(request: Request) -> None:
            if _removes(request):
                raise MatrixError(401, "M_UNKNOWN_TOKEN", "Token is not active")

        deployment.homeserver.before = end
        assert (await deployment.scim("DELETE", group))[0] == 204
        await deployment.reconciler.settle()
        await deployment.stop()
        deployment.homeserver.before = lambda request: None
        say(world, "@ann:s", "@ann:s", "leave")
        await deployment.start()
        await deployment.quiet()
        assert await kicks(deployment) == []


async def test_who_is_heard_of_while_a_room_is_compared_is_not_forgotten(tmp_path: Path) -> None:
    """What the homeserver said of the room is older than that they came back."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        group, _ = await in_group(deployment, "ann")
        assert (await deployment.scim("DELETE", group))[0] == 204
        await deployment.quiet()
        deployment.reconciler.compare()
        async with deployment.while_slow(lambda request: request.path[-1] == "members"):
            await deployment.homeserver.followed()
            say(world, "@ann:s", "@ann:s", "join")
            await deployment.homeserver.followed()
        await becomes(deployment, "@ann:s", "leave")


async def test_who_is_invited_is_not_taken_for_out_where_nobody_can_ask(tmp_path: Path) -> None:
    """The service was thrown out, and what it asked for then had no answer."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        levels = {"users": {world.service: 100, "@owner:s": 100}}
        room = world.rooms.create(world.service, room_id=ROOM, version="10", levels=levels)
        world.account("@owner:s")
        world.bring(ROOM, "@owner:s")
        group, _ = await in_group(deployment, "ann", "bob", mode="invite")
        assert room.membership("@ann:s") == room.membership("@bob:s") == "invite"
        say(world, "@owner:s", world.service, "leave")
        await deployment.settle()
        promotes = Fault("unavailable", lambda request: "make_room_admin" in request.path)
        deployment.homeserver.faults.append(promotes)
        assert (await deployment.scim("DELETE", group))[0] == 204
        await deployment.settle(60.0)
        assert room.membership("@ann:s") == room.membership("@bob:s") == "leave"
        assert sorted(await kicks(deployment)) == [("@ann:s", None), ("@bob:s", None)]


@pytest.mark.parametrize("sender", ["@bot:s", "@ann:s"])
async def test_who_was_removed_unheard_and_granted_the_room_again_is_invited(
    tmp_path: Path, sender: str
) -> None:
    """Not whoever left by themselves while the service was away."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id=ROOM)
        await in_group(deployment, "ann", mode="invite")
        say(world, "@ann:s", "@ann:s", "join")
        await deployment.quiet()
        await deployment.stop()
        say(world, sender, "@ann:s", "leave")
        await deployment.start()
        await deployment.quiet()
        assert room.membership("@ann:s") == ("invite" if sender == world.service else "leave")


async def test_what_came_too_fast_removes_nobody(tmp_path: Path) -> None:
    """Whoever leaves by themselves before it is asked for again is out by no removal."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        await taken_out_in_vain(deployment, "rate limited")
        await deployment.stop()
        say(world, "@ann:s", "@ann:s", "leave")
        await deployment.start()
        await deployment.quiet()
        assert await kicks(deployment) == []


async def test_an_approval_ends_with_a_ban_though_an_answer_was_lost(tmp_path: Path) -> None:
    """Whoever is unbanned and comes back is held anew."""
    cautious = Configuration(brake=Brake(0, 1, 3600.0))
    async with deployed(tmp_path, configuration=cautious) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id=ROOM)
        group, _ = await in_group(deployment, "ann", "bob", "cat")
        assert (await deployment.scim("DELETE", group))[0] == 204
        await deployment.settle()
        deployment.homeserver.faults.append(Fault("request lost", _removes, times=3))
        assert await deployment.decide(ROOM, "approved") == 3
        await deployment.settle()
        for user_id in ("@ann:s", "@bob:s", "@cat:s"):
            say(world, "@owner:s", user_id, "ban")
        await deployment.quiet()
        for membership in ("leave", "join"):
            for user_id in ("@ann:s", "@bob:s", "@cat:s"):
                sender = "@owner:s" if membership == "leave" else user_id
                say(world, sender, user_id, membership)
            await deployment.quiet()
        assert sorted(room.members()) == ["@ann:s", "@bob:s", "@bot:s", "@cat:s"]
        assert await kicks(deployment) == []


async def test_who_is_removed_late_and_granted_the_room_again_is_invited(tmp_path: Path) -> None:
    """It was not by their own will that they left."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        group, [ann] = await in_group(deployment, "ann", mode="invite")
        say(world, "@ann:s", "@ann:s", "join")
        await deployment.quiet()
        deployment.homeserver.faults.append(Fault("request lost", _removes))
        for op in ("remove", "add"):
            await put_members(deployment, group, op, ann)
            await deployment.settle()
        await deployment.quiet()
        say(world, world.service, "@ann:s", "leave")
        await becomes(deployment, "@ann:s", "invite")


async def test_who_comes_back_while_their_removal_is_written_down_is_out_again(
    tmp_path: Path,
) -> None:
    """It was heard of before its answer, and they come before that can be recorded."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        group, _ = await in_group(deployment, "ann")
        assert (await deployment.scim("DELETE", group))[0] == 204
        async with deployment.while_slow(_removes):
            await deployment.homeserver.followed()
            async with deployment.database.write():
                deployment.homeserver.given_up.set()

                async def acted() -> str | None:
                    return deployment.reconciler._turn.acted(ROOM, "@ann:s")

                await eventually(acted, bool)
                say(world, "@ann:s", "@ann:s", "join")
                await deployment.homeserver.followed()
        await becomes(deployment, "@ann:s", "leave")


@pytest.mark.parametrize("then", ["leave", "join"])
async def test_who_is_unbanned_before_the_answer_is_not_taken_for_banned(
    tmp_path: Path, then: str
) -> None:
    """They are in the room then, by whomever, and leave it with their group."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)

        def ban(request: Request) -> None:
            if _joins(request):
                say(world, "@owner:s", "@ann:s", "ban")

        deployment.homeserver.before = ban
        ann = await person(deployment, "ann")
        group = {"schemas": [SCHEMA + "Group"], "displayName": "staff", "externalId": "g"}
        path = f"/Groups/{(await deployment.scim('POST', '/Groups', group))[1]['id']}"
        await deployment.put_map({"g": [{"room": ROOM}]})
        await followed(deployment)
        await put_members(deployment, path, "add", ann)
        async with deployment.while_slow(_joins):
            await deployment.homeserver.followed()
            deployment.homeserver.before = lambda request: None
            for membership in ("leave", then):
                say(world, "@owner:s", "@ann:s", membership)
                await deployment.homeserver.followed()
        await becomes(deployment, "@ann:s", "join")
        assert (await deployment.scim("DELETE", path))[0] == 204
        await becomes(deployment, "@ann:s", "leave")


def _removes(request: Request) -> bool:
    return request.path[-1] == "kick"


def _joins(request: Request) -> bool:
    return request.path[:4] == ("_synapse", "admin", "v1", "join")


@pytest.mark.parametrize("when", ["before the answer", "after it"])
async def test_who_comes_back_at_once_is_out_again(tmp_path: Path, when: str) -> None:
    """Without a comparison at the interval, though their removal was heard of before its answer."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        group, _ = await in_group(deployment, "ann")
        begun = len(deployment.homeserver.requests)
        assert (await deployment.scim("DELETE", group))[0] == 204
        async with deployment.while_slow(lambda request: request.path[-1] == "kick"):
            await deployment.homeserver.followed()
            if when == "before the answer":
                say(world, "@ann:s", "@ann:s", "join")
                await deployment.homeserver.followed()
        if when == "after it":
            say(world, "@ann:s", "@ann:s", "join")
        await becomes(deployment, "@ann:s", "leave")
        # What was heard last may be older than the removal.
        assert comparisons(deployment, begun) == (1 if when == "before the answer" else 0)


async def test_what_comes_and_goes_is_followed_again_once_it_can_be_written(tmp_path: Path) -> None:
    """A database that refuses what was heard says nothing of when to try again."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.rooms.create(world.service, room_id=ROOM)
        await in_group(deployment, "ann")
        refusing = sqlite3.connect(tmp_path / DATABASE_NAME)
        refusing.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE OF observed ON membership"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )

        async def follows() -> bool:
            return deployment.reconciler.follows_live

        say(world, "@owner:s", "@ann:s", "leave")
        await eventually(follows, lambda follows: not follows)
        refusing.execute("DROP TRIGGER refuse")
        refusing.close()
        await eventually(follows, bool)
