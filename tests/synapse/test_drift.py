"""What happens behind the service's back is noticed and put right, or respected."""

from typing import Any

import pytest
from aiohttp import web

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    command,
    compared,
    follows,
    group_of,
    mxid,
    ready,
    room_holds,
    settled,
    signed_in,
)
from tests.synapse.proxy import proxying


async def compare(service: Service) -> None:
    """Ask for a comparison now, as an administrator does."""
    assert (await command(service, "sync", "--no-wait"))[0] == 0


async def in_room(admin: User, room_id: str, what: str, name: str) -> None:
    """Kick, ban or unban somebody by hand."""
    path = f"/_matrix/client/v3/rooms/{room_id}/{what}"
    await admin.call("POST", path, {"user_id": mxid(name)})


# -- Live ---------------------------------------------------------------------


async def moderator(synapse: Synapse, admin: User, room_id: str, name: str) -> User:
    """Return somebody with power in a room who is not the service."""
    user = await synapse.register(name)
    await admin.call("POST", f"/_synapse/admin/v1/join/{room_id}", {"user_id": user.user_id})
    path = f"/_matrix/client/v3/rooms/{room_id}/state/m.room.power_levels"
    content = await admin.call("GET", path)
    content["users"][user.user_id] = 90
    await admin.call("PUT", path, content)
    return user


