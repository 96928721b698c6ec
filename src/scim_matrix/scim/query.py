"""Queries in canonical form: what URLs and search bodies ask for, folded and bounded (pure)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from scim2_models import (
    InvalidFilterException,
    InvalidPathException,
    InvalidValueException,
    Path,
    SCIMException,
    ScimFilter,
)

MAX_RESULTS = 1000
DEFAULT_PAGE = 100
MAX_FILTER_LENGTH = 16_384
MAX_FILTER_TERMS = 256
MAX_NAMES = 256

_NAMES = {
    name.lower(): name
    for name in (
        "attributes",
        "excludedAttributes",
        "filter",
        "sortBy",
        "sortOrder",
        "startIndex",
        "count",
        "cursor",
    )
}
# A quoted string, or an operator, with its value where that lacks its quotes. A string that is
# never closed goes to the end: else each of its quotes would begin a search of its own.
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\[\s\S])*(?:"|\\?\Z)'
    r"|(?<=\s)pr\b"
    r"|(?<=\s)(?P<op>eq|ne|co|sw|ew|gt|ge|lt|le)(?P<gap>\s+)(?P<bare>'[^']*'|[^\s\"()\[\]]+)?",
    re.IGNORECASE,
)
_LITERALS = {"true", "false", "null"}


class TooLongError(ValueError):
    """A filter or path is beyond all use."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which attributes an answer is to hold: `attributes` and `excludedAttributes`, lower case."""

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: Mapping[str, Any]) -> "Selection":
        """Return the selection of a canonical query."""
        return cls(_listed(query.get("attributes")), _listed(query.get("excludedAttributes")))

    def parts(self, urn: str, attribute: str, known: tuple[str, ...]) -> list[str]:
        """Return which of an attribute's `known` sub-attributes are wanted; none: leave it out."""
        name = attribute.lower()

        def named(listed: tuple[str, ...], part: str) -> bool:
            spellings = {name, f"{name}.{part.lower()}"}
            return any(entry.removeprefix(f"{urn.lower()}:") in spellings for entry in listed)

        if self.only:
            return [p for p in known if named(self.only, p)]
        return [p for p in known if not named(self.without, p)]


# One name of a list of attributes, with its selection of entries where it has one.
_NAME = re.compile(r'[^,\[]+(?:\[(?:"(?:[^"\\]|\\.)*"|[^"\]])*\][^,\[]*)?')


def _listed(value: Any) -> tuple[str, ...]:
    names = _NAME.findall(value) if isinstance(value, str) else value
    if not isinstance(names, list):
        return ()
    return tuple(n.strip().lower() for n in names if isinstance(n, str) and n.strip())


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Which entries of a multi-valued attribute an answer is to hold, and which part of each.

    `path` selects them, as in `emails[type eq "work"]`.
    """

    attribute: str
    path: str
    part: str


def take_narrowings(query: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Narrowing, ...]]:
    """Take the selections of entries out of `attributes`, where RFC 7644 has none.

    Returns the query as the library reads it, and what to make of its answer. Raises
    InvalidPathException for a selection that cannot be read, or of what is no model's.
    """
    sent = query.get("attributes")
    names = _NAME.findall(sent) if isinstance(sent, str) else sent
    if not isinstance(names, list) or not any("[" in n for n in names if isinstance(n, str)):
        return dict(query), ()
    plain: list[Any] = []
    found: list[Narrowing] = []
    for name in names:
        if isinstance(name, str) and "[" in name:
            found.append(_narrowing(quoted(name.strip())))
        else:
            plain.append(name.strip() if isinstance(name, str) else name)
    whole = {name.lower() for name in plain if isinstance(name, str)}
    plain += [narrowing.attribute for narrowing in found]
    left = tuple(n for n in found if n.attribute.lower() not in whole)
    return {**query, "attributes": plain}, left


def _narrowing(name: str) -> Narrowing:
    Path(name)
    attribute, _, rest = name.partition("[")
    selection, _, part = rest.rpartition("]")
    if attribute.lower().rpartition(":")[2] in {"members", "groups"}:
        raise InvalidPathException(detail=f"attributes: {attribute} is shown as a whole or not")
    return Narrowing(attribute, f"{attribute}[{selection}]", part.removeprefix("."))


def parse_query(text: str) -> dict[str, str]:
    """Return the parameters of a query string in canonical form.

    A plus sign is itself where blanks are written %20, as in e-mail addresses with tags; where
    both are mixed, what makes a filter counts. Raises as `canonical_search` does.
    """
    readings = list(_readings(text))
    for reading in readings[:-1]:
        if _filter_can_be_read(reading):
            break
    else:
        reading = readings[-1]
    return {k: str(v) for k, v in canonical_search(reading).items()}


def _readings(text: str) -> Iterator[dict[str, str]]:
    """Give what a query string may mean, the likeliest first."""
    if "%20" in text and "+" in text:
        yield dict(parse_qsl(text.replace("+", "%2B"), keep_blank_values=True))
        # Blanks between the words of a filter, plus signs within its texts.
        parts = re.split(r'("|%22)', text)
        inside = [part.replace("+", "%2B") if n % 4 == 2 else part for n, part in enumerate(parts)]
        yield dict(parse_qsl("".join(inside), keep_blank_values=True))
    yield dict(parse_qsl(text, keep_blank_values=True))


def _filter_can_be_read(query: Mapping[str, str]) -> bool:
    """Tell whether a query's filter can be parsed, if it has one."""
    sent = next((v for k, v in query.items() if k.lower() == "filter"), None)
    if sent is None:
        return True
    try:
        _ = ScimFilter(quoted(sent)).ast
    except (SCIMException, ValueError):
        return False
    return True


