"""SCIM over HTTP: what is answered, and that nothing is half-applied."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scim_matrix.app_keys import DATABASE
from tests.service.client import ERROR, call
from tests.service.conftest import OTHER_SECRET, SECRET, Start


async def test_bearer_secrets(start: Start) -> None:
    """Each of several secrets opens; anything else is 401 with a challenge and a SCIM error."""
    client = await start()
    wrong = SECRET[:-1]
    for secret, expected in ((SECRET, 200), (OTHER_SECRET, 200), (wrong, 401), ("", 401)):
        headers = {"Authorization": f"Bearer {secret}"}
        async with client.get("/scim/v2/Users", headers=headers) as answer:
            assert expected == answer.status
            if expected == 401:
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                body = await answer.json(content_type=None)
                assert body["schemas"] == [ERROR]
                assert body["status"] == "401"


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "says"),
    [
        ("/Users", b"{", 400, "invalidSyntax", "not valid JSON"),
        ("/Users", b"[]", 400, "invalidSyntax", "not a JSON object"),
        ("/Users", b'{"userName": NaN}', 400, "invalidSyntax", ""),
        ("/Users", b'{"userName": ' + b"1" * 6000 + b"}", 400, "invalidSyntax", ""),
        ("/Users", b'{"userName": 1e999}', 400, "invalidSyntax", ""),
        ("/Users", b"", 400, "invalidSyntax", "not valid JSON"),
        ("/Users", b'{"userName": "\\ud800"}', 400, "invalidSyntax", ""),
        ("/Users", b'{"userName": "\xff"}', 400, "invalidSyntax", ""),
        ("/Users", b'{"userName": "a\\u0000b"}', 400, "invalidValue", "NUL"),
        ("/Users", b'{"userName": "a", "emails": [{"value": "\\u0000"}]}', 400, "invalid", "NUL"),
        ("/Users", b'{"userName": "a", "\\u0000": 1}', 400, "invalidValue", "NUL"),
        ("/Users", b'{"userName": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "invalid", ""),
        ("/Users", {"displayName": "x"}, 400, "invalidValue", "userName is required"),
        ("/Users", {"userName": ""}, 400, "invalidValue", "userName: must not be empty"),
        ("/Users", {"userName": True}, 400, "invalidValue", "userName: is not a string"),
        (
            "/Users",
            {"userName": "u", "externalId": {"value": True}},
            400,
            "invalidValue",
            "externalId: is not a string",
        ),
        ("/Users", {"userName": "u", "active": "maybe"}, 400, "invalidValue", "active"),
        ("/Users", {"userName": "@"}, 400, "invalidValue", "localpart"),
        ("/Groups", {"members": []}, 400, "invalidValue", "displayName is required"),
        (
            "/Groups",
            {"displayName": "g", "members": [{"value": "a"}, {"value": 7}]},
            400,
            "invalidValue",
            "members[1].value: is not a string",
        ),
        ("/Groups", {"displayName": "g", "members": [7]}, 400, "invalidValue", "members[0]"),
    ],
)
async def test_bad_input_is_named_and_not_stored(
    start: Start, path: str, body: Any, status: int, kind: str, says: str
) -> None:
    """A client's mistake is a 4xx that says what and where, and leaves nothing behind."""
    client = await start()
    got, answer = await call(client, "POST", path, body)
    assert status == got, answer
    assert answer["schemas"] == [ERROR]
    assert answer["status"] == str(status)
    assert answer["scimType"].startswith(kind)
    assert says in answer["detail"]
    assert (await call(client, "GET", path))[1]["totalResults"] == 0


async def test_what_only_looks_like_a_nul_character_is_taken(start: Start) -> None:
    """A text may hold a backslash and what would follow it, whatever else is in the body."""
    client = await start()
    sent = {"userName": "ann", "displayName": "\\u0000", "emails": [{"value": "a@x.org"}]}
    status, user = await call(client, "POST", "/Users", sent)
    assert (status, user["displayName"], user["emails"]) == (201, "\\u0000", sent["emails"])


