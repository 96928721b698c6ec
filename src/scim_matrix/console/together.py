"""The page on which held removals of many rooms are decided at once: all of a request or group."""

from collections import defaultdict
from itertools import groupby
from operator import itemgetter
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from scim_matrix.app_keys import DATABASE
from scim_matrix.console import deciding, session
from scim_matrix.console.pages import Pages
from scim_matrix.store import console

# So many people in so many rooms are decided on at a time: a form has to stay small.
PEOPLE = 1_500
ROOMS = 300


class TogetherPage:
    """Handlers."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def show(self, request: web.Request) -> web.StreamResponse:
        """GET: whoever is held because of a request or a group, room by room."""
        await self._pages.only_admins(request)
        query = {name: request.query.get(name, "") for name in ("request", "group")}
        rows = await console.held_of(
            request.config_dict[DATABASE].scanner,
            query["request"] or None,
            query["group"] or None,
            PEOPLE,
        )
        by_room = groupby(rows, itemgetter("room_id"))
        places = [(room_id, [*people]) for room_id, people in by_room][:ROOMS]
        context = {
            "query": query,
            "places": places,
            "shown": sum(len(people) for _, people in places),
            "number": rows[0]["number"] if rows else 0,
            "chosen": [_chosen(*place) for place in places],
        }
        return await self._pages.render(request, "together.html", context)

    async def decide(self, request: web.Request) -> web.StreamResponse:
        """POST: approve or dismiss those who were shown, and nobody else."""
        await self._pages.only_admins(request)
        form = await request.post()
        chosen: defaultdict[str | None, set[str]] = defaultdict(set)
        for names in form.getall("chosen", []):
            room_id, *people = str(names).split()
            chosen[room_id].update(people)
        decided = await deciding.decide(request, chosen)
        where = "1 room" if len(chosen) == 1 else f"{len(chosen)} rooms"
        await session.say(request, decided.told(where, dry=self._pages.dry))
        kept = {name: str(form.get(name, "")) for name in ("request", "group")}
        query = urlencode({name: value for name, value in kept.items() if value})
        raise web.HTTPSeeOther(f"/console/held/together?{query}")


def _chosen(room_id: str, people: list[dict[str, Any]]) -> str:
    """Return what a form sends that is about some people of a room."""
    return " ".join([room_id, *(deciding.name(one["account_id"], one["tick"]) for one in people)])
