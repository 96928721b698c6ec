"""`scim-matrix why` tells stories that are true, on a real Synapse."""

import json
from typing import Any

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    at_rest,
    command,
    group_of,
    mxid,
    on_a_terminal,
    ready,
    room_holds,
    settled,
)
from tests.synapse.steps import HOLD_ALL, bring_in, compared, set_active


async def story(service: Service, *words: str) -> dict[str, list[dict[str, Any]]]:
    """Return the parts of a story by their headings."""
    status, output = await command(service, "why", "--json", *words)
    assert status == 0, output
    return {part["heading"]: part["lines"] for part in json.loads(output)["parts"]}


def text(lines: list[dict[str, Any]]) -> str:
    """Return sentences one below the other."""
    return "\n".join(line["text"] for line in lines)


async def test_a_persons_story(admin: User, service: StartService, tag: str) -> None:
    """Who they are, how the account was found, which groups lead to which rooms, what was done."""
    kitchen = await admin.create_room(name=f"{tag}Kitchen")
    lobby = await admin.create_room(name=f"{tag}Lobby")
    other = await admin.create_room(name=f"{tag}Other")
    group_map = {f"displayName:{tag}all": [kitchen], "other": [other]}
    async with service(group_map, PROTECTED_USERS=f"@{tag}a*:*") as process:
        idp = ScimClient(process.url)
        ann = await idp.create_user(f"{tag}ann", displayName="Ann Example")
        cooks = await idp.create_group(f"{tag}cooks", [ann])
        await idp.create_group(f"{tag}all", [cooks])
        await room_holds(admin, kitchen, {f"{tag}ann"})
        await bring_in(admin, other, f"{tag}ann")
        await settled(idp)
        await compared(process)
        told = await story(process, mxid(f"{tag}ann"))
        assert f"The user {tag}ann is active there: externalId ext-{tag}ann" in text(
            told["At the identity provider"]
        )
        account = text(told["Account"])
        assert f"{mxid(f'{tag}ann')}: this service made it for this very user" in account
        assert "protected by PROTECTED_USERS" in account
        assert text(told["Groups"]) == (
            f"{tag}cooks; no key of the map matches it.\n{tag}all through {tag}cooks."
        )
        [granted, by_hand] = told["Rooms"]
        assert granted["room_id"] == kitchen
        assert granted["text"].startswith(f"{tag}Kitchen ({kitchen}): there (since 20")
        assert granted["text"].endswith(
            f" Opened by {tag}all (through {tag}cooks) by displayName:{tag}all → {tag}Kitchen."
        )
        assert ", request " in granted["text"]
        assert by_hand["text"].startswith(f"{tag}Other ({other}): there by hand.")
        assert f"joining {tag}Kitchen: done (because of {tag}all; request" in text(told["Lately"])
        only = await story(process, f"{tag}ANN", f"{tag}kitchen")
        assert [line["room_id"] for line in only["Rooms"]] == [kitchen]
        assert (await command(process, "why", f"{tag}ann", lobby))[0] == 1
        assert (await command(process, "why", f"{tag}nobody"))[0] == 1
        assert (await command(process, "why", mxid(f"{tag}nobody")))[0] == 1
        shown = await on_a_terminal(process, "why", f"{tag}ann")
        assert max(map(len, shown.splitlines())) <= 80, shown
        assert mxid(f"{tag}ann") in shown


async def test_what_waits_is_told_with_its_cure(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A held removal, a conflict and a room that is not followed, for person, room and group."""
    room = await admin.create_room(name=f"{tag}Kitchen")
    nowhere = f"#{tag}nowhere:{SERVER_NAME}"
    await synapse.register(f"{tag}taken")
    async with service({"g": [room, nowhere]}, **HOLD_ALL) as process:
        idp = ScimClient(process.url)
        names = (f"{tag}ann", f"{tag}bob", f"{tag}taken")
        group, people = await group_of(idp, *names, name=f"{tag}Staff")
        await room_holds(admin, room, {f"{tag}ann", f"{tag}bob"})
        await at_rest(idp)
        await idp.remove(group, people[f"{tag}ann"], people[f"{tag}bob"])
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 2)
        approve = f"scim-matrix approve '{room}', or to keep them: scim-matrix dismiss '{room}'"

        # The same codes in /readyz, status and log, and what each means.
        codes = {"removals-held", "account-conflict", "room-unresolved"}
        assert codes == set((await ready(idp))["codes"])
        listed = json.loads((await command(process, "status", "--json"))[1])["work"]
        assert codes == {row["code"] for row in listed}
        log = [json.loads(line) for line in (process.data_dir / "service.log").open()]
        assert codes == {line["code"] for line in log if "code" in line}
        assert "Cause: " in text((await story(process, "removals-held"))["A problem"])

        held, *_ = (await story(process, f"{tag}ann"))["Rooms"]
        assert held["cure"] == approve
        assert f"to leave, and held: {tag}Staff no longer gives it (since 20" in held["text"]

        taken = await story(process, f"{tag}taken")
        assert f"Conflict, {mxid(f'{tag}taken')} is not touched" in text(taken["Account"])
        assert "scim-matrix users link" in taken["Account"][0]["cure"]
        waits, missing = taken["Rooms"]
        assert "to be joined, once the account is settled" in waits["text"]
        assert f"{nowhere}: not open yet." in missing["text"]
        assert "does not resolve" in missing["text"]
        assert "make the room" in missing["cure"]

        told = await story(process, f"{tag}kitchen")
        [line] = [line for line in told["People"] if line["cure"] == approve]
        assert line["text"].startswith(f"2 people to leave because {tag}Staff no longer gives it")
        assert "Held: unusually many removals at once" in line["text"]
        assert f"g → {tag}Kitchen. {tag}Staff: 1 person." in text(told["Opened by"])
        assert ", 2 people: held for a human" in text(told["Lately"])

        told = await story(process, f"{tag}staff")
        assert "1 person in it: 1 person active" in text(told["At the identity provider"])
        assert [line["cure"] for line in told["Waiting"]] == [approve]
        assert [line["room_id"] for line in told["Rooms"]] == [room, None]

        await set_active(idp, people[f"{tag}bob"], active=False)
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldAccounts"] == 1)
        held, *_ = [
            line
            for line in (await story(process, f"{tag}bob"))["Account"]
            if line["text"].startswith("Held")
        ]
        assert (
            held["cure"]
            == "scim-matrix approve accounts, or to keep them: scim-matrix dismiss accounts"
        )
        await idp.ok("DELETE", f"/Users/{people[f'{tag}bob']}")
        told = await story(process, mxid(f"{tag}bob"))
        assert "deleted the user of this account (since" in text(told["At the identity provider"])
        assert "The grace period ends 20" in text(told["Account"])


async def test_a_name_that_means_several_is_asked_back(
    admin: User, service: StartService, tag: str
) -> None:
    """A group and a room of one name: both are named, and --as says which."""
    room = await admin.create_room(name=f"{tag}Staff")
    async with service({"g": [room]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann", name=f"{tag}staff")
        await room_holds(admin, room, {f"{tag}ann"})
        status, output = await command(process, "why", f"{tag}STAFF")
        assert (status, "may mean the group " in output) == (1, True), output
        assert f"the room {room}" in output
        assert "Opened by" in await story(process, "--as", "room", f"{tag}staff")
        assert "Opened by" not in await story(process, "--as", "group", f"{tag}staff")
