"""Times as people write them in the console."""

import datetime

import pytest

from scim_matrix.console.times import clock, day, moment, shown, zone

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


def test_days_begin_where_one_is() -> None:
    """Midnight is that of the viewer's zone, whatever a change of the clocks lies between."""
    berlin = zone("Europe/Berlin")
    now = datetime.datetime(2026, 10, 25, 23, 30, tzinfo=datetime.UTC).timestamp()
    for text, expected in (
        ("today", "2026-10-26T00:00:00+01:00"),
        ("yesterday", "2026-10-25T00:00:00+02:00"),
        ("2026-07-01 12:00", "2026-07-01T12:00:00+02:00"),
        ("2026-07-01T12:00+00:00", "2026-07-01T12:00:00+00:00"),
    ):
        there = datetime.datetime.fromisoformat(expected).timestamp()
        assert there == moment(text, now, berlin), text


def test_how_long_ago_is_so_long_ago() -> None:
    """Two hours are two hours, also where the clocks were changed an hour ago."""
    berlin = zone("Europe/Berlin")
    for changed in ("2026-10-25T01:00:00+00:00", "2026-03-29T01:00:00+00:00"):
        now = datetime.datetime.fromisoformat(changed).timestamp() + 3600
        assert moment("2h", now, berlin) == now - 2 * 3600
        assert moment("1d", now, berlin) == now - 86400


def test_times_are_told_where_one_is() -> None:
    """In the viewer's zone, which is named; the exact moment stands beside it for scripts."""
    berlin, late = zone("Europe/Berlin"), datetime.datetime(2026, 7, 1, 22, 30, 5, 0, datetime.UTC)
    at = late.timestamp()
    exact = 'datetime="2026-07-01T22:30:05+00:00"'
    assert f'<time class="age" {exact}>2026-07-02 00:30 CEST</time>' == shown(at, berlin)
    assert f'<time class="age" {exact}>2026-07-01 22:30 UTC</time>' == shown(at, datetime.UTC)
    assert f'<time class="clock" {exact}>00:30:05</time>' == clock(at, berlin)
    assert day(at, berlin) == "Thursday, 2026-07-02"
    assert shown(0.0, berlin) == "never"


@pytest.mark.parametrize(
    "name",
    ["", "Nowhere/There", "../../etc/passwd", "/etc/passwd", "Europe", "tzdata.zi", "é", "a" * 99],
)
def test_any_other_zone_is_utc(name: str) -> None:
    """Whatever a cookie says: no zone, no file elsewhere, nothing that fails."""
    assert zone(name) is datetime.UTC
