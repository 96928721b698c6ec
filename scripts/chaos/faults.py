"""What happens to two services and their PostgreSQL while people change, and what is seen then."""

import asyncio
import contextlib
import random
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from scim_matrix.demo.service import ScimClient, Service
from scripts.chaos.balancing import BalancedClient
from scripts.chaos.changes import Directory, Team, change, read
from scripts.chaos.terms import History, Sent, Term, late
from tests.conftest import eventually
from tests.postgresql import Server

# Identity providers that change things at the same time, each its own people.
PROVIDERS = 2
# The longest that anybody needs to be well again: a lease, a start, and the database's time-outs.
WELL_WITHIN = 60.0


class LostError(Exception):
    """What must never be; the message says what."""


@dataclass
class Replica:
    """One of the services, and what it has sent that would change the homeserver."""

    service: Service
    sent: list[Sent] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The process that it is now."""
        assert self.service.process is not None
        return self.service.process.pid

    def note(self, method: str, path: str) -> None:
        """Note a request, as it comes."""
        # Each service has a way of its own to the homeserver, so that it is known whose it is: a
        # process that was killed sends nothing any more once the next one has started.
        if method != "GET":
            self.sent.append(Sent(time.time(), self.pid, f"{method} {path}"))

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.service.process is not None
        self.service.process.send_signal(number)

    async def end(self) -> None:
        """Stop it, whatever it is doing."""
        if self.service.process is not None and self.service.process.returncode is None:
            self.signal(signal.SIGCONT)
        await self.service.stop()

    async def asked(self, path: str) -> tuple[int, dict[str, Any]]:
        """Ask for a probe; status 0 where it does not answer."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session,
                session.get(self.service.url + path) as answer,
            ):
                return answer.status, await answer.json()
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return 0, {}

    async def is_well(self) -> bool:
        """Tell whether it is there, and its database."""
        return (await self.asked("/healthz"))[0] == 200

    async def leads(self) -> bool:
        """Tell whether it says that it leads."""
        return bool((await self.asked("/readyz"))[1].get("leads"))


