"""Whoever should be out gets out, however the room was named meanwhile and whatever was lost."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from scim_matrix.store.accounts import LATEST
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    command,
    follows,
    group_of,
    levels,
    logged,
    mxid,
    ready,
    room_holds,
    settled,
    signed_in,
)
from tests.synapse.proxy import Proxy, proxying
from tests.synapse.steps import (
    AFTER_DARKNESS,
    HOLD_ALL,
    account,
    alias,
    bring_in,
    changes_account,
    compared,
    is_about,
    is_locked,
    kicked,
    linked,
    make_admin,
    put_members,
    restarted,
    rows,
    sends,
    set_active,
    told,
    upgrade,
)

# -- The room is named otherwise (1) ------------------------------------------

BOTH_WAYS = pytest.mark.parametrize("to", ["alias", "id"])


async def two_names(admin: User, tag: str, to: str) -> tuple[str, str, str]:
    """Return a new room's ID, how the map names it first, and how it does then."""
    room = await admin.create_room(room_alias_name=f"{tag}room")
    former, later = (room, alias(f"{tag}room")) if to == "alias" else (alias(f"{tag}room"), room)
    return room, former, later


@BOTH_WAYS
async def test_a_pending_removal_outlives_another_spelling_of_its_room(
    synapse: Synapse, admin: User, service: StartService, tag: str, to: str
) -> None:
    """Somebody who is to leave `!id` leaves it although the map says `#alias` by then."""
    room, former, later = await two_names(admin, tag, to)
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [former]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        await room_holds(admin, room, set(people))
        await settled(idp)
        asked = asyncio.Event()

        def fault(method: str, path: str) -> web.Response | None:
            if not path.endswith("/kick"):
                return None
            asked.set()
            return web.json_response({"errcode": "M_UNKNOWN"}, status=500)

        proxy.fault = fault
        await idp.remove(group, people[f"{tag}bob"])
        await asked.wait()
        await process.stop()
        proxy.fault = lambda method, path: None
        process.group_map = json.dumps({"g": [later]})
        await process.start()
        await room_holds(admin, room, {f"{tag}ann"}, AFTER_DARKNESS)


@BOTH_WAYS
async def test_a_held_removal_outlives_another_spelling_of_its_room(
    admin: User, staffed: StartStaffed, tag: str, to: str
) -> None:
    """It is held still, nobody leaves before it is approved, and the new name finds it."""
    room, former, later = await two_names(admin, tag, to)
    async with staffed(former, f"{tag}ann", f"{tag}bob", room=room, **HOLD_ALL) as run:
        process, idp, group, people = run
        await idp.remove(group, people[f"{tag}bob"])
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 1)
        await restarted(process, {"g": [later]})
        await settled(idp)
        assert (await ready(idp))["work"]["heldPairs"] == 1
        assert f"{tag}bob" in await admin.members(room)
        status, output = await command(process, "approve", later)
        assert status == 0, output
        await room_holds(admin, room, {f"{tag}ann"})


@pytest.mark.parametrize("by", ["restart", "reload"])
@BOTH_WAYS
async def test_a_removal_acknowledged_while_away_outlives_another_spelling(
    synapse: Synapse,
    admin: User,
    service: StartService,
    tag: str,
    tmp_path: Path,
    to: str,
    by: str,
) -> None:
    """The map is edited and somebody removed while the homeserver is away: they are out then."""
    room, former, later = await two_names(admin, tag, to)
    file = tmp_path / "map.json"
    file.write_text(json.dumps({"g": [former]}))
    async with (
        proxying(synapse.url) as proxy,
        service({}, MATRIX_URL=proxy.url, GROUP_MAP_FILE=str(file)) as process,
    ):
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        await room_holds(admin, room, set(people))
        await settled(idp)
        proxy.dark = True
        file.write_text(json.dumps({"g": [later]}))
        if by == "restart":
            await process.stop()
            await process.start()
        else:
            assert process.process is not None
            process.process.send_signal(signal.SIGHUP)

        async def named() -> list[str]:
            return [row["room"] for row in await told(process, "rooms")]

        await eventually(named, lambda names: names == [later])
        await idp.remove(group, people[f"{tag}bob"])
        proxy.lights_on()
        await room_holds(admin, room, {f"{tag}ann"}, AFTER_DARKNESS)


