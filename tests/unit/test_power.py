"""Power levels: one event for everybody, and what hands gave comes back."""

from dataclasses import replace
from typing import Any

import pytest

from scim_matrix.membership import Membership, State
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.power import PowerLevels, out_of_reach, power_levels, power_plan

POLICY = Policy("@bot:s")
BOT = {"@bot:s": 100}


def pair(user: str = "ann", power: int | None = 50, **more: Any) -> Membership:
    """Return the membership of somebody who is granted a level."""
    given = Membership("!r", 1, f"@{user}:s", "granted", None, "join", "G")
    return replace(given, power=power, **more)


def gone(**more: Any) -> Membership:
    """Return a membership whose grant, and with it the level, has ended."""
    return pair(**{"power": None, "state": "revoked", "observed": "leave", **more})


def users(**levels: Any) -> PowerLevels:
    """Return a room's levels: the service's is 100."""
    listed = {f"@{name}:s": level for name, level in levels.items()}
    return PowerLevels({"users": BOT | listed, "ban": 50})


class Room:
    """A room and one membership in it, turn by turn: what is sent is so, and is recorded."""

    def __init__(self, **levels: Any) -> None:
        self.levels = users(**levels)
        self.pair = pair(power=None)

    def turn(self, power: int | None, state: State = "granted", *, lost: bool = False) -> None:
        """Grant a level or take it away, and send what follows; the answer may be lost."""
        self.pair = replace(self.pair, power=power, state=state)
        planned = power_plan(self.levels, [self.pair], POLICY)
        for tried, level, before in planned.tries:
            assert tried == self.pair
            self.pair = replace(self.pair, power_tried=level, power_before=before)
        if planned.content is not None:
            self.levels = PowerLevels(planned.content)
        if not lost:
            for _, given, before in planned.reached:
                self.pair = replace(
                    self.pair, power_given=given, power_before=before, power_tried=None
                )

    def by_hand(self, level: int | None) -> None:
        """Have somebody set the level."""
        given = dict(self.levels.content["users"])
        given.pop("@ann:s", None)
        if level is not None:
            given["@ann:s"] = level
        self.levels = PowerLevels({**self.levels.content, "users": given})

    @property
    def level(self) -> Any:
        """The level that the event lists."""
        return self.levels.content["users"].get("@ann:s")


# -- What the events say -------------------------------------------------------


def test_levels_default_as_the_specification_says() -> None:
    """Also where the event says nothing."""
    levels = PowerLevels({"users": {"@ann:s": 20}})
    assert (levels.of("@ann:s"), levels.of("@bob:s"), levels.ordinary) == (20, 0, 0)
    needed = [levels.needed(a) for a in ("kick", "invite", "m.room.power_levels")]
    assert needed == [50, 0, 50]
    said = PowerLevels({"users_default": 5, "kick": 60, "events": {"m.room.power_levels": 90}})
    assert (said.of("@bob:s"), said.needed("kick"), said.needed("m.room.power_levels")) == (
        5,
        60,
        90,
    )


def test_levels_may_be_text_and_nonsense_lets_nobody_act() -> None:
    """Rooms before version 10 hold such."""
    levels = PowerLevels(
        {"users": {"@ann:s": "50", "@bob:s": "much", "@cat:s": float("inf")}, "kick": "none"}
    )
    assert [levels.of(f"@{n}:s") for n in ("ann", "bob", "cat")] == [50, 0, 0]
    assert levels.needed("kick") > 1000


@pytest.mark.parametrize("version", ["12", "13", "org.matrix.hydra.11"])
def test_creators_are_above_all_levels_from_version_12_on(version: str) -> None:
    """However high a level somebody was given."""
    content = {"users": {"@ann:s": 2**53 - 1}}
    levels = power_levels(content, {"additional_creators": ["@bob:s"]}, "@bot:s", version)
    assert levels.of("@bot:s") > levels.of("@ann:s")
    assert levels.of("@bob:s") > levels.of("@ann:s")


@pytest.mark.parametrize("version", ["1", "9", "11"])
def test_creators_are_as_listed_before(version: str) -> None:
    """Only without an event do they have all power."""
    assert power_levels({"users": {"@bot:s": 7}}, {}, "@bot:s", version).of("@bot:s") == 7
    assert power_levels(None, {}, "@bot:s", version).of("@bot:s") > 100


# -- Giving --------------------------------------------------------------------


def test_one_event_for_everybody() -> None:
    """What else the event says stays, and each level is noted before it is sent."""
    ann, bob = pair("ann"), pair("bob", 30)
    planned = power_plan(users(), [ann, bob], POLICY)
    assert planned.content == {"users": {**BOT, "@ann:s": 50, "@bob:s": 30}, "ban": 50}
    assert planned.tries == [(ann, 50, None), (bob, 30, None)]
    assert planned.reached == [(ann, 50, None), (bob, 30, None)]
    assert planned.refused == []


