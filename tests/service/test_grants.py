"""What mapped groups grant: who revokes, who forgets, and what outlasts both."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import orjson
import pytest

from scim_matrix.groupmap import Kind, Mapping, Template
from scim_matrix.membership import State
from scim_matrix.store import (
    brake,
    console,
    grants,
    groupmap,
    memberships,
    observed,
    openings,
    references,
    resources,
    rooms,
    story,
    views,
)
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.openings import Opening
from scim_matrix.store.resources import MemberChange
from scim_matrix.sync import provenance
from tests.service import oracle
from tests.service.directory import ROOM, TO_ALL, Directory

ALIAS = "#room:s"
STAFF = Mapping("external_id", "ext-staff", ROOM)
LEADS = Mapping("external_id", "ext-leads", ROOM)


async def put(connection: Connection, *mappings: Mapping) -> None:
    """Put a map in force."""
    await groupmap.put(connection, mappings)


async def mapping_id(connection: Connection, mapping: Mapping) -> int:
    """Return the number of a mapping."""
    [row] = await connection.execute_fetchall(
        "SELECT id FROM mapping WHERE pattern = :pattern AND reference = :reference",
        {"pattern": mapping.pattern, "reference": mapping.room},
    )
    return int(row["id"])


async def standings(connection: Connection) -> dict[str, str]:
    """Return how the lines of the map stand, by their keys."""
    found = await connection.execute_fetchall("SELECT pattern, standing FROM mapping")
    return {row["pattern"]: row["standing"] for row in found}


async def dismiss(connection: Connection, room_id: str = ROOM) -> None:
    """Hold the removals of a room and let everybody stay."""
    await brake.hold_room(connection, room_id, "limit")
    await brake.decide(connection, await brake.held(connection, [room_id]), "dismissed", "eve")


# -- Revoked or forgotten ------------------------------------------------------


async def test_what_the_identity_provider_takes_is_revoked(database: Database) -> None:
    """By a member less, an inactive user, a deleted user, a deleted group."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, LEADS)
        for name in ("ann", "bob", "cat", "dan", "eve"):
            await people.account(name)
        await people.group("staff", "ann", "bob", "cat", "eve")
        await people.group("leads", "dan")
        await people.members("staff", "bob", "cat", "eve")
        await people.activity("bob", active=False)
        await people.deletes("cat")
        await resources.delete(connection, "Group", "leads")
        assert await people.states() == {
            "ann": "revoked",
            "bob": "revoked",
            "cat": "revoked",
            "dan": "revoked",
            "eve": "granted",
        }


async def test_what_the_map_no_longer_says_is_forgotten(database: Database) -> None:
    """Nobody is removed for a line that goes; it comes back as it was."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.group("staff", await people.account("ann"))
        await people.observed("join", "ann")
        await put(connection)
        assert await people.states() == {"ann": "forgotten"}
        assert (await people.membership(ROOM, "ann")).todo is None
        await put(connection, STAFF)
        assert await people.states() == {"ann": "granted"}
        assert (await people.membership(ROOM, "ann")).todo is None


async def test_who_is_granted_a_room_twice_leaves_with_the_last_grant(database: Database) -> None:
    """Whichever goes first."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, LEADS)
        await people.account("ann")
        await people.group("staff", "ann")
        await people.group("leads", "ann")
        await people.members("staff")
        assert await people.states() == {"ann": "granted"}
        assert (await people.row("ann"))["group_name"] == "leads"
        await people.members("leads")
        assert await people.states() == {"ann": "revoked"}


async def test_nested_groups_grant_and_revoke(database: Database) -> None:
    """Through every path."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.account("ann")
        await people.group("inner", "ann")
        await people.group("middle", "inner")
        await people.group("staff", "middle")
        assert await people.states() == {"ann": "granted"}
        await people.members("middle")
        assert await people.states() == {"ann": "revoked"}


async def test_a_member_unknown_yet_takes_effect_once_the_user_exists(database: Database) -> None:
    """The identity provider may send groups first."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.group("staff", "ann")
        assert await people.states() == {}
        await people.account("ann")
        assert await people.states() == {"ann": "granted"}


@pytest.mark.parametrize(
    ("pattern", "state"), [("eng-*", "granted"), ("ENG-*", None), ("eng-?", None), ("*", "granted")]
)
async def test_groups_are_matched_by_name(
    database: Database, pattern: str, state: State | None
) -> None:
    """By the pattern, whose letters count."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, Mapping("display_name", pattern, ROOM))
        await people.group("eng-core", await people.account("ann"))
        assert (await people.states()).get("ann") == state


async def test_whom_a_rooms_successor_had_forgotten_is_told_of_as_in_the_room(
    database: Database,
) -> None:
    """By which request they are there, and since when: what was known there is long over."""
    new = replace(STAFF, room="!new")
    async with database.write("first") as connection:
        people = Directory(connection)
        await put(connection, new)
        await people.account("ann")
        await people.group("staff", "ann")
    async with database.write("second") as connection:
        await put(connection, new, STAFF)
    async with database.write("third") as connection:
        await put(connection, STAFF)
    async with database.write() as connection:
        people = Directory(connection)
        await grants.carry(connection, ROOM, "!new")
        told = {row["room_id"]: row for row in await people.rows()}
        assert (told["!new"]["state"], told["!new"]["request"]) == ("granted", "second")
        for column in ("since", "tick", "group_name", "power", "led"):
            assert told["!new"][column] == told[ROOM][column], column


async def test_alike_are_told_of_together_from_the_first_to_the_last(database: Database) -> None:
    """Who is to come since when: of several the earliest and the latest moment."""
    moments = []
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.group("staff")
        for name in ("ann", "bob", "cat"):
            await people.account(name)
    for names in (["ann"], ["ann", "bob"], ["ann", "bob", "cat"]):
        async with database.write(f"request {len(names)}") as connection:
            await Directory(connection).members("staff", *names)
            moments.append(connection.at)
    [told] = (await story.room(database.reader, ROOM)).people
    assert (told["people"], told["first"], told["last"]) == (3, moments[0], moments[-1])


# -- Suspended mappings --------------------------------------------------------


async def test_a_suspended_mapping_removes_nobody(database: Database) -> None:
    """And brings nobody in; in force again, it catches up with what was revoked meanwhile."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        for name in ("ann", "bob", "cat"):
            await people.account(name)
        await people.group("staff", "ann", "bob")
        await people.observed("join", "ann", "bob")
        number = await mapping_id(connection, STAFF)
    async with database.write() as connection:
        people = Directory(connection)
        assert await openings.stand(connection, number, "suspended", "why", "cure")
        assert await people.states() == {"ann": "forgotten", "bob": "forgotten"}
    async with database.write() as connection:
        people = Directory(connection)
        await people.members("staff", "ann", "cat")
        assert await people.states() == {"ann": "forgotten", "bob": "forgotten"}
    async with database.write() as connection:
        people = Directory(connection)
        assert await openings.stand(connection, number, "in_force")
        assert await people.states() == {"ann": "granted", "bob": "revoked", "cat": "granted"}
        assert (await people.membership(ROOM, "bob")).todo == "leave"
        since = {row["user_id"]: row["since"] for row in await people.rows()}
        assert since["@bob:s"] == connection.at


