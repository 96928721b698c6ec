"""Whether everything is as the service needs it, and how to mend what is not."""

import asyncio
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scim_matrix.config import Settings
from scim_matrix.groupmap import Mapping
from scim_matrix.matrix.connecting import connect
from scim_matrix.matrix.errors import HomeserverError, NotFoundError, RefusedError
from scim_matrix.matrix.mas_answers import MasError
from scim_matrix.matrix.server import Homeserver
from scim_matrix.ops import check_homeserver, check_mas, check_settings, check_sign_in, check_used
from scim_matrix.ops.check_used import Used
from scim_matrix.ops.findings import Finding
from scim_matrix.store import views
from scim_matrix.store.access import refused
from scim_matrix.store.database import Database, Place
from scim_matrix.store.errors import DatabaseError
from scim_matrix.store.sqlite import DATABASE_NAME
from scim_matrix.story.words import people
from scim_matrix.sync.power import POWER_LEVELS, PowerLevels
from scim_matrix.sync.room_rights import read_levels

# Kicks, and giving power levels, as Synapse's make_room_admin leaves the service with.
_MANY = 5
# About what an error keeps the rest from being looked at.
_DECISIVE = ("homeserver", "MAS_URL", "MAS_CLIENT_ID", "MATRIX_SERVER_NAME")


async def check(settings: Settings) -> list[Finding]:
    """Look at the settings, the database, the homeserver and every mapped room; change nothing.

    What still may come right by itself is a warning, what cannot work an error.
    """
    mappings = settings.group_map()
    folder, findings = settings.data_dir, list[Finding]()
    if folder is not None:
        findings += await asyncio.to_thread(lambda: [*check_settings.of_files(folder)])
    groups: Sequence[dict[str, Any]] = ()
    sound = False
    if folder is None or await asyncio.to_thread(check_settings.is_folder, folder):
        finding, groups = await _database(settings.place)
        findings.append(finding)
        sound = finding.verdict == "ok"
    findings += check_settings.of_words(settings, mappings)
    findings += check_settings.of_groups(settings, mappings, groups)
    findings += await check_settings.of_address(settings)
    homeserver = connect(settings, dry_run=True)
    try:
        keeper = await check_homeserver.who_keeps_accounts(homeserver)
        if homeserver.mas is not None and keeper.is_mas is not False:
            findings += await check_mas.of_mas(homeserver, settings)
        findings += await check_homeserver.of_homeserver(homeserver, settings, keeper)
        if not homeserver.token:
            return findings
        if not any(f.verdict == "error" and f.about in _DECISIVE for f in findings):
            findings += await check_settings.of_homeserver(settings, homeserver)
            if sound:
                findings += await check_sign_in.of_sign_in(settings, homeserver.accounts)
            admins = await homeserver.accounts.admins() or frozenset()
            used = await check_used.used(settings.place if sound else None)
            for reference, own in _by_room(mappings).items():
                findings += await _room(homeserver, reference, own, admins, used)
    except HomeserverError as error:
        about = "MAS_URL" if isinstance(error, MasError) else "homeserver"
        findings.append(Finding("error", about, str(error), "see its log and try again"))
    finally:
        await homeserver.close()
    return findings


def _by_room(mappings: Iterable[Mapping]) -> dict[str, list[Mapping]]:
    found: dict[str, list[Mapping]] = {}
    for mapping in mappings:
        found.setdefault(mapping.room, []).append(mapping)
    return found


async def _database(place: Place) -> tuple[Finding, Sequence[dict[str, Any]]]:
    """Return whether the database is sound, and the groups in it."""
    groups: Sequence[dict[str, Any]] = ()
    try:
        database = await Database.open(place)
    except DatabaseError as error:
        found, cure = str(error), "see who owns DATA_DIR and its disk"
        if isinstance(place, Path):
            found, cure = refused(place / DATABASE_NAME) or (found, cure)
        else:
            cure = "see that it runs, is reached and lets this role in: docs/setup/postgresql.md"
        return Finding("error", "database", found, cure), groups
    try:
        damage = await database.damage()
        groups = await views.groups(database.scanner, None)
    except DatabaseError as error:
        damage = str(error)
    finally:
        await database.close()
    if damage is not None:
        cure = "scim-matrix restore a backup"
        return Finding("error", "database", f"damaged: {damage}", cure), groups
    where = place if isinstance(place, Path) else "DATABASE_URL"
    return Finding("ok", "database", f"{where} can be written and is sound"), groups


