"""The console in a real browser, against the real service and a real Synapse."""

import os
import re
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
from aiohttp.web import Response
from playwright.async_api import Browser, ConsoleMessage, Page, Route, ViewportSize, expect

from benchmarks.seed import fill, inhabit
from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User
from scim_matrix.store.database import Database
from tests.conftest import eventually
from tests.synapse import browsing
from tests.synapse.conftest import StartService, group_of, mxid, ready, room_holds, settled
from tests.synapse.proxy import proxying
from tests.synapse.steps import bring_in, compared

AXE = resources.files("axe_playwright_python") / "axe.min.js"
# What axe has to say of everything that is right is longer than the page: it stays there.
RUN_AXE = """async rules => {
  const chosen = rules.length ? {runOnly: rules} : {};
  const found = await axe.run({...chosen, resultTypes: ["violations"], preload: false});
  const told = found.violations.map(v => [v.id, v.help, v.nodes.slice(0, 3).map(n => n.html)]);
  return [found.passes.length, told];
}"""
# What is wider than the window, or than the part of the page that scrolls by itself.
TOO_WIDE = """() => {
  const scrolls = ["html", "main"].map(name => document.querySelector(name))
    .filter(part => part.scrollWidth > part.clientWidth);
  const wide = [...document.querySelectorAll("main *")]
    .filter(one => scrolls.length && one.getBoundingClientRect().right > innerWidth);
  return [...scrolls.map(part => part.localName), ...wide.map(one => one.outerHTML.slice(0, 200))];
}"""
PROJECT = Path(__file__).parents[2]
# Pictures of the documentation, and others to look at.
PICTURES, OTHERS = PROJECT / "docs" / "pictures", PROJECT / "build" / "pictures"
PICTURED = ("overview", "group", "held", "person", "rooms")
DESKTOP: ViewportSize = {"width": 1100, "height": 700}
PHONE: ViewportSize = {"width": 360, "height": 740}
OFFICE = (
    *("Ann Archer", "Ben Baker", "Cleo Carter", "Dan Dyer", "Eve Ellis", "Finn Fowler"),
    *("Grace Gardener", "Henry Hunter"),
)

pytestmark = browsing.needs_chromium
browser = browsing.browser


class Person:
    """Somebody at a browser; whatever its console says is collected."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url.replace("127.0.0.1", "localhost")
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

    async def is_accessible(self, *rules: str) -> None:
        """Check the page with axe-core, by some rules or by all: no findings."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE.read_text())
        passes, told = await self.page.evaluate(RUN_AXE, [*rules])
        assert passes
        assert told == [], self.page.url

    async def sees(self, path: str, words: str, picture: str | None = None) -> None:
        """Open a page; it has to be right on a desktop and a phone, in light and dark."""
        await self.page.set_viewport_size(DESKTOP)
        await self.page.emulate_media(color_scheme="light")
        await self.go(path)
        await self.page.get_by_text(words).first.wait_for()
        await self.is_accessible()
        await self.fits()
        if picture:
            await self.picture(picture)
        await self.page.emulate_media(color_scheme="dark")
        await self.is_accessible("color-contrast")
        if picture:
            await self.picture(f"{picture}-dark")
        await self.fits_a_phone()
        await self.is_accessible()
        if picture:
            await self.picture(f"{picture}-phone")

    async def fits_a_phone(self) -> None:
        """Check that a narrow screen has to be scrolled downwards only."""
        await self.page.set_viewport_size(PHONE)
        await self.fits()

    async def fits(self) -> None:
        """Check that nothing has to be scrolled sideways; tell what would have to be."""
        assert await self.page.evaluate(TOO_WIDE) == [], self.page.url

    async def picture(self, name: str) -> None:
        """Take a picture, when that is asked for: some are those of the documentation."""
        if os.environ.get("SCREENSHOTS"):
            folder = PICTURES if name in PICTURED else OTHERS
            folder.mkdir(parents=True, exist_ok=True)
            await self.page.screenshot(path=folder / f"{name}.png", full_page=True)


