"""A few mutants are tried in each run of CI: what no test notices fails it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUARD = "src/scim_matrix/sync/guard.py"
MODULE = """\
def holds(people: int) -> bool:
    return people > 10
"""
NOTICES = """\
from scim_matrix.sync.guard import holds


def test_holds() -> None:
    assert (holds(10), holds(11)) == (False, True)
"""
NOTICES_NOTHING = NOTICES.replace("    assert (", "    (")
# What no test notices.
ANOTHER = """\


def spares(people: int) -> bool:
    return people < 3
"""
Commit = Callable[[dict[str, str]], None]


@pytest.fixture
def commit(tmp_path: Path) -> Commit:
    """Return what commits files to a project in which mutants are tried."""

    def git(*words: str) -> None:
        who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    def commit(files: dict[str, str]) -> None:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        git("add", "--all")
        git("commit", "--message", "A change")

    git("init")
    commit({"README.md": "A project"})
    by = "tests/unit/test_guard.py::test_holds"
    key = f"{GUARD}: holds: return people > 10 : > →  >= "
    scripts = ("mutants", "mutations", "noticing", "warm")
    commit(
        {f"scripts/{name}.py": (ROOT / f"scripts/{name}.py").read_text() for name in scripts}
        | {"scripts/equivalent.toml": "mutant = []", "scripts/noticed.json": json.dumps({key: by})}
        | {"src/scim_matrix/__init__.py": "", "src/scim_matrix/sync/__init__.py": ""}
        | {GUARD: MODULE, "tests/unit/test_guard.py": NOTICES}
    )
    return commit


def tried(project: Path) -> tuple[int, str]:
    """Return the exit status of trying a few mutants, and what is told."""
    words = ["-m", "scripts.mutants", "--check", "2", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, *words], cwd=project, check=False, capture_output=True, text=True
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("changes", "survives"),
    [
        ([{"README.md": "x"}], None),
        ([{"tests/unit/test_guard.py": NOTICES_NOTHING}, {"README.md": "x"}], "holds: "),
        ([{GUARD: MODULE + ANOTHER}], "spares: "),
        ([{GUARD: MODULE + ANOTHER}, {"README.md": "x"}], "spares: "),
    ],
    ids=["noticed", "test-gone", "in-the-last-commit", "in-one-before"],
)
def test_what_no_test_notices_fails(
    tmp_path: Path, commit: Commit, changes: list[dict[str, str]], survives: str | None
) -> None:
    """Whichever commit has taken the test away, or brought the line."""
    for files in changes:
        commit(files)
    status, told = tried(tmp_path)
    [tries] = [line.split("│")[2] for line in told.splitlines() if line.startswith("│ all")]
    assert int(tries) > 0
    assert status == (0 if survives is None else 1), told
    unseen = [line for line in told.splitlines() if line.startswith("survived: ")]
    assert bool(unseen) == (survives is not None)
    assert all(line.startswith(f"survived: {GUARD}: {survives}") for line in unseen)
