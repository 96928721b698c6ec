"""Why somebody is to leave and what becomes of accounts, in words; groups whatever their name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from scim_matrix.config import OnDisable
from scim_matrix.store import console, group_names
from scim_matrix.store.accounts import State
from scim_matrix.store.database import Connection
from scim_matrix.story import words
from scim_matrix.story.rows import Former
from scim_matrix.sync.account_changes import AccountPolicy


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
    "account disabled": "Disabled at the identity provider",
    "account deleted": "Deleted at the identity provider",
    "account expired": "Deleted at the identity provider longer ago than the grace period",
}
_DONE = {
    "lock": "locked",
    "suspend": "suspended",
    "deactivate": "deactivated",
    "erase": "deactivated and erased",
    "nothing": "left as it is",
}


def told(cause: Mapping[str, Any], closed: Sequence[Any], names: Mapping[str, str]) -> str:
    """Return why some are to leave a room, where no group by name is behind it.

    Or why accounts are to be disabled. `closed` are the lines of the map that let nobody else be
    there.
    """
    if cause["held_because"] == "restored":
        return "Only a backup that was put back says so"
    if cause["why"] == "excluded":
        sentence = words.why_closed(closed, names)
        return sentence[0].upper() + sentence[1:]
    return _WHY[cause["why"]]


@dataclass(frozen=True, slots=True)
class Fates:
    """What becomes of accounts that are to be disabled, as `policy` has it."""

    policy: AccountPolicy

    def at_once(self, causes: Iterable[Mapping[str, Any]]) -> list[OnDisable]:
        """Return what is done once that is approved, each kind once."""
        states = (cause["why"].removeprefix("account ") for cause in causes)
        return [*dict.fromkeys(self.policy.how(state) for state in states)]

    def done(self, kinds: Iterable[OnDisable]) -> str:
        """Return what accounts are once kinds of things were done to them."""
        return " or ".join(_DONE[kind] for kind in kinds)

    def told(self, desired: State, expires: float | None = None) -> str:
        """Return what becomes of an account that is to be so, in words.

        `expires` is when the grace period of a deleted one is over (seconds since the epoch).
        """
        at_once, later = _DONE[self.policy.how(desired)], self.policy.on_delete
        if desired != "deleted" or later in ("lock", "nothing"):
            return at_once
        then = f"after {words.when(expires)}" if expires else "once the grace period is over"
        return f"{at_once}, and {_DONE[later]} {then}"
