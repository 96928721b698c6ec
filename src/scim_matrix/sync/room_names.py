"""What rooms call themselves, kept as it is seen, so that nobody has to read room IDs."""

from collections.abc import Mapping

from scim_matrix.store import rooms
from scim_matrix.store.database import Database


async def record(database: Database, seen: Mapping[str, rooms.OwnName]) -> None:
    """Record what rooms call themselves; nothing is written where that is no news."""
    if news := await rooms.renamed(database.scanner, seen):
        async with database.write() as connection:
            await rooms.record_own_names(connection, news)
