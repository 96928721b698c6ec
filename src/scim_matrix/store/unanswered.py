"""What requests on accounts that had no answer may still do, and until when (docs/states.md)."""

from scim_matrix.store.accounts import LATEST, Account
from scim_matrix.store.database import Connection
from scim_matrix.store.queries import load

_Q = load("unanswered")


async def record(connection: Connection, until: float | None, account: Account) -> None:
    """Record until when (seconds since the epoch) a request on an account may be carried out."""
    values = {"id": account.id, "user_id": account.user_id, "until": until}
    await connection.execute_fetchall(_Q["record"], values)


async def record_nobodys(connection: Connection, until: float, user_id: str) -> None:
    """Record the same of an account that is no user's."""
    await connection.execute_fetchall(_Q["record_nobodys"], {"user_id": user_id, "until": until})


async def begin_anew(connection: Connection) -> None:
    """Count anew how long what had no answer may be carried out, where nothing watched the time."""
    await connection.execute_fetchall(_Q["begin_anew"], {"until": connection.at + LATEST})


async def why_not_yet(connection: Connection, user_id: str) -> str | None:
    """Return why an account cannot be anybody's for a while, None where it can.

    What was asked for a former user, and had no answer, may be carried out later than it goes to
    the next one.
    """
    values = {"user_id": user_id, "now": connection.at}
    if not await connection.execute_fetchall(_Q["of_nobodys"], values):
        return None
    return f"{user_id} may still be changed for its former user, by a request that had no answer"


async def any_over(connection: Connection, now: float) -> bool:
    """Tell whether an account is to be looked at once more (seconds since the epoch)."""
    return bool(await connection.execute_fetchall(_Q["any_over"], {"now": now}))


async def look(connection: Connection, now: float) -> None:
    """Have accounts looked at whose time for that has come (seconds since the epoch)."""
    await connection.execute_fetchall(_Q["look"], {"now": now})
