"""What a human decides at a service that does not lead is done by the one that does."""

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import quote

import aiohttp

from scim_matrix.demo.service import ScimClient
from tests.conftest import eventually
from tests.homeserver.rooms import NAME, Event
from tests.postgresql import Server
from tests.service.replicas import BOT, ROOM, Replica, Surroundings, created, surrounded
from tests.service.visiting import Visitor

LIMITS = {"REMOVAL_LIMIT_PERCENT": "1", "REMOVAL_LIMIT_COUNT": "1"}
NAMES = ("ann", "bob", "cat", "dan")


@dataclass
class Two:
    """Two services, and somebody who is signed in at the one that does not lead."""

    around: Surroundings
    leader: Replica
    follower: Replica
    visitor: Visitor

    async def sees(self, path: str) -> str:
        """Return the words of a page of the follower."""
        page = await self.visitor.sees(path)
        return " ".join(unescape(re.sub("<[^>]+>", " ", page)).split())

    async def shows(self, path: str, words: str) -> None:
        """Wait until a page of the follower has some words."""
        await eventually(lambda: self.sees(path), lambda page: words in page)

    async def sends(self, page: str, path: str, **form: str) -> None:
        """Send a form of the follower's that is taken."""
        status, text, _ = await self.visitor.send(page, path, **form)
        assert status == 303, text

    async def in_room(self, room_id: str, *names: str) -> None:
        """Wait until these, and nobody else beside the service, are in a room."""
        wanted = {BOT, *(f"@{name}:demo.test" for name in names)}

        async def look() -> set[str]:
            return set(self.around.world.rooms.get(room_id).members())

        await eventually(look, lambda seen: seen | {BOT} == wanted)

    async def held(self, number: int) -> None:
        """Wait until so many removals are held, as the follower has it."""

        async def look() -> int:
            return int((await self.follower.asked("/readyz"))[1]["work"]["heldPairs"])

        await eventually(look, lambda seen: seen == number)

    def follower_only_looked(self) -> None:
        """See that the follower changed nothing but who is signed in."""
        sent = [request.path[-1] for request in self.follower.changes]
        assert set(sent) <= {"login", "logout"}


@contextlib.asynccontextmanager
async def two(
    server: Server, folder: Path, group_map: dict[str, list[str]], **more: str
) -> AsyncIterator[Two]:
    """Run two services with their consoles; whoever looks has signed in at the other one."""
    async with (
        surrounded(server, folder) as around,
        contextlib.AsyncExitStack() as stack,
    ):
        leader = await around.replica(group_map, {"CONSOLE": "true", **more})
        follower = await around.replica(group_map, {"CONSOLE": "true", **more})
        sessions = [
            await stack.enter_async_context(
                aiohttp.ClientSession(base_url=one.url, cookie_jar=aiohttp.DummyCookieJar())
            )
            for one in (leader, follower)
        ]
        await eventually(follower.is_ready, bool)
        entering = Visitor(sessions[0])
        await entering.sign_in("bot")
        scene = Two(around, leader, follower, Visitor(sessions[1], entering.cookies))
        yield scene
        scene.follower_only_looked()
        assert await follower.leads() is False


async def test_held_removals_are_decided_on(postgresql: Server, tmp_path: Path) -> None:
    """Approved and dismissed, on a page and by a command; what the page says of it is so."""
    async with two(postgresql, tmp_path, {"displayName:team": [ROOM]}, **LIMITS) as scene:
        users = await created(scene.follower, *NAMES)
        idp = ScimClient(scene.follower.url)
        team = await idp.create_group("team", list(users.values()))
        await scene.in_room(ROOM, *NAMES)
        await idp.remove(team, *(users[name] for name in NAMES[1:]))
        await scene.held(3)
        held = await scene.visitor.sees("held")
        assert "3 of 4 managed people would leave" in held
        by_name = dict(
            reversed(pair)
            for pair in re.findall(
                r'type="checkbox" name="chosen" value="([^"]+)"> <bdi>@?(\w+)', held
            )
        )
        chosen = {"room": ROOM, "chosen": by_name["bob"]}
        await scene.sends("held", "held", decision="approved", **chosen)
        assert "Approved: 1 person is removed" in await scene.sees("held")
        await scene.in_room(ROOM, "ann", "cat", "dan")
        await scene.held(2)
        chosen = {"room": ROOM, "chosen": by_name["cat"]}
        await scene.sends("held", "held", decision="dismissed", **chosen)
        assert "Dismissed: 1 person stays" in await scene.sees("held")
        await scene.held(1)
        assert "1 approved by" in await scene.follower.told("approve", ROOM)
        await scene.in_room(ROOM, "ann", "cat")
        assert "Nothing is held." in await scene.sees("held")
        assert "stays, as a human decided" in await scene.sees(f"rooms/{quote(ROOM)}")
        decided = "SELECT user_id, decided_by FROM action WHERE kind = 'kick' AND outcome = 'done'"
        assert ("@bob:demo.test", BOT) in scene.around.run(decided)


