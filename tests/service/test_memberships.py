"""Which work may start, and how it ends."""

from dataclasses import replace
from typing import Any

import pytest

from scim_matrix.groupmap import Mapping
from scim_matrix.membership import Membership, Observed
from scim_matrix.store import (
    accounts,
    binding,
    brake,
    console,
    groupmap,
    memberships,
    observed,
    record,
    resources,
    rooms,
    unanswered,
    views,
)
from scim_matrix.store.accounts import Confirmation, Disablement, Problem, Wanted, Written
from scim_matrix.store.database import Connection, Database, Place
from tests.service import oracle
from tests.service.directory import ROOM, TO_ALL, Directory, profile

NOW = 1.0
TO_ONE = Mapping("external_id", "ext-G", "!few")


async def find(connection: Connection) -> list[dict[str, Any]]:
    """Return what is recorded of a room."""
    return await record.find(connection, users=None, rooms=["!few"], since=0, limit=9)


async def granted(connection: Connection) -> tuple[Directory, str]:
    """Have Ann be granted a room; return who is who, and her group's SCIM id."""
    people = Directory(connection)
    await groupmap.put(connection, [TO_ONE])
    return people, await people.group("G", await people.account("ann"))


async def asked(people: Directory, connection: Connection) -> Membership:
    """Have what is to be done for Ann in a room be asked for; return what that is."""
    pair = await people.membership("!few", "ann")
    await memberships.begin(connection, [pair])
    return pair


async def granted_again(connection: Connection) -> tuple[Directory, Membership]:
    """Have Ann be removed without an answer, and granted the room again.

    Returns who is who, and her join, which is under way.
    """
    people, group = await granted(connection)
    await people.observed("join", "ann", room_id="!few")
    await people.members(group)
    await asked(people, connection)
    await people.members(group, "ann")
    return people, await asked(people, connection)


async def let_through(connection: Connection) -> Directory:
    """Have Ann's removal from a room be held, and Eve approve it; return who is who."""
    people, group = await granted(connection)
    await people.observed("join", "ann", room_id="!few")
    await people.members(group)
    await brake.hold_room(connection, "!few", "limit")
    await brake.decide(connection, await brake.held(connection), "approved", "eve")
    return people


async def test_a_join_waits_until_the_account_is_active(database: Database) -> None:
    """Nobody is joined before the account exists, nor before it is unlocked again."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL])
        ann = await people.user("ann")
        assert await oracle.rooms_due(connection, NOW, []) == []

        await people.binds(ann, usable=False)
        assert await oracle.rooms_due(connection, NOW, []) == []
        assert await memberships.due(connection, ROOM, NOW, 10) == []

        await people.confirms(ann)
        assert await oracle.rooms_due(connection, NOW, []) == [ROOM]
        assert [p.user_id for p in await memberships.due(connection, ROOM, NOW, 10)] == ["@ann:s"]


async def test_what_is_overdue_hides_no_later_work(database: Database) -> None:
    """A person who is left alone for long, or whose room is, delays nobody's next try."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL])
        for name, next_try in (("ann", 100.0), ("bob", 200.0)):
            await people.account(name)
            pair = await people.membership(ROOM, name)
            await memberships.fail(connection, pair, "unavailable", "away", next_try)
        assert await oracle.next_due(connection, 99.0) == 100.0
        assert await oracle.next_due(connection, 150.0) == 200.0
        assert await oracle.next_due(connection, 200.0) is None


async def test_rooms_with_little_work_go_first(database: Database) -> None:
    """One person's change does not wait behind an import; busy rooms are left out."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [Mapping("everyone", "", "!many"), TO_ONE])
        ann = await people.account("ann")
        await people.account("bob")
        await people.group("G", ann)
        assert await oracle.rooms_due(connection, NOW, []) == ["!few", "!many"]
        assert await oracle.rooms_due(connection, NOW, ["!few"]) == ["!many"]


async def test_nothing_is_done_for_an_account_that_is_not_known(database: Database) -> None:
    """Neither joined nor removed: it may be somebody else's."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ONE])
        ann = await people.user("ann")
        group = await people.group("G", ann)
        await people.members(group)
        assert [r["todo"] for r in await people.rows()] == ["leave"]
        assert await oracle.rooms_due(connection, NOW, []) == []
        pair = await people.membership("!few", "ann")
        await memberships.fail(connection, pair, "unavailable", "away", 100.0)
        assert await oracle.next_due(connection, NOW) is None


