"""Nobody is removed, locked or demoted whom a human, a hand or the IdP's silence speaks for."""

import asyncio
import contextlib
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import Synapse, User
from scim_matrix.store.sqlite import DATABASE_NAME
from tests.conftest import eventually
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    command,
    group_of,
    levels,
    logged,
    mxid,
    ready,
    room_holds,
    settled,
)
from tests.synapse.proxy import Proxy, proxying
from tests.synapse.steps import (
    AFTER_DARKNESS,
    HOLD_ALL,
    account,
    alias,
    bring_in,
    compared,
    compared_at,
    compared_since,
    is_about,
    is_locked,
    kicked,
    linked,
    put_members,
    restarted,
    rows,
    set_active,
    set_level,
    shown,
    upgrade,
)

# The brake lets everything through that these tests are about.
HOLD_NOTHING = {"REMOVAL_LIMIT_COUNT": "1000", "REMOVAL_LIMIT_PERCENT": "100"}


async def held(idp: ScimClient, number: int, kind: str = "heldPairs") -> None:
    """Wait until exactly so much is held."""
    await eventually(lambda: ready(idp), lambda s: s["work"][kind] == number)


# -- Dismissed (10) -----------------------------------------------------------


async def stays(process: Service, admin: User, room: str, *names: str) -> None:
    """Compare, prune and restart: whoever was dismissed is in, and nothing is held."""
    idp = ScimClient(process.url)
    for _ in range(2):
        await compared(process)
        await settled(idp)
    status, output = await command(process, "sync", "--prune")
    assert status == 0, output
    await compared(process)
    await settled(idp)
    await restarted(process, more=HOLD_NOTHING)
    await settled(idp)
    assert (await ready(idp))["work"]["heldPairs"] == 0
    assert await admin.members(room) == {"scim-bot", *names}
    assert not await kicked(admin, room)