async def test_whom_a_suspended_mapping_still_grants_nobody_revokes(database: Database) -> None:
    """Another group's end is not the last grant's: a suspended mapping removes nobody."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, LEADS)
        await people.account("ann")
        await people.group("staff", "ann")
        await people.group("leads", "ann")
        await people.observed("join", "ann")
        number = await mapping_id(connection, LEADS)
        await openings.stand(connection, number, "suspended", "why", "cure")
    async with database.write() as connection:
        people = Directory(connection)
        await people.members("staff")
        assert await people.states() == {"ann": "forgotten"}
    async with database.write() as connection:
        people = Directory(connection)
        await people.members("leads")
        await openings.stand(connection, number, "in_force")
        assert await people.states() == {"ann": "revoked"}


async def test_whom_a_suspended_mapping_gives_a_room_nobody_prunes(database: Database) -> None:
    """Neither with all that the map forgot, nor with another mapping; once it is gone they are."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, LEADS)
        for name in ("ann", "bob"):
            await people.account(name)
        await people.group("staff", "ann")
        await people.group("leads", "ann", "bob")
        await people.observed("join", "ann", "bob")
        number = await mapping_id(connection, STAFF)
        await openings.stand(connection, number, "suspended", "why", "cure")
        await put(connection, STAFF)
        given = [(ROOM, await people.account_id(name)) for name in ("ann", "bob")]
        assert await memberships.prune_some(connection, given) == 1
        assert await people.states() == {"ann": "forgotten", "bob": "pruned"}
        assert await memberships.prune(connection) == 0
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection)
        assert await memberships.prune(connection) == 1
        assert await people.states() == {"ann": "pruned", "bob": "pruned"}


async def test_a_suspended_mapping_keeps_from_being_pruned_only_whom_it_gives_that_room(
    database: Database,
) -> None:
    """Not them in other rooms, and nobody else in that one."""
    elsewhere = replace(LEADS, room="!other")
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, LEADS, elsewhere)
        for name in ("ann", "bob"):
            await people.account(name)
        await people.group("staff", "ann")
        await people.group("leads", "ann", "bob")
        for room_id in (ROOM, "!other"):
            await people.observed("join", "ann", "bob", room_id=room_id)
        number = await mapping_id(connection, STAFF)
        await openings.stand(connection, number, "suspended", "why", "cure")
        await put(connection, STAFF)
        ann = await people.account_id("ann")
        assert await memberships.prune_some(connection, [("!other", ann)]) == 1
        assert await memberships.prune(connection) == 2
        assert await people.states() == {"ann": "forgotten", "bob": "pruned"}
        assert await people.states("!other") == {"ann": "pruned", "bob": "pruned"}


async def test_what_was_forgotten_before_is_not_revoked_by_catching_up(database: Database) -> None:
    """Only what the identity provider took after the map had forgotten it."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, LEADS)
        await people.account("ann")
        await people.group("staff", "ann")
        await people.group("leads", "ann")
        await people.observed("join", "ann")
        await people.members("leads")
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, LEADS)
        assert await people.states() == {"ann": "forgotten"}
    async with database.write() as connection:
        people = Directory(connection)
        await people.activity("ann", active=False)
        await people.activity("ann", active=True)
        assert await people.states() == {"ann": "forgotten"}


async def test_what_was_taken_while_forgotten_is_revoked_by_another_line_of_the_group(
    database: Database,
) -> None:
    """Once it opens the room again, by an alias that is known already."""
    others = Mapping("external_id", "ext-others", ALIAS)
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, others)
        await references.pin(connection, ALIAS, ROOM)
        await people.group("staff", await people.account("ann"))
        await people.observed("join", "ann")
    async with database.write() as connection:
        await put(connection, others)
    async with database.write() as connection:
        people = Directory(connection)
        await people.members("staff")
        assert await people.states() == {"ann": "forgotten"}
    async with database.write() as connection:
        await put(connection, others, replace(STAFF, room=ALIAS))
        assert await Directory(connection).states() == {"ann": "revoked"}


# -- Before a room is known ----------------------------------------------------


async def test_what_was_revoked_before_the_alias_resolved_is_revoked_there(
    database: Database,
) -> None:
    """Whoever is in the room would have been put there; the map alone revokes nothing."""
    async with database.write() as connection:
        people = Directory(connection)
        staff = replace(STAFF, room=ALIAS)
        await put(connection, staff, replace(LEADS, room=ALIAS))
        for name in ("ann", "bob", "cat", "dan"):
            await people.account(name)
        await people.group("staff", "ann", "bob")
        await people.group("leads", "cat")
        await people.members("staff", "ann")
        await put(connection, staff)
        assert await people.states() == {}
        await references.pin(connection, ALIAS, ROOM)
        assert await people.states() == {"ann": "granted", "bob": "revoked"}
        assert (await people.membership(ROOM, "bob")).todo == "leave"


async def test_who_is_granted_otherwise_is_not_revoked_when_the_alias_resolves(
    database: Database,
) -> None:
    """Another group gives them the room."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, replace(STAFF, room=ALIAS), replace(LEADS, room=ALIAS))
        await people.account("ann")
        await people.group("staff", "ann")
        await people.group("leads", "ann")
        await people.members("staff")
        await references.pin(connection, ALIAS, ROOM)
        assert await people.states() == {"ann": "granted"}


