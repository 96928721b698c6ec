"""Which rooms are to be compared with the homeserver, now or later (pure)."""

from collections import deque
from collections.abc import Collection, Iterable

# No longer than that (seconds) between two rooms of a comparison at intervals.
FURTHEST_APART = 5.0


class Schedule:
    """The mapped rooms: those compared, those that are to be, and those that live drift watches."""

    def __init__(self) -> None:
        # The rooms that the map opens; those compared since the last comparison was due, and, in
        # this order, those not compared.
        self._mapped: set[str] = set()
        self._observed: set[str] = set()
        self._waiting: dict[str, None] = {}
        # When rooms are to be compared that can wait (seconds since the epoch), the first first.
        self._later: deque[tuple[float, str]] = deque()
        # The rooms that live drift follows, and those of them in which the service is and of which
        # nothing has been missed since they were last compared: it would have heard of an upgrade.
        self.followed: frozenset[str] = frozenset()
        self._watched: set[str] = set()
        # References asked for since the last comparison was due: their rooms are the answer still.
        self._resolved: set[str] = set()

    def maps(self, others: Iterable[str], opened: Iterable[str]) -> None:
        """Take note of which of some rooms the map opens; the rest of them it does not."""
        mapped = set(opened)
        closed = set(others) - mapped
        self._mapped -= closed
        self._mapped |= mapped
        for room_id in closed:
            self._waiting.pop(room_id, None)
        self._waiting |= dict.fromkeys(sorted(mapped - self._observed))

    def is_due(self, room_id: str) -> bool:
        """Tell whether a room has not been compared since the last comparison was due."""
        return room_id not in self._observed

    @property
    def waiting(self) -> Collection[str]:
        """The mapped rooms that are to be compared, in order."""
        return self._waiting.keys()

    def begin(self, room_id: str) -> None:
        """Take note that a room is being compared; where that fails it is doubted."""
        self._observed.add(room_id)
        self._waiting.pop(room_id, None)

    def resolved(self, reference: str) -> None:
        """Take note that a reference was asked for, before its room is compared."""
        self._resolved.add(reference)

    def take_resolved(self, reference: str) -> bool:
        """Tell whether a reference need not be asked for again, which is so once."""
        is_resolved = reference in self._resolved
        self._resolved.discard(reference)
        return is_resolved

    def doubt(self, room_ids: Iterable[str]) -> None:
        """Have rooms compared again before anything is done in them."""
        doubtful = set(room_ids)
        self._watched -= doubtful
        self._compare_again(doubtful)

    def _compare_again(self, doubtful: set[str]) -> None:
        self._observed -= doubtful
        self._waiting |= dict.fromkeys(sorted(doubtful & self._mapped))

    def doubt_all(self) -> None:
        """Have every room compared again."""
        self._later.clear()
        self._watched.clear()
        self._observed.clear()
        self._resolved.clear()
        self._waiting = dict.fromkeys(sorted(self._mapped))

    def doubt_by_and_by(self, now: float, within: float, suspicious: Iterable[str]) -> None:
        """Have every room compared again: the suspicious ones now, the others spread over a time.

        `now` is in seconds since the epoch, `within` in seconds.
        """
        self._resolved.clear()
        self.doubt(suspicious)
        others = sorted(self._mapped - self._waiting.keys())
        apart = min(FURTHEST_APART, within / max(1, len(others)))
        self._later = deque((now + n * apart, room_id) for n, room_id in enumerate(others))
        self.fall_due(now)

    def fall_due(self, now: float) -> None:
        """Have rooms compared whose time has come (seconds since the epoch)."""
        while self._later and self._later[0][0] <= now:
            self._compare_again({self._later.popleft()[1]})

    @property
    def next_due(self) -> float | None:
        """When the next room is to be compared that can wait (seconds since the epoch)."""
        return self._later[0][0] if self._later else None

    def follow(self, room_ids: frozenset[str]) -> None:
        """Take note of the rooms whose changes are seen as they happen, none where it stops."""
        self.followed = room_ids
        self._watched &= room_ids

    def watch(self, room_id: str, followed: frozenset[str]) -> None:
        """Take note that a room was compared in which the service is.

        `followed` are the rooms that were followed when that began.
        """
        if room_id in followed & self.followed:
            self._watched.add(room_id)

    def is_watched(self, room_id: str) -> bool:
        """Tell whether nothing has been missed of a room since it was last compared."""
        return room_id in self._watched
