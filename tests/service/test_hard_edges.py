"""What odd clients send that must be done, or refused with the reason; never silently nothing."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from scim_matrix.app_keys import DATABASE
from tests.service.client import ENTERPRISE, call, made
from tests.service.conftest import Client, Start

GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
PEM = "-----BEGIN CERTIFICATE-----\naGVs\nbG8=\n-----END CERTIFICATE-----\n"


def escaped(text: str) -> str:
    """Write a text as a query string has it, plus signs apart."""
    return text.replace(" ", "%20").replace('"', "%22")


async def names(client: Client, query: str) -> list[str]:
    """Return the userNames that a search finds."""
    status, found = await call(client, "GET", f"/Users?{query}")
    assert status == 200, found
    return [user["userName"] for user in found["Resources"]]


# -- Filters ----------------------------------------------------------------


@pytest.mark.parametrize(
    "attribute",
    ["manager", "MANAGER", "manager.value", f"{ENTERPRISE}:manager", f"{ENTERPRISE}:manager.value"],
)
async def test_entras_reference_check(start: Start, attribute: str) -> None:
    """Entra ID asks whether a user has a manager, by either name of the attribute."""
    client = await start()
    boss = await made(client, "Users", userName="boss")
    user = await made(client, "Users", userName="u", **{ENTERPRISE: {"manager": boss["id"]}})
    await made(client, "Users", userName="other", **{ENTERPRISE: {"manager": "manager eq"}})
    asked = f'id eq "{user["id"]}" and {attribute} eq "{boss["id"]}"'
    assert await names(client, "filter=" + escaped(asked)) == ["u"]
    asked = f'id eq "{user["id"]}" and {attribute} eq "{user["id"]}"'
    assert await names(client, "filter=" + escaped(asked)) == []
    assert await names(client, "filter=" + escaped(f"{attribute} pr")) == ["u", "other"]
    assert await names(client, "filter=" + escaped(f'{attribute} eq "manager eq"')) == ["other"]
    search = {"filter": f"not ({attribute} pr)"}
    _, found = await call(client, "POST", "/Users/.search", search)
    assert [u["userName"] for u in found["Resources"]] == ["boss"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('filter=userName+eq+"ann+tag@x.org"', []),
        ('filter=userName%20eq%20"ann+tag@x.org"', ["ann+tag@x.org"]),
        ('filter=userName+eq%20"ann+tag@x.org"', ["ann+tag@x.org"]),
        ("filter=userName%20eq+%22ann+tag@x.org%22", ["ann+tag@x.org"]),
        ('filter=userName+eq+"two%20words"', ["two words"]),
        ('filter=userName+eq+"two+words"', ["two words"]),
        ('filter=userName+eq%20"two%20words"+or+userName+eq+"ann+tag@x.org"', None),
    ],
)
async def test_blanks_and_plus_signs(start: Start, query: str, found: list[str] | None) -> None:
    """A plus sign is a blank or itself, whichever makes a filter of the query."""
    client = await start()
    everybody = ["ann+tag@x.org", "two words"]
    for name in everybody:
        await made(client, "Users", userName=name)
    assert await names(client, query) == (everybody if found is None else found)


async def test_attributes_may_select_entries(start: Start) -> None:
    """Of a multi-valued attribute only the entries asked for are shown, or the named part."""
    client = await start()
    work = {"value": "w@x.org", "type": "work", "primary": True}
    home = {"value": "h@x.org", "type": "home"}
    user = await made(client, "Users", userName="u", displayName="U", emails=[work, home])
    path = f"/Users/{user['id']}?attributes="
    for asked, emails in (
        ('emails[type eq "work"]', [work]),
        ('EMAILS[type eq "work"].value', [{"value": "w@x.org"}]),
        ('emails[type eq "home"].value,emails[primary eq true]', [work, {"value": "h@x.org"}]),
        ('emails,emails[type eq "work"]', [work, home]),
        ('emails[value eq "a,b]"]', None),
    ):
        status, answer = await call(client, "GET", path + escaped(f"{asked},userName"))
        assert (status, answer.get("emails"), answer["userName"]) == (200, emails, "u"), asked
        assert "displayName" not in answer
    search: dict[str, Any] = {"attributes": ['emails[type eq "work"]'], "filter": 'userName eq "u"'}
    _, found = await call(client, "POST", "/Users/.search", search)
    assert found["Resources"][0]["emails"] == [work]
    for wrong in (
        'emails[type eq "work"',
        'photos[type eq "x"',
        'members[value eq "x"]',
        "emails[]",
        "photos[]",
    ):
        status, error = await call(client, "GET", path + escaped(wrong))
        assert (status, error["status"]) == (400, "400"), wrong
    search["attributes"] += [7]
    status, error = await call(client, "POST", "/Users/.search", search)
    assert (status, error["scimType"]) == (400, "invalidValue")


async def test_a_selection_of_what_somebody_has_not_selects_nothing(start: Start) -> None:
    """Whoever has no such attribute is shown without; one that is no list is shown whole."""
    client = await start()
    emails = [{"value": "a@x.org", "type": "work"}]
    ann = await made(client, "Users", userName="ann", emails=emails)
    bob = await made(client, "Users", userName="bob", name={"familyName": "B"})
    for asked, of_ann, of_bob in (
        ('emails[type eq "work"], userName', {"emails": ann["emails"]}, {}),
        ('name[familyName eq "A"] , userName', {}, {"name": bob["name"]}),
    ):
        _, found = await call(client, "GET", f"/Users?attributes={escaped(asked)}")
        shown = [{k: r[k] for k in r.keys() - {"schemas", "id"}} for r in found["Resources"]]
        assert shown == [{"userName": "ann", **of_ann}, {"userName": "bob", **of_bob}], asked


# -- PATCH ------------------------------------------------------------------


async def test_keys_that_select_entries_are_paths(start: Start) -> None:
    """In a PATCH without a path, a key with a filter does what it does as a path."""
    client = await start()
    user = await made(client, "Users", userName="u", emails=[{"value": "h@x.org", "type": "home"}])
    value = {'emails[type eq "work"].value': "w@x.org", "emails[type eq home].value": "new@x.org"}
    operation = {"op": "replace", "value": {"title": "T", **value}}
    _, after = await call(client, "PATCH", f"/Users/{user['id']}", {"Operations": [operation]})
    assert after["title"] == "T"
    assert [(e["type"], e["value"]) for e in after["emails"]] == [
        ("home", "new@x.org"),
        ("work", "w@x.org"),
    ]


@pytest.mark.parametrize(
    ("operation", "left"),
    [
        ({"op": "replace", "path": 'members[value eq "a"]', "value": {"value": "z"}}, "b c z"),
        ({"op": "replace", "path": 'members[value eq "a"]', "value": [{"value": "z"}]}, "b c z"),
        ({"op": "replace", "path": 'members[display eq "B"]', "value": {"value": "z"}}, "a c z"),
        ({"op": "replace", "value": {'members[value eq "a"]': {"value": "z"}}}, "b c z"),
        ({"op": "add", "value": {'members[value eq "z"]': {"value": "z"}}}, "a b c z"),
        ({"op": "add", "path": 'members[value eq "z"]', "value": {"value": "z"}}, "a b c z"),
        ({"op": "remove", "path": "members[value eq 'a']"}, "b c"),
        ({"op": "remove", "path": f"{GROUP}:members[value eq 'a']"}, "b c"),
        ({"op": "remove", "path": 'members[value eq "a" or value eq "b"]'}, "c"),
        ({"op": "remove", "path": 'members[display eq "B"]'}, "a c"),
        ({"op": "remove", "path": "members[display pr]"}, "a c"),
        ({"op": "remove", "path": 'members[value ne "a"]'}, "a"),
        ({"op": "remove", "path": 'members[not (value sw "a" or display co "b")]'}, "a b"),
        ({"op": "remove", "path": 'members[type eq "User"]'}, "a b c"),
        ({"op": "remove", "path": 'members[value eq "a" and value eq "b"]'}, "a b c"),
    ],
)
async def test_members_that_are_selected(
    start: Start, operation: dict[str, Any], left: str
) -> None:
    """Members are replaced and removed by any filter, and nobody else is touched."""
    client = await start()
    sent = [{"value": "a"}, {"value": "b", "display": "B"}, {"value": "c"}]
    group = await made(client, "Groups", displayName="g", members=sent)
    path = f"/Groups/{group['id']}"
    status, error = await call(client, "PATCH", path, {"Operations": [operation]})
    assert status == 204, error
    _, after = await call(client, "GET", path)
    assert " ".join(m["value"] for m in after["members"]) == left
    known = {m["value"]: m for m in group["members"]}
    assert all(m == known.get(m["value"], m) for m in after["members"])


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ({"op": "replace", "path": 'members[value eq "a"]'}, "invalidValue"),
        ({"op": "replace", "path": 'members[value eq "a"]', "value": None}, "invalidValue"),
        ({"op": "remove", "path": "members", "value": ""}, "invalidValue"),
        ({"op": "remove", "path": "members", "value": {}}, "invalidValue"),
        ({"op": "remove", "path": "members", "value": [{"value": ""}]}, "invalidValue"),
        (
            {"op": "replace", "path": 'members[value eq "a"]', "value": {"value": {}}},
            "invalidValue",
        ),
        ({"op": "replace", "path": 'members[display eq "?"]', "value": {"value": "z"}}, "noTarget"),
        ({"op": "replace", "path": 'members[value eq "z"]', "value": {"value": "z"}}, "noTarget"),
        ({"op": "add", "path": 'members[value eq "a"]', "value": {"value": "z"}}, "mutability"),
        ({"op": "remove", "path": 'members[nick eq "a"]'}, "invalidPath"),
        ({"op": "remove", "path": 'members[not (nick eq "a")]'}, "invalidPath"),
        ({"op": "remove", "path": "members[value eq"}, "invalidPath"),
        ({"op": "remove", "path": "members[]"}, "invalidFilter"),
        ({"op": "replace", "value": {"members[": {"value": "z"}}}, "invalidPath"),
    ],
)
async def test_members_that_cannot_be_selected(
    start: Start, operation: dict[str, Any], kind: str
) -> None:
    """What cannot be done is a 400 that says why, and the group stays as it was."""
    client = await start()
    group = await made(client, "Groups", displayName="g", members=[{"value": "a"}])
    path = f"/Groups/{group['id']}"
    before = {"op": "add", "path": "members", "value": [{"value": "half"}]}
    status, error = await call(client, "PATCH", path, {"Operations": [before, operation]})
    assert (status, error["scimType"]) == (400, kind), error
    assert error["detail"]
    assert (await call(client, "GET", path))[1] == group


async def test_members_that_their_address_or_type_selects(start: Start) -> None:
    """A filter over members sees all that answers show of them: value, display, type and $ref."""
    client = await start()
    known = {name: (await made(client, "Users", userName=name))["id"] for name in ("ann", "bob")}
    known["inner"] = (await made(client, "Groups", displayName="inner"))["id"]
    sent = [{"value": i, "display": n[0].upper()} for n, i in known.items()]
    group = await made(client, "Groups", displayName="g")
    path = f"/Groups/{group['id']}"
    base = group["meta"]["location"].removesuffix(path)
    for selection, left in (
        ('$ref eq "{base}/Users/{ann}"', "bob inner"),
        ('$ref eq "../Users/{ann}" or $ref eq "http://elsewhere/Groups/{inner}"', "bob"),
        ('$REF eq "{base}/Users/{ann}" and type eq "User"', "bob inner"),
        ('$ref eq "{base}/Groups/{inner}" or display eq "B"', "ann"),
        ('$ref ne "{base}/Users/{ann}"', "ann"),
        ('$ref co "/Users/"', "inner"),
        ('$ref sw "{base}/Groups/"', "ann bob"),
        ("not ($ref pr)", "ann bob inner"),
        ('type eq "group"', "ann bob"),
    ):
        selected = selection.format(base=base, **known)
        operations = [
            {"op": "replace", "path": "members", "value": sent},
            {"op": "remove", "path": f"members[{selected}]"},
        ]
        status, error = await call(client, "PATCH", path, {"Operations": operations})
        assert status == 204, error
        _, after = await call(client, "GET", path)
        assert {m["value"] for m in after["members"]} == {known[n] for n in left.split()}, selection


async def test_selected_members_in_bulk(start: Start) -> None:
    """A selection looks at the group as earlier operations of the same request left it."""
    client = await start()
    group = await made(client, "Groups", displayName="g", members=["a"])
    path = f"/Groups/{group['id']}"
    patch = [
        {"op": "add", "path": "members", "value": [{"value": "b", "display": "B"}]},
        {"op": "replace", "path": 'members[display eq "B"].display', "value": "new"},
        {"op": "remove", "path": 'members[not (display eq "new")]'},
    ]
    operation = {"method": "PATCH", "path": path, "data": {"Operations": patch}}
    status, done = await call(client, "POST", "/Bulk", {"Operations": [operation]})
    assert (status, done["Operations"][0]["status"]) == (200, "200"), done
    members = (await call(client, "GET", path))[1]["members"]
    assert members == [{"value": "b", "display": "new"}]


# -- active -----------------------------------------------------------------


async def test_a_user_without_active_is_active(start: Start) -> None:
    """Who is not said to be inactive is shown and found as active, stored by whichever version."""
    client = await start()
    user = await made(client, "Users", userName="new")
    assert user["active"] is True
    old = await made(client, "Users", userName="old")
    assert client.app is not None
    async with client.app[DATABASE].write() as connection:
        await connection.execute_fetchall(
            "UPDATE scim_user SET document = json_remove(document, '$.active') WHERE id = ?",
            (old["id"],),
        )
    await made(client, "Users", userName="out", active=False)
    _, shown = await call(client, "GET", f"/Users/{old['id']}")
    assert shown["active"] is True
    for query, found in (
        ("active eq true", ["new", "old"]),
        ("active ne false", ["new", "old"]),
        ("active eq false", ["out"]),
        ("active pr", ["new", "old", "out"]),
    ):
        assert await names(client, "filter=" + escaped(query)) == found, query


@pytest.mark.parametrize("active", [True, False])
async def test_taking_active_away_leaves_people_as_they_are(start: Start, active: bool) -> None:
    """Neither removing `active`, nor null, nor a PUT without it lets anybody in or out."""
    client = await start()
    user = await made(client, "Users", userName="u", active=active)
    path = f"/Users/{user['id']}"
    for operation in (
        {"op": "remove", "path": "active"},
        {"op": "remove", "path": f"{USER}:active"},
        {"op": "replace", "path": "Active", "value": None},
        {"op": "replace", "value": {"active": None}},
    ):
        status, after = await call(client, "PATCH", path, {"Operations": [operation]})
        assert (status, after) == (200, user), operation
    for body in ({"userName": "u"}, {"userName": "u", "active": None}):
        status, after = await call(client, "PUT", path, body)
        assert (status, after["active"]) == (200, active)


# -- One bad attribute ------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"profileUrl": ""}, {}),
        ({"photos": [{"value": ""}]}, {}),
        ({"photos": [{"value": "", "type": "photo"}, {"value": "https://x/p"}]}, None),
        ({"externalId": ""}, {}),
        ({"externalId": 7}, {"externalId": "7"}),
        ({"title": 1.5}, {"title": "1.5"}),
        ({"phoneNumbers": [{"value": 4912}]}, {"phoneNumbers": [{"value": "4912"}]}),
        ({ENTERPRISE: {"employeeNumber": 7}}, {ENTERPRISE: {"employeeNumber": "7"}}),
        ({"x509Certificates": [{"value": PEM}]}, {"x509Certificates": [{"value": "aGVsbG8="}]}),
        ({"x509Certificates": PEM}, {"x509Certificates": [{"value": "aGVsbG8="}]}),
        ({"meta": "nonsense", "id": 5}, {}),
        ({"meta": {"created": "yesterday", "lastModified": 5, "version": []}}, {}),
    ],
)
async def test_one_odd_attribute_does_not_refuse_a_person(
    start: Start, sent: dict[str, Any], kept: dict[str, Any] | None
) -> None:
    """Empty texts, numbers for texts, PEM and read-only nonsense are taken for what they mean."""
    client = await start()
    created = await made(client, "Users", userName="u", **sent)
    if kept is None:
        kept = {"photos": [{"type": "photo"}, {"value": "https://x/p"}]}
    common = {"schemas", "id", "meta", "userName", "active"}
    assert {k: v for k, v in created.items() if k not in common} == kept
    path = f"/Users/{created['id']}"
    assert (await call(client, "PUT", path, {"userName": "u", **sent}))[0] == 200
    bare = await made(client, "Users", userName="w")
    value = {k: v for k, v in sent.items() if k not in ("id", "meta", "externalId")}
    operation = {"op": "replace", "value": value}
    path = f"/Users/{bare['id']}"
    status, after = await call(client, "PATCH", path, {"Operations": [operation]})
    assert status == 200, after
    if "externalId" not in sent:
        assert {k: v for k, v in after.items() if k not in common} == kept


MARKED = {"value": "a@x.org", "type": "work", "primary": True}
PHOTO = {"value": "https://x/p"}
LEFT_OUT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"name": "Ann Ash"}, {}, "name"),
    ({"name": {"givenName": {}, "familyName": "Ash"}}, {"name": {"familyName": "Ash"}}, "name"),
    ({"displayName": ["A", "B"]}, {}, "displayName"),
    ({"title": {"a": 1}}, {}, "title"),
    ({"profileUrl": "no address"}, {}, "profileUrl"),
    ({"profileUrl": "http://a b/"}, {}, "profileUrl"),
    ({"photos": [{"value": "http://["}, PHOTO]}, {"photos": [PHOTO]}, "photos"),
    ({"emails": [{"value": False}, MARKED]}, {"emails": [MARKED]}, "emails"),
    ({"emails": {"value": []}}, {}, "emails"),
    ({"emails": {"value": [], "type": "work"}}, {}, "emails"),
    ({"emails": [7] * 200}, {}, "emails"),
    (
        {"emails": [MARKED, {**MARKED, "value": "b@x.org"}]},
        {"emails": [MARKED, {"value": "b@x.org", "type": "work"}]},
        "emails.primary",
    ),
    ({"addresses": "Main Street 1"}, {}, "addresses"),
    ({"x509Certificates": ["-"]}, {}, "x509Certificates"),
    (
        {ENTERPRISE: {"manager": 5, "department": "D"}},
        {ENTERPRISE: {"department": "D"}},
        f"{ENTERPRISE}:manager",
    ),
    (
        {ENTERPRISE.upper(): {"manager": 5, "division": "D"}},
        {ENTERPRISE: {"division": "D"}},
        f"{ENTERPRISE}:manager",
    ),
    ({ENTERPRISE: "text"}, {}, ENTERPRISE),
]


async def test_a_bad_attribute_is_left_out(start: Start) -> None:
    """Whom a bad attribute belongs to is created and changed without it, and the log names it."""
    client = await start()
    common = {"schemas", "id", "meta", "active", "userName"}
    for number, (sent, kept, named) in enumerate(LEFT_OUT):
        body = {"userName": f"u{number}", "nickName": "N", **sent}
        with capture_logs() as logs:
            created = await made(client, "Users", **body)
        expected = {"nickName": "N", **kept}
        assert {k: v for k, v in created.items() if k not in common} == expected, sent
        told = [entry for entry in logs if entry["event"] == "attribute_left_out"]
        names = {entry["attribute"] for entry in told}
        assert named in names
        assert ("emails.primary" in names) is (named == "emails.primary")
        assert not any(word in str(told) for word in ("Ann Ash", "a b", "Main Street", "b@x.org"))
        assert await call(client, "PUT", f"/Users/{created['id']}", body) == (200, created)
        bare = await made(client, "Users", userName=f"w{number}")
        operation = {"op": "replace", "value": {"active": "False", **sent}}
        with capture_logs() as logs:
            status, after = await call(
                client, "PATCH", f"/Users/{bare['id']}", {"Operations": [operation]}
            )
        again = [entry["attribute"] for entry in logs if entry["event"] == "attribute_left_out"]
        assert again.count("emails.primary") == (named == "emails.primary"), sent
        assert (status, after["active"]) == (200, False), after
        assert {k: v for k, v in after.items() if k not in common} == kept, sent


async def test_a_bad_part_of_an_extensions_attribute_is_left_out(start: Start) -> None:
    """The rest of it is kept, in a PATCH that names the attribute by its URN as well."""
    client = await start()
    user = await made(client, "Users", userName="u")
    value = {f"{ENTERPRISE}:manager": {"value": "m", "$ref": {}}}
    sent = {"Operations": [{"op": "replace", "value": value}]}
    status, after = await call(client, "PATCH", f"/Users/{user['id']}", sent)
    assert (status, after[ENTERPRISE]) == (200, {"manager": {"value": "m"}})


async def test_who_somebody_is_and_whether_they_may_in_is_never_left_out(start: Start) -> None:
    """A wrong userName, externalId or active is a 400 that names it, and nothing is changed."""
    client = await start()
    user = await made(client, "Users", userName="u", externalId="e", active=False)
    path = f"/Users/{user['id']}"
    values: dict[str, list[Any]] = {
        "userName": [None, "", {}, ["a", "b"], "a" * 1025],
        "active": ["perhaps", 1, {}],
        "externalId": [{}, [], "e" * 1025],
    }
    for named, wrong in [(name, value) for name in values for value in values[name]]:
        sent = {"userName": "w", "title": "T", named: wrong}
        operation = {"op": "replace", "value": {"title": "T", named: wrong}}
        for method, place, body in (
            ("POST", "/Users", sent),
            ("PUT", path, sent),
            ("PATCH", path, {"Operations": [operation]}),
        ):
            status, error = await call(client, method, place, body)
            told = (method, named, wrong, error)
            assert status == 400, told
            # A required attribute that a PATCH takes away has a type of its own.
            assert error["scimType"] == "invalidValue" or wrong is None, told
            assert named in error["detail"] or wrong is None, told
    assert (await call(client, "GET", path))[1] == user


async def test_which_group_it_is_is_never_left_out(start: Start) -> None:
    """A group's name, externalId and members are right, or the request is a 400."""
    client = await start()
    bad: list[dict[str, Any]] = [{"displayName": {}}, {"externalId": []}, {"members": 5}]
    for wrong in (*bad, {"members": [{}]}):
        sent = {"displayName": "g", **wrong}
        status, error = await call(client, "POST", "/Groups", sent)
        assert (status, error["scimType"]) == (400, "invalidValue"), wrong


