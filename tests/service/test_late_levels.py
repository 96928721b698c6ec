"""Power levels that were asked for, got no answer and are carried out late, are seen and undone."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from scim_matrix.store import memberships, record
from scim_matrix.store.accounts import LATEST
from scim_matrix.sync.housekeeping import NOTE_EVERY
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import Deployment, deployed
from tests.homeserver.errors import forbidden
from tests.homeserver.rooms import LEVELS, Event
from tests.service.test_turns import made

ROOM = "!room"


class Leads:
    """A room that two people are in, and the group whose members have power there."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.homeserver = deployment.homeserver
        self._all = self._group = ""
        self._ids: dict[str, str] = {}

    async def begin(self) -> None:
        """Have Ann and Bob be in the room, without power."""
        deployment = self.deployment
        deployment.world.rooms.create(deployment.world.service, room_id=ROOM, version="10")
        for name in ("ann", "bob"):
            self._ids[name] = await made(deployment, "User", userName=name, externalId=name)
        self._all = await made(deployment, "Group", displayName="All", externalId="all")
        await self.everybody("ann", "bob")
        self._group = await made(deployment, "Group", displayName="Leads", externalId="leads")
        await deployment.put_map({"all": [ROOM], "leads": [{"room": ROOM, "powerLevel": 50}]})
        await deployment.quiet()

    async def everybody(self, *names: str) -> None:
        """Have the identity provider say who is to be in the room."""
        await self._members(self._all, *names)

    async def are(self, *names: str) -> None:
        """Have it say who leads."""
        await self._members(self._group, *names)

    async def _members(self, group: str, *names: str) -> None:
        members = [{"value": self._ids[name]} for name in names]
        schema = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
        operation = {"op": "replace", "path": "members", "value": members}
        body = {"schemas": [schema], "Operations": [operation]}
        assert (await self.deployment.scim("PATCH", f"/Groups/{group}", body))[0] == 204

    async def rest(self, seconds: float) -> None:
        """Have all be done that falls due meanwhile."""
        end = self.deployment.hands.passed + seconds
        await self.deployment.settle(seconds)
        self.deployment.hands.passed = end
        await self.deployment.settle()

    async def are_without_answer(self, *names: str) -> Request:
        """Have it say who leads, and what is asked for that get no answer; return the request."""
        self.homeserver.faults.append(Fault("request lost", _sets))
        await self.are(*names)
        await self.deployment.settle()
        return [request for request in self.homeserver.requests if _sets(request)][-1]

    def carry_out(self, request: Request) -> None:
        """Do what a request asked for that got no answer."""
        world = self.deployment.world
        world.rooms.send(ROOM, world.service, LEVELS, "", request.body)

    @property
    def levels(self) -> dict[str, Any]:
        """Who has power in the room, but the service."""
        users = self.deployment.world.rooms.get(ROOM).content(LEVELS)["users"]
        return {user: level for user, level in users.items() if user != "@bot:s"}


def _sets(request: Request) -> bool:
    return request.method == "PUT" and LEVELS in request.path


@pytest.fixture
async def leads(tmp_path: Path) -> AsyncIterator[Leads]:
    """Return a room with Ann and Bob in it."""
    async with deployed(tmp_path) as deployment:
        found = Leads(deployment)
        await found.begin()
        yield found


async def test_whoever_no_longer_leads_has_no_power_by_a_late_request(leads: Leads) -> None:
    """Whenever it is carried out within two minutes, without a comparison."""
    asked = await leads.are_without_answer("ann")
    await leads.are()
    await leads.rest(LATEST / 2)
    leads.carry_out(asked)
    await leads.rest(LATEST)
    assert leads.levels == {}


async def test_whoever_leads_has_power_though_a_late_request_takes_it(leads: Leads) -> None:
    """What the event took that comes late, and the service had asked for itself, is given again."""
    await leads.are("ann", "bob")
    await leads.deployment.settle()
    asked = await leads.are_without_answer("bob")
    await leads.are("ann", "bob")
    await leads.rest(LATEST / 2)
    leads.carry_out(asked)
    assert leads.levels == {"@bob:s": 50}
    await leads.rest(LATEST)
    assert leads.levels == {"@ann:s": 50, "@bob:s": 50}


async def test_what_is_asked_for_meanwhile_waits_for_the_late_request(leads: Leads) -> None:
    """Its event holds everybody's levels, and would undo what is set before it is carried out."""
    asked = await leads.are_without_answer("ann")
    await leads.are("ann", "bob")
    await leads.rest(LATEST - 1)
    assert leads.levels == {}
    leads.carry_out(asked)
    await leads.rest(1)
    assert leads.levels == {"@ann:s": 50, "@bob:s": 50}
    # An answer came for that: nothing waits any more.
    await leads.are("bob")
    await leads.deployment.settle()
    assert leads.levels == {"@bob:s": 50}


