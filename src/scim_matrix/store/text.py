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
