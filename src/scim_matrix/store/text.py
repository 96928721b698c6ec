"""The forms in which strings are compared, as the protocol library has them, and can be kept."""

import datetime
import re
from unicodedata import normalize

# The most bytes (UTF-8) of a text by which rows are found. An index of PostgreSQL takes rows of at
# most 2,704 bytes, in which two such texts may stand.
MOST_INDEXED = 1024
TOO_LONG = f"is longer than {MOST_INDEXED} bytes"

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# Of a JSON text: whatever a backslash begins, the two escapes of one character together.
_ESCAPE = re.compile(
    r"\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)
_UNSTORABLE_ESCAPE = re.compile(r"\\u(0000|[dD][89a-fA-F].{2})")


def composed(value: str) -> str:
    """Return the form in which case exact strings are compared and indexed."""
    return normalize("NFC", value)


def folded(value: str) -> str:
    """Return the form in which strings that are not case exact are compared and indexed."""
    return normalize("NFC", normalize("NFC", value).lower())


def is_too_long(value: str) -> bool:
    """Tell whether a text, in the form in which it is indexed, has more than MOST_INDEXED bytes."""
    # Most need not be encoded to see it: no character has more than four.
    return len(value) * 4 > MOST_INDEXED and len(storable(value).encode()) > MOST_INDEXED


def told(at: float) -> str:
    """Return a moment (seconds since the epoch) as people read it, in UTC."""
    if not at:
        return "never"
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="seconds")


def storable(value: str) -> str:
    """Return a text as every database can have it.

    U+FFFD takes the place of U+0000 and of lone surrogates, in JSON also where they are escaped.
    """
    if not value.isascii() or "\0" in value:
        value = _UNSTORABLE.sub("\ufffd", value)
    if "\\u" in value and value.startswith(("[", "{")):
        value = _ESCAPE.sub(_storable_escape, value)
    return value


def _storable_escape(found: re.Match[str]) -> str:
    return r"\ufffd" if _UNSTORABLE_ESCAPE.fullmatch(found[0]) else found[0]