async def test_a_mapping_is_made_and_taken_out(postgresql: Server, tmp_path: Path) -> None:
    """People come and go by it, and the page of the group says how that is."""
    async with two(postgresql, tmp_path, {"displayName:team": [ROOM]}) as scene:
        world = scene.around.world
        room = world.room(BOT, room_id="!second")
        world.rooms.put(room, Event(NAME, "", BOT, {"name": "Second"}))
        users = await created(scene.follower, "ann", "bob")
        group = await ScimClient(scene.leader.url).create_group("staff", list(users.values()))
        page = f"groups/{group}"
        await scene.sends(page, f"{page}/mappings", room="!second")
        assert "Kept: whoever is active in staff" in await scene.sees(page)
        await scene.in_room("!second", "ann", "bob")
        await scene.shows("rooms/%21second", "@ann:demo.test in it staff")
        mapping = (await scene.visitor.sees(page)).split('name="mapping" value="')[1].split('"')[0]
        await scene.sends(page, f"{page}/mappings/remove", mapping=mapping, people="leave")
        assert "2 removals follow" in await scene.sees(page)
        await scene.in_room("!second")


async def test_an_account_is_linked(postgresql: Server, tmp_path: Path) -> None:
    """A conflict that was settled is none any more, on the person's page as well."""
    async with two(postgresql, tmp_path, {"*": [ROOM]}) as scene:
        scene.around.world.account("@eve:demo.test")
        users = await created(scene.follower, "eve")
        page = f"people/{users['eve']}"
        await scene.shows(page, "Conflict, @eve:demo.test is not touched")
        await scene.sends(page, f"{page}/link", account="@eve:demo.test")
        assert "Linked: @eve:demo.test is" in await scene.sees(page)
        await scene.in_room(ROOM, "eve")
        await scene.shows(page, "!room: there")


async def test_all_is_compared(postgresql: Server, tmp_path: Path) -> None:
    """Now, by the button: what a hand has changed where nobody follows it is put right."""
    async with two(postgresql, tmp_path, {"*": [ROOM]}) as scene:
        await created(scene.follower, "ann")
        await scene.in_room(ROOM, "ann")
        before = len(scene.leader.homeserver.requests)
        await scene.sends("", "compare")
        assert "is compared with the homeserver now" in await scene.sees("")

        async def looked() -> bool:
            sent = scene.leader.homeserver.requests[before:]
            return any(request.path[-1] == "members" for request in sent)

        await eventually(looked, bool)


async def test_an_alias_is_let_in(postgresql: Server, tmp_path: Path) -> None:
    """By a command beside the follower, whose page has it as waiting before."""
    alias = "#late:demo.test"
    async with two(postgresql, tmp_path, {"*": [alias]}) as scene:
        world = scene.around.world
        await created(scene.follower, "ann")
        await scene.shows("rooms", alias)
        world.account("@guest:demo.test")
        world.room("@guest:demo.test", room_id="!late")
        world.alias(alias, "!late")
        await scene.sends("", "compare")
        await scene.shows("", "scim-matrix approve")
        assert "stands for" in await scene.follower.told("approve", alias)

        async def joined() -> set[str]:
            return set(world.rooms.get("!late").members())

        await eventually(joined, lambda seen: "@ann:demo.test" in seen)
