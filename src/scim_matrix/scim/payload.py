"""Client payloads: parsed strictly, brought into canonical form, checked against the schemas.

Identity providers differ in letter case, text booleans, single values where lists belong and
nulls for absent attributes; all of that is folded here, so that one form reaches the rest.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog
from scim2_models import (
    InvalidPathException,
    InvalidSyntaxException,
    InvalidValueException,
    Path,
    ScimProvider,
)

from scim_matrix.scim.query import TooLongError, quoted
from scim_matrix.validation import first_problem

log = structlog.get_logger(__name__)

_MAX_DEPTH = 32
# Lists with something wrong in them are gone through one by one up to this length.
_MAX_TAKEN_APART = 100
# An empty text is no URL and no certificate; identity providers send it for "none".
_NEVER_EMPTY = {"reference", "binary"}
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----([^-]*)-----END [A-Z0-9 ]+-----")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a SCIM schema: its canonical name, and its sub-attributes by lower case.

    Where `empty_is_absent` an empty text is no value.
    """

    name: str
    kind: str
    multi_valued: bool
    children: Mapping[str, "Attribute"]
    empty_is_absent: bool = False


def attributes_of(provider: ScimProvider, resource_type: str) -> Mapping[str, Attribute]:
    """Return the attributes a resource of a type may have, keyed by lower-case name.

    Extension schemas appear under their URN as complex attributes (RFC 7643 section 3.3).
    """
    described = next(t for t in provider.resource_types if t.name == resource_type)
    extensions = {str(e.schema_) for e in described.schema_extensions or ()}
    found = {
        name.lower(): Attribute(name, kind, multi_valued, {}, name == "externalId")
        for name, kind, multi_valued in (
            ("schemas", "reference", True),
            ("id", "string", False),
            ("externalId", "string", False),
        )
    }
    meta = ("resourceType", "created", "lastModified", "location", "version")
    parts = {name.lower(): Attribute(name, "string", False, {}) for name in meta}
    found["meta"] = Attribute("meta", "complex", False, parts)
    for schema in provider.schemas:
        own = _tree(schema.attributes or [])
        if schema.id == str(described.schema_):
            found |= own
        elif schema.id in extensions:
            found[str(schema.id).lower()] = Attribute(str(schema.id), "complex", False, own)
    return found


def _tree(attributes: Iterable[Any]) -> dict[str, Attribute]:
    return {
        a.name.lower(): Attribute(
            a.name,
            a.type.value,
            bool(a.multi_valued),
            _tree(a.sub_attributes or []),
            a.type.value in _NEVER_EMPTY,
        )
        for a in attributes
    }


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request body.

    Raises InvalidSyntaxException for anything else: NaN, lone surrogates, invalid UTF-8, NUL
    characters, numbers beyond 64 bits' range, nesting beyond what any SCIM payload has.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidSyntaxException(detail=f"the body is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidSyntaxException(detail="the body is not a JSON object")
    if b"\\u0000" in body and _holds_nul(document):
        raise InvalidValueException(detail="a string holds a NUL character")
    if _depth_exceeds(document, _MAX_DEPTH):
        raise InvalidSyntaxException(detail=f"the body is nested more than {_MAX_DEPTH} deep")
    return document


def _depth_exceeds(document: Any, limit: int) -> bool:
    level = [document]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(x) for pair in value.items() for x in pair)
    return isinstance(value, list) and any(map(_holds_nul, value))


def canonical(
    document: Mapping[str, Any], attributes: Mapping[str, Attribute], *, nulls: bool = False
) -> dict[str, Any]:
    """Return a resource in canonical form: names as the schemas spell them, nulls left out.

    `nulls` keeps them, for a PATCH, where they take a value away.
    """
    result: dict[str, Any] = {}
    for key, value in document.items():
        attribute = attributes.get(key.lower())
        if attribute is None:
            result[key] = value
            continue
        folded = None if value is None else _canonical_value(value, attribute, nulls=nulls)
        if folded is not None or nulls:
            result[attribute.name] = folded
    return result


def _canonical_value(value: Any, attribute: Attribute, *, nulls: bool = False) -> Any:
    if attribute.multi_valued:
        values = value if isinstance(value, list) else [value]
        folded = (_canonical_single(value, attribute, nulls=nulls) for value in values)
        entries = [entry for entry in folded if entry is not None]
        primary = [e for e in entries if isinstance(e, dict) and e.get("primary") is True]
        for entry in primary[1:]:
            del entry["primary"]
        if primary[1:] and not nulls:
            left_out(f"{attribute.name}.primary", "several entries are marked so, the first stays")
        return entries
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if attribute.kind != "complex" and isinstance(value, dict) and "value" in value:
        value = value["value"]
    return _canonical_single(value, attribute, nulls=nulls)


