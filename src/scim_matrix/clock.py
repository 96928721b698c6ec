"""The time that work goes by: the epoch's seconds, moved on by a clock that nobody can set."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

# Seconds by which wall and monotonic clock may drift apart before it counts as a jump.
_JUMP = 60.0


@dataclass(slots=True)
class Clock:
    """Seconds since the epoch as they were at the start, plus what has passed since.

    Rests and deadlines go by `now`, so that a wall clock that is set forward or back neither
    holds work up nor brings a deadline on. `wall` and `monotonic` are handed in by tests.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    _offset: float = field(init=False)

    def __post_init__(self) -> None:
        """Take the wall clock's word once."""
        self._offset = self.wall() - self.monotonic()

    def now(self) -> float:
        """Return the present time (seconds since the epoch)."""
        return self._offset + self.monotonic()

    @property
    def jump(self) -> float:
        """By how much (seconds) the wall clock was set since the start; 0 for a little drift."""
        difference = self.wall() - self.now()
        return difference if abs(difference) > _JUMP else 0.0

    @property
    def reached(self) -> float:
        """The time (seconds since the epoch) that both clocks have reached: deadlines go by it."""
        return min(self.now(), self.wall())
