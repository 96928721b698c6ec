"""A real PostgreSQL of the tests' own, in a folder of its own: Debian's package `postgresql`.

Or another one, by the folder of its programs in the environment (POSTGRESQL_BIN).
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from pydantic import SecretStr

from scim_matrix.store.migrations import load

# Nothing here has to outlast the machine.
_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "listen_addresses": "''",
    "log_min_messages": "fatal",
}


def binaries() -> Path | None:
    """Return the folder of the chosen or else the newest server's programs, None without one."""
    if chosen := os.environ.get("POSTGRESQL_BIN"):
        return Path(chosen)
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(found, key=lambda path: float(path.parts[-3]))
    return newest[-1].parent if newest else None


class Server:
    """A server that runs, as a user who is not root, and databases in it."""

    def __init__(self, programs: Path, folder: Path, options: Mapping[str, str] = _OPTIONS) -> None:
        self._programs = programs
        self._options = options
        self._data = folder / "data"
        self.folder = folder
        # It refuses to run as root; Debian's package makes this user.
        self._user = "postgres" if os.geteuid() == 0 else None
        self.owner = self._user or pwd.getpwuid(os.geteuid()).pw_name
        self._numbers = itertools.count(1)

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), *words]
        subprocess.run(
            command, user=self._user, check=True, stdout=subprocess.DEVNULL, cwd=self.folder
        )

    def make(self) -> None:
        """Make its data, and start it."""
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self._run(
            *("initdb", "--no-sync", "--auth=trust", "--locale=C", "--encoding=UTF8"),
            f"--pgdata={self._data}",
        )
        options = {**self._options, "unix_socket_directories": f"'{self.folder}'"}
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in options.items())
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        log = f"--log={self.folder / 'log'}"
        self._run("pg_ctl", "start", "--wait", "--silent", f"--pgdata={self._data}", log)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it, without a word to those who are connected."""
        self._run(
            *("pg_ctl", "stop", "--wait", "--silent", f"--mode={mode}"), f"--pgdata={self._data}"
        )

    def kill(self) -> None:
        """Kill it with all of its processes, and wait until they are gone."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        # So that it makes no more of them meanwhile.
        os.kill(first, signal.SIGSTOP)
        others = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in (first, *map(int, others)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Until somebody has waited for them they are taken for running by the next one.
        while any(Path(f"/proc/{pid}").exists() for pid in (first, *others)):
            time.sleep(0.01)

    def url(self, name: str) -> SecretStr:
        """Return the address of a database."""
        return SecretStr(f"postgresql://{self.owner}@/{name}?host={self.folder}")

    def run(self, sql: str, name: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement in a database of this name; return its rows."""
        with psycopg.connect(self.url(name).get_secret_value(), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self, template: str = "template1") -> SecretStr:
        """Make a database, and return its address."""
        name = f"t{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def filled(self) -> SecretStr:
        """Make a database that has the schema already, and return its address."""
        if not self.run("SELECT 1 FROM pg_database WHERE datname = 'filled'"):
            self.run("CREATE DATABASE filled")
            for number, script in load("postgresql"):
                self.run(f"{script}; UPDATE schema_version SET number = {number}", "filled")
        return self.database("filled")


@contextlib.contextmanager
def serving(options: Mapping[str, str] = _OPTIONS) -> Iterator[Server | None]:
    """Run a server with options, None where there is none to run."""
    programs = binaries()
    if programs is None:
        yield None
        return
    # Short: the name of its socket may have 107 bytes.
    memory = os.environ.get("PYTEST_DEBUG_TEMPROOT")
    with tempfile.TemporaryDirectory(prefix="scim-pg-", dir=memory) as folder:
        server = Server(programs, Path(folder), options)
        server.make()
        try:
            yield server
        finally:
            server.stop()