async def test_nothing_seen_of_an_account_that_is_gone_counts_for_the_next(
    database: Database,
) -> None:
    """It is joined anew: who was in a room was the other one."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL])
        ann = await people.account("ann")
        await people.observed("join", "ann")
        assert (await people.row("ann"))["todo"] is None
        await binding.never_made(connection, await people.account_of(ann))
        assert (await people.row("ann"))["observed"] is None


async def test_what_went_wrong_before_counts_no_more_once_it_is_so(database: Database) -> None:
    """What fails next is tried again as soon as what fails for the first time."""
    async with database.write() as connection:
        people = Directory(connection)
        ann = await people.account("ann")
        account_id = await people.account_id(ann)
        await people.activity(ann, active=False)
        for _ in range(3):
            await accounts.fail(connection, await people.account_of("ann"), "refused", "no", 0.0)
        [due] = await accounts.due(connection, NOW, 9, [])
        assert due.attempts == 3
        assert await accounts.confirm(connection, due, Confirmation(Disablement(), due.written))
        found = await accounts.get(connection, account_id)
        assert found is not None
        assert (found.todo, found.attempts) == (None, 0)


async def test_what_went_wrong_before_somebody_came_back_is_told_no_more(
    database: Database,
) -> None:
    """Neither as the reason why nor as something to mend."""
    async with database.write() as connection:
        people = Directory(connection)
        ann = await people.account("ann")
        await people.deletes(ann, 100.0)
        former = await accounts.get(connection, await people.account_id("ann"))
        assert former is not None
        assert await accounts.fail(connection, former, "refused", "no", 1e12, "mend it")
        await people.user("ann")
        found = await people.account_of(ann)
        assert (found.id, found.user_id, found.attempts) == (former.id, "@ann:s", 0)
        of_account = "SELECT problem, reason, cure, next_try FROM account WHERE scim_id = 'ann'"
        [row] = await connection.execute_fetchall(of_account)
        assert list(row) == [None, None, None, 0]


async def test_an_account_that_never_was_is_none_that_the_service_disabled(
    database: Database,
) -> None:
    """Whatever was believed of it: one that is made later under the name begins anew."""
    disabled = "locked_by_us", "suspended_by_us", "deactivated_by_us"
    of_account = "SELECT * FROM account WHERE id = :id"
    async with database.write() as connection:
        people = Directory(connection)
        ann = await people.account_of(await people.account("ann"))
        await connection.execute_fetchall(
            f"UPDATE account SET {', '.join(f'{name} = TRUE' for name in disabled)},"
            " by_hand = 'locked' WHERE id = :id",
            {"id": ann.id},
        )
        await binding.never_made(connection, ann)
        [found] = await connection.execute_fetchall(of_account, {"id": ann.id})
        assert not any(found[name] for name in (*disabled, "usable"))
        told = ("user_id", "bound_by", "confirmed", "by_hand", "doing", "problem")
        assert {found[name] for name in told} == {None}
        assert found["proposed"] == "@ann:s"


async def test_a_room_that_cannot_be_used_is_left_until_it_can(database: Database) -> None:
    """What is wrong with it is asked once a comparison, not once a person."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL])
        await people.account("ann")
        await rooms.unusable(connection, ROOM, "no power")
        assert await oracle.rooms_due(connection, NOW, []) == []
        await observed.observe(connection, ROOM, [], [])
        assert await oracle.rooms_due(connection, NOW, []) == [ROOM]


async def test_an_approval_for_somebody_whose_account_is_in_doubt_waits(
    database: Database,
) -> None:
    """It is no work before it is known whose that is, so that nobody looks again and again."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ONE])
        group = await people.group("G", await people.account("ann"))
        await people.observed("join", "ann", room_id="!few")
        await people.members(group)
        assert await brake.hold_room(connection, "!few", "limit") == 1
        await brake.decide(connection, await brake.held(connection), "approved", "eve")
        assert await oracle.rooms_due(connection, NOW, []) == ["!few"]
        account = await people.account_of("ann")
        await binding.unbind(connection, account, "@ann:s", "taken", "mend it", 1e12)
        assert (await people.row("ann", "!few"))["approved_by"] == "eve"
        assert await oracle.rooms_due(connection, NOW, []) == []


@pytest.mark.parametrize("active", [True, False])
async def test_what_a_request_may_have_done_is_looked_at_whatever_is_wanted_by_then(
    database: Database, active: bool
) -> None:
    """Its answer was lost, and the user is to be again as they were before."""
    async with database.write() as connection:
        people = Directory(connection)
        ann = await people.account("ann")
        assert (await people.account_of(ann)).todo is None
        other = profile("anna") if active else profile("ann")
        said = Wanted("active" if active else "disabled", other, "@ann:s")
        await accounts.change(connection, ann, said, "externalId")
        does = Disablement(locked=not active)
        account = await people.account_of(ann)
        assert await accounts.begin(connection, account, does, None if active else "lock")
        await people.activity(ann, active=True)
        found = await people.account_of(ann)
        assert (found.profile, found.todo) == (profile("ann"), "provision")


@pytest.mark.parametrize("standing", ["dropped", "suspended"])
async def test_an_approval_in_a_room_that_is_mapped_no_more_is_for_nobody_else(
    database: Database, standing: str
) -> None:
    """Whom it is for leaves, whoever else was to leave waits until the map says so again."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ONE])
        ann = await people.account("ann")
        group = await people.group("G", ann, await people.account("bob"))
        for name in ("ann", "bob"):
            await memberships.reach(connection, await people.membership("!few", name), "join")
        await people.members(group, ann)
        assert await brake.hold_room(connection, "!few", "limit") == 1
        await people.members(group)
        await brake.decide(connection, await brake.held(connection), "approved", "grace")
        await connection.execute_fetchall(
            "UPDATE mapping SET standing = :standing", {"standing": standing}
        )
        due = await memberships.due(connection, "!few", connection.at + 1, 10)
        assert [pair.user_id for pair in due] == ["@bob:s"]


