"""The description of MAS's admin API, which every exchange of the tests is held against."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict

from scim_matrix.demo.mas import Exchange

# Not part of the project: it comes with MAS (docs/api/spec.json) under MAS's own licence.
DESCRIPTION = Path(
    os.environ.get("MAS_OPENAPI")
    or Path(__file__).parents[2].parent / "shared" / "mas" / "openapi.json"
)
# What MAS answers beside what it describes.
_UNTOLD = {400, 401, 404, 409, 410, 422, 500}


@dataclass
class _Request:
    host_url: str
    method: str
    path: str
    parameters: RequestParameters
    content_type: str
    body: bytes | None


@dataclass
class _Answer:
    status_code: int
    content_type: str
    data: bytes
    headers: Headers


class Description:
    """The description, made strict: what it does not name may be neither sent nor answered."""

    def __init__(self, file: Path) -> None:
        document = json.loads(file.read_text())
        document["servers"] = [{"url": "http://mas"}]
        document.pop("security", None)
        for schema in document["components"]["schemas"].values():
            if schema.get("type") == "object" and "properties" in schema:
                schema["additionalProperties"] = False
        self._operations: list[tuple[str, re.Pattern[str], dict[str, Any]]] = []
        for template, operations in document["paths"].items():
            path = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)))
            for method, operation in operations.items():
                operation.pop("security", None)
                self._operations.append((method.upper(), path, operation))
        self._api = OpenAPI.from_dict(document)

    def wrong(self, exchange: Exchange) -> str | None:
        """Return what is wrong with an exchange, None if nothing is."""
        operation = next(
            (
                o
                for method, path, o in self._operations
                if method == exchange.method and path.fullmatch(exchange.path)
            ),
            None,
        )
        if operation is None:
            return "no such operation"
        names = {p["name"] for p in operation.get("parameters", []) if p["in"] == "query"}
        if unknown := {name for name, _ in exchange.query} - names:
            return f"unknown parameters {unknown}"
        if exchange.sent and "requestBody" not in operation:
            return "a body where none belongs"
        request = _Request(
            "http://mas",
            exchange.method.lower(),
            exchange.path,
            RequestParameters(
                query=ImmutableMultiDict(exchange.query),
                header=Headers(),
                cookie=ImmutableMultiDict(),
            ),
            exchange.content_type,
            exchange.sent or None,
        )
        answer = _Answer(exchange.status, exchange.answered_type, exchange.answered, Headers())
        try:
            self._api.validate_request(request)
            if str(exchange.status) in operation["responses"]:
                self._api.validate_response(request, answer)
                return None
        except OpenAPIError as error:
            return f"{error!r}: {error.__cause__!r}"
        if exchange.status not in _UNTOLD:
            return f"status {exchange.status} is not described"
        problems = json.loads(exchange.answered)
        if set(problems) != {"errors"} or not all(set(e) == {"title"} for e in problems["errors"]):
            return f"an error of another shape: {problems}"
        return None
