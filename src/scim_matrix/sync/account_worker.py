"""Work on one account: bring it in line behind the brake and record how it ended."""

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
from scim_matrix.store import accounts, binding, brake, memberships, record, unanswered
from scim_matrix.store.accounts import Account, Confirmation, Disablement, Disabling
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
from scim_matrix.sync.account_finder import (
    AccountFinder,
    StoppedError,
    conflicting,
    record_bound,
    reserved,
)
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.guard import Brake, Tally
from scim_matrix.sync.identity import Bind
from scim_matrix.sync.in_hand import InHand
from scim_matrix.sync.room_rights import OvertakenError, RoomRights
from scim_matrix.sync.unanswered import asking, is_let_through, still, unless_late

log = structlog.get_logger(__name__)

# How often it is looked soon whether an account has given up an SSO subject that is to be another
# one's: a minute and a half. What is left then, something else keeps there.
_SOON = 10


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
        self._in_hand = InHand()
        self._finder = AccountFinder(
            database,
            homeserver,
            rights,
            self._in_hand,
            adopt=policy.adopt_existing,
            dry_run=dry_run,
        )

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
            await self._stopped(account, StoppedError("unavailable", str(error), delay))
            raise
        except WithheldError as error:
            await self._withheld(account, error)
        except RefusedError as error:
            delay = PERMANENT.delay(account.attempts)
            await self._stopped(account, StoppedError("refused", str(error), delay))
        except StoppedError as stopped:
            await self._stopped(account, stopped)
        except OvertakenError:
            log.info("account_overtaken", user_id=account.name, request=account.request)

    async def _work(self, account: Account) -> None:
        if account.bound_by == "migrated":
            # What is left to be done then is work like any other.
            await self._finder.verify(account)
            return
        if account.user_id is None:
            if account.desired == "active":
                found = await self._identified(account)
            else:
                found = await self._finder.search(account)
            if found is None:
                return
            account = found
        assert account.user_id is not None
        if account.desired != "active":
            # Who is to be out waits for nobody.
            with self._in_hand.without_waiting(account.user_id):
                await self._bring_in_line(account, account.user_id)
            return
        if account.bound_by == "human" and account.barred is not None:
            await self._finder.take_off(account, account.barred)
        async with self._in_hand.of(account.user_id):
            await self._bring_in_line(account, account.user_id)

    async def _bring_in_line(self, account: Account, user_id: str) -> None:
        until = await self._until(user_id)
        present = await self._accounts.get(user_id)
        if account.desired == "active":
            if present is None:
                await self._make_again(account, user_id)
            else:
                await self._enable(account, present, until)
        elif present is None:
            await self._is_gone(account, until)
        else:
            await self._disable(account, present, until)

    async def _until(self, user_id: str) -> float | None:
        """Return until when what had no answer may be carried out on an account (see `still`).

        Asked before it is looked at, since what is seen may be otherwise a moment later, and once
        it is in hand: what was done to it by then may be known to nobody who has waited.
        """
        until = await unanswered.until(self._database.scanner, user_id)
        return still(until, self._database.clock.now())

    async def _is_gone(self, account: Account, until: float | None) -> None:
        """Record that an account that is to be disabled is not there."""
        seen = Confirmation(Disablement(), accounts.Written())
        await self._confirm(account, unless_late(account, seen, until), None)

    async def _disable_without_homeserver(self, account: Account) -> None:
        assert account.user_id is not None
        until = await self._until(account.user_id)
        present = await self._accounts.get_without_homeserver(account.user_id)
        if present is None:
            await self._is_gone(account, until)
            return
        # Whether it is suspended cannot be told: what the service did is still so.
        present = replace(present, suspended=account.ours.suspended)
        await self._disable(account, present, until)

    async def _identified(self, account: Account) -> Account | None:
        """Bind a user to the account that is theirs, or make it; None where it was made."""
        decision = await self._finder.decide(account)
        if isinstance(decision, Bind):
            return await self._finder.bind(account, decision)
        try:
            async with self._in_hand.of(decision.user_id):
                await self._make(account, decision.user_id)
        except NameTakenError as error:
            return await self._finder.taken(account, error)
        return None

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
            raise StoppedError("refused", reason, PERMANENT.delay(account.attempts))
        if account.user_id is None or account.bound_by == "migrated":
            account = await self._finder.bind(account, Bind(user_id, "record"))
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
            raise conflicting(account, reserved(user_id, error)) from error

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
        until = still(account.unsure_until, self._database.clock.now())
        if not self._dry_run:
            async with self._database.write() as connection:
                changes = await unanswered.why_not_yet(connection, account, user_id)
                if changes is not None:
                    raise StoppedError("unavailable", changes, TRANSIENT.delay(account.attempts))
                if not await binding.ask(connection, account, since):
                    raise OvertakenError
        async with asking(self._database, account, until):
            left_out |= await self._accounts.create(new)
        emails = tuple(e for e in emails if e not in left_out)
        written = accounts.Written(
            frozenset(emails), frozenset({new.subject} if new.subject is not None else ())
        )
        seen = Confirmation(Disablement(), written, usable=True, notice=_notice(account, left_out))
        # One transaction, and so one commit: an import makes thousands of accounts.
        async with self._database.write() as connection:
            if account.user_id is None:
                bound = await record_bound(connection, account, Bind(user_id, "made"))
                # As it was made: what has been said meanwhile is still to be done.
                account = replace(bound, desired=account.desired, profile=account.profile)
            await _record_confirmed(
                connection, account, unless_late(account, seen, until), "create"
            )
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

    async def _enable(self, account: Account, present: MatrixAccount, until: float | None) -> None:
        brings_back = _brings_back(account, present)
        if until is None:
            account = await self._as_it_is(account, present)
        left_out = await self._left_out(account, present.user_id, present.emails)
        needed = enabling(present, account, left_out)
        written = needed.written
        if needed.is_needed and not await self._spared(account, present):
            await self._free_subject(account, present, needed)
            refused = await self._change(account, present, needed.change, until)
            left_out |= refused
            written = replace(written, emails=written.emails - refused.keys())
            came_to_nothing = needed.change == Change(add_emails=tuple(refused))
            did: record.Kind | None = None if came_to_nothing else "update"
        elif needed.is_needed:
            await self._finder.free_elsewhere(account.profile.subject)
            return
        else:
            did = None
            if needed.by_hand == "deactivated":
                await self._finder.free_elsewhere(account.profile.subject)
        seen = Confirmation(
            needed.ours,
            written,
            needed.by_hand,
            usable=needed.by_hand != "deactivated",
            notice=_notice(account, left_out),
            brings_back=brings_back,
        )
        await self._confirm(account, unless_late(account, seen, until), did)

    async def _as_it_is(self, account: Account, present: MatrixAccount) -> Account:
        """Record what of that which was to disable an account was done, and return it so.

        From then on what is done to it is by hand.
        """
        ours = done_by(Change(), account.ours, present)
        if ours == account.ours:
            return account
        async with self._database.write() as connection:
            await accounts.not_done(connection, account, ours)
        return replace(account, ours=ours)

    async def _free_subject(
        self, account: Account, present: MatrixAccount, needed: Enabling
    ) -> None:
        """Take stale links off first where the new one still leads to another account.

        So two users whose subjects are swapped do not wait for each other. An account that
        somebody else's identity leads to by now, and the user's no more, is not linked again.
        """
        subject = needed.change.add_subject
        if subject is None:
            return
        written, user_id = account.written.subjects, present.user_id
        if (
            written
            and present.subjects
            and not written & present.subjects
            and account.bound_by != "human"
        ):
            raise StoppedError(
                "refused",
                f"another SSO identity than the user's leads to {user_id} by now",
                PERMANENT.delay(account.attempts),
                f"if it is theirs: scim-matrix users link {account.scim_id} {user_id}",
            )
        holder = await self._accounts.by_subject(subject)
        if holder is None or holder == present.user_id:
            return
        freed = await self._finder.free(subject, holder)
        if freed:
            return
        if needed.change.drop_subjects:
            await self._finder.drop(account, present, needed.change.drop_subjects)
        # What is being changed is free soon, if at all.
        is_soon = freed is None and account.attempts < _SOON
        raise StoppedError(
            "refused",
            f"the user's SSO identity leads to {holder}",
            (TRANSIENT if is_soon else PERMANENT).delay(account.attempts),
            f"take that link off {holder}, or: scim-matrix users link {account.scim_id} {holder}",
        )

    async def _disable(self, account: Account, present: MatrixAccount, until: float | None) -> None:
        how = self._policy.how(account.desired)
        change = disabling(present, how, locks=account.desired == "expired")
        if change is None:
            # Perhaps by a request whose answer was lost: then the brake counts it from now on.
            seen = Confirmation(done_by(Change(), account.ours, present), account.written)
            let_through = None if how == "nothing" else how
            seen = unless_late(account, seen, until, let_through)
            await self._confirm(account, seen, account.doing)
        elif await self._spared(account, present):
            return
        elif how != "nothing" and await self._may_disable(account, how):
            await self._change(account, present, change, until, how)
            seen = Confirmation(done_by(change, account.ours, present), account.written)
            await self._confirm(account, unless_late(account, seen, until, how), how)
        await self._finder.take_stale_links_off(account, present)

    async def _change(
        self,
        account: Account,
        present: MatrixAccount,
        change: Change,
        until: float | None,
        doing: Disabling | None = None,
    ) -> Mapping[str, str]:
        """Send a change; until its answer arrives, the account's state is not known.

        `until`: what was sent before may be carried out until then. Returns the e-mails that were
        refused, and why.
        """
        if self._dry_run:
            return await self._accounts.change(present, change)
        does = done_by(change, account.ours, present)
        if until is not None:
            does |= account.ours
        async with self._database.write() as connection:
            if not await accounts.begin(connection, account, does, doing):
                raise OvertakenError
        async with asking(self._database, account, until):
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
            if not await accounts.fail(connection, account, "spared", reason, next_try):
                raise OvertakenError
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

    async def _may_disable(self, account: Account, how: Disabling) -> bool:
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
            number = await brake.hold_restored(connection, account.id)
            if not number:
                if account.approved_by is not None or is_let_through(account, how):
                    return True
                since = connection.at - self._brake.window
                counts = await brake.account_tally(connection, account.id, since)
                if not self._brake.holds(Tally(*counts)):
                    return True
                number = await brake.hold_accounts(connection, account.id)
        cure = "scim-matrix approve accounts, or to keep them: scim-matrix dismiss accounts"
        log.error("accounts_held", accounts=number, cure=cure)
        return False

    # -- Outcomes ---------------------------------------------------------

    async def _confirm(self, account: Account, seen: Confirmation, did: record.Kind | None) -> None:
        async with self._database.write() as connection:
            await _record_confirmed(connection, account, seen, did)
        _tell_applied(account, did)

    async def _stopped(self, account: Account, stopped: StoppedError) -> None:
        log.warning(
            "account_conflict" if stopped.problem == "conflict" else "account_failed",
            user_id=account.name,
            error=stopped.reason,
            request=account.request,
        )
        async with self._database.write() as connection:
            when = connection.at + stopped.delay
            is_current = await accounts.fail(
                connection, account, stopped.problem, stopped.reason, when, stopped.cure
            )
            if not is_current:
                return
            if stopped.problem != "unavailable" and stopped.reason != account.reason:
                entry = Entry(
                    "account",
                    "refused",
                    account.name,
                    request=account.request,
                    detail=stopped.reason,
                )
                await record.add(connection, entry)

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
            when = connection.at + PERMANENT.delay(account.attempts)
            if await accounts.fail(connection, account, "withheld", str(error), when):
                await record.add(connection, *entries)


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


def _brings_back(account: Account, present: MatrixAccount) -> bool:
    """Tell whether an active account had been deactivated by the service until now."""
    # Where an answer was lost it may not have been.
    in_doubt = account.doing is not None or account.unsure_until is not None
    return account.ours.deactivated and (present.deactivated or not in_doubt)


def _tell_applied(account: Account, did: record.Kind | None) -> None:
    log.info("account_applied", user_id=account.user_id, did=did, request=account.request)


def _notice(account: Account, left_out: dict[str, str]) -> str | None:
    """Return what was left out of a profile, as a sentence."""
    said = [f"{address} {why}" for address, why in left_out.items()]
    name = account.profile.display_name
    if name is not None and name.strip() != display_name(name):
        said.append("the display name is cut to what the homeserver takes")
    return "left out: " + "; ".join(said) if said else None
