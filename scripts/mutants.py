"""Change single places of the source and see which changes no test notices.

    python -m scripts.mutants --sample 600 --seed 1
    python -m scripts.mutants --since HEAD~3
    python -m scripts.mutants --check 24

Runs the tests that need no real homeserver once, to learn which of them run which lines; then,
for each mutant, only those that run what was changed, until one fails. What was tried is kept in
`.mutants/`, apart for each state of the project, so that a run that was cut off goes on. Which
test noticed which change is written to `scripts/noticed.json`; changes that change nothing are
listed with their reason in `scripts/equivalent.toml`. `--since` tries every change of the lines
that have changed since a commit: what `--check` draws of them has been seen by then.

`--check` learns nothing and asks for a few minutes only: it tries anew so many of the changes of
what decides (`GRAVE`) that a test has noticed, always the same ones, half as many in the lines that
the last commit changed, and half as many in those that have changed since it was last written down
which test notices what. It fails where no test notices one.
"""

import argparse
import ast
import fnmatch
import hashlib
import itertools
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from rich.console import Console
from rich.table import Table

from scripts.mutations import of_python, of_sql
from scripts.noticing import (
    ENOUGH,
    IN_MEMORY,
    PACKAGE,
    ROOT,
    SCENARIOS,
    Candidate,
    Tests,
    Tried,
    Workshop,
    sources,
)

KEPT = ROOT / ".mutants"
NOTICED = ROOT / "scripts/noticed.json"
# What decides who is kicked, locked, joined or let in.
GRAVE = (
    *(f"{PACKAGE}/sync/{name}.py" for name in ("account_*", "authority", "copies", "delegation")),
    *(f"{PACKAGE}/sync/{name}.py" for name in ("guard", "identity", "live", "observation", "plan")),
    *(f"{PACKAGE}/sync/{name}.py" for name in ("power", "provenance", "room_*", "settling")),
    *(f"{PACKAGE}/{name}/unanswered.py" for name in ("sync", "store")),
    *(f"{PACKAGE}/store/{name}.py" for name in ("accounts", "brake", "database", "grants")),
    *(f"{PACKAGE}/store/{name}.py" for name in ("groupmap", "memberships", "observed", "rooms")),
    *(f"{PACKAGE}/store/{name}.py" for name in ("binding", "openings", "references")),
    *(f"{PACKAGE}/store/{name}.py" for name in ("leadership", "lease")),
    *(f"{PACKAGE}/store/queries/{name}.sql" for name in ("accounts", "brake", "grants")),
    *(f"{PACKAGE}/store/queries/{name}.sql" for name in ("groupmap", "memberships", "observed")),
    *(f"{PACKAGE}/store/queries/{name}.sql" for name in ("lease", "rooms", "sessions")),
    f"{PACKAGE}/store/queries/unanswered.sql",
    f"{PACKAGE}/matrix/fence.py",
    f"{PACKAGE}/console/access.py",
    f"{PACKAGE}/console/session*.py",
    f"{PACKAGE}/console/sign_in.py",
    f"{PACKAGE}/scim/attempts.py",
)
# What stands around it, too.
DECIDING = (
    *GRAVE,
    f"{PACKAGE}/sync/*.py",
    f"{PACKAGE}/store/*.py",
    f"{PACKAGE}/store/queries/*.sql",
    f"{PACKAGE}/matrix/*.py",
    f"{PACKAGE}/scim/*.py",
    f"{PACKAGE}/edge/*.py",
    *(f"{PACKAGE}/{name}.py" for name in ("app", "clock", "config", "groupmap", "localpart")),
    *(f"{PACKAGE}/{name}.py" for name in ("map_loader", "membership", "settings_values")),
)
# Seconds within which a test must notice a mutant to be asked again by `--check`.
SOON = 60.0
UNSEEN = ("survived", "not run")
# Which tests are asked that came along with a change, and how many files of them.
IN_TESTS = re.compile(r"tests/(unit|service)/test_")
MOST = 6


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


