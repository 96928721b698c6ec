"""Matrix accounts: what each should be, what was last applied, and the work between the two."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import aiosqlite
import orjson

from scim_matrix.store import grants
from scim_matrix.store.database import together
from scim_matrix.store.resources import TakenError

# active; disabled: active=false at the identity provider; deleted: within its grace period;
# expired: the grace period has passed.
State = Literal["active", "disabled", "deleted", "expired"]


@dataclass(frozen=True, slots=True)
class Profile:
    """What an account should be, or was last made: the unit of comparison."""

    state: State
    display_name: str | None
    emails: tuple[str, ...]
    subject: str | None

    def dump(self) -> str:
        """Return the JSON text under which profiles are stored and compared."""
        return orjson.dumps(self, option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def load(cls, text: str) -> Self:
        """Return the profile of a stored JSON text."""
        values: dict[str, Any] = orjson.loads(text)
        return cls(**{**values, "emails": tuple(values["emails"])})


@dataclass(frozen=True, slots=True)
class Account:
    """An account whose wanted profile has not been applied yet."""

    user_id: str
    wanted: Profile
    applied: Profile | None
    ready: bool
    attempts: int
    request: str | None = None
    approved: bool = False


async def create(
    connection: aiosqlite.Connection, scim_id: str, user_id: str, wanted: Profile
) -> None:
    """Say what the account of a new user should be.

    A user who comes back (same SSO subject, or the same user ID without a user) gets the former
    account. Raises TakenError where another user has the account.
    """
    made, *_ = await together(
        connection,
        (
            "INSERT INTO account (user_id, scim_id, subject, wanted, request, since)"
            " VALUES (coalesce(("
            "  SELECT user_id FROM account WHERE scim_id IS NULL AND (user_id = ?1 OR subject = ?3)"
            "  ORDER BY subject IS ?3 DESC LIMIT 1), ?1), ?2, ?3, ?4, cause(),"
            "  julianday('now'))"
            " ON CONFLICT (user_id) DO UPDATE SET scim_id = excluded.scim_id,"
            " subject = excluded.subject, wanted = excluded.wanted, expires = NULL, attempts = 0,"
            " next_try = 0, error = NULL, request = cause(), since = excluded.since, held = 0,"
            " approved = 0 WHERE scim_id IS NULL RETURNING user_id",
            (user_id, scim_id, wanted.subject, wanted.dump()),
        ),
        *grants.settling([scim_id]),
    )
    if not made:
        raise TakenError(f"userName: another user already has the Matrix account {user_id}")


async def change(connection: aiosqlite.Connection, scim_id: str, wanted: Profile) -> None:
    """Say what the account of a user should be from now on."""
    await connection.execute_fetchall(
        "UPDATE account SET wanted = ?1, subject = ?2, expires = NULL, attempts = 0, next_try = 0,"
        " error = NULL, request = cause(), since = julianday('now'), held = 0,"
        " approved = approved AND ?4 <> 'active'"
        " WHERE scim_id = ?3 AND wanted IS NOT ?1",
        (wanted.dump(), wanted.subject, scim_id, wanted.state),
    )


async def release(connection: aiosqlite.Connection, scim_id: str, grace: float) -> None:
    """End a deleted user's grants and mark the account, which expires after `grace` seconds."""
    found = list(
        await connection.execute_fetchall(
            "SELECT user_id, wanted FROM account WHERE scim_id = ?", (scim_id,)
        )
    )
    for user_id, wanted in found:
        profile = Profile.load(wanted)
        deleted = Profile("deleted", profile.display_name, profile.emails, profile.subject)
        await grants.revoke_account(connection, user_id)
        await connection.execute_fetchall(
            "UPDATE account SET scim_id = NULL, wanted = ?, expires = ?, attempts = 0,"
            " next_try = 0, error = NULL, request = cause(), since = julianday('now'), held = 0"
            " WHERE user_id = ?",
            (deleted.dump(), time.time() + grace, user_id),
        )


async def any_expired(connection: aiosqlite.Connection, now: float) -> bool:
    """Tell whether the grace period of a deleted account has passed."""
    return bool(
        await connection.execute_fetchall(
            "SELECT 1 FROM account WHERE expires <= ? LIMIT 1", (now,)
        )
    )


async def expire(connection: aiosqlite.Connection, now: float) -> None:
    """Move deleted accounts whose grace period has passed to `expired`."""
    await connection.execute_fetchall(
        "UPDATE account SET wanted = json_set(wanted, '$.state', 'expired'), expires = NULL,"
        " attempts = 0, next_try = 0 WHERE expires <= ?",
        (now,),
    )


async def due(
    connection: aiosqlite.Connection, now: float, limit: int, besides: Sequence[str]
) -> list[Account]:
    """Return up to `limit` accounts to work on now, the newest change first, without `besides`."""
    found = await connection.execute_fetchall(
        "SELECT user_id, wanted, applied, ready, attempts, request, approved FROM account"
        " WHERE wanted IS NOT applied AND NOT held AND next_try <= ?"
        " AND user_id NOT IN (SELECT value FROM json_each(?)) ORDER BY since DESC LIMIT ?",
        (now, orjson.dumps(besides).decode(), limit),
    )
    return [
        Account(
            user_id,
            Profile.load(wanted),
            None if applied is None else Profile.load(applied),
            bool(ready),
            attempts,
            request,
            bool(approved),
        )
        for user_id, wanted, applied, ready, attempts, request, approved in found
    ]


async def applied(connection: aiosqlite.Connection, user_id: str, profile: Profile) -> None:
    """Record that an account was made to be `profile`."""
    await connection.execute_fetchall(
        "UPDATE account SET applied = ?, ready = 1, attempts = 0, next_try = 0, error = NULL"
        " WHERE user_id = ?",
        (profile.dump(), user_id),
    )


async def rename(connection: aiosqlite.Connection, old: str, new: str) -> bool:
    """Note that the user's account is another one than assumed; False if that one is taken."""
    found = list(
        await connection.execute_fetchall("SELECT scim_id FROM account WHERE user_id = ?", (new,))
    )
    if found and found[0][0] is not None:
        return False
    await together(
        connection,
        ("DELETE FROM pair WHERE user_id = ?", (new,)),
        ("DELETE FROM account WHERE user_id = ?", (new,)),
        ("UPDATE account SET user_id = ? WHERE user_id = ?", (new, old)),
        ("UPDATE pair SET user_id = ? WHERE user_id = ?", (new, old)),
    )
    return True


async def failed(
    connection: aiosqlite.Connection, user_id: str, error: str, next_try: float
) -> None:
    """Record that working on an account failed, and when to try again (seconds since epoch)."""
    await connection.execute_fetchall(
        "UPDATE account SET attempts = attempts + 1, error = ?, next_try = ? WHERE user_id = ?",
        (error, next_try, user_id),
    )
