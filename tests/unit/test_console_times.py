"""Times as people write them in the console."""

import datetime
import re

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
        ("2 hours ago", "2026-11-28T12:02:00+00:00"),
        ("1 minute ago", "2026-11-28T14:01:00+00:00"),
        ("30 min", "2026-11-28T13:32:00+00:00"),
        ("1 day ago", "2026-11-27T14:02:00+00:00"),
        ("moments ago", "2026-11-28T14:02:00+00:00"),
        ("14:01", "2026-11-28T14:01:00+00:00"),
        ("9:30", "2026-11-28T09:30:00+00:00"),
        ("14:02:01", "2026-11-27T14:02:01+00:00"),
        ("yesterday 14:00", "2026-11-27T14:00:00+00:00"),
        ("2026-11-28 14:01 UTC", "2026-11-28T14:01:00+00:00"),
        ("Saturday, 2026-11-28", "2026-11-28T00:00:00+00:00"),
    ],
)
def test_a_moment_is_understood(text: str, expected: str) -> None:
    """Days by name, how long ago, dates with and without time."""
    assert datetime.datetime.fromisoformat(expected).timestamp() == moment(text, NOW.timestamp())


@pytest.mark.parametrize(
    "text", ["soon", "2x", "2026-13-01", "999999w", "-2h", "25:00", "2026-11-01 CET"]
)
def test_anything_else_is_told(text: str) -> None:
    """With what would be right."""
    with pytest.raises(ValueError, match="is no time: write today, yesterday"):
        moment(text, NOW.timestamp())


@pytest.mark.parametrize("text", ["2026-11-29", "today 14:03", "2026-11-28 14:03 UTC"])
def test_what_is_still_to_come_is_told(text: str) -> None:
    """Nothing was recorded since, which nobody has to guess."""
    with pytest.raises(ValueError, match=f"“{text}” is still to come"):
        moment(text, NOW.timestamp())


@pytest.mark.parametrize(
    "place", ["UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kolkata"]
)
def test_times_are_taken_as_they_are_written(place: str) -> None:
    """In every zone, winter and summer, and in the hour that comes twice."""
    there = zone(place)
    for at in ("2026-07-01T22:30", "2026-01-31T09:05", "2026-10-25T00:30", "2026-10-25T01:30"):
        found = datetime.datetime.fromisoformat(f"{at}+00:00").timestamp()
        written = re.sub("<.*?>", "", str(shown(found, there)))
        assert moment(written, NOW.timestamp(), there) == found, written
        assert day(moment(day(found, there), NOW.timestamp(), there), there) == day(found, there)


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
