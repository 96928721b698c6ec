"""Lists: filters, orders, pages and selected attributes over HTTP."""

from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest

from tests.service.client import ENTERPRISE, call, made
from tests.service.conftest import Client, Start


async def names(client: Client, path: str) -> list[str]:
    """Return the names of what a list holds, checking that its numbers are honest."""
    status, found = await call(client, "GET", path)
    assert status == 200, found
    listed = found.get("Resources", [])
    assert found["itemsPerPage"] == len(listed)
    assert found["totalResults"] >= len(listed)
    return [r.get("userName") or r["displayName"] for r in listed]


async def people(client: Client) -> None:
    """Create cara, Abel and bob."""
    for name in ("cara", "Abel", "bob"):
        await made(client, "Users", userName=name, externalId=f"x-{name}", displayName=name)


async def test_lists_filter_sort_page_and_select(start: Start) -> None:
    """Lists are stable and honest about how many there are."""
    client = await start()
    await people(client)
    for query, expected in (
        ("", ["cara", "Abel", "bob"]),
        ("?startIndex=2&count=1", ["Abel"]),
        ("?STARTINDEX=2&Count=1", ["Abel"]),
        ("?startIndex=0&count=2", ["cara", "Abel"]),
        ("?startIndex=-7", ["cara", "Abel", "bob"]),
        (f"?startIndex={'9' * 40}", []),
        (f"?count={'9' * 400}", ["cara", "Abel", "bob"]),
        ("?count=0", []),
        ("?count=-3", []),
        ("?sortBy=userName", ["Abel", "bob", "cara"]),
        ("?sortBy=userName&sortOrder=descending", ["cara", "bob", "Abel"]),
        ("?sortBy=meta.created&sortOrder=Descending&count=1", ["bob"]),
        ("?filter=USERNAME%20eq%20%22ABEL%22", ["Abel"]),
        ("?filter=externalId+eq+%22x-bob%22", ["bob"]),
        ("?filter=externalId+eq+%22X-bob%22", []),
        ("?filter=displayName+sw+%22c%22+or+userName+co+%22OB%22", ["cara", "bob"]),
    ):
        assert expected == await names(client, f"/Users{query}"), query
    _, found = await call(client, "GET", "/Users?attributes=userName")
    assert {frozenset(u) for u in found["Resources"]} == {frozenset({"schemas", "id", "userName"})}


async def test_a_page_of_a_hundred_unless_asked_otherwise(start: Start) -> None:
    """Lists come a hundred at a time, and never more than a thousand."""
    client = await start()
    operations = [
        {"method": "POST", "path": "/Users", "bulkId": str(n), "data": {"userName": f"u{n}"}}
        for n in range(101)
    ]
    status, _ = await call(client, "POST", "/Bulk", {"Operations": operations})
    assert status == 200
    for query, expected in (("", 100), ("?count=101", 101), ("?count=5000", 101)):
        _, found = await call(client, "GET", f"/Users{query}")
        assert (101, expected) == (found["totalResults"], found["itemsPerPage"]), query
    _, config = await call(client, "GET", "/ServiceProviderConfig")
    assert [scheme["primary"] for scheme in config["authenticationSchemes"]] == [True]
    assert config["filter"] == {"supported": True, "maxResults": 1000}
    supported = {name for name, told in config.items() if told == {"supported": True}}
    assert supported == {"patch", "sort", "etag"}
    assert config["pagination"]["maxPageSize"] == 1000