async def test_what_was_revoked_before_a_space_was_read_is_revoked_in_its_rooms(
    database: Database,
) -> None:
    """In those first read; a room that comes later never was theirs."""
    async with database.write() as connection:
        people = Directory(connection)
        space = replace(STAFF, children=True)
        await put(connection, space)
        for name in ("ann", "bob"):
            await people.account(name)
        await people.group("staff", "ann", "bob")
        await people.members("staff", "ann")
        number = await mapping_id(connection, space)
        await children(connection, number, "!first")
        assert await people.states("!first") == {"ann": "granted", "bob": "revoked"}
        await children(connection, number, "!first", "!second")
        assert await people.states("!second") == {"ann": "granted"}


async def children(
    connection: Connection, number: int, *room_ids: str, not_followed: str = ""
) -> bool:
    """Have rooms be below a mapping's space."""
    found = [Opening(room_id, ROOM, "followed") for room_id in room_ids]
    if not_followed:
        found.append(Opening(not_followed, ROOM, "not_followed", "why", "cure"))
    changed = await openings.put_children(connection, number, found)
    assert changed is not None
    return changed


async def test_what_was_judged_of_a_room_is_not_said_of_what_took_its_place(
    database: Database,
) -> None:
    """A room below a space that was upgraded since it was judged is judged again."""
    async with database.write() as connection:
        await groupmap.put(connection, [Mapping("everyone", "", ROOM, children=True)])
        [mapping] = await openings.mappings_of(connection, ROOM)
        assert await children(connection, mapping.id, "!child")
        await rooms.upgraded(connection, "!child", "!new")
        judged = [Opening("!child", ROOM, "followed")]
        assert await openings.put_children(connection, mapping.id, judged) is None
        assert [o.room_id for o in await openings.of_mapping(connection, mapping.id)] == ["!new"]


async def test_nobodys_power_is_asked_for_because_of_another_room(database: Database) -> None:
    """That a room holds nobody else on somebody's power matters there, and only there."""
    async with database.write() as connection:
        space = Mapping("everyone", "", ROOM, children=True, exclusive=True)
        await groupmap.put(connection, [space])
        [mapping] = await openings.mappings_of(connection, ROOM)
        led = Opening("!led", ROOM, "followed", led_by=("@eve:s",))
        own = Opening("!own", ROOM, "followed")
        assert await openings.put_children(connection, mapping.id, [led, own])
        assert await openings.any_led(connection, "!led")
        assert not await openings.any_led(connection, "!own")


async def test_only_rooms_that_are_followed_are_opened(database: Database) -> None:
    """A step that is not followed grants nothing, and forgets what it granted before."""
    async with database.write() as connection:
        people = Directory(connection)
        space = replace(STAFF, children=True)
        await put(connection, space)
        await people.group("staff", await people.account("ann"))
        number = await mapping_id(connection, space)
        assert await children(connection, number, "!a", not_followed="!b")
        assert await people.states("!a") == {"ann": "granted"}
        assert await people.states("!b") == {}
        assert await grants.reasons(connection, "!a") != {}
        assert await grants.reasons(connection, "!b") == {}
        assert not await children(connection, number, "!a", not_followed="!b")
        assert await children(connection, number, "!b", not_followed="!a")
        assert await people.states("!a") == {"ann": "forgotten"}
        assert await people.states("!b") == {"ann": "granted"}
        assert await children(connection, number)
        assert await people.states("!b") == {"ann": "forgotten"}


async def test_who_is_to_leave_a_room_that_is_not_followed_waits(database: Database) -> None:
    """And is shown as that, once, not as if they were about to be removed."""
    async with database.write() as connection:
        people = Directory(connection)
        space = replace(STAFF, children=True)
        await put(connection, space)
        group = await people.group("staff", await people.account("ann"))
        number = await mapping_id(connection, space)
        assert await children(connection, number, "!a", "!b")
        for room_id in ("!a", "!b"):
            await people.observed("join", "ann", room_id=room_id)
        await people.members(group)
        assert await children(connection, number, "!a", not_followed="!b")
        shown = [
            (row["room"], row["state"])
            for row in await views.left_to_do(connection, 9)
            if row["what"] == "leave"
        ]
        assert sorted(shown) == [("!a", "pending"), ("!b", "waiting"), (ROOM, "pending")]


# -- Rooms that take the place of others ---------------------------------------


async def everybody(people: Directory, connection: Connection) -> None:
    """Have somebody of every state in the room."""
    await put(connection, STAFF)
    names = ("ann", "bob", "cat", "dan", "eve")
    for name in names:
        await people.account(name)
    await people.group("staff", *names)
    await people.observed("join", *names)
    await people.members("staff", "ann", "bob")
    await connection.execute_fetchall(
        "UPDATE membership SET left_by_choice = TRUE, observed = 'leave' WHERE account_id = :id",
        {"id": await people.account_id("bob")},
    )
    await brake.hold_room(connection, ROOM, "limit")
    [dan] = [one for one in await brake.held(connection) if one.user_id == "@dan:s"]
    await brake.decide(connection, [dan], "dismissed", "eve")
    [eve] = [one for one in await brake.held(connection) if one.user_id == "@eve:s"]
    await brake.decide(connection, [eve], "approved", "eve")


EVERYBODY = {
    "ann": "granted",
    "bob": "granted",
    "cat": "revoked",
    "dan": "dismissed",
    "eve": "revoked",
}


async def test_an_upgraded_room_is_followed_with_everything(database: Database) -> None:
    """Who should leave leaves the new one; nobody is removed from the old one, nor shown twice."""
    async with database.write() as connection:
        people = Directory(connection)
        await everybody(people, connection)
        await rooms.upgraded(connection, ROOM, "!new")
        assert await people.states("!new") == EVERYBODY
        assert {row["observed"] for row in await people.rows("!new")} == {None}
        assert (await people.row("bob", "!new"))["left_by_choice"] == 1
        assert [(o.room_id, o.user_id) for o in await brake.held(connection)] == [
            ("!new", "@cat:s")
        ]
        assert (await people.membership("!new", "eve")).approved_by == "eve"
        assert {row["todo"] for row in await people.rows(ROOM)} == {None}
        assert await oracle.rooms_due(connection, 1.0, []) == ["!new"]
        assert await rooms.successor(connection, ROOM) == "!new"
        # The line that names the old room means the new one.
        await put(connection, STAFF, LEADS)
        assert await rooms.mapped(connection) == ["!new"]


