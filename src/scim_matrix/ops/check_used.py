"""Whether the rooms that the service uses are those that the map leads to now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scim_matrix.matrix.errors import NotFoundError
from scim_matrix.matrix.rooms import Rooms
from scim_matrix.ops.findings import Finding
from scim_matrix.store import rooms, views
from scim_matrix.store.database import Place, reading

_ANEW = (
    "as a server administrator, make a room with this alias, which is followed then; or take it"
    " out of the map"
)


@dataclass(frozen=True, slots=True)
class Used:
    """What references of the map stand for, as the service last saw them.

    `successor` returns what took a room's place, or the room itself.
    """

    references: Mapping[str, dict[str, Any]]
    successor: Callable[[str], str]

    def differs(self, reference: str, found: str) -> list[Finding]:
        """Tell that an alias leads to another room (`found`) than the one that is used."""
        known = self.references.get(reference)
        if known is None or self.successor(found) == known["room_id"]:
            return []
        what = f"leads to {found}, and the service uses {known['room_id']}"
        if known["candidate"] != found:
            return [Finding("error", reference, what, "have it look: scim-matrix sync")]
        return [Finding("error", reference, f"{what}: {known['reason']}", known["cure"])]

    async def gone(self, reference: str, homeserver: Rooms) -> list[Finding]:
        """Tell what has become of the room that an alias stood for which leads nowhere now."""
        known = self.references.get(reference)
        if known is None:
            return []
        room_id = known["room_id"]
        try:
            await homeserver.details(room_id)
        except NotFoundError:
            return [Finding("error", reference, f"{room_id} was deleted", _ANEW)]
        cure = f"set the alias again, or name {room_id} in the map"
        what = f"leads nowhere any more; the service uses {room_id} still"
        return [Finding("warning", reference, what, cure)]


async def used(place: Place | None) -> Used:
    """Read what aliases stand for; without a database none stands for anything."""
    if place is None:
        return Used({}, lambda room_id: room_id)
    async with reading(place) as connection:
        known = {row["reference"]: row for row in await views.pinned(connection)}
        return Used(known, await rooms.successors(connection))
