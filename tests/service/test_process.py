"""The service as a process: systemd's protocol, TLS, logs."""

import asyncio
import contextlib
import json
import signal
import socket
import sqlite3
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme

from scim_matrix.demo.service import SECRET, ScimClient, Service
from scim_matrix.demo.synapse import free_port
from scim_matrix.store.sqlite import DATABASE_NAME
from tests.conftest import eventually
from tests.preforked import PreforkedService


@contextlib.asynccontextmanager
async def running(
    folder: Path, kind: type[Service] = Service, /, **more: str
) -> AsyncIterator[Service]:
    """Run a service without a homeserver, started as administrators do or of another `kind`."""
    url = f"http://127.0.0.1:{free_port()}"
    service = kind(folder / "data", url, "@bot:demo.test", "the-admin-token", "{}", more)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


class Manager:
    """The socket to which a service says how it is."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        self.lines += self._socket.recv(4096).decode().splitlines()

    async def told(self, line: str, times: int = 1) -> None:
        """Wait until a line has come so often."""

        async def count() -> int:
            return self.lines.count(line)

        await eventually(count, lambda n: n >= times)

    def close(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


async def test_systemd_is_told_how_the_service_is(tmp_path: Path) -> None:
    """READY when it listens, pings, a status, RELOADING and READY again, STOPPING."""
    manager = Manager(tmp_path / "notify")
    more = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "300000"}
    async with running(tmp_path, **more) as service:
        await manager.told("READY=1")
        await manager.told("WATCHDOG=1", times=3)
        assert any(line.startswith("STATUS=homeserver ") for line in manager.lines)
        assert service.process is not None
        service.process.send_signal(signal.SIGHUP)
        await manager.told("RELOADING=1")
        await manager.told("READY=1", times=2)
        assert any(line.startswith("MONOTONIC_USEC=") for line in manager.lines)
        await service.stop()
        assert "STOPPING=1" in manager.lines
        assert manager.lines.index("READY=1") < manager.lines.index("STOPPING=1")
    manager.close()


async def test_a_stuck_loop_pings_no_more(tmp_path: Path) -> None:
    """The watchdog's pings come from the event loop itself: a stopped process sends none."""
    manager = Manager(tmp_path / "notify")
    more = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "300000"}
    async with running(tmp_path, **more) as service:
        await manager.told("WATCHDOG=1")
        assert service.process is not None
        service.process.send_signal(signal.SIGSTOP)
        try:
            # What was sent before it stopped arrives first.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await manager.told("nothing")
            manager.lines.clear()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await manager.told("WATCHDOG=1")
        finally:
            service.process.send_signal(signal.SIGCONT)
        await manager.told("WATCHDOG=1", times=3)
    manager.close()


async def test_sockets_passed_by_systemd_are_used(tmp_path: Path) -> None:
    """The service answers where systemd listens, whatever LISTEN_PORT says."""
    with socket.socket() as passed:
        passed.bind(("127.0.0.1", 0))
        passed.listen()
        port = passed.getsockname()[1]
        (tmp_path / "data").mkdir()
        service = Service(tmp_path / "data", "http://127.0.0.1:9", "@bot:demo.test", "token", "{}")
        start = (
            "import os, sys\n"
            f"os.dup2({passed.fileno()}, 3)\n"
            "os.set_inheritable(3, True)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'scim_matrix', 'serve'])\n"
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", start),
            env=service.environment(),
            pass_fds=[passed.fileno()],
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}/healthz"
            async with (
                aiohttp.ClientSession() as session,
                asyncio.timeout(30),
                session.get(url) as answer,
            ):
                assert answer.status == 200
        finally:
            process.terminate()
            assert await process.wait() == 0


async def test_tls_and_its_renewal(tmp_path: Path) -> None:
    """The certificate served is the file's, and after SIGHUP the renewed one."""
    authority = trustme.CA()
    files = {"TLS_CERT_FILE": tmp_path / "cert.pem", "TLS_KEY_FILE": tmp_path / "key.pem"}

    def renew() -> bytes:
        made = authority.issue_cert("127.0.0.1")
        files["TLS_KEY_FILE"].write_bytes(made.private_key_pem.bytes())
        chain = b"".join(part.bytes() for part in made.cert_chain_pems)
        files["TLS_CERT_FILE"].write_bytes(chain)
        return ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())

    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    first = renew()
    service = Service(
        tmp_path / "data",
        "http://127.0.0.1:9",
        "@bot:demo.test",
        "token",
        "{}",
        {name: str(path) for name, path in files.items()},
    )
    (tmp_path / "data").mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scim_matrix", "serve"),
        env=service.environment(),
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def served() -> bytes | None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", service.port, ssl=trusting)
        except ConnectionRefusedError:
            return None
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return found

    try:
        await eventually(served, lambda found: found == first)
        second = renew()
        process.send_signal(signal.SIGHUP)
        await eventually(served, lambda found: found == second)
        files["TLS_CERT_FILE"].write_text("broken")
        process.send_signal(signal.SIGHUP)
        assert await served() == second
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("log_level", ["debug", "info", "warning", "error", "critical"])
async def test_logs_at_every_level_hold_no_secret_and_no_payload(
    tmp_path: Path, log_level: str
) -> None:
    """Each line is JSON with fields; secrets and what people are called stay out of it."""
    more = {"LOG_LEVEL": log_level, "LOG_FORMAT": "json", "MATRIX_URL": "http://127.0.0.1:9"}
    async with running(tmp_path, PreforkedService, **more) as service:
        idp = ScimClient(service.url)
        await idp.create_user("ann", displayName="Ann-the-Secret", title="Payload-Title")
        status, _ = await ScimClient(service.url, "wrong-secret-sent").call("GET", "/Users")
        assert status == 401
        await idp.call("POST", "/Users", {"displayName": "Payload-Wrong"})
        await idp.call("GET", "/Users?filter=x", headers={"X-Request-ID": "the-request"})
    text = (tmp_path / "data" / "service.log").read_text()
    for secret in (
        *(SECRET, "the-admin-token", "wrong-secret-sent"),
        *("Ann-the-Secret", "Payload-Title", "Payload-Wrong"),
    ):
        assert secret not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)
    ranks = ["debug", "info", "warning", "error", "critical"]
    assert all(ranks.index(line["level"]) >= ranks.index(log_level) for line in lines)
    if log_level in ("debug", "info"):
        told = [line for line in lines if line.get("request") == "the-request"]
        assert [line["event"] for line in told][-1:] == ["scim_request"]


def test_secrets_are_not_in_the_arguments() -> None:
    """Configuration comes from the environment and files: no option takes a secret."""
    from scim_matrix.cli import main

    options = [p.name for c in main.commands.values() for p in c.params]
    assert not [name for name in options if name and ("token" in name or "secret" in name)]


async def test_a_fault_of_its_own_ends_the_service(tmp_path: Path) -> None:
    """One whose reconciler has ended must not look alive: it says why, and is started again."""
    async with running(tmp_path, PreforkedService) as service:
        await ScimClient(service.url).create_user("ann")
        database = sqlite3.connect(service.data_dir / DATABASE_NAME)
        with database:
            # What it has no word for: everything that is settled is counted there.
            database.execute("DELETE FROM tick")
            database.execute("INSERT INTO unsettled SELECT id FROM account")
        database.close()
        asking = await service.spawn("sync", "--no-wait", output=tmp_path / "asked")
        assert await asking.wait() == 0
        assert service.process is not None
        async with asyncio.timeout(30):
            assert await service.process.wait() == 1
        assert "reconciler_failed" in (service.data_dir / "service.log").read_text()
