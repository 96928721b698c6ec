"""Statements are written in what SQLite and PostgreSQL have in common (store/dialect.py)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scim_matrix.store import dialect
from scim_matrix.store.dialect import SQLITE
from scim_matrix.store.queries import load

STORE = Path(dialect.__file__).parent
# What only one of them has, or each means otherwise.
UNCOMMON = {
    r"\bINSERT OR\b|\bREPLACE INTO\b": "ON CONFLICT",
    r"\bGLOB\b|\bREGEXP\b": "matches(pattern, text)",
    r"\bjson\w*\(": "each_text, each_number, each_entry, text_at, list_of, object_of",
    r"->>? '\$": "`->>` with a plain key, or text_at",
    r"\binstr\(|\bstrpos\(|\bposition\(": "place_in(text, part)",
    r"\bgroup_concat\(|\bstring_agg\(": "comma_list(DISTINCT text)",
    r"\biif\(|\bifnull\(|\btotal\(|\bprintf\(": "CASE, coalesce",
    r"\b(min|max)\([^()]*,": "CASE: min and max are of a group",
    r"\b(min|max|sum)\((?!CASE\b)[^()]* (IS|=|<>|<|>) ": "count(*) FILTER (WHERE NOT ...) = 0",
    r"\bIS (NOT )?(?!(NOT|NULL|DISTINCT|TRUE|FALSE)\b)": "IS [NOT] DISTINCT FROM",
    r"==": "=",
    r"\browid\b|\bsqlite_\w+|\b(total_)?changes\(|\blast_insert_rowid\(": "RETURNING",
    r"\bPRAGMA\b": "a method of the driver",
    r"\b(date|time|datetime|julianday|strftime|unixepoch|now)\(": "a time as a value",
    r"\bLIMIT -": "a number, or no LIMIT",
    r"\bAS (INTEGER|INT|REAL|NUMERIC|BLOB)\)": "CAST AS BIGINT, DOUBLE PRECISION, BOOLEAN, TEXT",
    r"(?<![\w'*])\?(?![\w'*])|\?\d|[$@]\d": ":name",
    r"\bAS [a-z]+[A-Z]": "quotes, since one of them folds names",
    r"\b(FROM|JOIN) \((SELECT|WITH)\b[^()]*(\([^()]*(\([^()]*\)[^()]*)*\)[^()]*)*\)"
    r"(?!\s+(AS )?[a-z])": "a name for it",
}


def uncommon(sql: str) -> list[str]:
    """Return what in a statement is not common, and what would be."""
    text = re.sub(r"--[^\n]*", "", sql)
    found = ((re.search(pattern, text), cure) for pattern, cure in UNCOMMON.items())
    return [f"{match[0]!r}: rather {cure}" for match, cure in found if match is not None]


def written(node: ast.AST) -> str | None:
    """Return a text that stands in code, None for anything else; what it leaves open is a word."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(written(part) or "open" for part in node.values)
    return None


# One database's own, or no SQL.
NOT_COMMON = ("sqlite", "postgresql", "postgresql_url", "backup", "dialect", "transfer")


def statements() -> Iterator[tuple[str, str]]:
    """Yield whatever SQL the store has, whole or in pieces, and where it stands."""
    for file in sorted((STORE / "queries").glob("*.sql")):
        for name, sql in load(file.stem).items():
            yield f"{file.stem}.{name}", sql
    for file in sorted(STORE.glob("*.py")):
        if file.stem in NOT_COMMON:
            continue
        nodes = list(ast.walk(ast.parse(file.read_text())))
        parts = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in nodes:
            text = None if node in parts else written(node)
            if (
                text
                and re.search(r"[A-Z]{2} |\w\(|->|[=<>(] ?[?:]", text)
                and "Raises " not in text
            ):
                yield f"{file.name}:{getattr(node, 'lineno', 0)}", text


def test_statements_are_common() -> None:
    """Whatever is not common has a name in the dialect, and each database its own for that."""
    found = list(statements())
    assert len(found) > 300
    assert {where: why for where, sql in found if (why := uncommon(sql))} == {}


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT OR IGNORE INTO room (room_id) VALUES (:room_id)",
        "SELECT 1 WHERE g.display_name GLOB m.pattern",
        "SELECT value FROM json_each(:rooms)",
        "SELECT document ->> '$.userName' FROM scim_user",
        "SELECT instr(user_id, :words)",
        "SELECT group_concat(DISTINCT name)",
        "SELECT iif(led, 1, 0)",
        "SELECT max(g.tick, g.heard)",
        "SELECT min(led_by IS NOT NULL)",
        "SELECT 1 WHERE wanted IS NOT applied",
        "SELECT 1 WHERE observed IS :observed",
        "SELECT changes() AS changed",
        "SELECT datetime('now')",
        "SELECT 1 LIMIT -1",
        "SELECT CAST(at / 3600 AS INTEGER)",
        "SELECT 1 WHERE id = ?",
        "SELECT 1 WHERE id = ?1",
        "SELECT 1 AS userName",
        "SELECT count(*) FROM (SELECT id FROM account UNION SELECT max(id) FROM room) WHERE TRUE",
    ],
)
def test_what_is_not_common_is_seen(sql: str) -> None:
    """Whoever writes for one database only is told what to write."""
    assert uncommon(sql)


def test_functions_are_told_and_used() -> None:
    """Each function of the dialect is described, and stands in a statement."""
    every = "\n".join(sql for _, sql in statements())
    for name, call in SQLITE.calls.items():
        assert f"`{name}(" in str(dialect.__doc__), name
        assert f"{name}(" in every, name
        assert SQLITE.written(f"SELECT {name}(:x)") == f"SELECT {call}:x)"
