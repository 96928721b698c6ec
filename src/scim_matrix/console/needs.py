"""What needs a human: the problems that there are, and which people and rooms have them (pure)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from scim_matrix import problems

# These pass by themselves, or are what was asked for.
_QUIET = frozenset({"dry-run", "live-drift-stopped", "no-answer", "spared"})
_DECIDED = frozenset({"removals-held", "accounts-held", "restored"})


@dataclass(frozen=True, slots=True)
class Way:
    """Where something is settled, and what the button that leads there says."""

    path: str
    label: str


@dataclass(frozen=True, slots=True)
class Need:
    """A problem that there is, and some of the people and rooms that have it.

    Each row has of how many rows of the problem it is one (`alike`).
    """

    problem: problems.Problem
    rows: list[dict[str, Any]]

    @property
    def is_loud(self) -> bool:
        """Whether a human has to do something."""
        return self.problem.code not in _QUIET

    @property
    def more(self) -> int:
        """How many rows there are beside those that are shown."""
        return self.rows[0]["alike"] - len(self.rows) if self.rows else 0

    @property
    def way(self) -> Way | None:
        """Where the first of its rows is settled, or looked at."""
        code, row = self.problem.code, self.rows[0] if self.rows else None
        if code in _DECIDED:
            return Way("held", "Decide")
        if code == "idp-silent":
            return Way("log", "What it last changed")
        if row is None:
            return None
        if row["group_id"]:
            return Way(f"groups/{quote(row['group_id'], safe='')}", "Look at the mapping")
        if code == "account-conflict":
            return Way(f"people/{quote(row['who'], safe='')}", "Say whose account it is")
        if row["who"] and row["people"] == 1 and code != "mapping-suspended":
            return Way(f"people/{quote(row['who'], safe='')}", f"Look at {row['who']}")
        if not row["room"]:
            return None
        if row["room"].startswith("!"):
            return Way(f"rooms/{quote(row['room'], safe='')}", "Look at the room")
        label = "Decide" if code == "room-waits" else "Look at the room"
        return Way(f"rooms?q={quote(row['room'], safe='')}", label)


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
