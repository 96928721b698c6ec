"""Steps that tests about removals share: comparisons, restarts, hands on the homeserver."""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import aiohttp

from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import IDP, SERVER_NAME, Synapse, User
from tests.conftest import eventually
from tests.synapse.conftest import command, metric, mxid

# Every removal waits for a human.
HOLD_ALL = {"REMOVAL_LIMIT_COUNT": "0", "REMOVAL_LIMIT_PERCENT": "0"}
# The longest rests after a homeserver was dark, and some.
AFTER_DARKNESS = 60.0


# -- The service --------------------------------------------------------------


async def compared_at(service: Service) -> float:
    """Return when every room had last been compared (seconds since the epoch), 0 for never."""
    return await metric(service, "scim_matrix_last_comparison_timestamp_seconds")


async def compared_since(service: Service, before: float) -> None:
    """Wait for a comparison that ended after another one."""
    await eventually(lambda: compared_at(service), lambda at: at > before, AFTER_DARKNESS)


async def compared(service: Service) -> None:
    """Have everything compared now and wait until that is done.

    The comparison with which every service begins must be over first: it may have looked before.
    """
    await compared_since(service, 0.0)
    before = await compared_at(service)
    status, output = await command(service, "sync", "--no-wait")
    assert status == 0, output
    await compared_since(service, before)


async def restarted(
    service: Service,
    group_map: dict[str, Any] | None = None,
    more: Mapping[str, str] | None = None,
) -> None:
    """Stop a service, change its map and environment, start it and wait for its comparison."""
    before = await compared_at(service)
    await service.stop()
    if group_map is not None:
        service.group_map = json.dumps(group_map)
    service.more = {**service.more, **(more or {})}
    await service.start()
    await compared_since(service, before)


async def shown(service: Service) -> dict[str, Any]:
    """Return what `scim-matrix status` shows."""
    status, output = await command(service, "status", "--json")
    assert status in (0, 1), output
    found: dict[str, Any] = json.loads(output)
    return found


async def rows(service: Service, state: str) -> list[dict[str, Any]]:
    """Return the rows of a state that `scim-matrix status` shows."""
    return [row for row in (await shown(service))["work"] if row["state"] == state]


async def told(service: Service, *words: str) -> list[dict[str, Any]]:
    """Return the JSON lines that a command prints."""
    status, output = await command(service, *words, "--json")
    assert status == 0, output
    return [json.loads(line) for line in output.splitlines()]


def is_about(row: dict[str, Any], name: str) -> bool:
    """Tell whether a row is about a person, who may have no account yet."""
    return row["user"] in (mxid(name), name)


# -- The identity provider ----------------------------------------------------


async def put_members(idp: ScimClient, group: str, *members: str, key: str = "g") -> None:
    """Replace a group's members by a PUT of the whole group."""
    value = [{"value": m} for m in members]
    body = {"displayName": "G", "externalId": key, "members": value}
    await idp.ok("PUT", f"/Groups/{group}", body)


async def set_active(idp: ScimClient, person: str, *, active: bool) -> None:
    """Disable a user or take that back."""
    await idp.patch(f"/Users/{person}", {"op": "replace", "value": {"active": active}})


# -- Hands on the homeserver --------------------------------------------------


async def linked(synapse: Synapse, admin: User, name: str, subject: str | None = None) -> User:
    """Register somebody who has signed in through the identity provider before."""
    user = await synapse.register(name)
    link = {"auth_provider": IDP, "external_id": subject or f"ext-{name}"}
    path = f"/_synapse/admin/v2/users/{user.user_id}"
    await admin.call("PUT", path, {"external_ids": [link]})
    return user


async def account(admin: User, name: str) -> dict[str, Any] | None:
    """Return an account as the admin API shows it, None if there is none."""
    try:
        found: dict[str, Any] = await admin.call("GET", f"/_synapse/admin/v2/users/{mxid(name)}")
    except aiohttp.ClientResponseError as error:
        if error.status == 404:
            return None
        raise
    return found


async def is_locked(admin: User, name: str) -> bool:
    """Tell whether an account is locked."""
    found = await account(admin, name)
    assert found is not None
    return bool(found["locked"])


async def make_admin(admin: User, name: str, *, is_admin: bool) -> None:
    """Make somebody an administrator of the homeserver, or take that back."""
    path = f"/_synapse/admin/v1/users/{mxid(name)}/admin"
    await admin.call("PUT", path, {"admin": is_admin})


async def bring_in(admin: User, room_id: str, *names: str) -> None:
    """Bring people into a room by hand."""
    for name in names:
        path = f"/_synapse/admin/v1/join/{room_id}"
        await admin.call("POST", path, {"user_id": mxid(name)})


async def upgrade(admin: User, room_id: str, version: str = "11") -> str:
    """Upgrade a room and return the ID of the one that replaces it."""
    path = f"/_matrix/client/v3/rooms/{room_id}/upgrade"
    answer = await admin.call("POST", path, {"new_version": version})
    return str(answer["replacement_room"])


async def kicked(admin: User, room_id: str) -> set[str]:
    """Return the localparts of those who ever had to leave a room, or left it."""
    path = f"/_matrix/client/v3/rooms/{room_id}/messages?dir=b&limit=1000"
    events = (await admin.call("GET", path))["chunk"]
    return {
        event["state_key"][1:].split(":")[0]
        for event in events
        if event["type"] == "m.room.member" and event["content"].get("membership") == "leave"
    }


async def set_level(admin: User, room_id: str, name: str, level: int | None) -> None:
    """Set somebody's power level by hand; None takes it away."""
    path = f"/_matrix/client/v3/rooms/{room_id}/state/m.room.power_levels"
    content = await admin.call("GET", path)
    content["users"].pop(mxid(name), None)
    if level is not None:
        content["users"][mxid(name)] = level
    await admin.call("PUT", path, content)


def alias(name: str) -> str:
    """Return the room alias of a localpart."""
    return f"#{name}:{SERVER_NAME}"


# -- Which request is meant ---------------------------------------------------


def changes_account(name: str) -> Callable[[str, str], bool]:
    """Return what tells a request that changes somebody's account."""
    return lambda method, path: method in ("PUT", "POST") and mxid(name) in unquote(path)


def sends(part: str) -> Callable[[str, str], bool]:
    """Return what tells a request other than GET by a part of its path."""
    return lambda method, path: method != "GET" and part in unquote(path)
