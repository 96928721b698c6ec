"""An account in a room, as far as the service has to do with it (pure)."""

from dataclasses import dataclass
from typing import Literal, get_args

# Granted by a mapped group; revoked by the identity provider; forgotten: the map no longer grants
# it; dismissed: a human let them stay; pruned: a human asked for their removal; excluded: nobody
# grants it in a room that is to hold nobody else.
State = Literal["granted", "revoked", "forgotten", "dismissed", "pruned", "excluded"]
# What is left to do; None where nothing is.
Todo = Literal["join", "invite", "leave"]
Observed = Literal["join", "invite", "knock", "leave", "ban"]
MEMBERSHIPS: tuple[Observed, ...] = get_args(Observed)


@dataclass(frozen=True, slots=True)
class Membership:
    """A membership on which there is work.

    `observed` is None where it is not known, as while a request is under way. `power` is the
    power level that is granted, `power_given` the one that the service gave, `power_before` the
    one that was there before, and `power_tried` one whose outcome is not known. `approved_by`
    is who let the removal through, `request` the SCIM request behind it. `led`: only mappings that
    rest on somebody's own power granted it last. `tick` is when it was last said what is wanted,
    `leaving` whether a removal had been asked for whose outcome is not known, and `inviting`
    whether an invitation had that may come late.
    """

    room_id: str
    account_id: int
    user_id: str
    state: State
    todo: Todo | None
    observed: Observed | None
    group_name: str | None = None
    attempts: int = 0
    request: str | None = None
    approved_by: str | None = None
    was_spared: bool = False
    invite: bool = False
    power: int | None = None
    power_given: int | None = None
    power_before: int | None = None
    power_tried: int | None = None
    led: bool = False
    tick: int = 0
    leaving: bool = False
    inviting: bool = False
