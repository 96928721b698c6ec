"""The pages for administrators of the homeserver: overview and held removals."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from scim_matrix import problems
from scim_matrix.app_keys import DATABASE, HEARING, REPLICA, TALLY
from scim_matrix.console import causes, deciding, sayings, session
from scim_matrix.console.needs import needs
from scim_matrix.console.pages import USER, Pages, Part, first_row, to_the_first
from scim_matrix.course import Course
from scim_matrix.groupmap import Sources
from scim_matrix.store import (
    console,
    group_names,
    record,
    rooms,
    story,
    totals,
    views,
)
from scim_matrix.store.database import Connection
from scim_matrix.story import words
from scim_matrix.sync.account_changes import AccountPolicy

# So many people of one room are decided on at a time: a form has to stay small.
SHOWN = 300
# And so many rooms stand on a page.
PLACES = 10
# So many requests and groups are offered to be decided on in all their rooms at once.
SPREAD = 10
ACCOUNTS = "accounts"
# So many people and rooms that have a problem are named with it.
NAMED = 5
# So many kinds of things that were done are told.
LATELY = 15


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held in one place, because of what, and who of it is shown (store/console.py).

    `closed` are the lines of the map that let nobody else be there.
    """

    place: dict[str, Any]
    causes: list[dict[str, Any]]
    closed: list[dict[str, Any]]
    people: list[dict[str, Any]]

    @property
    def chosen(self) -> str:
        """What a form sends that is about all who are shown."""
        return " ".join(f"{one['account_id']}.{one['tick']}" for one in self.people)


class Administration:
    """Handlers. Managers are refused, and led to the groups instead of the overview.

    `policy` says what is done to accounts that are to be disabled.
    """

    def __init__(self, pages: Pages, policy: AccountPolicy) -> None:
        self._pages = pages
        self._fates = causes.Fates(policy)
        self._courses: defaultdict[str, Course] = defaultdict(Course)

    async def overview(self, request: web.Request) -> web.StreamResponse:
        """GET: how the service is and what it did last."""
        if not await self._pages.is_admin(request):
            raise web.HTTPSeeOther("/console/groups")
        database = request.config_dict[DATABASE]
        replica = request.config_dict[REPLICA]
        reconciler = replica.reconciler
        reader = database.scanner
        names = await rooms.names(reader)
        counted = await request.config_dict[TALLY].counted()
        progress = await views.progress(reader)
        for what, amount in progress.items():
            self._courses[what].note(database.clock.now(), amount.left)
        rows = await console.needing(reader, NAMED)
        context = {
            "progress": progress,
            "courses": self._courses,
            "homeserver": reconciler.synapse,
            "mas": reconciler.mas,
            "live": reconciler.follows_live if replica.leads else None,
            "work": counted.work,
            "numbers": counted.totals,
            "heard_at": request.config_dict[HEARING].at,
            "needs": needs(await self._pages.codes(request), rows),
            "groups": await causes.groups_behind(reader, rows),
            "lately": words.lately(
                await story.lately(reader, LATELY), names, former=await group_names.former(reader)
            ).lines,
        }
        part = "overview_part.html" if "HX-Request" in request.headers else "overview.html"
        return await self._pages.render(request, part, context)

    async def problem(self, request: web.Request) -> web.StreamResponse:
        """GET: what the code of a problem means, with cause and cure."""
        await self._pages.only_admins(request)
        found = problems.BY_CODE.get(request.match_info["code"])
        if found is None:
            raise web.HTTPNotFound(text="There is no problem of this code.")
        return await self._pages.render(request, "explained.html", {"told": found})

    async def compare(self, request: web.Request) -> web.StreamResponse:
        """POST: compare every mapped room and account with the homeserver now."""
        await self._pages.only_admins(request)
        by = request[USER]
        async with request.config_dict[DATABASE].write(f"console {by}") as connection:
            entry = record.Entry("sync", "asked", request="console", by=by)
            await record.add(connection, entry)
            await totals.happened(connection, "decided")
        request.config_dict[REPLICA].decided()
        await session.say(request, sayings.compared(dry=self._pages.dry))
        raise web.HTTPSeeOther("/console/")

    async def held(self, request: web.Request) -> web.StreamResponse:
        """GET: what the brake keeps for a human, room by room."""
        await self._pages.only_admins(request)
        reader = request.config_dict[DATABASE].scanner
        first = first_row(request, PLACES)
        places = await console.held_places(reader, PLACES, first)
        if first and not places:
            # What was held there has been decided.
            raise to_the_first(request)
        holds = [await _hold(reader, place, self._pages.sources) for place in places]
        rows = [row for hold in holds for row in (*hold.causes, *hold.people)]
        context = {
            "holds": holds,
            "groups": await causes.groups_behind(reader, rows),
            "told": causes.told,
            "fates": self._fates,
            "spread": await console.held_spread(reader, SPREAD),
            "part": Part(first, places[0]["places"] if places else 0, {}, PLACES),
        }
        return await self._pages.render(request, "held.html", context)

    async def decide(self, request: web.Request) -> web.StreamResponse:
        """POST: approve or dismiss those who were shown and chosen, and nobody else."""
        await self._pages.only_admins(request)
        form = await request.post()
        room = str(form.get("room", ""))
        chosen = {one for names in form.getall("chosen", []) for one in str(names).split()}
        decided = await deciding.decide(request, {None if room == ACCOUNTS else room: chosen})
        name = None
        if room != ACCOUNTS:
            name = await rooms.name(request.config_dict[DATABASE].reader, room)
        told = decided.told(name, dry=self._pages.dry)
        await session.say(request, told)
        raise web.HTTPSeeOther("/console/held")


async def _hold(reader: Connection, place: dict[str, Any], sources: Sources) -> Hold:
    room_id = place["room_id"]
    return Hold(
        place,
        await console.held_causes(reader, room_id),
        await story.closed(reader, [room_id] if room_id else [], sources),
        await console.held_in(reader, room_id, SHOWN),
    )