@dataclass
class Chaos:
    """Two services, their database, and what was seen of them.

    How long a fault lasts is random: no condition stands for it.
    """

    server: Server
    history: History
    replicas: list[Replica]
    team: Team
    idp: BalancedClient
    dice: random.Random
    directories: list[Directory] = field(default_factory=list)
    takeovers: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    # -- What is -----------------------------------------------------------------

    async def terms(self) -> list[Term]:
        """Return the terms so far."""
        return await asyncio.to_thread(self.history.terms)

    async def led(self) -> tuple[Replica, Replica]:
        """Wait until one of the services leads; return it, and the other one."""

        async def look() -> list[Replica]:
            return sorted([r for r in self.replicas if await r.leads()], key=id)

        [leader] = await eventually(look, lambda seen: len(seen) == 1, WELL_WITHIN)
        [other] = [replica for replica in self.replicas if replica is not leader]
        return leader, other

    async def well(self) -> None:
        """Wait until both services are well."""
        for replica in self.replicas:
            await eventually(replica.is_well, bool, WELL_WITHIN)

    @contextlib.asynccontextmanager
    async def takeover(self, how: str) -> AsyncIterator[None]:
        """Do something to the leader, and wait until the next term; note how long that took."""
        before = (await self.terms())[-1].number
        at = time.time()
        yield
        terms = await eventually(self.terms, lambda seen: seen[-1].number > before, WELL_WITHIN)
        begun = next(term for term in terms if term.number > before)
        self.takeovers[how].append(begun.at - at)

    # -- What happens to them ----------------------------------------------------

    async def kill_the_leader(self) -> None:
        """Kill it, and start it again before or after another has taken over."""
        leader, _ = await self.led()
        at_once = self.dice.random() < 0.5
        async with self.takeover("kill -9"):
            await leader.service.stop(signal.SIGKILL)
            if at_once:
                await leader.service.start()
        if not at_once:
            await leader.service.start()

    async def kill_the_follower(self) -> None:
        """Kill it, and start it again."""
        _, follower = await self.led()
        await follower.service.stop(signal.SIGKILL)
        await follower.service.start()

    async def kill_both(self) -> None:
        """Kill both, and start them again at once."""
        for replica in self.replicas:
            await replica.service.stop(signal.SIGKILL)
        await asyncio.gather(*(replica.service.start() for replica in self.replicas))

    async def stop_the_leader(self) -> None:
        """Stop it cleanly, and start it again."""
        leader, _ = await self.led()
        async with self.takeover("clean stop"):
            if status := await leader.service.stop():
                raise LostError(f"a clean stop ended with status {status}")
        await leader.service.start()

    async def pause_the_leader(self) -> None:
        """Have it stand still for longer than its lease, and go on."""
        leader, _ = await self.led()
        async with self.takeover("pause"):
            leader.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(0.0, 3.0))
        leader.signal(signal.SIGCONT)

    async def pause_shortly(self) -> None:
        """Have the leader stand still for less than its lease, or about as long."""
        leader, _ = await self.led()
        leader.signal(signal.SIGSTOP)
        await asyncio.sleep(self.dice.uniform(0.5, 9.0))
        leader.signal(signal.SIGCONT)

    async def kill_the_database(self) -> None:
        """Kill the server, all of its processes, and start it again."""
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(self.dice.uniform(0.0, 3.0))
        await asyncio.to_thread(self.server.start)

    async def kill_the_database_and_the_leader(self) -> None:
        """Kill both at once, and start them again."""
        leader, _ = await self.led()
        await asyncio.gather(
            asyncio.to_thread(self.server.kill), leader.service.stop(signal.SIGKILL)
        )
        await asyncio.to_thread(self.server.start)
        await leader.service.start()

    # -- One round -----------------------------------------------------------------

    async def round(self, fault: Callable[["Chaos"], Awaitable[None]]) -> None:
        """Have something happen while people change. Raises LostError where that is seen."""
        self.directories = self.directories or [Directory() for _ in range(PROVIDERS)]
        ended = asyncio.Event()
        names = list(self.team.people)
        changing = [
            asyncio.create_task(
                change(self.idp, self.team, names[n::PROVIDERS], directory, self.dice, ended)
            )
            for n, directory in enumerate(self.directories)
        ]
        try:
            # The moment is what is random here, not a wait for something.
            await asyncio.sleep(self.dice.uniform(0.0, 0.5))
            await fault(self)
            await self.well()
        finally:
            ended.set()
            await asyncio.gather(*changing)
        await self.check()

    async def check(self) -> None:
        """Raise LostError where a service has not what was acknowledged."""
        directory = self.directory
        for replica in self.replicas:
            found = await read(ScimClient(replica.service.url), self.team)
            if not directory.allows(*found):
                raise LostError(f"acknowledged {directory}, found {found}")

    @property
    def directory(self) -> Directory:
        """What was acknowledged, whoever asked for it."""
        return Directory(
            {name for each in self.directories for name in each.members},
            {name for each in self.directories for name in each.disabled},
            acknowledged=sum(each.acknowledged for each in self.directories),
        )

    async def judge(self) -> None:
        """Raise LostError where a process has sent something after another had begun to lead."""
        if found := late(await self.terms(), self.sent):
            raise LostError(f"sent after its fence: {found}")

    @property
    def sent(self) -> list[Sent]:
        """What all of them have sent that would change the homeserver."""
        return [sent for replica in self.replicas for sent in replica.sent]

    def tell(self) -> None:
        """Print what was counted."""
        print(
            f"{self.directory.acknowledged} acknowledged changes; {self.idp.failed} requests sent"
            f" again: {dict(self.idp.met)}; {len(self.sent)} changing requests to the homeserver"
        )
        for how, taken in sorted(self.takeovers.items()):
            print(
                f"takeover after {how}: median {statistics.median(taken):.1f} s,"
                f" worst {max(taken):.1f} s of {len(taken)}"
            )


# How often each is played, relative to the others.
FAULTS: dict[Callable[[Chaos], Awaitable[None]], int] = {
    Chaos.kill_the_leader: 5,
    Chaos.kill_the_follower: 4,
    Chaos.kill_both: 2,
    Chaos.stop_the_leader: 4,
    Chaos.pause_the_leader: 3,
    Chaos.pause_shortly: 2,
    Chaos.kill_the_database: 5,
    Chaos.kill_the_database_and_the_leader: 2,
}
