"""What a start makes good: clocks that were wrong, time away, another server name, a dry run."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scim_matrix.sync.backoff import PERMANENT
from tests.homeserver import Fault, Request
from tests.homeserver.deployment import Configuration, Deployment, deployed

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
DAY = 86400.0


async def user(deployment: Deployment, name: str) -> str:
    """Have the identity provider send a user; return the SCIM id."""
    body = {"schemas": [SCHEMA + "User"], "userName": name, "externalId": name}
    status, answer = await deployment.scim("POST", "/Users", body)
    assert status == 201
    return str(answer["id"])


def creates(request: Request) -> bool:
    """Tell whether a request is to make an account."""
    return request.method == "PUT" and "external_ids" in request.body


async def expiry(deployment: Deployment) -> float:
    """Return when the grace period of the one deleted account ends."""
    sql = "SELECT expires FROM account WHERE expires IS NOT NULL"
    [row] = await deployment.database.reader.execute_fetchall(sql)
    return float(row["expires"])


async def test_no_rest_outlasts_a_clock_that_was_wrong(tmp_path: Path) -> None:
    """What failed while the clock was days ahead is tried again soon after the next start."""
    async with deployed(tmp_path) as deployment:
        deployment.hands.jumped = 10 * DAY
        await deployment.restart()
        deployment.homeserver.faults.append(Fault("unavailable", creates))
        await user(deployment, "ann")
        await deployment.settle()
        assert "@ann:s" not in deployment.world.accounts.all
        deployment.hands.jumped = 0.0
        await deployment.restart()
        await deployment.settle(PERMANENT.longest)
        assert "@ann:s" in deployment.world.accounts.all


async def test_the_time_away_is_put_to_a_grace_period_once(tmp_path: Path) -> None:
    """Also where the service is killed right after its start, and starts again."""
    async with deployed(tmp_path) as deployment:
        scim_id = await user(deployment, "ann")
        await deployment.settle()
        assert (await deployment.scim("DELETE", f"/Users/{scim_id}"))[0] == 204
        await deployment.settle()
        before = await expiry(deployment)
        await deployment.kill()
        deployment.hands.passed += 2 * DAY
        await deployment.start()
        await deployment.kill()
        await deployment.start()
        assert await expiry(deployment) == pytest.approx(before + 2 * DAY, abs=60.0)


async def test_accounts_still_to_be_made_are_made_on_the_server_that_is_there(
    tmp_path: Path,
) -> None:
    """An installation that moved to another server name goes on there."""
    async with deployed(tmp_path) as deployment:
        deployment.homeserver.dark = True
        await user(deployment, "ann")
        async with deployment.database.write() as connection:
            await connection.execute_fetchall("UPDATE account SET proposed = '@ann:former.example'")
        deployment.homeserver.dark = False
        await deployment.restart()
        await deployment.settle()
        assert "@ann:s" in deployment.world.accounts.all


async def test_what_a_dry_run_withheld_is_done_at_the_start_without_it(tmp_path: Path) -> None:
    """At once, whoever has an account already and whoever has none."""
    async with deployed(tmp_path, configuration=Configuration()) as deployment:
        world = deployment.world
        room = world.rooms.create(world.service, room_id="!room")
        await user(deployment, "ann")
        await deployment.settle()
        await deployment.restart(dry_run=True)
        await user(deployment, "bob")
        await deployment.put_map({"*": ["!room"]})
        await deployment.quiet()
        assert room.members() == [world.service]
        await deployment.restart(dry_run=False)
        await deployment.settle()
        assert set(room.members()) == {world.service, "@ann:s", "@bob:s"}


async def test_a_clock_that_was_set_is_told_once(tmp_path: Path) -> None:
    """However often it is looked at, and again where it is set once more."""
    async with deployed(tmp_path) as deployment:
        with capture_logs() as logs:
            for jumped in (3600.0, 0.0, -3600.0, 0.0):
                deployment.hands.jumped += jumped
                await deployment.settle()
        jumps = [entry["seconds"] for entry in logs if entry["event"] == "clock_jumped"]
        assert jumps == [3600, 0]
