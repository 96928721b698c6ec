"""What the brake counts and holds, and what a human decides about it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from scim_matrix.store import record
from scim_matrix.store.database import Connection, together
from scim_matrix.store.queries import load
from scim_matrix.store.record import Entry

Because = Literal["limit", "restored"]
Decision = Literal["approved", "dismissed"]

_Q = load("brake")


@dataclass(frozen=True, slots=True)
class Held:
    """One removal (`room_id`), or one account to be disabled, that waits for a human.

    `tick` is when it was held: a decision is for what was shown, not for what is held since.
    """

    room_id: str | None
    account_id: int
    user_id: str
    group_name: str | None
    request: str | None
    tick: int
    because: Because


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a human decided before about `number` people; `at` in seconds since the epoch."""

    decision: Decision
    by: str | None
    at: float
    number: int


async def room_tally(connection: Connection, room_id: str, since: float) -> tuple[int, int]:
    """Return how many people of a room were removed since a time, are to be, or wait; of whom.

    The second number is how many managed people were in the room before. `since` is in seconds
    since the epoch.
    """
    return await _tally(connection, "room_tally", {"room_id": room_id, "since": since})


async def account_tally(connection: Connection, account_id: int, since: float) -> tuple[int, int]:
    """Return how many accounts were disabled since a time, are to be, or wait; and of how many.

    `account_id` is one that is to be disabled in any case.
    """
    return await _tally(connection, "account_tally", {"id": account_id, "since": since})


async def _tally(connection: Connection, query: str, values: dict[str, object]) -> tuple[int, int]:
    [row] = await connection.execute_fetchall(_Q[query], values)
    return row["removed"], row["managed"]


async def hold_room(connection: Connection, room_id: str, because: Because) -> int:
    """Hold the pending removals of a room and return how many these are.

    Those `restored` are the ones that nobody but a backup put back speaks of.
    """
    query = "hold_room" if because == "limit" else "hold_restored_room"
    values = {"room_id": room_id, "tick": await connection.tick()}
    found = await connection.execute_fetchall(_Q[query], values)
    entries = [
        Entry("kick", "held", r["user_id"], room_id, r["group_name"], r["request"], detail=because)
        for r in found
    ]
    await record.add(connection, *entries)
    return len(entries)


async def hold_accounts(connection: Connection, account_id: int) -> int:
    """Hold an account and all others that are to be disabled; return how many these are.

    Of the others those that are on their way are let go: what is held is not done.
    """
    return await _hold_accounts(connection, "hold_accounts", "limit", account_id)


async def hold_restored(connection: Connection, account_id: int) -> int:
    """Hold an account where only a backup put back says it is to be disabled; return how many."""
    return await _hold_accounts(connection, "hold_restored_account", "restored", account_id)


async def _hold_accounts(
    connection: Connection, query: str, because: Because, account_id: int
) -> int:
    values = {"id": account_id, "tick": await connection.tick()}
    found = await connection.execute_fetchall(_Q[query], values)
    entries = [
        Entry("disable", "held", row["user_id"], request=row["request"], detail=because)
        for row in found
    ]
    await record.add(connection, *entries)
    return len(entries)


async def held(connection: Connection, rooms: Sequence[str] | None = None) -> list[Held]:
    """Return the removals that wait for a human, in some rooms or in all."""
    found = []
    for room_id in [None] if rooms is None else rooms:
        found += await connection.execute_fetchall(_Q["held_memberships"], {"room_id": room_id})
    return [Held(*row) for row in found]


async def held_accounts(connection: Connection) -> list[Held]:
    """Return the accounts that wait for a human."""
    return [Held(*row) for row in await connection.execute_fetchall(_Q["held_accounts"])]


async def decide(
    connection: Connection, shown: Iterable[Held], decision: Decision, by: str
) -> list[Held]:
    """Let what was shown go on, or drop it so that people stay; return what was decided.

    What is held no more, or was held anew since it was shown, is left out. `by` is who decided.
    """
    decided = []
    of_account, of_membership = "dismiss_account", "dismiss_membership"
    if decision == "approved":
        of_account, of_membership = "approve_account", "approve_membership"
    for one in shown:
        found = await connection.execute_fetchall(
            _Q[of_account if one.room_id is None else of_membership],
            {
                "room_id": one.room_id,
                "account_id": one.account_id,
                "held_tick": one.tick,
                "by": by,
                "tick": await connection.tick(),
            },
        )
        if found:
            decided.append(one)
    await record.add(
        connection,
        *(
            Entry(
                "disable" if one.room_id is None else "kick",
                decision,
                one.user_id,
                one.room_id,
                one.group_name,
                one.request,
                by=by,
            )
            for one in decided
        ),
    )
    return decided


