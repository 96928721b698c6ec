"""When to try again (pure but for the jitter)."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with full jitter in their upper half, in seconds."""

    longest: float
    first: float = 1.0

    def delay(self, attempts: int) -> float:
        """Return the delay before the next try, after `attempts` failed ones."""
        ceiling: float = min(self.longest, self.first * 2.0 ** min(attempts, 30))
        return ceiling * random.uniform(0.5, 1.0)


# Short enough that little is missed once the homeserver is well again.
TRANSIENT = Backoff(longest=15.0)
# What only a person or a change elsewhere can mend.
PERMANENT = Backoff(first=60.0, longest=3600.0)
