"""The pages of people, for administrators: looking for somebody, their story, their account."""

from urllib.parse import quote

from aiohttp import web

from scim_matrix.app_keys import DATABASE, HOMESERVER, REPLICA
from scim_matrix.console import sayings, session
from scim_matrix.console.pages import PAGE, USER, Pages
from scim_matrix.groupmap import Sources
from scim_matrix.localpart import is_user_id
from scim_matrix.store import accounts, binding, console
from scim_matrix.store import story as stories
from scim_matrix.store.database import Connection
from scim_matrix.story import person
from scim_matrix.story.rows import Person, Story
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
        return await self._page(request)

    async def _page(
        self, request: web.Request, problem: str = "", account: str = "", status: int = 200
    ) -> web.StreamResponse:
        name, reader = request.match_info["name"], request.config_dict[DATABASE].scanner
        found = await _called(reader, name, self._pages.sources)
        if not found:
            raise web.HTTPNotFound(text=f"Nobody is known as {name}.")
        users = [one.account for one in found if one.account and one.account["scim_id"]]
        disputed = [
            one["barred"] or one["proposed"] for one in users if one["problem"] == "conflict"
        ]
        context = {
            "stories": [self._story(one) for one in found],
            # Whose account is meant is asked of one user only.
            "user_id": users[0]["scim_id"] if len(users) == 1 else None,
            "in_conflict": bool(disputed),
            "problem": problem,
            "account": account or (disputed[0] if disputed else "") or "",
        }
        return await self._pages.render(request, "person.html", context, status)

    def _story(self, rows: Person) -> Story:
        return person.story(rows, self._policy.protection(rows.user_id) if rows.user_id else None)

    async def link(self, request: web.Request) -> web.StreamResponse:
        """POST: say which Matrix account is a user's."""
        await self._pages.only_admins(request)
        name, form = request.match_info["name"], await request.post()
        account, by = str(form.get("account", "")).strip(), request[USER]
        if (problem := await self._why_not(request, account)) is not None:
            return await self._page(request, problem, account, 400)
        async with request.config_dict[DATABASE].write(f"console {by}") as connection:
            users = await accounts.named(connection, name)
            if len(users) != 1 or users[0].scim_id != name:
                raise web.HTTPNotFound(text=f"No user has the SCIM id {name} any more.")
            problem = await binding.link(connection, users[0], account, by)
            user = await _named(connection, users[0])
        if problem is not None:
            return await self._page(request, problem, account, 400)
        request.config_dict[REPLICA].wake()
        await session.say(request, sayings.linked(user, account, dry=self._pages.dry))
        raise web.HTTPSeeOther(f"/console/people/{quote(name, safe='')}")

    async def _why_not(self, request: web.Request, account: str) -> str | None:
        """Return why something can be nobody's account, None where it can."""
        homeserver = request.config_dict[HOMESERVER]
        if not is_user_id(account):
            return "Write the whole Matrix ID, such as @name:example.com."
        if account.partition(":")[2] != homeserver.server_name:
            return f"{account} is an account of another server than {homeserver.server_name}."
        if account == homeserver.user_id:
            return f"{account} is the service's own account."
        if await homeserver.accounts.get(account) is None:
            return f"{account} does not exist on the homeserver."
        return None


async def _named(connection: Connection, account: accounts.Account) -> str:
    """Return how the identity provider calls a user: by name and user name."""
    user_name = await console.user_name(connection, account.scim_id or "")
    name = account.profile.display_name
    return user_name if name in (None, user_name) else f"{name} ({user_name})"


async def _called(reader: Connection, name: str, sources: Sources) -> list[Person]:
    """Return whomever a name stands for, in rooms by hand included."""
    found: list[int | None] = [*await stories.accounts_called(reader, name)]
    if not found and name.startswith("@") and await stories.is_seen(reader, name):
        found = [None]
    return [await stories.person(reader, account, name, sources) for account in found]
