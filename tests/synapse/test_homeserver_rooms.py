"""Rooms and what happens in them, asked of a real Synapse."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from scim_matrix.demo.synapse import IDP, SERVER_NAME, Synapse, User
from scim_matrix.matrix.errors import NotFoundError, RefusedError, TokenError
from scim_matrix.matrix.rooms import SpaceChild, StateEvent
from scim_matrix.matrix.server import Homeserver


@pytest_asyncio.fixture(loop_scope="session")
async def homeserver(synapse: Synapse, admin: User) -> AsyncIterator[Homeserver]:
    """Return the homeserver as the service's account sees it."""
    connected = Homeserver.connect(synapse.url, admin.user_id, admin.token, IDP)
    await connected.lift_own_rate_limit()
    yield connected
    await connected.close()


async def put_state(user: User, room: str, kind: str, key: str, content: object) -> None:
    """Send a state event as somebody."""
    await user.call("PUT", f"/_matrix/client/v3/rooms/{room}/state/{kind}/{key}", content)


async def test_a_space_tells_who_put_what_into_it(
    homeserver: Homeserver, synapse: Synapse, admin: User, tag: str
) -> None:
    """At every depth and on every page, without being in it; what was taken out is out."""
    ann, bob = await synapse.register(f"{tag}ann"), await synapse.register(f"{tag}bob")
    lift = f"/_synapse/admin/v1/users/{ann.user_id}/override_ratelimit"
    await admin.call("POST", lift, {"messages_per_second": 0, "burst_count": 0})
    space, inner = [
        await ann.create_room(creation_content={"type": "m.space"}, invite=[bob.user_id])
        for _ in range(2)
    ]
    await bob.call("POST", f"/_matrix/client/v3/rooms/{space}/join", {})
    await put_state(ann, space, "m.room.power_levels", "", {"users_default": 50})
    child, gone = await ann.create_room(), await ann.create_room()
    via = {"via": [SERVER_NAME]}
    await put_state(ann, space, "m.space.child", inner, via)
    await put_state(bob, space, "m.space.child", child, via)
    await put_state(ann, space, "m.space.child", "!unknown:elsewhere.test", via)
    await put_state(ann, space, "m.space.child", gone, via)
    await put_state(ann, space, "m.space.child", gone, {})
    await put_state(ann, inner, "m.space.child", child, via)
    # A circle, and more rooms than a page holds.
    await put_state(ann, inner, "m.space.child", space, via)
    many = [await ann.create_room() for _ in range(55)]
    for room in many:
        await put_state(ann, inner, "m.space.child", room, via)
    found = await homeserver.rooms.hierarchy(space)
    assert set(found.rooms) == {space, inner, child, *many}
    assert set(found.children) == {
        SpaceChild(space, inner, ann.user_id),
        SpaceChild(space, child, bob.user_id),
        SpaceChild(space, "!unknown:elsewhere.test", ann.user_id),
        SpaceChild(inner, child, ann.user_id),
        SpaceChild(inner, space, ann.user_id),
        *(SpaceChild(inner, room, ann.user_id) for room in many),
    }
    assert len(found.children) == len(set(found.children))


async def test_state_is_read_from_outside(
    homeserver: Homeserver, synapse: Synapse, tag: str
) -> None:
    """The service need not be in a room to read who said what in it."""
    ann = await synapse.register(f"{tag}ann")
    room = await ann.create_room(topic="first")
    await put_state(ann, room, "m.room.topic", "", {"topic": "second"})
    topic = StateEvent("m.room.topic", "", ann.user_id, {"topic": "second"})
    assert await homeserver.rooms.state(room, "m.room.topic") == (topic,)
    assert await homeserver.rooms.state_event(room, "m.room.topic") == topic
    assert await homeserver.rooms.state_event(room, "m.room.topic", "other") is None
    assert await homeserver.rooms.state(room, "m.space.parent") == ()
    with pytest.raises(NotFoundError):
        await homeserver.rooms.state("!unknown:x", "m.room.topic")


@pytest.mark.parametrize("version", ["1", "9", "10", "11", "12"])
async def test_power_is_read_from_outside(
    homeserver: Homeserver, synapse: Synapse, tag: str, version: str
) -> None:
    """Who made a room, its version and its levels are known without being in it."""
    ann = await synapse.register(f"{tag}ann")
    room = await ann.create_room(room_version=version)
    power = await homeserver.rooms.power_state(room)
    assert (power.creator, power.version) == (ann.user_id, version)
    assert power.power_levels is not None
    assert power.power_levels["users"] == ({} if version == "12" else {ann.user_id: 100})
    details = await homeserver.rooms.details(room)
    assert (details.creator, details.version) == (power.creator, power.version)
    with pytest.raises(NotFoundError):
        await homeserver.rooms.power_state("!unknown:x")


