"""What would be done is told whole, and what a homeserver tells is not believed in any shape."""

import itertools
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
import pytest

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
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
    account,
    alias,
    compared,
    compared_at,
    is_about,
    is_locked,
    kicked,
    linked,
    make_admin,
    set_active,
    told,
)

# -- Plans (15) ---------------------------------------------------------------


async def planned(process: Service, name: str) -> set[tuple[str | None, str]]:
    """Return what the plan says of somebody: where (None: the account) and what."""
    rows = await told(process, "plan")
    return {(row["room"], row["what"]) for row in rows if is_about(row, name)}


def of_account(plan: set[tuple[str | None, str]]) -> list[str]:
    """Return what a plan says of an account."""
    return [what for room, what in plan if room is None]


async def test_the_plan_tells_what_becomes_of_accounts(
    synapse: Synapse, admin: User, staffed: StartStaffed, tag: str
) -> None:
    """Accounts to be made and the rooms that follow, locks, unlocks: before any of it is done."""
    room = await admin.create_room()
    new, off, gone, back = (f"{tag}{n}" for n in ("new", "off", "gone", "back"))
    async with (
        proxying(synapse.url) as proxy,
        staffed(room, off, gone, back, MATRIX_URL=proxy.url) as s,
    ):
        await set_active(s.idp, s.people[back], active=False)
        await eventually(lambda: is_locked(admin, back), bool)
        await room_holds(admin, room, {off, gone})
        await settled(s.idp)
        assert await told(s.process, "plan") == []
        proxy.dark = True
        await s.idp.add(s.group, await s.idp.create_user(new))
        await set_active(s.idp, s.people[off], active=False)
        await s.idp.ok("DELETE", f"/Users/{s.people[gone]}")
        await set_active(s.idp, s.people[back], active=True)

        plan = await planned(s.process, new)
        assert (room, "join") in plan
        [what] = of_account(plan)
        assert "create" in what
        for name in (off, gone):
            plan = await planned(s.process, name)
            assert (room, "kick") in plan
            [what] = of_account(plan)
            assert "lock" in what
            assert "unlock" not in what
        plan = await planned(s.process, back)
        assert (room, "join") in plan
        [what] = of_account(plan)
        assert "unlock" in what
        proxy.lights_on()
        await room_holds(admin, room, {new, back}, AFTER_DARKNESS)
        await eventually(lambda: told(s.process, "plan"), lambda found: found == [])


async def test_a_dry_run_tells_joins_of_accounts_that_it_would_make(
    admin: User, service: StartService, tag: str
) -> None:
    """The record and the plan name account and rooms of somebody new; nothing is changed."""
    room = await admin.create_room()
    name = f"{tag}ann"
    async with service({"g": [room]}, DRY_RUN="true") as process:
        idp = ScimClient(process.url)
        await group_of(idp, name)

        async def recorded() -> set[tuple[str, str | None]]:
            entries = [e for e in await logged(process) if e["outcome"] == "dry_run"]
            return {
                (entry["kind"], entry["room_id"])
                for entry in entries
                if entry["user_id"] in (mxid(name), name)
            }

        seen = await eventually(recorded, lambda kinds: ("join", room) in kinds)
        assert {kind for kind, where in seen if where is None} & {"create", "account"}
        plan = await planned(process, name)
        assert (room, "join") in plan
        assert len(of_account(plan)) == 1
        assert await admin.members(room) == {"scim-bot"}
        assert await account(admin, name) is None


async def test_a_dry_run_tells_rooms_that_it_would_make_and_who_would_be_in_them(
    admin: User, service: StartService, tag: str
) -> None:
    """The record and the plan name the room by its alias and whom it would be opened to."""
    name, room = f"{tag}ann", alias(f"{tag}new")
    group_map = {"g": [{"room": room, "create": {"name": "New"}}]}
    async with service(group_map, DRY_RUN="true") as process:
        idp = ScimClient(process.url)
        await group_of(idp, name)
        await compared(process)

        async def recorded() -> set[tuple[str, str | None, str | None]]:
            entries = [e for e in await logged(process) if e["outcome"] == "dry_run"]
            return {(entry["kind"], entry["room_id"], entry["user_id"]) for entry in entries}

        expected = {("create_room", room, None), ("join", room, mxid(name))}
        await eventually(recorded, lambda seen: expected <= seen)
        plan = [(row["room"], row["what"], row["user"]) for row in await told(process, "plan")]
        assert (room, "create room", None) in plan
        assert (room, "join", mxid(name)) in plan
        with pytest.raises(aiohttp.ClientResponseError, match="404"):
            await admin.call("GET", f"/_matrix/client/v3/directory/room/{quote(room, safe='')}")


