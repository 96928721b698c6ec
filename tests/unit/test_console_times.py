"""Times as people write them in the console."""

import datetime

import pytest

from scim_matrix.console.times import moment

NOW = datetime.datetime(2026, 11, 28, 14, 2, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", "2026-11-28T00:00:00+00:00"),
        ("Yesterday ", "2026-11-27T00:00:00+00:00"),
        ("2h", "2026-11-28T12:02:00+00:00"),
        ("30 m ago", "2026-11-28T13:32:00+00:00"),
        ("1w", "2026-11-21T14:02:00+00:00"),
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01 14:30", "2026-11-01T14:30:00+00:00"),
        ("2026-11-01T14:30+02:00", "2026-11-01T12:30:00+00:00"),
    ],
)
def test_a_moment_is_understood(text: str, expected: str) -> None:
    """Days by name, how long ago, dates with and without time."""
    assert datetime.datetime.fromisoformat(expected).timestamp() == moment(text, NOW.timestamp())


@pytest.mark.parametrize("text", ["soon", "2x", "2026-13-01", "999999w", "-2h"])
def test_anything_else_is_told(text: str) -> None:
    """With what would be right."""
    with pytest.raises(ValueError, match="is no time: write today, yesterday"):
        moment(text, NOW.timestamp())
