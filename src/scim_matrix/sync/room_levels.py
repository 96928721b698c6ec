"""Bring a room's power levels in line with its groups, in one event."""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import orjson
import structlog

from scim_matrix.matrix.errors import (
    FORBIDDEN,
    RateLimitedError,
    RefusedError,
    UnavailableError,
    WithheldError,
)
from scim_matrix.matrix.server import Homeserver
from scim_matrix.membership import Membership
from scim_matrix.store import memberships, record, rooms
from scim_matrix.store.accounts import LATEST
from scim_matrix.store.database import Database
from scim_matrix.store.record import Entry
from scim_matrix.sync.backoff import PERMANENT
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.power import POWER_LEVELS, power_plan
from scim_matrix.sync.room_rights import RoomRights
from scim_matrix.sync.unanswered import recorded

log = structlog.get_logger(__name__)


class RoomLevels:
    """Sets power levels as groups give them and takes them back, and knows what it put last."""

    def __init__(self, database: Database, homeserver: Homeserver, rights: RoomRights) -> None:
        self._database = database
        self._homeserver = homeserver
        self._rights = rights
        # What was put last, as a digest, since sync may tell of it before the answer.
        self._put: dict[str, bytes] = {}

    def has_put(self, room_id: str, levels: Mapping[str, Any]) -> bool:
        """Tell whether a room's power levels are those that the service put there last."""
        return self._put.get(room_id) == _digest(levels)

    async def bring_in_line(self, room_id: str) -> None:
        """Send one event with all power levels that are to change in a room.

        Raises PostponedError and TokenError, which say something of the homeserver as a whole;
        what is refused is recorded.
        """
        now = self._database.clock.now()
        due = await memberships.power_due(self._database.scanner, room_id, now)
        if not due:
            return
        users = await self._rights.protection()
        try:
            await self._rights.with_power(room_id, lambda: self._set(room_id, users))
        except RefusedError as error:
            for pair in due:
                await self._stopped(pair, "refused", str(error))
        except WithheldError as error:
            for pair in due:
                await self._stopped(pair, "withheld", str(error))

    async def _set(self, room_id: str, users: Policy) -> None:
        levels = await self._rights.levels(room_id)
        if levels.of(users.service_user_id) < levels.needed(POWER_LEVELS):
            raise RefusedError(403, FORBIDDEN, "the service may not change power levels")
        async with self._database.write() as connection:
            # As it is by now: it took requests to come here.
            due = await memberships.power_due(connection, room_id, connection.at)
            planned = power_plan(levels, due, users)
            if planned.content is not None and not self._homeserver.dry_run:
                await memberships.try_power(connection, planned.tries)
                await rooms.unsure_of_levels(connection, connection.at + LATEST, room_id)
        if planned.content is not None:
            await self._send(room_id, planned.content)
        entries = [_entry(pair, given, "done") for pair, given, _ in planned.reached]
        async with self._database.write() as connection:
            await memberships.reach_power(connection, planned.reached)
            await rooms.unsure_of_levels(connection, None, room_id)
            await record.add(connection, *entries)
        if planned.reached:
            log.info("power_levels_set", room_id=room_id, people=len(planned.reached))
        for pair, reason in planned.refused:
            await self._stopped(pair, "refused", reason)

    async def _send(self, room_id: str, content: dict[str, Any]) -> None:
        """Send a room's power levels, which may be carried out late where no answer comes.

        The event holds everybody's: what was set meanwhile would be undone by it.
        """
        unsure = partial(rooms.unsure_of_levels, room_id=room_id)
        self._put[room_id] = _digest(content)
        try:
            async with recorded(self._database, unsure):
                await self._homeserver.rooms.put_state(room_id, POWER_LEVELS, content)
        except UnavailableError:
            # Whenever sync tells of it, that is news.
            del self._put[room_id]
            raise
        except (RefusedError, RateLimitedError):
            async with self._database.write() as connection:
                await unsure(connection, None)
            raise

    async def _stopped(
        self, pair: Membership, problem: Literal["refused", "withheld"], why: str
    ) -> None:
        log.warning("power_level_refused", room_id=pair.room_id, user_id=pair.user_id, error=why)
        outcome: record.Outcome = "dry_run" if problem == "withheld" else "refused"
        async with self._database.write() as connection:
            await record.add(connection, _entry(pair, pair.power, outcome, why))
            next_try = connection.at + PERMANENT.delay(pair.attempts)
            await memberships.fail(connection, pair, problem, why, next_try)


def _digest(content: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


def _entry(
    pair: Membership, level: int | None, outcome: record.Outcome, detail: str | None = None
) -> Entry:
    what = "given back" if level is None else str(level)
    return Entry(
        "power",
        outcome,
        pair.user_id,
        pair.room_id,
        pair.group_name,
        pair.request,
        detail=f"{what}: {detail}" if detail else what,
    )
