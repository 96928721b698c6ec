"""Judge what was put in others' hands: the rooms of a space, and mappings made in the console."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import structlog

from scim_matrix.matrix.errors import RefusedError
from scim_matrix.matrix.rooms import StateEvent
from scim_matrix.matrix.server import Homeserver
from scim_matrix.membership import Membership
from scim_matrix.store import openings, rooms
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.openings import MappingRow, Opening
from scim_matrix.sync import room_names
from scim_matrix.sync.authority import (
    Reach,
    Verdict,
    by_administrator,
    entitlement,
    everywhere,
    removal,
)
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.power import PowerLevels
from scim_matrix.sync.provenance import Chain, Edge, beyond, child
from scim_matrix.sync.room_rights import RoomRights

log = structlog.get_logger(__name__)

SPACE_PARENT = "m.space.parent"


# What spaces hold, and who said so, by space.
Edges = dict[str, list[tuple[str, str]]]
# So many ways to one room are told apart by whose power they rest on, the shortest first.
MOST_CHAINS = 16


@dataclass(frozen=True, slots=True)
class Leaders:
    """Who is asked for their power before somebody leaves a room.

    Where nobody is, `asked` is False. `levels` is who has which power there, None where the
    homeserver does not say.
    """

    users: Policy
    asked: bool = False
    levels: PowerLevels | None = None

    def refusal(self, pair: Membership, chains: Iterable[Chain]) -> str | None:
        """Return why somebody stays whom nobody behind this could remove by hand, else None.

        `chains` are those that lead to it; one on which everybody could is enough.
        """
        reasons = ["nobody whose power it rests on has a mapping here that is in force"]
        for chain in sorted(chains, key=lambda c: (len(c), sorted(c))):
            verdicts = [self._removal(pair, who) for who in sorted(chain)]
            refusals = [v.reason for v in verdicts if not v.followed]
            if not refusals:
                return None
            reasons.append(refusals[0])
        return reasons[min(1, len(reasons) - 1)]

    def _removal(self, pair: Membership, leader: str) -> Verdict:
        if self.users.trusts(leader):
            return by_administrator(leader)
        if pair.state == "excluded" and pair.user_id == leader:
            return Verdict(False, f"it is for {leader} that nobody else is to stay")
        if self.levels is None:
            return Verdict(False, "who has which power in the room is not known")
        return removal(self.levels, leader, pair.user_id, given=pair.power_given)


async def leaders(
    connection: Connection, rights: RoomRights, room_id: str, users: Policy
) -> Leaders:
    """Ask for the power of those behind removals; costs requests only where somebody's is needed.

    The configuration, and an administrator of the homeserver, need nobody's.
    """
    if not await openings.any_led(connection, room_id):
        return Leaders(users)
    try:
        return Leaders(users, True, await rights.levels(room_id))
    except RefusedError:
        return Leaders(users, True)


async def leading(connection: Connection, pair: Membership) -> list[Chain] | None:
    """Return whose power a removal rests on, each way on its own; None where it needs nobody's."""
    if pair.state == "excluded":
        chains = await openings.leading_exclusively(connection, pair.room_id)
    elif pair.state == "revoked" and pair.led:
        chains = await openings.leading_away(connection, pair.room_id, pair.account_id)
    else:
        return None
    return None if frozenset() in chains else chains


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
        # Who said of rooms that spaces are their parents.
        self._parents: dict[str, tuple[StateEvent, ...]] = {}

    async def judge(self, room_id: str) -> set[str] | None:
        """Judge the mappings that open a room and the rooms below it.

        Returns the rooms below it that are opened, or were, where that is news; else None.
        """
        news = False
        reaching = await openings.reaching(self._database.scanner, room_id)
        for mapping in reaching.console:
            if mapping.room_id is not None:
                news |= await self._judge_maker(mapping, mapping.room_id)
        opened = reaching.below
        if news:
            reaching = await openings.reaching(self._database.scanner, room_id)
        if reaching.spaces:
            below = await self._below(room_id)
            for mapping in reaching.spaces:
                changed = None
                while changed is None:
                    children = await self._children(mapping, room_id, below, self._makers(mapping))
                    async with self._database.write() as connection:
                        changed = await openings.put_children(connection, mapping.id, children)
                if changed:
                    followed = sum(c.standing == "followed" for c in children)
                    log.info(
                        "space_changed",
                        room_id=room_id,
                        rooms=followed,
                        not_followed=len(children) - followed,
                    )
                news |= changed
        if not news:
            return None
        return opened | (await openings.reaching(self._database.scanner, room_id)).below

    async def _judge_maker(self, mapping: MappingRow, room_id: str) -> bool:
        """Put a console mapping in force while its maker could do the same; else suspend it."""
        assert mapping.made_by is not None
        chain = self._makers(mapping)
        verdict = Verdict(True, f"{mapping.made_by} administers the homeserver.")
        for maker in chain:
            verdict = await self._may_map(maker, mapping, room_id)
        async with self._database.write() as connection:
            led = await openings.lead(connection, mapping.id, chain)
            if verdict.followed:
                news = await openings.stand(connection, mapping.id, "in_force")
            else:
                news = await openings.stand(
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
        return news or led

    def _makers(self, mapping: MappingRow) -> Chain:
        """Return whose own power it rests on that a mapping opens the room that it names."""
        behind = {*mapping.led_by, *filter(None, [mapping.made_by])}
        return frozenset(who for who in behind if not self._users.trusts(who))

    async def _may_map(self, user_id: str, mapping: MappingRow, room_id: str) -> Verdict:
        """Decide whether somebody could do in a room by hand what a mapping would."""
        return await self.may(user_id, room_id, Reach.of(mapping))

    async def may_follow(self, mapping: MappingRow, room_id: str) -> Verdict:
        """Decide whether those whose power a mapping rests on could take it on to a room."""
        verdict = Verdict(True, "It rests on nobody's own power.")
        for leader in sorted(self._makers(mapping)):
            verdict = await self._may_map(leader, mapping, room_id)
            if not verdict.followed:
                break
        return verdict

    async def may(self, user_id: str, room_id: str, reach: Reach) -> Verdict:
        """Decide whether somebody may lead the service in a room; see `entitlement`."""
        if self._users.trusts(user_id):
            return by_administrator(user_id)
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
        return entitlement(levels, user_id, user_id in joined, reach)

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

    async def _below(self, space_id: str) -> Edges:
        below: Edges = {}
        found = await self._homeserver.rooms.hierarchy(space_id)
        # Those that are not followed are not compared, and shown all the same.
        await room_names.record(self._database, found.rooms)
        for step in found.children:
            below.setdefault(step.space_id, []).append((step.room_id, step.sender))
        return below

    async def everywhere_below(self, user_id: str, space_id: str, mapping: MappingRow) -> Verdict:
        """Decide whether somebody may have a mapping open all rooms of a space that it would."""
        below = await self._below(space_id)
        makers = self._makers(mapping)
        opened = {
            room.room_id
            for room in await self._children(mapping, space_id, below, makers)
            if room.standing == "followed"
        }
        verdicts = [(space_id, await self._may_map(user_id, mapping, space_id))]
        for room in await self._children(mapping, space_id, below, makers | {user_id}):
            if room.room_id in opened and room.standing == "not_followed":
                refusal = Verdict(False, room.reason or "")
                verdicts.append((room.room_id, refusal))
        return everywhere(verdicts)

    async def _children(
        self, mapping: MappingRow, space_id: str, below: Edges, chain: Chain
    ) -> list[Opening]:
        """Return every room below a space that a followed step leads to, followed or not.

        `chain` are those on whose own power it rests that the space itself is opened. What counts
        is the room that people would be brought into, where one was upgraded.

        A way is followed as far as everybody whose power it rests on could go alone. Of several
        to a room that is opened by the one that rests on the fewest, but each may lead further.
        """
        successors = await rooms.successors(self._database.scanner)
        found: dict[str, Opening] = {}
        taken: dict[str, list[Chain]] = {}
        order = itertools.count()
        # Those that rest on the fewest come first.
        ways = [(len(chain), next(order), space_id, space_id, chain)]
        while ways:
            _, _, parent, via, chain = heappop(ways)
            known = taken.setdefault(parent, [])
            if len(known) >= MOST_CHAINS or any(fewer <= chain for fewer in known):
                continue
            if parent != space_id and not known:
                leaders = tuple(sorted(chain))
                found[parent] = Opening(successors(parent), via, "followed", led_by=leaders)
            known.append(chain)
            for room_id, sender in below.get(parent, ()):
                if room_id == space_id:
                    continue
                present = successors(room_id)
                verdict, further = await self._step(mapping, (parent, present, sender), chain)
                if not verdict.followed:
                    opening = Opening(present, parent, "not_followed", verdict.reason, verdict.cure)
                    found.setdefault(room_id, opening)
                for longer in further:
                    heappush(ways, (len(longer), next(order), room_id, parent, longer))
        return list(found.values())

    async def _step(
        self, mapping: MappingRow, edge: tuple[str, str, str], chain: Chain
    ) -> tuple[Verdict, list[Chain]]:
        """Decide about a space's child (space, room, who put it there) that a chain leads to."""
        space_id, room_id, sender = edge
        for leader in sorted(chain):
            own = await self._may_map(leader, mapping, room_id)
            if not own.followed:
                return beyond(leader, space_id, room_id, own), []
        told = Edge(space_id, room_id, sender, Verdict(False, "It was not asked for."))
        if not self._users.trusts(sender):
            told = replace(
                told,
                own=await self._may_map(sender, mapping, room_id),
                parents=await self._parents_of(mapping, space_id, room_id),
            )
        step = child(told, self._users)
        return step.verdict, step.continued(chain)

    async def _parents_of(
        self, mapping: MappingRow, space_id: str, room_id: str
    ) -> tuple[tuple[str, Verdict], ...]:
        """Return who said in a room that a space is its parent, and what they may do there."""
        if room_id not in self._parents:
            try:
                events = await self._homeserver.rooms.state(room_id, SPACE_PARENT)
            except RefusedError:
                events = ()
            self._parents[room_id] = events
        return tuple(
            [
                (event.sender, await self._may_map(event.sender, mapping, room_id))
                for event in self._parents[room_id]
                if event.state_key == space_id and event.content.get("via")
            ]
        )
