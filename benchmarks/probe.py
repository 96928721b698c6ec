"""Ask /healthz without a pause, from a process of its own; print the slowest answer (seconds)."""

import asyncio
import sys
import time

import aiohttp


async def main() -> None:
    """Say "ready" after a first answer; ask until standard input ends."""
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    slowest = 0.0
    async with aiohttp.ClientSession(sys.argv[1]) as session:
        while not ended.done():
            start = time.perf_counter()
            async with session.get("/healthz") as answer:
                await answer.read()
            if slowest == 0:
                print("ready", flush=True)
            slowest = max(slowest, time.perf_counter() - start)
            await asyncio.sleep(0.005)
    print(slowest)


if __name__ == "__main__":
    asyncio.run(main())
