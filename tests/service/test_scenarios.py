"""Scenarios an administrator can read: directory, map and rooms in, actions out."""

import json
import time
from pathlib import Path
from typing import Any, Literal, cast

import aiosqlite
import pytest

from scim_matrix.groupmap import Mapping, parse_group_map
from scim_matrix.scim.people import Identity
from scim_matrix.store import accounts, grants, held, pairs, resources, rooms
from scim_matrix.store.database import Database
from scim_matrix.store.resources import MemberChange
from scim_matrix.sync.guard import Brake, Tally
from scim_matrix.sync.plan import Invite, Join, Kick, Policy, Spare, plan
from scim_matrix.sync.power import PowerLevels, power_plan

FILES = sorted((Path(__file__).parents[1] / "scenarios").glob("*.json"))
IDENTITY = Identity("s", None, "externalId", 3600)


def mxid(name: str) -> str:
    """Return the user ID of a localpart."""
    return f"@{name}:s"


def parsed(group_map: dict[str, Any]) -> tuple[Mapping, ...]:
    """Return the mappings of a scenario's map."""
    return parse_group_map(json.dumps(group_map))


class Directory:
    """The store as a scenario fills and changes it."""

    def __init__(self, connection: aiosqlite.Connection, words: set[str]) -> None:
        self.connection = connection
        self.words = words
        self.ids: dict[str, str] = {}

    async def user(self, name: str, active: bool) -> None:
        """Create a user whose account is there already."""
        document = {"userName": name, "externalId": name, "active": active}
        row = await resources.create(self.connection, "User", document)
        self.ids[name] = row.id
        profile = IDENTITY.profile(row.id, document)
        await accounts.create(self.connection, row.id, IDENTITY.user_id(row.id, document), profile)
        await accounts.applied(self.connection, mxid(name), profile)

    async def group(self, name: str, given: dict[str, Any]) -> None:
        """Create a group with its members."""
        document = {"displayName": name}
        if "externalId" in given:
            document["externalId"] = given["externalId"]
        self.ids[name] = (await resources.create(self.connection, "Group", document)).id
        await self.members(name, given["members"])

    async def members(self, name: str, members: list[str]) -> None:
        """Replace a group's members."""
        change = MemberChange("replace", json.dumps([{"value": self.ids[m]} for m in members]))
        await resources.change_members(self.connection, self.ids[name], [change])

    async def observe(self, room: str, joined: list[str], policy: Policy) -> None:
        """See who is in a room."""
        users = [mxid(name) for name in joined]
        await rooms.observe(self.connection, room, users, filter(policy.protects, users))

    async def change(self, step: dict[str, Any], policy: Policy) -> None:
        """Carry out one step of `then`."""
        [(what, how)] = step.items()
        match what:
            case "leaves" | "is kicked" | "is banned" | "joins":
                room, name = how
                membership = {"joins": "join", "is banned": "ban"}.get(what, "leave")
                await rooms.noted(
                    self.connection,
                    room,
                    mxid(name),
                    cast("Literal['join', 'leave', 'ban']", membership),
                    protected=policy.protects(mxid(name)),
                    respected=what == "leaves" and "respected" in self.words,
                )
            case "space":
                await rooms.children_are(self.connection, *how)
            case "seen in the room":
                room, joined = how
                await self.observe(room, joined, policy)
            case "a human says":
                decision, room = how
                await held.decide(self.connection, [room], decision)
            case "members":
                await self.members(*how)
            case "delete":
                await resources.delete(self.connection, "Group", self.ids[how])
            case "delete-user":
                await accounts.release(self.connection, self.ids[how], 3600)
                await resources.delete(self.connection, "User", self.ids[how])
            case "create":
                await self.user(how, True)
            case "map":
                await grants.put_map(self.connection, parsed(how))
            case "rename":
                old, new = how
                row = await resources.get(self.connection, "Group", self.ids[old])
                document = {**row.document, "displayName": new}
                await resources.update(self.connection, "Group", row.id, document)
            case "active":
                name, active = how
                row = await resources.get(self.connection, "User", self.ids[name])
                document = {**row.document, "active": active}
                await resources.update(self.connection, "User", row.id, document)
                profile = IDENTITY.profile(row.id, document)
                await accounts.change(self.connection, row.id, profile)
                await accounts.applied(self.connection, mxid(name), profile)
            case _:
                raise AssertionError(f"unknown step {what}")


async def actions(
    connection: aiosqlite.Connection, scenario: dict[str, Any], policy: Policy
) -> list[Any]:
    """Return what is planned, room by room, and record it as done."""
    found: list[Any] = []
    brake = Brake(**{"percent": 100, "count": 1000, "window": 3600, **scenario.get("brake", {})})
    for room in sorted(await pairs.rooms_due(connection, time.time(), [])):
        if brake.holds(Tally(*await held.room_counts(connection, room, 0))):
            found.append(["hold", room, await held.hold_room(connection, room)])
        for action in plan(await pairs.due(connection, room, time.time(), 100), policy):
            name = action.pair.user_id[1:].split(":")[0]
            match action:
                case Join():
                    found.append(["join", room, name])
                    done = "join"
                case Invite():
                    found.append(["invite", room, name])
                    done = "invite"
                case Kick(reason=reason):
                    found.append(["kick", room, name, reason])
                    done = "leave"
                case Spare():
                    found.append(["spare", room, name])
                    done = "leave"
            await pairs.settle_pair(connection, room, action.pair.user_id, done)
        power = await pairs.power_due(connection, room, time.time())
        given = scenario.get("levels", {}).get(room, {"bot": 100})
        levels = PowerLevels({"users": {mxid(name): level for name, level in given.items()}})
        planned = power_plan(levels, power, policy)
        if planned.content is not None:
            users = planned.content["users"].items()
            found.append(["power", room, {u[1:].split(":")[0]: level for u, level in users}])
        found += [["refuse", room, p.user_id[1:].split(":")[0]] for p, _ in planned.refused]
        await pairs.settle_power(connection, [*planned.settled, *(p for p, _ in planned.refused)])
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_scenario(file: Path, database: Database) -> None:
    """The actions are those the scenario states, in order, and none is left after them."""
    scenario = json.loads(file.read_text())
    policy = Policy(mxid("bot"), tuple(scenario.get("protected", ())))
    async with database.write() as connection:
        directory = Directory(connection, set(scenario.get("self leave", "").split()))
        await grants.put_map(connection, parsed(scenario["map"]))
        for name, active in scenario["users"].items():
            await directory.user(name, active)
        for space, children in scenario.get("spaces", {}).items():
            await rooms.children_are(connection, space, children)
        for name, given in scenario["groups"].items():
            await directory.group(name, given)
        for room, joined in scenario["rooms"].items():
            await directory.observe(room, joined, policy)
        if "then" in scenario and "at first" in scenario:
            assert scenario["at first"] == await actions(connection, scenario, policy)
        for number, step in enumerate(scenario.get("then", [])):
            # The steps of a scenario are not within one millisecond of each other.
            await connection.execute_fetchall("UPDATE pair SET since = min(since, ?)", (number,))
            await directory.change(step, policy)
        assert scenario["actions"] == await actions(connection, scenario, policy)
        assert await pairs.rooms_due(connection, time.time(), []) == []
