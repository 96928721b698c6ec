"""Metrics for Prometheus: no label holds a name, an ID or an address."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics import Counter, Gauge, Histogram, Info

from scim_matrix import __version__
from scim_matrix.ops.hearing import Hearing
from scim_matrix.store.tally import Counted
from scim_matrix.store.totals import Totals
from scim_matrix.sync.replica import Replica

# The only words of a path that become part of a label; anything else becomes "-".
_WORDS = frozenset(
    [
        "scim",
        "v1",
        "v2",
        "v3",
        "Users",
        "Groups",
        "Bulk",
        "Me",
        "Schemas",
        "ResourceTypes",
        "ServiceProviderConfig",
        ".search",
        "healthz",
        "readyz",
        "metrics",
        "console",
        "_synapse",
        "_matrix",
        "admin",
        "client",
        "join",
        "joined_members",
        "rooms",
        "members",
        "kick",
        "invite",
        "state",
        "sync",
        "account",
        "whoami",
        "directory",
        "room",
        "createRoom",
        "server_version",
        "auth_metadata",
        "users",
        "suspend",
        "deactivate",
        "override_ratelimit",
        "make_room_admin",
        "hierarchy",
        "auth_providers",
        "user",
        "filter",
        "login",
        "logout",
        "m.room.power_levels",
        "m.room.create",
        "m.space.child",
        "m.space.parent",
        "api",
        "oauth2",
        "token",
        "version",
        "site-config",
        "by-username",
        "lock",
        "unlock",
        "reactivate",
        "user-emails",
        "upstream-oauth-links",
        "upstream-oauth-providers",
        "user-sessions",
        "oauth2-sessions",
        "compat-sessions",
        "personal-sessions",
        "finish",
        "regenerate",
    ]
)
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# What may stand in a label of requests to this service: whatever else is sent becomes "-", so
# that nobody can make the number of series grow.
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
_SERVED = re.compile(
    r"/(?:healthz|readyz|metrics"
    r"|scim/v2(?:/(?:Users|Groups|Bulk|Me|Schemas|ResourceTypes|ServiceProviderConfig|\.search"
    r"|-)(?:/(?:\.search|-))?)?|console(?:/-){0,4})"
)


def served(path: str) -> str:
    """Return the label of a path of this service: one of few, "-" for what is not served."""
    found = endpoint(path)
    return found if _SERVED.fullmatch(found) else "-"


def endpoint(path: str) -> str:
    """Return a path with everything but known words replaced."""
    parts = [part if part in _WORDS else "-" for part in path.strip("/").split("/")[:8]]
    return "/" + "/".join(parts)


class _Snapshot:
    """What the database says, as metric families, without keeping it."""

    def __init__(self) -> None:
        self.families: list[Any] = []

    def collect(self) -> list[Any]:
        return self.families


class Metrics:
    """Counts what is asked of the service and of the homeserver, and shows what there is."""

    def __init__(self, hearing: Hearing) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "scim_matrix_requests",
            "Requests answered",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "scim_matrix_request_seconds",
            "Time to answer a request",
            ("route", "method"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._sent = Counter(
            "scim_matrix_homeserver_requests",
            "Requests sent to the homeserver and to MAS; outcome is the status, or error without"
            " an answer",
            ("endpoint", "method", "outcome"),
            registry=self._registry,
        )
        self._sent_seconds = Histogram(
            "scim_matrix_homeserver_request_seconds",
            "Time until the homeserver or MAS answered",
            ("endpoint", "method"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        Gauge(
            "scim_matrix_last_scim_request_timestamp_seconds",
            "When the identity provider last sent a request that was let in, 0 for never",
            registry=self._registry,
        ).set_function(lambda: hearing.at)
        self._hearing = hearing
        Info("scim_matrix_build", "Which version this is", registry=self._registry).info(
            {"version": __version__}
        )
        self._snapshot = _Snapshot()
        self._registry.register(self._snapshot)
        self._writing: asyncio.Task[bytes] | None = None

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count a request by route, method and status."""
        start = time.perf_counter()
        status = 500
        try:
            answer = await handler(request)
            status = answer.status
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            route = served(request.path)
            method = request.method if request.method in _METHODS else "-"
            self._requests.labels(route, method, status).inc()
            self._seconds.labels(route, method).observe(time.perf_counter() - start)
        if request.path.startswith("/scim/") and status != 401:
            self._hearing.note()
        return answer

    def tracing(self) -> aiohttp.TraceConfig:
        """Return what counts the requests of an aiohttp session."""
        tracing = aiohttp.TraceConfig()
        tracing.on_request_start.append(_started)
        tracing.on_request_end.append(self._ended)
        tracing.on_request_exception.append(self._failed)
        return tracing

    async def _ended(
        self,
        session: aiohttp.ClientSession,
        context: SimpleNamespace,
        parameters: aiohttp.TraceRequestEndParams,
    ) -> None:
        self._count(context, parameters, str(parameters.response.status))

    async def _failed(
        self,
        session: aiohttp.ClientSession,
        context: SimpleNamespace,
        parameters: aiohttp.TraceRequestExceptionParams,
    ) -> None:
        self._count(context, parameters, "error")

    def _count(self, context: SimpleNamespace, parameters: Any, outcome: str) -> None:
        where = endpoint(parameters.url.path)
        self._sent.labels(where, parameters.method, outcome).inc()
        taken = time.perf_counter() - context.start
        self._sent_seconds.labels(where, parameters.method).observe(taken)

    async def show(self, counted: Counted, replica: Replica) -> web.Response:
        """Return the answer to GET /metrics, written once for all who ask at the same time."""
        self._snapshot.families = _families(counted, replica)
        if self._writing is None:
            self._writing = asyncio.create_task(self._written(), name="metrics")
        # What somebody else waits for as well must outlive this request.
        body = await asyncio.shield(self._writing)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _written(self) -> bytes:
        self._writing = None
        return generate_latest(self._registry)


