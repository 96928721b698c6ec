"""What can go wrong between us and the homeserver.

HomeserverError
├── PostponedError          says nothing of the request: again later
│   ├── UnavailableError    nothing is known about the outcome
│   │   └── UnvouchedError  because MAS does not tell the homeserver whose token it is
│   └── RateLimitedError    not now
├── RefusedError            no, for this request
│   ├── NotFoundError       there is no such thing
│   ├── NameTakenError      somebody has the name
│   └── BannedError         somebody is banned from the room
├── TokenError              no, whatever is asked
├── NoTokenError            there is no token to ask with, since MAS gives none
├── MismatchError           it is not the server that the settings say
├── WithheldError           not sent
└── FencedError             not sent: another service leads, or may by now
"""

# Words by which Synapse (1.163) tells what neither status nor errcode does.
# rest/admin/_base.py, assert_user_is_admin: 403 M_FORBIDDEN "You are not a server admin".
NOT_A_SERVER_ADMIN = "not a server admin"
# api/auth/mas.py, get_user_by_access_token: 503 "Unable to introspect the access token".
NOT_INTROSPECTED = "Unable to introspect the access token"
# event_auth.py, _is_membership_change_allowed: 403 M_FORBIDDEN "@a:s is already in the room."
ALREADY_IN_THE_ROOM = "is already in the room"
# handlers/room_member.py, update_membership_locked: 403 "The target user is not in the room".
NOT_IN_THE_ROOM = "The target user is not in the room"

# Errcodes that decide something, or are given to refusals of our own (Matrix specification,
# client-server API, standard error response and the endpoints' own).
FORBIDDEN = "M_FORBIDDEN"
# Synapse, handlers/room_member.py, update_membership_locked: "Cannot invite user who was banned".
BAD_STATE = "M_BAD_STATE"
INVALID_USERNAME = "M_INVALID_USERNAME"
USER_LOCKED = "M_USER_LOCKED"
UNRECOGNIZED = "M_UNRECOGNIZED"
INVALID_PARAM = "M_INVALID_PARAM"
USER_IN_USE = "M_USER_IN_USE"
NOT_FOUND = "M_NOT_FOUND"


class HomeserverError(Exception):
    """A request to the homeserver did not do what it should."""


class PostponedError(HomeserverError):
    """What was asked for is to be asked for again later.

    `retry_after` is how many seconds the server asked to wait, if it did, within bounds.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(PostponedError):
    """No usable answer: connection, time-out, 5xx, a proxy's page."""


class UnvouchedError(UnavailableError):
    """MAS does not tell the homeserver whose token it is: what ails is MAS, or the way to it."""


class RateLimitedError(PostponedError):
    """429: too fast."""


class RefusedError(HomeserverError):
    """The homeserver understood and refused (4xx), with its errcode and words."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(f"{status} {errcode}: {message}")
        self.status = status
        self.errcode = errcode
        self.message = message


class NotFoundError(RefusedError):
    """The thing asked for does not exist (404)."""


class NameTakenError(RefusedError):
    """An account of this name cannot be made: there is one."""


class BannedError(RefusedError):
    """Whoever is to come into a room is banned from it."""


class TokenError(HomeserverError):
    """The service's token is not valid, or not an administrator's where that is needed."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(f"{status} {errcode}: {message}")
        self.status = status


class NoTokenError(HomeserverError):
    """The token that the service makes itself through MAS cannot be had; the cause says why."""


class MismatchError(HomeserverError):
    """A server answers, and is not what the settings say: nothing is done until that is mended."""


class WithheldError(HomeserverError):
    """DRY_RUN: the request would have changed the homeserver and was not sent."""


class FencedError(HomeserverError):
    """It was not sent: another service leads, or may by now."""