def draw(every: Iterable[Candidate], number: int, seed: str) -> list[Candidate]:
    """Return so many mutants that can be run at all.

    Those of lines that stay are drawn again, whatever becomes of other lines.
    """

    def rank(candidate: Candidate) -> bytes:
        return hashlib.sha256(f"{seed} {candidate.key}".encode()).digest()

    return list(itertools.islice(filter(_compiles, sorted(every, key=rank)), number))


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


def noticed() -> dict[str, str]:
    """Return the test that noticed each mutant that one has noticed."""
    found: dict[str, str] = json.loads(NOTICED.read_text("utf-8"))
    return found


def note(tried: Mapping[str, Tried]) -> None:
    """Write down the tests that noticed mutants soon; those of lines that are gone are left out."""
    soon = {key: t.by for key, t in tried.items() if t.by and "::" in t.by and t.seconds < SOON}
    found = noticed() | soon
    there = {candidate.key for candidate in candidates(DECIDING)}
    unseen = {key for key, t in tried.items() if t.outcome in UNSEEN}
    left = {key: found[key] for key in sorted(found.keys() & there - unseen)}
    NOTICED.write_text(json.dumps(left, indent=0, ensure_ascii=False) + "\n", "utf-8")


def show(tried: Mapping[str, Tried]) -> int:
    """Print what was tried by module, and what no test noticed; return how many of these."""
    table = Table("module", "tried", "killed", "survived", "not run", "equivalent")
    by_module: dict[str, Counter[str]] = {}
    for key, one in sorted(tried.items()):
        by_module.setdefault(key.partition(": ")[0], Counter())[one.outcome] += 1
    by_module["all"] = Counter(one.outcome for one in tried.values())
    for module, counts in by_module.items():
        numbers = [counts[o] for o in ("killed", "survived", "not run", "equivalent")]
        table.add_row(module, *map(str, [counts.total(), *numbers]))
    console = Console(width=120)
    console.print(table)
    unseen = sorted(key for key, one in tried.items() if one.outcome in UNSEEN)
    for key in unseen:
        console.print(f"{tried[key].outcome}: {key}", markup=False, highlight=False, soft_wrap=True)
    return len(unseen)


class Workshops:
    """Copies of the project in which mutants are tried side by side."""

    def __init__(self, folder: Path, number: int, files: Sequence[str] = IN_MEMORY) -> None:
        self._free: Queue[Workshop] = Queue()
        for each in map(str, range(number)):
            (folder / each).mkdir()
            self._free.put(Workshop(folder / each, files))
        self._pool = ThreadPoolExecutor(number)

    def map(
        self, work: Callable[[Workshop, Candidate], Tried], given: Iterable[Candidate]
    ) -> dict[str, Tried]:
        """Return what came of each mutant by its key."""

        def one(candidate: Candidate) -> tuple[str, Tried]:
            workshop = self._free.get()
            try:
                return candidate.key, work(workshop, candidate)
            finally:
                self._free.put(workshop)

        return dict(self._pool.map(one, given))


def try_sample(
    sample: list[Candidate], seed: str, folder: Path, workers: int, came_along: Collection[str]
) -> dict[str, Tried]:
    """Try mutants on all tests that should notice; what was tried of this state is taken over.

    `came_along` are the files of tests that came with what is changed.
    """
    known, kept = equivalents(), kept_for_this_state()
    (folder / "learning").mkdir()
    tests = Tests.learn(Workshop(folder / "learning"), kept, workers, came_along)
    file = kept / f"{seed}.jsonl"
    lines = map(json.loads, file.read_text("utf-8").splitlines()) if file.exists() else ()
    before = {key: Tried(*tried) for key, *tried in lines}
    for candidate in sample:
        if candidate.key in before:
            tests.noticed(candidate.path, before[candidate.key].by)

    def work(workshop: Workshop, candidate: Candidate) -> Tried:
        if candidate.key in known:
            return Tried("equivalent")
        if candidate.key in before:
            return before[candidate.key]
        chosen = tests.of(candidate)
        tried = workshop.try_out(candidate, chosen, tests.seconds(chosen))
        tests.noticed(candidate.path, tried.by)
        if tried.outcome != "not run":
            with file.open("a", encoding="utf-8") as kept_file:
                kept_file.write(json.dumps([candidate.key, *tried]) + "\n")
        return tried

    tried = Workshops(folder, workers).map(work, sample)
    note(tried)
    return tried


