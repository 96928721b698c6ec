"""A real Synapse whose accounts belong to a stand-in for MAS, and one that keeps its own."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from scim_matrix.demo.mas import CLIENT_ID, CLIENT_SECRET, Exchange, Mas, delegating
from scim_matrix.demo.service import Service
from scim_matrix.demo.synapse import IDP, SERVER_NAME, Synapse, User, running
from scim_matrix.matrix.accounts import Accounts
from scim_matrix.matrix.mas import MasAccounts
from scim_matrix.matrix.mas_client import MasClient
from scim_matrix.matrix.synapse_accounts import SynapseAccounts
from scim_matrix.matrix.transport import Transport
from tests.mas.described import DESCRIPTION, Description
from tests.mas.hands import MasAdmin, MasServer
from tests.preforked import PreforkedService
from tests.synapse.conftest import StartService
from tests.synapse.conftest import staffed as staffed

_numbers = iter(range(1, 10**6))


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Run these on one loop: the homeserver's process belongs to it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.synapse)


@pytest.fixture(scope="session")
def description() -> Description | None:
    """Return the description of MAS's admin API, None where it is not at hand."""
    return Description(DESCRIPTION) if DESCRIPTION.exists() else None


@dataclass
class Delegated:
    """The stand-in, the homeserver that delegates to it, and an administrator of both."""

    mas: Mas
    synapse: Synapse
    admin: User
    exchanges: list[Exchange] = field(default_factory=list)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def delegated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Delegated]:
    """Run a homeserver whose accounts belong to MAS."""
    async with delegating(tmp_path_factory.mktemp("delegated")) as (mas, synapse):
        yield Delegated(mas, synapse, await mas.synapse_admin("root"))


@pytest_asyncio.fixture(loop_scope="session")
async def mas(delegated: Delegated, description: Description | None) -> AsyncIterator[Mas]:
    """Return the stand-in in good health; afterwards hold what was exchanged against MAS's word."""
    mas = delegated.mas
    delegated.exchanges.clear()
    mas.watch = delegated.exchanges.append
    mas.requests.clear()
    yield mas
    mas.fault = lambda method, path: None
    mas.lost = lambda method, path: False
    mas.delay, mas.dark, mas.watch = None, False, None
    mas.auth_method, mas.client_secret = "client_secret_basic", CLIENT_SECRET
    mas.client_is_admin = True
    mas.state.password_login = False
    for provider in list(mas.state.providers.values()):
        if provider is not mas.provider:
            del mas.state.providers[provider.id]
    await mas.homeserver.idle()
    if description is not None:
        told = [(e, wrong) for e in delegated.exchanges if (wrong := description.wrong(e))]
        assert not told


@pytest_asyncio.fixture(loop_scope="session")
async def transport(delegated: Delegated) -> AsyncIterator[Transport]:
    """Return a transport to the homeserver whose accounts belong to MAS."""
    transport = Transport.connect(
        delegated.synapse.url, delegated.admin.user_id, delegated.admin.token
    )
    yield transport
    await transport.close()


@pytest_asyncio.fixture(loop_scope="session")
async def client(mas: Mas) -> AsyncIterator[MasClient]:
    """Return a client of the stand-in that has asked nothing yet."""
    client = MasClient.connect(f"{mas.url}/", CLIENT_ID, CLIENT_SECRET)
    yield client
    await client.close()


@pytest.fixture
def accounts(client: MasClient, transport: Transport) -> MasAccounts:
    """Return the accounts that belong to MAS."""
    return MasAccounts(client, SynapseAccounts(transport, IDP), SERVER_NAME)


@pytest.fixture
def tag() -> str:
    """Return a prefix for names, so that tests sharing a homeserver do not meet."""
    return f"m{next(_numbers)}-"


# -- The service, on a server whose accounts belong to MAS ---------------------


@pytest.fixture
def synapse(delegated: Delegated, mas: Mas) -> MasServer:
    """Return the homeserver, as the tests for Synapse use it."""
    return MasServer(delegated.synapse.url, mas)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def admin(delegated: Delegated) -> MasAdmin:
    """Return the service's account, as the tests for Synapse use it."""
    user = await delegated.mas.synapse_admin("scim-bot")
    return MasAdmin(user.url, user.user_id, user.token, mas=delegated.mas)


