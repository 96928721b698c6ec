"""What the console says of an action."""

import pytest

from scim_matrix.console import sayings
from scim_matrix.groupmap import Mapping
from scim_matrix.store.brake import Decision


@pytest.mark.parametrize(
    ("verdict", "room", "number", "expected"),
    [
        ("approved", "#a:x", 1, "Approved: 1 person is removed from #a:x now."),
        ("approved", "#a:x", 20, "Approved: 20 people are removed from #a:x now."),
        ("approved", None, 2, "Approved: 2 accounts are locked or deactivated now."),
        ("dismissed", "#a:x", 1, "Dismissed: 1 person stays in #a:x."),
        ("dismissed", "#a:x", 3, "Dismissed: 3 people stay in #a:x."),
        ("dismissed", None, 1, "Dismissed: 1 account stays as it is, until"),
    ],
)
def test_a_decision_is_told(
    verdict: Decision, room: str | None, number: int, expected: str
) -> None:
    """Whom it was about, and what becomes of them."""
    told = sayings.decided(verdict, room, number, number)
    assert told.startswith(expected)
    assert "no longer held" not in told


def test_what_a_decision_came_too_late_for_is_told() -> None:
    """Who was withdrawn, or held anew, since the page was shown."""
    assert "1 of those you chose is no longer held" in sayings.decided("approved", "#a:x", 2, 3)
    assert "2 are no longer held" in sayings.decided("approved", "#a:x", 1, 3)
    assert sayings.decided("dismissed", None, 0, 2).startswith("Nothing was done. 2 are")


def test_a_change_of_the_map_is_told() -> None:
    """Who comes and who goes by it."""
    mapping = Mapping("group_id", "g", "!a:x")
    assert "Staff is brought into #a:x from now on" in sayings.mapped("Staff", "#a:x", mapping)
    closed = Mapping("group_id", "g", "!a:x", invite=True, exclusive=True)
    assert "is invited to #a:x" in sayings.mapped("Staff", "#a:x", closed)
    assert "Others leave it" in sayings.mapped("Staff", "#a:x", closed)
    assert "Its people stay" in sayings.unmapped("Staff", "#a:x", None, still_opens=False)
    assert "Nobody has to leave" in sayings.unmapped("Staff", "#a:x", 0, still_opens=False)
    assert " 1 removal follows;" in sayings.unmapped("Staff", "#a:x", 1, still_opens=True)
    assert " 7 removals follow;" in sayings.unmapped("Staff", "#a:x", 7, still_opens=False)
