"""What managers of the console cannot do through it, as they could not do it by hand."""

from typing import Any
from urllib.parse import quote, unquote

import aiohttp
import pytest

from scim_matrix.console.access import KEEP, LISTED, Access
from scim_matrix.demo.synapse import IDP, Synapse, User
from scim_matrix.matrix.server import Homeserver
from tests.conftest import eventually
from tests.hurried import PACE
from tests.synapse import visiting
from tests.synapse.conftest import command, group_of, levels, mxid, room_holds, settled
from tests.synapse.proxy import proxying
from tests.synapse.visiting import Scene, Visitor

scene = visiting.scene

CHILD = {"via": ["demo.test"]}


async def compared(s: Scene) -> None:
    """Have every room compared, and everything tried that follows from it."""
    status, output = await command(s.service, "sync", "--wait")
    assert status == 0, output


async def put_child(by: User, space: str, room: str) -> None:
    """Put a room into a space."""
    path = f"/_matrix/client/v3/rooms/{space}/state/m.space.child/{room}"
    await by.call("PUT", path, CHILD)


async def space_of(by: User, *rooms: str) -> str:
    """Create a space of somebody's own that holds rooms, whosever these are."""
    space = await by.create_room(room_version="10", creation_content={"type": "m.space"})
    for room in rooms:
        await put_child(by, space, room)
    return space


# -- Power --------------------------------------------------------------------


async def test_nobody_gives_more_power_than_they_have(scene: Any) -> None:
    """A level above the own one, or any without the power to give levels, is refused."""
    async with scene() as s:
        override = {"users": {s.admin.user_id: 100, mxid(s.manager): 50}}
        room = await s.admin.create_room(room_version="10", power_level_content_override=override)
        await s.joins(room, s.manager)
        visitor = await s.visitor(s.manager)
        for power, needed in (("99", 100), ("51", 100), ("50", 100)):
            status, text = await s.try_mapping(visitor, room, power=power)
            assert status == 403
            assert f"{mxid(s.manager)} has power level 50 in the room and needs {needed}" in text
        assert (await s.try_mapping(visitor, room))[0] == 303
        await room_holds(s.admin, room, {s.manager, *s.people})
        await settled(s.idp)
        assert await levels(s.admin, room) == {s.manager: 50}


async def test_a_lost_power_is_seen_at_once(scene: Any) -> None:
    """Whoever is demoted maps nothing more, however lately they were shown that they may."""
    async with scene() as s:
        visitor = await s.visitor(s.manager)
        page = f"/console/groups/{s.group}"
        assert await visitor.send(page, f"{page}/preview", room=s.own) == 200
        path = f"/_matrix/client/v3/rooms/{s.own}/state/m.room.power_levels"
        content = await s.admin.call("GET", path)
        content["users"][mxid(s.manager)] = 0
        await s.boss.call("PUT", path, content)
        assert await visitor.send(page, f"{page}/mappings", room=s.own) == 403


# -- Other rooms --------------------------------------------------------------


async def test_a_foreign_child_of_an_own_space_is_not_opened(scene: Any) -> None:
    """A space is mapped with its rooms only by whoever has the power in each of them."""
    async with scene() as s:
        visitor = await s.visitor(s.manager)
        space = await space_of(s.boss, s.own, s.other)
        status, text = await s.try_mapping(visitor, space, children="on")
        assert (status, s.other in text) == (403, True)
        unknown = await space_of(s.boss, s.own)
        assert (await s.try_mapping(visitor, unknown, children="on"))[0] == 303
        await room_holds(s.admin, s.own, {s.manager, *s.people})
        await put_child(s.boss, unknown, s.other)
        await compared(s)
        assert await s.admin.members(s.other) == {"scim-bot"}


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_tombstone_in_an_own_room_leads_nowhere(scene: Any, exclusive: bool) -> None:
    """A room says itself what it replaces; nobody is joined to it or kicked from it otherwise."""
    async with scene() as s:
        name = s.manager.replace("manager", "board")
        await s.admin.call(
            "PUT", f"/_synapse/admin/v2/users/{mxid(name)}", {"password": "password"}
        )
        await s.joins(s.other, name)
        visitor = await s.visitor(s.manager)
        options = {"exclusive": "on"} if exclusive else {}
        assert (await s.try_mapping(visitor, s.own, **options))[0] == 303
        await room_holds(s.admin, s.own, {s.manager, *s.people})
        await s.boss.call(
            "PUT",
            f"/_matrix/client/v3/rooms/{s.own}/state/m.room.tombstone",
            {"body": "moved", "replacement_room": s.other},
        )
        await compared(s)
        assert await s.admin.members(s.other) == {"scim-bot", name}


