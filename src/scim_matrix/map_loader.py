"""Load the group map, again when it changes, and take up what commands decided meanwhile."""

import asyncio

import structlog

from scim_matrix.config import Settings
from scim_matrix.groupmap import GroupMapError
from scim_matrix.store import groupmap, totals
from scim_matrix.store.database import Database
from scim_matrix.sync.reconciler import Reconciler

log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0


class MapLoader:
    """Puts the group map in force, and again when its file has changed."""

    def __init__(self, settings: Settings, database: Database, reconciler: Reconciler) -> None:
        self._settings = settings
        self._database = database
        self._reconciler = reconciler
        self._seen = self._stamp()
        self._configured = settings.group_map()

    def _stamp(self) -> tuple[int, int] | None:
        if self._settings.group_map_file is None:
            return None
        try:
            status = self._settings.group_map_file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    async def reload(self) -> None:
        """Put the map in force; a broken one is reported and the old one stays."""
        self._seen = self._stamp()
        try:
            self._configured = await asyncio.to_thread(self._settings.group_map)
        except GroupMapError as error:
            log.error("group_map_refused", error=str(error), in_force="the former map")  # noqa: TRY400
            return
        await self.put_in_force()

    async def put_in_force(self) -> None:
        """Put what was loaded in force, beside what the console says."""
        async with self._database.write("group map") as connection:
            await groupmap.put(connection, self._configured)
        log.info("group_map_loaded", mappings=len(self._configured))
        self._reconciler.compare()

    async def watch(self) -> None:
        """Reload whenever the file has changed; compare when a command has decided something."""
        decided = await totals.when(self._database.reader, "decided")
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self._stamp() != self._seen:
                await self.reload()
            latest = await totals.when(self._database.reader, "decided")
            if latest != decided:
                decided = latest
                self._reconciler.compare()
