"""Which rooms the service acts in: nobody leads it where they could not do the same themselves."""

from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    command,
    compared,
    group_of,
    levels,
    logged,
    metric,
    ready,
    room_holds,
    set_level,
    shown_with_cure,
    told,
)

# -- Who is who, and what they do ---------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def owner(synapse: Synapse, tag: str) -> User:
    """Return somebody who has a room that the map names."""
    return await synapse.register(f"{tag}owner")


@pytest_asyncio.fixture(loop_scope="session")
async def victim(synapse: Synapse, tag: str) -> User:
    """Return somebody with a private room that no map names."""
    return await synapse.register(f"{tag}victim")


@pytest_asyncio.fixture(loop_scope="session")
async def private(victim: User) -> str:
    """Return that room."""
    return await victim.create_room(room_version="10")


async def put(by: User, room_id: str, kind: str, content: Any, key: str = "") -> None:
    """Send a state event."""
    path = f"/_matrix/client/v3/rooms/{room_id}/state/{kind}/{quote(key, safe='')}"
    await by.call("PUT", path, content)


async def let_in(host: User, guest: User, room_id: str) -> None:
    """Bring somebody into a room as its people do."""
    path = f"/_matrix/client/v3/rooms/{room_id}/invite"
    await host.call("POST", path, {"user_id": guest.user_id})
    await guest.call("POST", f"/_matrix/client/v3/join/{room_id}", {})


async def name_room(by: User, alias: str, room_id: str) -> None:
    """Make an alias of a room."""
    path = f"/_matrix/client/v3/directory/room/{quote(alias, safe='')}"
    await by.call("PUT", path, {"room_id": room_id})


async def move_alias(by: User, alias: str, room_id: str) -> None:
    """Let an alias stand for another room, as its owner may."""
    await by.call("DELETE", f"/_matrix/client/v3/directory/room/{quote(alias, safe='')}")
    await name_room(by, alias, room_id)


async def adopt(by: User, space: str, child: str) -> None:
    """Put a room into a space."""
    await put(by, space, "m.space.child", {"via": [SERVER_NAME]}, child)


async def space_of(by: User) -> str:
    """Create a space."""
    return await by.create_room(creation_content={"type": "m.space"}, room_version="10")


async def moderator(synapse: Synapse, host: User, room_id: str, name: str, level: int) -> User:
    """Return somebody with a power level in a room of somebody else's."""
    user = await synapse.register(name)
    await let_in(host, user, room_id)
    await set_level(host, room_id, user.user_id, level)
    return user


async def untouched(owner: User, room_id: str, *others: User) -> None:
    """Assert that nobody else ever did anything in a room, nor anything was done for others."""
    state = await owner.call("GET", f"/_matrix/client/v3/rooms/{room_id}/state")
    people = {user.user_id for user in (owner, *others)}
    assert {event["sender"] for event in state} == people
    assert {e["state_key"] for e in state if e["type"] == "m.room.member"} == people


async def not_followed(
    service: Service, reference: str, target: str, standing: str = "not_followed"
) -> None:
    """Wait until it is shown, with reason and cure, that a step was not followed."""
    line = await shown_with_cure(service, "rooms", reference, standing=standing)
    assert target in f"{line['room_id']} {line['problem']}", line
    [summary] = await told(service, "status")
    rows = [row for row in summary["work"] if row["state"] == "not_followed"]
    assert any(row["reason"] and row["cure"] for row in rows), summary
    assert summary["notFollowed"] >= 1
    work = (await ready(ScimClient(service.url)))["work"]
    assert work["notFollowed"] == summary["notFollowed"]


def alias_of(name: str) -> str:
    """Return the room alias of a localpart."""
    return f"#{name}:{SERVER_NAME}"


# -- Tombstones ---------------------------------------------------------------


async def entomb(by: User, room_id: str, replacement: str) -> None:
    """Say that a room goes on as another one."""
    content = {"body": "This room has been replaced", "replacement_room": replacement}
    await put(by, room_id, "m.room.tombstone", content)


