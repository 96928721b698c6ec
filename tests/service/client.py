"""One SCIM request and its answer, for tests of the application in this process."""

import json
from typing import Any

from yarl import URL

from tests.service.conftest import Client

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


async def call(
    client: Client, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    """Send one request (bytes as they are, else JSON) and return status and JSON body."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/scim+json", **headers}
    # As it stands: yarl would write blanks as plus signs.
    url = URL(f"/scim/v2{path}", encoded=True)
    async with client.request(method, url, data=data, headers=sent) as answer:
        text = await answer.read()
        return answer.status, json.loads(text) if text else None


async def made(client: Client, endpoint: str, **resource: Any) -> dict[str, Any]:
    """Create a resource and return it."""
    status, answer = await call(client, "POST", f"/{endpoint}", resource)
    assert status == 201, answer
    created: dict[str, Any] = answer
    return created
