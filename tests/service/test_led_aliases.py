"""What an administrator is told of an alias that leads elsewhere."""

from pathlib import Path

from scim_matrix.store import views
from tests.homeserver.deployment import deployed
from tests.homeserver.rooms import CANONICAL, Event

EVE = "@eve:s"


async def test_where_somebody_has_no_say_below_a_space_is_told(tmp_path: Path) -> None:
    """By the room's ID and what they lack there; once they have it the alias is followed."""
    async with deployed(tmp_path) as deployment:
        world = deployment.world
        world.account(EVE)
        for room_id, is_space in (("!space", True), ("!hers", True), ("!board", False)):
            world.room(world.service, EVE, room_id=room_id, space=is_space)
        world.alias("#space:s", "!space")
        await deployment.put_map({"*": [{"room": "#space:s", "children": True}]})
        await deployment.quiet()
        world.levels("!hers", eve=50)
        world.child("!hers", world.service, "!board")
        # What somebody without a say put there is opened to nobody, whoever says so.
        world.account("@mallory:s")
        world.room("@owner:s", room_id="!private")
        world.child("!hers", "@mallory:s", "!private")
        hers = world.rooms.get("!hers")
        world.rooms.put(hers, Event(CANONICAL, "", EVE, {"alt_aliases": ["#space:s"]}))
        world.alias("#space:s", "!hers", canonical=False)
        await deployment.quiet()
        [row] = await views.left_to_do(deployment.database.reader, 10)
        assert row["reason"] == (
            "#space:s leads to !hers, where @eve:s said that it is its alias and could not do by"
            " themselves what the map would: In !board: !board is in the space !hers, which is"
            " followed because of @eve:s, who could not do in the room by themselves what the map"
            " would: @eve:s has power level 0 in the room and needs 50 to remove people. !space is"
            " kept."
        )
        world.levels("!board", eve=50)
        await deployment.quiet()
        left = await views.left_to_do(deployment.database.reader, 10)
        assert [row["room"] for row in left] == ["!private"]
