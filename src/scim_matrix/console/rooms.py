"""The pages of rooms: administrators see every one, managers theirs."""

from typing import Any

from aiohttp import web

from scim_matrix.app_keys import DATABASE, HOMESERVER
from scim_matrix.console.pages import Pages
from scim_matrix.matrix.errors import RefusedError
from scim_matrix.store import story, views
from scim_matrix.story import room as room_story


class RoomPages:
    """Handlers."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def rooms(self, request: web.Request) -> web.StreamResponse:
        """GET: mapped rooms; a manager's own only."""
        rows = await views.mapped_rooms(request.config_dict[DATABASE].scanner)
        if not await self._pages.is_admin(request):
            rows = [
                row
                for row in rows
                if row["room_id"] is not None and await self._pages.may_see(request, row["room_id"])
            ]
        return await self._pages.render(request, "rooms.html", {"rooms": rows})

    async def room(self, request: web.Request) -> web.StreamResponse:
        """GET: who is in a room, by which group or otherwise."""
        room_id = request.match_info["id"]
        if not await self._pages.may_see(request, room_id):
            raise web.HTTPForbidden(text="You may only see rooms in which you can invite and kick.")
        reader = request.config_dict[DATABASE].scanner
        people = await views.people(reader, room_id=room_id)
        # A story names groups and requests of others: managers see who is in the room by what.
        is_admin = await self._pages.is_admin(request)
        context: dict[str, Any] = {
            "room_id": room_id,
            "story": room_story.story(await story.room(reader, room_id)) if is_admin else None,
            "people": [p for p in people if p["state"] != "forgotten"],
            "power": None,
        }
        try:
            levels = await self._pages.access.levels(room_id)
        except RefusedError as error:
            context["problem"] = str(error)
        else:
            context["power"] = own = levels.of(request.config_dict[HOMESERVER].user_id)
            context["lacks"] = [w for w in ("invite", "kick") if own < levels.needed(w)]
        return await self._pages.render(request, "room.html", context)
