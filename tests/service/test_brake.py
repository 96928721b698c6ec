"""What the brake counts and holds, what a human decides, and what a backup put back may do."""

import orjson
import pytest

from scim_matrix.groupmap import Kind, Mapping
from scim_matrix.store import accounts, brake, groupmap, memberships, observed, record
from scim_matrix.store.brake import Held
from scim_matrix.store.database import Connection, Database
from tests.service import oracle
from tests.service.directory import ROOM, Directory

STAFF = Mapping("external_id", "ext-staff", ROOM)
OTHER = Mapping("external_id", "ext-other", "!other")
NAMES = ("ann", "bob", "cat")
SINCE = 0.0


async def staff(connection: Connection, *left: str) -> Directory:
    """Have everybody in a room, and those who are not `left` removed from its group."""
    people = Directory(connection)
    await groupmap.put(connection, [STAFF])
    for name in NAMES:
        await people.account(name)
    await people.group("staff", *NAMES)
    await people.observed("join", *NAMES)
    await people.members("staff", *left)
    return people


async def disabled(connection: Connection) -> Directory:
    """Have accounts that are all to be disabled."""
    people = Directory(connection)
    for name in NAMES:
        await people.account(name)
        await people.activity(name, active=False)
    return people


async def named(connection: Connection) -> list[str]:
    """Return who is held."""
    return [one.user_id for one in await brake.held(connection)]


async def recorded(connection: Connection) -> list[tuple[str, str, str | None, str | None]]:
    """Return the record: kind, outcome, user and by whom."""
    found = await record.find(connection, users=None, rooms=[], since=0.0, limit=99)
    return [(e["kind"], e["outcome"], e["user_id"], e["by"]) for e in found]


# -- Counting ------------------------------------------------------------------


async def test_a_room_counts_done_pending_and_held_once_each(database: Database) -> None:
    """Of those who are or were in it; approved, spared, forgotten and others' do not count."""
    async with database.write() as connection:
        people = await staff(connection, "ann")
        assert await brake.room_tally(connection, ROOM, SINCE) == (2, 3)
        done = record.Entry("kick", "done", "@bob:s", ROOM)
        await record.add(connection, done)
        await people.observed("leave", "bob")
        assert await brake.room_tally(connection, ROOM, SINCE) == (2, 3)
        # Too long ago.
        assert await brake.room_tally(connection, ROOM, connection.at + 1) == (1, 2)
        await brake.hold_room(connection, ROOM, "limit")
        assert await brake.room_tally(connection, ROOM, SINCE) == (2, 3)
        await brake.decide(connection, await brake.held(connection), "approved", "eve")
        assert await brake.room_tally(connection, ROOM, SINCE) == (1, 3)
        await record.add(connection, record.Entry("kick", "done", "@cat:s", ROOM, approved=True))
        await people.observed("leave", "cat")
        assert await brake.room_tally(connection, ROOM, SINCE) == (1, 2)
        await groupmap.put(connection, [])
        assert await brake.room_tally(connection, ROOM, SINCE) == (1, 1)
        assert await brake.room_tally(connection, "!other", SINCE) == (0, 0)


async def test_the_spared_do_not_count(database: Database) -> None:
    """They are not removed, so nobody else has to wait for that."""
    async with database.write() as connection:
        people = await staff(connection, "ann")
        spared = await people.membership(ROOM, "bob")
        await memberships.fail(connection, spared, "spared", "protected", 1e9)
        assert await brake.room_tally(connection, ROOM, SINCE) == (1, 3)
        assert await brake.hold_room(connection, ROOM, "limit") == 1
        assert await named(connection) == ["@cat:s"]


async def test_only_what_protection_did_to_accounts_ends_with_it(database: Database) -> None:
    """Whoever is protected no more starts anew; the rest of others and other failures stay."""
    async with database.write() as connection:
        people = await disabled(connection)
        problems: dict[str, accounts.Problem] = {"ann": "spared", "bob": "spared", "cat": "refused"}
        for name, problem in problems.items():
            await accounts.fail(connection, await people.account_of(name), problem, "why", 1e9)
        ended = [await people.account_id(name) for name in ("ann", "cat")]
        await accounts.end_sparing(connection, ended)
        rows = await connection.execute_fetchall(
            "SELECT scim_id, problem, reason, attempts, next_try FROM account ORDER BY scim_id"
        )
        assert [tuple(row) for row in rows] == [
            ("ann", None, None, 0, 0),
            ("bob", "spared", "why", 1, 1e9),
            ("cat", "refused", "why", 1, 1e9),
        ]


