"""Change single places of the source and see which changes no test notices.

    python -m scripts.mutants --sample 600 --seed 1

Runs the tests that need no real homeserver once, to learn which of them run which lines; then,
for each mutant, only those that run what was changed, scenarios first, until one fails. What was
tried is kept in `.mutants/`, apart for each state of the project, so that a run that was cut off
goes on. Changes that change nothing are listed with their reason in `scripts/equivalent.toml`.
With `--tests` those tests are run for every mutant, and nothing is learned first.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import random
import re
import shutil
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
from typing import Any, Literal

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
ENOUGH = 90.0
Outcome = Literal["killed", "survived", "equivalent", "not run"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mutant of a file, by its path from the root of the project."""

    path: str
    mutant: Mutant

    @property
    def key(self) -> str:
        return f"{self.path}: {self.mutant.change}"


class Tests:
    """Which tests run which lines, and how many seconds each takes."""

    def __init__(self, lines: Mapping[str, Mapping[int, list[str]]], seconds: Mapping[str, float]):
        self._lines = lines
        self._seconds = seconds

    @classmethod
    def learn(cls, workshop: "Workshop", kept: Path) -> "Tests":
        """Run the tests once, unless that was done before; where mutants are tried they must pass.

        Raises CalledProcessError if they do not: each mutant would count as killed.
        """
        data, times = kept / "coverage", kept / "times.xml"
        if not (kept / "learned").exists():
            told = ["--cov", "--cov-context=test", "--cov-report=", f"--junitxml={times}"]
            workshop.run(["-n", "2", *IN_MEMORY, *told], {"COVERAGE_FILE": str(data)})
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

    def of(self, candidate: Candidate) -> list[str]:
        """Return the tests that should notice, as far as they are quick enough.

        Scenarios come first: they hold what becomes of people, where others only pass by.
        The quickest of the others follow.
        """
        found: set[str] = set()
        for path, line in self._places(candidate):
            found.update(self._lines.get(path, {}).get(line, ()))
        chosen: list[str] = []
        total = 0.0
        for test in sorted(found, key=self._rank):
            total += self._seconds.get(test, 1.0)
            if chosen and total > ENOUGH:
                break
            chosen.append(test)
        return chosen

    def _rank(self, test: str) -> tuple[bool, float]:
        return "test_scenarios" not in test, self._seconds.get(test, 1.0)

    def _places(self, candidate: Candidate) -> Iterable[tuple[str, int]]:
        """Return where a mutant is run: for SQL, where Python names the statement."""
        mutant = candidate.mutant
        if mutant.statement is None:
            yield candidate.path, mutant.line
            return
        for path in self._lines:
            if not path.startswith(f"{PACKAGE}/store/"):
                continue
            text = (ROOT / path).read_text("utf-8")
            if f'load("{Path(candidate.path).stem}")' not in text:
                continue
            for number, line in enumerate(text.splitlines(), 1):
                if re.search(rf'"{mutant.statement}"', line):
                    yield path, number


class Workshop:
    """A copy of the project in which one mutant after the other is tried."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for name in sources():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)

    def run(self, arguments: Iterable[str], more: dict[str, str], **options: Any) -> None:
        """Run tests on what is here; raises CalledProcessError unless they pass."""
        here = {"PYTHONPATH": f"{self.root / 'src'}:{self.root}", "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=self.root,
            env=os.environ | here | more,
            check=True,
            **options,
        )

    def passes(self, tests: Iterable[str]) -> bool:
        """Tell whether tests pass on what is here; those that never end do not."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            self.run(["-x", *tests], {}, timeout=10 * ENOUGH, **quiet)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
            return False
        return True

    def try_out(self, candidate: Candidate, tests: list[str]) -> Outcome:
        """Run tests on a mutant; one that makes them run for ever is noticed too."""
        if not tests:
            return "not run"
        file = self.root / candidate.path
        whole = file.read_bytes()
        file.write_text(candidate.mutant.source, "utf-8")
        try:
            return "survived" if self.passes(tests) else "killed"
        finally:
            file.write_bytes(whole)


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


def equivalents() -> dict[str, str]:
    """Return the mutants that change nothing, with their reason."""
    entries = tomllib.loads((ROOT / "scripts/equivalent.toml").read_text("utf-8"))["mutant"]
    return {f"{entry['path']}: {entry['change']}": entry["reason"] for entry in entries}


def show(outcomes: Mapping[str, Outcome]) -> int:
    """Print what was tried by module, and what no test noticed; return how many of these."""
    table = Table("module", "tried", "killed", "survived", "not run", "equivalent")
    by_module: dict[str, Counter[str]] = {}
    for key, outcome in sorted(outcomes.items()):
        by_module.setdefault(key.partition(": ")[0], Counter())[outcome] += 1
    by_module["all"] = Counter(outcomes.values())
    for module, counts in by_module.items():
        numbers = [counts[o] for o in ("killed", "survived", "not run", "equivalent")]
        table.add_row(module, *map(str, [counts.total(), *numbers]))
    console = Console(width=120)
    console.print(table)
    unseen = sorted(key for key, outcome in outcomes.items() if outcome in ("survived", "not run"))
    for key in unseen:
        console.print(f"{outcomes[key]}: {key}", markup=False, highlight=False)
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

    every = candidates(options.files)
    sample = random.Random(options.seed).sample(every, min(options.sample, len(every)))
    known = equivalents()
    with tempfile.TemporaryDirectory() as folder:
        workshops: Queue[Workshop] = Queue()
        for number in range(options.workers):
            workshop = Path(folder, str(number))
            workshop.mkdir()
            workshops.put(Workshop(workshop))
        learned, outcomes = None, dict[str, Outcome]()
        kept = kept_for_this_state()
        tried = kept / f"{options.seed}.jsonl"
        if options.tests is None:
            learned = Tests.learn(Workshop(Path(folder, "learning")), kept)
            if tried.exists():
                outcomes = dict(json.loads(line) for line in tried.read_text("utf-8").splitlines())
        elif not Workshop(Path(folder, "0")).passes(options.tests):
            raise SystemExit("the tests fail without any change")
        outcomes |= {c.key: "equivalent" for c in sample if c.key in known}
        left = [c for c in sample if c.key not in outcomes]

        def try_out(candidate: Candidate) -> tuple[str, Outcome]:
            workshop = workshops.get()
            try:
                tests = learned.of(candidate) if learned else options.tests
                return candidate.key, workshop.try_out(candidate, tests)
            finally:
                workshops.put(workshop)

        with ThreadPoolExecutor(options.workers) as pool:
            for key, outcome in pool.map(try_out, left):
                outcomes[key] = outcome
                if learned:
                    with tried.open("a", encoding="utf-8") as file:
                        file.write(json.dumps([key, outcome]) + "\n")
    return 1 if show({c.key: outcomes[c.key] for c in sample}) else 0


if __name__ == "__main__":
    sys.exit(main())
