"""Answers with what the models leave out: the members of groups and the groups of users."""

from collections.abc import Sequence
from typing import Any, cast

import orjson
from scim2_models import Path, ScimProvider

from scim_matrix.scim.incoming import USER
from scim_matrix.scim.members import GROUP
from scim_matrix.scim.query import Narrowing, Selection
from scim_matrix.store import resources
from scim_matrix.store.database import Connection


async def complete(
    connection: Connection, body: dict[str, Any], selection: Selection, base_url: str
) -> None:
    """Put `members` and `groups` into an answer's resources, as far as `selection` asks for them.

    They are JSON text made by the database, whatever their number: nothing is built per member.
    """
    found = _resources(body)
    groups, parts = _of(found, GROUP), selection.parts(GROUP, "members", resources.ENTRY_PARTS)
    if groups and parts:
        lists = await resources.members(connection, list(groups), parts, base_url)
        for group_id, group in groups.items():
            group["members"] = orjson.Fragment(lists.get(group_id, "[]"))
    users, parts = _of(found, USER), selection.parts(USER, "groups", resources.ENTRY_PARTS)
    if users and parts:
        lists = await resources.groups(connection, list(users), parts, base_url)
        for user_id in lists:
            users[user_id]["groups"] = orjson.Fragment(lists[user_id])


def _resources(body: dict[str, Any]) -> list[dict[str, Any]]:
    return body.get("Resources", []) if "totalResults" in body else [body]


def narrow(provider: ScimProvider, body: dict[str, Any], narrowings: Sequence[Narrowing]) -> None:
    """Leave of multi-valued attributes only the entries, and parts of them, that were asked for."""
    for resource in _resources(body):
        kind = "User" if USER in resource.get("schemas", ()) else "Group"
        for name in {narrowing.attribute.lower() for narrowing in narrowings}:
            key = next((k for k in resource if k.lower() == name.rpartition(":")[2]), None)
            if key is None or not isinstance(resource[key], list):
                continue
            wanted = [n for n in narrowings if n.attribute.lower() == name]
            left = (_narrowed(provider, kind, key, entry, wanted) for entry in resource[key])
            resource[key] = [entry for entry in left if entry]
            if not resource[key]:
                del resource[key]


def _narrowed(
    provider: ScimProvider, kind: str, key: str, entry: Any, wanted: Sequence[Narrowing]
) -> dict[str, Any]:
    """Return what is wanted of one entry; nothing where it is not selected."""
    model: Any = provider.model_for(kind)
    kept: set[str] = set()
    with provider:
        alone = model.model_validate({key: [entry]})
        for narrowing in wanted:
            if cast("Any", Path)[model](narrowing.path).get(alone, strict=False):
                part = narrowing.part.lower()
                kept |= {k for k in entry if part in ("", k.lower())}
    return {k: v for k, v in entry.items() if k in kept}


_EXTERNAL_ID = {
    "name": "externalId",
    "type": "string",
    "multiValued": False,
    "description": "The identifier that the identity provider has for the resource",
    "required": False,
    "caseExact": True,
    "mutability": "readWrite",
    "returned": "default",
    "uniqueness": "server",
}


def list_external_id(body: dict[str, Any]) -> None:
    """Put `externalId` into the schemas of users and groups.

    RFC 7643 has it outside of all schemas, as common to all resources; validators look for it.
    """
    for schema in _resources(body):
        if schema.get("id") in (USER, GROUP):
            schema["attributes"] = [_EXTERNAL_ID, *schema["attributes"]]


def _of(found: Sequence[dict[str, Any]], urn: str) -> dict[str, dict[str, Any]]:
    return {r["id"]: r for r in found if "id" in r and urn in r.get("schemas", ())}
