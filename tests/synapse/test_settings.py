"""Settings that no promise of another file is about: each does what its table says."""

import sqlite3
import time

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import Synapse, User
from scim_matrix.store.sqlite import DATABASE_NAME
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    account,
    compared,
    group_of,
    logged,
    ready,
    room_holds,
    settled,
)
from tests.synapse.proxy import proxying


async def test_accounts_are_named_by_the_template(
    admin: User, service: StartService, tag: str
) -> None:
    """LOCALPART_TEMPLATE puts the name together, in Matrix's alphabet."""
    async with service({}, LOCALPART_TEMPLATE="{externalId}.p") as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann", externalId=f"{tag}No7")
        await settled(idp)
        links = (await account(admin, f"{tag}no7.p"))["external_ids"]
        assert f"{tag}No7" in {link["external_id"] for link in links}


async def test_the_rate_limit_is_left_where_that_is_asked_for(
    admin: User, service: StartService
) -> None:
    """LIFT_RATE_LIMIT=false asks Synapse for nothing; otherwise it is lifted at the start."""
    path = f"/_synapse/admin/v1/users/{admin.user_id}/override_ratelimit"
    await admin.call("DELETE", path)
    async with service({}, LIFT_RATE_LIMIT="false") as process:
        await compared(process)
        assert await admin.call("GET", path) == {}
        process.more["LIFT_RATE_LIMIT"] = "true"
        await process.stop()
        await process.start()
        await eventually(lambda: admin.call("GET", path), lambda limit: limit != {})


async def test_no_more_is_asked_for_at_once_than_is_allowed(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """MATRIX_CONCURRENCY=1 has accounts made and rooms filled one after the other."""
    rooms = [await admin.create_room() for _ in range(3)]
    now = most = 0

    def changes(method: str, path: str) -> bool:
        return "/admin/v1/join/" in path or (method == "PUT" and "/admin/v2/users/" in path)

    async def begins(method: str, path: str) -> None:
        nonlocal now, most
        now += changes(method, path)
        most = max(most, now)

    async def ends(method: str, path: str) -> None:
        nonlocal now
        now -= changes(method, path)

    async with (
        proxying(synapse.url) as proxy,
        service({"g": rooms}, MATRIX_URL=proxy.url, MATRIX_CONCURRENCY="1") as process,
    ):
        proxy.delay, proxy.after = begins, ends
        _, people = await group_of(ScimClient(process.url), *(f"{tag}p{n}" for n in range(4)))
        for room in rooms:
            await room_holds(admin, room, set(people))
        assert most == 1


async def test_the_record_is_kept_for_so_long(admin: User, service: StartService, tag: str) -> None:
    """What is older than RECORD_KEEP is gone after a start, what is younger stays."""
    room = await admin.create_room()
    async with service({"g": [room]}, RECORD_KEEP="2h") as process:
        _, people = await group_of(ScimClient(process.url), f"{tag}ann", f"{tag}bob")
        await room_holds(admin, room, set(people))
        await settled(ScimClient(process.url))
        await process.stop()
        with sqlite3.connect(process.data_dir / DATABASE_NAME) as connection:
            aged = "UPDATE action SET at = at - ? WHERE kind = 'join' AND user_id LIKE ?"
            connection.execute(aged, (3 * 3600, f"@{tag}ann:%"))
            connection.execute(aged, (1 * 3600, f"@{tag}bob:%"))
        connection.close()
        await process.start()

        async def joined() -> list[str]:
            lines = await logged(process, "--room", room)
            return [line["user_id"] for line in lines if line["kind"] == "join"]

        [left] = await eventually(joined, lambda users: len(users) == 1)
        assert left.startswith(f"@{tag}bob:")


async def test_the_brake_counts_over_the_window(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """What was removed before REMOVAL_WINDOW does not add up with what is removed now."""
    room = await admin.create_room()
    tight = {"REMOVAL_LIMIT_COUNT": "1", "REMOVAL_LIMIT_PERCENT": "0", "REMOVAL_WINDOW": "1s"}
    async with staffed(room, *(f"{tag}p{n}" for n in range(3)), **tight) as s:
        inside = set(s.people)
        began = time.monotonic()

        async def passed() -> float:
            return time.monotonic() - began

        for name in sorted(s.people)[:2]:
            await s.idp.remove(s.group, s.people[name])
            inside.discard(name)
            await room_holds(admin, room, inside)
            await settled(s.idp)
            began = time.monotonic()
            await eventually(passed, lambda now: now > 1.0)
        assert (await ready(s.idp))["work"]["heldPairs"] == 0
