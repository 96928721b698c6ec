"""The brake: what is usual goes on, what is unusually much waits."""

import pytest

from scim_matrix.sync.guard import Brake, Tally

BRAKE = Brake(percent=30, count=10, window=3600)


@pytest.mark.parametrize(
    ("tally", "holds"),
    [
        (Tally(removed=10, managed=10), False),
        (Tally(removed=11, managed=11), True),
        (Tally(removed=30, managed=100), False),
        (Tally(removed=31, managed=100), True),
        (Tally(removed=300, managed=1000), False),
        (Tally(removed=11, managed=36), True),
        (Tally(removed=11, managed=37), False),
    ],
)
def test_both_limits_must_be_exceeded(tally: Tally, holds: bool) -> None:
    """More than so many people and more than such a share; what is done or held counts too."""
    assert BRAKE.holds(tally) is holds


def test_a_limit_of_nothing_holds_everything() -> None:
    """With both limits at zero no one is removed without a human."""
    assert Brake(percent=0, count=0, window=1).holds(Tally(1, 500))
