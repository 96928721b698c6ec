"""Faults and restarts under load, a few of them: `make chaos` plays hundreds."""

import random
from collections.abc import Callable
from pathlib import Path

from scripts.chaos.balancing import Balancer, balanced
from scripts.chaos.changes import team_of
from scripts.chaos.faults import Chaos, Replica
from scripts.chaos.providers import at_work
from scripts.chaos.restarts import SETTINGS, Drain, rolling
from scripts.chaos.terms import History, Sent, Term, late
from tests.homeserver.server import Fault, Request
from tests.postgresql import Server, serving
from tests.service.replicas import ROOM, Surroundings, surrounded


def noting(replica: Replica) -> Callable[[Request], None]:
    """Return what notes the requests of a service."""
    return lambda request: replica.note(request.method, "/".join(request.path))


async def watched(around: Surroundings) -> Replica:
    """Start a service of which it is known what it sends; some of its answers are lost."""
    service = await around.replica({"displayName:G": [ROOM]}, SETTINGS)
    replica = Replica(service)
    service.homeserver.before = noting(replica)
    lost = Fault("answer lost", lambda request: request.method != "GET", times=3)
    service.homeserver.faults.append(lost)
    return replica


async def test_whatever_is_killed_nothing_is_lost(postgresql: Server, tmp_path: Path) -> None:
    """Nor is anything sent by who leads no more, and the room agrees in the end."""
    with serving() as own:
        assert own is not None
        async with surrounded(own, tmp_path) as around:
            history = History(around.url)
            replicas = [await watched(around) for _ in range(2)]
            balancer = Balancer([replica.service.url for replica in replicas])
            dice = random.Random(1)
            async with balanced(balancer, dice) as idp:
                team = await team_of(idp, 4)
                chaos = Chaos(own, history, replicas, team, idp, dice)
                for fault in (
                    Chaos.kill_the_database,
                    Chaos.stop_the_leader,
                    Chaos.kill_the_leader,
                ):
                    await chaos.round(fault)
                await around.all_in(*(chaos.directory.members - chaos.directory.disabled))
                await chaos.judge()
                assert chaos.takeovers.keys() == {"clean stop", "kill -9"}
                assert chaos.sent


async def test_restarts_under_load_lose_nothing(postgresql: Server, tmp_path: Path) -> None:
    """Who is not told sends again; where new ones answer before old ones go nobody has to."""
    dice = random.Random(1)
    async with rolling(postgresql, tmp_path, dice) as rollout:
        async with at_work(3, rollout.balancer, dice) as rollout.providers:
            await rollout.in_place()
            assert (before := rollout.met.total()) > 0
            await rollout.replaced(Drain(0, 0, 0, 0))
            assert rollout.met.total() == before, rollout.met
        assert await rollout.lost() == []
        assert rollout.wrong == []
        await rollout.agrees()
        assert len(rollout.takeovers()) >= 2


def test_what_is_sent_after_another_leads_is_told() -> None:
    """By the last term that had begun; where nobody leads any more its leader is not late."""
    terms = [Term(1, pid=10, at=100.0), Term(2, pid=20, at=200.0)]
    fine = [Sent(100.0, 10, "a"), Sent(199.0, 10, "b"), Sent(200.0, 20, "c")]
    assert late(terms, fine) == []
    assert late(terms, [Sent(99.0, 10, "POST x"), Sent(201.5, 10, "PUT y"), *fine]) == [
        "POST x of 10 before anybody led",
        "PUT y of 10 1.500 s into the term of 20",
    ]
