"""Matrix accounts: what each should be, which one is whose, and the work between (docs/states.md).

An account is *bound* once it is known which Matrix account is the user's; before that nothing is
done in its name.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

import orjson

from scim_matrix.store import grants, record
from scim_matrix.store.database import Connection, together
from scim_matrix.store.queries import load
from scim_matrix.store.resources import TakenError
from scim_matrix.store.text import folded

# active; disabled: active=false at the identity provider; deleted: within its grace period;
# expired: the grace period has passed.
State = Literal["active", "disabled", "deleted", "expired"]
# How an account was found to be a user's (design "Whose account").
BoundBy = Literal["link", "mark", "made", "record", "adopted", "human", "migrated"]
Problem = Literal["conflict", "refused", "unavailable", "withheld", "spared", "dismissed"]
ByHand = Literal["locked", "suspended", "deactivated"]

_Q = load("accounts")


@dataclass(frozen=True, slots=True)
class Profile:
    """What the identity provider says of a user: the unit of comparison."""

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
class Wanted:
    """What a user's account should be, and the user ID that one would be made with."""

    state: Literal["active", "disabled"]
    profile: Profile
    proposed: str


@dataclass(frozen=True, slots=True)
class Written:
    """What the service wrote on an account and may take back: e-mails and SSO subjects."""

    emails: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()

    def __or__(self, profile: Profile) -> "Written":
        """Return this with what a profile wrote added."""
        subjects = {profile.subject} if profile.subject is not None else set()
        return Written(self.emails | set(profile.emails), self.subjects | subjects)

    def dump(self) -> str:
        """Return the JSON text under which it is stored."""
        return orjson.dumps(
            {"emails": sorted(self.emails), "subjects": sorted(self.subjects)}
        ).decode()

    @classmethod
    def load(cls, text: str) -> Self:
        """Return what a stored JSON text says."""
        values = orjson.loads(text)
        return cls(frozenset(values["emails"]), frozenset(values["subjects"]))


@dataclass(frozen=True, slots=True)
class Disablement:
    """What the service did to an account, and may undo where it is so."""

    locked: bool = False
    suspended: bool = False
    deactivated: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """An account on which there is work. `user_id` is None until it is bound.

    `asked` is since when one may have been made of which no answer is known.
    `doing` is what a request that disables it does, while its outcome is not known.
    """

    id: int
    scim_id: str | None
    user_id: str | None
    proposed: str | None
    bound_by: BoundBy | None
    desired: State
    profile: Profile
    ours: Disablement = field(default_factory=Disablement)
    written: Written = field(default_factory=Written)
    usable: bool = False
    barred: str | None = None
    approved_by: str | None = None
    problem: Problem | None = None
    reason: str | None = None
    attempts: int = 0
    request: str | None = None
    mark: str | None = None
    asked: datetime | None = None
    todo: Literal["verify", "provision", "disable"] | None = None
    doing: Literal["lock", "suspend", "deactivate", "erase"] | None = None

    @property
    def is_made(self) -> bool:
        """Whether the service made it for this very user."""
        return self.bound_by in ("made", "mark")

    @property
    def name(self) -> str:
        """What to call it in logs and the record."""
        return self.user_id or self.proposed or f"user {self.scim_id}"


def _account(row: sqlite3.Row) -> Account:
    return Account(
        id=row["id"],
        scim_id=row["scim_id"],
        user_id=row["user_id"],
        proposed=row["proposed"],
        bound_by=row["bound_by"],
        desired=row["desired"],
        profile=Profile.load(row["profile"]),
        ours=Disablement(
            bool(row["locked_by_us"]),
            bool(row["suspended_by_us"]),
            bool(row["deactivated_by_us"]),
        ),
        written=Written.load(row["written"]),
        usable=bool(row["usable"]),
        barred=row["barred"],
        approved_by=row["approved_by"] if row["brake"] == "approved" else None,
        problem=row["problem"],
        reason=row["reason"],
        attempts=row["attempts"],
        request=row["request"],
        mark=row["mark"],
        asked=None if row["asked"] is None else datetime.fromisoformat(row["asked"]),
        todo=row["todo"],
        doing=row["doing"],
    )


# -- What the identity provider says ------------------------------------------


