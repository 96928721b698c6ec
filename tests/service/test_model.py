"""Whatever anybody does, in whatever order: nobody is where they should not be, unless shown.

The machine's moves are those of the identity provider, the administrator, people on the
homeserver, console managers, and accidents. The real service works them off on a homeserver in
memory; tests/service/reference.py says what is right, tests/service/promises.py checks it.
`make model` runs it for long, with other moves each time.
"""

import asyncio
import contextlib
import copy
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scim_matrix.config import OnDisable
from scim_matrix.groupmap import parse_group_map
from scim_matrix.store import accounts, binding, brake, groupmap
from scim_matrix.sync.guard import Brake
from tests.homeserver import Deed, Fault, MatrixError, World
from tests.homeserver.deployment import IDP, Configuration, deployed
from tests.homeserver.rooms import MEMBER, PARENT, Event
from tests.service.promises import Liveness, Safety, Shown, possible
from tests.service.reference import Cause, Group, Known, Line, Reference, Standing, User

EXAMPLES, STEPS = 12, 20

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
NAMES = ("ann", "bob", "cat", "dan")
SUBJECTS = ("s1", "s2", "s3", "s4", None)
GROUPS = ("g", "h", "i")
KEYS = (*GROUPS, "*")
SPACE, INNER = "!P", "!Q"
ROOMS = ("!A", "!B", "!C", "!D", SPACE, INNER)
ALIASES = {"#a:s": "!A", "#b:s": "!B", "#p:s": SPACE, "#late:s": "!D"}
SERVICE, BOSS, MODERATOR, MANAGER, GUEST = (
    f"@{n}:s" for n in ("bot", "boss", "mod", "mgr", "guest")
)
PEOPLE = (*(f"@{name}:s" for name in NAMES), BOSS, MODERATOR, MANAGER, GUEST)
GRACE = 7 * 86400.0

names, groups, people = st.sampled_from(NAMES), st.sampled_from(GROUPS), st.sampled_from(PEOPLE)
members = st.sets(st.sampled_from((*NAMES, *GROUPS)), max_size=5)
rooms, spaces = st.sampled_from(ROOMS), st.sampled_from((SPACE, INNER))
references = st.sampled_from((*ROOMS, *ALIASES))
options = st.fixed_dictionaries(
    {},
    optional={
        "powerLevel": st.sampled_from((10, 50)),
        "children": st.just(True),
        "mode": st.just("invite"),
        "exclusive": st.just(True),
    },
)
lines = st.dictionaries(
    st.tuples(st.sampled_from(KEYS), references), options, min_size=1, max_size=3
)
# What the service does after a move: nothing yet, what is due, or everything and again.
then = st.sampled_from(("nothing", "nothing", "work", "quiet"))


def is_change(request: Any) -> bool:
    """Tell whether a request is to change something that anybody sees."""
    return bool(request.changes) and "account_data" not in request.path


def whom(deed: Deed) -> set[str | None]:
    """Return whom something that was done concerns; of power levels, those who are named there."""
    return {*deed.before, *deed.after} if deed.what == "levels" else {deed.user_id}