def qualified(expression: str, extended: Mapping[str, tuple[str, bool]]) -> str:
    """Return a filter whose attributes of extensions carry the URN of their schema.

    `extended` maps their names in lower case to that URN and whether what is compared is their
    `value`: Entra ID asks for `manager eq "id"`.
    """

    def rewrite(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None or name.lower() not in extended:
            return match[0]
        urn, has_value = extended[name.lower()]
        is_compared = has_value and not match["sub"] and match["op"].lower() != "pr"
        sub = ".value" if is_compared else match["sub"] or ""
        return f"{urn}:{name}{sub}{match['gap']}{match['op']}"

    return _ATTRIBUTE.sub(rewrite, expression)


# A quoted string, or an attribute with its operator; the URN in front of it, if there is one.
_ATTRIBUTE = re.compile(
    r'"(?:[^"\\]|\\[\s\S])*(?:"|\\?\Z)'
    r"|(?<![^\s(])(?:urn:[\w:.-]+:)?(?P<name>[A-Za-z]\w*)(?P<sub>\.\w+)?(?P<gap>\s+)"
    r"(?P<op>eq|ne|co|sw|ew|gt|ge|lt|le|pr)\b",
    re.IGNORECASE,
)


def canonical_search(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return search parameters under their canonical names, within bounds, filters quoted.

    Raises InvalidFilterException or InvalidValueException for what is beyond all use.
    """
    query = {_NAMES.get(k.lower(), k): v for k, v in document.items() if v is not None}
    for name, least in (("startIndex", 1), ("count", 0)):
        number = _integer(query.get(name))
        if number is not None:
            query[name] = min(max(number, least), 10**9)
    if isinstance(query.get("sortOrder"), str):
        query["sortOrder"] = query["sortOrder"].lower()
    if isinstance(query.get("filter"), str):
        try:
            query["filter"] = quoted(query["filter"])
        except TooLongError as error:
            raise InvalidFilterException(detail=f"filter: {error}") from None
    for name in ("attributes", "excludedAttributes"):
        if len(_listed(query.get(name))) > MAX_NAMES:
            raise InvalidValueException(detail=f"{name}: lists more than {MAX_NAMES} names")
    return query


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
        text = value.strip()
        return int(text[:20])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def quoted(expression: str) -> str:
    """Return a filter or a path whose values all carry their quotes.

    Older authentik and Entra ID's documentation leave them out. Raises TooLongError
    for one with more terms than anybody needs, before it is parsed.
    """
    if len(expression) > MAX_FILTER_LENGTH:
        raise TooLongError(f"is longer than {MAX_FILTER_LENGTH} characters")
    terms = 0

    def rewrite(match: re.Match[str]) -> str:
        nonlocal terms
        if match[0].startswith('"'):
            return match[0]
        terms += 1
        bare = match["bare"]
        if bare is None:
            return match[0]
        if bare.lower() in _LITERALS:
            return f"{match['op']}{match['gap']}{bare.lower()}"
        if len(bare) > 1 and bare[0] == bare[-1] == "'":
            bare = bare[1:-1]
        escaped = bare.replace("\\", "\\\\").replace('"', '\\"')
        return f'{match["op"]}{match["gap"]}"{escaped}"'

    rewritten = _TOKEN.sub(rewrite, expression)
    if terms > MAX_FILTER_TERMS:
        raise TooLongError(f"has more than {MAX_FILTER_TERMS} comparisons")
    return rewritten
