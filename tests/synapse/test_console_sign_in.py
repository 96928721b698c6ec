"""Signing in to the console where Synapse limits sign-ins as it does by default."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from scim_matrix.demo.synapse import Synapse
from tests.preforked import PreforkedService
from tests.synapse.visiting import Visitor


@asynccontextmanager
async def limited(folder: Path) -> AsyncIterator[PreforkedService]:
    """Run a homeserver with its default limits, and a console in front of it."""
    synapse = Synapse(folder / "synapse", more={"rc_login": {}})
    synapse.folder.mkdir()
    await synapse.start()
    try:
        admin = await synapse.register("scim-bot", admin=True)
        more = {"CONSOLE": "true", "TRUSTED_PROXIES": "127.0.0.0/8"}
        service = PreforkedService(
            folder / "data", synapse.url, admin.user_id, admin.token, "{}", more
        )
        await service.start()
        try:
            yield service
        finally:
            await service.stop()
    finally:
        await synapse.stop()


async def test_wrong_passwords_shut_nobody_else_out(tmp_path: Path) -> None:
    """Synapse counts the browser's address; whoever it limits is told the true wait."""
    async with limited(tmp_path) as service:
        guesser = Visitor(service.url, headers={"X-Forwarded-For": "203.0.113.5"})
        for number in range(5):
            assert await guesser.sign_in(f"somebody{number}", "wrong") == 403
        csrf = await guesser.token("/console/sign-in")
        form = {"user": "scim-bot", "password": "password", "csrf": csrf}
        status, text, headers = await guesser.ask("POST", "/console/sign-in", **form)
        assert status == 429
        # One sign-in in 333 seconds is what Synapse allows an address beyond the first five.
        assert 60 < int(headers["Retry-After"]) <= 334
        assert f"Try again in {headers['Retry-After']} seconds" in text
        for address in ("203.0.113.6", "2001:db8::7"):
            other = Visitor(service.url, headers={"X-Forwarded-For": address})
            assert await other.sign_in("scim-bot") == 303
