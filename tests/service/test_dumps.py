"""What docs/setup/postgresql.md says of backups is so, word for word."""

import os
import re
import subprocess
from pathlib import Path

from scim_matrix.console.sessions import Sessions
from scim_matrix.store import brake
from scim_matrix.store.database import Database
from tests.postgresql import Server, binaries
from tests.service.directory import Directory

PAGE = (Path(__file__).parents[2] / "docs" / "setup" / "postgresql.md").read_text()
[BLOCK] = re.findall(r"^## Backups$.*?^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


async def test_a_dump_that_is_put_back_is_what_was_there(
    tmp_path: Path, postgresql: Server
) -> None:
    """It is made beside a service, which goes on with it as a copy that signs nobody in."""
    url = postgresql.filled()
    database = await Database.open(url)
    async with database.write() as connection:
        await Directory(connection).user("ann")
        await brake.next_generation(connection, 7)
    session_id = await Sessions(database).begin("@ann:s", 0)
    dump, *put_back = BLOCK.splitlines()

    def run(command: str) -> None:
        path = f"{binaries()}:{os.environ['PATH']}"
        environment = {"PATH": path, "DATABASE_URL": url.get_secret_value()}
        subprocess.run(
            command, shell=True, check=True, cwd=tmp_path, env=environment, capture_output=True
        )

    run(dump)
    await Sessions(database).end(session_id)
    async with database.write() as connection:
        directory = Directory(connection)
        await directory.deletes("ann")
        await directory.user("bob")
    await database.close()
    for command in put_back:
        run(command)
    database = await Database.open(url)
    found = await database.reader.execute_fetchall("SELECT id FROM scim_user")
    assert [scim_id for (scim_id,) in found] == ["ann"]
    assert (await brake.generation(database.reader))[1] == 0
    assert await Sessions(database).find(session_id, 1) is None
    async with database.write() as connection:
        await Directory(connection).user("bob")
        [(number,)] = await connection.execute_fetchall("SELECT max(seq) FROM scim_user")
    assert number == 2
    await database.close()