async def test_taken_values_are_conflicts(start: Start) -> None:
    """A taken userName (any letter case), account, subject or group is 409 uniqueness."""
    client = await start()
    for path, body in (
        ("/Users", {"userName": "Ann@a.example", "externalId": "e"}),
        ("/Groups", {"displayName": "g", "externalId": "e"}),
    ):
        assert (await call(client, "POST", path, body))[0] == 201
    for path, body, names in (
        ("/Users", {"userName": "ann@A.example"}, "userName"),
        ("/Users", {"userName": "ann@b.example"}, "@ann:example.org"),
        ("/Users", {"userName": "cat@a.example", "externalId": "e"}, "externalId"),
        ("/Groups", {"displayName": "h", "externalId": "e"}, "externalId"),
    ):
        status, answer = await call(client, "POST", path, body)
        assert (status, answer["scimType"]) == (409, "uniqueness")
        assert names in answer["detail"]
        assert (await call(client, "GET", path))[1]["totalResults"] == 1
    for path, own, taken, names in (
        ("/Users", {"userName": "bob@a.example"}, {"userName": "ANN@a.example"}, "userName"),
        ("/Users", {"userName": "cat"}, {"userName": "cat", "externalId": "e"}, "externalId"),
        ("/Users", {"userName": "dan"}, {"userName": "ann@b.example"}, "userName"),
        ("/Groups", {"displayName": "i"}, {"displayName": "i", "externalId": "e"}, "externalId"),
    ):
        _, other = await call(client, "POST", path, own)
        status, answer = await call(client, "PUT", f"{path}/{other['id']}", taken)
        assert (status, answer["scimType"]) == (409, "uniqueness")
        assert answer["detail"].startswith(f"{names}: ")
        assert (await call(client, "GET", f"{path}/{other['id']}"))[1] == other


async def test_names_in_any_letter_case(start: Start) -> None:
    """Attribute names are not case sensitive; text booleans and single values are folded."""
    client = await start()
    body = {"USERNAME": "u", "Active": "False", "EMAILS": {"VALUE": "a@corp.local"}, "x": 1}
    status, user = await call(client, "POST", "/Users", body)
    assert status == 201, user
    assert user["active"] is False
    assert user["emails"] == [{"value": "a@corp.local"}]


async def test_every_form_of_changing_members(start: Start) -> None:
    """Each way of adding, removing and replacing members leaves exactly the right ones."""
    client = await start()
    _, group = await call(client, "POST", "/Groups", {"displayName": "g"})
    path = f"/Groups/{group['id']}"
    assert group["members"] == []
    urn = "urn:ietf:params:scim:schemas:core:2.0:Group:members"
    for operation, expected in (
        ({"op": "add", "path": "members", "value": [{"value": "a"}, {"value": "b"}]}, "ab"),
        ({"op": "Add", "path": "MEMBERS", "value": {"Value": "c", "$ref": None}}, "abc"),
        ({"op": "add", "value": {"members": [{"value": "d"}, {"value": "a"}]}}, "abcd"),
        ({"op": "add", "path": urn, "value": "e"}, "abcde"),
        ({"op": "remove", "path": 'members[value eq "a"]'}, "bcde"),
        ({"op": "remove", "path": "members", "value": [{"value": "b"}, {"value": "zz"}]}, "cde"),
        ({"op": "remove", "path": 'members[value eq "c" or value eq "d"]'}, "e"),
        ({"op": "replace", "path": "members", "value": [{"value": "x"}, {"value": "y"}]}, "xy"),
        ({"op": "replace", "value": {"displayName": "h", "members": [{"value": "z"}]}}, "z"),
        ({"op": "remove", "path": "members"}, ""),
    ):
        status, answer = await call(client, "PATCH", path, {"Operations": [operation]})
        assert status == 204, (operation, answer)
        _, group = await call(client, "GET", path)
        assert list(expected) == [m["value"] for m in group["members"]], operation
    assert group["displayName"] == "h"


async def test_a_patch_applies_wholly_or_not_at_all(start: Start) -> None:
    """An operation that fails takes the ones before it with it, members included."""
    client = await start()
    _, group = await call(client, "POST", "/Groups", {"displayName": "g"})
    path = f"/Groups/{group['id']}"
    operations = [
        {"op": "add", "path": "members", "value": [{"value": "a"}]},
        {"op": "replace", "path": "displayName", "value": "new"},
        {"op": "replace", "path": "displayName", "value": ["not", "one"]},
    ]
    status, _ = await call(client, "PATCH", path, {"Operations": operations})
    assert status == 400
    _, after = await call(client, "GET", path)
    assert after == group


