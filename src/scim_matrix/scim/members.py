"""Group members taken off payloads before the models see them (a model costs 80 us a member)."""

from typing import Any, Literal, cast

from scim2_models import InvalidPathException, InvalidValueException, ScimFilter
from scim2_models.path import CompareOperator, Comparison, FilterNode, LogicalExpr, LogicalOperator

from scim_matrix.scim.payload import Attribute, canonical, check
from scim_matrix.store.resources import Member, MemberChange

GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
_MEMBER = {
    name.lower(): Attribute(name, "string", False, {})
    for name in ("value", "display", "type", "$ref")
}
# What the library gets in place of operations that touched members alone; it changes nothing.
_NOTHING = {"op": "add", "value": {}}


def parse_members(sent: Any) -> tuple[Member, ...]:
    """Return the members of a `members` value: a list, one object, or bare ids.

    Raises InvalidValueException naming the first entry that is no member.
    """
    entries = sent if isinstance(sent, list) else [] if sent is None else [sent]
    entries = [
        canonical(e, _MEMBER) if isinstance(e, dict) else {"value": e} if isinstance(e, str) else e
        for e in entries
    ]
    check("members", {"members": entries})
    return tuple(Member(e["value"], e.get("display")) for e in entries)


def take_from_resource(group: dict[str, Any]) -> list[MemberChange]:
    """Take `members` off a whole group; without the key the group is empty (RFC 7644 3.5.1)."""
    return [MemberChange("replace", parse_members(group.pop("members", None)))]


def take_from_patch(patch: dict[str, Any]) -> list[MemberChange]:
    """Take the operations on members out of a canonical PatchOp, in order."""
    changes: list[MemberChange] = []
    others: list[dict[str, Any]] = []
    for operation in patch["Operations"]:
        path = operation.get("path")
        if path is None:
            others += _take_without_path(operation, changes)
        elif (inner := _member_path(path)) is not None:
            changes.append(_change(operation, inner))
        else:
            others.append(operation)
    patch["Operations"] = others or [_NOTHING]
    return changes


def _take_without_path(
    operation: dict[str, Any], changes: list[MemberChange]
) -> list[dict[str, Any]]:
    value = operation.get("value")
    if not isinstance(value, dict) or operation["op"] == "remove":
        return [operation]
    rest = {}
    for key, sent in value.items():
        if _member_path(key) == "":
            changes.append(MemberChange(operation["op"], parse_members(sent)))
        else:
            rest[key] = sent
    return [{**operation, "value": rest}] if rest else []


def _member_path(path: str) -> str | None:
    """Return what follows `members` in a path, None where the path is about something else."""
    trimmed = path.strip()
    if trimmed.lower().startswith(f"{GROUP.lower()}:"):
        trimmed = trimmed[len(GROUP) + 1 :]
    if not trimmed.lower().startswith("members"):
        return None
    rest = trimmed[len("members") :]
    return rest if rest == "" or rest[0] in "[." else None


def _change(operation: dict[str, Any], inner: str) -> MemberChange:
    op = cast(Literal["add", "remove", "replace"], operation["op"])
    if inner == "":
        if op == "remove" and operation.get("value") is None:
            return MemberChange("remove", everyone=True)
        if op != "remove" and "value" not in operation:
            raise InvalidValueException(detail=f"members: {op} needs a value")
        return MemberChange(op, parse_members(operation.get("value")))
    if not (inner.startswith("[") and inner.endswith("]")):
        if op != "remove" and inner.lower().startswith("["):
            # members[value eq "x"].display: ids are what counts, the rest is decoration.
            inner = inner[: inner.rindex("]") + 1]
        else:
            raise InvalidPathException(detail=f"path: members{inner} cannot be changed")
    ids = _ids(ScimFilter(inner[1:-1]).ast)
    return MemberChange("remove" if op == "remove" else "add", tuple(map(Member, ids)))


def _ids(node: FilterNode) -> list[str]:
    if isinstance(node, LogicalExpr) and node.op == LogicalOperator.or_:
        return [i for term in node.terms for i in _ids(term)]
    if (
        isinstance(node, Comparison)
        and node.op == CompareOperator.eq
        and node.attr_path.attr.lower() == "value"
        and isinstance(node.value, str)
    ):
        return [node.value]
    raise InvalidPathException(
        detail='path: members can be selected by value eq "id", joined by or'
    )