@pytest.mark.parametrize(
    "text",
    [
        'userName eq "ann+tag@corp.local"',
        "userName eq ann+tag@corp.local",
        'emails eq "ANN+tag@corp.local"',
        'emails.value eq "ann+tag@corp.local"',
        'emails[type eq "work" and value eq "ann+tag@corp.local"]',
        "emails[type eq work].value eq ann+tag@corp.local",
        "userName Eq ann+tag@corp.local and active eq True",
        'active eq "true"',
        f'{ENTERPRISE}:employeeNumber eq "7"',
        f"{ENTERPRISE}:employeeNumber eq 7",
        f'{ENTERPRISE}:manager.value eq "m"',
        'groups.display eq "Staff"',
        'meta.lastModified gt "2001-01-01T00:00:00Z" and userName ew "local"',
        'not (userName eq "bob") and title pr',
    ],
)
async def test_filters_as_clients_write_them(start: Start, text: str) -> None:
    """Quotes left out, letter case, plus signs and every attribute find the one user."""
    client = await start()
    ann = await made(
        client,
        "Users",
        userName="ann+tag@corp.local",
        title="T",
        active=True,
        emails=[{"value": "ann+tag@corp.local", "type": "work"}],
        **{ENTERPRISE: {"employeeNumber": "7", "manager": "m"}},
    )
    await made(client, "Users", userName="bob", active=False, title="")
    await made(client, "Groups", displayName="Staff", members=[{"value": ann["id"]}])
    assert await names(client, f"/Users?filter={quote(text, safe='+')}") == ["ann+tag@corp.local"]
    status, found = await call(client, "POST", "/Users/.search", {"filter": text})
    assert (status, found["totalResults"]) == (200, 1)


async def test_times_are_compared_as_moments(start: Start) -> None:
    """Of one moment there are as many spellings as time zones, and none of it is left out."""
    client = await start()
    created = (await made(client, "Users", userName="ann"))["meta"]["created"]
    moment = datetime.fromisoformat(created)
    for hours in (-11, 0, 5):
        said = moment.astimezone(timezone(timedelta(hours=hours))).isoformat()
        for operator, expected in (
            ("eq", ["ann"]),
            ("ge", ["ann"]),
            ("le", ["ann"]),
            ("gt", []),
            ("lt", []),
            ("ne", []),
        ):
            text = quote(f'meta.created {operator} "{said}"')
            assert await names(client, f"/Users?filter={text}") == expected, text


async def test_look_ups_follow_changes(start: Start) -> None:
    """What was changed is found under what it is now, and no longer under what it was."""
    client = await start()
    ann = await made(client, "Users", userName="ann", emails=[{"value": "old@a.example"}])
    body = {
        "userName": "bea",
        "externalId": "e",
        "displayName": "Bea",
        "emails": [{"value": "new@a.example"}, {"value": "NEW@A.example", "type": "work"}],
    }
    assert (await call(client, "PUT", f"/Users/{ann['id']}", body))[0] == 200
    for text, expected in (
        ('emails.value eq "old@a.example"', []),
        ('emails.value eq "New@a.example"', ["bea"]),
        ('userName eq "ann"', []),
        ('userName eq "BEA"', ["bea"]),
        ('externalId eq "e"', ["bea"]),
        ('displayName eq "bea"', ["bea"]),
    ):
        assert await names(client, f"/Users?filter={quote(text)}") == expected, text


async def test_groups_by_member(start: Start) -> None:
    """Entra asks whether one group holds one user, without the members themselves."""
    client = await start()
    group = await made(client, "Groups", displayName="g", members=[{"value": "u1"}])
    for member, expected in (("u1", ["g"]), ("u2", [])):
        text = quote(f'id eq "{group["id"]}" and members eq "{member}"')
        path = f"/Groups?excludedAttributes=members&filter={text}"
        assert expected == await names(client, path)
        text = quote(f'members[value eq "{member}"]')
        assert expected == await names(client, f"/Groups?filter={text}")
    _, found = await call(client, "GET", "/Groups?excludedAttributes=members")
    assert "members" not in found["Resources"][0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("userName eq", "invalid syntax"),
        ('userName eq "' + "1" * 20_000 + '"', "longer than"),
        (" or ".join(['userName eq "a"'] * 257), "more than 256"),
        (" and ".join(["a pr"] * 3000), "longer than"),
        (" and ".join(["a pr"] * 1500), "more than 256"),
        ("(" * 9000 + 'userName eq "a"' + ")" * 9000, "longer than"),
        ("not (" * 100 + 'userName eq "a"' + ")" * 100, "nests more than"),
        ("active gt true", "cannot be applied"),
        ("userName eq " + '"a' * 400, ""),
    ],
)
async def test_filters_that_cannot_be_used(start: Start, text: str, says: str) -> None:
    """A filter that is wrong, or beyond all use, is a 400 that says so, wherever it stands."""
    client = await start()
    for status, error in (
        await call(client, "GET", f"/Users?filter={quote(text)}"),
        await call(client, "POST", "/.search", {"filter": text}),
    ):
        assert (status, error["scimType"]) == (400, "invalidFilter")
        assert says in error["detail"]


