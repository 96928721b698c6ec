"""A run of pytest that has imported and collected everything, and forks one off for each mutant.

In the fork, what functions do and statements say is changed in place. What a module does when it is
imported cannot be changed that way.
"""

import gc
import os
import random
import select
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import pytest

# The fork's exit status where it ends by itself.
PASSED, FAILED, COLD, LOST = 0, 1, 2, 3
_OF_FUNCTION = 0x1  # CO_OPTIMIZED
# So many seconds a fork gets to stop what its tests have started, once it is told to end.
_LAST_SECONDS = 20.0


class Asked(NamedTuple):
    """A changed file and its source before; the tests to run, and for how many seconds at most."""

    changed: tuple[Path, str] | None
    tests: Sequence[str]
    seconds: float


class ColdError(Exception):
    """The change is in what is done when the module is imported."""


def serve(
    root: Path,
    environment: Mapping[str, str],
    tests: Sequence[str],
    told: Path,
    asked: "Connection[Any, Any]",
) -> None:
    """Become the run of pytest; `told` is where a fork writes down which test failed."""
    os.chdir(root)
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(":")
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    words = ["-q", *("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov")]
    # Plugins were imported before pytest could have said a word about it.
    words += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    pytest.main([*words, *tests], plugins=[_Forks(told, asked)])


class _Forks:
    """Takes the place of the loop that runs tests."""

    def __init__(self, told: Path, asked: "Connection[Any, Any]") -> None:
        self._told = told
        self._asked = asked

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down which test failed first."""
        if report.failed and not self._told.exists():
            self._told.write_text(report.nodeid, "utf-8")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Say that all is imported, then what became of each fork: its status, None if ended."""
        self._asked.send(PASSED)
        with suppress(EOFError):
            while True:
                asked: Asked = self._asked.recv()
                pid = os.fork()
                if pid == 0:
                    status = LOST
                    try:
                        status = self._run(asked, list(_chosen(session.items, asked.tests)))
                    finally:
                        os._exit(status)
                self._asked.send(ended(pid, asked.seconds))
        return True

    def _run(self, asked: Asked, items: Sequence[pytest.Item]) -> int:
        os.setsid()
        # Every fork would roll the same dice.
        random.seed()
        try:
            if asked.changed:
                change(*asked.changed)
        except ColdError:
            return COLD
        try:
            for item, following in zip(items, [*items[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if self._told.exists():
                    return FAILED
        finally:
            # Or what the session has started, servers among it, would outlive it.
            with suppress(Exception):
                for item in items[:1]:
                    item.config.hook.pytest_sessionfinish(session=item.session, exitstatus=FAILED)
        return PASSED


def ended(pid: int, seconds: float) -> int | None:
    """Wait for a child and return its exit status; None where it had to be ended after a time."""
    process = os.pidfd_open(pid)
    try:
        in_time = _has_ended(process, seconds)
        if not in_time:
            os.kill(pid, signal.SIGINT)
            if not _has_ended(process, _LAST_SECONDS):
                os.killpg(pid, signal.SIGKILL)
    finally:
        os.close(process)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if in_time else None


def _has_ended(process: int, seconds: float) -> bool:
    return bool(select.select([process], [], [], seconds)[0])


def _chosen(items: Sequence[pytest.Item], tests: Sequence[str]) -> Iterator[pytest.Item]:
    """Return tests by their names, or by their file's; those that are no more are left out."""
    for test in tests:
        yield from (i for i in items if i.nodeid == test or i.nodeid.startswith(f"{test}::"))


def change(file: Path, source: str) -> None:
    """Have what was imported of a file, when this was its source, do what the file says now.

    Raises ColdError where that cannot be without importing it anew.
    """
    if file.suffix == ".sql":
        from scim_matrix.store.queries import load

        statements = load(file.stem)
        assert isinstance(statements, dict)
        statements.update(load.__wrapped__(file.stem))
        return
    before = compile(source, str(file), "exec")
    after = compile(file.read_text("utf-8"), str(file), "exec")
    changed = dict(_changed(before, after))
    for function in [f for f in gc.get_objects() if isinstance(f, FunctionType)]:
        code = function.__code__
        if code.co_filename == str(file) and code in changed:
            try:
                function.__code__ = changed[code]
            except ValueError as error:
                raise ColdError from error


def _changed(before: CodeType, after: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Return the functions of a module or class that differ."""
    inside = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (before, after)]
    own = [
        (code.co_code, code.co_names, [c for c in code.co_consts if not isinstance(c, CodeType)])
        for code in (before, after)
    ]
    if own[0] != own[1] or len(inside[0]) != len(inside[1]):
        raise ColdError
    for old, new in zip(*inside, strict=True):
        if old == new:
            continue
        if not old.co_flags & _OF_FUNCTION:
            yield from _changed(old, new)
        elif old.co_name.startswith("<"):
            raise ColdError
        else:
            yield old, new
