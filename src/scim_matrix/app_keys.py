"""What the parts of the application find each other by."""

from collections.abc import Awaitable, Callable

import aiosqlite
from aiohttp import web

from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.store.database import Database
from scim_matrix.sync.reconciler import Reconciler

DATABASE = web.AppKey("DATABASE", Database)
RECONCILER = web.AppKey("RECONCILER", Reconciler)
HOMESERVER = web.AppKey("HOMESERVER", Homeserver)
# Puts the map in force that file, environment and console together say, within a transaction.
SETTLE_MAP = web.AppKey[Callable[[aiosqlite.Connection], Awaitable[None]]]("SETTLE_MAP")
