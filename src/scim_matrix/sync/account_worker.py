"""Work on one account: find or make it, bring it in line behind the brake, record how it ended."""

from collections.abc import Mapping
from dataclasses import replace

import structlog

from scim_matrix.matrix.accounts import (
    Accounts,
    Change,
    MatrixAccount,
    NewAccount,
    takes_email,
)
from scim_matrix.matrix.errors import (
    NameTakenError,
    RefusedError,
    UnavailableError,
    WithheldError,
)
from scim_matrix.store import accounts, binding, brake, memberships, record
from scim_matrix.store.accounts import Account, Confirmation, Disablement, Problem
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.record import Entry
from scim_matrix.sync.account_changes import (
    AccountPolicy,
    Enabling,
    disabling,
    display_name,
    done_by,
    enabling,
)
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.guard import Brake, Tally
from scim_matrix.sync.identity import Bind, Conflict, Evidence, Make, still_whose, whose
from scim_matrix.sync.room_rights import RoomRights

log = structlog.get_logger(__name__)

# How long after it was asked for an account may still be made, where the answer was lost (seconds).
LATEST = 120.0


class _StoppedError(Exception):
    """Work on an account does not go on; why, and what would mend it."""

    def __init__(self, problem: Problem, reason: str, delay: float, cure: str | None = None):
        super().__init__(reason)
        self.problem: Problem = problem
        self.reason = reason
        self.delay = delay
        self.cure = cure


class _OvertakenError(Exception):
    """Somebody has said otherwise since the work was begun: that is other work."""


