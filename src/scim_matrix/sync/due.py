"""Choose what could be done now: accounts and rooms with work, rooms to be observed."""

import itertools
from collections.abc import Callable
from functools import partial

from scim_matrix.matrix.errors import PostponedError
from scim_matrix.store import accounts, memberships, references, rooms
from scim_matrix.store.agenda import Agenda
from scim_matrix.store.database import Database
from scim_matrix.sync.account_worker import AccountWorker
from scim_matrix.sync.jobs import Job, Jobs
from scim_matrix.sync.observation import Observation
from scim_matrix.sync.room_turn import RoomTurn
from scim_matrix.sync.servers import Lane, Servers

_ACCOUNT = "account "
# Where it is not known whether the homeserver has its accounts in MAS, none is touched there.
_NEVER_MET = ("unknown", "mismatched")


class Due:
    """Chooses jobs, the smallest and newest first, and says when the next ones fall due.

    `wake` has the choice made anew.
    """

    def __init__(
        self,
        database: Database,
        servers: Servers,
        jobs: Jobs,
        account_worker: AccountWorker,
        observation: Observation,
        turn: RoomTurn,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._servers = servers
        self._jobs = jobs
        self._account_worker = account_worker
        self._observation = observation
        self._schedule = observation.schedule
        self._turn = turn
        self._wake = wake
        self._agenda = Agenda()

    def doubt(self, job: Job) -> None:
        """Look again where a job has ended."""
        if job.lane != "account":
            self._agenda.doubt(job.key)

    async def next(self, looked_at: float) -> list[float]:
        """Return moments (seconds since the epoch) from which on something new may be due.

        What was due at `looked_at` and has not started waits for the end of a job or a rest.
        """
        due = await memberships.next_due(self._database.scanner, looked_at)
        later = (due, self._agenda.next_due(), self._schedule.next_due)
        return [moment for moment in later if moment is not None]

    async def accounts(self, now: float) -> list[Job]:
        """Return the accounts that could be worked on now.

        While Synapse is away and MAS is not, those that are to be disabled: all else needs both.
        """
        servers = self._servers
        server, there = servers.of("account"), servers.synapse.is_usable
        if not server.is_usable or (not there and servers.synapse.condition in _NEVER_MET):
            return []
        busy = [int(k.partition(" ")[2]) for k in self._jobs.busy(now) if k.startswith(_ACCOUNT)]
        found = await accounts.due(
            self._database.scanner, now, server.slots, busy, disabling=not there
        )
        work = partial(
            self._account_worker.work,
            delegated=servers.delegated and servers.mas is None,
            without_homeserver=not there,
        )
        return [
            Job(f"{_ACCOUNT}{one.id}", "account", partial(work, one), f"{one.todo} {one.bound_by}")
            for one in found
        ]

    async def look(self, now: float) -> None:
        """Take note of what changed, and of what has fallen due."""
        reader = self._database.scanner
        if others := await self._agenda.refresh(reader, now):
            self._schedule.maps(others, await rooms.mapped_of(reader, others))
        self._schedule.fall_due(now)

    async def rooms(self, now: float, may_go_on: Callable[[float], bool]) -> dict[Lane, list[Job]]:
        """Return the rooms that could be worked on or looked at now, as many as there are slots.

        A turn asks before each action whether it `may_go_on`.
        """
        busy, slots = self._jobs.busy(now), self._servers.synapse.slots
        return {
            "observe": await self._observations(now, busy, slots),
            "room": [
                Job(room_id, "room", partial(self._room, room_id, may_go_on))
                for room_id in self._agenda.smallest(busy, slots)
            ],
        }

    async def _observations(self, now: float, busy: list[str], slots: int) -> list[Job]:
        observation = self._observation
        jobs = [
            Job(reference.reference, "observe", partial(observation.resolve, reference))
            for reference in await references.unresolved(self._database.scanner, now, busy, slots)
        ]
        # Those with work are compared before the first turn is taken there.
        looked_at = (
            room_id
            for room_id in self._schedule.waiting
            if room_id not in busy and not self._agenda.has_work(room_id)
        )
        return jobs + [
            Job(room_id, "observe", partial(observation.observe, room_id))
            for room_id in itertools.islice(looked_at, slots)
        ]

    async def _room(self, room_id: str, may_go_on: Callable[[float], bool]) -> None:
        """Take a turn of a room; before the first one observe it: much may be so already."""
        if self._schedule.is_due(room_id):
            await self._observation.observe(room_id)
            # What it is, and who may lead the service there, may be otherwise than was thought.
            self._wake()
            return
        try:
            await self._turn.take(room_id, may_go_on)
        except PostponedError:
            # After an unknown outcome the room is observed, not remembered.
            self._schedule.doubt([room_id])
            raise
