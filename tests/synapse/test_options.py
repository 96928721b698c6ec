"""What a mapping says beyond the room: power level, a space's rooms, invitation, a new room."""

from typing import Any

import aiohttp
import pytest
from aiohttp import web

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    follows,
    group_of,
    levels,
    mxid,
    ready,
    room_holds,
    settled,
    signed_in,
)
from tests.synapse.proxy import proxying
from tests.synapse.steps import compared_at, compared_since, restarted

# -- Power levels -------------------------------------------------------------


async def give(admin: User, room_id: str, **wanted: int | None) -> None:
    """Set power levels by hand; None takes them away."""
    path = f"/_matrix/client/v3/rooms/{room_id}/state/m.room.power_levels"
    content = await admin.call("GET", path)
    for name, level in wanted.items():
        content["users"].pop(mxid(name), None)
        if level is not None:
            content["users"][mxid(name)] = level
    await admin.call("PUT", path, content)


@pytest.mark.parametrize("version", ["10", "12"])
async def test_power_is_given_while_in_the_group(
    synapse: Synapse, admin: User, service: StartService, tag: str, version: str
) -> None:
    """One event for all of them; given back when the group goes; by hand stays by hand."""
    room = await admin.create_room(room_version=version)
    leads, boss, all_of_them = f"{tag}lead", f"{tag}boss", ("lead", "boss", "ann")
    group_map = {"all": [room], "leads": [{"room": room, "powerLevel": 50}]}
    async with (
        proxying(synapse.url) as proxy,
        service(group_map, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        _, people = await group_of(idp, *(f"{tag}{n}" for n in all_of_them), key="all")
        await room_holds(admin, room, set(people))
        await give(admin, room, **{boss: 75})
        await settled(idp)
        proxy.requests.clear()

        group = await idp.create_group("Leads", [people[leads], people[boss]], externalId="leads")
        await eventually(lambda: levels(admin, room), lambda p: p == {leads: 50, boss: 75})
        await settled(idp)
        assert [m for m, _ in proxy.asked if m != "GET"] == ["PUT"]

        await idp.ok("DELETE", f"/Groups/{group}")
        await eventually(lambda: levels(admin, room), lambda p: p == {boss: 75})
        await settled(idp)
        assert await admin.members(room) - {"scim-bot"} == set(people)


async def test_power_goes_with_the_person_and_comes_back(
    admin: User, service: StartService, tag: str
) -> None:
    """Who leaves the group leaves the room and its power; taken away by hand it is given again."""
    room = await admin.create_room()
    async with service({"g": [{"room": room, "powerLevel": 50}]}) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        await eventually(lambda: levels(admin, room), lambda p: p == dict.fromkeys(people, 50))
        await idp.remove(group, people[f"{tag}ann"])
        await room_holds(admin, room, {f"{tag}bob"})
        await eventually(lambda: levels(admin, room), lambda p: p == {f"{tag}bob": 50})
        await settled(idp)
        await process.stop()
        await give(admin, room, **{f"{tag}bob": None})
        await process.start()
        await eventually(lambda: levels(admin, room), lambda p: p == {f"{tag}bob": 50})


async def test_nobody_gets_as_much_power_as_the_service(
    admin: User, service: StartService, tag: str
) -> None:
    """It could not be taken back, so it is refused and shown."""
    room = await admin.create_room(room_version="10")
    async with service({"g": [{"room": room, "powerLevel": 100}]}) as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann")
        await eventually(lambda: ready(idp), lambda s: s["work"]["failingPairs"] == 1)
        assert await levels(admin, room) == {}
        assert f"{tag}ann" in await admin.members(room)


async def test_somebody_as_powerful_as_the_service_is_not_kicked(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """The service does not make itself more powerful to kick an equal; it shows the refusal."""
    owner = await synapse.register(f"{tag}owner")
    room = await owner.create_room(room_version="10")
    await admin.call(
        "POST", f"/_synapse/admin/v1/rooms/{room}/make_room_admin", {"user_id": admin.user_id}
    )
    await admin.call("POST", f"/_matrix/client/v3/join/{room}", {})
    async with staffed(room, f"{tag}ann", f"{tag}bob") as (_, idp, group, _):
        path = f"/_matrix/client/v3/rooms/{room}/state/m.room.power_levels"
        content = await owner.call("GET", path)
        content["users"][admin.user_id] = 60
        content["users"][mxid(f"{tag}ann")] = 60
        await admin.call("PUT", path, content)
        await idp.ok("DELETE", f"/Groups/{group}")
        await room_holds(admin, room, {f"{tag}ann", f"{tag}owner"})
        await eventually(lambda: ready(idp), lambda s: s["work"]["failingPairs"] == 1)
        content = await owner.call("GET", path)
        assert content["users"][admin.user_id] == 60


async def test_creators_of_version_12_rooms_need_no_power(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """A creator has all power without being listed, and must not be listed."""
    creator = await synapse.register(f"{tag}ann")
    link = [{"auth_provider": "oidc-demo", "external_id": f"ext-{tag}ann"}]
    path = f"/_synapse/admin/v2/users/{creator.user_id}"
    await admin.call("PUT", path, {"external_ids": link})
    room = await creator.create_room(room_version="12")
    async with staffed({"room": room, "powerLevel": 50}, f"{tag}ann", f"{tag}bob") as s:
        await eventually(lambda: levels(admin, room), lambda p: p == {f"{tag}bob": 50})
        await settled(s.idp)


# -- Spaces -------------------------------------------------------------------


async def put_into(admin: User, space: str, room: str, *, content: Any = None) -> None:
    """Put a room into a space, or with empty content take it out."""
    path = f"/_matrix/client/v3/rooms/{space}/state/m.space.child/{room}"
    await admin.call("PUT", path, {"via": [SERVER_NAME]} if content is None else content)


async def make_space(admin: User) -> str:
    """Create a space."""
    return await admin.create_room(creation_content={"type": "m.space"})


async def test_a_spaces_rooms_follow_it(admin: User, service: StartService, tag: str) -> None:
    """At any depth, cycles included; rooms put in later are joined, taken out forgotten."""
    space, inner = await make_space(admin), await make_space(admin)
    direct, deep, later = [await admin.create_room() for _ in range(3)]
    for parent, child in ((space, inner), (space, direct), (inner, deep), (inner, space)):
        await put_into(admin, parent, child)
    # Whoever puts a room into a space needs the power in it.
    mod = await signed_up_moderator(admin, space, inner, later, name=f"{tag}mod")
    async with service({"g": [{"room": space, "children": True}]}) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        for room in (direct, deep):
            await room_holds(admin, room, set(people))
        for room in (space, inner):
            await room_holds(admin, room, {*people, f"{tag}mod"})
        await follows(idp)

        await put_into(mod, inner, later)
        await room_holds(admin, later, {*people, f"{tag}mod"})
        await put_into(mod, space, direct, content={})
        await eventually(lambda: out_of_space(process.data_dir), lambda n: n >= 1)
        await settled(idp)
        assert await admin.members(direct) - {"scim-bot"} == set(people)

        await idp.remove(group, people[f"{tag}ann"])
        await room_holds(admin, deep, {f"{tag}bob"})
        await room_holds(admin, later, {f"{tag}bob", f"{tag}mod"})


async def out_of_space(folder: Any) -> int:
    """Return how often the service said that a space holds four rooms less one."""
    return sum(
        '"event": "space_changed"' in line and '"rooms": 3' in line
        for line in (folder / "service.log").read_text().splitlines()
    )


async def signed_up_moderator(admin: User, *rooms: str, name: str) -> User:
    """Return somebody with power in rooms, whose changes are not the service's own."""
    password = {"password": "long enough to be accepted"}
    await admin.call("PUT", f"/_synapse/admin/v2/users/{mxid(name)}", password)
    for room in rooms:
        await admin.call("POST", f"/_synapse/admin/v1/join/{room}", {"user_id": mxid(name)})
        await give(admin, room, **{name: 90})
    return await signed_in(admin, name)


# -- Invitations --------------------------------------------------------------


async def membership(admin: User, room: str, name: str) -> str | None:
    """Return somebody's membership in a room."""
    path = f"/_matrix/client/v3/rooms/{room}/state/m.room.member/{mxid(name)}"
    try:
        return str((await admin.call("GET", path))["membership"])
    except aiohttp.ClientResponseError:
        return None


async def test_invited_people_decide_themselves(
    admin: User, service: StartService, tag: str
) -> None:
    """One invitation each: accepted, declined, or withdrawn when the group goes."""
    room = await admin.create_room()
    ann, bob, cat = (f"{tag}{n}" for n in ("ann", "bob", "cat"))
    async with service({"g": [{"room": room, "mode": "invite"}]}) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, ann, bob, cat)

        async def memberships() -> list[str | None]:
            return [await membership(admin, room, name) for name in (ann, bob, cat)]

        await eventually(memberships, lambda seen: seen == ["invite"] * 3)
        await settled(idp)
        await follows(idp)
        await (await signed_in(admin, ann)).call("POST", f"/_matrix/client/v3/join/{room}", {})
        leave = f"/_matrix/client/v3/rooms/{room}/leave"
        await (await signed_in(admin, bob)).call("POST", leave, {})
        await restarted(process)
        await settled(idp)
        await idp.remove(group, people[cat])
        await eventually(memberships, lambda seen: seen == ["join", "leave", "leave"])
        await settled(idp)

        await idp.remove(group, people[bob])
        await settled(idp)
        await idp.add(group, people[bob])
        await eventually(memberships, lambda seen: seen == ["join", "invite", "leave"])
        await idp.remove(group, people[ann])
        await eventually(memberships, lambda seen: seen == ["leave", "invite", "leave"])


async def test_declining_while_the_service_is_away_counts_too(
    admin: User, service: StartService, tag: str
) -> None:
    """A comparison finds the invitation declined and does not repeat it."""
    room = await admin.create_room()
    async with service({"g": [{"room": room, "mode": "invite"}]}) as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann", f"{tag}bob")

        async def ann() -> str | None:
            return await membership(admin, room, f"{tag}ann")

        await eventually(ann, lambda seen: seen == "invite")
        await settled(idp)
        before = await compared_at(process)
        await process.stop()
        user = await signed_in(admin, f"{tag}ann")
        await user.call("POST", f"/_matrix/client/v3/rooms/{room}/leave", {})
        process.group_map = f'{{"g": [{{"room": "{room}", "mode": "invite"}}], "*": []}}'
        await process.start()
        await compared_since(process, before)
        await settled(idp)
        assert await ann() == "leave"
        assert await membership(admin, room, f"{tag}bob") == "invite"

        await process.stop()
        process.group_map = f'{{"g": ["{room}"]}}'
        await process.start()
        await room_holds(admin, room, {f"{tag}ann", f"{tag}bob"})


# -- Rooms on demand ----------------------------------------------------------


async def test_a_room_is_made_once_and_put_into_its_space(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Also where the answer is lost; private, encrypted, with the service as admin."""
    space = await make_space(admin)
    alias = f"#{tag}lunch:{SERVER_NAME}"
    template = {"name": "Lunch", "topic": "Where today?", "encrypted": True, "space": space}
    async with proxying(synapse.url) as proxy:
        answers = iter([True])
        proxy.lost = lambda method, path: "/createRoom" in path and next(answers, False)
        async with service(
            {"g": [{"room": alias, "create": template}]}, MATRIX_URL=proxy.url
        ) as process:
            idp = ScimClient(process.url)
            await group_of(idp, f"{tag}ann")

            async def made() -> str | None:
                path = f"/_matrix/client/v3/directory/room/%23{tag}lunch:{SERVER_NAME}"
                try:
                    return str((await admin.call("GET", path))["room_id"])
                except aiohttp.ClientResponseError:
                    return None

            room = await eventually(made, lambda found: found is not None)
            assert room is not None
            await room_holds(admin, room, {f"{tag}ann"})
            await settled(idp)
            state = {
                e["type"]: e["content"]
                for e in await admin.call("GET", f"/_matrix/client/v3/rooms/{room}/state")
            }
            assert state["m.room.name"]["name"] == "Lunch"
            assert state["m.room.topic"]["topic"] == "Where today?"
            assert state["m.room.join_rules"]["join_rule"] == "invite"
            assert "m.room.encryption" in state
            assert "m.space.parent" in state
            child = f"/_matrix/client/v3/rooms/{space}/state/m.space.child/{room}"
            assert (await admin.call("GET", child))["via"] == [SERVER_NAME]

            await put_into(admin, space, room, content={})
            await restarted(process)
            await settled(idp)
            assert await admin.call("GET", child) == {}
        assert sum("/createRoom" in path for _, path in proxy.requests) == 1


async def test_a_limit_on_new_rooms_delays_nothing_else(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A 429 for a room to be made is about that room."""
    room = await admin.create_room()
    alias = f"#{tag}new:{SERVER_NAME}"
    limited = {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 3_600_000}
    async with proxying(synapse.url) as proxy:
        proxy.fault = lambda method, path: (
            web.json_response(limited, status=429) if "/createRoom" in path else None
        )
        entries = [{"room": alias, "create": {"name": "New"}}, room]
        async with service({"g": entries}, MATRIX_URL=proxy.url) as process:
            idp = ScimClient(process.url)
            await eventually(lambda: ready(idp), lambda s: s["work"]["failingRooms"] == 1)
            await group_of(idp, f"{tag}ann")
            await room_holds(admin, room, {f"{tag}ann"})
