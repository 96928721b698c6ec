"""The promises, checked against the reference model: after each deed, and whenever all is quiet."""

from collections.abc import Iterable
from dataclasses import dataclass

from scim_matrix.matrix.accounts import MARK_PROVIDER
from scim_matrix.store import views
from tests.homeserver.deployment import IDP, Deployment
from tests.homeserver.rooms import CREATE, LEVELS
from tests.homeserver.world import Deed
from tests.service.reference import Known, Line, Pair, Reference, Standing, promise

# What is done to whom by which policy.
_DOES = {
    "locked": ("lock",),
    "suspended": ("suspend",),
    "deactivated": ("deactivate", "erase"),
}
GIVES = {"join": ("join",), "invite": ("join", "invite")}


@dataclass(frozen=True)
class Shown:
    """What a human is shown: states by room and account, by room, and by account."""

    rows: frozenset[tuple[str, str | None, str | None]]

    @classmethod
    async def of(cls, deployment: Deployment) -> "Shown":
        """Read it."""
        rows = await views.left_to_do(deployment.database.reader, 10_000)
        return cls(frozenset((row["state"], row["room"], row["user"]) for row in rows))

    def tells(self, states: Iterable[str], room_id: str | None, user_id: str | None) -> bool:
        """Tell whether a row of one of some states says this."""
        return any((state, room_id, user_id) in self.rows for state in states)


# -- After deeds ---------------------------------------------------------------


