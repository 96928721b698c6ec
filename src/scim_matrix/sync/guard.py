"""The brake: whether a removal may go on, or many at once wait for a human (pure)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """Removals of one room, or locks and deactivations of all accounts, within the window.

    `removed` are the people removed already (approved removals left out), to be removed now, or
    held; `managed` is how many people there were before.
    """

    removed: int
    managed: int


@dataclass(frozen=True, slots=True)
class Brake:
    """How many removals are usual: `percent` of those managed, or `count` people.

    They count over the last `window` seconds, however many requests they come from.
    """

    percent: int
    count: int
    window: float

    def holds(self, tally: Tally) -> bool:
        """Tell whether what is pending must wait: it would exceed both limits."""
        exceeds_count = tally.removed > self.count
        return exceeds_count and tally.removed * 100 > tally.managed * self.percent