class AccountWorker:
    """Carries out what is left to do for accounts.

    `work` raises PostponedError and TokenError, which say something of the homeserver as a
    whole; what is wrong with one account is recorded.
    """

    def __init__(
        self,
        database: Database,
        homeserver: Accounts,
        policy: AccountPolicy,
        rights: RoomRights,
        limit: Brake,
        *,
        dry_run: bool,
    ) -> None:
        self._database = database
        self._accounts = homeserver
        self._policy = policy
        self._rights = rights
        self._brake = limit
        # Nothing is noted as under way then: no request will leave.
        self._dry_run = dry_run

    async def work(
        self, account: Account, *, delegated: bool, without_homeserver: bool = False
    ) -> None:
        """Bring one account in line.

        With `delegated` another system keeps accounts, and nobody can be asked there. Without the
        homeserver (MAS keeps accounts, Synapse is away) an account is disabled as far as MAS can.
        """
        try:
            if delegated:
                await self._take_as_it_is(account)
            elif without_homeserver:
                await self._disable_without_homeserver(account)
            else:
                await self._work(account)
        except UnavailableError as error:
            # Perhaps it is about this one account: others go first next time.
            delay = TRANSIENT.delay(account.attempts)
            await self._stopped(account, _StoppedError("unavailable", str(error), delay))
            raise
        except WithheldError as error:
            await self._withheld(account, error)
        except RefusedError as error:
            delay = PERMANENT.delay(account.attempts)
            await self._stopped(account, _StoppedError("refused", str(error), delay))
        except _StoppedError as stopped:
            await self._stopped(account, stopped)
        except _OvertakenError:
            log.info("account_overtaken", user_id=account.name, request=account.request)

    async def _work(self, account: Account) -> None:
        if account.bound_by == "migrated":
            verified = await self._verified(account)
            if verified is None or verified.todo is None:
                return
            account = verified
        if account.user_id is None:
            if account.desired == "active":
                found = await self._identified(account)
            else:
                found = await self._searched_for(account)
            if found is None:
                return
            account = found
        assert account.user_id is not None
        present = await self._accounts.get(account.user_id)
        if account.desired == "active":
            if present is None:
                await self._make_again(account, account.user_id)
            else:
                await self._enable(account, present)
        elif present is None:
            seen = Confirmation(Disablement(), accounts.Written())
            await self._confirm(account, seen, None)
        else:
            await self._disable(account, present)

    async def _disable_without_homeserver(self, account: Account) -> None:
        assert account.user_id is not None
        present = await self._accounts.get_without_homeserver(account.user_id)
        if present is not None:
            # Whether it is suspended cannot be told: what the service did is still so.
            present = replace(present, suspended=account.ours.suspended)
            await self._disable(account, present)
            return
        await self._confirm(account, Confirmation(Disablement(), accounts.Written()), None)

    # -- Whose ------------------------------------------------------------

    async def _identified(self, account: Account) -> Account | None:
        """Bind a user to the account that is theirs, or make it; None where it was made."""
        if account.barred is not None:
            await self._take_off(account, account.barred)
        if account.asked is not None:
            assert account.proposed is not None
            assert account.scim_id is not None
            self._accounts.asked_before(account.proposed, account.scim_id, account.asked)
        # But where that is asked for, making the account tells whether the name is free.
        evidence = await self._evidence(account, named=self._must_ask_for_name(account))
        decision = self._decided(account, evidence)
        if isinstance(decision, Bind):
            return await self._bound(account, decision)
        try:
            await self._make(account, decision.user_id)
        except NameTakenError as error:
            refusal = error
        else:
            return None
        # Perhaps the user has signed in just now, or an answer had been lost.
        decision = self._decided(account, await self._evidence(account, named=True))
        if isinstance(decision, Bind):
            return await self._bound(account, decision)
        raise self._conflict(account, _is_reserved(decision.user_id, refusal))

    async def _evidence(self, account: Account, *, named: bool) -> Evidence:
        """Ask whom subject and mark lead to and, if neither to anybody, who has the name."""
        subject, scim_id, name = account.profile.subject, account.scim_id, account.proposed
        assert scim_id is not None
        assert name is not None
        linked = None if subject is None else await self._accounts.by_subject(subject)
        marked = await self._accounts.by_mark(scim_id) if linked is None else None
        looks = named and linked is None and marked is None
        return Evidence(linked, marked, await self._accounts.get(name) if looks else None)

    async def _searched_for(self, account: Account) -> Account | None:
        """Find the account of a user who was disabled before it was known; None is made.

        Where one was asked for and no answer is known, there is none only once a second search,
        late enough for it to have been made, has found nothing either.
        """
        if account.barred is not None:
            await self._take_off(account, account.barred)
        assert account.mark is not None
        if account.asked is not None:
            assert account.proposed is not None
            self._accounts.asked_before(account.proposed, account.mark, account.asked)
        found = await self._proven(account, account.mark)
        if found is not None:
            return await self._bound(account, found)
        if account.asked is not None:
            async with self._database.write() as connection:
                since = await binding.search(connection, account)
                rest = since + LATEST - connection.at
            if rest > 0:
                reason = "an account was asked for, and no answer is known"
                raise _StoppedError("unavailable", reason, rest)
        async with self._database.write() as connection:
            await binding.has_none(connection, account)
        return None

    async def _proven(self, account: Account, mark: str) -> Bind | None:
        """Return which account subject or mark prove to be a user's, and nobody else's."""
        subject = account.profile.subject
        linked = None if subject is None else await self._accounts.by_subject(subject)
        found = linked or await self._accounts.by_mark(mark)
        if found is None or found == account.barred or self._rights.is_service(found):
            return None
        if await binding.is_anothers(self._database.scanner, account, found):
            return None
        return Bind(found, "mark" if linked is None else "link")

    def _must_ask_for_name(self, account: Account) -> bool:
        """Tell whether to ask who has the name before an account of it is asked for."""
        return self._dry_run or account.problem == "conflict"

    def _decided(self, account: Account, evidence: Evidence) -> Bind | Make:
        """Decide whose account a user gets. Raises _StoppedError where that is a conflict."""
        decision = whose(account, evidence, adopt=self._policy.adopt_existing)
        if isinstance(decision, Bind) and self._rights.is_service(decision.user_id):
            decision = Conflict(
                f"{decision.user_id} is the service's own account",
                "take the user's link off it, or give the user another user name",
            )
        if isinstance(decision, Conflict):
            raise self._conflict(account, decision)
        return decision

    async def _take_off(self, account: Account, barred: str) -> None:
        """Let neither SSO nor a mark lead to an account that a human said is not the user's."""
        present = await self._accounts.get(barred)
        if present is None or self._rights.is_service(barred):
            return
        # Only what the service wrote there, and the identity of a user who was told another
        # account: another identity that leads to it is its own.
        written = account.written.subjects
        if account.bound_by == "human" and account.profile.subject is not None:
            written |= {account.profile.subject}
        change = Change(
            drop_subjects=tuple(sorted(present.subjects & written)),
            drop_marks=tuple(present.marks & {account.scim_id or ""}),
        )
        if change != Change():
            await self._accounts.change(present, change)

    async def _bound(self, account: Account, decision: Bind) -> Account:
        async with self._database.write() as connection:
            bound = await self._bind(connection, account, decision)
        log.info("account_bound", user_id=decision.user_id, by=decision.because)
        return bound

    async def _bind(self, connection: Connection, account: Account, decision: Bind) -> Account:
        """Record whose account it is. Raises _StoppedError where that is a conflict."""
        present = await accounts.get(connection, account.id)
        if present is None or present.user_id != account.user_id:
            raise _OvertakenError
        why_not = await binding.bind(connection, account, decision.user_id, decision.because)
        if why_not is not None:
            cure = f"scim-matrix users link {account.scim_id} to an account of their own"
            raise self._conflict(account, Conflict(why_not, cure))
        # What was made is recorded as that.
        if decision.because != "made":
            entry = Entry(
                "bind",
                "done",
                decision.user_id,
                request=account.request,
                detail=f"found by {decision.because}",
            )
            await record.add(connection, entry)
        bound = await accounts.get(connection, account.id)
        assert bound is not None
        return bound

    async def _verified(self, account: Account) -> Account | None:
        """Ask once whether an account that an older version took is its user's.

        None where there is nothing left of it. An older version wrote down an account of users
        stored inactive too, who never had one: until it is made, anybody may take the name.
        """
        assert account.user_id is not None
        present = await self._accounts.get(account.user_id)
        if present is None:
            async with self._database.write() as connection:
                return await binding.never_made(connection, account)
        if account.scim_id is None:
            # A deleted user's: it was locked as theirs, and goes back to the same subject only.
            decision: Bind | Conflict = Bind(account.user_id, "record")
        else:
            decision = still_whose(account, present)
        if isinstance(decision, Bind):
            return await self._bound(account, decision)
        async with self._database.write() as connection:
            next_try = connection.at + PERMANENT.delay(account.attempts)
            await binding.unbind(
                connection,
                account,
                account.user_id,
                decision.reason,
                decision.cure,
                next_try,
                barred=account.user_id,
            )
        raise self._conflict(account, decision)

    def _conflict(self, account: Account, conflict: Conflict) -> _StoppedError:
        delay = PERMANENT.delay(account.attempts)
        return _StoppedError("conflict", conflict.reason, delay, conflict.cure)

    async def _take_as_it_is(self, account: Account) -> None:
        """Take an account of this name as the user's where another system keeps accounts."""
        user_id = account.user_id or account.proposed
        assert user_id is not None
        if await self._accounts.get(user_id) is None:
            if account.desired != "active" and account.user_id is None:
                async with self._database.write() as connection:
                    await binding.has_none(connection, account)
                return
            reason = f"{user_id} does not exist and cannot be created here"
            raise _StoppedError("refused", reason, PERMANENT.delay(account.attempts))
        if account.user_id is None or account.bound_by == "migrated":
            account = await self._bound(account, Bind(user_id, "record"))
            if account.todo is None:
                return
        await self._confirm(
            account,
            Confirmation(Disablement(), account.written, usable=account.desired == "active"),
            None,
        )

    # -- Making and changing ----------------------------------------------

    async def _make_again(self, account: Account, user_id: str) -> None:
        """Make an account that was there and is gone."""
        try:
            await self._make(account, user_id)
        except NameTakenError as error:
            raise self._conflict(account, _is_reserved(user_id, error)) from error

    async def _make(self, account: Account, user_id: str) -> None:
        """Make an account. Raises NameTakenError where somebody has the name."""
        left_out = await self._left_out(account, user_id, ())
        emails = tuple(e for e in account.profile.emails if e not in left_out)
        assert account.scim_id is not None
        new = NewAccount(
            user_id,
            account.scim_id,
            account.profile.subject,
            display_name(account.profile.display_name),
            emails,
        )
        since = await self._accounts.about_to_make(user_id, account.scim_id)
        if not self._dry_run:
            async with self._database.write() as connection:
                if not await binding.ask(connection, account, since):
                    raise _OvertakenError
        left_out |= await self._accounts.create(new)
        emails = tuple(e for e in emails if e not in left_out)
        written = accounts.Written(
            frozenset(emails), frozenset({new.subject} if new.subject is not None else ())
        )
        seen = Confirmation(Disablement(), written, usable=True, notice=_notice(account, left_out))
        # One transaction, and so one commit: an import makes thousands of accounts.
        async with self._database.write() as connection:
            if account.user_id is None:
                account = await self._bind(connection, account, Bind(user_id, "made"))
            await _record_confirmed(connection, account, seen, "create")
        _tell_applied(account, "create")

    async def _left_out(
        self, account: Account, user_id: str, has: tuple[str, ...]
    ) -> dict[str, str]:
        """Return which e-mails are not written, and why: other people's, or none at all."""
        left_out: dict[str, str] = {}
        for address in account.profile.emails:
            if address in has:
                continue
            if not takes_email(address):
                left_out[address] = "is no address that the homeserver takes"
            elif (owner := await self._accounts.by_email(address)) not in (None, user_id):
                left_out[address] = f"belongs to {owner}"
        return left_out

    async def _enable(self, account: Account, present: MatrixAccount) -> None:
        if account.bound_by == "human" and account.barred is not None:
            await self._take_off(account, account.barred)
        left_out = await self._left_out(account, present.user_id, present.emails)
        needed = enabling(present, account, left_out)
        written = needed.written
        if needed.is_needed and not await self._spared(account, present):
            account = await self._free_subject(account, present, needed)
            refused = await self._change(account, present, needed.change)
            left_out |= refused
            written = replace(written, emails=written.emails - refused.keys())
            did: record.Kind | None = "update"
        elif needed.is_needed:
            return
        else:
            did = None
        seen = Confirmation(
            needed.ours,
            written,
            needed.by_hand,
            usable=needed.by_hand != "deactivated",
            notice=_notice(account, left_out),
        )
        await self._confirm(account, seen, did)

    async def _free_subject(
        self, account: Account, present: MatrixAccount, needed: Enabling
    ) -> Account:
        """Take stale links off first where the new one still leads to another account.

        So two users whose subjects are swapped do not wait for each other. An account that
        somebody else's identity leads to by now, and the user's no more, is not linked again.
        """
        subject = needed.change.add_subject
        if subject is None:
            return account
        written, user_id = account.written.subjects, present.user_id
        if (
            written
            and present.subjects
            and not written & present.subjects
            and account.bound_by != "human"
        ):
            raise _StoppedError(
                "refused",
                f"another SSO identity than the user's leads to {user_id} by now",
                PERMANENT.delay(account.attempts),
                f"if it is theirs: scim-matrix users link {account.scim_id} {user_id}",
            )
        holder = await self._accounts.by_subject(subject)
        if holder is None or holder == present.user_id:
            return account
        if needed.change.drop_subjects:
            stale = Change(drop_subjects=needed.change.drop_subjects)
            await self._change(account, present, stale)
        raise _StoppedError(
            "refused",
            f"the user's SSO identity leads to {holder}",
            TRANSIENT.delay(account.attempts),
            f"take that link off {holder}, or: scim-matrix users link {account.scim_id} {holder}",
        )

    async def _disable(self, account: Account, present: MatrixAccount) -> None:
        how = self._policy.how(account.desired)
        change = disabling(present, how, locks=account.desired == "expired")
        if change is None:
            # Perhaps by a request whose answer was lost: then the brake counts it from now on.
            ours = done_by(Change(), account.ours, present)
            await self._confirm(account, Confirmation(ours, account.written), account.doing)
            return
        if await self._spared(account, present) or not await self._may_disable(account):
            return
        assert how != "nothing"
        await self._change(account, present, change, how)
        ours = done_by(change, account.ours, present)
        await self._confirm(account, Confirmation(ours, account.written), how)

    async def _change(
        self,
        account: Account,
        present: MatrixAccount,
        change: Change,
        doing: record.Kind | None = None,
    ) -> Mapping[str, str]:
        """Send a change; until its answer arrives, the account's state is not known.

        Returns the e-mails that were refused, and why.
        """
        if not self._dry_run:
            async with self._database.write() as connection:
                does = done_by(change, account.ours, present)
                if not await accounts.begin(connection, account, does, doing):
                    raise _OvertakenError
        return await self._accounts.change(present, change)

    async def _spared(self, account: Account, present: MatrixAccount) -> bool:
        """Tell whether somebody is left alone who should not be, and record that once."""
        users = await self._rights.protection()
        reason = users.protection(present.user_id)
        if reason is None and present.is_admin:
            reason = f"{present.user_id} administers the homeserver"
        if reason is None:
            return False
        async with self._database.write() as connection:
            next_try = connection.at + PERMANENT.delay(account.attempts)
            await accounts.fail(connection, account.id, "spared", reason, next_try)
            if account.desired == "active":
                await accounts.use(connection, account.id)
            if account.problem != "spared":
                await record.add(
                    connection,
                    Entry(
                        "update" if account.desired == "active" else "disable",
                        "spared",
                        present.user_id,
                        request=account.request,
                        detail=reason,
                    ),
                )
        log.warning("account_spared", user_id=present.user_id, reason=reason)
        return True

    async def _may_disable(self, account: Account) -> bool:
        """Ask the brake about one more account; where it holds, all that are waiting are held."""
        if self._dry_run:
            return True
        users = await self._rights.protection() if account.problem == "spared" else None
        async with self._database.write() as connection:
            if users is not None:
                # All whom nothing protects any more are counted together.
                spared = await accounts.spared(connection)
                freed = [one for one, who in spared.items() if users.protection(who) is None]
                await accounts.end_sparing(connection, freed)
            if await brake.hold_restored(connection, account.id):
                number = 1
            elif account.approved_by is not None:
                return True
            else:
                since = connection.at - self._brake.window
                counts = await brake.account_tally(connection, account.id, since)
                if not self._brake.holds(Tally(*counts)):
                    return True
                number = await brake.hold_accounts(connection, account.id)
        log.error("accounts_held", accounts=number, cure="scim-matrix approve accounts, or dismiss")
        return False

    # -- Outcomes ---------------------------------------------------------

    async def _confirm(self, account: Account, seen: Confirmation, did: record.Kind | None) -> None:
        async with self._database.write() as connection:
            await _record_confirmed(connection, account, seen, did)
        _tell_applied(account, did)

    async def _stopped(self, account: Account, stopped: _StoppedError) -> None:
        log.warning(
            "account_conflict" if stopped.problem == "conflict" else "account_failed",
            user_id=account.name,
            error=stopped.reason,
            request=account.request,
        )
        async with self._database.write() as connection:
            if stopped.problem != "unavailable" and stopped.reason != account.reason:
                entry = Entry(
                    "account",
                    "refused",
                    account.name,
                    request=account.request,
                    detail=stopped.reason,
                )
                await record.add(connection, entry)
            when = connection.at + stopped.delay
            await accounts.fail(
                connection, account.id, stopped.problem, stopped.reason, when, stopped.cure
            )

    async def _withheld(self, account: Account, error: WithheldError) -> None:
        """Record what would have been done, and the joins of an account that would be made."""
        log.warning("account_withheld", user_id=account.name, would=str(error))
        async with self._database.write() as connection:
            entry = Entry(
                "account", "dry_run", account.name, request=account.request, detail=str(error)
            )
            entries = [entry]
            if account.user_id is None:
                entries += [
                    Entry(
                        "join" if todo == "join" else "invite",
                        "dry_run",
                        account.name,
                        room_id,
                        group,
                        request,
                    )
                    for room_id, todo, group, request in await memberships.joins_of(
                        connection, account.id
                    )
                ]
            await record.add(connection, *entries)
            when = connection.at + PERMANENT.delay(account.attempts)
            await accounts.fail(connection, account.id, "withheld", str(error), when)


