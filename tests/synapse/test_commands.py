"""The command line beside a running service, on a real Synapse."""

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    command,
    group_of,
    mxid,
    ready,
    room_holds,
    settled,
    told,
)
from tests.synapse.proxy import proxying


async def test_check_names_each_fault_with_its_cure(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """A room that does not exist, one without power, and the token of somebody else."""
    good = await admin.create_room(room_alias_name=f"{tag}good")
    lost = await admin.create_room(room_version="10")
    await admin.call("POST", f"/_matrix/client/v3/rooms/{lost}/leave", {})
    alias = f"#{tag}good:{SERVER_NAME}"
    nowhere = f"#{tag}nowhere:{SERVER_NAME}"
    new: dict[str, Any] = {"room": f"#{tag}new:{SERVER_NAME}", "create": {"name": "New"}}
    async with service({"g": [alias]}) as process:
        status, output = await command(process, "check")
        assert status == 0, output
        process.group_map = json.dumps({"g": [alias, nowhere, lost, new]})
        status, output = await command(process, "check")
        assert status == 1
        findings = await told(process, "check")
        assert all("about" in finding for finding in findings), findings
        found = {f["about"]: f for f in findings}
        assert found[alias]["verdict"] == "ok"
        assert found[nowhere]["found"].startswith("does not exist")
        assert "correct the map" in found[nowhere]["cure"]
        assert "may not kick" in found[lost]["found"]
        assert "power level 100" in found[lost]["cure"]
        assert found[new["room"]]["found"] == "does not exist and will be made"
        assert good not in found

        nobody = await synapse.register(f"{tag}nobody")
        process.admin_user_id, process.admin_token = nobody.user_id, nobody.token
        status, output = await command(process, "check")
        assert status == 1
        assert "refuses the token" in output
        assert f"make {nobody.user_id} a server admin" in output
        assert nobody.token not in output
        process.more = {"LISTEN_PORT": "many"}
        assert (await command(process, "check"))[0] == 2


async def test_check_names_whom_it_could_never_remove(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """The creator of a version 12 room has more power than the service can get."""
    owner = await synapse.register(f"{tag}owner")
    room = await owner.create_room(room_version="12")
    await admin.call(
        "POST", f"/_synapse/admin/v1/rooms/{room}/make_room_admin", {"user_id": admin.user_id}
    )
    await admin.call("POST", f"/_matrix/client/v3/join/{room}", {})
    async with service({"g": [room]}) as process:
        warnings = [f for f in await told(process, "check") if f["verdict"] == "warning"]
        # This homeserver has no SSO, and the folder was made by the test.
        assert {f["about"] for f in warnings} == {"IDP_NAME", "DATA_DIR", room}
        found = [f for f in warnings if f["about"] == room]
        assert [owner.user_id in f["found"] for f in found] == [True]


async def test_who_is_where_and_why(admin: User, service: StartService, tag: str) -> None:
    """Groups, users and rooms tell which group and key of the map grants what."""
    room = await admin.create_room()
    async with service({"displayName:Sales*": [room], "*": [room]}) as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann", name="Sales team", key=f"{tag}sales")
        await room_holds(admin, room, {f"{tag}ann"})
        await settled(idp)
        [person] = await told(process, "rooms", room)
        assert person["user_id"] == mxid(f"{tag}ann")
        why = f"Sales team (displayName:Sales* → {room}); everyone (* → {room})"
        assert person["because"] == why
        [place] = await told(process, "users", "--match", f"{tag}*", "--rooms")
        assert (place["room_id"], place["membership"]) == (room, "join")
        [user] = await told(process, "users")
        assert (user["userName"], user["state"], user["rooms"]) == (f"{tag}ann", "active", 1)
        [group] = await told(process, "groups")
        assert (group["displayName"], group["members"], group["rooms"]) == ("Sales team", 1, room)
        [mapped] = await told(process, "rooms")
        assert (mapped["granted"], mapped["joined"]) == (1, 1)
        assert "Sales team" in (await command(process, "rooms", room))[1]
        assert (await command(process, "status"))[0] == 0


async def test_plan_and_status_tell_what_is_left(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """What would be done is shown by room, what is held is marked; nothing is done."""
    room, other = await admin.create_room(), await admin.create_room()
    limits = {"REMOVAL_LIMIT_COUNT": "1", "REMOVAL_LIMIT_PERCENT": "10"}
    async with (
        proxying(synapse.url) as proxy,
        service({"g": [room], "h": [other]}, MATRIX_URL=proxy.url, **limits) as process,
    ):
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        await room_holds(admin, room, set(people))
        await settled(idp)
        proxy.dark = True
        await idp.create_group("H", [people[f"{tag}ann"]], externalId="h")
        await idp.ok("DELETE", f"/Groups/{group}")
        rows = {(r["room"], r["what"], r["user"]) for r in await told(process, "plan")}
        assert rows == {
            (other, "join", mxid(f"{tag}ann")),
            (room, "hold", mxid(f"{tag}ann")),
            (room, "hold", mxid(f"{tag}bob")),
        }
        proxy.dark = False
        await room_holds(admin, other, {f"{tag}ann"})
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 2)

        async def summary() -> dict[str, Any]:
            status, output = await command(process, "status", "--json")
            assert status == 1
            found: dict[str, Any] = json.loads(output)
            return found

        # What failed while nobody answered is tried again.
        states = await eventually(summary, lambda s: {w["state"] for w in s["work"]} == {"held"})
        assert states["users"] == 2


async def test_a_backup_taken_under_load_is_whole(
    admin: User, service: StartService, tag: str, tmp_path: Path
) -> None:
    """It opens, passes SQLite's check, and can be put back where no service runs."""
    async with service({}) as process:
        idp = ScimClient(process.url)
        number = 0
        enough = asyncio.Event()

        async def load() -> None:
            nonlocal number
            while True:
                await idp.create_user(f"{tag}u{number}")
                number += 1
                if number == 20:
                    enough.set()

        writing = asyncio.create_task(load())
        await enough.wait()
        file = tmp_path / "copy.sqlite3"
        status, output = await command(process, "backup", str(file))
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert status == 0, output
        assert file.stat().st_mode & 0o077 == 0
        with contextlib.closing(sqlite3.connect(file)) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            [(users,)] = copy.execute("SELECT count(*) FROM scim_user").fetchall()
        assert 20 <= users <= number + 1
        assert (await command(process, "backup", str(file)))[0] == 1

        status, output = await command(process, "restore", "--yes", str(file))
        assert status == 1
        assert "stop the service first" in output
        await process.stop()
        assert (await command(process, "restore", "--yes", str(file)))[0] == 0
        await process.start()
        found = await idp.ok("GET", "/Users?count=0")
        assert found["totalResults"] == users
        broken = tmp_path / "broken.sqlite3"
        broken.write_bytes(b"no database")
        await process.stop()
        assert (await command(process, "restore", "--yes", str(broken)))[0] == 1


async def test_an_older_service_is_taken_over_with_its_ids(
    synapse: Synapse, admin: User, service: StartService, tag: str, tmp_path: Path
) -> None:
    """The identity provider goes on with the ids that it holds; nobody is joined twice."""
    ann = await synapse.register(f"{tag}ann")
    link = [{"auth_provider": "oidc-demo", "external_id": f"ext-{tag}ann"}]
    await admin.call("PUT", f"/_synapse/admin/v2/users/{ann.user_id}", {"external_ids": link})
    room = await admin.create_room()
    await admin.call("POST", f"/_synapse/admin/v1/join/{room}", {"user_id": ann.user_id})
    old = tmp_path / "old"
    old.mkdir()
    users = {f"ext-{tag}ann": {"userName": f"{tag}ann", "displayName": "Ann", "active": True}}
    groups = {"g-1": {"displayName": "G", "members": [{"value": f"ext-{tag}ann"}]}}
    (old / "users.json").write_text(json.dumps(users))
    (old / "groups.json").write_text(json.dumps(groups))
    async with service({"g-1": [room]}) as process:
        await process.stop()
        status, output = await command(process, "import-json", str(old))
        assert (status, output) == (0, "1 users and 1 groups taken over\n")
        assert (await command(process, "import-json", str(old)))[0] == 1
        await process.start()
        idp = ScimClient(process.url)
        await settled(idp)
        user = await idp.ok("GET", f"/Users/{ann.user_id}")
        assert user["externalId"] == f"ext-{tag}ann"
        group = await idp.ok("GET", "/Groups/g-1")
        assert [m["value"] for m in group["members"]] == [ann.user_id]
        await idp.remove("g-1", ann.user_id)
        await room_holds(admin, room, set())


async def test_sync_waits_until_everything_is_done(
    admin: User, service: StartService, tag: str
) -> None:
    """With --wait it returns once every room was compared and nothing is left."""
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        await group_of(idp, *(f"{tag}p{n}" for n in range(5)))
        status, output = await command(process, "sync", "--wait")
        assert status == 0
        assert "compared" in output
        assert len(await admin.members(room)) == 6


async def test_metrics_tell_numbers_and_no_names(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Requests, actions, resources and what is left; nothing personal in any label."""
    room = await admin.create_room(room_alias_name=f"{tag}room")
    async with staffed(f"#{tag}room:{SERVER_NAME}", f"{tag}ann", room=room) as run:
        process, _, _, people = run

        async def scraped() -> str:
            metrics = f"{process.url}/metrics"
            async with aiohttp.ClientSession() as session, session.get(metrics) as answer:
                assert answer.status == 200
                return await answer.text()

        text = await eventually(
            scraped, lambda t: 'actions_total{kind="join",outcome="done"} 1.0' in t
        )
        for line in (
            'scim_matrix_resources{kind="users"} 1.0',
            'scim_matrix_requests_total{method="POST",route="/scim/v2/Users",status="201"} 1.0',
            'scim_matrix_work{state="pending",what="pairs"} 0.0',
            "scim_matrix_homeserver_ready 1.0",
            'scim_matrix_build_info{version="',
            'endpoint="/_synapse/admin/v1/join/-",method="POST",outcome="200"} 1.0',
        ):
            assert line in text, text
        for word in (tag, "scim-bot", room, SERVER_NAME, *people.values(), "127.0.0.1"):
            assert word not in text


async def test_waiting_ends_whatever_fails_for_good(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """`sync --wait` waits for the comparison and its work, not for a human to mend something."""
    room = await admin.create_room()
    await synapse.register(f"{tag}taken")
    nowhere = [f"#{tag}nowhere:{SERVER_NAME}", "!nowhere:demo.test"]
    async with service({"g": [room, *nowhere]}) as process:
        await group_of(ScimClient(process.url), f"{tag}ann", f"{tag}taken")
        await room_holds(admin, room, {f"{tag}ann"})
        status, output = await command(process, "sync", "--wait")
        assert status == 0, output
        assert "nothing is left to do" in output