async def test_accounts_count_done_pending_and_held(database: Database) -> None:
    """Over all accounts, the one that is asked about included."""
    async with database.write() as connection:
        people = Directory(connection)
        for name in NAMES:
            await people.account(name)
        ann = await people.account_id("ann")
        assert await brake.account_tally(connection, ann, SINCE) == (1, 3)
        for name in ("ann", "bob"):
            await people.activity(name, active=False)
        assert await brake.account_tally(connection, ann, SINCE) == (2, 3)
        await record.add(connection, record.Entry("lock", "done", "@bob:s"))
        await people.confirms("bob")
        assert await brake.account_tally(connection, ann, SINCE) == (2, 3)
        assert await brake.account_tally(connection, ann, connection.at + 1) == (1, 2)
        await record.add(connection, record.Entry("erase", "done", "@gone:s", approved=True))
        assert await brake.account_tally(connection, ann, SINCE) == (2, 3)
        await people.activity("cat", active=False)
        assert await brake.hold_accounts(connection, ann) == 2
        assert await brake.account_tally(connection, ann, connection.at + 1) == (2, 2)


async def test_accounts_that_are_not_looked_at_yet_after_an_upgrade_do_not_count(
    database: Database,
) -> None:
    """Most of those disabled are so already: one lock more must not hold them all."""
    async with database.write() as connection:
        people = Directory(connection)
        for number in range(5):
            await people.account(f"active{number}")
            await people.account(f"former{number}")
            await people.activity(f"former{number}", active=False)
        await people.account("ann")
        await people.activity("ann", active=False)
        await connection.execute_fetchall(
            "UPDATE account SET bound_by = 'migrated', usable = FALSE, confirmed = NULL,"
            " locked_by_us = desired = 'disabled' WHERE scim_id <> 'ann'"
        )
        ann = await people.account_id("ann")
        assert await brake.account_tally(connection, ann, SINCE) == (1, 6)
        assert await brake.hold_accounts(connection, 0) == 1
        assert [one.user_id for one in await brake.held_accounts(connection)] == ["@ann:s"]


# -- Deciding ------------------------------------------------------------------


async def test_held_removals_are_shown_and_wait(database: Database) -> None:
    """With group and reason, recorded once; rooms apart."""
    async with database.write("request") as connection:
        await staff(connection, "ann")
        assert await brake.hold_room(connection, ROOM, "limit") == 2
        assert await brake.hold_room(connection, ROOM, "limit") == 0
        bob, cat = await brake.held(connection, [ROOM])
        assert (bob.user_id, cat.user_id) == ("@bob:s", "@cat:s")
        assert (bob.room_id, bob.group_name, bob.request, bob.because) == (
            ROOM,
            "staff",
            "request",
            "limit",
        )
        assert await brake.held(connection, ["!other"]) == []
        assert await brake.held(connection, []) == []
        assert await oracle.rooms_due(connection, 1.0, []) == []
        held = [("kick", "held", user, None) for user in ("@bob:s", "@cat:s")]
        assert sorted(await recorded(connection)) == held


