"""What the stand-in for MAS keeps: accounts, links, e-mails, sessions (values, no requests)."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
API = "/api/admin/v1"


def told(moment: datetime | None) -> str | None:
    """Return a moment as JSON has it."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


@dataclass
class Resource:
    """Something that the admin API shows; `id` is a ULID."""

    kind: ClassVar[str]
    id: str
    created_at: datetime

    def attributes(self) -> dict[str, Any]:
        """Return what the admin API shows of it."""
        raise NotImplementedError

    @property
    def path(self) -> str:
        """Where the admin API shows it."""
        return f"{API}/{self.kind}s/{self.id}"

    def shown(self, cursor: bool = False) -> dict[str, Any]:
        """Return it as JSON:API has it, with its place in a list where it stands in one."""
        seen = {
            "type": self.kind,
            "id": self.id,
            "attributes": {"created_at": told(self.created_at), **self.attributes()},
            "links": {"self": self.path},
        }
        return {**seen, "meta": {"page": {"cursor": self.id}}} if cursor else seen


@dataclass
class Account(Resource):
    """A user of MAS."""

    kind = "user"
    username: str
    admin: bool = False
    locked_at: datetime | None = None
    deactivated_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether sessions of theirs work."""
        return self.locked_at is None and self.deactivated_at is None

    def attributes(self) -> dict[str, Any]:
        return {
            "username": self.username,
            "locked_at": told(self.locked_at),
            "deactivated_at": told(self.deactivated_at),
            "admin": self.admin,
            "legacy_guest": False,
        }


@dataclass
class Email(Resource):
    """An e-mail address of a user."""

    kind = "user-email"
    user_id: str
    email: str

    def attributes(self) -> dict[str, Any]:
        return {"user_id": self.user_id, "email": self.email}


@dataclass
class Provider(Resource):
    """An identity provider that people may sign in with."""

    kind = "upstream-oauth-provider"
    issuer: str | None
    human_name: str
    disabled_at: datetime | None = None

    def attributes(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "human_name": self.human_name,
            "brand_name": None,
            "disabled_at": told(self.disabled_at),
            "registration_token_required": False,
        }


@dataclass
class Link(Resource):
    """Who somebody is at an identity provider; without a user where nobody has claimed it."""

    kind = "upstream-oauth-link"
    provider_id: str
    subject: str
    user_id: str | None
    human_account_name: str | None = None

    def attributes(self) -> dict[str, Any]:
        return {
            "provider_id": self.provider_id,
            "subject": self.subject,
            "user_id": self.user_id,
            "human_account_name": self.human_account_name,
        }


@dataclass
class Session(Resource):
    """Anything that somebody is signed in with."""

    user_id: str
    finished_at: datetime | None = None

    def attributes(self) -> dict[str, Any]:
        return {
            "user_id": self.user_id,
            "finished_at": told(self.finished_at),
            "user_agent": None,
            "last_active_at": None,
            "last_active_ip": None,
        }


@dataclass
class UserSession(Session):
    """A browser that is signed in."""

    kind = "user-session"


@dataclass
class CompatSession(Session):
    """A client that signed in as before MAS."""

    kind = "compat-session"
    device_id: str = ""

    def attributes(self) -> dict[str, Any]:
        return {
            **super().attributes(),
            "device_id": self.device_id,
            "user_session_id": None,
            "redirect_uri": None,
            "human_name": None,
        }


@dataclass
class OAuth2Session(Session):
    """A client that signed in through OAuth 2.0."""

    kind = "oauth2-session"
    client_id: str = ""
    scope: str = ""
    device_id: str = ""

    def attributes(self) -> dict[str, Any]:
        return {
            **super().attributes(),
            "user_session_id": None,
            "client_id": self.client_id,
            "scope": self.scope,
            "human_name": None,
        }


@dataclass
class PersonalSession(Resource):
    """A token that somebody made for an account, its own or another's."""

    kind = "personal-session"
    actor_user_id: str
    owner_client_id: str
    human_name: str
    scope: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def attributes(self) -> dict[str, Any]:
        return {
            "revoked_at": told(self.revoked_at),
            "owner_user_id": None,
            "owner_client_id": self.owner_client_id,
            "actor_user_id": self.actor_user_id,
            "human_name": self.human_name,
            "scope": self.scope,
            "last_active_at": None,
            "last_active_ip": None,
            "expires_at": told(self.expires_at),
        }


@dataclass
class CompatLogin:
    """A sign-in through a browser, for a client that does not know MAS; nobody's at first."""

    token: str
    redirect_url: str
    user_id: str | None = None
    agreed_at: datetime | None = None
    is_used: bool = False


@dataclass(frozen=True)
class ClientToken:
    """A token of a client that signed in as itself."""

    scope: str
    ends: datetime


@dataclass
class State:
    """Everything that outlives a restart. `ahead` puts the clock forward."""

    server_name: str
    version: str = "1.22.0"
    ahead: timedelta = timedelta()
    accounts: dict[str, Account] = field(default_factory=dict)
    emails: dict[str, Email] = field(default_factory=dict)
    providers: dict[str, Provider] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    user_sessions: dict[str, UserSession] = field(default_factory=dict)
    compat_sessions: dict[str, CompatSession] = field(default_factory=dict)
    oauth2_sessions: dict[str, OAuth2Session] = field(default_factory=dict)
    personal_sessions: dict[str, PersonalSession] = field(default_factory=dict)
    # Whom a token is: a client, or a session of somebody.
    client_tokens: dict[str, ClientToken] = field(default_factory=dict)
    tokens: dict[str, OAuth2Session | CompatSession | PersonalSession] = field(default_factory=dict)
    # Whether people may sign in with a password, those by account, and sign-ins under way.
    password_login: bool = False
    passwords: dict[str, str] = field(default_factory=dict)
    compat_logins: dict[str, CompatLogin] = field(default_factory=dict)
    _last: int = 0

    def now(self) -> datetime:
        """Return what the clock shows."""
        return datetime.now(UTC) + self.ahead

    def ulid(self) -> str:
        """Return the next ULID; later ones are greater."""
        self._last = max(self._last + 1, int(self.now().timestamp() * 1000) << 80)
        return "".join(_CROCKFORD[self._last >> shift & 31] for shift in range(125, -1, -5))

    def account_named(self, username: str) -> Account | None:
        """Return the account of a name in any letter case, the exact one before others."""
        alike = [a for a in self.accounts.values() if a.username.lower() == username.lower()]
        exact = (a for a in alike if a.username == username)
        return next(exact, None) or next(iter(alike), None)

    def sessions_of(self, account: Account) -> list[Session]:
        """Return the sessions of an account that go on."""
        kinds = (self.user_sessions, self.compat_sessions, self.oauth2_sessions)
        return [
            session
            for sessions in kinds
            for session in sessions.values()
            if session.user_id == account.id and session.finished_at is None
        ]

    def devices_of(self, account: Account) -> set[str]:
        """Return the devices that an account's sessions have."""
        devices = {
            s.device_id
            for s in self.sessions_of(account)
            if isinstance(s, CompatSession | OAuth2Session)
        }
        return devices | {
            device_in(s.scope)
            for s in self.personal_sessions.values()
            if s.actor_user_id == account.id and s.revoked_at is None
        } - {""}


def device_in(scope: str) -> str:
    """Return the device that a scope names, empty without one."""
    prefix = "urn:matrix:client:device:"
    named = (s.removeprefix(prefix) for s in scope.split() if s.startswith(prefix))
    return next(named, "")
