"""Localparts of new accounts."""

import pytest

from scim_matrix.localpart import LocalpartError, check_template, is_user_id, user_id_for


@pytest.mark.parametrize(
    ("user_name", "expected"),
    [
        ("erika", "@erika:s"),
        ("Erika.Muster@corp.example", "@erika.muster:s"),
        ("max müller", "@max=20m=c3=bcller:s"),
        ("a=b", "@a=3db:s"),
        ("Ünal", "@=c3=9cnal:s"),
    ],
)
def test_default_is_the_user_name_up_to_its_at_sign(user_name: str, expected: str) -> None:
    """Characters outside Matrix's alphabet are mapped as the specification says."""
    assert expected == user_id_for(None, {"userName": user_name}, "s")


@pytest.mark.parametrize(("name", "is_one"), [("é" * 126, True), ("é" * 127, False)])
def test_no_user_id_is_longer_than_matrix_has_them(name: str, is_one: bool) -> None:
    """They have at most 255 bytes, whoever types one."""
    assert is_user_id(f"@{name}:s") is is_one


@pytest.mark.parametrize("text", ["ann", "@ann", "ann:s", "@:s", "@ann:", "@an n:s", "@ann:s\n"])
def test_what_is_no_user_id(text: str) -> None:
    """Nobody is said to have an account that cannot be one."""
    assert not is_user_id(text)


def test_template_fields() -> None:
    """A template may use userName, externalId and email."""
    attributes = {"userName": "u", "externalId": "X1", "email": "e@x"}
    assert user_id_for("{userName}-{externalId}", attributes, "s") == "@u-x1:s"


@pytest.mark.parametrize("attributes", [{"userName": "@x"}, {"userName": "a" * 260}])
def test_impossible_localparts_are_refused(attributes: dict[str, str]) -> None:
    """An empty or overlong user ID is an error, not a truncated name."""
    with pytest.raises(LocalpartError):
        user_id_for(None, attributes, "s")


def test_missing_field_is_refused() -> None:
    """A template that needs an absent attribute names it."""
    with pytest.raises(LocalpartError, match="externalId"):
        user_id_for("{externalId}", {"userName": "u"}, "s")


@pytest.mark.parametrize("template", ["fixed", "{nickName}", "{userName!x", ""])
def test_unusable_templates(template: str) -> None:
    """A template without a field, or with an unknown one, is refused at start; others are not."""
    with pytest.raises(ValueError, match=r".+"):
        check_template(template)
    check_template("{userName}-{externalId}-{email}")
