"""From a SCIM user to what its account should be."""

from typing import Any

import pytest

from scim_matrix.scim.people import Identity
from scim_matrix.store.accounts import Profile, Wanted

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
USER: dict[str, Any] = {
    "userName": "ann@a.example",
    "externalId": "ext-ann",
    "displayName": "Ann",
    "name": {"formatted": "Ann Other"},
    "emails": [
        {"value": "Ann@Home.example"},
        {"display": "no address"},
        {"value": "ann@work.example", "primary": True},
        {"value": "ann@home.example"},
    ],
    ENTERPRISE: {"employeeNumber": "701984"},
}


def wanted(subject_attribute: str = "externalId", /, **more: Any) -> Wanted:
    """Return what the account of a user with these attributes should be."""
    return Identity("s", None, subject_attribute, 0).wanted("scim-id", {**USER, **more})


def test_an_account_is_what_the_identity_provider_says() -> None:
    """With its name, its addresses (the primary one first, each once) and its subject."""
    emails = ("ann@work.example", "ann@home.example")
    assert wanted() == Wanted("active", Profile("Ann", emails, "ext-ann"), "@ann:s")


@pytest.mark.parametrize(
    ("said", "state"),
    [({}, "active"), ({"active": True}, "active"), ({"active": False}, "disabled")],
)
def test_who_is_not_said_to_be_inactive_is_active(said: dict[str, Any], state: str) -> None:
    """Nobody is locked for what was left unsaid."""
    assert wanted(**said).state == state


@pytest.mark.parametrize(
    ("attribute", "subject"),
    [
        ("externalId", "ext-ann"),
        ("id", "scim-id"),
        ("userName", "ann@a.example"),
        ("name.formatted", "Ann Other"),
        (f"{ENTERPRISE}:employeeNumber", "701984"),
        ("nickName", None),
        ("nickName.deeper", None),
        ("name", None),
    ],
)
def test_the_subject_is_the_attribute_that_the_setting_names(
    attribute: str, subject: str | None
) -> None:
    """Whoever does not have it has no subject."""
    assert wanted(attribute).profile.subject == subject


def test_an_empty_subject_is_none() -> None:
    """Or everybody without one would be the same person."""
    assert wanted(externalId="").profile.subject is None


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({}, "Ann"),
        ({"displayName": None}, "Ann Other"),
        ({"displayName": None, "name": None}, "ann@a.example"),
    ],
)
def test_a_display_name_is_the_first_that_there_is(said: dict[str, Any], name: str) -> None:
    """At last the user name."""
    assert wanted(**said).profile.display_name == name