async def test_only_what_was_shown_is_decided(database: Database) -> None:
    """What is held since, or was let go and held anew, waits for the next decision."""
    async with database.write() as connection:
        await staff(connection, "ann", "cat")
        await brake.hold_room(connection, ROOM, "limit")
        shown = await brake.held(connection)
        assert [one.user_id for one in shown] == ["@bob:s"]
    async with database.write() as connection:
        await Directory(connection).members("staff", "ann")
        await brake.hold_room(connection, ROOM, "limit")
        assert await named(connection) == ["@bob:s", "@cat:s"]
    async with database.write() as connection:
        # Granted again and taken again: not what was shown.
        await Directory(connection).members("staff", "ann", "bob")
        await Directory(connection).members("staff", "ann")
        await brake.hold_room(connection, ROOM, "limit")
    async with database.write() as connection:
        assert await brake.decide(connection, shown, "approved", "eve") == []
        assert await named(connection) == ["@bob:s", "@cat:s"]
        again = await brake.held(connection)
        assert await brake.decide(connection, again[:1], "dismissed", "eve") == again[:1]
        assert await brake.decide(connection, again, "approved", "eve") == again[1:]
        assert await brake.decide(connection, again, "approved", "eve") == []
        people = Directory(connection)
        assert await people.states() == {"ann": "granted", "bob": "dismissed", "cat": "revoked"}
        entries = await recorded(connection)
        assert entries[-2:] == [
            ("kick", "dismissed", "@bob:s", "eve"),
            ("kick", "approved", "@cat:s", "eve"),
        ]


async def test_an_approval_names_who_gave_it_and_is_not_held_again(database: Database) -> None:
    """What was let through goes on, however much there is."""
    async with database.write() as connection:
        people = await staff(connection, "ann")
        await brake.hold_room(connection, ROOM, "limit")
        await brake.decide(connection, await brake.held(connection), "approved", "eve")
        assert await brake.hold_room(connection, ROOM, "limit") == 0
        due = await memberships.due(connection, ROOM, 1.0, 9)
        assert [(p.user_id, p.approved_by) for p in due] == [("@cat:s", "eve"), ("@bob:s", "eve")]
        assert (await people.membership(ROOM, "ann")).approved_by is None


async def test_an_approval_ends_with_what_it_was_for(database: Database) -> None:
    """Removed, granted again and taken again: that is another removal."""
    for way in ("removed", "granted"):
        async with database.write() as connection:
            people = Directory(connection)
            if way == "removed":
                await staff(connection, "ann")
            await brake.hold_room(connection, ROOM, "limit")
            await brake.decide(connection, await brake.held(connection), "approved", "eve")
            if way == "removed":
                await people.observed("leave", "bob")
                assert (await people.row("bob"))["brake"] == "free"
            await people.members("staff", *NAMES)
            await people.observed("join", *NAMES)
            await people.members("staff", "ann")
            assert {row["brake"] for row in await people.rows()} == {"free"}, way
            assert await brake.hold_room(connection, ROOM, "limit") == 2, way
            await brake.decide(connection, await brake.held(connection), "approved", "eve")


async def test_an_approval_survives_failures(database: Database) -> None:
    """It is for the removal, not for one attempt."""
    async with database.write() as connection:
        people = await staff(connection, "ann")
        await brake.hold_room(connection, ROOM, "limit")
        await brake.decide(connection, await brake.held(connection), "approved", "eve")
        pair = await people.membership(ROOM, "bob")
        await memberships.begin(connection, [pair])
        await memberships.fail(connection, pair, "unavailable", "away", 5.0)
        assert (await people.membership(ROOM, "bob")).approved_by == "eve"


async def test_held_accounts_are_decided_one_by_one(database: Database) -> None:
    """Let through once, or let be until the identity provider says something new."""
    async with database.write() as connection:
        people = await disabled(connection)
        assert await brake.hold_accounts(connection, 0) == 3
        assert await accounts.due(connection, 1.0, 9, []) == []
        ann, bob, cat = await brake.held_accounts(connection)
        assert (ann.room_id, ann.user_id, ann.because) == (None, "@ann:s", "limit")
        assert await brake.decide(connection, [ann], "approved", "eve") == [ann]
        assert await brake.decide(connection, [bob], "dismissed", "eve") == [bob]
        assert await brake.held_accounts(connection) == [cat]
        [due] = await accounts.due(connection, 1.0, 9, [])
        assert (due.user_id, due.approved_by) == ("@ann:s", "eve")
        await people.confirms("ann")
        [entry] = [e for e in await recorded(connection) if e[1] == "approved"]
        assert entry == ("disable", "approved", "@ann:s", "eve")
    async with database.write() as connection:
        people = Directory(connection)
        for name in ("ann", "bob"):
            await people.activity(name, active=True)
            await people.confirms(name)
            await people.activity(name, active=False)
        due_now = await accounts.due(connection, 1.0, 9, [])
        found = {(account.user_id, account.approved_by) for account in due_now}
        assert found == {("@ann:s", None), ("@bob:s", None)}


