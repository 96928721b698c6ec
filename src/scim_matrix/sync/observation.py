"""Observe rooms: find them, what they were upgraded to, what is below them, who is in them."""

import asyncio
from collections.abc import Collection, Iterable, Sequence

import orjson
import structlog

from scim_matrix.config import OnSelfLeave
from scim_matrix.matrix.errors import (
    INVALID_PARAM,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    WithheldError,
)
from scim_matrix.matrix.mas_answers import MasError
from scim_matrix.matrix.server import Homeserver
from scim_matrix.membership import Observed
from scim_matrix.store import accounts, observed, openings, record, references, rooms
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.openings import MappingRow
from scim_matrix.store.record import Entry
from scim_matrix.store.references import RoomReference
from scim_matrix.sync import provenance, room_names
from scim_matrix.sync.authority import Reach, Verdict
from scim_matrix.sync.backoff import PERMANENT
from scim_matrix.sync.delegation import Delegation
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.provenance import Claim
from scim_matrix.sync.room_rights import RoomRights
from scim_matrix.sync.schedule import Schedule

log = structlog.get_logger(__name__)


def _leaders(claim: Claim | None, users: Policy) -> tuple[str, ...]:
    """Return on whose own power it rests what a room says of its aliases."""
    return () if claim is None or users.trusts(claim.sender) else (claim.sender,)


async def _tell_withheld(connection: Connection, reference: str) -> None:
    """Record the room that a dry run would have made, and whom it would have been opened to."""
    kinds: dict[str, record.Kind] = {"create room": "create_room", "invite": "invite"}
    entries = [
        Entry(
            kinds.get(would["what"], "join"),
            "dry_run",
            would["user"],
            reference,
            would["group"],
            would["request"],
        )
        for would in await references.to_be_opened(connection, reference)
    ]
    await record.add(connection, *entries)


