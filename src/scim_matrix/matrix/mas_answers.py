"""What may be believed of MAS's answers: shapes, errors, and which answer means which."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from scim_matrix.matrix.answers import misshapen
from scim_matrix.matrix.errors import (
    HomeserverError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    TokenError,
    UnavailableError,
)

ADMIN_SCOPE = "urn:mas:admin"
# The errcode of a refusal that MAS gives no code for.
REFUSED = "MAS"
# How long MAS may ask us to wait, in seconds.
LONGEST_WAIT = 300.0
# Characters of MAS's own words that are kept.
WORDS = 500


class MasError(HomeserverError):
    """It is MAS that does not answer, limits, or does not let the service in."""


class MasUnavailableError(MasError, UnavailableError):
    """MAS gave no usable answer; says nothing of the request.

    `answered` tells that MAS itself said so (5xx), which it also does where Synapse does not
    answer it: then MAS is there.
    """

    def __init__(
        self, message: str, retry_after: float | None = None, *, answered: bool = False
    ) -> None:
        super().__init__(message, retry_after)
        self.answered = answered


class MasRateLimitedError(MasError, RateLimitedError):
    """429: too fast, says MAS or what stands before it."""


class MasTokenError(MasError, TokenError):
    """MAS does not know the client, or does not let it administer."""


class Shape(BaseModel):
    """The shape that an answer must have at least; other keys are left aside."""

    model_config = ConfigDict(strict=True, frozen=True)


S = TypeVar("S", bound=Shape)


class Resource(Shape, Generic[S]):
    """A resource of the admin API; `id` is a ULID."""

    id: str
    attributes: S


class One(Shape, Generic[S]):
    """One resource."""

    data: Resource[S]


class Links(Shape):
    """Where a list goes on, if it does."""

    next: str | None = None


class Page(Shape, Generic[S]):
    """A page of a list; MAS leaves `data` out only where it was asked to count and no more."""

    data: list[Resource[S]]
    links: Links


class _Problem(Shape):
    title: str


class _Problems(Shape):
    errors: list[_Problem]


class Discovery(Shape):
    """OpenID Connect Discovery."""

    token_endpoint: str


# What can be sent as a bearer token (RFC 6750, section 2.1, and whatever else is visible).
Token = Annotated[str, StringConstraints(pattern="^[\\x21-\\x7e]+$")]


class Granted(Shape):
    """A token of the client's own; `expires_in` is in seconds."""

    access_token: Token
    expires_in: int


class Denied(Shape):
    """Why there is no token (RFC 6749, section 5.2)."""

    error: str
    error_description: str = ""


class Version(Shape):
    """MAS's version."""

    version: str


class Site(Shape):
    """MAS's configuration."""

    server_name: str


@dataclass(frozen=True)
class Answer:
    """An answer as it came; `asked_at` is when the request was sent, by our clock (seconds)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    asked_at: float


def second(headers: Mapping[str, str]) -> float | None:
    """Return the second in which an answer was made (seconds since the epoch)."""
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return None


def no_answer(answer: Answer, words: str = "") -> MasUnavailableError | MasRateLimitedError:
    """Return what an answer means that says nothing of the request; `words` are MAS's own."""
    wait = answer.headers.get("Retry-After", "")
    seconds = min(float(wait), LONGEST_WAIT) if wait.isdecimal() else None
    if answer.status == 429:
        return MasRateLimitedError("429: rate limited", seconds)
    if words:
        return MasUnavailableError(f"MAS: {answer.status}: {words}", seconds, answered=True)
    return MasUnavailableError(
        f"no usable answer: status {answer.status}: is MAS_URL MAS's issuer?", seconds
    )


def shaped(body: bytes, shape: type[S]) -> S:
    """Return an answer in its shape. Raises MasUnavailableError where it has another one."""
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        raise MasUnavailableError(f"no usable answer of MAS: {misshapen(error)}") from None


def checked(answer: Answer) -> Answer:
    """Return a 2xx answer, or raise what the answer means.

    A refusal counts only in MAS's own words: a proxy's 404 does not say that nobody is there.
    """
    if 200 <= answer.status < 300:
        return answer
    try:
        problems = _Problems.model_validate_json(answer.body).errors
    except ValidationError:
        problems = []
    words = "; ".join(p.title for p in problems)[:WORDS]
    if not problems or not 400 <= answer.status < 500 or answer.status == 429:
        raise no_answer(answer, words)
    if answer.status == 401:
        raise MasTokenError(401, REFUSED, f"{words} (does the client's token have {ADMIN_SCOPE}?)")
    refusal = NotFoundError if answer.status == 404 else RefusedError
    raise refusal(answer.status, REFUSED, words)
