"""Times as people write and read them, where they are (pure)."""

import datetime
import re
import zoneinfo

from markupsafe import Markup

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(
    r"(\d{1,6})\s*(s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?|w|weeks?)(?:\s+ago)?"
)
_NOW = ("now", "moments ago")
_DAYS = {"today": 0, "yesterday": 1}
_CLOCK = r"\d{1,2}:\d\d(?::\d\d)?"
_AT = re.compile(rf"(?:(today|yesterday)\s+)?({_CLOCK})")
# As the pages write times, the heading of a day in the log included.
_WRITTEN = re.compile(
    rf"(?:[a-z]+day,?\s+)?(\d{{4}}-\d\d-\d\d(?:[t ]{_CLOCK})?)"
    r"(?:\s+([a-z]{2,5}|[+-]\d\d(?:\d\d)?))?"
)
# IANA's names, none of which leads out of the folder where they are kept.
_ZONE = re.compile(r"[A-Za-z0-9_+\-]{1,32}(/[A-Za-z0-9_+\-]{1,32}){0,2}")


def zone(name: str) -> datetime.tzinfo:
    """Return the time zone of a name (IANA, such as Europe/Berlin), UTC for any other word."""
    if _ZONE.fullmatch(name) is None:
        return datetime.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        # No such zone, a folder of some, or a file that is none.
        return datetime.UTC


def moment(text: str, now: float, where: datetime.tzinfo = datetime.UTC) -> float:
    """Return the moment that a text means, in seconds since the epoch as `now` is.

    `today` and `yesterday` are midnight there; `14:30` was it last; `2h`, or `2 hours ago`, is so
    long ago; else a date or a date with a time (ISO 8601, or as pages write it), of that place
    unless it says. Raises ValueError with what would be right, and of what is still to come.
    """
    words, present = text.strip().lower(), datetime.datetime.fromtimestamp(now, datetime.UTC)
    try:
        found = _meant(words, present, where)
        at = (found if found.tzinfo else found.replace(tzinfo=where)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f"“{text}” is no time: write today, yesterday, a time of the day (14:30), how long ago"
            " (30m, 2h, 7d), or a date with or without a time (2026-11-01 or 2026-11-01 14:30)."
        ) from None
    if at > now:
        raise ValueError(f"“{text}” is still to come.")
    return at


def _meant(words: str, present: datetime.datetime, where: datetime.tzinfo) -> datetime.datetime:
    """Return what words in lower case mean; raises ValueError or OverflowError for any other."""
    if words in _NOW:
        return present
    if (ago := _AGO.fullmatch(words)) is not None:
        return present - datetime.timedelta(**{_UNITS[ago[2][0]]: int(ago[1])})
    if words in _DAYS:
        return _at(words, datetime.time(), present, where)
    if (clock := _AT.fullmatch(words)) is not None:
        hour, _, rest = clock[2].partition(":")
        time = datetime.time.fromisoformat(f"{hour:0>2}:{rest}")
        found = _at(clock[1] or "today", time, present, where)
        is_to_come = clock[1] is None and found > present
        return _at("yesterday", time, present, where) if is_to_come else found
    if (written := _WRITTEN.fullmatch(words)) is not None and written[2]:
        return _in_named_zone(datetime.datetime.fromisoformat(written[1]), written[2], where)
    return datetime.datetime.fromisoformat(written[1] if written else words)


def _at(
    day: str, time: datetime.time, present: datetime.datetime, where: datetime.tzinfo
) -> datetime.datetime:
    date = present.astimezone(where).date() - datetime.timedelta(days=_DAYS[day])
    return datetime.datetime.combine(date, time, where)


def _in_named_zone(at: datetime.datetime, name: str, where: datetime.tzinfo) -> datetime.datetime:
    """Return a moment of the zone that is called so: UTC, or one of the names that `where` has."""
    for zone in (datetime.UTC, where):
        # An hour that a change of the clocks repeats has two names.
        for fold in (0, 1):
            found = at.replace(tzinfo=zone, fold=fold)
            if str(found.tzname()).lower() == name:
                return found
    raise ValueError


def shown(at: float, where: datetime.tzinfo) -> str | Markup:
    """Return a moment (seconds since the epoch) as HTML; the page's script tells its age."""
    return _time(at, f"{_there(at, where):%Y-%m-%d %H:%M %Z}") if at else "never"


def clock(at: float, where: datetime.tzinfo) -> Markup:
    """Return the time of day of a moment (seconds since the epoch) as HTML."""
    return _time(at, f"{_there(at, where):%H:%M:%S}", "clock")


def day(at: float, where: datetime.tzinfo) -> str:
    """Return the day of a moment (seconds since the epoch)."""
    return f"{_there(at, where):%A, %Y-%m-%d}"


def _there(at: float, where: datetime.tzinfo) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at, where)


def _time(at: float, text: str, kind: str = "age") -> Markup:
    exact = _there(at, datetime.UTC).isoformat(timespec="seconds")
    return Markup('<time class="{}" datetime="{}">{}</time>').format(kind, exact, text)
