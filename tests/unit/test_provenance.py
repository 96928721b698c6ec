"""Which steps from the map to a room are followed: each decision is a sentence with its cure."""

from typing import Any

import pytest

from scim_matrix.sync.authority import Verdict
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.provenance import Edge, alias_moved, appeared, child, upgraded

ADMINS = Policy("@bot:s", protected_users=("@vip:s",), admins=frozenset({"@admin:s"}))
UNKNOWN = Policy("@bot:s", admins=None)
MAY = Verdict(True, "@mod:s has the power in the room to do this by hand.")
MAY_NOT = Verdict(False, "@mod:s is not in the room.", "Let @mod:s join the room.")


# -- An alias that appears -----------------------------------------------------


@pytest.mark.parametrize("creator", ["@bot:s", "@admin:s"])
@pytest.mark.parametrize("canonical", [{"alias": "#a:s"}, {"alt_aliases": ["#b:s", "#a:s"]}])
def test_a_room_made_by_an_administrator_is_followed(
    creator: str, canonical: dict[str, Any]
) -> None:
    """Or by the service itself: they could have named it in the map."""
    verdict = appeared("#a:s", "!r", creator, canonical, ADMINS)
    assert verdict == Verdict(True, f"{creator}, who made !r, administers the homeserver.")


@pytest.mark.parametrize("creator", ["@bot:s", "@admin:s"])
@pytest.mark.parametrize("canonical", [{}, {"alias": "#b:s", "alt_aliases": None}])
def test_an_administrators_room_does_not_take_any_alias(
    creator: str, canonical: dict[str, Any]
) -> None:
    """Any member may point one at it, and bring a group's people into a room of another."""
    assert not appeared("#a:s", "!r", creator, canonical, ADMINS).followed


@pytest.mark.parametrize(
    ("creator", "users"),
    [("@eve:s", ADMINS), ("@vip:s", ADMINS), ("@admin:s", UNKNOWN), (None, ADMINS)],
)
def test_a_room_made_by_anybody_else_waits_for_a_human(creator: str | None, users: Policy) -> None:
    """So nobody gets a group's people by taking an alias first; it is shown who made the room."""
    verdict = appeared("#a:s", "!r", creator, {"alias": "#a:s"}, users)
    assert not verdict.followed
    assert (creator or "somebody whom this homeserver does not know") in verdict.reason
    assert "#a:s" in verdict.reason
    assert "!r" in verdict.reason
    assert verdict.cure.endswith("scim-matrix approve '#a:s'")


# -- An alias that moves -------------------------------------------------------


@pytest.mark.parametrize(
    "canonical",
    [
        {"alias": "#a:s"},
        {"alt_aliases": ["#b:s", "#a:s"]},
        {"alias": "#b:s", "alt_aliases": ["#a:s"]},
    ],
)
def test_an_alias_that_moved_is_followed_where_the_room_says_so(canonical: dict[str, Any]) -> None:
    """As its canonical alias or one of its others."""
    verdict = alias_moved("#a:s", "!old", "!new", canonical)
    assert verdict == Verdict(True, "!new itself says that #a:s is its alias.")


@pytest.mark.parametrize(
    "canonical",
    [
        {},
        {"alias": "#b:s", "alt_aliases": ["#c:s"]},
        {"alias": None, "alt_aliases": None},
        {"alias": ["#a:s"], "alt_aliases": "x#a:sx"},
        {"alt_aliases": {"#a:s": 1}},
        {"alt_aliases": [["#a:s"], 7]},
    ],
)
def test_an_alias_that_was_taken_is_not_followed(canonical: dict[str, Any]) -> None:
    """Whoever may point an alias elsewhere need have no say there; the pinned room is kept."""
    verdict = alias_moved("#a:s", "!old", "!new", canonical)
    assert not verdict.followed
    assert verdict.reason == (
        "#a:s leads to !new, which does not say that it is its alias; !old is kept."
    )
    assert "add #a:s to its addresses" in verdict.cure
    assert "name !new in the map" in verdict.cure


# -- An upgrade ----------------------------------------------------------------


def test_an_upgrade_is_followed_where_the_new_room_names_the_old_one() -> None:
    """Only who may upgrade a room can make such a one with its people."""
    verdict = upgraded("!old", "!new", {"predecessor": {"room_id": "!old", "event_id": "$e"}})
    assert verdict == Verdict(True, "!new names !old as its predecessor.")


@pytest.mark.parametrize(
    ("creation", "why"),
    [
        (None, "which this homeserver does not know"),
        ({}, "which does not name it as its predecessor"),
        ({"predecessor": None}, "which does not name it as its predecessor"),
        ({"predecessor": "!old"}, "which does not name it as its predecessor"),
        ({"predecessor": ["!old"]}, "which does not name it as its predecessor"),
        ({"predecessor": {"room_id": "!other"}}, "which does not name it as its predecessor"),
    ],
)
def test_a_tombstone_alone_leads_nowhere(creation: dict[str, Any] | None, why: str) -> None:
    """The old room is kept, and it is shown why."""
    verdict = upgraded("!old", "!new", creation)
    assert not verdict.followed
    assert why in verdict.reason
    assert verdict.reason.endswith("!old is kept.")
    assert "Name !new in the map" in verdict.cure


# -- A space's child -----------------------------------------------------------


def edge(sender: str = "@mod:s", own: Verdict = MAY_NOT, *parents: Verdict) -> Edge:
    """Return what is known of a room in a space."""
    return Edge("!space", "!child", sender, own, parents)


@pytest.mark.parametrize("sender", ["@bot:s", "@admin:s"])
def test_what_an_administrator_puts_into_a_space_is_followed(sender: str) -> None:
    """Whatever they may do in the room."""
    verdict = child(edge(sender), ADMINS)
    assert verdict.followed
    assert verdict.reason.startswith(sender)


def test_who_could_do_it_alone_is_followed() -> None:
    """With the sentence that says why."""
    assert child(edge("@mod:s", MAY), ADMINS) == MAY
    assert child(edge("@mod:s", MAY), UNKNOWN) == MAY


def test_a_room_that_names_the_space_as_its_parent_is_followed() -> None:
    """Where one of those who said so could do it alone."""
    other = Verdict(True, "@owner:s has the power in the room to do this by hand.")
    assert child(edge("@mod:s", MAY_NOT, MAY_NOT, other), ADMINS) == other
    assert not child(edge("@mod:s", MAY_NOT, MAY_NOT), ADMINS).followed


@pytest.mark.parametrize(
    ("sender", "users"), [("@mod:s", ADMINS), ("@vip:s", ADMINS), ("@admin:s", UNKNOWN)]
)
def test_who_could_not_do_it_alone_is_not_followed(sender: str, users: Policy) -> None:
    """Moderating a space gives no power over rooms of others."""
    verdict = child(edge(sender), users)
    assert not verdict.followed
    assert verdict.reason.startswith(f"{sender} put !child into the space !space")
    assert MAY_NOT.reason in verdict.reason
    assert verdict.cure.startswith(MAY_NOT.cure)
