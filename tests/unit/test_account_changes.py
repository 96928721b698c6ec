"""What is to become of an account."""

from dataclasses import replace
from itertools import product

import pytest

from scim_matrix.config import OnDisable
from scim_matrix.matrix.accounts import Change, MatrixAccount
from scim_matrix.store.accounts import Account, ByHand, Disablement, Profile, State, Written
from scim_matrix.sync.account_changes import (
    AccountPolicy,
    disabling,
    display_name,
    done_by,
    enabling,
    is_as_believed,
)

PRESENT = MatrixAccount(
    "@ann:s", display_name="Ann", emails=("ann@x",), subjects=frozenset({"ext-ann"})
)
ANN = Account(
    id=1,
    scim_id="scim-ann",
    user_id="@ann:s",
    proposed=None,
    bound_by="link",
    desired="active",
    profile=Profile("Ann", ("ann@x",), "ext-ann"),
    written=Written(frozenset({"ann@x"}), frozenset({"ext-ann"})),
)
EVERYTHING = Disablement(locked=True, suspended=True, deactivated=True)


def having(**said: object) -> Account:
    """Return Ann with another profile."""
    return replace(ANN, profile=replace(ANN.profile, **said))  # type: ignore[arg-type]


# -- Enabling ------------------------------------------------------------------


def test_an_account_in_line_needs_nothing() -> None:
    """No request for what is so already."""
    needed = enabling(PRESENT, ANN, {})
    assert not needed.is_needed
    assert (needed.by_hand, needed.ours, needed.written) == (None, Disablement(), ANN.written)


@pytest.mark.parametrize(
    ("present", "ours", "undone", "by_hand"),
    [
        (replace(PRESENT, locked=True), Disablement(locked=True), Change(locked=False), None),
        (replace(PRESENT, locked=True), Disablement(), Change(), "locked"),
        (replace(PRESENT, locked=True), Disablement(suspended=True), Change(), "locked"),
        (
            replace(PRESENT, suspended=True),
            Disablement(suspended=True),
            Change(suspended=False),
            None,
        ),
        (replace(PRESENT, suspended=True), Disablement(locked=True), Change(), "suspended"),
        (
            replace(PRESENT, locked=True, suspended=True),
            Disablement(locked=True),
            Change(locked=False),
            "suspended",
        ),
        (
            replace(PRESENT, locked=True, suspended=True),
            Disablement(suspended=True),
            Change(suspended=False),
            "locked",
        ),
        (PRESENT, EVERYTHING, Change(), None),
    ],
)
def test_only_what_the_service_disabled_is_enabled(
    present: MatrixAccount, ours: Disablement, undone: Change, by_hand: ByHand | None
) -> None:
    """What a hand locked or suspended stays so, and is told."""
    needed = enabling(present, replace(ANN, ours=ours), {})
    assert (needed.change, needed.by_hand) == (undone, by_hand)
    # So a hand's later lock is not taken for the service's.
    assert needed.ours == Disablement()


def test_a_reactivated_account_gets_everything_back() -> None:
    """Deactivation took names, e-mails and links: they are written again, the name in any case."""
    gone = replace(PRESENT, deactivated=True, emails=(), subjects=frozenset())
    needed = enabling(gone, replace(ANN, ours=Disablement(deactivated=True)), {})
    expected = Change(
        display_name="Ann", add_emails=("ann@x",), add_subject="ext-ann", deactivated=False
    )
    assert (needed.change, needed.by_hand) == (expected, None)


def test_what_a_hand_deactivated_is_left_as_it_is() -> None:
    """Nothing is written to it; what the service did before is undone once it is there again."""
    gone = replace(PRESENT, display_name=None, deactivated=True, emails=(), locked=True)
    account = replace(ANN, ours=Disablement(locked=True, suspended=True))
    needed = enabling(gone, account, {})
    assert (needed.change, needed.by_hand, needed.is_needed) == (Change(), "deactivated", False)
    # A hand lifted the suspension already.
    assert (needed.ours, needed.written) == (Disablement(locked=True), ANN.written)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (None, None),
        ("Ann", "Ann"),
        ("  Ann ", "Ann"),
        (" ", None),
        ("", None),
        ("x" * 300, "x" * 256),
        ("\u00e4" * 257, "\u00e4" * 256),
    ],
)
def test_a_display_name_is_as_long_as_the_homeserver_takes(
    said: str | None, shown: str | None
) -> None:
    """Cut by characters; one of blanks is none."""
    assert display_name(said) == shown


