"""The application in this process, without a homeserver (nothing listens at its address)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from scim_matrix.app import make_app
from scim_matrix.config import Settings
from scim_matrix.demo.synapse import free_port
from scim_matrix.edge.listening import OPTIONS
from scim_matrix.store.database import Database

SECRET = "the-first-of-two-secrets"
OTHER_SECRET = "the-second-of-two-secrets"

Client = TestClient[Any, Any]
Start = Callable[..., Awaitable[Client]]


def environment(folder: Path, **more: str) -> Settings:
    """Return settings for a service that keeps its data in a folder."""
    return Settings.load(
        {
            "WEBHOOK_SECRET": f"{SECRET} {OTHER_SECRET}",
            "MATRIX_URL": f"http://127.0.0.1:{free_port()}",
            "MATRIX_SERVER_NAME": "example.org",
            "MATRIX_ADMIN_USER_ID": "@bot:example.org",
            "MATRIX_ADMIN_TOKEN": "token",
            "IDP_NAME": "oidc-x",
            "DATA_DIR": str(folder / "data"),
            **more,
        }
    )


@pytest.fixture
def aiohttp_client(tmp_path: Path, aiohttp_client: Any) -> Any:
    """Return what makes clients, made after the test's directory and so closed before it goes."""
    return aiohttp_client


@pytest.fixture
def start(aiohttp_client: Any, tmp_path: Path) -> Start:
    """Return what starts the application, with more environment variables."""

    async def run(**more: str) -> Client:
        app = make_app(environment(tmp_path, **more))
        headers = {"Authorization": f"Bearer {SECRET}"}
        server_kwargs = {"access_log": None, **OPTIONS}
        server = TestServer(app)
        await server.start_server(**server_kwargs)
        client: Client = await aiohttp_client(server, headers=headers)
        return client

    return run


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Return an empty database."""
    opened = await Database.open(tmp_path)
    yield opened
    await opened.close()
