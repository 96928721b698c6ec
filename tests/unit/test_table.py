"""Tables of commands, on terminals of any width."""

import pytest

from scim_matrix.cli.output import show, with_names
from scim_matrix.cli.table import laid_out

ROOM = "!fyWDb3MzDop8abcdefghijklmnopqrstuvwxyz01234"
USER = "2cf07991-e8dd-4fcd-a4b8-e2db71698e34"
COMMAND = f"scim-matrix approve '{ROOM}'"
ROWS = [
    {
        "state": ["held"],
        "room": ["General 日本", ROOM],
        "user": ["@ann.with.a.long.name:matrix.example.com"],
        "reason": ["unusually many removals, and more words than there is room for in a line"],
        "cure": [f"{COMMAND}, or let the identity provider take it back, which is as good"],
    },
    {
        "state": ["conflict"],
        "room": [],
        "user": ["@bob:example.com"],
        "reason": ["the name is somebody else's"],
        "cure": [f"scim-matrix users link {USER} @bob:example.com"],
    },
]


@pytest.mark.parametrize("width", [60, 80, 100, 132, 200, 400])
def test_nothing_that_must_be_copied_is_broken(width: int) -> None:
    """IDs and commands stand in one line, however narrow; what fits on a line does not leave it."""
    lines = list(laid_out(ROWS, width))
    text = "\n".join(lines)
    for whole in (ROOM, ROWS[0]["user"][0], COMMAND, ROWS[1]["cure"][0], "General 日本"):
        assert any(whole in line for line in lines), text
    pieces = [ROOM, ROWS[0]["user"][0], COMMAND, ROWS[1]["cure"][0]]
    for line in lines:
        longest = max((len(piece) for piece in pieces if piece in line), default=0)
        assert len(line) <= max(width, longest + len("  reason  ,")), line


def test_a_wide_terminal_shows_a_row_in_a_line() -> None:
    """Columns are aligned, headed by their names, and those without any value left out."""
    rows = [{"a": ["x"], "b": [], "c": ["one"]}, {"a": ["longer"], "b": [], "c": ["two"]}]
    assert list(laid_out(rows, 80)) == ["a       c", "x       one", "longer  two"]


def test_prose_is_wrapped_before_anything_is_put_below() -> None:
    """A sentence takes what the other columns leave."""
    [head, *lines] = laid_out([{"user": ["@ann:s"], "reason": ["one two three four"]}], 20)
    assert head == "user    reason"
    assert lines == ["@ann:s  one two", "        three four"]


def test_a_room_is_shown_by_name_with_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe a row is one line; JSON has the name beside what was there."""
    rows = [
        {"room": "#space:s", "room_id": "!child", "joined": 3},
        {"room": "#lobby:s", "room_id": "!lobby", "joined": 2},
        {"room": "!nameless", "room_id": "!nameless", "joined": 1},
    ]
    named = with_names(rows, {"!child": "Crafts", "!lobby": "#lobby:s"})
    show(named, as_json=False, empty="")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["room", "space", "joined"],
        ["Crafts", "!child", "#space:s", "3"],
        ["#lobby:s", "!lobby", "2"],
        ["!nameless", "1"],
    ]
    assert [row["name"] for row in named] == ["Crafts", "#lobby:s", None]
