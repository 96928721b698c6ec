"""The real service on a homeserver in memory, with time handed in: nothing waits or sleeps."""

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from scim_matrix.clock import Clock
from scim_matrix.config import OnDisable
from scim_matrix.groupmap import Mapping, parse_group_map
from scim_matrix.matrix.accounts import Accounts
from scim_matrix.matrix.server import Homeserver
from scim_matrix.scim.attempts import Attempts
from scim_matrix.scim.people import Identity
from scim_matrix.scim.protocol import make_provider
from scim_matrix.scim.routes import PREFIX, ScimEndpoint
from scim_matrix.store import (
    accounts,
    backup,
    binding,
    brake,
    grants,
    groupmap,
    memberships,
    record,
    references,
    rooms,
)
from scim_matrix.store.database import Connection, Database, Place, reading
from scim_matrix.store.sqlite import DATABASE_NAME
from scim_matrix.sync import live
from scim_matrix.sync.account_changes import AccountPolicy
from scim_matrix.sync.guard import Brake
from scim_matrix.sync.housekeeping import Pace
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.reconciler import Reconciler
from scim_matrix.sync.room_rights import RoomPolicy
from scim_matrix.sync.servers import Servers
from tests.homeserver.server import TOKEN, Fault, MemoryHomeserver, Request, serving
from tests.homeserver.world import World
from tests.service import oracle

IDP = "oidc-x"
SECRET = "secret"
_PROVIDER = make_provider(2**20)
# Wall and monotonic clock at the start: far from each other, as they are.
_EPOCH, _BOOTED = 1_700_000_000.0, 1_000.0
# Seconds that nothing which a test has the service do takes.
ENDLESS = 120.0


@dataclass
class Hands:
    """What a test moves of both clocks (seconds)."""

    passed: float = 0.0
    jumped: float = 0.0

    def clock(self) -> Clock:
        """Return a clock that goes by it."""
        return Clock(
            wall=lambda: _EPOCH + self.passed + self.jumped, monotonic=lambda: _BOOTED + self.passed
        )


@dataclass(frozen=True)
class Configuration:
    """The settings that make a difference to reconciliation."""

    protected_users: tuple[str, ...] = ()
    brake: Brake = field(default_factory=lambda: Brake(100, 1000, 3600))
    on_self_leave: Any = "rejoin"
    on_disable: OnDisable = "lock"
    on_delete: OnDisable = "deactivate"
    delete_grace: float = 7 * 86400.0
    adopt_existing: bool = False
    dry_run: bool = False


