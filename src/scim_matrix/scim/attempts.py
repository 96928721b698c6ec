"""Who failed to show the bearer secret lately, by address."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

ALLOWED = 10
WINDOW_SECONDS = 60.0
_REMEMBERED = 10_000


class Attempts:
    """Refuses an address that failed ALLOWED times within WINDOW_SECONDS, until that has passed.

    An address is that of the connection, or the one that `trusted_proxies` forwarded for.
    """

    def __init__(self, trusted_proxies: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted_proxies
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def address(self, remote: str | None, forwarded: str | None) -> str:
        """Return who is asking: the last address that no trusted proxy has."""
        chain = [a.strip() for a in (forwarded or "").split(",") if a.strip()]
        found = remote or "unknown"
        while chain and self._is_trusted(found):
            found = chain.pop()
        return found

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    def wait(self, address: str) -> float | None:
        """Return how long an address has to wait (seconds), None if it may try."""
        number, until = self._failures.get(address, (0, 0.0))
        left = until - time.monotonic()
        return left if number >= ALLOWED and left > 0 else None

    def failed(self, address: str) -> None:
        """Note a failure."""
        number, until = self._failures.pop(address, (0, 0.0))
        now = time.monotonic()
        if until <= now:
            number, until = 0, now + WINDOW_SECONDS
        self._failures[address] = (number + 1, until)
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)