async def test_what_is_held_is_not_begun_and_what_is_begun_is_not_held(database: Database) -> None:
    """Several accounts are worked on at once; but the one that is asked about is held itself."""
    async with database.write() as connection:
        await disabled(connection)
        ann, bob, cat = sorted(
            await accounts.due(connection, 1.0, 9, []), key=lambda one: one.user_id or ""
        )
        lock = accounts.Disablement(locked=True)
        assert await accounts.begin(connection, ann, lock, "lock")
        assert await brake.hold_accounts(connection, bob.id) == 2
        held = [one.user_id for one in await brake.held_accounts(connection)]
        assert held == ["@bob:s", "@cat:s"]
        assert not await accounts.begin(connection, cat, lock, "lock")
        assert await brake.hold_accounts(connection, ann.id) == 1
        assert not await accounts.begin(connection, ann, lock, "lock")


async def test_an_approval_of_a_lock_is_none_of_what_comes_after(database: Database) -> None:
    """Neither of a deletion nor of the end of its grace period."""
    async with database.write() as connection:
        people = Directory(connection)
        await people.account("ann")
        await people.activity("ann", active=False)
        await brake.hold_accounts(connection, 0)
        await brake.decide(connection, await brake.held_accounts(connection), "approved", "eve")
        await people.deletes("ann", 10.0)
        [due] = await accounts.due(connection, 1.0, 9, [])
        assert (due.desired, due.approved_by) == ("deleted", None)
        await brake.hold_accounts(connection, 0)
        await brake.decide(connection, await brake.held_accounts(connection), "approved", "eve")
        await accounts.expire(connection, connection.at + 10.0)
        [due] = await accounts.due(connection, 1.0, 9, [])
        assert (due.desired, due.approved_by) == ("expired", None)
        # The brake may hold it again.
        assert await brake.hold_accounts(connection, due.id) == 1


