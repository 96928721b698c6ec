"""Creations of accounts in MAS that are not known to have been completed.

MAS makes an account before anything says whose it is: what a lost answer left behind is known by
when it was made, and by nobody having used it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from scim_matrix.matrix.accounts import MatrixAccount
from scim_matrix.matrix.mas_answers import Resource
from scim_matrix.matrix.mas_client import REQUEST_TIMEOUT, MasClient
from scim_matrix.matrix.mas_directory import MasDirectory, User

# How long after it was asked for an account may still be made, where the answer was lost.
_LATEST = timedelta(seconds=2 * REQUEST_TIMEOUT)
# How much of what is believed of MAS's clock may be the time that requests take.
_JITTER = timedelta(milliseconds=50)


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


class Creations:
    """Remembers which accounts were asked for, by user ID, until they are complete."""

    def __init__(self, client: MasClient, directory: MasDirectory) -> None:
        self._mas = client
        self._directory = directory
        self._asked: dict[str, _Asked] = {}

    async def begin(self, user_id: str, mark: str) -> datetime | None:
        """Note that an account is about to be asked for; return since when one may be made.

        None where nobody can say.
        """
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

    def remember(self, user_id: str, mark: str, since: datetime) -> None:
        """Note that an account was asked for before a crash, `since` when by MAS's clock."""
        self._asked.setdefault(user_id, _Asked(mark, since, unsure=True))

    def refused(self, user_id: str) -> None:
        """Note that MAS said no: unless an earlier try is unsure, nothing was made."""
        if user_id in self._asked and not self._asked[user_id].unsure:
            del self._asked[user_id]

    def unanswered(self, user_id: str) -> None:
        """Note that nothing is known about the outcome."""
        if user_id in self._asked:
            self._asked[user_id] = replace(self._asked[user_id], unsure=True)

    def made(self, user_id: str, identifier: str) -> None:
        """Note that MAS made the account, as which ULID; whose it is is not said yet."""
        if user_id in self._asked:
            self._asked[user_id] = replace(self._asked[user_id], id=identifier)

    def complete(self, user_id: str) -> None:
        """Note that MAS and Synapse say whose the account is."""
        self._asked.pop(user_id, None)

    def of(self, mark: str) -> list[str]:
        """Return the user IDs that were asked for for a user."""
        return [user_id for user_id, asked in self._asked.items() if asked.mark == mark]

    async def mark_of(self, account: MatrixAccount, user: Resource[User]) -> str | None:
        """Return for whom an account was made by a creation that was not completed, if it was.

        Where the answer was lost, it was if the account was made just then and nobody has used it
        yet: whoever registers has a session, and a link where they come from a provider.
        """
        asked = self._asked.get(account.user_id)
        if asked is None:
            return None
        if asked.id is not None:
            return asked.mark if asked.id == user.id else None
        if not asked.since - _JITTER <= user.attributes.created_at <= asked.since + _LATEST:
            return None
        if account.is_linked or account.emails or account.is_admin:
            return None
        return None if await self._directory.was_used(user) else asked.mark
