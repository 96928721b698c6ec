"""The console on a server whose accounts belong to MAS: people sign in there."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import pytest
from yarl import URL

from scim_matrix.demo.mas import Mas
from scim_matrix.demo.mas_state import Account
from scim_matrix.demo.service import ScimClient, Service
from tests.conftest import eventually
from tests.mas.hands import MasAdmin
from tests.synapse.conftest import StartService, settled
from tests.synapse.proxy import proxying
from tests.synapse.visiting import Visitor

HOME = "/console/"
RunConsole = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def console(service: StartService) -> RunConsole:
    """Return what starts a service with its console."""

    @asynccontextmanager
    async def run(**more: str) -> AsyncIterator[Service]:
        async with service({}, CONSOLE="true", **more) as process:
            await settled(ScimClient(process.url))
            yield process

    return run


async def sent_on(visitor: Visitor) -> URL:
    """Begin single sign-on; return where the browser is sent."""
    status, _, headers = await visitor.ask("GET", "/console/sso/begin")
    assert status == 302
    return URL(headers["Location"])


async def agreed(mas: Mas, visitor: Visitor, person: Account) -> str:
    """Go through MAS's pages as somebody; return the page of the console that follows."""
    async with (
        aiohttp.ClientSession() as browser,
        browser.get(await sent_on(visitor), allow_redirects=False) as answer,
    ):
        assert answer.status == 303
        login = mas.state.compat_logins[answer.headers["Location"].rpartition("/")[2]]
    return URL(mas.compat.agree(login, person)).raw_path_qs


async def entered(mas: Mas, visitor: Visitor, person: Account) -> int:
    """Sign in through MAS's pages; return the status."""
    return (await visitor.ask("GET", await agreed(mas, visitor, person)))[0]


async def person(mas: Mas, name: str, *, admin: bool = False) -> Account:
    """Make somebody an account with a password."""
    account = await mas.add_account(name, admin=admin)
    mas.state.passwords[account.id] = "password"
    return account


async def test_people_sign_in_at_mas(
    mas: Mas, admin: MasAdmin, console: RunConsole, tag: str
) -> None:
    """The browser goes to MAS, whatever Synapse's own address; no session or device is left."""
    boss = await person(mas, f"{tag}boss", admin=True)
    async with console() as process:
        visitor = Visitor(process.url)
        assert (await visitor.ask("GET", HOME))[2]["Location"] == "/console/sign-in"
        _, text, _ = await visitor.ask("GET", "/console/sign-in")
        assert "single sign-on" in text
        assert "password" not in text
        where = await sent_on(visitor)
        assert str(where.origin()) == mas.url
        assert await entered(mas, visitor, boss) == 303
        assert (await visitor.ask("GET", HOME))[0] == 200
        assert mas.state.sessions_of(boss) == []
        await mas.homeserver.idle()
        path = f"/_synapse/admin/v2/users/@{boss.username}:demo.test/devices"
        assert (await admin.call("GET", path))["devices"] == []


async def test_a_login_token_is_good_once_and_for_its_browser(
    mas: Mas, console: RunConsole, tag: str
) -> None:
    """One that was used, and one that somebody else began, lets nobody in."""
    boss = await person(mas, f"{tag}boss", admin=True)
    async with console() as process:
        visitor, other = Visitor(process.url), Visitor(process.url)
        page = await agreed(mas, visitor, boss)
        assert (await other.ask("GET", page))[0] == 400
        assert (await visitor.ask("GET", page))[0] == 303
        state = (await sent_on(other)).query["redirectUrl"].rpartition("=")[2]
        used = URL(page).query["loginToken"]
        path = f"/console/sso?loginToken={used}&state={state}"
        assert (await other.ask("GET", path))[0] == 403


async def test_who_administers_the_server_mas_says(mas: Mas, console: RunConsole, tag: str) -> None:
    """Administrators of MAS get in, and managers; nobody else."""
    boss = await person(mas, f"{tag}boss", admin=True)
    manager = await person(mas, f"{tag}manager")
    async with console(CONSOLE_MANAGERS=f"@{tag}manager:*") as process:
        assert await entered(mas, Visitor(process.url), await person(mas, f"{tag}else")) == 403
        visitor = Visitor(process.url)
        assert await entered(mas, visitor, manager) == 303
        assert (await visitor.ask("GET", "/console/log"))[0] == 403
        visitor = Visitor(process.url)
        assert await entered(mas, visitor, boss) == 303
        assert (await visitor.ask("GET", "/console/log"))[0] == 200


async def test_passwords_are_asked_for_where_mas_has_them(
    mas: Mas, console: RunConsole, tag: str
) -> None:
    """They are MAS's; whoever is locked or deactivated there does not get in."""
    boss = await person(mas, f"{tag}boss", admin=True)
    async with console() as process:
        visitor = Visitor(process.url)
        _, text, _ = await visitor.ask("GET", "/console/sign-in")
        assert "With a password" not in text
        mas.state.password_login = True
        assert await visitor.sign_in(boss.username, "wrong") == 403
        assert await visitor.sign_in(boss.username) == 303
        assert await visitor.sign_in(f"@{boss.username}:demo.test") == 303
        boss.locked_at = mas.state.now()
        assert await Visitor(process.url).sign_in(boss.username) == 403
        boss.locked_at, boss.deactivated_at = None, mas.state.now()
        assert await Visitor(process.url).sign_in(boss.username) == 403


async def test_whoever_mas_disables_is_out_within_a_minute(
    mas: Mas, console: RunConsole, tag: str
) -> None:
    """So is whoever administers no more. It is for good: coming back means signing in again."""
    people = [await person(mas, f"{tag}{n}", admin=True) for n in ("locked", "gone", "ordinary")]
    locked, gone, ordinary = people
    async with console() as process:
        visitors = [Visitor(process.url) for _ in people]
        for visitor, account in zip(visitors, people, strict=True):
            assert await entered(mas, visitor, account) == 303
        late = Visitor(process.url)
        page = await agreed(mas, late, locked)
        locked.locked_at = gone.deactivated_at = mas.state.now()
        ordinary.admin = False
        assert (await late.ask("GET", page))[0] == 403

        async def look() -> list[int]:
            return [(await visitor.ask("GET", HOME))[0] for visitor in visitors]

        await eventually(look, lambda seen: set(seen) <= {303, 403}, 60)
        locked.locked_at = gone.deactivated_at = None
        ordinary.admin = True
        assert await look() == [303, 303, 303]
        for visitor, account in zip(visitors, people, strict=True):
            assert await entered(mas, visitor, account) == 303


async def test_a_console_without_mas_or_synapse_says_so(
    mas: Mas, console: RunConsole, tag: str
) -> None:
    """Nobody gets in while either is away, and the page tells it instead of failing."""
    boss = await person(mas, f"{tag}boss", admin=True)
    async with proxying(mas.homeserver_url) as proxy, console(MATRIX_URL=proxy.url) as process:
        visitor = Visitor(process.url)
        page = await agreed(mas, visitor, boss)
        proxy.dark = True
        status, text, _ = await visitor.ask("GET", page)
        assert (status, "does not answer" in text) == (503, True)
        proxy.dark = False
        mas.dark = True
        status, text, _ = await visitor.ask("GET", "/console/sign-in")
        assert (status, "does not answer" in text) == (503, True)
        mas.dark = False
        assert await entered(mas, visitor, boss) == 303