@pytest.mark.parametrize(
    ("said", "present", "sent"),
    [
        ("Ann", "Ann", None),
        ("Ann", "ann", "Ann"),
        ("Ann", None, "Ann"),
        (None, "Ann", None),
        ("x" * 300, "x" * 256, None),
    ],
)
def test_a_display_name_is_sent_only_where_it_differs(
    said: str | None, present: str | None, sent: str | None
) -> None:
    """Each one sent is an event in every room; without one the account's own stays."""
    needed = enabling(replace(PRESENT, display_name=present), having(display_name=said), {})
    assert needed.change.display_name == sent


def test_emails_are_added_in_order() -> None:
    """The primary one first; those that are there are not sent again."""
    needed = enabling(PRESENT, having(emails=("new@x", "ann@x", "more@x")), {})
    assert needed.change == Change(add_emails=("new@x", "more@x"))
    assert needed.written.emails == {"new@x", "ann@x", "more@x"}


def test_emails_that_are_left_out_are_neither_written_nor_ours() -> None:
    """So they are never taken back from whoever has them."""
    needed = enabling(PRESENT, having(emails=("ann@x", "bobs@x")), {"bobs@x": "belongs to @bob:s"})
    assert needed.change == Change()
    assert needed.written.emails == {"ann@x"}


def test_only_emails_that_the_service_wrote_are_dropped() -> None:
    """Those that people added themselves stay."""
    present = replace(PRESENT, emails=("ann@x", "old@x", "own@x"))
    account = replace(
        having(emails=("ann@x",)),
        written=Written(frozenset({"ann@x", "old@x", "gone@x"}), ANN.written.subjects),
    )
    needed = enabling(present, account, {})
    assert needed.change == Change(drop_emails=("old@x",))
    assert needed.written.emails == {"ann@x"}


def test_an_email_that_is_left_out_now_is_not_dropped() -> None:
    """It is still the user's; whether it is written is another question."""
    present = replace(PRESENT, emails=("ann@x",))
    needed = enabling(present, ANN, {"ann@x": "belongs to @bob:s"})
    assert needed.change == Change()


def test_a_new_subject_takes_the_place_of_the_one_that_the_service_wrote() -> None:
    """Links that others made stay."""
    present = replace(PRESENT, subjects=frozenset({"ext-ann", "by-hand"}))
    needed = enabling(present, having(subject="new"), {})
    assert needed.change == Change(add_subject="new", drop_subjects=("ext-ann",))
    assert needed.written.subjects == {"new"}


def test_a_stale_subject_goes_also_where_the_new_one_is_there() -> None:
    """As after an answer that was lost half way."""
    present = replace(PRESENT, subjects=frozenset({"ext-ann", "new"}))
    needed = enabling(present, having(subject="new"), {})
    assert needed.change == Change(drop_subjects=("ext-ann",))


def test_a_user_who_lost_the_subject_keeps_no_link() -> None:
    """The link that the service wrote goes, and the mark takes its place."""
    needed = enabling(PRESENT, having(subject=None), {})
    assert needed.change == Change(drop_subjects=("ext-ann",), add_mark="scim-ann")
    assert needed.written.subjects == frozenset()


@pytest.mark.parametrize(
    ("account", "marks", "added"),
    [
        (having(subject=None), frozenset[str](), "scim-ann"),
        (having(subject=None), frozenset({"scim-ann"}), None),
        (having(subject=None), frozenset({"scim-bob"}), "scim-ann"),
        (ANN, frozenset[str](), None),
        (replace(having(subject=None), scim_id=None), frozenset[str](), None),
    ],
)
def test_only_who_has_no_subject_needs_a_mark(
    account: Account, marks: frozenset[str], added: str | None
) -> None:
    """A user with an SSO identity is known again by that."""
    present = replace(PRESENT, subjects=frozenset(), marks=marks)
    assert enabling(present, account, {}).change.add_mark == added


@pytest.mark.parametrize(
    ("account", "dropped"),
    [
        (replace(ANN, bound_by="human"), ("scim-bob",)),
        (replace(ANN, bound_by="human", scim_id=None), ("scim-ann", "scim-bob")),
        (ANN, ()),
    ],
)
def test_only_a_human_overrules_the_mark_of_another_user(
    account: Account, dropped: tuple[str, ...]
) -> None:
    """Whom a human linked it to has it; else a mark proves whose it is."""
    present = replace(PRESENT, marks=frozenset({"scim-bob", "scim-ann"}))
    assert enabling(present, account, {}).change == Change(drop_marks=dropped)


