"""Names that others chose: what they do to the pages of the console that show them, nothing."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.service.client import call, made
from tests.service.visiting import visited

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")

NONE_GO = {"REMOVAL_LIMIT_COUNT": "0", "REMOVAL_LIMIT_PERCENT": "0"}
FROM_THE_RIGHT = "\u05d0\u05d1 12 \u05d2"
TURNING = "\u202eOps\u2067\u200f"


class _Texts(HTMLParser):
    """The pieces of text of a page, as they are read, but for its title."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._shown = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._shown = tag != "title"

    def handle_data(self, data: str) -> None:
        if self._shown and data.strip():
            self.found.append(data.strip())


@pytest.mark.parametrize("name", [FROM_THE_RIGHT, TURNING], ids=["from the right", "turning"])
async def test_no_name_turns_round_what_stands_beside_it(tmp_path: Path, name: str) -> None:
    """What is written from the right has an element of its own; what turns the writing is shown."""
    async with visited(tmp_path, {"a": ["!r1"]}, **NONE_GO) as scene:
        scene.room(name)
        user = await made(scene.client, "Users", userName="ann", displayName=name)
        body = {"displayName": name, "externalId": "a"}
        members = [{"value": user["id"]}]
        group = (await made(scene.client, "Groups", **body, members=members))["id"]
        await scene.settled()
        assert (await call(scene.client, "PUT", f"/Groups/{group}", body))[0] == 200
        await scene.shows("heldPairs", 1)
        visitor = await scene.visitor()
        lists = ["", "people", "groups", "rooms", "held", "log"]
        for path in (*lists, "rooms/!r1", f"people/{user['id']}", f"groups/{group}"):
            page = await visitor.sees(path)
            assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", page), path
            texts = _Texts()
            texts.feed(page)
            named = [one for one in texts.found if re.search("[\u05d0-\u05d2]|Ops", one)]
            assert named, path
            if name == FROM_THE_RIGHT:
                assert {*named} == {name}, path
            else:
                assert all(r"\u202eOps\u2067\u200f" in one for one in named), path