async def test_whom_a_human_lets_stay_has_no_trouble_of_before(database: Database) -> None:
    """What kept them from leaving is no reason for anything any more."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [STAFF])
        await people.account("ann")
        await people.group("staff", "ann")
        await people.observed("join", "ann")
        await people.members("staff")
        pair = await people.membership(ROOM, "ann")
        await memberships.fail(connection, pair, "unavailable", "no answer", 0.0)
        await brake.hold_room(connection, ROOM, "limit")
        shown = await brake.held(connection)
        assert await brake.decide(connection, shown, "dismissed", "eve") == shown
        row = await people.row("ann", ROOM)
        assert (row["state"], row["problem"], row["reason"]) == ("dismissed", None, None)


async def test_what_is_held_or_dismissed_does_not_expire(database: Database) -> None:
    """A human has not let it go."""
    async with database.write() as connection:
        people = Directory(connection)
        for name in ("ann", "bob"):
            await people.account(name)
            await people.deletes(name, 10.0)
        await brake.hold_accounts(connection, 0)
        late = connection.at + 10.0
        assert not await accounts.any_expired(connection, late)
        ann, _ = await brake.held_accounts(connection)
        await brake.decide(connection, [ann], "dismissed", "eve")
        await accounts.expire(connection, late)
        rows = await connection.execute_fetchall("SELECT desired FROM account")
        assert {row["desired"] for row in rows} == {"deleted"}


# -- A backup that was put back ------------------------------------------------


async def restored(database: Database) -> None:
    """Put a backup back in which removals and locks are pending."""
    async with database.write() as connection:
        people = await staff(connection, "ann")
        await groupmap.put(connection, [STAFF, OTHER])
        await people.group("other", "bob")
        await people.observed("join", "bob", room_id="!other")
        await people.members("other")
        await people.account("dan")
        await people.activity("dan", active=False)
    async with database.write() as connection:
        await brake.begin_restoration(connection)


async def hold_restored(database: Database) -> tuple[set[tuple[str | None, str]], set[str]]:
    """Hold what only the backup speaks of; return removals and accounts that wait."""
    async with database.write() as connection:
        for room_id in (ROOM, "!other"):
            await brake.hold_room(connection, room_id, "restored")
        for account in await accounts.due(connection, 1.0, 9, []):
            await brake.hold_restored(connection, account.id)
        removals = {(one.room_id, one.user_id) for one in await brake.held(connection)}
        return removals, {one.user_id for one in await brake.held_accounts(connection)}


REMOVALS = {(ROOM, "@bob:s"), (ROOM, "@cat:s"), ("!other", "@bob:s")}


async def test_what_only_a_backup_speaks_of_waits(database: Database) -> None:
    """It may be long past; what the identity provider says since goes on."""
    await restored(database)
    assert await hold_restored(database) == (REMOVALS, {"@dan:s"})
    async with database.write() as connection:
        assert await brake.is_restored(connection)
        assert {one.because for one in await brake.held(connection)} == {"restored"}
        people = Directory(connection)
        await people.members("staff")
        await people.activity("bob", active=False)
    removals, held = await hold_restored(database)
    assert (removals, held) == (REMOVALS, {"@dan:s"})
    async with database.write() as connection:
        assert (await Directory(connection).membership(ROOM, "ann")).todo == "leave"


async def test_a_database_that_was_not_put_back_holds_nothing_for_that(database: Database) -> None:
    """However old its work is."""
    async with database.write() as connection:
        await staff(connection, "ann")
    assert await hold_restored(database) == (set(), set())
    async with database.write() as connection:
        await brake.heard_of_group(connection, "staff")
        await brake.heard_of_user(connection, "ann")
        assert not await brake.is_restored(connection)


async def test_a_human_can_say_that_the_backup_is_right(database: Database) -> None:
    """All that waited for it goes the usual way, through the brake; once."""
    await restored(database)
    await hold_restored(database)
    async with database.write() as connection:
        assert await brake.end_restoration(connection, "eve") == 5
        assert await brake.end_restoration(connection, "eve") == 0
        assert not await brake.is_restored(connection)
        entries = await recorded(connection)
        assert [e for e in entries if e[0] == "restore"] == [
            ("restore", "held", None, None),
            ("restore", "approved", None, "eve"),
        ]
    assert await hold_restored(database) == (set(), set())
    async with database.write() as connection:
        assert await brake.hold_room(connection, ROOM, "limit") == 2


async def test_what_was_held_for_the_limit_is_not_let_go_with_the_backup(
    database: Database,
) -> None:
    """That is another question, of removals and of accounts alike."""
    async with database.write() as connection:
        people = await staff(connection, "ann")
        await people.account("dan")
        await people.activity("dan", active=False)
        await brake.hold_room(connection, ROOM, "limit")
        await brake.hold_accounts(connection, 0)
    async with database.write() as connection:
        await brake.begin_restoration(connection)
        await brake.end_restoration(connection, "eve")
        assert await named(connection) == ["@bob:s", "@cat:s"]
        assert [one.user_id for one in await brake.held_accounts(connection)] == ["@dan:s"]


async def test_some_of_what_a_backup_speaks_of_can_be_decided(database: Database) -> None:
    """What a human let through is not held again for the same reason."""
    await restored(database)
    await hold_restored(database)
    async with database.write() as connection:
        shown = [one for one in await brake.held(connection, [ROOM]) if one.user_id == "@bob:s"]
        shown += await brake.held_accounts(connection)
        assert await brake.decide(connection, shown, "approved", "eve") == shown
    assert await hold_restored(database) == (REMOVALS - {(ROOM, "@bob:s")}, set())
    async with database.write() as connection:
        [due] = await memberships.due(connection, ROOM, 1.0, 9)
        assert (due.user_id, due.approved_by) == ("@bob:s", "eve")


async def test_an_approval_in_a_backup_is_none(database: Database) -> None:
    """It may have been carried out, and the opposite said since."""
    async with database.write() as connection:
        people = await staff(connection, "ann")
        await people.account("dan")
        await people.activity("dan", active=False)
        await brake.hold_room(connection, ROOM, "limit")
        await brake.hold_accounts(connection, 0)
        shown = [*await brake.held(connection), *await brake.held_accounts(connection)]
        await brake.decide(connection, shown, "approved", "eve")
    async with database.write() as connection:
        await brake.begin_restoration(connection)
        people = Directory(connection)
        assert {row["approved_by"] for row in await people.rows()} == {None}
        assert (await people.account_of("dan")).approved_by is None
        await groupmap.put(connection, [STAFF, OTHER])
    removals, held = await hold_restored(database)
    assert (removals, held) == (REMOVALS - {("!other", "@bob:s")}, {"@dan:s"})


async def test_an_approval_is_of_no_later_removal_of_who_came_back(database: Database) -> None:
    """They were deleted, which a human let be done, and are a user again."""
    async with database.write() as connection:
        people = Directory(connection)
        await people.account("ann", subject="ann")
        await people.deletes("ann", 100.0)
        await brake.hold_accounts(connection, await people.account_id("ann"))
        await brake.decide(connection, await brake.held_accounts(connection), "approved", "eve")
        assert (await people.account_of("ann")).approved_by == "eve"
        await people.user("again", subject="ann")
        again = await people.account_of("again")
        assert (again.user_id, again.approved_by) == ("@ann:s", None)


async def test_whose_grace_is_over_is_worked_on_at_once(database: Database) -> None:
    """However long their lock was put off."""
    async with database.write() as connection:
        people = Directory(connection)
        await people.account("ann")
        await people.deletes("ann", 10.0)
        ann = await people.account_of("ann")
        assert await accounts.fail(connection, ann, "refused", "no", 9e9)
        assert await accounts.due(connection, 200.0, 9, []) == []
        await accounts.expire(connection, connection.at + 100.0)
        [due] = await accounts.due(connection, 200.0, 9, [])
        assert (due.desired, due.problem, due.reason) == ("expired", None, None)


async def test_a_deleted_account_known_from_a_backup_does_not_expire(database: Database) -> None:
    """Its user may have come back since; a human says."""
    async with database.write() as connection:
        people = Directory(connection)
        await people.account("ann")
        await people.deletes("ann", 10.0)
    async with database.write() as connection:
        late = connection.at + 100.0
        await brake.begin_restoration(connection)
        assert not await accounts.any_expired(connection, late)
        await accounts.expire(connection, late)
        await brake.end_restoration(connection, "eve")
        assert await accounts.any_expired(connection, late)


# -- What the identity provider says since -------------------------------------


def sent(*names: str) -> str:
    """Return members as they are sent."""
    return orjson.dumps([{"value": name} for name in names]).decode()


@pytest.mark.parametrize("held_before", [False, True])
async def test_who_is_not_in_a_group_sent_whole_is_removed(
    database: Database, held_before: bool
) -> None:
    """Of that group's rooms: the identity provider says so now."""
    await restored(database)
    if held_before:
        await hold_restored(database)
    async with database.write() as connection:
        await brake.heard_of_group(connection, "staff")
    assert await hold_restored(database) == ({("!other", "@bob:s")}, {"@dan:s"})