async def test_after_a_dry_run_everything_is_tried_at_once(
    admin: User, service: StartService, tag: str
) -> None:
    """No rest of the dry run delays accounts, joins, removals, powers or rooms afterwards."""
    room = await admin.create_room()
    made = alias(f"{tag}made")
    ann, bob, cat, dan = (f"{tag}{n}" for n in ("ann", "bob", "cat", "dan"))
    group_map = {
        "g": [room],
        "leads": [{"room": room, "powerLevel": 50}],
        "new": [{"room": made, "create": {"name": "Made"}}],
    }
    async with service(group_map) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, ann, bob, cat)
        await room_holds(admin, room, {ann, bob, cat})
        await settled(idp)
        await process.stop()
        process.more = {"DRY_RUN": "true"}
        await process.start()
        dans = await idp.create_user(dan)
        await idp.add(group, dans)
        await idp.remove(group, people[bob])
        await set_active(idp, people[cat], active=False)
        await idp.create_group("Leads", [people[ann]], externalId="leads")
        await idp.create_group("New", [people[ann]], externalId="new")

        async def withheld() -> set[str | None]:
            return {e["user_id"] for e in await logged(process) if e["outcome"] == "dry_run"}

        await eventually(withheld, lambda seen: {mxid(n) for n in (ann, bob, cat, dan)} <= seen)
        assert await admin.members(room) == {"scim-bot", ann, bob, cat}
        await process.stop()
        process.more = {}
        await process.start()
        await room_holds(admin, room, {ann, dan}, 15)
        await eventually(lambda: is_locked(admin, cat), bool, 15)
        await eventually(lambda: levels(admin, room), lambda p: p == {ann: 50}, 15)
        path = f"/_matrix/client/v3/directory/room/%23{tag}made:{SERVER_NAME}"

        async def room_made() -> str | None:
            try:
                return str((await admin.call("GET", path))["room_id"])
            except aiohttp.ClientResponseError:
                return None

        found = await eventually(room_made, lambda room_id: room_id is not None, 15)
        assert found is not None
        await room_holds(admin, found, {ann}, 15)


# -- Answers of another shape (17) --------------------------------------------


def _twisted(value: Any) -> Any:
    """Return a value of another type, what is inside it twisted too."""
    match value:
        case bool():
            return "x"
        case str():
            return 7
        case int() | float() | None:
            return ["x"]
        case list():
            return [*map(_twisted, value), None, {}]
        case dict():
            return {key: _twisted(inner) for key, inner in value.items()}
    raise TypeError(value)


def _each(new: Any) -> Callable[[Any], Any]:
    return lambda answer: dict.fromkeys(answer, new) if isinstance(answer, dict) else new


SHAPES: dict[str, Callable[[Any], Any]] = {
    "no keys": lambda answer: {},
    "no object": lambda answer: [answer],
    "null": lambda answer: None,
    "nulls": _each(None),
    "numbers": _each(7),
    "lists": _each([[]]),
    "objects": _each({"x": [None]}),
    "twisted": _twisted,
}

KINDS = {
    "version": "/server_version",
    "whoami": "/account/whoami",
    "lists of users": r"/v2/users\?",
    "rate limit": "/override_ratelimit",
    "sync": r"/v3/sync\?",
    "filter": "/filter$",
    "members": r"/v1/rooms/[^/]+/members",
    "memberships": r"/v3/rooms/[^/]+/members",
    "details": r"/v1/rooms/[^/]+$",
    "hierarchy": "/hierarchy",
    "directory": "/directory/",
    "state": "/state",
    "account": "/v2/users/@",
    "links": "/auth_providers/",
    "e-mails": "/threepid/",
    "changes in rooms": "/v1/join/|/kick$|/invite$",
}


# So many twisted answers of a kind show that the service goes on asking.
ENOUGH = 3


class Twist:
    """Answers in other shapes to some requests, one shape after the other."""

    def __init__(self, kind: str, *shapes: Callable[[Any], Any]) -> None:
        self._kind = re.compile(kind)
        self._shapes = itertools.cycle(shapes)
        self.number = 0

    def __call__(self, method: str, path: str, body: bytes) -> bytes:
        """Return what is answered instead of `body`."""
        if not self._kind.search(unquote(path)):
            return body
        self.number += 1
        return json.dumps(next(self._shapes)(json.loads(body))).encode()


