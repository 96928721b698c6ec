"""Group members taken off payloads before the models see them (a model costs 80 us a member)."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from scim2_models import (
    InvalidPathException,
    InvalidValueException,
    MutabilityException,
    ScimFilter,
)
from scim2_models.path import (
    CompareOperator,
    Comparison,
    FilterNode,
    LogicalExpr,
    LogicalOperator,
    Not,
    Present,
)

from scim_matrix.scim.lengths import check_members
from scim_matrix.scim.payload import NOTHING, Attribute, canonical, check
from scim_matrix.store.resources import MemberChange, Op

GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
_NAMES = frozenset({"value", "display", "type", "$ref"})
_MEMBER = {name.lower(): Attribute(name, "string", False, {}) for name in _NAMES}

Entries = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Selected:
    """A change of those members that a filter selects, who are known when it is carried out.

    `members` is JSON text: for `display` one entry with the new display, for `replace` the entry
    that comes in their place.
    """

    op: Literal["remove", "display", "replace"]
    selection: str
    members: str = "[]"


Change = MemberChange | Selected
Steps = list[tuple[Op, Entries] | Selected]


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
        entry["value"] = _referred(entry["$ref"])
    return entry


def _referred(reference: str) -> str:
    """Return the id of the resource that a $ref is the address of."""
    return reference.rpartition("/")[2]


def take_from_resource(group: dict[str, Any]) -> list[Change]:
    """Take `members` off a whole group; without the key the group is empty (RFC 7644 3.5.1)."""
    sent = [group.pop(key) for key in list(group) if key.lower() == "members"]
    return _changes([("replace", parse_members(sent[0] if sent else None))])


def _changes(steps: Steps) -> list[Change]:
    """Return steps as changes; additions in a row, as authentik sends them, become one."""
    changes: list[Change] = []
    for op, group in itertools.groupby(steps, key=_op):
        if op is None:
            changes += [step for step in group if isinstance(step, Selected)]
            continue
        lists = [step[1] for step in group if not isinstance(step, Selected)]
        if op == "replace":
            lists = lists[-1:]
        entries = list(itertools.chain.from_iterable(lists))
        if op in ("add", "replace"):
            check_members(entries)
        changes.append(MemberChange(op, orjson.dumps(entries).decode()))
    return changes


def _op(step: tuple[Op, Entries] | Selected) -> Op | None:
    return None if isinstance(step, Selected) else step[0]


def take_from_patch(patch: dict[str, Any]) -> list[Change]:
    """Take the operations on members out of a PatchOp, in order.

    Raises InvalidValueException, InvalidPathException or MutabilityException.
    """
    steps: Steps = []
    others: list[dict[str, Any]] = []
    for operation in patch["Operations"]:
        path = operation.get("path")
        if path is None:
            others += _take_without_path(operation, steps)
        elif (inner := _member_path(path)) is not None:
            steps += _steps(operation, inner)
        else:
            others.append(operation)
    patch["Operations"] = others or [NOTHING]
    return _changes(steps)


def _take_without_path(operation: dict[str, Any], steps: Steps) -> list[dict[str, Any]]:
    value = operation.get("value")
    if not isinstance(value, dict) or operation["op"] == "remove":
        return [operation]
    rest = {}
    for key, sent in value.items():
        if _member_path(key) == "":
            steps.append((operation["op"], parse_members(sent)))
        else:
            rest[key] = sent
    return [{**operation, "value": rest}]


def _member_path(path: str) -> str | None:
    """Return what follows `members` in a path, None where the path is about something else."""
    trimmed = path.strip()
    if trimmed.lower().startswith(f"{GROUP.lower()}:"):
        trimmed = trimmed[len(GROUP) + 1 :]
    if not trimmed.lower().startswith("members"):
        return None
    return trimmed[len("members") :].lstrip()


def _steps(operation: dict[str, Any], inner: str) -> Steps:
    op, value = operation["op"], operation.get("value")
    if op != "remove" and value is None and (inner != "" or "value" not in operation):
        raise InvalidValueException(detail=f"members{inner}: {op} needs a value")
    if inner == "":
        if op == "remove" and value is None:
            return [("replace", [])]
        return [(op, parse_members(value))]
    selected, bracket, sub = inner.rpartition("]")
    if not bracket or not selected.startswith("["):
        raise InvalidPathException(detail=f"path: members{inner} cannot be changed")
    selection = selected[1:]
    ast = ScimFilter(selection).ast
    _check_selection(ast)
    ids = _ids(ast)
    if sub.lower() == ".display":
        return [_renaming(selection, ids, value)]
    if sub != "":
        raise MutabilityException(detail=f"path: members{sub} is read from the member itself")
    if op == "remove":
        named = None if ids is None else [{"value": i} for i in ids]
        return [Selected("remove", selection) if named is None else ("remove", named)]
    return _putting(op, selection, ids, value)


def _renaming(
    selection: str, ids: Sequence[str] | None, display: Any
) -> tuple[Op, Entries] | Selected:
    renamed = [{"value": i, "display": display} for i in ids or ("any",)]
    check("members", {"members": renamed})
    if ids is not None:
        return "display", renamed
    return Selected("display", selection, orjson.dumps(renamed).decode())


def _putting(op: Op, selection: str, ids: Sequence[str] | None, value: Any) -> Steps:
    """Return the steps by which an entry comes to where a filter selects, or in its place."""
    entry = value[0] if isinstance(value, list) and len(value) == 1 else value
    folded = _entry(entry)
    if isinstance(folded, dict) and "value" not in folded and ids is not None:
        # It says something about those who are selected.
        if op == "replace":
            return [_renaming(selection, None, folded.get("display"))]
        return [("add", parse_members([{**folded, "value": i} for i in ids]))]
    [sent] = parse_members([folded])
    check_members([sent])
    if op == "add" and ids == [sent["value"]]:
        return [("add", [sent])]
    if op == "add":
        raise MutabilityException(
            detail="path: a member's value cannot be changed; remove the one, add the other"
        )
    # Whoever is selected must be there: nobody new comes in for somebody who is not.
    return [Selected("replace", selection, orjson.dumps([sent]).decode())]


def _check_selection(node: FilterNode) -> None:
    """Raise InvalidPathException where a filter asks for what members do not have."""
    if isinstance(node, LogicalExpr):
        for term in node.terms:
            _check_selection(term)
        return
    if isinstance(node, Not):
        _check_selection(node.expr)
        return
    path = node.attr_path if isinstance(node, Comparison | Present) else None
    if path is None or path.sub_attr or path.attr.lower() not in _NAMES:
        raise InvalidPathException(
            detail="path: members can be selected by value, display, type and $ref"
        )


def _ids(node: FilterNode) -> list[str] | None:
    """Return the ids that a filter names, None where it selects in another way."""
    if isinstance(node, LogicalExpr) and node.op == LogicalOperator.or_:
        found: list[str] = []
        for term in node.terms:
            if (ids := _ids(term)) is None:
                return None
            found += ids
        return found
    if (
        isinstance(node, Comparison)
        and node.op == CompareOperator.eq
        and isinstance(node.value, str)
    ):
        if node.attr_path.attr.lower() == "value":
            return [node.value]
        # Whatever the address before it: relative, or that of another proxy.
        if node.attr_path.attr == "$ref":
            return [_referred(node.value)]
    return None
