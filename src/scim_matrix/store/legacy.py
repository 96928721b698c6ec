"""The users.json and groups.json of an older service, taken over with the ids the IdP holds.

Everything that can be read is taken; each thing that is left out is named.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from scim_matrix.store import accounts, resources
from scim_matrix.store.accounts import Wanted
from scim_matrix.store.database import Connection
from scim_matrix.store.resources import MemberChange, TakenError
from scim_matrix.store.text import TOO_LONG, composed, folded, is_too_long


class LegacyError(Exception):
    """The files cannot be taken over; the message says why."""


@dataclass(frozen=True, slots=True)
class Legacy:
    """Users by their SCIM id (`@localpart:server`) and groups by theirs (the externalId).

    `left_out` has one sentence for each thing that could not be read.
    """

    users: dict[str, dict[str, Any]]
    groups: dict[str, dict[str, Any]]
    members: dict[str, list[str]]
    left_out: list[str] = field(default_factory=list)


Refuse = Callable[[str], None]


def read(folder: Path, server_name: str) -> Legacy:
    """Read users.json (keyed by external ID) and groups.json (keyed by externalId).

    Raises LegacyError where a file is no JSON object at all.
    """
    found = Legacy({}, {}, {})
    ids: dict[str, str] = {}
    names: set[str] = set()
    for external_id, entry in _entries(folder / "users.json", found.left_out):
        refuse = _refusing(found.left_out, "users.json", external_id)
        name = entry.get("userName")
        if not isinstance(name, str) or not name:
            refuse("the user: userName is no text")
            continue
        user_id = _user_id(entry, name, server_name)
        if folded(name) in names or user_id in found.users:
            refuse(f"the user: another one has the userName {name!r} or its account")
            continue
        if any(map(is_too_long, (folded(name), composed(external_id), user_id))):
            refuse(f"the user: its userName, key or id {TOO_LONG}")
            continue
        names.add(folded(name))
        found.users[user_id] = {**_user(entry, refuse), "externalId": external_id}
        ids |= {external_id: user_id, user_id: user_id}
    for external_id, entry in _entries(folder / "groups.json", found.left_out):
        refuse = _refusing(found.left_out, "groups.json", external_id)
        name = entry.get("displayName")
        if not isinstance(name, str) or not name:
            refuse("the group: displayName is no text")
            continue
        if any(map(is_too_long, (folded(name), composed(external_id)))):
            refuse(f"the group: its displayName or key {TOO_LONG}")
            continue
        found.groups[external_id] = {"displayName": name, "externalId": external_id}
        members = _members(entry.get("members"), refuse)
        found.members[external_id] = [ids.get(value, value) for value in members]
    return found


def _refusing(left_out: list[str], file: str, key: str) -> Refuse:
    return lambda what: left_out.append(f"{file}: {key}: left out {what}")


def _entries(file: Path, left_out: list[str]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    try:
        document = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, orjson.JSONDecodeError) as error:
        raise LegacyError(f"{file.name}: {error}") from error
    if not isinstance(document, dict):
        raise LegacyError(f"{file.name}: is not an object of objects")
    for key, entry in document.items():
        if isinstance(entry, dict):
            yield key, entry
        else:
            left_out.append(f"{file.name}: {key}: left out the entry: it is no object")


def _user_id(entry: Mapping[str, Any], name: str, server_name: str) -> str:
    """Return the id by which the identity provider knows a user."""
    for key in ("id", "matrix_id", "user_id"):
        value = entry.get(key)
        if isinstance(value, str) and value.startswith("@"):
            return value
    return f"@{name.split('@')[0].lower()}:{server_name}"


def _user(entry: Mapping[str, Any], refuse: Refuse) -> dict[str, Any]:
    user: dict[str, Any] = {"userName": entry["userName"]}
    for key in ("displayName", "title", "locale"):
        value = entry.get(key)
        if key == "displayName" and isinstance(value, str) and is_too_long(folded(value)):
            refuse(f"{key}: it {TOO_LONG}")
        elif isinstance(value, str):
            user[key] = value
        elif value is not None:
            refuse(f"{key}: it is no text")
    if (name := _name(entry.get("name"), refuse)) is not None:
        user["name"] = name
    if emails := _emails(entry.get("emails"), refuse):
        user["emails"] = emails
    active = _active(entry.get("active"))
    if active is not None:
        user["active"] = active
    elif entry.get("active") is not None:
        refuse("active: it is neither true nor false; the user counts as active")
    return user


def _active(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _name(value: Any, refuse: Refuse) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        refuse("name: it is no object")
        return None
    for key in [key for key, part in value.items() if part is not None]:
        if not isinstance(value[key], str):
            refuse(f"name.{key}: it is no text")
    return {key: part for key, part in value.items() if isinstance(part, str)} or None


def _emails(value: Any, refuse: Refuse) -> list[dict[str, Any]]:
    entries = value if isinstance(value, list) else [] if value is None else [value]
    emails = []
    for entry in entries:
        email = {"value": entry} if isinstance(entry, str) else entry
        if not isinstance(email, dict) or not isinstance(email.get("value"), str):
            refuse("one of the emails: it has no address")
            continue
        if is_too_long(folded(email["value"])):
            refuse(f"one of the emails: it {TOO_LONG}")
            continue
        kept: dict[str, Any] = {"value": email["value"]}
        if isinstance(email.get("type"), str):
            kept["type"] = email["type"]
        if isinstance(email.get("primary"), bool):
            kept["primary"] = email["primary"]
        emails.append(kept)
    return emails


def _members(value: Any, refuse: Refuse) -> list[str]:
    if value is not None and not isinstance(value, list):
        refuse("the members: they are no list")
        return []
    members = []
    for entry in value or []:
        member = entry.get("value") if isinstance(entry, dict) else entry
        if isinstance(member, str) and is_too_long(member):
            refuse(f"a member: it {TOO_LONG}")
        elif isinstance(member, str):
            members.append(member)
        else:
            refuse("a member: it has no value")
    return members


async def take_over(connection: Connection, legacy: Legacy, people: Mapping[str, Wanted]) -> None:
    """Store everything, or nothing: raises LegacyError where something is there already.

    `people` says of each user what their account should be.
    """
    for user_id, wanted in people.items():
        document = legacy.users[user_id]
        if wanted.profile.subject is not None and is_too_long(wanted.profile.subject):
            raise LegacyError(f"users.json: {document['externalId']}: the SSO subject {TOO_LONG}")
        try:
            await resources.create(connection, "User", document, user_id)
            own = Wanted(wanted.state, wanted.profile, user_id)
            await accounts.create(connection, user_id, own, "externalId")
        except TakenError as error:
            raise LegacyError(f"users.json: {document['externalId']}: {error}") from error
    for group_id, document in legacy.groups.items():
        try:
            await resources.create(connection, "Group", document, group_id)
        except TakenError as error:
            raise LegacyError(f"groups.json: {group_id}: {error}") from error
        values = orjson.dumps([{"value": member} for member in legacy.members[group_id]]).decode()
        await resources.change_members(connection, group_id, [MemberChange("replace", values)])
