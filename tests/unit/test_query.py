"""Queries folded and bounded."""

import contextlib
import time

import pytest
from scim2_models import InvalidFilterException, ScimFilter

from scim_matrix.scim.query import MAX_FILTER_LENGTH, quoted


@pytest.mark.parametrize(
    "pattern", ['\\"', '"', '" eq ', "\\", "a eq ", '"\\\n', "((", 'a eq "\\" or ', "pr ", " "]
)
def test_the_longest_filter_costs_no_more_than_its_length(pattern: str) -> None:
    """Whatever 16 KB of text are made of, rewriting and parsing them takes milliseconds."""

    def cost(length: int) -> float:
        text = (pattern * length)[:length]
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            with contextlib.suppress(ValueError, InvalidFilterException):
                ScimFilter(quoted(text))
            best = min(best, time.process_time() - start)
        return best

    # 16 times the length: quadratic would be 256 times the time.
    short, long = cost(MAX_FILTER_LENGTH // 16), cost(MAX_FILTER_LENGTH)
    assert long < 0.05 or long < 64 * short