async def test_a_change_of_nothing_but_bad_attributes_is_refused(start: Start) -> None:
    """A PATCH of which nothing would be left is a 400 that says what is wrong with it."""
    client = await start()
    user = await made(client, "Users", userName="u")
    for operation in (
        {"op": "replace", "value": {"id": user["id"], "name": "text", "more": 1}},
        {"op": "replace", "path": "name", "value": "text"},
        {"op": "add", "path": "profileUrl", "value": "http://a b/"},
    ):
        path = f"/Users/{user['id']}"
        status, error = await call(client, "PATCH", path, {"Operations": [operation]})
        assert (status, error["scimType"]) == (400, "invalidValue"), error
        assert "a b" not in error["detail"]
    assert (await call(client, "GET", path))[1] == user


async def test_an_extension_that_is_not_kept_keeps_nobody_in(start: Start) -> None:
    """What somebody mapped into a schema of their own does not stop what stands beside it."""
    client = await start()
    user = await made(client, "Users", userName="u")
    path = "urn:ietf:params:scim:schemas:extension:Own:2.0:User"
    operations: list[dict[str, Any]] = [
        {"op": "Add", "path": f"{path}:costCentre", "value": "secret 7"},
        {"op": "Replace", "path": "active", "value": "False"},
        {"op": "Add", "value": {f"{path}:colour": "red", path: {"size": 1}}},
    ]
    with capture_logs() as logs:
        status, after = await call(
            client, "PATCH", f"/Users/{user['id']}", {"Operations": operations}
        )
    assert (status, after["active"]) == (200, False), after
    told = [entry for entry in logs if entry["event"] == "attribute_left_out"]
    assert [entry["attribute"] for entry in told] == [f"{path}:costCentre"]
    assert "secret" not in str(told)


