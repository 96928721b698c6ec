"""Change single places of the source and see which changes no test notices.

    python -m scripts.mutants --sample 600 --seed 1

Runs the tests that need no real homeserver once, to learn which of them run which lines; then,
for each mutant, only those that run what was changed, scenarios first, until one fails. What was
tried is kept in `.mutants/`, apart for each state of the project, so that a run that was cut off
goes on. Changes that change nothing are listed with their reason in `scripts/equivalent.toml`.
With `--tests` those tests are run for every mutant, and nothing is learned first.
"""

import argparse
import ast
import fnmatch
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Literal, NamedTuple

import pytest
from coverage import CoverageData
from rich.console import Console
from rich.table import Table

from scripts.mutations import Mutant, of_python, of_sql

ROOT = Path(__file__).parents[1]
KEPT = ROOT / ".mutants"
PACKAGE = "src/scim_matrix"
# What decides who is kicked, locked, joined or let in.
DECIDING = (
    f"{PACKAGE}/sync/*.py",
    f"{PACKAGE}/store/*.py",
    f"{PACKAGE}/store/queries/*.sql",
    f"{PACKAGE}/matrix/*.py",
    f"{PACKAGE}/console/access.py",
    f"{PACKAGE}/console/session*.py",
    f"{PACKAGE}/scim/*.py",
    f"{PACKAGE}/edge/*.py",
    f"{PACKAGE}/config.py",
    f"{PACKAGE}/groupmap.py",
    f"{PACKAGE}/localpart.py",
)
IN_MEMORY = ("tests/unit", "tests/service", "tests/mas")
# Seconds of tests for one mutant, as long as they took alone.
ENOUGH = 60.0
# Tests run in processes forked off one that has imported what they use, but nothing of the project.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("pytest", "pytest_asyncio.plugin", "pytest_aiohttp.plugin", "aiohttp.test_utils"),
        *("aiohttp_jinja2", "aiohttp_session.cookie_storage", "aiosqlite", "click", "coverage"),
        *("hypothesis.stateful", "json5", "jsonschema", "jsonschema_rs", "nio", "orjson"),
        *("openapi_core", "prometheus_client", "pydantic", "rich.table", "scim2_models"),
        *("scim2_server", "structlog", "trustme", "yaml"),
    ]
)
Outcome = Literal["killed", "survived", "equivalent", "not run"]
UNSEEN = ("survived", "not run")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mutant of a file, by its path from the root of the project."""

    path: str
    mutant: Mutant

    @property
    def key(self) -> str:
        return f"{self.path}: {self.mutant.change}"


class Tried(NamedTuple):
    """What came of a mutant, and the test that noticed it."""

    outcome: Outcome
    by: str | None = None


class Tests:
    """Which tests run which lines, and how many seconds each takes."""

    def __init__(self, lines: Mapping[str, Mapping[int, list[str]]], seconds: Mapping[str, float]):
        self._lines = lines
        self._seconds = seconds
        self._noticed = Counter[tuple[str, str]]()

    @classmethod
    def learn(cls, workshop: "Workshop", kept: Path, workers: int) -> "Tests":
        """Run the tests once, unless that was done before; where mutants are tried they must pass.

        Raises CalledProcessError if they do not: each mutant would count as killed.
        """
        data, times = kept / "coverage", kept / "times.xml"
        if not (kept / "learned").exists():
            told = ["--cov", "--cov-context=test", "--cov-report=", f"--junitxml={times}"]
            words = ["-q", "-p", "no:cacheprovider", "-n", str(workers), *IN_MEMORY, *told]
            environment = os.environ | workshop.environment() | {"COVERAGE_FILE": str(data)}
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
        return cls(lines, seconds)

    def noticed(self, path: str, test: str) -> None:
        """Remember a test that noticed a change of a file: it is the first to be asked again."""
        self._noticed[path, test] += 1

    def of(self, candidate: Candidate) -> list[str]:
        """Return the tests that should notice, as far as they are quick enough.

        Those that noticed other changes of the file come first, then scenarios: they hold what
        becomes of people, where others only pass by. The quickest of the others follow.
        """
        found: set[str] = set()
        for path, lines in self._places(candidate):
            run = self._lines.get(path, {})
            found.update(*(run.get(line, ()) for line in lines))
            if not found and any(line in run for line in lines):
                # It is run when the module is imported.
                found.update(*run.values())
        chosen: list[str] = []
        total = 0.0
        for test in sorted(found, key=lambda test: self._rank(candidate.path, test)):
            total += self.seconds([test])
            if chosen and total > ENOUGH:
                break
            chosen.append(test)
        return chosen

    def seconds(self, tests: Iterable[str]) -> float:
        """Return how long tests take alone."""
        return sum(self._seconds.get(test, 1.0) for test in tests)

    def _rank(self, path: str, test: str) -> tuple[int, bool, float]:
        return -self._noticed[path, test], "test_scenarios" not in test, self.seconds([test])

    def _places(self, candidate: Candidate) -> Iterable[tuple[str, Iterable[int]]]:
        """Return the lines where a mutant is run: for SQL, where Python names the statement."""
        mutant = candidate.mutant
        if mutant.statement is None:
            yield candidate.path, around((ROOT / candidate.path).read_text("utf-8"), mutant.line)
            return
        for path in self._lines:
            if not path.startswith(f"{PACKAGE}/store/"):
                continue
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


class Workshop:
    """A copy of the project in which one mutant after the other is tried."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self._tries = itertools.count(10, 10)
        for name in sources():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)

    def environment(self) -> dict[str, str]:
        """Return what has a process use what is here, with what was compiled of it."""
        return {"PYTHONPATH": f"{self.root / 'src'}:{self.root}"}

    def failing(self, tests: Iterable[str], seconds: float) -> str | None:
        """Return the first of these tests that fails on what is here, if any does.

        They take so many seconds alone; where they take many times as long they never end.
        """
        told = self.root / "failed"
        told.unlink(missing_ok=True)
        arguments = (self.root, self.environment(), list(tests), told)
        process = _CONTEXT.Process(target=_run_tests, args=arguments)
        process.start()
        process.join(60 + 5 * seconds)
        if process.exitcode is None:
            assert process.pid is not None
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            return "(they never end)"
        if process.exitcode == 0:
            return None
        return told.read_text("utf-8") if told.exists() else "(they cannot be run)"

    def try_out(self, candidate: Candidate, tests: list[str], seconds: float) -> "Tried":
        """Run tests on a mutant."""
        if not tests:
            return Tried("not run")
        file = self.root / candidate.path
        whole, times = file.read_bytes(), file.stat()
        file.write_text(candidate.mutant.source, "utf-8")
        # Else what was compiled of it before might count as this.
        os.utime(file, (times.st_atime, times.st_mtime + next(self._tries)))
        try:
            failed = self.failing(tests, seconds)
        finally:
            file.write_bytes(whole)
            os.utime(file, (times.st_atime, times.st_mtime))
        return Tried("killed", failed) if failed else Tried("survived")


