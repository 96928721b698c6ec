"""Have each Matrix account be observed and changed by one piece of work at a time."""

import asyncio
from weakref import WeakValueDictionary


class InHand:
    """Turns on Matrix accounts, whoever's they are.

    What is changed there is written as a whole (SSO identities, addresses), as it was observed: of
    two at once one would undo the other's.
    """

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, user_id: str) -> asyncio.Lock:
        """Return what is held while an account is in hand."""
        return self._turns.setdefault(user_id, asyncio.Lock())