@BOTH_WAYS
async def test_leaving_is_respected_whatever_the_room_is_called(
    admin: User, staffed: StartStaffed, tag: str, to: str
) -> None:
    """Somebody who left by themselves is not brought back because the map was re-spelled."""
    room, former, later = await two_names(admin, tag, to)
    async with staffed(former, f"{tag}ann", f"{tag}bob", room=room, ON_SELF_LEAVE="respect") as run:
        process, idp, group, people = run
        await follows(idp)
        ann = await signed_in(admin, f"{tag}ann")
        await ann.call("POST", f"/_matrix/client/v3/rooms/{room}/leave", {})
        await compared(process)
        await settled(idp)
        assert await admin.members(room) == {"scim-bot", f"{tag}bob"}
        await restarted(process, {"g": [later]})
        await settled(idp)
        await compared(process)
        await settled(idp)
        assert await admin.members(room) == {"scim-bot", f"{tag}bob"}
        await idp.remove(group, people[f"{tag}ann"])
        await idp.add(group, people[f"{tag}ann"])
        await room_holds(admin, room, set(people))


# -- The room was not known yet (2) -------------------------------------------


@pytest.mark.parametrize("by", ["alias", "id"])
async def test_a_first_start_in_the_dark_loses_no_removal(
    synapse: Synapse, admin: User, service: StartService, tag: str, by: str
) -> None:
    """Somebody in the room whom the group had and lost, all before the room was ever seen, leaves.

    Somebody invited by hand stays.
    """
    room = await admin.create_room(room_alias_name=f"{tag}room")
    names = (f"{tag}ann", f"{tag}bob", f"{tag}guest")
    for name in names:
        await linked(synapse, admin, name)
    await bring_in(admin, room, *names)
    reference = alias(f"{tag}room") if by == "alias" else room
    async with proxying(synapse.url) as proxy:
        proxy.dark = True
        async with service({"g": [reference]}, MATRIX_URL=proxy.url) as process:
            idp = ScimClient(process.url)
            group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
            await put_members(idp, group, people[f"{tag}ann"])
            proxy.lights_on()
            await room_holds(admin, room, {f"{tag}ann", f"{tag}guest"}, AFTER_DARKNESS)
            assert f"{tag}ann" not in await kicked(admin, room)


async def test_what_an_older_service_granted_can_be_taken_before_the_room_is_seen(
    synapse: Synapse, admin: User, service: StartService, tag: str, tmp_path: Path
) -> None:
    """After `import-json` and a start in the dark, who is taken out of a group leaves its room."""
    room = await admin.create_room(room_alias_name=f"{tag}room")
    names = (f"{tag}ann", f"{tag}bob")
    for name in names:
        await linked(synapse, admin, name)
    await bring_in(admin, room, *names)
    old = tmp_path / "old"
    old.mkdir()
    users = {f"ext-{name}": {"userName": name, "displayName": name} for name in names}
    groups = {"g-1": {"displayName": "G", "members": [{"value": key} for key in users]}}
    (old / "users.json").write_text(json.dumps(users))
    (old / "groups.json").write_text(json.dumps(groups))
    async with proxying(synapse.url) as proxy:
        proxy.dark = True
        async with service({"g-1": [alias(f"{tag}room")]}, MATRIX_URL=proxy.url) as process:
            await process.stop()
            status, output = await command(process, "import-json", str(old))
            assert status == 0, output
            await process.start()
            await put_members(ScimClient(process.url), "g-1", mxid(f"{tag}ann"), key="g-1")
            proxy.lights_on()
            await room_holds(admin, room, {f"{tag}ann"}, AFTER_DARKNESS)


# -- The room has moved on (3, 4) ---------------------------------------------


async def move_alias(admin: User, name: str, room: str) -> None:
    """Have an alias stand for another room, which says so itself."""
    directory = f"/_matrix/client/v3/directory/room/%23{name}:{SERVER_NAME}"
    await admin.call("DELETE", directory)
    await admin.call("PUT", directory, {"room_id": room})
    state = f"/_matrix/client/v3/rooms/{room}/state/m.room.canonical_alias"
    await admin.call("PUT", state, {"alias": alias(name)})


@pytest.mark.parametrize("how", ["upgrade by alias", "upgrade by id", "alias"])
async def test_a_removal_follows_people_into_the_room_that_replaces_theirs(
    synapse: Synapse, admin: User, service: StartService, tag: str, how: str
) -> None:
    """Room and people move while the homeserver is out of sight: who is removed leaves the new."""
    old = await admin.create_room(room_alias_name=f"{tag}room", room_version="10")
    reference = old if how == "upgrade by id" else alias(f"{tag}room")
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [reference]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        await room_holds(admin, old, set(people))
        await settled(idp)
        proxy.dark = True
        if how == "alias":
            new = await admin.create_room()
            await move_alias(admin, f"{tag}room", new)
        else:
            new = await upgrade(admin, old)
        await bring_in(admin, new, *people)
        await idp.remove(group, people[f"{tag}bob"])
        proxy.lights_on()
        await room_holds(admin, new, {f"{tag}ann"}, AFTER_DARKNESS)
        assert f"{tag}ann" not in await kicked(admin, new)