@pytest.mark.parametrize("observed", ["join", "ban"])
async def test_what_is_so_already_is_no_work(database: Database, observed: Observed) -> None:
    """Who is in the room is not joined again, and who is banned is left banned."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL])
        await people.account("ann")
        await memberships.reach(connection, await people.membership(ROOM, "ann"), observed)
        assert (await people.membership(ROOM, "ann")).todo is None
        assert await oracle.rooms_due(connection, NOW, []) == []


async def test_the_banned_are_not_removed(database: Database) -> None:
    """Somebody banned stays so when the grant ends."""
    async with database.write() as connection:
        people, group = await granted(connection)
        await memberships.reach(connection, await people.membership("!few", "ann"), "ban")
        await people.members(group)
        pair = await people.membership("!few", "ann")
        assert (pair.state, pair.todo) == ("revoked", None)


async def test_an_unknown_membership_is_work_until_it_is_known(database: Database) -> None:
    """A request may have been in flight when the service died: it is asked again, also to go."""
    async with database.write() as connection:
        people, group = await granted(connection)
        await memberships.reach(connection, await people.membership("!few", "ann"), "join")
        await asked(people, connection)
        assert (await people.membership("!few", "ann")).todo == "join"
        await people.members(group)
        assert (await people.membership("!few", "ann")).todo == "leave"


async def test_a_plan_that_is_overtaken_is_not_carried_out(database: Database) -> None:
    """The identity provider may have changed its mind since the plan was made."""
    async with database.write() as connection:
        people, group = await granted(connection)
        planned = await people.membership("!few", "ann")
        assert await memberships.is_as_planned(connection, planned)
        await people.members(group)
        assert not await memberships.is_as_planned(connection, planned)
        assert await memberships.is_as_planned(connection, await people.membership("!few", "ann"))


async def test_an_invitation_is_sent_once(database: Database) -> None:
    """Who is invited is waited for."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [replace(TO_ALL, invite=True)])
        await people.account("ann")
        pair = await people.membership(ROOM, "ann")
        assert pair.todo == "invite"
        await memberships.reach(connection, pair, "invite")
        assert (await people.membership(ROOM, "ann")).todo is None


async def test_power_waits_for_the_membership_that_it_belongs_to(database: Database) -> None:
    """A level is given to who is in the room, and taken back once they are out."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [replace(TO_ONE, power=50)])
        ann = await people.account("ann")
        group = await people.group("G", ann)
        assert await memberships.power_due(connection, "!few", NOW) == []
        await memberships.reach(connection, await people.membership("!few", "ann"), "join")
        [due] = await memberships.power_due(connection, "!few", NOW)
        assert (due.power, due.power_given) == (50, None)
        await memberships.reach_power(connection, [(due, 50, None)])
        assert await memberships.power_due(connection, "!few", NOW) == []

        await people.members(group)
        assert await memberships.power_due(connection, "!few", NOW) == []
        await memberships.reach(connection, await people.membership("!few", "ann"), "leave")
        [due] = await memberships.power_due(connection, "!few", NOW)
        assert (due.power, due.power_given) == (None, 50)


async def test_a_level_whose_answer_was_lost_is_looked_at_again(database: Database) -> None:
    """Also where the grant ended meanwhile: somebody may have it now."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [replace(TO_ONE, power=50)])
        ann = await people.account("ann")
        group = await people.group("G", ann)
        await memberships.reach(connection, await people.membership("!few", "ann"), "join")
        pair = await people.membership("!few", "ann")
        await memberships.try_power(connection, [(pair, 50, 10)])
        await people.members(group)
        await people.observed("leave", "ann", room_id="!few")
        [due] = await memberships.power_due(connection, "!few", NOW)
        assert (due.power_tried, due.power_before) == (50, 10)


async def test_what_was_sent_for_one_is_not_looked_for_in_another(database: Database) -> None:
    """Neither a level that is on its way nor one that was reached, nor in another room."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [replace(TO_ONE, power=50), TO_ALL])
        await people.group("G", await people.account("ann"), await people.account("bob"))
        await people.observed("join", "ann", "bob", room_id="!few")
        pair = await people.membership("!few", "ann")
        await memberships.try_power(connection, [(pair, 50, 10)])
        tried = {(r["room_id"], r["user_id"]): r["power_tried"] for r in await people.rows()}
        assert tried.pop(("!few", "@ann:s")) == 50
        assert set(tried.values()) == {None}
        await memberships.reach_power(connection, [(pair, 50, 10)])
        given = {(r["room_id"], r["user_id"]): r["power_given"] for r in await people.rows()}
        assert given.pop(("!few", "@ann:s")) == 50
        assert set(given.values()) == {None}


async def test_a_level_that_another_account_may_have_is_looked_at_there(
    database: Database,
) -> None:
    """Whoever is linked to another account has no level yet that the service would take."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [replace(TO_ONE, power=50)])
        await people.group("G", await people.account("ann"))
        await people.observed("join", "ann", room_id="!few")
        pair = await people.membership("!few", "ann")
        await memberships.try_power(connection, [(pair, 50, 10)])
        account = await people.account_of("ann")
        assert await binding.link(connection, account, "@annie:s", "eve") is None
        tried = {row["user_id"]: row["power_tried"] for row in await people.rows("!few")}
        assert tried == {"@ann:s": 50, "@annie:s": None}


