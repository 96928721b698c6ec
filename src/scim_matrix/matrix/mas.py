"""Accounts that belong to MAS (Matrix Authentication Service), over its admin API.

What MAS does not keep stays with Synapse: display names, suspension, and marks, which are
external IDs there that MAS neither reads nor takes off.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from pydantic import AwareDatetime

from scim_matrix.matrix.accounts import (
    Accounts,
    Change,
    MatrixAccount,
    NewAccount,
    takes_display_name,
)
from scim_matrix.matrix.errors import (
    INVALID_PARAM,
    INVALID_USERNAME,
    USER_IN_USE,
    NameTakenError,
    NotFoundError,
    PostponedError,
    RefusedError,
)
from scim_matrix.matrix.mas_answers import REFUSED, MasUnavailableError, Resource, Shape
from scim_matrix.matrix.mas_client import REQUEST_TIMEOUT, MasClient

log = structlog.get_logger(__name__)

# MAS: 1 to 255 of these, the first no underscore.
_USERNAME = re.compile("(?!_)[a-z0-9=_./+-]{1,255}")
# Accounts whose ULIDs are remembered, from when they are looked at until they are changed.
REMEMBERED = 1000
_SESSIONS = ("user-sessions", "oauth2-sessions", "compat-sessions")
# How long after it was asked for an account may still be made, where the answer was lost.
_LATEST = timedelta(seconds=2 * REQUEST_TIMEOUT)
# How much of what is believed of MAS's clock may be the time that requests take.
_JITTER = timedelta(milliseconds=50)


class _User(Shape):
    username: str
    created_at: AwareDatetime
    admin: bool
    locked_at: AwareDatetime | None = None
    deactivated_at: AwareDatetime | None = None


class _Provider(Shape):
    issuer: str | None = None
    human_name: str | None = None


class _Link(Shape):
    provider_id: str
    subject: str
    user_id: str | None = None
    created_at: AwareDatetime


class _Email(Shape):
    user_id: str
    email: str
    created_at: AwareDatetime


class _Session(Shape):
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A creation that is not known to have been completed.

    It tells for whom, since when by MAS's clock (MasClient.moment), the account's ULID where
    MAS said so, and whether there was a try whose answer is not known.
    """

    mark: str
    since: datetime
    id: str | None = None
    unsure: bool = False