def _canonical_single(value: Any, attribute: Attribute, *, nulls: bool) -> Any:
    if attribute.kind == "complex":
        if isinstance(value, dict):
            return canonical(value, attribute.children, nulls=nulls)
        if isinstance(value, str) and "value" in attribute.children:
            return canonical({"value": value}, attribute.children, nulls=nulls)
    if attribute.kind == "boolean" and isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower(), value)
    if attribute.kind == "string" and type(value) in (int, float):
        return str(value)
    if attribute.kind == "binary" and isinstance(value, str):
        armoured = _PEM.search(value)
        value = "".join((armoured[1] if armoured else value).split())
    return None if value == "" and attribute.empty_is_absent else value


def left_out(attribute: str, reason: str) -> None:
    """Log what of a payload is not used, without its value."""
    log.info("attribute_left_out", attribute=attribute.partition("[")[0][:256], reason=reason)


def check(schema: str, document: Any, *, partly: bool = False, before: str = "") -> None:
    """Raise InvalidValueException, saying where and why, unless a bundled schema accepts.

    `partly` asks for nothing that is missing; `before` stands before the place.
    """
    problem = first_problem(schema, document, partly=partly)
    if problem is not None:
        raise InvalidValueException(detail=before + problem)


# What clients echo back with whole resources, and only the service writes.
_OURS = {"meta", "schemas", "groups"}
# Taking these away leaves people as they are: who was locked out must not come back by it.
_KEPT = {"active"}
# Extension schemas live elsewhere: what these name and a resource has not is a mistake.
_CORE = "urn:ietf:params:scim:schemas:core:"
# What the library gets in place of operations that change nothing.
NOTHING = {"op": "add", "value": {}}


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource type as payloads name it: its schema, attributes and bundled JSON Schema.

    `essential` are the attributes without which it could not be what it is: a bad value of any
    other one is left out, and the rest is done.
    """

    urn: str
    attributes: Mapping[str, Attribute]
    schema: str
    essential: frozenset[str]

    def resource(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a whole resource in canonical form, checked. Raises InvalidValueException."""
        resource = canonical(document, self.attributes)
        # Read-only: whatever stands there is ignored.
        for name in _OURS:
            resource.pop(name, None)
        if not isinstance(resource.get("id"), str):
            resource.pop("id", None)
        if first_problem(self.schema, resource) is not None:
            known = {a.name for a in self.attributes.values()}
            usable, _ = self._usable({k: v for k, v in resource.items() if k in known}, "")
            resource = canonical(usable, self.attributes)
            check(self.schema, resource)
        # Some send none, or those of an older SCIM; which ones apply shows in the attributes.
        resource["schemas"] = [self.urn]
        return resource

    def patch(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a PatchOp with canonical keys, operations, paths and values, checked.

        Raises InvalidValueException or InvalidPathException.
        """
        patch = {
            {"operations": "Operations", "schemas": "schemas"}.get(k.lower(), k): v
            for k, v in document.items()
        }
        operations = patch.get("Operations")
        if isinstance(operations, dict):
            operations = [operations]
        if isinstance(operations, list):
            operations = [_operation(o) if isinstance(o, dict) else o for o in operations]
            patch["Operations"] = operations
        check("patch", patch)
        spread: list[dict[str, Any]] = []
        for number, operation in enumerate(operations or ()):
            for part in _spread(operation):
                if self._has_target(part, f"Operations[{number}].path: "):
                    self._fold_value(part, f"Operations[{number}]: ")
                    if not self._leaves_as_is(part):
                        spread.append(part)
        return {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": spread or [NOTHING],
        }

    def _has_target(self, operation: Mapping[str, Any], before: str) -> bool:
        """Tell whether what an operation is about is kept here; extension schemas need not be.

        Raises InvalidPathException for a path that is no attribute's.
        """
        path = operation.get("path")
        if path is None or self._steps(path) is not None:
            return True
        # Where it is no path at all, this says so better.
        Path(path)
        if path.lower().startswith("urn:") and not path.lower().startswith(
            (_CORE, *(k for k in self.attributes if k.startswith("urn:")))
        ):
            left_out(path, "is of an extension schema that is not kept")
            return False
        name = path.partition("[")[0] + path.rpartition("]")[2] if "[" in path else path
        raise InvalidPathException(detail=f"{before}{name} is no attribute of a {self.schema}")

    def _leaves_as_is(self, operation: Mapping[str, Any]) -> bool:
        """Tell whether an operation would only take away what is kept."""
        path = operation.get("path")
        return path is not None and operation.get("value") is None and self._is_kept(path)

    def _is_kept(self, path: str) -> bool:
        steps = self._along(path)
        return len(steps) == 1 and steps[0].name in _KEPT

    def _fold_value(self, operation: dict[str, Any], before: str) -> None:
        path, value = operation.get("path"), operation.get("value")
        if path is None and isinstance(value, list) and len(value) == 1:
            value = value[0]
        if path is None and isinstance(value, dict):
            meant = {
                key: sent
                for key, sent in value.items()
                if key.lower() not in _OURS and not (sent is None and self._is_kept(key))
            }
            operation["value"], problem = self._usable(meant, before)
            # Done in part is done; but of nothing it must not be said.
            if problem is not None and not any(
                key.lower() != "id" and self._steps(key) for key in operation["value"]
            ):
                raise problem
        elif (
            path is not None
            and operation["op"] == "remove"
            and not self._removes_by_value(path, value)
        ):
            operation.pop("value", None)
        elif path is not None and value is not None:
            operation["value"] = self._fold(path, value, before)

    def _removes_by_value(self, path: str, value: Any) -> bool:
        """Tell whether the value of a removal selects entries; elsewhere it says nothing."""
        steps, is_entry = self._steps(path) or ([], False)
        if value is None or not steps or is_entry or not steps[-1].multi_valued:
            return False
        # A client that lost the member's id did not ask for the group to be emptied.
        return value != "" or steps[-1].name == "members"

    def _usable(
        self, document: Mapping[str, Any], before: str, above: str = ""
    ) -> tuple[dict[str, Any], InvalidValueException | None]:
        """Return attributes in canonical form without what is wrong in them, and what that is.

        `above` is what they are parts of. Raises InvalidValueException where it is essential.
        """
        usable, problem = {}, None
        for key, sent in document.items():
            path = above + key
            try:
                usable[key] = self._fold(path, sent, before)
            except InvalidValueException as error:
                problem = error
                steps = self._along(path)
                if not steps or steps[0].name in self.essential:
                    raise
                left_out(path, str(error.detail).removeprefix(before))
                if left := self._taken_apart(path, sent, steps[-1], before):
                    usable[key] = left
        return usable, problem

    def _taken_apart(self, path: str, value: Any, attribute: Attribute, before: str) -> Any:
        """Return the entries or parts of a value that are usable; nothing where none is."""
        if attribute.multi_valued and isinstance(value, list):
            if not 1 < len(value) <= _MAX_TAKEN_APART:
                return None
            found = (self._usable({path: [entry]}, before)[0] for entry in value)
            return [entry for usable in found for entry in usable.get(path, ())]
        if attribute.kind != "complex" or attribute.multi_valued or not isinstance(value, dict):
            return None
        joint = ":" if path.lower() in self.attributes and path.lower().startswith("urn:") else "."
        return self._usable(value, before, f"{path}{joint}")[0]

    def _fold(self, path: str, value: Any, before: str) -> Any:
        """Return the value meant for a path in the attribute's canonical form, checked."""
        steps, is_entry = self._steps(path) or ([], False)
        if value is None or not steps:
            return value
        target = replace(steps[-1], multi_valued=False) if is_entry else steps[-1]
        # What the resource's schema can judge: the value where the path puts it.
        document = _canonical_value(value, target)
        if document is None:
            return None
        for attribute in reversed(steps):
            inside = attribute is not steps[-1] or is_entry
            document = {
                attribute.name: [document] if attribute.multi_valued and inside else document
            }
        check(self.schema, document, partly=True, before=before)
        return _canonical_value(value, target, nulls=True)

    def _along(self, path: str) -> list[Attribute]:
        """Return the attributes that a path goes through, none where it is not known."""
        steps = self._steps(path)
        return [] if steps is None else steps[0]

    def _steps(self, path: str) -> tuple[list[Attribute], bool] | None:
        """Return the attributes that a path goes through, and whether it selects entries.

        None where the path is not known; the path of the whole resource goes through none.
        """
        steps: list[Attribute] = []
        known = self.attributes
        rest = path.strip().lower()
        for urn in (self.urn.lower(), *(k for k in known if k.startswith("urn:"))):
            if rest == urn or rest.startswith(f"{urn}:"):
                rest = rest[len(urn) + 1 :]
                if urn in known:
                    steps.append(known[urn])
                    known = known[urn].children
                break
        head, bracket, selection = rest.partition("[")
        sub = selection.rpartition("]")[2]
        for name in filter(None, (head + sub).split(".")):
            if name not in known:
                return None
            steps.append(known[name])
            known = known[name].children
        return steps, bool(bracket)


def _spread(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an operation without a path as several: each key that selects entries is a path."""
    value = operation.get("value")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if "path" in operation or operation["op"] == "remove" or not isinstance(value, dict):
        return [operation]
    selecting = {key: sent for key, sent in value.items() if "[" in key}
    rest = {key: sent for key, sent in value.items() if key not in selecting}
    parts = [
        _operation({"op": operation["op"], "path": key, "value": sent})
        for key, sent in selecting.items()
    ]
    return [{**operation, "value": rest}, *parts] if rest or not parts else parts


def _operation(sent: Mapping[str, Any]) -> dict[str, Any]:
    known = {k.lower(): v for k, v in sent.items() if v is not None or k.lower() == "value"}
    operation: dict[str, Any] = {k: known[k] for k in ("op", "path", "value") if k in known}
    if isinstance(operation.get("op"), str):
        operation["op"] = operation["op"].lower()
    if isinstance(operation.get("path"), str):
        try:
            operation["path"] = quoted(operation["path"].strip())
        except TooLongError as error:
            raise InvalidPathException(detail=f"path: {error}") from None
        if operation["path"] == "":
            del operation["path"]
    return operation
