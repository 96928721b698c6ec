"""What rows are found by has a limit, the same on both databases: an index takes no more."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from scim_matrix.config import ConfigurationError
from scim_matrix.store.database import Connection, Database, Place
from scim_matrix.store.text import MOST_INDEXED, is_too_long
from tests.service.client import call, made
from tests.service.conftest import Client, Start, environment

# Three bytes each, none twice: nothing that an index could compress.
LONG = "".join(map(chr, range(0x4E00, 0x4E00 + MOST_INDEXED // 3 + 1)))
MOST = LONG[:-1] + "x" * (MOST_INDEXED % 3)
TOLD = f"is longer than {MOST_INDEXED} bytes"

OURS = "a word, an id or a time of ours"
SCIM = "bounded by test_what_an_index_does_not_take_is_refused"
MAP = "bounded by test_what_an_index_does_not_take_is_no_line_of_the_map"
MATRIX = "an ID of Matrix, which has at most 255 bytes"
WHY: dict[str, str] = {
    "account.barred": MATRIX,
    "account.brake": OURS,
    "account.mark": "the SCIM id of a user",
    "account.problem": OURS,
    "account.proposed": MATRIX,
    "account.scim_id": OURS,
    "account.subject": SCIM,
    "account.user_id": MATRIX,
    "action.room_id": MATRIX,
    "action.user_id": MATRIX,
    "action_count.kind": OURS,
    "action_count.outcome": OURS,
    "console_key.name": OURS,
    "console_session.id": "a digest",
    "console_session.user_id": MATRIX,
    "group_member.group_id": OURS,
    "group_member.value": SCIM,
    "mapping.kind": OURS,
    "mapping.origin": OURS,
    "mapping.pattern": MAP,
    "mapping.reference": MAP,
    "membership.room_id": MATRIX,
    "moment.what": OURS,
    "opening.room_id": MATRIX,
    "replica.holder": OURS,
    "room.room_id": MATRIX,
    "room_count.room_id": MATRIX,
    "room_reference.reference": MAP,
    "room_reference.room_id": MATRIX,
    "scim_group.display_name_key": SCIM,
    "scim_group.external_id": SCIM,
    "scim_group.id": OURS,
    "scim_group.last_modified": OURS,
    "scim_user.display_name_key": SCIM,
    "scim_user.external_id": SCIM,
    "scim_user.id": OURS,
    "scim_user.last_modified": OURS,
    "scim_user.user_name_key": SCIM,
    "second_account.user_id": MATRIX,
    "stirred.room_id": MATRIX,
    "unmanaged_member.room_id": MATRIX,
    "unmanaged_member.user_id": MATRIX,
    "user_email.user_id": OURS,
    "user_email.value_key": SCIM,
}
_SQLITE = """
SELECT DISTINCT t.name || '.' || c.name FROM sqlite_master t JOIN pragma_index_list(t.name) i
JOIN pragma_index_info(i.name) n JOIN pragma_table_xinfo(t.name) c ON c.name = n.name
WHERE t.type = 'table' AND c.type LIKE 'TEXT%'
"""
_POSTGRESQL = """
SELECT DISTINCT c.relname || '.' || a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
WHERE c.relnamespace = current_schema()::regnamespace AND a.atttypid = 'text'::regtype
"""


async def indexed(connection: Connection, place: Place) -> set[str]:
    """Return the columns of text that stand in an index."""
    sql = _SQLITE if isinstance(place, Path) else _POSTGRESQL
    return {name for (name,) in await connection.execute_fetchall(sql)}


async def test_every_text_in_an_index_is_bounded(place: Place) -> None:
    """For each it is known why it is never longer than an index takes."""
    database = await Database.open(place)
    found = await indexed(database.reader, place)
    assert found - WHY.keys() == set()
    await database.close()


@pytest.fixture
def starting(place: Place, start: Start) -> Callable[..., Awaitable[Client]]:
    """Return what starts the service on either database."""
    if isinstance(place, Path):
        return start
    url = place.get_secret_value()
    return lambda **more: start(DATA_DIR="", DATABASE_URL=url, **more)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("Users", {"userName": f"a@{LONG}"}, "userName"),
    ("Users", {"userName": "a", "externalId": LONG}, "externalId"),
    ("Users", {"userName": "a", "displayName": LONG}, "displayName"),
    ("Users", {"userName": "a", "emails": [{"value": "b@c"}, {"value": LONG}]}, "emails[1].value"),
    ("Users", {"userName": "a", "title": LONG}, "title"),
    ("Groups", {"displayName": LONG}, "displayName"),
    ("Groups", {"displayName": "g", "externalId": LONG}, "externalId"),
    ("Groups", {"displayName": "g", "members": [{"value": "m"}, {"value": LONG}]}, "members[1]"),
]


async def test_what_an_index_does_not_take_is_refused(
    starting: Callable[..., Awaitable[Client]],
) -> None:
    """Each of the attributes is a 400 that names it and the limit; nothing is stored or changed."""
    client = await starting(SSO_SUBJECT_ATTRIBUTE="title", LOCALPART_TEMPLATE="{userName}")
    kept = {
        "Users": await made(client, "Users", userName="kept"),
        "Groups": await made(client, "Groups", displayName="kept"),
    }
    for endpoint, body, attribute in REFUSED:
        path = f"/{endpoint}/{kept[endpoint]['id']}"
        operations = [{"op": "replace", "path": name, "value": body[name]} for name in body]
        for method, place, sent in (
            ("POST", f"/{endpoint}", body),
            ("PUT", path, body),
            ("PATCH", path, {"Operations": operations}),
            ("PATCH", path, {"Operations": [{"op": "add", "value": body}]}),
        ):
            status, error = await call(client, method, place, sent)
            assert (status, error["scimType"]) == (400, "invalidValue"), (method, error)
            assert error["detail"].startswith(attribute)
            assert error["detail"].endswith(TOLD)
    for endpoint, resource in kept.items():
        _, listed = await call(client, "GET", f"/{endpoint}")
        assert [one["meta"] for one in listed["Resources"]] == [resource["meta"]]


async def test_as_much_as_the_limit_is_taken(
    starting: Callable[..., Awaitable[Client]],
) -> None:
    """Wherever a text is indexed, beside another one too, it may be as long as that."""
    client = await starting(SSO_SUBJECT_ATTRIBUTE="title")
    user = await made(
        client,
        "Users",
        userName=f"a@{MOST[2:]}",
        externalId=MOST,
        displayName=MOST,
        title=MOST,
        emails=[{"value": MOST}],
    )
    members = [{"value": MOST}, {"value": user["id"]}]
    group = await made(client, "Groups", displayName=MOST, externalId=MOST, members=members)
    assert {one["value"] for one in group["members"]} == {MOST, user["id"]}
    for query in (f'userName eq "a@{MOST[2:]}"', f'emails eq "{MOST}"'):
        search = {"filter": query}
        _, found = await call(client, "POST", "/Users/.search", search)
        assert found["totalResults"] == 1


async def test_what_is_kept_already_hinders_nobody(start: Start, tmp_path: Path) -> None:
    """Whoever has a longer name since before there was a limit can be locked out all the same."""
    client = await start()
    user = await made(client, "Users", userName="a", displayName="b", title="t")
    database = await Database.open(tmp_path / "data")
    async with database.write() as connection:
        await connection.execute_fetchall(
            "UPDATE scim_user SET display_name_key = :long,"
            " document = json_set(document, '$.displayName', :long)",
            {"long": LONG},
        )
    await database.close()
    operation = {"op": "replace", "value": {"active": False}}
    status, patched = await call(
        client, "PATCH", f"/Users/{user['id']}", {"Operations": [operation]}
    )
    assert (status, patched["active"], patched["displayName"]) == (200, False, LONG)


@pytest.mark.parametrize(
    "line", [{LONG: ["!r"]}, {"g": [f"!{LONG}"]}, {"g": [{"room": f"!{LONG}"}]}]
)
def test_what_an_index_does_not_take_is_no_line_of_the_map(
    tmp_path: Path, line: dict[str, Any]
) -> None:
    """It is refused with the other mistakes of the map."""
    with pytest.raises(ConfigurationError, match=TOLD):
        environment(tmp_path, IDP_GROUP_TO_ROOM=json.dumps(line))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x" * MOST_INDEXED, False),
        ("x" * (MOST_INDEXED + 1), True),
        ("ä" * (MOST_INDEXED // 2), False),
        ("ä" * (MOST_INDEXED // 2 + 1), True),
        ("😀" * (MOST_INDEXED // 4), False),
        ("😀" * (MOST_INDEXED // 4 + 1), True),
    ],
)
def test_what_is_too_long_is_counted_in_bytes(value: str, expected: bool) -> None:
    """As an index counts it."""
    assert is_too_long(value) is expected
