"""Kill the service a hundred times at random moments while members change, and check.

Every acknowledged write must be there afterwards, and the rooms must agree with it. Exit status
0 only then. Options: the number of kills and the random seed.
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
from pathlib import Path

import aiohttp

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import User, running

PEOPLE = 8
SETTLE_SECONDS = 120.0


class Directory:
    """What was acknowledged, and the one change whose answer may have been lost."""

    def __init__(self) -> None:
        self.members: set[str] = set()
        self.in_doubt: str | None = None
        self.acknowledged = 0

    def allows(self, members: set[str]) -> bool:
        """Tell whether these members lose no acknowledged write."""
        return members - {self.in_doubt} == self.members - {self.in_doubt}


async def change_members(
    idp: ScimClient, group: str, people: dict[str, str], directory: Directory, dice: random.Random
) -> None:
    """Add and remove random people until a request goes unanswered."""
    while True:
        name = dice.choice(list(people))
        directory.in_doubt = name
        try:
            if name in directory.members:
                await idp.remove(group, people[name])
                directory.members.discard(name)
            else:
                await idp.add(group, people[name])
                directory.members.add(name)
        except (aiohttp.ClientError, ConnectionError):
            return
        directory.in_doubt = None
        directory.acknowledged += 1


async def read_members(idp: ScimClient, group: str, people: dict[str, str]) -> set[str]:
    """Return the names of the group's members as the service has them."""
    names = {scim_id: name for name, scim_id in people.items()}
    found = await idp.ok("GET", f"/Groups/{group}")
    return {names[m["value"]] for m in found["members"]}


async def run(kills: int, seed: int) -> int:
    """Play the whole test; return the exit status."""
    dice = random.Random(seed)
    print(f"{kills} kills, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="scim-matrix-chaos-") as name:
        folder = Path(name)
        (folder / "synapse").mkdir()
        async with running(folder / "synapse") as synapse:
            admin = await synapse.register("scim-bot", admin=True)
            room = await admin.create_room()
            service = Service(
                folder / "data",
                synapse.url,
                admin.user_id,
                admin.token,
                json.dumps({"g": [room]}),
                # Chance removes more people an hour than any brake would let.
                {"REMOVAL_LIMIT_COUNT": "1000000"},
            )
            await service.start()
            try:
                return await _play(service, admin, room, kills, dice)
            finally:
                await service.stop()


async def _play(service: Service, admin: User, room: str, kills: int, dice: random.Random) -> int:
    idp = ScimClient(service.url)
    people = {f"p{n}": await idp.create_user(f"p{n}") for n in range(PEOPLE)}
    group = await idp.create_group("G", [], externalId="g")
    directory = Directory()
    for number in range(1, kills + 1):
        changing = asyncio.create_task(change_members(idp, group, people, directory, dice))
        # The moment of the kill is what is random here, not a wait for something.
        await asyncio.sleep(dice.uniform(0.0, 0.5))
        await service.stop(signal.SIGKILL)
        with contextlib.suppress(asyncio.CancelledError):
            await changing
        await service.start()
        members = await read_members(idp, group, people)
        if not directory.allows(members):
            print(f"kill {number}: LOST: acknowledged {directory.members}, found {members}")
            return 1
        directory.members, directory.in_doubt = members, None
        if number % 10 == 0:
            print(f"{number} kills, {directory.acknowledged} acknowledged changes, none lost")
    deadline = time.monotonic() + SETTLE_SECONDS
    while (seen := await admin.members(room) - {"scim-bot"}) != directory.members:
        if time.monotonic() > deadline:
            print(f"the room holds {seen}, should hold {directory.members}")
            return 1
        await asyncio.sleep(0.1)
    print(f"{directory.acknowledged} acknowledged changes, none lost; the room agrees")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    sys.exit(asyncio.run(run(options.kills, options.seed)))
