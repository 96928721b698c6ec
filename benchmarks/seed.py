"""Databases of a given size, filled in seconds."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from scim_matrix.demo.service import Service
from scim_matrix.demo.synapse import SERVER_NAME, free_port
from scim_matrix.groupmap import parse_group_map
from scim_matrix.store import grants, groupmap
from scim_matrix.store.accounts import Profile
from scim_matrix.store.database import Database, Place
from scim_matrix.store.text import folded

NOW = "2026-01-01T00:00:00.000000+00:00"
BOT = f"@bot:{SERVER_NAME}"


@dataclass(frozen=True)
class Directory:
    """A filled database, a folder beside it; ids of its users, and of its groups by their names."""

    folder: Path
    place: Place
    users: list[str]
    groups: dict[str, str]

    @property
    def settings(self) -> dict[str, str]:
        """What a service in the folder is told beside that, so that it finds the database."""
        if isinstance(self.place, Path):
            return {}
        return {"DATA_DIR": "", "DATABASE_URL": self.place.get_secret_value()}


async def fill(
    folder: Path,
    users: int,
    groups: Mapping[str, Iterable[int]],
    *,
    accounts: bool = False,
    place: Place | None = None,
) -> Directory:
    """Fill a database with users and with groups of some of them, by their numbers.

    It is in the folder, or elsewhere (`place`). With `accounts` everybody's account is there and
    confirmed.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    place = place or folder
    database = await Database.open(place)
    ids = [str(uuid.uuid4()) for _ in range(users)]
    made = {name: str(uuid.uuid4()) for name in groups}
    async with database.write() as connection:
        rows = []
        people = []
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
            rows.append(
                {
                    "id": scim_id,
                    "name": folded(name),
                    "external_id": f"x{number}",
                    "display_name": f"user {number}",
                    "document": text,
                    "now": NOW,
                }
            )
            profile = Profile(f"User {number}", (name,), f"x{number}")
            user_id = f"@user{number}:{SERVER_NAME}"
            people.append(
                {
                    "proposed": user_id,
                    "id": scim_id,
                    "subject": profile.subject,
                    "profile": profile.dump(),
                    "user_id": user_id if accounts else None,
                    "bound_by": "link" if accounts else None,
                    "confirmed": "active" if accounts else None,
                    "confirmed_profile": profile.dump() if accounts else None,
                    "usable": accounts,
                }
            )
        await connection.executemany(
            "INSERT INTO scim_user (id, user_name_key, external_id, active, display_name_key,"
            " document, created, last_modified) VALUES (:id, :name, :external_id, TRUE,"
            " :display_name, :document, :now, :now)",
            rows,
        )
        await connection.executemany(
            "INSERT INTO account (proposed, scim_id, subject, desired, profile, user_id, bound_by,"
            " confirmed, confirmed_profile, usable) VALUES (:proposed, :id, :subject, 'active',"
            " :profile, :user_id, :bound_by, :confirmed, :confirmed_profile, :usable)",
            people,
        )
        for name, members in groups.items():
            text = orjson.dumps(
                {
                    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
                    "displayName": name,
                    "externalId": name,
                }
            ).decode()
            await connection.execute_fetchall(
                "INSERT INTO scim_group (id, external_id, display_name, display_name_key,"
                " document, created, last_modified) VALUES (:id, :name, :name, :name, :document,"
                " :now, :now)",
                {"id": made[name], "name": name, "document": text, "now": NOW},
            )
            await connection.executemany(
                "INSERT INTO group_member (group_id, value) VALUES (:id, :value)",
                [{"id": made[name], "value": ids[number]} for number in members],
            )
    await database.close()
    return Directory(folder, place, ids, made)


async def settle(directory: Directory, group_map: str) -> None:
    """Have a map be in force, and what it means for everybody worked out."""
    database = await Database.open(directory.place)
    async with database.write("group map") as connection:
        await groupmap.put(connection, parse_group_map(group_map))
    left = True
    while left:
        async with database.write() as connection:
            left = await grants.settle_map(connection)
    await database.close()


async def inhabit(directory: Directory, group_map: str, records: int, held: int) -> None:
    """Have everybody be in the rooms that a map gives them, after so many recorded actions.

    In `held` of the rooms half of the people are held from being removed.
    """
    await settle(directory, group_map)
    database = await Database.open(directory.place)
    async with database.write() as connection:
        values = {"at": connection.at, "records": records, "held": held}
        for statement in _INHABITED:
            await connection.execute_fetchall(statement, values)
    await database.close()


# Rooms are called "Room 7" after their place; what was done is spread over the last year.
_INHABITED = (
    "UPDATE membership SET observed = 'join'",
    "INSERT INTO room (room_id, name, compared_at) SELECT room_id,"
    " 'Room ' || row_number() OVER (ORDER BY room_id), :at FROM room_count WHERE true"
    " ON CONFLICT (room_id) DO UPDATE SET name = excluded.name, compared_at = :at",
    "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :records),"
    " people AS MATERIALIZED (SELECT count(*) AS number FROM account),"
    " place AS MATERIALIZED (SELECT row_number() OVER () AS n, room_id FROM room_count),"
    " places AS MATERIALIZED (SELECT count(*) AS number FROM place)"
    " INSERT INTO action (at, kind, outcome, user_id, room_id, group_name, request, approved)"
    " SELECT :at - 31536000.0 * (:records - n.n) / :records,"
    " CASE WHEN n.n % 10 = 0 THEN 'kick' ELSE 'join' END, 'done', a.user_id, p.room_id,"
    " 'Group ' || (n.n % 50), 'r' || (n.n / 20), FALSE FROM n"
    " CROSS JOIN people CROSS JOIN places"
    " CROSS JOIN account a ON a.id = 1 + n.n % people.number"
    " CROSS JOIN place p ON p.n = 1 + n.n % places.number",
    "UPDATE membership SET state = 'revoked', brake = 'held', held_because = 'limit',"
    " held_tick = 1, request = 'a-request', since = :at - 180"
    " WHERE account_id % 2 = 0 AND room_id IN"
    " (SELECT room_id FROM room_count ORDER BY room_id LIMIT :held)",
)


@asynccontextmanager
async def served(directory: Directory) -> AsyncIterator[Service]:
    """Serve a database, with no homeserver to be found; each group opens one room."""
    group_map = {name: [f"!{name}:{SERVER_NAME}"] for name in directory.groups}
    service = Service(
        directory.folder,
        f"http://127.0.0.1:{free_port()}",
        BOT,
        "token",
        orjson.dumps(group_map).decode(),
        directory.settings,
    )
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
