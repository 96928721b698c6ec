"""Memberships: the work left in rooms, and its outcomes (docs/states.md)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from scim_matrix.membership import Membership, Observed, Todo
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow, Statement
from scim_matrix.store.queries import load

Problem = Literal["refused", "unavailable", "withheld", "spared"]

# How long after a turn began (seconds) an invitation of it may still be carried out: it may be the
# last of ten requests that take a minute each, and be done two minutes later.
_INVITED_LATEST = 900.0

# Rooms with more work than this (a few turns') count as having as much.
_MUCH = 50

_Q = load("memberships")


def membership(row: DatabaseRow) -> Membership:
    """Return a row of membership, with its account's user ID, as a value."""
    return Membership(
        room_id=row["room_id"],
        account_id=row["account_id"],
        user_id=row["user_id"],
        state=row["state"],
        todo=row["todo"],
        observed=row["observed"],
        group_name=row["group_name"],
        attempts=row["attempts"],
        request=row["request"],
        approved_by=row["approved_by"] if row["brake"] == "approved" else None,
        was_spared=row["problem"] == "spared",
        invite=bool(row["invite"]),
        power=row["power"],
        power_given=row["power_given"],
        power_before=row["power_before"],
        power_tried=row["power_tried"],
        led=bool(row["led"]),
        tick=row["tick"],
        leaving=bool(row["leaving"]),
        inviting=row["invite_unsure_until"] is not None,
    )


def _planned(pair: Membership) -> dict[str, Any]:
    """Return what tells whether it is wanted still, as it was when that was planned."""
    return {**_key(pair), "state": pair.state, "tick": pair.tick}


def _key(pair: Membership) -> dict[str, Any]:
    return {"room_id": pair.room_id, "account_id": pair.account_id, "user_id": pair.user_id}


@dataclass(frozen=True, slots=True)
class RoomWork:
    """How much is due in a room, and when the next falls due (seconds since the epoch)."""

    room_id: str
    due: int
    next_due: float | None


async def stirred(connection: Connection, since: int) -> tuple[set[str], int]:
    """Return in which rooms there may be other work than at a number, and the number now.

    The empty name stands for which rooms the map opens.
    """
    found = await connection.execute_fetchall(_Q["stirred"], {"since": since})
    return {row["room_id"] for row in found}, max((row["number"] for row in found), default=since)


async def places(connection: Connection) -> set[str]:
    """Return every room in which there may be something to do."""
    return {row["room_id"] for row in await connection.execute_fetchall(_Q["places"])}


async def work(connection: Connection, rooms: Iterable[str], now: float) -> list[RoomWork]:
    """Return how much is due in some rooms at a moment (seconds since the epoch)."""
    values = {"rooms": orjson.dumps(list(rooms)).decode(), "now": now, "most": _MUCH}
    return [
        RoomWork(
            row["room_id"],
            row["work"],
            min(
                filter(None, (row["ready_at"], row["power_at"], row["levels_at"])),
                default=None,
            ),
        )
        for row in await connection.execute_fetchall(_Q["work"], values)
    ]


async def due(connection: Connection, room_id: str, now: float, limit: int) -> list[Membership]:
    """Return up to `limit` memberships of a room that are due: removals, then the newest."""
    found = await connection.execute_fetchall(
        _Q["due"], {"room_id": room_id, "now": now, "limit": limit}
    )
    return [membership(row) for row in found]


async def spared(connection: Connection, room_id: str) -> list[Membership]:
    """Return the memberships of a room that protection keeps from their removal."""
    found = await connection.execute_fetchall(_Q["spared"], {"room_id": room_id})
    return [membership(row) for row in found]


async def end_sparing(connection: Connection, pairs: Iterable[Membership]) -> None:
    """Record that some are protected no more: they count for the brake, and it holds them."""
    await connection.executemany(_Q["end_sparing"], [_key(pair) for pair in pairs])


async def wait_for_identities(
    connection: Connection, room_id: str, reason: str, next_try: float
) -> None:
    """Have nobody leave who may be one of those who are granted the room.

    `reason` is shown; they are looked at again at `next_try` (seconds since the epoch).
    """
    values = {"room_id": room_id, "reason": reason, "next_try": next_try, "now": connection.at}
    await connection.execute_fetchall(_Q["wait_for_identities"], values)


async def any_leaves(connection: Connection, room_id: str, now: float) -> bool:
    """Tell whether somebody is to leave a room now (seconds since the epoch)."""
    values = {"room_id": room_id, "now": now}
    return bool(await connection.execute_fetchall(_Q["any_leaves"], values))


async def power_due(connection: Connection, room_id: str, now: float) -> list[Membership]:
    """Return the memberships of a room whose power level is due."""
    found = await connection.execute_fetchall(_Q["power_due"], {"room_id": room_id, "now": now})
    return [membership(row) for row in found]