async def test_a_group_is_mapped_and_a_removal_decided(
    browser: Browser, admin: User, service: StartService, tag: str
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
        page = await browser.new_page(viewport=DESKTOP, timezone_id="Asia/Tokyo")
        person = Person(page, process.url)
        await person.sign_in("scim-bot")
        await page.get_by_role("heading", name="Overview").wait_for()

        await page.get_by_role("link", name="Groups").click()
        await page.get_by_role("link", name="Engineering").click()
        await page.get_by_label("Room (address, ID or known name)").fill(alias)
        await page.get_by_role("button", name="What would happen?").click()
        await page.get_by_text(f"This would add 2 people to {alias}").wait_for()
        assert page.url.endswith(f"/console/groups/{group}")
        await person.is_accessible()
        await page.get_by_role("button", name="Open this room").click()
        await page.get_by_text(f"is brought into {alias} from now on").wait_for()
        await room_holds(admin, room, set(people))
        await settled(idp)

        await page.get_by_role("link", name="Rooms", exact=True).click()
        await page.get_by_role("link", name=alias).click()
        await page.get_by_role("link", name=mxid(f"{tag}ann")).last.wait_for()

        await page.get_by_role("link", name="People").click()
        await page.get_by_label("Matrix ID contains").fill(f"{tag}AN")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("link", name=f"{tag}ann").click()
        await page.get_by_text("this service made it for this very user").wait_for()

        await idp.ok("DELETE", f"/Groups/{group}")
        await eventually(lambda: ready(idp), lambda s: s["work"]["heldPairs"] == 2)
        await page.get_by_role("link", name="Overview").click()
        await page.get_by_role("heading", name="Needs you").wait_for()
        await page.get_by_role("link", name="Overview 1").wait_for()
        await page.get_by_role("link", name="Held removals 2").wait_for()
        await page.get_by_text("2 people, because of Engineering").wait_for()
        await page.get_by_role("link", name="Decide").click()
        await page.get_by_role("heading", name="2 of 2 managed people would leave").wait_for()
        await page.get_by_role("checkbox", name=f"{tag}bob").check()
        # As some people click: it goes once, and what came of that is shown.
        await page.get_by_role("button", name="Keep those ticked").dblclick()
        await page.get_by_text(f"Dismissed: 1 person stays in {alias}").wait_for()
        await person.is_accessible()
        await page.get_by_role("button", name="Remove 1 person").click()
        await page.get_by_text(f"Approved: 1 person is removed from {alias} now").wait_for()
        await page.get_by_text("Nothing is held.").wait_for()
        await room_holds(admin, room, {f"{tag}bob"})

        await page.get_by_role("link", name="Log").click()
        await page.get_by_text("Times are of Asia/Tokyo").wait_for()
        await page.get_by_role("cell", name="approved").first.wait_for()
        age = page.locator("time.age").first
        await page.get_by_role("link", name="Overview").click()
        await expect(age).to_have_text(re.compile("ago$"))
        assert str(await age.get_attribute("title")).endswith("JST")
        await age.click()
        await expect(age).to_have_text(re.compile("JST$"))
        await page.get_by_text("Nothing needs you.").wait_for()
        assert person.said == []
        await page.close()


async def test_every_page_of_an_office(
    browser: Browser, synapse: Synapse, admin: User, service: StartService, tag: str
) -> None:
    """With a conflict, a guest and half of a group held: on desktop and phone, light and dark.

    Takes as long as axe looks at each page thrice, and Synapse needs for the office.
    """
    # In pictures people have names of their own.
    tag = "" if os.environ.get("SCREENSHOTS") else tag
    rooms = {
        name: await admin.create_room(room_alias_name=f"{tag}{name.lower()}", name=name)
        for name in ("General", "Lunch", "Engineering", "Sales")
    }
    aliases = {name: f"#{tag}{name.lower()}:{SERVER_NAME}" for name in rooms}
    group_map = {
        "staff": [aliases["General"], {"room": aliases["Lunch"], "mode": "invite"}],
        "engineering": [{"room": aliases["Engineering"], "powerLevel": 50}],
        # What is widest: an ID that is no name's, and what is said of a refused power level.
        "sales": [
            aliases["Sales"],
            await admin.create_room(room_version="12"),
            {"room": await admin.create_room(name="Desk", room_version="10"), "powerLevel": 100},
        ],
    }
    for name in ("guest", "henry"):
        await synapse.register(f"{tag}{name}")
    limits = {"REMOVAL_LIMIT_COUNT": "2", "REMOVAL_LIMIT_PERCENT": "10"}
    async with service(group_map, CONSOLE="true", **limits) as process:
        idp = ScimClient(process.url)
        people = [
            await idp.create_user(f"{tag}{name.split()[0].lower()}", displayName=name)
            for name in OFFICE
        ]
        staff = await idp.create_group("Staff", people, externalId="staff")
        engineering = await idp.create_group("Engineering", people[:3], externalId="engineering")
        await idp.create_group("Sales", people[3:5], externalId="sales")
        await idp.create_group("Interns", [], externalId="interns")
        await bring_in(admin, rooms["General"], f"{tag}guest")
        await eventually(
            lambda: ready(idp),
            # The power level of the two of Sales, which is refused.
            lambda r: r["work"]["pendingPairs"] == r["work"]["failingPairs"] == 2,
        )
        await compared(process)
        await idp.remove(staff, *people[2:6])
        await eventually(lambda: ready(idp), lambda r: r["work"]["heldPairs"] >= 4)
        page = await browser.new_page(viewport=DESKTOP, timezone_id="Europe/Berlin")
        person = Person(page, process.url)
        await person.sees("sign-in", f"Sign in to {SERVER_NAME}", "sign-in")
        await person.sign_in("scim-bot")
        ann, general = f"people/{people[0]}", f"rooms/{quote(rooms['General'], safe='')}"
        for path, words, picture in (
            ("", "Say whose account it is", "overview"),
            ("people", "Ann Archer", "people"),
            (ann, "Account", "person"),
            ("groups", "Interns", "groups"),
            (f"groups/{engineering}", "Open a room for this group", "group"),
            ("rooms", "without their power level", "rooms"),
            (general, "there by hand", "room"),
            ("problems/removals-held", "so the removals wait for a human", "problem"),
            ("held", "4 of 7 managed people would leave", "held"),
            (f"log?user={tag}dan", "Times are of Europe/Berlin", "log"),
            ("log?since=soon", "is no time: write today", "log-wrong"),
        ):
            await person.sees(path, words, picture)
        assert [line for line in person.said if "400" not in line] == []
        await page.close()


async def widen(folder: Path) -> None:
    """Give rooms, a group and a person names as wide as they can be, without a blank in them."""
    database = await Database.open(folder)
    async with database.write("test") as connection:
        for statement in (
            "UPDATE room SET name = name || :wide WHERE name LIKE '%0'",
            "UPDATE scim_group SET display_name = :wide WHERE display_name LIKE '%00'",
            "UPDATE scim_user SET document = json_set(document, '$.displayName', :wide)"
            " WHERE seq % 10 = 0",
        ):
            await connection.execute_fetchall(statement, {"wide": "W" * 200})
    await database.close()


def is_for_signing_in(path: str) -> bool:
    """Tell whether a request is one by which the console lets people in."""
    return "/login" in path or "/logout" in path or "/_synapse/admin/v2/users/" in path


async def test_every_page_at_size(
    browser: Browser, synapse: Synapse, service: StartService, tmp_path: Path
) -> None:
    """With 2,000 groups that open 2,000 rooms: pages stay small, and lists lead on."""
    members = {f"g{number}": [number % 400, (number + 1) % 400] for number in range(2000)}
    directory = await fill(tmp_path / "data", 400, members, accounts=True)
    group_map = orjson.dumps({name: [f"!{name}:{SERVER_NAME}"] for name in members}).decode()
    await inhabit(directory, group_map, 1000, held=30)
    await widen(directory.folder)
    (tmp_path / "map.json").write_text(group_map)
    given = {"IDP_GROUP_TO_ROOM": "", "GROUP_MAP_FILE": str(tmp_path / "map.json")}
    async with proxying(synapse.url) as proxy:
        # These rooms are on no homeserver: it does nothing but let an administrator in.
        proxy.fault = lambda method, path: None if is_for_signing_in(path) else Response(status=502)
        async with service({}, MATRIX_URL=proxy.url, CONSOLE="true", **given) as process:
            page = await browser.new_page(viewport=DESKTOP)
            person = Person(page, process.url)
            await person.sign_in("scim-bot")
            for path, words in (
                ("", "The homeserver does not answer"),
                ("people", "There are more"),
                ("groups?show=mapped&from=1900", "1901 to 2000 of 2,000"),
                ("rooms", "1 to 100 of 2,000"),
                ("held", "1 to 10 of 30"),
                ("log", "Older"),
            ):
                await page.set_viewport_size(DESKTOP)
                await person.go(path)
                await page.get_by_text(words).first.wait_for()
                # Colours are those of an office; looking at all of them here takes a minute.
                await person.is_accessible("wcag2a", "best-practice")
                await person.fits()
                await person.fits_a_phone()
            for path in (f"groups/{directory.groups['g100']}", f"people/{directory.users[9]}"):
                await page.set_viewport_size(DESKTOP)
                await person.go(path)
                await page.get_by_role("heading", name="W" * 200).first.wait_for()
                await person.fits()
                await person.fits_a_phone()
            await page.set_viewport_size(DESKTOP)
            await person.go("rooms")
            await page.get_by_label("Show").select_option("held")
            await page.get_by_role("button", name="Search").click()
            assert await page.locator("tbody tr").count() == 30
            await page.get_by_label("contains").fill("room 1")
            await page.get_by_role("button", name="Search").click()
            await page.get_by_role("link", name="Room 1", exact=True).wait_for()
            assert await page.locator("tbody tr").count() == 11
            assert await page.get_by_label("Show").input_value() == "held"
            await person.go("groups?show=not+mapped")
            await page.get_by_text("No group is not mapped.").wait_for()
            await page.get_by_role("link", name="Show all groups").click()
            await page.get_by_role("link", name="Next").click()
            await page.get_by_text("101 to 200 of 2,000").wait_for()
            await page.close()


async def test_the_overview_refreshes_itself(
    browser: Browser, admin: User, service: StartService, tag: str
) -> None:
    """What happens meanwhile appears without a click."""
    async with service({}, CONSOLE="true") as process:
        page = await browser.new_page()
        person = Person(page, process.url)
        await person.sign_in("scim-bot")
        await page.get_by_text("Nothing yet.").wait_for()
        await ScimClient(process.url).create_user(f"{tag}ann")
        await page.get_by_text(mxid(f"{tag}ann")).first.wait_for(timeout=15_000)
        assert person.said == []
        await page.close()


async def test_what_is_open_on_the_overview_stays_so_and_focus_where_it_is(
    browser: Browser, admin: User, service: StartService, tag: str
) -> None:
    """While it refreshes itself: by keyboard one gets to its end, and reads what to do."""
    async with service({"g": [f"#{tag}none:{SERVER_NAME}"]}, CONSOLE="true") as process:
        idp, page = ScimClient(process.url), await browser.new_page(viewport=DESKTOP)
        person = Person(page, process.url)
        await idp.create_user(f"{tag}ann")
        await person.sign_in("scim-bot")
        everything = page.get_by_role("link", name="Everything, one by one")
        await everything.wait_for()
        await page.get_by_text("What to do").click()
        answer = page.locator("details .cure")
        await answer.wait_for()
        for number, focus in ((2, page.locator("summary")), (3, everything)):
            await focus.focus()
            await idp.create_user(f"{tag}p{number}")
            await page.get_by_text(f"{number}, 0", exact=True).wait_for(timeout=15_000)
            await expect(focus).to_be_focused()
            await expect(answer).to_be_visible()
        await settled(idp)

        async def stays() -> bool:
            before = await page.locator("#overview dl").element_handle()
            for _ in range(2):
                async with page.expect_response(lambda answer: answer.url.endswith("/console/")):
                    pass
            return before is not None and bool(await before.evaluate("one => one.isConnected"))

        # What is as it was is not put there again: whoever marks some of it keeps that.
        await eventually(stays, bool)
        assert person.said == []
        await page.close()


async def test_a_page_over_plain_http_says_that_signing_in_takes_more(
    browser: Browser, service: StartService
) -> None:
    """Where the browser keeps the cookie nothing is said."""
    async with service({}, CONSOLE="true") as process:

        async def lead(route: Route) -> None:
            path = route.request.url.partition("http://scim.test")[2]
            await route.fulfill(response=await route.fetch(url=process.url + path))

        page = await browser.new_page()
        await page.route("http://scim.test/**", lead)
        warning = page.get_by_text("open it by https://")
        await page.goto("http://scim.test/console/sign-in")
        await expect(warning).to_be_visible()
        await Person(page, process.url).go("sign-in")
        await page.get_by_label("User name").wait_for()
        await expect(warning).to_be_hidden()
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
            java_script_enabled=scripts,
            viewport={"width": 360, "height": 640},
            timezone_id="Asia/Tokyo",
        )
        page = await context.new_page()
        person = Person(page, process.url)
        await person.sign_in("scim-bot")
        await page.get_by_role("link", name="Groups").click()
        await page.get_by_role("link", name="Engineering").click()
        field = page.get_by_label("Room (address, ID or known name)")
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
        await page.get_by_role("link", name="Log").click()
        await page.get_by_text(f"Times are of {'Asia/Tokyo' if scripts else 'UTC'}.").wait_for()
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
        person = Person(page, process.url)
        await person.sign_in(f"{tag}boss")
        await page.get_by_label("Find a group to open a room for").fill("engin")
        await page.get_by_role("button", name="Search").click()
        await person.is_accessible()
        await page.get_by_role("link", name="Engineering").click()
        await page.get_by_label("Room (address, ID or known name)").fill(room)
        refusal = "You may only map rooms in which you yourself can"
        await page.get_by_role("button", name="What would happen?").click()
        await page.locator("#preview").get_by_text(refusal).wait_for()
        await page.get_by_role("button", name="Open this room").click()
        await page.get_by_role("heading", name="Not possible").wait_for()
        await page.get_by_text(refusal).wait_for()
        await person.is_accessible()
        assert await admin.members(room) == {"scim-bot"}
        await page.close()