async def ann_stays(connection: Connection) -> Directory:
    """Have Ann and Bob be in the room of an alias, and only Ann still be granted it."""
    people = Directory(connection)
    await put(connection, replace(STAFF, room=ALIAS))
    await references.pin(connection, ALIAS, ROOM)
    for name in ("ann", "bob"):
        await people.account(name)
    await people.group("staff", "ann", "bob")
    await people.observed("join", "ann", "bob")
    await people.members("staff", "ann")
    return people


async def test_an_alias_that_moved_takes_everything_along(database: Database) -> None:
    """As an upgrade does."""
    async with database.write() as connection:
        people = await ann_stays(connection)
        await references.pin(connection, ALIAS, "!new")
        assert await people.states("!new") == {"ann": "granted", "bob": "revoked"}
        assert await rooms.mapped(connection) == ["!new"]
        assert {row["todo"] for row in await people.rows(ROOM)} == {None}


async def test_an_alias_that_stays_takes_nothing_along(database: Database) -> None:
    """Though somebody else says by now that the room is meant."""
    async with database.write() as connection:
        people = await ann_stays(connection)
        await put(connection)
        before = {"ann": "forgotten", "bob": "revoked"}
        assert await people.states() == before
        await references.pin(connection, ALIAS, ROOM, ["@eve:s"])
        assert await people.states() == before


async def test_a_room_that_is_mapped_otherwise_too_stays_as_it_is(database: Database) -> None:
    """Its removals are still its own."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, replace(STAFF, room=ALIAS), LEADS)
        await references.pin(connection, ALIAS, ROOM)
        for name in ("ann", "bob"):
            await people.account(name)
        await people.group("staff", "ann", "bob")
        await people.group("leads", "ann")
        await people.observed("join", "ann", "bob")
        await people.members("staff", "ann")
        await references.pin(connection, ALIAS, "!new")
        assert await people.states(ROOM) == {"ann": "granted", "bob": "revoked"}
        assert (await people.membership(ROOM, "bob")).todo == "leave"


async def test_an_upgrade_back_is_followed_too(database: Database) -> None:
    """Without turning in a circle."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.group("staff", await people.account("ann"))
        await rooms.upgraded(connection, ROOM, "!new")
        await rooms.upgraded(connection, "!new", ROOM)
        assert await rooms.mapped(connection) == [ROOM]
        assert await rooms.successor(connection, "!new") == ROOM
        assert await people.states(ROOM) == {"ann": "granted"}
        assert await people.states("!new") == {"ann": "forgotten"}


