"""Have the machine of tests/service/test_model.py make other moves each time, for a long time.

    python -m scripts.model --seconds 1800 --steps 40

Prints each minute how many moves were made. Stops at the first finding, with the moves that led
there and the seed that finds it again at once (exit status 1). `--shrink` looks for fewer moves
that find it, which takes long.
"""

import argparse
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from hypothesis import seed as seeded
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.service.test_model import Machine, examine

# So many examples are made from one seed: what finds something again is not to take long.
BATCH = 20
TOLD_EVERY = 60.0


class Course:
    """How many moves were made, and in what time; printed each minute."""

    def __init__(self) -> None:
        self.moves = 0
        self._begun = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._begun

    def moved(self) -> None:
        """Count a move."""
        self.moves += 1
        if time.monotonic() - self._told >= TOLD_EVERY:
            self.tell()

    def tell(self) -> None:
        """Print how far it is."""
        self._told = time.monotonic()
        rate = self.moves / max(self.seconds, 1e-6)
        print(f"{self.seconds:.0f} s: {self.moves} moves, {rate:.1f} a second", flush=True)


def counting(
    machine: type[RuleBasedStateMachine], moved: Callable[[], None]
) -> type[RuleBasedStateMachine]:
    """Return the same machine, whose moves are counted."""

    def count(_: Any) -> None:
        """Count a move, once all it started is done."""
        moved()

    return type(machine.__name__, (machine,), {"count": invariant()(count)})


def endure(
    machine: type[RuleBasedStateMachine], seconds: float, steps: int, seed: int, *, shrink: bool
) -> None:
    """Run a machine for so many seconds, `steps` moves an example; raise what it finds."""
    course = Course()
    counted = counting(machine, course.moved)
    try:
        while course.seconds < seconds:
            examine(seeded(seed)(counted), BATCH, steps, shrink=shrink)
            seed += 1
    except BaseException as finding:
        finding.add_note(f"Again: python -m scripts.model --seed {seed} --steps {steps}")
        raise
    finally:
        course.tell()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--steps", type=int, default=40, help="moves an example")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--shrink", action="store_true")
    options = parser.parse_args()
    # It tells of every request that is refused.
    logging.getLogger("nio").addHandler(logging.NullHandler())
    endure(Machine, options.seconds, options.steps, options.seed, shrink=options.shrink)
