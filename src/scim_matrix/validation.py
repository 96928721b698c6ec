"""Bundled JSON Schemas: `jsonschema-rs` decides, `jsonschema` explains."""

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jsonschema
import jsonschema_rs
import orjson
from pydantic_core import Url, ValidationError


@functools.cache
def _schema(name: str, partly: bool) -> Any:
    path = resources.files("scim_matrix.schemas") / f"{name}.schema.json"
    schema = orjson.loads(path.read_bytes())
    return {**schema, "required": []} if partly else schema


def _is_url(value: object) -> bool:
    """Tell whether the protocol library takes a text for a URL; other values are for `type`."""
    if not isinstance(value, str) or value.startswith("/"):
        return True
    try:
        Url(value)
    except ValidationError:
        return False
    return True


_FORMATS = jsonschema.FormatChecker(())
_FORMATS.checks("url")(_is_url)


@functools.cache
def _decider(name: str, partly: bool) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(
        _schema(name, partly), formats={"url": _is_url}, validate_formats=True
    )


@functools.cache
def _explainer(name: str, partly: bool) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(_schema(name, partly), format_checker=_FORMATS)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a document: where, of which attribute (None: of all of it), and what."""

    place: str
    field: str | None
    reason: str

    def __str__(self) -> str:
        """Return it as a sentence that starts with the place."""
        return f"{self.place}: {self.reason}"


def first_problem(name: str, document: Any, *, partly: bool = False) -> str | None:
    """Return what is wrong with a document, or None where the schema `name` accepts it.

    The sentence starts with the place ("emails[0].value: is not a string"). `partly` asks for
    nothing that is missing at the top.
    """
    problem = explained(name, document, partly=partly)
    return None if problem is None else str(problem)


def explained(name: str, document: Any, *, partly: bool = False) -> Problem | None:
    """Return what `first_problem` tells, in its parts."""
    if _decider(name, partly).is_valid(document):
        return None
    error = jsonschema.exceptions.best_match(_explainer(name, partly).iter_errors(document))
    if error is None:
        raise RuntimeError(f"the two validators disagree about {name}")
    path = [*error.absolute_path]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    field = path[-1] if path and isinstance(path[-1], str) else None
    return Problem(place.lstrip(".") or "document", field, _reason(error))


_ARTICLE = {"array": "a list", "object": "an object", "integer": "an integer"}


def _reason(error: Any) -> str:
    if error.validator == "type":
        wanted = error.validator_value
        kinds = [wanted] if isinstance(wanted, str) else wanted
        return "is not " + " or ".join(_ARTICLE.get(k, f"a {k}") for k in kinds)
    if error.validator == "required":
        missing = [k for k in error.validator_value if k not in error.instance]
        return f"{', '.join(missing)} is required"
    if error.validator == "minLength":
        return "must not be empty"
    if error.validator == "maxLength":
        return f"is longer than {error.validator_value} characters"
    # Never repeats the value: payloads stay out of answers and logs.
    if comment := error.schema.get("$comment"):
        return str(comment)
    if error.validator == "enum":
        return f"must be {' or '.join(map(str, error.validator_value))}"
    return f"does not satisfy {error.validator!r}"
