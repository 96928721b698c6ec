"""Links in sentences: wherever a person or room is named by ID, its page is a click away."""

import re
from urllib.parse import quote

from markupsafe import Markup, escape

# User IDs and room IDs (Matrix specification, "Identifier Grammar"), rooms of version 12 included.
# A sentence's own punctuation behind them is none of theirs.
_ID = re.compile(
    r"(?<![\w/])(@[\w.\-=/+]+:[\w.\-]*\w(?::\d+)?|!(?:[\w\-=+/.~]+:[\w.\-]*\w(?::\d+)?|[\w\-]{43}))"
)
_PAGES = {"@": "people", "!": "rooms"}


def linked(text: str) -> Markup:
    """Return text as HTML in which user IDs and room IDs lead to their pages."""
    parts = _ID.split(text)
    # What the pattern caught is every second one.
    return Markup("").join(
        _link(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def _link(found: str) -> Markup:
    path = f"/console/{_PAGES[found[0]]}/{quote(found, safe='')}"
    return Markup('<a class="whole" href="{}">{}</a>').format(path, found)