class Safety:
    """Whether what the service did, while it settled once, was its to do."""

    def __init__(
        self,
        reference: Reference,
        before: dict[Pair, Standing],
        known: Known,
        now: float,
        passed: float,
    ) -> None:
        self.reference = reference
        self.before = before
        self.known = known
        self.now = now
        self.passed = passed
        self.granted = reference.granted(known)

    def check(self, deed: Deed) -> None:
        """Check one deed."""
        match deed.what:
            case "join" | "invite":
                self._brought(deed)
            case "kick":
                self._kicked(deed)
            case "levels":
                self._levelled(deed)
            case "account":
                self._changed(deed)
            case _:
                promise(False, f"nobody asked for {deed}")

    def _person(self, user_id: str) -> str | None:
        return self.reference.whose(user_id, self.known)

    def _explained(self, room_id: str) -> None:
        reference = self.reference
        rooms = set().union(*reference.explained.values(), *reference.below.values())
        promise(room_id in rooms, f"nothing explains a request in {room_id}")

    def _states(self, where: Pair) -> set[str]:
        pairs = (self.before.get(where), self.reference.pairs.get(where))
        return {standing.state for standing in pairs if standing is not None}

    def _brought(self, deed: Deed) -> None:
        assert deed.room_id is not None
        assert deed.user_id is not None
        self._explained(deed.room_id)
        person = self._person(deed.user_id)
        promise(
            person is not None and deed.user_id in self.reference.may_have.get(person, ()),
            f"{deed.user_id} was brought into {deed.room_id} as {person}'s, whose it is not",
        )
        assert person is not None
        where = deed.room_id, person
        promise("granted" in self._states(where), f"{deed} though {where} is not granted")
        promise(where not in self.reference.left_surely, f"{deed} though they left by choice")

    def _kicked(self, deed: Deed) -> None:
        reference = self.reference
        assert deed.user_id is not None
        room_id, user_id = deed.room_id, deed.user_id
        assert room_id is not None
        self._explained(room_id)
        promise(not reference.is_protected(user_id), f"{deed} though they are protected")
        person = self._person(user_id)
        where = room_id, person or user_id
        states = self._states(where)
        may = bool(states & {"revoked", "pruned"})
        present = reference.pairs.get(where)
        if not may and (present is None or present.state not in ("dismissed", "granted")):
            may = is_exclusive(reference, self.known, room_id, user_id)
        promise(may, f"{deed} though {where} is {states or 'not managed'}")
        if person is not None and states & {"revoked", "pruned"}:
            theirs = reference.may_have.get(person, set())
            promise(user_id in theirs, f"{deed} as {person}'s, whose it is not")
            standing = reference.pairs[where]
            promise(not standing.stale, f"{deed} though only a backup says so")
        self._brake(room_id, user_id)

    def _brake(self, room_id: str | None, user_id: str) -> None:
        """Count what nobody approved: so few people are here that the percentage is exceeded."""
        reference = self.reference
        if (room_id, user_id) in reference.approved:
            reference.approved.discard((room_id, user_id))
            return
        brake = reference.configuration.brake
        removed = reference.removed.setdefault(room_id, [])
        removed.append((self.now, user_id))
        recent = {user for at, user in removed if at > self.now - brake.window}
        if brake.percent < 100:
            promise(
                len(recent) <= brake.count,
                f"{sorted(recent)} were removed of {room_id} within the window, past the brake",
            )

    def _levelled(self, deed: Deed) -> None:
        reference = self.reference
        room_id = deed.room_id
        assert room_id is not None
        self._explained(room_id)
        for user_id in deed.before.keys() | deed.after.keys():
            before, after = deed.before.get(user_id), deed.after.get(user_id)
            if before == after or user_id == reference.world.service:
                continue
            if (room_id, user_id) in reference.level_unsure:
                continue
            person = self._person(user_id)
            where = room_id, person or user_id
            if (after or 0) > (before or 0):
                # A line that is followed only later may grant more than was known by then.
                powers = {line.mapping.power for line in self.granted.get(where, [])}
                ours = reference.own_level.get((room_id, user_id), -1)
                promise(
                    after in powers or after == ours,
                    f"{deed}: {user_id} was given {after}, and is granted {powers}",
                )
                promise(
                    person is not None and user_id in reference.may_have.get(person, ()),
                    f"{user_id} got power as {person}'s, whose it is not",
                )
                reference.own_level.setdefault((room_id, user_id), before)
            else:
                promise(
                    (room_id, user_id) in reference.own_level,
                    f"{deed}: {user_id} was demoted, and the service had given them nothing",
                )
                promise(not reference.is_protected(user_id), f"{deed}: {user_id} is protected")
                own = reference.own_level[room_id, user_id]
                # Nor is it known at once what a line grants that is spelled otherwise.
                powers = {line.mapping.power for line in self.granted.get(where, [])}
                promise(
                    after == own or (after is not None and after in powers),
                    f"{deed}: {user_id} had {own} of their own",
                )
                if after == own:
                    del reference.own_level[room_id, user_id]

    # -- Accounts -----------------------------------------------------------

    def _changed(self, deed: Deed) -> None:
        reference, user_id = self.reference, deed.user_id
        assert user_id is not None
        person = self._person(user_id) or self._marked(deed)
        if person is None and user_id in reference.replaced:
            self._parted(deed, user_id)
            return
        promise(person is not None, f"{deed}: an account that is nobody's was changed")
        assert person is not None
        user = reference.user(person)
        if deed.before is None:
            promise(user is not None and user.active, f"{deed}: made for nobody who is active")
            reference.may_have.setdefault(person, set()).add(user_id)
        promise(
            user_id in reference.may_have.get(person, ()),
            f"{deed}: changed as {person}'s, whose it is not",
        )
        before = deed.before or {}
        for what in ("locked", "suspended", "deactivated"):
            if before.get(what, False) == deed.after[what] or user_id in reference.unsure:
                continue
            hands = reference.by_hand.setdefault(user_id, set())
            service = reference.by_service.setdefault(user_id, set())
            if deed.after[what]:
                self._disabled(deed, person, what)
                service.add(what)
            else:
                promise(
                    user is not None and user.active, f"{deed}: enabled for nobody who is active"
                )
                promise(what in service, f"{deed}: it was not the service that did that")
                promise(what not in hands, f"{deed}: a hand did that")
                service.discard(what)
        if before and before.get("displayname") != deed.after["displayname"]:
            promise(not reference.is_protected(user_id), f"{deed}: protected, and renamed")
        self._linked(deed, person)

    def _parted(self, deed: Deed, user_id: str) -> None:
        """Check what was done to an account that a human replaced by another."""
        for what in ("locked", "suspended", "deactivated"):
            if deed.before[what] != deed.after[what]:
                is_lock = what == "locked" and deed.after[what]
                promise(is_lock and self.reference.replaced[user_id], f"{deed}: it was replaced")
                promise(not self.reference.is_protected(user_id), f"{deed}: {user_id} is protected")
                self.reference.by_service.setdefault(user_id, set()).add(what)
                self._brake(None, user_id)
        links = deed.before["external_ids"]
        promise(all(x in links for x in deed.after["external_ids"]), f"{deed}: it was linked")

    def _marked(self, deed: Deed) -> str | None:
        """Return whom an account was made for, where the service never heard that it was."""
        marks = [
            x["external_id"]
            for x in deed.after["external_ids"]
            if x["auth_provider"] == MARK_PROVIDER
        ]
        return self.reference.persons.get(marks[0]) if marks and deed.before is None else None

    def _disabled(self, deed: Deed, person: str, what: str) -> None:
        reference, user_id = self.reference, deed.user_id
        assert user_id is not None
        user = reference.user(person)
        promise(user is None or not user.active, f"{deed}: {person} is active")
        promise(not reference.is_protected(user_id), f"{deed}: {user_id} is protected")
        promise(person not in reference.dismissed_accounts, f"{deed}: a human let it be")
        promise(person not in reference.stale_accounts, f"{deed}: only a backup says so")
        is_over = user is None and self.passed >= reference.former[person]
        configuration, does = reference.configuration, _DOES[what]
        promise(
            (user is not None and configuration.on_disable in does)
            or (is_over and configuration.on_delete in does)
            or (user is None and what == "locked"),
            f"{deed}: that is not what is done to those",
        )
        self._brake(None, user_id)

    def _linked(self, deed: Deed, person: str) -> None:
        def of(shown: object) -> set[str]:
            links = shown["external_ids"] if isinstance(shown, dict) else []
            return {x["external_id"] for x in links if x["auth_provider"] == IDP}

        added = of(deed.after) - of(deed.before)
        promise(added <= {person}, f"{deed}: {added} was linked to {person}'s account")


