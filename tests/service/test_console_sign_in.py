"""Where a session is over, and how one gets back to where one was."""

import asyncio
import time
from pathlib import Path

import pytest

from scim_matrix.console import session
from scim_matrix.console.sign_in import ALLOWED
from tests.conftest import eventually
from tests.homeserver import Fault
from tests.service.client import call
from tests.service.visiting import Scene, Visitor, visited

# The library keeps the session under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")

PASSWORD = {"user": "bot", "password": "password"}
NOTHING_DONE = "You are not signed in any more, so nothing was done."


async def signed_in_again(visitor: Visitor) -> str:
    """Sign in, and return where that leads."""
    status, page, leads = await visitor.send("sign-in", "sign-in", **PASSWORD)
    assert status == 303, page
    assert (await visitor.ask("GET", leads.removeprefix("/console/")))[0] == 200
    return leads.removeprefix("/console/")


async def end_sessions(scene: Scene) -> None:
    """End every session at the service, as time does."""
    await scene.write("DELETE FROM console_session")


async def test_whoever_is_led_to_the_sign_in_comes_back_to_where_they_were(tmp_path: Path) -> None:
    """To the page of a link, with its query; who had a session is told that it is over."""
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        scene.room("Team")
        group = await scene.group("Staff", "ann", externalId="staff")
        for path in (
            "",
            "log?kind=join&user=a%26b",
            f"groups/{group}",
            "rooms/%21r1",
            "people?q=a",
        ):
            visitor = Visitor(scene.client)
            for method in ("HEAD", "GET"):
                assert (await visitor.ask(method, path))[::2] == (303, "/console/sign-in")
                page = await visitor.sees("sign-in")
                assert "Your session is over" not in page
                assert NOTHING_DONE not in page
            assert await signed_in_again(visitor) == path
            await end_sessions(scene)
            assert (await visitor.ask("GET", path))[::2] == (303, "/console/sign-in")
            assert "Your session is over" in await visitor.sees("sign-in")
            if not path:
                wrong = {"user": "bot", "password": "wrong"}
                assert (await visitor.send("sign-in", "sign-in", **wrong))[0] == 403
            assert await signed_in_again(visitor) == path


@pytest.mark.parametrize("cookie", ["kept", "gone"])
async def test_a_form_of_a_session_that_is_over_does_nothing_and_says_so(
    tmp_path: Path, cookie: str
) -> None:
    """And whoever signs in then is where the form stands, to send it again."""
    async with visited(tmp_path) as scene:
        room = scene.room("Team")
        group = await scene.group("Staff", "ann")
        [user] = (await call(scene.client, "GET", "/Users"))[1]["Resources"]
        visitor = await scene.visitor()
        for page, path, form in (
            (f"groups/{group}", f"groups/{group}/mappings", {"room": room}),
            (f"groups/{group}", f"groups/{group}/preview", {"room": room}),
            ("held?from=0", "held", {"room": room, "decision": "approved", "chosen": "1.1"}),
            ("", "compare", {}),
            (f"people/{user['id']}", f"people/{user['id']}/link", {"account": "@x:example.org"}),
        ):
            token = (await visitor.sees(page)).split('name="csrf" value="')[1].split('"')[0]
            await end_sessions(scene)
            if cookie == "gone":
                visitor.cookies.clear()
            sent = await visitor.ask("POST", path, csrf=token, **form)
            assert sent[::2] == (303, "/console/sign-in"), sent
            assert NOTHING_DONE in await visitor.sees("sign-in")
            assert NOTHING_DONE not in await visitor.sees("sign-in")
            assert await signed_in_again(visitor) == page
        rows = await scene.database.reader.execute_fetchall(
            "SELECT 1 FROM action WHERE kind = 'map'"
        )
        assert [*rows] == []


@pytest.mark.parametrize(
    "referer",
    [
        "https://evil.test/console/held",
        "https://evil.test//evil.test/",
        "//evil.test/console/",
        "javascript:alert(1)",
        "https://evil.test/console/../../evil",
        "/console//evil.test",
        "\\\\evil.test",
        "http://[",
        "x" * 2000,
        "",
    ],
)
async def test_nobody_is_led_elsewhere_after_the_sign_in(tmp_path: Path, referer: str) -> None:
    """Only to pages of the console, whatever a browser says of where it was."""
    async with visited(tmp_path) as scene:
        visitor = Visitor(scene.client)
        headers = {"Referer": referer}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        async with scene.client.post(
            "/console/held", headers=headers | kind, data="", allow_redirects=False
        ) as answer:
            assert answer.status == 303
            visitor.cookies |= {name: cookie.value for name, cookie in answer.cookies.items()}
        status, _, leads = await visitor.send("sign-in", "sign-in", **PASSWORD)
        assert (status, leads) in ((303, "/console/"), (303, "/console/held"))