class Deployment:
    """One installation of the service: its database, its map, the identity provider's client."""

    def __init__(
        self, homeserver: MemoryHomeserver, place: Place, configuration: Configuration
    ) -> None:
        self.homeserver = homeserver
        self.world = homeserver.world
        self.place = place
        self.configuration = configuration
        self.hands = Hands()
        self.map: tuple[Mapping, ...] = ()
        self.database: Database
        self.reconciler: Reconciler
        self._endpoint: ScimEndpoint
        self._synapse: Homeserver
        self.url = ""
        self.session: aiohttp.ClientSession

    @property
    def accounts(self) -> Accounts:
        """The homeserver's accounts as the service asks for them."""
        return self._synapse.accounts

    @property
    def folder(self) -> Path:
        """Where SQLite's file is."""
        assert isinstance(self.place, Path)
        return self.place

    # -- Starting and stopping ----------------------------------------------

    async def start(self) -> None:
        """Start the service on its folder."""
        configuration = self.configuration
        self.database = await Database.open(self.place, self.hands.clock())
        self._synapse = Homeserver.connect(
            self.homeserver.url, self.world.service, TOKEN, IDP, dry_run=configuration.dry_run
        )
        users = Policy(self.world.service, configuration.protected_users)
        self.reconciler = Reconciler(
            self.database,
            self._synapse,
            Servers(self._synapse, self.database.clock, 4),
            AccountPolicy(
                configuration.adopt_existing,
                configuration.on_disable,
                configuration.on_delete,
            ),
            RoomPolicy(users, configuration.brake, configuration.on_self_leave),
            Pace(3600.0, 365 * 86400.0, lift_rate_limit=True),
        )
        identity = Identity(self.world.server_name, None, "externalId", configuration.delete_grace)
        self._endpoint = ScimEndpoint(
            self.database, _PROVIDER, identity, [SECRET], None, self.reconciler.wake, Attempts(())
        )
        await self._put_map()
        await self.reconciler.begin()

    async def stop(self) -> None:
        """Stop the service; what is in flight ends and is recorded."""
        await self.reconciler.close()
        await self._synapse.close()
        await self.database.close()

    async def restart(self, **changed: Any) -> None:
        """Stop and start, maybe with settings `changed`."""
        await self.stop()
        self.configuration = Configuration(**{**self.configuration.__dict__, **changed})
        await self.start()

    async def copy(self, name: str) -> None:
        """Make a backup."""
        copy = self.folder / name
        copy.unlink(missing_ok=True)
        await asyncio.to_thread(backup.backup, self.folder, copy)

    async def restore(self, name: str) -> None:
        """Put a backup back."""
        await self.stop()
        for ending in ("", "-wal", "-shm"):
            (self.folder / f"{DATABASE_NAME}{ending}").unlink(missing_ok=True)
        backup.restore(self.folder, self.folder / name)
        await self.start()

    async def kill(self) -> None:
        """End the service without a chance to say so to anybody."""
        self.reconciler.stop()
        await self.reconciler._comparison.stop()
        tasks = self.reconciler._jobs.tasks
        tasks += [] if self.reconciler._following is None else [self.reconciler._following]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._synapse.close()
        await self.database.close()

    async def die(self, is_meant: Callable[[Request], bool]) -> None:
        """Be killed while a request is under way that is done, or at rest; start again."""
        homeserver, fault = self.homeserver, Fault("hangs", is_meant)
        homeserver.hung.clear()
        homeserver.given_up.clear()
        homeserver.faults.insert(0, fault)
        tasks = [asyncio.create_task(self.settle()), asyncio.create_task(homeserver.hung.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.kill()
        homeserver.given_up.set()
        if fault in homeserver.faults:
            homeserver.faults.remove(fault)
        await self.start()

    @contextlib.asynccontextmanager
    async def while_slow(
        self, is_meant: Callable[[Request], bool], within: float = 0.0
    ) -> AsyncIterator[None]:
        """Settle as `settle` does, and go on here while a request is under way that is slow."""
        homeserver = self.homeserver
        homeserver.hung.clear()
        homeserver.given_up.clear()
        homeserver.faults.append(Fault("slow", is_meant))
        settling = asyncio.create_task(self.settle(within))
        async with asyncio.timeout(ENDLESS):
            await homeserver.hung.wait()
        try:
            yield
        finally:
            homeserver.given_up.set()
            await settling

    async def put_file_back(self, name: str) -> None:
        """Start what was killed on a copy of its file."""
        for ending in ("-wal", "-shm"):
            (self.folder / f"{DATABASE_NAME}{ending}").unlink(missing_ok=True)
        await asyncio.to_thread(shutil.copy, self.folder / name, self.folder / DATABASE_NAME)
        await self.start()

    # -- Its surroundings ---------------------------------------------------

    async def put_map(self, group_map: dict[str, Any]) -> None:
        """Put a map in force."""
        self.map = parse_group_map(json.dumps(group_map))
        await self._put_map()

    async def _put_map(self) -> None:
        async with self.database.write("group map") as connection:
            # One by one, so that whatever comes next meets a map that is half settled.
            await groupmap.put(connection, self.map, piece=1)
        self.reconciler.compare()

    async def scim(
        self, method: str, path: str, body: Any = None, request_id: str = ""
    ) -> tuple[int, Any]:
        """Send one SCIM request, maybe with an id; return the answer's status and body."""
        async with self.session.request(
            method,
            f"{self.url}{PREFIX}{path}",
            json=body,
            headers={
                "Authorization": f"Bearer {SECRET}",
                "Content-Type": "application/scim+json",
                "X-Request-ID": request_id,
            },
        ) as answer:
            return answer.status, await answer.json() if answer.content_length else None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Hand a request to the endpoint of the service that runs now."""
        return await self._endpoint.handle(request)

    async def decide(self, what: str, decision: brake.Decision, by: str = "ann") -> int:
        """Approve or dismiss as the command line does; return how much."""
        async with self.database.write(f"command line {by}") as connection:
            number = await _decide(connection, what, decision, by)
        self.reconciler.compare()
        return number

    async def link(self, scim_id: str, user_id: str, by: str = "ann") -> None:
        """Say whose account it is, as the command line does."""
        async with self.database.write(f"command line {by}") as connection:
            [account] = await accounts.named(connection, scim_id)
            assert await binding.link(connection, account, user_id, by) is None
        self.reconciler.compare()

    async def unlink(self, scim_id: str, by: str = "ann") -> None:
        """Say that a user's account is not theirs, as the command line does."""
        async with self.database.write(f"command line {by}") as connection:
            [account] = await accounts.named(connection, scim_id)
            said = f"{by} said that it is not this user's"
            await binding.unbind(
                connection, account, account.user_id, said, "link", 0.0, barred=account.user_id
            )
        self.reconciler.compare()

    async def prune(self) -> int:
        """Ask for `sync --prune`."""
        async with self.database.write("sync --prune") as connection:
            while await grants.settle_map(connection):
                pass
            number = await memberships.prune(connection)
            await record.add(connection, record.Entry("sync", "asked", by="ann"))
        self.reconciler.compare()
        return number

    # -- Time ---------------------------------------------------------------

    async def settle(self, within: float = 0.0) -> None:
        """Do all that is due now and falls due `within` seconds."""
        end = self.hands.passed + within
        while True:
            # What makes work for itself never ends.
            async with asyncio.timeout(ENDLESS):
                due = await self.reconciler.settle()
            if await self._followed():
                continue
            await self.keeps_what_is_so()
            left = due - self.database.clock.now()
            if self.hands.passed + left > end:
                return
            self.hands.passed += max(left, 0.01)

    async def keeps_what_is_so(self) -> None:
        """Make sure that what the service keeps as it changes is what queries say."""
        now, agenda = self.database.clock.now(), self.reconciler._due._agenda
        # Apart from the service's own connections, whose statements tests may count.
        async with reading(self.place) as reader:
            await oracle.rooms_due(reader, now, [], agenda)
            await oracle.next_due(reader, now, agenda)
            await oracle.counts(reader)

    async def quiet(self, within: float = 100.0) -> None:
        """Compare everything and settle, short rests included."""
        self.reconciler.compare()
        await self.settle(within)

    async def _followed(self) -> bool:
        """Wait until live drift has heard of everything; tell whether that made work."""
        commits = self.reconciler._commits
        is_there = not self.homeserver.dark and self.reconciler.synapse.condition == "ready"
        follows = is_there and self.reconciler.follows_live
        if follows and await rooms.mapped(self.database.reader):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10.0):
                    await self.homeserver.followed()
        return self.reconciler._commits != commits


async def _decide(connection: Connection, what: str, decision: brake.Decision, by: str) -> int:
    if what == "restored":
        return await brake.end_restoration(connection, by)
    if what == "accounts":
        shown: Iterable[brake.Held] = await brake.held_accounts(connection)
    else:
        reference = await references.get(connection, what)
        if reference is not None and reference.candidate is not None and decision == "approved":
            await references.pin(connection, what, reference.candidate)
            return 1
        shown = await brake.held(connection, await rooms.named(connection, what))
    return len(await brake.decide(connection, shown, decision, by))


@contextlib.asynccontextmanager
async def deployed(
    place: Place, world: World | None = None, configuration: Configuration | None = None
) -> AsyncIterator[Deployment]:
    """Run the service, stopped and settled by the test, on a homeserver in memory."""
    live.PAUSE = 0.0
    logging.getLogger("nio").setLevel(logging.WARNING)
    async with serving(world or World()) as homeserver:
        deployment = Deployment(homeserver, place, configuration or Configuration())
        app = web.Application()
        app.router.add_route("*", PREFIX + "/{path:.*}", deployment.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        deployment.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession() as deployment.session:
                await deployment.start()
                try:
                    yield deployment
                finally:
                    await deployment.stop()
        finally:
            await runner.cleanup()
