"""Group members taken off payloads before the models see them (a model costs 80 us a member)."""

import itertools
from typing import Any

import orjson
from scim2_models import (
    InvalidPathException,
    InvalidValueException,
    MutabilityException,
    ScimFilter,
)
from scim2_models.path import CompareOperator, Comparison, FilterNode, LogicalExpr, LogicalOperator

from scim_matrix.scim.payload import Attribute, canonical, check
from scim_matrix.store.resources import MemberChange, Op

GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
_NAMES = frozenset({"value", "display", "type", "$ref"})
_MEMBER = {name.lower(): Attribute(name, "string", False, {}) for name in _NAMES}
# What the library gets in place of operations that touched members alone; it changes nothing.
_NOTHING = {"op": "add", "value": {}}


Entries = list[dict[str, Any]]


def parse_members(sent: Any) -> Entries:
    """Return the members of a `members` value: a list, one object, or bare ids.

    Raises InvalidValueException naming the first entry that is no member.
    """
    entries = [_entry(e) for e in (sent if isinstance(sent, list) else [sent]) if e is not None]
    check("members", {"members": entries})
    return entries


def _entry(sent: Any) -> Any:
    if isinstance(sent, str):
        return {"value": sent}
    if not isinstance(sent, dict) or ("value" in sent and sent.keys() <= _NAMES):
        return sent
    entry = canonical(sent, _MEMBER)
    if "value" not in entry and isinstance(entry.get("$ref"), str):
        entry["value"] = entry["$ref"].rpartition("/")[2]
    return entry


def take_from_resource(group: dict[str, Any]) -> list[MemberChange]:
    """Take `members` off a whole group; without the key the group is empty (RFC 7644 3.5.1)."""
    sent = [group.pop(key) for key in list(group) if key.lower() == "members"]
    return _changes([("replace", parse_members(sent[0] if sent else None))])


def _changes(steps: list[tuple[Op, Entries]]) -> list[MemberChange]:
    """Return steps as changes; additions in a row, as authentik sends them, become one."""
    changes: list[MemberChange] = []
    for op, group in itertools.groupby(steps, key=lambda step: step[0]):
        lists = [entries for _, entries in group]
        if op == "replace":
            lists = lists[-1:]
        entries = list(itertools.chain.from_iterable(lists))
        changes.append(MemberChange(op, orjson.dumps(entries).decode()))
    return changes


def take_from_patch(patch: dict[str, Any]) -> list[MemberChange]:
    """Take the operations on members out of a PatchOp, in order.

    Raises InvalidValueException, InvalidPathException or MutabilityException.
    """
    steps: list[tuple[Op, Entries]] = []
    others: list[dict[str, Any]] = []
    for operation in patch["Operations"]:
        path = operation.get("path")
        if path is None:
            others += _take_without_path(operation, steps)
        elif (inner := _member_path(path)) is not None:
            steps.append(_step(operation, inner))
        else:
            others.append(operation)
    patch["Operations"] = others or [_NOTHING]
    return _changes(steps)


def _take_without_path(
    operation: dict[str, Any], steps: list[tuple[Op, Entries]]
) -> list[dict[str, Any]]:
    value = operation.get("value")
    if not isinstance(value, dict) or operation["op"] == "remove":
        return [operation]
    rest = {}
    for key, sent in value.items():
        if _member_path(key) == "":
            steps.append((operation["op"], parse_members(sent)))
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
    rest = trimmed[len("members") :].lstrip()
    return rest if rest == "" or rest[0] in "[." else None


def _step(operation: dict[str, Any], inner: str) -> tuple[Op, Entries]:
    op, value = operation["op"], operation.get("value")
    if inner == "":
        if op == "remove" and value is None:
            return "replace", []
        if op != "remove" and "value" not in operation:
            raise InvalidValueException(detail=f"members: {op} needs a value")
        return op, parse_members(value)
    selected, bracket, sub = inner.rpartition("]")
    if not bracket or not selected.startswith("["):
        raise InvalidPathException(detail=f"path: members{inner} cannot be changed")
    ids = _ids(ScimFilter(selected[1:]).ast)
    if sub == "":
        return "remove" if op == "remove" else "add", [{"value": i} for i in ids]
    if sub.lower() != ".display":
        raise MutabilityException(detail=f"path: members{sub} is read from the member itself")
    renamed = [{"value": i, "display": None if op == "remove" else value} for i in ids]
    check("members", {"members": renamed})
    return "display", renamed


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
