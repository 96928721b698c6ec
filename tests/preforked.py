"""The service as a process forked off one that has imported it: starting takes no second of CPU.

tests/service/test_process.py and the demo start it as administrators do.
"""

import asyncio
import gc
import multiprocessing
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import util
from pathlib import Path

import coverage

from scim_matrix.cli import main
from scim_matrix.config import Settings
from scim_matrix.demo.service import Process, Service
from scim_matrix.scim.protocol import make_provider
from tests.hurried import hurry

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preforked", "scim_matrix.app", "scim_matrix.cli.run"])
# Half of what a service does when it starts.
make_provider(Settings.model_fields["max_body_bytes"].default)


def _run(
    words: tuple[str, ...],
    environment: dict[str, str],
    folder: Path,
    output: Path,
    errors: Path,
    hurried: bool,
    first: Callable[[], None] | None,
    counted: tuple[str, str] | None,
) -> None:
    """Become the command."""
    if counted is not None:
        file, test = counted
        counting = coverage.Coverage(file, data_suffix=True, context=f"{test}|run")
        # It was imported before; what runs at the import is counted elsewhere.
        counting.set_option("run:disable_warnings", ["module-not-measured"])
        util.Finalize(None, counting.save, exitpriority=0)
        counting.start()
    # What was imported stays: it need not be looked through, nor be copied for that.
    gc.freeze()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for stream, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    if hurried:
        hurry()
    if first is not None:
        first()
    # Every fork would roll the same dice.
    random.seed()
    sys.argv = ["scim-matrix", *words]
    main(prog_name="scim-matrix")


def _counted() -> tuple[str, str] | None:
    """Return where lines that are run are counted, and for which test; None where nobody does."""
    counting = coverage.Coverage.current()
    if counting is None:
        return None
    test, _, _ = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")
    return counting.config.data_file, test


class Forked:
    """A process of `multiprocessing` as asyncio's processes are."""

    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process
        assert process.pid is not None
        self.pid = process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, signal: int, /) -> None:
        os.kill(self.pid, signal)

    def join(self, seconds: float) -> int:
        """Wait so long for its end, without a loop, and return its exit status."""
        self._process.join(seconds)
        assert self._process.exitcode is not None
        return self._process.exitcode

    async def wait(self) -> int:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


def fork(
    words: tuple[str, ...],
    environment: dict[str, str],
    folder: Path,
    output: Path,
    errors: Path | None = None,
    *,
    hurried: bool = True,
    first: Callable[[], None] | None = None,
) -> Forked:
    """Start `scim-matrix` in a folder with this environment only; what it prints is appended.

    Errors go where the rest goes unless told where. `hurried` says whether time passes faster in
    it (tests/hurried.py), `first` is what it does before all else.
    """
    run = (words, environment, folder, output, errors or output, hurried, first, _counted())
    process = _CONTEXT.Process(target=_run, args=run)
    process.start()
    return Forked(process)


@dataclass
class PreforkedService(Service):
    """A service whose process, and whose commands, start at once; see `fork`."""

    hurried: bool = True
    # What the process does before all else; found there by its name.
    first: Callable[[], None] | None = None

    async def spawn(self, *words: str, output: Path) -> Process:
        """See `Service.spawn`."""
        return fork(
            words,
            self.environment(),
            self.data_dir,
            output,
            hurried=self.hurried,
            first=self.first,
        )
