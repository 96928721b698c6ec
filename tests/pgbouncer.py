"""A real PgBouncer before a test's server: Debian's package `pgbouncer`."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.conftest import eventually
from tests.postgresql import Server

PORT = 6432


@contextlib.asynccontextmanager
async def pooling(
    server: Server, **settings: str
) -> AsyncIterator[Callable[[SecretStr], SecretStr]]:
    """Run one; yields what makes the address of a database one that leads through it."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PGBOUNCER IS NOT HERE: install Debian's package pgbouncer")
    memory = os.environ.get("PYTEST_DEBUG_TEMPROOT")
    with tempfile.TemporaryDirectory(prefix="scim-pool-", dir=memory) as name:
        folder = Path(name)
        given = {
            "listen_port": str(PORT),
            "unix_socket_dir": name,
            "auth_type": "trust",
            "auth_file": str(folder / "users"),
            "ignore_startup_parameters": "extra_float_digits",
            **settings,
        }
        (folder / "users").write_text(f'"{server.owner}" ""\n')
        lines = [f"[databases]\n* = host={server.folder}\n[pgbouncer]"]
        lines += [f"{key} = {value}" for key, value in given.items()]
        (folder / "pgbouncer.ini").write_text("\n".join(lines))
        folder.chmod(0o777)
        process = await asyncio.create_subprocess_exec(
            *(program, "--quiet", str(folder / "pgbouncer.ini")),
            # It refuses to run as root.
            user=server.owner if os.geteuid() == 0 else None,
        )

        async def listens() -> bool:
            assert process.returncode is None
            return (folder / f".s.PGSQL.{PORT}").exists()

        try:
            await eventually(listens, bool)
            yield lambda url: SecretStr(
                f"{url.get_secret_value().partition('?')[0]}?host={name}&port={PORT}"
            )
        finally:
            process.kill()
            await process.wait()