async def test_a_late_request_is_awaited_from_the_next_start_on(leads: Leads) -> None:
    """Whoever sent it was killed, and nobody knows how long ago that was."""
    await leads.are("ann")
    leads.deployment.world.levels(ROOM, ann=None)
    await leads.deployment.die(_sets)
    [*_, asked] = [request for request in leads.homeserver.requests if _sets(request)]
    leads.deployment.world.levels(ROOM, ann=None)
    await leads.are()
    await leads.rest(LATEST - 1)
    leads.carry_out(asked)
    await leads.rest(LATEST)
    assert leads.levels == {}


async def test_a_late_request_is_awaited_from_when_its_answer_was_given_up(leads: Leads) -> None:
    """It may have been under way for a while."""

    def lasts(request: Request) -> bool:
        leads.deployment.hands.passed += LATEST / 2 if _sets(request) else 0
        return _sets(request)

    leads.homeserver.faults.append(Fault("request lost", lasts))
    await leads.are("ann")
    await leads.deployment.settle()
    [*_, asked] = [request for request in leads.homeserver.requests if _sets(request)]
    await leads.are()
    await leads.rest(LATEST - 1)
    leads.carry_out(asked)
    await leads.rest(1)
    assert leads.levels == {}


async def test_a_late_request_is_awaited_though_the_service_was_away(leads: Leads) -> None:
    """So was what was to carry it out, as far as anybody knows."""
    asked = await leads.are_without_answer("ann")
    await leads.are()
    await leads.deployment.stop()
    leads.deployment.hands.passed += LATEST - 1
    await leads.deployment.start()
    await leads.rest(LATEST - 1)
    leads.carry_out(asked)
    await leads.rest(1)
    assert leads.levels == {}


async def test_a_clock_that_was_ahead_keeps_no_level_waiting(leads: Leads) -> None:
    """Nobody knows how long ago it was asked for: two minutes at most."""
    deployment = leads.deployment
    await deployment.stop()
    deployment.hands.jumped = 86400.0
    await deployment.start()
    leads.homeserver.faults.append(Fault("request lost", _sets))
    await leads.are("ann")
    await deployment.settle()
    await leads.are()
    # Of what nobody is to have any more nothing is left to be done, once it is looked at.
    deployment.hands.passed += NOTE_EVERY
    await deployment.stop()
    deployment.hands.jumped = 0.0
    await deployment.start()
    await leads.are("bob")
    await leads.rest(LATEST)
    assert leads.levels == {"@bob:s": 50}


async def test_a_level_that_cannot_be_set_puts_off_no_removal(leads: Leads) -> None:
    """Of whoever is taken out of the room while others are brought in."""
    world = leads.deployment.world
    await leads.everybody("ann")
    await leads.are_without_answer("ann")
    world.levels(ROOM, bot=60)
    room = world.rooms.get(ROOM)
    content = {**room.content(LEVELS), "events": {LEVELS: 100}}
    world.rooms.put(room, Event(LEVELS, "", world.service, content))
    await leads.rest(LATEST)
    assert sorted(room.members()) == ["@ann:s", "@bot:s"]
    await leads.everybody("ann", "bob")
    async with leads.deployment.while_slow(lambda request: "join" in request.path):
        await leads.are()
        await leads.everybody("bob")
    assert sorted(room.members()) == ["@bob:s", "@bot:s"]


async def test_what_was_refused_is_not_carried_out_late(leads: Leads) -> None:
    """Once the service has taken power, it is set at once."""
    refusals = [forbidden("not now")]

    def refuse_once(request: Request) -> None:
        if _sets(request) and refusals:
            raise refusals.pop()

    leads.homeserver.before = refuse_once
    await leads.are("ann")
    await leads.deployment.settle()
    assert leads.levels == {"@ann:s": 50}


async def test_what_came_too_fast_is_not_carried_out_late(leads: Leads) -> None:
    """It is asked for again when the homeserver said, and not two minutes later."""
    leads.homeserver.faults.append(Fault("rate limited", _sets))
    await leads.are("ann")
    await leads.rest(2)
    assert leads.levels == {"@ann:s": 50}


async def test_a_dry_run_tells_once_which_levels_it_would_set(leads: Leads) -> None:
    """They are set by the start without it."""
    deployment = leads.deployment
    await deployment.restart(dry_run=True)
    await leads.are("ann")
    await deployment.settle()
    await deployment.settle(60.0)
    found = await record.find(deployment.database.reader, users=None, rooms=(), since=0, limit=9)
    told = [(row["outcome"], row["user_id"]) for row in found if row["kind"] == "power"]
    assert told == [("dry_run", "@ann:s")]
    assert (await memberships.counts(deployment.database.reader))["withheldPairs"] == 1
    assert leads.levels == {}
    await deployment.restart(dry_run=False)
    await deployment.settle()
    assert leads.levels == {"@ann:s": 50}
