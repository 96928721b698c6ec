"""Kill the service a hundred times at random moments while people and the map change, and check.

Every acknowledged write must be there afterwards, and rooms and accounts must agree with it,
though a part of the homeserver's answers is lost and the map spells its room in turn by alias
and by ID. Then the same while 20,000 memberships wait, beside a homeserver in memory. Exit status
0 only then. Options: the number of kills, how much waits, and the random seed.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.backlog import GROUP, World, beside, by_alias, by_id, ring
from benchmarks.seed import fill
from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, User, running
from tests.conftest import eventually
from tests.synapse.conftest import ready
from tests.synapse.proxy import Proxy, proxying

PEOPLE = 8
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


async def change(
    idp: ScimClient, group: str, people: dict[str, str], directory: Directory, dice: random.Random
) -> None:
    """Add, remove, disable and enable random people until a request goes unanswered."""
    while True:
        name = dice.choice(list(people))
        directory.in_doubt = name
        try:
            if dice.random() < 0.3:
                active = name in directory.disabled
                operation = {"op": "replace", "value": {"active": active}}
                await idp.patch(f"/Users/{people[name]}", operation)
                directory.toggle(directory.disabled, name)
            elif name in directory.members:
                await idp.remove(group, people[name])
                directory.toggle(directory.members, name)
            else:
                await idp.add(group, people[name])
                directory.toggle(directory.members, name)
        except (aiohttp.ClientError, ConnectionError):
            return
        directory.in_doubt = None
        directory.acknowledged += 1


async def read(idp: ScimClient, group: str, people: dict[str, str]) -> tuple[set[str], set[str]]:
    """Return the names of the group's members, and of those disabled, as the service has them."""
    names = {scim_id: name for name, scim_id in people.items()}
    members = {names[m["value"]] for m in (await idp.ok("GET", f"/Groups/{group}"))["members"]}
    users = (await idp.ok("GET", "/Users"))["Resources"]
    return members, {names[user["id"]] for user in users if not user["active"]}


def spell(group_map: Path, room: str) -> None:
    """Have the map name its room in this way."""
    put(group_map, json.dumps({"g": [room]}))


def put(group_map: Path, text: str) -> None:
    """Have the map say this."""
    group_map.write_text(text)


