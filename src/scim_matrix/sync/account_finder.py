"""Find which account is a user's on the homeserver, and record it."""

import structlog

from scim_matrix.matrix.accounts import Accounts, Change, MatrixAccount
from scim_matrix.matrix.errors import NameTakenError, RefusedError, UnavailableError
from scim_matrix.store import accounts, binding, record, unanswered
from scim_matrix.store.accounts import LATEST, Account, Problem
from scim_matrix.store.database import Connection, Database
from scim_matrix.store.record import Entry
from scim_matrix.sync.backoff import PERMANENT, TRANSIENT
from scim_matrix.sync.identity import Bind, Conflict, Evidence, Make, still_whose, whose
from scim_matrix.sync.in_hand import InHand
from scim_matrix.sync.room_rights import OvertakenError, RoomRights
from scim_matrix.sync.unanswered import asking_of

log = structlog.get_logger(__name__)


class StoppedError(Exception):
    """Work on an account does not go on; why, and what would mend it."""

    def __init__(self, problem: Problem, reason: str, delay: float, cure: str | None = None):
        super().__init__(reason)
        self.problem: Problem = problem
        self.reason = reason
        self.delay = delay
        self.cure = cure


class AccountFinder:
    """Asks the homeserver whose account is whose, and records what it says.

    With `adopt` a user gets the account of their name where it is nobody's. In a dry run it is
    asked who has a name, since no account of it will be asked for.
    """

    def __init__(
        self,
        database: Database,
        homeserver: Accounts,
        rights: RoomRights,
        in_hand: InHand,
        *,
        adopt: bool,
        dry_run: bool,
    ) -> None:
        self._database = database
        self._accounts = homeserver
        self._rights = rights
        self._in_hand = in_hand
        self._adopt = adopt
        self._dry_run = dry_run

    async def decide(self, account: Account) -> Bind | Make:
        """Say which account a user gets. Raises StoppedError where that is a conflict."""
        if account.barred is not None:
            await self.take_off(account, account.barred)
        if account.asked is not None:
            assert account.proposed is not None
            assert account.scim_id is not None
            self._accounts.asked_before(account.proposed, account.scim_id, account.asked)
        # But where that is asked for, making the account tells whether the name is free.
        named = self._dry_run or account.problem == "conflict"
        return self._decided(account, await self._evidence(account, named=named))

    async def taken(self, account: Account, refusal: NameTakenError) -> Account:
        """Bind a user to the account that has their name, where it is theirs.

        Raises StoppedError where it is not.
        """
        # Perhaps the user has signed in just now, or an answer had been lost.
        decision = self._decided(account, await self._evidence(account, named=True))
        if isinstance(decision, Bind):
            return await self.bind(account, decision)
        raise conflicting(account, reserved(decision.user_id, refusal))

    async def _evidence(self, account: Account, *, named: bool) -> Evidence:
        """Ask whom subject and mark lead to and, if neither to anybody, who has the name."""
        subject, scim_id, name = account.profile.subject, account.scim_id, account.proposed
        assert scim_id is not None
        assert name is not None
        linked = await self._linked(account, subject)
        marked = await self._accounts.by_mark(scim_id) if linked is None else None
        looks = named and linked is None
        return Evidence(linked, marked, await self._accounts.get(name) if looks else None)

    async def _linked(self, account: Account, subject: str | None) -> str | None:
        """Return where an SSO identity leads, once it does not to an account that gives it up.

        Raises StoppedError where that account is being changed, or protected: it stays who had it.
        """
        linked = None if subject is None else await self._accounts.by_subject(subject)
        if subject is None or linked is None:
            return None
        freed = await self.free(subject, linked)
        if freed is None:
            reason = f"the user's SSO identity leads to {linked}, which is being changed"
            raise StoppedError("unavailable", reason, TRANSIENT.delay(account.attempts))
        if not freed and await accounts.gives_up(self._database.scanner, linked, subject):
            reason = f"the user's SSO identity leads to {linked}, which is protected"
            raise conflicting(account, Conflict(reason, f"take that link off {linked}"))
        return None if freed else linked

    async def search(self, account: Account) -> Account | None:
        """Find the account of a user who was disabled before it was known; None is made.

        Where one was asked for and no answer is known, there is none only once a second search,
        late enough for it to have been made, has found nothing either.
        """
        if account.barred is not None:
            try:
                await self.take_off(account, account.barred)
            except RefusedError as error:
                log.warning("stale_link_stays", user_id=account.barred, error=str(error))
        assert account.mark is not None
        if account.asked is not None:
            assert account.proposed is not None
            self._accounts.asked_before(account.proposed, account.mark, account.asked)
        found = await self._proven(account, account.mark)
        if found is not None:
            return await self.bind(account, found)
        if account.asked is not None:
            async with self._database.write() as connection:
                since = await binding.search(connection, account)
                rest = since + LATEST - connection.at
            if rest > 0:
                reason = "an account was asked for, and no answer is known"
                raise StoppedError("unavailable", reason, rest)
        async with self._database.write() as connection:
            await binding.has_none(connection, account)
        return None

    async def _proven(self, account: Account, mark: str) -> Bind | None:
        """Return which account subject or mark prove to be a user's, and nobody else's."""
        kept: RefusedError | StoppedError | None = None
        try:
            linked = await self._linked(account, account.profile.subject)
        except (RefusedError, StoppedError) as error:
            # What another account does not give up keeps nobody in.
            linked, kept = None, error
        if linked is not None and await self._may_be(account, linked):
            return Bind(linked, "link")
        marked = await self._accounts.by_mark(mark)
        if marked is not None and await self._may_be(account, marked):
            return Bind(marked, "mark")
        if isinstance(kept, RefusedError):
            # It says nothing of an account that was asked for.
            reason = f"the user's SSO identity leads to another account, which keeps it: {kept}"
            raise StoppedError("unavailable", reason, PERMANENT.delay(account.attempts)) from kept
        if kept is not None:
            raise kept
        return None

    async def _may_be(self, account: Account, found: str) -> bool:
        """Tell whether an account that is found may be a user's."""
        if found == account.barred or self._rights.is_service(found):
            return False
        return not await binding.is_taken(self._database.scanner, found)

    def _decided(self, account: Account, evidence: Evidence) -> Bind | Make:
        """Decide whose account a user gets. Raises StoppedError where that is a conflict."""
        decision = whose(account, evidence, adopt=self._adopt)
        if isinstance(decision, Bind) and self._rights.is_service(decision.user_id):
            decision = Conflict(
                f"{decision.user_id} is the service's own account",
                "take the user's link off it, or give the user another user name",
            )
        if isinstance(decision, Conflict):
            raise conflicting(account, decision)
        return decision

    async def take_off(self, account: Account, barred: str) -> None:
        """Let neither SSO nor a mark lead to an account that a human said is not the user's."""
        async with self._in_hand.of(barred):
            present = await self._accounts.get(barred)
            if present is None or self._rights.is_service(barred):
                return
            written, own = await accounts.subjects_on(self._database.scanner, barred)
            change = _taking_off(account, present, written, own)
            if change == Change():
                return
            if self._dry_run:
                await self._accounts.change(present, change)
                return
            async with asking_of(self._database, account, barred):
                await self._accounts.change(present, change)

    async def take_stale_links_off(self, account: Account, present: MatrixAccount) -> None:
        """Take SSO identities off a user's account that are not theirs, who is not active.

        What the service wrote there, by a request that was carried out late too: whoever signs in
        by it would be taken for whoever has the account. All stay where nobody says which is
        theirs. Whoever is out is so whatever comes of that: `free` does it where it must be done.
        """
        own = account.profile.subject
        stale = account.written.subjects - {own}
        if own is None or not stale & present.subjects or self._dry_run:
            return
        try:
            async with self._in_hand.of(present.user_id):
                # As it is by now: its identities are written as a whole.
                now = await self._accounts.get(present.user_id)
                if now is not None and await self._may_lose(now):
                    await self.drop(account, now, tuple(sorted(stale & now.subjects)))
        except (UnavailableError, RefusedError) as error:
            log.warning("stale_link_stays", user_id=present.user_id, error=str(error))

    async def free(self, subject: str, user_id: str) -> bool | None:
        """Take an SSO identity off another user's account that is not theirs by now.

        Only what the service wrote there, and where nobody protects the account: two users whose
        identities are exchanged do not wait for each other. Tells whether it was; None where
        something else is at work there, which may do so.
        """
        holder = await accounts.gives_up(self._database.scanner, user_id, subject)
        if holder is None:
            return False
        if not self._in_hand.is_free(user_id):
            return None
        async with self._in_hand.of(user_id):
            present = await self._accounts.get(user_id)
            if present is None or not await self._may_lose(present):
                return False
            try:
                await self.drop(holder, present, tuple(present.subjects & {subject}))
            except OvertakenError:
                return None
            return True

    async def free_elsewhere(self, subject: str | None) -> None:
        """Take a user's SSO identity off another user's account, though it goes to nobody yet.

        Nothing is done to the user's own, and they would sign in to the other.
        """
        holder = None if subject is None else await self._accounts.by_subject(subject)
        if subject is not None and holder is not None:
            await self.free(subject, holder)

    async def _may_lose(self, present: MatrixAccount) -> bool:
        users = await self._rights.protection()
        return not (present.is_admin or users.protects(present.user_id))

    async def drop(
        self, account: Account, present: MatrixAccount, subjects: tuple[str, ...]
    ) -> None:
        """Take SSO identities off a user's own account. Raises OvertakenError."""
        change = Change(drop_subjects=subjects)
        if change == Change():
            return
        if self._dry_run:
            await self._accounts.change(present, change)
            return
        async with self._database.write() as connection:
            if not await accounts.begin_dropping(connection, account):
                raise OvertakenError
        async with asking_of(self._database, account, present.user_id):
            await self._accounts.change(present, change)
        async with self._database.write() as connection:
            await accounts.end_dropping(connection, account, subjects)

    async def bind(self, account: Account, decision: Bind) -> Account:
        """Record whose account it is. Raises StoppedError where that is a conflict."""
        async with self._database.write() as connection:
            bound = await record_bound(connection, account, decision)
        log.info("account_bound", user_id=decision.user_id, by=decision.because)
        return bound

    async def verify(self, account: Account) -> None:
        """Ask once whether an account that an older version took is its user's, and record it.

        An older version wrote down an account of users stored inactive too, who never had one:
        until it is made, anybody may take the name. Raises StoppedError where it is a conflict.
        """
        assert account.user_id is not None
        present = await self._accounts.get(account.user_id)
        if present is None:
            async with self._database.write() as connection:
                await binding.never_made(connection, account)
            return
        if account.scim_id is None:
            # A deleted user's: it was locked as theirs, and goes back to the same subject only.
            decision: Bind | Conflict = Bind(account.user_id, "record")
        else:
            decision = still_whose(account, present)
        if isinstance(decision, Bind):
            await self.bind(account, decision)
            return
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
        raise conflicting(account, decision)


