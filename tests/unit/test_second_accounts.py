"""Which accounts may be second ones of people who have one."""

import pytest

from scim_matrix.matrix.accounts import MatrixAccount
from scim_matrix.store.second_accounts import FirstAccount
from scim_matrix.sync.second_accounts import is_second, names_before

ANN = FirstAccount("@ann1:s", 1, "@ann:s", "Ann", "sub")


@pytest.mark.parametrize(
    ("user_id", "before"),
    [
        ("@ann:s", []),
        ("@ann1:s", ["@ann:s"]),
        ("@ann12:s", ["@ann1:s", "@ann:s"]),
        # The number that Synapse puts behind a name has three digits at most, and no leading zero.
        ("@ann1234:s", ["@ann123:s", "@ann12:s", "@ann1:s"]),
        ("@ann10:s", ["@ann:s"]),
        ("@1:s", []),
        ("@ann1:s2", ["@ann:s2"]),
        ("@ann:s1:8448", []),
    ],
)
def test_names_before_a_number(user_id: str, before: list[str]) -> None:
    """A name may be any shorter one with a number from 1 to 999 behind it."""
    assert before == list(names_before(user_id))


@pytest.mark.parametrize(
    ("display_name", "second"),
    [("Ann", True), ("ann1", True), (None, True), ("", True), ("Anne Other", False)],
)
def test_a_display_name_of_its_own_is_somebody_elses(
    display_name: str | None, second: bool
) -> None:
    """Whoever is called otherwise is another person with a similar name."""
    assert second == is_second(MatrixAccount("@ann1:s", display_name), ANN)