async def is_alive(process: Service) -> None:
    """The process runs, and /healthz says so."""
    assert process.process is not None
    assert process.process.returncode is None, (process.data_dir / "service.log").read_text()
    async with aiohttp.ClientSession() as session, session.get(f"{process.url}/healthz") as answer:
        assert answer.status == 200


async def untwisted(proxy: Proxy, process: Service, twist: Twist, before: float) -> None:
    """Answer as Synapse does once some answers were twisted or all else is done.

    That is when nothing is left and a comparison has ended after `before`.
    """

    async def happened() -> bool:
        await is_alive(process)
        state = await ready(ScimClient(process.url))
        work = state["work"]
        left = work["pendingPairs"] + work["pendingAccounts"]
        idle = state["ready"] and not left and await compared_at(process) > before
        return twist.number >= ENOUGH or bool(idle)

    await eventually(happened, bool, 90)
    proxy.rewrite = None


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_start_among_answers_of_another_shape_waits(
    synapse: Synapse, admin: User, service: StartService, tag: str, shape: str
) -> None:
    """Whatever JSON is at MATRIX_URL, the process lives, and works once Synapse is there."""
    room = await admin.create_room()
    async with proxying(synapse.url) as proxy:
        twist = Twist("", SHAPES[shape])
        proxy.rewrite = twist
        async with service({"g": [room]}, MATRIX_URL=proxy.url) as process:
            idp = ScimClient(process.url)
            await group_of(idp, f"{tag}ann")

            async def asked() -> int:
                await is_alive(process)
                return twist.number

            await eventually(asked, lambda number: number >= 2)
            assert (await ready(idp))["status"] == 503
            proxy.rewrite = None
            await room_holds(admin, room, {f"{tag}ann"}, AFTER_DARKNESS)
            await is_alive(process)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_answer_of_another_shape_ends_the_service_or_wrongs_anybody(
    synapse: Synapse, admin: User, service: StartService, tag: str, kind: str
) -> None:
    """From start on and while people come and go: afterwards everything is as the IdP says.

    Whoever is in the group all the time, a guest and a server admin are never kicked.
    """
    ann, bob, cat, dan = (f"{tag}{n}" for n in ("ann", "bob", "cat", "dan"))
    root, guest = f"{tag}root", f"{tag}guest"
    await linked(synapse, admin, root)
    await make_admin(admin, root, is_admin=True)
    await synapse.register(guest)
    space = await admin.create_room(creation_content={"type": "m.space"})
    child = await admin.create_room(room_alias_name=f"{tag}child")
    path = f"/_matrix/client/v3/rooms/{space}/state/m.space.child/{child}"
    await admin.call("PUT", path, {"via": [SERVER_NAME]})
    await admin.call("POST", f"/_synapse/admin/v1/join/{child}", {"user_id": mxid(guest)})
    entries: list[Any] = [
        {"room": space, "children": True},
        {"room": alias(f"{tag}child"), "powerLevel": 50},
    ]
    async with proxying(synapse.url) as proxy:
        first = Twist(KINDS[kind], *SHAPES.values())
        proxy.rewrite = first
        async with service({"g": entries}, MATRIX_URL=proxy.url) as process:
            idp = ScimClient(process.url)
            names = (ann, bob, cat, root)
            emails = {name: [{"value": f"{name}@example.org"}] for name in names}
            people = {name: await idp.create_user(name, emails=emails[name]) for name in names}
            group = await idp.create_group("G", list(people.values()), externalId="g")
            await untwisted(proxy, process, first, 0.0)
            await room_holds(admin, child, {*names, guest}, 90)
            await eventually(lambda: levels(admin, child), lambda p: p.get(ann) == 50)
            await settled(idp)

            second = Twist(KINDS[kind], *reversed(SHAPES.values()))
            proxy.rewrite = second
            await idp.add(group, await idp.create_user(dan))
            await idp.remove(group, people[bob], people[root])
            await set_active(idp, people[cat], active=False)
            before = await compared_at(process)
            assert (await command(process, "sync", "--no-wait"))[0] == 0
            await untwisted(proxy, process, second, before)
            await room_holds(admin, child, {ann, dan, root, guest}, 90)
            await room_holds(admin, space, {ann, dan, root}, 90)
            await eventually(lambda: is_locked(admin, cat), bool, 90)
            await compared(process)
            await is_alive(process)
            assert not await kicked(admin, child) & {ann, dan, root, guest}
            assert "reconciler_failed" not in (process.data_dir / "service.log").read_text()
