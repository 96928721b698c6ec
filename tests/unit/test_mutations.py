"""What counts as a single change of the source, how it is made, and where it is run."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.mutations import of_python, of_sql
from scripts.noticing import around
from scripts.warm import ColdError, change, ended

PYTHON = '''\
"""A docstring with 1 < 2."""


def held(number: int = 1) -> bool:
    """Another: True."""
    log.info("told", number=2)
    if free:
        log.warning("free")
    if number > 10 and not free:
        raise ValueError(number)
    work(number)
    return True
'''


@pytest.mark.parametrize(
    "line",
    [
        "def held(number: int = 2) -> bool:",
        "    if number >= 10 and not free:",
        "    if number > 10 or not free:",
        "    if number > 10 and (free):",
        "    if number > 10 and True:",
        "    if True:",
        "    if False:",
        "        pass",
        "    pass",
        "    return False",
    ],
)
def test_comparisons_conditions_constants_and_statements_are_changed(line: str) -> None:
    """Each by itself, and the rest of the module stays as it was."""
    found = [mutant for mutant in of_python(PYTHON) if line in mutant.source.splitlines()]
    assert found
    for mutant in found:
        changed = mutant.source.splitlines()
        assert changed[mutant.line - 1] == line
        del changed[mutant.line - 1]
        rest = PYTHON.splitlines()
        del rest[mutant.line - 1]
        assert changed == rest


def test_two_changes_that_read_alike_are_told_apart() -> None:
    """By what they are in, or else by a number: each is listed by itself if it changes nothing."""
    found = [
        mutant.change for mutant in of_python("def f():\n    g(1, 1)\ndef h():\n    g(1, 1)\n")
    ]
    alike = [change for change in found if ": 1 → 2" in change]
    assert alike == [f"{name}: g(1, 1) : 1 → 2{n}" for name in "fh" for n in ("", " (2)")]


def test_what_only_readers_see_is_left_alone() -> None:
    """Docstrings and log lines, and whether there are any."""
    for mutant in of_python(PYTHON):
        lines = mutant.source.splitlines()
        assert lines[0] == '"""A docstring with 1 < 2."""'
        assert '    log.info("told", number=2)' in lines
        assert "    if free:" in lines


SQL = """\
-- lose --
-- Whoever is granted a room AND is not there.
UPDATE membership SET state = 'revoked', tick = :tick WHERE todo IS NOT NULL
AND brake = 'free'
"""


@pytest.mark.parametrize(
    "line",
    [
        "UPDATE membership SET tick = :tick WHERE todo IS NOT NULL",
        "UPDATE membership SET state = 'revoked' WHERE todo IS NOT NULL",
        "UPDATE membership SET state = 'revoked', tick = :tick WHERE todo IS NULL",
        "OR brake = 'free'",
        "",
    ],
)
def test_conditions_and_columns_of_sql_are_changed(line: str) -> None:
    """In statements, which the mutant names; not in what is said of them."""
    [mutant] = [m for m in of_sql(SQL) if line == m.source.splitlines()[m.line - 1]]
    assert mutant.statement == "lose"
    assert "-- Whoever is granted a room AND is not there." in mutant.source


def test_no_half_condition_of_sql_is_left_out() -> None:
    """What stood behind it would become a condition of something else."""
    whole = "SELECT 1 WHERE a = :b AND c GLOB :d AND e"
    found = {mutant.change for mutant in of_sql(f"-- find --\n{whole}\n")}
    assert f"find: {whole} → SELECT 1 WHERE a = :b AND c GLOB :d" in found
    assert f"find: {whole} → SELECT 1 WHERE a = :b GLOB :d AND e" not in found


MODULE = """\
LIMIT = 1


class Pair:
    async def held(self) -> bool:
        return [n > LIMIT for n in (1, 2)][1]
"""


async def test_what_functions_do_is_changed_in_place(tmp_path: Path) -> None:
    """What was imported does what the file says now; what a module does at its import does not."""
    file = tmp_path / "warmed.py"
    file.write_text(MODULE)
    spec = importlib.util.spec_from_file_location("warmed", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pair = module.Pair()
    assert await pair.held() is True

    file.write_text(MODULE.replace("n > LIMIT", "n < LIMIT"))
    change(file, MODULE)
    assert await pair.held() is False
    file.write_text(MODULE.replace("LIMIT = 1", "LIMIT = 2"))
    with pytest.raises(ColdError):
        change(file, MODULE)


@pytest.mark.parametrize(("line", "lines"), [(1, [1]), (4, [4]), (5, [5]), (6, [6])])
def test_a_change_is_run_where_its_statement_is(line: int, lines: list[int]) -> None:
    """In all of its lines, and not in the statements inside it."""
    assert list(around(MODULE, line)) == lines
    assert list(around("f(\n    1,\n    2,\n)\nif a and (\n    b\n):\n    c\n", 2)) == [1, 2, 3, 4]
    assert list(around("f(\n    1,\n    2,\n)\nif a and (\n    b\n):\n    c\n", 6)) == [5, 6, 7]


def test_a_run_is_waited_for_and_ended_where_it_does_not_end() -> None:
    """Its exit status is told, None for one that had to be ended; nothing is left of either."""
    for program, seconds, expected in (
        ("raise SystemExit(3)", 60.0, 3),
        ("import signal; signal.pause()", 0.0, None),
    ):
        process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
        assert ended(process.pid, seconds) == expected
        with pytest.raises(ChildProcessError):
            os.waitpid(process.pid, 0)
        process.returncode = 0
