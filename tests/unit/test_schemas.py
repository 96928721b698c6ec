"""The bundled JSON Schemas and the protocol library's models agree on what is malformed."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from pydantic import ValidationError
from scim2_models import Context, PatchOp, SCIMException

from scim_matrix.scim.incoming import USER
from scim_matrix.scim.members import GROUP
from scim_matrix.scim.payload import Attribute, attributes_of, canonical
from scim_matrix.scim.protocol import make_provider
from scim_matrix.validation import first_problem

PROVIDER = make_provider(1024)
KINDS = {
    "user": (PROVIDER.model_for("User"), USER, {"userName": "u"}),
    "group": (PROVIDER.model_for("Group"), GROUP, {"displayName": "g"}),
}
# Never taken from clients.
OURS = {"id", "meta", "groups", "schemas"}
VALUES: list[Any] = [
    None,
    True,
    5,
    1.5,
    "text",
    "true",
    "https://pictures.example/a",
    "/Users/1",
    "aGk=",
    [],
    {},
    ["text"],
    [5],
    [None],
    [[]],
    [{}],
    {"x": 1},
    {"value": "text"},
    {"value": 5},
    [{"value": "text"}],
    [{"value": 5}],
    [{"value": "aGk="}, {"value": "aGkh"}],
    [{"value": "https://pictures.example/a", "type": "photo", "primary": True}],
]

# Made of what RFC 7643 sections 8.2 to 8.4 show: every attribute once.
PERSON: dict[str, Any] = {
    "externalId": "701984",
    "userName": "barbara@corp.local",
    "name": {
        "formatted": "Ms. Barbara J Jansen, III",
        "familyName": "Jansen",
        "givenName": "Barbara",
        "middleName": "Jane",
        "honorificPrefix": "Ms.",
        "honorificSuffix": "III",
    },
    "displayName": "Babs",
    "nickName": "Babs",
    "profileUrl": "https://login.example.com/babs",
    "emails": [{"value": "babs@home.example", "type": "home", "display": "x", "primary": True}],
    "addresses": [
        {
            "type": "work",
            "streetAddress": "100 Plaza",
            "locality": "Town",
            "region": "CA",
            "postalCode": "91608",
            "country": "US",
            "formatted": "100 Plaza\nTown",
            "primary": True,
        }
    ],
    "phoneNumbers": [{"value": "tel:+1-555-555-5555", "type": "work"}],
    "ims": [{"value": "babs", "type": "xmpp"}],
    "photos": [{"value": "https://photos.example.com/F", "type": "photo"}],
    "userType": "Employee",
    "title": "Guide",
    "preferredLanguage": "en-US",
    "locale": "en-US",
    "timezone": "America/Los_Angeles",
    "active": True,
    "password": "made up",
    "entitlements": [{"value": "e"}],
    "roles": [{"value": "r", "primary": False}],
    "x509Certificates": [{"value": "MIIDQw=="}],
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {
        "employeeNumber": "701984",
        "costCenter": "4130",
        "organization": "Universal",
        "division": "Theme Park",
        "department": "Tours",
        "manager": {"value": "26118915", "$ref": "../Users/26118915", "displayName": "John"},
    },
}


def spots(attributes: Mapping[str, Attribute], value: Any) -> Iterator[dict[str, Any]]:
    """Return documents that hold a value at every attribute, nested ones included."""
    for attribute in attributes.values():
        if attribute.name in OURS or attribute.name == "members":
            continue
        if attribute.name == "x509Certificates" and "https" in str(value):
            continue  # Python's decoder overlooks what is not base64; the schema does not.
        yield {attribute.name: value}
        for inner in spots(attribute.children, value):
            yield {attribute.name: [inner] if attribute.multi_valued else inner}


def library_accepts(kind: str, document: dict[str, Any]) -> bool:
    """Tell what the library's model says."""
    model, urn, _ = KINDS[kind]
    with PROVIDER:
        try:
            cast(Any, model).model_validate(
                {**document, "schemas": [urn]}, scim_ctx=Context.RESOURCE_CREATION_REQUEST
            )
        except (ValidationError, SCIMException):
            return False
    return True


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_schemas_and_models_agree_on_every_attribute(kind: str, value: Any) -> None:
    """What one refuses in some attribute the other refuses too, and the reverse."""
    _, _, least = KINDS[kind]
    attributes = attributes_of(PROVIDER, kind.capitalize())
    documents = [
        canonical({**least, **document}, attributes) for document in spots(attributes, value)
    ]
    assert documents
    disagreements = [
        (document, problem)
        for document in documents
        if ((problem := first_problem(kind, document)) is None) != library_accepts(kind, document)
    ]
    assert disagreements == []


def test_schemas_know_every_attribute() -> None:
    """Whatever the served schemas declare, the bundled ones have a word to say on."""
    for kind in KINDS:
        attributes = attributes_of(PROVIDER, kind.capitalize())
        refused = {
            next(iter(document))
            for document in spots(attributes, [[]])
            if first_problem(kind, {**KINDS[kind][2], **document}) is not None
        }
        expected = {a.name for a in attributes.values()} - OURS - {"members"}
        assert refused == expected


def test_a_person_with_everything() -> None:
    """A user that has every attribute passes both, and is already in canonical form."""
    attributes = attributes_of(PROVIDER, "User")
    assert {a.name for a in attributes.values()} - OURS == set(PERSON)
    assert canonical(PERSON, attributes) == PERSON
    assert first_problem("user", PERSON) is None
    assert library_accepts("user", PERSON)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "title", "value": "x"},
        {"op": "remove", "path": "title"},
        {"op": "replace", "value": {"title": "x"}},
        {"op": "move", "path": "title"},
        {"path": "title", "value": "x"},
        {"op": 5, "path": "title"},
        {"op": "add", "path": 5, "value": "x"},
        {"op": None, "path": "title"},
        "add",
        None,
    ],
)
def test_operations_are_judged_alike(operation: Any) -> None:
    """The PatchOp schema and the library's PatchOp agree on what an operation is."""
    patch = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
        "Operations": [operation],
    }
    with PROVIDER:
        try:
            cast(Any, PatchOp)[KINDS["user"][0]].model_validate(
                patch, scim_ctx=Context.RESOURCE_PATCH_REQUEST
            )
            accepts = True
        except (ValidationError, SCIMException):
            accepts = False
    assert (first_problem("patch", patch) is None) == accepts
