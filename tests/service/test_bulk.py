"""Bulk requests (RFC 7644 section 3.7): each operation wholly or not at all."""

from typing import Any

import pytest

from scim_matrix.scim.people import Identity
from scim_matrix.scim.protocol import make_provider
from scim_matrix.scim.storage import RequestStorage, SenderGoneException
from scim_matrix.store.database import Database
from tests.service.client import ERROR, call, made
from tests.service.conftest import Client, Start

PROVIDER = make_provider(1024 * 1024)
IDENTITY = Identity("s", None, "externalId", 0.0)


async def bulk(client: Client, *operations: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Send a Bulk request and return its operations' outcomes."""
    status, answer = await call(client, "POST", "/Bulk", {"Operations": operations, **more})
    assert status == 200, answer
    outcomes: list[dict[str, Any]] = answer["Operations"]
    return outcomes


def post(path: str, bulk_id: str, **data: Any) -> dict[str, Any]:
    """Return an operation that creates something."""
    return {"method": "POST", "path": path, "bulkId": bulk_id, "data": data}


async def members(client: Client, group_id: str) -> list[str]:
    """Return the ids of a group's members."""
    _, group = await call(client, "GET", f"/Groups/{group_id}")
    return [m["value"] for m in group["members"]]


async def test_who_leaves_amid_a_request_has_the_rest_done(database: Database) -> None:
    """What is begun is ended: another service may have been sent the whole of it again."""
    is_gone = False
    storage = RequestStorage(database, PROVIDER, IDENTITY, writes=True, is_gone=lambda: is_gone)
    async with storage.operation():
        pass
    is_gone = True
    async with storage.operation():
        pass
    other = RequestStorage(database, PROVIDER, IDENTITY, writes=True, is_gone=lambda: is_gone)
    with pytest.raises(SenderGoneException):
        async with other.operation():
            pass


async def test_members_by_bulk_id(start: Start) -> None:
    """A group may list users that the same request creates, before it creates them."""
    client = await start()
    outcomes = await bulk(
        client,
        post("/Groups", "g", displayName="g", members=[{"value": "bulkId:u"}, {"value": "later"}]),
        post("/Users", "u", userName="u"),
        {
            "method": "patch",
            "path": "/Groups/bulkId:g",
            "data": {"Operations": [{"op": "Add", "path": "members", "value": "bulkId:v"}]},
        },
        post("/Users", "v", userName="v"),
    )
    assert [o["status"] for o in outcomes] == ["201", "201", "200", "201"]
    ids = {o["bulkId"]: o["location"].rpartition("/")[2] for o in outcomes if "bulkId" in o}
    assert set(await members(client, ids["g"])) == {ids["u"], ids["v"], "later"}


async def test_one_wrong_operation_takes_no_other_with_it(start: Start) -> None:
    """Whatever is wrong with an operation, its neighbours are done and it is not, not in part."""
    client = await start()
    group = await made(client, "Groups", displayName="g", members=[{"value": "a"}])
    path = f"/Groups/{group['id']}"
    wrong: list[tuple[dict[str, Any], str, str]] = [
        (post("/Users", "1", displayName="nameless"), "400", "userName is required"),
        (
            post("/Users", "2", userName="u", active=[{"value": {}}]),
            "400",
            "active",
        ),
        (post("/Groups", "3", displayName="h", members=[{"value": 5}]), "400", "members[0].value"),
        (post("/Groups", "4", displayName="h", members=["bulkId:none"]), "409", "bulkId none"),
        (post("/Nowhere", "5"), "404", ""),
        ({"method": "DELETE", "path": "/Users/none"}, "404", "not found"),
        ({"method": "DELETE", "path": path, "version": 'W/"99"'}, "412", ""),
        ({"method": "GET", "path": path}, "400", ""),
        (
            {
                "method": "PATCH",
                "path": path,
                "data": {
                    "Operations": [
                        {"op": "add", "path": "members", "value": "b"},
                        {"op": "replace", "path": "displayName", "value": ""},
                    ]
                },
            },
            "400",
            "Operations[1]: displayName: must not be empty",
        ),
    ]
    good = [post("/Users", f"ok{n}", userName=f"ok{n}") for n in range(len(wrong))]
    pairs = [
        operation for pair in zip((w[0] for w in wrong), good, strict=True) for operation in pair
    ]
    outcomes = await bulk(client, *pairs)
    for (_, status, says), failed, done in zip(wrong, outcomes[::2], outcomes[1::2], strict=True):
        assert (status, "201") == (failed["status"], done["status"]), failed
        assert failed["response"]["schemas"] == [ERROR]
        assert says in failed["response"]["detail"]
    assert await members(client, group["id"]) == ["a"]
    _, found = await call(client, "GET", "/Users")
    assert found["totalResults"] == len(wrong)
    _, found = await call(client, "GET", "/Groups")
    assert found["totalResults"] == 1


async def test_fail_on_errors_stops(start: Start) -> None:
    """After as many errors as the client accepts, the rest is not tried."""
    client = await start()
    wrong, right = post("/Users", "x", displayName="nameless"), post("/Users", "y", userName="y")
    outcomes = await bulk(client, wrong, wrong, right, failOnErrors=2)
    assert [o["status"] for o in outcomes] == ["400", "400"]
    outcomes = await bulk(client, wrong, right, FAILONERRORS=2)
    assert [o["status"] for o in outcomes] == ["400", "201"]


async def test_everything_else_in_bulk(start: Start) -> None:
    """PUT, PATCH and DELETE work on users and groups, with versions and locations."""
    client = await start()
    ann = await made(client, "Users", userName="ann")
    group = await made(client, "Groups", displayName="g", members=[{"value": "a"}])
    outcomes = await bulk(
        client,
        {"method": "PUT", "path": f"/Users/{ann['id']}", "data": {"userName": "Ann", "title": "T"}},
        {
            "method": "PUT",
            "path": f"Groups/{group['id']}",
            "version": group["meta"]["version"],
            "data": {"displayName": "h", "members": [{"value": "b"}, "c"]},
        },
    )
    assert [o["status"] for o in outcomes] == ["200", "200"]
    assert outcomes[0]["location"] == ann["meta"]["location"]
    assert outcomes[1]["version"] != group["meta"]["version"]
    assert await members(client, group["id"]) == ["b", "c"]
    outcomes = await bulk(client, {"method": "DELETE", "path": f"/Groups/{group['id']}"})
    assert [o["status"] for o in outcomes] == ["204"]
    assert (await call(client, "GET", f"/Groups/{group['id']}"))[0] == 404


async def test_bulk_has_limits(start: Start) -> None:
    """More operations than announced are 413; the announcement is what authentik reads."""
    client = await start()
    _, config = await call(client, "GET", "/ServiceProviderConfig")
    assert config["bulk"] == {
        "supported": True,
        "maxOperations": 1000,
        "maxPayloadSize": 32 * 1024 * 1024,
    }
    operations = [post("/Users", str(n), userName=f"u{n}") for n in range(1001)]
    for body, expected in (
        ({"Operations": operations}, 413),
        ({"Operations": ["x"]}, 400),
        ({"Operations": {}}, 400),
        ({"Operations": [], "failOnErrors": 0}, 400),
        ({}, 400),
    ):
        status, error = await call(client, "POST", "/Bulk", body)
        assert (expected, str(expected)) == (status, error["status"]), error
    assert (await call(client, "GET", "/Users"))[1]["totalResults"] == 0