class _Failed:
    """Writes down which test failed first."""

    def __init__(self, told: Path) -> None:
        self._told = told

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._told.exists():
            self._told.write_text(report.nodeid, "utf-8")


def _run_tests(root: Path, environment: Mapping[str, str], tests: list[str], told: Path) -> None:
    """Become a run of tests that prints nothing and ends with the first that fails."""
    os.setsid()
    os.chdir(root)
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(":")
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    # Every fork would roll the same dice.
    random.seed()
    quiet = ["-q", "-x", *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov")]
    # Plugins were imported before pytest could have said a word about it.
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    os._exit(pytest.main([*quiet, *tests], plugins=[_Failed(told)]))


def sources() -> list[str]:
    """Return the project's files by their paths from its root, uncommitted ones included."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True)
    return sorted(n for n in filter(None, found.stdout.split("\0")) if (ROOT / n).is_file())


def kept_for_this_state() -> Path:
    """Return the folder of what was learned and tried of the project as it is now."""
    digest = hashlib.sha256()
    for name in filter(re.compile("(src|tests|schemas)/").match, sources()):
        digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes())
    folder = KEPT / digest.hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def candidates(patterns: Iterable[str]) -> list[Candidate]:
    """Return every mutant of the files that match."""
    found = []
    for file in sorted((ROOT / PACKAGE).rglob("*")):
        path = str(file.relative_to(ROOT))
        if not any(fnmatch.fnmatch(path, pattern) for pattern in patterns):
            continue
        if file.suffix not in (".py", ".sql"):
            continue
        listed = of_sql if file.suffix == ".sql" else of_python
        found += [Candidate(path, mutant) for mutant in listed(file.read_text("utf-8"))]
    return found


def draw(patterns: Iterable[str], number: int, seed: str) -> list[Candidate]:
    """Return so many mutants that can be run at all."""
    every = candidates(patterns)
    random.Random(seed).shuffle(every)
    return list(itertools.islice(filter(_compiles, every), number))


def _compiles(candidate: Candidate) -> bool:
    try:
        if candidate.path.endswith(".py"):
            ast.parse(candidate.mutant.source)
    except SyntaxError:
        return False
    return True


def equivalents() -> dict[str, str]:
    """Return the mutants that change nothing, with their reason."""
    entries = tomllib.loads((ROOT / "scripts/equivalent.toml").read_text("utf-8"))["mutant"]
    return {f"{entry['path']}: {entry['change']}": entry["reason"] for entry in entries}


def show(tried: Mapping[str, Tried]) -> int:
    """Print what was tried by module, and what no test noticed; return how many of these."""
    table = Table("module", "tried", "killed", "survived", "not run", "equivalent")
    by_module: dict[str, Counter[str]] = {}
    for key, (outcome, _) in sorted(tried.items()):
        by_module.setdefault(key.partition(": ")[0], Counter())[outcome] += 1
    by_module["all"] = Counter(outcome for outcome, _ in tried.values())
    for module, counts in by_module.items():
        numbers = [counts[o] for o in ("killed", "survived", "not run", "equivalent")]
        table.add_row(module, *map(str, [counts.total(), *numbers]))
    console = Console(width=120)
    console.print(table)
    unseen = sorted(key for key, (outcome, _) in tried.items() if outcome in UNSEEN)
    for key in unseen:
        console.print(f"{tried[key].outcome}: {key}", markup=False, highlight=False, soft_wrap=True)
    return len(unseen)


def main() -> int:
    """Try a sample; the exit status is 1 where a mutant survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=600)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--files", nargs="*", default=DECIDING, help="patterns of paths")
    parser.add_argument("--tests", nargs="*", help="run these for every mutant")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    sample = draw(options.files, options.sample, options.seed)
    known = equivalents()
    with tempfile.TemporaryDirectory() as folder:
        workshops: Queue[Workshop] = Queue()
        for number in range(options.workers):
            workshop = Path(folder, str(number))
            workshop.mkdir()
            workshops.put(Workshop(workshop))
        kept = kept_for_this_state()
        file = kept / f"{options.seed}.jsonl"
        tests, before = Tests({}, {}), dict[str, Tried]()
        if options.tests is None:
            tests = Tests.learn(Workshop(Path(folder, "learning")), kept, options.workers)
            if file.exists():
                lines = map(json.loads, file.read_text("utf-8").splitlines())
                before = {key: Tried(*tried) for key, *tried in lines}
        elif failed := Workshop(Path(folder, "0")).failing(options.tests, 10 * ENOUGH):
            raise SystemExit(f"without any change fails {failed}")

        def try_out(candidate: Candidate) -> Tried:
            if candidate.key in known:
                return Tried("equivalent")
            if candidate.key in before:
                return before[candidate.key]
            workshop = workshops.get()
            try:
                chosen = options.tests or tests.of(candidate)
                found = workshop.try_out(candidate, chosen, tests.seconds(chosen))
            finally:
                workshops.put(workshop)
            if found.by:
                tests.noticed(candidate.path, found.by)
            if options.tests is None:
                with file.open("a", encoding="utf-8") as kept_file:
                    kept_file.write(json.dumps([candidate.key, *found]) + "\n")
            return found

        for candidate in sample:
            if (old := before.get(candidate.key)) and old.by:
                tests.noticed(candidate.path, old.by)
        with ThreadPoolExecutor(options.workers) as pool:
            tried = dict(zip((c.key for c in sample), pool.map(try_out, sample), strict=True))
    return 1 if show(tried) else 0


if __name__ == "__main__":
    sys.exit(main())
