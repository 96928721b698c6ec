"""The pages of groups: which rooms they open, and changing that.

Administrators see every group. Managers see the groups that open rooms of theirs; of the others
they find the name, where they look for one to map.
"""

from collections.abc import Callable, Iterable, Set
from collections.abc import Mapping as MappingType
from typing import Any
from urllib.parse import quote

from aiohttp import web

from scim_matrix.app_keys import DATABASE, REPLICA
from scim_matrix.console import sayings, session
from scim_matrix.console.asking import Asked, Asking, Form
from scim_matrix.console.pages import (
    PAGE,
    USER,
    Pages,
    Part,
    first_row,
    part_of,
    reads,
    to_the_first,
)
from scim_matrix.groupmap import GroupMapError
from scim_matrix.store import console, groupmap, memberships, record, rooms, story, totals
from scim_matrix.store.database import Connection
from scim_matrix.store.record import Entry
from scim_matrix.story import group as group_story
from scim_matrix.story.rows import Story
from scim_matrix.story.words import called
from scim_matrix.sync.authority import Reach, removal

# Which groups are shown, by the words of the page: whether the map names them.
MAPPED: MappingType[str, bool] = {"mapped": True, "not mapped": False}
_NOT_MADE_HERE = "This mapping is not one that was made here."
_GONE = "There is no such group any more."


