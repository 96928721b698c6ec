"""The group map: parsed, checked, keyed."""

import pytest

from scim_matrix.groupmap import GroupMapError, Mapping, parse_group_map


def test_plain_strings_comments_and_objects() -> None:
    """Aliases (also percent-encoded), IDs of every room version and objects are rooms."""
    text = """
    // who may see what
    {"2cf0": ["#general:example.com", "%23lab:example.com", "!abc:example.com", "!v12id"],
     "displayName:eng-*": [{"room": "#eng:example.com"}],
     "*": ["#all:example.com"],}
    """
    assert parse_group_map(text) == (
        Mapping("external_id", "2cf0", "#general:example.com"),
        Mapping("external_id", "2cf0", "#lab:example.com"),
        Mapping("external_id", "2cf0", "!abc:example.com"),
        Mapping("external_id", "2cf0", "!v12id"),
        Mapping("display_name", "eng-*", "#eng:example.com"),
        Mapping("everyone", "", "#all:example.com"),
    )


def test_brackets_in_names_are_not_patterns() -> None:
    """Only * and ? are wildcards in a displayName key."""
    [mapping] = parse_group_map('{"displayName:[x] y": ["!a:s"]}')
    assert mapping.pattern == "[[]x] y"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('{"a": ["!x:s"], "a": ["!y:s"]}', "not JSON"),
        ("[]", "document: is not an object"),
        ('{"a": "!x:s"}', "a: is not a list"),
        ('{"a": ["general"]}', r"a\[0\]: is not a room alias"),
        ('{"a": [{"rooms": "!x:s"}]}', r"a\[0\]: "),
        ('{"a": [{"room": "!x:s", "powerLevl": 5}]}', r"a\[0\]: only the key room"),
    ],
)
def test_mistakes_are_named(text: str, says: str) -> None:
    """A broken map says where and why."""
    with pytest.raises(GroupMapError, match=says):
        parse_group_map(text)
