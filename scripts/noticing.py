"""Which tests should notice a change of the source, and whether they do."""

import ast
import contextlib
import itertools
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

from coverage import CoverageData

from scripts.mutations import Mutant
from scripts.warm import COLD, FAILED, PASSED, Asked, ColdError, serve

ROOT = Path(__file__).parents[1]
PACKAGE = "src/scim_matrix"
IN_MEMORY = ("tests/unit", "tests/service", "tests/mas")
SCENARIOS = "tests/service/test_scenarios.py"
# What is run over PostgreSQL too is run over SQLite first, the same lines of it.
NOT_TWICE = "not postgresql or test_postgresql"
# Seconds of tests for one mutant, as long as they took alone.
ENOUGH = 60.0
_CONTEXT = multiprocessing.get_context("forkserver")
# Tests run in processes forked off one that has imported what they use, but nothing of the project.
_USED = (
    *("pytest", "pytest_asyncio.plugin", "pytest_aiohttp.plugin", "aiohttp.test_utils"),
    *("aiohttp_jinja2", "aiohttp_session.cookie_storage", "aiosqlite", "click", "coverage"),
    *("hypothesis.stateful", "json5", "jsonschema", "jsonschema_rs", "nio", "orjson"),
    *("openapi_core", "prometheus_client", "pydantic", "rich.table", "scim2_models"),
    *("scim2_server", "structlog", "trustme", "yaml"),
)
Outcome = Literal["killed", "survived", "equivalent", "not run"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mutant of a file, by its path from the root of the project."""

    path: str
    mutant: Mutant

    @property
    def key(self) -> str:
        return f"{self.path}: {self.mutant.change}"


class Tried(NamedTuple):
    """What came of a mutant, the test that noticed it, and after how many seconds."""

    outcome: Outcome
    by: str | None = None
    seconds: float = 0.0


class Tests:
    """Which tests run which lines, and how many seconds each takes."""

    def __init__(
        self,
        lines: Mapping[str, Mapping[int, list[str]]],
        seconds: Mapping[str, float],
        came_along: Collection[str] = (),
    ) -> None:
        self._lines = lines
        self._seconds = seconds
        # The files of those that came with what is changed.
        self._came_along = came_along
        self._noticed = Counter[tuple[str, str]]()
        # How many lines each runs.
        self._breadth = Counter(
            test for run in lines.values() for tests in run.values() for test in tests
        )

    @classmethod
    def learn(
        cls, workshop: "Workshop", kept: Path, workers: int, came_along: Collection[str] = ()
    ) -> "Tests":
        """Run the tests once, unless that was done before; where mutants are tried they must pass.

        Raises CalledProcessError if they do not: each mutant would count as killed.
        """
        data, times = kept / "coverage", kept / "times.xml"
        if not (kept / "learned").exists():
            told = ["--cov", "--cov-context=test", "--cov-report=", f"--junitxml={times}"]
            words = ["-q", "-p", "no:cacheprovider", "-n", str(workers), "--dist", "worksteal"]
            words += ["-k", NOT_TWICE, *IN_MEMORY, *told]
            environment = os.environ | workshop.environment | {"COVERAGE_FILE": str(data)}
            command = [sys.executable, "-m", "pytest", *words]
            subprocess.run(command, cwd=workshop.root, env=environment, check=True)
            (kept / "learned").write_text(str(workshop.root), "utf-8")
        root = Path((kept / "learned").read_text("utf-8"))
        found = CoverageData(str(data))
        found.read()
        lines = {
            str(Path(file).relative_to(root)): {
                line: sorted({context.partition("|")[0] for context in contexts if context})
                for line, contexts in found.contexts_by_lineno(file).items()
            }
            for file in found.measured_files()
            if Path(file).is_relative_to(root)
        }
        seconds = {
            f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}": float(
                case.get("time", 0)
            )
            for case in ElementTree.parse(times).iter("testcase")
        }
        return cls(lines, seconds, came_along)

    def noticed(self, path: str, test: str | None) -> None:
        """Remember a test that noticed a change of a file: it is the first to be asked again."""
        if test:
            self._noticed[path, test] += 1

    def of(self, candidate: Candidate) -> list[str]:
        """Return the tests that should notice, as far as they are quick enough.

        A third of the time is for those that noticed other changes of the file, one for those that
        run least besides: they are about what was changed, as are those that came along with it,
        for which there is as much time as for all others. Then each test once before any with
        other parameters, since these promise something else; scenarios where it is about people,
        of whom others say little, and the others elsewhere; each the quickest first.
        """
        found: set[str] = set()
        for path, lines in self._places(candidate):
            run = self._lines.get(path, {})
            found.update(*(run.get(line, ()) for line in lines))
            if not found and any(line in run for line in lines):
                # It is run when the module is imported.
                found.update(*run.values())
        again = self._again(found)
        noticed = [test for test in found if self._noticed[candidate.path, test]]
        noticed.sort(key=lambda test: -self._noticed[candidate.path, test])
        own = [test for test in found if test.partition("::")[0] in self._came_along]
        own.sort(key=lambda test: (self.seconds([test]), test))
        near = sorted(found, key=lambda test: (self._breadth[test], test))
        others = sorted(found, key=lambda test: self._rank(candidate.path, test, again[test]))
        chosen: dict[str, None] = {}
        third = ENOUGH / 3
        for tests, left in (noticed, third), (own, ENOUGH), (near, third), (others, third):
            for test in (test for test in tests if test not in chosen):
                left -= self.seconds([test])
                if chosen and left < 0:
                    break
                chosen[test] = None
        return list(chosen)

    def seconds(self, tests: Iterable[str]) -> float:
        """Return how long tests take alone."""
        return sum(self._seconds.get(test, 1.0) for test in tests)

    def _again(self, tests: Iterable[str]) -> dict[str, int]:
        """Return how many tests are quicker that are the same one with other parameters."""
        met = Counter[str]()
        again = {}
        for test in sorted(tests, key=lambda test: (self.seconds([test]), test)):
            function = test if test.startswith(SCENARIOS) else test.partition("[")[0]
            again[test] = met[function]
            met[function] += 1
        return again

    def _rank(self, path: str, test: str, again: int) -> tuple[bool, int, bool, float]:
        # Each run of these starts a Synapse first.
        is_slow = test.startswith("tests/mas/")
        is_of_people = path.startswith((f"{PACKAGE}/sync/", f"{PACKAGE}/store/"))
        is_near = test.startswith(SCENARIOS) == is_of_people
        return is_slow, again, not is_near, self.seconds([test])

    def _places(self, candidate: Candidate) -> Iterable[tuple[str, Iterable[int]]]:
        """Return the lines where a mutant is run: for SQL, where Python names the statement."""
        mutant = candidate.mutant
        if mutant.statement is None:
            yield candidate.path, around((ROOT / candidate.path).read_text("utf-8"), mutant.line)
            return
        for path in self._lines:
            text = (ROOT / path).read_text("utf-8")
            if f'load("{Path(candidate.path).stem}")' not in text:
                continue
            for number, line in enumerate(text.splitlines(), 1):
                if re.search(rf'"{mutant.statement}"', line):
                    yield path, around(text, number)


def around(source: str, line: int) -> range:
    """Return the lines of the statement that a line is in, without the statements inside it."""
    lines = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line):
            body: list[ast.stmt] = getattr(node, "body", [])
            last = body[0].lineno - 1 if body else node.end_lineno or line
            lines = range(node.lineno, max(last, node.lineno) + 1)
    return lines


class LostError(Exception):
    """The tests' process ended, and no test did that."""


class Workshop:
    """A copy of the project in which mutants are tried one by one, with the tests of some files."""

    def __init__(self, folder: Path, files: Sequence[str] = IN_MEMORY) -> None:
        self.root = folder
        self._files = files
        self._told = folder / "failed"
        self._warm: Connection[Any, Any] | None = None
        self._tries = itertools.count(10, 10)
        for name in sources():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        # What belongs to the project is asked of git.
        for words in (["init", "--quiet"], ["add", "--all"]):
            subprocess.run(["git", *words], cwd=folder, check=True)

    @property
    def environment(self) -> dict[str, str]:
        """What has a process use what is here."""
        return {"PYTHONPATH": f"{self.root / 'src'}:{self.root}"}

    def try_out(self, candidate: Candidate, tests: Sequence[str], seconds: float) -> "Tried":
        """Run tests on a mutant."""
        if not tests:
            return Tried("not run")
        file = self.root / candidate.path
        if self._warm is None:
            self._warm = self._start(self._files)
        before, times = file.read_text("utf-8"), file.stat()
        file.write_text(candidate.mutant.source, "utf-8")
        # Else what was compiled of it before might count as this.
        os.utime(file, (times.st_atime, times.st_mtime + next(self._tries)))
        begun = time.monotonic()
        try:
            try:
                failed = self._ask(self._warm, (file, before), tests, seconds)
            except ColdError:
                failed = self._ask_anew(tests, seconds)
        except (LostError, EOFError, BrokenPipeError):
            self._warm = None
            return Tried("not run")
        finally:
            file.write_text(before, "utf-8")
            os.utime(file, (times.st_atime, times.st_mtime))
        took = time.monotonic() - begun
        return Tried("killed", failed, took) if failed else Tried("survived", seconds=took)

    def _ask_anew(self, tests: Sequence[str], seconds: float) -> str | None:
        with contextlib.closing(self._start(tests)) as asked:
            try:
                return self._ask(asked, None, tests, seconds)
            except (EOFError, BrokenPipeError):
                return "(they cannot be imported)"

    def _start(self, tests: Sequence[str]) -> "Connection[Any, Any]":
        """Return where to ask a run of these tests for forks."""
        # Not where this module is imported: there is one such process for all of a run of tests.
        _CONTEXT.set_forkserver_preload([*_USED])
        ours, theirs = _CONTEXT.Pipe()
        arguments = (self.root, self.environment, tests, self._told, theirs)
        _CONTEXT.Process(target=serve, args=arguments, daemon=True).start()
        theirs.close()
        # What is imported later might be changed already. Where it cannot be, asking will tell.
        with contextlib.suppress(EOFError):
            ours.recv()
        return ours

    def _ask(
        self,
        asked: "Connection[Any, Any]",
        changed: tuple[Path, str] | None,
        tests: Sequence[str],
        seconds: float,
    ) -> str | None:
        """Return the first test that fails, if any does.

        They take so many seconds alone; where they take many times as long they never end.
        """
        self._told.unlink(missing_ok=True)
        asked.send(Asked(changed, tests, 60 + 5 * seconds))
        status = asked.recv()
        if status == COLD:
            raise ColdError
        if status is None:
            return "(they never end)"
        if status == PASSED:
            return None
        if status != FAILED:
            raise LostError
        return self._told.read_text("utf-8")


def sources() -> list[str]:
    """Return the project's files by their paths from its root, uncommitted ones included."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True)
    return sorted(n for n in filter(None, found.stdout.split("\0")) if (ROOT / n).is_file())