async def test_a_page_that_there_is_not_is_not_gone_back_to(tmp_path: Path) -> None:
    """Nor one with too long a query, nor what htmx asks for."""
    async with visited(tmp_path) as scene:
        for path in ("nowhere", f"log?user={'x' * 600}"):
            visitor = Visitor(scene.client)
            assert (await visitor.ask("GET", path))[0] == 303
            assert await signed_in_again(visitor) == ""


async def test_nobody_who_looks_waits_for_whoever_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page is there while somebody else has the write lock, and that it was seen is noted."""
    monkeypatch.setattr(session, "USE_EVERY", -1)
    async with visited(tmp_path, {"staff": ["!r1"]}) as scene:
        async with scene.writing(), asyncio.timeout(10):
            await Visitor(scene.client).sees("sign-in")
        scene.room("Team")
        group = await scene.group("Staff", "ann", externalId="staff")
        await scene.settled()
        visitor = await scene.visitor()
        await scene.write("UPDATE console_session SET used = used - 600")
        async with scene.writing(), asyncio.timeout(20):
            for path in (
                *("", "people", "people/ann", "groups", f"groups/{group}", "rooms", "rooms/!r1"),
                *("held", "log", "log?export=csv", "problems/dry-run"),
            ):
                await visitor.sees(path)

        async def idle() -> float:
            [row] = await scene.database.reader.execute_fetchall("SELECT used FROM console_session")
            return time.time() - float(row["used"])

        await eventually(idle, lambda seconds: seconds < 300)


async def test_a_browser_that_keeps_no_cookie_is_told_what_it_takes(tmp_path: Path) -> None:
    """Over plain HTTP it keeps none, and reloading mends nothing; with one, a form may be old."""
    async with visited(tmp_path) as scene:
        page = await Visitor(scene.client).sees("sign-in")
        token = page.split('name="csrf" value="')[1].split('"')[0]
        visitor = Visitor(scene.client)
        status, page, _ = await visitor.ask("POST", "sign-in", csrf=token, **PASSWORD)
        assert (status, "https://" in page, "reload" in page) == (403, True, False)
        await visitor.sees("sign-in")
        status, page, _ = await visitor.ask("POST", "sign-in", csrf=token, **PASSWORD)
        assert (status, "https://" in page, "reload" in page) == (403, False, True)


async def test_passwords_are_not_guessed(tmp_path: Path) -> None:
    """However a name is written; whoever else signs in goes on."""
    async with visited(tmp_path) as scene:
        visitor = Visitor(scene.client)
        names = ["bot", "BOT", "@bot:s"]
        said = [
            (await visitor.send("sign-in", "sign-in", user=name, password="wrong"))[0]
            for name in [names[number % 3] for number in range(ALLOWED)]
        ]
        assert set(said) == {403}
        status, page, _ = await visitor.send("sign-in", "sign-in", **PASSWORD)
        assert status == 429
        assert f"Too many attempts. Try again in {visitor.headers['Retry-After']} seconds." in page
        other = {"user": "ann", "password": "wrong"}
        assert (await visitor.send("sign-in", "sign-in", **other))[0] == 403


async def test_who_the_homeserver_makes_wait_is_told_for_how_long(tmp_path: Path) -> None:
    """In words and as a header: Synapse counts all sign-ins of an address."""
    async with visited(tmp_path) as scene:
        visitor = Visitor(scene.client)
        signs_in = Fault("rate limited", lambda r: (r.method, r.path[-1]) == ("POST", "login"))
        scene.homeserver.faults.append(signs_in)
        status, page, _ = await visitor.send("sign-in", "sign-in", **PASSWORD)
        assert (status, visitor.headers["Retry-After"]) == (429, "1")
        assert "Too many attempts. Try again in 1 second." in page
        assert await signed_in_again(visitor) == ""
