"""Two services on a PostgreSQL beside a real Synapse, and a fault in each round."""

import contextlib
import random
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from benchmarks.database import AS_INSTALLED
from scripts.chaos.balancing import Balancer, balanced
from scripts.chaos.changes import Stage, lose, staged, team_of
from scripts.chaos.faults import FAULTS, Chaos, LostError, Replica
from scripts.chaos.terms import History
from tests.postgresql import serving
from tests.preforked import PreforkedService
from tests.synapse.proxy import Proxy, proxying

PEOPLE = 8


async def run(rounds: int, dice: random.Random) -> int:
    """Play so many rounds; return the exit status."""
    with (
        serving(AS_INSTALLED) as server,
        tempfile.TemporaryDirectory(prefix="scim-matrix-chaos-") as name,
    ):
        if server is None:
            raise SystemExit("PostgreSQL is not here: scripts/get_postgresql.sh installs it")
        async with staged(Path(name), dice) as stage, contextlib.AsyncExitStack() as stack:
            url = server.filled().get_secret_value()
            history = History(url)
            proxies = [await stack.enter_async_context(proxying(stage.url)) for _ in range(2)]
            replicas = [
                _replica(stage, Path(name) / f"r{n}", p, url) for n, p in enumerate(proxies)
            ]
            for replica in replicas:
                stack.push_async_callback(replica.end)
                await replica.service.start()
            balancer = Balancer([replica.service.url for replica in replicas])
            idp = await stack.enter_async_context(balanced(balancer, dice))
            team = await team_of(idp, PEOPLE)
            chaos = Chaos(server, history, replicas, team, idp, dice)
            for proxy in proxies:
                lose(proxy, dice)
            return await _play(chaos, stage, proxies, rounds)


def _replica(stage: Stage, folder: Path, proxy: Proxy, url: str) -> Replica:
    more = {"DATA_DIR": "", "DATABASE_URL": url}
    # A start of Python each time would be most of what the machine does.
    make = partial(PreforkedService, hurried=False)
    replica = Replica(stage.service(folder, proxy.url, make, **more))
    proxy.fault = replica.note
    return replica


async def _play(chaos: Chaos, stage: Stage, proxies: list[Proxy], rounds: int) -> int:
    played: Counter[str] = Counter()
    try:
        for number in range(1, rounds + 1):
            stage.spell(chaos.dice)
            [fault] = chaos.dice.choices(list(FAULTS), list(FAULTS.values()))
            played[fault.__name__] += 1
            at = time.monotonic()
            await chaos.round(fault)
            what = fault.__name__.replace("_", " ")
            print(f"round {number}: {what}, {time.monotonic() - at:.1f} s", flush=True)
            await chaos.judge()
    except LostError as error:
        print(f"round {number}, {fault.__name__}: {error}")
        return 1
    for proxy in proxies:
        proxy.lights_on()
    agrees = await stage.agrees(chaos.directory, chaos.team)
    chaos.tell()
    print(f"{dict(played)}; {'rooms and accounts agree' if agrees else 'THEY DO NOT AGREE'}")
    await chaos.judge()
    return int(not agrees)
