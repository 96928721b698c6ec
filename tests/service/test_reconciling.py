"""For any directory, map, rooms and policy: carrying the plan out leads to what is granted."""

import itertools
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiosqlite
from hypothesis import given, settings
from hypothesis import strategies as st

from scim_matrix.groupmap import Mapping
from scim_matrix.scim.people import Identity
from scim_matrix.store import accounts, grants, pairs, resources, rooms
from scim_matrix.store.database import Database
from scim_matrix.store.resources import MemberChange
from scim_matrix.sync.plan import Invite, Join, Kick, Policy, plan
from scim_matrix.sync.power import PowerLevels, power_plan

USERS = ("ann", "bob", "vip", "eve")
GROUPS = ("g", "h", "i")
ROOMS = ("!one", "!two", "!space", "!child")
STRANGERS = ("guest", "vip-guest")
IDENTITY = Identity("s", None, "externalId", 3600)
POLICY = Policy("@bot:s", ("@vip*",))


def mxid(name: str) -> str:
    """Return the user ID of a localpart."""
    return f"@{name}:s"


@dataclass
class World:
    """The homeserver as far as rooms go, and what no plan may touch."""

    joined: dict[str, set[str]]
    invited: dict[str, set[str]] = field(default_factory=lambda: {room: set() for room in ROOMS})
    levels: dict[str, dict[str, int]] = field(
        default_factory=lambda: {room: {"@bot:s": 100, "@bob:s": 60} for room in ROOMS}
    )


@dataclass
class Directory:
    """What the identity provider says: members by group, and who is active."""

    members: dict[str, frozenset[str]]
    active: frozenset[str]

    def granted(self, mappings: list[Mapping]) -> dict[tuple[str, str], tuple[bool, int | None]]:
        """Return every granted (room, user): whether by joining, and the power level."""
        found: dict[tuple[str, str], tuple[bool, int | None]] = {}
        for mapping in mappings:
            inside = set(USERS) if mapping.kind == "everyone" else self._below(mapping.pattern)
            opened = [mapping.room]
            if mapping.children and mapping.room == "!space":
                opened.append("!child")
            for room, user in itertools.product(opened, inside & self.active):
                by_joining, power = found.get((room, user), (False, None))
                levels = [level for level in (power, mapping.power) if level is not None]
                found[room, user] = (
                    by_joining or not mapping.invite,
                    max(levels, default=None),
                )
        return found

    def _below(self, group: str) -> set[str]:
        seen, left, users = {group}, [group], set()
        while left:
            for member in self.members[left.pop()]:
                if member in USERS:
                    users.add(member)
                elif member not in seen:
                    seen.add(member)
                    left.append(member)
        return users


mapping_of = st.builds(
    Mapping,
    kind=st.just("external_id"),
    pattern=st.sampled_from(GROUPS),
    room=st.sampled_from(("!one", "!two", "!space")),
    power=st.sampled_from((None, None, 10, 50)),
    children=st.booleans(),
    invite=st.booleans(),
    exclusive=st.booleans(),
)
maps = st.lists(
    st.one_of(mapping_of, st.just(Mapping("everyone", "", "!two"))),
    max_size=5,
    unique_by=lambda m: (m.kind, m.pattern, m.room),
)
directories = st.builds(
    Directory,
    st.fixed_dictionaries(
        {g: st.frozensets(st.sampled_from((*USERS, *GROUPS)), max_size=4) for g in GROUPS}
    ),
    st.frozensets(st.sampled_from(USERS)),
)
present = st.fixed_dictionaries(
    {room: st.frozensets(st.sampled_from((*USERS, *STRANGERS))) for room in ROOMS}
)


class Store:
    """The store as the identity provider fills it, one request after the other."""

    def __init__(self, connection: aiosqlite.Connection, mappings: list[Mapping]) -> None:
        self.connection = connection
        self.mappings = mappings
        self.ids: dict[str, str] = {}
        self.said = Directory(dict.fromkeys(GROUPS, frozenset()), frozenset())
        # Every (room, user) that was granted at some time, be it between two requests.
        self.ever: set[tuple[str, str]] = set()

    def _says(self, group: str | None, members: frozenset[str], active: frozenset[str]) -> None:
        before = self.said
        after = before.members if group is None else {**before.members, group: members}
        self.said = Directory(after, active)
        self.ever |= set(self.said.granted(self.mappings))

    async def fill(self) -> None:
        """Create everybody, and groups without members."""
        for name in USERS:
            document = {"userName": name, "externalId": name, "active": False}
            row = await resources.create(self.connection, "User", document)
            self.ids[name] = row.id
            profile = IDENTITY.profile(row.id, document)
            user_id = IDENTITY.user_id(row.id, document)
            await accounts.create(self.connection, row.id, user_id, profile)
            await accounts.applied(self.connection, user_id, profile)
        for name in GROUPS:
            document = {"displayName": name, "externalId": name}
            self.ids[name] = (await resources.create(self.connection, "Group", document)).id

    async def become(self, directory: Directory) -> None:
        """Make the store say what a directory says."""
        for name in USERS:
            document = {"userName": name, "externalId": name, "active": name in directory.active}
            await resources.update(self.connection, "User", self.ids[name], document)
            profile = IDENTITY.profile(self.ids[name], document)
            await accounts.change(self.connection, self.ids[name], profile)
            await accounts.applied(self.connection, mxid(name), profile)
            now = self.said.active - {name} | directory.active & {name}
            self._says(None, frozenset(), now)
        for group, members in directory.members.items():
            values = json.dumps([{"value": self.ids[m]} for m in sorted(members)])
            change: Literal["replace"] = "replace"
            await resources.change_members(
                self.connection, self.ids[group], [MemberChange(change, values)]
            )
            self._says(group, members, self.said.active)


