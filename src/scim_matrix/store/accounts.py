"""Matrix accounts: what each should be, was last known to be, and the work between."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Self

import orjson

from scim_matrix.store import grants
from scim_matrix.store.database import Connection, together
from scim_matrix.store.dialect import DatabaseRow
from scim_matrix.store.queries import load
from scim_matrix.store.resources import TakenError
from scim_matrix.store.text import folded

# active; disabled: active=false at the identity provider; deleted: within its grace period;
# expired: the grace period has passed.
State = Literal["active", "disabled", "deleted", "expired"]
# How long after that was asked for an account may still be made or changed, where there was no
# answer (seconds).
LATEST = 120.0
# How an account was found to be a user's (design "Whose account").
BoundBy = Literal["link", "mark", "made", "record", "adopted", "human", "migrated"]
Problem = Literal["conflict", "refused", "unavailable", "withheld", "spared", "dismissed"]
ByHand = Literal["locked", "suspended", "deactivated"]
Disabling = Literal["lock", "suspend", "deactivate", "erase"]

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

    @classmethod
    def of(cls, profile: Profile) -> Self:
        """Return what a profile writes."""
        return cls(frozenset(profile.emails), frozenset(filter(None, [profile.subject])))

    def __or__(self, other: Self) -> Self:
        """Return all that is in either."""
        return type(self)(self.emails | other.emails, self.subjects | other.subjects)

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

    def __or__(self, other: Self) -> Self:
        """Return all that is in either."""
        return type(self)(
            self.locked or other.locked,
            self.suspended or other.suspended,
            self.deactivated or other.deactivated,
        )


@dataclass(frozen=True, slots=True)
class Account:
    """An account on which there is work. `user_id` is None until it is bound.

    `asked` is since when one may have been made of which no answer is known.
    `doing` is what a request that disables it does, while its outcome is not known. A request that
    had no answer may be carried out until `unsure_until` (seconds since the epoch); `unsure_of` is
    what of that, or of what it may undo, disables the account, and was let through.
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
    doing: Disabling | None = None
    unsure_until: float | None = None
    unsure_of: Disabling | None = None

    @property
    def is_made(self) -> bool:
        """Whether the service made it for this very user."""
        return self.bound_by in ("made", "mark")

    @property
    def to_be_written(self) -> Written:
        """What the service wrote on it, and what its profile has it write."""
        return self.written | Written.of(self.profile)

    @property
    def name(self) -> str:
        """What to call it in logs and the record."""
        return self.user_id or self.proposed or f"user {self.scim_id}"


def _account(row: DatabaseRow) -> Account:
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
        unsure_until=row["unsure_until"],
        unsure_of=row["unsure_of"],
    )


# -- What the identity provider says ------------------------------------------


async def create(
    connection: Connection, scim_id: str, wanted: Wanted, subject_attribute: str
) -> None:
    """Say what the account of a new user should be.

    A user who comes back (same SSO subject, or without one the same SCIM id) gets the former
    account. Raises TakenError naming `subject_attribute` or userName where another user has it.
    """
    names = _names(scim_id, wanted)
    holder, former, namesake = await connection.ticked(
        (_Q["subject_taken"], names), (_Q["former"], names), (_Q["name_taken"], names)
    )
    _check_subject(holder, subject_attribute)
    if not former or former[0]["user_id"] is None:
        _check_name(namesake, wanted)
    values = await _values(connection, scim_id, wanted)
    if former:
        first = [(_Q["come_back"], {**values, "id": former[0]["id"]})]
    else:
        first = [(_Q["insert"], values), (_Q["let_be"], values)]
    await grants.settle(connection, [scim_id], first=first)


async def change(
    connection: Connection, scim_id: str, wanted: Wanted, subject_attribute: str
) -> None:
    """Say what the account of a user should be from now on. Raises TakenError as `create` does."""
    names = _names(scim_id, wanted)
    holder, [row], namesake = await connection.ticked(
        (_Q["subject_taken"], names),
        ("SELECT user_id, proposed FROM account WHERE scim_id = :scim_id", names),
        (_Q["name_taken"], names),
    )
    _check_subject(holder, subject_attribute)
    if row["user_id"] is None and row["proposed"] != wanted.proposed:
        _check_name(namesake, wanted)
    values = await _values(connection, scim_id, wanted)
    await together(
        connection, *((_Q[name], values) for name in ("leave_asked", "change", "let_be"))
    )


def _names(scim_id: str, wanted: Wanted) -> dict[str, str | None]:
    return {"scim_id": scim_id, "subject": wanted.profile.subject, "proposed": wanted.proposed}


async def _values(connection: Connection, scim_id: str, wanted: Wanted) -> dict[str, Any]:
    return {
        **_names(scim_id, wanted),
        "desired": wanted.state,
        "profile": wanted.profile.dump(),
        "tick": await connection.tick(),
        "at": connection.at,
        "request": connection.cause,
    }


def _check_subject(holder: Sequence[DatabaseRow], attribute: str) -> None:
    if holder:
        raise TakenError(
            f"{attribute}: another user has this value, which leads to their Matrix account"
        )


def _check_name(namesake: Sequence[DatabaseRow], wanted: Wanted) -> None:
    if namesake:
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