async def test_who_was_to_leave_a_closed_room_is_unknown_in_its_successor(
    database: Database,
) -> None:
    """Nobody leaves it who was not seen there, or whom it does not have to be closed to."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, replace(STAFF, exclusive=True))
        await people.group("staff", await people.account("ann"))
        await observed.observe(connection, ROOM, ["@ann:s", "@guest:s"], [])
        assert await people.states() == {"ann": "granted", "guest": "excluded"}
        await rooms.upgraded(connection, ROOM, "!new")
        assert await people.states("!new") == {"ann": "granted"}
        assert await people.states() == {"ann": "forgotten"}
        await observed.observe(connection, "!new", ["@ann:s", "@guest:s"], [])
        assert await people.states("!new") == {"ann": "granted", "guest": "excluded"}


async def test_why_an_upgrade_is_not_followed_is_news_once(database: Database) -> None:
    """And again once something else is to be said, which is what is shown."""
    other = {"predecessor": {"room_id": "!other"}}
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.group("staff", await people.account("ann"))
        news = []
        for replacement, creation in [("!a", None), ("!a", None), ("!a", other), ("!b", other)]:
            verdict = provenance.upgraded(ROOM, replacement, creation)
            is_news = await rooms.refuse_upgrade(
                connection, ROOM, replacement, verdict.reason, verdict.cure
            )
            news.append(is_news)
            [shown] = await views.mapped_rooms(connection)
            assert shown["problem"] == verdict.reason
        assert news == [True, False, True, True]
        await rooms.no_upgrade(connection, ROOM)
        [row] = await connection.execute_fetchall("SELECT upgrade_to, reason, cure FROM room")
        assert tuple(row) == (None, None, None)


async def test_that_a_room_is_upgraded_no_more_says_nothing_of_others(database: Database) -> None:
    """Their upgrades are still shown as not followed."""
    async with database.write() as connection:
        await put(connection, STAFF, replace(STAFF, room="!other"))
        for room_id in (ROOM, "!other"):
            assert await rooms.refuse_upgrade(connection, room_id, "!new", "why", "cure")
        await rooms.no_upgrade(connection, ROOM)
        refused = [await rooms.is_upgrade_refused(connection, one) for one in (ROOM, "!other")]
        assert refused == [False, True]


async def test_an_alias_waits_for_a_human_unless_it_is_known_what_it_stands_for(
    database: Database,
) -> None:
    """Why and what to do are told of that one, which is asked for again when it is time."""
    async with database.write() as connection:
        others = [replace(STAFF, room=name) for name in ("#known:s", "#third:s")]
        await put(connection, replace(STAFF, room=ALIAS), *others)
        await references.pin(connection, "#known:s", "!known")
        known = await references.get(connection, "#known:s")
        for name in (ALIAS, "#known:s"):
            await references.wait(connection, name, "!found", "why", "let it in", 50.0)
        assert await references.get(connection, "#known:s") == known
        waits = await references.get(connection, ALIAS)
        assert waits is not None
        assert (waits.standing, waits.candidate, waits.attempts) == ("waiting", "!found", 1)
        asked = [await references.unresolved(connection, now, [], 9) for now in (49.0, 50.0)]
        assert [{one.reference for one in due} for due in asked] == [
            {"#third:s"},
            {"#third:s", ALIAS},
        ]
        told = [row for row in await views.left_to_do(connection, 9) if row["reason"] == "why"]
        assert [(row["room"], row["cure"]) for row in told] == [(ALIAS, "let it in")]


async def test_an_alias_that_the_map_names_no_more_is_not_said_to_lead_anywhere(
    database: Database,
) -> None:
    """Others that it names are, though what each stands for is known for good."""
    async with database.write() as connection:
        people = Directory(connection)
        other = replace(STAFF, room="#other:s")
        await put(connection, replace(STAFF, room=ALIAS), other)
        await references.pin(connection, ALIAS, ROOM)
        await references.pin(connection, "#other:s", "!other")
        await people.group("staff", await people.account("ann"))
        await people.observed("join", "ann")
        await put(connection, other)
        # What the line meant is known as long as somebody is there by it.
        assert (await people.states(), await people.states("!other")) == (
            {"ann": "forgotten"},
            {"ann": "granted"},
        )
        assert [row["reference"] for row in await views.pinned(connection)] == ["#other:s"]


# -- Dismissed -----------------------------------------------------------------


async def dismissed(people: Directory, connection: Connection) -> None:
    """Have Ann let stay by a human after her group took the room."""
    await put(connection, STAFF)
    await people.group("staff", await people.account("ann"))
    await people.observed("join", "ann")
    await people.members("staff")
    await dismiss(connection)
    assert await people.states() == {"ann": "dismissed"}
    assert (await people.membership(ROOM, "ann")).todo is None


async def test_who_was_dismissed_stays_through_changes_of_the_map(database: Database) -> None:
    """Also where it gives them the room by another group, and where they are pruned."""
    async with database.write() as connection:
        people = Directory(connection)
        await dismissed(people, connection)
        await people.group("leads", "ann")
    for mappings in ((STAFF, LEADS), (STAFF,), (), (STAFF, replace(LEADS, exclusive=True))):
        async with database.write() as connection:
            people = Directory(connection)
            await put(connection, *mappings)
            assert await memberships.prune(connection) == 0
            await observed.observe(connection, ROOM, ["@ann:s"], [])
            assert await people.states() == {"ann": "dismissed"}


async def test_who_was_dismissed_is_managed_again_once_granted_anew(database: Database) -> None:
    """By the identity provider: then they may also be removed again."""
    async with database.write() as connection:
        people = Directory(connection)
        await dismissed(people, connection)
    async with database.write() as connection:
        people = Directory(connection)
        await people.members("staff", "ann")
        assert await people.states() == {"ann": "granted"}
    async with database.write() as connection:
        people = Directory(connection)
        await people.members("staff")
        assert await people.states() == {"ann": "revoked"}


# -- Left by choice ------------------------------------------------------------


async def left(people: Directory, connection: Connection) -> None:
    """Have Ann leave a granted room by herself, which is respected."""
    await put(connection, STAFF)
    await people.group("staff", await people.account("ann"))
    await people.observed("join", "ann")


async def seen_to_leave(
    connection: Connection, user_id: str = "@ann:s", *, live: bool = True
) -> None:
    """Have it seen that somebody left, as it happens or afterwards."""
    if live:
        work = await observed.observe_one(
            connection, ROOM, user_id, "leave", protected=False, respected=True
        )
        assert not work
    else:
        await observed.observe(connection, ROOM, [], [])
        await observed.respect(connection, ROOM, [user_id])


async def leave(database: Database, *, live: bool = True) -> None:
    """Have her leave, in a transaction of its own."""
    async with database.write() as connection:
        await left(Directory(connection), connection)
    async with database.write() as connection:
        await seen_to_leave(connection, live=live)


async def test_only_who_is_granted_a_room_and_out_of_it_has_left_by_choice(
    database: Database,
) -> None:
    """Nobody who is there again or was to leave anyway, no other room, and only once."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, replace(STAFF, room="!other"))
        for name in ("ann", "bob", "cat"):
            await people.account(name)
        await people.group("staff", "ann", "bob", "cat")
        await people.observed("join", "ann", "bob", "cat")
        await people.observed("leave", "ann", room_id="!other")
        await people.members("staff", "ann", "cat")
        await observed.observe(connection, ROOM, ["@cat:s"], [])
    ticks = []
    for _ in range(2):
        async with database.write() as connection:
            people = Directory(connection)
            await observed.respect(connection, ROOM, ["@ann:s", "@bob:s", "@cat:s"])
            ticks.append((await people.row("ann"))["tick"])
            assert [
                (row["room_id"], row["user_id"])
                for row in await people.rows()
                if row["left_by_choice"]
            ] == [(ROOM, "@ann:s")]
    assert ticks[0] == ticks[1]


@pytest.mark.parametrize("live", [True, False])
async def test_who_left_stays_out_when_the_map_is_spelled_anew(
    database: Database, live: bool
) -> None:
    """A line that names the same room by another key, forgotten for a while or not."""
    await leave(database, live=live)
    everybody = TO_ALL
    by_name = Mapping("display_name", "staff", ROOM)
    for mappings in ((by_name,), (everybody,), (), (STAFF,), (STAFF, everybody)):
        async with database.write() as connection:
            people = Directory(connection)
            await put(connection, *mappings)
            row = await people.row("ann")
            assert (row["left_by_choice"], row["todo"]) == (1, None), mappings


@pytest.mark.parametrize("live", [True, False])
async def test_who_left_stays_out_whatever_gave_it_before(database: Database, live: bool) -> None:
    """A second group that gave the room to whoever was there by the first is no newer."""
    async with database.write() as connection:
        people = Directory(connection)
        await left(people, connection)
        await people.group("leads")
        await put(connection, STAFF, LEADS)
    async with database.write() as connection:
        await Directory(connection).members("leads", "ann")
    async with database.write() as connection:
        await seen_to_leave(connection, live=live)
    async with database.write() as connection:
        await put(connection, replace(STAFF, power=10), LEADS)
        assert (await Directory(connection).membership(ROOM, "ann")).todo is None


async def test_who_left_is_brought_back_by_a_new_grant(database: Database) -> None:
    """Another group, or the same one anew."""
    await leave(database)
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, LEADS)
        assert (await people.membership(ROOM, "ann")).todo is None
    async with database.write() as connection:
        people = Directory(connection)
        await people.group("leads", "ann")
        assert (await people.membership(ROOM, "ann")).todo == "join"


async def test_who_left_is_brought_back_when_granted_after_a_removal(database: Database) -> None:
    """Removed from the group and added again."""
    await leave(database)
    for members, todo in ((), None), (("ann",), "join"):
        async with database.write() as connection:
            people = Directory(connection)
            await people.members("staff", *members)
            assert (await people.membership(ROOM, "ann")).todo == todo


