"""What the probes tell of a homeserver that is not there."""

from typing import Any

from tests.conftest import eventually
from tests.service.conftest import Start


async def test_how_long_the_homeserver_is_left_alone_is_shown(start: Start) -> None:
    """While it rests, /readyz says for how long; /healthz is well all the same."""
    client = await start()

    async def ready() -> dict[str, Any]:
        async with client.get("/readyz") as answer:
            assert answer.status == 503
            found: dict[str, Any] = (await answer.json())["homeserver"]
            return found

    seen = await eventually(ready, lambda found: found["restsSeconds"] > 0)
    assert seen["restsSeconds"] <= 15
    async with client.get("/healthz") as answer:
        assert answer.status == 200
