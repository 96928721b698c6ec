"""A throwaway Synapse on a free loopback port, SQLite in a folder of its own."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

SERVER_NAME = "demo.test"
IDP = "oidc-demo"
PASSWORD = "password"
_REGISTRATION_SECRET = "demo-registration"
START_SECONDS = 60


def free_port() -> int:
    """Return a loopback port that is free now.

    It is one that no connection gets by itself, which might take it before whoever asked.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True)
class Delegation:
    """Where the Matrix Authentication Service is that has the accounts, and the shared secret."""

    endpoint: str
    secret: str = field(repr=False)

    @property
    def config(self) -> dict[str, Any]:
        """What Synapse's configuration says for it."""
        return {
            "matrix_authentication_service": {
                "enabled": True,
                "endpoint": self.endpoint,
                "secret": self.secret,
            },
            "password_config": {"enabled": False},
            "login_via_existing_session": {"enabled": False},
        }


@dataclass
class Synapse:
    """A running homeserver; `stop` and `start` keep its data and port.

    With a `delegation` its accounts belong to MAS, and `register` does not work.
    `more` is configuration in place of the one that it has otherwise.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    delegation: Delegation | None = None
    more: dict[str, Any] = field(default_factory=dict)
    _process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def _configure(self) -> Path:
        config = self.folder / "homeserver.yaml"
        if config.exists():
            return config
        config.write_text(yaml.safe_dump(self._configuration()))
        key = self.folder / "signing.key"
        if not key.exists():
            # What `--generate-keys` writes, without starting Synapse a second time for it.
            seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
            key.write_text(f"ed25519 a_demo {seed}\n")
        (self.folder / "log.yaml").write_text(
            yaml.safe_dump(
                {
                    "version": 1,
                    # Or what Synapse has to say of itself is lost: its loggers exist by then.
                    "disable_existing_loggers": False,
                    "handlers": {
                        "file": {
                            "class": "logging.FileHandler",
                            "filename": str(self.folder / "synapse.log"),
                        }
                    },
                    "root": {"level": "WARNING", "handlers": ["file"]},
                }
            )
        )
        return config

    def _configuration(self) -> dict[str, Any]:
        unlimited = {"per_second": 10000, "burst_count": 10000}
        # Message limits stay as Synapse ships them: kicks must cope with those.
        return {
            "server_name": SERVER_NAME,
            "signing_key_path": str(self.folder / "signing.key"),
            "pid_file": str(self.folder / "pid"),
            "media_store_path": str(self.folder / "media"),
            "database": {
                "name": "sqlite3",
                "args": {"database": str(self.folder / "synapse.db")},
            },
            "listeners": [
                {
                    "port": self.port,
                    "bind_addresses": ["127.0.0.1"],
                    "type": "http",
                    # The service says whose browser it is that signs in.
                    "x_forwarded": True,
                    "resources": [{"names": ["client"]}],
                }
            ],
            "registration_shared_secret": _REGISTRATION_SECRET,
            # Everybody knows the passwords here: what makes them hard to guess costs a
            # quarter of a second of CPU each.
            "bcrypt_rounds": 4,
            "rc_login": {
                "address": unlimited,
                "account": unlimited,
                "failed_attempts": unlimited,
            },
            # Login tokens on request stand in for those that single sign-on ends with.
            "login_via_existing_session": {"enabled": True, "require_ui_auth": False},
            "rc_registration": unlimited,
            # Until they are done some of what a database must hold for a request is missing, and
            # the request fails: an account's reactivation, with a 500.
            "background_updates": {"sleep_enabled": False},
            "trusted_key_servers": [],
            "report_stats": False,
            "log_config": str(self.folder / "log.yaml"),
            **(self.delegation.config if self.delegation else {}),
            **self.more,
        }

    async def start(self) -> None:
        """Start it and return once it answers. Raises RuntimeError with its own words."""
        config = self._configure()
        command = [sys.executable, "-m", "synapse.app.homeserver", "-c", str(config)]
        with (self.folder / "console.log").open("ab") as console:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=console, stderr=console, cwd=self.folder
            )
        try:
            async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
                while not await _answers(session, f"{self.url}/health"):
                    if self._process.returncode is not None:
                        words = (self.folder / "console.log").read_text()[-2000:]
                        raise RuntimeError(f"Synapse did not start:\n{words}")
                    await asyncio.sleep(0.05)
        except BaseException:
            await self.stop()
            raise

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it; its data stays."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()
        self._process = None

    async def register(self, name: str, *, admin: bool = False) -> "User":
        """Register a local user (admin API, Shared-Secret Registration)."""
        async with aiohttp.ClientSession() as session:
            register = f"{self.url}/_synapse/admin/v1/register"
            async with session.get(register) as answer:
                nonce = (await answer.json())["nonce"]
            words = [nonce, name, PASSWORD, "admin" if admin else "notadmin"]
            mac = hmac.new(_REGISTRATION_SECRET.encode(), "\0".join(words).encode(), hashlib.sha1)
            body = {
                "nonce": nonce,
                "username": name,
                "password": PASSWORD,
                "admin": admin,
                "mac": mac.hexdigest(),
            }
            async with session.post(register, json=body) as answer:
                answer.raise_for_status()
                registered = await answer.json()
        return User(self.url, registered["user_id"], registered["access_token"])


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@dataclass(frozen=True)
class User:
    """A signed-in user, for setting rooms up and looking at them from outside."""

    url: str
    user_id: str
    token: str = field(repr=False)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request and return its JSON. Raises aiohttp.ClientResponseError."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, self.url + path, json=body) as answer,
        ):
            answer.raise_for_status()
            return await answer.json()

    async def create_room(self, **options: Any) -> str:
        """Create a private room and return its ID."""
        created = await self.call(
            "POST", "/_matrix/client/v3/createRoom", {"preset": "private_chat", **options}
        )
        return str(created["room_id"])

    async def members(self, room_id: str) -> set[str]:
        """Return the localparts of those joined to a room (as an admin)."""
        answer = await self.call("GET", f"/_synapse/admin/v1/rooms/{room_id}/members")
        return {member[1:].split(":")[0] for member in answer["members"]}


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Synapse]:
    """Run a homeserver for the duration of a block."""
    synapse = Synapse(folder)
    await synapse.start()
    try:
        yield synapse
    finally:
        await synapse.stop()
