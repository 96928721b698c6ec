"""Times as people write them (pure)."""

import datetime
import re

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d{1,6})\s*([smhdw])(?:\s+ago)?")
_DAYS = {"today": 0, "yesterday": 1}


def moment(text: str, now: float) -> float:
    """Return the moment that a text means, in seconds since the epoch as `now` is.

    `today` and `yesterday` are midnight UTC; `2h` is so long ago; else a date or a date with a
    time (ISO 8601), UTC unless it says. Raises ValueError with what would be right.
    """
    words, present = text.strip().lower(), datetime.datetime.fromtimestamp(now, datetime.UTC)
    try:
        if words in _DAYS:
            midnight = present.replace(hour=0, minute=0, second=0, microsecond=0)
            return (midnight - datetime.timedelta(days=_DAYS[words])).timestamp()
        if (ago := _AGO.fullmatch(words)) is not None:
            since = present - datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return since.timestamp()
        found = datetime.datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f"“{text}” is no time: write today, yesterday, how long ago (30m, 2h, 7d), or a date"
            " with or without a time (2026-11-01 or 2026-11-01 14:30)."
        ) from None
