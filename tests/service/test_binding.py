"""What is known of an account once it is another user's, or nobody's."""

import datetime
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from scim_matrix.store import accounts, binding, story, unanswered
from scim_matrix.store.accounts import Account, Confirmation, Disablement, Written
from scim_matrix.store.database import Connection, Database, Place
from scim_matrix.store.dialect import DatabaseRow
from tests.service.directory import Directory, wanted

LATE = 9e9
# Of an account of which everything is known that can be: what was done to it, is under way, went
# wrong, and waits for a human.
FULL: dict[str, Any] = {
    "locked_by_us": True,
    "suspended_by_us": True,
    "deactivated_by_us": True,
    "by_hand": "locked",
    "doing": "lock",
    "unsure_until": LATE,
    "unsure_of": "lock",
    "asked": "2026-01-01T00:00:00+00:00",
    "usable": True,
    "written": '{"emails":["a@b.c"],"subjects":["sub"]}',
    "desired": "disabled",
    "confirmed": "disabled",
    "brake": "held",
    "held_because": "limit",
    "held_tick": 7,
    "approved_by": "Grace",
    "problem": "refused",
    "reason": "no",
    "cure": "yes",
    "attempts": 3,
    "next_try": LATE,
}
# What the service did to an account, and what of that may still come.
NOTHING_DONE: dict[str, Any] = {
    "locked_by_us": False,
    "suspended_by_us": False,
    "deactivated_by_us": False,
    "by_hand": None,
    "doing": None,
    "unsure_until": None,
    "unsure_of": None,
}


@pytest.fixture
async def connection(place: Place) -> AsyncIterator[Connection]:
    """Return a block that writes, in a database of either kind."""
    database = await Database.open(place)
    async with database.write("test") as connection:
        yield connection
    await database.close()


async def full(connection: Connection, **more: Any) -> Account:
    """Have Ann have an account of which everything is known that can be, or `more`; return it."""
    people = Directory(connection)
    account_id = await people.account_id(await people.account("ann", subject="sub"))
    values = FULL | more
    columns = ", ".join(f"{name} = :{name}" for name in values)
    await connection.execute_fetchall(
        f"UPDATE account SET {columns} WHERE id = :id", {**values, "id": account_id}
    )
    account = await accounts.get(connection, account_id)
    assert account is not None
    return account


async def everyone(connection: Connection) -> list[DatabaseRow]:
    """Return what is stored of all accounts, the oldest first."""
    return await connection.execute_fetchall("SELECT * FROM account ORDER BY id")


