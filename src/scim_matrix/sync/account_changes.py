"""What is to become of one account: from how it is and should be to a change (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass

from scim_matrix.config import OnDisable, Settings
from scim_matrix.matrix.accounts import Change, MatrixAccount
from scim_matrix.store.accounts import Account, ByHand, Disablement, State, Written

# Synapse: MAX_DISPLAYNAME_LEN, in characters (handlers/profile.py).
MAX_DISPLAY_NAME = 256


@dataclass(frozen=True, slots=True)
class AccountPolicy:
    """How accounts are treated."""

    adopt_existing: bool
    on_disable: OnDisable
    on_delete: OnDisable

    @classmethod
    def of(cls, settings: Settings) -> "AccountPolicy":
        """Return what the settings say."""
        return cls(settings.adopt_existing_accounts, settings.on_disable, settings.on_delete)

    def how(self, desired: State) -> OnDisable:
        """Return what is done to an account that is not active.

        A deleted user's is locked at once; what is done for good waits for the grace period, and
        where that is nothing the lock is there to stay.
        """
        if desired == "deleted" or (desired == "expired" and self.on_delete == "nothing"):
            return "lock"
        return self.on_delete if desired == "expired" else self.on_disable


@dataclass(frozen=True, slots=True)
class Enabling:
    """How an account becomes an active user's.

    `by_hand` is what a hand did to it, which stays; `ours` what remains of what the service did.
    """

    change: Change
    by_hand: ByHand | None
    ours: Disablement
    written: Written

    @property
    def is_needed(self) -> bool:
        """Whether anything differs."""
        return self.change != Change()


def display_name(wanted: str | None) -> str | None:
    """Return a display name as long as the homeserver takes it."""
    return None if wanted is None else wanted.strip()[:MAX_DISPLAY_NAME] or None


def enabling(present: MatrixAccount, account: Account, left_out: Mapping[str, str]) -> Enabling:
    """Return what differs from an active user's account.

    Only what the service itself disabled is enabled. `left_out` are e-mails that are not written.
    An account that a hand deactivated is left as it is.
    """
    profile, ours = account.profile, account.ours
    if present.deactivated and not ours.deactivated:
        kept = done_by(Change(), ours, present)
        return Enabling(Change(), "deactivated", kept, account.written)
    by_hand: ByHand | None = None
    if present.locked and not ours.locked:
        by_hand = "locked"
    elif present.suspended and not ours.suspended:
        by_hand = "suspended"
    name = display_name(profile.display_name)
    emails = [e for e in profile.emails if e not in left_out]
    subject = profile.subject
    change = Change(
        display_name=name if name != present.display_name or present.deactivated else None,
        add_emails=tuple(e for e in emails if e not in present.emails),
        drop_emails=tuple(
            sorted((account.written.emails - set(profile.emails)) & set(present.emails))
        ),
        add_subject=subject if subject is not None and subject not in present.subjects else None,
        drop_subjects=tuple(
            sorted(s for s in account.written.subjects & present.subjects if s != subject)
        ),
        add_mark=_mark(present, account),
        drop_marks=_stale_marks(present, account),
        locked=False if present.locked and ours.locked else None,
        suspended=False if present.suspended and ours.suspended else None,
        deactivated=False if present.deactivated else None,
    )
    written = Written(frozenset(emails), frozenset() if subject is None else frozenset({subject}))
    return Enabling(change, by_hand, Disablement(), written)


def _stale_marks(present: MatrixAccount, account: Account) -> tuple[str, ...]:
    """Return marks of other users that a human overruled."""
    if account.bound_by != "human":
        return ()
    return tuple(sorted(present.marks - {account.scim_id or ""}))


def _mark(present: MatrixAccount, account: Account) -> str | None:
    """Return the mark by which a user is recognised whom no SSO identity led here."""
    was_told = account.bound_by in ("adopted", "human")
    if account.scim_id is None or (account.profile.subject is not None and not was_told):
        return None
    return None if account.scim_id in present.marks else account.scim_id


def disabling(present: MatrixAccount, how: OnDisable, *, locks: bool = False) -> Change | None:
    """Return what takes an account from its user, None where it is so or nothing is to be done.

    A deactivated account cannot be locked or suspended, and needs neither. `locks` has one that is
    suspended locked too: its user was deleted, and perhaps that was not done within the grace.
    """
    match how:
        case "lock":
            done = present.locked or present.deactivated
            return None if done else Change(locked=True)
        case "suspend":
            lock = locks and not present.locked
            if present.deactivated or (present.suspended and not lock):
                return None
            return Change(suspended=True, locked=True if lock else None)
        case "deactivate":
            return None if present.deactivated else Change(deactivated=True)
        case "erase":
            done = present.deactivated and present.erased
            return None if done else Change(deactivated=True, erase=True)
        case "nothing":
            return None


def done_by(change: Change, ours: Disablement, present: MatrixAccount) -> Disablement:
    """Return what of an account's state is the service's doing once a change is made."""
    return Disablement(
        locked=bool(change.locked) or (ours.locked and present.locked),
        suspended=bool(change.suspended) or (ours.suspended and present.suspended),
        deactivated=bool(change.deactivated) or (ours.deactivated and present.deactivated),
    )


def is_as_believed(
    present: MatrixAccount, *, active: bool, how: OnDisable, by_hand: ByHand | None
) -> bool:
    """Tell whether an account that was in line still is, as far as a list of accounts tells.

    Lists tell neither links nor e-mails nor who is suspended; display names people may change.
    """
    if active:
        expected = (by_hand == "deactivated", by_hand == "locked")
        return (present.deactivated, present.locked) == expected or (
            by_hand == "deactivated" and present.deactivated
        )
    return how == "suspend" or disabling(present, how) is None