async def _room(
    homeserver: Homeserver,
    reference: str,
    mappings: list[Mapping],
    admins: frozenset[str],
    used: Used,
) -> list[Finding]:
    try:
        room_id = reference
        if reference.startswith("#"):
            room_id = await homeserver.rooms.resolve_alias(reference)
            if differing := used.differs(reference, room_id):
                return differing
        details = await homeserver.rooms.details(room_id)
        members = await homeserver.rooms.members(room_id)
        levels = await _levels(homeserver, room_id)
        encryption = await homeserver.rooms.state_event(room_id, "m.room.encryption")
    except NotFoundError as error:
        if reference.startswith("#") and (gone := await used.gone(reference, homeserver.rooms)):
            return gone
        if any(mapping.create is not None for mapping in mappings):
            return [Finding("ok", reference, "does not exist and will be made")]
        cure = "make the room, correct the map, or give it a create object"
        if not reference.startswith("#"):
            cure = "name another room in the map, or take this one out of it"
        return [Finding("error", reference, f"does not exist: {error.message}", cure)]
    except RefusedError as error:
        return [Finding("error", reference, str(error), "see the homeserver's log")]
    except HomeserverError as error:
        if reference.partition(":")[2] in ("", homeserver.server_name):
            raise
        # It is that server which did not answer, and other rooms are to be looked at.
        found = f"cannot be asked for at its server: {error}"
        return [Finding("error", reference, found, "let that server answer, or correct the map")]
    if details.replacement is not None:
        found = f"was upgraded to {details.replacement}, which is followed"
        return [Finding("warning", reference, found, "name the new room in the map")]
    findings = _power(homeserver.user_id, reference, levels, members, mappings)
    own = levels.of(homeserver.user_id)
    equals = [
        user
        for user in members
        if user != homeserver.user_id and user not in admins and levels.of(user) >= own
    ]
    if homeserver.user_id in members and equals:
        named = ", ".join(equals[:_MANY]) + (" ..." if len(equals) > _MANY else "")
        findings.append(
            Finding(
                "warning",
                reference,
                f"could never be removed: {named} (as much power as the service, or its creator)",
                "give them less power; creators of version 12 rooms keep theirs for good",
            )
        )
    notes = []
    if encryption is not None:
        notes.append("encrypted")
    server = homeserver.user_id.split(":", 1)[1]
    foreign = {user.split(":", 1)[1] for user in members} - {server}
    if foreign:
        others = "1 other server" if len(foreign) == 1 else f"{len(foreign)} other servers"
        notes.append(f"federated with {others}")
    name = f"“{details.own_name[0]}”, " if details.own_name[0] else ""
    what = f"{name}version {details.version}, {people(len(members))}"
    findings.insert(0, Finding("ok", reference, ", ".join([what, *notes])))
    return findings


async def _levels(homeserver: Homeserver, room_id: str) -> PowerLevels:
    """Return a room's power levels; nobody's where nobody of this homeserver is in it."""
    try:
        return await read_levels(homeserver, room_id)
    except NotFoundError:
        return PowerLevels({})


def _power(
    service: str,
    reference: str,
    levels: PowerLevels,
    members: Iterable[str],
    mappings: list[Mapping],
) -> list[Finding]:
    """Tell whether the service may do what the map asks of it in a room, or could come to."""
    needed = {"kick": levels.needed("kick"), "invite": levels.needed("invite")}
    if any(mapping.power is not None for mapping in mappings):
        needed["set power levels"] = levels.needed(POWER_LEVELS)
    own = levels.of(service) if service in set(members) else -math.inf
    missing = [what for what, level in needed.items() if own < level]
    if not missing:
        return []
    server = service.split(":", 1)[1]
    # make_room_admin acts as the most powerful local member, who must be able to give power.
    helpers = [
        user
        for user in members
        if user.endswith(f":{server}")
        and levels.of(user) >= max(*needed.values(), levels.needed(POWER_LEVELS))
    ]
    lacks = f"the service may not {', '.join(missing)}"
    if helpers:
        return [Finding("warning", reference, f"{lacks} yet; it takes that power when needed")]
    return [
        Finding(
            "error",
            reference,
            f"{lacks}, and no local member has the power to let it",
            f"let somebody with power invite {service} and give it power level 100",
        )
    ]