async def _record_confirmed(
    connection: Connection, account: Account, seen: Confirmation, did: record.Kind | None
) -> None:
    await accounts.confirm(connection, account, seen)
    if did is not None:
        entry = Entry(
            did,
            "done",
            account.user_id,
            request=account.request,
            approved=account.approved_by is not None,
            detail=seen.notice,
            by=account.approved_by,
        )
        await record.add(connection, entry)


def _tell_applied(account: Account, did: record.Kind | None) -> None:
    log.info("account_applied", user_id=account.user_id, did=did, request=account.request)


def _is_reserved(user_id: str, refusal: NameTakenError) -> Conflict:
    """Return the conflict about a name that no account has and that cannot be had all the same."""
    return Conflict(
        f"{user_id} cannot be made: {refusal.message}",
        "see what has that name, in whatever letters (an application service, an account that"
        " only Synapse has), or give the user another user name or set LOCALPART_TEMPLATE",
    )


def _notice(account: Account, left_out: dict[str, str]) -> str | None:
    """Return what was left out of a profile, as a sentence."""
    said = [f"{address} {why}" for address, why in left_out.items()]
    name = account.profile.display_name
    if name is not None and name.strip() != display_name(name):
        said.append("the display name is cut to what the homeserver takes")
    return "left out: " + "; ".join(said) if said else None