async def create(
    connection: Connection, scim_id: str, wanted: Wanted, subject_attribute: str
) -> None:
    """Say what the account of a new user should be.

    A user who comes back (same SSO subject, or without one the same SCIM id) gets the former
    account. Raises TakenError naming `subject_attribute` or userName where another user has it.
    """
    values = await _values(connection, scim_id, wanted)
    await _check_subject(connection, scim_id, wanted, subject_attribute)
    former = await connection.execute_fetchall(_Q["former"], values)
    if not former or former[0]["user_id"] is None:
        await _check_name(connection, scim_id, wanted)
    if former:
        await connection.execute_fetchall(_Q["come_back"], {**values, "id": former[0]["id"]})
    else:
        await connection.execute_fetchall(_Q["insert"], values)
        await connection.execute_fetchall(_Q["let_be"], values)
    await grants.settle(connection, [scim_id])


async def change(
    connection: Connection, scim_id: str, wanted: Wanted, subject_attribute: str
) -> None:
    """Say what the account of a user should be from now on. Raises TakenError as `create` does."""
    await _check_subject(connection, scim_id, wanted, subject_attribute)
    [row] = await connection.execute_fetchall(
        "SELECT user_id, proposed FROM account WHERE scim_id = ?", (scim_id,)
    )
    if row["user_id"] is None and row["proposed"] != wanted.proposed:
        await _check_name(connection, scim_id, wanted)
    values = await _values(connection, scim_id, wanted)
    await together(connection, (_Q["change"], values), (_Q["let_be"], values))


async def _values(connection: Connection, scim_id: str, wanted: Wanted) -> dict[str, Any]:
    return {
        "scim_id": scim_id,
        "proposed": wanted.proposed,
        "subject": wanted.profile.subject,
        "desired": wanted.state,
        "profile": wanted.profile.dump(),
        "tick": await connection.tick(),
        "at": connection.at,
        "request": connection.cause,
    }


async def _check_subject(
    connection: Connection, scim_id: str, wanted: Wanted, attribute: str
) -> None:
    values = {"scim_id": scim_id, "subject": wanted.profile.subject}
    if await connection.execute_fetchall(_Q["subject_taken"], values):
        raise TakenError(
            f"{attribute}: another user has this value, which leads to their Matrix account"
        )


async def _check_name(connection: Connection, scim_id: str, wanted: Wanted) -> None:
    values = {"scim_id": scim_id, "proposed": wanted.proposed}
    if await connection.execute_fetchall(_Q["name_taken"], values):
        raise TakenError(f"userName: another user already has the Matrix account {wanted.proposed}")


async def release(connection: Connection, scim_id: str, grace: float) -> None:
    """Have a deleted user's account locked at once, and expire after `grace` seconds.

    Its grants end when the caller settles. A user who has no account leaves nothing behind.
    """
    values = {
        "scim_id": scim_id,
        "expires": connection.at + grace,
        "at": connection.at,
        "tick": await connection.tick(),
        "request": connection.cause,
    }
    bound, _, unknown = await together(
        connection,
        (_Q["release_bound"], values),
        (_Q["release_unbound"], values),
        (_Q["release_unknown"], values),
    )
    for row in (*bound, *unknown):
        await grants.touch_account(connection, row["id"])


async def record_time(connection: Connection) -> None:
    """Write down what time it is, so that the next start can tell how long nothing ran."""
    await connection.execute_fetchall(_Q["record_time"], {"now": connection.at})


async def put_off(connection: Connection, longest: float) -> int:
    """Have grace periods that began before this start go on from where they were at the last end.

    Where that is longer ago than `longest` (seconds), or later than now: the service was away, or
    its clock was set, which nobody can tell apart. Returns how many accounts that concerns.
    """
    values = {"now": connection.at, "longest": longest}
    return len(await connection.execute_fetchall(_Q["put_off"], values))


async def any_expired(connection: Connection, now: float) -> bool:
    """Tell whether the grace period of a deleted account has passed (seconds since the epoch)."""
    return bool(await connection.execute_fetchall(_Q["any_expired"], {"now": now}))


async def expire(connection: Connection, now: float) -> None:
    """Move deleted accounts whose grace period has passed to `expired`.

    Not those that are held, dismissed, or only known from a backup.
    """
    await connection.execute_fetchall(_Q["expire"], {"now": now, "at": connection.at})


# -- The work left -------------------------------------------------------------


