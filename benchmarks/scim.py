"""How fast SCIM is answered: `make bench` prints the table.

`--people 2000` measures a smaller world, to see that all works, `--postgresql` all on PostgreSQL.
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.database import Databases, add_option, databases
from benchmarks.seed import Directory, served
from scim_matrix.demo.service import SECRET, Service
from scim_matrix.demo.synapse import free_port
from scim_matrix.scim.routes import PREFIX

# Groups: of half of all people, and of ten.
BIGGEST = "biggest"
SMALLEST = "smallest"
POSTS = 2_000
CONCURRENCY = 16

Ask = Callable[..., Awaitable[bytes]]


def half(directory: Directory) -> int:
    """Return how many people the biggest group has."""
    return len(directory.users) // 2


@contextlib.asynccontextmanager
async def client(service: Service) -> AsyncIterator[Ask]:
    """Return what sends one request to a service and returns the body of its 2xx answer."""
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/scim+json"}
    async with aiohttp.ClientSession(service.url, headers=headers) as session:

        async def ask(method: str, path: str, body: Any = None) -> bytes:
            data = None if body is None else orjson.dumps(body)
            async with session.request(method, path, data=data) as answer:
                text = await answer.read()
                if not answer.ok:
                    raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
                return text

        yield ask


async def timed(work: Awaitable[Any]) -> float:
    """Return how long something takes, in seconds."""
    start = time.perf_counter()
    await work
    return time.perf_counter() - start


async def paired(rounds: int, *works: Callable[[int], Awaitable[Any]]) -> list[float]:
    """Return the median times of several works, done in turns so that they share the weather."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        for taken, work in zip(times, works, strict=True):
            taken.append(await timed(work(number)))
    return [statistics.median(t[len(t) // 10 :]) for t in times]


async def slowest_probe(service: Service, work: Awaitable[Any]) -> tuple[float, float]:
    """Return how long a work takes, and the slowest /healthz meanwhile, in seconds.

    The probe is a process of its own: what keeps this one busy must not count.
    """
    pipe = asyncio.subprocess.PIPE
    probe = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.probe", service.url, stdin=pipe, stdout=pipe
    )
    assert probe.stdin is not None
    assert probe.stdout is not None
    await probe.stdout.readline()
    taken = await timed(work)
    probe.stdin.close()
    return taken, float(await probe.stdout.readline())


async def patch_ratio(service: Service, directory: Directory) -> float:
    """Return PATCH of one member: group of half of all people ÷ group of 10."""
    newcomers = directory.users[half(directory) :]
    async with client(service) as ask:

        def patch(group: str) -> Callable[[int], Awaitable[bytes]]:
            path = f"{PREFIX}/Groups/{directory.groups[group]}"

            def one(number: int) -> Awaitable[bytes]:
                op = "add" if number % 2 == 0 else "remove"
                value = [{"value": newcomers[number // 2]}]
                operation = {"op": op, "path": "members", "value": value}
                return ask("PATCH", path, {"Operations": [operation]})

            return one

        big, small = await paired(200, patch(BIGGEST), patch(SMALLEST))
    return big / small


async def lookup_ratio(large: Service, small: Service) -> float:
    """Return `userName eq` among many users ÷ among few."""
    async with client(large) as ask_large, client(small) as ask_small:

        def look(ask: Ask) -> Callable[[int], Awaitable[bytes]]:
            path = f"{PREFIX}/Users?filter=userName%20eq%20%22user{{}}@corp.example%22"
            return lambda number: ask("GET", path.format(number))

        many, few = await paired(300, look(ask_large), look(ask_small))
    return many / few


async def big_put(service: Service, directory: Directory) -> tuple[float, float]:
    """Return the slowest PUT of half of all with one changed, and of /healthz meanwhile."""
    worst = (0.0, 0.0)
    async with client(service) as ask:
        for number in range(5):
            chosen = directory.users[number + 1 : half(directory) + number + 1]
            body = {
                "displayName": BIGGEST,
                "externalId": BIGGEST,
                "members": [{"value": u, "display": "Somebody"} for u in chosen],
            }
            path = f"{PREFIX}/Groups/{directory.groups[BIGGEST]}"
            if number == 0:
                await ask("PUT", path, body)
                continue
            data = orjson.loads(orjson.dumps(body))
            seen = await slowest_probe(service, ask("PUT", path, data))
            worst = max(worst[0], seen[0]), max(worst[1], seen[1])
    return worst


async def big_get(service: Service, directory: Directory) -> tuple[float, float]:
    """Return the slowest GET of a group of half of all, and of /healthz meanwhile."""
    worst = (0.0, 0.0)
    async with client(service) as ask:
        for _ in range(5):
            path = f"{PREFIX}/Groups/{directory.groups[BIGGEST]}"
            seen = await slowest_probe(service, ask("GET", path))
            worst = max(worst[0], seen[0]), max(worst[1], seen[1])
    return worst


async def rate(ask: Ask, path: str, body: Callable[[int], Any]) -> float:
    """Return requests a second, CONCURRENCY at a time."""
    numbers = iter(range(POSTS))

    async def worker() -> None:
        for number in numbers:
            await ask("POST", path, body(number))

    taken = await timed(asyncio.gather(*(worker() for _ in range(CONCURRENCY))))
    return POSTS / taken


@contextlib.asynccontextmanager
async def bare(folder: Path) -> AsyncIterator[Service]:
    """Run an aiohttp handler that does one durable aiosqlite insert, as its own process."""
    service = Service(folder, "", "", "", "{}", port=free_port())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bare", str(service.port), str(folder / "bare.sqlite3")
    )
    try:
        async with aiohttp.ClientSession(service.url) as session, asyncio.timeout(30):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get("/"):
                        break
                await asyncio.sleep(0.05)
        yield service
    finally:
        process.terminate()
        await process.wait()


async def posts(service: Service, folder: Path) -> tuple[float, float]:
    """Return user POSTs a second, and inserts a second of the bare handler."""
    batches = itertools.count()
    ours, theirs = [], []
    async with bare(folder) as other, client(service) as ask, client(other) as ask_bare:
        for _ in range(3):
            batch = next(batches)

            def user(number: int, batch: int = batch) -> dict[str, Any]:
                name = f"new{batch}x{number}@corp.example"
                return {
                    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
                    "userName": name,
                    "externalId": f"new{batch}x{number}",
                    "active": True,
                    "displayName": f"New {number}",
                    "name": {"givenName": "New", "familyName": str(number)},
                    "emails": [{"value": name, "type": "work", "primary": True}],
                }

            ours.append(await rate(ask, f"{PREFIX}/Users", user))
            theirs.append(await rate(ask_bare, "/", user))
    return statistics.median(ours), statistics.median(theirs)


def memory(service: Service) -> float:
    """Return the most memory that a service has had resident, in MB (Linux)."""
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def measure(databases: Databases, people: int, console: Console) -> Table:
    """Fill the databases, take every measurement, return the table."""
    title = f"SCIM, {databases.name}, on this machine, in one run"
    table = Table("what", "measured", "must be", title=title)
    few, big = max(people // 100, 10), people // 2
    with console.status("filling databases"):
        groups = {SMALLEST: range(10), BIGGEST: range(big)}
        large = await databases.fill("large", people, groups)
        small = await databases.fill("small", few, {SMALLEST: range(10)})
    async with served(large) as service, served(small) as other:
        with console.status("measuring"):
            await service.stop()
            taken = await timed(service.start())
            table.add_row(f"start with {people:,} users", f"{taken:.1f} s", "≤ 2 s")
            ratio = await patch_ratio(service, large)
            table.add_row(f"PATCH of one member: group of {big} ÷ of 10", f"{ratio:.2f}", "≤ 2")
            ratio = await lookup_ratio(service, other)
            name = f"userName eq: {people:,} users ÷ {few:,}"
            table.add_row(name, f"{ratio:.2f}", "≤ 1.5")
            taken, probe = await big_put(service, large)
            table.add_row(f"PUT of {big} members, one changed", f"{taken:.2f} s", "≤ 1.5 s")
            table.add_row("  slowest /healthz meanwhile", f"{probe * 1000:.0f} ms", "≤ 100 ms")
            taken, probe = await big_get(service, large)
            table.add_row(f"GET of a group of {big}", f"{taken:.2f} s", "≤ 1 s")
            table.add_row("  slowest /healthz meanwhile", f"{probe * 1000:.0f} ms", "≤ 100 ms")
            table.add_row("memory after that", f"{memory(service):.0f} MB", "≤ 250 MB")
            ours, theirs = await posts(other, databases.folder)
            table.add_row(f"user POSTs a second, {CONCURRENCY} at a time", f"{ours:.0f}", "≥ 400")
            name = "  ÷ bare handler, one durable insert (SQLite)"
            table.add_row(name, f"{ours / theirs:.2f}", "")
    return table


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=100_000)
    add_option(parser)
    options = parser.parse_args()
    console = Console()
    with (
        tempfile.TemporaryDirectory() as folder,
        databases(Path(folder), postgresql=options.postgresql) as found,
    ):
        console.print(await measure(found, options.people, console))


if __name__ == "__main__":
    asyncio.run(main())
