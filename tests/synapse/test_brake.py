"""Unusually many removals wait for a human; whatever else there is goes on."""

from typing import Any

import aiohttp
import pytest

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, User
from tests.conftest import eventually
from tests.synapse.conftest import StartService, command, logged, ready, room_holds, settled
from tests.synapse.steps import restarted

TIGHT = {"REMOVAL_LIMIT_COUNT": "2", "REMOVAL_LIMIT_PERCENT": "30"}


async def held(client: ScimClient, kind: str, number: int) -> None:
    """Wait until so much is held and nothing else is left to do."""
    await settled(client)
    await eventually(lambda: ready(client), lambda s: s["work"][kind] == number)


async def staff(idp: ScimClient, tag: str, number: int) -> dict[str, str]:
    """Create users and return their SCIM ids by name."""
    return {name: await idp.create_user(name) for name in (f"{tag}p{n}" for n in range(number))}


async def test_emptying_a_group_waits_for_a_human(
    admin: User, service: StartService, tag: str
) -> None:
    """Nobody leaves a room that would lose everybody; restarts, returns and decisions count."""
    room, other = await admin.create_room(), await admin.create_room()
    async with service({"g": [room], "h": [other]}, **TIGHT) as process:
        idp = ScimClient(process.url)
        people = await staff(idp, tag, 6)
        names = set(people)
        group = await idp.create_group("G", list(people.values()), externalId="g")
        first = next(iter(people))
        small = await idp.create_group("H", [people[first]], externalId="h")
        await room_holds(admin, room, names)
        await room_holds(admin, other, {first})

        await idp.ok("PUT", f"/Groups/{group}", {"displayName": "G", "externalId": "g"})
        await idp.remove(small, people[first])

        await room_holds(admin, other, set())
        await held(idp, "heldPairs", 6)
        assert await admin.members(room) - {"scim-bot"} == names

        await process.stop()
        await process.start()
        await held(idp, "heldPairs", 6)

        await idp.add(group, people[first])
        await held(idp, "heldPairs", 5)

        status, output = await command(process, "approve", room, "--by", "grace")
        assert (status, output.splitlines()[-1]) == (0, "5 approved by grace")
        await room_holds(admin, room, {first})
        assert (await command(process, "approve", room))[0] == 3
        outcomes = [e["outcome"] for e in await logged(process, "--room", room)]
        assert [outcomes.count(o) for o in ("held", "approved")] == [6, 5]
        assert outcomes.count("done") == 6 + 5


async def test_many_small_requests_count_like_one(
    admin: User, service: StartService, tag: str
) -> None:
    """The first few of many single removals go through, the rest waits; dismissed, they stay."""
    room = await admin.create_room()
    async with service({"g": [room]}, **TIGHT) as process:
        idp = ScimClient(process.url)
        people = await staff(idp, tag, 6)
        group = await idp.create_group("G", list(people.values()), externalId="g")
        await room_holds(admin, room, set(people))

        gone: list[str] = []
        for name, person in list(people.items())[:4]:
            await idp.remove(group, person)
            gone.append(name)
            if len(gone) <= 2:
                await room_holds(admin, room, set(people) - set(gone))
        await held(idp, "heldPairs", 2)
        assert await admin.members(room) - {"scim-bot"} == set(people) - set(gone[:2])

        status, output = await command(process, "dismiss", room, "--by", "grace")
        assert (status, output.splitlines()[-1]) == (0, "2 dismissed by grace")
        await held(idp, "heldPairs", 0)
        await restarted(process)
        await settled(idp)
        assert await admin.members(room) - {"scim-bot"} == set(people) - set(gone[:2])


