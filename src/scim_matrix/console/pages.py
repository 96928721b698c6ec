"""The pages of the console. Every one asks who is there and what they may do."""

import csv
import io
from collections.abc import Mapping as MappingType
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp_jinja2
import orjson
import structlog
from aiohttp import web

from scim_matrix.app_keys import DATABASE, HOMESERVER, RECONCILER, SETTLE_MAP
from scim_matrix.console import session
from scim_matrix.console.access import Access
from scim_matrix.groupmap import GroupMapError, Mapping, parse_group_map
from scim_matrix.matrix.errors import HomeserverError, RefusedError
from scim_matrix.store import console, held, look, numbers, pairs, record, rooms, text
from scim_matrix.store.record import Entry

log = structlog.get_logger(__name__)

PAGE = 100
_USER = "console_user"
_OPEN_TO_ALL = ("/console/sign-in", "/console/sso", "/console/static/")
_AWAY = "The homeserver does not answer, and without it nobody can be let in. Try again later."


@web.middleware
async def explain(request: web.Request, handler: Any) -> web.StreamResponse:
    """Show what went wrong as a page, or as the part of one that was asked for."""
    try:
        answer: web.StreamResponse = await handler(request)
    except HomeserverError as error:
        log.warning("console_without_homeserver", path=request.path, error=str(error))
        problem, status = _AWAY, 503
    except web.HTTPError as error:
        problem, status = error.text or error.reason, error.status
    else:
        return answer
    template = "preview.html" if "HX-Request" in request.headers else "problem.html"
    return await aiohttp_jinja2.render_template_async(
        template, request, {"preview": {"problem": problem}}, status=status
    )


class Pages:
    """The handlers behind the sign-in."""

    def __init__(self, access: Access) -> None:
        self._access = access

    # -- Who may ----------------------------------------------------------

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Let nobody past who is not signed in, and no change that was not made here."""
        if request.method == "POST" and not await session.is_from_here(request):
            raise web.HTTPForbidden(
                text="This form was not made for this session. Go back, reload."
            )
        if not request.path.startswith(_OPEN_TO_ALL):
            await self._let_in(request)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _let_in(self, request: web.Request) -> None:
        user_id = (await session.current(request)).get("user")
        if user_id is None and "HX-Request" in request.headers:
            raise web.HTTPNoContent(headers={"HX-Redirect": "/console/sign-in"})
        if user_id is None:
            raise web.HTTPSeeOther("/console/sign-in")
        if not await self._access.may_enter(user_id):
            raise web.HTTPForbidden(text="You may not use this console any more.")
        request[_USER] = user_id

    async def _only_admins(self, request: web.Request) -> None:
        if not await self._access.is_admin(request[_USER]):
            raise web.HTTPForbidden(text="Only administrators of the homeserver may see this.")

    async def _render(
        self, request: web.Request, template: str, context: MappingType[str, Any], status: int = 200
    ) -> web.Response:
        common = {
            "user": request[_USER],
            "is_admin": await self._access.is_admin(request[_USER]),
            "csrf": await session.token(request),
            "path": request.path,
            "names": await rooms.names(request.config_dict[DATABASE].scanner),
        }
        return await aiohttp_jinja2.render_template_async(
            template, request, {**common, **context}, status=status
        )

    # -- Overview ---------------------------------------------------------

    async def overview(self, request: web.Request) -> web.StreamResponse:
        """GET: how the service is and what it did last."""
        if not await self._access.is_admin(request[_USER]):
            raise web.HTTPSeeOther("/console/groups")
        database = request.config_dict[DATABASE]
        reader = database.scanner
        found = await numbers.numbers(reader)
        context = {
            "homeserver": request.config_dict[RECONCILER].state,
            "live": request.config_dict[RECONCILER].follows_live,
            "work": await pairs.trouble(reader),
            "numbers": found,
            "failing": [
                row for row in await look.left_to_do(reader, PAGE) if row["state"] == "failing"
            ],
            "actions": (await record.find(reader, user=None, rooms=(), since=0, limit=15))[::-1],
        }
        part = "overview_part.html" if "HX-Request" in request.headers else "overview.html"
        return await self._render(request, part, context)

    # -- Groups -----------------------------------------------------------

    async def groups(self, request: web.Request) -> web.StreamResponse:
        """GET: groups by name."""
        words = request.query.get("q", "").strip()
        like = f"*{words}*" if words else None
        rows = await look.groups(request.config_dict[DATABASE].scanner, like)
        return await self._render(
            request, "groups.html", {"groups": rows[:PAGE], "number": len(rows), "q": words}
        )

    async def group(self, request: web.Request) -> web.StreamResponse:
        """GET: a group, its members and what it opens."""
        return await self._group_page(request)

    async def _group_page(
        self, request: web.Request, status: int = 200, **more: Any
    ) -> web.StreamResponse:
        reader = request.config_dict[DATABASE].scanner
        group = await console.group(reader, request.match_info["id"])
        if group is None:
            raise web.HTTPNotFound(text="There is no such group any more.")
        mappings = await console.of_group(reader, group["displayName"], group["externalId"])
        for mapping in mappings:
            mapping["mine"] = (
                mapping["made_by"] is not None
                and mapping["room_id"] is not None
                and await self._may_map(request, mapping["room_id"])
            )
        context = {"group": group, "mappings": mappings, "form": {}, **more}
        return await self._render(request, "group.html", context, status)

    async def _may_map(self, request: web.Request, room_id: str) -> bool:
        return await self._access.may_map(request[_USER], room_id)

    async def _asked_for(
        self, request: web.Request, form: MappingType[str, Any]
    ) -> tuple[dict[str, Any], Mapping, str]:
        """Return the group, the mapping that a form describes, and its room's ID.

        Raises GroupMapError with plain words, or HTTPForbidden.
        """
        group = await console.group(request.config_dict[DATABASE].scanner, request.match_info["id"])
        if group is None:
            raise web.HTTPNotFound(text="There is no such group any more.")
        room = str(form.get("room", "")).strip()
        entry: dict[str, Any] = {"room": room}
        if str(form.get("power", "")).strip():
            try:
                entry["powerLevel"] = int(str(form["power"]))
            except ValueError:
                raise GroupMapError("The power level must be a whole number.") from None
        for name in ("children", "exclusive"):
            if form.get(name):
                entry[name] = True
        if form.get("invite"):
            entry["mode"] = "invite"
        by_id = group["externalId"]
        key = by_id if by_id and by_id != "*" else f"displayName:{group['displayName']}"
        try:
            [mapping] = parse_group_map(orjson.dumps({key: [entry]}).decode())
        except GroupMapError as error:
            raise GroupMapError(
                f"This cannot be mapped: {str(error).split(': ', 1)[-1]}"
            ) from error
        homeserver = request.config_dict[HOMESERVER]
        try:
            room_id = mapping.room
            if room_id.startswith("#"):
                room_id = await homeserver.resolve_alias(mapping.room)
            await homeserver.details(room_id)
        except RefusedError as error:
            raise GroupMapError(f"{mapping.room} does not exist on this homeserver.") from error
        if not await self._may_map(request, room_id):
            raise web.HTTPForbidden(
                text="You may only map rooms in which you yourself can invite and kick."
            )
        return group, mapping, room_id

    async def preview(self, request: web.Request) -> web.StreamResponse:
        """POST: what a mapping would do, before it is kept."""
        form = await request.post()
        try:
            group, mapping, room_id = await self._asked_for(request, form)
        except GroupMapError as error:
            return await self._answer(request, {"problem": str(error)}, form)
        people = await console.accounts_of(request.config_dict[DATABASE].scanner, group["id"])
        inside = set(await request.config_dict[HOMESERVER].members(room_id))
        service = request.config_dict[HOMESERVER].user_id
        return await self._answer(
            request,
            {
                "adds": len(people - inside),
                "already": len(people & inside),
                "others": len(inside - people - {service}) if mapping.exclusive else 0,
                "room": mapping.room,
                "invite": mapping.invite,
            },
            form,
        )

    async def _answer(
        self, request: web.Request, preview: dict[str, Any], form: MappingType[str, Any]
    ) -> web.StreamResponse:
        if "HX-Request" in request.headers:
            return await self._render(request, "preview.html", {"preview": preview})
        status = 400 if "problem" in preview else 200
        return await self._group_page(request, status, preview=preview, form=form)

    async def add_mapping(self, request: web.Request) -> web.StreamResponse:
        """POST: keep a mapping and put it in force."""
        form = await request.post()
        try:
            group, mapping, room_id = await self._asked_for(request, form)
        except GroupMapError as error:
            return await self._group_page(request, 400, preview={"problem": str(error)}, form=form)
        async with request.config_dict[DATABASE].write(f"console {request[_USER]}") as connection:
            if await console.add(connection, mapping, request[_USER]):
                entry = Entry(
                    "map", "asked", request[_USER], room_id, group["displayName"], "console"
                )
                await record.add(connection, entry)
                await request.config_dict[SETTLE_MAP](connection)
        request.config_dict[RECONCILER].compare()
        raise web.HTTPSeeOther(f"/console/groups/{quote(group['id'])}")

    async def remove_mapping(self, request: web.Request) -> web.StreamResponse:
        """POST: drop a mapping; the people stay, or leave through the brake."""
        form = await request.post()
        database = request.config_dict[DATABASE]
        reference = str(form.get("room", ""))
        room_ids = await held.rooms_named(database.scanner, reference)
        if not room_ids or not all([await self._may_map(request, r) for r in room_ids]):
            raise web.HTTPForbidden(
                text="You may only change rooms in which you yourself can invite and kick."
            )
        async with database.write(f"console {request[_USER]}") as connection:
            before = await console.granted(connection, reference)
            kind, pattern = str(form.get("kind", "")), str(form.get("pattern", ""))
            if not await console.remove(connection, kind, pattern, reference):
                raise web.HTTPNotFound(text="This mapping is not one that was made here.")
            entry = Entry("unmap", "asked", request[_USER], room_ids[0], pattern, "console")
            await record.add(connection, entry)
            await request.config_dict[SETTLE_MAP](connection)
            if form.get("people") == "leave":
                await console.take_out(connection, before)
        request.config_dict[RECONCILER].compare()
        raise web.HTTPSeeOther(f"/console/groups/{quote(request.match_info['id'])}")

    # -- Rooms ------------------------------------------------------------

    async def rooms(self, request: web.Request) -> web.StreamResponse:
        """GET: mapped rooms; a manager's own only."""
        rows = await look.mapped_rooms(request.config_dict[DATABASE].scanner)
        if not await self._access.is_admin(request[_USER]):
            rows = [
                row
                for row in rows
                if row["room_id"] is not None and await self._may_map(request, row["room_id"])
            ]
        return await self._render(request, "rooms.html", {"rooms": rows})

    async def room(self, request: web.Request) -> web.StreamResponse:
        """GET: who is in a room, by which group or otherwise."""
        room_id = request.match_info["id"]
        if not await self._may_map(request, room_id):
            raise web.HTTPForbidden(text="You may only see rooms in which you can invite and kick.")
        async with request.config_dict[DATABASE].write() as connection:
            people = await look.people(connection, room_id=room_id)
        context: dict[str, Any] = {
            "room_id": room_id,
            "people": [p for p in people if not p["forgotten"]],
            "power": None,
        }
        try:
            levels = await self._access.levels(room_id)
        except RefusedError as error:
            context["problem"] = str(error)
        else:
            context["power"] = own = levels.of(request.config_dict[HOMESERVER].user_id)
            context["lacks"] = [w for w in ("invite", "kick") if own < levels.needed(w)]
        return await self._render(request, "room.html", context)

    # -- Held removals ----------------------------------------------------

    async def held(self, request: web.Request) -> web.StreamResponse:
        """GET: what the brake keeps for a human."""
        await self._only_admins(request)
        reader = request.config_dict[DATABASE].scanner
        rows = [row for row in await look.left_to_do(reader, 10_000) if row["state"] == "held"]
        by_room: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_room.setdefault(row["room"] or "accounts", []).append(row)
        return await self._render(request, "held.html", {"rooms": by_room})

    async def decide(self, request: web.Request) -> web.StreamResponse:
        """POST: approve or dismiss."""
        await self._only_admins(request)
        form = await request.post()
        room, decision = str(form.get("room", "")), str(form.get("decision", ""))
        if decision not in ("approved", "dismissed"):
            raise web.HTTPBadRequest(text="Approve or dismiss.")
        chosen = None if room == "accounts" else [room]
        async with request.config_dict[DATABASE].write(f"console {request[_USER]}") as connection:
            await held.decide(
                connection, chosen, "approved" if decision == "approved" else "dismissed"
            )
        request.config_dict[RECONCILER].wake()
        raise web.HTTPSeeOther("/console/held")

    # -- Log --------------------------------------------------------------

    async def log(self, request: web.Request) -> web.StreamResponse:
        """GET: the record of actions, filtered; also as CSV."""
        await self._only_admins(request)
        query = request.query
        reader = request.config_dict[DATABASE].scanner
        room = query.get("room", "").strip()
        rows = await record.find(
            reader,
            user=query.get("user", "").strip() or None,
            rooms=(await held.rooms_named(reader, room) or [room]) if room else (),
            since=text.moment(query.get("since", "")),
            limit=100_000 if query.get("export") else 500,
            group=query.get("group", "").strip() or None,
        )
        if query.get("export"):
            return _csv(rows)
        kept = {name: query.get(name, "") for name in ("user", "room", "group", "since")}
        export = urlencode({**kept, "export": "csv"})
        return await self._render(
            request, "log.html", {"rows": rows[::-1], "query": kept, "export": export}
        )


def _csv(rows: list[dict[str, Any]]) -> web.Response:
    file = io.StringIO()
    writer = csv.writer(file)
    names = ("at", "kind", "outcome", "user_id", "room_id", "group_name", "request", "detail")
    writer.writerow(names)
    for row in rows:
        # A spreadsheet must not take a name for a formula.
        cells = [text.told(row["at"]), *(str(row[name] or "") for name in names[1:])]
        writer.writerow([f"'{c}" if c[:1] in ("=", "+", "-") else c for c in cells])
    return web.Response(
        text=file.getvalue(),
        content_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="scim-matrix-log.csv"'},
    )
