"""What needs a human: the problems that there are, and which people and rooms have them (pure)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from scim_matrix import problems

# These pass by themselves, or are what was asked for.
_QUIET = frozenset({"dry-run", "live-drift-stopped", "no-answer", "spared"})


@dataclass(frozen=True, slots=True)
class Need:
    """A problem that there is, and which people and rooms have it."""

    problem: problems.Problem
    rows: list[dict[str, Any]]

    @property
    def is_loud(self) -> bool:
        """Whether a human has to do something."""
        return self.problem.code not in _QUIET


def loud(codes: Iterable[str]) -> int:
    """Return how many kinds of problems need a human."""
    return len({*codes} - _QUIET)


def needs(codes: Iterable[str], rows: Iterable[dict[str, Any]]) -> list[Need]:
    """Return the problems there are with what is known of each, in the order of their table."""
    found: dict[str, list[dict[str, Any]]] = {code: [] for code in codes}
    for row in rows:
        found.setdefault(row["code"], []).append(row)
    return [
        Need(problem, found[problem.code]) for problem in problems.TABLE if problem.code in found
    ]
