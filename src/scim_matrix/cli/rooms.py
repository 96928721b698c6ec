"""How commands find the room that somebody means."""

import click

from scim_matrix.store import rooms
from scim_matrix.store.database import Connection


async def find(connection: Connection, name: str) -> list[str]:
    """Return the IDs of the room that a name, alias or room ID stands for, the newest last.

    There are several where it was upgraded, none where no room is called so. Raises ClickException
    where different rooms call themselves so.
    """
    if found := await rooms.named(connection, name):
        return found
    found = await rooms.with_own_name(connection, name)
    if len(found) > 1:
        listed = ", ".join(f"'{room_id}'" for room_id in found)
        raise click.ClickException(f"{name}: several rooms are called so; say which: {listed}")
    return found
