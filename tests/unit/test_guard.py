"""The brake: what is usual goes on, what is unusually much waits."""

import pytest

from scim_matrix.sync.guard import Brake, Tally

BRAKE = Brake(percent=30, count=10, window=3600)


@pytest.mark.parametrize(
    ("tally", "holds"),
    [
        (Tally(done=0, pending=10, held=0, managed=10), False),
        (Tally(done=0, pending=11, held=0, managed=11), True),
        (Tally(done=0, pending=30, held=0, managed=100), False),
        (Tally(done=0, pending=31, held=0, managed=100), True),
        (Tally(done=30, pending=1, held=0, managed=100), True),
        (Tally(done=0, pending=1, held=30, managed=100), True),
        (Tally(done=0, pending=300, held=0, managed=1000), False),
        (Tally(done=10, pending=1, held=0, managed=36), True),
        (Tally(done=10, pending=1, held=0, managed=37), False),
    ],
)
def test_both_limits_must_be_exceeded(tally: Tally, holds: bool) -> None:
    """More than so many people and more than such a share; what is done or held counts too."""
    assert BRAKE.holds(tally) is holds


def test_a_limit_of_nothing_holds_everything() -> None:
    """With both limits at zero no one is removed without a human."""
    assert Brake(percent=0, count=0, window=1).holds(Tally(0, 1, 0, 500))
