"""What a stranger costs: compressed bodies and half-sent request heads; prints what was seen."""

import asyncio
import gzip
import re
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from scim_matrix.demo.service import SECRET, Service
from scim_matrix.demo.synapse import free_port

# 64 MiB of one letter are 65 KB of gzip.
BOMB = gzip.compress(b"a" * (64 * 1024 * 1024))
HEADS = 50
# For how long (seconds) half-sent heads are watched.
WATCHED = 15.0


def memory(service: Service, what: str) -> int:
    """Return a process's memory as Linux counts it: `VmRSS` now, `VmHWM` at most (MiB)."""
    assert service.process is not None
    text = Path(f"/proc/{service.process.pid}/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) // 1024


async def slowest(url: str, meanwhile: asyncio.Future[list[int]]) -> float:
    """Return the slowest answer of /healthz until something has ended (seconds)."""
    longest = 0.0
    async with aiohttp.ClientSession(url) as session:
        while not meanwhile.done():
            start = time.perf_counter()
            async with session.get("/healthz") as answer:
                await answer.read()
            longest = max(longest, time.perf_counter() - start)
    return longest


async def bombs(service: Service, number: int, path: str) -> None:
    """Send that many compressed bodies at once: forms as nobody, SCIM with the secret."""
    before = memory(service, "VmRSS")

    async def one() -> int:
        headers = {
            "Content-Encoding": "gzip",
            "Content-Type": "application/scim+json",
            "Authorization": f"Bearer {SECRET}",
        }
        if path.startswith("/console"):
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            del headers["Authorization"]
        url = f"{service.url}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=BOMB, headers=headers) as answer,
        ):
            return answer.status

    sent = asyncio.gather(*(one() for _ in range(number)))
    longest = await slowest(service.url, sent)
    grown = memory(service, "VmHWM") - before
    print(
        f"{number} x {len(BOMB) // 1000} KB of gzip to {path}: status {sorted(set(sent.result()))},"
        f" {grown} MiB more at most, slowest /healthz {longest:.3f} s",
        flush=True,
    )


async def heads(service: Service) -> None:
    """Leave request heads half sent and count those that are still open."""
    opened = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(HEADS)]
    for _, writer in opened:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")

    async def ended(reader: asyncio.StreamReader) -> None:
        while await reader.read(1024):
            pass

    watched = [asyncio.create_task(ended(reader)) for reader, _ in opened]
    _, left = await asyncio.wait(watched, timeout=WATCHED)
    print(f"{HEADS} half-sent heads: {len(left)} open after {WATCHED:.0f} s", flush=True)
    for task in left:
        task.cancel()
    for _, writer in opened:
        writer.close()


async def main() -> int:
    """Run all of it against a service without a homeserver."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{free_port()}"
        more = {"CONSOLE": "true"}
        service = Service(Path(folder) / "data", url, "@bot:demo.test", "token", "{}", more)
        await service.start()
        try:
            for path in ("/console/sign-in", "/scim/v2/Users"):
                await bombs(service, 1, path)
                await bombs(service, 8, path)
            await heads(service)
        finally:
            await service.stop()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