async def test_who_declined_is_joined_where_it_is_no_longer_left_to_them(
    database: Database,
) -> None:
    """A mapping that invited and now joins."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, replace(STAFF, invite=True))
        await people.group("staff", await people.account("ann"))
        await people.observed("invite", "ann")
        await observed.observe(connection, ROOM, [], [], {"invite": []})
        assert (await people.row("ann"))["left_by_choice"] == 1
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        assert (await people.membership(ROOM, "ann")).todo == "join"


# -- Rooms that hold nobody else -----------------------------------------------


async def test_who_is_excluded_is_so_only_while_the_room_is_exclusive(database: Database) -> None:
    """Afterwards nobody removes whom no group ever put there, not even pruning."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, replace(STAFF, exclusive=True), LEADS)
        for name in ("ann", "bob", "cat"):
            await people.account(name)
        await people.group("staff", "ann")
        await people.group("leads", "bob")
        await people.observed("join", "bob")
        await put(connection, replace(STAFF, exclusive=True))
        assert (await people.states())["bob"] == "forgotten"
        joined = ["@ann:s", "@bob:s", "@cat:s", "@guest:s", "@vip:s"]
        await observed.observe(connection, ROOM, joined, ["@vip:s"])
        assert await people.states() == {
            "ann": "granted",
            "bob": "excluded",
            "cat": "excluded",
            "guest": "excluded",
        }
        assert await people.unmanaged() == ["@vip:s"]

        await put(connection, STAFF)
        # Bob was granted it once; the others never.
        assert await people.states() == {"ann": "granted", "bob": "forgotten"}
        assert await people.unmanaged() == ["@cat:s", "@guest:s", "@vip:s"]
        assert await memberships.prune(connection) == 1
        assert await people.states() == {"ann": "granted", "bob": "pruned"}
        assert (
            await connection.execute_fetchall("SELECT 1 FROM account WHERE desired = 'unmanaged'")
            == []
        )


async def test_who_would_stay_in_a_closed_room_is_whose_account_may_be_a_users(
    database: Database,
) -> None:
    """Proposed for somebody or in conflict, and one that a human said is theirs no more is not."""
    async with database.write() as connection:
        people = Directory(connection)
        await people.account("ann")
        for name in ("bob", "cat", "dan", "eve"):
            await people.user(name, active=name == "bob")
        barred = {"ann": "@old:s", "cat": "@cats:s", "eve": "@elsewhere:s"}
        await connection.executemany(
            "UPDATE account SET barred = :barred WHERE scim_id = :name",
            [{"name": name, "barred": user_id} for name, user_id in barred.items()],
        )
        await connection.execute_fetchall(
            "UPDATE account SET problem = 'conflict', reason = 'why'"
            " WHERE scim_id IN ('cat', 'eve')"
        )
        inside = ["@old:s", "@bob:s", "@cat:s", "@cats:s", "@dan:s", "@guest:s"]
        assert await console.staying(connection, ROOM, inside) == {"@bob:s", "@cat:s", "@cats:s"}


async def test_nobody_is_excluded_before_anybody_is_granted(database: Database) -> None:
    """An identity provider that has not sent its groups yet must not empty a room."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, replace(STAFF, exclusive=True))
        await observed.observe(connection, ROOM, ["@guest:s"], [])
        assert await people.states() == {}
        await people.group("staff", await people.account("ann"))
        await observed.observe(connection, ROOM, ["@guest:s"], [])
        assert await people.states() == {"ann": "granted", "guest": "excluded"}


# -- Pruning -------------------------------------------------------------------


async def test_pruning_removes_what_the_map_forgot(database: Database) -> None:
    """And what was revoked in rooms that it forgot; not those who are out or banned."""
    async with database.write() as connection:
        people = Directory(connection)
        other = Mapping("external_id", "ext-staff", "!other")
        await put(connection, STAFF, other)
        names = ("ann", "bob", "cat", "dan", "eve")
        for name in names:
            await people.account(name)
        await people.group("staff", *names)
        for room_id in (ROOM, "!other"):
            await people.observed("join", "ann", "bob", "cat", room_id=room_id)
            await people.observed("leave", "dan", room_id=room_id)
            await people.observed("ban", "eve", room_id=room_id)
        await people.members("staff", "ann", "cat", "dan", "eve")
        await put(connection, other)
        assert await memberships.prune(connection) == 3
        assert await people.states() == {
            "ann": "pruned",
            "bob": "pruned",
            "cat": "pruned",
            "dan": "forgotten",
            "eve": "forgotten",
        }
        others = await people.states("!other")
        assert others == {n: "revoked" if n == "bob" else "granted" for n in names}
        assert await oracle.rooms_due(connection, 1.0, []) == ["!other", ROOM]


async def test_who_is_pruned_is_granted_again_with_the_map(database: Database) -> None:
    """A human's wish ends where a group says otherwise."""
    async with database.write() as connection:
        people = Directory(connection)
        await left(people, connection)
        await put(connection)
        await memberships.prune(connection)
        await put(connection, STAFF)
        assert await people.states() == {"ann": "granted"}


