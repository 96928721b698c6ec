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
class Invite:
    """Invite an account to a room, once."""

    pair: Pair


@dataclass(frozen=True, slots=True)
class Kick:
    """Take an account out of a room, or take its invitation back."""

    pair: Pair
    reason: str


@dataclass(frozen=True, slots=True)
class Spare:
    """Leave an account in a room that no group grants any more, because it is protected."""

    pair: Pair


Action = Join | Invite | Kick | Spare


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is never touched: the service's own account and glob patterns of user IDs.

    `admins` are the homeserver's administrators as far as they are known.
    """

    service_user_id: str
    protected_users: tuple[str, ...] = ()
    admins: frozenset[str] = frozenset()

    def protects(self, user_id: str) -> bool:
        """Tell whether a user is never locked, renamed, demoted or kicked."""
        return (
            user_id == self.service_user_id
            or user_id in self.admins
            or any(fnmatchcase(user_id, pattern) for pattern in self.protected_users)
        )


def plan(pairs: Iterable[Pair], policy: Policy) -> list[Action]:
    """Return the actions that bring observed membership to what is granted, removals first.

    Somebody banned is left banned, and somebody who left (membership `left`) is left out; a pair
    already as it should be yields nothing; an account that does not exist yet is not joined.
    """
    removals: list[Action] = []
    additions: list[Action] = []
    for pair in pairs:
        if pair.membership in ("ban", "left"):
            continue
        if not pair.granted:
            if pair.membership == "leave":
                continue
            if policy.protects(pair.user_id):
                removals.append(Spare(pair))
            else:
                removals.append(Kick(pair, _reason(pair)))
        elif pair.account_ready and pair.membership != "join":
            if not pair.invite:
                additions.append(Join(pair))
            elif pair.membership != "invite":
                additions.append(Invite(pair))
    return removals + additions


def _reason(pair: Pair) -> str:
    if pair.group_name is None:
        return "Not in a group that opens this room"
    return f"Removed from group {pair.group_name}"
