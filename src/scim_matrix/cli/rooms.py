"""How commands find the room that somebody means."""

import click

from scim_matrix.store import rooms
from scim_matrix.store.database import Connection


async def find(connection: Connection, name: str) -> str | None:
    """Return the ID of the room that a name, alias or room ID stands for, None without one.

    Raises ClickException where several rooms are called so.
    """
    found = await rooms.named(connection, name)
    if len(found) > 1:
        listed = ", ".join(f"'{room_id}'" for room_id in found)
        raise click.ClickException(f"{name}: several rooms are called so; say which: {listed}")
    return found[0] if found else None
