"""Who was seen in rooms: memberships as they are, and members whom nothing manages."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from scim_matrix.membership import Observed
from scim_matrix.store import memberships, record
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow
from scim_matrix.store.queries import load

_Q = load("observed")


def _json(values: Iterable[str]) -> str:
    return orjson.dumps(list(values)).decode()


class Unexplained(NamedTuple):
    """What the list of those joined cannot tell of a room.

    `missing` are the user IDs of those who are granted it, were in it, and no longer are,
    `declined` of those of whom it is thought that they do not want to be in it, and `powerful` whom
    the service gave a power level: user ID and account.
    """

    missing: list[str]
    declined: list[str]
    powerful: list[tuple[str, int]]


async def others(connection: Connection, room_id: str) -> list[Observed]:
    """Return which memberships but those joined are to be asked for before a room is observed."""
    found = await connection.execute_fetchall(_Q["others"], {"room_id": room_id})
    return [row["observed"] for row in found]


async def observe(
    connection: Connection,
    room_id: str,
    joined: Sequence[str],
    protected: Iterable[str],
    others: Mapping[Observed, Collection[str]] | None = None,
    begun: float = 0.0,
    by_others: Iterable[str] = (),
) -> Unexplained:
    """Record who is in a room, unmanaged members included; correct what was thought of others.

    `others` are the user IDs of those who are invited, banned or at the door, as far as that
    was asked for when all `begun` (seconds since the epoch), before who is joined (None: nobody
    is): of the rest it stays as it was thought, and not known of whoever may be invited and is to
    leave or had no answer, unless they are found in the room. Whom somebody else than the service
    invited (`by_others`) once they were out stays so. An invitation that is gone was
    declined, which is respected; who is no longer banned may come back. A room that is to hold
    nobody else loses unmanaged members, those in `protected` aside. Removals whose answer was lost
    and that are done are recorded, so that the brake counts them. Whoever was spared or refused is
    tried again.
    """
    asked = others is None or "invite" in others
    others = others or {}
    values = {
        "asked": asked,
        "begun": begun,
        "by_others": _json(by_others),
        "room_id": room_id,
        "joined": _json(joined),
        "invited": _json(others.get("invite", ())),
        "tick": await connection.tick(),
        "at": connection.at,
    }
    missing, *_ = await together(
        connection,
        (_Q["missing"], values),
        (_Q["observe"], values),
        *(
            (_Q["observe_gone"], {**values, "observed": kind, "still": _json(still)})
            for kind, still in others.items()
        ),
    )
    declined, done, *_, powerful, [exclusive] = await together(
        connection,
        (_Q["declined"], values),
        (_Q["find_done"], values),
        (_Q["end_decisions"], values),
        (_Q["clear_members"], values),
        (_Q["see_members"], values),
        (_Q["enable"], values),
        (_Q["compared"], values),
        *memberships.retries("spared", "refused", room_id=room_id),
        (_Q["powerful"], values),
        (_Q["is_exclusive"], values),
    )
    await record.add(connection, *(_done(room_id, row) for row in done))
    if exclusive["exclusive"]:
        await _exclude(connection, room_id, set(joined).difference(protected))
    return Unexplained(
        [row["user_id"] for row in missing],
        [row["user_id"] for row in declined],
        [(row["user_id"], row["account_id"]) for row in powerful],
    )


def _done(room_id: str, row: DatabaseRow) -> record.Entry:
    return record.Entry(
        "kick",
        "done",
        row["user_id"],
        room_id,
        row["group_name"],
        row["request"],
        approved=row["approved_by"] is not None,
        detail="its answer was lost",
        by=row["approved_by"],
    )


async def _exclude(connection: Connection, room_id: str, users: Iterable[str]) -> None:
    """Exclude from an exclusive room those who are in it without a grant."""
    values: dict[str, Any] = {"room_id": room_id, "at": connection.at}
    found = await connection.execute_fetchall(_Q["unmanaged"], values)
    values["users"] = _json({r["user_id"] for r in found} & set(users))
    await together(
        connection,
        (_Q["know_unmanaged"], values),
        (_Q["exclude"], values),
        (_Q["manage_excluded"], values),
    )


async def respect(connection: Connection, room_id: str, users: Iterable[str]) -> None:
    """Leave those out who left a room by their own will, until they are granted it anew."""
    await connection.execute_fetchall(
        _Q["respect"],
        {"room_id": room_id, "users": _json(users), "tick": await connection.tick()},
    )


async def removed(connection: Connection, room_id: str, users: Iterable[str]) -> None:
    """Have those be wanted in a room still whom the service itself removed from it."""
    values = {"room_id": room_id, "users": _json(users)}
    await connection.execute_fetchall(_Q["removed"], values)


async def powers_are(
    connection: Connection, room_id: str, levels: Iterable[tuple[int, int]]
) -> None:
    """Correct the power levels thought given where an account's is lower in the room."""
    await connection.executemany(
        _Q["lost_power"],
        [{"room_id": room_id, "account_id": a, "level": level} for a, level in levels],
    )


