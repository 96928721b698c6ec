"""Who is signed in to the console: a session that ends is over, whichever service is asked."""

import asyncio
import hashlib
import secrets
from dataclasses import dataclass

import structlog
from cryptography.fernet import Fernet

from scim_matrix.store.database import Database, together
from scim_matrix.store.errors import DatabaseError
from scim_matrix.store.queries import load

IDLE_SECONDS = 30 * 60
LONGEST_SECONDS = 12 * 3600
# So many sessions are kept, and of one user; the one that was used least lately ends first.
MOST = 10_000
MOST_OF_A_USER = 10
# How often it is written down (seconds) that a session is used.
USE_EVERY = 60

log = structlog.get_logger(__name__)

_Q = load("sessions")


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
    """The sessions that run, in the database: they outlast a service, and any other one has them.

    What stands there lets nobody in: a session's ID is kept as its digest.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key: str | None = None
        # By digest of the session: that it is used is being written down.
        self._noting: dict[str, asyncio.Task[None]] = {}

    async def key(self) -> str:
        """Return what seals cookies, the same at each service: as Fernet takes it."""
        if self._key is None:
            if not (rows := await self._database.reader.execute_fetchall(_Q["key"])):
                new = {"value": Fernet.generate_key().decode()}
                async with self._database.write() as connection:
                    await connection.execute_fetchall(_Q["keep_key"], new)
                    rows = await connection.execute_fetchall(_Q["key"])
            self._key = str(rows[0]["value"])
        return self._key

    async def begin(self, user_id: str, now: float) -> str:
        """Begin a session of a user and return its ID, which nobody can guess."""
        session_id = secrets.token_urlsafe(32)
        over = {"idle_since": now - IDLE_SECONDS, "begun_before": now - LONGEST_SECONDS}
        async with self._database.write() as connection:
            await together(
                connection,
                (_Q["end_over"], over),
                (_Q["end_least_used_of"], {"user_id": user_id, "most": MOST_OF_A_USER - 1}),
                (_Q["end_least_used"], {"most": MOST - 1}),
                (_Q["begin"], {"id": _digest(session_id), "user_id": user_id, "now": now}),
            )
        return session_id

    async def find(self, session_id: str, now: float) -> SignedIn | None:
        """Return a session, None where it has ended or never was."""
        values = {"id": _digest(session_id)}
        rows = await self._database.reader.execute_fetchall(_Q["find"], values)
        found = SignedIn(*rows[0]) if rows else None
        return None if found is None or found.is_over(now) else found

    def use(self, session_id: str, now: float) -> None:
        """Have it written down that a session is used; nobody waits for that.

        Where it fails, whoever asks next has it tried again: a session ends too early at worst.
        """
        digest = _digest(session_id)
        if digest not in self._noting:
            self._noting[digest] = task = asyncio.create_task(self._note(digest, now))
            task.add_done_callback(lambda _: self._noting.pop(digest))

    async def _note(self, digest: str, now: float) -> None:
        try:
            await self._write("use", id=digest, now=now)
        except DatabaseError as error:
            log.info("console_session_not_noted", error=str(error))

    async def drain(self) -> None:
        """Return once nothing is being written down any more."""
        await asyncio.gather(*self._noting.values())

    async def end(self, session_id: str) -> None:
        """End a session, if it runs."""
        await self._write("end", id=_digest(session_id))

    async def end_all(self, user_id: str) -> None:
        """End every session of a user."""
        await self._write("end_all", user_id=user_id)

    async def _write(self, query: str, **values: object) -> None:
        async with self._database.write() as connection:
            await connection.execute_fetchall(_Q[query], values)


def _digest(session_id: str) -> str:
    return hashlib.sha256(session_id.encode("utf-8", "replace")).hexdigest()
