"""What is being worked on, and what is left alone because it failed."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from scim_matrix.clock import Clock
from scim_matrix.matrix.errors import (
    FencedError,
    RateLimitedError,
    TokenError,
    UnavailableError,
    UnvouchedError,
)
from scim_matrix.matrix.mas_answers import MasUnavailableError
from scim_matrix.matrix.waiting import waiting
from scim_matrix.store.errors import NotLeadingError
from scim_matrix.sync.backoff import TRANSIENT
from scim_matrix.sync.breaker import Breaker
from scim_matrix.sync.servers import Lane, Servers

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done now; only one job of a key runs at a time.

    `kind` is what the time that its answers take is compared with, where one request comes after
    the other.
    """

    key: str
    lane: Lane
    work: Callable[[], Coroutine[Any, Any, None]]
    kind: str | None = None


class Jobs:
    """The jobs that run, and how each ended.

    `name` tells what a room is called; `ended` is called with each job that has ended.
    """

    def __init__(
        self,
        servers: Servers,
        clock: Clock,
        name: Callable[[str], Awaitable[str]],
        ended: Callable[[Job], None],
    ) -> None:
        self._servers = servers
        self._clock = clock
        self._name = name
        self._tell_ended = ended
        self._running: dict[str, tuple[Lane, asyncio.Task[None]]] = {}
        # Jobs that said nothing: how often in a row, and until when they are left alone.
        self._ailing: dict[str, tuple[int, float]] = {}
        # What rooms that are worked on are called.
        self._names: dict[str, str] = {}

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks in which they run."""
        return [task for _, task in self._running.values()]

    @property
    def lanes(self) -> Counter[Lane]:
        """How many run in each lane."""
        return Counter(lane for lane, _ in self._running.values())

    @property
    def load(self) -> Counter[Breaker]:
        """How much is being asked of each server."""
        return Counter(self._servers.of(lane) for lane, _ in self._running.values())

    @property
    def rests(self) -> list[float]:
        """Until when (seconds since the epoch) each of those that failed is left alone."""
        return [until for _, until in self._ailing.values()]

    def busy(self, now: float) -> list[str]:
        """Return the keys of what is being worked on, or left alone."""
        return [*self._running, *(k for k, (_, until) in self._ailing.items() if until > now)]

    def start(self, job: Job) -> None:
        """Begin a job."""
        work = job.work if job.lane == "account" else partial(self._in_room, job)
        task = asyncio.create_task(self._timed(job, work), name=f"reconcile {job.key}")
        self._running[job.key] = (job.lane, task)
        task.add_done_callback(partial(self._ended, job))

    async def drain(self, seconds: float) -> None:
        """Wait until all have ended, `seconds` at most: what hangs then is cancelled."""
        if self._running:
            _, hanging = await asyncio.wait(self.tasks, timeout=seconds)
            # Not recorded, so done again after the next start, where that is harmless.
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    async def _timed(self, job: Job, work: Callable[[], Awaitable[None]]) -> None:
        """Do a job, and learn from how long its answers took."""
        with waiting() as waited:
            await work()
        # The database's turn is no sign of a server that is asked too much at once.
        if job.kind is not None and waited.seconds is not None:
            self._servers.of(job.lane).took(job.kind, waited.seconds)

    async def _in_room(self, job: Job) -> None:
        """Do a room's work, with what the room is called in whatever is logged of it."""
        self._names[job.key] = name = await self._name(job.key)
        with structlog.contextvars.bound_contextvars(room=name):
            await job.work()

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        del self._running[job.key]
        name = self._names.pop(job.key, job.key)
        self._tell_ended(job)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._ailing.pop(job.key, None)
            return
        self._failed(job, name, error)

    def _failed(self, job: Job, name: str, error: BaseException) -> None:
        servers = self._servers
        if isinstance(error, FencedError | NotLeadingError):
            # Whoever leads by now does it.
            return
        if isinstance(error, RateLimitedError | TokenError | UnvouchedError):
            servers.trip(error)
            return
        failures, _ = self._ailing.get(job.key, (0, 0.0))
        self._ailing[job.key] = (failures + 1, self._clock.now() + TRANSIENT.delay(failures))
        if isinstance(error, UnavailableError):
            blamed = servers.blamed(error)
            log.warning(
                "no_usable_answer", what=job.key, name=name, by=blamed.name, error=str(error)
            )
            blamed.failed()
            # MAS also says so where Synapse does not answer it.
            told = isinstance(error, MasUnavailableError) and error.answered
            (servers.synapse if told else blamed).doubt()
        else:
            log.error("action_failed", what=job.key, name=name, error=repr(error), exc_info=error)
