"""Filters and sort keys as SQL over the stored documents (RFC 7644 sections 3.4.2.2 and 3.4.2.3).

The library's evaluator says what a filter means; this module says the same in SQL, with an
index wherever identity providers look things up by equality.
"""

import base64
import datetime
from typing import Any, cast

from scim2_models import BaseModel, Resource, ScimFilter, SearchRequest
from scim2_models.path import (
    STRING_OPERATORS,
    AttributeBinding,
    AttrPath,
    CompareOperator,
    Comparison,
    FilterNode,
    FilterVisitor,
    LogicalExpr,
    LogicalOperator,
    Not,
    Present,
    ValuePath,
    coerce_value,
)

from scim_matrix.store.resources import Kind

# Attributes kept in columns, and whether the column holds the form that is compared.
_COLUMNS = {
    "id": ("r.id", True),
    "externalId": ("r.external_id", True),
    "displayName": ("r.display_name_key", True),
    "meta.created": ("r.created", True),
    "meta.lastModified": ("r.last_modified", True),
    "meta.version": ("('W/\"' || r.version || '\"')", True),
}
_COLUMNS_OF: dict[Kind, dict[str, tuple[str, bool]]] = {
    "User": _COLUMNS
    | {
        "userName": ("r.user_name_key", True),
        # The column knows what somebody counts as who was stored without it.
        "active": ("r.active", True),
        "meta.resourceType": ("'User'", False),
    },
    "Group": _COLUMNS | {"meta.resourceType": ("'Group'", False)},
}


def _members(more: str = "") -> str:
    """Return the members of the group `r` as a JSON list, with more of each entry."""
    return f"""(SELECT list_of(object_of(
            'value', value, 'display', display, 'type', type{more}))
        FROM (SELECT m.value, m.display,
            CASE WHEN EXISTS (SELECT 1 FROM scim_user u WHERE u.id = m.value) THEN 'User'
            WHEN EXISTS (SELECT 1 FROM scim_group g WHERE g.id = m.value) THEN 'Group' END AS type
            FROM group_member m WHERE m.group_id = r.id) listed)"""


# Lists that are rows of their own, as JSON.
_LISTS = {
    "members": _members(),
    "groups": """(WITH RECURSIVE above (id, direct) AS (
            SELECT group_id, 1 FROM group_member WHERE value = r.id
            UNION SELECT m.group_id, 0 FROM above JOIN group_member m ON m.value = above.id)
        SELECT list_of(object_of('value', g.id, 'display', g.display_name,
        'type', CASE WHEN above.direct = 1 THEN 'direct' ELSE 'indirect' END))
        FROM above JOIN scim_group g ON g.id = above.id)""",
}

# Equality with a value on these is answered by an index.
_INDEXED = {
    "emails.value": "r.id IN (SELECT user_id FROM user_email WHERE value_key = {})",
    "members.value": "r.id IN (SELECT group_id FROM group_member WHERE value = {})",
    "groups.value": """r.id IN (WITH RECURSIVE below (id) AS (
            SELECT value FROM group_member WHERE group_id = {}
            UNION SELECT m.value FROM below JOIN group_member m ON m.group_id = below.id)
        SELECT id FROM below)""",
}

_SYMBOLS = {
    CompareOperator.gt: ">",
    CompareOperator.ge: ">=",
    CompareOperator.lt: "<",
    CompareOperator.le: "<=",
}


def sort_key(kind: Kind, model: type[Resource[Any]], request: SearchRequest[Any]) -> str:
    """Return the SQL of the value that a resource is sorted by (RFC 7644 section 3.4.2.3)."""
    binding = request.sort_binding(model)
    if binding is None:
        return "CAST(NULL AS TEXT)"
    attribute = _Attribute(kind, binding)
    if not binding.is_multivalued:
        return f"CAST({attribute.comparable(attribute.scalar())} AS TEXT)"
    is_primary = "CAST(text_at(e.value, '$.primary') AS BOOLEAN) IS TRUE DESC, "
    return (
        f"(SELECT CAST({attribute.comparable(attribute.entry())} AS TEXT)"
        f" FROM {attribute.each()} e"
        f" ORDER BY {is_primary if binding.sub_field_name else ''}e.key LIMIT 1)"
    )


def where(
    kind: Kind,
    model: type[Resource[Any]],
    scim_filter: ScimFilter[Any] | None,
    values: dict[str, Any],
) -> str:
    """Return a filter as a condition on the row `r`, and add what it is compared with to `values`.

    Raises InvalidFilterException where a value cannot be one of its attribute's.
    """
    if scim_filter is None:
        return "TRUE"
    bound = cast("ScimFilter[Any]", cast(Any, ScimFilter)[model](str(scim_filter)))
    return _Translator(kind, bound, values).visit(bound.ast)