class MasAccounts:
    """The accounts of a server whose accounts belong to MAS: an `Accounts`.

    `synapse` does what Synapse has kept. `provider` is the identity provider as MAS names it, by
    ULID or issuer; without it the only enabled one. With `end_sessions` whoever is locked is
    signed out everywhere, for good; otherwise sessions rest until the lock is taken off.

    Raises what `Accounts` and MasClient say: a MasError is about MAS, another PostponedError or
    TokenError about Synapse.
    """

    def __init__(
        self,
        client: MasClient,
        synapse: Accounts,
        server_name: str,
        *,
        provider: str | None = None,
        end_sessions: bool = False,
    ) -> None:
        self._mas = client
        self._synapse = synapse
        self._server_name = server_name
        self._wanted_provider = provider
        self._end = end_sessions
        self._provider: str | None = None
        # ULIDs of accounts that were looked at lately. A name is one account's for ever.
        self._ids: dict[str, str] = {}
        self._asked: dict[str, _Asked] = {}

    # -- Looking ----------------------------------------------------------

    async def admins(self) -> frozenset[str] | None:
        """Return who may ask MAS for an administrator's rights."""
        pages = self._mas.pages("users", of=_User, query={"filter[admin]": "true"})
        return frozenset([self._user_id(user) async for page in pages for user in page])

    async def by_subject(self, subject: str) -> str | None:
        """Return the user ID of the account that the provider's subject leads to, if any."""
        link = await self._link(subject)
        if link is None or link.attributes.user_id is None:
            return None
        return await self._user_id_of(link.attributes.user_id)

    async def by_mark(self, scim_id: str) -> str | None:
        """Return the user ID of the account that was made for a user, None without one."""
        for user_id, asked in list(self._asked.items()):
            if asked.mark == scim_id:
                account = await self._half(user_id)
                if account is not None and scim_id in account.marks:
                    return user_id
        return await self._synapse.by_mark(scim_id)

    async def by_email(self, address: str) -> str | None:
        """Return the user ID of the account that has an e-mail address, None without one.

        Synapse is asked first, since what it does not know MAS refuses. It is told by MAS, and
        later: where it names somebody, MAS has the last word.
        """
        if await self._synapse.by_email(address) is None:
            return None
        email = await self._email(address)
        return None if email is None else await self._user_id_of(email.attributes.user_id)

    async def get(self, user_id: str) -> MatrixAccount | None:
        """Return an account, None where there is none of exactly this name."""
        half = await self._half(user_id)
        if half is None:
            return None
        other = await self._synapse.get(user_id)
        if other is None:
            return half
        return replace(
            half,
            display_name=other.display_name,
            suspended=other.suspended,
            erased=other.erased,
            marks=half.marks | other.marks,
        )

    async def get_without_homeserver(self, user_id: str) -> MatrixAccount | None:
        """Return an account as far as MAS knows it."""
        return await self._half(user_id)

    async def listed(self) -> AsyncIterator[tuple[MatrixAccount, ...]]:
        """Yield every account of the server in pages, without links, e-mails and names."""
        self._provider = None
        async for page in self._mas.pages("users", of=_User):
            yield tuple(self._seen(user) for user in page)

    async def _half(self, user_id: str) -> MatrixAccount | None:
        """Return an account as MAS knows it."""
        user = await self._by_name(user_id)
        if user is None:
            return None
        try:
            provider = await self.provider_id()
        except RefusedError:
            # Whose the links are cannot be said then, but whoever has to go can be locked out.
            provider = None
        mine = {"filter[user]": user.id}
        links = await self._mas.all("upstream-oauth-links", of=_Link, query=mine)
        emails = await self._mas.all("user-emails", of=_Email, query=mine)
        ours = [x.attributes for x in links if x.attributes.provider_id == provider]
        account = replace(
            self._seen(user),
            emails=tuple(e.attributes.email.lower() for e in emails),
            subjects=frozenset(link.subject for link in ours),
            linked_elsewhere=len(ours) < len(links),
        )
        asked = self._asked.get(user_id)
        if asked is not None and await self._is_from(account, user, asked):
            return replace(account, marks=frozenset({asked.mark}))
        return account

    async def _is_from(self, account: MatrixAccount, user: Resource[_User], asked: _Asked) -> bool:
        """Tell whether an account was made by a creation that was not completed.

        Where the answer was lost, it was if the account was made just then and nobody has used it
        yet: whoever registers has a session, and a link where they come from a provider.
        """
        if asked.id is not None:
            return asked.id == user.id
        if not asked.since - _JITTER <= user.attributes.created_at <= asked.since + _LATEST:
            return False
        if account.is_linked or account.emails or account.is_admin:
            return False
        mine = {"filter[user]": user.id}
        for kind in _SESSIONS:
            if await self._mas.all(kind, of=_Session, query=mine):
                return False
        return True

    async def _by_name(self, user_id: str) -> Resource[_User] | None:
        name = self._localpart(user_id)
        if name is None:
            return None
        try:
            _, user = await self._mas.one("GET", "users", "by-username", name, of=_User)
        except NotFoundError:
            return None
        # MAS answers with an account of another letter case where there is none of this.
        if user.attributes.username != name:
            return None
        self._ids[user_id] = user.id
        if len(self._ids) > REMEMBERED:
            del self._ids[next(iter(self._ids))]
        return user

    async def _link(self, subject: str) -> Resource[_Link] | None:
        query = {"filter[provider]": await self.provider_id(), "filter[subject]": subject}
        return next(iter(await self._mas.all("upstream-oauth-links", of=_Link, query=query)), None)

    async def _email(self, address: str) -> Resource[_Email] | None:
        found = await self._mas.all("user-emails", of=_Email, query={"filter[email]": address})
        same = (e for e in found if e.attributes.email.lower() == address.lower())
        return next(same, None)

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

    def _fits(self, provider: Resource[_Provider]) -> bool:
        wanted = self._wanted_provider
        issuer = provider.attributes.issuer
        return (
            wanted is None
            or provider.id == wanted
            or (issuer is not None and issuer.rstrip("/") == wanted.rstrip("/"))
        )

    def _localpart(self, user_id: str) -> str | None:
        """Return the localpart of one of this server's users, None for any other."""
        name, _, server = user_id.removeprefix("@").partition(":")
        return name if name and server == self._server_name else None

    def _user_id(self, user: Resource[_User]) -> str:
        return f"@{user.attributes.username}:{self._server_name}"

    async def _user_id_of(self, identifier: str) -> str:
        _, user = await self._mas.one("GET", "users", identifier, of=_User)
        return self._user_id(_meant(user, user.id == identifier))

    def _seen(self, user: Resource[_User]) -> MatrixAccount:
        return MatrixAccount(
            self._user_id(user),
            is_admin=user.attributes.admin,
            locked=user.attributes.locked_at is not None,
            deactivated=user.attributes.deactivated_at is not None,
        )

    # -- Changing ---------------------------------------------------------

    async def about_to_make(self, user_id: str, mark: str) -> datetime | None:
        """Return since when an account of this name may be one that is made now."""
        if self._mas.moment() is None:
            await self._mas.version()
        now = self._mas.moment()
        if now is None:
            return None
        asked = self._asked.get(user_id)
        # An earlier try that was not answered may come through until it is surely over.
        if asked is None or asked.mark != mark or now > asked.since + _LATEST:
            asked = self._asked[user_id] = _Asked(mark, now)
        return asked.since

    def asked_before(self, user_id: str, mark: str, since: datetime) -> None:
        """Say that an account was asked for, `since` when by MAS's clock, before a crash.

        Where one is found that was made then and that nobody has used, it has `mark`.
        """
        self._asked.setdefault(user_id, _Asked(mark, since, unsure=True))

    async def create(self, new: NewAccount) -> Mapping[str, str]:
        """Make an account with its mark, link and e-mails, in this order.

        Raises NameTakenError where somebody has the name, and RefusedError with the errcode
        M_INVALID_USERNAME where MAS allows no such name.
        """
        self._mas.changes(f"create {new.user_id}")
        name = self._localpart(new.user_id)
        if name is None or not _USERNAME.fullmatch(name):
            words = f"{new.user_id}: MAS wants 1 to 255 of a-z 0-9 = _ . - / + and no _ first"
            raise RefusedError(400, INVALID_USERNAME, words)
        body = {"username": name, "skip_homeserver_check": False}
        if new.display_name is not None:
            if not takes_display_name(new.display_name):
                raise RefusedError(400, INVALID_PARAM, "a display name that Synapse does not take")
            # As Synapse keeps it once it is changed.
            body["displayname"] = new.display_name.strip()
        await self.about_to_make(new.user_id, new.mark)
        try:
            _, user = await self._mas.one("POST", "users", of=_User, body=body)
            _meant(user, user.attributes.username == name)
        except RefusedError as error:
            if new.user_id in self._asked and not self._asked[new.user_id].unsure:
                del self._asked[new.user_id]
            if error.status != 409:
                raise
            raise NameTakenError(409, USER_IN_USE, error.message) from error
        except PostponedError:
            if new.user_id in self._asked:
                self._asked[new.user_id] = replace(self._asked[new.user_id], unsure=True)
            raise
        if new.user_id in self._asked:
            self._asked[new.user_id] = replace(self._asked[new.user_id], id=user.id)
        bare = MatrixAccount(new.user_id, display_name=new.display_name)
        await self._synapse.change(bare, Change(add_mark=new.mark))
        if new.subject is not None:
            await self._add_link(new.user_id, user.id, new.subject)
        self._asked.pop(new.user_id, None)
        return await self._add_emails(user.id, new.emails)

    async def change(self, present: MatrixAccount, change: Change) -> Mapping[str, str]:
        """Change an account: MAS's part first, so that Synapse's absence does not stop it."""
        self._mas.changes(f"change {present.user_id}")
        try:
            refused = await self._change_in_mas(present, change)
        except NotFoundError:
            self._ids.pop(present.user_id, None)
            raise
        left = Change(
            display_name=change.display_name,
            suspended=change.suspended,
            add_mark=change.add_mark,
            drop_marks=change.drop_marks,
        )
        if left != Change():
            await self._synapse.change(present, left)
        return refused

    async def _change_in_mas(self, present: MatrixAccount, change: Change) -> Mapping[str, str]:
        """Change what MAS has; whoever comes back comes back first, whoever goes goes last."""
        user = await self._id_of(present)
        if change.deactivated is False:
            await self._reactivate(present.user_id, user)
        if change.locked is False:
            await self._act(user, "unlock")
        if change.drop_subjects:
            await self._drop_links(user, change.drop_subjects)
        if change.add_subject is not None:
            await self._add_link(present.user_id, user, change.add_subject)
        for address in change.drop_emails:
            await self._drop_email(user, address)
        refused = await self._add_emails(user, change.add_emails)
        if change.locked:
            # Before the lock: where this fails the account is still to be locked, so that both
            # are tried again.
            if self._end:
                await self._end_sessions(user)
            await self._act(user, "lock")
        if change.deactivated:
            await self._act(user, "deactivate", {"skip_erase": not change.erase})
        return refused

    async def _id_of(self, present: MatrixAccount) -> str:
        if present.user_id in self._ids:
            return self._ids[present.user_id]
        user = await self._by_name(present.user_id)
        if user is None:
            raise NotFoundError(404, REFUSED, f"{present.user_id} does not exist")
        return user.id

    async def _act(self, user: str, what: str, body: dict[str, bool] | None = None) -> None:
        await self._mas.one("POST", "users", user, what, of=_User, body=body)

    async def _reactivate(self, user_id: str, user: str) -> None:
        """Bring an account back, once MAS has done all that belongs to its deactivation.

        That is a job of MAS, tried again for as long as Synapse is away, which deactivates the
        account anew and takes its e-mails (crates/tasks/src/user.rs, DeactivateUserJob).
        """
        other = await self._synapse.get(user_id)
        if other is not None and not other.deactivated:
            words = f"MAS has not deactivated {user_id} in Synapse yet: reactivate it there by hand"
            raise RefusedError(409, REFUSED, f"{words}, or wait")
        await self._act(user, "reactivate")

    async def _add_link(self, user_id: str, user: str, subject: str) -> None:
        """Link an account to a subject. Raises RefusedError where another has it."""
        body = {"user_id": user, "provider_id": await self.provider_id(), "subject": subject}
        try:
            status, link = await self._mas.one("POST", "upstream-oauth-links", of=_Link, body=body)
        except NotFoundError:
            # Perhaps MAS has another provider now.
            self._provider = None
            raise
        except RefusedError as error:
            if error.status != 409:
                raise
            known = await self._link(subject)
            if known is None or known.attributes.user_id != user:
                raise
            return
        if status == 200:
            log.warning("orphan_link_taken_over", user_id=user_id, link=link.id)

    async def _drop_links(self, user: str, subjects: tuple[str, ...]) -> None:
        query = {"filter[provider]": await self.provider_id(), "filter[user]": user}
        for link in await self._mas.all("upstream-oauth-links", of=_Link, query=query):
            if link.attributes.subject in subjects:
                await self._delete("upstream-oauth-links", link.id)

    async def _add_emails(self, user: str, addresses: tuple[str, ...]) -> Mapping[str, str]:
        """Give an account addresses; return those that MAS refuses, and why."""
        refused = {}
        for address in addresses:
            if (why := await self._add_email(user, address)) is not None:
                refused[address] = why
        return refused

    async def _add_email(self, user: str, address: str) -> str | None:
        body = {"user_id": user, "email": address}
        try:
            await self._mas.one("POST", "user-emails", of=_Email, body=body)
        except RefusedError as error:
            if error.status == 404:
                raise
            if error.status != 409:
                return f"is refused by MAS: {error.message}"
            email = await self._email(address)
            if email is None:
                return "belonged to another account a moment ago"
            if email.attributes.user_id != user:
                return f"belongs to {await self._user_id_of(email.attributes.user_id)}"
        return None

    async def _drop_email(self, user: str, address: str) -> None:
        email = await self._email(address)
        if email is not None and email.attributes.user_id == user:
            await self._delete("user-emails", email.id)

    async def _delete(self, kind: str, identifier: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self._mas.delete(kind, identifier)

    async def _end_sessions(self, user: str) -> None:
        """Sign somebody out everywhere."""
        query = {"filter[user]": user, "filter[status]": "active"}
        for kind in _SESSIONS:
            for session in await self._mas.all(kind, of=_Session, query=query):
                try:
                    await self._mas.one("POST", kind, session.id, "finish", of=_Session)
                except RefusedError as error:
                    # 400: it has ended meanwhile.
                    if error.status not in (400, 404):
                        raise


def _meant(user: Resource[_User], is_meant: bool) -> Resource[_User]:
    """Return a user. Raises MasUnavailableError where it is another than was asked for."""
    if not is_meant:
        raise MasUnavailableError("no usable answer: another user than was asked for")
    return user
