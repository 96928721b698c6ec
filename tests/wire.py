"""What lies between a service and its database, and may fall silent without ending a connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pydantic import SecretStr

from tests.postgresql import Server


class Wire:
    """Passes connections on to a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pumps: set[asyncio.Task[None]] = set()
        # Of each connection: set once it passes nothing on any more.
        self._silent = asyncio.Event()
        self.port = 0

    def falls_silent(self) -> None:
        """Have what is connected now stay so, and hear nothing any more; others may connect."""
        self._silent.set()
        self._silent = asyncio.Event()

    def url(self, url: SecretStr) -> SecretStr:
        """Return the address of a database that leads through here."""
        name = url.get_secret_value().partition("@/")[2].partition("?")[0]
        return SecretStr(f"postgresql://{self._server.owner}@127.0.0.1:{self.port}/{name}")

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        socket = self._server.folder / ".s.PGSQL.5432"
        there_reader, there_writer = await asyncio.open_unix_connection(str(socket))
        silent = self._silent
        for source, target in ((reader, there_writer), (there_reader, writer)):
            self._pumps.add(pump := asyncio.create_task(_pump(source, target, silent)))
            pump.add_done_callback(self._pumps.discard)

    async def close(self) -> None:
        """End every connection."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, silent: asyncio.Event
) -> None:
    try:
        while data := await source.read(65536):
            # What is sent is taken still, and so is the end of either side.
            if not silent.is_set():
                target.write(data)
    finally:
        target.close()


@contextlib.asynccontextmanager
async def wired(server: Server) -> AsyncIterator[Wire]:
    """Lay a wire to a server."""
    wire = Wire(server)
    listener = await asyncio.start_server(wire.handle, "127.0.0.1", 0)
    wire.port = listener.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        listener.close()
        await wire.close()
