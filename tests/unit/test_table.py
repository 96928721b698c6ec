"""Tables of commands, on terminals of any width."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from scim_matrix.cli.first_steps import next_steps
from scim_matrix.cli.output import show, with_names
from scim_matrix.cli.table import laid_out, wrapped
from scim_matrix.cli.why import told
from scim_matrix.story.rows import Line, Part, Story

ROOM = "!fyWDb3MzDop8abcdefghijklmnopqrstuvwxyz01234"
USER = "2cf07991-e8dd-4fcd-a4b8-e2db71698e34"
COMMAND = f"scim-matrix approve '{ROOM}'"
SOURCE = Path(__file__).parents[2] / "src" / "scim_matrix"
# As it is typed: words of commands, options, and whatever stands in place of a name.
TYPED = re.compile(
    r"scim-matrix \w+(?: (?:link|unlink|restored|accounts|ROOM|USER|CODE|ALIAS|--[\w-]+|'[^']*'"
    r"|[@#!]\S+|[0-9a-f-]{36}))*"
)
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


def sentences() -> Iterator[str]:
    """Return what the code has to say about commands, with IDs in place of what is put in."""
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else ROOM for part in parts]
            text = "".join(word for word in texts if isinstance(word, str))
            if TYPED.search(text) and "\n" not in text:
                yield text
    for file in sorted(SOURCE.rglob("*.sql")):
        for said in re.findall(r"'((?:[^'\n]|'')*)'", file.read_text()):
            if TYPED.search(said):
                yield said.replace("''", f"'{ROOM}'")


@pytest.mark.parametrize("width", [40, 80])
def test_no_command_that_is_printed_is_broken(width: int) -> None:
    """Of all that is said anywhere, in a list or a story: each stands whole in a line."""
    found = list(sentences())
    assert len(found) > 30
    for text in found:
        whole = f"Somebody is still to leave, and words go on before it. {text}"
        story = Story("", [Part("", [Line(whole, whole)])])
        table = laid_out([{"user": [USER], "cure": [whole]}], width)
        for lines in (wrapped(whole, width), told(story, width), list(table)):
            for command in TYPED.findall(text):
                assert any(command in line for line in lines), (command, lines)


def test_prose_around_commands_is_wrapped() -> None:
    """A sentence with several commands is no longer than it has to be."""
    lines = wrapped("If so: `scim-matrix approve ROOM`; else type `scim-matrix dismiss ROOM`.", 40)
    assert lines == [
        "If so: `scim-matrix approve ROOM`; else",
        "type `scim-matrix dismiss ROOM`.",
    ]


def test_what_is_next_is_typed_as_it_stands() -> None:
    """Each command of `init` is a line of its own that a shell takes, whatever the file is."""
    file = Path("/srv/matrix and more/scim-matrix/a-long-name-for-the-file-of-settings.env")
    settings = {"WEBHOOK_SECRET": "s", "DRY_RUN": "true"}
    lines = list(next_steps(file, settings, "authentik"))
    typed = [line for line in lines if "scim-matrix " in line.replace(str(file), "")]
    assert [shlex.split(line) for line in typed] == [
        ["scim-matrix", command, "--env-file", str(file)]
        for command in ("check", "serve", "status", "log")
    ]