async def _started(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    parameters: aiohttp.TraceRequestStartParams,
) -> None:
    context.start = time.perf_counter()


# Gauges of what is kept for a human: name, help, and the counts that it sums up.
_TROUBLE = (
    (
        "unmanaged_members",
        "People in mapped rooms whom no group grants them",
        ("unmanagedMembers",),
    ),
    (
        "accounts_conflicting",
        "Users whose account is somebody else's as far as anybody can tell",
        ("conflictingAccounts",),
    ),
    (
        "steps_not_followed",
        "Aliases, upgrades and rooms of spaces that are not followed",
        ("notFollowed",),
    ),
    (
        "mappings_suspended",
        "Mappings of the console whose maker lacks the power by now",
        ("suspendedMappings",),
    ),
    (
        "withheld",
        "Changes that are not made, since DRY_RUN is on",
        ("withheldPairs", "withheldAccounts"),
    ),
    (
        "removals_spared",
        "Removals and changes that wait because somebody is protected",
        ("sparedPairs", "sparedAccounts"),
    ),
)


def _families(counted: Counted, replica: Replica) -> list[Any]:
    found, trouble = counted.totals, counted.work
    return [
        _gauge(
            "group_map_refused",
            "1 while the group map's file has a mistake and the former map is in force",
            "group-map-refused" in counted.codes,
        ),
        *_labelled(found, trouble),
        *(_gauge(name, text, sum(map(trouble.__getitem__, of))) for name, text, of in _TROUBLE),
        *_states(found, replica),
    ]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"scim_matrix_{name}", text, value=value)


def _labelled(found: Totals, trouble: dict[str, int]) -> list[Any]:
    actions = CounterMetricFamily(
        "scim_matrix_actions", "Actions recorded", labels=("kind", "outcome")
    )
    for (kind, outcome), number in found.actions.items():
        actions.add_metric([kind, outcome], number)
    resources = GaugeMetricFamily("scim_matrix_resources", "What the IdP sent", labels=("kind",))
    for kind, number in found.resources.items():
        resources.add_metric([kind], number)
    work = GaugeMetricFamily(
        "scim_matrix_work", "What is left to do, held or failing", labels=("state", "what")
    )
    for name, number in trouble.items():
        state = next((s for s in ("pending", "failing", "held") if name.startswith(s)), None)
        if state is not None:
            work.add_metric([state, name.removeprefix(state).lower()], number)
    return [actions, resources, work]


def _states(found: Totals, replica: Replica) -> Iterator[GaugeMetricFamily]:
    reconciler = replica.reconciler
    yield _gauge(
        "restored", "1 while a backup that was put back waits to be confirmed", found.restored
    )
    yield _gauge(
        "oldest_pending_seconds", "Age of the oldest change to be done", found.oldest_pending
    )
    yield _gauge(
        "last_comparison_timestamp_seconds",
        "When every mapped room had been compared, 0 for never",
        found.compared_at,
    )
    yield _gauge(
        "homeserver_ready",
        "1 while the homeserver answers as it should",
        reconciler.synapse.condition == "ready",
    )
    yield _gauge(
        "leads",
        "1 while this service acts on the homeserver; of several on one database one does",
        replica.leads,
    )
    yield _gauge(
        "term", "The number of the term in which this service leads, 0 otherwise", replica.term
    )
    if reconciler.mas is not None or reconciler.delegated:
        yield _gauge(
            "homeserver_waits_for_mas",
            "1 while the homeserver is not asked because of MAS: no token, or none it vouches for",
            reconciler.synapse.condition == "waiting",
        )
    if reconciler.mas is not None:
        yield _gauge(
            "mas_ready",
            "1 while MAS answers as it should (accounts belong to it)",
            reconciler.mas.condition == "ready",
        )
