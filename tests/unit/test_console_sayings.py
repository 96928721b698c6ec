"""What the console says of an action."""

from dataclasses import replace

import pytest

from scim_matrix.console import sayings
from scim_matrix.console.sayings import Meeting
from scim_matrix.groupmap import Mapping
from scim_matrix.store.brake import Decision, Earlier

OPEN = Mapping("group_id", "g", "#a:x")
CLOSED = Mapping("group_id", "g", "#a:x", invite=True, exclusive=True)


@pytest.mark.parametrize(
    ("verdict", "room", "number", "expected"),
    [
        ("approved", "#a:x", 1, "Approved: 1 person is removed from #a:x now."),
        ("approved", "#a:x", 20, "Approved: 20 people are removed from #a:x now."),
        ("approved", None, 1, "Approved: 1 account is disabled now, as was shown."),
        ("approved", None, 2, "Approved: 2 accounts are disabled now, each as was shown."),
        ("dismissed", "#a:x", 1, "Dismissed: 1 person stays in #a:x."),
        ("dismissed", "#a:x", 3, "Dismissed: 3 people stay in #a:x."),
        ("dismissed", None, 1, "Dismissed: 1 account stays as it is, until"),
    ],
)
def test_a_decision_is_told(
    verdict: Decision, room: str | None, number: int, expected: str
) -> None:
    """Whom it was about, and what becomes of them."""
    told = sayings.decided(verdict, room, number, number, dry=False)
    assert told.startswith(expected)
    assert "no longer held" not in told


def test_what_a_decision_came_too_late_for_is_told() -> None:
    """Who was withdrawn, or held anew, since the page was shown."""
    assert "1 of those you chose is no longer held" in sayings.decided(
        "approved", "#a:x", 2, 3, dry=False
    )
    assert "2 are no longer held" in sayings.decided("approved", "#a:x", 1, 3, dry=False)
    assert sayings.decided("dismissed", None, 0, 2, dry=False).startswith("Nothing was done. 2 are")


def test_what_was_decided_before_is_told_with_whom_and_when() -> None:
    """Of a click that came twice, and of one that somebody else's was quicker than."""
    ann, bob = Earlier("approved", "@ann:x", 0, 1), Earlier("dismissed", "@bob:x", 60, 2)
    told = sayings.decided("approved", "#a:x", 0, 1, [ann], dry=False)
    assert told == (
        "Approved already by @ann:x (1970-01-01 00:00 UTC): 1 person is removed from #a:x now."
        " The log says how each ended."
    )
    told = sayings.decided("approved", "#a:x", 1, 5, [ann, bob], dry=False)
    assert told.startswith("Approved: 1 person is removed from #a:x now.")
    assert "Dismissed already by @bob:x (1970-01-01 00:01 UTC): 2 people stay in #a:x." in told
    assert told.endswith(
        "1 of those you chose is no longer held as shown here: nothing was decided about them."
    )


@pytest.mark.parametrize(
    "told",
    [
        sayings.decided("approved", "#a:x", 1, 1, dry=True),
        sayings.decided("approved", None, 2, 2, dry=True),
        sayings.decided("approved", "#a:x", 0, 1, [Earlier("approved", "@b:x", 0, 1)], dry=True),
        sayings.mapped("Staff", "#a:x", OPEN, dry=True),
        sayings.mapped("Staff", "#a:x", CLOSED, dry=True),
        sayings.unmapped("Staff", "#a:x", 2, still_opens=False, dry=True),
        sayings.linked("ann", "@ann:x", dry=True),
        sayings.compared(dry=True),
        sayings.let_in("#a:x", "!a", is_that=True, dry=True),
    ],
)
def test_in_a_dry_run_nothing_is_said_to_be_done(told: str) -> None:
    """What would be is told as that, and that it is not."""
    assert "would " in told
    assert sayings.DRY in told
    for done in (
        "is removed",
        "are disabled",
        "is brought",
        "is invited",
        "follow;",
        "is put",
        "on their way",
    ):
        assert done not in told