async def test_locking_many_accounts_waits_for_a_human(
    admin: User, service: StartService, tag: str
) -> None:
    """Accounts have the same brake, over all of them; approved, they are locked."""
    limits = {"REMOVAL_LIMIT_COUNT": "1", "REMOVAL_LIMIT_PERCENT": "10"}
    async with service({}, **limits) as process:
        idp = ScimClient(process.url)
        people = await staff(idp, tag, 3)
        await settled(idp)
        for person in people.values():
            await idp.patch(f"/Users/{person}", {"op": "replace", "value": {"active": False}})
            await settled(idp)
        await held(idp, "heldAccounts", 2)

        async def locked() -> list[bool]:
            path = "/_synapse/admin/v2/users/@{}:" + SERVER_NAME
            return [(await admin.call("GET", path.format(name)))["locked"] for name in people]

        assert await locked() == [True, False, False]
        await idp.patch(
            f"/Users/{people[f'{tag}p1']}", {"op": "replace", "value": {"active": True}}
        )
        await held(idp, "heldAccounts", 1)
        assert (await command(process, "approve", "accounts"))[0] == 0
        await eventually(locked, lambda seen: seen == [True, False, True])


async def test_a_forgotten_mapping_can_be_pruned(
    admin: User, service: StartService, tag: str
) -> None:
    """Nobody leaves because the map forgot a room; `sync --prune` takes out whom it had put in."""
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        people = await staff(idp, tag, 1)
        await idp.create_group("G", list(people.values()), externalId="g")
        await room_holds(admin, room, set(people))
        await restarted(process, {})
        await settled(idp)
        assert await admin.members(room) - {"scim-bot"} == set(people)
        status, output = await command(process, "sync", "--prune")
        assert (status, output) == (0, "1 person of forgotten mappings is to leave\n")
        await room_holds(admin, room, set())


async def test_a_dry_run_changes_nothing_and_says_what_it_would(
    admin: User, service: StartService, tag: str
) -> None:
    """With DRY_RUN everything is computed and recorded, and the homeserver stays as it is."""
    room = await admin.create_room()
    async with service({"g": [room]}, DRY_RUN="true") as process:
        idp = ScimClient(process.url)
        await idp.create_group("G", [await idp.create_user(f"{tag}ann")], externalId="g")

        async def told() -> list[dict[str, Any]]:
            return await logged(process)

        entries = await eventually(told, lambda seen: len(seen) > 0)
        assert {e["outcome"] for e in entries} == {"dry_run"}
        assert entries[0]["detail"] == f"DRY_RUN: would create @{tag}ann:{SERVER_NAME}"
        assert await admin.members(room) == {"scim-bot"}
        with pytest.raises(aiohttp.ClientResponseError, match="404"):
            await admin.call("GET", f"/_synapse/admin/v2/users/@{tag}ann:{SERVER_NAME}")


async def test_the_record_tells_which_request_did_what(
    admin: User, service: StartService, tag: str
) -> None:
    """Every action names person, room, group and the SCIM request, whose id the answer showed."""
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(f"{tag}ann")
        group = await idp.create_group("Sales", [person], externalId="g")
        await room_holds(admin, room, {f"{tag}ann"})
        operation = {"op": "remove", "path": "members", "value": [{"value": person}]}
        status, _ = await idp.call(
            "PATCH",
            f"/Groups/{group}",
            {"Operations": [operation]},
            {"X-Request-ID": "request-of-the-test"},
        )
        assert status == 204
        await room_holds(admin, room, set())
        await settled(idp)
        user_id = f"@{tag}ann:{SERVER_NAME}"
        entries = await logged(process, "--user", user_id)
        assert [(e["kind"], e["outcome"], e["room_id"], e["group_name"]) for e in entries] == [
            ("create", "done", None, None),
            ("join", "done", room, "Sales"),
            ("kick", "done", room, "Sales"),
        ]
        assert entries[-1]["request"] == "request-of-the-test"
        assert all(e["request"] for e in entries)
        assert len(await logged(process, "--user", user_id, "--since", "1h")) == len(entries)
        _, text = await command(process, "log", "--room", room)
        assert "kick done" in text