async def decided_before(
    connection: Connection, room_id: str | None, users: Iterable[str]
) -> list[Earlier]:
    """Return what was decided last about people (user IDs) who are held in a place no more.

    `room_id` None is about their accounts. Whoever was held anew since is left out.
    """
    values = {
        "users": orjson.dumps([*users]).decode(),
        "kind": "disable" if room_id is None else "kick",
        "room_id": room_id,
    }
    return [Earlier(*r) for r in await connection.execute_fetchall(_Q["decided_before"], values)]


# -- A backup that was put back ------------------------------------------------


async def is_restored(connection: Connection) -> bool:
    """Tell whether this database was put back from a backup that no human has confirmed."""
    [row] = await connection.execute_fetchall("SELECT restored_tick FROM installation")
    return row["restored_tick"] is not None


async def begin_restoration(connection: Connection) -> None:
    """Have removals wait that only a backup speaks of, those that it shows as approved too.

    Those of people whom it shows to be out are looked at anew. Nobody is signed in to the console
    any more: who has signed out since is not known.
    """
    await connection.execute_fetchall("DELETE FROM console_session")
    await connection.execute_fetchall(
        "UPDATE installation SET restored_tick = :tick", {"tick": await connection.tick()}
    )
    names = ("end_approvals", "end_account_approvals", "doubt_removed")
    await together(connection, *((_Q[name], ()) for name in names))
    await record.add(connection, Entry("restore", "held"))


async def end_restoration(connection: Connection, by: str) -> int:
    """Let go what waited for a backup to be confirmed; return how much. `by` is who says so."""
    [ended] = await connection.execute_fetchall(
        "SELECT restored_tick IS NOT NULL AS was FROM installation"
    )
    await connection.execute_fetchall("UPDATE installation SET restored_tick = NULL")
    memberships, accounts = await together(
        connection, (_Q["free_restored_memberships"], ()), (_Q["free_restored_accounts"], ())
    )
    if ended["was"]:
        await record.add(connection, Entry("restore", "approved", by=by))
    return len(memberships) + len(accounts) + int(ended["was"])


async def heard_of_group(connection: Connection, group_id: str, members: str | None = None) -> None:
    """Note that the identity provider has said since any backup whom a group holds.

    Or, where `members` (JSON text as of MemberChange) are given, that it does not hold these.
    """
    if await is_restored(connection):
        tick = await connection.tick()
        values = {"group_id": group_id, "members": members, "tick": tick}
        await together(connection, (_Q["hear_grants"], values), (_Q["hear_memberships"], values))


async def heard_of_user(connection: Connection, scim_id: str, *, is_gone: bool = False) -> None:
    """Note that the identity provider has spoken of a user since any backup.

    That an active user is so says nothing of their rooms. `is_gone`: about to be deleted.
    """
    if await is_restored(connection):
        tick = await connection.tick()
        values = {"scim_id": scim_id, "is_gone": is_gone, "tick": tick}
        await together(connection, (_Q["heard_of_user"], values), (_Q["heard_of_account"], values))


async def generation(connection: Connection) -> tuple[str, int | None]:
    """Return which installation this is, and the number by which its copies are told apart.

    A new one has no number yet.
    """
    [row] = await connection.execute_fetchall("SELECT id, generation FROM installation")
    return row["id"], row["generation"]


async def last_tick(connection: Connection) -> int:
    """Return the number of the last transaction in which something changed."""
    [row] = await connection.execute_fetchall("SELECT number FROM tick")
    return int(row["number"])


async def next_generation(connection: Connection, above: int) -> int:
    """Count the installation's number up, above a given one, and return it."""
    [row] = await connection.execute_fetchall(
        "UPDATE installation SET generation = CAST(:above AS BIGINT) + 1 RETURNING generation",
        {"above": above},
    )
    return int(row["generation"])
