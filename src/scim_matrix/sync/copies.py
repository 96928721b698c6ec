"""Tell whether this database is a copy that was put back: the homeserver has seen a later one."""

import contextlib

import structlog

from scim_matrix.matrix.errors import WithheldError
from scim_matrix.matrix.server import Homeserver
from scim_matrix.store import brake
from scim_matrix.store.database import Database

log = structlog.get_logger(__name__)


async def tell_copies_apart(database: Database, homeserver: Homeserver) -> None:
    """Compare the database's number with the one that the homeserver has seen, and count it up.

    Where the homeserver has seen a higher one, removals that only the copy speaks of wait.
    Raises what the homeserver raises.
    """
    installation, number = await brake.generation(database.reader)
    seen = await homeserver.installation()
    async with database.write() as connection:
        if seen is not None and seen[0] == installation and seen[1] > number:
            # Also where an earlier copy waits for confirmation still: this one is another.
            await brake.begin_restoration(connection)
            log.error(
                "database_restored",
                cure="scim-matrix approve restored, or let"
                " the identity provider synchronise everything again",
            )
            number = seen[1]
        number = await brake.next_generation(connection, number)
    with contextlib.suppress(WithheldError):
        await homeserver.put_installation(installation, number)
