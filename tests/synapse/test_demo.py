"""`scim-matrix demo` as a person sees it."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from scim_matrix.demo.stage import IdentityProvider, Stage, Step
from scim_matrix.demo.synapse import User
from tests.conftest import eventually
from tests.synapse.conftest import StartService


# More than 20 s of a busy machine: it is the demo as people start it, every process of it anew.
async def test_it_tells_its_story_and_stays_open(tmp_path: Path) -> None:
    """Requests, rooms, the brake and the takeover are told in 80 columns; Ctrl-C leaves nothing."""
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scim_matrix", "demo", "--serve"),
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "COLUMNS": "80"},
            stdout=file,
            stderr=file,
        )
    try:

        async def told() -> str:
            assert process.returncode is None, output.read_text()
            return output.read_text()

        text = await eventually(told, lambda text: "Ctrl-C ends it" in text, seconds=180)
        one_line = " ".join(text.split())
        for words in (
            "POST /Groups",
            '"displayName": "Staff"',
            "+anna +ben",
            "nothing shows that it is theirs",
            "scim-matrix approve",
            "Every room was right after every step.",
        ):
            assert words in one_line
        assert "warning" not in text.lower()
        # Whoever has typed that already is not told to.
        assert "demo --serve" not in one_line
        told_of = text[: text.index("It keeps running")]
        # Only what is copied may go on beyond a line's end.
        wide = [line for line in told_of.splitlines() if len(line) > 80]
        assert [line for line in wide if "scim-matrix " not in line] == []
        for command in (
            r"\$ scim-matrix why guest general",
            "scim-matrix users link [0-9a-f-]{36} @guest:demo.test",
            r"\$ scim-matrix why ben general",
            "scim-matrix approve '![^' ]{43}'",
            r"scim-matrix status --env-file \S+/demo\.env",
        ):
            assert any(re.search(command, line) for line in text.splitlines()), command
        [console] = re.findall(r"http://localhost:\d+/console/", text)
        async with aiohttp.ClientSession() as session, session.get(console) as answer:
            assert (answer.status, "Sign in" in await answer.text()) == (200, True)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
        assert [path.name for path in tmp_path.iterdir()] == ["output"]
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def test_a_wrong_room_is_told_and_counted(
    service: StartService,
    admin: User,
    tag: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A step whose room is not as it should be, or whose command does not say so, is wrong."""
    monkeypatch.setattr("scim_matrix.demo.stage.SETTLE_SECONDS", 0.0)
    room = await admin.create_room()

    async def nothing() -> None:
        """Leave the room as it is."""

    async with service({"g": [room]}) as process:
        idp = IdentityProvider(process.url)
        stage = Stage(Console(), admin, {tag: room}, process, idp)
        await stage.play(Step("one", "", nothing, {tag: {"ann"}}))
        assert stage.wrong == 1
        assert f"WRONG should be {tag}: ann" in capsys.readouterr().out
        await stage.play(Step("two", "", nothing, {tag: set()}, ("version",), "no such word"))
        assert stage.wrong == 2
        await stage.play(Step("three", "", nothing, {tag: set()}, ("version",), "."))
        assert stage.wrong == 2