async def observe_one(
    connection: Connection,
    room_id: str,
    user_id: str,
    observed: Observed,
    *,
    protected: bool,
    respected: bool,
    ours: bool = False,
    is_late_removal: bool = False,
) -> bool:
    """Record one membership as it was seen to change; tell whether that makes work.

    Somebody joining whom nothing manages is an unmanaged member. Who left is not brought back
    where that is `respected`, or where they are granted the room by invitation, unless it was the
    service that removed them (`ours`); that is recorded where it had no answer.
    """
    values = {
        "room_id": room_id,
        "user_id": user_id,
        "observed": observed,
        "respected": respected,
        "ours": ours,
        "tick": await connection.tick(),
    }
    if is_late_removal:
        await removal_heard(connection, room_id, user_id, latest=True)
    *_, known, [exclusive] = await together(
        connection,
        (_Q["observe_one"], values),
        (_Q["end_decisions"], values),
        (_Q["gone_member"], values),
        (_Q["one"], values),
        (_Q["is_exclusive"], values),
    )
    if known and known[0]["state"] != "forgotten":
        return bool(known[0]["due"])
    if observed != "join":
        return False
    await connection.execute_fetchall(
        "INSERT INTO unmanaged_member (room_id, user_id) VALUES (:room_id, :user_id)",
        {"room_id": room_id, "user_id": user_id},
    )
    if exclusive["exclusive"] and not protected:
        await _exclude(connection, room_id, [user_id])
    return True


async def removal_heard(
    connection: Connection, room_id: str, user_id: str, *, latest: bool
) -> None:
    """Record a removal by the service that was carried out late, if it was.

    `latest`: nothing else was heard of that person since.
    """
    values = {"room_id": room_id, "user_id": user_id, "latest": latest, "at": connection.at}
    done = await connection.execute_fetchall(_Q["find_one_done"], values)
    await record.add(connection, *(_done(room_id, row) for row in done))


async def is_managed(connection: Connection, room_id: str, user_id: str) -> bool:
    """Tell whether something says of an account whether it should be in a room."""
    known = await _known(connection, room_id, user_id)
    return known is not None and known["state"] not in ("forgotten", "dismissed")


async def was_granted(connection: Connection, room_id: str, user_id: str) -> bool:
    """Tell whether somebody was granted a room, and neither is so now nor let stay."""
    known = await _known(connection, room_id, user_id)
    return known is not None and known["state"] not in ("granted", "dismissed")


async def is_known(connection: Connection, room_id: str, user_id: str, observed: Observed) -> bool:
    """Tell whether a managed account's membership is recorded as this one already."""
    known = await _known(connection, room_id, user_id)
    return known is not None and known["observed"] == observed


async def _known(connection: Connection, room_id: str, user_id: str) -> DatabaseRow | None:
    """Return what is known of one membership, None where nothing is."""
    found = await connection.execute_fetchall(_Q["one"], {"room_id": room_id, "user_id": user_id})
    return found[0] if found else None