async def test_whoever_comes_is_granted_the_room_by_no_newer_word(database: Database) -> None:
    """That they are seen to be in it says nothing of what the identity provider wants."""
    async with database.write() as connection:
        people, _ = await granted(connection)
        said = (await people.row("ann", "!few"))["tick"]
    async with database.write() as connection:
        people = Directory(connection)
        seen = {"protected": False, "respected": True}
        await observed.observe_one(connection, "!few", "@ann:s", "join", **seen)
        assert (await people.row("ann", "!few"))["tick"] == said
        await observed.observe_one(connection, "!few", "@ann:s", "leave", **seen)
        assert (await people.row("ann", "!few"))["tick"] > said


async def test_whoever_is_out_by_an_action_is_held_no_more(database: Database) -> None:
    """Though the homeserver did it after they were held."""
    async with database.write() as connection:
        people, group = await granted(connection)
        await people.observed("join", "ann", room_id="!few")
        await people.members(group)
        assert await brake.hold_room(connection, "!few", "limit") == 1
        await people.observed("leave", "ann", room_id="!few")
        row = await people.row("ann", "!few")
        assert (row["brake"], row["held_because"], row["held_tick"]) == ("free", None, None)


async def test_a_join_is_for_an_account_that_can_be_used(database: Database) -> None:
    """Not for one that a hand has deactivated since it was planned."""
    async with database.write() as connection:
        people, _ = await granted(connection)
        [pair] = await memberships.due(connection, "!few", NOW, 9)
        assert await memberships.is_as_planned(connection, pair)
        ann = await people.account_of("ann")
        seen = Confirmation(Disablement(), Written(), "deactivated", usable=False)
        assert await accounts.confirm(connection, ann, seen)
        assert not await memberships.is_as_planned(connection, pair)


async def test_whoever_let_a_removal_through_has_said_so_of_one(database: Database) -> None:
    """Once it is done nobody has let anything through."""
    async with database.write() as connection:
        people = await let_through(connection)
        assert (await people.row("ann", "!few"))["approved_by"] == "eve"
        await people.observed("leave", "ann", room_id="!few")
        row = await people.row("ann", "!few")
        assert (row["brake"], row["approved_by"]) == ("free", None)


async def test_a_rest_ends_where_somebody_is_found_in_a_room(database: Database) -> None:
    """What there is to do for them waits no longer; nobody else is tried before their time.

    But whoever was refused, since the room may be otherwise by now.
    """
    problems: dict[str, memberships.Problem]
    problems = {"ann": "unavailable", "bob": "unavailable", "cid": "refused"}
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [replace(TO_ONE, power=50)])
        await people.group("G", *[await people.account(name) for name in problems])
        for name, problem in problems.items():
            pair = await people.membership("!few", name)
            await memberships.fail(connection, pair, problem, "no", 100.0)
        await observed.observe(connection, "!few", ["@ann:s"], [])
        assert [p.user_id for p in await memberships.power_due(connection, "!few", NOW)] == [
            "@ann:s"
        ]
        due = await memberships.due(connection, "!few", NOW, 9)
        assert [pair.user_id for pair in due] == ["@cid:s"]


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("ours", [True, False])
async def test_a_removal_may_be_carried_out_after_a_look(
    database: Database, heard: bool, ours: bool
) -> None:
    """Somebody who was found in the room since is out by it where the service is heard to do it."""
    async with database.write() as connection:
        people, group = await granted(connection)
        await people.observed("join", "ann", room_id="!few")
        await people.members(group)
        pair = await asked(people, connection)
        await memberships.fail(connection, pair, "unavailable", "no", connection.at + 10.0)
        await observed.observe(connection, "!few", ["@ann:s"], [])
        if heard:
            seen = {"protected": False, "respected": False, "ours": ours, "is_late_removal": ours}
            await observed.observe_one(connection, "!few", "@ann:s", "leave", **seen)
        else:
            await observed.observe(connection, "!few", [], [])
        done = [row for row in await find(connection) if row["outcome"] == "done"]
        assert [row["detail"] for row in done] == ["its answer was lost"] * (ours and heard)
        await observed.observe(connection, "!few", [], [])
        assert [row for row in await find(connection) if row["outcome"] == "done"] == done


async def test_whoever_is_banned_is_out_by_no_removal(database: Database) -> None:
    """Neither now nor once they are unbanned; and nothing that was let through is left of it."""
    async with database.write() as connection:
        people = await let_through(connection)
        pair = await asked(people, connection)
        await memberships.fail(connection, pair, "unavailable", "no", connection.at + 10.0)
        seen = {"protected": False, "respected": False}
        await observed.observe_one(connection, "!few", "@ann:s", "ban", **seen)
        assert (await people.row("ann", "!few"))["brake"] == "free"
        await observed.observe(connection, "!few", [], [], {"ban": []})
        assert [row["outcome"] for row in await find(connection)] == ["held", "approved"]


