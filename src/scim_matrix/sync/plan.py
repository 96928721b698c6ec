"""The plan: from the difference between desired and observed to ordered actions (pure)."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from scim_matrix.pair import Pair


@dataclass(frozen=True, slots=True)
class Join:
    """Bring an account into a room."""

    pair: Pair


@dataclass(frozen=True, slots=True)
class Kick:
    """Take an account out of a room."""

    pair: Pair
    reason: str


@dataclass(frozen=True, slots=True)
class Spare:
    """Leave an account in a room that no group grants any more, because it is protected."""

    pair: Pair


Action = Join | Kick | Spare


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is never touched: the service's own account and glob patterns of user IDs."""

    service_user_id: str
    protected_users: tuple[str, ...] = ()

    def protects(self, user_id: str) -> bool:
        """Tell whether a user is never locked, renamed, demoted or kicked."""
        return user_id == self.service_user_id or any(
            fnmatchcase(user_id, pattern) for pattern in self.protected_users
        )


def plan(pairs: Iterable[Pair], policy: Policy) -> list[Action]:
    """Return the actions that bring observed membership to what is granted, removals first.

    A banned person is left banned; a pair already as it should be yields nothing; an account
    that does not exist yet is not joined.
    """
    kicks: list[Action] = []
    joins: list[Action] = []
    for pair in pairs:
        if pair.membership == "ban":
            continue
        if pair.granted and pair.membership != "join" and pair.account_ready:
            joins.append(Join(pair))
        elif not pair.granted and pair.membership != "leave":
            if pair.is_protected or policy.protects(pair.user_id):
                kicks.append(Spare(pair))
            else:
                kicks.append(Kick(pair, f"Removed from group {pair.group_name}"))
    return kicks + joins
