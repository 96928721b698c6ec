"""Requests on Ann's account that get no answer, and are carried out late."""

import asyncio
from typing import Literal

from scim_matrix.store.dialect import DatabaseRow
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import Deployment
from tests.homeserver.errors import forbidden

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
How = Literal["lock", "suspend", "deactivate"]
Kind = Literal["answer lost", "unavailable"]


async def disabled(deployment: Deployment, scim_id: str, *, active: bool) -> None:
    """Have the identity provider say whether Ann is active."""
    body = {"schemas": [USER], "userName": "ann", "externalId": "sub", "active": active}
    assert (await deployment.scim("PUT", f"/Users/{scim_id}", body))[0] == 200


def disables(request: Request) -> bool:
    """Tell whether a request takes an account out of use."""
    named = request.path[-1] == "@ann:s" and request.changes
    asked = (
        "deactivate" in request.path or request.body.get("locked") or request.body.get("suspend")
    )
    return named and bool(asked)


def enables(request: Request) -> bool:
    """Tell whether a request lets an account be used."""
    named = request.path[-1] == "@ann:s" and request.changes
    return named and False in map(request.body.get, ("locked", "deactivated", "suspend"))


def refuse(request: Request) -> None:
    """Refuse what takes an account out of use."""
    if disables(request):
        raise forbidden("not here")


def carry_out(deployment: Deployment, how: How) -> None:
    """Do what a request asked for that got no answer."""
    account = deployment.world.accounts.get("@ann:s")
    if how == "deactivate":
        account.deactivated = True
    elif how == "suspend":
        account.suspended = True
    else:
        account.locked = True


async def whatever_else_can_be_done() -> None:
    """Have everything go on that waits for no request, while one hangs.

    What is shown then is that something does not happen, for which there is nothing to wait.
    """
    for _ in range(1000):
        await asyncio.sleep(0)


def is_out(deployment: Deployment) -> bool:
    """Tell whether Ann cannot use her account."""
    account = deployment.world.accounts.get("@ann:s")
    return account.locked or account.suspended or account.deactivated


async def ann(deployment: Deployment) -> str:
    """Have Ann have an account; return her id."""
    body = {"schemas": [USER], "userName": "ann", "externalId": "sub"}
    _, made = await deployment.scim("POST", "/Users", body)
    await deployment.quiet()
    return str(made["id"])


async def row(deployment: Deployment) -> DatabaseRow:
    """Return what is known of Ann's account."""
    [found] = await deployment.database.reader.execute_fetchall(
        "SELECT * FROM account WHERE user_id = '@ann:s'"
    )
    return found


async def unanswered(deployment: Deployment, kind: Kind = "unavailable") -> str:
    """Have Ann be disabled, by a request that gets no answer; return her id."""
    scim_id = await ann(deployment)
    deployment.homeserver.faults.append(Fault(kind, disables))
    await disabled(deployment, scim_id, active=False)
    await deployment.settle()
    return scim_id