def selecting_members(model: type[Resource[Any]], expression: str, values: dict[str, Any]) -> str:
    """Return the query of the ids of those members of a group whom a filter selects.

    `expression` is what stands in the brackets of a path. `values` holds the group's id and
    `base`, the address that each `$ref` begins with; what is compared with is added. Raises
    InvalidFilterException where a value cannot be one of its attribute's.
    """
    bound = cast("ScimFilter[Any]", cast(Any, ScimFilter)[model](f"members[{expression}]"))
    node = cast(ValuePath, bound.ast)
    test = _Translator("Group", bound, values, node.attr_path).visit(node.val_filter)
    members = _members(", '$ref', CAST(:base AS TEXT) || '/' || type || 's/' || value")
    return (
        "SELECT text_at(e.value, '$.value') AS value"
        f" FROM scim_group r CROSS JOIN each_entry({members}) e WHERE r.id = :id AND {test}"
    )


class _Attribute:
    """Where the values of one attribute are, as SQL over the row `r`."""

    def __init__(self, kind: Kind, binding: AttributeBinding) -> None:
        schema = cast(str | None, getattr(binding.model, "__schema__", None))
        path = binding.urn.removeprefix(f"{schema}:")
        head, _, sub = path.partition(".")
        self.path = path
        self.binding = binding
        is_extension = not issubclass(binding.model, Resource)
        self._head = f'$."{schema}".{head}' if is_extension else f"$.{head}"
        self._sub = sub
        self._list = _LISTS.get(head)
        self.column = None if is_extension else _COLUMNS_OF[kind].get(path)

    def scalar(self) -> str:
        if self.column is not None:
            return self.column[0]
        return f"text_at(r.document, '{self._head}{f'.{self._sub}' if self._sub else ''}')"

    def each(self) -> str:
        """Return the table of a multi-valued attribute's entries."""
        return f"each_entry({self._json()})"

    def tree(self) -> str:
        """Return the table of everything the attribute holds."""
        return f"each_value({self._json()})"

    def _json(self) -> str:
        return self._list or f"r.document, '{self._head}'"

    def entry(self) -> str:
        if self._sub:
            return f"text_at(e.value, '$.{self._sub}')"
        return "CAST(e.value AS TEXT)" if _is_complex(self.binding) else "e.atom"

    def entries_or_null(self) -> str:
        """Return something that is NULL where there is no entry, or one without a value."""
        return (
            f"(SELECT CASE WHEN count(*) = count({self.entry()}) THEN max({self.entry()}) END"
            f" FROM {self.each()} e)"
        )

    def comparable(self, value: str) -> str:
        """Return a value in the form in which the library compares this attribute's values."""
        target = self.binding.target_type
        is_text = not isinstance(target, type) or issubclass(target, str)
        if self.column is not None and self.column[1]:
            return value
        if target is bool:
            return f"CAST({value} AS BOOLEAN)"
        if not is_text:
            return value
        return f"{'composed' if self.binding.case_exact else 'folded'}({value})"

    def parameter(self, value: Any, op: CompareOperator) -> Any:
        """Return a filter's value in the form that the SQL compares with."""
        value = coerce_value(self.binding, value, op)
        if isinstance(value, str):
            return str(self.binding.comparable(value))
        if isinstance(value, datetime.datetime):
            zoned = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
            return zoned.astimezone(datetime.UTC).isoformat(timespec="microseconds")
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _is_complex(binding: AttributeBinding) -> bool:
    return isinstance(binding.target_type, type) and issubclass(binding.target_type, BaseModel)


