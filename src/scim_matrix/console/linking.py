"""Sentences as HTML: whoever and whatever is named by ID is a click away, times are told there."""

import datetime
import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote

from markupsafe import Markup, escape

from scim_matrix.console import times

# User IDs and room IDs (Matrix specification, "Identifier Grammar"), rooms of version 12 included,
# without a sentence's own punctuation behind them; moments as story/words.py writes them; and
# requests by the IDs that they are given here. SCIM ids are not broken in the middle either.
_TOLD = re.compile(
    r"(?<![\w/])(@[\w.\-=/+]+:[\w.\-]*\w(?::\d+)?|!(?:[\w\-=+/.~]+:[\w.\-]*\w(?::\d+)?|[\w\-]{43})"
    r"|\d{4}-\d\d-\d\d \d\d:\d\d UTC|(?<=\brequest )[0-9a-f]{16}\b"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b)"
)
# How long the ID of a request is.
_REQUEST = 16
_PAGES = {"@": "people", "!": "rooms"}
# The punctuation around an ID goes along where that does not fit on a line any more.
_OPENING, _CLOSING = "'(", "'),.:;"
_WHOLE = Markup('<span class="whole">{}{}{}</span>')


def linked(
    text: str,
    where: datetime.tzinfo = datetime.UTC,
    names: Mapping[str, str] = MappingProxyType({}),
) -> Markup:
    """Return text as HTML: user IDs and room IDs lead to their pages, times are of a zone.

    Of "name (ID)" the name leads there, where that is what the room is called (`names`).
    """
    parts = _TOLD.split(text)
    html: list[Markup | str] = []
    # What the pattern caught is every second one.
    for index in range(1, len(parts), 2):
        before, found, after = parts[index - 1 : index + 2]
        if (told := _moment_or_request(found, where)) is not None:
            html += [escape(before), told]
            continue
        named = names.get(found)
        if named and before.endswith(f"{named} (") and after.startswith(")"):
            before, called, after = before[: -len(named) - 2], named, after[1:]
        else:
            called = found
        head, parts[index + 1] = before.rstrip(_OPENING), after.lstrip(_CLOSING)
        closing = after[: len(after) - len(parts[index + 1])]
        whole = _WHOLE.format(before[len(head) :], _link(found, called), closing)
        html += [escape(head), whole]
    return Markup("").join([*html, escape(parts[-1])])


def plain(text: str) -> Markup:
    """Return a sentence of the documentation as HTML: what stands in backticks is typed so."""
    parts = text.split("`")
    typed = [Markup("<code>{}</code>").format(part) for part in parts[1::2]]
    html: list[Markup | str] = [*parts]
    html[1::2] = typed
    return Markup("").join(html)


def _moment_or_request(found: str, where: datetime.tzinfo) -> Markup | str | None:
    if found[0] in _PAGES:
        return None
    if len(found) == _REQUEST:
        return Markup('<a href="/console/log?request={0}">{0}</a>').format(found)
    if not found.endswith("UTC"):
        return None
    try:
        at = datetime.datetime.strptime(found, "%Y-%m-%d %H:%M UTC").replace(tzinfo=datetime.UTC)
        return times.shown(at.timestamp(), where)
    except (ValueError, OverflowError):
        # A name that only looks like it, or no day of that zone.
        return found


def _link(found: str, called: str) -> Markup:
    if found[0] not in _PAGES:
        return escape(called)
    path = f"/console/{_PAGES[found[0]]}/{quote(found, safe='')}"
    return Markup('<a href="{}" title="{}">{}</a>').format(path, found, called)