async def test_an_empty_external_id_is_none(start: Start) -> None:
    """Groups with an empty externalId do not get into each other's way, nor does taking it off."""
    client = await start()
    for name in ("g", "h"):
        group = await made(client, "Groups", displayName=name, externalId="", meta="x")
        assert "externalId" not in group
    path = f"/Groups/{group['id']}"
    for value, expected in (("e", "e"), ("", None)):
        operation = {"op": "replace", "path": "externalId", "value": value}
        assert (await call(client, "PATCH", path, {"Operations": [operation]}))[0] == 204
        assert (await call(client, "GET", path))[1].get("externalId") == expected


async def test_schemas_list_external_id(start: Start) -> None:
    """Validators look for externalId among the attributes of users and groups."""
    client = await start()
    _, found = await call(client, "GET", "/Schemas")
    for schema in (*found["Resources"], (await call(client, "GET", f"/Schemas/{USER}"))[1]):
        listed = [a["name"] for a in schema["attributes"]]
        assert listed.count("externalId") == int(schema["id"] in (USER, GROUP)), schema["id"]


# -- Versions ---------------------------------------------------------------


async def test_a_group_changes_when_a_member_is_deleted(start: Start) -> None:
    """Deleting a user or group counts up the version of each group that lists it, no other's."""
    client = await start()
    user = await made(client, "Users", userName="u")
    inner = await made(client, "Groups", displayName="inner", members=[user["id"]])
    outer = await made(client, "Groups", displayName="outer", members=[inner["id"]])
    other = await made(client, "Groups", displayName="other")
    for gone, changed, same in (
        (f"/Users/{user['id']}", inner, (outer, other)),
        (f"/Groups/{inner['id']}", outer, (other,)),
    ):
        assert (await call(client, "DELETE", gone))[0] == 204
        path = f"/Groups/{changed['id']}"
        unchanged = {"If-None-Match": changed["meta"]["version"]}
        status, after = await call(client, "GET", path, **unchanged)
        assert (status, after["members"]) == (200, [])
        assert after["meta"]["lastModified"] > changed["meta"]["lastModified"]
        for group in same:
            unchanged = {"If-None-Match": group["meta"]["version"]}
            assert (await call(client, "GET", f"/Groups/{group['id']}", **unchanged))[0] == 304


async def test_a_user_with_groups_is_never_unchanged(start: Start) -> None:
    """304 is only for answers that leave out `groups`, which the user's version does not count."""
    client = await start()
    user = await made(client, "Users", userName="u")
    unchanged = {"If-None-Match": user["meta"]["version"]}
    group = await made(client, "Groups", displayName="g", members=[user["id"]])
    path = f"/Users/{user['id']}"
    status, shown = await call(client, "GET", path, **unchanged)
    assert (status, [g["value"] for g in shown["groups"]]) == (200, [group["id"]])
    for query in ("?excludedAttributes=groups", "?attributes=userName"):
        assert (await call(client, "GET", path + query, **unchanged))[0] == 304
