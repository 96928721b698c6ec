"""Accounts that were made for users who have one, when they signed in by SSO."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from scim_matrix.store.accounts import Profile
from scim_matrix.store.database import Connection
from scim_matrix.store.queries import load

_Q = load("second_accounts")


@dataclass(frozen=True, slots=True)
class FirstAccount:
    """A user's account whose name another account's begins with, `second`."""

    second: str
    account_id: int
    user_id: str
    display_name: str | None
    subject: str | None


async def first_accounts(
    connection: Connection, pairs: Iterable[tuple[str, str]]
) -> list[FirstAccount]:
    """Return those pairs of accounts (first, second) of which only the first is a user's."""
    values = [{"first": first, "second": second} for first, second in pairs]
    rows = await connection.execute_fetchall(
        _Q["first_accounts"], {"pairs": orjson.dumps(values).decode()}
    )
    return [
        FirstAccount(
            row["second"],
            row["id"],
            row["user_id"],
            Profile.load(row["profile"]).display_name,
            row["subject"],
        )
        for row in rows
    ]


async def users_own(connection: Connection, user_ids: Iterable[str]) -> set[str]:
    """Return which of some Matrix accounts are users'."""
    values = {"user_ids": orjson.dumps(list(user_ids)).decode()}
    found = await connection.execute_fetchall(_Q["users_own"], values)
    return {row["user_id"] for row in found}


async def known_subjects(connection: Connection, subjects: Iterable[str]) -> set[str]:
    """Return which of some SSO subjects are users'."""
    values = {"subjects": orjson.dumps(list(subjects)).decode()}
    found = await connection.execute_fetchall(_Q["known_subjects"], values)
    return {row["subject"] for row in found}


@dataclass(frozen=True, slots=True, order=True)
class SecondAccount:
    """An account that was made for somebody who has one, when they signed in by SSO."""

    user_id: str
    account_id: int
    subject: str


async def found(connection: Connection) -> list[SecondAccount]:
    """Return the second accounts that the last comparison found."""
    rows = await connection.execute_fetchall(_Q["found"])
    return [SecondAccount(row["user_id"], row["account_id"], row["subject"]) for row in rows]


async def replace(connection: Connection, found: Sequence[SecondAccount]) -> None:
    """Record which second accounts a comparison found."""
    await connection.execute_fetchall(_Q["forget"])
    await connection.executemany(
        _Q["add"],
        [{"user_id": s.user_id, "account_id": s.account_id, "subject": s.subject} for s in found],
    )