# -- Disabling -----------------------------------------------------------------

LOCKED = replace(PRESENT, locked=True)
SUSPENDED = replace(PRESENT, suspended=True)
DEACTIVATED = replace(PRESENT, deactivated=True)
ERASED = replace(PRESENT, deactivated=True, erased=True)
LOCK, SUSPEND, DEACTIVATE = Change(locked=True), Change(suspended=True), Change(deactivated=True)
ERASE = Change(deactivated=True, erase=True)


@pytest.mark.parametrize(
    ("how", "present", "expected"),
    [
        ("lock", PRESENT, LOCK),
        ("lock", LOCKED, None),
        ("lock", SUSPENDED, LOCK),
        ("lock", DEACTIVATED, None),
        ("suspend", PRESENT, SUSPEND),
        ("suspend", LOCKED, SUSPEND),
        ("suspend", SUSPENDED, None),
        ("suspend", DEACTIVATED, None),
        ("deactivate", PRESENT, DEACTIVATE),
        ("deactivate", LOCKED, DEACTIVATE),
        ("deactivate", SUSPENDED, DEACTIVATE),
        ("deactivate", DEACTIVATED, None),
        ("deactivate", ERASED, None),
        ("erase", PRESENT, ERASE),
        ("erase", LOCKED, ERASE),
        ("erase", DEACTIVATED, ERASE),
        ("erase", ERASED, None),
        # Whose reactivation left behind that they were erased.
        ("erase", replace(ERASED, deactivated=False), ERASE),
        ("nothing", PRESENT, None),
        ("nothing", LOCKED, None),
        ("nothing", DEACTIVATED, None),
    ],
)
def test_each_way_of_disabling(
    how: OnDisable, present: MatrixAccount, expected: Change | None
) -> None:
    """Nothing is sent where it is so already; what was deactivated before can still be erased."""
    assert disabling(present, how) == expected


@pytest.mark.parametrize(
    ("how", "present", "expected"),
    [
        ("suspend", PRESENT, Change(suspended=True, locked=True)),
        ("suspend", SUSPENDED, Change(suspended=True, locked=True)),
        ("suspend", LOCKED, SUSPEND),
        ("suspend", replace(LOCKED, suspended=True), None),
        ("suspend", DEACTIVATED, None),
        ("deactivate", PRESENT, DEACTIVATE),
    ],
)
def test_a_deleted_user_who_was_not_locked_in_time_is_locked_besides(
    how: OnDisable, present: MatrixAccount, expected: Change | None
) -> None:
    """A suspended account would stay signed in; a deactivated one needs no lock."""
    assert disabling(present, how, locks=True) == expected


@pytest.mark.parametrize(
    ("change", "ours", "present", "expected"),
    [
        (LOCK, Disablement(), PRESENT, Disablement(locked=True)),
        (SUSPEND, Disablement(), PRESENT, Disablement(suspended=True)),
        (DEACTIVATE, Disablement(), PRESENT, Disablement(deactivated=True)),
        (ERASE, Disablement(), PRESENT, Disablement(deactivated=True)),
        # Locked at DELETE, deactivated when the grace period had passed.
        (
            DEACTIVATE,
            Disablement(locked=True),
            LOCKED,
            Disablement(locked=True, deactivated=True),
        ),
        # What a hand did is not ours, whatever is done to the account besides.
        (DEACTIVATE, Disablement(), LOCKED, Disablement(deactivated=True)),
        (Change(), Disablement(), LOCKED, Disablement()),
        (Change(), Disablement(locked=True), LOCKED, Disablement(locked=True)),
        # What a hand undid is ours no more.
        (Change(), EVERYTHING, PRESENT, Disablement()),
        (LOCK, EVERYTHING, PRESENT, Disablement(locked=True)),
        (Change(display_name="A"), Disablement(locked=True), LOCKED, Disablement(locked=True)),
        # Deactivated by the service before it was erased, so still ours.
        (ERASE, Disablement(deactivated=True), DEACTIVATED, Disablement(deactivated=True)),
    ],
)
def test_what_is_the_services_doing(
    change: Change, ours: Disablement, present: MatrixAccount, expected: Disablement
) -> None:
    """What it does now, and what it did and is so still."""
    assert done_by(change, ours, present) == expected


