"""What is believed of any answer: asked for once, from where it was asked, in its shape."""

import aiohttp
from pydantic import ValidationError

from scim_matrix.matrix.errors import UnavailableError


def once(unusable: type[UnavailableError], cure: str) -> aiohttp.ClientMiddlewareType:
    """Return what keeps aiohttp from sending anything a second time (a client middleware).

    It would send a GET again where the connection broke, and follow a redirect: with the token,
    to wherever the answer says, and as a GET whatever the request was. That raises `unusable`.
    """

    async def send_once(
        request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            response = await send(request)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise aiohttp.ClientConnectionError(str(error)) from error
        if 300 <= response.status < 400:
            response.close()
            raise unusable(f"no usable answer: status {response.status}, a redirect: {cure}")
        return response

    return send_once


def misshapen(error: ValidationError) -> str:
    """Return what is wrong with an answer's shape, without its values: they may be secrets."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
