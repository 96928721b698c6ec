"""Two services restarted one after the other under load, in place and as Kubernetes does it."""

import asyncio
import contextlib
import itertools
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from benchmarks.database import AS_INSTALLED
from scripts.chaos.balancing import Balancer
from scripts.chaos.providers import Provider, at_work
from scripts.chaos.terms import History
from tests.conftest import eventually
from tests.postgresql import Server, serving
from tests.service.replicas import ROOM, Replica, Surroundings, surrounded

MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes-postgresql.yaml"
PROVIDERS = 6
# Chance removes more people an hour than any brake would let.
SETTINGS = {"REMOVAL_LIMIT_COUNT": "1000000"}


@dataclass(frozen=True)
class Drain:
    """How a deployment takes services in and out (seconds).

    A new one is found within `found_within`, and an old one goes `min_ready` later: from then on it
    answers for `lasts`, and requests are still sent to it for `known_within` at most.
    """

    found_within: float
    min_ready: float
    lasts: float
    known_within: float

    @classmethod
    def deployed(cls) -> "Drain":
        """Return what the manifest says; how fast endpoints are followed is the cluster's."""
        documents = yaml.safe_load_all(MANIFEST.read_text())
        [spec] = [d["spec"] for d in documents if d["kind"] == "Deployment"]
        [container] = spec["template"]["spec"]["containers"]
        _, lasts = container["lifecycle"]["preStop"]["exec"]["command"]
        probed = container["readinessProbe"]["periodSeconds"]
        return cls(probed, spec["minReadySeconds"], float(lasts), known_within=3.0)


@dataclass
class Rollout:
    """Services behind a load balancer, and identity providers that go on meanwhile."""

    around: Surroundings
    history: History
    dice: random.Random
    balancer: Balancer = field(default_factory=Balancer)
    serving: list[Replica] = field(default_factory=list)
    providers: list[Provider] = field(default_factory=list)
    # When which process was told to end.
    _ends: list[tuple[float, int]] = field(default_factory=list)

    async def add(self) -> Replica:
        """Start one more service, and return it once it is fit for traffic."""
        replica = await self.around.replica({"displayName:team-*": [ROOM]}, SETTINGS)
        await eventually(replica.is_ready, bool)
        self.serving.append(replica)
        return replica

    async def _stop(self, replica: Replica) -> None:
        assert replica.process is not None
        self._ends.append((time.time(), replica.process.pid))
        status = await replica.stop()
        assert status == 0, replica.log()[-2000:]

    async def in_place(self) -> None:
        """Restart one after the other; nobody tells the load balancer."""
        for replica in self.serving:
            await self._stop(replica)
            await replica.start()
            await eventually(replica.is_ready, bool)

    async def replaced(self, drain: Drain) -> None:
        """Have each of them replaced by a new one, which answers before the old one goes."""
        for old in list(self.serving):
            new = await self.add()
            # As long as it takes there; no condition stands for it.
            await asyncio.sleep(self.dice.uniform(0, drain.found_within))
            self.balancer.urls.append(new.url)
            await asyncio.sleep(drain.min_ready)
            withdrawing = asyncio.create_task(self._withdraw(old, drain))
            await asyncio.sleep(drain.lasts)
            await asyncio.shield(withdrawing)
            self.serving.remove(old)
            await self._stop(old)

    async def _withdraw(self, old: Replica, drain: Drain) -> None:
        await asyncio.sleep(self.dice.uniform(0, drain.known_within))
        self.balancer.urls.remove(old.url)
        if drain.lasts == 0:
            await self.balancer.idle(old.url)

    # -- What came of it -------------------------------------------------------------

    async def lost(self) -> list[str]:
        """Return what any of the services has otherwise than was acknowledged."""
        return [
            sentence
            for replica in self.serving
            for provider in self.providers
            for sentence in await provider.lost(replica.url)
        ]

    async def agrees(self) -> None:
        """Wait until the room holds whom it should."""
        inside = set[str]().union(*(provider.inside for provider in self.providers))
        await self.around.all_in(*inside)

    @property
    def wrong(self) -> list[str]:
        """Answers that should have been others."""
        return [sentence for provider in self.providers for sentence in provider.wrong]

    @property
    def met(self) -> Counter[str]:
        """What requests met that were sent again."""
        return sum((provider.idp.met for provider in self.providers), Counter())

    def takeovers(self) -> list[float]:
        """Return how long (seconds) it took after each end of a leader until another one led."""
        terms = self.history.terms()
        return [
            after.at - at
            for at, pid in self._ends
            for before, after in itertools.pairwise(terms)
            if before.pid == pid
        ]


@contextlib.asynccontextmanager
async def rolling(server: Server, folder: Path, dice: random.Random) -> AsyncIterator[Rollout]:
    """Run two services behind a load balancer."""
    async with surrounded(server, folder) as around:
        rollout = Rollout(around, History(around.url), dice)
        for _ in range(2):
            rollout.balancer.urls.append((await rollout.add()).url)
        yield rollout


async def run(restarts: int, dice: random.Random, drain: Drain | None) -> int:
    """Restart so many times, in place or with a drain; return the exit status."""
    with serving(AS_INSTALLED) as server, tempfile.TemporaryDirectory() as folder:
        if server is None:
            raise SystemExit("PostgreSQL is not here: scripts/get_postgresql.sh installs it")
        async with rolling(server, Path(folder), dice) as rollout:
            async with at_work(PROVIDERS, rollout.balancer, dice) as rollout.providers:
                for number in range(1, restarts + 1):
                    await (rollout.in_place() if drain is None else rollout.replaced(drain))
                    print(f"{number}: sent again {dict(rollout.met)}", flush=True)
            lost = await rollout.lost()
            _tell(rollout, lost)
            await rollout.agrees()
            failed = drain is not None and rollout.met.total() > 0
            return int(bool(lost or rollout.wrong or failed))


def _tell(rollout: Rollout, lost: list[str]) -> None:
    for provider in rollout.providers:
        idp = provider.idp
        print(f"{provider.name}: {idp.answered} requests, sent again: {dict(idp.met)}")
    taken = rollout.takeovers()
    print(
        f"takeover after a clean stop: median {statistics.median(taken):.2f} s,"
        f" worst {max(taken):.2f} s of {len(taken)}"
    )
    answered = sum(provider.idp.answered for provider in rollout.providers)
    print(f"{answered} requests, {rollout.met.total()} sent again; lost: {lost}; {rollout.wrong=}")
