"""Where accounts belong to MAS and the service was not told of it: rooms, and no more."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from scim_matrix.store import memberships, record, views
from tests.homeserver import Request
from tests.homeserver.deployment import Configuration, Deployment, deployed
from tests.homeserver.errors import MatrixError

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
HOUR = 3600.0


@contextlib.asynccontextmanager
async def delegating(folder: Path) -> AsyncIterator[Deployment]:
    """Run the service on a homeserver that keeps no accounts itself, with a room of everybody."""

    def answer(request: Request) -> None:
        if request.path[-2:] == ("v2", "users"):
            raise MatrixError(400, "M_INVALID_PARAM", "The guests parameter is not supported")
        assert not request.changes or "users" not in request.path, "an account is changed"

    configuration = Configuration(protected_users=("@boss:s",))
    async with deployed(folder, configuration=configuration) as deployment:
        deployment.homeserver.before = answer
        deployment.world.room(deployment.world.service, room_id="!room")
        await deployment.put_map({"*": ["!room"]})
        yield deployment


async def put(deployment: Deployment, name: str, scim_id: str = "", **more: Any) -> str:
    """Create or change a user, and settle; return the id."""
    user = {"schemas": [SCHEMA + "User"], "userName": name, "externalId": f"ext-{name}", **more}
    path, method = (f"/Users/{scim_id}", "PUT") if scim_id else ("/Users", "POST")
    status, answer = await deployment.scim(method, path, user)
    assert status in (200, 201), answer
    await deployment.quiet()
    return str(answer["id"])


async def shown(deployment: Deployment, name: str) -> dict[str, Any]:
    """Return what `scim-matrix users` shows of somebody."""
    [row] = await views.users(deployment.database.reader, name)
    return dict(row)


async def test_whoever_has_an_account_is_brought_into_rooms_and_out_of_them(tmp_path: Path) -> None:
    """It is taken by its name, whoever it leads to, and neither linked nor locked."""
    async with delegating(tmp_path) as deployment:
        world = deployment.world
        world.account("@ann:s", displayname="Ann")
        before = world.accounts.get("@ann:s").shown()
        ann = await put(deployment, "ann", displayName="Ann Lee")
        room = world.rooms.get("!room")
        assert room.membership("@ann:s") == "join"
        seen = await shown(deployment, "ann")
        assert (seen["account"], seen["state"], seen["problem"]) == ("@ann:s", "active", None)
        await put(deployment, "ann", ann, active=False)
        assert room.membership("@ann:s") == "leave"
        await put(deployment, "ann", ann, active=True)
        assert room.membership("@ann:s") == "join"
        assert world.accounts.get("@ann:s").shown() == before
        counts = await memberships.counts(deployment.database.reader)
        assert counts["pendingAccounts"] == 0
        # It is found once.
        told = await record.find(
            deployment.database.reader, users=None, rooms=(), since=0, limit=10, kind="bind"
        )
        assert [row["detail"] for row in told] == ["found by record"]


async def test_whoever_has_none_gets_none_and_is_waited_for(tmp_path: Path) -> None:
    """Whoever is to have one is shown until they have signed in; of others nothing is said."""
    async with delegating(tmp_path) as deployment:
        world = deployment.world
        await put(deployment, "ann")
        await put(deployment, "bob", active=False)
        reason = "@ann:s does not exist and cannot be created here"
        assert (await shown(deployment, "ann"))["problem"] == reason
        assert (await shown(deployment, "bob"))["problem"] is None
        assert not {"@ann:s", "@bob:s"} & world.accounts.all.keys()
        world.account("@ann:s")
        await deployment.settle(2 * HOUR)
        assert (await shown(deployment, "ann"))["problem"] is None
        assert world.rooms.get("!room").membership("@ann:s") == "join"


async def test_whoever_is_to_be_out_and_whose_account_is_gone_is_shown(tmp_path: Path) -> None:
    """Nobody can say here that it will not be back, so that it is looked for now and then."""
    async with delegating(tmp_path) as deployment:
        deployment.world.account("@ann:s", displayname="Ann")
        ann = await put(deployment, "ann")
        del deployment.world.accounts.all["@ann:s"]
        await put(deployment, "ann", ann, active=False)
        seen = await shown(deployment, "ann")
        reason = "@ann:s does not exist and cannot be created here"
        assert (seen["account"], seen["problem"]) == ("@ann:s", reason)
