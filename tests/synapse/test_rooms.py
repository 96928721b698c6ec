"""Groups become room membership on a real Synapse, removals included."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import IDP, SERVER_NAME, Synapse, User
from tests.conftest import eventually
from tests.conversations import load, replay
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    account,
    command,
    logged,
    ready,
    room_holds,
    settled,
    told,
)


async def invite_and_join(admin: User, guest: User, room_id: str) -> None:
    """Bring a person into a room by hand."""
    await admin.call(
        "POST", f"/_matrix/client/v3/rooms/{room_id}/invite", {"user_id": guest.user_id}
    )
    await guest.call("POST", f"/_matrix/client/v3/join/{room_id}", {})


async def test_leaving_one_of_two_groups_leaves_only_the_room_it_alone_gave(
    admin: User, service: StartService, tag: str
) -> None:
    """A room that another group still gives is kept; the other room is left."""
    both, one = await admin.create_room(), await admin.create_room()
    async with service({"two": [both, one], "single": [both]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        two = await idp.create_group("Two", [person], externalId="two")
        await idp.create_group("Single", [person], externalId="single")
        await room_holds(admin, one, {f"{tag}ann"})
        await room_holds(admin, both, {f"{tag}ann"})

        await idp.remove(two, person)

        await room_holds(admin, one, set())
        await settled(idp)
        assert await admin.members(both) == {"scim-bot", f"{tag}ann"}


async def test_people_invited_by_hand_stay(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Nobody is removed whom no group ever put in the room."""
    room = await admin.create_room()
    guest = await synapse.register(f"{tag}guest")
    await invite_and_join(admin, guest, room)
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        group = await idp.create_group("G", [person], externalId="g")
        await room_holds(admin, room, {f"{tag}ann", f"{tag}guest"})

        await idp.ok("DELETE", f"/Groups/{group}")

        await room_holds(admin, room, {f"{tag}guest"})


async def test_a_kick_names_the_group_it_follows_from(
    admin: User, service: StartService, tag: str
) -> None:
    """The reason shown in the room is "Removed from group <name>"."""
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        group = await idp.create_group("Sales", [person], externalId="g")
        await room_holds(admin, room, {f"{tag}ann"})
        await idp.remove(group, person)
        await room_holds(admin, room, set())
    event = await admin.call(
        "GET",
        f"/_matrix/client/v3/rooms/{room}/state/m.room.member/@{tag}ann:{SERVER_NAME}",
    )
    assert event["reason"] == "Removed from group Sales"