def shown(row: DatabaseRow, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return some columns of a row, as they would be given."""
    return {
        name: bool(row[name]) if isinstance(value, bool) else row[name]
        for name, value in names.items()
    }


@pytest.mark.parametrize("under_way", [False, True])
async def test_nothing_done_to_an_account_counts_for_the_next(
    connection: Connection, under_way: bool
) -> None:
    """Whoever is told another account, of either, starts there as with a new one."""
    account = await full(connection, unsure_until=LATE if under_way else None)
    assert await binding.link(connection, account, "@other:s", "Grace") is None
    hers, former = await everyone(connection)
    freed = {"brake": "free", "held_because": None, "held_tick": None, "approved_by": None}
    untold = {"problem": None, "reason": None, "cure": None, "confirmed": None, "usable": False}
    expected: dict[str, Any] = {
        "user_id": "@other:s",
        **NOTHING_DONE,
        **freed,
        **untold,
        "asked": None,
    }
    assert shown(hers, expected) == expected
    # The service had made it: it is locked, and what was done to it can be undone.
    done = dict.fromkeys(("locked_by_us", "suspended_by_us", "deactivated_by_us"), True)
    expected = {"user_id": "@ann:s", "scim_id": None, "desired": "deleted", **done}
    expected |= {"unsure_until": LATE if under_way else None, "unsure_of": "lock"}
    expected["written"] = FULL["written"]
    assert shown(former, expected) == expected


@pytest.mark.parametrize("is_known", ["nothing", "done", "under way"])
async def test_an_account_that_is_nobodys_any_more_is_left_as_it_is(
    connection: Connection, is_known: str
) -> None:
    """Nothing of it is known then, but for what the service did to it, or may have done."""
    done = dict.fromkeys(("locked_by_us", "suspended_by_us"), is_known == "done")
    until = LATE if is_known == "under way" else connection.at - unanswered.LOOKED_AT_WITHIN
    account = await full(connection, unsure_until=until, deactivated_by_us=False, **done)
    await binding.unbind(connection, account, "@ann:s", "why", "cure", 5.0, barred="@ann:s")
    hers, *former = await everyone(connection)
    expected: dict[str, Any] = {"user_id": None, "bound_by": None, "barred": "@ann:s"}
    expected |= {**NOTHING_DONE, "asked": None, "usable": False, "confirmed": None}
    expected |= {"proposed": "@ann:s", "problem": "conflict", "reason": "why", "cure": "cure"}
    # A link that is written late on it would be this user's.
    expected["unsure_until"] = until
    assert shown(hers, expected) == expected
    assert hers["next_try"] == 5.0
    assert await story.accounts_called(connection, "@ann:s") == [hers["id"]]
    expected = {"user_id": "@ann:s", "desired": "unmanaged", "unsure_until": until, **done}
    expected |= {"unsure_of": "lock", "written": FULL["written"]}
    assert [shown(row, expected) for row in former] == [expected] * (is_known != "nothing")
    other = replace(account, id=0, mark="bob")
    changes = await unanswered.why_not_yet(connection, other, "@ann:s")
    assert (changes is not None) is (is_known == "under way")


async def test_of_an_account_that_never_was_nothing_is_known(connection: Connection) -> None:
    """The one that is made in its place is as any other new one."""
    account = await full(connection)
    await binding.never_made(connection, account)
    [hers] = await everyone(connection)
    expected: dict[str, Any] = {
        "user_id": None,
        "bound_by": None,
        "proposed": "@ann:s",
        "usable": False,
    }
    expected |= {**NOTHING_DONE, "confirmed": None, "written": '{"emails":[],"subjects":[]}'}
    expected |= {"problem": None, "reason": None, "cure": None, "next_try": 0}
    assert shown(hers, expected) == expected


async def test_a_deleted_users_account_that_never_was_is_forgotten(connection: Connection) -> None:
    """There is nobody whom one could be made for."""
    account = await full(connection, scim_id=None, desired="deleted", confirmed=None)
    await binding.never_made(connection, account)
    assert await everyone(connection) == []


async def test_an_answer_ends_no_doubt_that_came_up_since(connection: Connection) -> None:
    """Whoever is to be out waits for nobody, so that another request may be on its way."""
    people = Directory(connection)
    await people.account("ann")
    ann = await people.account_of("ann")
    latest, former = await unanswered.begin(connection, ann, "@ann:s")
    await unanswered.record_of(connection, latest + 1, "@ann:s")
    await unanswered.end(connection, ann, "@ann:s", latest, former)
    assert await unanswered.until(connection, "@ann:s") == latest + 1


async def test_who_has_no_account_is_looked_at_as_soon_as_nothing_is_in_doubt(
    connection: Connection,
) -> None:
    """However long they would rest."""
    people = Directory(connection)
    ann = await people.account_of(await people.user("ann"))
    assert await accounts.fail(connection, ann, "conflict", "taken", LATE)
    await unanswered.restore(connection, 100.0, ann)
    assert await accounts.due(connection, 200.0, 9, []) == []
    await unanswered.look(connection, 100.0)
    assert [one.id for one in await accounts.due(connection, 200.0, 9, [])] == [ann.id]


async def test_that_a_user_has_no_account_is_no_word_on_who_is_active_by_now(
    connection: Connection,
) -> None:
    """What was asked for is still known, though they were looked for as somebody who is out."""
    people = Directory(connection)
    await people.user("ann")
    asked = datetime.datetime.now(datetime.UTC)
    assert await binding.ask(connection, await people.account_of("ann"), asked)
    await people.activity("ann", active=False)
    looked_for = await people.account_of("ann")
    await people.activity("ann", active=True)
    await binding.has_none(connection, looked_for)
    assert (await people.account_of("ann")).asked == asked
    await people.activity("ann", active=False)
    await binding.has_none(connection, looked_for)
    found = await people.account_of("ann")
    assert (found.asked, found.todo) == (None, None)


async def test_nothing_is_taken_off_by_a_word_that_was_taken_back(connection: Connection) -> None:
    """The user has another subject, or none, than when it was decided on; or another account."""
    people = Directory(connection)
    await people.account("ann", subject="first")
    decided = await people.account_of("ann")
    assert await accounts.begin_dropping(connection, decided)
    for subject in ("second", None):
        await people.activity("ann", active=True, subject=subject)
        assert not await accounts.begin_dropping(connection, decided)
    await people.activity("ann", active=True, subject="first")
    assert await accounts.begin_dropping(connection, decided)
    assert not await accounts.begin_dropping(connection, replace(decided, user_id="@other:s"))


async def test_what_may_still_be_written_is_not_forgotten(connection: Connection) -> None:
    """Until that is over, what was taken off may be there again."""
    people = Directory(connection)
    await people.account("ann")
    ann = await people.account_of("ann")
    seen = Confirmation(Disablement(), Written(subjects=frozenset({"old", "new"})), usable=True)
    assert await accounts.confirm(connection, ann, seen)
    await unanswered.record_of(connection, connection.at + 1.0, "@ann:s")
    await accounts.end_dropping(connection, ann, ["old"])
    assert (await people.account_of("ann")).written.subjects == {"old", "new"}
    await unanswered.restore(connection, connection.at - 1.0, ann)
    await accounts.end_dropping(connection, ann, ["old"])
    assert (await people.account_of("ann")).written.subjects == {"new"}


async def test_a_conflict_is_about_a_name(connection: Connection) -> None:
    """What else is said of its user does not end it; another name does, with what was told."""
    people = Directory(connection)
    await people.user("ann")
    ann = await people.account_of("ann")
    assert await accounts.fail(connection, ann, "conflict", "taken", LATE, cure="rename")

    async def told(proposed: str, subject: str) -> list[Any]:
        said = replace(wanted("ann", subject=subject), proposed=proposed)
        await accounts.change(connection, "ann", said, "externalId")
        [row] = await everyone(connection)
        return [row[name] for name in ("problem", "reason", "cure")]

    assert await told("@ann:s", "new") == ["conflict", "taken", "rename"]
    assert await told("@anna:s", "newer") == [None, None, None]
