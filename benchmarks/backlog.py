"""What the service costs when much waits, with a homeserver in memory: `make bench`.

`--people 1000 --groups 100` measures a smaller world, to see that all works, `--postgresql` all on
PostgreSQL.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.database import Databases, add_option, databases
from benchmarks.homeserver import ACCOUNT_SECONDS
from benchmarks.scim import Ask, client, memory, timed
from benchmarks.seed import BOT, Directory, settle
from scim_matrix.demo.service import Service
from scim_matrix.demo.synapse import SERVER_NAME, free_port
from scim_matrix.scim.routes import PREFIX
from scim_matrix.store import grants
from scim_matrix.store.database import Connection, Place, reading

GROUP = 100
ASKED_AT_ONCE = 30
IDLE_SECONDS = 15.0
# The slowest of many is a matter of luck, of one time as well.
MAPS = 5


@dataclass
class World:
    """A homeserver in memory and a service beside it."""

    service: Service
    homeserver: str
    place: Place

    async def until(self, **numbers: int) -> dict[str, int]:
        """Wait until so much was asked of the homeserver; return how much was."""
        return await self._ask({"until": numbers})

    async def has_accounts(self, number: int) -> None:
        """Have the homeserver know the accounts of so many people."""
        await self._ask({"accounts": number, "until": {}})

    async def _ask(self, body: dict[str, Any]) -> dict[str, int]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.homeserver}/counts", json=body) as answer,
        ):
            return {"joins": 0, "aliases": 0, "accounts": 0, "requests": 0, **await answer.json()}

    async def in_force(self, room_id: str) -> None:
        """Wait until the map in force names a room."""
        named = "SELECT 1 FROM mapping WHERE reference = :room_id AND standing = 'in_force'"

        async def is_named(connection: Connection) -> bool:
            return bool(await connection.execute_fetchall(named, {"room_id": room_id}))

        await self._seen(is_named)

    async def settled(self) -> None:
        """Wait until it has been worked out for everybody what the map means."""

        async def is_settled(connection: Connection) -> bool:
            return not await grants.is_left(connection)

        await self._seen(is_settled)

    async def _seen(self, look: Callable[[Connection], Awaitable[bool]]) -> None:
        """Wait until something is so in the service's database, which tells nobody."""
        while True:
            async with reading(self.place) as connection:
                if await look(connection):
                    return
            await asyncio.sleep(0.5)

    def cpu(self) -> float:
        """Return the seconds of CPU that the service has had (Linux)."""
        return cpu(self.service)


def cpu(service: Service) -> float:
    """Return the seconds of CPU that a service has had (Linux)."""
    assert service.process is not None
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2]
    return sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")


def ring(people: int, groups: int, size: int) -> dict[str, Iterable[int]]:
    """Return groups of a size, or of everybody, spread evenly over the people."""
    step = max(1, people // groups)
    return {
        f"g{number}": [(number * step + n) % people for n in range(min(size, people))]
        for number in range(groups)
    }


def by_id(names: Iterable[str], rooms: str = "") -> str:
    """Return a map in which each group opens a room by its ID, which begins with `rooms`."""
    return orjson.dumps({n: [f"!{rooms}{n}:{SERVER_NAME}"] for n in names}).decode()


def by_alias(names: Iterable[str]) -> str:
    """Return a map in which each group opens a room by its alias."""
    return orjson.dumps({n: [f"#{n}:{SERVER_NAME}"] for n in names}).decode()


@contextlib.asynccontextmanager
async def beside(
    directory: Directory, group_map: str, *, accounts: bool, **more: str
) -> AsyncIterator[World]:
    """Serve a directory beside a homeserver that has everybody's account, or nobody's."""
    port = free_port()
    homeserver = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.homeserver", str(port)), stdout=asyncio.subprocess.PIPE
    )
    assert homeserver.stdout is not None
    await homeserver.stdout.readline()
    url = f"http://127.0.0.1:{port}"
    service = Service(directory.folder, url, BOT, "token", group_map, more | directory.settings)
    world = World(service, url, directory.place)
    await world.has_accounts(len(directory.users) if accounts else 0)
    try:
        await service.start()
        yield world
    finally:
        await service.stop()
        homeserver.terminate()
        await homeserver.wait()


async def joins(directory: Directory, number: int) -> tuple[float, float]:
    """Return joins a second, and seconds of CPU a join, of the first ones of a backlog."""
    async with beside(directory, by_id(directory.groups), accounts=True) as world:
        await world.settled()
        # By then as much is in flight as the homeserver takes, and the rooms in turn are known.
        begun = (await world.until(joins=(await world.until())["joins"] + 1000))["joins"]
        before, start = world.cpu(), time.perf_counter()
        done = (await world.until(joins=begun + number))["joins"] - begun
        return done / (time.perf_counter() - start), (world.cpu() - before) / done


