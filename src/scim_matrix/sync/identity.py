"""Whose account: decide which Matrix account is a user's (pure; docs/states.md, Account).

The one place where an account is given to anybody. In this order: the account that the user's
SSO identity leads to; the one that carries the user's mark, which proves that it was made for
them; one that is made anew. Whatever else has the name is somebody else's.
"""

from dataclasses import dataclass

from scim_matrix.matrix.accounts import MatrixAccount
from scim_matrix.store.accounts import Account, BoundBy


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the homeserver says: whom the SSO identity and the mark lead to, and who has the name.

    `named` is the account of the user ID that a new one would get.
    """

    linked: str | None
    marked: str | None
    named: MatrixAccount | None


@dataclass(frozen=True, slots=True)
class Bind:
    """An account is this user's, because of a link, its mark, or that it may be adopted."""

    user_id: str
    because: BoundBy


@dataclass(frozen=True, slots=True)
class Make:
    """There is none: make one."""

    user_id: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The account is somebody else's, as far as anybody can tell; it is left alone."""

    reason: str
    cure: str


def whose(account: Account, evidence: Evidence, *, adopt: bool) -> Bind | Make | Conflict:
    """Decide which account is a user's who has none yet.

    `adopt` lets an account be taken that nobody's identity leads to (ADOPT_EXISTING_ACCOUNTS);
    never an administrator's, and never one that was deactivated: it may be a former person's.
    """
    found = evidence.linked or evidence.marked
    if found is not None:
        if found == account.barred:
            return Conflict(
                f"the user's SSO identity leads to {found}, which a human said is not theirs",
                f"take that link off {found}, or: {_link(account, found)}",
            )
        return Bind(found, "link" if evidence.linked is not None else "mark")
    assert account.proposed is not None
    named = evidence.named
    if named is None:
        return Make(account.proposed)
    obstacle = _obstacle(named, account.profile.subject)
    if obstacle is None and adopt and named.user_id != account.barred:
        return Bind(named.user_id, "adopted")
    reason = obstacle or "nothing shows that it is theirs"
    return Conflict(
        f"{named.user_id} exists and {reason}",
        f"if it is theirs: {_link(account, named.user_id)}; if not, give the user another"
        " user name or set LOCALPART_TEMPLATE",
    )


def still_whose(account: Account, present: MatrixAccount) -> Bind | Conflict:
    """Decide whether an account that an older version took is its user's."""
    subject = account.profile.subject
    if subject is not None and subject in present.subjects:
        return Bind(present.user_id, "link")
    if account.scim_id in present.marks:
        return Bind(present.user_id, "mark")
    if subject is None and not present.is_linked:
        return Bind(present.user_id, "record")
    other = "another identity" if present.is_linked else "nobody"
    return Conflict(
        f"an older version took {present.user_id} for this user's, and it is linked to {other}",
        f"if it is theirs: {_link(account, present.user_id)}",
    )


def _obstacle(named: MatrixAccount, subject: str | None) -> str | None:
    if named.is_admin:
        return "administers the homeserver"
    if named.deactivated:
        return "is deactivated: it may be a former person's"
    if named.subjects:
        # Both are shown: where the attribute is not the subject, this is how everybody looks.
        theirs = subject or "not known"
        return f"is linked to another identity, {min(named.subjects)}; the user's is {theirs}"
    if named.is_linked:
        return "is linked to another identity"
    return None


def _link(account: Account, user_id: str) -> str:
    return f"scim-matrix users link {account.scim_id} {user_id}"