async def test_an_alias_moved_later_leads_nowhere(scene: Any) -> None:
    """A mapping means the room that its alias stood for when it was made."""
    async with scene() as s:
        visitor = await s.visitor(s.manager)
        path = f"/_matrix/client/v3/directory/room/{quote(f'#{s.manager}:demo.test')}"
        await s.boss.call("PUT", path, {"room_id": s.own})
        assert (await s.try_mapping(visitor, f"#{s.manager}:demo.test"))[0] == 303
        await room_holds(s.admin, s.own, {s.manager, *s.people})
        await s.joins(s.other, s.manager)
        await s.boss.call("DELETE", path)
        await s.boss.call("PUT", path, {"room_id": s.other})
        await compared(s)
        assert await s.admin.members(s.other) == {"scim-bot", s.manager}


async def test_an_administrators_mapping_stays(scene: Any) -> None:
    """A manager takes out neither it nor the people in child rooms without power in these."""
    async with scene() as s:
        space = await space_of(s.boss, s.own)
        await s.leads(space)
        await put_child(s.admin, space, s.other)
        admin, manager = await s.visitor("scim-bot"), await s.visitor(s.manager)
        assert (await s.try_mapping(admin, space, children="on"))[0] == 303
        await room_holds(s.admin, s.other, set(s.people))
        mapping = await s.mapping(admin)
        for people in ("stay", "leave"):
            assert await s.take_out(manager, mapping, people) == 403
        await compared(s)
        assert await s.admin.members(s.other) == {"scim-bot", *s.people}


async def test_whoever_has_more_power_is_not_taken_out(scene: Any) -> None:
    """Taking out a mapping with its people removes whom the manager could remove by hand."""
    async with scene() as s:
        ann, bob = sorted(s.people)
        override = {"users": {s.admin.user_id: 100, mxid(ann): 75, mxid(s.manager): 50}}
        room = await s.admin.create_room(room_version="10", power_level_content_override=override)
        await s.joins(room, s.manager)
        visitor = await s.visitor(s.manager)
        assert (await s.try_mapping(visitor, room))[0] == 303
        await room_holds(s.admin, room, {s.manager, ann, bob})
        await settled(s.idp)
        assert await s.take_out(visitor, await s.mapping(visitor), "leave") == 303
        await room_holds(s.admin, room, {s.manager, ann})
        await compared(s)
        assert await s.admin.members(room) == {"scim-bot", s.manager, ann}


async def test_an_exclusive_room_keeps_whoever_has_more_power(scene: Any) -> None:
    """Only whom its maker could remove by hand leaves, and not the maker: that would end it."""
    async with scene() as s:
        names = [s.manager.replace("manager", word) for word in ("chair", "guest")]
        for name in names:
            path = f"/_synapse/admin/v2/users/{mxid(name)}"
            await s.admin.call("PUT", path, {"password": "password"})
        users = {s.admin.user_id: 100, mxid(names[0]): 75, mxid(s.manager): 50}
        room = await s.admin.create_room(
            room_version="10", power_level_content_override={"users": users}
        )
        for name in (s.manager, *names):
            await s.joins(room, name)
        visitor = await s.visitor(s.manager)
        assert (await s.try_mapping(visitor, room, exclusive="on"))[0] == 303
        await room_holds(s.admin, room, {names[0], s.manager, *s.people})
        await compared(s)
        assert {names[0], s.manager} < await s.admin.members(room)


# -- Groups -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["*", "t?am", "[ab]", "a*"])
async def test_a_groups_name_is_no_pattern(scene: Any, tag: str, name: str) -> None:
    """Whatever a group is called, its mapping is of this one group."""
    async with scene() as s:
        cleo = await s.idp.create_user(f"{tag}cleo")
        group = await s.idp.create_group(name, [cleo])
        dora = await s.idp.create_user(f"{tag}dora")
        for other in ("team", "a", "ab"):
            await s.idp.create_group(other, [dora])
        s.group = group
        visitor = await s.visitor(s.manager)
        page = f"/console/groups/{group}"
        admin = await s.visitor("scim-bot")
        csrf = await admin.token(page)
        _, text, _ = await admin.ask("POST", f"{page}/preview", csrf=csrf, room=s.own)
        assert "This would add 1 person" in text
        assert (await s.try_mapping(visitor, s.own))[0] == 303
        await room_holds(s.admin, s.own, {s.manager, f"{tag}cleo"})
        await compared(s)
        assert await s.admin.members(s.own) == {"scim-bot", s.manager, f"{tag}cleo"}


