"""What the console says is done, before and after it is."""

import datetime
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.service.client import call, made
from tests.service.test_console_mapping import text
from tests.service.visiting import Scene, visited

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")


async def disable(scene: Scene, user: dict[str, Any]) -> None:
    """Have the identity provider disable somebody."""
    change = {"op": "replace", "path": "active", "value": False}
    body = {"schemas": [PATCH], "Operations": [change]}
    assert (await call(scene.client, "PATCH", f"/Users/{user['id']}", body))[0] < 300


@pytest.mark.parametrize(
    ("settings", "heading", "button", "disabled", "deleted"),
    [
        ({}, "would be locked", "Lock all 3", "locked", "locked, and deactivated after 2"),
        (
            {"ON_DISABLE": "suspend", "ON_DELETE": "erase"},
            "would be suspended or locked",
            "Suspend or lock all 3",
            "suspended",
            "locked, and deactivated and erased after 2",
        ),
        ({"ON_DELETE": "nothing"}, "would be locked", "Lock all 3", "locked", "locked"),
        (
            {"ON_DISABLE": "deactivate", "ON_DELETE": "lock"},
            "would be deactivated or locked",
            "Deactivate or lock all 3",
            "deactivated",
            "locked",
        ),
    ],
)
async def test_of_each_held_account_it_is_told_what_becomes_of_it_and_when(
    tmp_path: Path, settings: dict[str, str], heading: str, button: str, disabled: str, deleted: str
) -> None:
    """Which of the two happens to whom, in the heading, the causes, the rows and on the buttons."""
    limits = {"REMOVAL_LIMIT_PERCENT": "1", "REMOVAL_LIMIT_COUNT": "0"}
    more = {"ON_DELETE": "deactivate"} | settings | limits
    async with visited(tmp_path, {}, **more) as scene:
        await scene.group("Staff", "ann", "bob", "cat", "dan")
        await scene.settled()
        users = (await call(scene.client, "GET", "/Users"))[1]["Resources"]
        ann, bob, cat, _ = sorted(users, key=lambda user: user["userName"])
        await disable(scene, ann)
        await disable(scene, bob)
        assert (await call(scene.client, "DELETE", f"/Users/{cat['id']}"))[0] == 204
        await scene.shows("heldAccounts", 3)
        page = text(await (await scene.visitor()).sees("held"))
        assert f"3 of 4 managed accounts {heading}" in page
        assert button in page
        causes, rows = page.split("choose some of them")
        assert "Disabled at the identity provider: 2 people" in causes
        assert f"Approved, they would be {disabled}." in causes
        assert "Deleted at the identity provider: 1 person" in causes
        assert deleted.removesuffix("after 2") in causes
        for name, becomes in (("ann", disabled), ("bob", disabled), ("cat", deleted)):
            assert f"@{name}:example.org{becomes}" in rows, rows


async def test_a_dry_run_is_told_first_and_of_everything(tmp_path: Path) -> None:
    """Before anything is withheld, on every page; and what is decided there would be done."""
    async with visited(tmp_path, {"staff": ["!r1"]}, DRY_RUN="true") as scene:
        room, other = scene.room("Team"), scene.room("Lobby")
        group = await scene.group("Staff", "ann")
        visitor, page = await scene.visitor(), f"groups/{group}"
        first = "DRY_RUN is on. Nothing is changed on the homeserver"
        for path in ("", "held", "people", "groups", page, "rooms", "log"):
            main = (await visitor.sees(path)).split('<main id="main">')[1]
            assert text(main).startswith(first), path
        assert (await visitor.send("", "compare"))[0] == 303
        assert "whatever differs would be put right" in text(await visitor.sees(""))
        assert (await visitor.send(page, f"{page}/mappings", room=other))[0] == 303
        assert "would be brought into" in text(await visitor.sees(page))
        assert scene.world.rooms.all[room].membership("@ann:example.org") != "join"


async def test_a_run_that_is_none_says_nothing_of_dry_ones(tmp_path: Path) -> None:
    """Nothing of it stands on a page then."""
    async with visited(tmp_path) as scene:
        assert "DRY_RUN" not in await (await scene.visitor()).sees("")


async def test_whose_account_is_whose_is_said_by_their_names(tmp_path: Path) -> None:
    """By name and user name, not by an ID that nobody knows anybody by."""
    async with visited(tmp_path) as scene:
        visitor = await scene.visitor()
        for name, more, called in (
            ("ann", {}, "ann"),
            ("bob", {"displayName": "Bob Builder"}, "Bob Builder (bob)"),
            ("cat", {"name": {"formatted": "Cat Carter"}}, "Cat Carter (cat)"),
        ):
            scene.world.account(f"@{name}:example.org")
            user = await made(scene.client, "Users", userName=name, **more)
            page = f"people/{user['id']}"
            form = {"account": f"@{name}:example.org"}
            assert (await visitor.send(page, f"{page}/link", **form))[0] == 303
            said = f"Linked: @{name}:example.org is {called}'s."
            assert said in text(await visitor.sees(page))


async def test_how_far_a_comparison_is_shows_where_it_is_said_to(tmp_path: Path) -> None:
    """By when the rooms were last compared, which is then later than it was asked for."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        scene.room("Team")
        await scene.settled()
        visitor, asked = await scene.visitor(), time.time()
        assert (await visitor.send("", "compare"))[0] == 303
        page = text(await visitor.sees(""))
        assert "“Rooms last compared” says when that is done for rooms." in page
        await scene.compared(asked)
        page = await visitor.sees("")
        [told] = re.findall(
            r'Rooms last compared</dt><dd><time class="age" datetime="([^"]+)"', page
        )
        assert datetime.datetime.fromisoformat(told).timestamp() >= int(asked)
