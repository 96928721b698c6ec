"""Which Matrix account is a user's, or is being asked for (docs/states.md).

An account is *bound* once that is known; before that nothing is done in its name.
"""

from datetime import datetime
from typing import Any

from scim_matrix.store import grants, record, unanswered
from scim_matrix.store.accounts import LATEST, Account, BoundBy, Disablement, Written
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import Statement
from scim_matrix.store.queries import load

_Q = load("accounts")


async def ask(connection: Connection, account: Account, since: datetime | None) -> bool:
    """Record before an account is asked for since when there may be one (None: nobody can say).

    Return whether it is to be asked for still: its user may have been disabled, deleted or told
    another account.
    """
    values = {
        "id": account.id,
        "user_id": account.user_id,
        "since": None if since is None else since.isoformat(),
        "written": account.to_be_written.dump(),
        "until": connection.at + LATEST,
    }
    return bool(await connection.execute_fetchall(_Q["ask"], values))


async def search(connection: Connection, account: Account) -> float:
    """Record that an account that was asked for is not found; return since when that is so."""
    [row] = await connection.execute_fetchall(_Q["search"], {"id": account.id, "at": connection.at})
    return float(row["searched"])


async def has_none(connection: Connection, account: Account) -> None:
    """Record that a disabled user has no account; a deleted one without an account is forgotten."""
    values = {"id": account.id, "desired": account.desired, "at": connection.at}
    await together(connection, (_Q["has_none"], values), (_Q["forget_released"], values))


async def is_taken(connection: Connection, user_id: str) -> bool:
    """Tell whether a Matrix account is some user's."""
    return bool(await connection.execute_fetchall(_Q["is_taken"], {"user_id": user_id}))


async def bind(
    connection: Connection, account: Account, user_id: str, bound_by: BoundBy
) -> str | None:
    """Record which account is a user's; return why not where it is another user's.

    What is known of a former holder's rooms counts for the user who has the account now.
    """
    holders = await connection.execute_fetchall(
        _Q["holder"], {"user_id": user_id, "id": account.id}
    )
    for holder in holders:
        if holder["scim_id"] is not None:
            return f"{user_id} is the account of another user, {holder['scim_id']}"
    former = None if account.user_id == user_id else account.user_id
    if former is not None:
        await _part(connection, account)
    values = {"id": account.id, "user_id": user_id, "bound_by": bound_by, "former": former}
    known: list[Statement] = []
    if account.user_id != user_id:
        known.append((_Q["forget_observed"], values))
    for holder in holders:
        written = Written.load(holder["written"])
        if account.user_id is None and account.mark == holder["mark"]:
            # It was asked for, by another name, and no answer was known.
            written |= account.written
        taken = {"id": account.id, "former": holder["id"], "written": written.dump()}
        names = ("take_disablement", "take_power", "take_memberships")
        known += [*((_Q[name], taken) for name in names), (_Q["delete"], {"id": holder["id"]})]
    await together(connection, *known, (_Q["bind"], values), (_Q["manage"], values))
    return None


async def _part(connection: Connection, account: Account) -> None:
    """Take from a user the account they had so far, and have it leave the rooms it was given."""
    if account.scim_id is not None:
        # By the map as it is now, whoever of those whom it reaches has had their turn.
        await grants.settle_first(connection, [account.scim_id])
    values = await _leave(connection, account, made=account.is_made)
    names = ("keep_in_former", "leave_to_former", "disown")
    await together(connection, *((_Q[name], values) for name in names))


async def _leave(connection: Connection, account: Account, *, made: bool) -> dict[str, Any]:
    """Have an account be nobody's; return the values by which that was said.

    It is locked where it was `made` for the user who had it; what is under way of it stays known.
    """
    values: dict[str, Any] = {
        "id": account.id,
        "former": account.user_id,
        "made": made,
        "bound_by": account.bound_by,
        "tick": await connection.tick(),
        "at": connection.at,
        "request": connection.cause,
    }
    _, [row] = await together(connection, (_Q["part"], values), (_Q["know_former"], values))
    return values | {"former_id": row["id"]}


async def link(connection: Connection, account: Account, user_id: str, by: str) -> str | None:
    """Record that a human says whose account this is; return why not where it is another user's.

    The one that the user had so far leaves the rooms it was given, and is locked where the
    service made it.
    """
    if account.asked is not None and account.user_id is None and account.proposed != user_id:
        return (
            f"{account.proposed} was asked for, and no answer is known: try again in a few minutes"
        )
    if (changes := await unanswered.why_not_yet(connection, account, user_id)) is not None:
        return f"{changes}: try again in a few minutes"
    why_not = await bind(connection, account, user_id, "human")
    if why_not is None:
        detail = f"user {account.scim_id}"
        if account.user_id not in (None, user_id):
            becomes = "is locked and leaves" if account.is_made else "leaves"
            detail += f", in place of {account.user_id}, which {becomes} the rooms it was given"
        entry = record.Entry("link", "asked", user_id, detail=detail, by=by)
        await record.add(connection, entry)
    return why_not


async def unbind(
    connection: Connection,
    account: Account,
    proposed: str | None,
    reason: str,
    cure: str,
    next_try: float,
    *,
    barred: str | None = None,
) -> None:
    """Record that an account is not a user's; it is left as it is, and shown as a conflict."""
    values = {
        "id": account.id,
        "proposed": proposed,
        "barred": barred,
        "reason": reason,
        "cure": cure,
        "next_try": next_try,
    }
    await together(connection, (_Q["forget_observed"], values))
    if account.ours != Disablement() or (account.unsure_until or 0.0) > connection.at:
        # What was done to it, or may still be, stays known.
        await _leave(connection, account, made=False)
    await together(connection, (_Q["unbind"], values))


async def never_made(connection: Connection, account: Account) -> None:
    """Record that a user's account does not exist.

    It is made when it is needed; of a deleted user nothing is left.
    """
    values = {"id": account.id}
    if account.scim_id is None:
        await connection.execute_fetchall(_Q["delete"], values)
        return
    await together(connection, (_Q["forget_observed"], values), (_Q["never_made"], values))
