"""The stand-in for MAS towards Synapse: what the real one asks of it, and its queue of jobs."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from scim_matrix.demo.mas_state import Account, State

Job = Callable[[], Awaitable[None]]
RETRY_SECONDS = 0.1


class HomeserverAwayError(Exception):
    """Synapse did not do what MAS asked it for."""


class HomeserverSide:
    """Requests to `/_synapse/mas` of a homeserver, some of them later as jobs.

    Jobs run one after another and again until Synapse has done them.
    """

    def __init__(self, url: str, secret: str, state: State) -> None:
        self._url = url
        self._secret = secret
        self._state = state
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with the jobs."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Leave the jobs for the next start."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
            self._worker = None

    def later(self, job: Job) -> None:
        """Put a job into the queue."""
        self._jobs.put_nowait(job)

    async def idle(self) -> None:
        """Wait until every job is done."""
        await self._jobs.join()

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            while True:
                try:
                    await job()
                    break
                except HomeserverAwayError:
                    await asyncio.sleep(RETRY_SECONDS)
            self._jobs.task_done()

    async def ask(self, method: str, name: str, **sent: Any) -> tuple[int, dict[str, Any]]:
        """Send one request; return status and body. Raises HomeserverAwayError without them."""
        headers = {"Authorization": f"Bearer {self._secret}"}
        url = f"{self._url}/_synapse/mas/{name}"
        body, query = (sent, None) if method == "POST" else (None, sent)
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.request(method, url, json=body, params=query) as answer,
            ):
                text = await answer.read()
                return answer.status, await answer.json() if text else {}
        except aiohttp.ClientError as error:
            raise HomeserverAwayError(str(error)) from error

    async def do(self, name: str, account: Account, **more: Any) -> None:
        """Change something of an account. Raises HomeserverAwayError where that did not work."""
        status, answer = await self.ask("POST", name, localpart=account.username, **more)
        if status >= 300:
            raise HomeserverAwayError(f"{name}: {status} {answer}")

    async def has_room_for(self, username: str) -> bool:
        """Tell whether a name is free in Synapse. Raises HomeserverAwayError."""
        status, answer = await self.ask("GET", "is_localpart_available", localpart=username)
        if status == 400:
            return False
        if status != 200:
            raise HomeserverAwayError(f"is_localpart_available: {status} {answer}")
        return True

    async def provision(self, account: Account, **more: Any) -> None:
        """Bring Synapse's own idea of an account in line. Raises HomeserverAwayError."""
        emails = [e.email for e in self._state.emails.values() if e.user_id == account.id]
        locked = account.locked_at is not None
        await self.do("provision_user", account, set_emails=emails, locked=locked, **more)

    async def sync_devices(self, account: Account) -> None:
        """Take the devices of ended sessions away. Raises HomeserverAwayError."""
        await self.do("sync_devices", account, devices=sorted(self._state.devices_of(account)))
