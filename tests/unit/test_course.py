"""How fast something gets on, as it is told."""

import pytest

from scim_matrix.course import Amount, Course


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ([], ""),
        ([(0, 100)], ""),
        ([(0, 100), (10, 0)], ""),
        ([(0, 100), (10, 50)], "5.0 a second, 0:00:10 left"),
        ([(0, 40_000), (10, 39_980)], "2.0 a second, 5:33:10 left"),
        ([(0, 100), (10, 100)], "at a standstill"),
        # More came: what was done before tells nothing of that.
        ([(0, 100), (10, 50), (20, 1000), (30, 990)], "1.0 a second, 0:16:30 left"),
        # What was long ago counts no more.
        ([(0, 10_000), (100, 1000), (110, 900)], "10.0 a second, 0:01:30 left"),
    ],
)
def test_rate_and_remaining_time(seen: list[tuple[float, int]], told: str) -> None:
    """Of the last minute, in words."""
    course = Course()
    for at, left in seen:
        course.note(at, left)
    assert course.told() == told


def test_what_is_done_is_never_below_nothing() -> None:
    """Accounts of deleted users are left to be done, and are nobody's any more."""
    assert Amount(3, 5).done == 0
    assert Amount(5, 3).done == 2