async def test_a_kick_by_hand_is_put_right_within_seconds(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Somebody granted the room is brought back although no comparison is due."""
    room = await admin.create_room()
    mod = await moderator(synapse, admin, room, f"{tag}mod")
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann")
        await room_holds(admin, room, {f"{tag}ann", f"{tag}mod"})
        await follows(idp)
        await in_room(mod, room, "kick", f"{tag}ann")

        async def kicks_and_joins() -> Any:
            path = f"/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=20"
            chunk = (await admin.call("GET", path))["chunk"]
            return [
                e["content"]["membership"] for e in chunk if e.get("state_key") == mxid(f"{tag}ann")
            ][:3]

        await eventually(kicks_and_joins, lambda seen: seen == ["join", "invite", "leave"], 10)


async def test_somebody_who_leaves_is_brought_back_or_let_go(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """ON_SELF_LEAVE=respect leaves them out until the grant is new; others are brought back."""
    room = await admin.create_room()
    async with staffed(room, f"{tag}ann", f"{tag}bob", ON_SELF_LEAVE="respect") as s:
        await follows(s.idp)
        ann = await signed_in(admin, f"{tag}ann")
        await ann.call("POST", f"/_matrix/client/v3/rooms/{room}/leave", {})
        await compared(s.process)
        await s.idp.add(s.group, await s.idp.create_user(f"{tag}cat"))
        await room_holds(admin, room, {f"{tag}bob", f"{tag}cat"})
        await settled(s.idp)
        assert await admin.members(room) == {"scim-bot", f"{tag}bob", f"{tag}cat"}
        await s.idp.remove(s.group, s.people[f"{tag}ann"])
        await settled(s.idp)
        await s.idp.add(s.group, s.people[f"{tag}ann"])
        await room_holds(admin, room, {f"{tag}ann", f"{tag}bob", f"{tag}cat"})


async def test_strangers_are_counted_as_they_come_and_go(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Who is in without a grant is reported, and left alone."""
    room = await admin.create_room(preset="public_chat")
    guest = await synapse.register(f"{tag}guest")
    async with staffed(room, f"{tag}ann") as s:
        await follows(s.idp)

        async def strangers() -> int:
            work = (await ready(s.idp))["work"]
            return int(work["unmanagedMembers"])

        assert await strangers() == 0
        await guest.call("POST", f"/_matrix/client/v3/join/{room}", {})
        await eventually(strangers, lambda n: n == 1, 10)
        assert f"{tag}guest" in await admin.members(room)
        await guest.call("POST", f"/_matrix/client/v3/rooms/{room}/leave", {})
        await eventually(strangers, lambda n: n == 0, 10)


# -- At a comparison ----------------------------------------------------------

NOT_LIVE = "/_matrix/client/v3/sync?"


@pytest.mark.parametrize("policy", ["rejoin", "respect"])
async def test_without_sync_the_interval_finds_it(
    synapse: Synapse, admin: User, service: StartService, tag: str, policy: str
) -> None:
    """Where /sync is refused that is said, and comparisons put things right."""
    room = await admin.create_room()
    refusal = {"errcode": "M_UNRECOGNIZED", "error": "no"}
    async with proxying(synapse.url) as proxy:
        proxy.fault = lambda method, path: (
            web.json_response(refusal, status=404) if path.startswith(NOT_LIVE) else None
        )
        async with service(
            {"g": [room]}, MATRIX_URL=proxy.url, RECONCILE_INTERVAL="2", ON_SELF_LEAVE=policy
        ) as process:
            idp = ScimClient(process.url)
            _, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
            await room_holds(admin, room, set(people))
            ann = await signed_in(admin, f"{tag}ann")
            await ann.call("POST", f"/_matrix/client/v3/rooms/{room}/leave", {})
            await in_room(admin, room, "kick", f"{tag}bob")
            back = set(people) if policy == "rejoin" else {f"{tag}bob"}
            await room_holds(admin, room, back)
            await settled(idp)
            assert await admin.members(room) - {"scim-bot"} == back
            assert (await ready(idp))["homeserver"]["liveDrift"] is False
            log = (process.data_dir / "service.log").read_text()
            assert log.count("live_drift_stopped") == 1


async def test_a_ban_is_left_alone_and_its_end_noticed(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Nobody asks for the banned again until they are not."""
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        staffed(room, f"{tag}ann", MATRIX_URL=proxy.url) as s,
    ):
        await in_room(admin, room, "ban", f"{tag}ann")
        await compared(s.process)
        proxy.requests.clear()
        await compared(s.process)
        assert [path for _, path in proxy.asked if path.endswith("/members")]
        assert not [path for _, path in proxy.asked if "/join/" in path or "/invite" in path]
        await in_room(admin, room, "unban", f"{tag}ann")
        await compare(s.process)
        await room_holds(admin, room, {f"{tag}ann"})


@pytest.mark.parametrize("by", ["alias", "id"])
async def test_an_upgraded_room_is_followed(
    admin: User, service: StartService, tag: str, by: str
) -> None:
    """People are joined to the room that replaces theirs; nobody is removed from the old one."""
    old = await admin.create_room(room_alias_name=f"{tag}room", room_version="10")
    reference = f"#{tag}room:{SERVER_NAME}" if by == "alias" else old
    async with service({"g": [reference]}) as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann")
        await room_holds(admin, old, {f"{tag}ann"})
        answer = await admin.call(
            "POST", f"/_matrix/client/v3/rooms/{old}/upgrade", {"new_version": "11"}
        )
        await compare(process)
        await room_holds(admin, answer["replacement_room"], {f"{tag}ann"})
        await settled(idp)
        assert f"{tag}ann" in await admin.members(old)


async def test_a_moved_alias_is_followed_and_a_deleted_room_told(
    admin: User, service: StartService, tag: str
) -> None:
    """Where the other room says it is meant; a room that is gone is shown, all else goes on."""
    alias = f"#{tag}room:{SERVER_NAME}"
    first, second, gone = [await admin.create_room() for _ in range(3)]
    directory = f"/_matrix/client/v3/directory/room/%23{tag}room:{SERVER_NAME}"
    await admin.call("PUT", directory, {"room_id": first})
    async with service({"g": [alias, gone]}) as process:
        idp = ScimClient(process.url)
        group, _ = await group_of(idp, f"{tag}ann")
        await room_holds(admin, first, {f"{tag}ann"})
        await room_holds(admin, gone, {f"{tag}ann"})
        await admin.call("DELETE", directory)
        await admin.call("PUT", directory, {"room_id": second})
        state = f"/_matrix/client/v3/rooms/{second}/state/m.room.canonical_alias"
        await admin.call("PUT", state, {"alias": alias})
        await admin.call("DELETE", f"/_synapse/admin/v1/rooms/{gone}", {"purge": True})
        await compare(process)
        await room_holds(admin, second, {f"{tag}ann"})
        await eventually(lambda: ready(idp), lambda s: s["work"]["failingRooms"] == 1)
        assert f"{tag}ann" in await admin.members(first)
        await idp.add(group, await idp.create_user(f"{tag}bob"))
        await room_holds(admin, second, {f"{tag}ann", f"{tag}bob"})


async def test_one_comparison_asks_for_members_once_a_room(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """However many people are in it."""
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        staffed(room, *(f"{tag}p{n}" for n in range(5)), MATRIX_URL=proxy.url) as s,
    ):
        proxy.requests.clear()
        await compare(s.process)

        async def asked() -> list[str]:
            return [path for _, path in proxy.asked if path.endswith("/members")]

        await eventually(asked, lambda paths: len(paths) == 1)
        await settled(s.idp)
        assert len(await asked()) == 1
        assert not [path for method, path in proxy.asked if method != "GET"]


# -- Nobody else --------------------------------------------------------------


async def test_an_exclusive_room_holds_nobody_else(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Strangers leave once somebody is granted the room; protected people and admins stay."""
    room = await admin.create_room(preset="public_chat")
    for name, is_admin in (("guest", False), ("vip", False), ("root", True)):
        user = await synapse.register(f"{tag}{name}", admin=is_admin)
        await user.call("POST", f"/_matrix/client/v3/join/{room}", {})
    entry = {"room": room, "exclusive": True}
    async with service({"g": [entry]}, PROTECTED_USERS=f"@{tag}vip:*") as process:
        idp = ScimClient(process.url)
        await settled(idp)
        assert f"{tag}guest" in await admin.members(room)
        await group_of(idp, f"{tag}ann")
        await compare(process)
        stay = {f"{tag}ann", f"{tag}vip", f"{tag}root"}
        await room_holds(admin, room, stay)
        await follows(idp)
        late = await synapse.register(f"{tag}late")
        await late.call("POST", f"/_matrix/client/v3/join/{room}", {})
        await room_holds(admin, room, stay)
        await settled(idp)
        event = await admin.call(
            "GET", f"/_matrix/client/v3/rooms/{room}/state/m.room.member/{mxid(f'{tag}late')}"
        )
        assert event["reason"] == "Not in a group that opens this room"


async def test_many_strangers_wait_for_a_human(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Keeping others out goes through the brake, and is withdrawn with the mapping's word."""
    room = await admin.create_room(preset="public_chat")
    for n in range(4):
        user = await synapse.register(f"{tag}guest{n}")
        await user.call("POST", f"/_matrix/client/v3/join/{room}", {})
    limits = {"REMOVAL_LIMIT_COUNT": "2", "REMOVAL_LIMIT_PERCENT": "30"}
    async with service({"g": [{"room": room, "exclusive": True}]}, **limits) as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann")
        await compare(process)
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 4)
        everybody = {f"{tag}ann", *(f"{tag}guest{n}" for n in range(4))}
        await room_holds(admin, room, everybody)
        await process.stop()
        process.group_map = f'{{"g": ["{room}"]}}'
        await process.start()
        await eventually(lambda: ready(idp), lambda s: s["work"]["unmanagedMembers"] == 4)
        await settled(idp)
        assert (await ready(idp))["work"]["heldPairs"] == 0
        await room_holds(admin, room, everybody)