async def test_only_members_that_were_spoken_of_are_removed(database: Database) -> None:
    """A group that loses one says nothing of the others whom the backup alone removes."""
    await restored(database)
    await hold_restored(database)
    async with database.write() as connection:
        await brake.heard_of_group(connection, "staff", sent("bob", "nobody"))
    assert await hold_restored(database) == (
        {(ROOM, "@cat:s"), ("!other", "@bob:s")},
        {"@dan:s"},
    )


async def test_a_group_speaks_only_for_itself(database: Database) -> None:
    """Where two groups once granted a room, both have to be heard of."""
    leads = Mapping("external_id", "ext-leads", ROOM)
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [STAFF, leads])
        await people.account("ann")
        for group in ("staff", "leads"):
            await people.group(group, "ann")
        await people.observed("join", "ann")
        for group in ("staff", "leads"):
            await people.members(group)
    async with database.write() as connection:
        await brake.begin_restoration(connection)
    expected = {(ROOM, "@ann:s")}
    assert await hold_restored(database) == (expected, set())
    async with database.write() as connection:
        await brake.heard_of_group(connection, "staff")
    assert await hold_restored(database) == (expected, set())
    async with database.write() as connection:
        await brake.heard_of_group(connection, "leads", sent("ann"))
    assert await hold_restored(database) == (set(), set())


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [("external_id", "ext-staff"), ("display_name", "st*"), ("group_id", "staff")],
)
async def test_a_group_speaks_by_whatever_line_names_it(
    database: Database, kind: Kind, pattern: str
) -> None:
    """Its externalId, a pattern of its name, or its id."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [Mapping(kind, pattern, ROOM)])
        await people.account("ann")
        await people.group("staff", "ann")
        await people.group("other")
        await people.observed("join", "ann")
        await people.members("staff")
    async with database.write() as connection:
        await brake.begin_restoration(connection)
        await brake.heard_of_group(connection, "other")
    assert await hold_restored(database) == ({(ROOM, "@ann:s")}, set())
    async with database.write() as connection:
        await brake.heard_of_group(connection, "staff")
    assert await hold_restored(database) == (set(), set())


async def test_a_group_does_not_speak_for_those_inside_it(database: Database) -> None:
    """Whose members may be as only the backup has them."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [STAFF])
        await people.account("ann")
        await people.group("inner", "ann")
        await people.group("staff", "inner")
        await people.observed("join", "ann")
        await people.members("inner")
    async with database.write() as connection:
        await brake.begin_restoration(connection)
    async with database.write() as connection:
        await brake.heard_of_group(connection, "staff")
    assert await hold_restored(database) == ({(ROOM, "@ann:s")}, set())


