"""What can go wrong between us and the homeserver."""


class HomeserverError(Exception):
    """A request to the homeserver did not do what it should."""


class UnavailableError(HomeserverError):
    """No usable answer: connection, time-out, 5xx, a proxy's page. Says nothing of the request.

    `retry_after` is how many seconds the server asked to wait, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimitedError(UnavailableError):
    """429: too fast; `retry_after` as the server says (seconds)."""


class RefusedError(HomeserverError):
    """The homeserver understood and refused (4xx), with its errcode and words."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(f"{status} {errcode}: {message}")
        self.status = status
        self.errcode = errcode
        self.message = message


class TokenError(RefusedError):
    """The token is not valid, or not an administrator's where that is needed."""


class NotFoundError(RefusedError):
    """The thing asked for does not exist (404)."""


class WithheldError(HomeserverError):
    """DRY_RUN: the request would have changed the homeserver and was not sent."""
