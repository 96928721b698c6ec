"""Who signed in by SSO as another account than the one that was made for them.

Where the subject of the sign-in is not the one that the identity provider sends over SCIM, Synapse
knows nobody of it and makes an account; a name that is taken gets a number behind it
(synapse/handlers/oidc.py, map_user_attributes). Such names are told from the list of accounts, and
only accounts that have one are asked for whose they are.
"""

import re
from collections.abc import Iterable, Iterator

from scim_matrix.matrix.accounts import Accounts, MatrixAccount
from scim_matrix.store import second_accounts
from scim_matrix.store.database import Connection
from scim_matrix.store.second_accounts import FirstAccount, SecondAccount

# Synapse tries a thousand names (handlers/sso.py, _MAP_USERNAME_RETRIES).
_MOST_DIGITS = 3
# Accounts that are asked for one by one in a comparison.
MOST_ASKED = 50
_NUMBERED = re.compile(r"(@[^:]*?)([0-9]+)(:.*)")


def names_before(user_id: str) -> Iterator[str]:
    """Yield the user IDs that become this one by a number at the end of the localpart (pure)."""
    found = _NUMBERED.fullmatch(user_id)
    if found is None:
        return
    stem, digits, server = found.groups()
    for count in range(1, min(len(digits), _MOST_DIGITS) + 1):
        number = digits[-count:]
        if number[0] != "0" and (first := stem + digits[:-count]) != "@":
            yield first + server


def is_second(present: MatrixAccount, first: FirstAccount) -> bool:
    """Tell whether an account may have been made for whoever has another one (pure).

    A display name of its own, which is not theirs, says that it is somebody else's.
    """
    own = present.user_id[1:].partition(":")[0]
    named = present.display_name
    return named in (None, "", own, first.display_name)


class Search:
    """Looks for second accounts among pages of a list, and asks for `most` accounts at the most."""

    def __init__(
        self, connection: Connection, homeserver: Accounts, most: int = MOST_ASKED
    ) -> None:
        self._connection = connection
        self._accounts = homeserver
        self._left = most
        self.found: list[SecondAccount] = []

    async def among(self, page: Iterable[MatrixAccount]) -> None:
        """Look among accounts as a list has them. Raises what `Accounts.get` does."""
        pairs = [
            (first, account.user_id)
            for account in page
            if not account.deactivated
            for first in names_before(account.user_id)
        ]
        if not pairs:
            return
        for first in await second_accounts.first_accounts(self._connection, pairs):
            if self._left == 0:
                return
            self._left -= 1
            present = await self._accounts.get(first.second)
            if present is not None and is_second(present, first):
                await self._add(present, first)

    async def _add(self, present: MatrixAccount, first: FirstAccount) -> None:
        if await is_nobodys(self._connection, present):
            subject = min(present.subjects)
            self.found.append(SecondAccount(present.user_id, first.account_id, subject))


async def is_nobodys(connection: Connection, present: MatrixAccount) -> bool:
    """Tell whether an account has SSO identities, none of them a user's."""
    subjects = present.subjects
    return bool(subjects) and not await second_accounts.known_subjects(connection, subjects)
