"""Who may do what in the console."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from scim_matrix.matrix.errors import (
    HomeserverError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from scim_matrix.matrix.server import Homeserver
from scim_matrix.sync.authority import Reach, Verdict, by_administrator, entitlement, everywhere
from scim_matrix.sync.power import PowerLevels
from scim_matrix.sync.room_rights import read_levels

# For how long (seconds) an answer of the homeserver is believed, where nothing is changed.
KEEP = 30.0
# And for a list of the rooms of somebody, each of which has to be asked for by itself.
LISTED = 600.0
# And for whom it lets in, while it does not answer or refuses the service, so that they can read
# here what ails.
LASTING = 1800.0
# For so long it is not asked again then; and so long an answer is waited for at most.
AWAY, PATIENCE = 15.0, 5.0
_REMEMBERED = 5000
# So many rooms are asked for at once.
_AT_ONCE = 8
# In a space with more rooms than this only administrators may map: each room is a question.
MOST_CHILDREN = 200

# What a room is called whose ID is not told.
_ELSEWHERE = "a room of a space inside this one"
NOT_YOURS = "You may only map rooms in which you yourself can invite and kick."

_T = TypeVar("_T")


class _Remembered(Generic[_T]):
    """Answers by name, a bounded number of them."""

    def __init__(self, ask: Callable[[str], Awaitable[_T]], now: Callable[[], float]) -> None:
        self._ask = ask
        self._now = now
        self._answers: OrderedDict[str, tuple[float, _T]] = OrderedDict()
        self._away_until = float("-inf")
        self._error: HomeserverError | None = None

    @property
    def error(self) -> HomeserverError | None:
        """Why the last answer has to do at present, None where it need not."""
        return self._error if self._now() < self._away_until else None

    async def get(self, name: str, *, anew: bool, keep: float | None = None) -> _T:
        """Return what is known, or ask; an answer is believed for `keep` seconds (KEEP)."""
        keep = KEEP if keep is None else keep
        at, answer = self._answers.get(name, (float("-inf"), None))
        if answer is not None and not anew and self._now() < at + keep:
            return answer
        answer = await self._ask(name)
        self._answers.pop(name, None)
        self._answers[name] = (self._now(), answer)
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return answer

    async def lasting(self, name: str) -> _T:
        """Return what is known, or ask; the last answer while there is no other (LASTING)."""
        at, answer = self._answers.get(name, (float("-inf"), None))
        if answer is None or self._now() >= at + LASTING:
            return await self.get(name, anew=False)
        if self._now() < self._away_until:
            return answer
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.get(name, anew=False)
        except RefusedError:
            raise
        except HomeserverError as error:
            self._error = error
        except TimeoutError:
            self._error = UnavailableError(f"no answer within {PATIENCE} s")
        self._away_until = self._now() + AWAY
        return answer


@dataclass(frozen=True, slots=True)
class Standing:
    """What the homeserver says of a user: whether they may use their account, and administer."""

    is_able: bool
    is_admin: bool


class Access:
    """Homeserver administrators may do everything; managers, what they could do by hand.

    A manager's user ID matches one of the patterns. Nobody may anything whose account is gone,
    locked, suspended or deactivated. What is only shown rests on answers up to KEEP seconds old;
    a change asks anew. `reads` is that somebody only looks: whom the homeserver let in within
    LASTING seconds may go on while it is away. `now` tells seconds that nobody sets back.
    """

    def __init__(
        self,
        homeserver: Callable[[], Homeserver],
        managers: Sequence[str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._homeserver = homeserver
        self._managers = managers
        self._standings = _Remembered(self._ask_standing, now)
        self._joined = _Remembered(self._ask_joined, now)
        self._levels = _Remembered(self._ask_levels, now)

    # -- Users ------------------------------------------------------------

    @property
    def error(self) -> HomeserverError | None:
        """Why somebody who reads is let in by what the homeserver said before; None otherwise."""
        return self._standings.error

    async def is_admin(self, user_id: str, *, anew: bool = False, reads: bool = False) -> bool:
        """Tell whether a user administers the homeserver, with an account in use."""
        standing = await self._standing(user_id, anew, reads)
        return standing.is_able and standing.is_admin

    async def may_enter(self, user_id: str, *, anew: bool = False, reads: bool = False) -> bool:
        """Tell whether a user may use the console at all."""
        standing = await self._standing(user_id, anew, reads)
        return standing.is_able and (standing.is_admin or self._is_manager(user_id))

    async def _standing(self, user_id: str, anew: bool, reads: bool) -> Standing:
        if reads:
            return await self._standings.lasting(user_id)
        return await self._standings.get(user_id, anew=anew)

    def _is_manager(self, user_id: str) -> bool:
        return any(fnmatchcase(user_id, pattern) for pattern in self._managers)

    async def _ask_standing(self, user_id: str) -> Standing:
        account = await self._homeserver().accounts.get(user_id)
        if account is None:
            return Standing(is_able=False, is_admin=False)
        barred = account.locked or account.suspended or account.deactivated
        return Standing(not barred, account.is_admin)

    # -- Rooms ------------------------------------------------------------

    async def may_see(self, user_id: str, room_id: str, *, reads: bool = False) -> bool:
        """Tell whether a room is one of a user's, as one that they may map."""
        if reads and await self.is_admin(user_id, reads=True):
            return True
        return (await self.verdict(user_id, [room_id], Reach(), anew=False)).followed

    async def own_among(self, user_id: str, rooms: Sequence[str]) -> list[str]:
        """Return which of some rooms are a user's, for a list of them.

        Costs a request for each room that they are in, once in LISTED seconds.
        """
        joined = await self._joined.get(user_id, anew=False)
        candidates = [room_id for room_id in rooms if room_id in joined]
        turns = asyncio.Semaphore(_AT_ONCE)

        async def is_own(room_id: str) -> bool:
            async with turns:
                return await self._is_own(user_id, room_id)

        found = await asyncio.gather(*map(is_own, candidates))
        return [room_id for room_id, is_one in zip(candidates, found, strict=True) if is_one]

    async def _is_own(self, user_id: str, room_id: str) -> bool:
        try:
            levels = await self._levels.get(room_id, anew=False, keep=LISTED)
        except NotFoundError:
            return False
        verdict = entitlement(levels, user_id, True, Reach())
        return verdict.followed

    async def verdict(
        self,
        user_id: str,
        rooms: Sequence[str],
        reach: Reach,
        *,
        anew: bool = True,
        unnamed: Set[str] = frozenset(),
    ) -> Verdict:
        """Tell whether a user may map rooms, all of them; see `entitlement`.

        Of a room that they are not in, it is not told whether it exists. Those in `unnamed` are
        not called by their IDs.
        """
        if not await self.may_enter(user_id, anew=anew):
            return Verdict(False, NOT_YOURS, "Ask an administrator of the homeserver.")
        if await self.is_admin(user_id):
            return by_administrator(user_id)
        verdicts: list[tuple[str, Verdict]] = []
        for room_id in rooms:
            verdict = await self._in_room(user_id, room_id, reach, anew)
            if not verdict.followed and len(rooms) == 1:
                return verdict
            verdicts.append((_ELSEWHERE if room_id in unnamed else room_id, verdict))
            if not verdict.followed:
                break
        return everywhere(verdicts)

    async def _in_room(self, user_id: str, room_id: str, reach: Reach, anew: bool) -> Verdict:
        joined = await self._joined.get(user_id, anew=anew)
        if room_id not in joined:
            return Verdict(False, NOT_YOURS, "Join the room, or ask somebody with power in it.")
        try:
            levels = await self.levels(room_id, anew=anew)
        except NotFoundError:
            return Verdict(False, NOT_YOURS, "Ask an administrator of the homeserver.")
        return entitlement(levels, user_id, True, reach)

    async def _ask_joined(self, user_id: str) -> frozenset[str]:
        try:
            return await self._homeserver().rooms.joined_by(user_id)
        except NotFoundError:
            return frozenset()

    async def levels(self, room_id: str, *, anew: bool = False) -> PowerLevels:
        """Return a room's power levels."""
        return await self._levels.get(room_id, anew=anew)

    async def _ask_levels(self, room_id: str) -> PowerLevels:
        return await read_levels(self._homeserver(), room_id)

    # -- What a reference means -------------------------------------------

    async def find_room(self, user_id: str, named: str) -> str | None:
        """Return the ID of the room that an alias or ID stands for.

        None where there is none, or none that the user may know of: nobody learns here which.
        """
        rooms = self._homeserver().rooms
        try:
            room_id = await rooms.resolve_alias(named) if named.startswith("#") else named
            if await self.is_admin(user_id):
                await rooms.details(room_id)
                return room_id
        except RefusedError:
            return None
        return room_id if room_id in await self._joined.get(user_id, anew=True) else None

    async def rooms_below(self, user_id: str, space_id: str) -> tuple[list[str], frozenset[str]]:
        """Return the IDs of the rooms below a space, at any depth.

        And which of them no space names that the user is in: somebody who only knows the ID of a
        space can put it into one of their own, and may not learn what is in it.
        """
        found = await self._homeserver().rooms.hierarchy(space_id)
        joined = await self._joined.get(user_id, anew=False)
        rooms = {step.room_id for step in found.children} - {space_id}
        named = {step.room_id for step in found.children if step.space_id in joined}
        return sorted(rooms), frozenset(rooms - named)