async def test_what_is_so_already_is_success(
    homeserver: Homeserver, synapse: Synapse, admin: User, tag: str
) -> None:
    """Joining, inviting and kicking twice; a very long reason does not keep anybody in."""
    ann = await synapse.register(f"{tag}ann")
    room = await homeserver.rooms.create_room(
        f"#{tag}room:{SERVER_NAME}", {"name": "R", "topic": "T", "encrypted": True}
    )
    rooms = homeserver.rooms
    assert await rooms.resolve_alias(f"#{tag}room:{SERVER_NAME}") == room
    for _ in range(2):
        assert await rooms.invite(room, ann.user_id)
    assert await rooms.member_events(room, "invite") == {ann.user_id: admin.user_id}
    for _ in range(2):
        await rooms.force_join(room, ann.user_id)
    assert not await rooms.invite(room, ann.user_id)
    assert set(await rooms.members(room)) == {ann.user_id, admin.user_id}
    for _ in range(2):
        await rooms.kick(room, ann.user_id, "ü" * 70_000)
    assert await rooms.members(room) == [admin.user_id]
    event = await rooms.state_event(room, "m.room.member", ann.user_id)
    assert event is not None
    assert event.content["reason"].startswith("ü" * 200)


async def test_what_cannot_be_is_refused(
    homeserver: Homeserver, synapse: Synapse, tag: str
) -> None:
    """Somebody unknown, an unknown room, a banned person: each with its errcode."""
    ann = await synapse.register(f"{tag}ann")
    alias = f"#{tag}room:{SERVER_NAME}"
    template = {"name": "R", "topic": "", "encrypted": False}
    room = await homeserver.rooms.create_room(alias, template)
    with pytest.raises(RefusedError, match="M_ROOM_IN_USE"):
        await homeserver.rooms.create_room(alias, template)
    with pytest.raises(NotFoundError):
        await homeserver.rooms.force_join(room, f"@{tag}nobody:{SERVER_NAME}")
    for missing in ("!unknown:x", "!../x:y", "!a/b:c", "!%:d"):
        with pytest.raises(RefusedError):
            await homeserver.rooms.force_join(missing, ann.user_id)
        with pytest.raises(NotFoundError):
            await homeserver.rooms.members(missing)
        with pytest.raises(NotFoundError):
            await homeserver.rooms.details(missing)
        with pytest.raises(RefusedError):
            await homeserver.rooms.kick(missing, ann.user_id, "")
    with pytest.raises(NotFoundError):
        await homeserver.rooms.resolve_alias(f"#{tag}unknown:{SERVER_NAME}")


@pytest.mark.parametrize("name", ["a/b", "x/../y", "..", ".", "%", "%2F", "a?b", "a#b", "é😀"])
async def test_aliases_and_names_that_look_like_paths(
    homeserver: Homeserver, tag: str, name: str
) -> None:
    """A room is made, found by its alias, joined and left whatever stands in the names."""
    alias = f"#{tag}{name}:{SERVER_NAME}"
    template = {"name": name, "topic": name, "encrypted": False}
    room = await homeserver.rooms.create_room(alias, template)
    assert await homeserver.rooms.resolve_alias(alias) == room
    await homeserver.rooms.put_state(room, "t", {"is": name}, name)
    event = await homeserver.rooms.state_event(room, "t", name)
    assert event is not None
    assert event.content == {"is": name}


async def test_members_whose_names_look_like_paths(
    homeserver: Homeserver, admin: User, tag: str
) -> None:
    """They are invited, joined and kicked like everybody."""
    room = await admin.create_room()
    for name in (f"{tag}a/b", f"{tag}x/../y", f"{tag}..", f"{tag}a+b=2f"):
        user = f"@{name}:{SERVER_NAME}"
        await admin.call("PUT", f"/_synapse/admin/v2/users/{user.replace('/', '%2F')}", {})
        await homeserver.rooms.force_join(room, user)
        assert user in await homeserver.rooms.members(room)
        await homeserver.rooms.kick(room, user, "")
        await homeserver.rooms.invite(room, user)
        assert user not in await homeserver.rooms.members(room)


async def test_the_service_comes_to_power(
    homeserver: Homeserver, synapse: Synapse, admin: User, tag: str
) -> None:
    """In a private room that it was not in, as a server administrator may."""
    ann = await synapse.register(f"{tag}ann")
    room = await ann.create_room()
    with pytest.raises(RefusedError):
        await homeserver.rooms.put_state(room, "m.room.topic", {"topic": "mine"})
    await homeserver.rooms.become_room_admin(room)
    await homeserver.rooms.become_room_admin(room)
    await homeserver.rooms.put_state(room, "m.room.topic", {"topic": "mine"})
    assert admin.user_id in await homeserver.rooms.members(room)


