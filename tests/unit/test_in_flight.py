"""How much is asked of a server at once, as servers of different kinds answer."""

import itertools
from collections.abc import Callable

import pytest

from scim_matrix.sync.in_flight import ENOUGH, USUAL, InFlight

SECOND = 0.05


def after(answers: int, in_flight: InFlight, seconds: Callable[[int], float]) -> int:
    """Return how much is asked at once after answers that take so long for so many at once."""
    for _ in range(answers):
        in_flight.took("Join", seconds(in_flight.slots))
    return in_flight.slots


def one_process(at_once: int) -> float:
    """Return how long an answer of a server takes that does one after the other."""
    return SECOND * at_once


def several(at_once: int) -> float:
    """Return how long an answer of a server takes that does ten at a time."""
    return SECOND * max(1.0, at_once / 10)


def test_one_process_is_asked_what_it_does_best_with() -> None:
    """Answers that only wait for each other are not waited for by more."""
    in_flight = InFlight(64)
    asked = [after(1, in_flight, one_process) for _ in range(2000)]
    assert max(asked) <= USUAL + 2
    assert sum(asked) / len(asked) < USUAL + 1


def test_a_server_that_takes_more_is_asked_more() -> None:
    """Until its answers get slow."""
    in_flight = InFlight(64)
    after(2000, in_flight, several)
    asked = [after(1, in_flight, several) for _ in range(500)]
    assert min(asked) >= 10
    assert max(asked) <= 15


def test_the_ceiling_is_never_passed() -> None:
    """However fast the answers are, and where it is below what is usual."""
    assert after(3000, InFlight(16), lambda _: SECOND) == 16
    assert after(3000, InFlight(2), lambda _: SECOND) == 2


def test_slow_answers_end_it() -> None:
    """As soon as they come: a few dozen answers, not hundreds."""
    in_flight = InFlight(16)
    assert after(3000, in_flight, several) > 10
    assert after(100, in_flight, lambda at_once: 3 * SECOND * at_once / USUAL) == USUAL


def test_a_slow_answer_now_and_then_ends_nothing() -> None:
    """No answer says by itself how a server is."""
    in_flight, answers = InFlight(16), itertools.count()
    asked = [
        after(1, in_flight, lambda _: SECOND * (2.0 if next(answers) % 20 == 0 else 1.0))
        for _ in range(3000)
    ]
    assert set(asked[1000:]) == {16}


def test_answers_that_are_a_little_slower_change_nothing() -> None:
    """Between fast and slow, as much goes on being asked."""
    in_flight = InFlight(16)
    assert after(3000, in_flight, lambda _: SECOND) == 16
    asked = [after(1, in_flight, lambda _: 1.2 * SECOND) for _ in range(500)]
    assert set(asked) == {16}


def test_what_is_usual_is_learned_anew_once_back_there() -> None:
    """People and rooms differ: no more is asked before as many answers as at the start."""
    in_flight = InFlight(16)
    assert after(3000, in_flight, lambda _: SECOND) == 16
    while in_flight.slots > USUAL:
        after(1, in_flight, lambda _: 3 * SECOND)
    after(ENOUGH // 2, in_flight, lambda _: 3 * SECOND)
    asked = [after(1, in_flight, lambda _: SECOND) for _ in range(ENOUGH // 2)]
    assert set(asked) == {USUAL}


def test_failures_halve_it_and_answers_bring_it_back() -> None:
    """To what is usual, be they fast or not."""
    in_flight = InFlight(16)
    for _ in range(5):
        in_flight.halve()
    assert in_flight.slots == 1
    assert after(20, in_flight, one_process) == USUAL


@pytest.mark.parametrize("kind", ["Kick", "Invite"])
def test_kinds_are_compared_with_themselves_only(kind: str) -> None:
    """An invitation that takes longer than a join by nature is no sign of anything."""
    in_flight = InFlight(16)
    for _ in range(1000):
        in_flight.took("Join", SECOND)
        in_flight.took(kind, 10 * SECOND)
    assert in_flight.slots == 16


def test_half_as_much_is_asked_of_a_server_that_wants_less_and_at_least_one() -> None:
    """It grows back with answers."""
    in_flight = InFlight(USUAL)
    asked = []
    for _ in range(4):
        in_flight.halve()
        asked.append(in_flight.slots)
    assert asked == [2, 1, 1, 1]
    assert after(200, in_flight, one_process) == USUAL
