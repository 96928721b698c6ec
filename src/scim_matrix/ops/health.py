"""Probes: alive (/healthz) and fit for traffic (/readyz). Neither leaks a secret or a name."""

import asyncio
from typing import Any

from aiohttp import web

from scim_matrix.ops.hearing import Hearing
from scim_matrix.store.database import Database
from scim_matrix.store.errors import DatabaseError
from scim_matrix.store.tally import Tally
from scim_matrix.sync.breaker import Breaker, Condition
from scim_matrix.sync.replica import Replica

_ANSWER_WITHIN = 5.0
_NO_DATABASE = ("database-failed",)
_NO_STORE = {"Cache-Control": "no-store"}


class Probes:
    """The handlers of /healthz and /readyz."""

    def __init__(
        self, database: Database, replica: Replica, tally: Tally, hearing: Hearing
    ) -> None:
        self._database = database
        self._replica = replica
        self._tally = tally
        self._hearing = hearing
        self._asking: asyncio.Task[bool] | None = None

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
        counted = await self._tally.counted() if alive else None
        # From here on nothing waits: all of the answer is of one moment.
        replica, reconciler = self._replica, self._replica.reconciler
        synapse, mas = reconciler.synapse, reconciler.mas
        ready = alive and all(s is None or s.condition == "ready" for s in (synapse, mas))
        waits = reconciler.removals_wait
        return web.json_response(
            {
                "ready": ready,
                "database": "ok" if alive else "does not answer",
                # Where there may be several services; which one it is says the log.
                "leads": replica.leads,
                "homeserver": {
                    **_told(synapse, _EXPLANATION if mas is None else EXPLANATION_WITH_MAS),
                    "delegatedAuthentication": reconciler.delegated,
                    **(
                        {}
                        if not replica.leads
                        else {
                            "removals": REMOVALS[(waits, mas is not None)],
                            "liveDrift": reconciler.follows_live,
                        }
                    ),
                },
                **({} if mas is None else {"mas": _told(mas, EXPLANATION_OF_MAS)}),
                "work": None if counted is None else counted.work,
                "codes": sorted(
                    {
                        *replica.codes(),
                        *self._hearing.codes(),
                        *(counted.codes if counted else _NO_DATABASE),
                    }
                ),
            },
            status=200 if ready else 503,
            headers=_NO_STORE,
        )

    async def _database_answers(self) -> bool:
        """Tell whether the database answers, as it does all who ask until it has."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_database(), name="probe")
        # What somebody else waits for as well must outlive this request.
        return await asyncio.shield(self._asking)

    async def _ask_database(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                await self._database.reader.execute_fetchall("SELECT 1 FROM room LIMIT 1")
        except (DatabaseError, TimeoutError, ValueError):
            return False
        finally:
            self._asking = None
        # A server that is a standby by now, or that hangs for who writes, still answers who reads.
        return self._database.leadership.is_well and not self._database.is_stuck


def _told(server: Breaker, explanation: dict[Condition, str]) -> dict[str, Any]:
    return {
        "condition": server.condition,
        "detail": explanation[server.condition],
        "version": server.version,
        "restsSeconds": round(server.rests_seconds, 1),
    }


# By whether they wait, and whether MAS can be asked.
REMOVALS = {
    (False, False): "are done",
    (False, True): "are done",
    (True, False): "wait: who administers the homeserver is not known; set MAS_URL and what goes"
    " with it, or PROTECTED_USERS",
    (True, True): "wait: who administers the homeserver is not known while MAS does not answer",
}
# Fixed words: a homeserver's own error text may hold names; the log has it.
_EXPLANATION: dict[Condition, str] = {
    "unknown": "not asked yet",
    "ready": "answers, and the token is an administrator's",
    "down": "does not answer as a Synapse homeserver does; see the log",
    "refused": "refuses the token: MATRIX_ADMIN_TOKEN must be that of MATRIX_ADMIN_USER_ID,"
    " a server administrator of MATRIX_SERVER_NAME; scim-matrix check says more",
    "mismatched": "keeps accounts itself, and MAS_URL is set: take MAS_URL and what goes with it"
    " out, or have Synapse delegate to MAS; nothing is done meanwhile",
    "waiting": "is not asked anything: MAS does not tell it whose the service's token is, or gives"
    " the service none; the log and scim-matrix check say more",
}
EXPLANATION_WITH_MAS: dict[Condition, str] = {
    **_EXPLANATION,
    "refused": "refuses the token: it must be MATRIX_ADMIN_USER_ID's and have the scope"
    " urn:synapse:admin:*; scim-matrix check says more",
}
EXPLANATION_OF_MAS: dict[Condition, str] = {
    "unknown": "not asked yet",
    "ready": "answers, and the client may administer it",
    "down": "does not answer as MAS's admin API does; see the log and scim-matrix check",
    "refused": "refuses the client: MAS_CLIENT_ID must be in its `clients` and"
    " `policy.data.admin_clients`, and MAS_CLIENT_SECRET its secret",
    "mismatched": "serves another server than MATRIX_SERVER_NAME, or is older than 1.5; no account"
    " is touched",
    "waiting": "is not asked anything",
}
