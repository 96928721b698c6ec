"""What every page of the console has: who is there, what went wrong, how it is shown."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp_jinja2
import structlog
from aiohttp import web
from yarl import URL

from scim_matrix.app_keys import DATABASE, HEARING, REPLICA, TALLY
from scim_matrix.console import session, times
from scim_matrix.console.access import Access
from scim_matrix.console.needs import loud
from scim_matrix.groupmap import Sources
from scim_matrix.matrix.errors import HomeserverError, RateLimitedError, RefusedError
from scim_matrix.problems import BY_CODE, Problem
from scim_matrix.store import rooms
from scim_matrix.sync.servers import code_of

log = structlog.get_logger(__name__)

# At most so many lines stand in a table.
PAGE = 100
USER = "console_user"
# Leaving is open to all, too: nobody has to be asked for that.
_OPEN_TO_ALL = ("/console/sign-in", "/console/sign-out", "/console/sso", "/console/static/")
_MEANWHILE = "Meanwhile nobody new is let in here, and nothing is changed."
_OVER = "Your session is over. Sign in to go on where you were."
_NOTHING_DONE = "You are not signed in any more, so nothing was done. Sign in, and do it again."
_FOREIGN = "This form was not made for this session. Go back, reload."
_WITHOUT_COOKIE = (
    "Nothing was done: your browser did not send this page's cookie back. It does so only where the"
    " page is opened by https://, or as localhost; over plain HTTP nobody can sign in. Where you"
    " came by https://, cookies are turned off."
)
# Pages that something stands on: a list, or one of its members. What is behind that is a form's.
_PAGE = re.compile(
    r"/console/(?:(?:people|groups|rooms|problems)/[^/]+|people|groups|rooms|held|log)?"
)
_TOO_FAST = "The homeserver asks to be left alone for a moment. Nothing was done: try again."


@web.middleware
async def explain(request: web.Request, handler: Any) -> web.StreamResponse:
    """Show what went wrong as a page, or as the part of one that was asked for."""
    known: Problem | None = None
    try:
        answer: web.StreamResponse = await handler(request)
    except RefusedError as error:
        problem, status = f"The homeserver refuses that: {error.message}", 409
    except RateLimitedError:
        problem, status = _TOO_FAST, 503
    except HomeserverError as error:
        log.warning("console_without_homeserver", path=request.path, error=str(error))
        problem, status, known = _MEANWHILE, 503, BY_CODE[code_of(error)]
    except web.HTTPError as error:
        problem, status = error.text or error.reason, error.status
    else:
        return answer
    template = "preview.html" if "HX-Request" in request.headers else "problem.html"
    context: dict[str, Any] = {"preview": {"problem": problem, "known": known}, "csrf": None}
    if await session.user(request) is not None:
        context["csrf"] = await session.token(request)
    return await aiohttp_jinja2.render_template_async(template, request, context, status=status)


def _page_of(request: web.Request) -> str:
    """Return which page a request is for, or the form stands on that it sends."""
    url = request.rel_url
    if not reads(request):
        with contextlib.suppress(ValueError):
            url = URL(request.headers.get("Referer", ""), encoded=True).relative()
    found = _PAGE.match(url.raw_path)
    if found is None:
        return "/console/"
    query = url.raw_query_string if found.end() == len(url.raw_path) else ""
    return f"{found[0]}?{query}" if query else found[0]


def reads(request: web.Request) -> bool:
    """Tell whether a request only looks at something."""
    return request.method in ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a long list is shown: `size` of `number` rows at most, from `first` (0) on."""

    first: int
    number: int
    query: Mapping[str, str]
    size: int = PAGE

    @property
    def last(self) -> int:
        """How many rows have been shown by the end of this part."""
        return min(self.first + self.size, self.number)

    @property
    def before(self) -> int:
        """With which row the part before this one begins."""
        return max(self.first - self.size, 0)

    def link(self, first: int) -> str:
        """Return the query of the part that begins with a row."""
        kept = {name: value for name, value in self.query.items() if value}
        return urlencode({**kept, "from": str(first)} if first else kept)


def first_row(request: web.Request, size: int = PAGE) -> int:
    """Return with which row the part of a list begins that is asked for."""
    asked = request.query.get("from", "")
    return int(asked[:9]) // size * size if asked.isdecimal() else 0


def to_the_first(request: web.Request) -> web.HTTPSeeOther:
    """Return what leads to the first part of a list, from one that is beyond its end."""
    kept = {name: v for name, v in request.query.items() if name not in ("from", "before")}
    return web.HTTPSeeOther(f"{request.path}?{urlencode(kept)}" if kept else request.path)


