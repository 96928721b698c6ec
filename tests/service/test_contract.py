"""Our storage keeps the rules that the protocol library publishes for storages."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from scim2_models import ScimProvider
from scim2_server.testing import AsyncScimStorageContract, BlockingStorage

from scim_matrix.scim.people import Identity
from scim_matrix.scim.protocol import make_provider
from scim_matrix.scim.storage import RequestStorage
from scim_matrix.store.database import Database, Place

PROVIDER = make_provider(1024 * 1024)


class IdentityById(Identity):
    """Accounts named by SCIM id: the contract reuses userNames, which accounts outlive."""

    def user_id(self, scim_id: str, user: dict[str, Any]) -> str:
        """Return an account nobody else can have."""
        return f"@{scim_id}:{self.server_name}"


class TestRequestStorage(AsyncScimStorageContract):
    """The published contract, over both databases."""

    @pytest.fixture
    def provider(self) -> ScimProvider:
        """Describe the service as it describes itself."""
        return PROVIDER

    @pytest.fixture
    def storage(self, provider: ScimProvider, place: Place) -> Iterator[BlockingStorage]:
        """Run our storage on an event loop of its own."""
        with asyncio.Runner() as runner:
            database = runner.run(Database.open(place))
            identity = IdentityById("example.org", None, "externalId", 0)
            storage = RequestStorage(database, provider, identity, writes=True)
            yield BlockingStorage(storage, runner)
            runner.run(database.close())
