"""Tell whether this database is a copy that was put back: the homeserver has seen a later one."""

import contextlib

import structlog

from scim_matrix.matrix.errors import WithheldError
from scim_matrix.matrix.server import Homeserver
from scim_matrix.store import brake
from scim_matrix.store.database import Database

log = structlog.get_logger(__name__)

# What changed for so long (seconds) may be missing from a copy without that being told.
RENEW_EVERY = 300.0


class Copies:
    """Keeps the number by which copies of the database are told from it.

    Its methods raise what the homeserver raises.
    """

    def __init__(self, database: Database, homeserver: Homeserver) -> None:
        self._database = database
        self._homeserver = homeserver
        # The last transaction before the number was counted up, and when it is next.
        self._tick = 0
        self._renew_at = 0.0

    async def tell_apart(self) -> None:
        """Compare the database's number with the one that the homeserver has seen; count it up.

        Where that is higher, or another database's, removals that only the copy speaks of wait. A
        new database has none yet.
        """
        installation, number = await brake.generation(self._database.reader)
        seen = await self._homeserver.installation()
        if (
            seen is not None
            and number is not None
            and (seen[0] != installation or seen[1] > number)
        ):
            async with self._database.write() as connection:
                # Also where an earlier copy waits for confirmation still: this one is another.
                await brake.begin_restoration(connection)
            log.error(
                "database_restored",
                cure="scim-matrix approve restored, or let"
                " the identity provider synchronise everything again",
            )
        await self._count_up(installation, max(number or 0, 0 if seen is None else seen[1]))

    async def renew(self) -> None:
        """Count the number up where something changed since, every few minutes at most."""
        if self._database.clock.now() < self._renew_at:
            return
        if await brake.last_tick(self._database.reader) != self._tick:
            installation, number = await brake.generation(self._database.reader)
            await self._count_up(installation, number or 0)

    async def _count_up(self, installation: str, above: int) -> None:
        self._renew_at = self._database.clock.now() + RENEW_EVERY
        self._tick = await brake.last_tick(self._database.reader)
        async with self._database.write() as connection:
            number = await brake.next_generation(connection, above)
        with contextlib.suppress(WithheldError):
            await self._homeserver.put_installation(installation, number)
