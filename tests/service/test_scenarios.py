"""Scenarios an administrator can read: directory, map and rooms in, actions out."""

import json
import time
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from scim_matrix.groupmap import Mapping, parse_group_map
from scim_matrix.scim.people import Identity
from scim_matrix.store import accounts, grants, pairs, resources, rooms
from scim_matrix.store.database import Database
from scim_matrix.store.resources import MemberChange
from scim_matrix.sync.plan import Join, Kick, Policy, Spare, plan

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

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self.connection = connection
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

    async def change(self, step: dict[str, Any]) -> None:
        """Carry out one step of `then`."""
        [(what, how)] = step.items()
        match what:
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


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_scenario(file: Path, database: Database) -> None:
    """The actions are those the scenario states, in order, and none is left after them."""
    scenario = json.loads(file.read_text())
    policy = Policy(mxid("bot"), tuple(scenario.get("protected", ())))
    async with database.write() as connection:
        directory = Directory(connection)
        await grants.put_map(connection, parsed(scenario["map"]))
        for name, active in scenario["users"].items():
            await directory.user(name, active)
        for name, given in scenario["groups"].items():
            await directory.group(name, given)
        for room, joined in scenario["rooms"].items():
            await rooms.observe(connection, room, [mxid(j) for j in joined], [])
        for step in scenario.get("then", []):
            await directory.change(step)
        found = []
        for room in sorted(await pairs.rooms_due(connection, time.time(), [])):
            for action in plan(await pairs.due(connection, room, time.time(), 100), policy):
                name = action.pair.user_id[1:].split(":")[0]
                match action:
                    case Join():
                        found.append(["join", room, name])
                        done = "join"
                    case Kick(reason=reason):
                        found.append(["kick", room, name, reason])
                        done = "leave"
                    case Spare():
                        found.append(["spare", room, name])
                        done = "leave"
                await pairs.settle_pair(connection, room, action.pair.user_id, done)
        assert scenario["actions"] == found
        assert await pairs.rooms_due(connection, time.time(), []) == []
