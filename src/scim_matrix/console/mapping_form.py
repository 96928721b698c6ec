"""What somebody asks for who wants to map a group to a room (pure)."""

from collections.abc import Mapping as MappingType
from dataclasses import dataclass, replace
from typing import Any

import orjson

from scim_matrix.groupmap import GroupMapError, Mapping, parse_group_map

# Fields of the form, as the map calls what stands in them.
_FIELDS = {"room": "The room", "powerLevel": "The power level"}


@dataclass(frozen=True, slots=True)
class Wish:
    """A mapping as it is asked for: its room is what was typed, an alias or an ID."""

    mapping: Mapping

    @property
    def alias(self) -> str | None:
        """The alias under which the room is shown, None where an ID was typed."""
        return self.mapping.room if self.mapping.room.startswith("#") else None

    def bound(self, room_id: str) -> Mapping:
        """Return the mapping to keep: of the room itself, wherever its alias leads later."""
        return replace(self.mapping, room=room_id)


def wish(group_id: str, form: MappingType[str, Any]) -> Wish:
    """Return what a form asks for, for one group whatever it is called.

    Raises GroupMapError with plain words.
    """
    entry: dict[str, Any] = {"room": str(form.get("room", "")).strip()}
    if power := str(form.get("power", "")).strip():
        try:
            entry["powerLevel"] = int(power)
        except ValueError:
            raise GroupMapError("The power level must be a whole number from 0 to 100.") from None
    for name in ("children", "exclusive"):
        if form.get(name):
            entry[name] = True
    if form.get("invite"):
        entry["mode"] = "invite"
    try:
        [mapping] = parse_group_map(orjson.dumps({group_id: [entry]}).decode())
    except GroupMapError as error:
        field = _FIELDS.get(error.field or "", "This")
        raise GroupMapError(f"{field} {error.reason}.") from error
    except orjson.JSONEncodeError as error:
        raise GroupMapError("This is no text that a room could be named by.") from error
    return Wish(replace(mapping, kind="group_id", pattern=group_id))
