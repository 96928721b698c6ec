"""Who may do what in the console."""

import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from scim_matrix.matrix.errors import RefusedError, TokenError
from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.sync.power import POWER_LEVELS, PowerLevels, power_levels

# For how long (seconds) the list of administrators is believed.
_KEEP = 30.0


class Access:
    """Homeserver administrators may do everything; managers, what they could do by hand.

    A manager's user ID matches one of the patterns; they may map the rooms in which they
    themselves have the power to invite and to kick.
    """

    def __init__(self, homeserver: Callable[[], Homeserver], managers: Sequence[str]) -> None:
        self._homeserver = homeserver
        self._managers = managers
        self._admins: frozenset[str] = frozenset()
        self._asked = float("-inf")

    async def is_admin(self, user_id: str) -> bool:
        """Tell whether a user administers the homeserver."""
        if time.monotonic() > self._asked + _KEEP:
            self._admins = await self._homeserver().admins()
            self._asked = time.monotonic()
        return user_id in self._admins

    async def may_enter(self, user_id: str) -> bool:
        """Tell whether a user may use the console at all."""
        return self._is_manager(user_id) or await self.is_admin(user_id)

    def _is_manager(self, user_id: str) -> bool:
        return any(fnmatchcase(user_id, pattern) for pattern in self._managers)

    async def may_map(self, user_id: str, room_id: str) -> bool:
        """Tell whether a user may change which groups open a room."""
        if await self.is_admin(user_id):
            return True
        if not self._is_manager(user_id):
            return False
        try:
            if user_id not in await self._homeserver().members(room_id):
                return False
            levels = await self.levels(room_id)
        except TokenError:
            raise
        except RefusedError:
            return False
        return levels.of(user_id) >= max(levels.needed("invite"), levels.needed("kick"))

    async def levels(self, room_id: str) -> PowerLevels:
        """Return a room's power levels."""
        state = await self._homeserver().full_state(room_id)
        details = await self._homeserver().details(room_id)
        return power_levels(
            state.get((POWER_LEVELS, "")),
            state.get(("m.room.create", ""), {}),
            details.creator,
            details.version,
        )