def test_what_is_being_enabled_is_the_services_doing_until_that_is_known() -> None:
    """The answer may be lost: then it is enabled once more."""
    for change, present, ours in (
        (Change(locked=False), LOCKED, Disablement(locked=True)),
        (Change(suspended=False), SUSPENDED, Disablement(suspended=True)),
        (Change(deactivated=False), DEACTIVATED, Disablement(deactivated=True)),
    ):
        assert done_by(change, ours, present) == ours


# -- Comparing -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("present", "by_hand", "expected"),
    [
        (PRESENT, None, True),
        (LOCKED, None, False),
        (DEACTIVATED, None, False),
        (LOCKED, "locked", True),
        (PRESENT, "locked", False),
        (DEACTIVATED, "deactivated", True),
        (replace(DEACTIVATED, locked=True), "deactivated", True),
        (PRESENT, "deactivated", False),
        (DEACTIVATED, "locked", False),
        # Lists do not tell who is suspended.
        (SUSPENDED, None, True),
        (PRESENT, "suspended", True),
        (replace(PRESENT, display_name="Other", emails=(), subjects=frozenset()), None, True),
    ],
)
def test_an_active_account_is_doubted_where_lists_say_otherwise(
    present: MatrixAccount, by_hand: ByHand | None, expected: bool
) -> None:
    """Locked, unlocked or gone since; names people may change, and links lists do not tell."""
    assert is_as_believed(present, active=True, how="lock", by_hand=by_hand) is expected


@pytest.mark.parametrize(
    ("how", "as_believed"),
    [
        ("lock", {"locked", "deactivated", "erased"}),
        ("suspend", {"present", "locked", "deactivated", "erased"}),
        ("deactivate", {"deactivated", "erased"}),
        ("erase", {"erased"}),
        ("nothing", {"present", "locked", "deactivated", "erased"}),
    ],
)
def test_a_disabled_account_is_doubted_where_it_is_not_so(
    how: OnDisable, as_believed: set[str]
) -> None:
    """Unlocked or reactivated by somebody: then it is disabled again."""
    accounts = {
        "present": PRESENT,
        "locked": LOCKED,
        "deactivated": DEACTIVATED,
        "erased": ERASED,
    }
    found = {
        name
        for name, present in accounts.items()
        if is_as_believed(present, active=False, how=how, by_hand=None)
    }
    assert found == as_believed


def test_disabling_leaves_an_account_that_is_believed_to_be_disabled() -> None:
    """Whatever is done to any account, afterwards there is nothing to do and no doubt."""
    ways: tuple[OnDisable, ...] = ("lock", "suspend", "deactivate", "erase", "nothing")
    for how, present in product(ways, (PRESENT, LOCKED, SUSPENDED, DEACTIVATED, ERASED)):
        change = disabling(present, how) or Change()
        after = replace(
            present,
            locked=present.locked if change.locked is None else change.locked,
            suspended=present.suspended if change.suspended is None else change.suspended,
            deactivated=present.deactivated if change.deactivated is None else change.deactivated,
            erased=present.erased or change.erase,
        )
        assert disabling(after, how) is None
        assert is_as_believed(after, active=False, how=how, by_hand=None)


@pytest.mark.parametrize(
    ("desired", "how"), [("disabled", "suspend"), ("deleted", "lock"), ("expired", "erase")]
)
def test_each_state_has_its_own_way_of_disabling(desired: State, how: OnDisable) -> None:
    """ON_DISABLE for the inactive, ON_DELETE once the grace period is over, a lock until then."""
    assert AccountPolicy(False, "suspend", "erase").how(desired) == how


def test_where_nothing_is_done_after_the_grace_period_the_lock_stays() -> None:
    """Also where it could not be put on before."""
    assert AccountPolicy(False, "nothing", "nothing").how("expired") == "lock"
    assert AccountPolicy(False, "nothing", "nothing").how("disabled") == "nothing"


def test_what_is_about_to_be_written_counts_as_written() -> None:
    """The answer may be lost: the link and the addresses are the service's all the same."""
    before = Written(frozenset({"old@x"}), frozenset({"old"}))
    after = before | Written.of(Profile("Ann", ("ann@x",), "ext-ann"))
    assert after == Written(frozenset({"old@x", "ann@x"}), frozenset({"old", "ext-ann"}))
    assert before | Written.of(Profile("Ann", (), None)) == before
