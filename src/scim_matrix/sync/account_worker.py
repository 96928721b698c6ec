"""Work on one account: bring it in line, behind the brake, and record how that ended."""

import time

import structlog

from scim_matrix.matrix.errors import (
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
    WithheldError,
)
from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.store import accounts, record
from scim_matrix.store import held as held_work
from scim_matrix.store.accounts import Account
from scim_matrix.store.database import Database
from scim_matrix.store.record import Entry
from scim_matrix.sync.accounts import (
    AccountPolicy,
    Applied,
    ConflictError,
    HeldError,
    MissingAccountError,
    apply,
)
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.guard import Brake, Tally

log = structlog.get_logger(__name__)


class AccountWorker:
    """Carries out what is left to do for accounts.

    `work` raises UnavailableError and TokenError, which say something of the homeserver as a
    whole; what is wrong with one account is recorded.
    """

    def __init__(
        self, database: Database, homeserver: Homeserver, policy: AccountPolicy, brake: Brake
    ) -> None:
        self._database = database
        self._homeserver = homeserver
        self._policy = policy
        self._brake = brake

    async def work(self, account: Account, *, delegated: bool) -> None:
        """Bring one account in line."""

        async def may_disable() -> bool:
            return await self._may_disable(account)

        try:
            done = await apply(
                self._homeserver, account, self._policy, may_disable, delegated=delegated
            )
        except HeldError:
            return
        except (TokenError, RateLimitedError):
            raise
        except UnavailableError as error:
            # Perhaps it is about this one account: others go first next time.
            await self._failed(account, error, TRANSIENT.delay(account.attempts))
            raise
        except (RefusedError, WithheldError, ConflictError, MissingAccountError) as error:
            await self._failed(account, error, PERMANENT.delay(account.attempts))
            return
        if await self._applied(account, done):
            log.info("account_applied", user_id=done.user_id, did=done.did, request=account.request)
        else:
            taken = f"{done.user_id} is linked to this user but is another user's"
            await self._failed(account, ConflictError(taken), PERMANENT.delay(3))

    async def _applied(self, account: Account, done: Applied) -> bool:
        """Record what was done; False where the account turns out to be another user's."""
        async with self._database.write() as connection:
            if done.user_id != account.user_id and not await accounts.rename(
                connection, account.user_id, done.user_id
            ):
                return False
            await accounts.applied(connection, done.user_id, account.wanted)
            if done.did is not None:
                entry = Entry(
                    done.did,
                    "done",
                    done.user_id,
                    request=account.request,
                    approved=account.approved,
                )
                await record.add(connection, entry)
        return True

    async def _failed(self, account: Account, error: Exception, delay: float) -> None:
        log.warning(
            "account_failed", user_id=account.user_id, error=str(error), request=account.request
        )
        async with self._database.write() as connection:
            if not isinstance(error, UnavailableError):
                withheld = isinstance(error, WithheldError)
                entry = Entry(
                    "account",
                    "dry_run" if withheld else "refused",
                    account.user_id,
                    request=account.request,
                    detail=str(error),
                )
                await record.add(connection, entry)
            when = time.time() + delay
            await accounts.failed(connection, account.user_id, str(error), when)

    async def _may_disable(self, account: Account) -> bool:
        """Ask the brake about one more account; where it holds, all that are waiting are held."""
        if account.approved:
            return True
        since = time.time() - self._brake.window
        async with self._database.write() as connection:
            counts = await held_work.account_counts(connection, account.user_id, since)
            if not self._brake.holds(Tally(*counts)):
                return True
            number = await held_work.hold_accounts(connection, account.user_id)
        log.error("accounts_held", accounts=number, cure="scim-matrix approve accounts, or dismiss")
        return False
