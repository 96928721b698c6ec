"""Whose account a user gets; an account that is somebody else's is never touched."""

import asyncio
import shutil
import signal
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
import pytest

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import IDP, Synapse, User
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    account,
    at_rest,
    command,
    compared,
    group_of,
    levels,
    logged,
    metric,
    mxid,
    ready,
    room_holds,
    set_account,
    set_level,
    settled,
    shown,
    shown_with_cure,
    told,
)
from tests.synapse.proxy import Proxy, proxying

MARK = "scim-matrix"
GRACES = pytest.mark.parametrize("grace", ["7d", "0"])


def email(*addresses: str) -> list[dict[str, str]]:
    """Return e-mail addresses as SCIM writes them."""
    return [{"value": address} for address in addresses]


def replace(**values: Any) -> dict[str, Any]:
    """Return the operation that replaces these attributes."""
    return {"op": "replace", "value": values}


async def conflicting(service: Service, name: str) -> dict[str, Any]:
    """Wait until a user is shown in conflict, with reason and cure; return the line."""
    line = await shown_with_cure(service, "users", name, state="conflict", account=None)
    work = (await ready(ScimClient(service.url)))["work"]
    assert work["conflictingAccounts"] >= 1
    return line


async def disabled(admin: User, name: str, how: str) -> dict[str, Any]:
    """Wait until an account is locked or deactivated; return what it is then."""
    return await eventually(lambda: account(admin, name), lambda seen: bool(seen[how]))


async def signed_in_by_password(admin: User, name: str) -> User:
    """Return somebody signed in on a device of their own, as a person is."""
    path = f"/_synapse/admin/v2/users/{mxid(name)}"
    await admin.call("PUT", path, {"password": "correct horse battery", "logout_devices": False})
    answer = await admin.call(
        "POST",
        "/_matrix/client/v3/login",
        {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": name},
            "password": "correct horse battery",
        },
    )
    return User(admin.url, mxid(name), answer["access_token"])


async def exists(admin: User, name: str) -> bool:
    """Tell whether there is an account of this name."""
    try:
        await account(admin, name)
    except aiohttp.ClientResponseError:
        return False
    return True


async def emails_of(admin: User, name: str) -> set[str]:
    """Return the e-mail addresses of an account."""
    return {threepid["address"] for threepid in (await account(admin, name))["threepids"]}


async def links_of(admin: User, name: str, provider: str = IDP) -> set[str]:
    """Return the external IDs that an account has at a provider."""
    links = (await account(admin, name))["external_ids"]
    return {link["external_id"] for link in links if link["auth_provider"] == provider}


def link(provider: str, external_id: str) -> dict[str, str]:
    """Return a link as the admin API writes it."""
    return {"auth_provider": provider, "external_id": external_id}


# -- Former accounts ----------------------------------------------------------


@GRACES
async def test_a_user_name_that_comes_again_brings_nothing_of_its_former_owner(
    admin: User, service: StartService, tag: str, grace: str
) -> None:
    """The next person of a user name gets neither the former account nor its sessions."""
    name = f"{tag}jsmith"
    room = await admin.create_room()
    async with service({"g": [room]}, DELETE_GRACE=grace) as process:
        idp = ScimClient(process.url)
        old = await idp.create_user(name, externalId=f"{tag}old", displayName="John Smith")
        await settled(idp)
        session = await signed_in_by_password(admin, name)
        await idp.ok("DELETE", f"/Users/{old}")
        before = await disabled(admin, name, "locked" if grace == "7d" else "deactivated")

        emails = email(f"{tag}jane@example.org")
        new = await idp.create_user(
            name, externalId=f"{tag}new", displayName="Jane Smith", emails=emails
        )
        await idp.create_group("G", [new], externalId="g")
        await at_rest(idp)

        assert await account(admin, name) == before
        with pytest.raises(aiohttp.ClientResponseError, match="401"):
            await session.call("GET", "/_matrix/client/v3/account/whoami")
        await compared(process)
        assert await account(admin, name) == before
        assert await admin.members(room) == {"scim-bot"}
        await conflicting(process, name)


