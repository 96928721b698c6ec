"""What the console says is so, on a homeserver in memory."""

from pathlib import Path

import pytest

from tests.service.visiting import visited

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")


async def test_what_was_not_kept_is_not_said_to_be(tmp_path: Path) -> None:
    """A group that opens a room already goes on as it did, and the page says so."""
    async with visited(tmp_path) as scene:
        room, group = scene.room("Team"), await scene.group("Staff", "ann")
        visitor, page = await scene.visitor(), f"groups/{group}"
        told = []
        for power in ("", "50"):
            status, text, _ = await visitor.send(page, f"{page}/mappings", room=room, power=power)
            assert status == 303, text
            told.append(await visitor.sees(page))
        assert "Kept: " in told[0]
        assert "Kept: " not in told[1]
        assert "Nothing was changed: Staff opens " in told[1]
        assert "power level 50" not in told[1]


async def test_what_still_opens_a_room_is_told(tmp_path: Path) -> None:
    """Of a room that the configuration opens too it is not said that the group opens it no more."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        room, other = scene.room("Team"), scene.room("Lobby")
        assert room == "!r1"
        group = await scene.group("Staff", "ann", externalId="staff")
        visitor, page = await scene.visitor(), f"groups/{group}"
        for where, expected in ((room, "still opens"), (other, "no longer opens")):
            assert (await visitor.send(page, f"{page}/mappings", room=where))[0] == 303
            text = await visitor.sees(page)
            mapping = text.split('name="mapping" value="')[1].split('"')[0]
            remove = f"{page}/mappings/remove"
            status, _, _ = await visitor.send(page, remove, mapping=mapping, people="leave")
            assert status == 303
            assert f"Staff {expected}" in await visitor.sees(page)
