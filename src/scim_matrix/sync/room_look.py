"""Look at a room: find it, what is below it, who is in it."""

import asyncio
import time
from typing import Literal

import orjson
import structlog

from scim_matrix.matrix.errors import (
    NotFoundError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    WithheldError,
)
from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.pair import RoomReference
from scim_matrix.store import record, rooms
from scim_matrix.store.database import Database
from scim_matrix.store.record import Entry
from scim_matrix.sync.backoff import PERMANENT
from scim_matrix.sync.room_rights import RoomRights

log = structlog.get_logger(__name__)


class RoomLook:
    """Brings what is thought of rooms in line with what they are.

    Its methods raise UnavailableError and TokenError, which say something of the homeserver as a
    whole; what is wrong with one room is recorded.
    """

    def __init__(
        self,
        database: Database,
        homeserver: Homeserver,
        rights: RoomRights,
        on_self_leave: Literal["rejoin", "respect"],
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._rights = rights
        self._on_self_leave = on_self_leave
        # Compared since the last comparison was due.
        self.observed: set[str] = set()
        # Set when the map opens other rooms than before.
        self.others_opened = asyncio.Event()

    async def resolve(self, room: RoomReference) -> None:
        """Find the room behind a reference; make it where the map says how."""
        try:
            room_id = await self._resolve(room)
        except TokenError:
            raise
        except (RefusedError, RateLimitedError, WithheldError) as error:
            # A burst of new rooms is rate limited, which is no reason to stop all else.
            limited = error.retry_after if isinstance(error, RateLimitedError) else None
            delay = PERMANENT.delay(room.attempts) if limited is None else limited
            log.warning("room_unresolved", room=room.reference, error=str(error))
            reason = f"does not resolve: {error}"
            async with self._database.write() as connection:
                await rooms.failed(connection, room.reference, reason, time.time() + delay)
            return
        async with self._database.write() as connection:
            await rooms.resolved(connection, room.reference, room_id)
        self.others_opened.set()
        log.info("room_resolved", room=room.reference, room_id=room_id)

    async def _resolve(self, room: RoomReference) -> str:
        try:
            return await self._homeserver.resolve_alias(room.reference)
        except NotFoundError:
            if room.template is None:
                raise
        template = orjson.loads(room.template)
        if not room.reference.endswith(":" + self._homeserver.user_id.split(":", 1)[1]):
            raise RefusedError(400, "M_INVALID_PARAM", "only a room of this server can be created")
        room_id = await self._homeserver.create_room(room.reference, template)
        log.info("room_created", room=room.reference, room_id=room_id)
        async with self._database.write() as connection:
            entry = Entry("create_room", "done", None, room_id, detail=room.reference)
            await record.add(connection, entry)
        return room_id

    async def observe(self, room_id: str) -> None:
        """Compare a room with what is thought of it: where it is, what is below it, who is in."""
        self.observed.add(room_id)
        try:
            await self._observe(room_id)
        except (TokenError, UnavailableError):
            self.observed.discard(room_id)
            raise
        except RefusedError as error:
            log.warning("room_unknown", room_id=room_id, error=str(error))
            async with self._database.write() as connection:
                await rooms.failed(connection, room_id, str(error), 0)

    async def _observe(self, room_id: str) -> None:
        for room, with_children in await rooms.references(self._database.scanner, room_id):
            if await self._has_moved(room, room_id):
                return
            if with_children:
                await self._look_below(room.reference, room_id)
            if room.template is not None:
                await self._place(room.template, room_id)
        details = await self._homeserver.details(room_id)
        if details.replacement is not None:
            log.warning("room_upgraded", room_id=room_id, replacement=details.replacement)
            async with self._database.write() as connection:
                await rooms.moved(connection, room_id, details.replacement)
            self.others_opened.set()
            return
        users = await self._rights.protection()
        joined = await self._homeserver.members(room_id)
        protected = [user_id for user_id in joined if users.protects(user_id)]
        joined = [user_id for user_id in joined if user_id != users.service_user_id]
        async with self._database.write() as connection:
            await rooms.works(connection, room_id)
            missing = await rooms.observe(connection, room_id, joined, protected)
        if missing:
            log.warning("people_missing", room_id=room_id, people=len(missing))
        await self._look_closer(room_id, missing)

    async def _has_moved(self, room: RoomReference, room_id: str) -> bool:
        """Ask anew what an alias stands for; where it is another room, that one is meant now."""
        if not room.reference.startswith("#"):
            return False
        try:
            found = await self._homeserver.resolve_alias(room.reference)
        except TokenError:
            raise
        except RefusedError as error:
            # The room may well be there still: it is kept until the alias names another.
            log.warning("alias_gone", room=room.reference, room_id=room_id, error=str(error))
            return False
        if found == room_id:
            return False
        log.warning("alias_moved", room=room.reference, room_id=found, former=room_id)
        async with self._database.write() as connection:
            await rooms.resolved(connection, room.reference, found)
        self.others_opened.set()
        return True

    async def _look_below(self, reference: str, space_id: str) -> None:
        """Follow which rooms a space holds."""
        children = await self._homeserver.space_rooms(space_id)
        async with self._database.write() as connection:
            changed = await rooms.children_are(connection, reference, children)
        if changed:
            self.others_opened.set()
            log.info("space_changed", room_id=space_id, rooms=len(children))

    async def _place(self, template: str, room_id: str) -> None:
        """Put a room into the space it belongs to, unless somebody did or undid that before."""
        space = orjson.loads(template)["space"]
        if space is None:
            return
        try:
            if space.startswith("#"):
                space = await self._homeserver.resolve_alias(space)
            if await self._homeserver.state(space, "m.space.child", room_id) is not None:
                return
            via = {"via": [self._homeserver.user_id.split(":", 1)[1]]}
            await self._rights.with_power(
                space,
                lambda: self._homeserver.put_state(space, "m.space.child", via, room_id),
            )
            await self._homeserver.put_state(room_id, "m.space.parent", via, space)
        except TokenError:
            raise
        except (RefusedError, WithheldError) as error:
            log.warning("room_not_placed", room_id=room_id, space=space, error=str(error))

    async def _look_closer(self, room_id: str, missing: list[str]) -> None:
        """Ask what the list of those joined cannot tell, where it matters."""
        waiting = await rooms.waiting(self._database.scanner, room_id)
        powerful = await rooms.powerful(self._database.scanner, room_id)
        try:
            for membership in waiting:
                still = await self._homeserver.member_events(room_id, membership)
                async with self._database.write() as connection:
                    await rooms.undone(connection, room_id, membership, still)
            if missing and self._on_self_leave == "respect":
                left = await self._homeserver.member_events(room_id, "leave")
                themselves = [user for user, sender in left.items() if user == sender]
                async with self._database.write() as connection:
                    await rooms.respect(connection, room_id, themselves)
            if powerful:
                levels = await self._rights.levels(room_id)
                async with self._database.write() as connection:
                    await rooms.powers_are(
                        connection, room_id, [(user, levels.of(user)) for user in powerful]
                    )
        except TokenError:
            raise
        except RefusedError as error:
            # Only somebody in the room may ask; without an answer things stay as they are.
            log.info("room_not_seen_from_inside", room_id=room_id, error=str(error))