async def test_a_console_mapping_can_take_its_people_out(database: Database) -> None:
    """Exactly those whom it alone granted."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        for name in ("ann", "bob"):
            await people.account(name)
        await people.group("staff", "ann")
        await people.group("leads", "ann", "bob")
        made = Mapping("group_id", "leads", ROOM)
        assert await groupmap.add(connection, made, "@mod:s", None)
        assert not await groupmap.add(connection, made, "@mod:s", None)
        await people.observed("join", "ann", "bob")
        given = await groupmap.remove(connection, await mapping_id(connection, made))
        assert given is not None
        assert await memberships.prune_some(connection, given) == 1
        assert await people.states() == {"ann": "granted", "bob": "pruned"}
        assert await groupmap.remove(connection, await mapping_id(connection, STAFF)) is None


async def test_whoever_is_taken_out_with_a_mapping_is_so_anew(database: Database) -> None:
    """By that request and from then on, whatever was tried, or left, while it was suspended."""
    async with database.write("given") as connection:
        people = Directory(connection)
        for name in ("ann", "bob"):
            await people.account(name)
        await people.group("leads", "ann", "bob")
        made = Mapping("group_id", "leads", ROOM, power=50)
        assert await groupmap.add(connection, made, "@mod:s", None)
        await people.observed("join", "ann", "bob")
        bob = await people.membership(ROOM, "bob")
        await memberships.try_power(connection, [(bob, 50, None)])
        await seen_to_leave(connection)
        number = await mapping_id(connection, made)
        await openings.stand(connection, number, "suspended", "why", "cure")
        bob = await people.membership(ROOM, "bob")
        await memberships.fail(connection, bob, "unavailable", "no answer", 1e12)
        assert (await people.row("bob"))["attempts"] == 1
    async with database.write("taken out") as connection:
        given = await groupmap.remove(connection, number)
        assert given is not None
        assert await memberships.prune_some(connection, given) == 2
        for row in await Directory(connection).rows():
            assert (row["state"], row["left_by_choice"], row["request"]) == (
                "pruned",
                0,
                "taken out",
            )
            assert (row["since"], row["tick"]) == (connection.at, await connection.tick())
            assert (row["problem"], row["reason"], row["attempts"], row["next_try"]) == (
                None,
                None,
                0,
                0,
            )


async def test_who_is_held_because_of_a_group_is_told_of_that_one_only(database: Database) -> None:
    """Not whom a human asked to take out, nor whom another group lost: they are decided apart."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, LEADS)
        for name in ("ann", "bob", "cat"):
            await people.account(name)
        await people.group("staff", "ann", "bob")
        await people.group("leads", "cat")
        await people.observed("join", "ann", "bob", "cat")
        await people.members("staff", "bob")
        await people.members("leads")
        await put(connection, LEADS)
        assert await memberships.prune(connection) == 1
        assert await people.states() == {"ann": "revoked", "bob": "pruned", "cat": "revoked"}
        await brake.hold_room(connection, ROOM, "limit")
        found = await console.held_of(connection, None, "staff", 10)
        assert [row["user_id"] for row in found] == ["@ann:s"]
        assert len(await console.held_of(connection, None, None, 10)) == 3


# -- The map's edges -----------------------------------------------------------


async def test_the_configuration_overrules_the_console(database: Database) -> None:
    """While it says something of the same group and room; then its maker is asked for first."""
    async with database.write() as connection:
        people = Directory(connection)
        await people.group("staff", await people.account("ann"))
        made = replace(STAFF, power=10)
        assert await groupmap.add(connection, made, "@mod:s", None)
        assert (await people.membership(ROOM, "ann")).power == 10
        await put(connection, replace(STAFF, power=50))
        pair = await people.membership(ROOM, "ann")
        assert (pair.state, pair.power) == ("granted", 50)
        made_there = "SELECT id, standing, reason FROM mapping WHERE origin = 'console'"
        [line] = await connection.execute_fetchall(made_there)
        assert (line["standing"], line["reason"]) == ("overruled", None)
        assert not await openings.stand(connection, line["id"], "in_force")
        await put(connection)
        assert await people.states() == {"ann": "forgotten"}
        [line] = await connection.execute_fetchall(made_there)
        assert (line["standing"], line["reason"]) == (
            "suspended",
            "its maker has not been asked for yet",
        )
        assert await openings.stand(connection, line["id"], "in_force")
        pair = await people.membership(ROOM, "ann")
        assert (pair.state, pair.power) == ("granted", 10)


async def test_a_room_is_made_as_the_map_says_now_or_not_at_all(database: Database) -> None:
    """What it said before of how to make one is forgotten with the line that said so."""
    async with database.write() as connection:
        said = replace(STAFF, room=ALIAS, create=Template("New"))
        other = replace(STAFF, room="#other:s", create=Template("Other"))
        await put(connection, said, other)
        await put(connection, replace(said, create=None), other)
        due = await references.unresolved(connection, 1.0, [], 9)
        made = {one.reference: one.template is not None for one in due}
        assert made == {ALIAS: False, "#other:s": True}


async def test_dropped_lines_end_once_nothing_of_them_matters(database: Database) -> None:
    """While somebody is in a room only by them they stay; what references stand for stays known."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, LEADS)
        await people.group("staff", await people.account("ann"), await people.account("bob"))
        await people.group("leads", "bob")
        await people.observed("join", "ann", "bob")
        await put(connection, LEADS)
        assert await standings(connection) == {"ext-staff": "dropped", "ext-leads": "in_force"}
        await people.members("staff", "bob")
        await people.observed("leave", "ann")
        await put(connection, LEADS)
        assert await standings(connection) == {"ext-leads": "in_force"}
        await put(connection)
        assert await references.get(connection, ROOM) is not None


async def test_a_membership_names_the_request_that_gave_it(database: Database) -> None:
    """Though its room became known later."""
    late = replace(STAFF, room=ALIAS)
    async with database.write("group map") as connection:
        await put(connection, late)
    async with database.write("asked") as connection:
        people = Directory(connection)
        await people.group("staff", await people.account("ann"))
    async with database.write() as connection:
        await references.pin(connection, ALIAS, ROOM)
        assert (await Directory(connection).row("ann"))["request"] == "asked"


async def test_a_dropped_line_gives_nobody_anything_new(database: Database) -> None:
    """Who came and went while it was out of the map was never put there by it."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.account("bob")
        await people.group("staff", await people.account("ann"))
        await people.observed("join", "ann")
        await put(connection)
        await people.members("staff", "ann", "bob")
        await people.members("staff", "ann")
        await put(connection, STAFF)
        assert await people.states() == {"ann": "granted"}


async def test_what_a_backup_alone_says_is_no_newer_for_being_caught_up_with(
    database: Database,
) -> None:
    """A removal is as old as the identity provider's word."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.group("staff", await people.account("ann"))
        await people.observed("join", "ann")
        await put(connection)
    async with database.write() as connection:
        await Directory(connection).members("staff")
    async with database.write() as connection:
        await brake.begin_restoration(connection)
    async with database.write() as connection:
        await put(connection, STAFF)
        assert await Directory(connection).states() == {"ann": "revoked"}
        assert await brake.hold_room(connection, ROOM, "restored") == 1


@pytest.mark.parametrize("others", [[], [LEADS]])
async def test_the_highest_level_counts_and_joining_above_inviting(
    database: Database, others: Sequence[Mapping]
) -> None:
    """Of all that grant the room."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, replace(STAFF, power=50, invite=True), *others)
        await people.account("ann")
        await people.group("staff", "ann")
        await people.group("leads", "ann")
        pair = await people.membership(ROOM, "ann")
        assert (pair.power, pair.todo) == (50, "join" if others else "invite")


