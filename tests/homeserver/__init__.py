"""An in-memory Synapse at a socket, as far as the service asks it: fast, and faulty on demand."""

from tests.homeserver.accounts import Account, Accounts
from tests.homeserver.errors import MatrixError
from tests.homeserver.rooms import Event, Room, Rooms
from tests.homeserver.server import Fault, MemoryHomeserver, Request, serving
from tests.homeserver.world import Deed, World

__all__ = [
    "Account",
    "Accounts",
    "Deed",
    "Event",
    "Fault",
    "MatrixError",
    "MemoryHomeserver",
    "Request",
    "Room",
    "Rooms",
    "World",
    "serving",
]
