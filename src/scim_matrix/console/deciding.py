"""What a form decides about held removals: of those who were shown, in one place or in many."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from aiohttp import web

from scim_matrix.app_keys import DATABASE, REPLICA
from scim_matrix.console import sayings
from scim_matrix.console.pages import USER
from scim_matrix.store import brake, console
from scim_matrix.store.database import Connection

# Who was shown and chosen, as a form names them (see `name`), by room ID; None: whose accounts.
Chosen = Mapping[str | None, set[str]]


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision about `number` of those `chosen`; `earlier` is what was decided about others."""

    decision: brake.Decision
    number: int
    chosen: int
    earlier: list[brake.Earlier]

    def told(self, room: str | None, *, dry: bool) -> str:
        """Return what that means; see `sayings.decided`."""
        return sayings.decided(self.decision, room, self.number, self.chosen, self.earlier, dry=dry)


def name(account_id: int, tick: int) -> str:
    """Return how a form names somebody who is held: who is held anew has another tick."""
    return f"{account_id}.{tick}"


async def decide(request: web.Request, chosen: Chosen) -> Decided:
    """Approve or dismiss those who were shown and chosen, and nobody else.

    Raises HTTPBadRequest where the form says neither, or nobody is chosen.
    """
    form = await request.post()
    decision = next((d for d in get_args(brake.Decision) if d == form.get("decision")), None)
    if decision is None:
        raise web.HTTPBadRequest(text="Approve or dismiss.")
    if not any(chosen.values()):
        raise web.HTTPBadRequest(text="Choose at least one person.")
    async with request.config_dict[DATABASE].write(f"console {request[USER]}") as connection:
        held = await brake.held(connection, [room for room in chosen if room is not None])
        if None in chosen:
            held += await brake.held_accounts(connection)
        shown = [one for one in held if name(one.account_id, one.tick) in chosen[one.room_id]]
        decided = await brake.decide(connection, shown, decision, request[USER])
        done = {(one.room_id, name(one.account_id, one.tick)) for one in decided}
        left = {
            room: {one for one in names if (room, one) not in done}
            for room, names in chosen.items()
        }
        earlier = await _earlier(connection, left)
    request.config_dict[REPLICA].wake()
    return Decided(decision, len(decided), sum(map(len, chosen.values())), earlier)


async def _earlier(connection: Connection, left: Chosen) -> list[brake.Earlier]:
    """Return what was decided before about those whom a form chose and nobody holds any more."""
    found: dict[tuple[brake.Decision, str | None], brake.Earlier] = {}
    for room_id, names in left.items():
        numbers = (one.partition(".")[0] for one in names)
        accounts = {int(number[:18]) for number in numbers if number.isdecimal()}
        users = await console.user_ids(connection, accounts)
        for one in await brake.decided_before(connection, room_id, users.values()):
            known = found.get((one.decision, one.by), replace(one, number=0))
            found[one.decision, one.by] = replace(
                one, at=max(one.at, known.at), number=one.number + known.number
            )
    return list(found.values())
