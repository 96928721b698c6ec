"""Who is who in MAS: its accounts by name, link, e-mail and number, and its identity provider."""

from dataclasses import replace

from pydantic import AwareDatetime

from scim_matrix.matrix.accounts import MatrixAccount
from scim_matrix.matrix.errors import NotFoundError, RefusedError
from scim_matrix.matrix.mas_answers import REFUSED, MasUnavailableError, Resource, Shape
from scim_matrix.matrix.mas_client import MasClient

# Accounts whose ULIDs are remembered, from when they are looked at until they are changed.
REMEMBERED = 1000
SESSIONS = ("user-sessions", "oauth2-sessions", "compat-sessions")


class User(Shape):
    """An account."""

    username: str
    created_at: AwareDatetime
    admin: bool
    locked_at: AwareDatetime | None = None
    deactivated_at: AwareDatetime | None = None


class Link(Shape):
    """Whom an identity at a provider leads to; None where its account is gone."""

    provider_id: str
    subject: str
    user_id: str | None = None
    created_at: AwareDatetime


class Email(Shape):
    """An e-mail address of an account."""

    user_id: str
    email: str
    created_at: AwareDatetime


class Session(Shape):
    """A session of an account, of any kind."""

    user_id: str | None = None


class _Provider(Shape):
    issuer: str | None = None
    human_name: str | None = None


class MasDirectory:
    """Looks up what MAS knows; nothing is changed. Raises what MasClient says.

    `provider` is the identity provider as MAS names it, by ULID or issuer; without it the only
    enabled one.
    """

    def __init__(self, client: MasClient, server_name: str, provider: str | None) -> None:
        self._mas = client
        self._server_name = server_name
        self._wanted_provider = provider
        self._provider: str | None = None
        # ULIDs of accounts that were looked at lately. A name is one account's for ever.
        self._ids: dict[str, str] = {}

    # -- Accounts ---------------------------------------------------------

    async def by_name(self, user_id: str) -> Resource[User] | None:
        """Return the account of exactly this name, None without one."""
        name = self.localpart(user_id)
        if name is None:
            return None
        try:
            _, user = await self._mas.one("GET", "users", "by-username", name, of=User)
        except NotFoundError:
            return None
        # MAS answers with an account of another letter case where there is none of this.
        if user.attributes.username != name:
            return None
        self._ids[user_id] = user.id
        if len(self._ids) > REMEMBERED:
            del self._ids[next(iter(self._ids))]
        return user

    async def id_of(self, user_id: str) -> str:
        """Return an account's ULID. Raises NotFoundError where there is no account."""
        if user_id in self._ids:
            return self._ids[user_id]
        user = await self.by_name(user_id)
        if user is None:
            raise NotFoundError(404, REFUSED, f"{user_id} does not exist")
        return user.id

    def forget(self, user_id: str) -> None:
        """Look an account's ULID up anew next time."""
        self._ids.pop(user_id, None)

    async def user_id_of(self, identifier: str) -> str:
        """Return the user ID of the account with a ULID."""
        _, user = await self._mas.one("GET", "users", identifier, of=User)
        return self.user_id(meant(user, user.id == identifier))

    def localpart(self, user_id: str) -> str | None:
        """Return the localpart of one of this server's users, None for any other."""
        name, _, server = user_id.removeprefix("@").partition(":")
        return name if name and server == self._server_name else None

    def user_id(self, user: Resource[User]) -> str:
        """Return an account's user ID."""
        return f"@{user.attributes.username}:{self._server_name}"

    def seen(self, user: Resource[User]) -> MatrixAccount:
        """Return an account as a list shows it."""
        return MatrixAccount(
            self.user_id(user),
            is_admin=user.attributes.admin,
            locked=user.attributes.locked_at is not None,
            deactivated=user.attributes.deactivated_at is not None,
        )

    async def with_links_and_emails(self, user: Resource[User]) -> MatrixAccount:
        """Return an account with who comes in through it and what its e-mails are."""
        try:
            provider = await self.provider_id()
        except RefusedError:
            # Whose the links are cannot be said then, but whoever has to go can be locked out.
            provider = None
        mine = {"filter[user]": user.id}
        links = await self._mas.all("upstream-oauth-links", of=Link, query=mine)
        emails = await self._mas.all("user-emails", of=Email, query=mine)
        ours = [x.attributes for x in links if x.attributes.provider_id == provider]
        return replace(
            self.seen(user),
            emails=tuple(e.attributes.email.lower() for e in emails),
            subjects=frozenset(link.subject for link in ours),
            linked_elsewhere=len(ours) < len(links),
        )

    async def was_used(self, user: Resource[User]) -> bool:
        """Tell whether anybody has ever signed in to an account."""
        mine = {"filter[user]": user.id}
        for kind in SESSIONS:
            if await self._mas.all(kind, of=Session, query=mine):
                return True
        return False

    # -- Links, e-mails ---------------------------------------------------

    async def link(self, subject: str) -> Resource[Link] | None:
        """Return the link of one of the provider's subjects, None without one."""
        query = {"filter[provider]": await self.provider_id(), "filter[subject]": subject}
        return next(iter(await self._mas.all("upstream-oauth-links", of=Link, query=query)), None)

    async def links(self, user: str) -> list[Resource[Link]]:
        """Return the provider's links to an account (its ULID)."""
        query = {"filter[provider]": await self.provider_id(), "filter[user]": user}
        return await self._mas.all("upstream-oauth-links", of=Link, query=query)

    async def email(self, address: str) -> Resource[Email] | None:
        """Return whose an e-mail address is, in whatever letter case, None if nobody's."""
        found = await self._mas.all("user-emails", of=Email, query={"filter[email]": address})
        same = (e for e in found if e.attributes.email.lower() == address.lower())
        return next(same, None)

    # -- The identity provider --------------------------------------------

    async def provider_id(self) -> str:
        """Return the ULID of the identity provider in MAS; asked for once in each comparison.

        MAS's configuration may name another one meanwhile: the former is only disabled then, and
        would go on to be given links. Raises RefusedError where MAS has none that fits.
        """
        if self._provider is None:
            query = {"filter[enabled]": "true"}
            enabled = await self._mas.all("upstream-oauth-providers", of=_Provider, query=query)
            fitting = [p for p in enabled if self._fits(p)]
            if len(fitting) != 1:
                known = ", ".join(f"{p.id} ({p.attributes.issuer})" for p in enabled) or "none"
                raise RefusedError(
                    404,
                    REFUSED,
                    f"MAS_PROVIDER must name one of MAS's enabled providers: {known}",
                )
            self._provider = fitting[0].id
        return self._provider

    def forget_provider(self) -> None:
        """Ask for the identity provider anew next time."""
        self._provider = None

    def _fits(self, provider: Resource[_Provider]) -> bool:
        wanted = self._wanted_provider
        issuer = provider.attributes.issuer
        return (
            wanted is None
            or provider.id == wanted
            or (issuer is not None and issuer.rstrip("/") == wanted.rstrip("/"))
        )


def meant(user: Resource[User], is_meant: bool) -> Resource[User]:
    """Return a user. Raises MasUnavailableError where it is another than was asked for."""
    if not is_meant:
        raise MasUnavailableError("no usable answer: another user than was asked for")
    return user