async def subjects_on(connection: Connection, user_id: str) -> tuple[frozenset[str], str | None]:
    """Return the SSO subjects that were written on a Matrix account that is nobody's by now.

    And the subject of whoever has it, or had it and was deleted: a former account is theirs still.
    """
    found = await connection.execute_fetchall(_Q["subjects_on"], {"user_id": user_id})
    if not found:
        return frozenset(), None
    [row] = found
    if row["desired"] != "unmanaged":
        return frozenset(), row["subject"]
    return Written.load(row["written"]).subjects, None


async def gives_up(connection: Connection, user_id: str, subject: str) -> Account | None:
    """Return whose account an SSO subject was written on and is not theirs by now, if so.

    A deleted user's, too: a former account is theirs still. What a human took from a user is nobody
    else's, and no subject's.
    """
    for row in await connection.execute_fetchall(_Q["somebodys"], {"user_id": user_id}):
        one, own = _account(row), row["subject"]
        if own != subject and subject in one.written.subjects:
            return replace(one, profile=replace(one.profile, subject=own))
    return None


async def begin_dropping(connection: Connection, account: Account) -> bool:
    """Record that a user's account is about to lose SSO subjects that are not theirs.

    Were they theirs again, they would be written anew. False where the user has another subject, or
    account, by now.
    """
    values = {"id": account.id, "user_id": account.user_id, "subject": account.profile.subject}
    return bool(await connection.execute_fetchall(_Q["begin_dropping"], values))


async def end_dropping(connection: Connection, account: Account, subjects: Iterable[str]) -> None:
    """Record that an account has lost SSO subjects: whoever writes them there now is somebody else.

    Not while a request that may write them has no answer.
    """
    present = await get(connection, account.id)
    if present is None or (present.unsure_until or 0.0) > connection.at:
        return
    written = replace(present.written, subjects=present.written.subjects - {*subjects})
    values = {"id": account.id, "written": written.dump()}
    await connection.execute_fetchall(_Q["end_dropping"], values)


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


async def begin(
    connection: Connection,
    account: Account,
    does: Disablement,
    doing: Disabling | None,
) -> bool:
    """Record before a request leaves that it is under way, and what it will have done.

    `doing` is the action by which it disables the account. False where it is held by now, the user
    is to be otherwise, or has another account.
    """
    found = await connection.execute_fetchall(
        _Q["begin"],
        {
            "id": account.id,
            "user_id": account.user_id,
            "state": account.desired,
            "written": account.to_be_written.dump(),
            "locks": does.locked,
            "suspends": does.suspended,
            "deactivates": does.deactivated,
            "doing": doing,
            "at": connection.at,
            "until": connection.at + LATEST,
        },
    )
    return bool(found)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How an account was seen or made to be, for the state and profile that were wanted.

    `brings_back`: it is active again after the service had deactivated it. What had no answer may
    change it until `unsure_until` (seconds since the epoch); then it is looked at once more, and
    disabled again by what was let through (`unsure_of`).
    """

    ours: Disablement
    written: Written
    by_hand: ByHand | None = None
    usable: bool = False
    notice: str | None = None
    brings_back: bool = False
    unsure_until: float | None = None
    unsure_of: Disabling | None = None


async def confirm(connection: Connection, account: Account, seen: Confirmation) -> bool:
    """Record that an account is as wanted; False where something else, or another, is by now."""
    found = await connection.execute_fetchall(
        _Q["confirm"],
        {
            "id": account.id,
            "user_id": account.user_id,
            "state": account.desired,
            "profile": account.profile.dump(),
            "written": seen.written.dump(),
            **_flags(seen.ours),
            "by_hand": seen.by_hand,
            "usable": seen.usable,
            "notice": seen.notice,
            "unsure_until": seen.unsure_until,
            "unsure_of": seen.unsure_of,
        },
    )
    if found and seen.brings_back:
        await connection.execute_fetchall(_Q["bring_back"], {"id": account.id})
    return bool(found)


async def not_done(connection: Connection, account: Account, ours: Disablement) -> None:
    """Record that what was to disable an active user's account was not done, and is not any more.

    `ours` is what remains of what the service did.
    """
    values: dict[str, object] = {"id": account.id, "user_id": account.user_id}
    await connection.execute_fetchall(_Q["not_done"], values | _flags(ours))


def _flags(ours: Disablement) -> dict[str, object]:
    return {
        "locked": ours.locked,
        "suspended": ours.suspended,
        "deactivated": ours.deactivated,
    }


async def fail(
    connection: Connection,
    account: Account,
    problem: Problem,
    reason: str,
    next_try: float,
    cure: str | None = None,
) -> bool:
    """Record why work does not go on, and when to try again (seconds since the epoch).

    False where something else is wanted by now, or another account is the user's.
    """
    found = await connection.execute_fetchall(
        _Q["fail"],
        {
            "id": account.id,
            "user_id": account.user_id,
            # Then the work itself may have found whose it is.
            "unsettled": account.user_id is None or account.bound_by == "migrated",
            "state": account.desired,
            "problem": problem,
            "reason": reason,
            "cure": cure,
            "next_try": next_try,
        },
    )
    return bool(found)


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
    written: Written
    notice: str | None

    @property
    def left_out(self) -> tuple[str, ...]:
        """The e-mails that it was not given, though its user has them."""
        is_theirs = self.desired == "active" and self.by_hand != "deactivated"
        if not is_theirs or self.notice is None:
            return ()
        return tuple(e for e in self.profile.emails if e not in self.written.emails)


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
            Written.load(row["written"]),
            row["notice"],
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
