"""The users.json and groups.json of an older service, taken over with the ids the IdP holds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite
import orjson

from scim_matrix.store import accounts, grants, resources
from scim_matrix.store.accounts import Profile
from scim_matrix.store.resources import MemberChange, TakenError


class LegacyError(Exception):
    """The files cannot be taken over; the message says which entry and why."""


@dataclass(frozen=True, slots=True)
class Legacy:
    """Users by their SCIM id (`@localpart:server`) and groups by theirs (the externalId)."""

    users: dict[str, dict[str, Any]]
    groups: dict[str, dict[str, Any]]
    members: dict[str, list[str]]


def read(folder: Path, server_name: str) -> Legacy:
    """Read users.json (keyed by external ID) and groups.json (keyed by externalId).

    Raises LegacyError.
    """
    users: dict[str, dict[str, Any]] = {}
    ids: dict[str, str] = {}
    for external_id, entry in _entries(folder / "users.json"):
        name = entry.get("userName")
        if not isinstance(name, str) or not name:
            raise LegacyError(f"users.json: {external_id}: userName is missing")
        user_id = next(
            (
                entry[key]
                for key in ("id", "matrix_id", "user_id")
                if isinstance(entry.get(key), str) and entry[key].startswith("@")
            ),
            f"@{name.split('@')[0].lower()}:{server_name}",
        )
        known = ("userName", "displayName", "name", "emails", "active", "title", "locale")
        users[user_id] = {
            **{key: entry[key] for key in known if entry.get(key) is not None},
            "externalId": external_id,
        }
        ids |= {external_id: user_id, user_id: user_id}
    groups: dict[str, dict[str, Any]] = {}
    members: dict[str, list[str]] = {}
    for external_id, entry in _entries(folder / "groups.json"):
        name = entry.get("displayName")
        if not isinstance(name, str) or not name:
            raise LegacyError(f"groups.json: {external_id}: displayName is missing")
        groups[external_id] = {"displayName": name, "externalId": external_id}
        members[external_id] = [ids.get(value, value) for value in _values(external_id, entry)]
    return Legacy(users, groups, members)


def _entries(file: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    try:
        document = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, orjson.JSONDecodeError) as error:
        raise LegacyError(f"{file.name}: {error}") from error
    if not isinstance(document, dict) or not all(isinstance(e, dict) for e in document.values()):
        raise LegacyError(f"{file.name}: is not an object of objects")
    return list(document.items())


def _values(external_id: str, entry: Mapping[str, Any]) -> Iterable[str]:
    for member in entry.get("members") or []:
        value = member.get("value") if isinstance(member, dict) else member
        if not isinstance(value, str):
            raise LegacyError(f"groups.json: {external_id}: a member has no value")
        yield value


async def take_over(
    connection: aiosqlite.Connection, legacy: Legacy, profiles: Mapping[str, Profile]
) -> None:
    """Store everything, or nothing: raises LegacyError where something is there already."""
    for user_id, document in legacy.users.items():
        try:
            await resources.create(connection, "User", document, user_id)
            await accounts.create(connection, user_id, user_id, profiles[user_id])
        except TakenError as error:
            raise LegacyError(f"users.json: {document['externalId']}: {error}") from error
    for group_id, document in legacy.groups.items():
        try:
            await resources.create(connection, "Group", document, group_id)
        except TakenError as error:
            raise LegacyError(f"groups.json: {group_id}: {error}") from error
        values = orjson.dumps([{"value": member} for member in legacy.members[group_id]]).decode()
        await resources.change_members(connection, group_id, [MemberChange("replace", values)])
    await grants.settle_map_change(connection)