class GroupPages:
    """Handlers."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._asking = Asking(pages)

    # -- Looking ----------------------------------------------------------

    async def groups(self, request: web.Request) -> web.StreamResponse:
        """GET: groups by name; a manager's own, and others by name where they are looked for."""
        query = {name: request.query.get(name, "").strip() for name in ("q", "show")}
        reader = request.config_dict[DATABASE].scanner
        if await self._pages.is_admin(request):
            first, mapped = first_row(request), MAPPED.get(query["show"])
            found = await console.groups_listed(reader, query["q"], mapped, PAGE, first)
            if first and not found:
                raise to_the_first(request)
            part = Part(first, found[0]["number"] if found else 0, query)
            opened = await console.groups_opened(reader, [group["id"] for group in found])
            context = {"groups": found, "opened": opened, "part": part, "others": []}
            context["gone"] = [] if first or query["q"] else await console.of_nobody(reader)
        else:
            own = await console.groups_opening(reader, await self._pages.own_rooms(request))
            part = part_of(own, request, query)
            context = {"groups": own[part.first : part.last], "opened": {}, "part": part}
            context["gone"] = []
            context["others"] = await self._others(reader, query["q"], {g["id"] for g in own})
        context |= {"query": query, "filters": MAPPED}
        return await self._pages.render(request, "groups.html", context)

    async def _others(
        self, reader: Connection, words: str, known: Set[str]
    ) -> list[dict[str, Any]]:
        """Return groups by name that are not known already, where one is looked for."""
        found = await console.groups_listed(reader, words, None, PAGE + 1) if words else []
        return [group for group in found if group["id"] not in known][:PAGE]

    async def group(self, request: web.Request) -> web.StreamResponse:
        """GET: a group and what it opens, as far as that concerns whoever asks."""
        return await self._page(request)

    async def _page(
        self, request: web.Request, status: int = 200, **more: Any
    ) -> web.StreamResponse:
        group = await self._group(request)
        shown = await self._shown(request, group["id"])
        concerns = await self._concerns(request, shown)
        context = {"group": group, "mappings": shown, "concerns": concerns, "form": {}}
        context["story"] = await self._story(request, group["id"])
        if concerns and not group["deleted"]:
            context |= await self._members(request, group["id"])
        return await self._pages.render(request, "group.html", {**context, **more}, status)

    async def _members(self, request: web.Request, group_id: str) -> dict[str, Any]:
        """Return what shows a part of a group's members, whom some words choose."""
        words, first = request.query.get("q", "").strip(), first_row(request)
        reader = request.config_dict[DATABASE].scanner
        members = await console.members_of(reader, group_id, words, PAGE, first)
        if first and not members:
            raise to_the_first(request)
        part = Part(first, members[0]["number"] if members else 0, {"q": words})
        return {"members": members, "part": part, "q": words}

    async def _story(self, request: web.Request, group_id: str) -> Story | None:
        """Return a group's story, to administrators: it tells of rooms and people of others."""
        if not await self._pages.is_admin(request):
            return None
        reader = request.config_dict[DATABASE].scanner
        return group_story.story(await story.group(reader, group_id))

    async def _concerns(self, request: web.Request, shown: Iterable[MappingType[str, Any]]) -> bool:
        """Tell whether who is in a group may be told, by the mappings of it that are shown."""
        if await self._pages.is_admin(request):
            return True
        # A list may be older than the loss of a power, and what it leads to is no list.
        rooms = [room for m in shown if m["kind"] != "everyone" for room in m["own"]]
        return bool(rooms) and await self._pages.may_see(request, rooms[0])

    async def _shown(self, request: web.Request, group_id: str) -> list[dict[str, Any]]:
        """Return the mappings that a group falls under, as far as whoever asks may see them."""
        reader = request.config_dict[DATABASE].scanner
        mappings = await console.of_group(reader, group_id)
        is_admin = await self._pages.is_admin(request)
        opened = {room for mapping in mappings for room in mapping["rooms"]}
        own = opened if is_admin else {*await self._pages.own_among(request, sorted(opened))}
        shown = []
        for mapping in mappings:
            rooms = mapping["own"] = [room for room in mapping["rooms"] if room in own]
            if not (is_admin or rooms):
                continue
            if not is_admin and mapping["room_id"] not in rooms:
                # A space that is not theirs opens a room of theirs: that room is all they see.
                mapping |= {"room": rooms[0], "room_id": rooms[0], "children": False}
                mapping |= {"made_by": None, "error": None, "cure": None}
            mapping["mine"] = mapping["made_by"] is not None and (
                is_admin or (mapping["room_id"] in own and not await self._is_of_an_admin(mapping))
            )
            shown.append(mapping)
        return shown

    async def _group(self, request: web.Request) -> dict[str, Any]:
        reader = request.config_dict[DATABASE].scanner
        group_id = request.match_info["id"]
        found = await console.group(reader, group_id)
        if found is not None:
            return {**found, "deleted": False}
        # What was mapped here of a group that is gone can still be taken out.
        former = (await story.group(reader, group_id)).group
        known = former["deleted"] is not None and await self._pages.is_admin(request)
        if not known and not await console.of_group(reader, group_id):
            raise web.HTTPNotFound(text=_GONE)
        gone: dict[str, Any] = {"externalId": None, "number": 0, "deleted": True}
        return {"id": group_id, "displayName": former["display_name"], **gone}

    # -- Asking -----------------------------------------------------------

    async def _asked_for(self, request: web.Request, form: Form) -> Asked:
        """Return what a form asks for; raises as Asking does, and HTTPNotFound."""
        group = await self._group(request)
        if group["deleted"]:
            raise web.HTTPNotFound(text=_GONE)
        return await self._asking.asked_for(request, group, form)

    async def preview(self, request: web.Request) -> web.StreamResponse:
        """POST: what a mapping would do, before it is kept."""
        form = await request.post()
        try:
            asked = await self._asked_for(request, form)
        except GroupMapError as error:
            return await self._answer(request, {"problem": str(error), "known": None}, form)
        meetings: list[sayings.Meeting] = []
        # How many are in a group, and who of the room is, is told to those only who see the group.
        if await self._concerns(request, await self._shown(request, asked.group["id"])):
            meetings = await self._asking.meetings(request, asked)
        told = sayings.would_map(asked.mapping, asked.room, meetings, asked.powerless)
        return await self._answer(request, {"told": told}, form)

    async def _answer(
        self, request: web.Request, preview: dict[str, Any], form: Form
    ) -> web.StreamResponse:
        if "HX-Request" in request.headers:
            return await self._pages.render(request, "preview.html", {"preview": preview})
        status = 400 if "problem" in preview else 200
        return await self._page(request, status, preview=preview, form=form)

    # -- Changing ---------------------------------------------------------

    async def add_mapping(self, request: web.Request) -> web.StreamResponse:
        """POST: keep a mapping and put it in force."""
        form = await request.post()
        try:
            asked = await self._asked_for(request, form)
        except GroupMapError as error:
            return await self._page(
                request, 400, preview={"problem": str(error), "known": None}, form=form
            )
        group, by = asked.group, request[USER]
        async with request.config_dict[DATABASE].write(f"console {by}") as connection:
            kept = await groupmap.add(connection, asked.mapping, by, asked.wish.alias)
            if kept:
                entry = Entry(
                    *("map", "asked", None, asked.mapping.room, group["displayName"], "console"),
                    by=by,
                )
                await record.add(connection, entry)
                await totals.happened(connection, "decided")
        request.config_dict[REPLICA].decided()
        told = sayings.mapped_already(group["displayName"], asked.room)
        if kept:
            what = (group["displayName"], asked.room, asked.mapping, asked.powerless)
            told = sayings.mapped(*what, dry=self._pages.dry)
        await session.say(request, told)
        raise web.HTTPSeeOther(f"/console/groups/{quote(group['id'], safe='')}")

    async def remove_mapping(self, request: web.Request) -> web.StreamResponse:
        """POST: drop a mapping; the people stay, or leave through the brake."""
        form = await request.post()
        database, by = request.config_dict[DATABASE], request[USER]
        group = await self._group(request)
        mapping = await self._made_here(request, group["id"], str(form.get("mapping", "")))
        leave = form.get("people") == "leave"
        may_remove = await self._removal_rule(request, mapping) if leave else None
        async with database.write(f"console {by}") as connection:
            given = await groupmap.remove(connection, mapping["id"])
            if given is None:
                raise web.HTTPNotFound(text=_NOT_MADE_HERE)
            entry = Entry(
                *("unmap", "asked", None, mapping["room_id"], group["displayName"], "console"),
                by=by,
            )
            await record.add(connection, entry)
            await totals.happened(connection, "decided")
        removals = None
        if may_remove is not None:
            # Only whom the map has forgotten can be taken out.
            await request.config_dict[REPLICA].reconciler.settle_map()
            async with database.write(f"console {by}") as connection:
                users = await console.user_ids(connection, {account for _, account in given})
                leaving = [
                    (room_id, account)
                    for room_id, account in given
                    if account in users and may_remove(room_id, users[account])
                ]
                removals = await memberships.prune_some(connection, leaving)
        request.config_dict[REPLICA].decided()
        left = await console.of_group(database.scanner, group["id"])
        still_opens = any(
            one["standing"] == "in_force" and mapping["room_id"] in one["rooms"] for one in left
        )
        names = await rooms.names(database.scanner)
        room = mapping["room"]
        told = sayings.unmapped(
            group["displayName"],
            room if room.startswith("#") else called(room, names),
            removals,
            still_opens=still_opens,
            dry=self._pages.dry,
        )
        await session.say(request, told)
        raise web.HTTPSeeOther(f"/console/groups/{quote(group['id'], safe='')}")

    async def _made_here(self, request: web.Request, group_id: str, named: str) -> dict[str, Any]:
        """Return a mapping made in the console that whoever asks may take out.

        Raises HTTPForbidden, to managers also where there is none: they do not learn which.
        """
        mappings = await console.of_group(request.config_dict[DATABASE].scanner, group_id)
        for mapping in mappings:
            if (
                str(mapping["id"]) == named
                and mapping["made_by"] is not None
                and await self._may_change(request, mapping)
            ):
                return mapping
        if await self._pages.is_admin(request):
            raise web.HTTPNotFound(text=_NOT_MADE_HERE)
        raise web.HTTPForbidden(
            text="You may only take out mappings of rooms in which you yourself can invite"
            " and kick, and none that an administrator made."
        )

    async def _is_of_an_admin(self, mapping: MappingType[str, Any]) -> bool:
        return await self._pages.access.is_admin(mapping["made_by"])

    async def _may_change(self, request: web.Request, mapping: MappingType[str, Any]) -> bool:
        """Tell whether whoever asks may take a mapping out now, so that people stay."""
        access, user_id = self._pages.access, request[USER]
        if await access.is_admin(user_id, anew=True, reads=reads(request)):
            return True
        if mapping["room_id"] is None or await self._is_of_an_admin(mapping):
            return False
        return (await access.verdict(user_id, [mapping["room_id"]], Reach())).followed

    async def _removal_rule(
        self, request: web.Request, mapping: MappingType[str, Any]
    ) -> Callable[[str, str], bool]:
        """Return what tells of a room ID and a user ID whether whoever asks could end that.

        Raises HTTPForbidden where people would leave a room that is not theirs to empty.
        """
        access, user_id = self._pages.access, request[USER]
        if await self._pages.is_admin(request):
            return lambda room_id, person: True
        power = mapping["power"]
        verdict = await access.verdict(user_id, mapping["rooms"], Reach(power))
        if not verdict.followed:
            raise web.HTTPForbidden(text=f"{verdict.reason} {verdict.cure}")
        levels = {room_id: await access.levels(room_id) for room_id in mapping["rooms"]}
        return lambda room_id, person: (
            room_id in levels and removal(levels[room_id], user_id, person, given=power).followed
        )
