"""Who failed to show the bearer secret lately, by address."""

import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network

from scim_matrix.edge.address import asking, counted_as

ALLOWED = 10
WINDOW_SECONDS = 60.0
_REMEMBERED = 10_000


class Attempts:
    """Refuses an address that failed `allowed` times within WINDOW_SECONDS, until that has passed.

    An address is that of the connection, or the one that `trusted_proxies` forwarded for. At most
    _REMEMBERED are kept, those that failed last.
    """

    def __init__(
        self, trusted_proxies: Sequence[IPv4Network | IPv6Network], allowed: int = ALLOWED
    ) -> None:
        self._trusted = trusted_proxies
        self._allowed = allowed
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def address(self, remote: str | None, forwarded: Iterable[str]) -> str:
        """Return who is asking, as it is counted; `forwarded` has all lines of X-Forwarded-For."""
        return counted_as(asking(remote, forwarded, self._trusted))

    def wait(self, address: str) -> float | None:
        """Return how long an address has to wait (seconds), None if it may try."""
        number, until = self._failures.get(address, (0, 0.0))
        left = until - time.monotonic()
        return left if number >= self._allowed and left > 0 else None

    def failed(self, address: str) -> None:
        """Note a failure."""
        number, until = self._failures.pop(address, (0, 0.0))
        now = time.monotonic()
        if until <= now:
            number, until = 0, now + WINDOW_SECONDS
        self._failures[address] = (number + 1, until)
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)
