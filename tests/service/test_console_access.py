"""Who may do what in the console, asked of a homeserver in memory."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from scim_matrix.console import access as module
from scim_matrix.console.access import LISTED, NOT_YOURS, Access
from scim_matrix.matrix.errors import UnavailableError
from scim_matrix.matrix.server import Homeserver
from scim_matrix.sync.authority import Reach
from tests.homeserver import Fault, Request, World
from tests.homeserver.server import TOKEN, MemoryHomeserver, serving

ANN, BOB, CHIEF = "@ann:s", "@bob:s", "@chief:s"


@dataclass
class Asked:
    """Access with a clock that a test moves, and the homeserver that it asks."""

    access: Access
    homeserver: MemoryHomeserver
    now: float = 0.0

    @property
    def world(self) -> World:
        return self.homeserver.world

    def requests(self) -> int:
        """Return how many requests came in since the last call."""
        number = len(self.homeserver.requests)
        self.homeserver.requests.clear()
        return number


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    """Return access to a server with an administrator, and Ann, who manages and has a room."""
    world = World()
    for user_id in (ANN, BOB):
        world.account(user_id)
    world.account(CHIEF, admin=True)
    # Version 10: whoever made it has a power level as others have.
    world.rooms.create(world.service, room_id="!hers", version="10", levels=power(ANN, 50))
    world.rooms.create(world.service, room_id="!weak", version="10", levels=power(ANN, 49))
    world.rooms.create(world.service, room_id="!not-in", version="10", levels=power(ANN, 100))
    for room_id in ("!hers", "!weak"):
        world.bring(room_id, ANN)
    async with serving(world) as homeserver, contextlib.AsyncExitStack() as stack:
        asking = Homeserver.connect(homeserver.url, world.service, TOKEN, "oidc-x")
        stack.push_async_callback(asking.close)
        found = Asked(Access(lambda: asking, ["@ann:*", "@ann-*"], lambda: found.now), homeserver)
        yield found


def power(user_id: str, level: int) -> dict[str, Any]:
    """Return power levels in which somebody has one, beside the service's account."""
    return {"users": {user_id: level, "@bot:s": 100}}


@pytest.mark.parametrize("barred", [None, "locked", "suspended", "deactivated"])
async def test_administrators_and_managers_enter_while_their_account_is_in_use(
    asked: Asked, barred: str | None
) -> None:
    """Nobody else enters, and of those who do only administrators administer."""
    if barred:
        for user_id in (ANN, BOB, CHIEF):
            asked.world.account(user_id, **{barred: True})
    able = barred is None
    for user_id, enters, administers in (
        (ANN, able, False),
        (BOB, False, False),
        (CHIEF, able, able),
        ("@gone:s", False, False),
        # Gone too, and once a manager.
        ("@ann-gone:s", False, False),
    ):
        assert await asked.access.may_enter(user_id) is enters, user_id
        assert await asked.access.is_admin(user_id) is administers, user_id


async def test_a_manager_may_map_only_rooms_that_they_are_in_with_the_power(asked: Asked) -> None:
    """All of several rooms, with a power level and for nobody else only what they could do."""

    async def may(*rooms: str, **options: Any) -> bool:
        return (await asked.access.verdict(ANN, rooms, Reach(**options))).followed

    assert await may("!hers")
    assert not await may("!weak")
    assert not await may("!not-in")
    assert not await may("!hers", "!weak")
    assert not await may("!weak", "!hers")
    assert await may("!hers", power=50)
    assert not await may("!hers", power=51)
    assert await may("!hers", exclusive=True)
    assert not await may()
    refused = await asked.access.verdict(ANN, ["!hers", "!weak"], Reach())
    assert refused.reason.startswith("In !weak: ")
    assert await asked.access.own_among(ANN, ["!weak", "!not-in", "!hers"]) == ["!hers"]
    assert await asked.access.may_see(ANN, "!hers")
    assert not await asked.access.may_see(ANN, "!weak")


async def test_administrators_may_map_everything_and_others_nothing(asked: Asked) -> None:
    """Somebody who is no manager is told so whatever power they have in the room."""
    assert (await asked.access.verdict(CHIEF, ["!not-in"], Reach())).followed
    asked.world.bring("!hers", BOB)
    asked.world.levels("!hers", bob=100)
    assert not (await asked.access.verdict(BOB, ["!hers"], Reach())).followed


async def test_a_room_that_is_gone_is_nobodys(asked: Asked) -> None:
    """Though it was there a moment ago, when it was asked where somebody is."""

    def delete(request: Request) -> None:
        if request.path[-1] == "state":
            asked.world.rooms.delete("!hers")

    asked.homeserver.before = delete
    verdict = await asked.access.verdict(ANN, ["!hers"], Reach())
    assert (verdict.followed, verdict.reason) == (False, NOT_YOURS)


async def test_it_is_not_told_which_rooms_there_are(asked: Asked) -> None:
    """A room that somebody is not in gets the answer that an unknown one gets."""
    for user_id in (ANN, BOB):
        told = [
            await asked.access.verdict(user_id, [room], Reach()) for room in ("!not-in", "!nowhere")
        ]
        assert told[0] == told[1]
        assert (told[0].followed, told[0].reason) == (False, NOT_YOURS)
    asked.world.alias("#theirs:s", "!not-in")
    asked.world.alias("#hers:s", "!hers")
    for named, of_manager, of_administrator in (
        ("#hers:s", "!hers", "!hers"),
        ("!hers", "!hers", "!hers"),
        ("#theirs:s", None, "!not-in"),
        ("!not-in", None, "!not-in"),
        ("#nowhere:s", None, None),
        ("!nowhere", None, None),
    ):
        assert await asked.access.find_room(ANN, named) == of_manager, named
        assert await asked.access.find_room(CHIEF, named) == of_administrator, named


