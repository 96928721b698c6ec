"""Identity providers that change people and groups of their own, and know what they were told."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from scim_matrix.demo.service import ScimClient
from scripts.chaos.balancing import BalancedClient, Balancer, balanced

# So many people has each of them at most.
MOST = 25


@dataclass
class Person:
    """Somebody as was acknowledged."""

    user_name: str
    title: str
    active: bool = True


@dataclass
class Provider:
    """An identity provider with a group of its own: what was acknowledged of it and its people."""

    name: str
    idp: BalancedClient
    dice: random.Random
    group: str = ""
    people: dict[str, Person] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    # Answers that should have been others.
    wrong: list[str] = field(default_factory=list)
    _made: int = 0

    async def begin(self) -> None:
        """Create its group."""
        self.group = await self.idp.create_group(f"team-{self.name}", [], externalId=self.name)

    async def work(self, ended: asyncio.Event) -> None:
        """Change one thing after the other until `ended`."""
        while not ended.is_set():
            steps = [self._create, self._change, self._move, self._delete]
            [step] = self.dice.choices(steps, (3, 4, 5, 1))
            if self.people or step == self._create:
                await step()

    @property
    def inside(self) -> set[str]:
        """Who is to be in the room that its group opens, by their user names."""
        return {self.people[i].user_name for i in self.members if self.people[i].active}

    # -- What it does --------------------------------------------------------------

    async def _asked(self, method: str, path: str, *accepted: int, body: object = None) -> int:
        """Ask; the last status that is accepted is that of what has been done by then already."""
        before = self.idp.failed
        status, answer = await self.idp.call(method, path, body)
        expected = accepted if self.idp.failed > before else accepted[:1]
        if status not in expected:
            self.wrong.append(f"{method} {path}: {status} {answer}")
        return status

    async def _create(self) -> None:
        if len(self.people) >= MOST:
            return
        self._made += 1
        name = f"{self.name}-{self._made}"
        body = {"userName": name, "externalId": name, "displayName": name, "active": True}
        await self._asked("POST", "/Users", 201, 409, body=body)
        path = f'/Users?filter=userName eq "{name}"'
        for found in (await self.idp.ok("GET", path))["Resources"]:
            self.people[found["id"]] = Person(name, name)

    async def _change(self) -> None:
        user = self.dice.choice(list(self.people))
        changed = Person(
            self.people[user].user_name,
            f"title {self.dice.randrange(10**6)}",
            active=self.dice.random() < 0.7,
        )
        value = {"displayName": changed.title, "active": changed.active}
        operation = {"op": "replace", "value": value}
        await self._asked("PATCH", f"/Users/{user}", 200, body={"Operations": [operation]})
        self.people[user] = changed

    async def _move(self) -> None:
        user = self.dice.choice(list(self.people))
        op = "remove" if user in self.members else "add"
        operation = {"op": op, "path": "members", "value": [{"value": user}]}
        await self._asked("PATCH", f"/Groups/{self.group}", 204, body={"Operations": [operation]})
        self.members ^= {user}

    async def _delete(self) -> None:
        user = self.dice.choice(list(self.people))
        await self._asked("DELETE", f"/Users/{user}", 204, 404)
        del self.people[user]
        self.members.discard(user)

    # -- What has become of it -----------------------------------------------------

    async def lost(self, url: str) -> list[str]:
        """Return what a service has otherwise than was acknowledged."""
        idp = ScimClient(url)
        path = f'/Users?filter=userName sw "{self.name}-"&count=1000'
        found = {
            user["id"]: Person(user["userName"], user["displayName"], user["active"])
            for user in (await idp.ok("GET", path))["Resources"]
        }
        group = await idp.ok("GET", f"/Groups/{self.group}")
        members = {member["value"] for member in group["members"]}
        return [
            f"{user}: acknowledged {self.people.get(user)}, found {found.get(user)}"
            for user in self.people.keys() | found.keys()
            if self.people.get(user) != found.get(user)
        ] + [
            f"{user} in the group {self.name}: acknowledged {user in self.members}"
            for user in self.members ^ members
        ]


@contextlib.asynccontextmanager
async def at_work(
    number: int, balancer: Balancer, dice: random.Random
) -> AsyncIterator[list[Provider]]:
    """Have so many change things all the time for the duration of a block."""
    ended = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        providers = [
            Provider(f"p{n}", await stack.enter_async_context(balanced(balancer, dice)), dice)
            for n in range(number)
        ]
        for provider in providers:
            await provider.begin()
        working = [asyncio.create_task(provider.work(ended)) for provider in providers]
        try:
            yield providers
        finally:
            ended.set()
            await asyncio.gather(*working)