@GRACES
async def test_a_former_account_goes_back_to_its_subject(
    admin: User, service: StartService, tag: str, grace: str
) -> None:
    """Whoever comes back finds account, profile, e-mail and rooms again, whatever the name now."""
    room = await admin.create_room()
    name, again = f"{tag}ann", f"{tag}married"
    same = {
        "externalId": f"{tag}subject",
        "displayName": "Ann",
        "emails": email(f"{tag}ann@example.org"),
    }
    async with service({"g": [room]}, DELETE_GRACE=grace) as process:
        idp = ScimClient(process.url)
        first = await idp.create_user(name, **same)
        group = await idp.create_group("G", [first], externalId="g")
        await room_holds(admin, room, {name})
        before = await account(admin, name)
        await idp.ok("DELETE", f"/Users/{first}")
        await disabled(admin, name, "locked" if grace == "7d" else "deactivated")
        await room_holds(admin, room, set())

        await idp.add(group, await idp.create_user(again, **same))

        await room_holds(admin, room, {name})
        await settled(idp)
        now = await account(admin, name)
        assert (now["locked"], now["deactivated"]) == (False, False)
        assert now["displayname"] == before["displayname"] == "Ann"
        assert await emails_of(admin, name) == {f"{tag}ann@example.org"}
        assert await links_of(admin, name) == {f"{tag}subject"}
        assert not await exists(admin, again)
        line = await shown(process, "users", again, state="active", account=mxid(name))
        assert line["problem"] is None


async def test_a_former_account_without_a_subject_goes_to_nobody_else(
    admin: User, service: StartService, tag: str
) -> None:
    """Where nothing tells two people of one name apart, the second one gets nothing."""
    name = f"{tag}ann"
    async with service({}) as process:
        idp = ScimClient(process.url)
        first = await idp.create_user(name, externalId=None)
        await settled(idp)
        await idp.ok("DELETE", f"/Users/{first}")
        before = await disabled(admin, name, "locked")

        await idp.create_user(name, externalId=None, displayName="Another Ann")

        await at_rest(idp)
        assert await account(admin, name) == before
        await conflicting(process, name)


# -- Users without an account -------------------------------------------------


async def test_a_name_registered_while_its_user_was_inactive_stays_its_owners(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A user stored inactive has no claim on the account that somebody registers meanwhile."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name, active=False, displayName="Impostor")
        await idp.create_group("G", [person], externalId="g")
        await settled(idp)
        assert not await exists(admin, name)
        await synapse.register(name)
        before = await account(admin, name)

        await idp.patch(f"/Users/{person}", replace(active=True))

        await at_rest(idp)
        assert await account(admin, name) == before
        await compared(process)
        assert await account(admin, name) == before
        assert await admin.members(room) == {"scim-bot"}
        await conflicting(process, name)


async def test_a_user_stored_inactive_gets_an_account_once_active(
    admin: User, service: StartService, tag: str
) -> None:
    """Until then there is none, and that is shown."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name, active=False)
        await idp.create_group("G", [person], externalId="g")
        await settled(idp)
        assert not await exists(admin, name)
        await shown(process, "users", name, state="none", account=None)
        await idp.patch(f"/Users/{person}", replace(active=True))
        await room_holds(admin, room, {name})
        await shown(process, "users", name, state="active", bound="made", account=mxid(name))


# -- Conflicts ----------------------------------------------------------------


async def test_a_conflict_touches_nothing(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """An account made by hand is not kicked, given power, changed or locked for its namesake."""
    name = f"{tag}boss"
    room, other = await admin.create_room(), await admin.create_room()
    await synapse.register(name)
    await admin.call("POST", f"/_synapse/admin/v1/join/{room}", {"user_id": mxid(name)})
    before = await account(admin, name)
    entries = [{"room": room, "powerLevel": 50}, other]
    async with service({"g": entries}) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, name, f"{tag}ann")
        await room_holds(admin, room, {name, f"{tag}ann"})
        await at_rest(idp)
        assert await levels(admin, room) == {f"{tag}ann": 50}
        await compared(process)
        assert await levels(admin, room) == {f"{tag}ann": 50}
        assert await admin.members(other) == {"scim-bot", f"{tag}ann"}
        await conflicting(process, name)

        await idp.remove(group, *people.values())
        await room_holds(admin, room, {name})
        await at_rest(idp)
        await idp.patch(f"/Users/{people[name]}", replace(active=False))
        await at_rest(idp)
        await idp.ok("DELETE", f"/Users/{people[name]}")
        await compared(process)
        assert name in await admin.members(room)
        assert await account(admin, name) == before


async def test_the_power_that_a_conflicting_account_has_by_hand_stays(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A group's power level coming and going neither raises nor lowers it."""
    name = f"{tag}mod"
    room = await admin.create_room()
    await synapse.register(name)
    await admin.call("POST", f"/_synapse/admin/v1/join/{room}", {"user_id": mxid(name)})
    await set_level(admin, room, mxid(name), 40)
    async with service({"g": [{"room": room, "powerLevel": 60}]}) as process:
        idp = ScimClient(process.url)
        group, _ = await group_of(idp, name, f"{tag}ann")
        await eventually(
            lambda: levels(admin, room), lambda seen: seen == {name: 40, f"{tag}ann": 60}
        )
        await at_rest(idp)
        await idp.ok("DELETE", f"/Groups/{group}")
        await eventually(lambda: levels(admin, room), lambda seen: seen == {name: 40})
        await compared(process)
        assert await levels(admin, room) == {name: 40}
        assert name in await admin.members(room)
        await conflicting(process, name)


async def test_nobody_gets_the_services_own_account(
    admin: User, service: StartService, tag: str
) -> None:
    """A user named like it conflicts, even where existing accounts may be adopted."""
    before = await account(admin, "scim-bot")
    room = await admin.create_room()
    async with service({"g": [room]}, ADOPT_EXISTING_ACCOUNTS="true") as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, "scim-bot", f"{tag}ann")
        await room_holds(admin, room, {f"{tag}ann"})
        await idp.patch(f"/Users/{people['scim-bot']}", replace(active=False))
        await idp.remove(group, people["scim-bot"])
        await compared(process)
        assert await account(admin, "scim-bot") == before
        assert "scim-bot" in await admin.members(room)
        await conflicting(process, "scim-bot")


