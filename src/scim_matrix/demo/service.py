"""The service as its own process, and a SCIM client that talks to it."""

import asyncio
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from scim_matrix.demo.synapse import IDP, SERVER_NAME, START_SECONDS, free_port

SECRET = "demo-webhook-secret"


class Process(Protocol):
    """What is asked of a process; asyncio's is one."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def returncode(self) -> int | None:
        """Its exit status, below zero for a signal, None while it runs."""

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal."""

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""


@dataclass
class Service:
    """`scim-matrix serve` in a process of its own; its data stays between `stop` and `start`."""

    data_dir: Path
    matrix_url: str
    admin_user_id: str
    admin_token: str = field(repr=False)
    group_map: str
    more: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Return the environment it runs with."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "LISTEN_PORT": str(self.port),
            "WEBHOOK_SECRET": SECRET,
            "MATRIX_URL": self.matrix_url,
            "MATRIX_SERVER_NAME": SERVER_NAME,
            "MATRIX_ADMIN_USER_ID": self.admin_user_id,
            "MATRIX_ADMIN_TOKEN": self.admin_token,
            "IDP_NAME": IDP,
            "IDP_GROUP_TO_ROOM": self.group_map,
            "DATA_DIR": str(self.data_dir),
            **self.more,
        }

    async def start(self) -> None:
        """Start it and return once /healthz answers. Raises RuntimeError if it ends before."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.process = await self.spawn("serve", output=self.data_dir / "service.log")
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
            while True:
                if self.process.returncode is not None:
                    words = (self.data_dir / "service.log").read_text()[-2000:]
                    raise RuntimeError(f"the service ended:\n{words}")
                try:
                    async with session.get(f"{self.url}/healthz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.02)

    async def spawn(self, *words: str, output: Path) -> Process:
        """Run `scim-matrix` with these words in its surroundings; what it prints is appended."""
        with output.open("ab") as file:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "scim_matrix", *words),
                env=self.environment(),
                stdout=file,
                stderr=file,
                cwd=self.data_dir,
            )

    async def told(self, *words: str) -> str:
        """Return what `scim-matrix` prints with these words in its surroundings."""
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "output"
            process = await self.spawn(*words, output=output)
            await process.wait()
            return output.read_text()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit status."""
        if self.process is None or self.process.returncode is not None:
            return 0
        self.process.send_signal(number)
        return await self.process.wait()


@dataclass
class ScimClient:
    """What an identity provider does: SCIM requests with the bearer secret."""

    url: str
    secret: str = field(default=SECRET, repr=False)

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send one request and return status and JSON body (None if there is none)."""
        sent = {"Authorization": f"Bearer {self.secret}", **(headers or {})}
        sent.setdefault("Content-Type", "application/scim+json")
        async with (
            aiohttp.ClientSession(headers=sent) as session,
            session.request(method, f"{self.url}/scim/v2{path}", json=body) as answer,
        ):
            text = await answer.read()
            return answer.status, await answer.json(content_type=None) if text else None

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request that must succeed. Raises RuntimeError with the SCIM error."""
        status, answer = await self.call(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    async def create_user(self, name: str, **attributes: Any) -> str:
        """Create a user and return its SCIM id."""
        body = {"userName": name, "externalId": f"ext-{name}", "active": True, **attributes}
        return str((await self.ok("POST", "/Users", body))["id"])

    async def create_group(self, name: str, members: list[str], **attributes: Any) -> str:
        """Create a group and return its SCIM id."""
        body = {"displayName": name, "members": [{"value": m} for m in members], **attributes}
        return str((await self.ok("POST", "/Groups", body))["id"])

    async def patch(self, path: str, *operations: dict[str, Any]) -> None:
        """Send a PATCH that must succeed."""
        await self.ok("PATCH", path, {"Operations": list(operations)})

    async def add(self, group: str, *members: str) -> None:
        """Add members to a group."""
        value = [{"value": m} for m in members]
        await self.patch(f"/Groups/{group}", {"op": "add", "path": "members", "value": value})

    async def remove(self, group: str, *members: str) -> None:
        """Remove members from a group."""
        value = [{"value": m} for m in members]
        await self.patch(f"/Groups/{group}", {"op": "remove", "path": "members", "value": value})
