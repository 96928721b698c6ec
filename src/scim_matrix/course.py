"""How fast something large gets on, and when it will be done (pure)."""

from collections import deque
from dataclasses import dataclass

# The rate is that of so long ago until now (seconds).
WINDOW = 60.0


@dataclass(frozen=True, slots=True)
class Amount:
    """How many there are of something, and how many of them are left to be done."""

    whole: int
    left: int

    @property
    def done(self) -> int:
        """How many are done."""
        return max(0, self.whole - self.left)


class Course:
    """What was left at some moments of late, and what that says."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, at: float, left: int) -> None:
        """Note what is left at a moment (seconds of any clock)."""
        if self._seen and left > self._seen[-1][1]:
            # There is more to do than before: what was done so far tells nothing of that.
            self._seen.clear()
        self._seen.append((at, left))
        while self._seen[0][0] < at - WINDOW:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """How much is done a second, 0 while that is not known."""
        (start, before), (end, left) = self._seen[0], self._seen[-1]
        return (before - left) / (end - start) if end > start else 0.0

    @property
    def remaining(self) -> float | None:
        """In how many seconds nothing is left at this rate, None where it cannot be told."""
        left = self._seen[-1][1]
        return left / self.rate if self.rate else None

    def told(self) -> str:
        """Return rate and remaining time in words, nothing where nothing is left."""
        if not self._seen or not self._seen[-1][1]:
            return ""
        if self.remaining is None:
            return "at a standstill" if len(self._seen) > 1 else ""
        minutes, seconds = divmod(round(self.remaining), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{self.rate:.1f} a second, {hours}:{minutes:02}:{seconds:02} left"
