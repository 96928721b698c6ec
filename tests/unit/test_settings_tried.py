"""Every setting, with each of its values, is tried where the service really runs."""

import ast
import types
from collections.abc import Iterator, Mapping
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
def tries() -> Mapping[str, set[str]]:
    """Return the words that tests which run the service set variables to; prose does not count."""
    found: dict[str, set[str]] = {}
    for file in TESTS.rglob("*.py"):
        if TESTS / "unit" not in file.parents:
            for name, value in set_in(ast.parse(file.read_text("utf-8"))):
                words = (c.value for c in ast.walk(value) if isinstance(c, ast.Constant))
                found.setdefault(name, set()).update(str(word).lower() for word in words)
    return found


def set_in(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Return each variable that is set, and to what."""
    for node in ast.walk(module):
        match node:
            case ast.keyword(arg=str(name), value=value):
                yield name, value
            case ast.Dict():
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant):
                        yield str(key.value), value
            # Set in turn, by a parameter of the setting's name.
            case ast.Call(
                func=ast.Attribute(attr="parametrize"),
                args=[ast.Constant(value=str(name)), ast.List() as value],
            ):
                yield name.upper(), value


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
    field, variable = Settings.model_fields[name], name.upper()
    assert variable in tries(), f"no test sets {variable}"
    missing = set(values(field.annotation)) - {str(field.default).lower()} - tries()[variable]
    assert not missing, f"no test sets {variable} to {missing}"
