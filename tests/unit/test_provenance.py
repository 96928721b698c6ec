"""Which steps from the map to a room are followed: each decision is a sentence with its cure."""

from typing import Any

import pytest

from scim_matrix.sync.authority import Verdict
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.provenance import (
    Claim,
    Edge,
    Step,
    alias_moved,
    appeared,
    beyond,
    child,
    upgraded,
)

ADMINS = Policy("@bot:s", protected_users=("@vip:s",), admins=frozenset({"@admin:s"}))
UNKNOWN = Policy("@bot:s", admins=None)
MAY = Verdict(True, "@mod:s has the power in the room to do this by hand.")
MAY_NOT = Verdict(False, "@mod:s is not in the room.", "Let @mod:s join the room.")


def says(content: dict[str, Any], own: Verdict = MAY) -> Claim:
    """Return what a room says of its aliases, and what whoever said so may do there."""
    return Claim(content, "@mod:s", own)


# -- An alias that appears -----------------------------------------------------


@pytest.mark.parametrize("creator", ["@bot:s", "@admin:s"])
@pytest.mark.parametrize("canonical", [{"alias": "#a:s"}, {"alt_aliases": ["#b:s", "#a:s"]}])
def test_a_room_made_by_an_administrator_is_followed(
    creator: str, canonical: dict[str, Any]
) -> None:
    """Or by the service itself: they could have named it in the map."""
    verdict = appeared("#a:s", "!r", creator, says(canonical), ADMINS)
    assert verdict == Verdict(True, f"{creator}, who made !r, administers the homeserver.")


@pytest.mark.parametrize("creator", ["@bot:s", "@admin:s"])
@pytest.mark.parametrize("canonical", [{}, {"alias": "#b:s", "alt_aliases": None}])
def test_an_administrators_room_does_not_take_any_alias(
    creator: str, canonical: dict[str, Any]
) -> None:
    """Any member may point one at it, and bring a group's people into a room of another."""
    assert not appeared("#a:s", "!r", creator, says(canonical), ADMINS).followed


@pytest.mark.parametrize(
    ("creator", "users"),
    [("@eve:s", ADMINS), ("@vip:s", ADMINS), ("@admin:s", UNKNOWN), (None, ADMINS)],
)
def test_a_room_made_by_anybody_else_waits_for_a_human(creator: str | None, users: Policy) -> None:
    """So nobody gets a group's people by taking an alias first; it is shown who made the room."""
    verdict = appeared("#a:s", "!r", creator, says({"alias": "#a:s"}), users)
    assert not verdict.followed
    assert (creator or "somebody whom this homeserver does not know") in verdict.reason
    assert "#a:s" in verdict.reason
    assert "!r" in verdict.reason
    assert verdict.cure.endswith("scim-matrix approve '#a:s'")


@pytest.mark.parametrize("claim", [None, says({"alias": "#a:s"}, MAY_NOT)])
def test_an_administrators_room_does_not_take_an_alias_on_anybodys_word(
    claim: Claim | None,
) -> None:
    """Whoever may send the event need have no say over who is in the room."""
    assert not appeared("#a:s", "!r", "@admin:s", claim, ADMINS).followed


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
    verdict = alias_moved("#a:s", "!old", "!new", says(canonical))
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
    verdict = alias_moved("#a:s", "!old", "!new", says(canonical))
    assert not verdict.followed
    assert verdict.reason == (
        "#a:s leads to !new, which does not say that it is its alias; !old is kept."
    )
    assert "add #a:s to its addresses" in verdict.cure
    assert "name !new in the map" in verdict.cure


def test_an_alias_is_not_followed_on_the_word_of_somebody_without_a_say() -> None:
    """What was said by somebody who has left, or never had the power, is not the room's word."""
    verdict = alias_moved("#a:s", "!old", "!new", says({"alias": "#a:s"}, MAY_NOT))
    assert not verdict.followed
    assert verdict.reason == (
        "#a:s leads to !new, where @mod:s said that it is its alias and could not do by themselves"
        " what the map would: @mod:s is not in the room. !old is kept."
    )
    assert "add #a:s to its addresses anew" in verdict.cure
    assert not alias_moved("#a:s", "!old", "!new", None).followed


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

