"""Load the group map of the configuration, again when its file changes."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import asdict

import orjson
import structlog

from scim_matrix.config import Settings
from scim_matrix.groupmap import GroupMapError, Mapping
from scim_matrix.store import groupmap
from scim_matrix.store.database import Database

log = structlog.get_logger(__name__)


class MapLoader:
    """The group map that this service's configuration has.

    Raises GroupMapError where that has a mistake at the start.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen = self._stamp()
        self._configured: Sequence[Mapping] = settings.group_map()

    def _stamp(self) -> tuple[int, int] | None:
        if self._settings.group_map_file is None:
            return None
        try:
            status = self._settings.group_map_file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    @property
    def digest(self) -> str:
        """What tells this map from others: the same wherever the same lines are."""
        lines = sorted(orjson.dumps(asdict(mapping)) for mapping in self._configured)
        return _digest(b"\n".join(lines))

    @property
    def settings(self) -> str:
        """What tells these settings from others, apart from the map: names, and digests of values.

        A JSON list, so that those that differ can be named.
        """
        shared = self._settings.shared().items()
        return orjson.dumps(
            [f"{name} {_digest(value.encode())[:16]}" for name, value in shared]
        ).decode()

    @property
    def has_changed(self) -> bool:
        """Whether the file is another than the one that was loaded."""
        return self._stamp() != self._seen

    async def load(self) -> bool:
        """Load the map again; a broken one is reported and the old one stays, which is False."""
        self._seen = self._stamp()
        try:
            self._configured = await asyncio.to_thread(self._settings.group_map)
        except GroupMapError as error:
            log.error("group_map_refused", error=str(error), in_force="the former map")  # noqa: TRY400
            return False
        return True

    async def put_in_force(self, database: Database) -> None:
        """Put what was loaded in force, beside the console's; what follows is left to settle."""
        async with database.write("group map", is_long=True) as connection:
            await groupmap.put(connection, self._configured, piece=0)
        log.info("group_map_loaded", mappings=len(self._configured))


def _digest(told: bytes) -> str:
    return hashlib.sha256(told).hexdigest()
