"""The console put together, as an application below /console/."""

import datetime
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp_jinja2
import aiohttp_session
import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler
from jinja2.runtime import Context
from markupsafe import Markup

from scim_matrix.config import Settings
from scim_matrix.console import session, times
from scim_matrix.console.access import Access
from scim_matrix.console.administration import Administration
from scim_matrix.console.groups import GroupPages
from scim_matrix.console.linking import apart, linked, plain
from scim_matrix.console.log import LogPage
from scim_matrix.console.pages import Pages, explain
from scim_matrix.console.people import PeoplePages
from scim_matrix.console.rooms import RoomPages
from scim_matrix.console.sign_in import SignIn
from scim_matrix.console.together import TogetherPage
from scim_matrix.edge.requests import small_forms
from scim_matrix.matrix.server import Homeserver
from scim_matrix.story.words import detail
from scim_matrix.sync.account_changes import AccountPolicy
from scim_matrix.sync.plan import Policy
from scim_matrix.writing import unturned

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def make_console(settings: Settings, homeserver: Callable[[], Homeserver]) -> web.Application:
    """Return the application that is added below /console/; `homeserver` is there once it runs."""
    access = Access(homeserver, settings.console_managers)
    pages = Pages(access, settings.map_sources(), dry=settings.dry_run)
    accounts = AccountPolicy.of(settings)
    administration = Administration(pages, accounts)
    groups, rooms = GroupPages(pages), RoomPages(pages)
    people = PeoplePages(pages, Policy(settings.matrix_admin_user_id, settings.protected_users))
    sign_in = SignIn(
        homeserver,
        access,
        settings.trusted_proxies,
        settings.public_url,
        settings.matrix_public_url or settings.mas_url or settings.matrix_url,
    )
    app = web.Application(
        middlewares=[
            small_forms,
            aiohttp_session.session_middleware(session.storage()),
            explain,
            pages.guard,
        ]
    )
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("scim_matrix.console"),
        autoescape=True,
        enable_async=True,
        undefined=jinja2.StrictUndefined,
        finalize=_unturned,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["server"] = settings.matrix_server_name
    environment.filters |= {
        "moment": _in_zone(times.shown),
        "clock": _in_zone(times.clock),
        "day": _in_zone(times.day),
        "linked": _linked,
        "apart": apart,
        "piece": _piece,
        "plain": plain,
        "why": detail,
    }
    app.on_response_prepare.append(_add_headers)
    app.add_routes(
        _routes(sign_in, administration, people, groups, rooms, LogPage(pages), TogetherPage(pages))
    )
    return app


def _routes(
    sign_in: SignIn,
    administration: Administration,
    people: PeoplePages,
    groups: GroupPages,
    rooms: RoomPages,
    record: LogPage,
    together: TogetherPage,
) -> list[web.RouteDef]:
    return [
        web.get("/", administration.overview),
        web.get("/sign-in", sign_in.show),
        web.post("/sign-in", sign_in.password),
        web.get("/sso/begin", sign_in.sso),
        web.get("/sso", sign_in.returned),
        web.post("/sign-out", sign_in.leave),
        web.get("/people", people.people),
        web.get("/people/{name}", people.person),
        web.post("/people/{name}/link", people.link),
        web.get("/groups", groups.groups),
        web.get("/groups/{id}", groups.group),
        web.post("/groups/{id}/preview", groups.preview),
        web.post("/groups/{id}/mappings", groups.add_mapping),
        web.post("/groups/{id}/mappings/remove", groups.remove_mapping),
        web.get("/rooms", rooms.rooms),
        web.post("/rooms/let-in", rooms.let_in),
        web.get("/rooms/{id}", rooms.room),
        web.get("/problems/{code}", administration.problem),
        web.post("/compare", administration.compare),
        web.get("/held", administration.held),
        web.post("/held", administration.decide),
        web.get("/held/together", together.show),
        web.post("/held/together", together.decide),
        web.get("/log", record.log),
        # One by one: looking for what a client names has too many ways to go wrong. And from
        # memory: asyncio does not survive that a connection ends while it sends a file.
        *(
            web.get(f"/static/{file.name}", _serving(file))
            for file in (Path(__file__).parent / "static").iterdir()
        ),
    ]


def _serving(file: Path) -> Handler:
    body = file.read_bytes()
    kind = mimetypes.guess_type(file.name)[0] or "text/plain"

    async def serve(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=kind)

    return serve


@jinja2.pass_context
def _linked(context: Context, text: str) -> Markup:
    return linked(text, context["zone"], context["names"])


def _unturned(value: Any) -> Any:
    """Return what a page shows without what would turn the direction of the page's writing."""
    # What is HTML stays HTML.
    return type(value)(unturned(value)) if isinstance(value, str) else value


def _piece(text: str) -> str:
    """Return a text as one piece of a path, whatever is in it: user IDs may have a slash."""
    return quote(text, safe="")


def _in_zone(tell: Callable[[Any, datetime.tzinfo], str]) -> Callable[[Context, Any], str]:
    """Return a filter that tells something in the zone of whoever looks at the page."""
    return jinja2.pass_context(lambda context, value: tell(value, context["zone"]))


async def _add_headers(request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["Referrer-Policy"] = "same-origin"