@pytest.mark.parametrize("held", [False, True])
@BOTH_WAYS
async def test_a_removal_follows_people_into_a_room_that_the_map_names_first(
    synapse: Synapse, admin: User, service: StartService, tag: str, to: str, held: bool
) -> None:
    """The map is brought up to date with an upgrade before the service has seen that."""
    old = await admin.create_room(room_alias_name=f"{tag}room", room_version="10")
    former = alias(f"{tag}room") if to == "id" else old
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [former]}, MATRIX_URL=proxy.url, **(HOLD_ALL if held else {})) as process,
    ):
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        await room_holds(admin, old, set(people))
        await settled(idp)
        if held:
            await idp.remove(group, people[f"{tag}bob"])
            await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 1)
        proxy.dark = True
        new = await upgrade(admin, old)
        await bring_in(admin, new, *people)
        if not held:
            await idp.remove(group, people[f"{tag}bob"])
        await process.stop()
        process.group_map = json.dumps({"g": [new if to == "id" else alias(f"{tag}room")]})
        await process.start()
        proxy.lights_on()
        if held:
            await settled(idp)
            await eventually(lambda: command(process, "approve", new), lambda s: s[0] == 0)
        await room_holds(admin, new, {f"{tag}ann"}, AFTER_DARKNESS)


async def test_a_held_removal_follows_its_room_too(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """It is held for the room that replaces the old one, and approved there."""
    old = await admin.create_room(room_alias_name=f"{tag}room", room_version="10")
    async with staffed(alias(f"{tag}room"), f"{tag}ann", f"{tag}bob", room=old, **HOLD_ALL) as run:
        process, idp, group, people = run
        await idp.remove(group, people[f"{tag}bob"])
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 1)
        new = await upgrade(admin, old)
        await bring_in(admin, new, *people)
        await compared(process)
        await compared(process)
        await settled(idp)
        assert (await ready(idp))["work"]["heldPairs"] == 1
        assert await admin.members(new) == {"scim-bot", *people}
        assert (await command(process, "approve", alias(f"{tag}room")))[0] == 0
        await room_holds(admin, new, {f"{tag}ann"})


async def space_with(admin: User, *rooms: str) -> str:
    """Create a space that holds rooms."""
    space = await admin.create_room(creation_content={"type": "m.space"})
    for room in rooms:
        await put_into(admin, space, room)
    return space


async def put_into(admin: User, space: str, room: str, *, out: bool = False) -> None:
    """Put a room into a space, or take it out."""
    path = f"/_matrix/client/v3/rooms/{space}/state/m.space.child/{room}"
    await admin.call("PUT", path, {} if out else {"via": [SERVER_NAME]})


