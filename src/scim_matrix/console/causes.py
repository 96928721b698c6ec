"""Why somebody is to leave, in words, and the groups behind that, by ID whatever their name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from scim_matrix.store import console, group_names
from scim_matrix.store.database import Connection
from scim_matrix.story import words
from scim_matrix.story.rows import Former


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups by the names that they had: `former` ones, and the IDs of those of today."""

    former: Sequence[Former]
    living: Mapping[str, str]

    def link(self, name: str, at: float | None, request: str | None = None) -> Markup:
        """Return a group as it was called at some time (seconds; None: now), leading to its page.

        That is the page of whoever had the name then, whatever it is called now.
        """
        found = words.became(name, at, self.former, request) if at else None
        group_id = found.group_id if found is not None else self.living.get(name)
        told = words.then(name, at, self.former, request)
        if group_id is None:
            return Markup("<bdi>{}</bdi>").format(told)
        path = f"/console/groups/{quote(group_id, safe='')}"
        return Markup('<a href="{}">{}</a>').format(path, told)


async def groups_behind(reader: Connection, rows: Iterable[Mapping[str, Any]]) -> Groups:
    """Return the groups that rows name (`group_name`)."""
    names = {row["group_name"] for row in rows if row["group_name"]}
    return Groups(await group_names.former(reader), await console.groups_by_name(reader, names))


_WHY = {
    "disabled": "Disabled or deleted at the identity provider",
    "pruned": "A human asked for it",
    "revoked": "The group no longer gives it",
}


def told(cause: Mapping[str, Any], closed: Sequence[Any], names: Mapping[str, str]) -> str:
    """Return why some are to leave a room, where no group by name is behind it.

    `closed` are the lines of the map that let nobody else be there.
    """
    if cause["held_because"] == "restored":
        return "Only a backup that was put back says so"
    if cause["why"] == "excluded":
        sentence = words.why_closed(closed, names)
        return sentence[0].upper() + sentence[1:]
    return _WHY[cause["why"]]
