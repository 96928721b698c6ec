"""The pages for administrators of the homeserver: overview, held removals, the record."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import urlencode

from aiohttp import web

from scim_matrix import problems
from scim_matrix.app_keys import DATABASE, RECONCILER, TALLY
from scim_matrix.console import times
from scim_matrix.console.pages import PAGE, USER, Pages
from scim_matrix.console.sheet import to_csv
from scim_matrix.course import Course
from scim_matrix.store import brake, console, record, rooms, story, text, views
from scim_matrix.store.database import Connection, Database
from scim_matrix.story import words

# So many people of one room are decided on at a time: a form has to stay small.
SHOWN = 300
ACCOUNTS = "accounts"
FILTERS = ("user", "room", "group", "kind", "outcome", "since")
# So many kinds of things that were done are told.
LATELY = 15
_QUIET = ("dry-run", "live-drift-stopped", "no-answer", "spared")


@dataclass(frozen=True, slots=True)
class Need:
    """A problem that there is, and which people and rooms have it."""

    problem: problems.Problem
    rows: list[dict[str, Any]]

    @property
    def is_loud(self) -> bool:
        """Whether a human has to do something: other problems pass, or are what was asked for."""
        return self.problem.code not in _QUIET


class Administration:
    """Handlers. Managers are refused, and led to the groups instead of the overview."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._courses: defaultdict[str, Course] = defaultdict(Course)

    async def overview(self, request: web.Request) -> web.StreamResponse:
        """GET: how the service is and what it did last."""
        if not await self._pages.is_admin(request):
            raise web.HTTPSeeOther("/console/groups")
        database = request.config_dict[DATABASE]
        reconciler = request.config_dict[RECONCILER]
        reader = database.scanner
        names = await rooms.names(reader)
        counted = await request.config_dict[TALLY].counted()
        progress = await views.progress(reader)
        for what, amount in progress.items():
            self._courses[what].note(database.clock.now(), amount.left)
        context = {
            "progress": progress,
            "courses": self._courses,
            "homeserver": reconciler.synapse,
            "mas": reconciler.mas,
            "live": reconciler.follows_live,
            "work": counted.work,
            "numbers": counted.totals,
            "needs": _needs(
                [*reconciler.codes(), *counted.codes], await console.needing(reader, PAGE)
            ),
            "lately": words.lately(await story.lately(reader, LATELY), names).lines,
        }
        part = "overview_part.html" if "HX-Request" in request.headers else "overview.html"
        return await self._pages.render(request, part, context)

    async def held(self, request: web.Request) -> web.StreamResponse:
        """GET: what the brake keeps for a human."""
        await self._pages.only_admins(request)
        reader = request.config_dict[DATABASE].scanner
        by_room: dict[str, list[brake.Held]] = {}
        for one in [*await brake.held(reader), *await brake.held_accounts(reader)]:
            by_room.setdefault(one.room_id or ACCOUNTS, []).append(one)
        return await self._pages.render(request, "held.html", {"rooms": by_room, "shown": SHOWN})

    async def decide(self, request: web.Request) -> web.StreamResponse:
        """POST: approve or dismiss those who were shown and chosen, and nobody else."""
        await self._pages.only_admins(request)
        form = await request.post()
        room, decision = str(form.get("room", "")), str(form.get("decision", ""))
        if decision not in ("approved", "dismissed"):
            raise web.HTTPBadRequest(text="Approve or dismiss.")
        chosen = {str(key) for key in form.getall("chosen", [])}
        if not chosen:
            raise web.HTTPBadRequest(text="Choose at least one person.")
        verdict: brake.Decision = "approved" if decision == "approved" else "dismissed"
        async with request.config_dict[DATABASE].write(f"console {request[USER]}") as connection:
            if room == ACCOUNTS:
                held = await brake.held_accounts(connection)
            else:
                held = await brake.held(connection, [room])
            # Who was held anew since has another tick, and waits for the next decision.
            shown = [one for one in held if f"{one.account_id}.{one.tick}" in chosen]
            await brake.decide(connection, shown, verdict, request[USER])
        request.config_dict[RECONCILER].wake()
        raise web.HTTPSeeOther("/console/held")

    async def log(self, request: web.Request) -> web.StreamResponse:
        """GET: a page of the record of actions, filtered; also as CSV."""
        await self._pages.only_admins(request)
        database, query = request.config_dict[DATABASE], request.query
        kept = {name: query.get(name, "").strip() for name in FILTERS}
        limit = 100_000 if query.get("export") else PAGE + 1
        rows: list[dict[str, Any]] = []
        problem = None
        try:
            chosen = await _chosen(database, kept, query.get("before", ""))
        except ValueError as error:
            problem = str(error)
        else:
            rows = await record.find(database.scanner, limit=limit, **chosen)
        if query.get("export") and problem is None:
            return _csv(rows)
        older = rows[-PAGE]["id"] if len(rows) > PAGE else None
        context = {
            "rows": rows[::-1][:PAGE],
            "query": kept,
            "export": urlencode({**kept, "export": "csv"}),
            "older": urlencode({**kept, "before": older}) if older else None,
            "newest": "before" not in query,
            "first": urlencode(kept),
            "kinds": get_args(record.Kind),
            "outcomes": get_args(record.Outcome),
            "problem": problem,
        }
        return await self._pages.render(request, "log.html", context, 400 if problem else 200)


async def _chosen(database: Database, kept: Mapping[str, str], before: str) -> dict[str, Any]:
    """Return which entries filters ask for. Raises ValueError with what is wrong with them."""
    if before and not before.isdecimal():
        raise ValueError("This page of the log does not exist.")
    for name, allowed in (("kind", get_args(record.Kind)), ("outcome", get_args(record.Outcome))):
        if kept[name] and kept[name] not in allowed:
            raise ValueError(f"“{kept[name]}” is no {name}: choose one of {', '.join(allowed)}.")
    reader, room = database.scanner, kept["room"]
    named: list[str] = []
    if room:
        named = await rooms.named(reader, room) or await rooms.with_own_name(reader, room) or [room]
    return {
        "users": await _meant(reader, kept["user"]) if kept["user"] else None,
        "rooms": named,
        "since": times.moment(kept["since"], database.clock.now()) if kept["since"] else 0.0,
        "group": kept["group"] or None,
        "kind": kept["kind"] or None,
        "outcome": kept["outcome"] or None,
        "before": int(before[:18]) if before else None,
    }


async def _meant(reader: Connection, words: str) -> list[str]:
    """Return the user IDs of those who have some text in what they are known by, or the text."""
    found = await console.people_named(reader, words, PAGE)
    return [words, *(one["account"] for one in found if one["account"] is not None)]


def _needs(codes: Iterable[str], rows: Iterable[dict[str, Any]]) -> list[Need]:
    """Return the problems there are with what is known of each, in the order of their table."""
    present = {*codes}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["code"], []).append(row)
    return [
        Need(problem, found.get(problem.code, []))
        for problem in problems.TABLE
        if problem.code in present | set(found)
    ]


def _csv(rows: list[dict[str, Any]]) -> web.Response:
    names = ("at", "kind", "outcome", "user_id", "room_id", "group_name", "request", "detail")
    cells = [[text.told(row["at"]), *(str(row[name] or "") for name in names[1:])] for row in rows]
    return web.Response(
        text=to_csv([names, *cells]),
        content_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="scim-matrix-log.csv"'},
    )
