"""The group map: which group opens which rooms (pure; design: keys choose groups, values rooms)."""

from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import json5

from scim_matrix.validation import first_problem

Kind = Literal["external_id", "display_name", "everyone"]
_BY_NAME = "displayName:"


@dataclass(frozen=True, slots=True)
class Mapping:
    """One key of the map opening one room.

    `pattern` is the group's externalId, or for `display_name` an SQLite GLOB pattern; `room` is
    a room alias or room ID as the map names it.
    """

    kind: Kind
    pattern: str
    room: str


class GroupMapError(ValueError):
    """The map cannot be used; the message says where and why."""


def parse_group_map(text: str) -> tuple[Mapping, ...]:
    """Parse a group map from JSON text that may hold comments and trailing commas.

    Raises GroupMapError, naming the line of a syntax error or the key of a wrong value.
    """
    try:
        document = json5.loads(text, allow_duplicate_keys=False)
    except ValueError as error:
        raise GroupMapError(f"not JSON: {error}") from error
    problem = first_problem("group-map", document)
    if problem is not None:
        raise GroupMapError(problem)
    return tuple(_mappings(document))


def _mappings(document: MappingType[str, list[Any]]) -> list[Mapping]:
    found: dict[Mapping, None] = {}
    for key, rooms in document.items():
        kind, pattern = _key(key)
        for entry in rooms:
            room = entry if isinstance(entry, str) else entry["room"]
            found[Mapping(kind, pattern, unquote(room))] = None
    return list(found)


def _key(key: str) -> tuple[Kind, str]:
    if key == "*":
        return "everyone", ""
    if key.startswith(_BY_NAME):
        # Only * and ? are wildcards: names like "[Sales]" are common, character sets are not.
        return "display_name", key.removeprefix(_BY_NAME).replace("[", "[[]")
    return "external_id", key