async def test_a_change_asks_anew_and_what_is_shown_believes_an_answer_for_a_while(
    asked: Asked,
) -> None:
    """Power that is gone counts at once where something is changed, and soon where it is shown."""
    access = asked.access
    assert await access.may_see(ANN, "!hers")
    asked.world.levels("!hers", ann=0)
    asked.requests()
    asked.now = module.KEEP - 1
    assert await access.may_see(ANN, "!hers")
    assert asked.requests() == 0
    assert not (await access.verdict(ANN, ["!hers"], Reach())).followed
    asked.world.levels("!hers", ann=50)
    assert not await access.may_see(ANN, "!hers")
    asked.now += module.KEEP
    assert await access.may_see(ANN, "!hers")

    # Who may not use their account any more, or has left, is refused at once too.
    asked.world.rooms.leave("!hers", ANN)
    assert not (await access.verdict(ANN, ["!hers"], Reach())).followed
    asked.world.bring("!hers", ANN)
    asked.world.account(ANN, locked=True)
    assert not (await access.verdict(ANN, ["!hers"], Reach())).followed
    assert not await access.may_enter(ANN, anew=True)


async def test_whom_the_homeserver_let_in_reads_on_while_it_is_away(asked: Asked) -> None:
    """For half an hour, whoever it was and no longer is not; nobody changes anything, or is new."""
    access, world = asked.access, asked.world
    assert await access.is_admin(CHIEF)
    assert not await access.may_enter(BOB)
    world.account(ANN, locked=True)
    assert not await access.may_enter(ANN)
    asked.homeserver.dark = True
    for asked.now in (module.KEEP, module.LASTING - 1):
        assert await access.is_admin(CHIEF, reads=True)
        assert await access.may_enter(CHIEF, reads=True)
        assert await access.may_see(CHIEF, "!not-in", reads=True)
        assert not await access.may_enter(BOB, reads=True)
        assert not await access.may_enter(ANN, reads=True)
        for refused in (
            access.is_admin(CHIEF),
            access.may_enter(CHIEF, anew=True),
            access.verdict(CHIEF, ["!not-in"], Reach()),
            access.may_enter("@new:s", reads=True),
        ):
            with pytest.raises(UnavailableError):
                await refused
    asked.now = module.LASTING
    with pytest.raises(UnavailableError):
        await access.is_admin(CHIEF, reads=True)


async def test_a_homeserver_that_is_away_is_asked_again_in_a_quarter_of_a_minute(
    asked: Asked,
) -> None:
    """So pages do not wait for it, and what it says counts within a minute once it is back."""
    assert await asked.access.is_admin(CHIEF)
    asked.requests()
    asked.homeserver.dark, asked.now = True, module.KEEP
    for _ in range(5):
        assert await asked.access.is_admin(CHIEF, reads=True)
    assert asked.requests() == 1
    asked.homeserver.dark, asked.now = False, module.KEEP + module.AWAY
    asked.world.account(CHIEF, locked=True)
    assert not await asked.access.is_admin(CHIEF, reads=True)
    assert asked.now < 60


async def test_nobody_waits_long_for_a_homeserver_that_hangs(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads goes on after a few seconds, and is told why it is not the latest."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    assert await asked.access.is_admin(CHIEF)
    asked.homeserver.faults.append(Fault("hangs"))
    asked.now = module.KEEP
    assert await asked.access.is_admin(CHIEF, reads=True)
    assert str(asked.access.error) == "no answer within 0.01 s"
    await asked.homeserver.hung.wait()
    asked.homeserver.given_up.set()


async def test_a_list_asks_for_the_power_in_each_room_once_in_ten_minutes(asked: Asked) -> None:
    """Only in those rooms that somebody is in."""
    rooms = ["!hers", "!weak", "!not-in", "!nowhere"]
    assert await asked.access.own_among(ANN, rooms) == ["!hers"]
    assert asked.requests() == 1 + 2 * 2
    asked.now = LISTED - 1
    assert await asked.access.own_among(ANN, rooms) == ["!hers"]
    assert asked.requests() == 1
    asked.now = LISTED + 1
    assert await asked.access.own_among(ANN, rooms) == ["!hers"]
    assert asked.requests() == 2 * 2


async def test_rooms_below_a_space_are_found_at_any_depth(asked: Asked) -> None:
    """Without the space itself, which may be among them."""
    world = asked.world
    for room_id in ("!space", "!inner"):
        world.rooms.create(world.service, room_id=room_id, version="10", space=True)
    for space, child in (("!space", "!inner"), ("!inner", "!hers"), ("!inner", "!space")):
        world.child(space, world.service, child)
    below = ["!hers", "!inner"]
    assert await asked.access.rooms_below(ANN, "!space") == (below, frozenset(below))
    # Whoever is in a space is told what it holds.
    world.bring("!inner", ANN)
    asked.now = LISTED + 1
    assert await asked.access.rooms_below(ANN, "!space") == (below, frozenset(["!inner"]))