async def due(
    connection: Connection,
    now: float,
    limit: int,
    besides: Sequence[int],
    *,
    disabling: bool = False,
) -> list[Account]:
    """Return up to `limit` accounts to work on now, the newest change first, without `besides`.

    With `disabling` only those that are to be disabled and are surely their users'.
    """
    found = await connection.execute_fetchall(
        _Q["due_disabling" if disabling else "due"],
        {"now": now, "limit": limit, "besides": orjson.dumps(besides).decode()},
    )
    return [_account(row) for row in found]


async def get(connection: Connection, account_id: int) -> Account | None:
    """Return one account as it is now."""
    found = await connection.execute_fetchall(_Q["get"], {"id": account_id})
    return _account(found[0]) if found else None


async def named(connection: Connection, name: str) -> list[Account]:
    """Return the accounts of users of this SCIM id, user name or Matrix user ID."""
    found = await connection.execute_fetchall(_Q["named"], {"name": name, "folded": folded(name)})
    return [_account(row) for row in found]


async def ask(connection: Connection, account: Account, since: datetime | None) -> bool:
    """Record before an account is asked for since when there may be one (None: nobody can say).

    Return whether it is to be asked for still: its user may have been disabled, deleted or told
    another account.
    """
    values = {
        "id": account.id,
        "user_id": account.user_id,
        "since": None if since is None else since.isoformat(),
    }
    return bool(await connection.execute_fetchall(_Q["ask"], values))


async def has_none(connection: Connection, account: Account) -> None:
    """Record that a disabled user has no account; a deleted one without an account is forgotten."""
    values = {"id": account.id, "desired": account.desired}
    await together(connection, (_Q["has_none"], values), (_Q["forget_released"], values))


async def is_anothers(connection: Connection, account: Account, user_id: str) -> bool:
    """Tell whether a Matrix account is that of another user."""
    values = {"id": account.id, "user_id": user_id}
    return bool(await connection.execute_fetchall(_Q["is_anothers"], values))


