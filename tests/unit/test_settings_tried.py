"""Every setting, with each of its values, is tried where the service really runs."""

import re
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest

from scim_matrix.config import Settings

TESTS = Path(__file__).parents[1]
# Given to every service that a test starts.
ALWAYS = {
    "webhook_secret",
    "matrix_url",
    "matrix_server_name",
    "matrix_admin_user_id",
    "matrix_admin_token",
    "data_dir",
    "idp_name",
    "idp_group_to_room",
    "listen_port",
}


@cache
def tries() -> str:
    """Return the tests that run the service, or the part of it that a setting is for."""
    found = (file for file in TESTS.rglob("*.py") if TESTS / "unit" not in file.parents)
    return "\n".join(file.read_text("utf-8") for file in sorted(found))


def values(annotation: Any) -> Iterator[str]:
    """Return the words that a setting takes, none where it takes any."""
    if annotation is bool:
        yield from ("true", "false")
    elif get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from values(part)


@pytest.mark.parametrize("name", sorted(Settings.model_fields.keys() - ALWAYS))
def test_a_setting_is_tried_with_each_of_its_values(name: str) -> None:
    """Its default is tried by whatever does not set it."""
    field = Settings.model_fields[name]
    given = rf"""\b(?:{name.upper()}["']?\s*[:=]|{name}=)\s*"""
    assert re.search(given, tries()), f"no test sets {name.upper()}"
    default = str(field.default).lower()
    # Given in turn, by a parameter of the setting's name.
    in_turn = " ".join(re.findall(rf"""parametrize\("{name}", \[(.*?)\]""", tries(), re.DOTALL))
    for value in set(values(field.annotation)) - {default}:
        alone = re.search(rf"""{given}f?["']?{value}\b""", tries(), re.IGNORECASE)
        assert alone or f'"{value}"' in in_turn, f"no test sets {name.upper()} to {value}"
