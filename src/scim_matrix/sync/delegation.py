"""Judge what was put in others' hands: the rooms of a space, and mappings made in the console."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog

from scim_matrix.matrix.errors import RefusedError
from scim_matrix.matrix.server import Homeserver
from scim_matrix.membership import Membership
from scim_matrix.store import rooms
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.rooms import MappingRow, Opening
from scim_matrix.sync.authority import Verdict, entitlement, removal
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.power import PowerLevels
from scim_matrix.sync.provenance import Edge, child
from scim_matrix.sync.room_rights import RoomRights

log = structlog.get_logger(__name__)

SPACE_PARENT = "m.space.parent"


@dataclass(frozen=True, slots=True)
class Leaders:
    """Who alone is behind somebody's leaving a room: makers of mappings in the console.

    `revoking` and `excluding` are empty where the configuration or an administrator of the
    homeserver is behind it too. `levels` is who has which power there, None where the homeserver
    does not say.
    """

    revoking: tuple[str, ...] = ()
    excluding: tuple[str, ...] = ()
    levels: PowerLevels | None = None

    def refusal(self, pair: Membership) -> str | None:
        """Return why somebody stays whom nobody behind this could remove by hand, else None."""
        makers = {"revoked": self.revoking, "excluded": self.excluding}.get(pair.state, ())
        if not makers:
            return None
        if pair.state == "excluded" and pair.user_id in makers:
            return f"{pair.user_id} made the mapping that lets nobody else stay"
        if self.levels is None:
            return "who has which power in the room is not known"
        verdicts = [
            removal(self.levels, maker, pair.user_id, given=pair.power_given) for maker in makers
        ]
        return None if any(v.followed for v in verdicts) else verdicts[0].reason


async def leaders(
    connection: Connection, rights: RoomRights, room_id: str, users: Policy
) -> Leaders:
    """Return who is behind removals in a room; costs requests only where it is the console's."""
    found = await rooms.makers(connection, room_id)
    revoking = _makers(found, users)
    excluding = _makers([m for m in found if m[1]], users)
    if not revoking and not excluding:
        return Leaders()
    try:
        levels = await rights.levels(room_id)
    except RefusedError:
        return Leaders(revoking, excluding)
    return Leaders(revoking, excluding, levels)


def _makers(found: Iterable[tuple[str | None, bool]], users: Policy) -> tuple[str, ...]:
    """Return the makers of mappings, nobody where one needs nobody's power."""
    makers = {made_by for made_by, _ in found}
    if any(maker is None or users.trusts(maker) for maker in makers):
        return ()
    return tuple(sorted(maker for maker in makers if maker is not None))


