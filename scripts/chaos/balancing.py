"""An identity provider behind a load balancer: where one service fails it asks another."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from scim_matrix.demo.service import ScimClient
from tests.conftest import eventually

# How long (seconds) an identity provider waits for an answer, before it asks again, and in all.
ANSWER_WITHIN = 5.0
ASK_AGAIN_AFTER = 0.05
PATIENCE = 90.0


@dataclass
class Balancer:
    """Which services requests are sent to, and how many each of them has not answered yet."""

    urls: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    async def idle(self, url: str) -> None:
        """Wait until a service has answered all that was sent to it."""

        async def asked() -> int:
            return self.asked[url]

        await eventually(asked, lambda number: number == 0)

    @contextlib.contextmanager
    def chosen(self, dice: random.Random) -> Iterator[str]:
        """Choose one for a request."""
        url = dice.choice(self.urls)
        self.asked[url] += 1
        try:
            yield url
        finally:
            self.asked[url] -= 1


@dataclass
class BalancedClient(ScimClient):
    """Asks any of the services that there are, and again where that failed, as long as it takes.

    `met` counts what requests met before they were answered, by what it was; `answered` those that
    were.
    """

    balancer: Balancer = field(kw_only=True)
    session: aiohttp.ClientSession = field(kw_only=True)
    dice: random.Random = field(kw_only=True)
    met: Counter[str] = field(default_factory=Counter)
    answered: int = 0

    @property
    def failed(self) -> int:
        """How many requests had to be sent again."""
        return self.met.total()

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """See `ScimClient.call`. Raises TimeoutError once patience has ended."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self._asked(method, path, body, headers)
                if answer is not None:
                    self.answered += 1
                    return answer
                # As identity providers do; nothing tells them when it is worth it.
                await asyncio.sleep(ASK_AGAIN_AFTER)

    async def _asked(
        self, method: str, path: str, body: Any, headers: dict[str, str] | None
    ) -> tuple[int, Any] | None:
        """Ask once; None where it is to be asked again."""
        try:
            with self.balancer.chosen(self.dice) as url:
                status, answer = await self._sent(method, f"{url}/scim/v2{path}", body, headers)
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            self.met[type(error).__name__] += 1
            return None
        if status == 503:
            self.met["503"] += 1
            return None
        return status, answer

    async def _sent(
        self, method: str, url: str, body: Any, headers: dict[str, str] | None
    ) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {self.secret}", **(headers or {})}
        async with (
            asyncio.timeout(ANSWER_WITHIN),
            self.session.request(method, url, json=body, headers=sent) as answer,
        ):
            text = await answer.read()
            return answer.status, await answer.json(content_type=None) if text else None


@contextlib.asynccontextmanager
async def balanced(balancer: Balancer, dice: random.Random) -> AsyncIterator[BalancedClient]:
    """Return an identity provider whose connections last, as a load balancer's do."""
    async with aiohttp.ClientSession() as session:
        yield BalancedClient("", balancer=balancer, session=session, dice=dice)