async def test_an_upgraded_room_of_a_space_is_followed(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Newcomers are joined to the room that replaces it, and leavers leave that one."""
    child = await admin.create_room(room_version="10")
    space = await space_with(admin, child)
    async with staffed(
        {"room": space, "children": True}, f"{tag}ann", f"{tag}bob", room=child
    ) as run:
        process, idp, group, people = run
        new = await upgrade(admin, child)
        await compared(process)
        await room_holds(admin, new, set(people))
        await idp.add(group, await idp.create_user(f"{tag}cat"))
        await room_holds(admin, new, {*people, f"{tag}cat"})
        await idp.remove(group, people[f"{tag}bob"])
        await room_holds(admin, new, {f"{tag}ann", f"{tag}cat"})
        assert f"{tag}cat" not in await admin.members(child)


async def test_who_moved_with_an_upgraded_room_of_a_space_can_leave_it(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Upgrade, move and removal while the homeserver is out of sight end in the new room."""
    child = await admin.create_room(room_version="10")
    space = await space_with(admin, child)
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [{"room": space, "children": True}]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        await room_holds(admin, child, set(people))
        await settled(idp)
        proxy.dark = True
        new = await upgrade(admin, child)
        await bring_in(admin, new, *people)
        await idp.remove(group, people[f"{tag}bob"])
        proxy.lights_on()
        await room_holds(admin, new, {f"{tag}ann"}, AFTER_DARKNESS)


async def test_a_room_out_of_its_space_for_a_moment_keeps_no_leavers(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Who left the group meanwhile leaves once the room is back; everybody else stays all along."""
    child = await admin.create_room()
    space = await space_with(admin, child)
    async with staffed(
        {"room": space, "children": True}, f"{tag}ann", f"{tag}bob", room=child
    ) as run:
        process, idp, group, people = run
        await room_holds(admin, space, set(people))
        await settled(idp)
        await put_into(admin, space, child, out=True)
        await compared(process)
        await idp.remove(group, people[f"{tag}bob"])
        await room_holds(admin, space, {f"{tag}ann"})
        await settled(idp)
        assert await admin.members(child) == {"scim-bot", *people}
        await put_into(admin, space, child)
        await compared(process)
        await room_holds(admin, child, {f"{tag}ann"})
        assert f"{tag}ann" not in await kicked(admin, child)


# -- What became of a request is not known (5) --------------------------------

IsMeant = Callable[[str, str], bool]
BROKEN_OFF = pytest.mark.parametrize("how", ["lost", "killed"])


@contextlib.asynccontextmanager
async def broken_off(
    proxy: Proxy, process: Service, how: str, is_meant: IsMeant
) -> AsyncIterator[asyncio.Event]:
    """Have one request carried out without the service learning of it, then go dark.

    The answer is lost, or the service is killed as it waits for it and started again. The block
    causes the request; afterwards that has happened, and the homeserver is away still.
    """
    watch = proxy.lose_next if how == "lost" else proxy.withhold_next
    happened = watch(is_meant)
    yield happened
    async with asyncio.timeout(30):
        await happened.wait()
    if how == "killed":
        await process.stop(signal.SIGKILL)
        await process.start()


@BROKEN_OFF
@pytest.mark.parametrize("on_disable", ["lock", "suspend"])
async def test_an_account_disabled_unawares_is_opened_again(
    synapse: Synapse, admin: User, service: StartService, tag: str, how: str, on_disable: str
) -> None:
    """Nobody learns that it was disabled, and the IdP takes it back: in the end it is open."""
    name, was = f"{tag}ann", "locked" if on_disable == "lock" else "suspended"
    async with (
        proxying(synapse.url) as proxy,
        service({}, MATRIX_URL=proxy.url, ON_DISABLE=on_disable) as process,
    ):
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        async with broken_off(proxy, process, how, changes_account(name)):
            await set_active(idp, person, active=False)

        async def is_disabled() -> bool:
            return bool((await account(admin, name) or {})[was])

        assert await is_disabled()
        await set_active(idp, person, active=True)
        proxy.lights_on()
        await eventually(is_disabled, lambda disabled: not disabled, AFTER_DARKNESS)


@BROKEN_OFF
async def test_an_account_opened_unawares_is_locked_again(
    synapse: Synapse, admin: User, service: StartService, tag: str, how: str
) -> None:
    """Nobody learns that it was unlocked, and the IdP takes it back: in the end it is locked."""
    name = f"{tag}ann"
    async with (
        proxying(synapse.url) as proxy,
        service({}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        await set_active(idp, person, active=False)
        await eventually(lambda: is_locked(admin, name), bool)
        await settled(idp)
        async with broken_off(proxy, process, how, changes_account(name)):
            await set_active(idp, person, active=True)
        assert not await is_locked(admin, name)
        await set_active(idp, person, active=False)
        proxy.lights_on()
        await eventually(lambda: is_locked(admin, name), bool, AFTER_DARKNESS)


async def test_a_comparison_finds_accounts_that_should_be_locked(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Unlocked by hand it is locked again; the account of somebody active stays as a hand left it.

    A person without an account of the service is not touched.
    """
    gone, here, guest = (f"{tag}{name}" for name in ("gone", "here", "guest"))
    await synapse.register(guest)
    async with service({}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(gone)
        await idp.create_user(here)
        await settled(idp)
        await set_active(idp, person, active=False)
        await eventually(lambda: is_locked(admin, gone), bool)
        await settled(idp)
        for name, locked in ((gone, False), (here, True), (guest, True)):
            path = f"/_synapse/admin/v2/users/{mxid(name)}"
            await admin.call("PUT", path, {"locked": locked})
        await compared(process)
        await eventually(lambda: is_locked(admin, gone), bool)
        await compared(process)
        await settled(idp)
        assert await is_locked(admin, here)
        assert await is_locked(admin, guest)


@pytest.mark.minutes
@pytest.mark.parametrize("first", ["given", "taken"])
async def test_a_power_level_changed_unawares_is_changed_back(
    synapse: Synapse, admin: User, service: StartService, tag: str, first: str
) -> None:
    """Given or taken without anybody learning of it, then taken back: it is as the groups say.

    That takes two minutes, in which the request could be carried out still.
    """
    room = await admin.create_room()
    name = f"{tag}ann"
    group_map = {"all": [room], "leads": [{"room": room, "powerLevel": 50}]}
    async with (
        proxying(synapse.url) as proxy,
        service(group_map, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        _, people = await group_of(idp, name, key="all")
        leads = await idp.create_group("Leads", [], externalId="leads")
        await room_holds(admin, room, {name})
        await settled(idp)
        if first == "taken":
            await idp.add(leads, people[name])
            await eventually(lambda: levels(admin, room), lambda p: p == {name: 50})
            await settled(idp)
        change, back = (idp.add, idp.remove) if first == "given" else (idp.remove, idp.add)
        async with broken_off(proxy, process, "lost", sends("m.room.power_levels")):
            await change(leads, people[name])
        await back(leads, people[name])
        proxy.lights_on()
        right = {} if first == "given" else {name: 50}
        within = LATEST + AFTER_DARKNESS
        await eventually(lambda: levels(admin, room), lambda p: p == right, within)
        await compared(process)
        await settled(idp)
        assert await levels(admin, room) == right


@BROKEN_OFF
async def test_somebody_joined_unawares_gets_out_again(
    synapse: Synapse, admin: User, service: StartService, tag: str, how: str
) -> None:
    """Seen outside a public room, then joined without anybody learning of it, then taken back.

    The service is not in that room, so that nothing else tells it who is.
    """
    owner = await synapse.register(f"{tag}owner")
    room = await owner.create_room(preset="public_chat")
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        asked = asyncio.Event()

        def fault(method: str, path: str) -> web.Response | None:
            if "/v1/join/" not in path:
                return None
            asked.set()
            return web.json_response({"errcode": "M_UNKNOWN"}, status=500)

        proxy.fault = fault
        group, people = await group_of(idp, f"{tag}ann")
        await asked.wait()
        await compared(process)
        async with broken_off(proxy, process, how, sends("/v1/join/")):
            proxy.fault = lambda method, path: None
        assert await admin.members(room) == {f"{tag}owner", f"{tag}ann"}
        await idp.remove(group, people[f"{tag}ann"])
        proxy.lights_on()
        await room_holds(admin, room, {f"{tag}owner"}, AFTER_DARKNESS)


@BROKEN_OFF
async def test_somebody_kicked_unawares_is_brought_back(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str, how: str
) -> None:
    """Nobody learns of the kick, and the IdP puts them back: they are in without a comparison."""
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        staffed(room, f"{tag}ann", f"{tag}bob", MATRIX_URL=proxy.url) as s,
    ):
        async with broken_off(proxy, s.process, how, sends("/kick")):
            await s.idp.remove(s.group, s.people[f"{tag}bob"])
        assert f"{tag}bob" not in await admin.members(room)
        await s.idp.add(s.group, s.people[f"{tag}bob"])
        proxy.lights_on()
        await room_holds(admin, room, set(s.people), AFTER_DARKNESS)


async def test_a_namesake_in_the_room_is_somebody_else(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """While it is looked up that a user is @robert, @bob in the room counts as nobody's.

    @robert is joined, and later removed; @bob stays.
    """
    bob, robert = f"{tag}bob", f"{tag}robert"
    await synapse.register(bob)
    await linked(synapse, admin, robert, subject=f"ext-{bob}")
    room = await admin.create_room()
    await bring_in(admin, room, bob)
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def delay(method: str, path: str) -> None:
            if "/auth_providers/" in path and not go_on.is_set():
                asked.set()
                await go_on.wait()

        proxy.delay = delay
        group, people = await group_of(idp, bob)
        await asked.wait()
        await compared(process)
        go_on.set()
        await room_holds(admin, room, {bob, robert})
        await settled(idp)
        await idp.remove(group, people[bob])
        await room_holds(admin, room, {bob})
        assert bob not in await kicked(admin, room)


# -- What is too long (6) -----------------------------------------------------


async def test_a_name_that_is_too_long_is_refused_by_name(
    admin: User, service: StartService, tag: str
) -> None:
    """A group name of 70,000 characters gets 400 naming displayName, and changes nothing."""
    room = await admin.create_room()
    too_long = "x" * 70_000
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        body: dict[str, Any] = {"displayName": too_long, "externalId": f"{tag}other"}
        status, answer = await idp.call("POST", "/Groups", body)
        assert status == 400, answer
        assert "displayName" in answer["detail"]
        assert len(answer["detail"]) < 1000
        group, people = await group_of(idp, f"{tag}ann", name="Sales")
        await room_holds(admin, room, set(people))
        operations: list[dict[str, Any]] = [
            {"op": "replace", "path": "displayName", "value": too_long},
            {"op": "replace", "value": {"displayName": too_long}},
        ]
        for operation in operations:
            status, answer = await idp.call(
                "PATCH", f"/Groups/{group}", {"Operations": [operation]}
            )
            assert status == 400, answer
            assert "displayName" in answer["detail"]
        put = {"displayName": too_long, "externalId": "g", "members": []}
        status, answer = await idp.call("PUT", f"/Groups/{group}", put)
        assert status == 400, answer
        assert (await idp.ok("GET", f"/Groups/{group}"))["displayName"] == "Sales"
        await settled(idp)
        assert await admin.members(room) == {"scim-bot", *people}
        await idp.remove(group, people[f"{tag}ann"])
        await room_holds(admin, room, set())


async def test_the_reason_for_a_kick_is_short(admin: User, service: StartService, tag: str) -> None:
    """Whatever name is accepted, whoever leaves that group leaves, and the reason can be read."""
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        for length in (60_000, 20_000, 16_000, 10_000, 4_000, 1_000, 500, 250, 100):
            members = [{"value": person}]
            body = {"displayName": "🐢" * length, "externalId": "g", "members": members}
            status, group = await idp.call("POST", "/Groups", body)
            if status == 201:
                break
            assert status == 400, group
        assert status == 201
        await room_holds(admin, room, {f"{tag}ann"})
        await idp.remove(group["id"], person)
        await room_holds(admin, room, set())
        path = f"/_matrix/client/v3/rooms/{room}/state/m.room.member/{mxid(f'{tag}ann')}"
        reason = (await admin.call("GET", path))["reason"]
        assert reason.startswith("Removed from group 🐢")
        assert len(reason) < 500


# -- Spared, and done later (7) -----------------------------------------------


async def test_an_administrator_is_spared_until_that_ends(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Disabled at the IdP a server admin is left alone, shown, and locked once no admin any more.

    The rooms are left then, too.
    """
    name = f"{tag}root"
    await linked(synapse, admin, name)
    await make_admin(admin, name, is_admin=True)
    room = await admin.create_room()
    async with staffed(room, name) as s:
        await set_active(s.idp, s.people[name], active=False)

        async def spared() -> set[str | None]:
            return {row["room"] for row in await rows(s.process, "spared") if is_about(row, name)}

        await eventually(spared, lambda seen: seen == {None, room})
        assert (await ready(s.idp))["work"]["sparedPairs"] == 1
        assert "spared" in {entry["outcome"] for entry in await logged(s.process)}
        assert not await is_locked(admin, name)
        assert name in await admin.members(room)
        await make_admin(admin, name, is_admin=False)
        await restarted(s.process)
        await eventually(lambda: is_locked(admin, name), bool, AFTER_DARKNESS)
        await room_holds(admin, room, set(), AFTER_DARKNESS)
        await eventually(spared, lambda seen: seen == set())


async def test_an_administrators_end_is_found_by_a_comparison(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """The service need not start again for what it spared an administrator."""
    name = f"{tag}root"
    await linked(synapse, admin, name)
    await make_admin(admin, name, is_admin=True)
    async with service({}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        await set_active(idp, person, active=False)
        await eventually(lambda: rows(process, "spared"), lambda found: len(found) == 1)
        await make_admin(admin, name, is_admin=False)
        # The list of administrators may be a minute old.
        await compared(process)
        await eventually(lambda: is_locked(admin, name), bool, 90)


async def test_a_protected_user_is_spared_until_that_ends(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Taken off PROTECTED_USERS somebody gets what they were spared: lock and removal."""
    room = await admin.create_room()
    name = f"{tag}vip"
    async with staffed(room, name, PROTECTED_USERS=f"@{name}:*") as s:
        await s.idp.remove(s.group, s.people[name])
        await set_active(s.idp, s.people[name], active=False)
        await eventually(lambda: rows(s.process, "spared"), lambda found: len(found) == 2)
        assert not await is_locked(admin, name)
        assert name in await admin.members(room)
        await restarted(s.process, more={"PROTECTED_USERS": ""})
        await eventually(lambda: is_locked(admin, name), bool)
        await room_holds(admin, room, set())


# -- No account is made for nobody (8) ----------------------------------------


async def stored_inactive(idp: ScimClient, name: str) -> str:
    """Store a user who is inactive and wait until everything about that is done."""
    person = await idp.create_user(name, active=False)
    await settled(idp)
    return person


async def state_of(process: Service, name: str) -> str:
    """Return what state `scim-matrix users` tells of somebody."""
    [user] = await told(process, "users", "--match", name)
    return str(user["state"])


@pytest.mark.parametrize("then", ["changed", "deleted"])
async def test_no_account_is_made_for_somebody_inactive(
    admin: User, service: StartService, tag: str, then: str
) -> None:
    """Stored inactive, then changed or deleted, nobody gets an account; activated, they do."""
    name = f"{tag}ann"
    async with service({}, DELETE_GRACE="0") as process:
        idp = ScimClient(process.url)
        person = await stored_inactive(idp, name)
        assert await account(admin, name) is None
        shown_as = await state_of(process, name)
        if then == "changed":
            await idp.patch(
                f"/Users/{person}", {"op": "replace", "path": "displayName", "value": "Ann"}
            )
        else:
            await idp.ok("DELETE", f"/Users/{person}")
        await idp.create_user(f"{tag}fence")
        await settled(idp)
        await compared(process)
        await settled(idp)
        assert await account(admin, f"{tag}fence") is not None
        assert await account(admin, name) is None
        if then == "changed":
            await set_active(idp, person, active=True)
            await settled(idp)
            assert (await account(admin, name) or {})["displayname"] == "Ann"
        assert shown_as == "none"


@pytest.mark.parametrize("then", ["changed", "deleted"])
async def test_an_account_made_by_hand_meanwhile_is_somebody_elses(
    synapse: Synapse, admin: User, service: StartService, tag: str, then: str
) -> None:
    """An account of the name of a user stored inactive is not locked, renamed nor deactivated."""
    name = f"{tag}ann"
    async with service({}, DELETE_GRACE="0") as process:
        idp = ScimClient(process.url)
        person = await stored_inactive(idp, name)
        await synapse.register(name)
        before = await account(admin, name)
        if then == "changed":
            operation = {"op": "replace", "path": "displayName", "value": "Ann"}
            await idp.patch(f"/Users/{person}", operation)
        else:
            await idp.ok("DELETE", f"/Users/{person}")
        await idp.create_user(f"{tag}fence")
        await settled(idp)
        await compared(process)
        await settled(idp)
        assert await account(admin, name) == before


@pytest.mark.parametrize("then", ["disabled", "deleted"])
async def test_an_account_that_vanished_is_not_made_to_be_locked(
    synapse: Synapse, admin: User, service: StartService, tag: str, then: str
) -> None:
    """Where the homeserver does not know the account any more, nothing is asked of it."""
    name = f"{tag}ann"
    async with (
        proxying(synapse.url) as proxy,
        service({}, MATRIX_URL=proxy.url, DELETE_GRACE="0") as process,
    ):
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        absent = {"errcode": "M_NOT_FOUND", "error": "User not found"}
        asked = asyncio.Event()

        def vanished(method: str, path: str) -> web.Response | None:
            # Lookups by link and mark name no account.
            if method != "GET" or not (mxid(name) in unquote(path) or "/auth_provid" in path):
                return None
            asked.set()
            return web.json_response(absent, status=404)

        proxy.fault = vanished
        proxy.requests.clear()
        if then == "disabled":
            await set_active(idp, person, active=False)
        else:
            await idp.ok("DELETE", f"/Users/{person}")
        await asked.wait()
        await compared(process)
        await settled(idp)
        changes = changes_account(name)
        assert not [request for request in proxy.requests if changes(*request)]


@pytest.mark.parametrize("then", ["inactive", "disabled", "deleted"])
async def test_an_account_from_before_is_locked_though_its_user_was_never_active(
    synapse: Synapse, admin: User, service: StartService, tag: str, then: str
) -> None:
    """Whom the identity provider disables or deletes before their account was found is locked.

    Out of the room too, where a group had given it. A namesake whom nothing links stays.
    """
    name, namesake = f"{tag}bob", f"{tag}ben"
    room = await admin.create_room()
    await linked(synapse, admin, name)
    await synapse.register(namesake)
    await bring_in(admin, room, name, namesake)
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        await settled(idp)
        proxy.dark = True
        for one in (name, namesake):
            person = await idp.create_user(one, active=then != "inactive")
            await idp.create_group("G", [person], externalId="g" if one == name else "h")
            if then == "disabled":
                await set_active(idp, person, active=False)
            elif then == "deleted":
                await idp.ok("DELETE", f"/Users/{person}")
        proxy.lights_on()
        await eventually(lambda: is_locked(admin, name), bool, AFTER_DARKNESS)
        await settled(idp)
        assert not await is_locked(admin, namesake)
        # Who was inactive all along was granted nothing.
        there = {namesake, name} if then == "inactive" else {namesake}
        await room_holds(admin, room, there)
        if then != "deleted":
            assert await state_of(process, name) == "disabled"
            assert await state_of(process, namesake) == "none"


# -- What disabling and deleting mean (9) -------------------------------------


async def test_deactivated_first_it_is_erased_all_the_same(
    admin: User, service: StartService, tag: str
) -> None:
    """ON_DELETE=erase erases an account that ON_DISABLE=deactivate deactivated before."""
    name = f"{tag}ann"
    more = {"ON_DISABLE": "deactivate", "ON_DELETE": "erase", "DELETE_GRACE": "0"}
    async with service({}, **more) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)

        async def deactivated_erased() -> tuple[bool, bool]:
            found = await account(admin, name)
            assert found is not None
            return bool(found["deactivated"]), bool(found["erased"])

        await set_active(idp, person, active=False)
        await eventually(deactivated_erased, lambda seen: seen == (True, False))
        await settled(idp)
        await idp.ok("DELETE", f"/Users/{person}")
        await eventually(deactivated_erased, lambda seen: seen == (True, True))
        await settled(idp)
        assert "erase" in {e["kind"] for e in await logged(process) if e["outcome"] == "done"}


@pytest.mark.parametrize("on_disable", ["lock", "suspend", "deactivate", "erase", "nothing"])
async def test_deleting_locks_at_once_and_no_more(
    admin: User, service: StartService, tag: str, on_disable: str
) -> None:
    """Whatever ON_DISABLE says: locked now, deactivated when the grace period is over."""
    name = f"{tag}ann"
    async with service({}, ON_DISABLE=on_disable) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        await idp.ok("DELETE", f"/Users/{person}")

        async def state() -> tuple[bool, bool]:
            found = await account(admin, name)
            assert found is not None
            return bool(found["locked"]), bool(found["deactivated"])

        await eventually(state, lambda seen: seen == (True, False))
        await compared(process)
        await settled(idp)
        assert await state() == (True, False)


async def test_on_disable_nothing_takes_rooms_and_leaves_the_session(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """`active: false` then means the rooms only; a DELETE afterwards locks."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with staffed(room, name, ON_DISABLE="nothing") as s:
        await set_active(s.idp, s.people[name], active=False)
        await room_holds(admin, room, set())
        await settled(s.idp)
        assert not await is_locked(admin, name)
        await s.idp.ok("DELETE", f"/Users/{s.people[name]}")
        await eventually(lambda: is_locked(admin, name), bool)


@pytest.mark.parametrize("on_delete", ["lock", "deactivate", "erase", "suspend", "nothing"])
async def test_what_deleting_means_is_done_when_the_grace_is_over(
    admin: User, service: StartService, tag: str, on_delete: str
) -> None:
    """ON_DELETE comes after DELETE_GRACE, and nothing is done to what hands did to others."""
    name = f"{tag}ann"
    right = {
        "deactivate": {"deactivated": True, "erased": False},
        "erase": {"deactivated": True, "erased": True},
        "suspend": {"deactivated": False, "suspended": True},
        "lock": {"deactivated": False, "suspended": False, "locked": True},
        "nothing": {"deactivated": False, "locked": True},
    }[on_delete]
    async with service({}, ON_DELETE=on_delete, DELETE_GRACE="1s") as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        await idp.ok("DELETE", f"/Users/{person}")

        async def state() -> dict[str, bool]:
            found = await account(admin, name)
            assert found is not None
            return {word: bool(found[word]) for word in right}

        await eventually(state, lambda seen: seen == right)
        await compared(process)
        await settled(idp)
        assert await state() == right


@pytest.mark.parametrize("on_delete", ["suspend", "nothing"])
async def test_who_was_deleted_is_locked_though_the_grace_passed_in_the_dark(
    synapse: Synapse, admin: User, service: StartService, tag: str, on_delete: str
) -> None:
    """The lock that DELETE means is put on late, whatever ON_DELETE adds to it."""
    name = f"{tag}ann"
    async with (
        proxying(synapse.url) as proxy,
        service({}, MATRIX_URL=proxy.url, ON_DELETE=on_delete, DELETE_GRACE="0") as process,
    ):
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        proxy.dark = True
        await idp.ok("DELETE", f"/Users/{person}")
        proxy.lights_on()
        await eventually(lambda: is_locked(admin, name), bool, AFTER_DARKNESS)
        await settled(idp)
        found = await account(admin, name)
        assert found is not None
        assert bool(found["suspended"]) is (on_delete == "suspend")
