"""Compare accounts with the homeserver in pages, so that every lost answer is found."""

import asyncio
import random
from collections.abc import Callable, Iterable

import structlog

from scim_matrix.matrix.accounts import Accounts, takes_email
from scim_matrix.matrix.errors import HomeserverError
from scim_matrix.store import accounts, second_accounts
from scim_matrix.store.accounts import Believed
from scim_matrix.store.database import Database
from scim_matrix.store.errors import DatabaseError
from scim_matrix.store.second_accounts import SecondAccount
from scim_matrix.sync.account_changes import AccountPolicy, is_as_believed
from scim_matrix.sync.second_accounts import Search

log = structlog.get_logger(__name__)

# Of the time until the next comparison, the share between two pages; at most so many seconds.
_SHARE = 0.005
_LONGEST_PAUSE = 5.0
# Of the e-mails that accounts of a page were not given, it is asked about so many: any of them.
_MOST_ASKED = 20


class AccountComparison:
    """Reads the homeserver's list of accounts and doubts those that are not as they were thought.

    What is doubted is work like any other. One comparison runs at a time.
    """

    def __init__(
        self,
        database: Database,
        homeserver: Accounts,
        policy: AccountPolicy,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._accounts = homeserver
        self._policy = policy
        self._wake = wake
        self._running: asyncio.Task[None] | None = None

    def begin(self, interval: float) -> None:
        """Compare all accounts once, spread over a part of `interval` (seconds)."""
        if self._running is None or self._running.done():
            pause = min(_LONGEST_PAUSE, interval * _SHARE)
            self._running = asyncio.create_task(self._compare(pause), name="account comparison")

    async def finish(self) -> None:
        """Wait until a running comparison has ended."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def stop(self) -> None:
        """End a running comparison."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _compare(self, pause: float) -> None:
        try:
            rest, search = 0.0, Search(self._database.scanner, self._accounts)
            async for page in self._accounts.listed():
                await asyncio.sleep(rest)
                rest = pause
                await search.among(page)
                present = {account.user_id: account for account in page}
                believed = await accounts.believed(self._database.scanner, present)
                wrong = {
                    known.id: present[known.user_id].deactivated
                    for known in believed
                    if not is_as_believed(
                        present[known.user_id],
                        active=known.desired == "active",
                        how=self._policy.how(known.desired),
                        by_hand=known.by_hand,
                    )
                }
                if wrong:
                    log.warning("accounts_differ", accounts=len(wrong))
                await self._doubt({**dict.fromkeys(await self._given_up(believed), False), **wrong})
            await self._record_second(sorted(search.found))
        except (HomeserverError, DatabaseError) as error:
            # The next comparison asks again; the breaker is the reconciler's.
            log.warning("accounts_not_compared", error=str(error))

    async def _given_up(self, believed: Iterable[Believed]) -> list[int]:
        """Return the accounts that can have an e-mail by now that was another account's."""
        waiting = [(one, e) for one in believed for e in one.left_out if takes_email(e)]
        return [
            one.id
            for one, address in random.sample(waiting, min(len(waiting), _MOST_ASKED))
            if await self._accounts.by_email(address) in (None, one.user_id)
        ]

    async def _doubt(self, differing: dict[int, bool]) -> None:
        """Have accounts observed anew; of each it is told whether it was found deactivated."""
        if not differing:
            return
        async with self._database.write() as connection:
            await accounts.doubt(connection, differing)
        self._wake()

    async def _record_second(self, found: list[SecondAccount]) -> None:
        """Record who signed in as another account, where that is not known yet."""
        if found == await second_accounts.found(self._database.scanner):
            return
        for second in found:
            log.warning("signed_in_as_another_account", user_id=second.user_id)
        async with self._database.write() as connection:
            await second_accounts.replace(connection, found)