def _taking_off(
    account: Account, present: MatrixAccount, written: frozenset[str], own: str | None
) -> Change:
    """Return what has an account lead to a user no more, and to whoever has it by now still.

    Only what the service wrote there (since `written`, where it is nobody's), and the identity of a
    user who was told another account: another identity that leads to it is its own.
    """
    written |= account.written.subjects
    if account.bound_by == "human" and account.profile.subject is not None:
        written |= {account.profile.subject}
    return Change(
        drop_subjects=tuple(sorted((present.subjects & written) - {own})),
        drop_marks=tuple(present.marks & {account.scim_id or account.mark}),
    )


async def record_bound(connection: Connection, account: Account, decision: Bind) -> Account:
    """Record whose account it is. Raises StoppedError where that is a conflict."""
    present = await accounts.get(connection, account.id)
    if present is None or present.user_id != account.user_id:
        raise OvertakenError
    changes = await unanswered.why_not_yet(connection, account, decision.user_id)
    if changes is not None:
        raise StoppedError("unavailable", changes, TRANSIENT.delay(account.attempts))
    why_not = await binding.bind(connection, account, decision.user_id, decision.because)
    if why_not is not None:
        cure = f"scim-matrix users link {account.scim_id} to an account of their own"
        raise conflicting(account, Conflict(why_not, cure))
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


def conflicting(account: Account, conflict: Conflict) -> StoppedError:
    """Return what work on an account stops with that is somebody else's."""
    delay = PERMANENT.delay(account.attempts)
    return StoppedError("conflict", conflict.reason, delay, conflict.cure)


def reserved(user_id: str, refusal: NameTakenError) -> Conflict:
    """Return the conflict about a name that no account has and that cannot be had all the same."""
    return Conflict(
        f"{user_id} cannot be made: {refusal.message}",
        "see what has that name, in whatever letters (an application service, an account that"
        " only Synapse has), or give the user another user name or set LOCALPART_TEMPLATE",
    )
