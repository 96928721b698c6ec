"""Live drift: who comes and goes in mapped rooms, as it happens."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from scim_matrix.config import OnSelfLeave
from scim_matrix.matrix.errors import HomeserverError, PostponedError, RefusedError
from scim_matrix.matrix.live import MEMBER, Live, LiveEvent
from scim_matrix.membership import Observed
from scim_matrix.store import accounts, observed, openings, rooms
from scim_matrix.store.database import Database
from scim_matrix.store.errors import DatabaseError
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.observation import Observation
from scim_matrix.sync.power import POWER_LEVELS
from scim_matrix.sync.room_rights import RoomRights
from scim_matrix.sync.room_turn import RoomTurn

log = structlog.get_logger(__name__)

# Between two answers (seconds): the service's own joins must not cost a request each.
PAUSE = 2.0


class LiveDrift:
    """Follows the rooms that the service itself is in, and has differences put right.

    Rooms it is not in, and whatever is missed, are left to the comparison at intervals.
    """

    def __init__(
        self,
        database: Database,
        live: Live,
        service_user_id: str,
        observation: Observation,
        turn: RoomTurn,
        rights: RoomRights,
        on_self_leave: OnSelfLeave,
        wake: Callable[[], None],
        doubt: Callable[[], None],
        homeserver_ready: asyncio.Event,
    ) -> None:
        self._database = database
        self._live = live
        self._service_user_id = service_user_id
        self._observation = observation
        self._turn = turn
        self._rights = rights
        self._respected = on_self_leave == "respect"
        self._wake = wake
        self._doubt = doubt
        self._since: str | None = None
        self._followed: frozenset[str] = frozenset()
        self._filter = ""
        self.is_following = False
        # Set while the homeserver is there: the breaker is the reconciler's.
        self._homeserver_ready = homeserver_ready

    async def begin(self) -> None:
        """Learn where to go on from, before rooms are compared: nothing is missed in between."""
        if self._since is None:
            self._since = await self._live.position()

    async def run(self) -> None:
        """Follow until cancelled; without an answer, try again later and say so once."""
        attempts = 0
        while True:
            await self._homeserver_ready.wait()
            try:
                await self._follow()
                attempts = 0
                await asyncio.sleep(PAUSE)
            except (HomeserverError, OSError, DatabaseError) as error:
                if self.is_following or attempts == 0:
                    log.warning("live_drift_stopped", error=str(error), instead="the interval")
                self.is_following = False
                self._observation.schedule.follow(frozenset())
                later = PERMANENT if isinstance(error, RefusedError) else TRANSIENT
                asked = None
                if isinstance(error, PostponedError):
                    asked = error.retry_after
                    self._doubt()
                await asyncio.sleep(asked or later.delay(attempts + 1))
                attempts += 1

    async def _follow(self) -> None:
        """Wait once for something to happen, or for the map to open other rooms."""
        await self.begin()
        self._observation.others_opened.clear()
        followed = frozenset(await rooms.mapped(self._database.scanner))
        if followed != self._followed and followed:
            self._filter = await self._live.upload_filter(sorted(followed))
        self._followed = followed
        self._observation.schedule.follow(followed)
        if not self.is_following:
            log.info("live_drift_followed", rooms=len(followed))
        self.is_following = True
        opened = self._observation.others_opened.wait()
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(opened)]
        if followed:
            assert self._since is not None
            waits.append(asyncio.create_task(self._live.sync(self._filter, self._since)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Not awaited one by one: that would take this task's own cancellation for theirs.
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
        if followed and not waits[1].cancelled():
            batch = waits[1].result()
            self._observation.schedule.doubt(batch.gaps)
            await self._apply(batch.events)
            # What could not be written is told again.
            self._since = batch.position
            if batch.gaps:
                self._wake()

    async def _apply(self, events: Iterable[LiveEvent]) -> None:
        """Take events for what they say of rooms.

        Whatever this process did itself is known. What its account did otherwise is not: a request
        may be carried out long after the service that sent it has ended, or led.
        """
        latest: dict[tuple[str, str, str | None], LiveEvent] = {}
        removals: list[LiveEvent] = []
        seen: set[tuple[str, str | None, Observed | None]] = set()
        for event in events:
            latest[event.room_id, event.type, event.state_key] = event
            seen.add((event.room_id, event.state_key, event.membership))
            if event.membership == "leave" and event.sender == self._service_user_id:
                removals.append(event)
        late = self._late(removals)
        with self._turn.sync_told(seen):
            # Its own removals count, though more was heard since of the same people.
            for event in late:
                if event is not latest[event.room_id, event.type, event.state_key]:
                    async with self._database.write() as connection:
                        assert event.state_key is not None
                        await observed.removal_heard(
                            connection, event.room_id, event.state_key, latest=False
                        )
            await self._take_in(latest.values(), late)

    async def _take_in(self, latest: Iterable[LiveEvent], late: Sequence[LiveEvent]) -> None:
        """Take the latest events of all; `late` are the service's removals that had no answer."""
        for event in latest:
            if event.type == MEMBER:
                changed = await self._member(event, is_late_removal=any(event is e for e in late))
            elif event.type == POWER_LEVELS and self._turn.levels.has_put(
                event.room_id, event.content
            ):
                changed = False
            else:
                spaces = await openings.spaces_of(self._database.scanner, event.room_id)
                self._observation.schedule.doubt([event.room_id, *spaces])
                changed = True
            if changed:
                self._wake()

    def _late(self, removals: Iterable[LiveEvent]) -> list[LiveEvent]:
        """Return those of the service's own removals but the one that an answer tells of."""
        late: list[LiveEvent] = []
        answered: set[tuple[str, str]] = set()
        for event in removals:
            pair = event.room_id, event.state_key or ""
            if pair not in answered and self._turn.tells_of_removal(*pair):
                answered.add(pair)
            else:
                late.append(event)
        return late

    async def _member(self, event: LiveEvent, *, is_late_removal: bool) -> bool:
        user_id = event.state_key
        if (
            user_id is None
            or user_id == self._service_user_id
            or event.membership not in ("join", "invite", "leave", "ban")
        ):
            return False
        if event.membership == "invite" and not (
            # It may be carried out after whoever was invited is to leave.
            event.sender == self._service_user_id
            and await observed.was_granted(self._database.reader, event.room_id, user_id)
        ):
            return False
        if await observed.is_known(self._database.reader, event.room_id, user_id, event.membership):
            return False
        if (acted := self._turn.acted(event.room_id, user_id)) is not None:
            # Its own event has not come yet: what else is told may be older than that, or newer.
            if event.membership != acted:
                self._observation.schedule.doubt([event.room_id])
            return event.membership != acted
        # It matters only of those whom nothing manages, and asking is a request.
        protected = not await observed.is_managed(
            self._database.reader, event.room_id, user_id
        ) and (await self._rights.protection()).protects(user_id)
        self._observation.heard(event.room_id)
        async with self._database.write() as connection:
            changed = await observed.observe_one(
                connection,
                event.room_id,
                user_id,
                event.membership,
                protected=protected,
                respected=self._respected and event.sender == user_id,
                ours=event.sender == self._service_user_id,
                is_late_removal=is_late_removal,
            )
            if event.sender == user_id and event.membership == "leave":
                await accounts.doubt_gone(connection, [user_id])
        if changed:
            log.info(
                "membership_seen",
                room=await rooms.name(self._database.reader, event.room_id),
                room_id=event.room_id,
                user_id=user_id,
                membership=event.membership,
                by_themselves=event.sender == user_id,
            )
        return changed