async def test_a_manager_sees_what_is_theirs(scene: Any, tag: str) -> None:
    """Groups of own rooms with their people; of others the name, and that where it is sought."""
    async with scene() as s:
        other, _ = await group_of(s.idp, f"{tag}eve", key=f"{tag}h", name=f"{tag}Board")
        await settled(s.idp)
        admin, manager = await s.visitor("scim-bot"), await s.visitor(s.manager)
        page = f"/console/groups/{other}"
        assert await admin.send(page, f"{page}/mappings", room=s.other) == 303

        async def shown(path: str) -> str:
            answer = await manager.ask("GET", path)
            assert answer[0] == 200
            return str(answer[1])

        assert f"{tag}Board" not in await shown("/console/groups")
        assert f"{tag}Board" in await shown(f"/console/groups?q={tag}bOA")
        text = await shown(page)
        assert f"{tag}Board" in text
        for secret in (f"{tag}eve", s.other, "Members", "scim-bot"):
            assert secret not in text, secret
        own = f"/console/groups/{s.group}"
        assert f"{tag}ann" not in await shown(own)
        assert (await s.try_mapping(manager, s.own))[0] == 303
        assert f"{tag}ann" in await shown(own)
        assert s.group in await shown("/console/groups")
        assert other not in await shown("/console/groups")
        assert s.other not in await shown("/console/rooms")


async def test_a_list_of_rooms_asks_for_each_once_in_a_while(
    synapse: Synapse, admin: User, tag: str
) -> None:
    """Looking again asks what changes for all of them at once, until ten minutes have passed."""
    manager = await synapse.register(f"{tag}manager")
    rooms = [await manager.create_room(room_version="10") for _ in range(3)]
    foreign = await admin.create_room()
    now = 0.0
    async with proxying(synapse.url) as proxy:
        homeserver = Homeserver.connect(proxy.url, admin.user_id, admin.token, IDP)
        try:
            access = Access(lambda: homeserver, ["@*"], lambda: now)

            async def asked() -> int:
                del proxy.requests[:]
                assert rooms == await access.own_among(manager.user_id, [*rooms, foreign])
                paths = [unquote(path) for _, path in proxy.requests]
                return sum(room in path for room in rooms for path in paths)

            assert await asked() >= len(rooms)
            now = KEEP + 1
            assert await asked() == 0
            assert proxy.requests
            now = LISTED + 1
            assert await asked() >= len(rooms)
        finally:
            await homeserver.close()


async def test_whether_a_room_exists_is_not_told(scene: Any) -> None:
    """Unknown and forbidden rooms get the same answer, by ID and by alias."""
    async with scene() as s:
        alias = s.manager.replace("manager", "board")
        path = f"/_matrix/client/v3/directory/room/{quote(f'#{alias}:demo.test')}"
        await s.admin.call("PUT", path, {"room_id": s.other})
        visitor = await s.visitor(s.manager)
        page = f"/console/groups/{s.group}"
        csrf = await visitor.token(page)
        for action in ("preview", "mappings"):
            answers = set()
            for room in (s.other, "!nothing", f"#{alias}:demo.test", "#nothing:demo.test"):
                status, text, _ = await visitor.ask(
                    "POST", f"{page}/{action}", csrf=csrf, room=room
                )
                answers.add((status, text))
            assert {status for status, _ in answers} == {403}
            assert len(answers) == 1
        answers = set()
        for room in (s.other, "!nothing", "%FF"):
            status, text, _ = await visitor.ask("GET", f"/console/rooms/{room}")
            answers.add((status, text))
        assert len(answers) == 1


# -- Sessions -----------------------------------------------------------------


async def test_a_copied_cookie_ends_with_its_session(scene: Any) -> None:
    """After signing out it is nobody's."""
    async with scene() as s:
        visitor = await s.visitor(s.manager)
        copy = Visitor(s.service.url, dict(visitor.cookies))
        assert (await copy.ask("GET", "/console/groups"))[0] == 200
        assert await visitor.send("/console/groups", "/console/sign-out") == 303
        assert (await copy.ask("GET", "/console/groups"))[0] == 303


@pytest.mark.parametrize("state", ["locked", "deactivated"])
async def test_whoever_is_disabled_is_out_within_a_minute(scene: Any, state: str) -> None:
    """The session ends for good: coming back means signing in again."""
    async with scene() as s:
        visitor = await s.visitor(s.manager)
        path = f"/_synapse/admin/v2/users/{mxid(s.manager)}"
        await s.admin.call("PUT", path, {state: True})
        assert (await s.try_mapping(visitor, s.own))[0] == 403

        async def look() -> int:
            return int((await visitor.ask("GET", "/console/groups"))[0])

        assert await eventually(look, lambda status: status != 200, 60 / PACE) in (303, 403)
        back = {state: False, "password": "password"}

        async def is_back() -> bool:
            # Synapse 1.163 cannot as long as it makes the indexes of a new database.
            try:
                await s.admin.call("PUT", path, back)
            except aiohttp.ClientResponseError as error:
                return error.status != 500
            return True

        await eventually(is_back, bool)
        assert await look() == 303
        assert await visitor.sign_in(s.manager) == 303
        assert await look() == 200
