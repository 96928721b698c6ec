"""Whether a server is there, how long it is left alone, and how much is asked of it at once."""

import asyncio
from typing import Literal

import structlog

from scim_matrix.clock import Clock
from scim_matrix.matrix.errors import (
    HomeserverError,
    MismatchError,
    NoTokenError,
    PostponedError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnvouchedError,
)
from scim_matrix.sync.backoff import TRANSIENT
from scim_matrix.sync.in_flight import InFlight

log = structlog.get_logger(__name__)

# mismatched: it is not the server that the settings say. waiting: there is nothing to ask it with,
# since MAS gives the service no token, or does not vouch for the one that there is.
Condition = Literal["unknown", "ready", "down", "refused", "mismatched", "waiting"]


def condition_by(error: HomeserverError) -> Condition:
    """Return how a server is that a request to it ends so."""
    if isinstance(error, RefusedError | TokenError):
        return "refused"
    if isinstance(error, MismatchError):
        return "mismatched"
    return "waiting" if isinstance(error, NoTokenError | UnvouchedError) else "down"


class Breaker:
    """What was last seen of a server, and what that means for the next request to it.

    `there` is set while it answers. `slots` is how much is asked of it at once.
    """

    def __init__(self, name: str, clock: Clock, concurrency: int) -> None:
        self.name = name
        self.there = asyncio.Event()
        self.condition: Condition = "unknown"
        self.version: str | None = None
        self.resting_until = 0.0
        self._clock = clock
        self._in_flight = InFlight(concurrency)
        self._failures = 0

    @property
    def slots(self) -> int:
        """How much may be asked of it at once."""
        return self._in_flight.slots

    @property
    def rests_seconds(self) -> float:
        """For how long it is left alone from now on, as it asked or as it ails."""
        return max(0.0, self.resting_until - self._clock.now())

    @property
    def is_usable(self) -> bool:
        """Whether work may be begun on it."""
        return self.condition == "ready" and self.there.is_set() and not self.rests_seconds

    def rest(self, seconds: float) -> None:
        """Leave it alone for a while."""
        self.resting_until = max(self.resting_until, self._clock.now() + seconds)

    def met(self, version: str) -> None:
        """Note that it is the server that it should be."""
        self.condition, self.version = "ready", version

    def answered(self) -> None:
        """Note that it answers."""
        self.there.set()
        self._failures = 0

    def doubt(self) -> None:
        """Have it asked whether it is there before anything else is done."""
        self.there.clear()

    def took(self, kind: str, seconds: float) -> None:
        """Learn from how long something of a kind took how much may be asked at once."""
        self._in_flight.took(kind, seconds)

    def failed(self) -> None:
        """Ask half as much at once, since an answer said nothing."""
        if self.slots == 1:
            self.rest(TRANSIENT.delay(1))
        self._in_flight.halve()

    def trip(self, error: HomeserverError) -> None:
        """Leave it alone for a while, then meet it again."""
        if isinstance(error, PostponedError) and error.retry_after is not None:
            delay = error.retry_after
        else:
            delay = TRANSIENT.delay(self._failures + 1)
        self._failures += 1
        self.rest(delay)
        if isinstance(error, RateLimitedError):
            self._in_flight.halve()
            log.info("rate_limited", by=self.name, seconds=round(delay, 1))
            return
        self.doubt()
        condition = condition_by(error)
        if self.condition != condition:
            log.warning(f"{self.name}_{condition}", error=str(error))
        self.condition = condition
