"""The map file in a running service."""

import asyncio
import os
import re
from pathlib import Path

from scim_matrix.app_keys import DATABASE, REPLICA
from scim_matrix.map_loader import MapLoader
from scim_matrix.store import views
from scim_matrix.store.database import Database
from tests.conftest import eventually
from tests.service.conftest import Client, Start, environment


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


async def test_a_file_with_a_mistake_is_shown_until_it_has_none(
    start: Start, tmp_path: Path
) -> None:
    """`status`, /readyz and a metric tell of the mistake, and that the former map is in force."""
    file = tmp_path / "map.jsonc"
    file.write_text('{"g": ["!one"]}')
    client = await start(GROUP_MAP_FILE=str(file))
    assert client.app is not None
    for content, refused in (("{", 1), ('{"g": ["!one", "!two"]}', 0), ("{", 1)):
        file.write_text(content)
        await client.app[REPLICA].reload_map()
        assert await shown(client) == (["map"] * refused, refused, f"{refused}.0")

    # With one that has none it starts.
    file.write_text('{"g": ["!one"]}')
    await client.close()
    client = await start(GROUP_MAP_FILE=str(file))
    assert await shown(client) == ([], 0, "0.0")


async def test_a_file_is_read_once_for_each_change(tmp_path: Path) -> None:
    """With a mistake in it too, which would be told every few seconds."""
    file = tmp_path / "map.jsonc"
    file.write_text('{"g": ["!one"]}')
    loader = MapLoader(environment(tmp_path, GROUP_MAP_FILE=str(file)))
    assert not loader.has_changed
    for content, is_right in (("{", False), ('{"g": ["!two", "!one"]}', True)):
        file.write_text(content)
        assert loader.has_changed
        assert await loader.load() is is_right
        assert not loader.has_changed


async def test_who_wrote_before_a_map_is_put_in_force_does_not_wait_for_it(tmp_path: Path) -> None:
    """A large one takes long: what came before it is durable already."""
    file = tmp_path / "map.jsonc"
    file.write_text('{"g": ["!one"]}')
    loader = MapLoader(environment(tmp_path, GROUP_MAP_FILE=str(file)))
    database = await Database.open(tmp_path)

    async def commits() -> int:
        [(number,)] = await database.reader.execute_fetchall("PRAGMA data_version")
        return int(number)

    async def write() -> None:
        async with database.write() as connection:
            await connection.tick()

    try:
        before = await commits()
        writing = asyncio.create_task(write())
        putting = asyncio.create_task(loader.put_in_force(database))
        await writing
        between = await commits()
        await putting
        assert before < between < await commits()
    finally:
        await database.close()


async def shown(client: Client) -> tuple[list[str], int, str]:
    """Return what `status`, /readyz and the metric tell of a map with a mistake."""
    assert client.app is not None
    told = await views.left_to_do(client.app[DATABASE].reader, 100)
    rows = [row for row in told if row["code"] == "group-map-refused"]
    assert all("former one stays in force" in row["reason"] for row in rows)
    codes = (await (await client.get("/readyz")).json())["codes"]
    metrics = await (await client.get("/metrics")).text()
    [value] = re.findall(r"^scim_matrix_group_map_refused (.*)$", metrics, re.MULTILINE)
    return [row["what"] for row in rows], codes.count("group-map-refused"), value
