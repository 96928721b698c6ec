"""Whether accounts belong to MAS, says the homeserver: asked before anything is done about it."""

from scim_matrix.matrix.errors import (
    NOT_FOUND,
    UNRECOGNIZED,
    MismatchError,
    RefusedError,
    UnavailableError,
)
from scim_matrix.matrix.transport import CLIENT_V1, PROBE_TIMEOUT, Answer, Transport

# What is wrong where MAS is set and Synapse does not delegate to it, and what would mend it.
PLAIN = "MAS_URL is set, and Synapse keeps accounts itself: nothing is done"
PLAIN_CURE = (
    "take MAS_URL and what goes with it out (MATRIX_ADMIN_TOKEN and IDP_NAME are needed then), or"
    " have Synapse delegate: matrix_authentication_service: {enabled: true, endpoint: MAS_URL,"
    " secret: ...}"
)
_ASKED = "GET /_matrix/client/v1/auth_metadata"


class _Metadata(Answer):
    issuer: str


async def issuer(transport: Transport) -> str | None:
    """Return the issuer of MAS, None where Synapse keeps accounts itself (auth_metadata).

    Nobody's token is needed for that. Raises UnavailableError or RateLimitedError where it cannot
    be told: whatever is not Synapse's own "no" may come from what stands before it.
    """
    try:
        answer = await transport.request(
            *("GET", *CLIENT_V1, "auth_metadata"), token="", within=PROBE_TIMEOUT, shape=_Metadata
        )
    except RefusedError as error:
        if error.status == 404 and error.errcode in (UNRECOGNIZED, NOT_FOUND):
            return None
        raise UnavailableError(
            f"it cannot be told whether accounts belong to MAS: {_ASKED}: {error}"
        ) from error
    return answer.issuer


async def make_sure(transport: Transport) -> None:
    """Raise MismatchError where accounts do not belong to MAS, and what `issuer` raises."""
    if await issuer(transport) is None:
        raise MismatchError(f"{PLAIN}; {PLAIN_CURE}")