async def test_an_upgrade_is_shown(homeserver: Homeserver, admin: User) -> None:
    """A room tells which one replaces it."""
    room = await admin.create_room(room_version="10")
    assert (await homeserver.rooms.details(room)).replacement is None
    path = f"/_matrix/client/v3/rooms/{room}/upgrade"
    replacement = (await admin.call("POST", path, {"new_version": "11"}))["replacement_room"]
    assert (await homeserver.rooms.details(room)).replacement == replacement


async def test_what_happens_is_told(
    homeserver: Homeserver, synapse: Synapse, admin: User, tag: str
) -> None:
    """Who comes and goes in followed rooms, by whom; not what happens in others."""
    ann = await synapse.register(f"{tag}ann")
    bob = await synapse.register(f"{tag}bob")
    room, other = await admin.create_room(), await admin.create_room()
    position = await homeserver.live.position()
    filter_id = await homeserver.live.upload_filter([room])
    # A homeserver at work may tell of the room's creation late: begin behind it.
    told: set[str | None] = set()
    await homeserver.rooms.invite(room, bob.user_id)
    while bob.user_id not in told:
        batch = await homeserver.live.sync(filter_id, position)
        told, position = told | {event.state_key for event in batch.events}, batch.position
    await homeserver.rooms.invite(other, ann.user_id)
    await put_state(admin, room, "m.room.topic", "", {"topic": "left out"})
    await homeserver.rooms.invite(room, ann.user_id)
    batch = await homeserver.live.sync(filter_id, position)
    assert [(e.state_key, e.membership, e.sender) for e in batch.events] == [
        (ann.user_id, "invite", admin.user_id)
    ]
    assert {event.room_id for event in batch.events} == {room}
    assert "m.room.topic" not in {event.type for event in batch.events}
    assert batch.gaps == frozenset()
    assert batch.position != position


async def test_what_happened_before_is_not_told_anew(
    homeserver: Homeserver, synapse: Synapse, admin: User, tag: str
) -> None:
    """Whoever starts anew shortly after a start goes on from then, not from the start before."""
    ann = await synapse.register(f"{tag}ann")
    room = await admin.create_room()
    filter_id = await homeserver.live.upload_filter([room])
    before = await homeserver.live.position()
    await homeserver.rooms.invite(room, ann.user_id)
    told = (await homeserver.live.sync(filter_id, before)).events
    assert ann.user_id in {event.state_key for event in told}
    assert await homeserver.live.position() != before


async def test_a_token_of_nobody_and_one_of_an_ordinary_user(
    synapse: Synapse, admin: User, tag: str
) -> None:
    """Both are said to be about the token, not about what was asked for."""
    ann = await synapse.register(f"{tag}ann")
    for user_id, token in ((admin.user_id, "nonsense"), (ann.user_id, ann.token)):
        homeserver = Homeserver.connect(synapse.url, user_id, token, IDP)
        try:
            for look in (
                homeserver.rooms.members("!a:b"),
                homeserver.accounts.get(ann.user_id),
                homeserver.accounts.admins(),
                homeserver.accounts_are_delegated(),
            ):
                with pytest.raises(TokenError):
                    await look
        finally:
            await homeserver.close()


async def test_a_sign_in_is_told_and_ended(
    homeserver: Homeserver, synapse: Synapse, admin: User, tag: str
) -> None:
    """Who it was is returned; no device stays, and a wrong password is a refusal."""
    ann = await synapse.register(f"{tag}ann")
    path = f"/_synapse/admin/v2/users/{ann.user_id}/devices"
    before = (await admin.call("GET", path))["total"]
    form = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": f"{tag}ann"}}
    assert await homeserver.who_signs_in({**form, "password": "password"}) == ann.user_id
    assert (await admin.call("GET", path))["total"] == before
    with pytest.raises(RefusedError):
        await homeserver.who_signs_in({**form, "password": "wrong"})
    await admin.call("PUT", f"/_synapse/admin/v2/users/{ann.user_id}", {"locked": True})
    with pytest.raises(RefusedError):
        await homeserver.who_signs_in({**form, "password": "password"})


async def test_the_server_says_what_it_is(homeserver: Homeserver) -> None:
    """Its version, how people sign in, and that it keeps accounts itself."""
    assert (await homeserver.server_version())[0].isdigit()
    assert "m.login.password" in await homeserver.sign_in_flows()
    assert await homeserver.sso_providers() == frozenset()
    assert await homeserver.accounts_are_delegated() is False
    assert homeserver.server_name == SERVER_NAME