class Delegation:
    """What others may have the service do, asked of the homeserver for one comparison.

    Its methods raise what the homeserver raises where nothing is known.
    """

    def __init__(
        self, database: Database, homeserver: Homeserver, rights: RoomRights, users: Policy
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._rights = rights
        self._users = users
        # What this comparison has read of rooms: their power levels and who is in them.
        self._rooms: dict[str, tuple[PowerLevels, frozenset[str]] | Verdict] = {}
        # And of people: whether they may sign in.
        self._people: dict[str, bool] = {}

    async def judge(self, room_id: str) -> bool:
        """Judge the mappings that open a room and the rooms below it; True where that is news."""
        news = False
        for mapping in await rooms.console_mappings(self._database.scanner, room_id):
            if mapping.room_id is not None:
                news |= await self._judge_maker(mapping, mapping.room_id)
        spaces = await rooms.spaces(self._database.scanner, room_id)
        if spaces:
            hierarchy = await self._homeserver.rooms.hierarchy(room_id)
            below: dict[str, list[tuple[str, str]]] = {}
            for step in hierarchy.children:
                below.setdefault(step.space_id, []).append((step.room_id, step.sender))
            for mapping in spaces:
                children = await self._children(mapping, room_id, below)
                async with self._database.write() as connection:
                    changed = await rooms.put_children(connection, mapping.id, children)
                if changed:
                    followed = sum(c.standing == "followed" for c in children)
                    log.info(
                        "space_changed",
                        room_id=room_id,
                        rooms=followed,
                        not_followed=len(children) - followed,
                    )
                news |= changed
        return news

    async def _judge_maker(self, mapping: MappingRow, room_id: str) -> bool:
        """Put a console mapping in force while its maker could do the same; else suspend it."""
        assert mapping.made_by is not None
        verdict = await self._maker_may(mapping, room_id)
        async with self._database.write() as connection:
            if verdict.followed:
                news = await rooms.stand(connection, mapping.id, "in_force")
            else:
                news = await rooms.stand(
                    connection, mapping.id, "suspended", verdict.reason, verdict.cure
                )
        if news:
            log.warning(
                "mapping_judged",
                room_id=room_id,
                made_by=mapping.made_by,
                in_force=verdict.followed,
                reason=verdict.reason,
            )
        return news

    async def _maker_may(self, mapping: MappingRow, room_id: str) -> Verdict:
        """Decide whether the maker of a mapping may have it act in a room."""
        maker = mapping.made_by
        if maker is None or self._users.trusts(maker):
            return Verdict(True, "The configuration or an administrator made it.")
        return await self._may(maker, mapping, room_id)

    async def _may(self, user_id: str, mapping: MappingRow, room_id: str) -> Verdict:
        """Decide whether somebody could do in a room by hand what a mapping would."""
        if not await self._signs_in(user_id):
            return Verdict(
                False,
                f"{user_id} has no account that may sign in.",
                "Have somebody else do this, or unlock that account.",
            )
        found = await self._room(room_id)
        if isinstance(found, Verdict):
            return found
        levels, joined = found
        return entitlement(
            levels,
            user_id,
            user_id in joined,
            power=mapping.power,
            exclusive=mapping.exclusive,
        )

    async def _signs_in(self, user_id: str) -> bool:
        """Tell whether somebody of this server may do anything at present."""
        if not user_id.endswith(":" + self._homeserver.server_name):
            return True
        if user_id not in self._people:
            account = await self._homeserver.accounts.get(user_id)
            self._people[user_id] = account is not None and not (
                account.locked or account.suspended or account.deactivated
            )
        return self._people[user_id]

    async def _room(self, room_id: str) -> tuple[PowerLevels, frozenset[str]] | Verdict:
        if room_id not in self._rooms:
            try:
                self._rooms[room_id] = (
                    await self._rights.levels(room_id),
                    frozenset(await self._homeserver.rooms.members(room_id)),
                )
            except RefusedError as error:
                self._rooms[room_id] = Verdict(
                    False, f"The homeserver says of {room_id}: {error}.", "Name another room."
                )
        return self._rooms[room_id]

    async def _children(
        self, mapping: MappingRow, space_id: str, below: dict[str, list[tuple[str, str]]]
    ) -> list[Opening]:
        """Return every room below a space that a followed step leads to, followed or not."""
        found: dict[str, Opening] = {}
        left = deque([space_id])
        while left:
            parent = left.popleft()
            for room_id, sender in below.get(parent, ()):
                present = found.get(room_id)
                if room_id == space_id or (present and present.standing == "followed"):
                    continue
                verdict = await self._step(mapping, parent, room_id, sender)
                found[room_id] = Opening(
                    room_id,
                    parent,
                    "followed" if verdict.followed else "not_followed",
                    None if verdict.followed else verdict.reason,
                    None if verdict.followed else verdict.cure,
                )
                if verdict.followed:
                    left.append(room_id)
        return list(found.values())

    async def _step(self, mapping: MappingRow, space_id: str, room_id: str, sender: str) -> Verdict:
        # What counts is the room that people would be brought into.
        room_id = await rooms.successor(self._database.scanner, room_id)
        edge = Edge(space_id, room_id, sender, Verdict(False, "It was not asked for."))
        if not self._users.trusts(sender):
            edge = replace(edge, own=await self._may(sender, mapping, room_id))
            if not edge.own.followed:
                edge = replace(edge, parents=await self._parents(mapping, space_id, room_id))
        verdict = child(edge, self._users)
        if verdict.followed and mapping.made_by is not None:
            return await self._maker_may(mapping, room_id)
        return verdict

    async def _parents(
        self, mapping: MappingRow, space_id: str, room_id: str
    ) -> tuple[Verdict, ...]:
        """Return the verdicts on those who said in a room that a space is its parent."""
        try:
            events = await self._homeserver.rooms.state(room_id, SPACE_PARENT)
        except RefusedError:
            return ()
        verdicts = []
        for event in events:
            if event.state_key != space_id or not event.content.get("via"):
                continue
            if self._users.trusts(event.sender):
                reason = f"{event.sender} named the space as its parent."
                verdicts.append(Verdict(True, reason))
            else:
                verdicts.append(await self._may(event.sender, mapping, room_id))
        return tuple(verdicts)