async def test_reasons_name_group_key_and_room(database: Database) -> None:
    """Every one of them, as the map writes it."""
    async with database.write() as connection:
        people = Directory(connection)
        by_name = Mapping("display_name", "[[]sta]*", ROOM)
        await put(connection, STAFF, by_name, TO_ALL)
        await people.account("ann")
        await people.group("[sta]ff", "ann")
        await people.group("staff", "ann")
        account_id = await people.account_id("ann")
        assert await grants.reasons(connection, ROOM) == {
            (ROOM, account_id): [
                f"[sta]ff (displayName:[sta]* \u2192 {ROOM})",
                f"everyone (* \u2192 {ROOM})",
                f"staff (ext-staff \u2192 {ROOM})",
            ]
        }
        assert await grants.reasons(connection, "!other") == {}


async def test_reasons_of_people_are_those_of_their_rooms(database: Database) -> None:
    """Whoever is asked for, and nobody else, in the order that was asked for."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF, Mapping("external_id", "ext-leads", "!other"))
        for name in ("ann", "bea", "cem"):
            await people.account(name)
        await people.group("staff", "ann", "bea", "cem")
        await people.group("leads", "ann")
        found = await views.places(connection, ["@cem:s", "@ann:s"])
    assert [(row["user_id"], row["room_id"], row["because"]) for row in found] == [
        ("@cem:s", ROOM, f"staff (ext-staff \u2192 {ROOM})"),
        ("@ann:s", "!other", "leads (ext-leads \u2192 !other)"),
        ("@ann:s", ROOM, f"staff (ext-staff \u2192 {ROOM})"),
    ]


async def test_what_changes_nothing_writes_nothing(database: Database) -> None:
    """A group sent again leaves every membership as it was, ticks and times included."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.group("staff", await people.account("ann"))
    async with database.write() as connection:
        people = Directory(connection)
        before = [tuple(row) for row in await people.rows()]
        await people.members("staff", "ann")
        await people.activity("ann", active=True)
        await put(connection, STAFF)
        assert [tuple(row) for row in await people.rows()] == before


async def test_whoever_is_being_taken_out_needs_no_line_of_the_map(database: Database) -> None:
    """A room that is mapped no more says so only where somebody waits for its line."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, STAFF)
        await people.group("staff", await people.account("ann"))
        await people.observed("join", "ann")
        await people.members("staff")
        await put(connection)
        [row] = await views.mapped_rooms(connection)
        assert (row["standing"], row["cure"]) == (
            "unmapped",
            "put the line back, or scim-matrix sync --prune",
        )
        assert await memberships.prune(connection) == 1
        [row] = await views.mapped_rooms(connection)
        assert (row["standing"], row["cure"]) == ("unmapped", None)


async def gone(people: Directory, connection: Connection, group_id: str, member: str) -> None:
    """Have a group that was called by its id with a capital have had somebody."""
    await resources.create(connection, "Group", {"displayName": group_id.capitalize()}, group_id)
    await people.members(group_id, member)
    await resources.delete(connection, "Group", group_id)


async def test_a_group_that_is_gone_is_called_as_its_own_lines_have_it(database: Database) -> None:
    """Whatever the lines of other groups say; without any, by its id."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, *(Mapping("group_id", name, ROOM) for name in ("staff", "crew")))
        ann = await people.account("ann")
        for name in ("staff", "crew"):
            await gone(people, connection, name, ann)
        await connection.execute_fetchall("DELETE FROM former_name")
        for group_id, name in (("staff", "Staff"), ("crew", "Crew"), ("nobody", "nobody")):
            told = await story.group(connection, group_id)
            assert told.group["display_name"] == name


async def test_what_the_console_opens_for_groups_that_are_gone_is_called_as_each_was(
    database: Database,
) -> None:
    """Each by the name that its own line has given rooms by; without one, by its id."""
    async with database.write() as connection:
        people = Directory(connection)
        ann = await people.account("ann")
        for name in ("staff", "crew", "nobody"):
            line = Mapping("group_id", name, ROOM)
            assert await groupmap.add(connection, line, "@eve:s", None)
            if name != "nobody":
                await gone(people, connection, name, ann)
        found = await console.of_nobody(connection)
    assert [(row["id"], row["name"]) for row in found] == [
        ("crew", "Crew"),
        ("staff", "Staff"),
        ("nobody", "nobody"),
    ]


@pytest.mark.parametrize("op", ["add", "remove", "display"])
async def test_what_is_said_of_a_member_settles_nobody_else(
    database: Database, op: Literal["add", "remove", "display"]
) -> None:
    """However many others are in the group and wait for what a change of the map means."""
    async with database.write() as connection:
        people = Directory(connection)
        for name in ("ann", "bob", "cat"):
            await people.account(name)
        await people.group("staff", "bob", "cat")
        await groupmap.put(connection, [STAFF], piece=0)
        assert not await grants.spread(connection)
        sent = orjson.dumps([{"value": "ann" if op == "add" else "bob", "display": "B"}]).decode()
        changed = [MemberChange(op, sent)]
        assert await resources.change_members(connection, "staff", changed)
        left = await connection.execute_fetchall(
            "SELECT a.scim_id FROM unsettled u JOIN account a ON a.id = u.account_id"
        )
    assert "cat" in {row["scim_id"] for row in left}


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        *(("external_id", "ext-staff"), ("group_id", "staff")),
        *(("display_name", "staff"), ("display_name", "st*")),
    ],
)
async def test_a_group_that_a_line_named_is_named_by_the_map_no_more(
    database: Database, kind: Kind, pattern: str
) -> None:
    """Though the line is remembered, since somebody is in the room by it."""
    async with database.write() as connection:
        people = Directory(connection)
        await put(connection, Mapping(kind, pattern, ROOM))
        await people.group("staff", await people.account("ann"))
        await people.observed("join", "ann")
        for mapped, listed in ((True, ["staff"]), (False, [])):
            found = await console.groups_listed(connection, "", mapped, 10)
            assert [row["id"] for row in found] == listed
        await put(connection)
        for mapped, listed in ((True, []), (False, ["staff"])):
            found = await console.groups_listed(connection, "", mapped, 10)
            assert [row["id"] for row in found] == listed