def is_exclusive(reference: Reference, known: Known, room_id: str, user_id: str) -> bool:
    """Tell whether somebody whom nobody grants a room is to leave it for that."""
    room = reference.world.rooms.get(room_id)
    for line in reference.in_force(known):
        if line.mapping.exclusive and room_id in known.opened(line):
            for leaders in reference.leaders(line, room_id, known):
                if user_id not in leaders and reference.could_remove(leaders, room, user_id):
                    return True
    return False


def power(lines: Iterable[Line]) -> int | None:
    """Return the power level that lines grant together."""
    levels = [line.mapping.power for line in lines if line.mapping.power is not None]
    return max(levels, default=None)


# -- When all is quiet ---------------------------------------------------------


class Liveness:
    """Whether everything is as it should be, or shown."""

    def __init__(self, reference: Reference, known: Known, shown: Shown) -> None:
        self.reference = reference
        self.world = reference.world
        self.known = known
        self.shown = shown
        self.granted = reference.granted(known)

    def check(self) -> None:
        """Check everything."""
        self._steps()
        self._makers()
        rooms = {room for (room, _), s in self.reference.pairs.items() if s.state == "pruned"}
        for line in self.reference.in_force(self.known):
            rooms |= self.known.opened(line)
        for room_id in rooms:
            self._room(room_id)
        for user in self.reference.users.values():
            self._account(user.person)
        for user_id, is_made in self.reference.replaced.items():
            account = self.world.accounts.all[user_id]
            promise(
                account.locked
                or account.deactivated
                or not is_made
                or self.reference.whose(user_id, self.known) is not None
                or user_id in self.reference.dismissed_accounts
                or self.shown.tells(["held", "failing", "spared"], None, user_id),
                f"{user_id} was replaced and is open",
            )
        for person in self.reference.former:
            if self.reference.user(person) is None:
                self._account(person)

    def _steps(self) -> None:
        """Every step that is to be followed is, and no other."""
        reference, known = self.reference, self.known
        named = {line.mapping.room for line in reference.lines.values()}
        for name, row in known.references.items():
            room_id = row["room_id"]
            # What nothing names any more is remembered, and not looked at.
            if name not in named:
                continue
            if room_id is not None:
                replacement = reference._replacement(room_id)
                # Of a room that everybody has left nobody can say what it was made from.
                promise(
                    replacement is None
                    or (
                        not self.world.rooms.is_here(self.world.rooms.get(replacement))
                        and self.shown.tells(["not_followed"], room_id, None)
                    ),
                    f"{room_id} of {name} was upgraded to {replacement}",
                )
                alias = self._last(self.world.rooms.aliases.get(name, room_id))
                promise(
                    alias == room_id or not reference.says_alias(alias, name),
                    f"{name} stands for {room_id}, and moved to {alias}, which says so",
                )
                shown = self.shown.tells(["not_followed"], name, None)
                promise(shown or alias == room_id, f"{name} moved to {alias}, and nothing shows it")
            elif name in self.world.rooms.aliases and name not in reference.absent:
                promise(False, f"{name} is there and does not resolve")
            else:
                promise(
                    self.shown.tells(["failing", "not_followed"], name, None),
                    f"{name} leads nowhere, and nothing shows it",
                )
        for line in reference.in_force(known):
            own = known.references[line.mapping.room]["room_id"]
            if not line.mapping.children or own is None:
                continue
            expected = {self._last(c) for c in reference.children(line, own)} - {own}
            opened = known.opened(line) - {own}
            promise(
                expected == opened, f"{line.key} opens {sorted(opened)} and not {sorted(expected)}"
            )

    def _last(self, room_id: str) -> str:
        while (new := self.reference.successors.get(room_id)) is not None:
            room_id = new
        return room_id

    def _makers(self) -> None:
        """A mapping made in the console is in force while its maker could do the same."""
        for line in self.reference.lines.values():
            row = self.known.ids[line.key]
            room_id = self.known.references[line.mapping.room]["room_id"]
            if line.made_by is None or room_id is None or row["standing"] == "overruled":
                continue
            may = self.reference.maker_may(line, self.world.rooms.get(room_id))
            promise(
                may == (row["standing"] == "in_force"),
                f"{line.made_by} may {'' if may else 'not '}lead in {room_id}, and the mapping"
                f" is {row['standing']}",
            )

    def _room(self, room_id: str) -> None:
        """Nobody is in who should be out, nobody out who should be in, unless shown."""
        room = self.world.rooms.get(room_id)
        if (self.known.rooms.get(room_id) or {}).get("unusable"):
            promise(self.shown.tells(["failing"], room_id, None), f"{room_id} cannot be used")
            return
        persons = {person for where, person in self.reference.pairs if where == room_id}
        for person in persons:
            row = self.reference.account(person, self.known)
            if person in self.reference.replaced:
                self._pair(room_id, person, person)
            elif row is not None and row["user_id"] is not None:
                self._pair(room_id, person, row["user_id"])
        anybody = any(where[0] == room_id for where in self.granted)
        for user_id in room.members():
            if anybody and is_exclusive(self.reference, self.known, room_id, user_id):
                self._unmanaged(room_id, user_id)

    def _unmanaged(self, room_id: str, user_id: str) -> None:
        reference = self.reference
        person = reference.whose(user_id, self.known)
        standing = reference.pairs.get((room_id, person or user_id))
        is_let_be = standing is not None and standing.state in ("granted", "dismissed", "revoked")
        promise(
            is_let_be
            or reference.is_protected(user_id)
            or self._is_waiting(room_id, user_id)
            or ("conflict", None, user_id) in self.shown.rows,
            f"{user_id} is in {room_id}, which is to hold nobody else",
        )

    def _is_waiting(self, room_id: str | None, user_id: str) -> bool:
        return self.shown.tells(["held", "failing", "spared"], room_id, user_id)

    def _waits_for_a_line(self, room_id: str, user_id: str) -> bool:
        """Tell whether a removal is shown to wait, and no line in force opens its room."""
        return self.shown.tells(["waiting"], room_id, user_id) and not self._is_opened(room_id)

    def _is_opened(self, room_id: str) -> bool:
        """Tell whether a line in force opens a room: nothing is done in others."""
        lines = self.reference.in_force(self.known)
        return any(room_id in self.known.opened(line) for line in lines)

    def _pair(self, room_id: str, person: str, user_id: str) -> None:
        reference = self.reference
        room = self.world.rooms.get(room_id)
        membership, state = room.membership(user_id), reference.pairs[room_id, person].state
        account = self.world.accounts.all.get(user_id)
        if account is None:
            return
        if state == "granted":
            lines = self.granted.get((room_id, person), [])
            wanted = "invite" if all(line.mapping.invite for line in lines) else "join"
            promise(
                membership in GIVES[wanted]
                or membership == "ban"
                or account.deactivated
                or (room_id, person) in reference.left
                or self._is_waiting(room_id, user_id)
                or self._is_stuck(user_id),
                f"{user_id} is to be in {room_id}, is not ({membership}), and nothing shows it",
            )
            if membership == "join":
                self._level(room_id, user_id, power(lines))
        elif (state == "revoked" and self._is_opened(room_id)) or self._is_to_leave(
            room_id, user_id
        ):
            promise(
                membership not in ("join", "invite")
                or self._is_waiting(room_id, user_id)
                or self._waits_for_a_line(room_id, user_id)
                or reference.is_given_by_a_suspended_line(room_id, person, self.known),
                f"{user_id} is {membership} in {room_id}, is to be out, and nothing shows it",
            )
            if self._is_waiting(room_id, user_id):
                spared = self.shown.tells(["spared"], room_id, user_id)
                promise(
                    not spared
                    or reference.is_protected(user_id)
                    or self._is_shielded(room_id, person, user_id),
                    f"{user_id} is spared in {room_id} and not protected",
                )
            elif (
                (room_id, user_id) in reference.own_level.keys() - reference.level_unsure
                and self._is_opened(room_id)
                and not reference.is_given_by_a_suspended_line(room_id, person, self.known)
            ):
                own = reference.own_level[room_id, user_id]
                level = room.content(LEVELS).get("users", {}).get(user_id)
                given = (own or 0) < (level or 0)
                promise(
                    not given or reference.is_protected(user_id),
                    f"{user_id} left {room_id} and has {level} still, and had {own}",
                )

    def _is_shielded(self, room_id: str, person: str, user_id: str) -> bool:
        """Tell whether nobody whose power their removal rests on has enough of it."""
        room = self.world.rooms.get(room_id)
        return not any(
            self.reference.could_remove(leaders, room, user_id)
            for line in self.reference.in_force(self.known)
            if (line.key, person) in self.reference.given
            for leaders in self.reference.leaders(line, room_id, self.known)
        )

    def _is_to_leave(self, room_id: str, user_id: str) -> bool:
        """Tell whether somebody is still to be taken out: rooms off the map are not compared."""
        row = self.known.pairs.get((room_id, user_id))
        if row is None or row["state"] not in ("revoked", "pruned"):
            return False
        return bool(row["observed"] != "leave")

    def _is_stuck(self, user_id: str) -> bool:
        """Tell whether an account itself does not go on, and that is shown."""
        return self.shown.tells(["failing", "conflict"], None, user_id)

    def _level(self, room_id: str, user_id: str, wanted: int | None) -> None:
        room = self.world.rooms.get(room_id)
        level = room.level(user_id)
        if wanted is not None:
            promise(
                level >= wanted or self._is_waiting(room_id, user_id),
                f"{user_id} is to have {wanted} in {room_id}, has {level}, and nothing shows it",
            )

    def _account(self, person: str) -> None:
        """An active user's account is theirs to use, anybody else's is not, unless shown."""
        reference = self.reference
        user, row = reference.user(person), reference.account(person, self.known)
        if row is None:
            promise(user is None, f"{person} is a user and has no row")
            return
        user_id = row["user_id"]
        name = user_id or row["proposed"] or row["scim_id"]
        if user_id is None:
            promise(
                (user is not None and not user.active)
                or self.shown.tells(["failing", "conflict"], None, name),
                f"{person} has no account, and nothing shows it",
            )
            return
        account = self.world.accounts.all[user_id]
        waiting = self.shown.tells(["held", "failing", "spared", "conflict"], None, name)
        hands = reference.by_hand.get(user_id, set())
        if user is not None and user.active:
            for what in ("locked", "suspended", "deactivated"):
                # An account that a hand deactivated is left as it is.
                promise(
                    "deactivated" in hands
                    or not getattr(account, what)
                    or what in hands
                    or waiting
                    or user_id in reference.unsure,
                    f"{user_id} of {person}, who is active, is {what}",
                )
        elif not waiting and person not in reference.dismissed_accounts:
            is_let_be = user is not None and reference.configuration.on_disable == "nothing"
            promise(
                is_let_be or account.locked or account.suspended or account.deactivated,
                f"{user_id} of {person}, who is not active, is open, and nothing shows it",
            )

    # -- Arrangements -------------------------------------------------------


