"""The group map: which group opens which rooms (pure; design: keys choose groups, values rooms)."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import json5

from scim_matrix.store.text import TOO_LONG, composed, is_too_long
from scim_matrix.validation import explained

# group_id is the console's: the SCIM id of one group.
Kind = Literal["external_id", "display_name", "everyone", "group_id"]
_BY_NAME = "displayName:"


@dataclass(frozen=True, slots=True)
class Template:
    """How a room is made that does not exist yet; `space` is an alias or room ID."""

    name: str
    topic: str | None = None
    encrypted: bool = False
    space: str | None = None


@dataclass(frozen=True, slots=True)
class Mapping:
    """One key of the map opening one room.

    `pattern` is the group's externalId, or for `display_name` an SQLite GLOB pattern; `room` is
    a room alias or room ID as the map names it. `power` is the power level of those in the
    group; `children` opens the rooms of a space too; `invite` invites where joining is the rule;
    `exclusive` lets nobody else stay.
    """

    kind: Kind
    pattern: str
    room: str
    power: int | None = None
    children: bool = False
    invite: bool = False
    exclusive: bool = False
    create: Template | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """In which settings the configuration's lines stand: `environment` are those of the variable.

    All others are in the `file`, where there is one.
    """

    environment: frozenset[tuple[str, str, str]] = frozenset()
    file: str | None = None

    def of(self, kind: str, pattern: str, room: str) -> str:
        """Return the setting that a line stands in, as somebody is told where to look."""
        if (kind, pattern, room) in self.environment:
            return "IDP_GROUP_TO_ROOM"
        return f"GROUP_MAP_FILE {self.file}" if self.file else "the configuration"


class GroupMapError(ValueError):
    """The map cannot be used; the message says where and why.

    `field` is the option that is wrong, `reason` what is wrong with it, where that is known.
    """

    def __init__(self, message: str, field: str | None = None, reason: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.reason = reason or message


def parse_group_map(text: str) -> tuple[Mapping, ...]:
    """Parse a group map from JSON text that may hold comments and trailing commas.

    Raises GroupMapError, naming the line of a syntax error or the key of a wrong value.
    """
    rooms_of = document(text)
    return consistent(_mapping(key, entry) for key, rooms in rooms_of.items() for entry in rooms)


def document(text: str) -> dict[str, list[Any]]:
    """Return a group map as it is written, by key. Raises GroupMapError as parse_group_map does."""
    try:
        found = _decoded(text)
        # What no store could keep, nor the validator look at.
        json.dumps(found, ensure_ascii=False).encode()
        problem = explained("group-map", found)
    except UnicodeEncodeError:
        raise GroupMapError("a text in it holds half of a character (a lone surrogate)") from None
    except RecursionError:
        raise GroupMapError("not a group map: it is nested too deep") from None
    except ValueError as error:
        # Or a number of more digits than any text of one has (`0x…` is read without that limit).
        raise GroupMapError(f"not JSON: {error}") from error
    if problem is not None:
        raise GroupMapError(str(problem), problem.field, problem.reason)
    mappings: dict[str, list[Any]] = found
    return mappings


def _decoded(text: str) -> Any:
    """Return what JSON text holds that may have comments. Raises ValueError, RecursionError."""
    try:
        # A map of thousands of lines takes json5 a second; most have no comments.
        return json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        return json5.loads(text, allow_duplicate_keys=False)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON. Raises ValueError where a key is there twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def consistent(mappings: Iterable[Mapping]) -> tuple[Mapping, ...]:
    """Return mappings without repetitions. Raises GroupMapError where two contradict each other."""
    found: dict[tuple[Kind, str, str], Mapping] = {}
    templates: dict[str, Template] = {}
    for mapping in mappings:
        same = found.setdefault((mapping.kind, mapping.pattern, mapping.room), mapping)
        if same != mapping:
            raise GroupMapError(
                f"{mapping.room} is listed twice under one key, with different options"
            )
        if mapping.create is not None:
            same_room = templates.setdefault(mapping.room, mapping.create)
            if same_room != mapping.create:
                raise GroupMapError(f"{mapping.room} is to be created in two different ways")
    return tuple(found.values())


def _mapping(key: str, entry: str | dict[str, Any]) -> Mapping:
    kind, pattern = _key(key)
    room = unquote(entry if isinstance(entry, str) else entry["room"])
    for field, value in (("key", composed(pattern)), ("room", room)):
        if is_too_long(value):
            where = f"{key[:80]}: {room[:80]}: the {field}"
            raise GroupMapError(f"{where} {TOO_LONG}", field, TOO_LONG)
        if "\0" in value:
            reason = "holds a NUL character"
            raise GroupMapError(f"{key[:80]!r}: {room[:80]!r}: the {field} {reason}", field, reason)
    if isinstance(entry, str):
        return Mapping(kind, pattern, room)
    create = None
    if "create" in entry:
        given = entry["create"]
        space = unquote(given["space"]) if "space" in given else None
        create = Template(
            given["name"], given.get("topic"), bool(given.get("encrypted", False)), space
        )
    return Mapping(
        kind,
        pattern,
        room,
        # 50.0 is an integer by JSON Schema.
        None if entry.get("powerLevel") is None else int(entry["powerLevel"]),
        bool(entry.get("children", False)),
        entry.get("mode") == "invite",
        bool(entry.get("exclusive", False)),
        create,
    )


def _key(key: str) -> tuple[Kind, str]:
    if key == "*":
        return "everyone", ""
    name = key[len(_BY_NAME) :]
    if key.lower().startswith(_BY_NAME.lower()) and not (name and key.startswith(_BY_NAME)):
        # It would be taken for an externalId, or match no group, without a word.
        raise GroupMapError(f'{key}: is written "{_BY_NAME}{name or "Staff"}"')
    if key.startswith(_BY_NAME):
        # Only * and ? are wildcards: names like "[Sales]" are common, character sets are not.
        return "display_name", name.replace("[", "[[]")
    return "external_id", key


def key(kind: Kind, pattern: str) -> str:
    """Return a mapping's key as the group map writes it."""
    prefix = {"display_name": "displayName:", "group_id": "group "}.get(kind, "")
    return "*" if kind == "everyone" else prefix + pattern.replace("[[]", "[")
