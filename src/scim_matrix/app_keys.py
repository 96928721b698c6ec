"""What the parts of the application find each other by."""

from aiohttp import web

from scim_matrix.matrix.server import Homeserver
from scim_matrix.ops.hearing import Hearing
from scim_matrix.store.database import Database
from scim_matrix.store.tally import Tally
from scim_matrix.sync.replica import Replica

DATABASE = web.AppKey("DATABASE", Database)
REPLICA = web.AppKey("REPLICA", Replica)
HOMESERVER = web.AppKey("HOMESERVER", Homeserver)
HEARING = web.AppKey("HEARING", Hearing)
TALLY = web.AppKey("TALLY", Tally)
