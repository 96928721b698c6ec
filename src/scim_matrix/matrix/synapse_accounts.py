"""Matrix accounts that Synapse keeps itself, through its admin API."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from scim_matrix.matrix.accounts import (
    MARK_PROVIDER,
    Change,
    MatrixAccount,
    NewAccount,
    takes_display_name,
    takes_email,
)
from scim_matrix.matrix.errors import (
    INVALID_PARAM,
    NOT_FOUND,
    USER_IN_USE,
    NameTakenError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from scim_matrix.matrix.transport import ADMIN_V1, ADMIN_V2, Answer, Done, Transport

EMAIL = "email"
# Accounts in a page of a list.
PAGE = 1000


class _Link(Answer):
    auth_provider: str
    external_id: str


class _Threepid(Answer):
    medium: str
    address: str


class _Account(Answer):
    name: str
    displayname: str | None
    threepids: list[_Threepid]
    external_ids: list[_Link]
    admin: bool
    deactivated: bool
    # Not known to every Synapse that is in use.
    locked: bool = False
    suspended: bool = False
    erased: bool = False


class _Listed(Answer):
    name: str
    displayname: str | None
    admin: bool
    deactivated: bool
    locked: bool = False
    erased: bool = False


class _Page(Answer):
    users: list[_Listed]
    next_token: str | None = None


class _Found(Answer):
    user_id: str


class SynapseAccounts:
    """The accounts of a Synapse without delegated authentication (`Accounts`).

    `idp` is the identity provider as Synapse's admin API names it, e.g. `oidc-authentik`.
    """

    def __init__(self, transport: Transport, idp: str) -> None:
        self._transport = transport
        self._idp = idp

    # -- Finding ----------------------------------------------------------

    async def admins(self) -> frozenset[str] | None:
        """Return the user IDs of the administrators (List Accounts), None where MAS has them.

        Synapse refuses to list guests where accounts are delegated; it would list nobody.
        """
        found: set[str] = set()
        try:
            async for page in self._pages({"admins": "true", "locked": "true"}):
                # A Synapse that does not know the parameter lists everybody.
                found.update(user.name for user in page.users if user.admin)
        except RefusedError as error:
            if is_delegated(error):
                return None
            raise
        return frozenset(found)

    async def by_subject(self, subject: str) -> str | None:
        """Return the account that an SSO identity leads to (Find a user based on their ID)."""
        return await self._linked(self._idp, subject)

    async def by_mark(self, scim_id: str) -> str | None:
        """Return the account that was made for a user: see `by_subject`."""
        return await self._linked(MARK_PROVIDER, scim_id)

    async def _linked(self, provider: str, external_id: str) -> str | None:
        """Return the account that has a link.

        For a while Synapse goes on to find the account that a link was taken from
        (storage/databases/main/registration.py, get_user_by_external_id is cached): the account
        itself has the last word.
        """
        user_id = await self._found("auth_providers", provider, "users", external_id)
        if user_id is None or (account := await self._read(user_id)) is None:
            return None
        return user_id if (provider, external_id) in _pairs(account.external_ids) else None

    async def by_email(self, address: str) -> str | None:
        """Return the account that has an e-mail address (Find a user based on their 3PID)."""
        return await self._found("threepid", EMAIL, "users", _canonical(address))

    async def _found(self, *path: str) -> str | None:
        try:
            answer = await self._transport.request("GET", *ADMIN_V1, *path, shape=_Found)
        except NotFoundError:
            return None
        return answer.user_id

    async def get(self, user_id: str) -> MatrixAccount | None:
        """Return an account (Query User Account), None where there is none of this name."""
        account = await self._read(user_id)
        return None if account is None else self._neutral(account)

    async def get_without_homeserver(self, user_id: str) -> MatrixAccount | None:
        """Return an account: nobody else knows it."""
        return await self.get(user_id)

    async def _read(self, user_id: str) -> _Account | None:
        try:
            return await self._transport.request("GET", *ADMIN_V2, "users", user_id, shape=_Account)
        except NotFoundError:
            return None

    def _neutral(self, account: _Account) -> MatrixAccount:
        links = _pairs(account.external_ids)
        return MatrixAccount(
            user_id=account.name,
            display_name=account.displayname,
            emails=tuple(t.address.lower() for t in account.threepids if t.medium == EMAIL),
            subjects=frozenset(x for provider, x in links if provider == self._idp),
            marks=frozenset(x for provider, x in links if provider == MARK_PROVIDER),
            linked_elsewhere=any(p not in (self._idp, MARK_PROVIDER) for p, _ in links),
            is_admin=account.admin,
            locked=account.locked,
            suspended=account.suspended,
            deactivated=account.deactivated,
            erased=account.erased,
        )

    async def listed(self) -> AsyncIterator[tuple[MatrixAccount, ...]]:
        """Yield every account in pages (List Accounts).

        The list tells neither links nor e-mails nor who is suspended.
        """
        everybody = {"guests": "false", "locked": "true", "deactivated": "true"}
        async for page in self._pages(everybody):
            yield tuple(
                MatrixAccount(
                    user_id=user.name,
                    display_name=user.displayname,
                    is_admin=user.admin,
                    locked=user.locked,
                    deactivated=user.deactivated,
                    erased=user.erased,
                )
                for user in page.users
            )

    async def _pages(self, query: Mapping[str, str]) -> AsyncIterator[_Page]:
        start: dict[str, str] = {}
        seen: set[str] = set()
        while True:
            page = await self._transport.request(
                *("GET", *ADMIN_V2, "users"),
                # The oldest first: an account made meanwhile moves no page's border.
                query={**query, "limit": str(PAGE), "order_by": "creation_ts", **start},
                shape=_Page,
            )
            yield page
            if page.next_token is None:
                return
            if not page.users or page.next_token in seen:
                raise UnavailableError("no usable answer: pages of accounts without an end")
            seen.add(page.next_token)
            start = {"from": page.next_token}

    # -- Changing ---------------------------------------------------------

    async def about_to_make(self, user_id: str, mark: str) -> datetime | None:
        """Return now: the request that makes an account marks it, so the moment proves nothing."""
        return datetime.now(UTC)

    def asked_before(self, user_id: str, mark: str, since: datetime) -> None:
        """Do nothing: whatever was made has its mark."""

    async def create(self, new: NewAccount) -> Mapping[str, str]:
        """Make an account with its mark, its link and its profile (Create or modify Account).

        Synapse makes an account first and then gives it what was asked for, the mark as the first
        of its links. So it is asked for nothing that it could refuse in between, and for no
        account that exists: that would be changed.
        """
        self._transport.changes(f"create {new.user_id}")
        _refuse_unfit(new.display_name, new.emails)
        if await self._read(new.user_id) is not None:
            raise _in_use(new.user_id)
        links = [(MARK_PROVIDER, new.mark)]
        if new.subject is not None:
            links.append((self._idp, new.subject))
        body: dict[str, Any] = {
            "admin": False,
            "external_ids": _links(links),
            "threepids": [{"medium": EMAIL, "address": _canonical(e)} for e in new.emails],
        }
        if new.display_name is not None:
            # As Synapse keeps it once it is changed.
            body["displayname"] = new.display_name.strip()
        status, account = await self._put(new.user_id, body)
        if status != 201:
            # Somebody made the account in between: it must not pass for ours.
            left = [link for link in _pairs(account.external_ids) if link not in links]
            await self._put(new.user_id, {"external_ids": _links(left)})
            raise _in_use(new.user_id)
        return {}

    async def change(self, present: MatrixAccount, change: Change) -> Mapping[str, str]:
        """Change an account; what others linked or added to it is read afresh and kept.

        What is so already is not asked for. The rest is one request (Create or modify Account), in
        which Synapse reactivates after it has written profile and links, and locks last;
        reactivating needs no password. Suspending and deactivating, which undoes e-mail
        addresses, are requests of their own after it.
        """
        user_id = present.user_id
        self._transport.changes(f"change {user_id}")
        _refuse_unfit(change.display_name, change.add_emails)
        account = await self._read(user_id)
        if account is None:
            # Or the request would make one.
            raise NotFoundError(404, NOT_FOUND, f"there is no account {user_id}")
        links = _pairs(account.external_ids)
        wanted = self._links_after(links, change)
        body = _differences(account, change)
        if wanted != links:
            body["external_ids"] = _links(wanted)
        if not set(links) <= set(wanted):
            # Synapse forgets what it keeps of a link (see `_linked`) when that is written, not
            # when it goes: until then sign-ins through it would lead to this account.
            await self._put(user_id, {"external_ids": _links(links)})
        if body:
            await self._put(user_id, body)
        if change.suspended not in (None, account.suspended):
            await self._transport.request(
                *("PUT", *ADMIN_V1, "suspend", user_id),
                body={"suspend": change.suspended},
                shape=Done,
            )
        undone = change.erase and not account.erased
        if change.deactivated and (undone or not account.deactivated):
            await self._transport.request(
                *("POST", *ADMIN_V1, "deactivate", user_id),
                body={"erase": change.erase},
                shape=_Deactivated,
            )
        return {}

    def _links_after(self, links: list[tuple[str, str]], change: Change) -> list[tuple[str, str]]:
        dropped = {(self._idp, subject) for subject in change.drop_subjects}
        dropped |= {(MARK_PROVIDER, mark) for mark in change.drop_marks}
        added = [] if change.add_subject is None else [(self._idp, change.add_subject)]
        added += [] if change.add_mark is None else [(MARK_PROVIDER, change.add_mark)]
        return _merge(links, dropped, added)

    async def _put(self, user_id: str, body: dict[str, Any]) -> tuple[int, _Account]:
        return await self._transport.exchange(
            "PUT", *ADMIN_V2, "users", user_id, body=body, shape=_Account
        )


class _Deactivated(Answer):
    id_server_unbind_result: str


def is_delegated(error: RefusedError) -> bool:
    """Tell whether a refused list of accounts means that another system keeps them."""
    return error.status == 400 and error.errcode == INVALID_PARAM


def _in_use(user_id: str) -> NameTakenError:
    return NameTakenError(409, USER_IN_USE, f"{user_id} exists")


def _refuse_unfit(display_name: str | None, emails: Iterable[str]) -> None:
    if display_name is not None and not takes_display_name(display_name):
        raise RefusedError(400, INVALID_PARAM, "a display name that Synapse does not take")
    if not all(map(takes_email, emails)):
        raise RefusedError(400, INVALID_PARAM, "an e-mail address that Synapse does not take")


def _canonical(address: str) -> str:
    """Return an e-mail address as Synapse keeps it (util/threepids.py, canonicalise_email)."""
    local, _, domain = address.strip().partition("@")
    return f"{local.casefold()}@{domain.lower()}"


def _differences(account: _Account, change: Change) -> dict[str, Any]:
    """Return what a change makes different, but for links; lists are replaced as a whole."""
    body: dict[str, Any] = {}
    if change.display_name is not None and change.display_name.strip() != account.displayname:
        body["displayname"] = change.display_name.strip()
    held = [(threepid.medium, threepid.address) for threepid in account.threepids]
    dropped = {(EMAIL, _canonical(address)) for address in change.drop_emails}
    added = [(EMAIL, _canonical(address)) for address in change.add_emails]
    if (wanted := _merge(held, dropped, added)) != held:
        body["threepids"] = [{"medium": m, "address": a} for m, a in wanted]
    if change.locked not in (None, account.locked):
        body["locked"] = change.locked
    if change.deactivated is False and account.deactivated:
        body["deactivated"] = False
    return body


def _merge(
    present: list[tuple[str, str]], dropped: set[tuple[str, str]], added: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return a list without what is dropped and with what is added, the rest as it stands."""
    kept = [entry for entry in present if entry not in dropped or entry in added]
    return kept + [entry for entry in dict.fromkeys(added) if entry not in kept]


def _pairs(links: Iterable[_Link]) -> list[tuple[str, str]]:
    return [(link.auth_provider, link.external_id) for link in links]


def _links(links: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"auth_provider": provider, "external_id": x} for provider, x in links]
