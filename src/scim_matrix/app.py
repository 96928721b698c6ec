"""The service put together: database, homeserver, reconciler and the aiohttp application."""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping

import structlog
from aiohttp import web

from scim_matrix.app_keys import DATABASE, HEARING, HOMESERVER, REPLICA, TALLY
from scim_matrix.config import Settings
from scim_matrix.console.session import SESSIONS
from scim_matrix.console.sessions import Sessions
from scim_matrix.console.site import make_console
from scim_matrix.edge import listening, tls
from scim_matrix.edge.door import Door
from scim_matrix.edge.requests import scim_expectation, well_formed
from scim_matrix.map_loader import MapLoader
from scim_matrix.matrix.connecting import connect
from scim_matrix.matrix.server import Homeserver
from scim_matrix.ops.health import Probes
from scim_matrix.ops.hearing import Hearing
from scim_matrix.ops.metrics import Metrics
from scim_matrix.ops.systemd import Systemd, passed_sockets
from scim_matrix.scim.attempts import Attempts
from scim_matrix.scim.people import Identity
from scim_matrix.scim.protocol import make_provider
from scim_matrix.scim.routes import PREFIX, ScimEndpoint
from scim_matrix.store.database import Database
from scim_matrix.store.errors import DatabaseTooNewError
from scim_matrix.store.occupancy import occupying
from scim_matrix.store.tally import Tally
from scim_matrix.sync.account_changes import AccountPolicy
from scim_matrix.sync.guard import Brake
from scim_matrix.sync.housekeeping import Pace
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.reconciler import Reconciler
from scim_matrix.sync.replica import Replica
from scim_matrix.sync.room_rights import RoomPolicy
from scim_matrix.sync.servers import Servers

log = structlog.get_logger(__name__)

SHUTDOWN_SECONDS = 4.0


DOOR = web.AppKey("DOOR", Door)


def make_app(settings: Settings) -> web.Application:
    """Return the application; database and homeserver are opened when it starts."""
    hearing = Hearing(time.time())
    metrics = Metrics(hearing)
    door = Door()
    app = web.Application(
        client_max_size=settings.max_body_bytes,
        middlewares=[door.middleware, metrics.middleware, well_formed(settings.public_url)],
    )
    app[DOOR], app[HEARING] = door, hearing
    app.on_response_prepare.append(_add_headers)
    if settings.console:
        app.add_subapp("/console", make_console(settings, lambda: app[HOMESERVER]))
    app.cleanup_ctx.append(lambda app: _run(app, settings, metrics))
    return app


