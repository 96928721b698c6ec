"""What is changed of an account in MAS: links, e-mails, sessions, and whether it may be used."""

import contextlib
from collections.abc import Mapping

import structlog

from scim_matrix.matrix.accounts import Accounts, Change, MatrixAccount
from scim_matrix.matrix.errors import NotFoundError, RefusedError
from scim_matrix.matrix.mas_answers import REFUSED
from scim_matrix.matrix.mas_client import MasClient
from scim_matrix.matrix.mas_directory import SESSIONS, Email, Link, MasDirectory, Session, User

log = structlog.get_logger(__name__)


class MasChanges:
    """Changes accounts in MAS; what was so already is success. Raises what MasClient says.

    `synapse` is asked whether MAS has done there what it had to. With `end_sessions` whoever is
    locked is signed out everywhere, for good; otherwise sessions rest until the lock is taken off.
    """

    def __init__(
        self,
        client: MasClient,
        synapse: Accounts,
        directory: MasDirectory,
        *,
        end_sessions: bool,
    ) -> None:
        self._mas = client
        self._synapse = synapse
        self._directory = directory
        self._end = end_sessions

    async def change(self, present: MatrixAccount, change: Change) -> Mapping[str, str]:
        """Change what MAS has; whoever comes back comes back first, whoever goes goes last.

        Returns the e-mail addresses that it does not have all the same, and why.
        """
        user = await self._directory.id_of(present.user_id)
        if change.deactivated is False:
            await self._reactivate(present.user_id, user)
        if change.locked is False:
            await self._act(user, "unlock")
        if change.drop_subjects:
            await self._drop_links(user, change.drop_subjects)
        if change.add_subject is not None:
            await self.add_link(present.user_id, user, change.add_subject)
        for address in change.drop_emails:
            await self._drop_email(user, address)
        refused = await self.add_emails(user, change.add_emails)
        if change.locked:
            # Before the lock: where this fails the account is still to be locked, so that both
            # are tried again.
            if self._end:
                await self._end_sessions(user)
            await self._act(user, "lock")
        if change.deactivated:
            await self._act(user, "deactivate", {"skip_erase": not change.erase})
        return refused

    async def _act(self, user: str, what: str, body: dict[str, bool] | None = None) -> None:
        await self._mas.one("POST", "users", user, what, of=User, body=body)

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

    async def add_link(self, user_id: str, user: str, subject: str) -> None:
        """Link an account to a subject. Raises RefusedError where another has it."""
        body = {
            "user_id": user,
            "provider_id": await self._directory.provider_id(),
            "subject": subject,
        }
        try:
            status, link = await self._mas.one("POST", "upstream-oauth-links", of=Link, body=body)
        except NotFoundError:
            # Perhaps MAS has another provider now.
            self._directory.forget_provider()
            raise
        except RefusedError:
            known = await self._directory.link(subject)
            if known is None or known.attributes.user_id != user:
                raise
            return
        if status == 200:
            log.warning("orphan_link_taken_over", user_id=user_id, link=link.id)

    async def _drop_links(self, user: str, subjects: tuple[str, ...]) -> None:
        for link in await self._directory.links(user):
            if link.attributes.subject in subjects:
                await self._delete("upstream-oauth-links", link.id)

    async def add_emails(self, user: str, addresses: tuple[str, ...]) -> Mapping[str, str]:
        """Give an account addresses; return those that MAS refuses, and why."""
        refused = {}
        for address in addresses:
            if (why := await self._add_email(user, address)) is not None:
                refused[address] = why
        return refused

    async def _add_email(self, user: str, address: str) -> str | None:
        body = {"user_id": user, "email": address}
        try:
            await self._mas.one("POST", "user-emails", of=Email, body=body)
        except RefusedError as error:
            if error.status == 404:
                raise
            if error.status != 409:
                return f"is refused by MAS: {error.message}"
            email = await self._directory.email(address)
            if email is None:
                return "belonged to another account a moment ago"
            if email.attributes.user_id != user:
                return f"belongs to {await self._directory.user_id_of(email.attributes.user_id)}"
        return None

    async def _drop_email(self, user: str, address: str) -> None:
        email = await self._directory.email(address)
        if email is not None and email.attributes.user_id == user:
            await self._delete("user-emails", email.id)

    async def _delete(self, kind: str, identifier: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self._mas.delete(kind, identifier)

    async def _end_sessions(self, user: str) -> None:
        """Sign somebody out everywhere."""
        query = {"filter[user]": user, "filter[status]": "active"}
        for kind in SESSIONS:
            for session in await self._mas.all(kind, of=Session, query=query):
                try:
                    await self._mas.one("POST", kind, session.id, "finish", of=Session)
                except RefusedError as error:
                    # 400: it has ended meanwhile.
                    if error.status not in (400, 404):
                        raise