def check(number: int, seed: str, folder: Path, workers: int) -> dict[str, Tried]:
    """Try anew what tests have noticed of what decides, and half as much of what was changed.

    First with the test that noticed it, then with those that noticed most of the same file; what
    was changed with the tests, too, that came along with most of it.
    """
    by, known = noticed(), equivalents()
    every = [c for c in candidates(GRAVE) if c.key not in known]
    sample = draw((c for c in every if c.key in by), number, seed)
    left = {c.key: c for c in every if c.key not in by}
    own: dict[str, list[str]] = {}
    for since in "HEAD^", f"{last_noted()}^":
        lines, tested = changed_lines(since), changed_lines(since, "tests")
        most = sorted(filter(IN_TESTS.match, tested), key=lambda file: -len(tested[file]))
        fresh = (c for c in left.values() if c.mutant.line in lines.get(c.path, ()))
        drawn = draw(fresh, number // 2, seed)
        sample += drawn
        for candidate in drawn:
            del left[candidate.key]
            own[candidate.key] = most[:MOST]
    of_file: dict[str, Counter[str]] = {}
    for key, test in by.items():
        of_file.setdefault(key.partition(": ")[0], Counter())[test] += 1

    def tests(candidate: Candidate) -> list[str]:
        near = [test for test, _ in of_file.get(candidate.path, Counter()).most_common(10)]
        that_did = filter(None, [by.get(candidate.key)])
        return list(dict.fromkeys([*that_did, *near, *own.get(candidate.key, ()), SCENARIOS]))

    files = {test.partition("::")[0] for candidate in sample for test in tests(candidate)}
    there = sorted(file for file in files if (ROOT / file).exists())
    return Workshops(folder, workers, there).map(
        lambda workshop, candidate: workshop.try_out(candidate, tests(candidate), ENOUGH), sample
    )


def last_noted() -> str:
    """Return the last commit that wrote down which test notices what."""
    return _git("log", "-1", "--format=%H", "--", str(NOTICED)).strip()


def changed_lines(since: str, below: str = PACKAGE) -> dict[str, set[int]]:
    """Return the lines of each file that have changed since a commit, none where it is not here.

    A merge counts as all that it brought.
    """
    found: dict[str, set[int]] = {}
    lines: set[int] = set()
    for line in _git("diff", "--unified=0", "--no-color", since, "--", below).split("\n"):
        if line.startswith("+++ b/"):
            lines = found.setdefault(line[6:], set())
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            start, number = int(hunk[1]), int(hunk[2] or 1)
            lines.update(range(start, start + number))
    return found


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout


def main() -> int:
    """Try a sample; the exit status is 1 where a mutant survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=600)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--files", nargs="*", default=DECIDING, help="patterns of paths")
    parser.add_argument("--since", metavar="COMMIT", help="try every change of what has changed")
    parser.add_argument("--check", type=int, metavar="N", help="try so many known ones anew")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Some tests go on as a user who may do nothing, and import more.
        folder.chmod(0o755)
        if options.check:
            tried = check(options.check, options.seed, folder, options.workers)
        else:
            every, number = candidates(options.files), options.sample
            came_along: Collection[str] = ()
            if options.since:
                lines = changed_lines(options.since)
                every = [c for c in every if c.mutant.line in lines.get(c.path, ())]
                number, came_along = len(every), changed_lines(options.since, "tests")
            sample = draw(every, number, options.seed)
            tried = try_sample(sample, options.seed, folder, options.workers, came_along)
    return 1 if show(tried) else 0


if __name__ == "__main__":
    sys.exit(main())