def part_of(rows: Sequence[Any], request: web.Request, query: Mapping[str, str]) -> Part:
    """Return which part of some rows is shown; `query` is what is asked for beside the part.

    Raises HTTPSeeOther where that is beyond their end.
    """
    first = first_row(request)
    if first and first >= len(rows):
        raise to_the_first(request)
    return Part(first, len(rows), query)


class Pages:
    """Lets people in, and shows pages to them.

    `sources` name the settings of the map; `dry` is that nothing is changed (DRY_RUN).
    """

    def __init__(self, access: Access, sources: Sources, *, dry: bool) -> None:
        self.access = access
        self.sources = sources
        self.dry = dry

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Let nobody past who is not signed in, and no change that was not made here."""
        is_open = request.path.startswith(_OPEN_TO_ALL)
        if not is_open:
            await self._know(request)
        if request.method == "POST" and not await session.is_from_here(request):
            raise web.HTTPForbidden(
                text=_FOREIGN if session.COOKIE in request.cookies else _WITHOUT_COOKIE
            )
        if not is_open:
            await self._let_in(request)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _know(self, request: web.Request) -> None:
        """Lead to the sign-in whoever is not signed in, and from there back here."""
        user_id = await session.user(request)
        if user_id is not None:
            request[USER] = user_id
            return
        if not reads(request):
            await session.say(request, _NOTHING_DONE)
        elif await session.was_signed_in(request):
            await session.say(request, _OVER)
        if request.match_info.http_exception is None:
            await session.come_back(request, _page_of(request))
        if "HX-Request" in request.headers:
            raise web.HTTPNoContent(headers={"HX-Redirect": "/console/sign-in"})
        raise web.HTTPSeeOther("/console/sign-in")

    async def _let_in(self, request: web.Request) -> None:
        user_id = request[USER]
        if not await self.access.may_enter(user_id, reads=reads(request)):
            log.warning("console_session_ended", user_id=user_id, reason="no longer entitled")
            await session.end_all(request, user_id)
            raise web.HTTPForbidden(text="You may not use this console any more.")

    async def is_admin(self, request: web.Request) -> bool:
        """Tell whether whoever asks administers the homeserver."""
        return await self.access.is_admin(request[USER], reads=reads(request))

    async def only_admins(self, request: web.Request) -> None:
        """Raise HTTPForbidden for anybody else."""
        if not await self.is_admin(request):
            raise web.HTTPForbidden(text="Only administrators of the homeserver may see this.")

    async def may_see(self, request: web.Request, room_id: str) -> bool:
        """Tell whether whoever asks may see and map a room."""
        return await self.access.may_see(request[USER], room_id, reads=reads(request))

    async def own_rooms(self, request: web.Request) -> list[str]:
        """Return the IDs of the mapped rooms that whoever asks may see and map."""
        mapped = await rooms.mapped(request.config_dict[DATABASE].scanner)
        return await self.own_among(request, mapped)

    async def own_among(self, request: web.Request, room_ids: Sequence[str]) -> list[str]:
        """Return which of some rooms whoever asks may see and map, for a list of them."""
        return await self.access.own_among(request[USER], room_ids)

    async def render(
        self, request: web.Request, template: str, context: Mapping[str, Any], status: int = 200
    ) -> web.Response:
        """Return a page, or a part of one."""
        is_admin = await self.is_admin(request)
        held, needed = await self._counts(request) if is_admin else (0, 0)
        common = {
            "user": request[USER],
            "is_admin": is_admin,
            "held": held,
            "needed": needed,
            "said": None if "HX-Request" in request.headers else await session.said(request),
            "zone": times.zone(request.cookies.get("zone", "")),
            "csrf": await session.token(request),
            "path": request.path,
            "dry": self.dry,
            "ails": None if (error := self.access.error) is None else BY_CODE[code_of(error)],
            "names": await rooms.names(request.config_dict[DATABASE].scanner),
        }
        return await aiohttp_jinja2.render_template_async(
            template, request, {**common, **context}, status=status
        )

    async def _counts(self, request: web.Request) -> tuple[int, int]:
        """Return how many removals are held, and how many kinds of problems need a human."""
        counted = await request.config_dict[TALLY].counted()
        work, codes = counted.work, await self.codes(request)
        return work["heldPairs"] + work["heldAccounts"], loud(codes)

    async def codes(self, request: web.Request) -> list[str]:
        """Return the codes of the problems that there are (scim_matrix/problems.py)."""
        counted = await request.config_dict[TALLY].counted()
        return [
            *request.config_dict[REPLICA].codes(),
            *request.config_dict[HEARING].codes(),
            *counted.codes,
        ]
