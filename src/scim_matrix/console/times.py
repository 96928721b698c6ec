"""Times as people write and read them, where they are (pure)."""

import datetime
import re
import zoneinfo

from markupsafe import Markup

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d{1,6})\s*([smhdw])(?:\s+ago)?")
_DAYS = {"today": 0, "yesterday": 1}
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

    `today` and `yesterday` are midnight there; `2h` is so long ago; else a date or a date with a
    time (ISO 8601), of that place unless it says. Raises ValueError with what would be right.
    """
    words, present = text.strip().lower(), datetime.datetime.fromtimestamp(now, datetime.UTC)
    try:
        if words in _DAYS:
            day = present.astimezone(where).date() - datetime.timedelta(days=_DAYS[words])
            return datetime.datetime.combine(day, datetime.time(), where).timestamp()
        if (ago := _AGO.fullmatch(words)) is not None:
            since = present - datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return since.timestamp()
        found = datetime.datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=where)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f"“{text}” is no time: write today, yesterday, how long ago (30m, 2h, 7d), or a date"
            " with or without a time (2026-11-01 or 2026-11-01 14:30)."
        ) from None


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
