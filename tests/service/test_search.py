"""Searches in SQL find what the protocol library's own evaluator finds, in either database."""

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scim2_models import (
    Context,
    InvalidFilterException,
    Resource,
    ScimFilter,
    SearchRequest,
)

from scim_matrix.scim.people import Identity
from scim_matrix.scim.protocol import make_provider
from scim_matrix.scim.storage import RequestStorage
from scim_matrix.store.database import Database, Place

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PROVIDER = make_provider(1024 * 1024)
IDENTITY = Identity("example.org", None, "externalId", 0)

USERS: list[dict[str, Any]] = [
    {"userName": "ann", "externalId": "A", "active": True, "displayName": "Ann"},
    {"userName": "Ben", "externalId": "a", "active": False, "name": {"givenName": "Ben"}},
    {
        "userName": "cleo_%",
        "title": "Boss",
        "emails": [
            {"value": "Cleo@work.example", "type": "work", "primary": True},
            {"value": "c@home.example", "type": "home"},
        ],
        ENTERPRISE: {"department": "Stra\u00dfe", "manager": {"value": "M"}},
    },
    {
        "userName": "da\u0301ve",
        "displayName": "D\u00c1VE",
        "emails": [{"type": "work"}],
        "x509Certificates": [{"value": "aGVsbG8="}],
        "photos": [{"value": "https://pictures.example/d", "type": "photo"}],
    },
    {"userName": "eve", "title": "", "name": {"familyName": "boss"}, ENTERPRISE: {}},
]
GROUPS: list[dict[str, Any]] = [
    {"displayName": "boss", "externalId": "A", "members": [{"value": "x", "display": "ann"}]},
    {"displayName": "Empty"},
]

ATTRIBUTES = [
    "id",
    "externalId",
    "userName",
    "displayName",
    "DISPLAYNAME",
    "title",
    "active",
    "name",
    "name.givenName",
    "name.familyName",
    "emails",
    "emails.value",
    "emails.type",
    "emails.primary",
    "photos.value",
    "x509Certificates.value",
    "schemas",
    "members",
    "members.value",
    "members.display",
    "meta.resourceType",
    "meta.created",
    "meta.version",
    f"{ENTERPRISE}:department",
    f"{ENTERPRISE}:manager.value",
    "urn:ietf:params:scim:schemas:core:2.0:User:userName",
    "nothing",
]
VALUES = [
    '"ann"',
    '"A"',
    '"a"',
    '"BOSS"',
    '"work"',
    '"cleo@WORK.example"',
    '"d\u00e1ve"',
    '"STRA\u00dfE"',
    '"example"',
    '"%"',
    '""',
    '"x"',
    '"User"',
    '"aGVsbG8="',
    '"2001-01-01T00:00:00Z"',
    '"urn:ietf:params:scim:schemas:core:2.0:User"',
    "true",
    "false",
    "null",
    "7",
]
OPERATORS = ["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"]

comparisons = st.one_of(
    st.builds("{} {} {}".format, *map(st.sampled_from, (ATTRIBUTES, OPERATORS, VALUES))),
    st.builds("{} pr".format, st.sampled_from(ATTRIBUTES)),
)
entries = st.recursive(
    st.one_of(
        st.builds(
            "{} {} {}".format,
            *map(st.sampled_from, (["value", "type", "primary", "display"], OPERATORS, VALUES)),
        ),
        st.builds("{} pr".format, st.sampled_from(["value", "type"])),
    ),
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=3,
)
selections = st.builds(
    "{}[{}]".format, st.sampled_from(["emails", "members", "photos", "schemas"]), entries
)
filters = st.recursive(
    st.one_of(comparisons, selections),
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=4,
)


class Shelf:
    """A database that holds USERS and GROUPS, and an event loop to ask it on."""

    def __init__(self, runner: asyncio.Runner, storage: RequestStorage) -> None:
        self._runner = runner
        self._storage = storage
        self.everything = self.search({})
        for resource in cast(list[Any], self.everything):
            # An empty list and no value are the same (RFC 7643 section 2.5), the evaluator's not.
            if getattr(resource, "members", None) == []:
                resource.members = None

    def search(self, query: dict[str, Any]) -> list[Resource[Any]]:
        """Return what a root search finds."""
        types = list(PROVIDER.resource_types)
        models = cast(Any, [PROVIDER.model_for(t) for t in types])
        with PROVIDER:
            request = cast(Any, SearchRequest)[models[0] | models[1]].model_validate(
                query, scim_ctx=Context.SEARCH_REQUEST
            )
            page = self._runner.run(self._storage.search(types, request))
        assert page.total == len(page.resources)
        return page.resources


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shelf(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    """Fill a database."""
    place: Place = tmp_path_factory.mktemp("shelf")
    if request.param == "postgresql":
        place = request.getfixturevalue("postgresql").filled()
    with asyncio.Runner() as runner:
        database = runner.run(Database.open(place))
        storage = RequestStorage(database, PROVIDER, IDENTITY, writes=True)
        for resource_type, documents in zip(PROVIDER.resource_types, (USERS, GROUPS), strict=True):
            model = cast(Any, PROVIDER.model_for(resource_type))
            for document in documents:
                with PROVIDER:
                    runner.run(storage.create(resource_type, model.model_validate(document)))
        yield Shelf(runner, storage)
        runner.run(database.close())


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(text=filters)
def test_any_filter_finds_what_the_evaluator_finds(shelf: Shelf, text: str) -> None:
    """Whatever the grammar can say about users and groups means the same in SQL."""
    finds_what_the_evaluator_finds(shelf, text)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_any_attribute_is_there_where_the_evaluator_says(shelf: Shelf, attribute: str) -> None:
    """One that is made of others is, where any of them is."""
    finds_what_the_evaluator_finds(shelf, f"{attribute} pr")


def finds_what_the_evaluator_finds(shelf: Shelf, text: str) -> None:
    """Have a filter, unless it is refused, mean the same in SQL."""
    try:
        found = shelf.search({"filter": text})
    except (ValidationError, InvalidFilterException):
        return
    with PROVIDER:
        expected = [
            r.id
            for r in shelf.everything
            if cast(Any, ScimFilter)[type(r)](text).match(r, strict=False)
        ]
    assert expected == [r.id for r in found]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_any_order_is_the_librarys(shelf: Shelf, attribute: str, descending: bool) -> None:
    """Users and groups sort together as SearchRequest.sort sorts them."""
    query = {"sortBy": attribute, "sortOrder": "descending" if descending else "ascending"}
    try:
        found = shelf.search(query)
    except ValidationError:
        pytest.skip("the library refuses to sort by this")
    request = SearchRequest[Any].model_validate(query)
    with PROVIDER:
        expected = [request.sort_value(r) for r in request.sort(shelf.everything)]
        assert expected == [request.sort_value(r) for r in found]
