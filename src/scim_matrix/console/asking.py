"""What somebody asks for who wants a mapping: which room, whether they may, what follows."""

from collections.abc import Callable
from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from scim_matrix.app_keys import DATABASE, HOMESERVER, REPLICA
from scim_matrix.console import sayings
from scim_matrix.console.access import MOST_CHILDREN, NOT_YOURS
from scim_matrix.console.mapping_form import Wish, wish
from scim_matrix.console.pages import USER, Pages
from scim_matrix.groupmap import GroupMapError, Mapping
from scim_matrix.matrix.errors import UnavailableError
from scim_matrix.store import console, rooms
from scim_matrix.story.words import called
from scim_matrix.sync.authority import Reach, Verdict, removal
from scim_matrix.sync.power import out_of_reach

Form = MappingType[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: of which group, the mapping to keep, and what its room is called.

    `below` are the rooms below its space, None where nobody had to ask for them. `powerless` is why
    its power level cannot be given, None where it can.
    """

    group: dict[str, Any]
    wish: Wish
    mapping: Mapping
    room: str
    below: list[str] | None = None
    powerless: str | None = None


class Asking:
    """Judges what forms ask for, by whoever sent them."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def asked_for(self, request: web.Request, group: dict[str, Any], form: Form) -> Asked:
        """Return what a form asks for, by somebody who may.

        Raises GroupMapError with plain words, or HTTPForbidden.
        """
        asked = wish(group["id"], {**form, "room": await self._reference(request, form)})
        room_id = await self._find(request, asked.mapping.room)
        mapping = asked.bound(room_id)
        verdict, below = await self._verdict(request, mapping)
        if not verdict.followed:
            raise web.HTTPForbidden(text=f"{verdict.reason} {verdict.cure}")
        names = await rooms.names(request.config_dict[DATABASE].scanner)
        room = asked.alias or called(room_id, names)
        return Asked(group, asked, mapping, room, below, await self._powerless(request, mapping))

    async def _reference(self, request: web.Request, form: Form) -> str:
        """Return the alias or ID that was typed, or the ID of the one room that is called so."""
        typed = str(form.get("room", "")).strip()
        if typed.startswith(("#", "!", "%23")) or not typed:
            return typed
        found = await rooms.with_own_name(request.config_dict[DATABASE].scanner, typed)
        if not await self._pages.is_admin(request):
            found = [room_id for room_id in found if await self._pages.may_see(request, room_id)]
        if len(found) > 1:
            listed = ", ".join(found)
            raise GroupMapError(
                f"Several rooms are called “{typed}”. Say which by its ID: {listed}."
            )
        if not found:
            raise GroupMapError(
                f"No room that this service knows is called “{typed}”. Write its address"
                " (#name:server) or its ID."
            )
        return found[0]

    async def _find(self, request: web.Request, named: str) -> str:
        """Return the ID of the room that is meant; raises as `asked_for` does."""
        try:
            room_id = await self._pages.access.find_room(request[USER], named)
        except UnavailableError as error:
            homeserver = request.config_dict[HOMESERVER]
            server = named.partition(":")[2]
            if not named.startswith("#") or server == homeserver.server_name:
                raise
            # Where it is the homeserver itself that is away, this says so.
            await homeserver.server_version()
            raise GroupMapError(
                f"{server} does not answer, so it is not known which room {named} is. Name the room"
                f" by an address of {homeserver.server_name} or by its ID, or try again later."
            ) from error
        if room_id is None:
            if not await self._pages.is_admin(request):
                raise web.HTTPForbidden(text=NOT_YOURS)
            raise GroupMapError(f"{named} does not exist on this homeserver.")
        return room_id

    async def _verdict(
        self, request: web.Request, mapping: Mapping
    ) -> tuple[Verdict, list[str] | None]:
        """Tell whether whoever asks may make a mapping, in the rooms of its space too.

        Returns these rooms as well, where they had to be asked for.
        """
        access = self._pages.access
        ask = partial(access.verdict, request[USER], reach=Reach.of(mapping))
        verdict = await ask([mapping.room])
        if not (verdict.followed and mapping.children) or await self._pages.is_admin(request):
            return verdict, None
        below, unnamed = await access.rooms_below(request[USER], mapping.room)
        if len(below) >= MOST_CHILDREN:
            refusal = Verdict(
                False,
                f"This space has more than {MOST_CHILDREN} rooms.",
                "Ask an administrator of the homeserver to map it.",
            )
            return refusal, below
        return await ask([mapping.room, *below], unnamed=unnamed), below

    async def _powerless(self, request: web.Request, mapping: Mapping) -> str | None:
        if mapping.power is None:
            return None
        levels = await self._pages.access.levels(mapping.room)
        homeserver = request.config_dict[HOMESERVER]
        return out_of_reach(levels, homeserver.user_id, homeserver.server_name, mapping.power)

    async def meetings(self, request: web.Request, asked: Asked) -> list[sayings.Meeting]:
        """Return whom a group would meet in the room of a mapping, and in those below it."""
        reader = request.config_dict[DATABASE].scanner
        people = await console.accounts_of(reader, asked.group["id"])
        names = await rooms.names(reader)
        met = {asked.mapping.room: asked.room}
        if asked.mapping.children:
            below = asked.below
            if below is None:
                below, _ = await self._pages.access.rooms_below(request[USER], asked.mapping.room)
            met |= {room_id: called(room_id, names) for room_id in below}
        return [await self._meeting(request, asked, people, *room) for room in met.items()]

    async def _meeting(
        self, request: web.Request, asked: Asked, people: set[str], room_id: str, name: str
    ) -> sayings.Meeting:
        inside = {*await request.config_dict[HOMESERVER].rooms.members(room_id)}
        others: set[str] = set()
        if asked.mapping.exclusive:
            reader = request.config_dict[DATABASE].scanner
            others = inside - people - await console.staying(reader, room_id, inside)
            may_go = await self._removable(request, room_id)
            others = {person for person in others if may_go(person)}
        return sayings.Meeting(name, len(people - inside), len(people & inside), len(others))

    async def _removable(self, request: web.Request, room_id: str) -> Callable[[str], bool]:
        """Return what tells whether somebody whom no group gives a room would be removed.

        Whom nothing protects, and whom whoever asks could remove themselves.
        """
        policy = await request.config_dict[REPLICA].reconciler.protection()
        if await self._pages.is_admin(request):
            return lambda person: not policy.protects(person)
        levels, by = await self._pages.access.levels(room_id), request[USER]
        return lambda person: not policy.protects(person) and removal(levels, by, person).followed
