"""Databases of a given size, filled in seconds."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from scim_matrix.demo.service import Service
from scim_matrix.demo.synapse import SERVER_NAME, free_port
from scim_matrix.store.accounts import Profile
from scim_matrix.store.database import Database
from scim_matrix.store.text import folded

NOW = "2026-01-01T00:00:00.000000+00:00"


@dataclass(frozen=True)
class Directory:
    """A filled database: ids of its users, and of its groups by their size."""

    folder: Path
    users: list[str]
    groups: dict[int, str]


async def fill(folder: Path, users: int, groups: list[int]) -> Directory:
    """Fill a database with users and with groups of given sizes, each mapped to a room."""
    database = await Database.open(folder)
    ids = [str(uuid.uuid4()) for _ in range(users)]
    made = {size: str(uuid.uuid4()) for size in groups}
    async with database.write() as connection:
        rows = []
        accounts = []
        for number, scim_id in enumerate(ids):
            name = f"user{number}@corp.example"
            document = {
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
                "userName": name,
                "externalId": f"x{number}",
                "active": True,
                "displayName": f"User {number}",
                "emails": [{"value": name, "primary": True}],
            }
            text = orjson.dumps(document).decode()
            rows.append((scim_id, folded(name), f"x{number}", 1, f"user {number}", text, NOW, NOW))
            profile = Profile(f"User {number}", (name,), f"x{number}")
            accounts.append(
                (f"@user{number}:{SERVER_NAME}", scim_id, profile.subject, profile.dump())
            )
        await connection.executemany(
            "INSERT INTO scim_user (id, user_name_key, external_id, active, display_name_key,"
            " document, created, last_modified) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        await connection.executemany(
            "INSERT INTO account (proposed, scim_id, subject, desired, profile)"
            " VALUES (?, ?, ?, 'active', ?)",
            accounts,
        )
        for size, group_id in made.items():
            name = f"group{size}"
            text = orjson.dumps(
                {
                    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
                    "displayName": name,
                    "externalId": name,
                }
            ).decode()
            await connection.execute_fetchall(
                "INSERT INTO scim_group (id, external_id, display_name, display_name_key,"
                " document, created, last_modified) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (group_id, name, name, name, text, NOW, NOW),
            )
            await connection.executemany(
                "INSERT INTO group_member (group_id, value) VALUES (?, ?)",
                [(group_id, scim_id) for scim_id in ids[:size]],
            )
    await database.close()
    return Directory(folder, ids, made)


@asynccontextmanager
async def served(directory: Directory) -> AsyncIterator[Service]:
    """Serve a database, with no homeserver to be found; each group opens one room."""
    group_map = {f"group{size}": [f"!room{size}:{SERVER_NAME}"] for size in directory.groups}
    service = Service(
        directory.folder,
        f"http://127.0.0.1:{free_port()}",
        f"@bot:{SERVER_NAME}",
        "token",
        orjson.dumps(group_map).decode(),
    )
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