async def test_every_place_shows_a_conflict(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Status, metrics and record tell of it; the account is only named as what is in the way."""
    name = f"{tag}boss"
    await synapse.register(name)
    async with service({}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(name)
        line = await conflicting(process, name)
        assert mxid(name) in line["problem"]
        [summary] = await told(process, "status")
        assert summary["conflictingAccounts"] == 1
        [row] = [row for row in summary["work"] if row["state"] == "conflict"]
        assert row["reason"]
        assert row["cure"]
        assert await metric(process, "scim_matrix_accounts_conflicting") == 1
        assert any(mxid(name) in str(entry) for entry in await logged(process))


# -- A human settles it -------------------------------------------------------


async def test_a_human_links_a_conflicting_user_and_unlinks_again(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """The account is the user's from then on, until somebody says otherwise; both are recorded."""
    name, mine = f"{tag}boss", f"{tag}boss-account"
    room = await admin.create_room()
    await synapse.register(name)
    await synapse.register(mine)
    taken = await account(admin, name)
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        await group_of(idp, name)
        await conflicting(process, name)

        words = ("users", "link", name, mxid(mine), "--by", "Grace")
        status, output = await command(process, *words)
        assert status == 0, output
        await room_holds(admin, room, {mine})
        await shown(process, "users", name, state="active", bound="human", account=mxid(mine))
        assert await links_of(admin, mine) == {f"ext-{name}"}
        [entry] = [e for e in await logged(process) if e["kind"] == "link"]
        assert (entry["outcome"], entry["by"], entry["user_id"]) == ("asked", "Grace", mxid(mine))

        status, output = await command(process, "users", "unlink", name, "--by", "Heidi")
        assert status == 0, output
        await conflicting(process, name)
        # The conflict shows at once; the account is brought in line after it.
        await eventually(lambda: links_of(admin, mine), lambda links: links == set())
        [entry] = [e for e in await logged(process) if e["kind"] == "unlink"]
        assert (entry["outcome"], entry["by"]) == ("asked", "Heidi")
        assert (await account(admin, mine))["locked"] is False
        assert await account(admin, name) == taken


async def test_a_human_gives_nobody_another_users_account(
    admin: User, service: StartService, tag: str
) -> None:
    """Linking is refused where the account is a user's, the service's own or not here."""
    async with service({}) as process:
        idp = ScimClient(process.url)
        for name in ("ann", "bob"):
            await idp.create_user(f"{tag}{name}")
        await settled(idp)
        before = await account(admin, f"{tag}bob")
        for target in (f"{tag}bob", "scim-bot", f"{tag}nobody"):
            status, output = await command(process, "users", "link", f"{tag}ann", mxid(target))
            assert status == 1, output
            assert mxid(target) in output
        foreign = ("users", "link", f"{tag}ann", "@somebody:other.test")
        status, output = await command(process, *foreign)
        assert (status, "another server than demo.test" in output) == (1, True)
        await compared(process)
        assert await account(admin, f"{tag}bob") == before
        await shown(process, "users", f"{tag}ann", state="active", account=mxid(f"{tag}ann"))


SOMEBODYS: dict[str, dict[str, Any]] = {
    "linked to another identity": {"external_ids": [link(IDP, "somebody-elses")]},
    "made for another user": {"external_ids": [link(MARK, "a-scim-id")]},
    "an administrator": {"admin": True},
    "deactivated": {"deactivated": True},
}


@pytest.mark.parametrize("what", SOMEBODYS)
async def test_adoption_takes_no_account_that_is_somebodys(
    synapse: Synapse, admin: User, service: StartService, tag: str, what: str
) -> None:
    """With ADOPT_EXISTING_ACCOUNTS linked, deactivated and administrators' accounts conflict."""
    name = f"{tag}ann"
    room = await admin.create_room()
    await synapse.register(name)
    await set_account(admin, name, **SOMEBODYS[what])
    before = await account(admin, name)
    async with service({"g": [room]}, ADOPT_EXISTING_ACCOUNTS="true") as process:
        idp = ScimClient(process.url)
        await group_of(idp, name, f"{tag}bob")
        await room_holds(admin, room, {f"{tag}bob"})
        await compared(process)
        assert await account(admin, name) == before
        assert await admin.members(room) == {"scim-bot", f"{tag}bob"}
        await conflicting(process, name)


async def test_adoption_takes_an_account_that_is_linked_to_nobody(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """With ADOPT_EXISTING_ACCOUNTS it becomes the user's, linked and marked."""
    name = f"{tag}ann"
    room = await admin.create_room()
    await synapse.register(name)
    async with service({"g": [room]}, ADOPT_EXISTING_ACCOUNTS="true") as process:
        _, people = await group_of(ScimClient(process.url), name)
        await room_holds(admin, room, {name})
        await shown(process, "users", name, state="active", bound="adopted", account=mxid(name))
        assert await links_of(admin, name) == {f"ext-{name}"}
        assert await links_of(admin, name, MARK) == {people[name]}


# -- E-mails and names --------------------------------------------------------


@pytest.mark.parametrize("who", ["somebody", "vip", "root"])
async def test_an_address_that_another_account_has_stays_there(
    synapse: Synapse, admin: User, service: StartService, tag: str, who: str
) -> None:
    """The user gets an account without it, whether it came at once or later, and that is shown."""
    victim, address = f"{tag}{who}", f"{tag}{who}@example.org"
    await synapse.register(victim, admin=who == "root")
    threepid = {"medium": "email", "address": address}
    await set_account(admin, victim, threepids=[threepid])
    before = await account(admin, victim)
    async with service({}, PROTECTED_USERS=f"@{tag}vip:*") as process:
        idp = ScimClient(process.url)
        own = f"{tag}own@example.org"
        await idp.create_user(f"{tag}thief", emails=email(address.upper(), own))
        later = await idp.create_user(f"{tag}late")
        await settled(idp)
        await idp.patch(f"/Users/{later}", replace(emails=email(address), displayName="Late"))
        await at_rest(idp)

        assert await account(admin, victim) == before
        assert await emails_of(admin, f"{tag}thief") == {own}
        assert await emails_of(admin, f"{tag}late") == set()
        assert (await account(admin, f"{tag}late"))["displayname"] == "Late"
        for name in ("thief", "late"):
            line = await shown(process, "users", f"{tag}{name}", state="active")
            assert address in str(line["notice"])


async def test_an_address_of_two_users_stays_with_the_first(
    admin: User, service: StartService, tag: str
) -> None:
    """The identity provider naming it twice does not move it."""
    address = f"{tag}shared@example.org"
    async with service({}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann", emails=email(address))
        await settled(idp)
        await idp.create_user(f"{tag}bob", emails=email(address))
        await at_rest(idp)
        assert await emails_of(admin, f"{tag}ann") == {address}
        assert await emails_of(admin, f"{tag}bob") == set()
        line = await shown(process, "users", f"{tag}bob", state="active")
        assert address in str(line["notice"])


async def test_an_address_that_its_holder_gave_up_is_given(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """The next comparison finds that out, though the identity provider says nothing anew."""
    address = f"{tag}freed@example.org"
    await synapse.register(f"{tag}old")
    await set_account(admin, f"{tag}old", threepids=[{"medium": "email", "address": address}])
    async with service({}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann", emails=email(address))
        await settled(idp)
        assert await emails_of(admin, f"{tag}ann") == set()
        await set_account(admin, f"{tag}old", threepids=[])
        await command(process, "sync", "--no-wait")
        await eventually(lambda: emails_of(admin, f"{tag}ann"), lambda seen: seen == {address})
        await shown(process, "users", f"{tag}ann", state="active", notice=None)


MALFORMED = {
    "no address": "not an address",
    "two signs": "a@b@example.org",
    "no domain": "ann@",
    "too long": "x" * 600 + "@example.org",
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_address_is_left_out(
    admin: User, service: StartService, tag: str, what: str
) -> None:
    """The account is made and joined all the same, with its good address; it is shown."""
    name, good = f"{tag}ann", f"{tag}ann@example.org"
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name, emails=email(MALFORMED[what], good))
        await idp.create_group("G", [person], externalId="g")
        await room_holds(admin, room, {name})
        assert await emails_of(admin, name) == {good}
        line = await shown(process, "users", name, state="active")
        assert MALFORMED[what][:30] in str(line["notice"])


async def test_a_display_name_that_is_too_long_keeps_nobody_out(
    admin: User, service: StartService, tag: str
) -> None:
    """The account is made without it, which is shown until there is a better one."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name, displayName="x" * 300)
        await idp.create_group("G", [person], externalId="g")
        await room_holds(admin, room, {name})
        assert "name" in str((await shown(process, "users", name, state="active"))["notice"])

        await idp.patch(f"/Users/{person}", replace(displayName="Ann"))
        await settled(idp)
        assert (await account(admin, name))["displayname"] == "Ann"
        assert not (await shown(process, "users", name, state="active"))["notice"]

        await idp.patch(f"/Users/{person}", replace(displayName="y" * 300))
        await at_rest(idp)
        assert (await account(admin, name))["displayname"] != "y" * 300
        assert "name" in str((await shown(process, "users", name, state="active"))["notice"])


# -- One subject, one account -------------------------------------------------


@pytest.mark.parametrize("how", ["POST", "POST inactive", "PUT", "PATCH"])
@pytest.mark.parametrize("attribute", ["externalId", "nickName"])
async def test_two_users_of_one_subject_are_refused(
    admin: User, service: StartService, tag: str, attribute: str, how: str
) -> None:
    """409 names the attribute, and the first one's account is as it was."""
    subject = {attribute: f"{tag}subject"}
    async with service({}, SSO_SUBJECT_ATTRIBUTE=attribute) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann", displayName="Ann", **subject)
        other = await idp.create_user(f"{tag}bob", **{attribute: f"{tag}other"})
        await settled(idp)
        before = await account(admin, f"{tag}ann")
        assert {x["external_id"] for x in before["external_ids"]} >= {f"{tag}subject"}

        wanted = {"displayName": "Thief", "emails": email(f"{tag}thief@example.org"), **subject}
        bob = {"userName": f"{tag}bob", "externalId": f"{tag}other", **wanted}
        new = {"userName": f"{tag}cat", "externalId": f"ext-{tag}cat", **wanted}
        status, answer = await {
            "POST": lambda: idp.call("POST", "/Users", new),
            "POST inactive": lambda: idp.call("POST", "/Users", {**new, "active": False}),
            "PUT": lambda: idp.call("PUT", f"/Users/{other}", bob),
            "PATCH": lambda: idp.call(
                "PATCH", f"/Users/{other}", {"Operations": [replace(**wanted)]}
            ),
        }[how]()

        assert status == 409, answer
        assert answer["scimType"] == "uniqueness"
        assert attribute in answer["detail"]
        await settled(idp)
        assert await account(admin, f"{tag}ann") == before
        assert await links_of(admin, f"{tag}bob") == {f"{tag}other"}


@pytest.mark.parametrize("second", ["Ann", "ann@x"])
async def test_two_users_of_one_localpart_are_refused(
    admin: User, service: StartService, tag: str, second: str
) -> None:
    """409 names userName while the first one exists, whose account is as it was."""
    name = f"{tag}ann"
    async with service({}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{name}@example.org", displayName="Ann")
        await settled(idp)
        before = await account(admin, name)
        body = {"userName": tag + second, "externalId": f"{tag}other", "displayName": "Thief"}
        for active in (True, False):
            status, answer = await idp.call("POST", "/Users", {**body, "active": active})
            assert status == 409, answer
            assert answer["scimType"] == "uniqueness"
            assert "userName" in answer["detail"]
        await settled(idp)
        assert await account(admin, name) == before


async def test_an_account_that_leads_elsewhere_by_now_is_not_linked_again(
    admin: User, service: StartService, tag: str
) -> None:
    """Where a hand has given it to another identity, the user's does not lead to it beside that."""
    name = f"{tag}ann"
    async with service({}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        marks = [link(MARK, mark) for mark in await links_of(admin, name, MARK)]
        await set_account(admin, name, external_ids=[*marks, link(IDP, f"{tag}heir")])
        await idp.patch(f"/Users/{person}", replace(displayName="Ann"))
        told = {"problem": f"another SSO identity than the user's leads to {mxid(name)} by now"}
        await shown_with_cure(process, "users", name, **told)
        assert await links_of(admin, name) == {f"{tag}heir"}
        await command(process, "users", "link", person, mxid(name))
        await settled(idp)
        assert await links_of(admin, name) == {f"{tag}heir", f"ext-{name}"}


async def test_swapped_external_ids_end_right(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Two users exchange their subjects while the homeserver is away; each account follows."""
    ann, bob = f"{tag}ann", f"{tag}bob"
    async with (
        proxying(synapse.url) as proxy,
        service({}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        people = {name: await idp.create_user(name) for name in (ann, bob)}
        await settled(idp)
        proxy.dark = True
        await idp.patch(f"/Users/{people[ann]}", replace(externalId=f"{tag}meanwhile"))
        await idp.patch(f"/Users/{people[bob]}", replace(externalId=f"ext-{ann}"))
        await idp.patch(f"/Users/{people[ann]}", replace(externalId=f"ext-{bob}"))
        proxy.dark = False
        await settled(idp)
        assert await links_of(admin, ann) == {f"ext-{bob}"}
        assert await links_of(admin, bob) == {f"ext-{ann}"}
        for name in (ann, bob):
            assert (await account(admin, name))["displayname"] == name
            await shown(process, "users", name, state="active", account=mxid(name))


# -- Lost answers, lost databases ---------------------------------------------


def lose_answer_to_creation(proxy: Proxy, name: str) -> asyncio.Event:
    """Let an account be made without an answer, and nothing more; return what says so."""
    made = asyncio.Event()

    def lost(method: str, path: str) -> bool:
        if method != "PUT" or f"/v2/users/{mxid(name)}" not in unquote(path) or made.is_set():
            return False
        proxy.dark = True
        made.set()
        return True

    proxy.lost = lost
    return made


@pytest.mark.parametrize("end", [None, signal.SIGKILL])
async def test_an_account_whose_creation_was_not_answered_is_found(
    synapse: Synapse, admin: User, service: StartService, tag: str, end: int | None
) -> None:
    """Also without a subject, and after a crash: the homeserver itself says for whom it is."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        await settled(idp)
        made = lose_answer_to_creation(proxy, name)
        person = await idp.create_user(name, externalId=None)
        await idp.create_group("G", [person], externalId="g")
        await made.wait()
        if end is not None:
            await process.stop(end)
        proxy.dark = False
        if end is not None:
            await process.start()
        await room_holds(admin, room, {name})
        await settled(idp)
        assert await links_of(admin, name, MARK) == {person}
        await shown(process, "users", name, state="active", bound="mark", account=mxid(name))


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_whoever_goes_before_the_answer_to_their_creation_is_locked(
    synapse: Synapse, admin: User, service: StartService, tag: str, how: str
) -> None:
    """The identity provider taking its word back leaves no account behind that nobody knows of."""
    name = f"{tag}ann"
    async with (
        proxying(synapse.url) as proxy,
        service({}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        await settled(idp)
        made = lose_answer_to_creation(proxy, name)
        person = await idp.create_user(name)
        await made.wait()
        if how == "disabled":
            await idp.patch(f"/Users/{person}", replace(active=False))
        else:
            await idp.ok("DELETE", f"/Users/{person}")
        proxy.dark = False
        await disabled(admin, name, "locked")
        await settled(idp)


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_whoever_goes_while_their_account_is_looked_for_gets_none(
    synapse: Synapse, admin: User, service: StartService, tag: str, how: str
) -> None:
    """Nothing is made for them, and nothing of theirs is taken for whoever comes next."""
    name, bob = f"{tag}ann", f"{tag}bob"
    async with (
        proxying(synapse.url) as proxy,
        service({}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        await settled(idp)
        looked, gone = proxy.hold(lambda method, path: f"ext-{name}" in path)
        person = await idp.create_user(name)
        await looked.wait()
        if how == "disabled":
            await idp.patch(f"/Users/{person}", replace(active=False))
        else:
            await idp.ok("DELETE", f"/Users/{person}")
        # Whoever comes after them has an account of their own: theirs would be there too by now.
        await idp.create_user(bob)
        gone.set()
        await shown(process, "users", bob, state="active", account=mxid(bob))
        with pytest.raises(aiohttp.ClientResponseError, match="404"):
            await account(admin, name)


async def test_what_a_human_says_while_an_account_is_looked_for_counts(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """No account is made for somebody whom a human links to another one meanwhile."""
    name, other = f"{tag}ann", f"{tag}other"
    await synapse.register(other)
    async with (
        proxying(synapse.url) as proxy,
        service({}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        await settled(idp)
        looked, told_so = proxy.hold(lambda method, path: f"ext-{name}" in path)
        await idp.create_user(name)
        await looked.wait()
        status, output = await command(process, "users", "link", name, mxid(other))
        assert status == 0, output
        told_so.set()
        await settled(idp)
        await shown(process, "users", name, state="active", bound="human", account=mxid(other))
        with pytest.raises(aiohttp.ClientResponseError, match="404"):
            await account(admin, name)


async def test_an_account_made_after_the_backup_is_found(
    synapse: Synapse, admin: User, service: StartService, tag: str, tmp_path: Path
) -> None:
    """A database that does not know of it finds the user's account by its mark."""
    name = f"{tag}ann"
    room = await admin.create_room()
    copy = tmp_path / "copy.sqlite3"
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        await settled(idp)
        proxy.dark = True
        person = await idp.create_user(name, externalId=None)
        group = await idp.create_group("G", [person], externalId="g")
        status, output = await command(process, "backup", str(copy))
        assert status == 0, output
        proxy.dark = False
        await room_holds(admin, room, {name})
        await process.stop()
        status, output = await command(process, "restore", "--yes", str(copy))
        assert status == 0, output
        await process.start()
        await shown(process, "users", name, state="active", bound="mark", account=mxid(name))
        await idp.remove(group, person)
        await room_holds(admin, room, set())


async def test_a_lost_database_changes_no_account_that_has_a_subject(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """The identity provider says everything again, and everybody has the account they had."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with staffed(room, name) as s:
        before = await account(admin, name)
        await s.process.stop()
        await asyncio.to_thread(shutil.rmtree, s.process.data_dir)
        await s.process.start()

        group, people = await group_of(s.idp, name)

        await shown(s.process, "users", name, state="active", bound="link", account=mxid(name))
        await settled(s.idp)
        now = await account(admin, name)
        assert {**now, "external_ids": None} == {**before, "external_ids": None}
        assert await links_of(admin, name) == {f"ext-{name}"}
        await s.idp.remove(group, people[name])
        await room_holds(admin, room, set())


async def test_a_lost_database_gives_nobody_an_account_that_nothing_proves_theirs(
    admin: User, service: StartService, tag: str
) -> None:
    """Without a subject the user of the same name may be another one: a human decides."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(name, externalId=None, displayName="Ann")
        await settled(idp)
        before = await account(admin, name)
        await process.stop()
        await asyncio.to_thread(shutil.rmtree, process.data_dir)
        await process.start()

        again = await idp.create_user(name, externalId=None, displayName="Ann Other")
        await idp.create_group("G", [again], externalId="g")
        await at_rest(idp)
        assert await account(admin, name) == before
        await conflicting(process, name)
        assert await admin.members(room) == {"scim-bot"}

        status, output = await command(process, "users", "link", again, mxid(name))
        assert status == 0, output
        await room_holds(admin, room, {name})
        assert await links_of(admin, name, MARK) == {again}


# -- What a hand did stays ----------------------------------------------------


async def by_hand(admin: User, how: str, name: str) -> None:
    """Lock, suspend or deactivate an account on the homeserver."""
    user = quote(mxid(name), safe="")
    if how == "locked":
        await set_account(admin, name, locked=True)
    elif how == "suspended":
        await admin.call("PUT", f"/_synapse/admin/v1/suspend/{user}", {"suspend": True})
    else:
        await admin.call("POST", f"/_synapse/admin/v1/deactivate/{user}", {})


@pytest.mark.parametrize("how", ["locked", "suspended", "deactivated"])
async def test_what_a_hand_disabled_only_a_hand_enables(
    admin: User, service: StartService, tag: str, how: str
) -> None:
    """No change of the profile, no comparison and no return of the user undoes it; it is shown."""
    name = f"{tag}ann"
    async with service({}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name, displayName="Ann")
        await settled(idp)
        await by_hand(admin, how, name)

        emails = email(f"{tag}new@example.org")
        await idp.patch(f"/Users/{person}", replace(displayName="Ann Other", emails=emails))
        await at_rest(idp)
        assert (await account(admin, name))[how]
        for active in (False, True):
            await idp.patch(f"/Users/{person}", replace(active=active))
            await at_rest(idp)
        assert (await account(admin, name))[how]
        await compared(process)
        assert (await account(admin, name))[how]
        line = await shown(process, "users", name, account=mxid(name))
        assert line["problem"] or line["notice"], line


async def test_an_account_deactivated_by_hand_is_not_joined(
    admin: User, service: StartService, tag: str
) -> None:
    """Its user's groups open rooms for it again when a hand has reactivated it."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        await by_hand(admin, "deactivated", name)
        # The service knows it from the next comparison on: asking before each join would double
        # its requests.
        await compared(process)
        other = await idp.create_user(f"{tag}bob")
        await idp.create_group("G", [person, other], externalId="g")
        await room_holds(admin, room, {f"{tag}bob"})
        await compared(process)
        assert await admin.members(room) == {"scim-bot", f"{tag}bob"}
        assert (await account(admin, name))["deactivated"]
        await shown_with_cure(process, "users", name, account=mxid(name))

        await set_account(admin, name, deactivated=False)
        await compared(process)
        await room_holds(admin, room, {name, f"{tag}bob"})


async def test_what_the_service_locked_it_unlocks_but_not_a_lock_by_hand_before(
    admin: User, service: StartService, tag: str
) -> None:
    """Of two users who come back, the one locked by hand meanwhile is not unlocked."""
    names = (f"{tag}ann", f"{tag}bob")
    async with service({}) as process:
        idp = ScimClient(process.url)
        people = [await idp.create_user(name) for name in names]
        await settled(idp)
        await by_hand(admin, "locked", names[1])
        for active in (False, True):
            for person in people:
                await idp.patch(f"/Users/{person}", replace(active=active))
            await at_rest(idp)
            assert [(await account(admin, name))["locked"] for name in names] == [not active, True]


# -- Names that are hard to write in a path -----------------------------------

HARD = ("a/b", "x/../y", "a?b#c", "a%2Fb", "ä ö")


@pytest.mark.parametrize("hard", HARD)
async def test_any_user_name_gets_its_account(
    synapse: Synapse, admin: User, service: StartService, tag: str, hard: str
) -> None:
    """It is made, renamed, joined, kicked and locked; a namesake of a part of it is left alone."""
    for part in ("y", "b"):
        if not await exists(admin, part):
            await synapse.register(part)
    before = [await account(admin, part) for part in ("y", "b")]
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, tag + hard)
        [person] = people.values()
        await settled(idp)
        line = await shown(process, "users", tag + hard, state="active", bound="made")
        name = line["account"][1:].split(":")[0]
        assert name.startswith(tag)
        await room_holds(admin, room, {name})
        await idp.patch(f"/Users/{person}", replace(displayName="Other"))
        await settled(idp)
        assert (await account(admin, name))["displayname"] == "Other"
        await idp.remove(group, person)
        await room_holds(admin, room, set())
        await idp.patch(f"/Users/{person}", replace(active=False))
        await settled(idp)
        assert (await account(admin, name))["locked"] is True
    assert [await account(admin, part) for part in ("y", "b")] == before


async def test_any_external_id_finds_its_account(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """The account linked to it is the user's, whatever characters it holds."""
    async with service({}) as process:
        idp = ScimClient(process.url)
        for number, hard in enumerate(HARD):
            subject = f"{tag}/../{hard}"
            await synapse.register(f"{tag}old{number}")
            await set_account(admin, f"{tag}old{number}", external_ids=[link(IDP, subject)])
            await idp.create_user(f"{tag}new{number}", externalId=subject)
        await settled(idp)
        lines = {line["userName"]: line for line in await told(process, "users")}
        for number in range(len(HARD)):
            line = lines[f"{tag}new{number}"]
            assert line["account"] == mxid(f"{tag}old{number}")
            assert line["bound"] == "link"


# -- A server or a token that is not what the variables say -------------------

WRONG = "wrong.test"


async def refused(client: ScimClient, *variables: str) -> None:
    """Wait until /readyz says that the homeserver refuses, and name these variables."""
    seen = await eventually(
        lambda: ready(client), lambda seen: bool(seen["homeserver"]["condition"] == "refused")
    )
    assert seen["status"] == 503
    for variable in variables:
        assert variable in seen["homeserver"]["detail"]


async def test_a_wrong_server_name_is_refused_and_mended_without_loss(
    admin: User, service: StartService, tag: str
) -> None:
    """Probe, check and log name both variables; nobody gets an account of no server."""
    room = await admin.create_room()
    wrong = {"MATRIX_SERVER_NAME": WRONG, "MATRIX_ADMIN_USER_ID": f"@scim-bot:{WRONG}"}
    names = tuple(wrong)
    async with service({"g": [room]}, **wrong) as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann")
        await refused(idp, *names)
        status, output = await command(process, "check")
        assert status == 1
        assert all(name in output for name in names), output
        log = (process.data_dir / "service.log").read_text()
        lines = [line for line in log.splitlines() if "homeserver_refused" in line]
        assert any(all(name in line for name in names) for line in lines), log
        await process.stop()
        process.more = {}
        await process.start()
        await room_holds(admin, room, {f"{tag}ann"})
        await shown(process, "users", f"{tag}ann", state="active", account=mxid(f"{tag}ann"))


async def test_the_token_of_another_administrator_is_refused(
    synapse: Synapse, service: StartService, tag: str
) -> None:
    """What the service does is done by the account that the configuration names."""
    other = await synapse.register(f"{tag}root", admin=True)
    async with service({}, MATRIX_ADMIN_TOKEN=other.token) as process:
        await refused(ScimClient(process.url), "MATRIX_ADMIN_TOKEN", "MATRIX_ADMIN_USER_ID")
        status, output = await command(process, "check")
        assert status == 1
        assert "MATRIX_ADMIN_USER_ID" in output
