"""One service on SQLite, killed over and over."""

import asyncio
import contextlib
import random
import signal
import tempfile
from pathlib import Path

import aiohttp

from benchmarks.backlog import GROUP, World, beside, by_alias, by_id, ring
from benchmarks.seed import fill
from scim_matrix.demo.service import ScimClient, Service
from scripts.chaos.changes import Directory, Stage, change, lose, put, read, staged, team_of
from tests.conftest import eventually
from tests.synapse.conftest import ready
from tests.synapse.proxy import Proxy, proxying

PEOPLE = 8


async def run(kills: int, dice: random.Random) -> int:
    """Kill the service while people and the map change; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="scim-matrix-chaos-") as name:
        folder = Path(name)
        async with staged(folder, dice) as stage, proxying(stage.url) as proxy:
            service = stage.service(folder / "data", proxy.url)
            await service.start()
            try:
                return await _play(service, stage, proxy, kills, dice)
            finally:
                await service.stop()


async def _play(
    service: Service, stage: Stage, proxy: Proxy, kills: int, dice: random.Random
) -> int:
    idp = ScimClient(service.url)
    team = await team_of(idp, PEOPLE)
    await eventually(lambda: ready(idp), lambda s: s["work"]["pendingAccounts"] == 0)
    directory = Directory()
    names = list(team.people)
    lose(proxy, dice)
    for number in range(1, kills + 1):
        stage.spell(dice)
        changing = asyncio.create_task(
            change(idp, team, names, directory, dice, ended=asyncio.Event())
        )
        # The moment of the kill is what is random here, not a wait for something.
        await asyncio.sleep(dice.uniform(0.0, 0.5))
        await service.stop(signal.SIGKILL)
        await changing
        await service.start()
        members, disabled = await read(idp, team)
        if not directory.allows(members, disabled):
            print(f"kill {number}: LOST: acknowledged {directory}, found {members}, {disabled}")
            return 1
        directory.members, directory.disabled, directory.in_doubt = members, disabled, None
        if number % 10 == 0:
            print(f"{number} kills, {directory.acknowledged} acknowledged changes, none lost")
    proxy.lights_on()
    if not await stage.agrees(directory, team):
        return 1
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
