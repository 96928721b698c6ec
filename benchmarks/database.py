"""Which database is measured: SQLite in folders, or a PostgreSQL of its own that is as durable."""

import argparse
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from benchmarks.seed import Directory, fill
from tests.postgresql import Server, serving

# As it is installed: what is answered is on the disk, as with SQLite.
AS_INSTALLED = {"listen_addresses": "''"}


def add_option(parser: argparse.ArgumentParser) -> None:
    """Have a benchmark be told which database it is to measure."""
    parser.add_argument(
        "--postgresql",
        action="store_true",
        help="measure on a PostgreSQL that is started for it, instead of on SQLite",
    )


class Databases:
    """Databases that a benchmark fills, each beside a folder of its own."""

    def __init__(self, folder: Path, server: Server | None) -> None:
        self.folder = folder
        self._server = server

    @property
    def name(self) -> str:
        """What they are of, for a table's title."""
        if self._server is None:
            return "SQLite"
        [(version,)] = self._server.run("SHOW server_version")
        return f"PostgreSQL {str(version).split()[0]}"

    async def fill(
        self, name: str, users: int, groups: Mapping[str, Iterable[int]], *, accounts: bool = False
    ) -> Directory:
        """Make one; see `fill`."""
        place = None if self._server is None else self._server.database()
        return await fill(self.folder / name, users, groups, accounts=accounts, place=place)


@contextlib.contextmanager
def databases(folder: Path, *, postgresql: bool) -> Iterator[Databases]:
    """Return where databases are made. Raises SystemExit where there is no PostgreSQL to run."""
    if not postgresql:
        yield Databases(folder, None)
        return
    with serving(AS_INSTALLED) as server:
        if server is None:
            raise SystemExit("PostgreSQL is not here: scripts/get_postgresql.sh installs it")
        yield Databases(folder, server)