def test_nothing_is_sent_where_nothing_differs() -> None:
    """Levels that are so are recorded only."""
    planned = power_plan(users(ann=50), [pair()], POLICY)
    assert (planned.content, planned.tries) == (None, [])
    assert planned.reached == [(pair(), 50, 50)]


def test_an_ordinary_level_that_suffices_is_enough() -> None:
    """Where everybody has as much, nobody is listed."""
    levels = PowerLevels({"users": BOT, "users_default": 50})
    assert power_plan(levels, [pair()], POLICY).content is None


@pytest.mark.parametrize("power", [100, 101])
def test_nobody_gets_as_much_as_the_service_has(power: int) -> None:
    """It could not be taken back."""
    planned = power_plan(users(), [pair(power=power)], POLICY)
    assert (planned.content, planned.tries, planned.reached) == (None, [], [])
    [(refused, reason)] = planned.refused
    assert refused == pair(power=power)
    assert reason == f"power level {power} is not below the service's own, 100"


def test_creators_are_not_listed() -> None:
    """The homeserver refuses an event that does."""
    levels = PowerLevels({"users": {}}, frozenset({"@bot:s", "@ann:s"}))
    planned = power_plan(levels, [pair(), pair("bob")], POLICY)
    assert planned.content == {"users": {"@bob:s": 50}}


# -- What can be given ---------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "creators", "own"),
    [
        # Who may change levels takes nobody's.
        ({"@bot:s": 50, "@ann:s": 90}, (), 50),
        ({"@bot:s": 10, "@ann:s": 90, "@bob:s": 70, "@cat:elsewhere": 100}, (), 90),
        ({"@ann:s": 50}, (), 50),
        ({"@ann:s": 49}, (), None),
        ({"@cat:elsewhere": 100}, (), None),
        ({}, ("@ann:s",), 100),
        ({"@bob:s": 120}, ("@ann:s",), 120),
        ({"@bob:s": 60}, ("@cat:elsewhere",), 60),
        ({}, ("@cat:elsewhere",), None),
    ],
)
def test_what_can_be_given_is_below_the_power_that_there_is_to_take(
    given: dict[str, int], creators: tuple[str, ...], own: int | None
) -> None:
    """The service's, or where that is too little that of whoever of its server has most."""
    levels = PowerLevels({"users": given, "state_default": 50}, frozenset(creators))
    if own is None:
        reason = out_of_reach(levels, "@bot:s", "s", 1)
        assert reason is not None
        assert "takes 50 in the room, and nobody of s" in reason
        return
    assert out_of_reach(levels, "@bot:s", "s", own - 1) is None
    reason = f"power level {own} is not below the service's own, {own}"
    assert out_of_reach(levels, "@bot:s", "s", own) == reason


# -- What hands gave -----------------------------------------------------------


@pytest.mark.parametrize("before", [None, 0, 20, 50, 75, 100])
def test_a_level_by_hand_comes_back(before: int | None) -> None:
    """While granted they have the higher of both; afterwards what they had before."""
    room = Room() if before is None else Room(ann=before)
    room.turn(50)
    assert room.level == max(50, before or 0)
    room.turn(None, "revoked")
    assert room.level == before
    assert (room.pair.power_given, room.pair.power_before) == (None, None)


def test_a_level_as_text_comes_back_too() -> None:
    """Rooms before version 10 may hold such."""
    room = Room(ann="20")
    room.turn(50)
    assert room.level == 50
    room.turn(None, "revoked")
    assert room.level == 20


def test_a_level_that_a_hand_raised_stays() -> None:
    """It is the hand's, not the group's."""
    room = Room(ann=20)
    room.turn(50)
    room.by_hand(75)
    room.turn(None, "revoked")
    assert room.level == 75


def test_a_level_that_a_hand_lowered_stays_lowered() -> None:
    """Nothing higher is given back than what was there at last."""
    room = Room(ann=75)
    room.turn(50)
    room.by_hand(50)
    room.turn(None, "revoked")
    assert room.level == 50

    room = Room(ann=20)
    room.turn(50)
    room.by_hand(10)
    room.turn(None, "revoked")
    assert room.level == 10


def test_a_level_that_a_hand_took_is_given_again_and_then_stays_taken() -> None:
    """The group's level is put right while it is granted; the hand's word holds afterwards."""
    room = Room(ann=20)
    room.turn(50)
    room.by_hand(None)
    room.pair = replace(room.pair, power_given=None)
    room.turn(50)
    assert room.level == 50
    room.turn(None, "revoked")
    assert room.level is None


# -- Changing ------------------------------------------------------------------


def test_a_lower_level_is_lowered_not_below_the_hands() -> None:
    """And what was there before is kept for later."""
    room = Room(ann=20)
    room.turn(50)
    room.turn(30)
    assert room.level == 30
    room.turn(10)
    assert room.level == 20
    room.turn(60)
    assert room.level == 60
    room.turn(None, "revoked")
    assert room.level == 20


