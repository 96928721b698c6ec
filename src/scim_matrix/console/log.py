"""The page of the record of actions: filtered, paged, and as CSV."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args
from urllib.parse import urlencode

from aiohttp import web

from scim_matrix.app_keys import DATABASE
from scim_matrix.console import causes, times
from scim_matrix.console.pages import PAGE, Pages, to_the_first
from scim_matrix.console.sheet import to_csv
from scim_matrix.store import console, group_names, record, rooms, story
from scim_matrix.store.database import Connection
from scim_matrix.store.text import folded, told

FILTERS = ("user", "room", "group", "request", "kind", "outcome", "since")
# Of so many people at most that fit a filter the log shows what was done to them.
PEOPLE = 5_000
# And so many groups.
GROUPS = 1_000
# So many entries are written to a CSV at a time.
CHUNK = 10_000
_COLUMNS = (
    *("at", "kind", "outcome", "user_id", "room_id", "group_name", "request", "detail", "by"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which entries filters ask for (store/record.py), and what is to be said of the filters.

    `unknown` says what nothing is known by.
    """

    chosen: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class LogPage:
    """Handler."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def log(self, request: web.Request) -> web.StreamResponse:
        """GET: a page of the record of actions, filtered; all that fits as CSV."""
        await self._pages.only_admins(request)
        reader, query = request.config_dict[DATABASE].scanner, request.query
        kept = {name: query.get(name, "").strip() for name in FILTERS}
        try:
            asked = await _asked(request, kept)
        except ValueError as error:
            context = _context(kept, [], problem=str(error))
            context["groups"] = await causes.groups_behind(reader, [])
            return await self._pages.render(request, "log.html", context, 400)
        if query.get("export"):
            return await _csv(request, _entries(reader, asked.chosen))
        rows = await record.find(reader, limit=PAGE + 1, **asked.chosen)
        if query.get("before") and not rows:
            raise to_the_first(request)
        context = _context(kept, rows, asked)
        context["newest"] = "before" not in query
        context["groups"] = await causes.groups_behind(reader, rows)
        return await self._pages.render(request, "log.html", context)


def _context(
    kept: Mapping[str, str],
    rows: list[dict[str, Any]],
    asked: Asked | None = None,
    problem: str | None = None,
) -> dict[str, Any]:
    older = rows[-PAGE]["id"] if len(rows) > PAGE else None
    return {
        "rows": rows[::-1][:PAGE],
        "query": kept,
        "notes": asked.notes if asked else [],
        "unknown": asked.unknown if asked else [],
        "export": urlencode({**kept, "export": "csv"}),
        "older": urlencode({**kept, "before": older}) if older else None,
        "newest": True,
        "first": urlencode(kept),
        "kinds": get_args(record.Kind),
        "outcomes": get_args(record.Outcome),
        "problem": problem,
    }


# -- Filters ----------------------------------------------------------------------------------


async def _asked(request: web.Request, kept: Mapping[str, str]) -> Asked:
    """Return which entries filters ask for. Raises ValueError with what is wrong with them."""
    before = request.query.get("before", "")
    if before and not before.isdecimal():
        raise ValueError("This page of the log does not exist.")
    for name, allowed in (("kind", get_args(record.Kind)), ("outcome", get_args(record.Outcome))):
        if kept[name] and kept[name] not in allowed:
            raise ValueError(f"“{kept[name]}” is no {name}: choose one of {', '.join(allowed)}.")
    now, where = request.config_dict[DATABASE].clock.now(), request.cookies.get("zone", "")
    since = times.moment(kept["since"], now, times.zone(where)) if kept["since"] else 0.0
    asked = Asked(
        {
            **{"since": since, "before": int(before[:18]) if before else None},
            **{name: kept[name] or None for name in ("request", "kind", "outcome")},
        }
    )
    await _meant(request.config_dict[DATABASE].scanner, kept, asked)
    return asked


async def _meant(reader: Connection, kept: Mapping[str, str], asked: Asked) -> None:
    """Put what people, rooms and groups are called beside what else is asked for."""
    person, room, group = kept["user"], kept["room"], kept["group"]
    people = await console.people_named(reader, person, PEOPLE + 1) if person else []
    if len(people) > PEOPLE:
        asked.notes.append(
            f"More than {PEOPLE:,} people have “{person}” in what they are known by: what follows"
            f" is of the first {PEOPLE:,}. Write more of the name."
        )
    found = {
        "person": [one["account"] for one in people[:PEOPLE] if one["account"] is not None],
        "room": await _rooms(reader, room) if room else [],
        "group": await _groups(reader, group) if group else [],
    }
    for what, words in (("person", person), ("room", room), ("group", group)):
        if words and not found[what]:
            asked.unknown.append(f"No {what} is known by “{words}”.")
    # What is no more is on record by the very words.
    asked.chosen["users"] = [person, *found["person"]] if person else None
    asked.chosen["rooms"] = found["room"] or ([room] if room else [])
    asked.chosen["groups"] = [group, *found["group"]] if group else []


async def _rooms(reader: Connection, words: str) -> list[str]:
    """Return the rooms that a name, alias or ID stands for; else those that have it in theirs."""
    named = await rooms.named(reader, words) or await rooms.with_own_name(reader, words)
    return named or await rooms.with_words(reader, words)


async def _groups(reader: Connection, words: str) -> list[str]:
    """Return the names, former ones too, of the groups that are meant by ID or name.

    Where none is, of those that have or had the words in theirs.
    """
    former = await group_names.former(reader)
    group_ids = await story.groups_called(reader, words)
    if not group_ids:
        listed = await console.groups_listed(reader, words, None, GROUPS)
        once = [one.group_id for one in former if folded(words) in folded(one.name)]
        group_ids = [*(row["id"] for row in listed), *once]
    had = [one.name for one in former if one.group_id in {*group_ids}]
    return list(dict.fromkeys([*await console.group_names(reader, group_ids), *had]))


# -- CSV --------------------------------------------------------------------------------------


async def _entries(
    reader: Connection, chosen: Mapping[str, Any]
) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield all entries that are asked for, the newest first, a piece at a time."""
    before = chosen["before"]
    while rows := await record.find(reader, limit=CHUNK, **{**chosen, "before": before}):
        yield rows[::-1]
        before = rows[0]["id"]


async def _csv(
    request: web.Request, entries: AsyncIterator[list[dict[str, Any]]]
) -> web.StreamResponse:
    answer = web.StreamResponse(
        headers={
            "Content-Type": "text/csv; charset=utf-8",
            "Content-Disposition": 'attachment; filename="scim-matrix-log.csv"',
        }
    )
    await answer.prepare(request)
    await answer.write(to_csv([_COLUMNS]).encode())
    async for rows in entries:
        cells = [[told(r["at"]), *(str(r[name] or "") for name in _COLUMNS[1:])] for r in rows]
        await answer.write(to_csv(cells).encode())
    await answer.write_eof()
    return answer
