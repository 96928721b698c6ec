"""The map file in a running service."""

import os
from pathlib import Path

from scim_matrix.app_keys import DATABASE, REPLICA
from tests.conftest import eventually
from tests.service.conftest import Client, Start


async def rooms_in_force(client: Client) -> list[str]:
    """Return the rooms the running service maps."""
    assert client.app is not None
    rows = await client.app[DATABASE].reader.execute_fetchall(
        "SELECT reference FROM mapping ORDER BY 1"
    )
    return [reference for (reference,) in rows]


async def test_a_changed_file_is_read_again(start: Start, tmp_path: Path) -> None:
    """Saving the file is enough; a broken one leaves the former map in force."""
    file = tmp_path / "map.jsonc"
    file.write_text('{"g": ["!one"]}')
    client = await start(GROUP_MAP_FILE=str(file))
    assert await rooms_in_force(client) == ["!one"]

    file.write_text('{"g": ["!one", "!two"]} // more')
    await eventually(lambda: rooms_in_force(client), lambda seen: seen == ["!one", "!two"])

    file.write_text('{"g": ["!one", broken')
    os.utime(file, (0, 0))
    assert client.app is not None
    await client.app[REPLICA].reload_map()
    assert await rooms_in_force(client) == ["!one", "!two"]
