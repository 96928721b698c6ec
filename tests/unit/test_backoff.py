"""How long is waited before something is tried again."""

import pytest

from scim_matrix.sync.backoff import Backoff


@pytest.mark.parametrize(
    ("attempts", "least", "most"),
    [(0, 0.5, 1.0), (1, 1.0, 2.0), (3, 4.0, 8.0), (4, 7.5, 15.0), (10**6, 7.5, 15.0)],
)
def test_waits_double_up_to_the_longest(attempts: int, least: float, most: float) -> None:
    """And are never alike, so that not all who failed together try together."""
    waits = [Backoff(longest=15.0).delay(attempts) for _ in range(100)]
    assert least <= min(waits) < max(waits) <= most
