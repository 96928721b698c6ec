"""What a request without an answer lets through, and how long something is in doubt."""

from dataclasses import replace
from typing import Literal, get_args

import pytest

from scim_matrix.store.accounts import (
    Account,
    Confirmation,
    Disablement,
    Disabling,
    Profile,
    Written,
)
from scim_matrix.sync.unanswered import is_let_through, still, unless_late

HOWS: tuple[Disabling, ...] = get_args(Disabling)
ANN = Account(
    id=1,
    scim_id="scim-ann",
    user_id="@ann:s",
    proposed=None,
    bound_by="link",
    desired="disabled",
    profile=Profile("Ann", (), "ann"),
)
# What a human let be done, and what that lets be done.
LETS: dict[Disabling | None, set[Disabling]] = {
    None: set(),
    "lock": {"lock", "suspend"},
    "suspend": {"lock", "suspend"},
    "deactivate": {"lock", "suspend", "deactivate"},
    "erase": set(HOWS),
}


@pytest.mark.parametrize("sent", LETS)
@pytest.mark.parametrize("known_by", ["doing", "unsure_of"])
def test_nothing_more_is_let_through_than_was_sent(
    sent: Disabling | None, known_by: Literal["doing", "unsure_of"]
) -> None:
    """Whether it is under way or had no answer; nothing where nothing was sent."""
    account = replace(ANN, doing=sent) if known_by == "doing" else replace(ANN, unsure_of=sent)
    assert {how for how in HOWS if is_let_through(account, how)} == LETS[sent]


@pytest.mark.parametrize(("until", "left"), [(None, None), (100.0, None), (100.5, 100.5)])
def test_what_is_over_is_in_doubt_no_more(until: float | None, left: float | None) -> None:
    """By 100 seconds after the epoch."""
    assert still(until, 100.0) == left


def test_what_may_come_late_is_the_services_own() -> None:
    """Until then what it did, wrote and was let do is known beside what is seen."""
    seen = Confirmation(Disablement(locked=True), Written(subjects=frozenset({"new"})))
    account = replace(
        ANN,
        ours=Disablement(suspended=True),
        written=Written(subjects=frozenset({"old"})),
        unsure_of="suspend",
    )
    assert unless_late(account, seen, None) == seen
    late = unless_late(account, seen, 100.0)
    assert late.ours == Disablement(locked=True, suspended=True)
    assert late.written.subjects == {"new", "old"}
    assert (late.unsure_until, late.unsure_of) == (100.0, "suspend")
    assert unless_late(account, seen, 100.0, "lock").unsure_of == "lock"