async def test_filters_of_many_terms_are_answered(start: Start) -> None:
    """As many terms as are let in are answered: the database has limits of its own."""
    client = await start()
    await made(client, "Users", userName="a")
    for joiner in (" or ", " and "):
        text = joiner.join(['(userName pr and not (title eq "b"))'] * 128)
        status, found = await call(client, "POST", "/.search", {"filter": text})
        assert (status, found["totalResults"]) == (200, 1)


async def test_root_search_finds_users_and_groups(start: Start) -> None:
    """The root holds every resource type as one collection."""
    client = await start()
    await people(client)
    await made(client, "Groups", displayName="bob")
    assert await names(client, "/") == ["cara", "Abel", "bob", "bob"]
    text = quote('displayName eq "BOB"')
    _, found = await call(client, "GET", f"/?filter={text}&sortBy=meta.resourceType")
    assert [r["meta"]["resourceType"] for r in found["Resources"]] == ["Group", "User"]
    query = {"filter": 'userName eq "bob" or meta.resourceType eq "Group"', "count": 1}
    status, found = await call(client, "POST", "/.search", query)
    assert (status, found["totalResults"], found["itemsPerPage"]) == (200, 2, 1)


@pytest.mark.parametrize("sort", ["", "&sortBy=displayName", "&sortBy=title&sortOrder=descending"])
async def test_cursors_walk_forth_and_back(start: Start, sort: str) -> None:
    """Cursor pages (RFC 9865) hold everything once, and lead back the same way."""
    client = await start()
    for number in range(7):
        title = {"title": f"t{number % 2}"} if number % 3 else {}
        await made(client, "Users", userName=f"u{number}", displayName=f"d{number}", **title)
    pages: list[list[str]] = []
    cursor = ""
    previous = ""
    while True:
        _, found = await call(client, "GET", f"/Users?count=3&cursor={cursor}{sort}")
        pages.append([u["userName"] for u in found["Resources"]])
        if "nextCursor" not in found:
            previous = found["previousCursor"]
            break
        cursor = found["nextCursor"]
    assert [len(p) for p in pages] == [3, 3, 1]
    assert {f"u{n}" for n in range(7)} == {name for page in pages for name in page}
    _, found = await call(client, "GET", f"/Users?count=3&cursor={previous}{sort}")
    assert pages[1] == [u["userName"] for u in found["Resources"]]


async def test_cursors_cannot_be_made_up(start: Start) -> None:
    """A cursor that is not ours, or another query's, is 400 with the type of RFC 9865."""
    client = await start()
    await people(client)
    _, found = await call(client, "GET", "/Users?count=1&cursor=")
    for query, kind in (
        ("count=1&cursor=abc", "invalidCursor"),
        (f"count=1&sortBy=userName&cursor={found['nextCursor']}", "invalidCursor"),
        (f"count=2&cursor={found['nextCursor']}", "invalidCount"),
    ):
        status, error = await call(client, "GET", f"/Users?{query}")
        assert (400, kind) == (status, error["scimType"]), query


