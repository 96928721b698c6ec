"""A homeserver behind a bad network: afterwards the rooms are right and nobody was wronged."""

import asyncio
import random
from urllib.parse import unquote

import pytest
from aiohttp import web

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import Synapse, User
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    group_of,
    mxid,
    ready,
    room_holds,
    settled,
)
from tests.synapse.proxy import proxying

CHANGES = ("/join/", "/kick", "/v2/users/@")


# More than 20 s of a busy machine: forty faults, each with the rest that follows it.
async def test_every_fault_at_once(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Pages of proxies, errors, limits, cut and lost answers, delays: the rooms agree afterwards.

    Whoever is in the group all the time is never kicked, nor is somebody invited by hand.
    """
    dice = random.Random(tag)
    room = await admin.create_room()
    guest = await synapse.register(f"{tag}guest")
    await admin.call("POST", f"/_synapse/admin/v1/join/{room}", {"user_id": guest.user_id})
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room]}, MATRIX_URL=proxy.url, REMOVAL_LIMIT_COUNT="1000") as process,
    ):
        idp = ScimClient(process.url)
        left = 40

        def fault(method: str, path: str) -> web.Response | None:
            nonlocal left
            if left == 0 or not any(part in path for part in CHANGES):
                return None
            left -= 1
            match dice.randrange(6):
                case 0:
                    return web.Response(status=502, text="<html>", content_type="text/html")
                case 1:
                    return web.json_response({"errcode": "M_UNKNOWN"}, status=500)
                case 2:
                    body = {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 50}
                    return web.json_response(body, status=429)
                case _:
                    return None

        async def delay(method: str, path: str) -> None:
            if left and any(part in path for part in CHANGES):
                await asyncio.sleep(dice.uniform(0, 0.1))

        proxy.fault = fault
        proxy.delay = delay
        proxy.lost = lambda method, path: bool(
            left and any(part in path for part in CHANGES) and dice.random() < 0.2
        )
        group, people = await group_of(idp, *(f"{tag}p{n}" for n in range(8)))
        names = list(people)
        loyal, inside = set(names[:3]), set(names)
        while left:
            name = dice.choice(names[3:])
            change = idp.remove if name in inside else idp.add
            await change(group, people[name])
            inside ^= {name}
            # The moment is what is random here, not a wait for something.
            await asyncio.sleep(dice.uniform(0, 0.3))
        # Longer than the longest rests after failures: of the room, of a person, of everything.
        await room_holds(admin, room, {*inside, f"{tag}guest"}, 90)
        await eventually(lambda: ready(idp), lambda s: s["work"]["pendingPairs"] == 0)
        path = f"/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=1000"
        events = (await admin.call("GET", path))["chunk"]
        kicked = {e["state_key"] for e in events if e["content"].get("membership") == "leave"}
        assert not kicked & {mxid(name) for name in {*loyal, f"{tag}guest"}}


# More than 20 s: how long it is left alone is what is tested. It is most often asked at first.
@pytest.mark.parametrize("hurried", [False], ids=[""])
async def test_a_homeserver_that_is_dark_is_left_in_peace(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """At most five requests in any second after the first; afterwards everything arrives."""
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        staffed(room, *(f"{tag}p{n}" for n in range(12)), MATRIX_URL=proxy.url) as s,
    ):
        loop = asyncio.get_running_loop()
        proxy.dark = True
        begun = loop.time()
        await s.idp.remove(s.group, *[s.people[f"{tag}p{n}"] for n in range(3)])
        await s.idp.add(s.group, *[await s.idp.create_user(f"{tag}late{n}") for n in range(6)])
        await eventually(lambda: ready(s.idp), lambda s: s["homeserver"]["condition"] == "down")

        async def passed() -> float:
            return loop.time() - begun

        await eventually(passed, lambda seconds: seconds > 20)
        proxy.dark = False
        stay = {f"{tag}p{n}" for n in range(3, 12)} | {f"{tag}late{n}" for n in range(6)}
        await room_holds(admin, room, stay)
        dark = [moment - begun for moment in proxy.moments if begun < moment < begun + 20]
        # What was under way (four changes and a sync), and the question whether it is there.
        assert sum(moment < 1 for moment in dark) <= 4 + 1 + 1
        later = [moment for moment in dark if moment >= 1]
        assert len(later) >= 3
        assert all(b - a >= 1 for a, b in zip(later, later[5:], strict=False)), later


async def test_a_room_that_only_fails_delays_no_other(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Errors about one room, and about one person in a room, stop there."""
    broken, good = await admin.create_room(), await admin.create_room()
    async with proxying(synapse.url) as proxy:
        poison = f"{tag}poison"
        asked = {"broken": 0}

        def fault(method: str, path: str) -> web.Response | None:
            if f"/v1/join/{broken}" in unquote(path):
                asked["broken"] += 1
                return web.json_response({"errcode": "M_UNKNOWN"}, status=500)
            if poison in path:
                return web.json_response({"errcode": "M_UNKNOWN"}, status=500)
            return None

        proxy.fault = fault
        async with service({"g": [broken, good]}, MATRIX_URL=proxy.url) as process:
            idp = ScimClient(process.url)
            names = [f"{tag}p{n}" for n in range(6)]
            await group_of(idp, poison, *names)
            await room_holds(admin, good, set(names))
            work = (await ready(idp))["work"]
            assert work["pendingPairs"] >= 6
            assert asked["broken"] >= 1
            # The same state twice in a row would be luck: it is ready whenever it is asked.
            assert (await ready(idp))["homeserver"]["condition"] == "ready"


async def test_a_change_of_mind_is_looked_at_before_each_action(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Somebody put back while earlier removals are under way is not kicked."""
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        staffed(room, *(f"{tag}p{n}" for n in range(4)), MATRIX_URL=proxy.url) as s,
    ):
        under_way, go_on = asyncio.Event(), asyncio.Event()

        async def delay(method: str, path: str) -> None:
            if path.endswith("/kick"):
                under_way.set()
                await go_on.wait()

        proxy.delay = delay
        await s.idp.remove(s.group, *s.people.values())
        await under_way.wait()
        await s.idp.add(s.group, *s.people.values())
        go_on.set()
        await settled(s.idp)
        await room_holds(admin, room, set(s.people))
        assert sum(path.endswith("/kick") for _, path in proxy.requests) == 1


async def test_a_small_change_overtakes_an_import(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """One person's join in another room, or in the same one, does not wait for many others."""
    room, other = await admin.create_room(), await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room], "h": [other]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        people = {f"{tag}p{n}": await idp.create_user(f"{tag}p{n}") for n in range(30)}
        small = await idp.create_group("H", [], externalId="h")
        await settled(idp)
        under_way, go_on = asyncio.Event(), asyncio.Event()
        joins: list[str] = []

        async def delay(method: str, path: str) -> None:
            if "/v1/join/" in path:
                joins.append(path)
                if len(joins) == 3:
                    under_way.set()
                    await go_on.wait()

        proxy.delay = delay
        names = list(people)
        group = await idp.create_group("G", [people[n] for n in names[:-1]], externalId="g")
        await under_way.wait()
        await idp.add(group, people[names[-1]])
        await idp.add(small, people[names[-1]])
        await room_holds(admin, other, {names[-1]})
        go_on.set()

        async def last_is_in() -> bool:
            return names[-1] in await admin.members(room)

        await eventually(last_is_in, bool)
        # In its room one join was under way; the newest came right after it.
        assert len(joins) <= 3 + 1 + 3
        await room_holds(admin, room, set(names))
