"""Who is signed in to the console, as this service knows it: a session that ends here is over."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace

IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 12 * 3600
# So many sessions are kept, and of one user; the one that was used least lately ends first.
MOST = 10_000
MOST_OF_A_USER = 10


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session: whose it is, when it began and when it was last used (seconds since 1970)."""

    user_id: str
    begun: float
    used: float

    def is_over(self, now: float) -> bool:
        """Tell whether it has been idle for too long, or has lasted too long."""
        return now - self.used > IDLE_SECONDS or now - self.begun > LONGEST_SECONDS


class Sessions:
    """The sessions that run, in this process: they end with it.

    Several replicas of the service need a table in this one's place, with the same methods.
    """

    def __init__(self) -> None:
        # The one that was used least lately stands first.
        self._running: OrderedDict[str, SignedIn] = OrderedDict()

    async def begin(self, user_id: str, now: float) -> str:
        """Begin a session of a user and return its ID, which nobody can guess."""
        own = [i for i, session in self._running.items() if session.user_id == user_id]
        for session_id in own[: max(0, len(own) - MOST_OF_A_USER + 1)]:
            del self._running[session_id]
        if len(self._running) >= MOST:
            self._running.popitem(last=False)
        session_id = secrets.token_urlsafe(32)
        self._running[session_id] = SignedIn(user_id, now, now)
        return session_id

    async def find(self, session_id: str, now: float) -> SignedIn | None:
        """Return a session, None where it has ended or never was."""
        session = self._running.get(session_id)
        if session is None or not session.is_over(now):
            return session
        del self._running[session_id]
        return None

    async def use(self, session_id: str, now: float) -> None:
        """Note that a session is used."""
        if session_id in self._running:
            self._running[session_id] = replace(self._running[session_id], used=now)
            self._running.move_to_end(session_id)

    async def end(self, session_id: str) -> None:
        """End a session, if it runs."""
        self._running.pop(session_id, None)

    async def end_all(self, user_id: str) -> None:
        """End every session of a user."""
        for session_id in [i for i, s in self._running.items() if s.user_id == user_id]:
            del self._running[session_id]