async def _add_headers(request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.setdefault("X-Content-Type-Options", "nosniff")
    answer.headers.setdefault("Cache-Control", "no-store")


async def _run(app: web.Application, settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        database = await Database.open(settings.place, serving=_address(settings))
        stack.push_async_callback(database.close)
        homeserver = connect(
            settings,
            dry_run=settings.dry_run,
            leads=lambda: database.leadership.leads,
            tracing=[metrics.tracing()],
        )
        stack.push_async_callback(homeserver.close)
        servers = Servers(homeserver, database.clock, settings.matrix_concurrency)
        replica = Replica(
            database, servers, MapLoader(settings), _reconcilers(settings, homeserver, servers)
        )
        await replica.begin()
        app[DATABASE], app[REPLICA] = database, replica
        app[HOMESERVER], app[TALLY] = homeserver, Tally(database)
        app[SESSIONS] = Sessions(database)
        stack.push_async_callback(app[SESSIONS].drain)
        if settings.console:
            # Made now: later it would be somebody's who only looks.
            await app[SESSIONS].key()
        _add_routes(app, settings, database, replica)

        async def show(request: web.Request) -> web.Response:
            return await metrics.show(await app[TALLY].counted(), replica)

        app.router.add_get("/metrics", show)
        # Counted before anybody asks: with a million memberships the first to ask would wait.
        counting = asyncio.create_task(app[TALLY].counted(), name="first tally")
        stack.push_async_callback(app[TALLY].stop)
        loop = asyncio.create_task(replica.run(), name="replica")
        loop.add_done_callback(_reconciler_ended)
        yield
        counting.cancel()
        replica.stop()
        await loop


def _reconcilers(
    settings: Settings, homeserver: Homeserver, servers: Servers
) -> Callable[[Database], Reconciler]:
    """Return what makes a reconciler as the settings say, one for each term."""
    brake = Brake(
        settings.removal_limit_percent, settings.removal_limit_count, settings.removal_window
    )
    users = Policy(settings.matrix_admin_user_id, settings.protected_users)
    accounts = AccountPolicy.of(settings)
    rooms = RoomPolicy(users, brake, settings.on_self_leave, settings.map_sources())
    pace = Pace(
        settings.reconcile_interval,
        max(settings.record_keep, settings.removal_window),
        settings.lift_rate_limit,
    )
    return lambda database: Reconciler(database, homeserver, servers, accounts, rooms, pace)


def _reconciler_ended(task: asyncio.Task[None]) -> None:
    """A service without its reconciler must not look alive: end, and be started again."""
    if task.cancelled() or (error := task.exception()) is None:
        return
    if isinstance(error, DatabaseTooNewError):
        log.critical("database_too_new", error=str(error))
    else:
        log.critical("reconciler_failed", exc_info=error)
    signal.raise_signal(signal.SIGTERM)


def _add_routes(
    app: web.Application, settings: Settings, database: Database, replica: Replica
) -> None:
    identity = Identity(
        settings.matrix_server_name,
        settings.localpart_template,
        settings.sso_subject_attribute,
        settings.delete_grace,
    )
    endpoint = ScimEndpoint(
        database,
        make_provider(settings.max_body_bytes),
        identity,
        settings.webhook_secrets,
        settings.public_url,
        replica.wake,
        Attempts(settings.trusted_proxies),
    )
    probes = Probes(database, replica, app[TALLY], app[HEARING])
    app.router.add_get("/healthz", probes.healthz)
    app.router.add_get("/readyz", probes.readyz)
    for path in (PREFIX, PREFIX + "/{path:(?s:.*)}"):
        app.router.add_route("*", path, endpoint.handle, expect_handler=scim_expectation)


async def serve(settings: Settings, environment: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT, then drain: no new requests, running ones finish.

    `environment` is where systemd leaves its socket, watchdog and passed listeners. Raises
    OccupiedError where another service runs on this database.
    """
    if settings.data_dir is None:
        await _serve(settings, environment)
        return
    with occupying(settings.data_dir, _address(settings)):
        await _serve(settings, environment)


def _address(settings: Settings) -> str:
    """Return what others are told of this service."""
    return f"listening on {settings.listen_host}:{settings.listen_port}"


async def _serve(settings: Settings, environment: Mapping[str, str]) -> None:
    app = make_app(settings)
    runner = web.AppRunner(
        app, shutdown_timeout=SHUTDOWN_SECONDS, access_log=None, **listening.OPTIONS
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    systemd = Systemd(environment)
    certificate = tls.load(settings.tls_cert_file, settings.tls_key_file)
    # Bound first: where that fails, nothing has been sent to the homeserver yet.
    servers = await listening.bind(
        app[DOOR].guard(lambda: listening.protocol(runner)),
        passed_sockets(environment),
        settings.listen_host,
        settings.listen_port,
        certificate,
    )
    await runner.setup()
    # What was imported stays for ever: going through it again and again to find what can be freed
    # would hold every request up meanwhile (60 ms).
    gc.freeze()
    beat = asyncio.create_task(systemd.beat(lambda: _status(app[REPLICA])), name="systemd")
    try:
        reloads: set[asyncio.Task[None]] = set()

        async def reload() -> None:
            systemd.reloading()
            await app[REPLICA].reload_map()
            if certificate is not None:
                tls.renew(certificate, settings.tls_cert_file, settings.tls_key_file)
            systemd.notify("READY=1")

        def hang_up() -> None:
            reloads.add(task := asyncio.create_task(reload()))
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        for server in servers:
            await server.start_serving()
            for listener in server.sockets:
                log.info("listening", address=listener.getsockname())
        systemd.notify("READY=1")
        await stop.wait()
        log.info("stopping")
        systemd.notify("STOPPING=1", "STATUS=finishing what is in flight")
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        for server in servers:
            server.close()
        await runner.cleanup()


def _status(replica: Replica) -> str:
    """Return one line for `systemctl status`."""
    reconciler = replica.reconciler
    there = f"homeserver {reconciler.synapse.condition}"
    if reconciler.mas is not None:
        there += f", MAS {reconciler.mas.condition}"
    return f"{there}: {reconciler.working} at work" if replica.leads else f"{there}: stands ready"
