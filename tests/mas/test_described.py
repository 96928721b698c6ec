"""The description of MAS's admin API is used, and is strict."""

import json
from dataclasses import replace

import pytest

from scim_matrix.demo.mas import Exchange
from tests.mas.described import DESCRIPTION, Description

API = "/api/admin/v1"
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
LINKS = {"self": f"{API}/users"}
LISTED = Exchange(
    "GET",
    f"{API}/users",
    [("filter[admin]", "true"), ("page[first]", "10"), ("count", "false")],
    "",
    b"",
    200,
    "application/json",
    json.dumps({"data": [], "links": LINKS}).encode(),
)


@pytest.fixture(name="told")
def _told(description: Description | None) -> Description:
    if description is None:
        pytest.skip(
            f"NO EXCHANGE WITH MAS IS CHECKED: {DESCRIPTION} is missing (set MAS_OPENAPI to "
            "docs/api/spec.json of MAS)"
        )
    return description


async def test_what_is_described_passes(told: Description) -> None:
    """A request and an answer as described are right, errors that are not described too."""
    assert told.wrong(LISTED) is None
    errors = json.dumps({"errors": [{"title": "Unknown token"}]}).encode()
    assert told.wrong(replace(LISTED, status=401, answered=errors)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        replace(LISTED, path=f"{API}/people"),
        replace(LISTED, method="PATCH"),
        replace(LISTED, path=f"{API}/users/not-a-ulid", query=[]),
        replace(LISTED, query=[("filter[admins]", "true")]),
        replace(LISTED, query=[("count", "no")]),
        replace(LISTED, query=[("page[first]", "0")]),
        replace(LISTED, sent=b"{}", content_type="application/json"),
        replace(LISTED, answered=b'{"data": []}'),
        replace(LISTED, answered=json.dumps({"data": [], "links": LINKS, "more": 1}).encode()),
        replace(LISTED, status=204),
        replace(LISTED, status=500, answered=b'{"error": "no"}'),
        Exchange(
            "POST",
            f"{API}/users/{ULID}/deactivate",
            [],
            "application/json",
            b'{"skip_erased": true}',
            404,
            "application/json",
            b'{"errors": [{"title": "User not found"}]}',
        ),
    ],
)
async def test_what_is_not_described_is_wrong(told: Description, wrong: Exchange) -> None:
    """Unknown paths, methods, parameters, values, keys and statuses are found."""
    assert told.wrong(wrong) is not None
