"""Time handed in to the services that are forked off: what only passes there passes faster.

What anybody has to answer within (time-outs) stays as it is.
"""

import dataclasses

from scim_matrix.cli import decisions
from scim_matrix.console import access
from scim_matrix.sync import backoff, live, replica

# How many times as fast.
PACE = 5.0


def hurry() -> None:
    """Shorten pauses, rests after failures, and how long answers are believed."""
    rest = backoff.TRANSIENT
    # In place: the modules that use it have it by name.
    for field in dataclasses.fields(rest):
        object.__setattr__(rest, field.name, getattr(rest, field.name) / PACE)
    replica.POLL_SECONDS /= PACE
    live.PAUSE /= PACE
    decisions.LOOK_EVERY /= PACE
    access.KEEP /= PACE
    access.LISTED /= PACE