async def test_dismissed_strangers_stay_in_an_exclusive_room(
    synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """Somebody in it by hand whom a human lets stay is held no more and never kicked."""
    room = await admin.create_room()
    guest = f"{tag}guest"
    await synapse.register(guest)
    await bring_in(admin, room, guest)
    async with service({"g": [{"room": room, "exclusive": True}]}, **HOLD_ALL) as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann")
        await room_holds(admin, room, {f"{tag}ann", guest})
        await compared(process)
        await held(idp, 1)
        status, output = await command(process, "dismiss", room)
        assert status == 0, output
        await held(idp, 0)
        await stays(process, admin, room, f"{tag}ann", guest)


async def test_an_approval_lets_nothing_in_that_was_not_meant(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """An alias under which removals are held and that leads elsewhere means neither of the two."""
    name, names = alias(f"{tag}room"), [f"{tag}ann", f"{tag}bob"]
    room = await admin.create_room(room_alias_name=f"{tag}room")
    eve = await synapse.register(f"{tag}eve")
    async with staffed(name, *names, room=room, **HOLD_ALL) as (process, idp, group, people):
        await idp.remove(group, people[names[0]])
        await held(idp, 1)
        where = f"/_matrix/client/v3/directory/room/{quote(name, safe='')}"
        await admin.call("DELETE", where)
        other = await eve.create_room()
        await eve.call("PUT", where, {"room_id": other})
        await compared(process)

        status, output = await command(process, "approve", name)
        assert status == 1
        assert room in output
        assert other in output
        await compared(process)
        assert await admin.members(other) == {f"{tag}eve"}
        await held(idp, 1)
        assert (await command(process, "approve", room))[0] == 0
        await room_holds(admin, room, {names[1]})
        status, output = await command(process, "approve", name)
        assert status == 0
        assert other in output
        await room_holds(admin, other, {f"{tag}eve", names[1]})


async def test_removals_are_approved_by_the_id_of_a_room_that_was_upgraded(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """What was shown before an upgrade as the way to decide still is one."""
    names = [f"{tag}ann", f"{tag}bob"]
    room = await admin.create_room(room_version="10")
    async with staffed(room, *names, **HOLD_ALL) as s:
        new = await upgrade(admin, room)
        await room_holds(admin, new, set(names))
        newest = await upgrade(admin, new, "10")
        await room_holds(admin, newest, set(names))
        await s.idp.remove(s.group, s.people[names[0]])
        await held(s.idp, 1)
        assert (await command(s.process, "approve", new))[0] == 0
        await room_holds(admin, newest, {names[1]})


@pytest.mark.parametrize("how", ["slow", "refused by a proxy"])
async def test_whoever_may_be_granted_an_exclusive_room_stays_in_it(
    synapse: Synapse, admin: User, service: StartService, tag: str, how: str
) -> None:
    """Nobody leaves before it is known whose accounts those are who are granted the room."""
    ann, bob, robert, stranger = (f"{tag}{n}" for n in ("ann", "bob", "robert", "stranger"))
    room = await admin.create_room()
    await linked(synapse, admin, robert, f"ext-{bob}")
    await synapse.register(stranger)
    await bring_in(admin, room, robert, stranger)
    asked, known = asyncio.Event(), asyncio.Event()

    async def hold_back(method: str, path: str) -> None:
        if f"ext-{bob}" in path:
            asked.set()
            await (known.wait() if how == "slow" else asyncio.sleep(0))

    def refuse(method: str, path: str) -> web.Response | None:
        return web.Response(status=502) if how != "slow" and f"ext-{bob}" in path else None

    async with (
        proxying(synapse.url) as proxy,
        service({"g": [{"room": room, "exclusive": True}]}, MATRIX_URL=proxy.url) as process,
    ):
        idp = ScimClient(process.url)
        proxy.delay, proxy.fault = hold_back, refuse
        await group_of(idp, ann, bob)
        await asked.wait()
        await room_holds(admin, room, {ann, robert, stranger})
        await compared(process)
        waiting = [row for row in await rows(process, "failing") if is_about(row, stranger)]
        assert "whose accounts" in waiting[0]["reason"]
        known.set()
        proxy.fault = lambda method, path: None
        await room_holds(admin, room, {ann, robert}, AFTER_DARKNESS)
        assert robert not in await kicked(admin, room)


@pytest.mark.parametrize("exclusive", [True, False], ids=["exclusive", "open"])
async def test_dismissed_leavers_stay(
    admin: User, staffed: StartStaffed, tag: str, exclusive: bool
) -> None:
    """Somebody taken out of the group whom a human lets stay, stays until it is granted anew."""
    room = await admin.create_room()
    bob = f"{tag}bob"
    entry = {"room": room, "exclusive": exclusive}
    async with staffed(entry, f"{tag}ann", bob, room=room, **HOLD_ALL) as run:
        process, idp, group, people = run
        await idp.remove(group, people[bob])
        await held(idp, 1)
        status, output = await command(process, "dismiss", room)
        assert status == 0, output
        await held(idp, 0)
        await stays(process, admin, room, *people)
        # What is granted anew can be taken anew.
        await idp.add(group, people[bob])
        await settled(idp)
        await idp.remove(group, people[bob])
        await room_holds(admin, room, {f"{tag}ann"})


async def test_a_dismissed_deletion_ends_in_no_deactivation(
    admin: User, service: StartService, tag: str
) -> None:
    """When the grace period is over the account is neither locked, deactivated nor held again."""
    name = f"{tag}ann"
    async with service({}, DELETE_GRACE="6s", **HOLD_ALL) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        before = await account(admin, name)
        await idp.ok("DELETE", f"/Users/{person}")
        loop = asyncio.get_running_loop()
        deleted = loop.time()
        await held(idp, 1, "heldAccounts")
        status, output = await command(process, "dismiss", "accounts")
        assert status == 0, output
        await held(idp, 0, "heldAccounts")

        async def since() -> float:
            return loop.time() - deleted

        await eventually(since, lambda seconds: seconds > 7)
        await restarted(process, more=HOLD_NOTHING)
        await settled(idp)
        await compared(process)
        await settled(idp)
        assert (await ready(idp))["work"]["heldAccounts"] == 0
        assert await account(admin, name) == before


async def test_a_dismissed_lock_stays_dismissed(
    admin: User, service: StartService, tag: str
) -> None:
    """Comparisons and restarts do not lock an account that a human leaves open."""
    name = f"{tag}ann"
    async with service({}, **HOLD_ALL) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        await set_active(idp, person, active=False)
        await held(idp, 1, "heldAccounts")
        assert (await command(process, "dismiss", "accounts"))[0] == 0
        await compared(process)
        await restarted(process, more=HOLD_NOTHING)
        await compared(process)
        await settled(idp)
        assert (await ready(idp))["work"]["heldAccounts"] == 0
        assert not await is_locked(admin, name)
        # What the IdP says anew counts.
        await set_active(idp, person, active=True)
        await settled(idp)
        await set_active(idp, person, active=False)
        await eventually(lambda: is_locked(admin, name), bool)


# -- Approved (11) ------------------------------------------------------------


async def test_an_approved_lock_approves_no_deactivation(
    admin: User, service: StartService, tag: str
) -> None:
    """The approval ends with the lock: the deactivation of the same account is held again."""
    name = f"{tag}ann"
    async with service({}, DELETE_GRACE="0", **HOLD_ALL) as process:
        idp = ScimClient(process.url)
        person = await idp.create_user(name)
        await settled(idp)
        await set_active(idp, person, active=False)
        await held(idp, 1, "heldAccounts")
        assert (await command(process, "approve", "accounts"))[0] == 0
        await eventually(lambda: is_locked(admin, name), bool)
        await settled(idp)
        await idp.ok("DELETE", f"/Users/{person}")
        await held(idp, 1, "heldAccounts")
        await compared(process)
        assert (await account(admin, name) or {})["deactivated"] is False
        assert (await command(process, "approve", "accounts"))[0] == 0

        async def deactivated() -> bool:
            return bool((await account(admin, name) or {})["deactivated"])

        await eventually(deactivated, bool)


async def test_removed_once_and_put_back_by_hand_needs_another_approval(
    admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Four removals approved once are not repeated when a hand brings the four back."""
    room = await admin.create_room()
    async with staffed(room, *(f"{tag}p{n}" for n in range(4)), **HOLD_ALL) as s:
        await s.idp.remove(s.group, *s.people.values())
        await held(s.idp, 4)
        assert (await command(s.process, "approve", room))[0] == 0
        await room_holds(admin, room, set())
        await settled(s.idp)
        await bring_in(admin, room, *s.people)
        await compared(s.process)
        await compared(s.process)
        await settled(s.idp)
        assert await admin.members(room) == {"scim-bot", *s.people}
        assert (await ready(s.idp))["work"]["heldPairs"] == 4


async def test_an_approval_is_for_what_it_printed(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """What is held later, before what was approved is done, waits for the next approval."""
    room = await admin.create_room()
    ann, bob, cat, dan, eve = (f"{tag}{n}" for n in ("ann", "bob", "cat", "dan", "eve"))
    async with (
        proxying(synapse.url) as proxy,
        staffed(room, ann, bob, cat, dan, eve, MATRIX_URL=proxy.url, **HOLD_ALL) as s,
    ):
        await s.idp.remove(s.group, s.people[ann], s.people[bob])
        await held(s.idp, 2)
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def delay(method: str, path: str) -> None:
            if path.endswith("/kick"):
                asked.set()
                await go_on.wait()

        proxy.delay = delay
        status, output = await command(s.process, "approve", room)
        assert status == 0, output
        await asked.wait()
        await s.idp.remove(s.group, s.people[cat], s.people[dan])
        go_on.set()
        await room_holds(admin, room, {cat, dan, eve})
        await held(s.idp, 2)
        await compared(s.process)
        assert await admin.members(room) == {"scim-bot", cat, dan, eve}
        found = {row["user"] for row in await rows(s.process, "held")}
        assert found == {mxid(cat), mxid(dan)}
        assert {name for name in s.people if mxid(name) in output} == {ann, bob}


@pytest.mark.parametrize("by", ["carol", None])
async def test_the_record_tells_who_approved(
    admin: User, staffed: StartStaffed, tag: str, by: str | None
) -> None:
    """The approval has a name, by default the operating system's, and the removals carry it."""
    room = await admin.create_room()
    bob = f"{tag}bob"
    async with staffed(room, f"{tag}ann", bob, **HOLD_ALL) as s:
        await s.idp.remove(s.group, s.people[bob])
        await set_active(s.idp, s.people[f"{tag}ann"], active=False)
        await held(s.idp, 2)
        await held(s.idp, 1, "heldAccounts")
        words = () if by is None else ("--by", by)
        for target in (room, "accounts"):
            status, output = await command(s.process, "approve", target, *words)
            assert status == 0, output
        await room_holds(admin, room, set())
        await settled(s.idp)
        who = by or getpass.getuser()
        entries = await logged(s.process)
        approvals = [
            (e["kind"], e["user_id"], e["by"]) for e in entries if e["outcome"] == "approved"
        ]
        assert sorted(approvals) == sorted(
            [
                ("kick", mxid(bob), who),
                ("kick", mxid(f"{tag}ann"), who),
                ("disable", mxid(f"{tag}ann"), who),
            ]
        )
        done = [e for e in entries if e["outcome"] == "done" and e["kind"] in ("kick", "lock")]
        assert len(done) == 3
        assert all(e["approved"] and e["by"] == who for e in done)


@pytest.mark.parametrize("by", ["carol", None])
async def test_the_record_tells_who_dismissed(
    admin: User, staffed: StartStaffed, tag: str, by: str | None
) -> None:
    """So does that of a dismissal, which removes nobody."""
    room = await admin.create_room()
    bob = f"{tag}bob"
    async with staffed(room, f"{tag}ann", bob, **HOLD_ALL) as s:
        await s.idp.remove(s.group, s.people[bob])
        await held(s.idp, 1)
        words = () if by is None else ("--by", by)
        status, output = await command(s.process, "dismiss", room, *words)
        assert status == 0, output
        assert mxid(bob) in output
        [entry] = [e for e in await logged(s.process) if e["outcome"] == "dismissed"]
        found = (entry["kind"], entry["user_id"], entry["by"])
        assert found == ("kick", mxid(bob), by or getpass.getuser())
        assert await admin.members(room) == {"scim-bot", *s.people}


# -- Power that hands gave (12) -----------------------------------------------


@pytest.mark.parametrize("restart", [False, True], ids=["at once", "over a restart"])
async def test_a_level_given_by_hand_comes_back(
    admin: User, service: StartService, tag: str, restart: bool
) -> None:
    """Somebody who had 25 has it again when a group's 50 came and went; who had none has none."""
    room = await admin.create_room()
    ann, bob = f"{tag}ann", f"{tag}bob"
    group_map = {"all": [room], "leads": [{"room": room, "powerLevel": 50}]}
    async with service(group_map) as process:
        idp = ScimClient(process.url)
        _, people = await group_of(idp, ann, bob, key="all")
        await room_holds(admin, room, set(people))
        await settled(idp)
        await set_level(admin, room, ann, 25)
        leads = await idp.create_group("Leads", list(people.values()), externalId="leads")
        await eventually(lambda: levels(admin, room), lambda p: p == {ann: 50, bob: 50})
        await settled(idp)
        if restart:
            await restarted(process)
        await compared(process)
        await settled(idp)
        await idp.ok("DELETE", f"/Groups/{leads}")
        await eventually(lambda: levels(admin, room), lambda p: p == {ann: 25})
        await compared(process)
        await settled(idp)
        assert await levels(admin, room) == {ann: 25}


# -- Restored (13) ------------------------------------------------------------

BOTH_RESTORES = pytest.mark.parametrize("how", ["command", "copy"])


@dataclass
class Restored:
    """A service that was restored from a backup taken while the homeserver was out of sight."""

    process: Service
    idp: ScimClient
    proxy: Proxy
    file: Path

    async def back_up(self, change: Callable[[], Awaitable[Any]]) -> None:
        """Have the IdP change something that cannot be done now, and take a backup of that."""
        await settled(self.idp)
        self.proxy.dark = True
        await change()
        status, output = await command(self.process, "backup", str(self.file))
        assert status == 0, output
        self.proxy.lights_on()

    async def restore(self, how: str) -> None:
        """Put the backup back and start, by the command or as a file that somebody copies."""
        before = await compared_at(self.process)
        await self.process.stop()
        if how == "command":
            status, output = await command(self.process, "restore", "--yes", str(self.file))
            assert status == 0, output
        else:
            folder = self.process.data_dir
            for suffix in ("-wal", "-shm"):
                (folder / f"{DATABASE_NAME}{suffix}").unlink(missing_ok=True)
            (folder / DATABASE_NAME).write_bytes(self.file.read_bytes())
        await self.process.start()
        await compared_since(self.process, before)
        await settled(self.idp)

    async def held_since(self, name: str) -> set[str | None]:
        """Return in which rooms (None: the account) somebody waits because of the restore."""
        return {
            row["room"]
            for row in await rows(self.process, "held")
            if is_about(row, name) and "restored" in row["reason"]
        }


@pytest.fixture
def restorable(synapse: Synapse, service: StartService, tmp_path: Path) -> Any:
    """Return what runs a service that can be restored."""

    @contextlib.asynccontextmanager
    async def run(group_map: dict[str, Any], **more: str) -> AsyncIterator[Restored]:
        async with (
            proxying(synapse.url) as proxy,
            service(group_map, MATRIX_URL=proxy.url, **HOLD_NOTHING, **more) as process,
        ):
            yield Restored(process, ScimClient(process.url), proxy, tmp_path / "backup.sqlite3")

    return run


@BOTH_RESTORES
async def test_an_old_removal_waits_until_a_human_says_go(
    admin: User, restorable: Any, tag: str, how: str
) -> None:
    """Restored, nobody is kicked who came back since; it is shown why, and joins go on."""
    room = await admin.create_room()
    bob = f"{tag}bob"
    async with restorable({"g": [room]}) as run:
        group, people = await group_of(run.idp, f"{tag}ann", bob)
        await room_holds(admin, room, set(people))
        await run.back_up(lambda: run.idp.remove(group, people[bob]))
        await room_holds(admin, room, {f"{tag}ann"}, AFTER_DARKNESS)
        await run.idp.add(group, people[bob])
        await room_holds(admin, room, set(people))
        await settled(run.idp)
        assert not (await shown(run.process)).get("restored")

        await run.restore(how)
        assert await admin.members(room) == {"scim-bot", *people}
        await eventually(lambda: run.held_since(bob), lambda seen: seen == {room})
        assert (await shown(run.process))["restored"] is True
        other = await run.idp.create_user(f"{tag}new")
        await run.idp.create_group("H", [other], externalId="h")
        await settled(run.idp)
        await compared(run.process)
        await settled(run.idp)
        assert await admin.members(room) == {"scim-bot", *people}
        assert await account(admin, f"{tag}new") is not None
        await restarted(run.process)
        await settled(run.idp)
        assert await admin.members(room) == {"scim-bot", *people}

        status, output = await command(run.process, "approve", "restored")
        assert status == 0, output
        await room_holds(admin, room, {f"{tag}ann"})
        await settled(run.idp)
        assert not (await shown(run.process)).get("restored")


@pytest.mark.parametrize("by", ["PUT", "PATCH"])
@pytest.mark.parametrize("says", ["stays", "goes"])
async def test_what_the_idp_says_of_the_group_decides(
    admin: User, restorable: Any, tag: str, says: str, by: str
) -> None:
    """Once it has spoken of that group nothing of it waits: bob stays, or goes, as it says."""
    room = await admin.create_room()
    bob = f"{tag}bob"
    async with restorable({"g": [room]}) as run:
        group, people = await group_of(run.idp, f"{tag}ann", bob)
        await room_holds(admin, room, set(people))
        await run.back_up(lambda: run.idp.remove(group, people[bob]))
        await room_holds(admin, room, {f"{tag}ann"}, AFTER_DARKNESS)
        await run.idp.add(group, people[bob])
        await room_holds(admin, room, set(people))
        await settled(run.idp)
        await run.restore("command")
        assert await admin.members(room) == {"scim-bot", *people}
        await eventually(lambda: run.held_since(bob), lambda seen: seen == {room})
        said = list(people.values()) if says == "stays" else [people[f"{tag}ann"]]
        if by == "PUT":
            await put_members(run.idp, group, *said)
        else:
            value = [{"value": m} for m in said]
            operation = {"op": "replace", "path": "members", "value": value}
            await run.idp.patch(f"/Groups/{group}", operation)
        await eventually(lambda: run.held_since(bob), lambda seen: seen == set())
        await room_holds(admin, room, set(people) if says == "stays" else {f"{tag}ann"})
        await compared(run.process)
        await settled(run.idp)
        if says == "stays":
            assert await admin.members(room) == {"scim-bot", *people}


async def test_who_came_since_stays_in_an_exclusive_room(
    admin: User, restorable: Any, tag: str
) -> None:
    """A grant that the backup does not know does not make its holder a stranger to kick."""
    room = await admin.create_room()
    async with restorable({"g": [{"room": room, "exclusive": True}]}) as run:
        group, people = await group_of(run.idp, f"{tag}ann")
        await room_holds(admin, room, set(people))
        await run.back_up(lambda: run.idp.create_user(f"{tag}other"))
        await settled(run.idp)
        late = await run.idp.create_user(f"{tag}late")
        await run.idp.add(group, late)
        await room_holds(admin, room, {f"{tag}ann", f"{tag}late"})
        await settled(run.idp)
        await run.restore("command")
        await compared(run.process)
        await settled(run.idp)
        assert await admin.members(room) == {"scim-bot", f"{tag}ann", f"{tag}late"}
        assert await run.held_since(f"{tag}late") == {room}


@BOTH_RESTORES
async def test_an_old_lock_waits_until_the_idp_speaks_of_that_user(
    admin: User, restorable: Any, tag: str, how: str
) -> None:
    """Somebody disabled in the backup and active since keeps account and rooms."""
    room = await admin.create_room()
    ann, bob = f"{tag}ann", f"{tag}bob"
    async with restorable({"g": [room]}) as run:
        _, people = await group_of(run.idp, ann, bob)
        await room_holds(admin, room, set(people))

        async def disable() -> None:
            for person in people.values():
                await set_active(run.idp, person, active=False)

        await run.back_up(disable)
        await eventually(lambda: is_locked(admin, bob), bool, AFTER_DARKNESS)
        for person in people.values():
            await set_active(run.idp, person, active=True)
        await room_holds(admin, room, set(people))
        await settled(run.idp)

        await run.restore(how)
        assert await admin.members(room) == {"scim-bot", *people}
        for name in people:
            assert not await is_locked(admin, name)
            await eventually(partial(run.held_since, name), lambda seen: seen == {None, room})
        user = await run.idp.ok("GET", f"/Users/{people[ann]}")
        await run.idp.ok("PUT", f"/Users/{people[ann]}", {**user, "active": True})
        user = await run.idp.ok("GET", f"/Users/{people[bob]}")
        await run.idp.ok("PUT", f"/Users/{people[bob]}", {**user, "active": False})
        await eventually(lambda: is_locked(admin, bob), bool)
        await room_holds(admin, room, {ann})
        await settled(run.idp)
        assert not await is_locked(admin, ann)
        assert await run.held_since(ann) == set()


@BOTH_RESTORES
async def test_an_old_grace_period_deactivates_nobody(
    synapse: Synapse, admin: User, restorable: Any, tag: str, how: str
) -> None:
    """Deleted in the backup, back since: the account is not deactivated, devices and keys stay."""
    ann = f"{tag}ann"
    await linked(synapse, admin, ann)
    async with restorable({}, DELETE_GRACE="3s") as run:
        person = await run.idp.create_user(ann)
        await run.back_up(lambda: run.idp.ok("DELETE", f"/Users/{person}"))
        loop = asyncio.get_running_loop()
        deleted = loop.time()
        await run.idp.create_user(ann)
        await eventually(
            lambda: ready(run.idp),
            lambda s: s["ready"] and not s["work"]["pendingAccounts"],
            AFTER_DARKNESS,
        )
        assert not await is_locked(admin, ann)

        async def since() -> float:
            return loop.time() - deleted

        await eventually(since, lambda seconds: seconds > 4)
        await run.restore(how)
        await compared(run.process)
        await settled(run.idp)
        found = await account(admin, ann)
        assert found is not None
        assert (found["locked"], found["deactivated"]) == (False, False)
        assert {row["state"] for row in (await shown(run.process))["work"]} == {"held"}
        # The IdP, told that the user is unknown, makes it again.
        await run.idp.create_user(ann)
        await settled(run.idp)
        await compared(run.process)
        await settled(run.idp)
        found = await account(admin, ann)
        assert found is not None
        assert (found["locked"], found["deactivated"]) == (False, False)
        assert (await shown(run.process))["work"] == []


async def test_a_restart_is_no_restore(admin: User, restorable: Any, tag: str) -> None:
    """Killed and started again on its own data, the service goes on with what was pending."""
    room = await admin.create_room()
    bob = f"{tag}bob"
    async with restorable({"g": [room]}) as run:
        group, people = await group_of(run.idp, f"{tag}ann", bob)
        await room_holds(admin, room, set(people))
        await settled(run.idp)
        run.proxy.dark = True
        await run.idp.remove(group, people[bob])
        await run.process.stop(9)
        run.proxy.lights_on()
        await run.process.start()
        await room_holds(admin, room, {f"{tag}ann"}, AFTER_DARKNESS)
        assert not (await shown(run.process)).get("restored")