async def begin(
    connection: Connection, account: Account, does: Disablement, doing: str | None
) -> bool:
    """Record before a request leaves that it is under way, and what it will have done.

    `doing` is the action by which it disables the account. False where it is held by now.
    """
    found = await connection.execute_fetchall(
        _Q["begin"],
        {
            "id": account.id,
            "written": (account.written | account.profile).dump(),
            "locks": does.locked,
            "suspends": does.suspended,
            "deactivates": does.deactivated,
            "doing": doing,
        },
    )
    return bool(found)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How an account was seen or made to be, for the state and profile that were wanted."""

    ours: Disablement
    written: Written
    by_hand: ByHand | None = None
    usable: bool = False
    notice: str | None = None


async def confirm(connection: Connection, account: Account, seen: Confirmation) -> bool:
    """Record that an account is as wanted; False where something else is wanted by now."""
    await connection.execute_fetchall(
        _Q["confirm"],
        {
            "id": account.id,
            "state": account.desired,
            "profile": account.profile.dump(),
            "written": seen.written.dump(),
            "locked": seen.ours.locked,
            "suspended": seen.ours.suspended,
            "deactivated": seen.ours.deactivated,
            "by_hand": seen.by_hand,
            "usable": seen.usable,
            "notice": seen.notice,
        },
    )
    [row] = await connection.execute_fetchall("SELECT changes() AS changed")
    if row["changed"] and account.ours.deactivated and not seen.ours.deactivated:
        await connection.execute_fetchall(_Q["bring_back"], {"id": account.id})
    return bool(row["changed"])


async def fail(
    connection: Connection,
    account_id: int,
    problem: Problem,
    reason: str,
    next_try: float,
    cure: str | None = None,
) -> None:
    """Record why work does not go on, and when to try again (seconds since the epoch)."""
    await connection.execute_fetchall(
        _Q["fail"],
        {
            "id": account_id,
            "problem": problem,
            "reason": reason,
            "cure": cure,
            "next_try": next_try,
        },
    )


# -- Whose account -------------------------------------------------------------


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
    if account.user_id != user_id:
        await connection.execute_fetchall(_Q["forget_observed"], values)
    for holder in holders:
        taken = {"id": account.id, "former": holder["id"]}
        names = ("take_disablement", "take_power", "take_memberships")
        await together(connection, *((_Q[name], taken) for name in names))
        await connection.execute_fetchall(_Q["delete"], {"id": holder["id"]})
    await together(connection, (_Q["bind"], values), (_Q["manage"], values))
    return None


async def _part(connection: Connection, account: Account) -> None:
    """Take from a user the account they had so far, and have it leave the rooms it was given."""
    if account.scim_id is not None:
        # By the map as it is now, whoever of those whom it reaches has had their turn.
        await grants.settle_first(connection, [account.scim_id])
    values = {
        "id": account.id,
        "former": account.user_id,
        "made": account.is_made,
        "bound_by": account.bound_by,
        "tick": await connection.tick(),
        "at": connection.at,
        "request": connection.cause,
    }
    _, [row] = await together(connection, (_Q["part"], values), (_Q["know_former"], values))
    values["former_id"] = row["id"]
    names = ("keep_in_former", "leave_to_former", "disown")
    await together(connection, *((_Q[name], values) for name in names))


async def link(connection: Connection, account: Account, user_id: str, by: str) -> str | None:
    """Record that a human says whose account this is; return why not where it is another user's.

    The one that the user had so far leaves the rooms it was given, and is locked where the
    service made it.
    """
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
    await together(connection, (_Q["forget_observed"], values), (_Q["unbind"], values))


async def never_made(connection: Connection, account: Account) -> Account | None:
    """Record that a user's account does not exist, and return what is known of it then.

    It is made when it is needed; of a deleted user nothing is left (None).
    """
    values = {"id": account.id}
    if account.scim_id is None:
        await connection.execute_fetchall(_Q["delete"], values)
        return None
    await together(connection, (_Q["forget_observed"], values), (_Q["never_made"], values))
    return await get(connection, account.id)


# -- Comparing -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Believed:
    """What is thought of an account that is in line."""

    id: int
    user_id: str
    desired: State
    profile: Profile
    ours: Disablement
    by_hand: ByHand | None


async def believed(connection: Connection, user_ids: Iterable[str]) -> list[Believed]:
    """Return what is thought of those of some accounts that are ours and in line."""
    found = await connection.execute_fetchall(
        _Q["ours"], {"user_ids": orjson.dumps(list(user_ids)).decode()}
    )
    return [
        Believed(
            row["id"],
            row["user_id"],
            row["desired"],
            Profile.load(row["profile"]),
            Disablement(
                bool(row["locked_by_us"]),
                bool(row["suspended_by_us"]),
                bool(row["deactivated_by_us"]),
            ),
            row["by_hand"],
        )
        for row in found
    ]


async def doubt(connection: Connection, differing: Mapping[int, bool]) -> None:
    """Have accounts observed anew that are not as they were thought to be.

    `differing` tells of each whether it was found deactivated.
    """
    await connection.executemany(
        _Q["doubt"], [{"id": i, "deactivated": gone} for i, gone in differing.items()]
    )


async def doubt_gone(connection: Connection, user_ids: Iterable[str]) -> None:
    """Have accounts observed anew that left a room by themselves, before they are joined again."""
    values = {"user_ids": orjson.dumps(list(user_ids)).decode()}
    await connection.execute_fetchall(_Q["doubt_gone"], values)


async def retry_stopped(connection: Connection) -> None:
    """Try again what was refused, spared or in conflict: it may have been mended."""
    await connection.execute_fetchall(_Q["retry_stopped"])


async def spared(connection: Connection) -> dict[int, str]:
    """Return the user IDs of accounts that protection keeps from being disabled, by number."""
    found = await connection.execute_fetchall(_Q["spared"])
    return {row["id"]: row["user_id"] for row in found}


async def end_sparing(connection: Connection, account_ids: Iterable[int]) -> None:
    """Record that some are protected no more: they count for the brake, and it holds them."""
    await connection.executemany(_Q["end_sparing"], [{"id": number} for number in account_ids])


async def retry_withheld(connection: Connection) -> None:
    """Try what a dry run withheld."""
    await connection.execute_fetchall(_Q["retry_withheld"])


async def use(connection: Connection, account_id: int) -> None:
    """Record that an account can be joined to rooms."""
    await connection.execute_fetchall(_Q["use"], {"id": account_id})


async def move_home(connection: Connection, server_name: str) -> None:
    """Have accounts that are still to be made be made on this server, whatever was set before."""
    await connection.execute_fetchall(_Q["move_home"], {"server_name": server_name})
