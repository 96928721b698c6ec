"""Kill the service over and over while people and the map change, and check.

    python -m scripts.chaos one --kills 100 --backlog 20000
    python -m scripts.chaos replicas --rounds 200
    python -m scripts.chaos restarts --restarts 20
    python -m scripts.chaos rollouts --restarts 20

`one`: a service on SQLite, killed at random moments; then the same while 20,000 memberships wait,
beside a homeserver in memory. `replicas`: two services on a PostgreSQL, any of which is killed,
stopped or paused. `restarts`: two services on a PostgreSQL under load, stopped and started one
after the other, as often as that; `rollouts`: replaced as deploy/kubernetes-postgresql.yaml says,
which no request may notice.

Every acknowledged write must be there afterwards, and rooms and accounts must agree with it,
though a part of the homeserver's answers is lost and the map spells its room in turn by alias and
by ID; and no process may ask the homeserver for a change after another one has begun to lead. Exit
status 0 only then.
"""

import argparse
import asyncio
import random
import sys

from scripts.chaos import one, replicas, restarts


def main() -> int:
    """Play what is asked for; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=("one", "replicas", "restarts", "rollouts"))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=200, help="of faults, with replicas")
    parser.add_argument("--restarts", type=int, default=20, help="of both services")
    parser.add_argument("--backlog", type=int, default=20_000, help="memberships that wait")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"{options.mode}, seed {options.seed}", flush=True)
    dice = random.Random(options.seed)
    if options.mode == "replicas":
        return asyncio.run(replicas.run(options.rounds, dice))
    if options.mode in ("restarts", "rollouts"):
        drain = restarts.Drain.deployed() if options.mode == "rollouts" else None
        return asyncio.run(restarts.run(options.restarts, dice, drain))
    ended = asyncio.run(one.run(options.kills, dice)) if options.kills else 0
    if options.backlog and not ended:
        kills = min(20, options.kills or 4)
        ended = asyncio.run(one.run_backlog(options.backlog, kills, dice))
    return ended


if __name__ == "__main__":
    sys.exit(main())