async def test_a_deleted_user_is_removed_from_all_rooms(database: Database) -> None:
    """The identity provider could not say it more clearly."""
    await restored(database)
    await hold_restored(database)
    async with database.write() as connection:
        await brake.heard_of_user(connection, "bob", is_gone=True)
        await Directory(connection).deletes("bob")
    assert await hold_restored(database) == ({(ROOM, "@cat:s")}, {"@dan:s"})


async def test_an_inactive_user_is_removed_from_all_rooms(database: Database) -> None:
    """And locked; of an active one nothing is said but that."""
    await restored(database)
    await hold_restored(database)
    async with database.write() as connection:
        people = Directory(connection)
        await people.activity("bob", active=True)
        await brake.heard_of_user(connection, "bob")
    assert await hold_restored(database) == (REMOVALS, {"@dan:s"})
    async with database.write() as connection:
        people = Directory(connection)
        for name in ("bob", "dan"):
            await people.activity(name, active=False)
            await brake.heard_of_user(connection, name)
    removals, held = await hold_restored(database)
    assert (removals, held) == ({(ROOM, "@cat:s")}, set())


async def test_who_is_granted_again_waits_no_more(database: Database) -> None:
    """The removal is off."""
    await restored(database)
    await hold_restored(database)
    async with database.write() as connection:
        people = Directory(connection)
        await people.members("staff", *NAMES)
        await people.activity("dan", active=True)
        await people.confirms("dan")
    assert await hold_restored(database) == ({("!other", "@bob:s")}, set())


async def test_copies_are_told_apart_by_a_number_that_only_grows(database: Database) -> None:
    """Whatever the homeserver has seen."""
    async with database.write() as connection:
        installation, number = await brake.generation(connection)
        assert (len(installation), number) == (32, None)
        assert await brake.next_generation(connection, 0) == 1
        assert await brake.next_generation(connection, 7) == 8
        assert await brake.generation(connection) == (installation, 8)


async def test_a_decision_for_another_room_decides_nothing_here(database: Database) -> None:
    """Removals are of a person from a room."""
    async with database.write() as connection:
        await staff(connection, "ann")
        await brake.hold_room(connection, ROOM, "limit")
        [bob, _] = await brake.held(connection)
        elsewhere = Held("!other", bob.account_id, bob.user_id, None, None, bob.tick, "limit")
        assert await brake.decide(connection, [elsewhere], "approved", "eve") == []
        await observed.observe(connection, ROOM, ["@bob:s", "@cat:s"], [])
        assert await named(connection) == ["@bob:s", "@cat:s"]