OTHER = Verdict(True, "@owner:s has the power in the room to do this by hand.")


def edge(sender: str = "@mod:s", own: Verdict = MAY_NOT, **parents: Verdict) -> Edge:
    """Return what is known of a room in a space."""
    said = tuple((f"@{name}:s", verdict) for name, verdict in parents.items())
    return Edge("!space", "!child", sender, own, said)


@pytest.mark.parametrize("sender", ["@bot:s", "@admin:s"])
def test_what_an_administrator_puts_into_a_space_is_followed(sender: str) -> None:
    """Whatever they may do in the room; it rests on nobody's own power."""
    step = child(edge(sender), ADMINS)
    assert step.verdict.followed
    assert step.verdict.reason.startswith(sender)
    assert step.leaders == (None,)


def test_who_could_do_it_alone_is_followed() -> None:
    """With the sentence that says why, on their own power."""
    assert child(edge("@mod:s", MAY), ADMINS) == Step(MAY, ("@mod:s",))
    assert child(edge("@mod:s", MAY), UNKNOWN) == Step(MAY, ("@mod:s",))


def test_a_room_that_names_the_space_as_its_parent_is_followed() -> None:
    """Where one of those who said so could do it alone; it rests on their power then."""
    step = child(edge("@mod:s", MAY_NOT, eve=MAY_NOT, owner=OTHER), ADMINS)
    assert step == Step(OTHER, ("@owner:s",))
    assert child(edge("@mod:s", MAY, owner=OTHER), ADMINS).leaders == ("@mod:s", "@owner:s")
    assert child(edge("@mod:s", MAY, admin=OTHER), ADMINS).leaders == ("@mod:s", None)
    assert not child(edge("@mod:s", MAY_NOT, eve=MAY_NOT), ADMINS).verdict.followed


@pytest.mark.parametrize(
    ("sender", "users"), [("@mod:s", ADMINS), ("@vip:s", ADMINS), ("@admin:s", UNKNOWN)]
)
def test_who_could_not_do_it_alone_is_not_followed(sender: str, users: Policy) -> None:
    """Moderating a space gives no power over rooms of others."""
    step = child(edge(sender), users)
    assert (step.verdict.followed, step.leaders) == (False, ())
    assert step.verdict.reason.startswith(f"{sender} put !child into the space !space")
    assert MAY_NOT.reason in step.verdict.reason
    assert step.verdict.cure.startswith(MAY_NOT.cure)


@pytest.mark.parametrize(
    ("chain", "leaders", "further"),
    [
        ((), (None,), [()]),
        ((), ("a",), [("a",)]),
        ((), ("a", "b"), [("a",), ("b",)]),
        ((), ("a", None), [()]),
        (("a",), ("a", "b"), [("a",)]),
        (("a",), ("b",), [("a", "b")]),
        (("a",), (None,), [("a",)]),
        (("a",), (), []),
    ],
)
def test_a_way_rests_on_everybody_whose_power_it_needed(
    chain: tuple[str, ...], leaders: tuple[str | None, ...], further: list[tuple[str, ...]]
) -> None:
    """And on no more than it has to: who is behind it already, or an administrator, is enough."""
    step = Step(MAY, leaders)
    assert step.continued(frozenset(chain)) == [frozenset(way) for way in further]


def test_it_is_said_whose_power_a_way_does_not_go_beyond() -> None:
    """With what they lack in the room, and what would mend it."""
    verdict = beyond("@mod:s", "!inner", "!child", MAY_NOT)
    assert not verdict.followed
    assert "!child is in the space !inner" in verdict.reason
    assert verdict.reason.endswith(MAY_NOT.reason)
    assert verdict.cure.startswith(MAY_NOT.cure)
