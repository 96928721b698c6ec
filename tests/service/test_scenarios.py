"""Scenarios an administrator can read: directory, map and rooms in, what is done and shown out.

The real reconciler works them off on a homeserver in memory. Steps stand under `then`; `so` is
what has been done by then, `while slow` has steps that are carried out while a request is under
way, `actions` what is done after the last one, `shown` what a human is shown of that. A scenario
that names the "homeserver's answers" has some of them lost.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from scim_matrix.groupmap import parse_group_map
from scim_matrix.store import groupmap, openings, record, views
from scim_matrix.store.database import Connection, Place
from scim_matrix.sync.guard import Brake
from tests.homeserver import Deed, Fault, Request, World
from tests.homeserver.deployment import IDP, Configuration, Deployment, deployed
from tests.homeserver.rooms import CANONICAL, MEMBER, PARENT, Event

FILES = sorted((Path(__file__).parents[1] / "scenarios").glob("*.json"))
SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
# Whoever does by hand what is done by hand; nobody else knows them.
OWNER = "@owner:s"
# What the record tells beside what is done.
UNDONE = {"held": "hold", "spared": "spare", "refused": "refuse", "dry_run": "would"}
KEYS = {
    *("map", "protected", "brake", "self leave", "on disable", "adopts", "dry run", "turns"),
    *("users", "groups", "rooms", "aliases", "levels", "spaces", "accounts", "public"),
    *("at first", "then", "actions", "shown"),
}


def mxid(name: str) -> str:
    """Return the user ID of a localpart."""
    return f"@{name}:s"


def name_of(user_id: str) -> str:
    """Return the localpart of a user ID."""
    return user_id[1:].partition(":")[0]


class Scenario:
    """One scenario in progress."""

    def __init__(self, told: dict[str, Any], deployment: Deployment) -> None:
        assert told.keys() <= KEYS, told.keys() - KEYS
        self.told = told
        self.deployment = deployment
        self.world = deployment.world
        self.ids: dict[str, str] = {}
        self._recorded = 0
        self._deeds = 0

    # -- How it is at first -------------------------------------------------

    def people(self) -> None:
        """Have accounts where there are some, each linked to its user."""
        for name, given in self.told["users"].items():
            if given != "without an account":
                account = {"displayname": name, "external_ids": [link(name)]}
                self.world.account(mxid(name), **account)
        for name, given in self.told.get("accounts", {}).items():
            self.world.account(mxid(name), **given)

    def rooms(self) -> None:
        """Have rooms with those in them who are; the service's account made them."""
        spaces = self.told.get("spaces", {})
        for room_id, joined in self.told["rooms"].items():
            levels = self.told.get("levels", {}).get(room_id)
            given = {} if levels is None else {mxid(n): level for n, level in levels.items()}
            self.world.rooms.create(
                self.world.service,
                room_id=room_id,
                version="12" if levels is None else "10",
                levels={} if levels is None else {"users": given},
                space=room_id in spaces,
                public=room_id in self.told.get("public", ()),
            )
            for name in joined:
                self.world.bring(room_id, mxid(name))
        for space, children in spaces.items():
            for room_id in children:
                self.world.child(space, self.world.service, room_id)
        for alias, room_id in self.told.get("aliases", {}).items():
            self.world.alias(alias, room_id)

    async def directory(self) -> None:
        """Have the identity provider say who there is, before the map says what that means."""
        for name, given in self.told["users"].items():
            await self.user(name, active=given is not False)
        await self.deployment.quiet()
        self._recorded = (await self._record())[-1]["id"] if await self._record() else 0
        self._deeds = len(self.world.deeds)
        await self.deployment.put_map(self.told["map"])
        for name, given in self.told["groups"].items():
            await self.group(name, given)

    # -- The identity provider ----------------------------------------------

    async def scim(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that succeeds."""
        status, answer = await self.deployment.scim(method, path, body)
        assert status < 300, answer
        return answer

    async def user(self, name: str, *, active: bool = True, subject: str | None = None) -> None:
        """Create a user."""
        body = {
            "schemas": [f"{SCHEMA}User"],
            "userName": name,
            "externalId": subject or name,
            "active": active,
        }
        self.ids[name] = (await self.scim("POST", "/Users", body))["id"]

    async def group(self, name: str, given: dict[str, Any]) -> None:
        """Create a group with its members."""
        body = {**given, "schemas": [f"{SCHEMA}Group"], "displayName": name}
        body["members"] = [{"value": self.ids[member]} for member in given["members"]]
        self.ids[name] = (await self.scim("POST", "/Groups", body))["id"]

    async def patch(self, path: str, attribute: str, value: Any) -> None:
        """Replace one attribute."""
        operation = {"op": "replace", "path": attribute, "value": value}
        schema = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
        await self.scim("PATCH", path, {"schemas": [schema], "Operations": [operation]})

    # -- Steps --------------------------------------------------------------

    async def step(self, step: dict[str, Any], after: float = 1.0) -> None:
        """Carry out one step of `then`, so many seconds after the one before."""
        [(what, how)] = step.items()
        deployment, world = self.deployment, self.world
        deployment.hands.passed += after
        match what:
            case "so":
                assert by_person(how) == by_person(await self.actions())
            # The identity provider
            case "members":
                name, members = how
                values = [{"value": self.ids[member]} for member in members]
                await self.patch(f"/Groups/{self.ids[name]}", "members", values)
            case "delete":
                await self.scim("DELETE", f"/Groups/{self.ids[how]}")
            case "delete-user":
                await self.scim("DELETE", f"/Users/{self.ids[how]}")
            case "create":
                name, subject = how if isinstance(how, list) else (how, how)
                await self.user(name, subject=subject)
            case "rename":
                old, new = how
                await self.patch(f"/Groups/{self.ids[old]}", "displayName", new)
            case "active":
                name, active = how
                await self.patch(f"/Users/{self.ids[name]}", "active", active)
            # The administrator
            case "map":
                await deployment.put_map(how)
            case "a human says":
                decision, target = how
                await deployment.decide(target, decision)
            case "links":
                await deployment.link(self.ids[how[0]], mxid(how[1]))
            case "prune":
                await deployment.prune()
            case "protected":
                await deployment.restart(protected_users=tuple(how))
            case "dry run":
                await deployment.restart(dry_run=how)
            case "restarts":
                await deployment.restart()
            case "is killed before the answer to":
                await deployment.die(meant(how))
            case "back up":
                await deployment.copy(how)
            case "restore":
                await deployment.restore(how)
            case "time passes":
                deployment.hands.passed += how
            case "the clock jumps":
                deployment.hands.jumped += how
            case "maps in the console":
                maker, group_map = how
                for mapping in parse_group_map(json.dumps(group_map)):
                    async with deployment.database.write() as connection:
                        await groupmap.add(connection, mapping, mxid(maker), None)
                deployment.reconciler.compare()
            case "takes out of the console":
                async with deployment.database.write() as connection:
                    for number in await console_mappings(connection, how):
                        await groupmap.remove(connection, number)
                deployment.reconciler.compare()
            # On the homeserver
            case "joins":
                world.bring(how[0], mxid(how[1]))
            case "leaves":
                world.rooms.leave(how[0], mxid(how[1]))
            case "is kicked" | "is banned" | "is unbanned":
                membership = "ban" if what == "is banned" else "leave"
                event = Event(MEMBER, mxid(how[1]), OWNER, {"membership": membership})
                world.rooms.put(world.rooms.get(how[0]), event)
            case "has power":
                world.levels(how[0], **how[1])
            case "space":
                space, children = how
                room = world.rooms.get(space)
                present = {key for kind, key in room.state if kind == "m.space.child"}
                for room_id in present | set(children):
                    world.child(space, world.service, room_id, present=room_id in children)
            case "puts into the space":
                who, space, room_id = how
                world.child(space, mxid(who), room_id)
            case "names the space in":
                who, space, room_id = how
                event = Event(PARENT, space, mxid(who), {"via": ["s"]})
                world.rooms.put(world.rooms.get(room_id), event)
            case "says of its room":
                who, room_id, alias = how
                event = Event(CANONICAL, "", mxid(who), {"alt_aliases": [alias]})
                world.rooms.put(world.rooms.get(room_id), event)
            case "makes a room":
                who, room_id = how
                world.room(mxid(who), room_id=room_id)
            case "is upgraded to":
                old, new = how
                world.upgrade(old, world.service, new)
            case "is deleted":
                world.rooms.delete(how)
            case "points at":
                old, new = how
                world.tombstone(old, OWNER, new)
            case "alias":
                alias, room_id = how
                world.alias(alias, room_id)
            case "alias is gone":
                del world.rooms.aliases[how]
            case "alias taken by":
                alias, room_id = how
                world.alias(alias, room_id, canonical=False)
            case "is administrator":
                name, is_admin = how
                world.accounts.get(mxid(name)).admin = is_admin
                # The list of administrators is believed for five seconds.
                deployment.hands.passed += 6
            case "by hand":
                name, changes = how
                world.account(mxid(name), **changes)
            case "does not answer":
                deployment.homeserver.dark = how
            case "loses the request for":
                deployment.homeserver.faults.append(Fault("request lost", meant(how)))
            case "while slow":
                what, steps = how
                async with deployment.while_slow(meant(what), 30.0):
                    for step in steps:
                        # At once: a turn in a room does not go on for long.
                        await self.step(step, after=0)
                    await deployment.reconciler.settle_map()
            case "loses the answer to":
                deployment.homeserver.faults.append(Fault("answer lost", meant(how)))
            case _:
                raise AssertionError(f"unknown step {what}")

    # -- What is done -------------------------------------------------------

    async def _record(self) -> list[dict[str, Any]]:
        return await record.find(
            self.deployment.database.reader, users=None, rooms=(), since=0, limit=10_000
        )

    async def actions(self) -> list[list[Any]]:
        """Settle, and return what was held, done and left undone: accounts, then room by room."""
        await self.deployment.quiet()
        found: dict[str, list[list[Any]]] = {}
        undone: dict[str, list[list[Any]]] = {}
        for row in await self._record():
            if row["id"] > self._recorded and row["outcome"] in UNDONE and row["user_id"]:
                self._recorded = row["id"]
                _say(row, found if row["outcome"] == "held" else undone)
        for deed in self.world.deeds[self._deeds :]:
            found.setdefault(deed.room_id or "", []).extend(_done(deed, self.world.service))
        self._deeds = len(self.world.deeds)
        rooms = sorted({*found, *undone})
        return [a for room in rooms for a in [*found.get(room, []), *sorted(undone.get(room, []))]]

    async def shown(self) -> list[list[Any]]:
        """Return what a human is shown: its state, room or reference, and whom it is about."""
        rows = await views.left_to_do(self.deployment.database.reader, 100)
        return sorted(list(filter(None, (r["state"], r["room"], r["user"]))) for r in rows)


def by_person(actions: Iterable[list[Any]]) -> list[list[Any]]:
    """Return actions, those on accounts first and by person: several are worked on at once."""

    def person(action: list[Any]) -> str:
        what = action[1] if len(action) == 2 else None
        return what if isinstance(what, str) and not what.startswith("!") else ""

    actions = list(actions)
    others = [action for action in actions if not person(action)]
    return [*sorted(filter(person, actions), key=person), *others]


def last_levels(actions: Iterable[list[Any]]) -> list[list[Any]]:
    """Return actions without levels that are set anew later: how many turns it takes may differ.

    Whoever is ready first goes first, and others have theirs by another turn.
    """
    actions = list(actions)
    return [
        action
        for number, action in enumerate(actions)
        if action[0] != "power"
        or ["power", action[1]] not in [a[:2] for a in actions[number + 1 :]]
    ]


async def console_mappings(connection: Connection, pattern: str) -> list[int]:
    """Return the mappings made in the console of a group."""
    found = await openings.console_mappings(connection)
    return [mapping.id for mapping in found if mapping.pattern == pattern]


def link(name: str) -> dict[str, str]:
    """Return the SSO identity of somebody."""
    return {"auth_provider": IDP, "external_id": name}


def meant(what: str) -> Any:
    """Return what tells a request by its last word: kick, join, lock, levels."""

    def is_meant(request: Request) -> bool:
        match what:
            case "kick" | "invite":
                return request.path[-1] == what
            case "join":
                return request.path[:4] == ("_synapse", "admin", "v1", "join")
            case "lock" | "unlock":
                return request.body.get("locked") is (what == "lock")
            case "levels":
                return "m.room.power_levels" in request.path and request.method == "PUT"
            case "reading levels":
                return request.path[-1] == "state" and request.method == "GET"
            case "promotion":
                return "make_room_admin" in request.path
            case "create":
                return request.method == "PUT" and "external_ids" in request.body
        raise AssertionError(what)

    return is_meant


def _say(row: dict[str, Any], found: dict[str, list[list[Any]]]) -> None:
    """Add what the record says to what was found; what is held is counted."""
    room, word = row["room_id"] or "", UNDONE[row["outcome"]]
    said = found.setdefault(room, [])
    where = [room] if room else []
    if word == "hold":
        if not said:
            said.append([word, *where, 0])
        said[-1][-1] += 1
    elif (action := [word, *where, name_of(row["user_id"])]) not in said:
        # What rests is tried again.
        said.append(action)


def _done(deed: Deed, service: str) -> list[list[Any]]:
    """Return what the service did, in words."""
    where = [] if deed.room_id is None else [deed.room_id]
    match deed.what:
        case "levels":
            if {u: x for u, x in deed.before.items() if u != service} == {
                u: x for u, x in deed.after.items() if u != service
            }:
                return []
            return [["power", *where, {name_of(u): level for u, level in deed.after.items()}]]
        case "account":
            assert deed.user_id is not None
            return [[what, name_of(deed.user_id)] for what in _changes(deed)]
        case "kick" | "join" | "invite":
            assert deed.user_id is not None
            reason = [deed.after] if deed.what == "kick" else []
            return [[deed.what, *where, name_of(deed.user_id), *reason]]
    return [[deed.what, *where]]


def _changes(deed: Deed) -> list[str]:
    """Return what was done to an account."""
    if deed.before is None:
        return ["create"]
    words = []
    for what in ("lock", "suspend", "deactivate", "erase"):
        flag = {"lock": "locked", "suspend": "suspended", "erase": "erased"}.get(what, f"{what}d")
        if deed.before[flag] != deed.after[flag]:
            words.append(what if deed.after[flag] else f"un{what}")
    return words or ["update"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_scenario(file: Path, place: Place) -> None:
    """What is done is what the scenario states, in order, and nothing is left to do after that."""
    told = json.loads(file.read_text())
    if not isinstance(place, Path) and any("back up" in step for step in told.get("then", [])):
        pytest.skip("PostgreSQL is copied by its own pg_dump")
    brake = {"percent": 100, "count": 1000, "window": 3600, **told.get("brake", {})}
    configuration = Configuration(
        protected_users=tuple(told.get("protected", ())),
        brake=Brake(**brake),
        on_self_leave="respect" if told.get("self leave") == "is respected" else "rejoin",
        on_disable=told.get("on disable", "lock"),
        adopt_existing=told.get("adopts", False),
        dry_run=told.get("dry run", False),
    )
    async with deployed(place, World(), configuration) as deployment:
        scenario = Scenario(told, deployment)
        scenario.people()
        scenario.rooms()
        await scenario.directory()
        if "at first" in told:
            assert by_person(told["at first"]) == by_person(await scenario.actions())
        for step in told.get("then", []):
            await scenario.step(step)
        done = await scenario.actions()
        if told.get("turns") == "any":
            done = last_levels(done)
        assert by_person(told["actions"]) == by_person(done)
        if "shown" in told:
            assert sorted(told["shown"]) == await scenario.shown()
        deeds = len(deployment.world.deeds)
        await deployment.quiet()
        assert deployment.world.deeds[deeds:] == []