async def test_a_group_put_without_members_is_empty(start: Start) -> None:
    """PUT replaces: a missing `members` means none (RFC 7644 section 3.5.1)."""
    client = await start()
    body = {"displayName": "g", "members": [{"value": "a"}]}
    _, group = await call(client, "POST", "/Groups", body)
    status, after = await call(client, "PUT", f"/Groups/{group['id']}", {"displayName": "g"})
    assert (status, after["members"]) == (200, [])


async def test_etags(start: Start) -> None:
    """A change needs the current version where If-Match names one; members count as change."""
    client = await start()
    _, group = await call(client, "POST", "/Groups", {"displayName": "g"})
    path = f"/scim/v2/Groups/{group['id']}"
    patch = {"Operations": [{"op": "add", "path": "members", "value": [{"value": "a"}]}]}
    headers = {"If-Match": group["meta"]["version"]}
    async with client.patch(path, json=patch, headers=headers) as answer:
        assert answer.status == 204
    async with client.patch(path, json=patch, headers=headers) as answer:
        assert answer.status == 412


async def test_unknown_urls_methods_and_sizes(start: Start) -> None:
    """404, 405 and 413 carry SCIM errors too."""
    client = await start(MAX_BODY_BYTES="2048")
    for method, path, body, expected in (
        ("GET", "/Nothing", None, 404),
        ("GET", "/Users/none", None, 404),
        ("DELETE", "/Groups/none", None, 404),
        ("POST", "/Schemas", {}, 405),
        ("POST", "/Users", {"userName": "x" * 4096}, 413),
        ("GET", "/Me", None, 501),
    ):
        status, error = await call(client, method, path, body)
        assert expected == status, error
        assert error["status"] == str(expected)


async def test_bodies_over_the_limit_are_not_read_to_the_end(start: Start) -> None:
    """413 comes as soon as the size is known, told by the client or counted while it comes."""
    client = await start(MAX_BODY_BYTES="65536")
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 65536
            await asyncio.sleep(0)

    async with client.post("/scim/v2/Users", data=body()) as answer:
        assert (answer.status, (await answer.json(content_type=None))["status"]) == (413, "413")
    assert sent < 100
    reader, writer = await asyncio.open_connection(client.host, client.port)
    head = f"POST /scim/v2/Users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
    writer.write(f"{head}Content-Length: 99999999\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()


async def test_passwords_are_neither_stored_nor_shown(start: Start, tmp_path: Any) -> None:
    """What an identity provider makes up as a password goes nowhere."""
    client = await start()
    body = {"userName": "u", "password": "made-up-secret"}
    _, user = await call(client, "POST", "/Users", body)
    assert "password" not in user
    stored = b"".join(f.read_bytes() for f in (tmp_path / "data").iterdir())
    assert b"made-up-secret" not in stored


async def test_probes_need_no_secret_and_healthz_no_homeserver(start: Start) -> None:
    """/healthz is 200 with the homeserver away; /readyz is 503 and says so."""
    client = await start()
    client.session.headers.pop("Authorization", None)
    async with client.get("/healthz", headers={"Authorization": ""}) as answer:
        assert answer.status == 200
    async with client.get("/readyz", headers={"Authorization": ""}) as answer:
        assert answer.status == 503
        assert (await answer.json())["database"] == "ok"


async def test_a_full_disk_is_503_with_nothing_half_written(start: Start) -> None:
    """Requests that cannot be made durable are refused whole; later ones work again."""
    client = await start()
    assert client.app is not None
    async with client.app[DATABASE].write() as connection:
        [(pages,)] = await connection.execute_fetchall("PRAGMA page_count")
        await connection.execute_fetchall(f"PRAGMA max_page_count = {pages}")
    members = [{"value": f"member-{n}"} for n in range(5000)]
    body = {"displayName": "g", "members": members}
    status, answer = await call(client, "POST", "/Groups", body)
    assert (status, answer["schemas"]) == (503, [ERROR])
    assert (await call(client, "GET", "/Groups"))[1]["totalResults"] == 0
    async with client.app[DATABASE].write() as connection:
        await connection.execute_fetchall("PRAGMA max_page_count = 1000000")
    assert (await call(client, "POST", "/Groups", body))[0] == 201