async def run(kills: int, seed: int) -> int:
    """Play the whole test; return the exit status."""
    dice = random.Random(seed)
    print(f"{kills} kills, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="scim-matrix-chaos-") as name:
        folder = Path(name)
        (folder / "synapse").mkdir()
        async with (
            running(folder / "synapse") as synapse,
            proxying(synapse.url) as proxy,
        ):
            admin = await synapse.register("scim-bot", admin=True)
            room = await admin.create_room(room_alias_name="chaos")
            group_map = folder / "map.jsonc"
            spell(group_map, room)
            service = Service(
                folder / "data",
                proxy.url,
                admin.user_id,
                admin.token,
                "{}",
                {
                    # Chance removes more people an hour than any brake would let.
                    "REMOVAL_LIMIT_COUNT": "1000000",
                    "GROUP_MAP_FILE": str(group_map),
                },
            )
            await service.start()
            try:
                return await _play(service, admin, room, group_map, proxy, kills, dice)
            finally:
                await service.stop()


async def _play(
    service: Service,
    admin: User,
    room: str,
    group_map: Path,
    proxy: Proxy,
    kills: int,
    dice: random.Random,
) -> int:
    idp = ScimClient(service.url)
    people = {f"p{n}": await idp.create_user(f"p{n}") for n in range(PEOPLE)}
    group = await idp.create_group("G", [], externalId="g")
    await eventually(lambda: ready(idp), lambda s: s["work"]["pendingAccounts"] == 0)
    directory = Directory()
    proxy.lost = lambda method, path: method != "GET" and dice.random() < LOST
    for number in range(1, kills + 1):
        spell(group_map, dice.choice((room, ALIAS)))
        changing = asyncio.create_task(change(idp, group, people, directory, dice))
        # The moment of the kill is what is random here, not a wait for something.
        await asyncio.sleep(dice.uniform(0.0, 0.5))
        await service.stop(signal.SIGKILL)
        with contextlib.suppress(asyncio.CancelledError):
            await changing
        await service.start()
        members, disabled = await read(idp, group, people)
        if not directory.allows(members, disabled):
            print(f"kill {number}: LOST: acknowledged {directory}, found {members}, {disabled}")
            return 1
        directory.members, directory.disabled, directory.in_doubt = members, disabled, None
        if number % 10 == 0:
            print(f"{number} kills, {directory.acknowledged} acknowledged changes, none lost")
    proxy.lost = lambda method, path: False
    deadline = time.monotonic() + SETTLE_SECONDS
    expected = (directory.members - directory.disabled, directory.disabled)
    while (seen := await _seen(admin, room, people)) != expected:
        if time.monotonic() > deadline:
            print(f"inside and locked are {seen}, should be {expected}")
            return 1
        await asyncio.sleep(0.1)
    print(f"{directory.acknowledged} acknowledged changes, none lost; rooms and accounts agree")
    return 0


async def run_backlog(pairs: int, kills: int, dice: random.Random) -> int:
    """Kill the service while much waits and the map changes; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="scim-matrix-chaos-") as name:
        groups = pairs // GROUP
        directory = await fill(
            Path(name) / "data", pairs // 10, ring(pairs // 10, groups, GROUP), accounts=True
        )
        maps = by_id(directory.groups), by_alias(directory.groups)
        group_map = Path(name) / "map.jsonc"
        put(group_map, maps[0])
        more = {"GROUP_MAP_FILE": str(group_map)}
        async with beside(directory, "{}", accounts=True, **more) as world:
            made = await _kill_at_work(world, group_map, maps, kills, dice)
            found = (await world.until(memberships=pairs))["memberships"]
            listed = await ScimClient(world.service.url).ok("GET", "/Users?count=0")
    lost = len(directory.users) + made - listed["totalResults"]
    print(f"{found} of {pairs} memberships, {made} people more acknowledged, {lost} of all lost")
    return int(found != pairs or lost > 0)


async def _kill_at_work(
    world: World, group_map: Path, maps: tuple[str, str], kills: int, dice: random.Random
) -> int:
    """Kill the service at random moments; return how many people were acknowledged meanwhile."""
    made = 0

    async def add() -> None:
        nonlocal made
        idp = ScimClient(world.service.url)
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while True:
                await idp.create_user(f"late{dice.randrange(10**12)}")
                made += 1

    for _ in range(kills):
        put(group_map, dice.choice(maps))
        adding = asyncio.create_task(add())
        # The moment of the kill is what is random here, not a wait for something.
        await asyncio.sleep(dice.uniform(0.0, 3.0))
        await world.service.stop(signal.SIGKILL)
        await adding
        await world.service.start()
    return made


async def _seen(admin: User, room: str, people: dict[str, str]) -> tuple[set[str], set[str]]:
    """Return who is in the room, and whose account is locked."""
    locked = set()
    for name in people:
        path = f"/_synapse/admin/v2/users/@{name}:{SERVER_NAME}"
        with contextlib.suppress(aiohttp.ClientResponseError):
            if (await admin.call("GET", path))["locked"]:
                locked.add(name)
    return await admin.members(room) - {"scim-bot"}, locked


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--backlog", type=int, default=20_000, help="memberships that wait")
    options = parser.parse_args()
    ended = asyncio.run(run(options.kills, options.seed)) if options.kills else 0
    if options.backlog and not ended:
        dice = random.Random(options.seed)
        ended = asyncio.run(run_backlog(options.backlog, min(20, options.kills or 4), dice))
    sys.exit(ended)