async def slowest_post(ask: Ask, ended: asyncio.Event) -> float:
    """Return the slowest of user POSTs that are sent without a pause."""
    slowest = 0.0
    while not ended.is_set():
        name = f"{uuid.uuid4()}@corp.example"
        body = {"userName": name, "externalId": name, "active": True}
        slowest = max(slowest, await timed(ask("POST", f"{PREFIX}/Users", body)))
        await asyncio.sleep(0.02)
    return slowest


async def while_posting(world: World, work: Callable[[], Any]) -> tuple[float, float]:
    """Return how long a work takes, and the slowest POST meanwhile."""
    ended = asyncio.Event()
    async with client(world.service) as ask:
        posting = asyncio.create_task(slowest_post(ask, ended))
        taken = await timed(work())
        ended.set()
        return taken, await posting


async def asked_at_once(service: Service, path: str) -> float:
    """Return the slowest of many equal requests that are sent at once."""
    async with aiohttp.ClientSession(service.url) as session:

        async def one() -> float:
            async def ask() -> None:
                async with session.get(path) as answer:
                    await answer.read()

            return await timed(ask())

        return max(await asyncio.gather(*(one() for _ in range(ASKED_AT_ONCE))))


class Bench:
    """Takes the measurements and fills the table."""

    def __init__(self, databases: Databases, people: int, groups: int) -> None:
        self._databases = databases
        self._people = people
        self._groups = groups
        title = (
            f"{people:,} people, {groups:,} groups of {GROUP}, {databases.name}, on this machine,"
            " in one run"
        )
        self.table = Table("what", "measured", "must be", title=title)

    async def run(self, parts: Sequence[str]) -> None:
        """Take some measurements, or where none is named every one."""
        known = {
            "joins": self._joins,
            "aliases": self._aliases,
            "accounts": self._accounts,
            "start": self._start,
            "probes": self._probes,
            "idle": self._idle,
        }
        for part in parts or known:
            await known[part]()

    async def _joins(self) -> None:
        people, groups = self._people, self._groups
        small = max(20, groups // 50)
        few, many, most = [
            await joins(
                await self._databases.fill(name, people, ring(people, number, size), accounts=True),
                500,
            )
            for name, number, size in (
                ("few", small, GROUP),
                ("many", groups, GROUP),
                ("most", groups, 10 * GROUP),
            )
        ]
        waiting = f"{groups * GROUP:,} ÷ {small * GROUP:,} waiting"
        self.table.add_row(f"joins a second, {waiting}", f"{many[0] / few[0]:.2f}", "≥ 0.9")
        self.table.add_row("  joins a second", f"{many[0]:.0f} ÷ {few[0]:.0f}", "")
        self.table.add_row("  of a core", f"{many[0] * many[1]:.2f}", "")
        waiting = f"{groups * GROUP * 10:,} ÷ {small * GROUP:,} waiting"
        self.table.add_row(f"CPU a join, {waiting}", f"{most[1] / few[1]:.2f}", "≤ 1.5")
        cpu = f"{most[1] * 1000:.1f} ÷ {few[1] * 1000:.1f}"
        self.table.add_row("  milliseconds of CPU a join", cpu, "")

    async def _aliases(self) -> None:
        members = ring(self._people, self._groups, GROUP)
        directory = await self._databases.fill("aliases", self._people, members, accounts=True)
        file = directory.folder / "map.json"
        file.write_text("{}")
        more = {"GROUP_MAP_FILE": str(file)}
        async with beside(directory, "", accounts=True, **more) as world:
            # What the machine itself, and whatever else runs on it, adds to a POST.
            _, idle = await while_posting(world, lambda: asyncio.sleep(IDLE_SECONDS))
            self.table.add_row("slowest POST with nothing to do", f"{idle * 1000:.0f} ms", "")

            async def resolved() -> None:
                file.write_text(by_alias(directory.groups))
                await world.until(aliases=self._groups)

            before = world.cpu()
            taken, slowest = await while_posting(world, resolved)
            self.table.add_row(f"{self._groups:,} aliases resolved", f"{taken:.1f} s", "≤ 15 s")
            self.table.add_row("  seconds of CPU meanwhile", f"{world.cpu() - before:.1f}", "")
            self.table.add_row("  slowest POST meanwhile", f"{slowest * 1000:.0f} ms", "≤ 250 ms")

            async def others(rooms: str) -> None:
                file.write_text(by_id(directory.groups, rooms))
                await world.in_force(f"!{rooms}g0:{SERVER_NAME}")
                await world.settled()

            slow = []
            for number in range(MAPS):
                _, slowest = await while_posting(world, partial(others, f"{number}-"))
                slow.append(slowest)
            name = f"slowest POST while a map of {self._groups:,} other rooms is put in force"
            self.table.add_row(name, f"{statistics.median(slow) * 1000:.0f} ms", "≤ 250 ms")
            self.table.add_row(
                f"  of each of {MAPS} maps", " ".join(f"{s * 1000:.0f}" for s in slow), ""
            )

    async def _accounts(self) -> None:
        members = ring(self._people, self._groups, GROUP)
        directory = await self._databases.fill("accounts", self._people, members)
        async with beside(directory, by_alias(directory.groups), accounts=False) as world:
            begun = (await world.until(accounts=50))["accounts"]
            before, start = world.cpu(), time.perf_counter()
            number = min(500, self._people // 2)
            made = (await world.until(accounts=begun + number))["accounts"] - begun
            taken = time.perf_counter() - start
            share = made / taken * ACCOUNT_SECONDS
            self.table.add_row(
                "accounts made a second ÷ what the homeserver takes", f"{share:.2f}", "≥ 0.9"
            )
            cpu = f"{(world.cpu() - before) / made * 1000:.0f}"
            self.table.add_row("  milliseconds of CPU for each, all else meanwhile", cpu, "")

    async def _start(self) -> None:
        people, groups = 5 * self._people, 4 * self._groups
        members = ring(people, groups, GROUP)
        directory = await self._databases.fill("start", people, members, accounts=True)
        await settle(directory, by_id(directory.groups))
        async with beside(directory, by_id(directory.groups), accounts=True) as world:
            await world.until(joins=1)
            await world.service.stop()
            joined = (await world.until())["joins"]
            start = time.perf_counter()
            await world.service.start()
            healthy, cpu = time.perf_counter() - start, world.cpu()
            await world.until(joins=joined + 1)
            first = time.perf_counter() - start
        name = f"start with {people:,} people, {groups * GROUP:,} pairs"
        self.table.add_row(f"{name}, until /healthz", f"{healthy:.1f} s", "≤ 2 s")
        self.table.add_row("  seconds of CPU", f"{cpu:.1f}", "")
        self.table.add_row("  until the first join", f"{first:.1f} s", "≤ 5 s")

    async def _probes(self) -> None:
        people = 10 * self._people
        members = ring(people, self._groups, 10 * GROUP)
        directory = await self._databases.fill("probes", people, members, accounts=True)
        await settle(directory, by_id(directory.groups))
        async with beside(directory, by_id(directory.groups), accounts=True) as world:
            await world.until(joins=1)
            await asked_at_once(world.service, "/metrics")
            for path in ("/metrics", "/readyz"):
                slowest = await asked_at_once(world.service, path)
                name = f"{path}, {ASKED_AT_ONCE} at once, {self._groups * GROUP * 10:,} pairs"
                self.table.add_row(name, f"{slowest * 1000:.0f} ms", "≤ 100 ms")
            name = f"memory with {people:,} people"
            self.table.add_row(name, f"{memory(world.service):.0f} MB", "≤ 300 MB")

    async def _idle(self) -> None:
        number, interval = 2 * self._groups, 60
        directory = await self._databases.fill("idle", 0, ring(1, number, 0))
        more = {"RECONCILE_INTERVAL": f"{interval}s"}
        group_map = by_alias(directory.groups)
        async with beside(directory, group_map, accounts=True, **more) as world:
            await world.until(aliases=number)
            await asyncio.sleep(2 * interval)
            before = (await world.until())["requests"]
            await asyncio.sleep(2 * interval)
            asked = ((await world.until())["requests"] - before) / 2
        # One comparison an hour, unless RECONCILE_INTERVAL says otherwise.
        self.table.add_row(f"{number:,} rooms idle: requests an hour", f"{asked:.0f}", "")
        self.table.add_row("  for each room", f"{asked / number:.2f}", "≤ 2")


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=1_000)
    add_option(parser)
    parser.add_argument("parts", nargs="*", help="joins, aliases, accounts, start, probes, idle")
    options = parser.parse_args()
    console = Console()
    with (
        tempfile.TemporaryDirectory() as folder,
        databases(Path(folder), postgresql=options.postgresql) as found,
        console.status("measuring"),
    ):
        bench = Bench(found, options.people, options.groups)
        try:
            await bench.run(options.parts)
        finally:
            console.print(bench.table)


if __name__ == "__main__":
    asyncio.run(main())
