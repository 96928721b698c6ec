"""Probes: alive (/healthz) and fit for traffic (/readyz). Neither leaks a secret or a name."""

import asyncio
import sqlite3

from aiohttp import web

from scim_matrix.store.database import Database
from scim_matrix.store.tally import Tally
from scim_matrix.sync.reconciler import Reconciler

_ANSWER_WITHIN = 5.0
_NO_STORE = {"Cache-Control": "no-store"}


class Probes:
    """The handlers of /healthz and /readyz."""

    def __init__(self, database: Database, reconciler: Reconciler, tally: Tally) -> None:
        self._database = database
        self._reconciler = reconciler
        self._tally = tally

    async def healthz(self, request: web.Request) -> web.Response:
        """200 while the process serves and its database answers, else 503."""
        alive = await self._database_answers()
        return web.json_response(
            {"status": "ok" if alive else "the database does not answer"},
            status=200 if alive else 503,
            headers=_NO_STORE,
        )

    async def readyz(self, request: web.Request) -> web.Response:
        """200 when database and homeserver are usable, else 503; says what is wrong.

        What is pending or failing for single rooms and people is counted, and not a reason to
        send traffic elsewhere.
        """
        alive = await self._database_answers()
        state = self._reconciler.state
        ready = alive and state.condition == "ready"
        return web.json_response(
            {
                "ready": ready,
                "database": "ok" if alive else "does not answer",
                "homeserver": {
                    "condition": state.condition,
                    "detail": _EXPLANATION[state.condition],
                    "version": state.version,
                    "delegatedAuthentication": state.delegated,
                    "restsSeconds": round(self._reconciler.rests_seconds, 1),
                    "removals": _REMOVALS[state.removals_wait],
                    "liveDrift": self._reconciler.follows_live,
                },
                "work": (await self._tally.counted()).work if alive else None,
            },
            status=200 if ready else 503,
            headers=_NO_STORE,
        )

    async def _database_answers(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                await self._database.reader.execute_fetchall("SELECT 1 FROM room LIMIT 1")
        except (sqlite3.Error, TimeoutError, ValueError):
            return False
        return True


_REMOVALS = {
    False: "are done",
    True: "wait: who administers the homeserver is not known; set PROTECTED_USERS",
}
# Fixed words: a homeserver's own error text may hold names; the log has it.
_EXPLANATION = {
    "unknown": "not asked yet",
    "ready": "answers, and the token is an administrator's",
    "down": "does not answer as a Synapse homeserver does; see the log",
    "refused": "refuses the token: MATRIX_ADMIN_TOKEN must be that of MATRIX_ADMIN_USER_ID,"
    " a server administrator of MATRIX_SERVER_NAME",
}
