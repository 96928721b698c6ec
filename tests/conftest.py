"""What every test may use."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    look: Callable[[], Awaitable[T]], accept: Callable[[T], bool], seconds: float = 30.0
) -> T:
    """Look again and again until what is seen is accepted; fail with what was seen last."""
    seen = await look()
    try:
        async with asyncio.timeout(seconds):
            while not accept(seen):
                await asyncio.sleep(0.02)
                seen = await look()
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s; last seen: {seen!r}") from None
    return seen
