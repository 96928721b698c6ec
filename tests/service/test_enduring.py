"""The long run of the model test ends with a finding, and says how to find it again."""

import pytest
from hypothesis.stateful import RuleBasedStateMachine, rule

from scripts.model import endure


class Weak(RuleBasedStateMachine):
    """Something that breaks at the third move."""

    def __init__(self) -> None:
        super().__init__()
        self.moves = 0

    @rule()
    def move(self) -> None:
        """Make a move."""
        self.moves += 1
        assert self.moves < 3, "broken"


class Sound(RuleBasedStateMachine):
    """Something that does not break."""

    @rule()
    def move(self) -> None:
        """Make a move."""


def test_a_finding_ends_it_with_the_moves_and_the_seed(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads it can look into it, and run it again."""
    with pytest.raises(AssertionError, match="broken") as found:
        endure(Weak, 3600.0, 5, 17, shrink=False)
    said = "\n".join(found.value.__notes__)
    assert said.count("state.move()") == 3
    assert "--seed 17 --steps 5" in said
    assert " moves, " in capsys.readouterr().out


def test_it_ends_once_its_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    """And says how many moves were made."""
    endure(Sound, 0.05, 5, 17, shrink=False)
    assert " moves, " in capsys.readouterr().out
