"""Nobody leads the service further than they could go themselves."""

from typing import Any

import pytest

from scim_matrix.groupmap import Mapping
from scim_matrix.sync.authority import (
    Reach,
    Verdict,
    by_administrator,
    entitlement,
    everywhere,
    removal,
)
from scim_matrix.sync.power import PowerLevels

ANN, BOB = "@ann:s", "@bob:s"


def room(own: int, **content: Any) -> PowerLevels:
    """Return a room in which Ann has a power level."""
    return PowerLevels({"users": {ANN: own, **content.pop("users", {})}, **content})


def asked(
    levels: PowerLevels, *, joined: bool = True, power: int | None = None, exclusive: bool = False
) -> Verdict:
    """Ask for Ann."""
    return entitlement(levels, ANN, joined, Reach(power, exclusive))


@pytest.mark.parametrize(
    ("levels", "options", "followed"),
    [
        (room(50), {}, True),
        (room(49), {}, False),
        (room(100, kick=101), {}, False),
        (room(50, invite=51), {}, False),
        (room(0, kick=0), {}, True),
        (room(100), {"joined": False}, False),
        (room(50), {"power": 50}, True),
        (room(50), {"power": 51}, False),
        (room(50), {"power": 0}, True),
        (room(50, events={"m.room.power_levels": 100}), {"power": 50}, False),
        (room(50, events={"m.room.power_levels": 100}), {}, True),
        (room(50, state_default=51), {"power": 10}, False),
        (room(50, users_default=50), {}, True),
        (room(50, users_default=50), {"exclusive": True}, False),
        (room(50), {"exclusive": True}, True),
        (PowerLevels({}, frozenset([ANN])), {"power": 100, "exclusive": True}, True),
        (PowerLevels({}, frozenset([BOB])), {}, False),
    ],
)
def test_what_one_could_do_alone_is_followed(
    levels: PowerLevels, options: dict[str, Any], followed: bool
) -> None:
    """In the room, with the power to invite, to remove, and to give what is given."""
    verdict = asked(levels, **options)
    assert verdict.followed is followed
    assert bool(verdict.cure) is not followed


def test_the_reason_says_all_that_is_missing_and_the_cure_what_is_enough() -> None:
    """Both are sentences that name the user and the levels."""
    levels = room(40, invite=45, events={"m.room.power_levels": 100})
    verdict = asked(levels, power=60)
    assert verdict.reason == (
        "@ann:s has power level 40 in the room and needs 45 to invite, 50 to remove people,"
        " 100 to change power levels, 60 to give power level 60."
    )
    assert verdict.cure == (
        "Give @ann:s power level 100 in the room, or have somebody do this who has it."
    )
    levels.content["users"][ANN] = 100
    assert asked(levels, power=60).followed


@pytest.mark.parametrize(
    ("own", "theirs", "given", "followed"),
    [
        (50, 0, None, True),
        (50, 50, None, False),
        (50, 100, None, False),
        (50, 50, 50, True),
        (50, 100, 50, False),
        (50, 60, 60, False),
    ],
)
def test_who_has_as_much_power_is_removed_by_nobody(
    own: int, theirs: int, given: int | None, followed: bool
) -> None:
    """Except where the power is what the mapping itself gave."""
    levels = room(own, users={BOB: theirs})
    assert removal(levels, ANN, BOB, given=given).followed is followed


def test_a_creator_is_removed_by_nobody() -> None:
    """Room creators are above every level."""
    assert not removal(PowerLevels({"users": {ANN: 100}}, frozenset([BOB])), ANN, BOB).followed


def test_everywhere_means_in_every_room() -> None:
    """The first room that refuses is named."""
    good, bad = asked(room(50)), asked(room(0))
    assert everywhere([("#a:s", good), ("#b:s", good)]) == good
    refused = everywhere([("#a:s", good), ("#b:s", bad)])
    assert not refused.followed
    assert refused.reason.startswith("In #b:s: @ann:s has power level 0")
    assert refused.cure == bad.cure
    assert not everywhere([]).followed


def test_an_administrator_is_always_followed() -> None:
    """They hold the homeserver's power themselves."""
    assert by_administrator(ANN) == Verdict(True, "@ann:s administers the homeserver.")


def test_mappings_together_reach_as_far_as_the_furthest_of_them() -> None:
    """Whoever leads to all of them must be able to do what each does."""
    plain, strong = Mapping("everyone", "", "!r"), Mapping("everyone", "", "!r", power=50)
    closed = Mapping("external_id", "g", "!r", power=20, exclusive=True)
    assert Reach.of() == Reach.of(plain) == Reach()
    assert Reach.of(plain, strong, closed) == Reach(50, exclusive=True)