async def test_what_is_under_way_is_told_by_its_answer(database: Database) -> None:
    """Its own event is heard of before that."""
    async with database.write() as connection:
        people, group = await granted(connection)
        await people.observed("join", "ann", room_id="!few")
        await people.members(group)
        pair = await asked(people, connection)
        seen = {"protected": False, "respected": False, "ours": True, "is_late_removal": True}
        await observed.observe_one(connection, "!few", "@ann:s", "leave", **seen)
        assert await find(connection) == []
        assert await memberships.reach(connection, pair, "leave") == "leave"


@pytest.mark.parametrize("answered", [True, False])
async def test_a_removal_is_told_though_a_join_is_under_way(
    database: Database, answered: bool
) -> None:
    """It had no answer, and the room is granted again: it was done, whenever that is heard."""
    async with database.write() as connection:
        _, pair = await granted_again(connection)
        assert pair.todo == "join"
        if answered:
            await memberships.reach(connection, pair, "join")
        await observed.removal_heard(connection, "!few", "@ann:s", latest=False)
        assert [row["detail"] for row in await find(connection)] == ["its answer was lost"]


@pytest.mark.parametrize("lines", [[TO_ONE], []])
async def test_who_may_have_been_invited_is_not_known_to_be_out(
    database: Database, lines: list[Mapping]
) -> None:
    """Whatever the map says by then: not before it was asked who is invited."""
    async with database.write() as connection:
        people, _ = await granted(connection)
        pair = await asked(people, connection)
        await memberships.fail(connection, pair, "unavailable", "no", connection.at + 10.0)
        await groupmap.put(connection, lines)
        assert await observed.others(connection, "!few") == ["invite"]
        await observed.observe(connection, "!few", [], [], {})
        assert (await people.row("ann", "!few"))["observed"] is None
        await observed.observe(connection, "!few", [], [], {"invite": ["@ann:s"]})
        assert (await people.row("ann", "!few"))["observed"] == "invite"


async def test_an_invitation_may_come_after_the_removal(database: Database) -> None:
    """It had no answer, and whoever is to leave was out already."""
    async with database.write() as connection:
        people, group = await granted(connection)
        await asked(people, connection)
        await people.members(group)
        pair = await asked(people, connection)
        await memberships.reach(connection, pair, "leave")
        assert await observed.others(connection, "!few") == ["invite"]
        await observed.observe(connection, "!few", [], [], {"invite": ["@ann:s"]})
        assert (await people.membership("!few", "ann")).todo == "leave"


@pytest.mark.parametrize("in_vain", [True, False])
async def test_only_an_invitation_that_had_no_answer_is_asked_for(
    database: Database, in_vain: bool
) -> None:
    """The first may come late though the second was answered."""
    async with database.write() as connection:
        people, _ = await granted(connection)
        pair = await asked(people, connection)
        if in_vain:
            # The service was killed.
            pair = await asked(people, connection)
        await memberships.reach(connection, pair, "join")
        assert await observed.others(connection, "!few") == ["invite"] * in_vain


async def test_a_withdrawal_that_was_not_done_is_told_by_nobody(database: Database) -> None:
    """It had no answer, and the room is granted again: it is asked who is invited."""
    async with database.write() as connection:
        people, group = await granted(connection)
        await people.observed("invite", "ann", room_id="!few")
        await people.members(group)
        await asked(people, connection)
        await people.members(group, "ann")
        assert await observed.others(connection, "!few") == ["invite"]
        await observed.observe(connection, "!few", [], [], {})
        assert (await people.row("ann", "!few"))["observed"] is None
        await observed.observe(connection, "!few", [], [], {"invite": ["@ann:s"]})
        await observed.observe(connection, "!few", [], [], {"invite": []})
        assert (await people.row("ann", "!few"))["observed"] == "leave"
        assert await find(connection) == []


@pytest.mark.parametrize("problem", ["refused", "unavailable"])
async def test_a_removal_is_still_to_be_told_though_the_join_is_refused(
    database: Database, problem: memberships.Problem
) -> None:
    """What was refused says nothing of what had no answer before."""
    async with database.write() as connection:
        _, pair = await granted_again(connection)
        await memberships.fail(connection, pair, problem, "no", 9e9)
        await observed.observe(connection, "!few", [], [], {"invite": []})
        assert [row["detail"] for row in await find(connection)] == ["its answer was lost"]


@pytest.mark.parametrize("is_out", [True, False])
async def test_a_removal_without_an_answer_is_of_the_account_it_was_asked_for(
    database: Database, is_out: bool
) -> None:
    """Not of the one that its user has by then, which nobody has asked about."""
    async with database.write() as connection:
        people, _ = await granted_again(connection)
        account = await people.account_of("ann")
        assert await binding.bind(connection, account, "@anna:s", "human") is None
        joined = [] if is_out else ["@ann:s"]
        await observed.observe(connection, "!few", joined, [], {"invite": []})
        assert [row["user_id"] for row in await find(connection)] == ["@ann:s"] * is_out


async def test_who_is_invited_once_unbanned_is_not_taken_for_out(database: Database) -> None:
    """Both lists are asked for at once."""
    async with database.write() as connection:
        people, group = await granted(connection)
        await people.observed("ban", "ann", room_id="!few")
        await people.members(group)
        await observed.observe(connection, "!few", [], [], {"ban": [], "invite": ["@ann:s"]})
        assert (await people.membership("!few", "ann")).todo == "leave"