class _Translator(FilterVisitor[str]):
    """Turns a filter into SQL that is true or false, never NULL, so that `not` means what it says.

    Within a value selection, `within` is the attribute whose entries are looked at.
    """

    def __init__(
        self,
        kind: Kind,
        scim_filter: ScimFilter[Any],
        values: dict[str, Any],
        within: AttrPath | None = None,
    ) -> None:
        self._kind = kind
        self._filter = scim_filter
        self._values = values
        self._within = within

    def _named(self, value: Any) -> str:
        """Return the placeholder of a value."""
        name = f"value_{len(self._values)}"
        self._values[name] = value
        return f":{name}"

    def _attribute(self, path: AttrPath, *, compared: bool) -> _Attribute | None:
        """Return the attribute of a path, None where this resource type has no such one."""
        resolve = self._filter.resolve_comparison if compared else self._filter.resolve
        within = self._within
        if within is None:
            binding = resolve(path, strict=False)
        elif path.sub_attr:
            binding = None
        else:
            binding = resolve(AttrPath(within.attr, path.attr, within.uri), strict=False)
            if binding is None and path.attr.lower() == "value":
                binding = self._plain(self._filter.resolve(within, strict=False))
        return None if binding is None else _Attribute(self._kind, binding)

    @staticmethod
    def _plain(binding: AttributeBinding | None) -> AttributeBinding | None:
        """Let `value` stand for the entries of a list of plain values, such as `schemas`."""
        is_complex = binding is not None and _is_complex(binding)
        return None if is_complex else binding

    def visit_comparison(self, node: Comparison) -> str:
        """Compare; on several values, any may match, and none may be equal for `ne`."""
        attribute = self._attribute(node.attr_path, compared=True)
        if attribute is None:
            return "FALSE"
        value = attribute.parameter(node.value, node.op)
        if self._within is not None:
            return self._compare(attribute, attribute.entry(), node.op, value)
        if not attribute.binding.is_multivalued:
            return self._compare(attribute, attribute.scalar(), node.op, value)
        if value is None:
            return self._compare(attribute, attribute.entries_or_null(), node.op, None)
        if node.op == CompareOperator.eq and attribute.path in _INDEXED:
            return _INDEXED[attribute.path].format(self._named(value))
        test = self._compare(attribute, attribute.entry(), node.op, value)
        if node.op == CompareOperator.ne:
            return f"NOT EXISTS (SELECT 1 FROM {attribute.each()} e WHERE NOT ({test}))"
        return f"EXISTS (SELECT 1 FROM {attribute.each()} e WHERE {test})"

    def _compare(self, attribute: _Attribute, found: str, op: CompareOperator, value: Any) -> str:
        target = attribute.binding.target_type
        if value is None:
            sign = {CompareOperator.eq: "IS NULL", CompareOperator.ne: "IS NOT NULL"}.get(op)
            return "FALSE" if sign is None else f"{found} {sign}"
        if _is_complex(attribute.binding):
            return "TRUE" if op == CompareOperator.ne else "FALSE"
        found = attribute.comparable(found)
        if op in STRING_OPERATORS:
            return self._substring(target, found, op, value)
        sought = self._named(value)
        if op in _SYMBOLS:
            return f"coalesce({found} {_SYMBOLS[op]} {sought}, FALSE)"
        if op == CompareOperator.eq and attribute.column is not None:
            # PostgreSQL looks nothing up in an index by IS NOT DISTINCT FROM.
            return f"({found} = {sought} AND {found} IS NOT NULL)"
        sign = "IS NOT DISTINCT FROM" if op == CompareOperator.eq else "IS DISTINCT FROM"
        return f"{found} {sign} {sought}"

    def _substring(self, target: Any, found: str, op: CompareOperator, value: Any) -> str:
        if target in (datetime.datetime, bool) or not isinstance(value, str):
            return "FALSE"
        if value == "":
            return f"{found} IS NOT NULL"
        part = self._named(value)
        if op == CompareOperator.co:
            return f"coalesce(place_in({found}, {part}) > 0, FALSE)"
        if op == CompareOperator.sw:
            return f"coalesce(substr({found}, 1, length({part})) = {part}, FALSE)"
        return f"coalesce(substr({found}, length({found}) - length({part}) + 1) = {part}, FALSE)"

    def visit_present(self, node: Present) -> str:
        """Tell whether anything not empty is there."""
        attribute = self._attribute(node.attr_path, compared=False)
        if attribute is None:
            return "FALSE"
        if self._within is not None:
            return f"coalesce({attribute.entry()} <> '', FALSE)"
        if attribute.column is not None:
            return f"coalesce(CAST({attribute.column[0]} AS TEXT) <> '', FALSE)"
        if attribute.path == "meta":
            return "TRUE"
        if attribute.binding.sub_field_name is None:
            return (
                f"EXISTS (SELECT 1 FROM {attribute.tree()} t"
                " WHERE t.atom IS NOT NULL AND t.atom <> '')"
            )
        if attribute.binding.is_multivalued:
            return (
                f"EXISTS (SELECT 1 FROM {attribute.each()} e"
                f" WHERE coalesce({attribute.entry()} <> '', FALSE))"
            )
        return f"coalesce({attribute.scalar()} <> '', FALSE)"

    def visit_not(self, node: Not) -> str:
        """Negate."""
        return f"NOT ({self.visit(node.expr)})"

    def visit_logical_expr(self, node: LogicalExpr) -> str:
        """Join with AND or OR."""
        joiner = " AND " if node.op == LogicalOperator.and_ else " OR "
        return f"({joiner.join(map(self.visit, node.terms))})"

    def visit_value_path(self, node: ValuePath) -> str:
        """Tell whether any one entry satisfies the inner filter as a whole."""
        attribute = self._attribute(node.attr_path, compared=False)
        if attribute is None or self._within is not None:
            return "FALSE"
        inner = _Translator(self._kind, self._filter, self._values, node.attr_path)
        narrowed = self._narrowed(attribute, inner, node.val_filter)
        test = inner.visit(node.val_filter)
        return f"({narrowed}EXISTS (SELECT 1 FROM {attribute.each()} e WHERE {test}))"

    def _narrowed(self, attribute: _Attribute, inner: "_Translator", node: FilterNode) -> str:
        """Return an indexed look-up that any match must satisfy, with its AND, or nothing."""
        is_all = isinstance(node, LogicalExpr) and node.op == LogicalOperator.and_
        look_up = _INDEXED.get(f"{attribute.path}.value")
        for term in cast(LogicalExpr, node).terms if is_all else (node,):
            if (
                look_up is not None
                and isinstance(term, Comparison)
                and term.op == CompareOperator.eq
                and term.value is not None
                and (compared := inner._attribute(term.attr_path, compared=True)) is not None
                and compared.path == f"{attribute.path}.value"
            ):
                sought = self._named(compared.parameter(term.value, term.op))
                return f"{look_up.format(sought)} AND "
        return ""
