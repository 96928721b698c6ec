"""The plan: from the difference to ordered actions."""

from dataclasses import replace

import pytest

from scim_matrix.membership import Membership, Observed, State, Todo
from scim_matrix.sync.plan import Invite, Join, Kick, Policy, Spare, plan

POLICY = Policy("@bot:s")


def pair(
    user: str, todo: Todo | None, state: State = "revoked", observed: Observed | None = "join"
) -> Membership:
    """Return a membership of one room."""
    return Membership("!r", 1, f"@{user}:s", state, todo, observed, "G")


def test_where_nothing_is_left_to_do_nothing_is_done() -> None:
    """Neither for the banned nor for those who left by themselves."""
    done = [
        pair("a", None, "granted", "ban"),
        pair("b", None, observed="ban"),
        pair("c", None, "granted", "leave"),
    ]
    assert plan(done, POLICY) == []


def test_removals_come_first() -> None:
    """Who must be out does not wait for those who come in, and the order stays apart from that."""
    joins = pair("in", "join", "granted", None)
    invites = pair("asked", "invite", "granted", None)
    leaves, also = pair("out", "leave"), pair("off", "leave")
    expected = [
        Kick(leaves, "Removed from group G"),
        Kick(also, "Removed from group G"),
        Join(joins),
        Invite(invites),
    ]
    assert expected == plan([joins, leaves, invites, also], POLICY)


def test_an_unknown_membership_is_removed_to_be_sure() -> None:
    """A join may have been in flight when the service died."""
    unknown = pair("a", "leave", observed=None)
    assert [Kick(unknown, "Removed from group G")] == plan([unknown], POLICY)


def test_the_service_never_removes_itself() -> None:
    """Whatever groups say, the service's own account stays."""
    itself = pair("bot", "leave")
    assert [Spare(itself, "@bot:s is the service's own account")] == plan([itself], POLICY)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (
            Policy("@bot:s", protected_users=("@x*:s", "@an?:s")),
            "@ann:s is protected by PROTECTED_USERS",
        ),
        (Policy("@bot:s", admins=frozenset({"@ann:s"})), "@ann:s administers the homeserver"),
        (
            Policy("@bot:s", admins=None),
            "who administers the homeserver is not known (accounts belong to MAS):"
            " set MAS_URL and what goes with it, or PROTECTED_USERS",
        ),
        (
            Policy("@bot:s", protected_users=("@bob:s",), admins=None, asks_mas=True),
            "who administers the homeserver is not known while MAS does not answer",
        ),
        (Policy("@bot:s"), None),
        (Policy("@bot:s", protected_users=("@bob:s",), admins=None), None),
        (Policy("@bot:s", protected_users=("@ANN:s",)), None),
    ],
)
def test_who_is_spared_and_why(policy: Policy, reason: str | None) -> None:
    """Protected users and administrators, and everybody while nobody can say who those are.

    Unless the administrator named whom to protect: then the rest may be removed.
    """
    ann = pair("ann", "leave")
    expected = Kick(ann, "Removed from group G") if reason is None else Spare(ann, reason)
    assert [expected] == plan([ann], policy)
    assert policy.protects("@ann:s") is (reason is not None)


@pytest.mark.parametrize("state", ["revoked", "pruned", "excluded"])
def test_protection_spares_from_every_removal(state: State) -> None:
    """Whoever asked for it."""
    [action] = plan([pair("ann", "leave", state)], Policy("@bot:s", ("@ann:s",)))
    assert isinstance(action, Spare)


def test_protection_keeps_nobody_out() -> None:
    """Protected users are joined as others are."""
    ann = pair("ann", "join", "granted", None)
    assert [Join(ann)] == plan([ann], Policy("@bot:s", ("@ann:s",)))


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        (pair("a", "leave"), "Removed from group G"),
        (pair("a", "leave", "pruned"), "Removed from group G"),
        (pair("a", "leave", "excluded"), "Not in a group that opens this room"),
        (replace(pair("a", "leave"), group_name=None), "Not in a group that opens this room"),
    ],
)
def test_the_reason_that_people_read(left: Membership, reason: str) -> None:
    """The group that they lost, or that they are in none."""
    assert [Kick(left, reason)] == plan([left], POLICY)


@pytest.mark.parametrize(
    ("admins", "trusted"),
    [(frozenset({"@ann:s"}), True), (frozenset(), False), (None, False)],
)
def test_only_who_is_known_to_administer_is_trusted(
    admins: frozenset[str] | None, trusted: bool
) -> None:
    """Not knowing who administers protects everybody and trusts nobody; patterns trust nobody."""
    policy = Policy("@bot:s", protected_users=("@ann:s",), admins=admins)
    assert policy.trusts("@ann:s") is trusted
    assert policy.trusts("@bot:s")