async def test_a_removal_that_was_answered_is_not_told_again_while_a_join_is_under_way(
    database: Database,
) -> None:
    """Its own event is heard only then."""
    async with database.write() as connection:
        people, _ = await granted(connection)
        await people.observed("leave", "ann", room_id="!few")
        await asked(people, connection)
        await observed.removal_heard(connection, "!few", "@ann:s", latest=True)
        assert await find(connection) == []


async def test_whoever_leaves_and_was_held_has_power_to_be_taken(database: Database) -> None:
    """What they are to do no more in the room is work at once."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [replace(TO_ONE, power=50)])
        group = await people.group("G", await people.account("ann"))
        await people.observed("join", "ann", room_id="!few")
        pair = await people.membership("!few", "ann")
        await memberships.reach_power(connection, [(pair, 50, None)])
        await people.members(group)
        assert await brake.hold_room(connection, "!few", "limit") == 1
        seen = {"protected": False, "respected": False}
        assert await observed.observe_one(connection, "!few", "@ann:s", "leave", **seen)


@pytest.mark.parametrize("seen", ["invite", "knock", "ban"])
async def test_a_removal_whose_answer_was_lost_is_done_where_somebody_is_out(
    database: Database, seen: Observed
) -> None:
    """Not where they were seen to be invited, banned or at the door since: that was no removal."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ONE])
        names = ("ann", "bob")
        for name in ("cat", *names):
            await people.account(name)
        group = await people.group("G", "cat", *names)
        await people.observed("join", "cat", *names, room_id="!few")
        await people.members(group)
        # Whose answer is here is told already.
        await people.observed("leave", "cat", room_id="!few")
        pairs = [await people.membership("!few", name) for name in names]
        await memberships.begin(connection, pairs)
        await observed.observe_one(
            connection, "!few", "@ann:s", seen, protected=False, respected=False
        )
        await observed.observe(connection, "!few", [], [])
        said = await find(connection)
        assert [(row["user_id"], row["kind"]) for row in said] == [("@bob:s", "kick")]


async def test_what_would_be_done_in_a_room_is_shown_in_its_turn(database: Database) -> None:
    """Removals first, then whatever was granted last."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ONE])
        group = await people.group("G", await people.account("ann"))
        await people.observed("join", "ann", room_id="!few")
        await people.members(group, await people.account("bob"))
        await people.members(group, "bob", await people.account("cat"))
        await connection.execute_fetchall("UPDATE membership SET since = account_id")
        shown = await views.pending_memberships(connection)
        assert [(pair.user_id, pair.todo) for pair in shown] == [
            ("@ann:s", "leave"),
            ("@cat:s", "join"),
            ("@bob:s", "join"),
        ]


async def test_no_rest_outlasts_the_longest_one(database: Database) -> None:
    """A clock that was far ahead when something failed keeps nobody waiting for years."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL])
        ann = await people.account("ann")
        pair = await people.membership(ROOM, "ann")
        await memberships.fail(connection, pair, "refused", "no", 1e12)
        await accounts.fail(connection, await people.account_of(ann), "refused", "no", 1e12)
        await memberships.bound_rests(connection, 50.0)
        assert await oracle.rooms_due(connection, 50.0, []) == [ROOM]
        rests = await connection.execute_fetchall("SELECT next_try FROM account")
        assert [row["next_try"] for row in rests] == [50.0]


async def test_only_what_a_dry_run_withheld_is_tried_at_once(database: Database) -> None:
    """Once it is switched off; what was refused rests on."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL])
        problems: dict[str, memberships.Problem] = {"ann": "withheld", "bob": "refused"}
        for name, problem in problems.items():
            await people.account(name)
            pair = await people.membership(ROOM, name)
            await memberships.fail(connection, pair, problem, "no", 1e9)
        await memberships.retry(connection, "withheld")
        assert [p.user_id for p in await memberships.due(connection, ROOM, NOW, 9)] == ["@ann:s"]


async def test_counts_tell_what_is_shown(database: Database) -> None:
    """Pending, failing, held, spared and conflicting are told apart."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL])
        for name in ("ann", "bob", "cat", "dan"):
            await people.account(name)
        await memberships.fail(
            connection, await people.membership(ROOM, "bob"), "refused", "no", 1e9
        )
        await memberships.fail(
            connection, await people.membership(ROOM, "cat"), "spared", "admin", 1e9
        )
        await memberships.reach(connection, await people.membership(ROOM, "dan"), "join")
        eve = await people.user("eve")
        await accounts.fail(connection, await people.account_of(eve), "conflict", "taken", 1e9)
        await observed.observe(connection, "!else", ["@stranger:s"], [])
        counts = await memberships.counts(connection)
    expected = {
        "pendingPairs": 2,
        "failingPairs": 1,
        "pendingAccounts": 0,
        "failingAccounts": 0,
        "withheldPairs": 0,
        "withheldAccounts": 0,
        "failingRooms": 0,
        "heldPairs": 0,
        "heldAccounts": 0,
        "conflictingAccounts": 1,
        "sparedPairs": 1,
        "sparedAccounts": 0,
        "notFollowed": 0,
        "suspendedMappings": 0,
        "unmanagedMembers": 1,
    }
    assert expected == counts


