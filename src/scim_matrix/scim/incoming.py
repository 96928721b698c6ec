"""Requests as the protocol library gets them: canonical, checked, group members taken off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from scim2_models import SCIMException, ScimProvider

from scim_matrix.scim import members, payload
from scim_matrix.scim.members import GROUP, Change
from scim_matrix.scim.payload import Kind, attributes_of
from scim_matrix.scim.query import (
    Narrowing,
    Selection,
    canonical_search,
    parse_query,
    qualified,
    take_narrowings,
)
from scim_matrix.store.resources import ENTRY_PARTS

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
# Who somebody is, and whether they may come in: never guessed.
_WHO_AND_WHETHER = frozenset({"userName", "externalId", "active"})
_WHICH = frozenset({"displayName", "externalId"})


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a Bulk request: its member changes, or why it cannot be carried out."""

    changes: Sequence[Change] = ()
    error: SCIMException | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """One request: what the library gets, and what it must not see."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    selection: Selection
    changes: Sequence[Change] = ()
    steps: Sequence[Step] = ()
    narrowings: Sequence[Narrowing] = ()

    @property
    def writes(self) -> bool:
        """Whether the request may change something."""
        return self.method in _WRITES and not self.path.endswith("/.search")

    @property
    def answers_with_groups(self) -> bool:
        """Whether the answer holds a user's groups, which do not count towards its version."""
        is_one_user = self.method in {"GET", "HEAD"} and self.path.lower().startswith("/users/")
        return is_one_user and bool(self.selection.parts(USER, "groups", ENTRY_PARTS))


_WRITES = {"POST", "PUT", "PATCH", "DELETE"}


class Reader:
    """Reads requests to the resource types of one provider."""

    def __init__(self, provider: ScimProvider) -> None:
        self._kinds = {
            "users": Kind(USER, attributes_of(provider, "User"), "user", _WHO_AND_WHETHER),
            "groups": Kind(GROUP, attributes_of(provider, "Group"), "group", _WHICH),
        }
        self._extended = {
            name: (extension.name, "value" in attribute.children)
            for extension in self._kinds["users"].attributes.values()
            if extension.name.startswith("urn:")
            for name, attribute in extension.children.items()
            if name not in self._kinds["users"].attributes
        }

    def read(self, method: str, path: str, query_string: str, body: bytes) -> Incoming:
        """Return a request in the form the library gets; `path` starts below the SCIM root.

        Raises SCIMException for what no operation could be made of.
        """
        path = "/" + path.strip("/")
        segments = path.lower().strip("/").split("/")
        query, narrowings = self._search(segments, parse_query(query_string))
        if method not in {"POST", "PUT", "PATCH"}:
            selection = Selection.of(query)
            return Incoming(method, path, query, body, selection, narrowings=narrowings)
        if segments[-1] == ".search":
            search, narrowings = self._search(segments, canonical_search(payload.parse(body)))
            sent, selection = orjson.dumps(search), Selection.of(search)
            return Incoming(method, path, query, sent, selection, narrowings=narrowings)
        if segments == ["bulk"]:
            document, steps = self._bulk(payload.parse(body))
            sent = orjson.dumps(document)
            return Incoming(method, path, query, sent, Selection(), steps=steps)
        if segments[0] not in self._kinds or len(segments) > 2:
            return Incoming(method, path, query, body, Selection.of(query))
        document, changes = self._operation(method, segments[0], payload.parse(body))
        # A new user is in no group yet.
        is_new_user = segments == ["users"]
        selection = Selection(without=("groups",)) if is_new_user else Selection.of(query)
        sent = orjson.dumps(document)
        return Incoming(
            method, path, query, sent, selection, changes=changes, narrowings=narrowings
        )

    def _search(
        self, segments: Sequence[str], query: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Sequence[Narrowing]]:
        """Return a search as the library reads it, and what to make of its answer."""
        found, narrowings = take_narrowings(query)
        if isinstance(found.get("filter"), str) and segments[0] != "groups":
            found["filter"] = qualified(found["filter"], self._extended)
        return found, narrowings

    def _operation(
        self, method: str, endpoint: str, document: dict[str, Any]
    ) -> tuple[dict[str, Any], Sequence[Change]]:
        kind = self._kinds[endpoint]
        changes: Sequence[Change] = ()
        if method == "PATCH":
            document = kind.patch(document)
            if endpoint == "groups":
                changes = members.take_from_patch(document)
        else:
            if endpoint == "groups":
                changes = members.take_from_resource(document)
            document = kind.resource(document)
        return document, changes

    def _bulk(self, document: dict[str, Any]) -> tuple[dict[str, Any], Sequence[Step]]:
        bulk = {_BULK.get(k.lower(), k): v for k, v in document.items()}
        payload.check("bulk", bulk)
        operations: list[Any] = bulk["Operations"]
        steps: list[Step] = []
        for number, sent in enumerate(operations):
            operation = {_BULK.get(k.lower(), k): v for k, v in sent.items() if v is not None}
            operation["method"] = str(operation.get("method")).upper()
            try:
                steps.append(Step(self._bulk_data(operation)))
            except SCIMException as error:
                operation["data"] = {}
                steps.append(Step(error=error))
            operations[number] = operation
        bulk.setdefault("schemas", ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"])
        return bulk, steps

    def _bulk_data(self, operation: dict[str, Any]) -> Sequence[Change]:
        endpoint = str(operation.get("path", "")).lower().strip("/").split("/")[0]
        if endpoint not in self._kinds or not isinstance(operation.get("data"), dict):
            return ()
        operation["data"], changes = self._operation(
            operation["method"], endpoint, operation["data"]
        )
        return changes


_BULK = {
    name.lower(): name
    for name in (
        "schemas",
        "Operations",
        "failOnErrors",
        "method",
        "path",
        "bulkId",
        "version",
        "data",
    )
}
