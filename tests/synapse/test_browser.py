"""The console in a real browser, against the real service and a real Synapse."""

import os
from importlib import resources
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, User
from tests.conftest import eventually
from tests.synapse import browsing
from tests.synapse.conftest import StartService, group_of, mxid, ready, room_holds, settled

AXE = resources.files("axe_playwright_python") / "axe.min.js"
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"

pytestmark = browsing.needs_chromium
browser = browsing.browser


class Person:
    """Somebody at a browser; whatever its console says is collected."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.said: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"{message.type}: {message.text} ({message.location})")

    async def go(self, path: str) -> None:
        """Open a page of the console."""
        await self.page.goto(f"{self.url}/console/{path}")

    async def sign_in(self, name: str) -> None:
        """Sign in by password."""
        await self.go("")
        await self.page.get_by_label("User name").fill(name)
        await self.page.get_by_label("Password").fill("password")
        await self.page.get_by_role("button", name="Sign in").click()

    async def is_accessible(self) -> None:
        """Check the page with axe-core: nothing serious."""
        await self.page.evaluate(AXE.read_text())
        found = await self.page.evaluate("axe.run()")
        assert found["passes"]
        serious = [
            (v["id"], v["help"], [n["html"] for n in v["nodes"]])
            for v in found["violations"]
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == []

    async def picture(self, name: str) -> None:
        """Take the picture that the README shows, when that is asked for."""
        if os.environ.get("SCREENSHOTS"):
            PICTURES.mkdir(exist_ok=True)
            await self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_group_is_mapped_and_a_removal_decided(
    browser: Browser, admin: User, service: StartService, tag: str, scheme: str
) -> None:
    """Sign in, map a group to a room, see people arrive, approve what is held."""
    alias = f"#{tag}team:{SERVER_NAME}"
    room = await admin.create_room(room_alias_name=f"{tag}team", name="Team")
    limits = {"REMOVAL_LIMIT_COUNT": "1", "REMOVAL_LIMIT_PERCENT": "10"}
    async with service({}, CONSOLE="true", **limits) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(
            idp, f"{tag}ann", f"{tag}bob", key=f"{tag}g", name="Engineering"
        )
        await settled(idp)
        page = await browser.new_page(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": 1100, "height": 700},
        )
        person = Person(page, process.url.replace("127.0.0.1", "localhost"))
        await person.go("")
        await person.is_accessible()
        await person.sign_in("scim-bot")
        await page.get_by_role("heading", name="Overview").wait_for()
        await person.is_accessible()

        await page.get_by_role("link", name="Groups").click()
        await person.is_accessible()
        await page.get_by_role("link", name="Engineering").click()
        await page.get_by_label("Room (address or ID)").fill(alias)
        await page.get_by_role("button", name="What would happen?").click()
        await page.get_by_text(f"This would add 2 people to {alias}").wait_for()
        assert page.url.endswith(f"/console/groups/{group}")
        await person.is_accessible()
        await person.picture("group")
        await page.get_by_role("button", name="Open this room").click()
        await room_holds(admin, room, set(people))
        await settled(idp)

        await page.get_by_role("link", name="Rooms").click()
        await person.is_accessible()
        await page.get_by_role("link", name=alias).click()
        await page.get_by_text(mxid(f"{tag}ann")).wait_for()
        await person.is_accessible()

        await page.get_by_role("link", name="People").click()
        await page.get_by_label("Matrix ID contains").fill(f"{tag}AN")
        await page.get_by_role("button", name="Search").click()
        await person.is_accessible()
        await page.get_by_role("link", name=f"{tag}ann").click()
        await page.get_by_text("this service made it for this very user").wait_for()
        await person.is_accessible()

        await idp.ok("DELETE", f"/Groups/{group}")
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 2)
        await page.get_by_role("link", name="Overview").click()
        await page.get_by_role("heading", name="Needs you").wait_for()
        await page.get_by_role("link", name="Held removals 2").wait_for()
        await page.get_by_text("2 people, because of Engineering").wait_for()
        await person.is_accessible()
        await page.get_by_role("link", name="Decide").click()
        await page.get_by_role("heading", name="Held removals").wait_for()
        await person.is_accessible()
        await person.picture("held")
        await page.get_by_role("button", name="Approve: remove those chosen").click()
        await room_holds(admin, room, set())
        await page.get_by_text("Nothing is held.").wait_for()

        await page.get_by_role("link", name="Log").click()
        await page.get_by_role("cell", name="approved").first.wait_for()
        await person.is_accessible()
        await page.get_by_role("link", name="Overview").click()
        await page.get_by_text(f"removal from {alias}, 2 people: done").wait_for()
        await page.get_by_text("Nothing needs you.").wait_for()
        await person.picture("overview")
        assert person.said == []
        await page.close()


async def test_the_overview_refreshes_itself(
    browser: Browser, admin: User, service: StartService, tag: str
) -> None:
    """What happens meanwhile appears without a click."""
    async with service({}, CONSOLE="true") as process:
        page = await browser.new_page()
        person = Person(page, process.url.replace("127.0.0.1", "localhost"))
        await person.sign_in("scim-bot")
        await page.get_by_text("Nothing yet.").wait_for()
        await ScimClient(process.url).create_user(f"{tag}ann")
        await page.get_by_text(mxid(f"{tag}ann")).first.wait_for(timeout=15_000)
        assert person.said == []
        await page.close()


@pytest.mark.parametrize("scripts", [True, False])
async def test_without_scripts_on_a_phone(
    browser: Browser, admin: User, service: StartService, tag: str, scripts: bool
) -> None:
    """Everything but refreshing works without JavaScript, on a narrow screen, by keyboard."""
    room = await admin.create_room()
    async with service({}, CONSOLE="true") as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann", key=f"{tag}g", name="Engineering")
        await settled(idp)
        context = await browser.new_context(
            java_script_enabled=scripts, viewport={"width": 360, "height": 640}
        )
        page = await context.new_page()
        person = Person(page, process.url.replace("127.0.0.1", "localhost"))
        await person.sign_in("scim-bot")
        await page.get_by_role("link", name="Groups").click()
        await page.get_by_role("link", name="Engineering").click()
        field = page.get_by_label("Room (address or ID)")
        await field.fill(room)
        await page.get_by_role("button", name="What would happen?").focus()
        await page.keyboard.press("Enter")
        await page.get_by_text("This would add 1 person").wait_for()
        assert await field.input_value() == room
        if scripts:
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 360
        await page.get_by_role("button", name="Open this room").press("Enter")
        await room_holds(admin, room, {f"{tag}ann"})
        await context.close()


async def test_a_manager_is_refused_where_they_have_no_power(
    browser: Browser, admin: User, service: StartService, tag: str
) -> None:
    """The page says so in plain words."""
    room = await admin.create_room()
    await admin.call(
        "PUT", f"/_synapse/admin/v2/users/{mxid(f'{tag}boss')}", {"password": "password"}
    )
    async with service({}, CONSOLE="true", CONSOLE_MANAGERS=f"@{tag}boss:*") as process:
        idp = ScimClient(process.url)
        await group_of(idp, f"{tag}ann", key=f"{tag}g", name="Engineering")
        await settled(idp)
        page = await browser.new_page()
        person = Person(page, process.url.replace("127.0.0.1", "localhost"))
        await person.sign_in(f"{tag}boss")
        await page.get_by_label("Find a group to open a room for").fill("engin")
        await page.get_by_role("button", name="Search").click()
        await person.is_accessible()
        await page.get_by_role("link", name="Engineering").click()
        await page.get_by_label("Room (address or ID)").fill(room)
        refusal = "You may only map rooms in which you yourself can"
        await page.get_by_role("button", name="What would happen?").click()
        await page.locator("#preview").get_by_text(refusal).wait_for()
        await page.get_by_role("button", name="Open this room").click()
        await page.get_by_role("heading", name="Not possible").wait_for()
        await page.get_by_text(refusal).wait_for()
        await person.is_accessible()
        assert await admin.members(room) == {"scim-bot"}
        await page.close()