async def test_who_was_deactivated_has_not_left_by_themselves(database: Database) -> None:
    """Whom the service brings back joins again, though their absence was seen before."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL])
        ann = await people.account("ann")
        await people.account("bob")
        await people.observed("join", "ann", "bob")
        await people.activity(ann, active=False)
        assert await brake.hold_room(connection, ROOM, "limit") == 1
        deactivated = Confirmation(Disablement(deactivated=True), Written())
        assert await accounts.confirm(connection, await people.account_of(ann), deactivated)
        await people.activity(ann, active=True)
        assert (await observed.observe(connection, ROOM, ["@bob:s"], [])).missing == ["@ann:s"]
        await observed.respect(connection, ROOM, ["@ann:s"])
        assert (await people.membership(ROOM, "ann")).todo is None
        active = Confirmation(Disablement(), Written(), usable=True)
        again = replace(active, brings_back=True)
        other = replace(await people.account_of(ann), user_id="@other:s")
        assert not await accounts.confirm(connection, other, again)
        assert (await people.membership(ROOM, "ann")).todo is None
        assert await accounts.confirm(connection, await people.account_of(ann), again)
        assert (await people.membership(ROOM, "ann")).todo == "join"
        # Nobody else's place is doubted for that, nor whenever an account is as it should be.
        assert await accounts.confirm(connection, await people.account_of("bob"), active)
        assert (await people.membership(ROOM, "bob")).todo is None


async def test_who_is_brought_back_is_known_to_be_out_where_they_were(database: Database) -> None:
    """Whoever is banned stays so, and nobody is asked to leave what they had left before."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ALL, TO_ONE])
        ann = await people.account("ann")
        group = await people.group("G", ann)
        await people.observed("ban", "ann")
        await people.members(group)
        await people.observed("leave", "ann", room_id="!few")
        await people.activity(ann, active=False)
        deactivated = Confirmation(Disablement(deactivated=True), Written())
        assert await accounts.confirm(connection, await people.account_of(ann), deactivated)
        await people.activity(ann, active=True)
        active = Confirmation(Disablement(), Written(), usable=True)
        assert await accounts.confirm(connection, await people.account_of(ann), active)
        assert {row["room_id"]: row["observed"] for row in await people.rows()} == {
            ROOM: "ban",
            "!few": "leave",
        }


async def test_who_would_stay_in_a_closed_room_is_who_is_granted_it(database: Database) -> None:
    """And whom a human let stay there; nobody else who has an account."""
    async with database.write() as connection:
        people, _ = await granted(connection)
        await people.account("bob")
        inside = ["@ann:s", "@bob:s"]
        assert await console.staying(connection, "!few", inside) == {"@ann:s"}
        await people.observed("join", "ann", room_id="!few")
        assert await console.staying(connection, "!other", inside) == set()


async def test_whoever_is_found_to_be_a_user_is_unmanaged_where_nobody_grants(
    database: Database,
) -> None:
    """In the rooms that they are granted they are so no more, before these are compared."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [TO_ONE, TO_ALL])
        await people.group("G", await people.account("ann"))
        bob = await people.user("bob")
        for room_id in ("!few", ROOM):
            sql = "INSERT INTO unmanaged_member (room_id, user_id) VALUES (:room_id, '@bob:s')"
            await connection.execute_fetchall(sql, {"room_id": room_id})
        await people.binds(bob, usable=True)
        assert [await people.unmanaged(room_id) for room_id in ("!few", ROOM)] == [["@bob:s"], []]


@pytest.mark.parametrize("problem", [None, "unavailable", "conflict", "refused"])
async def test_nobody_leaves_a_closed_room_before_all_who_are_granted_it_are_known(
    database: Database, problem: Problem | None
) -> None:
    """Whoever is there may be one of them; but nobody waits for what a human has to settle."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [replace(TO_ALL, exclusive=True)])
        await people.user("ann")
        await people.account("bob")
        await observed.observe(connection, ROOM, ["@bob:s", "@eve:s"], [])
        await people.activity("bob", active=False)
        assert (await people.row("eve"))["todo"] == "leave"
        if problem is not None:
            await accounts.fail(connection, await people.account_of("ann"), problem, "?", 0.0)
        # Whose rest ends this very moment is to leave as others are.
        now = connection.at
        eve = await people.membership(ROOM, "eve")
        await memberships.fail(connection, eve, "refused", "no", now)
        await memberships.wait_for_identities(connection, ROOM, "wait", now + 1.0)
        waiting = {"@eve:s"} if problem in (None, "unavailable") else set()
        assert ((await people.row("eve"))["problem"] == "unavailable") is bool(waiting)
        leaving = await memberships.due(connection, ROOM, now, 9)
        # Bob is to leave whoever else is granted it.
        assert {pair.user_id for pair in leaving} == {"@bob:s"} | ({"@eve:s"} - waiting)


async def test_a_former_user_who_is_looked_for_is_asked_about_as_often_as_a_new_one(
    database: Database,
) -> None:
    """However often it failed before they were deleted."""
    async with database.write() as connection:
        people = Directory(connection)
        await people.user("ann")
        account_id = await people.account_id("ann")
        for _ in range(3):
            await accounts.fail(
                connection, await people.account_of("ann"), "unavailable", "away", 0.0
            )
        await people.deletes("ann")
        [due] = await accounts.due(connection, NOW, 9, [])
        assert (due.id, due.attempts) == (account_id, 0)


