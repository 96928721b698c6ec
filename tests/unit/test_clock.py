"""Time that no clock can turn back or on."""

from dataclasses import dataclass

import pytest

from scim_matrix.clock import Clock

EPOCH = 1_700_000_000.0


@dataclass
class Hands:
    """Two clocks that a test moves (seconds)."""

    wall: float = EPOCH
    monotonic: float = 500.0

    def clock(self) -> Clock:
        """Return a clock that reads them."""
        return Clock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)

    def pass_by(self, seconds: float) -> None:
        """Let time go by, on both."""
        self.wall += seconds
        self.monotonic += seconds


def test_time_goes_by_as_it_passes() -> None:
    """It begins with what the wall clock says."""
    hands = Hands()
    clock = hands.clock()
    assert clock.now() == EPOCH
    hands.pass_by(90.0)
    assert (clock.now(), clock.jump) == (EPOCH + 90.0, 0.0)


@pytest.mark.parametrize("jump", [86400.0, 61.0, -61.0, -86400.0, -EPOCH])
def test_a_wall_clock_that_is_set_changes_nothing_but_is_told(jump: float) -> None:
    """Forward or back: rests go on as they were."""
    hands = Hands()
    clock = hands.clock()
    hands.wall += jump
    hands.pass_by(5.0)
    assert (clock.now(), clock.jump) == (EPOCH + 5.0, jump)


@pytest.mark.parametrize("drift", [0.5, 60.0, -60.0])
def test_a_little_drift_is_no_jump(drift: float) -> None:
    """Clocks are disciplined all the time."""
    hands = Hands()
    clock = hands.clock()
    hands.wall += drift
    assert clock.jump == 0.0


def test_a_deadline_passes() -> None:
    """To the second."""
    hands = Hands()
    clock = hands.clock()
    assert clock.reached >= EPOCH
    assert clock.reached < EPOCH + 10.0
    hands.pass_by(10.0)
    assert clock.reached >= EPOCH + 10.0


def test_a_clock_that_jumps_ahead_brings_no_deadline_on() -> None:
    """An account is not deactivated years early."""
    hands = Hands()
    clock = hands.clock()
    hands.wall += 86400.0 * 365
    assert clock.reached < EPOCH + 10.0


def test_a_clock_that_was_ahead_at_the_start_brings_no_deadline_on() -> None:
    """Put right later, its own word is no longer enough."""
    hands = Hands(wall=EPOCH + 86400.0)
    clock = hands.clock()
    hands.wall = EPOCH
    assert clock.now() == EPOCH + 86400.0
    assert clock.reached < EPOCH + 10.0
    hands.pass_by(10.0)
    assert clock.reached >= EPOCH + 10.0


def test_the_real_clocks_are_read_without_being_handed_in() -> None:
    """By default it is now."""
    clock = Clock()
    assert clock.now() > EPOCH
    assert clock.jump == 0.0