async def test_members_of_nested_groups_are_members(
    admin: User, service: StartService, tag: str
) -> None:
    """A group's rooms open for the people of groups inside it, at any depth, cycles included."""
    room = await admin.create_room()
    async with service({"outer": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        inner = await idp.create_group("Inner", [person])
        middle = await idp.create_group("Middle", [inner])
        outer = await idp.create_group("Outer", [middle], externalId="outer")
        await idp.add(inner, outer)
        await room_holds(admin, room, {f"{tag}ann"})

        await idp.remove(middle, inner)

        await room_holds(admin, room, set())


@pytest.mark.parametrize("version", ["9", "12"])
async def test_rooms_the_service_is_not_in_are_taken_over(
    synapse: Synapse, admin: User, service: StartService, tag: str, version: str
) -> None:
    """Without power in a room the service makes itself its admin; its creator stays."""
    owner = await synapse.register(f"{tag}owner")
    room = await owner.create_room(room_version=version, room_alias_name=f"{tag}room")
    async with service({"g": [f"#{tag}room:{SERVER_NAME}"]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        group = await idp.create_group("G", [person], externalId="g")
        await room_holds(admin, room, {f"{tag}ann", f"{tag}owner"})
        await idp.remove(group, person)
        await room_holds(admin, room, {f"{tag}owner"})


async def test_rooms_that_cannot_be_used_do_not_hold_up_the_others(
    admin: User, service: StartService, tag: str
) -> None:
    """Unknown rooms and aliases are counted in /readyz; the rest goes on."""
    room = await admin.create_room()
    async with service({"g": ["!nowhere:demo.test", "#nowhere:demo.test", room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        await idp.create_group("G", [person], externalId="g")
        await room_holds(admin, room, {f"{tag}ann"})
        await eventually(lambda: ready(idp), lambda s: s["work"]["failingRooms"] == 2)


async def test_an_existing_account_is_not_taken_over(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A user named like somebody's account is stored and not joined anywhere."""
    await synapse.register(f"{tag}boss", admin=True)
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        boss = await idp.create_user(f"{tag}boss", displayName="Impostor")
        person = await idp.create_user(f"{tag}ann")
        await idp.create_group("G", [boss, person], externalId="g")
        await room_holds(admin, room, {f"{tag}ann"})
        work = (await ready(idp))["work"]
        assert work["conflictingAccounts"] == 1
    account = await admin.call("GET", f"/_synapse/admin/v2/users/@{tag}boss:{SERVER_NAME}")
    assert account["external_ids"] == []
    assert account["displayname"] != "Impostor"


async def test_a_linked_account_is_found_whatever_its_name(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """The account linked by SSO is the user's, and what others put on it stays."""
    old = await synapse.register(f"{tag}oldname")
    path = f"/_synapse/admin/v2/users/{old.user_id}"
    links = [
        {"auth_provider": "oidc-demo", "external_id": f"ext-{tag}new"},
        {"auth_provider": "oidc-other", "external_id": f"{tag}x"},
    ]
    threepids = [{"medium": "email", "address": f"{tag}old@example.org"}]
    await admin.call("PUT", path, {"external_ids": links, "threepids": threepids})
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        emails = [{"value": f"{tag}new@example.org"}]
        person = await idp.create_user(f"{tag}new", emails=emails, displayName="New Name")
        await idp.create_group("G", [person], externalId="g")
        await room_holds(admin, room, {f"{tag}oldname"})
    account = await admin.call("GET", path)
    assert account["displayname"] == "New Name"
    assert {t["address"] for t in account["threepids"]} == {
        f"{tag}old@example.org",
        f"{tag}new@example.org",
    }
    assert {x["auth_provider"] for x in account["external_ids"]} == {"oidc-demo", "oidc-other"}


async def test_an_account_that_another_provider_leads_to_is_linked_by_a_human_only(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """ADOPT_EXISTING_ACCOUNTS leaves it alone; whoever links it leaves it its other links."""
    existing = await synapse.register(f"{tag}ann")
    path = f"/_synapse/admin/v2/users/{existing.user_id}"
    other = {"auth_provider": "oidc-other", "external_id": f"{tag}x"}
    await admin.call("PUT", path, {"external_ids": [other]})

    async def providers() -> set[str]:
        return {x["auth_provider"] for x in (await admin.call("GET", path))["external_ids"]}

    async with service({}, ADOPT_EXISTING_ACCOUNTS="true") as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann")
        await eventually(lambda: ready(idp), lambda s: s["work"]["conflictingAccounts"] == 1)
        assert await providers() == {"oidc-other"}
        status, output = await command(process, "users", "link", f"{tag}ann", existing.user_id)
        assert status == 0, output
        await eventually(providers, lambda p: p == {"oidc-demo", "oidc-other", "scim-matrix"})


async def test_somebody_banned_by_hand_stays_banned(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A grant does not undo a ban, and others are joined all the same."""
    room = await admin.create_room()
    troll = await synapse.register(f"{tag}troll")
    ban = {"user_id": troll.user_id}
    await admin.call("POST", f"/_matrix/client/v3/rooms/{room}/ban", ban)
    async with service({"g": [room]}, ADOPT_EXISTING_ACCOUNTS="true") as process:
        idp = ScimClient(process.url)
        people = [await idp.create_user(f"{tag}{name}") for name in ("troll", "ann")]
        await idp.create_group("G", people, externalId="g")
        await room_holds(admin, room, {f"{tag}ann"})
        await settled(idp)
    state = f"/_matrix/client/v3/rooms/{room}/state/m.room.member/{troll.user_id}"
    assert (await admin.call("GET", state))["membership"] == "ban"


async def test_disabling_locks_and_coming_back_undoes_it(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """active=false locks and leaves rooms; active=true unlocks and joins again."""
    room = await admin.create_room()
    path = f"/_synapse/admin/v2/users/@{tag}ann:{SERVER_NAME}"
    async with staffed(room, f"{tag}ann") as s:
        person = s.people[f"{tag}ann"]
        await s.idp.patch(f"/Users/{person}", {"op": "replace", "value": {"active": False}})
        await room_holds(admin, room, set())
        await settled(s.idp)
        assert (await admin.call("GET", path))["locked"] is True
        await s.idp.patch(f"/Users/{person}", {"op": "replace", "value": {"active": True}})
        await room_holds(admin, room, {f"{tag}ann"})
        await settled(s.idp)
        assert (await admin.call("GET", path))["locked"] is False


async def test_deletion_deactivates_after_the_grace_period_and_can_be_undone(
    admin: User, service: StartService, tag: str
) -> None:
    """With no grace the account is deactivated; the user's return reactivates and rejoins it."""
    room = await admin.create_room()
    path = f"/_synapse/admin/v2/users/@{tag}ann:{SERVER_NAME}"
    async with service({"g": [room]}, DELETE_GRACE="0") as process:
        idp = ScimClient(process.url)
        emails = [{"value": f"{tag}ann@example.org"}]
        person = await idp.create_user(f"{tag}ann", displayName="Ann", emails=emails)
        group = await idp.create_group("G", [person], externalId="g")
        await room_holds(admin, room, {f"{tag}ann"})
        await idp.ok("DELETE", f"/Users/{person}")

        async def deactivated() -> bool:
            return bool((await admin.call("GET", path))["deactivated"])

        await eventually(deactivated, bool)
        again = await idp.create_user(f"{tag}ann", displayName="Ann", emails=emails)
        await idp.add(group, again)
        await settled(idp)
        await room_holds(admin, room, {f"{tag}ann"})
        account = await admin.call("GET", path)
    assert account["deactivated"] is False
    assert account["displayname"] == "Ann"
    assert [t["address"] for t in account["threepids"]] == [f"{tag}ann@example.org"]


async def test_forgetting_a_mapping_removes_nobody(
    admin: User, service: StartService, tag: str
) -> None:
    """A key that disappears from the map stops being managed, and its people stay."""
    room, other = await admin.create_room(), await admin.create_room()
    async with service({"g": [room, other]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        group = await idp.create_group("G", [person], externalId="g")
        await room_holds(admin, room, {f"{tag}ann"})
        await room_holds(admin, other, {f"{tag}ann"})
        await process.stop()
        process.group_map = f'{{"g": ["{other}"]}}'
        await process.start()
        await idp.remove(group, person)
        await room_holds(admin, other, set())
        await settled(idp)
        assert await admin.members(room) == {"scim-bot", f"{tag}ann"}


async def test_sighup_reads_the_map_again(
    admin: User, service: StartService, tag: str, tmp_path: Path
) -> None:
    """Also where size and time do not tell that it changed: whoever is in the group is joined."""
    room = await admin.create_room()
    file, other = tmp_path / "map.json", tmp_path / "other.json"
    other.write_text(f'{{"displayName:G": ["{room}"]}}')
    size, time = other.stat().st_size, other.stat().st_mtime_ns
    file.write_text("{}".ljust(size))
    os.utime(file, ns=(time, time))
    async with service({}, GROUP_MAP_FILE=str(file)) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        await idp.create_group("G", [person], externalId="g")
        other.replace(file)
        assert process.process is not None
        process.process.send_signal(signal.SIGHUP)
        await room_holds(admin, room, {f"{tag}ann"})


async def test_a_killed_service_finishes_after_its_restart(
    admin: User, service: StartService, tag: str
) -> None:
    """SIGKILL in the middle loses nothing that was acknowledged."""
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        people = [await idp.create_user(f"{tag}p{n}") for n in range(12)]
        group = await idp.create_group("G", people[:6], externalId="g")
        await idp.add(group, *people[6:])
        await idp.remove(group, *people[:3])
        await process.stop(signal.SIGKILL)
        await process.start()
        await room_holds(admin, room, {f"{tag}p{n}" for n in range(3, 12)})


async def test_a_homeserver_that_is_away_delays_nothing_but_the_rooms(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """With Synapse stopped requests are acknowledged; everything arrives once it is back."""
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        early = await idp.create_user(f"{tag}early")
        group = await idp.create_group("G", [early], externalId="g")
        await room_holds(admin, room, {f"{tag}early"})
        await synapse.stop()
        try:
            late = await idp.create_user(f"{tag}late")
            await idp.add(group, late)
            await idp.remove(group, early)
        finally:
            await synapse.start()
        await room_holds(admin, room, {f"{tag}late"})


async def test_sigterm_ends_the_service_within_ten_seconds(
    admin: User, service: StartService, tag: str
) -> None:
    """A drain in the middle of work exits with 0."""
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        people = [await idp.create_user(f"{tag}p{n}") for n in range(6)]
        await idp.create_group("G", people, externalId="g")
        async with asyncio.timeout(10):
            assert await process.stop() == 0


def localpart(user_id: str) -> str:
    """Return the localpart of a user ID."""
    return user_id[1:].partition(":")[0]


@pytest.mark.parametrize("idp_name", ["authentik", "entra", "okta"])
async def test_conversations_of_identity_providers(
    admin: User, service: StartService, idp_name: str
) -> None:
    """Each provider gets the answers it needs to go on, and rooms and accounts follow."""
    conversation = load(idp_name)
    room = await admin.create_room()
    async with service({key: [room] for key in conversation["map"]}) as process:

        async def rooms_are(expected: dict[str, list[str]]) -> None:
            for localparts in expected.values():
                await room_holds(admin, room, set(localparts))

        idp = ScimClient(process.url)
        await replay(conversation, idp, rooms_are)
        await settled(idp)
        accounts = {line["id"]: line["account"] for line in await told(process, "users")}
        users = (await idp.ok("GET", "/Users?count=100"))["Resources"]
        made = {e["user_id"] for e in await logged(process) if e["kind"] == "create"}
        assert made >= set(accounts.values())
        for gone in made - set(accounts.values()):
            assert (await account(admin, localpart(gone)))["locked"]
        for user in users:
            found = await account(admin, localpart(accounts[user["id"]]))
            assert (found["locked"], found["deactivated"]) == (not user.get("active", True), False)
            links = {x["auth_provider"]: x["external_id"] for x in found["external_ids"]}
            assert links.get(IDP) == user.get("externalId")
            emails = {threepid["address"] for threepid in found["threepids"]}
            assert emails == {email["value"].lower() for email in user.get("emails", ())}
