"""Names that others chose, on terminals and in spreadsheets."""

import csv
import io
import json
import time

import pytest
from click.testing import CliRunner

from scim_matrix.cli.output import Since, json_line, show, visible
from scim_matrix.cli.show import log
from scim_matrix.console.sheet import to_csv

NASTY = "Eve\x1b]0;owned\x07\x9b2J\u202egpj.exe\n\ud800"


def test_control_characters_are_shown() -> None:
    """Escape sequences, C1 controls, direction marks and line ends appear as what they are."""
    shown = visible(NASTY)
    assert shown == r"Eve\x1b]0;owned\x07\x9b2J\u202egpj.exe\n\ud800"
    assert (
        visible("Zo\u00eb \U0001f469\u200d\U0001f680 [b]")
        == "Zo\u00eb \U0001f469\u200d\U0001f680 [b]"
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_what_commands_print_is_safe(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """Neither a table nor JSON sends what a name brings along, and JSON stays what it was."""
    name = NASTY[:-1]
    show([{"userName": name}], as_json=as_json, empty="")
    printed = capsys.readouterr().out
    assert not set(printed) & {"\x1b", "\x07", "\x9b", "\u202e"}
    if as_json:
        assert json.loads(printed) == {"userName": name}
        assert json.loads(json_line({"a": name})) == {"a": name}


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff20"])
def test_a_spreadsheet_takes_no_name_for_a_formula(first: str) -> None:
    """Cells that begin like a formula are defused, and separators within cells separate nothing."""
    name = f'{first}HYPERLINK("http://x";A1),"b"'
    written = to_csv([["name", "n"], [name, "1"]])
    assert list(csv.reader(io.StringIO(written))) == [["name", "n"], [f"'{name}", "1"]]
    assert written.splitlines()[0] == '"name","n"'


def test_the_help_names_every_form_of_a_moment() -> None:
    """What --help says that --since takes is taken, and the same day each time."""
    told = " ".join(CliRunner().invoke(log, ["--help"]).output.split())
    for form in ("2026-11-01", "2026-11-01 12:00", "2026-11-01T12:00:00+01:00"):
        assert form in told
        assert Since().convert(form, None, None) // 86400 == 1793491200 // 86400
    for form, span in (("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800)):
        assert form in told
        assert time.time() - Since().convert(form, None, None) == pytest.approx(span, abs=60)
