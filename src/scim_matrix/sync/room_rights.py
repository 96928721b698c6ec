"""What the service may do in a room, and whom it must not touch."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from scim_matrix.clock import Clock
from scim_matrix.config import OnSelfLeave
from scim_matrix.groupmap import Sources
from scim_matrix.matrix.errors import FORBIDDEN, BannedError, RefusedError
from scim_matrix.matrix.mas_answers import MasError
from scim_matrix.matrix.server import Homeserver
from scim_matrix.sync.breaker import Breaker
from scim_matrix.sync.guard import Brake
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.power import PowerLevels, power_levels

log = structlog.get_logger(__name__)

T = TypeVar("T")

# For how long (seconds) the list of the homeserver's administrators is believed.
ADMINS_KEEP = 5.0
# For how long what MAS last said of them is believed while it is away: nobody becomes one there
# meanwhile but by hand.
ADMINS_BELIEVED = 3600.0


class OvertakenError(Exception):
    """Somebody has said otherwise since the work was begun: that is other work."""


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """How rooms are treated: whom nobody removes, when to hold, what leaving by oneself means.

    `sources` name the settings that the map stands in.
    """

    users: Policy
    brake: Brake
    on_self_leave: OnSelfLeave
    sources: Sources = field(default_factory=Sources)


async def read_levels(homeserver: Homeserver, room_id: str) -> PowerLevels:
    """Read a room's power levels, whether or not the service is in it.

    Raises NotFoundError where nobody of the homeserver is in the room.
    """
    state = await homeserver.rooms.power_state(room_id)
    return power_levels(state.power_levels, state.creation, state.creator, state.version)


class RoomRights:
    """Takes power in rooms where the service lacks it, and knows whom it must not touch."""

    def __init__(
        self, homeserver: Homeserver, users: Policy, clock: Clock, mas: Breaker | None = None
    ) -> None:
        self._homeserver = homeserver
        self._users = users
        if mas is not None:
            # Until MAS has said who administers the homeserver, it could be anybody.
            self._users = replace(users, admins=None, asks_mas=True)
        self._clock = clock
        self._mas = mas
        self._asked_at = self._told_at = float("-inf")

    def is_service(self, user_id: str) -> bool:
        """Tell whether an account is the service's own."""
        return user_id == self._homeserver.user_id

    async def protection(self) -> Policy:
        """Return who is protected, administrators who have become that lately included."""
        if self._clock.now() > self._asked_at + ADMINS_KEEP:
            await self.renew()
        return self._users

    @property
    def everybody_stays(self) -> bool:
        """Whether everybody is protected, because nobody can say who administers the homeserver."""
        return self._users.everybody_stays

    async def renew(self) -> Policy:
        """Ask anew who administers the homeserver.

        While MAS is away its last answer counts for ADMINS_BELIEVED, so that rooms go on.
        """
        now = self._clock.now()
        try:
            if self._mas is None or self._mas.is_usable:
                admins = await self._homeserver.accounts.admins()
                self._users, self._told_at = replace(self._users, admins=admins), now
        except MasError as error:
            assert self._mas is not None
            self._mas.doubt()
            log.warning("administrators_not_asked", error=str(error))
        if now > self._told_at + ADMINS_BELIEVED:
            self._users = replace(self._users, admins=None)
        self._asked_at = now
        return self._users

    async def levels(self, room_id: str) -> PowerLevels:
        """Read a room's power levels, whether or not the service is in it."""
        return await read_levels(self._homeserver, room_id)

    async def with_power(
        self,
        room_id: str,
        request: Callable[[], Awaitable[T]],
        kicked: str | None = None,
        is_wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> T:
        """Send a request; where the service lacks power in the room, take it and send again.

        Not to kick somebody with as much power as the service has, who is protected by that.
        Raises OvertakenError where it `is_wanted` no more once the service has that power.
        """
        try:
            return await request()
        except RefusedError as error:
            if error.status != 403 or error.errcode != FORBIDDEN:
                raise
            if kicked is not None and await self._is_able_to_kick(room_id):
                raise RefusedError(
                    403, FORBIDDEN, f"{kicked} has as much power in the room as the service"
                ) from error
            log.info("taking_room_admin", room_id=room_id, because=str(error))
            await self._become_room_admin(room_id)
            if is_wanted is not None and not await is_wanted():
                raise OvertakenError from error
            return await request()

    async def _become_room_admin(self, room_id: str) -> None:
        try:
            await self._homeserver.rooms.become_room_admin(room_id)
        except BannedError as error:
            # Which says nothing of the person that the request is about.
            raise RefusedError(
                error.status, error.errcode, f"of the service's own account: {error.message}"
            ) from error

    async def _is_able_to_kick(self, room_id: str) -> bool:
        service = self._homeserver.user_id
        if service not in await self._homeserver.rooms.members(room_id):
            return False
        levels = await self.levels(room_id)
        return levels.of(service) >= levels.needed("kick")
