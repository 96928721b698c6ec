"""Queries in canonical form: what URLs and search bodies ask for, folded and bounded (pure)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from scim2_models import InvalidFilterException, InvalidValueException

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
# A quoted string, or an operator, with its value where that lacks its quotes.
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"'
    r"|(?<=\s)pr\b"
    r'|(?<=\s)(?P<op>eq|ne|co|sw|ew|gt|ge|lt|le)(?P<gap>\s+)(?P<bare>[^\s"()\[\]]+)?',
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


def _listed(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(n.strip().lower() for n in names if isinstance(n, str) and n.strip())


def parse_query(text: str) -> dict[str, str]:
    """Return the parameters of a query string in canonical form.

    A plus sign is itself where blanks are written %20, as in e-mail addresses with tags.
    Raises as `canonical_search` does.
    """
    plus_is_plus = "%20" in text
    pairs = parse_qsl(text.replace("+", "%2B") if plus_is_plus else text, keep_blank_values=True)
    return {k: str(v) for k, v in canonical_search(dict(pairs)).items()}


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
        escaped = bare.replace("\\", "\\\\")
        return f'{match["op"]}{match["gap"]}"{escaped}"'

    rewritten = _TOKEN.sub(rewrite, expression)
    if terms > MAX_FILTER_TERMS:
        raise TooLongError(f"has more than {MAX_FILTER_TERMS} comparisons")
    return rewritten
