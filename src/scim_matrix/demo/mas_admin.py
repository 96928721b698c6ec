"""The admin API of the stand-in for MAS: JSON:API over its state."""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from scim_matrix.demo.mas_homeserver import HomeserverAwayError, HomeserverSide
from scim_matrix.demo.mas_state import (
    API,
    Account,
    Email,
    Link,
    PersonalSession,
    Resource,
    Session,
    State,
    device_in,
)

R = TypeVar("R", bound=Resource)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGE = 10
ADMIN_SCOPE = "urn:mas:admin"
_ULID = re.compile("[0-9A-HJKMNP-TV-Z]{26}")
_USERNAME = re.compile("[a-z0-9=.+/-][a-z0-9=_.+/-]{0,254}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class ProblemError(Exception):
    """What is answered with an error's status and words."""

    def __init__(self, status: int, title: str) -> None:
        super().__init__(title)
        self.status = status


class AdminApi:
    """Answers of the admin API; `client_id` is the ULID of the client that may use it."""

    def __init__(self, state: State, homeserver: HomeserverSide, client_id: str) -> None:
        self._state = state
        self._homeserver = homeserver
        self._client_id = client_id

    def routes(self) -> list[web.RouteDef]:
        """Return what is served."""
        state = self._state
        lists: dict[str, tuple[Mapping[str, Resource], dict[str, str]]] = {
            "users": (state.accounts, {}),
            "user-emails": (state.emails, {"user": "user_id", "email": "email"}),
            "upstream-oauth-providers": (state.providers, {}),
            "upstream-oauth-links": (
                state.links,
                {"user": "user_id", "provider": "provider_id", "subject": "subject"},
            ),
            "user-sessions": (state.user_sessions, {"user": "user_id"}),
            "compat-sessions": (state.compat_sessions, {"user": "user_id"}),
            "oauth2-sessions": (state.oauth2_sessions, {"user": "user_id"}),
            "personal-sessions": (state.personal_sessions, {"actor_user": "actor_user_id"}),
        }
        served = [
            web.get(f"{API}/site-config", self._site_config),
            web.get(f"{API}/version", self._version),
            web.post(f"{API}/users", self._add_account),
            web.get(f"{API}/users/by-username/{{name}}", self._by_username),
            web.post(f"{API}/user-emails", self._add_email),
            web.post(f"{API}/upstream-oauth-links", self._add_link),
            web.post(f"{API}/personal-sessions", self._add_personal),
            web.post(f"{API}/personal-sessions/{{id}}/regenerate", self._regenerate),
            web.post(f"{API}/personal-sessions/{{id}}/revoke", self._revoke),
            web.delete(f"{API}/user-emails/{{id}}", self._drop_email),
            web.delete(f"{API}/upstream-oauth-links/{{id}}", self._drop_link),
        ]
        served += [
            web.post(f"{API}/users/{{id}}/lock", self._lock),
            web.post(f"{API}/users/{{id}}/unlock", self._unlock),
            web.post(f"{API}/users/{{id}}/deactivate", self._deactivate),
            web.post(f"{API}/users/{{id}}/reactivate", self._reactivate),
        ]
        for name, (resources, filters) in lists.items():
            served.append(web.get(f"{API}/{name}", partial(self._list, resources, filters)))
            served.append(web.get(f"{API}/{name}/{{id}}", partial(self._one, resources)))
        sessions: dict[str, Mapping[str, Session]] = {
            "user-sessions": state.user_sessions,
            "compat-sessions": state.compat_sessions,
            "oauth2-sessions": state.oauth2_sessions,
        }
        for name, of_kind in sessions.items():
            path = f"{API}/{name}/{{id}}/finish"
            served.append(web.post(path, partial(self._finish, of_kind)))
        return served

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let nobody in without the right token, and turn problems into answers."""
        if not request.path.startswith(API):
            return await handler(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        known = self._state.client_tokens.get(token)
        if known is None or known.ends <= self._state.now():
            return _errors(401, "Unknown access token")
        if ADMIN_SCOPE not in known.scope.split():
            return _errors(401, "Missing urn:mas:admin scope")
        try:
            return await handler(request)
        except ProblemError as problem:
            return _errors(problem.status, str(problem))
        except HomeserverAwayError as error:
            return _errors(500, str(error))

    # -- Reading ----------------------------------------------------------

    async def _site_config(self, request: web.Request) -> web.Response:
        off = dict.fromkeys(
            (
                *("password_login_enabled", "password_registration_enabled"),
                *("password_registration_email_required", "password_registration_token_required"),
                *("registration_token_required", "email_change_allowed"),
                *("displayname_change_allowed", "password_change_allowed"),
                *("account_recovery_allowed", "account_deactivation_allowed", "captcha_enabled"),
            ),
            False,
        )
        return web.json_response(
            {"server_name": self._state.server_name, **off, "minimum_password_complexity": 3}
        )

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": f"v{self._state.version}"})

    async def _one(self, resources: Mapping[str, Resource], request: web.Request) -> web.Response:
        return _shown(request, _found(resources, request.match_info["id"]))

    async def _by_username(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        account = self._state.account_named(name)
        if account is None:
            raise ProblemError(404, f'User with username "{name}" not found')
        return _shown(request, account)

    async def _list(
        self, resources: Mapping[str, Resource], filters: dict[str, str], request: web.Request
    ) -> web.Response:
        query = dict(request.query)
        first = int(query.pop("page[first]", PAGE))
        after = _ulid(query.pop("page[after]", "0" * 26))
        counted = query.pop("count", "true")
        found = list(resources.values())
        for key, value in query.items():
            name = key.removeprefix("filter[").removesuffix("]")
            if name in ("user", "provider", "actor_user"):
                _ulid(value)
            found = [r for r in found if self._passes(r, name, filters.get(name), value)]
        rest = [r for r in found if r.id > after]
        page = rest[:first]
        links = {"self": request.raw_path, "first": f"{request.path}?page[first]={first}"}
        if len(rest) > first:
            links["next"] = f"{request.path}?page[after]={page[-1].id}&page[first]={first}"
        meta = {} if counted == "false" else {"meta": {"count": len(found)}}
        data = [] if counted == "only" else [r.shown(cursor=True) for r in page]
        return web.json_response({**meta, "data": data, "links": links})

    def _passes(self, resource: Resource, name: str, attribute: str | None, value: str) -> bool:
        if attribute is not None:
            held = getattr(resource, attribute)
            if isinstance(resource, Email) and name == "email":
                return bool(held.lower() == value.lower())
            return bool(held == value)
        match name, resource:
            case "status", Account():
                return {
                    "active": resource.is_active,
                    "locked": not resource.is_active,
                    "deactivated": resource.deactivated_at is not None,
                }[value]
            case "status", Session():
                return (resource.finished_at is None) == (value == "active")
            case "status", PersonalSession():
                return (resource.revoked_at is None) == (value == "active")
            case "admin", Account():
                return resource.admin == (value == "true")
            case "enabled", _ if hasattr(resource, "disabled_at"):
                return (resource.disabled_at is None) == (value == "true")
        raise ProblemError(400, f"Invalid filter {name}")

    # -- Accounts ---------------------------------------------------------

    async def _add_account(self, request: web.Request) -> web.Response:
        body = await _body(request, {"username"}, {"skip_homeserver_check", "displayname"})
        name = body["username"]
        if not _USERNAME.fullmatch(name):
            raise ProblemError(400, "Username is not valid")
        if self._state.account_named(name) is not None:
            raise ProblemError(409, "User already exists")
        if not body.get("skip_homeserver_check") and not await self._homeserver.has_room_for(name):
            raise ProblemError(409, "Username is reserved by the homeserver")
        account = Account(self._state.ulid(), self._state.now(), name)
        shown_as = body.get("displayname")
        profile = {} if shown_as is None else {"set_displayname": shown_as}
        await self._homeserver.provision(account, **profile)
        self._state.accounts[account.id] = account
        return _shown(request, account, 201)

    async def _lock(self, request: web.Request) -> web.Response:
        account = self._account(request)
        account.locked_at = account.locked_at or self._state.now()
        self._provision_later(account)
        return _shown(request, account)

    async def _unlock(self, request: web.Request) -> web.Response:
        account = self._account(request)
        account.locked_at = None
        self._provision_later(account)
        return _shown(request, account)

    async def _deactivate(self, request: web.Request) -> web.Response:
        account = self._account(request)
        body = await _body(request, set(), {"skip_erase"}) if request.body_exists else {}
        erase = not body.get("skip_erase", False)
        account.deactivated_at = account.deactivated_at or self._state.now()

        async def job() -> None:
            # As the real one does, whatever has been done to the account meanwhile.
            account.deactivated_at = account.deactivated_at or self._state.now()
            for session in self._state.sessions_of(account):
                session.finished_at = self._state.now()
            for email in [e for e in self._state.emails.values() if e.user_id == account.id]:
                del self._state.emails[email.id]
            await self._homeserver.do("delete_user", account, erase=erase)

        self._homeserver.later(job)
        return _shown(request, account)

    async def _reactivate(self, request: web.Request) -> web.Response:
        account = self._account(request)
        await self._homeserver.do("reactivate_user", account)
        account.deactivated_at = None
        return _shown(request, account)

    def _account(self, request: web.Request) -> Account:
        return _found(self._state.accounts, request.match_info["id"])

    def _provision_later(self, account: Account) -> None:
        self._homeserver.later(partial(self._homeserver.provision, account))

    # -- E-mails and links ------------------------------------------------

    async def _add_email(self, request: web.Request) -> web.Response:
        body = await _body(request, {"user_id", "email"})
        account = _found(self._state.accounts, body["user_id"])
        address = body["email"]
        if not _EMAIL.fullmatch(address):
            raise ProblemError(400, f'Email "{address}" is not valid')
        if any(e.email.lower() == address.lower() for e in self._state.emails.values()):
            raise ProblemError(409, f'User email "{address}" already in use')
        email = Email(self._state.ulid(), self._state.now(), account.id, address)
        self._state.emails[email.id] = email
        self._provision_later(account)
        return _shown(request, email, 201)

    async def _drop_email(self, request: web.Request) -> web.Response:
        email = _found(self._state.emails, request.match_info["id"])
        del self._state.emails[email.id]
        self._provision_later(self._state.accounts[email.user_id])
        return web.Response(status=204)

    async def _add_link(self, request: web.Request) -> web.Response:
        body = await _body(request, {"user_id", "provider_id", "subject"}, {"human_account_name"})
        account = _found(self._state.accounts, body["user_id"])
        provider = _found(self._state.providers, body["provider_id"])
        subject, name = body["subject"], body.get("human_account_name")
        for link in self._state.links.values():
            if (link.provider_id, link.subject) == (provider.id, subject):
                if link.user_id is not None:
                    raise ProblemError(409, f"{subject} is already linked to a user")
                link.user_id = account.id
                return _shown(request, link)
        link = Link(self._state.ulid(), self._state.now(), provider.id, subject, account.id, name)
        self._state.links[link.id] = link
        return _shown(request, link, 201)

    async def _drop_link(self, request: web.Request) -> web.Response:
        del self._state.links[_found(self._state.links, request.match_info["id"]).id]
        return web.Response(status=204)

    # -- Sessions ---------------------------------------------------------

    async def _finish(self, sessions: Mapping[str, Session], request: web.Request) -> web.Response:
        session = _found(sessions, request.match_info["id"])
        if session.finished_at is not None:
            raise ProblemError(400, f"Session with ID {session.id} is already finished")
        session.finished_at = self._state.now()
        account = self._state.accounts[session.user_id]
        self._homeserver.later(partial(self._homeserver.sync_devices, account))
        return _shown(request, session)

    async def _add_personal(self, request: web.Request) -> web.Response:
        body = await _body(request, {"actor_user_id", "human_name", "scope"}, {"expires_in"})
        actor = _found(self._state.accounts, body["actor_user_id"])
        if actor.deactivated_at is not None:
            raise ProblemError(410, "User is deactivated")
        if device := device_in(body["scope"]):
            await self._homeserver.do("upsert_device", actor, device_id=device)
        session = PersonalSession(
            self._state.ulid(),
            self._state.now(),
            actor.id,
            self._client_id,
            body["human_name"],
            body["scope"],
        )
        self._state.personal_sessions[session.id] = session
        return self._with_token(request, session, body.get("expires_in"))

    async def _regenerate(self, request: web.Request) -> web.Response:
        body = await _body(request, set(), {"expires_in"})
        session = _found(self._state.personal_sessions, request.match_info["id"])
        if session.revoked_at is not None:
            raise ProblemError(422, f"Personal session with ID {session.id} is not valid")
        return self._with_token(request, session, body.get("expires_in"))

    def _with_token(
        self, request: web.Request, session: PersonalSession, expires_in: int | None
    ) -> web.Response:
        self._forget_tokens(session)
        token = f"mpt_{secrets.token_urlsafe(24)}"
        self._state.tokens[token] = session
        lives = None if expires_in is None else timedelta(seconds=expires_in)
        session.expires_at = None if lives is None else self._state.now() + lives
        return _shown(request, session, 201, access_token=token)

    async def _revoke(self, request: web.Request) -> web.Response:
        session = _found(self._state.personal_sessions, request.match_info["id"])
        if session.revoked_at is not None:
            raise ProblemError(409, f"Personal session with ID {session.id} is already revoked")
        session.revoked_at = self._state.now()
        self._forget_tokens(session)
        return _shown(request, session)

    def _forget_tokens(self, session: PersonalSession) -> None:
        for token in [t for t, s in self._state.tokens.items() if s is session]:
            del self._state.tokens[token]


def _errors(status: int, title: str) -> web.Response:
    return web.json_response({"errors": [{"title": title}]}, status=status)


def _shown(
    request: web.Request, resource: Resource, status: int = 200, **more: Any
) -> web.Response:
    data = resource.shown()
    data["attributes"].update(more)
    return web.json_response({"data": data, "links": {"self": request.path}}, status=status)


def _ulid(value: str) -> str:
    if not _ULID.fullmatch(value):
        raise ProblemError(400, "Invalid ULID")
    return value


def _found(resources: Mapping[str, R], identifier: str) -> R:
    if _ulid(identifier) not in resources:
        raise ProblemError(404, f"{identifier} not found")
    return resources[identifier]


async def _body(
    request: web.Request, required: set[str], optional: set[str] | None = None
) -> dict[str, Any]:
    """Return a body; what is wrong with one is said in plain text, as MAS does."""
    if request.content_type != "application/json":
        text = "Expected request with `Content-Type: application/json`"
        raise web.HTTPUnsupportedMediaType(text=text)
    body = await request.json()
    missing = required - body.keys()
    if missing:
        text = f"Failed to deserialize the JSON body: missing field `{sorted(missing)[0]}`"
        raise web.HTTPUnprocessableEntity(text=text)
    return {key: value for key, value in body.items() if key in required | (optional or set())}