def test_a_higher_level_keeps_what_was_before() -> None:
    """Not the group's own former level."""
    room = Room(ann=20)
    room.turn(30)
    room.turn(60)
    assert room.level == 60
    room.turn(None, "revoked")
    assert room.level == 20


def test_a_group_that_gives_no_level_any_more_gives_it_back() -> None:
    """Its people stay."""
    room = Room(ann=20)
    room.turn(50)
    room.turn(None)
    assert room.level == 20
    assert room.pair.power_given is None


@pytest.mark.parametrize("state", ["revoked", "pruned", "excluded"])
def test_a_level_is_given_back_once_whatever_ended_the_grant(state: State) -> None:
    """Also where it is still known what was granted: nothing is left to do."""
    left = gone(power=50, power_given=50, power_before=20, state=state)
    planned = power_plan(users(ann=50), [left], POLICY)
    assert planned.content == {"users": {**BOT, "@ann:s": 20}, "ban": 50}
    assert planned.reached == [(left, None, None)]


# -- A lost answer -------------------------------------------------------------


@pytest.mark.parametrize("before", [None, 20, 50, 75])
def test_a_level_whose_answer_was_lost_comes_back_too(before: int | None) -> None:
    """It is known that it was tried, and what was there before."""
    room = Room() if before is None else Room(ann=before)
    room.turn(50, lost=True)
    room.turn(None, "revoked")
    assert room.level == before


def test_a_level_whose_answer_was_lost_is_not_taken_for_a_hands() -> None:
    """Once it is found done, it is the service's, and lowered with the group's."""
    room = Room()
    room.turn(50, lost=True)
    room.turn(50)
    assert (room.pair.power_given, room.pair.power_before, room.pair.power_tried) == (
        50,
        None,
        None,
    )
    room.turn(30)
    assert room.level == 30


@pytest.mark.parametrize("before", [None, 10])
def test_a_level_that_was_lowered_by_an_answer_that_was_lost_is_given_back(
    before: int | None,
) -> None:
    """It is the group's still, and goes with it; what a hand gave before comes back."""
    room = Room() if before is None else Room(ann=before)
    room.turn(75)
    room.turn(50, lost=True)
    room.turn(50)
    assert (room.level, room.pair.power_given) == (50, 50)
    room.turn(None)
    assert room.level == before


def test_a_level_that_was_tried_in_vain_leaves_the_former_one_the_services() -> None:
    """Its request never arrived."""
    tried = pair(power=None, state="revoked", power_given=30, power_before=10, power_tried=60)
    planned = power_plan(users(ann=30), [tried], POLICY)
    assert planned.content == {"users": {**BOT, "@ann:s": 10}, "ban": 50}

    never = pair(power=None, state="revoked", power_tried=60)
    planned = power_plan(users(ann=30), [never], POLICY)
    assert planned.content is None
    assert planned.reached == [(never, None, None)]


# -- Whom nobody touches -------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy("@bot:s", ("@ann:s",)), "@ann:s is protected by PROTECTED_USERS"),
        (Policy("@bot:s", admins=frozenset({"@ann:s"})), "@ann:s administers the homeserver"),
    ],
)
@pytest.mark.parametrize(
    "left", [gone(power_given=50), pair(power=30, power_given=50)], ids=["ended", "lowered"]
)
def test_the_protected_are_never_demoted(left: Membership, policy: Policy, reason: str) -> None:
    """What the service gave them stays noted, and goes when the protection has gone."""
    planned = power_plan(users(ann=50), [left], policy)
    assert (planned.content, planned.reached) == (None, [])
    assert planned.refused == [(left, reason)]
    assert power_plan(users(ann=50), [left], POLICY).content is not None


def test_who_has_as_much_power_as_the_service_is_not_demoted() -> None:
    """The homeserver would refuse it."""
    left = gone(power_given=100)
    planned = power_plan(users(ann=100), [left], POLICY)
    assert planned.content is None
    assert planned.refused == [(left, "has as much power as the service")]


def test_one_who_is_refused_keeps_nobody_else_waiting() -> None:
    """The others' levels are sent."""
    planned = power_plan(users(), [pair(power=100), pair("bob", 30)], POLICY)
    assert planned.content == {"users": {**BOT, "@bob:s": 30}, "ban": 50}
    assert [p.user_id for p, _ in planned.refused] == ["@ann:s"]


def test_a_level_that_is_as_it_should_be_is_sent_to_nobody() -> None:
    """Nothing is sent, nor said to be under way."""
    plan = power_plan(users(ann=50), [pair(power_given=50)], POLICY)
    assert (plan.content, plan.tries) == (None, [])


def test_protection_keeps_nobody_from_a_higher_level() -> None:
    """It is for what would be taken from them."""
    policy = Policy("@bot:s", ("@ann:s",))
    plan = power_plan(users(ann=25), [pair(power=50, power_given=25)], policy)
    assert plan.refused == []
    assert plan.content is not None
    assert plan.content["users"] == {**BOT, "@ann:s": 50}
