"""Have each Matrix account be observed and changed by one piece of work at a time."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from weakref import WeakValueDictionary


class InHand:
    """Turns on Matrix accounts, whoever's they are.

    What is changed there is written as a whole (SSO identities, addresses), as it was observed: of
    two at once one would undo the other's.
    """

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._without: Counter[str] = Counter()

    def of(self, user_id: str) -> asyncio.Lock:
        """Return what is held while an account is in hand."""
        return self._turns.setdefault(user_id, asyncio.Lock())

    @contextlib.contextmanager
    def without_waiting(self, user_id: str) -> Iterator[None]:
        """Have it known that somebody is being put out, which waits for no turn."""
        self._without[user_id] += 1
        try:
            yield
        finally:
            self._without -= Counter([user_id])

    def is_free(self, user_id: str) -> bool:
        """Tell whether nothing is at work on an account."""
        return not self._without[user_id] and not self.of(user_id).locked()
