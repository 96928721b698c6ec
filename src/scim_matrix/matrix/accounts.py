"""Matrix accounts in this service's words, whichever system keeps them (an interface, values)."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

# The provider name of our own under which the homeserver keeps whose account it is.
MARK_PROVIDER = "scim-matrix"


# Synapse: handlers/profile.py, MAX_DISPLAYNAME_LEN (characters); util/threepids.py,
# MAX_EMAIL_ADDRESS_LENGTH.
MAX_DISPLAY_NAME = 256
MAX_EMAIL = 500


def takes_display_name(name: str) -> bool:
    """Tell whether an account can have a display name: its length, no NUL (PostgreSQL)."""
    return len(name) <= MAX_DISPLAY_NAME and "\0" not in name


def takes_email(address: str) -> bool:
    """Tell whether an account can have an e-mail address: one @ between two parts, its length."""
    before, _, after = address.partition("@")
    return (
        bool(before.strip() and after.strip())
        and "@" not in after
        and len(address) <= MAX_EMAIL
        and "\0" not in address
    )


@dataclass(frozen=True, slots=True)
class MatrixAccount:
    """An account as its homeserver shows it.

    `subjects` are the SSO identities that lead to it at the identity provider that this service
    is for, `marks` the SCIM ids of the users it was made for, `linked_elsewhere` whether anybody
    else's identity leads to it. `emails` are in lower case.
    """

    user_id: str
    display_name: str | None = None
    emails: tuple[str, ...] = ()
    subjects: frozenset[str] = frozenset()
    marks: frozenset[str] = frozenset()
    linked_elsewhere: bool = False
    is_admin: bool = False
    locked: bool = False
    suspended: bool = False
    deactivated: bool = False
    erased: bool = False

    @property
    def is_linked(self) -> bool:
        """Whether any identity or mark says whose it is."""
        return bool(self.subjects or self.marks or self.linked_elsewhere)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What an account is made with. `emails` are known to be nobody else's."""

    user_id: str
    mark: str
    subject: str | None
    display_name: str | None
    emails: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of an account; whatever is left out stays as it is.

    `drop_subjects` go before `add_subject` is written. Each of `locked`, `suspended` and
    `deactivated` is None where it stays; `erase` goes with `deactivated=True`.
    """

    display_name: str | None = None
    add_emails: tuple[str, ...] = ()
    drop_emails: tuple[str, ...] = ()
    add_subject: str | None = None
    drop_subjects: tuple[str, ...] = ()
    add_mark: str | None = None
    drop_marks: tuple[str, ...] = ()
    locked: bool | None = None
    suspended: bool | None = None
    deactivated: bool | None = None
    erase: bool = False


class Accounts(Protocol):
    """What reconciliation asks of the system that keeps accounts.

    Every method raises what the transport raises (`matrix/errors.py`): UnavailableError where
    nothing is known about the outcome, RefusedError where the answer was no, TokenError, and with
    `dry_run` WithheldError from whatever would change something.
    """

    async def admins(self) -> frozenset[str] | None:
        """Return the user IDs of the server's administrators, None where nobody can say."""

    async def by_subject(self, subject: str) -> str | None:
        """Return the user ID of the account that an SSO identity leads to, None without one."""

    async def by_mark(self, scim_id: str) -> str | None:
        """Return the user ID of the account that was made for a user, None without one."""

    async def by_email(self, address: str) -> str | None:
        """Return the user ID of the account that has an e-mail address, None without one."""

    async def get(self, user_id: str) -> MatrixAccount | None:
        """Return an account, None where there is none of this name."""

    async def get_without_homeserver(self, user_id: str) -> MatrixAccount | None:
        """Return an account as far as it can be told while Synapse is away.

        For what has to be done even then: to lock and to deactivate. Nothing may be concluded
        from its display name, marks, suspension and erasure.
        """

    async def about_to_make(self, user_id: str, mark: str) -> datetime | None:
        """Return since when an account of this name may be one that is made now.

        Whoever asks keeps it until an answer has come, for `asked_before` after a crash. None
        where nobody can say.
        """

    def asked_before(self, user_id: str, mark: str, since: datetime) -> None:
        """Say that an account was asked for, `since` when, and that no answer is known."""

    async def create(self, new: NewAccount) -> Mapping[str, str]:
        """Make an account, mark and link included, at once where the system allows it.

        Returns the e-mail addresses that it does not have all the same, and why. Raises
        NameTakenError where somebody has the name.
        """

    async def change(self, present: MatrixAccount, change: Change) -> Mapping[str, str]:
        """Change an account that is as `present` says, others' links and e-mails kept.

        Returns the e-mail addresses that it does not have all the same, and why.
        """

    def listed(self) -> AsyncIterator[tuple[MatrixAccount, ...]]:
        """Yield every account of the server in pages, as far as lists tell (no links, e-mails)."""
