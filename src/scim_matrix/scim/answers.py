"""Answers with what the models leave out: the members of groups and the groups of users."""

from collections.abc import Sequence
from typing import Any

import aiosqlite
import orjson

from scim_matrix.scim.incoming import USER
from scim_matrix.scim.members import GROUP
from scim_matrix.scim.query import Selection
from scim_matrix.store import resources


async def complete(
    connection: aiosqlite.Connection, body: dict[str, Any], selection: Selection, base_url: str
) -> None:
    """Put `members` and `groups` into an answer's resources, as far as `selection` asks for them.

    They are JSON text made by the database, whatever their number: nothing is built per member.
    """
    found = body.get("Resources", []) if "totalResults" in body else [body]
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


def _of(found: Sequence[dict[str, Any]], urn: str) -> dict[str, dict[str, Any]]:
    return {r["id"]: r for r in found if "id" in r and urn in r.get("schemas", ())}