@pytest.mark.parametrize("version", ["10", "12"])
@pytest.mark.parametrize("by", ["id", "alias"])
async def test_a_tombstone_leads_into_nobodys_private_room(
    owner: User,
    victim: User,
    private: str,
    admin: User,
    staffed: StartStaffed,
    tag: str,
    by: str,
    version: str,
) -> None:
    """A room that does not name the old one as its predecessor is left alone, and that is shown."""
    room = await owner.create_room(room_version=version, room_alias_name=f"{tag}room")
    reference = room if by == "id" else alias_of(f"{tag}room")
    async with staffed({"room": reference, "powerLevel": 50}, f"{tag}ann", room=room) as run:
        process, idp, group, _ = run
        await entomb(owner, room, private)

        await compared(process)
        await untouched(victim, private)
        await idp.add(group, await idp.create_user(f"{tag}bob"))
        await room_holds(admin, room, {f"{tag}owner", f"{tag}ann", f"{tag}bob"})
        await compared(process)
        await untouched(victim, private)
        await not_followed(process, reference, private)
        await untouched(victim, private)


async def test_a_tombstone_to_nowhere_loses_no_mapping(
    owner: User, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """The mapping goes on with the old room: people come and go there."""
    nowhere = f"!nowhere:{SERVER_NAME}"
    room = await owner.create_room(room_version="10")
    async with staffed(room, f"{tag}ann") as (process, idp, group, people):
        await entomb(owner, room, nowhere)

        await compared(process)
        await idp.add(group, await idp.create_user(f"{tag}bob"))
        await idp.remove(group, *people.values())
        await room_holds(admin, room, {f"{tag}owner", f"{tag}bob"})
        await not_followed(process, room, nowhere)


@pytest.mark.parametrize("version", ["11", "12"])
@pytest.mark.parametrize("by", ["id", "alias"])
async def test_an_upgrade_by_the_rooms_own_admin_is_followed(
    owner: User, admin: User, service: StartService, tag: str, by: str, version: str
) -> None:
    """People and their power go on in the new room; nobody is removed from the old one."""
    room = await owner.create_room(room_version="10", room_alias_name=f"{tag}room")
    reference = room if by == "id" else alias_of(f"{tag}room")
    async with service({"g": [{"room": reference, "powerLevel": 50}]}) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        inside = {f"{tag}owner", *people}
        await room_holds(admin, room, inside)
        await eventually(lambda: levels(admin, room), lambda seen: f"{tag}bob" in seen)

        path = f"/_matrix/client/v3/rooms/{room}/upgrade"
        new = (await owner.call("POST", path, {"new_version": version}))["replacement_room"]

        await compared(process)
        await room_holds(admin, new, inside)
        await eventually(
            lambda: levels(admin, new), lambda seen: people.keys() <= {n for n in seen if seen[n]}
        )
        assert {n: (await levels(admin, new))[n] for n in people} == dict.fromkeys(people, 50)
        assert inside <= await admin.members(room)
        await idp.remove(group, people[f"{tag}bob"])
        await room_holds(admin, new, inside - {f"{tag}bob"})


# -- Spaces -------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="session")
async def space(admin: User) -> str:
    """Return a space of the service's own."""
    return await space_of(admin)


def whole(space: str, power: int | None = None) -> dict[str, Any]:
    """Return a line of the group map that opens a space and its rooms."""
    more = {} if power is None else {"powerLevel": power}
    return {"room": space, "children": True, **more}


async def test_a_moderator_of_a_space_leads_into_nobodys_private_room(
    synapse: Synapse,
    victim: User,
    private: str,
    space: str,
    admin: User,
    staffed: StartStaffed,
    tag: str,
) -> None:
    """A room put into a space by somebody without power in it is left alone, and shown."""
    mod = await moderator(synapse, admin, space, f"{tag}mod", 50)
    async with staffed(whole(space, 50), f"{tag}ann", room=space) as (process, idp, group, _):
        await adopt(mod, space, private)

        await compared(process)
        await untouched(victim, private)
        await idp.add(group, await idp.create_user(f"{tag}bob"))
        await room_holds(admin, space, {f"{tag}mod", f"{tag}ann", f"{tag}bob"})
        await compared(process)
        await untouched(victim, private)
        await not_followed(process, space, private)
        await untouched(victim, private)


async def test_an_ordinary_member_of_a_child_does_not_lead_there(
    synapse: Synapse,
    victim: User,
    private: str,
    space: str,
    admin: User,
    service: StartService,
    tag: str,
) -> None:
    """Being in a room gives nobody the say over who else is."""
    mod = await moderator(synapse, admin, space, f"{tag}mod", 50)
    await let_in(victim, mod, private)
    await adopt(mod, space, private)
    async with service({"g": [whole(space)]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await room_holds(admin, space, {f"{tag}mod", f"{tag}ann"})
        await compared(process)
        await untouched(victim, private, mod)
        await not_followed(process, space, private)


async def test_a_space_inside_a_space_leads_no_further_than_its_owner_may(
    owner: User,
    victim: User,
    private: str,
    space: str,
    admin: User,
    service: StartService,
    tag: str,
) -> None:
    """The inner space is followed, the private room that its owner put there is not."""
    inner, own = await space_of(owner), await owner.create_room(room_version="10")
    await adopt(admin, space, inner)
    await adopt(owner, inner, own)
    await adopt(owner, inner, private)
    async with service({"g": [whole(space)]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        for room in (inner, own):
            await room_holds(admin, room, {f"{tag}owner", f"{tag}ann"})
        await compared(process)
        await untouched(victim, private)
        await not_followed(process, space, private)


async def test_a_space_inside_a_space_leads_no_further_than_whoever_put_it_there_may(
    synapse: Synapse,
    owner: User,
    victim: User,
    private: str,
    space: str,
    admin: User,
    service: StartService,
    tag: str,
) -> None:
    """Not into rooms that others, administrators too, put into the inner space for its people."""
    mod = await moderator(synapse, admin, space, f"{tag}mod", 50)
    inner, other = await space_of(owner), await owner.create_room(room_version="10")
    for room in (inner, other):
        await let_in(owner, mod, room)
        await set_level(owner, room, mod.user_id, 50)
    root = await synapse.register(f"{tag}root", admin=True)
    await let_in(owner, root, inner)
    await set_level(owner, inner, root.user_id, 50)
    await adopt(root, inner, private)
    await adopt(root, inner, other)
    await adopt(mod, space, inner)
    async with service({"g": [whole(space)]}) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        inside = {f"{tag}owner", f"{tag}mod", *people}
        await room_holds(admin, other, inside)
        await compared(process)
        await untouched(victim, private)
        await not_followed(process, space, private)

        # Whoever the moderator could not remove from the room stays there.
        await set_level(owner, other, f"@{tag}bob:{SERVER_NAME}", 60)
        await idp.remove(group, *people.values())
        await room_holds(admin, space, {f"{tag}mod"})
        await room_holds(admin, other, inside - {f"{tag}ann"})
        await compared(process)
        assert f"{tag}bob" in await admin.members(other)


async def test_the_tombstone_of_a_child_leads_into_nobodys_private_room(
    owner: User,
    victim: User,
    private: str,
    space: str,
    admin: User,
    staffed: StartStaffed,
    tag: str,
) -> None:
    """What a room below a space says of its replacement counts no more than anywhere else."""
    child = await owner.create_room(room_version="10")
    await adopt(admin, space, child)
    async with staffed(whole(space), f"{tag}ann", room=child) as (process, idp, group, people):
        await entomb(owner, child, private)
        await compared(process)
        await untouched(victim, private)
        await idp.remove(group, *people.values())
        await room_holds(admin, child, {f"{tag}owner"})
        await not_followed(process, space, private)


@pytest.mark.parametrize("version", ["11", "12"])
async def test_an_upgraded_child_is_followed(
    owner: User, space: str, admin: User, staffed: StartStaffed, tag: str, version: str
) -> None:
    """People go on in the new room, and whoever should leave leaves it."""
    child = await owner.create_room(room_version="10")
    await adopt(admin, space, child)
    async with staffed(whole(space), f"{tag}ann", f"{tag}bob", room=child) as run:
        process, idp, group, people = run
        path = f"/_matrix/client/v3/rooms/{child}/upgrade"
        new = (await owner.call("POST", path, {"new_version": version}))["replacement_room"]
        await compared(process)
        await room_holds(admin, new, {f"{tag}owner", *people})
        await idp.remove(group, people[f"{tag}bob"])
        await room_holds(admin, new, {f"{tag}owner", f"{tag}ann"})


async def test_a_child_put_there_by_a_server_admin_is_followed(
    synapse: Synapse,
    victim: User,
    private: str,
    space: str,
    admin: User,
    service: StartService,
    tag: str,
) -> None:
    """An administrator who is not in the room themselves could do the same by other means."""
    root = await synapse.register(f"{tag}root", admin=True)
    await let_in(admin, root, space)
    await set_level(admin, space, root.user_id, 50)
    await adopt(root, space, private)
    async with service({"g": [whole(space, 50)]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await room_holds(admin, private, {f"{tag}victim", f"{tag}ann"})
        await eventually(lambda: levels(victim, private), lambda seen: seen.get(f"{tag}ann") == 50)


@pytest.mark.parametrize(
    ("own", "mapped", "follows"), [(50, None, True), (50, 50, False), (100, 50, True)]
)
async def test_a_child_is_followed_as_far_as_the_power_of_who_put_it_there_goes(
    synapse: Synapse,
    victim: User,
    private: str,
    space: str,
    admin: User,
    service: StartService,
    tag: str,
    own: int,
    mapped: int | None,
    follows: bool,
) -> None:
    """They must be able to invite, kick and give the mapped power level in the child."""
    mod = await moderator(synapse, admin, space, f"{tag}mod", 50)
    await let_in(victim, mod, private)
    await set_level(victim, private, mod.user_id, own)
    await adopt(mod, space, private)
    async with service({"g": [whole(space, mapped)]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await room_holds(admin, space, {f"{tag}mod", f"{tag}ann"})
        if follows:
            await room_holds(admin, private, {f"{tag}victim", f"{tag}mod", f"{tag}ann"})
        else:
            await compared(process)
            await untouched(victim, private, mod)
            await not_followed(process, space, private)


async def parent(by: User, child: str, space: str) -> None:
    """Say that a room belongs to a space."""
    await put(by, child, "m.space.parent", {"via": [SERVER_NAME]}, space)


async def test_a_child_that_names_the_space_as_its_parent_is_followed(
    synapse: Synapse,
    victim: User,
    private: str,
    space: str,
    admin: User,
    service: StartService,
    tag: str,
) -> None:
    """Whoever put it into the space, somebody with power in the room wants it there."""
    mod = await moderator(synapse, admin, space, f"{tag}mod", 50)
    await adopt(mod, space, private)
    async with service({"g": [whole(space)]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await room_holds(admin, space, {f"{tag}mod", f"{tag}ann"})
        await compared(process)
        await untouched(victim, private)
        await parent(victim, private, space)
        await compared(process)
        await room_holds(admin, private, {f"{tag}victim", f"{tag}ann"})


async def test_naming_a_parent_without_power_to_invite_counts_for_nothing(
    synapse: Synapse,
    victim: User,
    private: str,
    space: str,
    admin: User,
    service: StartService,
    tag: str,
) -> None:
    """Where everybody may send state, that gives nobody the say over who is in the room."""
    mod = await moderator(synapse, admin, space, f"{tag}mod", 50)
    await let_in(victim, mod, private)
    content = await victim.call(
        "GET", f"/_matrix/client/v3/rooms/{private}/state/m.room.power_levels"
    )
    content["events"]["m.space.parent"] = 0
    await put(victim, private, "m.room.power_levels", content)
    await adopt(mod, space, private)
    await parent(mod, private, space)
    async with service({"g": [whole(space)]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await room_holds(admin, space, {f"{tag}mod", f"{tag}ann"})
        await compared(process)
        await untouched(victim, private, mod)
        await not_followed(process, space, private)


@pytest.mark.parametrize("how", ["child", "parent"])
async def test_whose_power_in_a_child_has_gone_leads_there_no_longer(
    synapse: Synapse,
    victim: User,
    private: str,
    space: str,
    admin: User,
    service: StartService,
    tag: str,
    how: str,
) -> None:
    """Nobody new comes in then and nobody is removed, whether by the map or by the group."""
    mod = await moderator(synapse, admin, space, f"{tag}mod", 50)
    await let_in(victim, mod, private)
    await set_level(victim, private, mod.user_id, 50)
    if how == "child":
        await adopt(mod, space, private)
    else:
        await adopt(await moderator(synapse, admin, space, f"{tag}other", 50), space, private)
        await parent(mod, private, space)
    async with service({"g": [whole(space)]}) as process:
        idp = ScimClient(process.url)
        group, _ = await group_of(idp, f"{tag}ann")
        inside = {f"{tag}victim", f"{tag}mod", f"{tag}ann"}
        await room_holds(admin, private, inside)

        await set_level(victim, private, mod.user_id, 0)

        await compared(process)
        await not_followed(process, space, private)
        await idp.add(group, await idp.create_user(f"{tag}bob"))
        await eventually(lambda: admin.members(space), lambda seen: f"{tag}bob" in seen)
        await compared(process)
        assert await admin.members(private) - {"scim-bot"} == inside


# -- Aliases ------------------------------------------------------------------


async def test_an_alias_moved_to_a_room_that_does_not_have_it_is_not_followed(
    owner: User,
    victim: User,
    private: str,
    admin: User,
    staffed: StartStaffed,
    tag: str,
) -> None:
    """The room that it stood for stays the one that is meant, and the move is shown."""
    alias = alias_of(f"{tag}room")
    room = await owner.create_room(room_version="10", room_alias_name=f"{tag}room")
    await let_in(victim, owner, private)
    async with staffed({"room": alias, "powerLevel": 50}, f"{tag}ann", room=room) as run:
        process, idp, group, _ = run
        await move_alias(owner, alias, private)

        await compared(process)
        await untouched(victim, private, owner)
        await idp.add(group, await idp.create_user(f"{tag}bob"))
        await room_holds(admin, room, {f"{tag}owner", f"{tag}ann", f"{tag}bob"})
        await compared(process)
        await untouched(victim, private, owner)
        await not_followed(process, alias, room, standing="alias_moved")


async def test_an_alias_is_not_followed_on_the_word_of_somebody_who_lost_the_power(
    owner: User,
    victim: User,
    private: str,
    admin: User,
    service: StartService,
    tag: str,
) -> None:
    """What a moderator said of a private room's aliases once does not lead there."""
    alias = alias_of(f"{tag}room")
    room = await owner.create_room(room_version="10", room_alias_name=f"{tag}room")
    await let_in(victim, owner, private)
    await set_level(victim, private, owner.user_id, 50)
    async with service({"g": [alias]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await room_holds(admin, room, {f"{tag}owner", f"{tag}ann"})
        # While nobody looks: the word counts as long as there is power behind it.
        await process.stop()
        await move_alias(owner, alias, private)
        await put(owner, private, "m.room.canonical_alias", {"alias": alias})
        await set_level(victim, private, owner.user_id, 0)
        await process.start()
        await compared(process)
        await untouched(victim, private, owner)
        await not_followed(process, alias, room, standing="alias_moved")

        await put(victim, private, "m.room.canonical_alias", {})
        await put(victim, private, "m.room.canonical_alias", {"alias": alias})
        await compared(process)
        await room_holds(admin, private, {f"{tag}victim", f"{tag}owner", f"{tag}ann"})


@pytest.mark.parametrize("where", ["alias", "alt_aliases"])
async def test_an_alias_moved_to_a_room_that_has_it_is_followed(
    owner: User, admin: User, staffed: StartStaffed, tag: str, where: str
) -> None:
    """People are joined to the other room too; nobody is removed from the first one."""
    alias = alias_of(f"{tag}room")
    first = await owner.create_room(room_version="10", room_alias_name=f"{tag}room")
    second = await owner.create_room(room_version="10")
    async with staffed(alias, f"{tag}ann", room=first) as (process, idp, group, _):
        await move_alias(owner, alias, second)
        content = {"alias": alias} if where == "alias" else {"alt_aliases": [alias]}
        await put(owner, second, "m.room.canonical_alias", content)

        await compared(process)
        await room_holds(admin, second, {f"{tag}owner", f"{tag}ann"})
        await idp.add(group, await idp.create_user(f"{tag}bob"))
        await room_holds(admin, second, {f"{tag}owner", f"{tag}ann", f"{tag}bob"})
        assert f"{tag}ann" in await admin.members(first)


async def test_a_room_made_anew_under_the_alias_of_a_deleted_one(
    synapse: Synapse, owner: User, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """A server administrator's is followed; another's is shown, and `check` never calls it ok."""
    alias = alias_of(f"{tag}room")
    first = await owner.create_room(room_version="10", room_alias_name=f"{tag}room")
    async with staffed(alias, f"{tag}ann", room=first) as (process, idp, group, people):
        await deleted(admin, first)
        await compared(process)
        [summary] = await told(process, "status")
        [cure] = [row["cure"] for row in summary["work"] if row["code"] == "room-unusable"]
        assert "make a room with its alias" in cure
        assert ("error", f"{first} was deleted") in await checked(process, alias)

        stranger = await synapse.register(f"{tag}stranger")
        private = await stranger.create_room(room_version="10", room_alias_name=f"{tag}room")
        await compared(process)
        await not_followed(process, alias, first, standing="alias_moved")
        [(verdict, what)] = await checked(process, alias)
        assert (verdict, private in what, first in what) == ("error", True, True)
        assert await admin.members(private) == {f"{tag}stranger"}

        await deleted(admin, private)
        second = await admin.create_room(room_version="10", room_alias_name=f"{tag}room")
        await compared(process)
        await room_holds(admin, second, {f"{tag}ann"})
        assert {verdict for verdict, _ in await checked(process, alias)} == {"ok"}
        await idp.remove(group, people[f"{tag}ann"])
        await room_holds(admin, second, set())
        assert (await command(process, "status"))[0] == 0


async def deleted(admin: User, room: str) -> None:
    """Delete a room from the homeserver, with its alias."""
    path = f"/_synapse/admin/v2/rooms/{room}"
    started = await admin.call("DELETE", path, {"purge": True})
    status = f"/_synapse/admin/v2/rooms/delete_status/{started['delete_id']}"
    await eventually(lambda: admin.call("GET", status), lambda seen: seen["status"] == "complete")


async def checked(service: Service, about: str) -> list[tuple[str, str]]:
    """Return what `check` finds about a room."""
    return [(f["verdict"], f["found"]) for f in await told(service, "check") if f["about"] == about]


async def unresolved(service: Service, alias: str) -> None:
    """Wait until the service has looked for an alias and found nothing."""
    await shown_with_cure(service, "rooms", alias, standing="unresolved", room_id=None)


async def waits(service: Service, alias: str, maker: User) -> None:
    """Wait until it is shown that an alias waits for a human, and who made it."""
    line = await shown_with_cure(service, "rooms", alias, standing="waiting")
    assert maker.user_id in line["problem"], line
    assert "scim-matrix approve" in line["cure"], line
    assert alias in line["cure"], line


async def test_an_alias_that_appears_later_waits_for_a_human(
    victim: User, admin: User, service: StartService, tag: str
) -> None:
    """Nobody is joined to the room of whoever made it, until somebody approves it by name."""
    alias = alias_of(f"{tag}late")
    async with service({"g": [alias]}) as process:
        idp = ScimClient(process.url)
        await unresolved(process, alias)
        await group_of(idp, f"{tag}ann")
        room = await victim.create_room(room_version="10", room_alias_name=f"{tag}late")
        await compared(process)
        await untouched(victim, room)
        await waits(process, alias, victim)
        await compared(process)
        await untouched(victim, room)

        status, output = await command(process, "approve", alias, "--by", "Grace")
        assert status == 0, output
        assert alias in output
        await room_holds(admin, room, {f"{tag}victim", f"{tag}ann"})
        [entry] = [e for e in await logged(process) if e["kind"] == "alias" and e["by"]]
        assert (entry["outcome"], entry["by"]) == ("approved", "Grace")
        assert (await command(process, "approve", alias))[0] == 3


async def test_an_approval_is_for_the_room_that_was_shown(
    owner: User, victim: User, private: str, service: StartService, tag: str
) -> None:
    """Where the alias is moved after it was shown, the other room is not let in."""
    alias = alias_of(f"{tag}late")
    await let_in(victim, owner, private)
    async with service({"g": [alias]}) as process:
        idp = ScimClient(process.url)
        await unresolved(process, alias)
        await group_of(idp, f"{tag}ann")
        await owner.create_room(room_version="10", room_alias_name=f"{tag}late")
        await compared(process)
        await waits(process, alias, owner)
        await move_alias(owner, alias, private)
        await command(process, "approve", alias)
        await compared(process)
        await untouched(victim, private, owner)


async def test_an_alias_that_a_server_admin_makes_later_is_followed(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A room made by an administrator of the homeserver needs nobody's approval."""
    alias = alias_of(f"{tag}late")
    root = await synapse.register(f"{tag}root", admin=True)
    async with service({"g": [alias]}) as process:
        await unresolved(process, alias)
        await group_of(ScimClient(process.url), f"{tag}ann")
        room = await root.create_room(room_version="10", room_alias_name=f"{tag}late")
        await compared(process)
        await room_holds(admin, room, {f"{tag}root", f"{tag}ann"})


async def test_an_alias_made_later_for_a_room_of_a_server_admin_is_not_its_makers_to_open(
    synapse: Synapse, owner: User, admin: User, service: StartService, tag: str
) -> None:
    """An ordinary member who names an administrator's room does not open it for a group."""
    alias = alias_of(f"{tag}late")
    root = await synapse.register(f"{tag}root", admin=True)
    room = await root.create_room(room_version="10")
    await let_in(root, owner, room)
    async with service({"g": [alias]}) as process:
        await unresolved(process, alias)
        await group_of(ScimClient(process.url), f"{tag}ann")
        await name_room(owner, alias, room)
        await compared(process)
        await untouched(root, room, owner)
        await shown_with_cure(process, "rooms", alias, standing="waiting")


TEMPLATE = {"name": "Late"}


async def test_a_room_to_be_made_is_not_a_strangers(
    victim: User, admin: User, service: StartService, tag: str
) -> None:
    """Where the alias is somebody's already, a human decides whether that room is meant."""
    alias = alias_of(f"{tag}late")
    room = await victim.create_room(room_version="10", room_alias_name=f"{tag}late")
    async with service({"g": [{"room": alias, "create": TEMPLATE}]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await compared(process)
        await untouched(victim, room)
        await waits(process, alias, victim)
        status, output = await command(process, "approve", alias)
        assert status == 0, output
        await room_holds(admin, room, {f"{tag}victim", f"{tag}ann"})


async def test_a_room_to_be_made_that_a_server_admin_made_is_followed(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """It is the one that is meant, and none is made."""
    root = await synapse.register(f"{tag}root", admin=True)
    room = await root.create_room(room_version="10", room_alias_name=f"{tag}late")
    entry = {"room": alias_of(f"{tag}late"), "create": TEMPLATE}
    async with service({"g": [entry]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await room_holds(admin, room, {f"{tag}root", f"{tag}ann"})


async def test_an_alias_that_is_there_when_mapped_is_followed_whoever_made_it(
    owner: User, admin: User, service: StartService, tag: str
) -> None:
    """The administrator's map names it; the room that it stands for then is the one meant."""
    room = await owner.create_room(room_version="10", room_alias_name=f"{tag}room")
    async with service({"g": [alias_of(f"{tag}room")]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await room_holds(admin, room, {f"{tag}owner", f"{tag}ann"})


HARD_ALIASES = ("a/b", "x/../y", "a?b", "ä", "a+b&c=d", "..")


@pytest.mark.parametrize("hard", HARD_ALIASES)
async def test_any_alias_finds_its_room(
    admin: User, service: StartService, tag: str, hard: str
) -> None:
    """Whatever characters it holds."""
    room = await admin.create_room(room_alias_name=tag + hard)
    async with service({"g": [alias_of(tag + hard)]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann")
        await room_holds(admin, room, {f"{tag}ann"})


async def test_a_step_that_is_not_followed_is_counted(
    synapse: Synapse, private: str, space: str, admin: User, service: StartService, tag: str
) -> None:
    """The metric rises with it and falls when the cause has gone."""
    mod = await moderator(synapse, admin, space, f"{tag}mod", 50)
    await adopt(mod, space, private)

    async def counted() -> float:
        return await metric(process, "scim_matrix_steps_not_followed")

    async with service({"g": [whole(space)]}) as process:
        await compared(process)
        assert await counted() == 1
        await put(mod, space, "m.space.child", {}, private)
        await compared(process)
        assert await counted() == 0
