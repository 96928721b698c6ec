"""How much is asked of a server at once: more while answers stay fast, fewer when they do not."""

# What one process of Synapse does best with: beyond that its answers only wait for each other.
USUAL = 4
# So many answers tell how long one usually takes, before more is asked at once.
ENOUGH = 50
# How many times as long as usual an answer may take: below the first a little more is asked at
# once, above the second a little less.
FAST, SLOW = 1.15, 1.25
# So much does each answer count for how long one takes, and by so much of an answer it grows.
_WEIGHT = 0.1
_STEP = 0.25


class InFlight:
    """Requests at once, between what is usual and a ceiling."""

    def __init__(self, ceiling: int) -> None:
        self._ceiling = float(ceiling)
        self._usual = float(min(USUAL, ceiling))
        self._slots = self._usual
        # How long an answer of each kind takes (seconds) while no more than usual is asked.
        self._usually: dict[str, float] = {}
        self._learned = 0
        self._stretch = 1.0

    @property
    def slots(self) -> int:
        """How much may be asked at once."""
        return int(self._slots)

    def took(self, kind: str, seconds: float) -> None:
        """Learn from how long an answer of a kind took (seconds)."""
        usually = self._usually.setdefault(kind, seconds)
        if self._slots <= self._usual:
            self._usually[kind] += _WEIGHT * (seconds - usually)
            self._learned += 1
            self._stretch = 1.0
            if self._slots < self._usual or self._learned > ENOUGH:
                self._slots = min(self._ceiling, self._slots + 1 / self._slots)
            return
        self._stretch += _WEIGHT * (seconds / max(usually, 1e-4) - self._stretch)
        if self._stretch < FAST:
            self._slots = min(self._ceiling, self._slots + _STEP / self._slots)
        elif self._stretch > SLOW:
            self._slots = max(self._usual, self._slots - 1 / self._slots)
            # Once back at what is usual, that is learned anew: people and rooms differ.
            self._learned = 0

    def halve(self) -> None:
        """Ask half as much at once: an answer said nothing, or asked for less."""
        self._slots = max(1.0, self._slots / 2)
        self._learned = 0
