"""The brake: whether a removal may go on, or many at once wait for a human (pure)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """Removals of one room, or locks and deactivations of all accounts, within the window.

    `done` are those carried out, approved ones left out; `pending` those that could be carried
    out now; `held` those that wait for a human; `managed` how many people there were before.
    """

    done: int
    pending: int
    held: int
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
        total = tally.done + tally.pending + tally.held
        return total > self.count and total * 100 > tally.managed * self.percent