class Observation:
    """Brings what is thought of rooms in line with what they are.

    Its methods raise PostponedError and TokenError, which say something of the homeserver as a
    whole; what is wrong with one room is recorded.
    """

    def __init__(
        self,
        database: Database,
        homeserver: Homeserver,
        rights: RoomRights,
        on_self_leave: OnSelfLeave,
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._rights = rights
        self._on_self_leave = on_self_leave
        self.schedule = Schedule()
        self._under_way: set[str] = set()
        # Set when the map opens other rooms than before.
        self.others_opened = asyncio.Event()

    def _opens(self, room_ids: Iterable[str]) -> None:
        """Note that the map opens rooms, or opens them otherwise: they are compared anew."""
        self.schedule.doubt(room_ids)
        self.others_opened.set()

    # -- References -------------------------------------------------------

    async def resolve(self, reference: RoomReference) -> None:
        """Find the room behind a reference; make it where the map says how."""
        name = reference.reference
        try:
            found = await self._resolve(reference)
        except (RefusedError, RateLimitedError, WithheldError) as error:
            # A burst of new rooms is rate limited, which is no reason to stop all else.
            limited = error.retry_after if isinstance(error, RateLimitedError) else None
            delay = PERMANENT.delay(reference.attempts) if limited is None else limited
            log.warning("room_unresolved", room=name, error=str(error))
            async with self._database.write() as connection:
                if isinstance(error, WithheldError):
                    await _tell_withheld(connection, name)
                await references.fail(
                    connection,
                    name,
                    f"does not resolve: {error}",
                    connection.at + delay,
                    absent=isinstance(error, NotFoundError),
                    cure="make the room, correct the map, or give it a create object",
                )
            return
        if found is None:
            return
        room_id, leaders = found
        async with self._database.write() as connection:
            room_id = await references.pin(connection, name, room_id, leaders)
        self.schedule.resolved(name)
        self._opens([room_id])
        log.info("room_resolved", room=name, room_id=room_id)

    async def _resolve(self, reference: RoomReference) -> tuple[str, tuple[str, ...]] | None:
        """Return the room that a reference stands for, and on whose own power that rests.

        None where a human must let it in.
        """
        alias = reference.reference
        try:
            room_id = await self._homeserver.rooms.resolve_alias(alias)
        except NotFoundError:
            if reference.template is None:
                raise
            return await self._create(alias, reference.template), ()
        if not reference.absent and reference.template is None:
            return room_id, ()
        users = await self._rights.protection()
        claim = await self._claim(
            room_id, await openings.mappings_of(self._database.scanner, alias)
        )
        verdict = provenance.appeared(alias, room_id, await self._creator(room_id), claim, users)
        if verdict.followed:
            return room_id, _leaders(claim, users)
        if reference.candidate != room_id:
            log.warning("room_waits", room=alias, room_id=room_id, reason=verdict.reason)
        async with self._database.write() as connection:
            next_try = connection.at + PERMANENT.delay(reference.attempts)
            await references.wait(
                connection, alias, room_id, verdict.reason, verdict.cure, next_try
            )
        return None

    async def _creator(self, room_id: str) -> str | None:
        """Return who made a room, None where the homeserver does not know."""
        try:
            return (await self._homeserver.rooms.power_state(room_id)).creator
        except NotFoundError:
            return None

    async def _claim(self, room_id: str, mappings: Sequence[MappingRow] = ()) -> Claim | None:
        """Return what a room says of its aliases, None where the homeserver knows of nothing.

        Whoever said so is asked for the power to do by hand what all of some mappings would.
        """
        try:
            event = await self._homeserver.rooms.state_event(room_id, "m.room.canonical_alias")
        except RefusedError:
            return None
        if event is None:
            return None
        users = await self._rights.protection()
        delegation = Delegation(self._database, self._homeserver, self._rights, users)
        # What counts is the room that people would be brought into.
        room_id = await rooms.successor(self._database.scanner, room_id)
        own = await delegation.may(event.sender, room_id, Reach.of(*mappings))
        for mapping in mappings:
            # Below a space, what others put there is opened too.
            if mapping.children and own.followed and not users.trusts(event.sender):
                own = await delegation.everywhere_below(event.sender, room_id, mapping)
        return Claim(event.content, event.sender, own)

    async def _create(self, alias: str, template: str) -> str:
        if not alias.endswith(":" + self._homeserver.server_name):
            raise RefusedError(400, INVALID_PARAM, "only a room of this server can be created")
        room_id = await self._homeserver.rooms.create_room(alias, orjson.loads(template))
        log.info("room_created", room=alias, room_id=room_id)
        async with self._database.write() as connection:
            entry = Entry("create_room", "done", None, room_id, detail=alias)
            await record.add(connection, entry)
        return room_id

    async def _has_moved(self, reference: RoomReference, room_id: str) -> bool:
        """Ask anew what an alias stands for; another room has to say itself that it is meant."""
        alias = reference.reference
        if not alias.startswith("#"):
            return False
        try:
            found = await self._homeserver.rooms.resolve_alias(alias)
        except RefusedError as error:
            # The room may well be there still: it is kept until the alias names another.
            log.warning("alias_gone", room=alias, room_id=room_id, error=str(error))
            return False
        # An alias that stayed with a room when that was upgraded leads to what took its place.
        if await rooms.successor(self._database.scanner, found) == room_id:
            if reference.candidate is not None:
                async with self._database.write() as connection:
                    await references.points_elsewhere(connection, alias, None, None, None)
            if reference.led_by:
                await self._say_again(reference, room_id)
            return False
        claim = await self._claim(found, await openings.mappings_of(self._database.scanner, alias))
        users = await self._rights.protection()
        if await self._is_deleted(room_id):
            creator = await self._creator(found)
            verdict = provenance.made_anew(alias, room_id, found, creator, claim, users)
        else:
            verdict = provenance.alias_moved(alias, room_id, found, claim)
        async with self._database.write() as connection:
            if verdict.followed:
                found = await references.pin(connection, alias, found, _leaders(claim, users))
                news = True
            else:
                news = await references.points_elsewhere(
                    connection, alias, found, verdict.reason, verdict.cure
                )
        if news:
            log.warning(
                "alias_moved",
                room=alias,
                room_id=found,
                former=room_id,
                followed=verdict.followed,
                reason=verdict.reason,
            )
        if verdict.followed:
            # Something else may still open the former room.
            self._opens([found, room_id])
        return verdict.followed

    async def _is_deleted(self, room_id: str) -> bool:
        """Tell whether the homeserver knows nothing of a room any more."""
        try:
            await self._homeserver.rooms.details(room_id)
        except NotFoundError:
            return True
        return False

    async def _is_made_anew(self, room_id: str) -> bool:
        """Ask of a room that was deleted whether an alias of its own leads to another by now."""
        for reference in await references.of_room(self._database.scanner, room_id):
            if await self._has_moved(reference, room_id):
                return True
        return False

    async def _say_again(self, reference: RoomReference, room_id: str) -> None:
        """Have a reference rest on whoever says by now that the room is meant."""
        alias = reference.reference
        claim = await self._claim(
            room_id, await openings.mappings_of(self._database.scanner, alias)
        )
        if claim is None or not claim.vouches(alias):
            return
        leaders = _leaders(claim, await self._rights.protection())
        if leaders != reference.led_by:
            async with self._database.write() as connection:
                await references.pin(connection, alias, room_id, leaders)

    # -- Rooms ------------------------------------------------------------

    async def observe(self, room_id: str) -> None:
        """Compare a room with what is thought of it: where it is, what is below it, who is in."""
        self.schedule.begin(room_id)
        self._under_way.add(room_id)
        try:
            await self._observe(room_id)
        except RefusedError as error:
            log.warning("room_unusable", room_id=room_id, error=str(error))
            async with self._database.write() as connection:
                await rooms.unusable(connection, room_id, str(error))
        except BaseException:
            self.schedule.doubt([room_id])
            raise
        finally:
            self._under_way.discard(room_id)

    def heard(self, room_id: str) -> None:
        """Take note that somebody came or went: a comparison under way may write over that."""
        if room_id in self._under_way:
            self.schedule.doubt([room_id])

    async def _observe(self, room_id: str) -> None:
        # First: an upgrade takes the alias along, and copies power levels, which a move does not.
        followed = self.schedule.followed
        try:
            if not self.schedule.is_watched(room_id) and await self._is_upgraded(room_id):
                return
        except NotFoundError:
            if await self._is_made_anew(room_id):
                return
            raise
        if await rooms.is_new(self._database.scanner, room_id):
            await self._follow_here(room_id)
        standing_for_it = await references.of_room(self._database.scanner, room_id)
        for reference in standing_for_it:
            is_resolved = self.schedule.take_resolved(reference.reference)
            if not is_resolved and await self._has_moved(reference, room_id):
                return
        users = await self._rights.protection()
        delegation = Delegation(self._database, self._homeserver, self._rights, users)
        try:
            below = await delegation.judge(room_id)
            if below is not None:
                # Those that are below it no longer too: others may let nobody else stay there.
                self._opens(below)
        except MasError as error:
            # Who may lead cannot be asked: what was judged before stays.
            log.warning("not_judged", room_id=room_id, error=str(error))
        for reference in standing_for_it:
            if reference.template is not None:
                await self._place(reference.template, room_id)
        # Before who is joined: whoever accepts an invitation meanwhile is known to have had it.
        begun = self._database.clock.now()
        others = await self._others(room_id)
        joined = await self._homeserver.rooms.members(room_id)
        if users.service_user_id in joined:
            self.schedule.watch(room_id, followed)
        protected = [user_id for user_id in joined if users.protects(user_id)]
        joined = [user_id for user_id in joined if user_id != users.service_user_id]
        invited = others.get("invite", {}).items()
        by_others = [user for user, sender in invited if sender != users.service_user_id]
        async with self._database.write() as connection:
            unexplained = await observed.observe(
                connection, room_id, joined, protected, others, begun, by_others
            )
            if unexplained.missing:
                await accounts.doubt_gone(connection, unexplained.missing)
        if unexplained.missing:
            log.warning("people_missing", room_id=room_id, people=len(unexplained.missing))
        await self._observe_closer(room_id, unexplained)

    async def _others(self, room_id: str) -> dict[Observed, dict[str, str]]:
        """Return who is invited, banned or at the door, where somebody may be, and by whom."""
        found: dict[Observed, dict[str, str]] = {}
        try:
            for kind in await observed.others(self._database.scanner, room_id):
                found[kind] = await self._homeserver.rooms.member_events(room_id, kind)
        except RefusedError as error:
            # Only somebody in the room may ask; without an answer things stay as they are.
            log.info("room_not_seen_from_inside", room_id=room_id, error=str(error))
        return found

    async def _is_upgraded(self, room_id: str) -> bool:
        """Follow an upgraded room to one that names it as its predecessor."""
        details = await self._homeserver.rooms.details(room_id)
        await room_names.record(self._database, {room_id: details.own_name})
        replacement = details.replacement
        if replacement is None:
            if await rooms.is_upgrade_refused(self._database.scanner, room_id):
                async with self._database.write() as connection:
                    await rooms.no_upgrade(connection, room_id)
            return False
        last = await rooms.successor(self._database.scanner, room_id)
        if last == await rooms.successor(self._database.scanner, replacement) != room_id:
            # Followed before: what is known here now is not what counts there.
            return False
        try:
            creation = (await self._homeserver.rooms.power_state(replacement)).creation
        except RefusedError:
            creation = None
        verdict = provenance.upgraded(room_id, replacement, creation)
        staying: dict[int, Verdict] = {}
        if verdict.followed:
            staying = await self._staying(room_id, replacement)
            if staying and not await self._goes_along(room_id, staying):
                verdict = provenance.upgraded_beyond(room_id, replacement, *staying.values())
        async with self._database.write() as connection:
            if verdict.followed:
                await rooms.upgraded(connection, room_id, replacement, staying)
                news = True
            else:
                news = await rooms.refuse_upgrade(
                    connection, room_id, replacement, verdict.reason, verdict.cure
                )
        if news:
            log.warning(
                "room_upgraded",
                room_id=room_id,
                replacement=replacement,
                followed=verdict.followed,
                reason=verdict.reason,
            )
        if verdict.followed:
            self._opens([replacement])
        return verdict.followed

    async def _follow_here(self, room_id: str) -> None:
        """Follow the upgrades that led to a room which the map named before they were seen.

        What is known of people in the room that it took the place of counts here.
        """
        way = [room_id]
        known = False
        while not known:
            former = await self._predecessor(way[-1])
            if former is None or former in way:
                return
            way.append(former)
            known = await rooms.is_known(self._database.scanner, former)
        for former in reversed(way[1:]):
            try:
                await self._is_upgraded(former)
            except RefusedError as error:
                log.warning("former_room_unknown", room_id=former, error=str(error))
                return

    async def _predecessor(self, room_id: str) -> str | None:
        """Return the room that a room says it took the place of, None where that is not known."""
        try:
            creation = await self._homeserver.rooms.state_event(room_id, "m.room.create")
        except RefusedError:
            return None
        return None if creation is None else provenance.predecessor(creation.content)

    async def _staying(self, room_id: str, replacement: str) -> dict[int, Verdict]:
        """Return the mappings that do not go along to a replacement, with the reason of each.

        Those rest on the power of somebody who has no such power there.
        """
        users = await self._rights.protection()
        delegation = Delegation(self._database, self._homeserver, self._rights, users)
        verdicts = {
            mapping.id: await delegation.may_follow(mapping, replacement)
            for mapping in await openings.led_into(self._database.scanner, room_id)
        }
        return {which: verdict for which, verdict in verdicts.items() if not verdict.followed}

    async def _goes_along(self, room_id: str, staying: Collection[int]) -> bool:
        """Tell whether some mapping goes along where others stay."""
        led = await openings.led_into(self._database.scanner, room_id)
        return len(led) > len(staying) or await openings.is_given(self._database.scanner, room_id)

    async def _place(self, template: str, room_id: str) -> None:
        """Put a room into the space it belongs to, unless somebody did or undid that before."""
        space = orjson.loads(template)["space"]
        if space is None:
            return
        try:
            if space.startswith("#"):
                found = await self._vouched_space(space)
                if found is None:
                    return
                space = found
            if await self._homeserver.rooms.state_event(space, "m.space.child", room_id):
                return
            via = {"via": [self._homeserver.server_name]}
            await self._rights.with_power(
                space,
                lambda: self._homeserver.rooms.put_state(space, "m.space.child", via, room_id),
            )
            await self._homeserver.rooms.put_state(room_id, "m.space.parent", via, space)
        except (RefusedError, WithheldError) as error:
            log.warning("room_not_placed", room_id=room_id, space=space, error=str(error))

    async def _vouched_space(self, alias: str) -> str | None:
        """Return the space that an alias of the configuration means, None where nobody vouches.

        The one that it is pinned to; else one that an administrator of the homeserver made and
        that says itself, by somebody with a say in it, that the alias is its own.
        """
        known = await references.get(self._database.scanner, alias)
        if known is not None:
            return known.room_id
        space = await self._homeserver.rooms.resolve_alias(alias)
        creator = (await self._homeserver.rooms.power_state(space)).creator
        users = await self._rights.protection()
        claim = await self._claim(space)
        if users.trusts(creator) and claim is not None and claim.vouches(alias):
            return space
        log.warning("space_not_followed", alias=alias, space=space, made_by=creator)
        return None

    async def _observe_closer(self, room_id: str, unexplained: observed.Unexplained) -> None:
        """Ask what the list of those joined cannot tell, where it matters."""
        try:
            # Before what only somebody in the room may ask.
            if unexplained.powerful:
                levels = await self._rights.levels(room_id)
                async with self._database.write() as connection:
                    await observed.powers_are(
                        connection,
                        room_id,
                        [
                            (account_id, levels.of(user))
                            for user, account_id in unexplained.powerful
                        ],
                    )
            respects = unexplained.missing and self._on_self_leave == "respect"
            if respects or unexplained.declined:
                left = await self._homeserver.rooms.member_events(room_id, "leave")
                themselves = [user for user, sender in left.items() if user == sender]
                service = self._homeserver.user_id
                ours = [user for user in unexplained.declined if left.get(user) == service]
                async with self._database.write() as connection:
                    if respects:
                        await observed.respect(connection, room_id, themselves)
                    await observed.removed(connection, room_id, ours)
        except RefusedError as error:
            # Only somebody in the room may ask; without an answer things stay as they are.
            log.info("room_not_seen_from_inside", room_id=room_id, error=str(error))
