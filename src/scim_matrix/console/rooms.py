"""The pages of rooms: administrators see every one, managers theirs."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from scim_matrix import problems
from scim_matrix.app_keys import DATABASE, HOMESERVER, REPLICA
from scim_matrix.console import sayings, session
from scim_matrix.console.causes import groups_behind
from scim_matrix.console.pages import PAGE, USER, Pages, Part, first_row, part_of, to_the_first
from scim_matrix.matrix.errors import HomeserverError, RefusedError
from scim_matrix.store import console, references, story, totals
from scim_matrix.store import rooms as known_rooms
from scim_matrix.store.database import Connection
from scim_matrix.store.text import folded
from scim_matrix.story import room as room_story
from scim_matrix.story.rows import Story
from scim_matrix.sync.servers import code_of

Row = dict[str, Any]

# Which rooms are shown, by the words of the page.
FILTERS: Mapping[str, Callable[[Row], bool]] = {
    "managed": lambda row: row["standing"] == "followed",
    "with people by hand": lambda row: bool(row["by_hand"]),
    "waiting": lambda row: row["todo"] > 0 or row["standing"] in ("waiting", "unresolved"),
    "held": lambda row: row["held"] > 0,
    "with a problem": lambda row: (
        row["problem"] is not None or row["powerless"] + row["refused"] > 0
    ),
    "no longer mapped": lambda row: row["standing"] == "unmapped",
}


class RoomPages:
    """Handlers."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def rooms(self, request: web.Request) -> web.StreamResponse:
        """GET: mapped rooms by name; a manager's own only."""
        reader = request.config_dict[DATABASE].scanner
        query = {name: request.query.get(name, "").strip() for name in ("q", "show")}
        found = await self._found(request, query)
        part = part_of(found, request, query)
        rows = found[part.first : part.last]
        ids = [row["room_id"] for row in rows if row["room_id"] is not None]
        context = {
            "rooms": rows,
            "counted": await console.rooms_counted(reader, ids),
            "openers": await console.rooms_opened_by(reader, ids),
            "part": part,
            "query": query,
            "filters": FILTERS,
        }
        return await self._pages.render(request, "rooms.html", context)

    async def _found(self, request: web.Request, query: Mapping[str, str]) -> list[Row]:
        """Return the rooms that are asked for, among those that whoever asks may see, by name."""
        reader = request.config_dict[DATABASE].scanner
        rows = await console.rooms_listed(reader)
        if not await self._pages.is_admin(request):
            own = {*await self._pages.own_rooms(request)}
            rows = [row for row in rows if row["room_id"] in own]
        names = await known_rooms.names(reader)
        for row in rows:
            row["name"] = names.get(row["room_id"], row["reference"])
        if (fits := FILTERS.get(query["show"])) is not None:
            rows = [row for row in rows if fits(row)]
        words = folded(query["q"])
        if words:
            known = {*await known_rooms.with_words(reader, words)}
            rows = [row for row in rows if row["room_id"] in known or _is_called(row, words)]
        return sorted(rows, key=lambda row: folded(row["name"]))

    async def let_in(self, request: web.Request) -> web.StreamResponse:
        """POST: have an alias that waits for a human stand for the room that was shown."""
        await self._pages.only_admins(request)
        form, by = await request.post(), request[USER]
        alias, shown = str(form.get("alias", "")), str(form.get("room", ""))
        async with request.config_dict[DATABASE].write(f"console {by}") as connection:
            reference = await references.get(connection, alias)
            # It may lead elsewhere by now, or have been decided on.
            is_that = reference is not None and (
                (reference.standing, reference.candidate) == ("waiting", shown)
            )
            if is_that:
                await references.let_in(connection, alias, shown, by)
                await totals.happened(connection, "decided")
        request.config_dict[REPLICA].decided()
        told = sayings.let_in(alias, shown, is_that=is_that, dry=self._pages.dry)
        await session.say(request, told)
        raise web.HTTPSeeOther(f"/console/rooms?{urlencode({'q': alias})}")

    async def room(self, request: web.Request) -> web.StreamResponse:
        """GET: a room's story, and who is in it by what."""
        room_id = request.match_info["id"]
        if not await self._pages.may_see(request, room_id):
            raise web.HTTPForbidden(text="You may only see rooms in which you can invite and kick.")
        reader = request.config_dict[DATABASE].scanner
        words, first = request.query.get("q", "").strip(), first_row(request)
        people = await console.people_in(reader, room_id, words, PAGE, first)
        if first and not people:
            raise to_the_first(request)
        # A story names groups and requests of others: managers see who is in the room by what.
        is_admin = await self._pages.is_admin(request)
        number = people[0]["number"] if people else 0
        context: dict[str, Any] = {
            "room_id": room_id,
            "story": await self._story(reader, room_id) if is_admin else None,
            "people": people,
            "groups": await groups_behind(reader, people),
            "part": Part(first, number, {"q": words}),
            "q": words,
            "power": None,
        }
        try:
            levels = await self._pages.access.levels(room_id)
        except RefusedError as error:
            context["problem"] = f"The homeserver does not show this room: {error}"
        except HomeserverError as error:
            # What is known of the room is worth most when the homeserver is away.
            ails = problems.BY_CODE[code_of(error)].means
            context["problem"] = f"{ails} What follows is as last seen."
        else:
            context["power"] = own = levels.of(request.config_dict[HOMESERVER].user_id)
            context["lacks"] = [w for w in ("invite", "kick") if own < levels.needed(w)]
        return await self._pages.render(request, "room.html", context)

    async def _story(self, reader: Connection, room_id: str) -> Story:
        return room_story.story(await story.room(reader, room_id, self._pages.sources))


def _is_called(row: Row, words: str) -> bool:
    """Tell whether the map has some text (folded) for a room."""
    return any(words in folded(row[name] or "") for name in ("name", "reference", "room_id"))
