"""The plan: from the difference between desired and observed to ordered actions (pure)."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from scim_matrix.membership import Membership


@dataclass(frozen=True, slots=True)
class Join:
    """Bring an account into a room."""

    pair: Membership


@dataclass(frozen=True, slots=True)
class Invite:
    """Invite an account to a room, once."""

    pair: Membership


@dataclass(frozen=True, slots=True)
class Kick:
    """Take an account out of a room, or take its invitation back."""

    pair: Membership
    reason: str


@dataclass(frozen=True, slots=True)
class Spare:
    """Leave an account in a room that it should leave, for a reason that may go."""

    pair: Membership
    reason: str


Action = Join | Invite | Kick | Spare

_UNKNOWN_ADMINS = (
    "who administers the homeserver is not known (accounts belong to MAS): set MAS_URL and what"
    " goes with it, or PROTECTED_USERS"
)
_MAS_AWAY = "who administers the homeserver is not known while MAS does not answer"


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is never touched: the service's own account and glob patterns of user IDs.

    `admins` are the homeserver's administrators, None where nobody can say who they are;
    `asks_mas` tells that MAS can, once it answers.
    """

    service_user_id: str
    protected_users: tuple[str, ...] = ()
    admins: frozenset[str] | None = frozenset()
    asks_mas: bool = False

    @property
    def everybody_stays(self) -> bool:
        """Whether everybody is protected: nobody can say who the administrators are."""
        return self.admins is None and (self.asks_mas or not self.protected_users)

    def protection(self, user_id: str) -> str | None:
        """Return why a user is never locked, renamed, demoted or kicked; None where they may be.

        Where the administrators are not known, and nobody named anybody, everybody is protected.
        """
        if user_id == self.service_user_id:
            return f"{user_id} is the service's own account"
        if any(fnmatchcase(user_id, pattern) for pattern in self.protected_users):
            return f"{user_id} is protected by PROTECTED_USERS"
        if self.everybody_stays:
            return _MAS_AWAY if self.asks_mas else _UNKNOWN_ADMINS
        if user_id in (self.admins or ()):
            return f"{user_id} administers the homeserver"
        return None

    def protects(self, user_id: str) -> bool:
        """Tell whether a user is never locked, renamed, demoted or kicked."""
        return self.protection(user_id) is not None

    def trusts(self, user_id: str) -> bool:
        """Tell whether a user has the same say as the service: administers the homeserver."""
        return user_id == self.service_user_id or user_id in (self.admins or ())


def plan(pairs: Iterable[Membership], policy: Policy) -> list[Action]:
    """Return the actions that bring memberships to what they should be, removals first."""
    removals: list[Action] = []
    additions: list[Action] = []
    for pair in pairs:
        match pair.todo:
            case "leave":
                reason = policy.protection(pair.user_id)
                removals.append(
                    Kick(pair, _reason(pair)) if reason is None else Spare(pair, reason)
                )
            case "join":
                additions.append(Join(pair))
            case "invite":
                additions.append(Invite(pair))
            case None:
                pass
    return removals + additions


def _reason(pair: Membership) -> str:
    if pair.group_name is None or pair.state == "excluded":
        return "Not in a group that opens this room"
    return f"Removed from group {pair.group_name}"
