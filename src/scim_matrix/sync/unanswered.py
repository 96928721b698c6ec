"""Ask for a change of an account, and forget nothing of it while it may be carried out late."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial

from scim_matrix.matrix.errors import RefusedError, UnavailableError
from scim_matrix.store import unanswered
from scim_matrix.store.accounts import LATEST, Account, Confirmation, Disabling
from scim_matrix.store.database import Connection, Database

# Records until when (seconds since the epoch) a request may be carried out.
Record = Callable[[Connection, float], Awaitable[None]]

# What is let through by the brake lets through whatever is no more than that.
_HOW_MUCH: dict[Disabling | None, int] = {
    None: 0,
    "lock": 1,
    "suspend": 1,
    "deactivate": 2,
    "erase": 3,
}


def still(until: float | None, now: float) -> float | None:
    """Return until when what had no answer may be carried out, None where nothing can be by now.

    In seconds since the epoch. So long nothing that the service may have done is forgotten.
    """
    return until if until is not None and now < until else None


@contextlib.asynccontextmanager
async def recorded(database: Database, record: Record) -> AsyncIterator[None]:
    """Have it recorded of a request that gets no answer until when it may be carried out."""
    try:
        yield
    except UnavailableError:
        async with database.write() as connection:
            await record(connection, connection.at + LATEST)
        raise


@contextlib.asynccontextmanager
async def asking(database: Database, account: Account, until: float | None) -> AsyncIterator[None]:
    """Have an account be in doubt where no answer comes, and as before where it is refused.

    `until` is when what was asked before may be carried out (see `still`).
    """
    try:
        async with recorded(database, partial(unanswered.record, account=account)):
            yield
    except RefusedError:
        async with database.write() as connection:
            await unanswered.restore(connection, until, account)
        raise


@contextlib.asynccontextmanager
async def asking_of(database: Database, account: Account, user_id: str) -> AsyncIterator[None]:
    """Have a Matrix account be in doubt until there is an answer, whoever it goes to meanwhile.

    It is being taken from the user of `account`.
    """
    async with database.write() as connection:
        until, former = await unanswered.begin(connection, account, user_id)

    async def answered() -> None:
        async with database.write() as connection:
            await unanswered.end(connection, account, user_id, until, former)

    try:
        taking = partial(unanswered.record_taking, account=account, user_id=user_id)
        async with recorded(database, taking):
            yield
    except RefusedError:
        await answered()
        raise
    await answered()


def is_let_through(account: Account, how: Disabling) -> bool:
    """Tell whether a request for as much was sent, and it is not known what came of it."""
    return _HOW_MUCH[how] <= max(_HOW_MUCH[account.doing], _HOW_MUCH[account.unsure_of])


def unless_late(
    account: Account, seen: Confirmation, until: float | None, disabled: Disabling | None = None
) -> Confirmation:
    """Return what is recorded of an account that is as wanted, and was `disabled` for that.

    While something may be carried out late (`until`), what the service may have done is its own
    still.
    """
    if until is None:
        return seen
    return replace(
        seen,
        ours=seen.ours | account.ours,
        written=seen.written | account.written,
        unsure_until=until,
        unsure_of=disabled or account.unsure_of,
    )