def possible(reference: Reference) -> None:
    """Refuse an arrangement that cannot be: a test that makes one proves nothing."""
    world = reference.world
    for room in world.rooms.all.values():
        assert (CREATE, "") in room.state, f"{room.room_id} was never made"
        for user_id in room.members():
            account = world.accounts.all.get(user_id)
            assert account is not None, f"{user_id} is in {room.room_id} and does not exist"
        listed = room.content(LEVELS).get("users", {})
        if int(room.version) >= 12:
            assert not room.creators & listed.keys(), f"a creator is listed in {room.room_id}"
    for alias, room_id in world.rooms.aliases.items():
        assert room_id in world.rooms.all, f"{alias} stands for no room"
    links = [link for account in world.accounts.all.values() for link in account.links]
    assert len(links) == len(set(links)), "an identity leads to two accounts"
    emails = [email for account in world.accounts.all.values() for email in account.emails]
    assert len(emails) == len(set(emails)), "an e-mail address leads to two accounts"
    assert world.accounts.get(world.service).admin, "the service is no administrator"
    subjects = [user.subject for user in reference.users.values() if user.subject]
    assert len(subjects) == len(set(subjects)), "an identity is two users'"
    for group in reference.groups.values():
        assert group.members <= reference.users.keys() | reference.groups.keys()
