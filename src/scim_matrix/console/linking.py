"""Links in sentences: whoever and whatever is named by ID is a click away, times are told there."""

import datetime
import re
from urllib.parse import quote

from markupsafe import Markup, escape

from scim_matrix.console import times

# User IDs and room IDs (Matrix specification, "Identifier Grammar"), rooms of version 12 included,
# without a sentence's own punctuation behind them; and moments as story/words.py writes them.
_TOLD = re.compile(
    r"(?<![\w/])(@[\w.\-=/+]+:[\w.\-]*\w(?::\d+)?|!(?:[\w\-=+/.~]+:[\w.\-]*\w(?::\d+)?|[\w\-]{43})"
    r"|\d{4}-\d\d-\d\d \d\d:\d\d UTC)"
)
_PAGES = {"@": "people", "!": "rooms"}


def linked(text: str, where: datetime.tzinfo = datetime.UTC) -> Markup:
    """Return text as HTML: user IDs and room IDs lead to their pages, times are of a zone."""
    parts = _TOLD.split(text)
    # What the pattern caught is every second one.
    return Markup("").join(
        _told(part, where) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def _told(found: str, where: datetime.tzinfo) -> Markup | str:
    if found[0] not in _PAGES:
        at = datetime.datetime.strptime(found, "%Y-%m-%d %H:%M UTC").replace(tzinfo=datetime.UTC)
        return times.shown(at.timestamp(), where)
    path = f"/console/{_PAGES[found[0]]}/{quote(found, safe='')}"
    return Markup('<a class="whole" href="{}">{}</a>').format(path, found)
