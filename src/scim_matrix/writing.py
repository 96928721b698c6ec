"""Names that others chose, so that none turns the sentence round in which it stands (pure)."""

import re

# What turns the direction of writing without being seen: marks, embeddings, overrides, isolates
# (Unicode Standard Annex #9, section 2).
TURNING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_TURNING = re.compile(f"[{TURNING}]")


def unturned(text: str) -> str:
    """Return a text whose invisible characters that turn the direction of writing are shown."""
    return _TURNING.sub(lambda c: c[0].encode("unicode_escape").decode(), text)