async def joins_of(
    connection: Connection, account_id: int
) -> list[tuple[str, Todo, str | None, str | None]]:
    """Return what an account waits for: room ID, join or invite, group and request."""
    found = await connection.execute_fetchall(_Q["joins_of"], {"account_id": account_id})
    return [(r["room_id"], r["todo"], r["group_name"], r["request"]) for r in found]


async def next_due(connection: Connection, after: float) -> float | None:
    """Return when the first work after a moment falls due that is not in rooms, None for none.

    Both are seconds since the epoch.
    """
    [row] = await connection.execute_fetchall(_Q["next_due"], {"after": after})
    return None if row["due"] is None else float(row["due"])


async def is_as_planned(connection: Connection, pair: Membership) -> bool:
    """Tell whether there is still the work that a plan was made for."""
    values = {**_planned(pair), "todo": pair.todo, "approved_by": pair.approved_by}
    return bool(await connection.execute_fetchall(_Q["as_planned"], values))


async def begin(connection: Connection, pairs: Iterable[Membership]) -> None:
    """Record before requests leave that these memberships are not known."""
    until = connection.at + _INVITED_LATEST
    await connection.executemany(_Q["begin"], [{**_key(pair), "until": until} for pair in pairs])


async def not_asked(connection: Connection, pairs: Iterable[Membership]) -> None:
    """Record that requests did not leave after all: whoever is out is so by none of them."""
    waiting = [_key(pair) for pair in pairs if pair.todo == "leave" and not pair.leaving]
    await connection.executemany(_Q["not_asked"], waiting)


async def reach(connection: Connection, pair: Membership, observed: Observed) -> Observed | None:
    """Record the membership that an action led to or found; an approval ends with it.

    Returns what was heard of it while the action was under way, None for nothing.
    """
    values = {**_key(pair), "observed": observed, "inviting": pair.inviting}
    found, _ = await together(connection, (_Q["heard"], values), (_Q["reach"], values))
    return found[0]["observed"] if found else None


async def fail(
    connection: Connection, pair: Membership, problem: Problem, reason: str, next_try: float
) -> None:
    """Record why an action failed, and when to try again (seconds since the epoch).

    Not where something else is wanted by now: that is tried at once.
    """
    await connection.execute_fetchall(
        _Q["fail"], {**_planned(pair), "problem": problem, "reason": reason, "next_try": next_try}
    )


async def try_power(
    connection: Connection, tries: Iterable[tuple[Membership, int | None, int | None]]
) -> None:
    """Note power levels that are about to be sent: membership, level, and the one before it."""
    await connection.executemany(
        _Q["try_power"],
        [{**_key(pair), "tried": tried, "before": before} for pair, tried, before in tries],
    )


async def reach_power(
    connection: Connection, reached: Iterable[tuple[Membership, int | None, int | None]]
) -> None:
    """Record power levels: membership, the level that the service gave, the one before it."""
    await connection.executemany(
        _Q["reach_power"],
        [{**_key(pair), "given": given, "before": before} for pair, given, before in reached],
    )


async def prune(connection: Connection) -> int:
    """Make removals of what the map forgot, and return how many people that concerns.

    Those whom a human let stay are left out.
    """
    found = await connection.execute_fetchall(_Q["prune"], await _removal(connection))
    return len(found)


async def prune_some(connection: Connection, pairs: Iterable[tuple[str, int]]) -> int:
    """Make removals of those of some (room ID, account) that were forgotten; return how many."""
    values = await _removal(connection)
    found = await together(
        connection,
        *(
            (_Q["prune_one"], {**values, "room_id": room_id, "account_id": account_id})
            for room_id, account_id in pairs
        ),
    )
    return sum(map(len, found))


async def _removal(connection: Connection) -> dict[str, Any]:
    return {
        "tick": await connection.tick(),
        "at": connection.at,
        "request": connection.cause,
    }


def retries(*problems: Problem, room_id: str | None = None) -> list[Statement]:
    """Return what has those tried again who had one of some problems, in one room or in all."""
    return [(_Q["retry"], {"problem": one, "room_id": room_id}) for one in problems]


async def retry(connection: Connection, problem: Problem) -> None:
    """Try those again who had a problem."""
    await together(connection, *retries(problem))


async def bound_rests(connection: Connection, latest: float) -> None:
    """Let nothing rest beyond a moment (seconds since the epoch)."""
    values = {"latest": latest}
    await together(connection, (_Q["bound_rests"], values), (_Q["bound_account_rests"], values))


async def counts(connection: Connection) -> dict[str, int]:
    """Return how much is pending, failing, held, spared, conflicting and not followed."""
    [row] = await connection.execute_fetchall(_Q["counts"])
    return {name: int(row[name]) for name in row.keys()}  # noqa: SIM118