class Machine(RuleBasedStateMachine):
    """The moves of everybody; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        folder = os.environ.get("PYTEST_DEBUG_TEMPROOT")
        self.folder = Path(tempfile.mkdtemp(prefix="model-", dir=folder))
        self.stack = contextlib.AsyncExitStack()
        self.map: dict[tuple[str, str], dict[str, Any]] = {}
        self.taken_out: dict[tuple[str, str], dict[str, Any]] = {}
        self.copies: dict[str, Reference] = {}
        self.shown_held: list[brake.Held] = []
        self.running = False

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the machine's loop."""
        return self.runner.run(coroutine)

    @initialize(
        strict=st.booleans(),
        respects=st.booleans(),
        protects=st.booleans(),
        disabled=st.sampled_from(("lock", "lock", "suspend", "deactivate", "nothing")),
        deleted=st.sampled_from(("deactivate", "deactivate", "lock", "erase", "nothing")),
        given=lines,
        more=lines,
        how=then,
    )
    def begin(
        self,
        strict: bool,
        respects: bool,
        protects: bool,
        disabled: OnDisable,
        deleted: OnDisable,
        given: dict[tuple[str, str], Any],
        more: dict[tuple[str, str], Any],
        how: str,
    ) -> None:
        """Start the service beside a homeserver with rooms, and people in groups."""
        limit = Brake(30, 1, 3600) if strict else Brake(100, 1000, 3600)
        self.configuration = Configuration(
            ("@dan:s",) if protects else (),
            limit,
            "respect" if respects else "rejoin",
            disabled,
            deleted,
            delete_grace=GRACE,
        )
        self.world = World()
        for user_id in (BOSS, MODERATOR, MANAGER, GUEST):
            self.world.account(user_id)
        self.world.room(MODERATOR, MANAGER, room_id="!A")
        self.world.room(
            SERVICE, MODERATOR, room_id="!B", version="10", levels={"users": {SERVICE: 100}}
        )
        self.world.room(MODERATOR, room_id="!C", public=True)
        self.world.room(GUEST, MODERATOR, room_id="!D")
        self.world.room(SERVICE, MODERATOR, BOSS, room_id=SPACE, space=True)
        self.world.room(SERVICE, MODERATOR, GUEST, room_id=INNER, space=True)
        self.world.levels(SPACE, mod=50, boss=100)
        self.world.levels(INNER, mod=50, guest=50)
        self.world.child(INNER, SERVICE, "!D")
        self.world.child(SPACE, SERVICE, "!C")
        for alias, room_id in ALIASES.items():
            if alias != "#late:s":
                self.world.alias(alias, room_id)
        self.deployment = self.run(
            self.stack.enter_async_context(deployed(self.folder, self.world, self.configuration))
        )
        self.homeserver = self.deployment.homeserver
        self.reference = Reference(self.world, self.configuration)
        self.running = True
        self.map = {**given, **more}
        self._put_map()
        for name, subject in zip(NAMES, SUBJECTS[1:], strict=True):
            self.create_user(name, subject, active=True, how="nothing")
        for external_id, inside in (("g", set(NAMES)), ("h", {"ann", "bob"}), ("i", {"h", "cat"})):
            self.put_group(external_id, inside, how="nothing")
        self.settle(how)

    def teardown(self) -> None:
        """Let everything come to rest once more, and stop."""
        try:
            if self.running:
                self.homeserver.dark = False
                self.homeserver.faults.clear()
                self.run(self.deployment.restart(dry_run=False))
                self.reference.configuration = self.deployment.configuration
                self.settle("quiet")
        finally:
            self.run(self.stack.aclose())
            self.runner.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    @invariant()
    def arrangement_can_be(self) -> None:
        """Refuse arrangements that cannot be."""
        if self.running:
            possible(self.reference)

    # -- What follows -------------------------------------------------------

    @property
    def known(self) -> Known:
        """What the service's database says now."""
        return Known(self.folder)

    def hear(self, cause: Cause) -> None:
        """Have the model take in what was said."""
        self.reference.settle(cause, self.known)

    def settle(self, how: str) -> None:
        """Let the service work, and check what it did."""
        self.reference.links()
        self.reference.explain(self.known)
        if how == "nothing":
            return
        before = copy.deepcopy(self.reference.pairs)
        begun = deeds = len(self.world.deeds)
        if how == "quiet":
            # Lists of administrators are believed for a minute.
            self.deployment.hands.passed += 61
            self.run(self.deployment.quiet())
            leaders = self.reference.all_leaders()
            if any(leaders & whom(deed) for deed in self.world.deeds[deeds:]):
                # What that means for where they lead is seen by the next comparison.
                self.check(before, deeds)
                before, deeds = copy.deepcopy(self.reference.pairs), len(self.world.deeds)
                self.run(self.deployment.quiet())
        else:
            self.run(self.deployment.settle())
        self.check(before, deeds)
        dry = self.deployment.configuration.dry_run
        assert not dry or len(self.world.deeds) == begun
        if how == "quiet" and not (dry or self.homeserver.dark or self.homeserver.faults):
            known = self.known
            self.reference.absent |= {
                name
                for name, row in known.references.items()
                if row["room_id"] is None and name not in self.world.rooms.aliases
            }
            shown = self.run(Shown.of(self.deployment))
            Liveness(self.reference, known, shown).check()

    def check(
        self, before: dict[tuple[str, str], Standing], deeds: int, at: float | None = None
    ) -> None:
        """Check what the service did, where it stands now; `at` is when, if not by its clock."""
        known, reference = self.known, self.reference
        reference.absent |= {name for name, row in known.references.items() if row["absent"]}
        reference.links()
        reference.observe(known)
        reference.explain(known)
        now = self.deployment.database.clock.now() if at is None else at
        safety = Safety(reference, before, known, now, self.deployment.hands.passed)
        for deed in self.world.deeds[deeds:]:
            safety.check(deed)

    def scim(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Have the identity provider send a request."""
        status, answer = self.run(self.deployment.scim(method, path, body))
        assert status < 500, answer
        return status, answer

    # -- The identity provider ----------------------------------------------

    def user_of(self, name: str) -> User | None:
        """Return the user of a name."""
        return next((u for u in self.reference.users.values() if u.name == name), None)

    def ids_of(self, members: set[str]) -> set[str]:
        """Return the SCIM ids of users and groups that there are."""
        users = {u.name: u.scim_id for u in self.reference.users.values()}
        found = {g.external_id: g.scim_id for g in self.reference.groups.values()}
        return {known[m] for m in members for known in (users, found) if m in known}

    def group_of(self, external_id: str) -> Group | None:
        """Return the group of an externalId."""
        found = self.reference.groups.values()
        return next((g for g in found if g.external_id == external_id), None)

    @rule(name=names, subject=st.sampled_from(SUBJECTS), active=st.booleans(), how=then)
    def create_user(self, name: str, subject: str | None, active: bool, how: str) -> None:
        """Create a user; a name or subject that another user has is refused."""
        body = {"schemas": [f"{SCHEMA}User"], "userName": name, "active": active}
        if subject is not None:
            body["externalId"] = subject
        status, answer = self.scim("POST", "/Users", body)
        taken = self.user_of(name) is not None or any(
            u.subject == subject for u in self.reference.users.values() if subject is not None
        )
        assert status == 409 or (status == 201 and not taken), answer
        if status == 201:
            user = User(answer["id"], name, subject, active)
            self.reference.users[user.scim_id] = user
            self.spoken_of(user)
            self.reference.former.pop(user.person, None)
            self.hear("identity provider")
        self.settle(how)

    @rule(name=names, active=st.booleans(), how=then)
    def enable(self, name: str, active: bool, how: str) -> None:
        """Disable or enable a user."""
        if (user := self.user_of(name)) is not None:
            operation = {"op": "replace", "path": "active", "value": active}
            body = {"schemas": [PATCH], "Operations": [operation]}
            status, answer = self.scim("PATCH", f"/Users/{user.scim_id}", body)
            assert status == 200, answer
            if user.active != active:
                user.active = active
                self.spoken_of(user)
                self.hear("identity provider")
            self.settle(how)

    @rule(name=names, how=then)
    def delete_user(self, name: str, how: str) -> None:
        """Delete a user."""
        if (user := self.user_of(name)) is not None:
            status, answer = self.scim("DELETE", f"/Users/{user.scim_id}")
            assert status == 204, answer
            del self.reference.users[user.scim_id]
            for group in self.reference.groups.values():
                group.members.discard(user.scim_id)
            self.reference.former[user.person] = self.deployment.hands.passed + GRACE
            self.spoken_of(user)
            self.hear("identity provider")
            self.settle(how)

    def spoken_of(self, user: User) -> None:
        """The identity provider has spoken of a user since any backup."""
        self.reference.stale_accounts.discard(user.person)
        self.reference.dismissed_accounts.discard(user.person)
        for (_, person), standing in self.reference.pairs.items():
            if person == user.person:
                standing.stale = False

    def spoken_of_group(self, group: Group) -> None:
        """The identity provider has spoken of a group since any backup."""
        known = self.known
        for line in self.reference.lines.values():
            if line.mapping.pattern == group.external_id:
                opened = known.opened(line)
                for (room_id, _), standing in self.reference.pairs.items():
                    if room_id in opened:
                        standing.stale = False

    @rule(external_id=groups, given=members, how=then)
    def put_group(self, external_id: str, given: set[str], how: str) -> None:
        """Create a group, or replace its members."""
        ids = self.ids_of(given)
        body = {
            "schemas": [f"{SCHEMA}Group"],
            "displayName": external_id.upper(),
            "externalId": external_id,
            "members": [{"value": scim_id} for scim_id in sorted(ids)],
        }
        group = self.group_of(external_id)
        if group is None:
            status, answer = self.scim("POST", "/Groups", body)
            assert status == 201, answer
            group = Group(answer["id"], external_id, ids)
            self.reference.groups[group.scim_id] = group
        else:
            status, answer = self.scim("PUT", f"/Groups/{group.scim_id}", body)
            assert status == 200, answer
            group.members = ids
        self.hear("identity provider")
        self.spoken_of_group(group)
        self.settle(how)

    @rule(
        external_id=groups,
        member=st.sampled_from((*NAMES, *GROUPS)),
        op=st.sampled_from(("add", "remove")),
        how=then,
    )
    def patch_group(self, external_id: str, member: str, op: str, how: str) -> None:
        """Add or remove a member."""
        group, ids = self.group_of(external_id), self.ids_of({member})
        if group is not None and ids:
            operation = {"op": op, "path": "members", "value": [{"value": i} for i in ids]}
            body = {"schemas": [PATCH], "Operations": [operation]}
            status, answer = self.scim("PATCH", f"/Groups/{group.scim_id}", body)
            assert status in (200, 204), answer
            group.members = group.members | ids if op == "add" else group.members - ids
            self.hear("identity provider")
            self.spoken_of_group(group)
            self.settle(how)

    @rule(external_id=groups, how=then)
    def delete_group(self, external_id: str, how: str) -> None:
        """Delete a group."""
        if (group := self.group_of(external_id)) is not None:
            status, answer = self.scim("DELETE", f"/Groups/{group.scim_id}")
            assert status == 204, answer
            self.spoken_of_group(group)
            del self.reference.groups[group.scim_id]
            for other in self.reference.groups.values():
                other.members.discard(group.scim_id)
            self.hear("identity provider")
            self.settle(how)

    # -- The administrator --------------------------------------------------

    def _put_map(self) -> None:
        document: dict[str, list[Any]] = {}
        for (key, room), given in self.map.items():
            document.setdefault(key, []).append({"room": room, **given})
        self.run(self.deployment.put_map(document))
        self._take_map()

    def _take_map(self) -> None:
        """Have the model take in the configuration's lines as they are now."""
        mine = {k: line for k, line in self.reference.lines.items() if line.made_by is not None}
        lines = [*mine.values(), *map(Line, self.deployment.map)]
        self.reference.take_lines(lines, self.known)
        self.hear("map")

    @rule(given=lines, how=then)
    def add_to_map(self, given: dict[tuple[str, str], Any], how: str) -> None:
        """Add lines, or change their options."""
        self.map.update(given)
        while len(self.map) > 6:
            del self.map[next(iter(self.map))]
        self._put_map()
        self.settle(how)

    @rule(number=st.integers(0, 5), how=then)
    def drop_from_map(self, number: int, how: str) -> None:
        """Take a line out."""
        if number < len(self.map):
            line = list(self.map)[number]
            self.taken_out[line] = self.map.pop(line)
            self._put_map()
            self.settle(how)

    @precondition(lambda self: self.taken_out)
    @rule(how=then)
    def put_back(self, how: str) -> None:
        """Put a line back that was taken out."""
        line, given = self.taken_out.popitem()
        self.map.setdefault(line, given)
        self._put_map()
        self.settle(how)

    @rule(number=st.integers(0, 5), how=then)
    def respell(self, number: int, how: str) -> None:
        """Name a room otherwise: its ID in place of its alias, or the other way round."""
        if number >= len(self.map):
            return
        key, name = list(self.map)[number]
        if name.startswith("#"):
            other = self.world.rooms.aliases.get(name)
        else:
            aliases = self.world.rooms.aliases.items()
            other = next((alias for alias, room_id in aliases if room_id == name), None)
        if other is not None and (key, other) not in self.map:
            self.map = {
                (key, other) if line == (key, name) else line: given
                for line, given in self.map.items()
            }
            self._put_map()
            self.settle(how)

    @rule(how=then)
    def prune(self, how: str) -> None:
        """Ask for the removal of those whom the map forgot."""
        self.run(self.deployment.prune())
        known = self.known
        rows = {a["id"]: a for a in known.accounts}
        for row in known.memberships:
            account = rows[row["account_id"]]
            user_id, user = account["user_id"], self.reference.users.get(account["scim_id"])
            if row["state"] != "pruned" or (user_id is None and user is None):
                continue
            # Whoever has no account yet may get that of somebody whom it had put in.
            person = user.person if user else self.reference.whose(user_id, known)
            where = row["room_id"], person or user_id
            # A room may have been opened, and left for what it was upgraded to, at one settling.
            standing = self.reference.pairs.get(where, Standing("forgotten", 0))
            assert standing.state in ("forgotten", "revoked", "pruned"), (where, standing)
            self.reference.pairs[where] = Standing("pruned", self.reference.step)
        self.settle(how)

    @rule()
    def look_at_held(self) -> None:
        """Look at what is held; it may be decided upon later."""

        async def look() -> list[brake.Held]:
            reader = self.deployment.database.reader
            return [*await brake.held(reader), *await brake.held_accounts(reader)]

        self.shown_held = self.run(look())

    @precondition(lambda self: self.shown_held)
    @rule(decision=st.sampled_from(("approved", "dismissed")), first=st.booleans(), how=then)
    def decide(self, decision: brake.Decision, first: bool, how: str) -> None:
        """Approve or dismiss what was shown, all or some, maybe long ago."""
        shown = self.shown_held[:1] if first else self.shown_held

        async def say() -> list[brake.Held]:
            async with self.deployment.database.write("ann") as connection:
                return await brake.decide(connection, shown, decision, "ann")

        known = self.known
        for one in self.run(say()):
            assert one in shown
            person = self.reference.whose(one.user_id, known) or one.user_id
            if decision == "approved":
                self.reference.approved.add((one.room_id, one.user_id))
            elif one.room_id is None:
                self.reference.dismissed_accounts.add(person)
            else:
                standing = Standing("dismissed", self.reference.step)
                self.reference.pairs[one.room_id, person] = standing
            if one.room_id is None:
                self.reference.stale_accounts.discard(person)
            elif (pair := self.reference.pairs.get((one.room_id, person))) is not None:
                pair.stale = False
        self.deployment.reconciler.compare()
        self.settle(how)

    @rule(name=names, who=people, how=then)
    def link(self, name: str, who: str, how: str) -> None:
        """Say whose account it is."""
        user, known = self.user_of(name), self.known
        if user is None or who not in self.world.accounts.all:
            return

        async def say() -> str | None:
            async with self.deployment.database.write("ann") as connection:
                [account] = await accounts.named(connection, user.scim_id)
                return await binding.link(connection, account, who, "ann")

        if self.run(say()) is None:
            self.reference.linked(user.person, who, known)
            self.hear("map")
        self.deployment.reconciler.compare()
        self.settle(how)

    @rule(protects=st.booleans(), how=then)
    def restart(self, protects: bool, how: str) -> None:
        """Start again, maybe with others protected."""
        protected = ("@dan:s",) if protects else ()
        self.run(self.deployment.restart(protected_users=protected))
        self.reference.configuration = self.deployment.configuration
        self.hear("map")
        self.settle(how)

    @rule(alias=st.sampled_from(tuple(ALIASES)), how=then)
    def approve_alias(self, alias: str, how: str) -> None:
        """Let an alias in that waits, or that leads elsewhere."""
        row = self.known.references.get(alias)
        if row is not None and row["candidate"] is not None:
            room_id = row["candidate"]
            rooms = self.known.rooms
            while successor := (rooms.get(room_id) or {}).get("successor"):
                room_id = successor
            self.reference.explained.setdefault(alias, set()).add(room_id)
            self.run(self.deployment.decide(alias, "approved"))
            self.reference.observe(self.known)
            self.settle(how)

    # -- Managers -----------------------------------------------------------

    @rule(maker=st.sampled_from((MANAGER, BOSS)), group=groups, room=rooms, given=options, how=then)
    def map_in_console(self, maker: str, group: str, room: str, given: Any, how: str) -> None:
        """Have a manager map a group to a room."""
        [mapping] = parse_group_map(json.dumps({group: [{"room": room, **given}]}))
        line = Line(mapping, maker)
        if line.key in self.reference.lines:
            return

        async def add() -> None:
            async with self.deployment.database.write("console") as connection:
                await groupmap.add(connection, mapping, maker, None)

        self.run(add())
        self.reference.take_lines([*self.reference.lines.values(), line], self.known)
        self.deployment.reconciler.compare()
        self.hear("map")
        self.settle(how)

    @rule(number=st.integers(0, 3), how=then)
    def unmap_in_console(self, number: int, how: str) -> None:
        """Take out a mapping that was made in the console."""
        made = [line for line in self.reference.lines.values() if line.made_by is not None]
        if number >= len(made):
            return
        mapping_id = self.known.ids[made[number].key]["id"]

        async def remove() -> None:
            async with self.deployment.database.write("console") as connection:
                await groupmap.remove(connection, mapping_id)

        self.run(remove())
        left = [line for line in self.reference.lines.values() if line is not made[number]]
        self.reference.take_lines(left, self.known)
        self.hear("map")
        self.deployment.reconciler.compare()
        self.settle(how)

    # -- Hands on rooms -----------------------------------------------------

    def present(self, user_id: str) -> bool:
        """Tell whether somebody has an account that can be in rooms."""
        account = self.world.accounts.all.get(user_id)
        return account is not None and not account.deactivated

    def room_now(self, room_id: str) -> str:
        """Return the room that took a room's place."""
        while (new := self.reference._replacement(room_id)) is not None:
            room_id = new
        return room_id

    @rule(room=rooms, who=people, how=then)
    def join_by_hand(self, room: str, who: str, how: str) -> None:
        """Bring somebody into a room."""
        if self.present(who):
            room_id = self.room_now(room)
            self.world.bring(room_id, who)
            self.came(room_id, who)
            self.settle(how)

    def came(self, room_id: str, who: str) -> None:
        """Who is in again has not left."""
        where = room_id, self.reference.whose(who, self.known) or who
        self.reference.left.discard(where)
        self.reference.left_surely.discard(where)
        self.reference.went.discard(where)

    @rule(room=rooms, who=people, how=then)
    def leave(self, room: str, who: str, how: str) -> None:
        """Leave a room, or decline an invitation."""
        room_id, known = self.room_now(room), self.known
        membership = self.world.rooms.get(room_id).membership(who)
        if membership in ("join", "invite"):
            self.world.rooms.leave(room_id, who)
            where = room_id, self.reference.whose(who, known) or who
            self.reference.went.add(where)
            lines = self.reference.granted(known).get(where, [])
            if lines and all(line.mapping.invite for line in lines):
                self.reference.left.add(where)
            if self.configuration.on_self_leave == "respect":
                self.reference.left.add(where)
            self.settle(how)

    @rule(room=rooms, who=people, what=st.sampled_from(("kick", "ban", "unban")), how=then)
    def kick_by_hand(self, room: str, who: str, what: str, how: str) -> None:
        """Kick, ban or unban somebody."""
        room_id = self.room_now(room)
        present = self.world.rooms.get(room_id).membership(who)
        fits = {"kick": ("join", "invite"), "unban": ("ban",), "ban": ("join", "invite", "leave")}
        if present in fits[what] and who != MODERATOR:
            membership = "ban" if what == "ban" else "leave"
            event = Event(MEMBER, who, MODERATOR, {"membership": membership})
            self.world.rooms.put(self.world.rooms.get(room_id), event)
            where = room_id, self.reference.whose(who, self.known) or who
            self.reference.went.add(where)
            lines = self.reference.granted(self.known).get(where, [])
            if lines and all(line.mapping.invite for line in lines):
                self.reference.left.add(where)
            self.settle(how)

    @rule(room=rooms, who=people, level=st.sampled_from((None, 25, 50, 60)), how=then)
    def power_by_hand(self, room: str, who: str, level: int | None, how: str) -> None:
        """Give somebody a power level, or take it."""
        room_id = self.room_now(room)
        there = self.world.rooms.get(room_id)
        if who in there.creators or not self.present(who):
            return
        where = room_id, who
        if where in self.reference.own_level:
            self.reference.level_unsure.add(where)
        self.world.levels(room_id, **{who[1:].partition(":")[0]: level})
        self.settle(how)

    @rule(
        room=rooms, genuine=st.booleans(), moves=st.booleans(), with_alias=st.booleans(), how=then
    )
    def upgrade(self, room: str, genuine: bool, moves: bool, with_alias: bool, how: str) -> None:
        """Upgrade a room, or point its tombstone at a room that is none of its."""
        room_id = self.room_now(room)
        if len(self.world.rooms.all) > 12:
            return
        old = self.world.rooms.get(room_id)
        creator = next(iter(old.state.values())).sender
        if genuine:
            new = self.world.upgrade(room_id, creator)
            # Power levels are copied, those that the service gave among them.
            own = self.reference.own_level
            own |= {(new.room_id, who): own[r, who] for r, who in list(own) if r == room_id}
            unsure = self.reference.level_unsure
            unsure |= {(new.room_id, who) for r, who in unsure if r == room_id}
            for user_id in old.members() if moves else ():
                self.world.bring(new.room_id, user_id)
            for alias, target in list(self.world.rooms.aliases.items()):
                if with_alias and target == room_id:
                    self.world.alias(alias, new.room_id)
        else:
            self.world.tombstone(room_id, creator, "!D" if room_id != "!D" else "!A")
        self.settle(how)

    @rule(alias=st.sampled_from(tuple(ALIASES)), room=rooms, says_so=st.booleans(), how=then)
    def move_alias(self, alias: str, room: str, says_so: bool, how: str) -> None:
        """Have an alias stand for another room, which says so itself or not."""
        self.world.alias(alias, self.room_now(room), canonical=says_so)
        self.settle(how)

    @rule(alias=st.sampled_from(tuple(ALIASES)), how=then)
    def drop_alias(self, alias: str, how: str) -> None:
        """Delete an alias."""
        self.world.rooms.aliases.pop(alias, None)
        self.settle(how)

    @rule(
        who=st.sampled_from((SERVICE, BOSS, MODERATOR, GUEST)),
        space=spaces,
        room=rooms,
        present=st.booleans(),
        how=then,
    )
    def space(self, who: str, space: str, room: str, present: bool, how: str) -> None:
        """Put a room into a space, or take it out."""
        if room != space:
            self.world.child(self.room_now(space), who, self.room_now(room), present=present)
            self.settle(how)

    @rule(who=st.sampled_from((BOSS, MODERATOR, GUEST)), space=spaces, room=rooms, how=then)
    def parent(self, who: str, space: str, room: str, how: str) -> None:
        """Say in a room that a space is its parent."""
        room_id = self.room_now(room)
        with contextlib.suppress(MatrixError):
            self.world.rooms.send(room_id, who, PARENT, self.room_now(space), {"via": ["s"]})
            self.settle(how)

    # -- Hands on accounts --------------------------------------------------

    @rule(name=names, subject=st.sampled_from(SUBJECTS), how=then)
    def make_account_by_hand(self, name: str, subject: str | None, how: str) -> None:
        """Make an account of a user's name, maybe with an SSO identity."""
        user_id = f"@{name}:s"
        if user_id not in self.world.accounts.all:
            given = [] if subject is None else [{"auth_provider": IDP, "external_id": subject}]
            with contextlib.suppress(MatrixError):
                self.world.account(user_id, external_ids=given)
            self.settle(how)

    @rule(name=names, subject=st.sampled_from(SUBJECTS[:-1]), how=then)
    def move_link(self, name: str, subject: str, how: str) -> None:
        """Have an SSO identity lead to another account."""
        user_id, link = f"@{name}:s", (IDP, subject)
        if user_id in self.world.accounts.all:
            for account in self.world.accounts.all.values():
                if link in account.links:
                    account.links.remove(link)
            self.world.accounts.all[user_id].links.append(link)
            self.settle(how)

    @rule(
        who=people, what=st.sampled_from(("lock", "unlock", "deactivate", "reactivate")), how=then
    )
    def disable_by_hand(self, who: str, what: str, how: str) -> None:
        """Lock or deactivate an account, or undo that."""
        if who not in self.world.accounts.all:
            return
        account = self.world.accounts.all[who]
        flag = "locked" if what in ("lock", "unlock") else "deactivated"
        on = what in ("lock", "deactivate")
        if getattr(account, flag) == on:
            return
        if flag == "locked" and account.deactivated:
            return
        self.world.account(who, **{flag: on})
        hands = self.reference.by_hand.setdefault(who, set())
        self.reference.by_service.setdefault(who, set()).discard(flag)
        if what == "deactivate":
            # Its invitations were declined with that.
            person = self.reference.whose(who, self.known) or who
            self.reference.left |= {pair for pair in self.reference.pairs if pair[1] == person}
        if on:
            hands.add(flag)
        else:
            hands.discard(flag)
        self.settle(how)

    @rule(who=people, admin=st.booleans(), how=then)
    def administrate(self, who: str, admin: bool, how: str) -> None:
        """Make somebody an administrator, or no longer."""
        if who in self.world.accounts.all and self.world.accounts.all[who].admin != admin:
            self.world.accounts.all[who].admin = admin
            # The list of administrators is believed for a minute.
            self.deployment.hands.passed += 61
            self.settle(how)

    # -- Accidents ----------------------------------------------------------

    @rule(dark=st.booleans(), how=then)
    def homeserver_away(self, dark: bool, how: str) -> None:
        """Have the homeserver go away, or come back."""
        self.homeserver.dark = dark
        self.settle(how)

    @rule(
        kind=st.sampled_from(
            ("answer lost", "answer lost", "request lost", "unavailable", "rate limited")
        ),
        times=st.integers(1, 3),
    )
    def fault(self, kind: Any, times: int) -> None:
        """Have answers or requests lost while something is changed."""
        self.homeserver.faults.append(Fault(kind, is_change, times))
        self.settle("work")
        self.homeserver.faults.clear()

    @rule(how=then)
    def killed(self, how: str) -> None:
        """Have the process be killed while a change is under way that is done."""
        before, deeds = copy.deepcopy(self.reference.pairs), len(self.world.deeds)
        # Whoever starts again goes by the wall clock, which may have been set.
        at = self.deployment.database.clock.now()
        self.run(self.deployment.die(is_change))
        self.check(before, deeds, at)
        self.settle(how)

    @rule(on=st.booleans(), how=then)
    def dry_run(self, on: bool, how: str) -> None:
        """Start again so that nothing is done, or so that it is."""
        if self.deployment.configuration.dry_run != on:
            self.run(self.deployment.restart(dry_run=on))
            self.reference.configuration = self.deployment.configuration
            self.settle(how)

    @rule(seconds=st.sampled_from((10.0, 70.0, 4000.0, 8 * 86400.0)), how=then)
    def time_passes(self, seconds: float, how: str) -> None:
        """Have time pass."""
        self.deployment.hands.passed += seconds
        self.settle(how)

    @rule(seconds=st.sampled_from((-86400.0, -3600.0, 3600.0, 8 * 86400.0)), how=then)
    def clock_jumps(self, seconds: float, how: str) -> None:
        """Have somebody set the clock."""
        self.deployment.hands.jumped += seconds
        self.settle(how)

    @rule()
    def back_up(self) -> None:
        """Make a copy of the database."""
        self.run(self.deployment.copy("copy"))
        kept = self.reference.world
        self.copies["copy"] = copy.deepcopy(self.reference, {id(kept): kept})

    @precondition(lambda self: "copy" in self.copies)
    @rule(how=then)
    def restore(self, how: str) -> None:
        """Put an earlier copy back; the identity provider has not spoken since."""
        now, kept = self.reference, self.world
        earlier = copy.deepcopy(self.copies["copy"], {id(kept): kept})
        self.run(self.deployment.restore("copy"))
        # What happened on the homeserver stays so.
        for name in ("may_have", "by_hand", "by_service", "own_level", "approved", "configuration"):
            setattr(earlier, name, getattr(now, name))
        for name, found in now.explained.items():
            earlier.explained.setdefault(name, set()).update(found)
        for key, found in now.below.items():
            earlier.below.setdefault(key, set()).update(found)
        earlier.approved = set()
        earlier.level_unsure = {*now.level_unsure, *now.own_level}
        earlier.unsure = {*now.unsure, *self.world.accounts.all}
        for standing in earlier.pairs.values():
            standing.stale = standing.state == "revoked"
        # An invitation that is gone may have been declined or withdrawn.
        earlier.left |= earlier.pairs.keys()
        gone = {u.person for u in earlier.users.values() if not u.active}
        earlier.stale_accounts = {*gone, *earlier.former}
        self.reference = earlier
        self.shown_held = []
        self._take_map()
        self.settle(how)


def examine(
    machine: type[RuleBasedStateMachine],
    examples: int,
    steps: int,
    *,
    repeated: bool = False,
    shrink: bool = True,
) -> None:
    """Run a machine, so many moves an example; raise what it finds.

    `repeated`: the same moves in each run. `shrink`: look for the fewest that find it.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                derandomize=repeated,
                database=None,
                phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
    finally:
        structlog.reset_defaults()


# More than 20 s: every removal that there is, in any order, is checked against the model.
def test_nobody_is_where_they_should_not_be() -> None:
    """Whatever anybody does, everybody is where they should be, untouched, or shown."""
    examine(Machine, EXAMPLES, STEPS, repeated=True)
