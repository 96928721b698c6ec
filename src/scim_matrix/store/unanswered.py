"""What requests on accounts that had no answer may still do, and until when (docs/states.md)."""

from scim_matrix.store.accounts import LATEST, Account
from scim_matrix.store.database import Connection, together
from scim_matrix.store.queries import load

# After that an account is looked at once more: before it goes to anybody, links that were written
# late are taken off (seconds).
LOOKED_AT_WITHIN = 10.0

_Q = load("unanswered")


async def record(connection: Connection, until: float, account: Account) -> None:
    """Record until when (seconds since the epoch) a request on an account may be carried out.

    Whoever has that Matrix account by now: it may have gone to another user meanwhile.
    """
    if account.user_id is None:
        await restore(connection, until, account)
    else:
        await record_of(connection, until, account.user_id)


async def restore(connection: Connection, until: float | None, account: Account) -> None:
    """Record that nothing is in doubt of an account but what was before: until when, if so."""
    values = {"id": account.id, "user_id": account.user_id, "until": until}
    await connection.execute_fetchall(_Q["restore"], values)


async def record_of(connection: Connection, until: float, user_id: str) -> None:
    """Record the same of a Matrix account of which nothing else may be known."""
    await connection.execute_fetchall(_Q["record_of"], {"user_id": user_id, "until": until})


async def until(connection: Connection, user_id: str) -> float | None:
    """Return until when (seconds since the epoch) something may be carried out on an account."""
    found = await connection.execute_fetchall(_Q["until"], {"user_id": user_id})
    return (
        None if not found or found[0]["unsure_until"] is None else float(found[0]["unsure_until"])
    )


async def begin(
    connection: Connection, account: Account, user_id: str
) -> tuple[float, float | None]:
    """Record before a request on a Matrix account leaves that it may be carried out from now on.

    It takes that from the user of `account`, who is looked for there once more. Returns until when,
    and until when something may have been carried out before (seconds since the epoch).
    """
    former = await until(connection, user_id)
    latest = connection.at + LATEST
    await record_taking(connection, latest, account, user_id)
    return latest, former


async def record_taking(
    connection: Connection, until: float, account: Account, user_id: str
) -> None:
    """Record until when an account may be taken from the user of `account`, or be theirs again."""
    await record_of(connection, until, user_id)
    if account.user_id is None:
        await restore(connection, until, account)


async def end(
    connection: Connection, account: Account, user_id: str, latest: float, former: float | None
) -> None:
    """Record that it was answered: nothing is in doubt but what was before `begin`, or is since."""
    values = {"user_id": user_id, "until": latest, "former": former}
    await connection.execute_fetchall(_Q["end"], values)
    if account.user_id is None:
        await restore(connection, account.unsure_until, account)


async def begin_anew(connection: Connection) -> None:
    """Count anew how long what had no answer may be carried out, where nothing watched the time."""
    values = {"until": connection.at + LATEST}
    await together(
        connection, *((_Q[name], values) for name in ("begin_anew", "begin_levels_anew"))
    )


async def why_not_yet(connection: Connection, account: Account, user_id: str) -> str | None:
    """Return why a Matrix account cannot be a user's for a while (`account`), None where it can.

    What was asked for a former user, and had no answer, may be carried out later than it goes to
    the next one.
    """
    values = {
        "id": account.id,
        "mark": account.mark,
        "user_id": user_id,
        "since": connection.at - LOOKED_AT_WITHIN,
    }
    if not await connection.execute_fetchall(_Q["of_nobodys"], values):
        return None
    return f"{user_id} may still be changed for its former user, by a request that had no answer"


async def any_over(connection: Connection, now: float) -> bool:
    """Tell whether an account is to be looked at once more (seconds since the epoch)."""
    return bool(await connection.execute_fetchall(_Q["any_over"], {"now": now}))


async def look(connection: Connection, now: float) -> None:
    """Have accounts looked at whose time for that has come (seconds since the epoch)."""
    await together(connection, *((_Q[name], {"now": now}) for name in ("look_behind", "look")))