async def test_attributes_are_selected_everywhere(start: Start) -> None:
    """`attributes` and `excludedAttributes` hold for members and groups too, to the part."""
    client = await start()
    ann = await made(client, "Users", userName="ann")
    group = await made(client, "Groups", displayName="g", members=[{"value": ann["id"]}])
    ref = str(client.make_url(f"/scim/v2/Users/{ann['id']}"))
    whole = {"value": ann["id"], "type": "User", "$ref": ref}
    urn = "urn:ietf:params:scim:schemas:core:2.0:Group"
    selections: list[tuple[str, Any]] = [
        ("", [whole]),
        ("attributes=members", [whole]),
        ("attributes=MEMBERS.value", [{"value": ann["id"]}]),
        (f"attributes={urn}:members.type", [{"type": "User"}]),
        ("attributes=displayName", None),
        ("excludedAttributes=members", None),
        ("excludedAttributes=members.$ref,members.type", [{"value": ann["id"]}]),
    ]
    for query, expected in selections:
        _, found = await call(client, "GET", f"/Groups/{group['id']}?{query}")
        assert expected == found.get("members"), query
        _, found = await call(client, "GET", f"/Groups?{query}")
        assert expected == found["Resources"][0].get("members"), query
        parameters = dict(p.split("=") for p in query.split("&") if p)
        _, found = await call(client, "POST", "/Groups/.search", parameters)
        assert expected == found["Resources"][0].get("members"), query
    body = {"Operations": [{"op": "add", "path": "externalId", "value": "e"}]}
    status, found = await call(client, "PATCH", f"/Groups/{group['id']}?attributes=members", body)
    assert (status, found["members"]) == (200, [whole])
    assert "displayName" not in found
    new = {"displayName": "h", "members": [{"value": "x"}]}
    for query, kept in (
        ("attributes=members.value", {"schemas", "id", "members"}),
        ("excludedAttributes=members,meta", {"schemas", "id", "displayName"}),
    ):
        status, found = await call(client, "POST", f"/Groups?{query}", new)
        assert (status, set(found)) == (201, kept)
    for query in ("attributes=members&excludedAttributes=members", "attributes=" + "a," * 300):
        status, error = await call(client, "POST", f"/Groups?{query}", new)
        assert (status, error["scimType"]) == (400, "invalidValue")
    assert (await call(client, "GET", "/Groups"))[1]["totalResults"] == 3
    for query, expected in (("groups.value", {"value"}), ("groups", {"value", "display", "type"})):
        _, found = await call(client, "GET", f"/Users/{ann['id']}?attributes={query}")
        assert expected <= set(found["groups"][0])
    _, found = await call(client, "GET", f"/Users/{ann['id']}?excludedAttributes=groups")
    assert "groups" not in found


async def test_groups_of_a_user_are_computed(start: Start) -> None:
    """`User.groups` tells groups directly and through others, once each, cycles or not."""
    client = await start()
    ann = await made(client, "Users", userName="ann")
    assert "groups" not in ann
    inner = await made(client, "Groups", displayName="inner", members=[{"value": ann["id"]}])
    outer = await made(client, "Groups", displayName="outer", members=[{"value": inner["id"]}])
    cycle = {"Operations": [{"op": "add", "path": "members", "value": [{"value": outer["id"]}]}]}
    assert (await call(client, "PATCH", f"/Groups/{inner['id']}", cycle))[0] == 204
    base = str(client.make_url("/scim/v2/Groups/"))
    expected = [
        {"value": g["id"], "display": name, "type": kind, "$ref": base + g["id"]}
        for g, name, kind in ((inner, "inner", "direct"), (outer, "outer", "indirect"))
    ]
    for path in (f"/Users/{ann['id']}", "/Users"):
        _, found = await call(client, "GET", path)
        assert expected == (found["Resources"][0] if "Resources" in found else found)["groups"]
    text = quote(f'groups.value eq "{outer["id"]}"')
    assert await names(client, f"/Users?filter={text}") == ["ann"]
    indirect = 'groups.type eq "indirect"'
    assert await names(client, f"/Users?filter={quote(indirect)}") == ["ann"]


async def test_what_is_wrong_with_a_search_is_named(start: Start) -> None:
    """By its place in what was sent, as everywhere."""
    client = await start()
    for sent, place in (({"count": "x"}, "count: "), ({"sortOrder": "up"}, "sortOrder: ")):
        status, error = await call(client, "POST", "/.search", sent)
        assert (status, error["status"]) == (400, "400"), error
        assert error["detail"].startswith(place), error
        assert error.get("scimType") in (None, "invalidValue")