async def test_what_a_hand_did_to_the_account_before_is_not_said_of_the_next(
    database: Database,
) -> None:
    """Whoever is linked to another account is joined by that one."""
    async with database.write() as connection:
        people = Directory(connection)
        ann = await people.account("ann")
        account = await people.account_of(ann)
        by_hand = Confirmation(Disablement(), Written(), by_hand="deactivated")
        assert await accounts.confirm(connection, account, by_hand)
        hands = "SELECT by_hand FROM account WHERE scim_id = 'ann'"
        assert [row["by_hand"] for row in await connection.execute_fetchall(hands)] == [
            "deactivated"
        ]
        assert await binding.link(connection, account, "@annie:s", "eve") is None
        assert [row["by_hand"] for row in await connection.execute_fetchall(hands)] == [None]


@pytest.mark.parametrize("invite", [True, False])
async def test_only_whoever_is_joined_again_is_looked_at_before(
    database: Database, invite: bool
) -> None:
    """Who left a room of invitations stays out, whatever became of the account."""
    async with database.write() as connection:
        people = Directory(connection)
        await groupmap.put(connection, [replace(TO_ALL, invite=invite)])
        await people.account("ann")
        await people.observed("join", "ann")
        unexplained = await observed.observe(connection, ROOM, [], [])
        assert unexplained.missing == ([] if invite else ["@ann:s"])


async def test_what_is_asked_for_makes_no_account_usable(database: Database) -> None:
    """Before it is answered nobody is joined; nor once an account is being taken from its user."""
    async with database.write() as connection:
        people = Directory(connection)
        ann = await people.user("ann")
        await people.binds(ann, usable=False)
        assert await accounts.begin(connection, await people.account_of(ann), Disablement(), None)
        assert not (await people.account_of(ann)).usable
        bob = await people.account("bob")
        assert await accounts.begin(connection, await people.account_of(bob), Disablement(), None)
        assert (await people.account_of(bob)).usable
        await people.activity(bob, active=False)
        account = await people.account_of(bob)
        assert await accounts.begin(connection, account, Disablement(locked=True), "lock")
        assert not (await people.account_of(bob)).usable


async def test_an_account_is_looked_at_once_more_when_it_is_time(place: Place) -> None:
    """Not before, and once; and the next time at which something falls due is that one."""
    database = await Database.open(place)
    async with database.write() as connection:
        people = Directory(connection)
        await people.account("ann")
        ann = await people.account_of("ann")
        seen = Confirmation(Disablement(locked=True), Written(), usable=True, unsure_until=100.0)
        assert await accounts.confirm(connection, ann, seen)
    async with database.write() as connection:
        assert await memberships.next_due(connection, 50.0) == 100.0
        assert [await unanswered.any_over(connection, at) for at in (99.0, 100.0)] == [
            False,
            True,
        ]
        people = Directory(connection)
        assert (await people.account_of("ann")).todo is None
        await unanswered.look(connection, 100.0)
        known = await people.account_of("ann")
        assert (known.todo, known.ours) == ("provision", Disablement(locked=True))
        await accounts.not_done(connection, known, Disablement())
        assert (await people.account_of("ann")).ours == Disablement()
        # Until it was looked at, it is known that something had no answer.
        assert (await people.account_of("ann")).unsure_until == 100.0
        assert not await unanswered.any_over(connection, 1000.0)
    await database.close()


async def test_a_user_who_is_no_more_is_called_by_the_id_that_they_had(database: Database) -> None:
    """Others by their user name."""
    async with database.write() as connection:
        resource = {"userName": "ann"}
        await resources.create(connection, "User", resource, "1")
        assert [await console.user_name(connection, one) for one in ("1", "2")] == ["ann", "2"]


async def test_a_refusal_that_is_heard_late_delays_nothing_else(database: Database) -> None:
    """What is wanted by then is tried at once, and no reason of what was before is shown."""
    async with database.write() as connection:
        await granted(connection)
        [pair] = await memberships.due(connection, TO_ONE.room, NOW, 10)
        for before in replace(pair, tick=pair.tick - 1), replace(pair, state="revoked"):
            await memberships.fail(connection, before, "refused", "no", 9e9)
            assert await memberships.due(connection, TO_ONE.room, NOW, 10) == [pair]
        await memberships.fail(connection, pair, "refused", "no", 9e9)
        assert await memberships.due(connection, TO_ONE.room, NOW, 10) == []


async def test_a_removal_that_was_asked_for_before_may_have_been_done(database: Database) -> None:
    """What is not asked for once more says nothing of that; by what never was, nobody is out."""
    async with database.write() as connection:
        people, group = await granted(connection)
        await people.observed("join", "ann", room_id=TO_ONE.room)
        await people.members(group)
        for was_asked in False, True:
            [pair] = await memberships.due(connection, TO_ONE.room, NOW, 10)
            assert (pair.todo, pair.leaving) == ("leave", was_asked)
            await memberships.begin(connection, [pair])
            await memberships.not_asked(connection, [pair])
            assert bool((await people.row("ann", TO_ONE.room))["leaving"]) is was_asked
            await memberships.begin(connection, [pair])
