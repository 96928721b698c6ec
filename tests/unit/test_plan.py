"""The plan: from the difference to ordered actions."""

from scim_matrix.pair import Pair
from scim_matrix.sync.plan import Join, Kick, Policy, plan

POLICY = Policy("@bot:s")


def pair(user: str, *, granted: bool, membership: str | None, ready: bool = True) -> Pair:
    """Return a pair in one room."""
    return Pair("!r", f"@{user}:s", granted, membership, "G", account_ready=ready)


def test_the_banned_are_left_banned() -> None:
    """Neither a grant nor its end touches somebody who is banned."""
    banned = [pair("a", granted=True, membership="ban"), pair("b", granted=False, membership="ban")]
    assert plan(banned, POLICY) == []


def test_who_left_is_left_out() -> None:
    """Somebody gone by their own will is neither brought back nor asked to go."""
    gone = [pair("a", granted=True, membership="left"), pair("b", granted=False, membership="left")]
    assert plan(gone, POLICY) == []


def test_removals_come_first() -> None:
    """Who must be out does not wait for those who come in."""
    joins, leaves = (
        pair("in", granted=True, membership=None),
        pair("out", granted=False, membership="join"),
    )
    expected = [Kick(leaves, "Removed from group G"), Join(joins)]
    assert expected == plan([joins, leaves], POLICY)


def test_an_unknown_membership_is_removed_to_be_sure() -> None:
    """A join may have been in flight when the service died."""
    unknown = pair("a", granted=False, membership=None)
    assert [Kick(unknown, "Removed from group G")] == plan([unknown], POLICY)


def test_who_has_no_account_yet_is_not_joined() -> None:
    """A join waits for its account."""
    assert plan([pair("a", granted=True, membership=None, ready=False)], POLICY) == []


def test_the_service_never_removes_itself() -> None:
    """Whatever groups say, the service's own account stays."""
    [action] = plan([Pair("!r", "@bot:s", False, "join", "G")], POLICY)
    assert not isinstance(action, Kick)
