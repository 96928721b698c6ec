"""A managed pair: an account, a room, and what is known of the two (pure)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoomReference:
    """A room as the map names it, not resolved yet; `template` (JSON) says how to make it."""

    reference: str
    attempts: int
    template: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Whether a group grants an account a room, and the membership last applied or observed.

    `invite` means that it is granted by invitation only; `power` is the power level that is
    granted and `power_set` the one that the service gave. `request` is the SCIM request that
    granted or revoked; `approved` that a human let the removal through.
    """

    room_id: str
    user_id: str
    granted: bool
    membership: str | None
    group_name: str | None
    attempts: int = 0
    account_ready: bool = True
    request: str | None = None
    approved: bool = False
    invite: bool = False
    power: int | None = None
    power_set: int | None = None
