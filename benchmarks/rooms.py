"""How fast rooms follow on a real Synapse: `make bench` prints the table."""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from benchmarks.scim import timed
from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User, running
from tests.synapse.proxy import Proxy, proxying

PEOPLE = 500
JOINS = 150
REMOVALS = 300
ROUNDS = 3


class Bench:
    """A homeserver with people, a service, and an identity provider that talks to it."""

    def __init__(self, synapse: Synapse, admin: User, service: Service, proxy: Proxy) -> None:
        self.synapse = synapse
        self.admin = admin
        self.service = service
        self.proxy = proxy
        self.idp = ScimClient(service.url)
        self.people: list[str] = []
        self.rooms: list[str] = []

    async def until(self, room: str, number: int, every: float) -> None:
        """Wait until a room holds so many people besides the service."""
        while True:
            if len(await self.admin.members(room)) == number + 1:
                return
            await asyncio.sleep(every)

    async def use(self, *, proxy: bool = False, **more: str) -> None:
        """Run the service with a fresh room for each of the groups g0 and g1."""
        await self.service.stop()
        self.rooms = [await self.admin.create_room() for _ in range(2)]
        self.service.group_map = json.dumps({f"g{n}": [r] for n, r in enumerate(self.rooms)})
        self.service.matrix_url = self.proxy.url if proxy else self.synapse.url
        self.service.more = {"REMOVAL_LIMIT_COUNT": "100000", **more}
        await self.service.start()
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until nothing is left to do."""
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{self.service.url}/readyz") as answer:
                    state = await answer.json()
                work = state["work"]
                if state["homeserver"]["liveDrift"] and not (
                    work["pendingPairs"] or work["pendingAccounts"]
                ):
                    return
                await asyncio.sleep(0.1)

    async def still(self) -> None:
        """Wait until nothing has been sent for a second: the rooms are compared once more after a
        start, since what happened before live drift followed them has to be seen.
        """
        while True:
            before = len(self.proxy.requests)
            await asyncio.sleep(1)
            if before == len(self.proxy.requests):
                return

    async def members(self, group: str, people: Sequence[str]) -> None:
        """Replace a group's members."""
        value = [{"value": person} for person in people]
        operation = {"op": "replace", "path": "members", "value": value}
        await self.idp.patch(f"/Groups/{group}", operation)


async def bare_joins(admin: User, room: str, names: Sequence[str]) -> None:
    """Do joins as a bare loop does them, over one kept connection."""
    headers = {"Authorization": f"Bearer {admin.token}"}
    path = f"/_synapse/admin/v1/join/{room}"
    async with aiohttp.ClientSession(admin.url, headers=headers) as session:
        for name in names:
            async with session.post(path, json={"user_id": f"@{name}:{SERVER_NAME}"}) as answer:
                answer.raise_for_status()
                await answer.read()


async def join_ratio(bench: Bench, group: str) -> float:
    """Return the time until joins are done ÷ that of a bare loop, in turns."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        await bench.use()
        start = time.perf_counter()
        await bench.members(group, bench.people[:JOINS])
        # Asking the homeserver meanwhile would take of the time that the joins have.
        await bench.quiet()
        ours.append(time.perf_counter() - start)
        await bench.until(bench.rooms[0], JOINS, 0.1)
        await bench.members(group, [])
        await bench.service.stop()
        room = await bench.admin.create_room()
        names = [f"p{n}" for n in range(JOINS)]
        theirs.append(await timed(bare_joins(bench.admin, room, names)))
    return statistics.median(ours) / statistics.median(theirs)


async def requests_each(bench: Bench, group: str) -> tuple[float, float]:
    """Return requests per join and per kick, everything that is sent counted."""
    await bench.use(proxy=True)
    await bench.still()
    found = []
    for number in (JOINS, 0):
        bench.proxy.requests.clear()
        await bench.members(group, bench.people[:number])
        await bench.until(bench.rooms[0], number, 0.2)
        await bench.quiet()
        found.append(len(bench.proxy.requests) / JOINS)
    return found[0], found[1]


async def overtaking_ratio(bench: Bench, group: str, small: str) -> float:
    """Return one person's change while an import runs ÷ the same change idle."""
    await bench.members(group, [])
    await bench.use()

    async def one(number: int) -> float:
        await bench.members(small, bench.people[:number])
        return await timed(bench.until(bench.rooms[1], number, 0.01))

    idle = [await one(n) for n in range(1, 8)]
    await bench.members(group, bench.people)
    busy = [await one(n) for n in range(8, 15)]
    missing = len(bench.people) - len(await bench.admin.members(bench.rooms[0]))
    if missing < len(bench.people) / 4:
        raise RuntimeError("the import was over too soon to measure beside it")
    await bench.until(bench.rooms[0], len(bench.people), 0.5)
    return statistics.median(busy) / statistics.median(idle)


async def approved_removals(bench: Bench, group: str) -> tuple[float, int]:
    """Return how long approved removals take, and how many answers were 429."""
    await bench.members(group, [])
    await bench.use(proxy=True, REMOVAL_LIMIT_COUNT="10")
    await bench.members(group, bench.people[:REMOVALS])
    await bench.until(bench.rooms[0], REMOVALS, 0.5)
    await bench.members(group, [])
    await bench.quiet()
    bench.proxy.statuses.clear()
    start = time.perf_counter()
    approve = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scim_matrix", "approve", bench.rooms[0]),
        env=bench.service.environment(),
        stdout=asyncio.subprocess.DEVNULL,
    )
    if await approve.wait() != 0:
        raise RuntimeError("nothing was held")
    await bench.until(bench.rooms[0], 0, 0.2)
    return time.perf_counter() - start, bench.proxy.statuses.count(429)


async def main() -> None:
    """Make the people, take every measurement, print the table."""
    console = Console()
    table = Table("what", "measured", "must be", title="Rooms, on this machine, in one run")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "synapse").mkdir()
        async with running(folder / "synapse") as synapse, proxying(synapse.url) as proxy:
            admin = await synapse.register("scim-bot", admin=True)
            service = Service(folder / "data", synapse.url, admin.user_id, admin.token, "{}")
            bench = Bench(synapse, admin, service, proxy)
            try:
                with console.status("making people"):
                    await bench.use()
                    bench.people = [await bench.idp.create_user(f"p{n}") for n in range(PEOPLE)]
                    group = await bench.idp.create_group("G", [], externalId="g0")
                    small = await bench.idp.create_group("H", [], externalId="g1")
                    await bench.quiet()
                with console.status("measuring"):
                    ratio = await join_ratio(bench, group)
                    table.add_row(f"{JOINS} joins ÷ a bare loop", f"{ratio:.2f}", "≤ 1.05")
                    per_join, per_kick = await requests_each(bench, group)
                    table.add_row("requests per join", f"{per_join:.2f}", "≤ 1.05")
                    table.add_row("requests per kick", f"{per_kick:.2f}", "≤ 1.05")
                    ratio = await overtaking_ratio(bench, group, small)
                    row = f"one change while {PEOPLE} joins run ÷ idle"
                    table.add_row(row, f"{ratio:.2f}", "≤ 3")
                    taken, limited = await approved_removals(bench, group)
                    table.add_row(f"{REMOVALS} approved removals", f"{taken:.1f} s", "all done")
                    table.add_row("  answered 429 meanwhile", f"{limited}", "")
            finally:
                await service.stop()
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
