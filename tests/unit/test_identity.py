"""Whose account: the one place where an account is given to anybody."""

from dataclasses import replace

import pytest

from scim_matrix.matrix.accounts import MatrixAccount
from scim_matrix.store.accounts import Account, Profile
from scim_matrix.sync.identity import Bind, Conflict, Evidence, Make, still_whose, whose

ANN = Account(
    id=1,
    scim_id="scim-ann",
    user_id=None,
    proposed="@ann:s",
    bound_by=None,
    desired="active",
    profile=Profile("Ann", (), "ext-ann"),
)
NAMED = MatrixAccount("@ann:s")
NOTHING = Evidence(linked=None, marked=None, named=None)


def test_a_new_account_is_made_where_there_is_none() -> None:
    """Under the name that the template gives."""
    assert whose(ANN, NOTHING, adopt=False) == Make("@ann:s")
    assert whose(ANN, NOTHING, adopt=True) == Make("@ann:s")


@pytest.mark.parametrize("adopt", [False, True])
@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence("@old:s", None, None), Bind("@old:s", "link")),
        (Evidence(None, "@old:s", None), Bind("@old:s", "mark")),
        (Evidence("@old:s", "@other:s", None), Bind("@old:s", "link")),
        (Evidence("@old:s", None, NAMED), Bind("@old:s", "link")),
        (Evidence(None, "@old:s", NAMED), Bind("@old:s", "mark")),
    ],
)
def test_the_sso_identity_leads_then_the_mark(
    evidence: Evidence, expected: Bind, adopt: bool
) -> None:
    """Whatever the account is called, and whoever has the user's name; a link is above a mark."""
    assert whose(ANN, evidence, adopt=adopt) == expected


def test_a_link_to_what_a_human_ruled_out_is_a_conflict() -> None:
    """Whoever unlinked an account is not overruled by the link; the cure names the account."""
    barred = replace(ANN, barred="@old:s")
    for evidence in (Evidence("@old:s", None, None), Evidence(None, "@old:s", None)):
        decision = whose(barred, evidence, adopt=True)
        assert isinstance(decision, Conflict)
        assert "a human said is not theirs" in decision.reason
        assert "scim-matrix users link scim-ann @old:s" in decision.cure
    other = Evidence("@other:s", None, None)
    assert whose(barred, other, adopt=True) == Bind("@other:s", "link")


@pytest.mark.parametrize("adopt", [False, True])
@pytest.mark.parametrize(
    ("named", "why"),
    [
        (replace(NAMED, is_admin=True), "administers the homeserver"),
        (replace(NAMED, deactivated=True), "may be a former person's"),
        (
            replace(NAMED, subjects=frozenset({"else"})),
            "linked to another identity, else; the user's is ext-ann",
        ),
        (replace(NAMED, marks=frozenset({"scim-bob"})), "linked to another identity"),
    ],
)
def test_an_account_of_somebody_else_is_never_taken(
    named: MatrixAccount, why: str, adopt: bool
) -> None:
    """Not even where existing accounts may be adopted."""
    decision = whose(ANN, replace(NOTHING, named=named), adopt=adopt)
    assert isinstance(decision, Conflict)
    assert decision.reason.startswith("@ann:s exists and ")
    assert why in decision.reason
    assert "scim-matrix users link scim-ann @ann:s" in decision.cure


def test_an_account_that_nobody_leads_to_is_taken_only_where_that_is_allowed() -> None:
    """ADOPT_EXISTING_ACCOUNTS lets it be adopted; otherwise it is a conflict with a cure."""
    evidence = replace(NOTHING, named=NAMED)
    assert whose(ANN, evidence, adopt=True) == Bind("@ann:s", "adopted")
    # Somebody signs in to it by another provider: both would have one account.
    elsewhere = replace(NOTHING, named=replace(NAMED, linked_elsewhere=True))
    assert isinstance(whose(ANN, elsewhere, adopt=True), Conflict)
    decision = whose(ANN, evidence, adopt=False)
    assert isinstance(decision, Conflict)
    assert decision.reason == "@ann:s exists and nothing shows that it is theirs"
    assert "scim-matrix users link scim-ann @ann:s" in decision.cure


def test_an_account_that_a_human_ruled_out_is_not_adopted() -> None:
    """It is a conflict, as it would be without adoption."""
    barred = replace(ANN, barred="@ann:s")
    assert isinstance(whose(barred, replace(NOTHING, named=NAMED), adopt=True), Conflict)


def test_locked_and_suspended_accounts_may_be_adopted() -> None:
    """Only deactivation speaks of a former person; what a hand locked stays locked."""
    for named in (replace(NAMED, locked=True), replace(NAMED, suspended=True)):
        evidence = replace(NOTHING, named=named)
        assert whose(ANN, evidence, adopt=True) == Bind("@ann:s", "adopted")


MIGRATED = replace(ANN, user_id="@ann:s", proposed=None, bound_by="migrated")
UNLINKED = replace(MIGRATED, profile=replace(ANN.profile, subject=None))


@pytest.mark.parametrize(
    ("account", "present", "because"),
    [
        (MIGRATED, replace(NAMED, subjects=frozenset({"ext-ann"})), "link"),
        (MIGRATED, replace(NAMED, subjects=frozenset({"ext-ann", "old"})), "link"),
        (MIGRATED, replace(NAMED, marks=frozenset({"scim-ann"})), "mark"),
        (UNLINKED, replace(NAMED, marks=frozenset({"scim-ann"})), "mark"),
        (UNLINKED, NAMED, "record"),
    ],
)
def test_what_an_older_version_took_is_kept_with_proof(
    account: Account, present: MatrixAccount, because: str
) -> None:
    """The link, the mark, or for users without an SSO identity that nobody else's leads there."""
    decision = still_whose(account, present)
    assert isinstance(decision, Bind)
    assert (decision.user_id, decision.because) == ("@ann:s", because)


@pytest.mark.parametrize(
    ("account", "present", "linked_to"),
    [
        (MIGRATED, NAMED, "nobody"),
        (MIGRATED, replace(NAMED, subjects=frozenset({"else"})), "another identity"),
        (MIGRATED, replace(NAMED, linked_elsewhere=True), "another identity"),
        (MIGRATED, replace(NAMED, marks=frozenset({"scim-bob"})), "another identity"),
        (UNLINKED, replace(NAMED, subjects=frozenset({"else"})), "another identity"),
        (UNLINKED, replace(NAMED, marks=frozenset({"scim-bob"})), "another identity"),
        (UNLINKED, replace(NAMED, linked_elsewhere=True), "another identity"),
    ],
)
def test_what_an_older_version_took_without_proof_is_a_conflict(
    account: Account, present: MatrixAccount, linked_to: str
) -> None:
    """It may be a former holder's, and is left alone until a human says whose it is."""
    decision = still_whose(account, present)
    assert isinstance(decision, Conflict)
    assert decision.reason.endswith(f"linked to {linked_to}")
    assert "scim-matrix users link scim-ann @ann:s" in decision.cure


def test_a_deleted_users_account_is_not_theirs_by_anybodys_mark() -> None:
    """Without a SCIM id no mark proves anything."""
    former = replace(MIGRATED, scim_id=None)
    marked = replace(NAMED, marks=frozenset({"scim-ann"}))
    assert isinstance(still_whose(former, marked), Conflict)