async def look(connection: aiosqlite.Connection, world: World) -> None:
    """Compare every mapped room with the world."""
    for room in await rooms.mapped(connection):
        users = sorted(world.joined[room])
        await rooms.observe(connection, room, users, [u for u in users if POLICY.protects(u)])
        await rooms.undone(connection, room, "invite", world.invited[room])


async def carry_out(connection: aiosqlite.Connection, world: World) -> list[Any]:
    """Plan and act until nothing is due; return the actions."""
    done: list[Any] = []
    while due := await pairs.rooms_due(connection, time.time(), []):
        assert len(done) < 500, done
        for room in due:
            for action in plan(await pairs.due(connection, room, time.time(), 10), POLICY):
                user = action.pair.user_id
                done.append(action)
                match action:
                    case Join():
                        world.invited[room].discard(user)
                        world.joined[room].add(user)
                        await pairs.settle_pair(connection, room, user, "join")
                    case Invite():
                        assert user not in world.joined[room]
                        world.invited[room].add(user)
                        await pairs.settle_pair(connection, room, user, "invite")
                    case Kick():
                        assert not POLICY.protects(user)
                        world.invited[room].discard(user)
                        world.joined[room].discard(user)
                        await pairs.settle_pair(connection, room, user, "leave")
                    case _:
                        await pairs.forget(connection, room, user)
            powers = await pairs.power_due(connection, room, time.time())
            if powers:
                planned = power_plan(PowerLevels({"users": world.levels[room]}), powers, POLICY)
                assert not planned.refused
                if planned.content is not None:
                    done.append(planned)
                    world.levels[room] = planned.content["users"]
                await pairs.settle_power(connection, planned.settled)
    return done


@settings(max_examples=150, deadline=None)
@given(maps, present, st.lists(directories, min_size=1, max_size=4))
async def test_executing_the_plan_reaches_what_is_granted(
    mappings: list[Mapping], inside: dict[str, frozenset[str]], said: list[Directory]
) -> None:
    """Then planning again yields nothing; protected and unmanaged people are where they were."""
    world = World({room: {mxid(name) for name in names} for room, names in inside.items()})
    exclusive = {m.room for m in mappings if m.exclusive} | (
        {"!child"}
        if any(m.exclusive and m.children and m.room == "!space" for m in mappings)
        else set()
    )
    with tempfile.TemporaryDirectory() as folder:
        database = await Database.open(Path(folder))
        try:
            async with database.write() as connection:
                store = Store(connection, mappings)
                await store.fill()
                await grants.put_map(connection, mappings)
                if any(m.room == "!space" and m.children for m in mappings):
                    await rooms.children_are(connection, "!space", ["!child"])
                for directory in said:
                    await store.become(directory)
                    before = {room: set(users) for room, users in world.joined.items()}
                    granted = directory.granted(mappings)
                    await look(connection, world)
                    await carry_out(connection, world)
                    right(world, before, granted, store.ever, exclusive)
                    await look(connection, world)
                    assert await carry_out(connection, world) == []
        finally:
            await database.close()


def right(
    world: World,
    before: dict[str, set[str]],
    granted: dict[tuple[str, str], tuple[bool, int | None]],
    ever: set[tuple[str, str]],
    exclusive: set[str],
) -> None:
    """Check each room against what is granted, managed, protected."""
    for room, name in itertools.product(ROOMS, (*USERS, *STRANGERS)):
        user, was_in = mxid(name), mxid(name) in before[room]
        is_in = user in world.joined[room]
        where = (room, name)
        if where in granted:
            by_joining, power = granted[where]
            assert is_in if by_joining else is_in or user in world.invited[room], where
            level = world.levels[room].get(user, 0)
            if is_in and power is not None:
                assert level >= power, where
            continue
        assert user not in world.invited[room] or POLICY.protects(user), where
        if POLICY.protects(user):
            assert is_in == was_in, where
        elif where in ever:
            assert not is_in, where
            assert world.levels[room].get(user, 0) == (60 if name == "bob" else 0), where
        elif room in exclusive and any(r == room for r, _ in granted):
            assert not is_in, where
        elif room not in exclusive:
            assert is_in == was_in, where
