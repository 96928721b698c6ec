"""Single changes of a source that some test should notice, Python and SQL (pure)."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the line it is in (from 1), what was changed in words, the whole new source.

    `statement` is the name of the SQL statement that was changed.
    """

    line: int
    change: str
    source: str
    statement: str | None = None


_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
# What these say is for readers, or for the interpreter only.
_KEYWORDS_LEFT_OUT = {"frozen", "slots", "strict", "deterministic", "exc_info"}

_SQL: tuple[tuple[str, str], ...] = (
    (r"<=", "<"),
    (r"(?<![<>=])<(?![=>])", "<="),
    (r">=", ">"),
    (r"(?<![<>=-])>(?![=>])", ">="),
    (r"<>", "="),
    (r"\bAND\b", "OR"),
    (r"\bOR\b", "AND"),
    (r"\bIS NOT DISTINCT\b", "IS DISTINCT"),
    (r"\bIS DISTINCT\b", "IS NOT DISTINCT"),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bNOT IN\b", "IN"),
    (r"\bNOT (?=EXISTS|[a-z(])", ""),
    (r"\bmin\(", "max("),
    (r"\bmax\(", "min("),
    (r" DESC\b", ""),
    (r"\bTRUE\b", "FALSE"),
    (r"\bFALSE\b", "TRUE"),
    # A condition or a column less.
    (
        r"\bAND (?:NOT )?[a-z_.]+(?: (?:=|<|<>|<=|>|>=) (?::?[a-z_.]+|'[a-z_]*'|\d+))?(?=[\s)])"
        r"(?! (?:IS|IN|NOT|GLOB|BETWEEN|[=<>|-]))",
        "",
    ),
    (r"\b[a-z_]+ = (?:NULL|TRUE|FALSE|\d+|'[a-z_]+'|:\w+|excluded\.\w+),\s*", ""),
    (r",\s*[a-z_]+ = (?:NULL|TRUE|FALSE|\d+|'[a-z_]+'|:\w+|excluded\.\w+)(?=\s)", ""),
)
_HEADING = re.compile(r"^-- (\w+) --$")


def of_sql(source: str) -> Iterator[Mutant]:
    """List the mutants of a file of SQL statements; comments are left as they are."""
    start, statement = 0, None
    told = Counter[str]()
    for number, line in enumerate(source.splitlines(keepends=True), 1):
        if heading := _HEADING.match(line.rstrip()):
            statement = heading[1]
        if not line.lstrip().startswith("--"):
            for pattern, new in _SQL:
                for found in re.finditer(pattern, line):
                    changed = line[: found.start()] + new + line[found.end() :]
                    what = f"{' '.join(line.split())} → {' '.join(changed.split())}"
                    yield Mutant(
                        number,
                        _count(f"{statement}: {what}", told),
                        source[:start] + changed + source[start + len(line) :],
                        statement,
                    )
        start += len(line)


def _count(change: str, told: Counter[str]) -> str:
    """Return what was changed, with a number where the same is said of another place."""
    told[change] += 1
    return change if told[change] == 1 else f"{change} ({told[change]})"


def of_python(source: str) -> Iterator[Mutant]:
    """List the mutants of a module; docstrings, annotations and log lines are left as they are."""
    return _Python(source).mutants()


def _is_log(node: ast.AST) -> bool:
    """Tell whether a statement only says something in the log."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).startswith("log.")
    )


class _Python:
    def __init__(self, source: str) -> None:
        self._raw = source.encode()
        self._tree = ast.parse(source)
        self._starts = [0]
        for line in self._raw.split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)

    def mutants(self) -> Iterator[Mutant]:
        seen: set[str] = set()
        left_out = self._left_out()
        names = self._names()
        told = Counter[str]()
        for node in ast.walk(self._tree):
            if id(node) in left_out:
                continue
            for start, end, new in self._changes(node):
                raw = self._raw[:start] + new.encode() + self._raw[end:]
                source = raw.decode()
                if source in seen or raw == self._raw:
                    continue
                seen.add(source)
                line = self._raw[:start].count(b"\n") + 1
                old = " ".join(self._raw[start:end].decode().split())
                whole = " ".join(self._line(line).split())
                what = f"{whole} : {old[:60]} → {new[:60]}"
                yield Mutant(line, _count(f"{names[line]}: {what}", told), source)

    def _names(self) -> dict[int, str]:
        """Return the name of the class or function that each line is in."""
        names = dict.fromkeys(range(1, len(self._starts)), "module")
        for node in ast.walk(self._tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                names |= dict.fromkeys(lines, node.name)
        return names

    def _left_out(self) -> set[int]:
        """Return what no test can or should notice a change of."""
        out: set[int] = set()
        for node in ast.walk(self._tree):
            drop: list[ast.AST | None] = [
                getattr(node, "annotation", None),
                getattr(node, "returns", None),
            ]
            is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if is_text or _is_log(node):
                drop.append(node)
            if isinstance(node, ast.keyword) and node.arg in _KEYWORDS_LEFT_OUT:
                drop.append(node)
            if isinstance(node, ast.JoinedStr):
                # Python 3.11 does not tell where in its line something is.
                drop.append(node)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                drop.append(node)
            if isinstance(node, ast.If) and not node.orelse and all(map(_is_log, node.body)):
                drop.append(node)
            for each in drop:
                if each is not None:
                    out |= {id(below) for below in ast.walk(each)}
        return out

    def _changes(self, node: ast.AST) -> Iterator[tuple[int, int, str]]:
        """Return changes as start and end (bytes) and what stands there instead."""
        match node:
            case ast.Compare():
                operands = [node.left, *node.comparators]
                for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
                    start, end = self._span(left)[1], self._span(right)[0]
                    between = self._raw[start:end].decode()
                    yield start, end, between.replace(*_COMPARISONS[type(operator)], 1)
            case ast.BoolOp():
                neutral = "True" if isinstance(node.op, ast.And) else "False"
                word, other = ("and", "or") if neutral == "True" else ("or", "and")
                for value in node.values:
                    yield *self._span(value), neutral
                for left, right in zip(node.values, node.values[1:], strict=False):
                    start, end = self._span(left)[1], self._span(right)[0]
                    between = self._raw[start:end].decode()
                    yield start, end, re.sub(rf"\b{word}\b", other, between, count=1)
            case ast.UnaryOp(op=ast.Not()):
                start, end = self._span(node.operand)
                yield *self._span(node), f"({self._raw[start:end].decode()})"
            case ast.If() | ast.While() | ast.IfExp():
                yield *self._span(node.test), "False"
                yield *self._span(node.test), "True"
            case ast.Constant(value=bool()):
                yield *self._span(node), str(not node.value)
            case ast.Constant(value=int() | float() as number):
                yield *self._span(node), repr(number + 1)
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise():
                yield *self._span(node), "pass"
            case ast.Continue():
                yield *self._span(node), "pass"
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield *self._span(node), "pass"

    def _line(self, number: int) -> str:
        return self._raw[self._starts[number - 1] : self._starts[number]].decode()

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )
