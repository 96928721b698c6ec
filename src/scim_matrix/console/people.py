"""The pages of people, for administrators: looking for somebody, and their story."""

from aiohttp import web

from scim_matrix.app_keys import DATABASE
from scim_matrix.console.pages import PAGE, Pages
from scim_matrix.store import console
from scim_matrix.store import story as stories
from scim_matrix.store.database import Connection
from scim_matrix.story import person
from scim_matrix.story.rows import Story
from scim_matrix.sync.plan import Policy


class PeoplePages:
    """Handlers. `policy` says who is never touched, administrators of the homeserver aside."""

    def __init__(self, pages: Pages, policy: Policy) -> None:
        self._pages = pages
        self._policy = policy

    async def people(self, request: web.Request) -> web.StreamResponse:
        """GET: people by any part of what they are known by; the first where none is given."""
        await self._pages.only_admins(request)
        words = request.query.get("q", "").strip()
        found = await console.people_named(request.config_dict[DATABASE].scanner, words, PAGE + 1)
        context = {"people": found[:PAGE], "more": len(found) > PAGE, "q": words}
        return await self._pages.render(request, "people.html", context)

    async def person(self, request: web.Request) -> web.StreamResponse:
        """GET: the story of whoever a user ID, user name or SCIM id stands for, or of several."""
        await self._pages.only_admins(request)
        name = request.match_info["name"]
        told = await self._told(request.config_dict[DATABASE].scanner, name)
        if not told:
            raise web.HTTPNotFound(text=f"Nobody is known as {name}.")
        return await self._pages.render(request, "person.html", {"stories": told})

    async def _told(self, reader: Connection, name: str) -> list[Story]:
        accounts: list[int | None] = [*await stories.accounts_called(reader, name)]
        if not accounts and name.startswith("@") and await stories.is_seen(reader, name):
            accounts = [None]
        found = [await stories.person(reader, account, name) for account in accounts]
        return [
            person.story(rows, self._policy.protection(rows.user_id) if rows.user_id else None)
            for rows in found
        ]