@pytest.fixture
def service(delegated: Delegated, mas: Mas, admin: MasAdmin, tmp_path: Path) -> StartService:
    """Return what starts a service on its own data directory; it makes itself a token."""

    @contextlib.asynccontextmanager
    async def start(group_map: dict[str, Any], **more: str) -> AsyncIterator[Service]:
        process = PreforkedService(
            tmp_path / "data",
            more.pop("MATRIX_URL", delegated.synapse.url),
            admin.user_id,
            "",
            json.dumps(group_map),
            {**mas.settings, **more},
        )
        await process.start()
        try:
            yield process
        finally:
            await process.stop()

    return start


class World(Protocol):
    """A server and what is done on it by hand, whichever system keeps its accounts."""

    accounts: Accounts
    admin: User

    async def by_hand(self, name: str, *, admin: bool = False) -> str:
        """Make an account that nobody asked the service for; return its user ID."""

    async def linked(self, name: str, subject: str) -> str:
        """Make an account as somebody does who comes from the identity provider."""

    async def signed_in(self, user_id: str, device: str) -> User:
        """Sign somebody in."""

    async def settled(self) -> None:
        """Wait until what was done has come through."""


@dataclass
class MasWorld:
    """A server whose accounts belong to MAS."""

    accounts: Accounts
    admin: User
    mas: Mas

    async def by_hand(self, name: str, *, admin: bool = False) -> str:
        account = await self.mas.add_account(name, admin=admin)
        return f"@{account.username}:{SERVER_NAME}"

    async def linked(self, name: str, subject: str) -> str:
        return (await self.mas.sign_in(subject, name, "FIRST")).user_id

    async def signed_in(self, user_id: str, device: str) -> User:
        account = self.mas.state.account_named(user_id[1:].split(":")[0])
        assert account is not None
        return await self.mas.session(account, device)

    async def settled(self) -> None:
        await self.mas.homeserver.idle()


@dataclass
class SynapseWorld:
    """A server that keeps its accounts itself."""

    accounts: Accounts
    admin: User
    synapse: Synapse

    async def by_hand(self, name: str, *, admin: bool = False) -> str:
        return (await self.synapse.register(name, admin=admin)).user_id

    async def linked(self, name: str, subject: str) -> str:
        user_id = await self.by_hand(name)
        links = [{"auth_provider": IDP, "external_id": subject}]
        await self.admin.call("PUT", _account(user_id), {"external_ids": links})
        return user_id

    async def signed_in(self, user_id: str, device: str) -> User:
        path = f"/_synapse/admin/v1/users/{user_id}/login"
        answer = await self.admin.call("POST", path, {})
        return User(self.admin.url, user_id, answer["access_token"])

    async def settled(self) -> None:
        pass


def _account(user_id: str) -> str:
    return f"/_synapse/admin/v2/users/{user_id}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def plain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Synapse, User]]:
    """Run a homeserver that keeps its accounts itself."""
    async with running(tmp_path_factory.mktemp("plain")) as synapse:
        yield synapse, await synapse.register("root", admin=True)


@pytest_asyncio.fixture(loop_scope="session")
async def plain_world(plain: tuple[Synapse, User]) -> AsyncIterator[World]:
    """Return a server that keeps its accounts itself."""
    synapse, admin = plain
    transport = Transport.connect(synapse.url, admin.user_id, admin.token)
    yield SynapseWorld(SynapseAccounts(transport, IDP), admin, synapse)
    await transport.close()


@pytest.fixture
def mas_world(accounts: MasAccounts, delegated: Delegated, mas: Mas) -> World:
    """Return a server whose accounts belong to MAS."""
    return MasWorld(accounts, delegated.admin, mas)


@pytest.fixture(params=["mas_world", "plain_world"])
def world(request: pytest.FixtureRequest) -> World:
    """Return a server, once of each kind."""
    world: World = request.getfixturevalue(request.param)
    return world
