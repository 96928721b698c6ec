"""In which rooms something is due, the least work first, kept as it changes."""

from collections.abc import Collection
from heapq import heappop, heappush

from scim_matrix.store import grants, memberships
from scim_matrix.store.database import Connection

# So many rooms are looked at in one query.
_AT_ONCE = 500


class Agenda:
    """Where there is work now or later, by one look at each room that changed since the last.

    Made for one database; what it says is as of the last `refresh`.
    """

    def __init__(self) -> None:
        self._since: int | None = None
        self._work: dict[str, int] = {}
        self._next: dict[str, float] = {}
        # Both hold what is no longer so as well, which is left out where it comes up.
        self._smallest: list[tuple[int, str]] = []
        self._soonest: list[tuple[float, str]] = []
        self._waits = False
        self._doubtful: set[str] = set()

    def doubt(self, room_id: str) -> None:
        """Look again in a room, whatever was changed: a turn was taken there.

        Whoever has become unsettled since is found no work for, without anything else to tell it.
        """
        self._doubtful.add(room_id)

    async def refresh(self, connection: Connection, now: float) -> set[str]:
        """Look again where something changed or has fallen due (now: seconds since the epoch).

        Returns the rooms that the map may open by now, or no longer.
        """
        # Asked first: where somebody is settled in between, that stirs their rooms.
        self._waits = await grants.is_spreading(connection)
        rooms, number = await memberships.stirred(connection, self._since or 0)
        if self._since is None:
            rooms = {"", *await memberships.places(connection)}
        self._since = number
        rooms |= self._doubtful
        self._doubtful.clear()
        others = rooms - {""} if "" in rooms else set()
        rooms.discard("")
        while self._soonest and self._soonest[0][0] <= now:
            moment, room_id = heappop(self._soonest)
            if self._next.get(room_id) == moment:
                rooms.add(room_id)
        listed = sorted(rooms)
        for start in range(0, len(listed), _AT_ONCE):
            part = listed[start : start + _AT_ONCE]
            for found in await memberships.work(connection, part, now):
                self._put(found)
        if len(self._smallest) > 100 + 4 * len(self._work):
            self._smallest = sorted((due, room_id) for room_id, due in self._work.items())
        return others

    def _put(self, found: memberships.RoomWork) -> None:
        room_id = found.room_id
        if not found.due:
            self._work.pop(room_id, None)
        elif self._work.get(room_id) != found.due:
            self._work[room_id] = found.due
            heappush(self._smallest, (found.due, room_id))
        if found.next_due is None:
            self._next.pop(room_id, None)
        elif self._next.get(room_id) != found.next_due:
            self._next[room_id] = found.next_due
            heappush(self._soonest, (found.next_due, room_id))

    def has_work(self, room_id: str) -> bool:
        """Tell whether something is due in a room."""
        return not self._waits and room_id in self._work

    def smallest(self, besides: Collection[str], limit: int) -> list[str]:
        """Return up to `limit` rooms with work, the least work first, without `besides`."""
        if self._waits:
            return []
        found: list[str] = []
        taken: list[tuple[int, str]] = []
        while self._smallest and len(found) < limit:
            entry = heappop(self._smallest)
            due, room_id = entry
            if self._work.get(room_id) == due and entry not in taken:
                taken.append(entry)
                if room_id not in besides:
                    found.append(room_id)
        for entry in taken:
            heappush(self._smallest, entry)
        return found

    def next_due(self) -> float | None:
        """Return when the next work in a room falls due (seconds since the epoch)."""
        while self._soonest and self._next.get(self._soonest[0][1]) != self._soonest[0][0]:
            heappop(self._soonest)
        return self._soonest[0][0] if self._soonest else None
