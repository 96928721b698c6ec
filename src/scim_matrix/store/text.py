"""The forms in which strings are compared, as the protocol library's default policy has them."""

import datetime
from unicodedata import normalize


def composed(value: str) -> str:
    """Return the form in which case exact strings are compared and indexed."""
    return normalize("NFC", value)


def folded(value: str) -> str:
    """Return the form in which strings that are not case exact are compared and indexed."""
    return normalize("NFC", normalize("NFC", value).lower())


def told(at: float) -> str:
    """Return a moment (seconds since the epoch) as people read it, in UTC."""
    if not at:
        return "never"
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="seconds")


def moment(text: str) -> float:
    """Return the moment that a date or time stands for (UTC unless it says), 0 for nothing else."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
