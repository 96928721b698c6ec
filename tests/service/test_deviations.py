"""What identity providers send instead of what the RFCs say, and what it must come to."""

from typing import Any

import pytest

from tests.service.client import ENTERPRISE, ERROR, call, made
from tests.service.conftest import Start

CORE = "urn:ietf:params:scim:schemas:core:2.0:User"
ANN: dict[str, Any] = {
    "userName": "ann",
    "active": False,
    "displayName": "Ann",
    "name": {"givenName": "Ann", "familyName": "Ash"},
    "emails": [{"value": "ann@home.example", "type": "home"}],
    ENTERPRISE: {"department": "D"},
}
GONE = object()
NAMED_A = {"name": {**ANN["name"], "givenName": "A"}}


def differs(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that changed, GONE for those no longer there."""
    keys = (before.keys() | after.keys()) - {"meta", "schemas"}
    return {k: after.get(k, GONE) for k in keys if before.get(k) != after.get(k)}


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "Replace", "path": "active", "value": "True"}, {"active": True}),
        ({"op": "replace", "value": {"Active": "true"}}, {"active": True}),
        ({"op": "replace", "value": [{"active": True}]}, {"active": True}),
        ({"op": "add", "path": "active", "value": [{"value": "True"}]}, {"active": True}),
        ({"OP": "add", "PATH": "title", "VALUE": "T", "name": "x"}, {"title": "T"}),
        ({"op": "replace", "path": "displayName", "value": ["Bea"]}, {"displayName": "Bea"}),
        ({"op": "replace", "path": "displayName", "value": [{"value": "B"}]}, {"displayName": "B"}),
        ({"op": "replace", "path": f"{CORE}:displayName", "value": "B"}, {"displayName": "B"}),
        (
            {"op": "replace", "path": f"{CORE.lower()}:DISPLAYNAME", "value": "B"},
            {"displayName": "B"},
        ),
        ({"op": "replace", "path": "displayName", "value": None}, {"displayName": GONE}),
        ({"op": "replace", "value": {"displayName": None}}, {"displayName": GONE}),
        ({"op": "replace", "path": "", "value": {"displayName": "B"}}, {"displayName": "B"}),
        ({"op": "remove", "path": "displayName", "value": "whatever"}, {"displayName": GONE}),
        ({"op": "remove", "path": "emails", "value": ""}, {"emails": GONE}),
        ({"op": "remove", "path": 'emails[type eq "home"]', "value": {"x": 1}}, {"emails": GONE}),
        (
            {"op": "replace", "value": {"name.givenName": "A"}},
            {"name": {**ANN["name"], "givenName": "A"}},
        ),
        (
            {"op": "add", "path": "NAME.GIVENNAME", "value": "A"},
            {"name": {**ANN["name"], "givenName": "A"}},
        ),
        (
            {"op": "replace", "value": {"name": {"familyName": None, "givenName": "A"}}},
            {"name": {"givenName": "A"}},
        ),
        (
            {"op": "replace", "value": {f"{ENTERPRISE}:department": "X"}},
            {ENTERPRISE: {"department": "X"}},
        ),
        *(
            (operation, {ENTERPRISE: {"department": "D", "manager": {"value": "m"}}})
            for operation in (
                {"op": "add", "path": f"{ENTERPRISE}:manager", "value": "m"},
                {"op": "add", "path": f"{ENTERPRISE}:manager", "value": {"value": "m"}},
                {"op": "add", "path": f"{ENTERPRISE}:manager", "value": [{"value": "m"}]},
                {"op": "add", "path": f"{ENTERPRISE}:manager.value", "value": "m"},
                {"op": "add", "value": {f"{ENTERPRISE}:manager": "m"}},
                {"op": "add", "value": {ENTERPRISE: {"manager": "m"}}},
            )
        ),
        (
            {"op": "replace", "path": "emails", "value": {"value": "a@corp.local"}},
            {"emails": [{"value": "a@corp.local"}]},
        ),
        (
            {"op": "replace", "path": "emails", "value": "a@corp.local"},
            {"emails": [{"value": "a@corp.local"}]},
        ),
        *(
            (operation, {"emails": [*ANN["emails"], {"value": "w@corp.local", "type": "work"}]})
            for operation in (
                {"op": "add", "path": 'emails[type eq "work"].value', "value": "w@corp.local"},
                {"op": "Replace", "path": "emails[type eq work].value", "value": "w@corp.local"},
                {"op": "add", "path": 'emails[type eq "work"]', "value": {"value": "w@corp.local"}},
                {"op": "add", "path": "emails", "value": {"VALUE": "w@corp.local", "Type": "work"}},
            )
        ),
        (
            {"op": "add", "path": 'emails[type eq "home"].primary', "value": "True"},
            {"emails": [{**ANN["emails"][0], "primary": True}]},
        ),
        (
            {"op": "remove", "path": "emails", "value": [{"value": "ann@home.example"}]},
            {"emails": GONE},
        ),
        ({"op": "remove", "path": 'emails[type eq "nothing"]'}, {}),
        ({"op": "add", "path": "roles", "value": ["r"]}, {"roles": [{"value": "r"}]}),
        ({"op": "add", "path": "urn:x:ext:2.0:User:thing", "value": "x"}, {}),
        (
            {"op": "add", "value": {"unknown": 1, "urn:x:2.0:User": {"y": 1}, "title": "T"}},
            {"title": "T"},
        ),
        (
            {
                "op": "replace",
                "value": {"meta": {"created": "x"}, "groups": [], "schemas": [], "title": "T"},
            },
            {"title": "T"},
        ),
    ],
)
async def test_patches_of_users(
    start: Start, operation: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Every way of writing a change leaves exactly that change."""
    client = await start()
    ann = await made(client, "Users", **ANN)
    body = {"id": ann["id"], "operations": [operation]}
    status, after = await call(client, "PATCH", f"/Users/{ann['id']}", body)
    assert status == 200, after
    assert differs(ann, after) == expected
    assert (await call(client, "GET", f"/Users/{ann['id']}"))[1] == after


@pytest.mark.parametrize(
    ("operation", "kind", "says"),
    [
        (
            {"op": "replace", "path": "title", "value": True},
            "invalidValue",
            "title: is not a string",
        ),
        ({"op": "replace", "value": {"title": True}}, "invalidValue", "title: is not a string"),
        ({"op": "add", "path": "name.givenName", "value": {}}, "invalidValue", "name.givenName"),
        (
            {"op": "add", "path": "emails", "value": [{"value": False}]},
            "invalidValue",
            "emails[0].value",
        ),
        ({"op": "add", "path": 'emails[type eq "work"]', "value": 3}, "invalidValue", "emails[0]"),
        ({"op": "replace", "path": "active", "value": "perhaps"}, "invalidValue", "active"),
        ({"op": "replace", "path": "userName", "value": ""}, "invalidValue", "userName"),
        ({"op": "add", "value": {ENTERPRISE: {"manager": 5}}}, "invalidValue", "manager"),
        ({"op": "remove", "path": "userName"}, "mutability", "required"),
        ({"op": "replace", "path": "id", "value": "x"}, "mutability", "id"),
        ({"op": "replace", "path": "groups", "value": []}, "mutability", "groups"),
        ({"op": "replace", "path": "userName"}, "invalidValue", "value is required"),
        ({"op": "remove"}, "noTarget", "path"),
        ({"op": "move", "path": "title"}, "invalidValue", "Operations[0].op: is not add"),
        ({"path": "title"}, "invalidValue", "Operations[0]: op is required"),
        ({"op": "add", "path": "a..b", "value": 1}, "invalidPath", "invalid syntax"),
        ({"op": "add", "path": 5, "value": 1}, "invalidValue", "Operations[0].path"),
        ({"op": "add", "path": "emails[", "value": {"value": "x"}}, "invalidPath", ""),
        ({"op": "add", "path": "x" * 20_000, "value": 1}, "invalidPath", "longer than"),
        ({"op": "add", "value": "x"}, "invalidValue", ""),
        ({"op": "add", "value": [{"title": "a"}, {"active": False}]}, "invalidValue", ""),
    ],
)
async def test_patches_that_cannot_be(
    start: Start, operation: dict[str, Any], kind: str, says: str
) -> None:
    """A wrong operation is a 400 of the right type whose detail says where and why."""
    client = await start()
    ann = await made(client, "Users", **ANN)
    operations = [{"op": "add", "path": "nickName", "value": "half"}, operation]
    status, error = await call(
        client, "PATCH", f"/Users/{ann['id']}", {"Operations": operations[1:]}
    )
    assert (status, error["status"], error["schemas"]) == (400, "400", [ERROR])
    assert (error["scimType"], True) == (kind, says in error["detail"]), error
    assert "\n" not in error["detail"]
    status, _ = await call(client, "PATCH", f"/Users/{ann['id']}", {"Operations": operations})
    assert status == 400
    assert (await call(client, "GET", f"/Users/{ann['id']}"))[1] == ann


@pytest.mark.parametrize("sent", [{}, {"Operations": None}, {"Operations": 5}, {"Operations": "x"}])
async def test_patches_without_operations(start: Start, sent: dict[str, Any]) -> None:
    """What is no list of them is a 400 that names it."""
    client = await start()
    ann = await made(client, "Users", **ANN)
    status, error = await call(client, "PATCH", f"/Users/{ann['id']}", sent)
    assert (status, error["scimType"]) == (400, "invalidValue")
    assert "Operations" in error["detail"]


async def test_paths_that_are_no_attribute(start: Start) -> None:
    """Whatever is to be done there, it is a 400 that names the path; nothing else is done."""
    client = await start()
    ann = await made(client, "Users", **ANN)
    group = await made(client, "Groups", displayName="g")
    of_group = CORE.replace("User", "Group")
    for resource, path, named in (
        (ann, "unknown", "unknown"),
        (ann, 'unknown[type eq "work"].value', "unknown.value"),
        (ann, "name.unknown", "name.unknown"),
        (ann, 'emails[type eq "home"].unknown', "emails.unknown"),
        (ann, "userName.x", "userName.x"),
        (ann, "members", "members"),
        (ann, "meta.unknown", "meta.unknown"),
        (ann, f"{CORE}:unknown", f"{CORE}:unknown"),
        (ann, f"{ENTERPRISE}:unknown", f"{ENTERPRISE}:unknown"),
        (ann, f"{of_group}:displayName", f"{of_group}:displayName"),
        (group, "userName", "userName"),
        (group, "members.unknown", "members.unknown"),
    ):
        url = resource["meta"]["location"].partition("/scim/v2")[2]
        operations: list[dict[str, Any]] = [
            {"op": op, "path": path, "value": "x"} for op in ("add", "Replace", "remove")
        ]
        if "[" in path:
            operations.append({"op": "add", "value": {path: "x"}})
        for operation in operations:
            body = {"Operations": [{"op": "add", "path": "externalId", "value": "e"}, operation]}
            status, error = await call(client, "PATCH", url, body)
            assert (status, error["scimType"]) == (400, "invalidPath"), operation
            assert f"Operations[1].path: {named} is no attribute" in error["detail"]
        assert (await call(client, "GET", url))[1] == resource


async def test_created_as_clients_create(start: Start) -> None:
    """Text booleans, single values, bare strings, nulls and unknown things are folded on POST."""
    client = await start()
    body = {
        "schemas": [CORE, ENTERPRISE, "urn:unknown:2.0:User"],
        "USERNAME": "u",
        "Active": "False",
        "EMAILS": {"VALUE": "a@corp.local", "Primary": "true"},
        "name": None,
        "title": ["T"],
        "roles": ["r", {"value": "s"}],
        "unknown": {"x": [1]},
        "urn:unknown:2.0:User": {"a": 1},
        ENTERPRISE.upper(): {"Manager": ["m"], "department": None},
        "id": "mine",
        "meta": {"resourceType": "Thing"},
        "groups": [{"value": "g"}],
    }
    user = await made(client, "Users", **body)
    assert user["id"] != "mine"
    assert {k: v for k, v in user.items() if k not in {"id", "meta", "schemas"}} == {
        "userName": "u",
        "active": False,
        "emails": [{"value": "a@corp.local", "primary": True}],
        "title": "T",
        "roles": [{"value": "r"}, {"value": "s"}],
        ENTERPRISE: {"manager": {"value": "m"}},
    }
    status, after = await call(client, "PUT", f"/Users/{user['id']}", {**body, "title": None})
    assert (status, "title" in after) == (200, False)
    assert list(after)[:2] == ["schemas", "id"]


async def test_a_body_without_a_media_type_is_scim(start: Start) -> None:
    """A client that names no media type is understood; one that names another is told so."""
    client = await start()
    for headers, expected in (({}, 201), ({"Content-Type": "text/csv"}, 415)):
        async with client.post(
            "/scim/v2/Users",
            data=b'{"userName": "u"}',
            headers=headers,
            skip_auto_headers=["Content-Type"],
        ) as answer:
            assert answer.status == expected
            assert answer.content_type == "application/scim+json"


@pytest.mark.parametrize(
    "media_type",
    [
        "application/scim+json",
        "application/json",
        "application/scim+json; charset=utf-8",
        'APPLICATION/JSON;charset="UTF-8"',
    ],
)
async def test_media_types(start: Start, media_type: str) -> None:
    """Both media types come in, with or without charset; SCIM's goes out, errors included."""
    client = await start()
    for path, expected in (("/scim/v2/Users/", 201), ("/scim/v2/Users", 409)):
        headers = {"Content-Type": media_type, "Accept": media_type}
        async with client.post(path, data=b'{"userName": "u"}', headers=headers) as answer:
            assert answer.status == expected
            assert answer.content_type == "application/scim+json"


async def test_any_url_under_the_root_may_end_with_a_slash(start: Start) -> None:
    """Trailing slashes and letter case of endpoints make no difference."""
    client = await start()
    user = await made(client, "Users/", userName="u")
    for path in (
        "/Users/",
        "/users",
        f"/Users/{user['id']}/",
        "/Schemas/",
        "/ServiceProviderConfig/",
    ):
        assert (await call(client, "GET", path))[0] == 200, path


async def test_conditional_requests(start: Start) -> None:
    """ETags: 304 for what has not changed, 412 for a write to another version."""
    client = await start()
    user = await made(client, "Users", userName="u")
    path, version = f"/Users/{user['id']}?excludedAttributes=groups", user["meta"]["version"]
    for method, body, headers, expected in (
        ("GET", None, {"If-None-Match": version}, 304),
        ("GET", None, {"If-None-Match": 'W/"other"'}, 200),
        ("PUT", {"userName": "v"}, {"If-Match": 'W/"other"'}, 412),
        ("DELETE", None, {"If-Match": 'W/"other"'}, 412),
        ("PUT", {"userName": "u"}, {"If-Match": version}, 200),
        ("GET", None, {"If-None-Match": version}, 304),
        ("PUT", {"userName": "v"}, {"If-Match": version}, 200),
        ("GET", None, {"If-None-Match": version}, 200),
        ("DELETE", None, {"If-Match": version}, 412),
        ("DELETE", None, {"If-Match": "*"}, 204),
    ):
        assert (await call(client, method, path, body, **headers))[0] == expected, (method, headers)


async def test_members_who_come_later(start: Start) -> None:
    """A member unknown to us is kept as sent, and becomes one of a kind once it exists."""
    client = await start()
    sent = [{"value": "later", "display": "L", "$ref": None}, "other", {"$ref": "../Users/third"}]
    group = await made(client, "Groups", displayName="g", members=[*sent, {"value": "later"}])
    assert group["members"] == [
        {"value": "later", "display": "L"},
        {"value": "other"},
        {"value": "third"},
    ]
