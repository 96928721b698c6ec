"""What an identity provider changes while the service is killed, and what it was told is done."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, User, running
from tests.conftest import eventually
from tests.synapse.proxy import Proxy

SETTLE_SECONDS = 180.0
# The share of changes of the homeserver whose answer never arrives.
LOST = 0.15
ALIAS = f"#chaos:{SERVER_NAME}"


@dataclass
class Directory:
    """What was acknowledged, and whom the one change was about whose answer may have been lost."""

    members: set[str] = field(default_factory=set)
    disabled: set[str] = field(default_factory=set)
    in_doubt: str | None = None
    acknowledged: int = 0

    def allows(self, members: set[str], disabled: set[str]) -> bool:
        """Tell whether what is found loses no acknowledged write."""
        doubt = {self.in_doubt}
        return members - doubt == self.members - doubt and disabled - doubt == self.disabled - doubt

    def toggle(self, people: set[str], name: str) -> bool:
        """Change somebody's place in a set; tell whether they are in it now."""
        people ^= {name}
        return name in people


@dataclass(frozen=True)
class Team:
    """A group, and the people who come and go: their SCIM ids by name."""

    group: str
    people: dict[str, str]


async def team_of(idp: ScimClient, size: int) -> Team:
    """Create people, and the group that the map names."""
    people = {f"p{n}": await idp.create_user(f"p{n}") for n in range(size)}
    return Team(await idp.create_group("G", [], externalId="g"), people)


async def change(
    idp: ScimClient,
    team: Team,
    names: list[str],
    directory: Directory,
    dice: random.Random,
    ended: asyncio.Event,
) -> None:
    """Add, remove, disable and enable random people until `ended`, or a request goes unanswered."""
    while not ended.is_set():
        name = dice.choice(names)
        directory.in_doubt = name
        try:
            if dice.random() < 0.3:
                active = name in directory.disabled
                operation = {"op": "replace", "value": {"active": active}}
                await idp.patch(f"/Users/{team.people[name]}", operation)
                directory.toggle(directory.disabled, name)
            elif name in directory.members:
                await idp.remove(team.group, team.people[name])
                directory.toggle(directory.members, name)
            else:
                await idp.add(team.group, team.people[name])
                directory.toggle(directory.members, name)
        except (aiohttp.ClientError, ConnectionError):
            return
        directory.in_doubt = None
        directory.acknowledged += 1


async def read(idp: ScimClient, team: Team) -> tuple[set[str], set[str]]:
    """Return the names of the group's members, and of those disabled, as the service has them."""
    names = {scim_id: name for name, scim_id in team.people.items()}
    group = await idp.ok("GET", f"/Groups/{team.group}")
    users = (await idp.ok("GET", "/Users"))["Resources"]
    return (
        {names[member["value"]] for member in group["members"]},
        {names[user["id"]] for user in users if not user["active"]},
    )


def lose(proxy: Proxy, dice: random.Random) -> None:
    """Have a part of the answers to changes never arrive."""
    proxy.lost = lambda method, path: method != "GET" and dice.random() < LOST


@dataclass(frozen=True)
class Stage:
    """A homeserver's address, its administrator, a room, and the file of the map that names it."""

    url: str
    admin: User
    room: str
    group_map: Path

    def spell(self, dice: random.Random) -> None:
        """Have the map name its room by ID or by alias."""
        put(self.group_map, json.dumps({"g": [dice.choice((self.room, ALIAS))]}))

    def service(
        self, folder: Path, url: str, make: Callable[..., Service] = Service, **more: str
    ) -> Service:
        """Return a service that reaches the homeserver at a URL."""
        settings = {
            # Chance removes more people an hour than any brake would let.
            "REMOVAL_LIMIT_COUNT": "1000000",
            "GROUP_MAP_FILE": str(self.group_map),
            **more,
        }
        return make(folder, url, self.admin.user_id, self.admin.token, "{}", settings)

    async def seen(self, names: list[str]) -> tuple[set[str], set[str]]:
        """Return who is in the room, and whose account is locked."""
        locked = set()
        for name in names:
            path = f"/_synapse/admin/v2/users/@{name}:{SERVER_NAME}"
            with contextlib.suppress(aiohttp.ClientResponseError):
                if (await self.admin.call("GET", path))["locked"]:
                    locked.add(name)
        return await self.admin.members(self.room) - {"scim-bot"}, locked

    async def agrees(self, directory: Directory, team: Team) -> bool:
        """Wait until room and accounts are as the directory says; tell whether they came to be."""
        expected = (directory.members - directory.disabled, directory.disabled)
        try:
            await eventually(
                lambda: self.seen(list(team.people)), lambda seen: seen == expected, SETTLE_SECONDS
            )
        except AssertionError as error:
            print(f"inside and locked should be {expected}: {error}")
            return False
        return True


def put(group_map: Path, text: str) -> None:
    """Have the map say this."""
    group_map.write_text(text)


@contextlib.asynccontextmanager
async def staged(folder: Path, dice: random.Random) -> AsyncIterator[Stage]:
    """Run a homeserver with an empty room, and write a map for it."""
    (folder / "synapse").mkdir()
    async with running(folder / "synapse") as synapse:
        admin = await synapse.register("scim-bot", admin=True)
        room = await admin.create_room(room_alias_name="chaos")
        stage = Stage(synapse.url, admin, room, folder / "map.jsonc")
        stage.spell(dice)
        yield stage
