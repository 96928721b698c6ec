"""Accounts that belong to MAS (Matrix Authentication Service), over its admin API.

What MAS does not keep stays with Synapse: display names, suspension, and marks, which are
external IDs there that MAS neither reads nor takes off.
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime

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
from scim_matrix.matrix.mas_changes import MasChanges
from scim_matrix.matrix.mas_client import MasClient
from scim_matrix.matrix.mas_creations import Creations
from scim_matrix.matrix.mas_directory import MasDirectory, User, meant

# MAS: 1 to 255 of these, the first no underscore.
_USERNAME = re.compile("(?!_)[a-z0-9=_./+-]{1,255}")


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
        self._directory = MasDirectory(client, server_name, provider)
        self._creations = Creations(client, self._directory)
        self._changes = MasChanges(client, synapse, self._directory, end_sessions=end_sessions)

    # -- Looking ----------------------------------------------------------

    async def admins(self) -> frozenset[str] | None:
        """Return who may ask MAS for an administrator's rights."""
        pages = self._mas.pages("users", of=User, query={"filter[admin]": "true"})
        return frozenset([self._directory.user_id(user) async for page in pages for user in page])

    async def by_subject(self, subject: str) -> str | None:
        """Return the user ID of the account that the provider's subject leads to, if any."""
        link = await self._directory.link(subject)
        if link is None or link.attributes.user_id is None:
            return None
        return await self._directory.user_id_of(link.attributes.user_id)

    async def by_mark(self, scim_id: str) -> str | None:
        """Return the user ID of the account that was made for a user, None without one."""
        for user_id in self._creations.of(scim_id):
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
        email = await self._directory.email(address)
        return None if email is None else await self._directory.user_id_of(email.attributes.user_id)

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
        self._directory.forget_provider()
        async for page in self._mas.pages("users", of=User):
            yield tuple(self._directory.seen(user) for user in page)

    async def _half(self, user_id: str) -> MatrixAccount | None:
        """Return an account as MAS knows it."""
        user = await self._directory.by_name(user_id)
        if user is None:
            return None
        account = await self._directory.with_links_and_emails(user)
        mark = await self._creations.mark_of(account, user)
        return account if mark is None else replace(account, marks=frozenset({mark}))

    async def provider_id(self) -> str:
        """Return the ULID of the identity provider in MAS; see `MasDirectory.provider_id`."""
        return await self._directory.provider_id()

    # -- Changing ---------------------------------------------------------

    async def about_to_make(self, user_id: str, mark: str) -> datetime | None:
        """Return since when an account of this name may be one that is made now."""
        return await self._creations.begin(user_id, mark)

    def asked_before(self, user_id: str, mark: str, since: datetime) -> None:
        """Say that an account was asked for, `since` when by MAS's clock, before a crash.

        Where one is found that was made then and that nobody has used, it has `mark`.
        """
        self._creations.remember(user_id, mark, since)

    async def create(self, new: NewAccount) -> Mapping[str, str]:
        """Make an account with its mark, link and e-mails, in this order.

        Raises NameTakenError where somebody has the name, and RefusedError with the errcode
        M_INVALID_USERNAME where MAS allows no such name.
        """
        self._mas.changes(f"create {new.user_id}")
        name = self._directory.localpart(new.user_id)
        if name is None or not _USERNAME.fullmatch(name):
            words = f"{new.user_id}: MAS wants 1 to 255 of a-z 0-9 = _ . - / + and no _ first"
            raise RefusedError(400, INVALID_USERNAME, words)
        user = await self._make(new, name)
        bare = MatrixAccount(new.user_id, display_name=new.display_name)
        await self._synapse.change(bare, Change(add_mark=new.mark))
        if new.subject is not None:
            await self._changes.add_link(new.user_id, user, new.subject)
        self._creations.complete(new.user_id)
        return await self._changes.add_emails(user, new.emails)

    async def _make(self, new: NewAccount, name: str) -> str:
        """Have MAS make an account, whosever it is; return its ULID."""
        body = {"username": name, "skip_homeserver_check": False}
        if new.display_name is not None:
            if not takes_display_name(new.display_name):
                raise RefusedError(400, INVALID_PARAM, "a display name that Synapse does not take")
            # As Synapse keeps it once it is changed.
            body["displayname"] = new.display_name.strip()
        await self._creations.begin(new.user_id, new.mark)
        try:
            _, user = await self._mas.one("POST", "users", of=User, body=body)
            meant(user, user.attributes.username == name)
        except RefusedError as error:
            self._creations.refused(new.user_id)
            if error.status != 409:
                raise
            raise NameTakenError(409, USER_IN_USE, error.message) from error
        except PostponedError:
            self._creations.unanswered(new.user_id)
            raise
        self._creations.made(new.user_id, user.id)
        return user.id

    async def change(self, present: MatrixAccount, change: Change) -> Mapping[str, str]:
        """Change an account: MAS's part first, so that Synapse's absence does not stop it."""
        self._mas.changes(f"change {present.user_id}")
        try:
            refused = await self._changes.change(present, change)
        except NotFoundError:
            self._directory.forget(present.user_id)
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
