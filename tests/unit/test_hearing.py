"""A silent identity provider is noticed."""

import time

from scim_matrix import problems
from scim_matrix.ops.hearing import SILENCE, Hearing


def test_four_days_of_silence_are_told() -> None:
    """Since it was last heard, or since the start where it never was; hearing it ends that."""
    now = time.time()
    assert [*Hearing(now).codes()] == []
    silent = Hearing(now - SILENCE - 1)
    assert [*silent.codes()] == ["idp-silent"]
    silent.note()
    assert [*silent.codes()] == []
    silent.at = now - SILENCE - 1
    assert [*silent.codes()] == ["idp-silent"]
    assert set(silent.codes()) <= set(problems.BY_CODE)
