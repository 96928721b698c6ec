"""The group map: parsed, checked, keyed."""

import pytest

from scim_matrix.groupmap import GroupMapError, Mapping, Template, parse_group_map


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


def test_what_an_object_says_beyond_the_room() -> None:
    """Power level, a space's rooms, invitation, nobody else, and how to make the room."""
    text = """
    {"a": [{"room": "#a:s", "powerLevel": 50, "children": true, "mode": "invite",
            "exclusive": true},
           {"room": "#b:s", "create": {"name": "B", "topic": "b", "encrypted": true,
                                       "space": "%23parent:s"}},
           {"room": "#c:s", "create": {"name": "C"}}]}
    """
    assert parse_group_map(text) == (
        Mapping("external_id", "a", "#a:s", 50, children=True, invite=True, exclusive=True),
        Mapping(
            "external_id", "a", "#b:s", create=Template("B", "b", encrypted=True, space="#parent:s")
        ),
        Mapping(
            "external_id", "a", "#c:s", create=Template("C", None, encrypted=False, space=None)
        ),
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
        ('{"a": [{"room": "!x:s", "powerLevl": 5}]}', r"a\[0\]: known keys are"),
        ('{"a": [{"room": "!x:s", "powerLevel": 101}]}', r"a\[0\].powerLevel: "),
        ('{"a": [{"room": "!x:s", "powerLevel": true}]}', r"a\[0\].powerLevel: "),
        ('{"a": [{"room": "!x:s", "powerLevel": 1e300}]}', r"a\[0\].powerLevel: "),
        ('{"a\\ud800": ["!x:s"]}', "half of a character"),
        ('{"displayName:\\ud800": ["!x:s"]}', "half of a character"),
        ('{"a": ["!x\\udc00:s"]}', "half of a character"),
        ("[" * 5000, "nested too deep"),
        ('{"a\\u0000b": ["!x:s"]}', "the key holds a NUL"),
        ('{"displayName:S*\\u0000x": ["!x:s"]}', "the key holds a NUL"),
        ('{"a": ["!x%00y:s"]}', "the room holds a NUL"),
        ('{"a": [{"room": "!x:s", "mode": "knock"}]}', r"a\[0\].mode: "),
        ('{"a": [{"room": "!x:s", "create": {"name": "X"}}]}', r"a\[0\].room: is not a room alias"),
        ('{"a": [{"room": "#x:s", "create": {"topic": "X"}}]}', r"a\[0\].create: name is"),
        ('{"a": [{"room": "!x:s", "mode": "knock"}]}', r"mode: must be join or invite"),
        ('{"displayname:Staff": ["!x:s"]}', 'is written "displayName:Staff"'),
        ('{"displayName:": ["!x:s"]}', 'is written "displayName:'),
        ('{"a": ["!x:s", {"room": "!x:s", "powerLevel": 50}]}', "listed twice"),
        (
            '{"a": [{"room": "#x:s", "create": {"name": "X"}}],'
            ' "b": [{"room": "#x:s", "create": {"name": "Y"}}]}',
            "two different ways",
        ),
    ],
)
def test_mistakes_are_named(text: str, says: str) -> None:
    """A broken map says where and why."""
    with pytest.raises(GroupMapError, match=says) as refused:
        parse_group_map(text)
    assert refused.value.reason
    assert refused.value.reason in str(refused.value)


@pytest.mark.parametrize("written", ["50", "50.0", "5e1"])
def test_a_whole_number_is_one_however_it_is_written(written: str) -> None:
    """By JSON Schema 50.0 is an integer, and for PostgreSQL it is none."""
    [mapping] = parse_group_map(f'{{"a": [{{"room": "!x:s", "powerLevel": {written}}}]}}')
    assert str(mapping.power) == "50"


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "1e999", "-1e999", "NaN", "0x"])
def test_no_number_is_more_than_a_mistake(number: str) -> None:
    """However many digits it has, and however it is written."""
    for text in (f'{{"*": [{number}]}}', f'{{"*": [{{"room": "#a:s", "powerLevel": {number}}}]}}'):
        with pytest.raises(GroupMapError):
            parse_group_map(text)


@pytest.mark.parametrize("form", ["[{}]", '{{"a": [{}]}}'])
def test_no_depth_is_more_than_a_mistake(form: str) -> None:
    """Also where it can be read and then gone through no more, which hangs on who asks."""
    for depth in (*range(500, 1000), 5000):
        with pytest.raises(GroupMapError):
            parse_group_map(form.format("[" * depth + "]" * depth))