@pytest.mark.parametrize(
    ("mapping", "meetings", "says"),
    [
        (OPEN, [], "This would add the group's people to #a:x."),
        (CLOSED, [], "#a:x. Others would have to leave, whom no other group"),
        (
            OPEN,
            [Meeting("#a:x", 2, 1, 9)],
            "add 2 people to #a:x; 1 of the group is in it already.",
        ),
        (
            CLOSED,
            [Meeting("#a:x", 1, 0, 1)],
            "#a:x; 0 of the group are in it already. 1 other person there would",
        ),
        (CLOSED, [Meeting("#a:x", 1, 2, 3)], "invite 1 person"),
        (CLOSED, [Meeting("#a:x", 1, 2, 3)], "3 other people there would have to leave"),
        (
            replace(CLOSED, children=True),
            [Meeting("#a:x", 1, 0, 0), Meeting("!b", 1, 0, 6)],
            "invite 1 person to !b; 0 of the group are in it already. 6 other people there would",
        ),
        (replace(CLOSED, children=True), [], "#a:x and the rooms below it. Others would"),
    ],
)
def test_a_change_of_the_map_is_told_before(
    mapping: Mapping, meetings: list[Meeting], says: str
) -> None:
    """Who would come and who would have to leave, as far as whoever asks may know that."""
    told = sayings.would_map(mapping, "#a:x", meetings)
    assert says in told
    assert ("have to leave" in told) is mapping.exclusive


def test_nobody_has_to_leave_a_room_that_holds_nobody_else() -> None:
    """Then there is nothing to say of others."""
    assert "leave" not in sayings.would_map(CLOSED, "#a:x", [Meeting("#a:x", 1, 0, 0)])


def test_a_power_level_that_cannot_be_given_is_told() -> None:
    """Before the mapping is kept and when it is; of one that can be, nothing."""
    powerful = replace(OPEN, power=100)
    for told in (
        sayings.would_map(powerful, "#a:x", [], "it is too high"),
        sayings.mapped("Staff", "#a:x", powerful, "it is too high", dry=False),
    ):
        assert told.endswith("Power level 100 cannot be given there: it is too high.")
        assert "get power" not in told
    assert "cannot" not in sayings.would_map(powerful, "#a:x", [])
    assert "cannot" not in sayings.mapped("Staff", "#a:x", powerful, dry=False)


@pytest.mark.parametrize(
    ("meetings", "invite", "who"),
    [
        ([Meeting("#a:x", 0, 3, 0)], False, "All 3 people of the group would get power level 60;"),
        ([Meeting("#a:x", 1, 0, 0)], False, "The 1 person of the group would get power level 60;"),
        ([Meeting("#a:x", 2, 1, 0)], True, "get power level 60, once they have accepted;"),
        (
            [Meeting("#a:x", 2, 0, 0), Meeting("!b", 2, 0, 0)],
            False,
            "Whoever of the group is there",
        ),
        ([], False, "Whoever of the group is there would get power level 60; who has more keeps"),
    ],
)
def test_a_power_level_is_told_before_it_is_given(
    meetings: list[Meeting], invite: bool, who: str
) -> None:
    """To those who are in the room already, too; when it is kept it is told again."""
    powerful = replace(OPEN, power=60, invite=invite)
    assert who in sayings.would_map(powerful, "#a:x", meetings)
    assert "They get power level 60 there" in sayings.mapped("Staff", "#a:x", powerful, dry=False)
    for told in (
        sayings.would_map(OPEN, "#a:x", meetings),
        sayings.mapped("Staff", "#a:x", OPEN, dry=False),
    ):
        assert "power level" not in told


def test_a_change_of_the_map_is_told() -> None:
    """Who comes and who goes by it."""
    assert "Staff is brought into #a:x from now on" in sayings.mapped(
        "Staff", "#a:x", OPEN, dry=False
    )
    assert "is invited to #a:x" in sayings.mapped("Staff", "#a:x", CLOSED, dry=False)
    assert "Others leave it" in sayings.mapped("Staff", "#a:x", CLOSED, dry=False)
    assert "Its people stay" in sayings.unmapped(
        "Staff", "#a:x", None, still_opens=False, dry=False
    )
    assert "Nobody has to leave" in sayings.unmapped(
        "Staff", "#a:x", 0, still_opens=False, dry=False
    )
    assert " 1 removal follows;" in sayings.unmapped(
        "Staff", "#a:x", 1, still_opens=True, dry=False
    )
    assert " 7 removals follow;" in sayings.unmapped(
        "Staff", "#a:x", 7, still_opens=False, dry=False
    )
