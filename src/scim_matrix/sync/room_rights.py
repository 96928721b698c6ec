"""What the service may do in a room, and whom it must not touch."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from scim_matrix.matrix.errors import RefusedError, TokenError
from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.sync.guard import Brake
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.power import POWER_LEVELS, PowerLevels, power_levels

log = structlog.get_logger(__name__)

# For how long (seconds) the list of the homeserver's administrators is believed.
ADMINS_KEEP = 60.0


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """How rooms are treated: whom nobody removes, when to hold, what leaving by oneself means."""

    users: Policy
    brake: Brake
    on_self_leave: Literal["rejoin", "respect"]


class RoomRights:
    """Asks for power in rooms where it is lacking, and who has as much of it."""

    def __init__(self, homeserver: Homeserver, users: Policy) -> None:
        self._homeserver = homeserver
        self.users = users
        self._admins_known = float("-inf")

    async def protection(self) -> Policy:
        """Return who is protected, administrators who have become that lately included."""
        if time.monotonic() > self._admins_known + ADMINS_KEEP:
            self.users = replace(self.users, admins=await self._homeserver.admins())
            self._admins_known = time.monotonic()
        return self.users

    async def levels(self, room_id: str) -> PowerLevels:
        """Read a room's power levels; the service has to be in it."""
        content = await self._homeserver.state(room_id, POWER_LEVELS)
        creation = await self._homeserver.state(room_id, "m.room.create") or {}
        details = await self._homeserver.details(room_id)
        return power_levels(content, creation, details.creator, details.version)

    async def with_power(
        self, room_id: str, request: Callable[[], Awaitable[None]], kicked: str | None = None
    ) -> None:
        """Send a request; where the service lacks power in the room, take it and send again.

        Not to kick somebody with as much power as the service has, who is protected by that.
        """
        try:
            await request()
        except TokenError:
            raise
        except RefusedError as error:
            if error.status != 403 or error.errcode != "M_FORBIDDEN":
                raise
            if kicked is not None and await self._is_able_to_kick(room_id):
                raise RefusedError(
                    403, "M_FORBIDDEN", f"{kicked} has as much power in the room as the service"
                ) from error
            log.info("taking_room_admin", room_id=room_id, because=str(error))
            await self._homeserver.become_room_admin(room_id)
            await request()

    async def _is_able_to_kick(self, room_id: str) -> bool:
        try:
            levels = await self.levels(room_id)
        except TokenError:
            raise
        except RefusedError:
            # The service is not in the room.
            return False
        return levels.of(self._homeserver.user_id) >= levels.needed("kick")
