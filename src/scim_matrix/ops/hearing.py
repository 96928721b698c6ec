"""When the identity provider was last heard: one that is silent for days may have been cut off."""

import time
from collections.abc import Iterator

# Many send changes only, and nobody joins or leaves at a weekend.
SILENCE = 4 * 86400.0


class Hearing:
    """Notes when the identity provider sent something (seconds since the epoch, 0 for never yet).

    It begins anew with the process: a restart is no silence.
    """

    def __init__(self, now: float) -> None:
        self._begun = now
        self.at = 0.0

    def note(self) -> None:
        """Note that it sent something now."""
        self.at = time.time()

    def codes(self) -> Iterator[str]:
        """Yield the code of its silence, where it is silent (scim_matrix/problems.py)."""
        if time.time() > max(self.at, self._begun) + SILENCE:
            yield "idp-silent"
