"""A conformance tester made by others finds nothing wrong with the live service."""

import asyncio
import os
import sys
from pathlib import Path

from scim_matrix.demo.service import SECRET
from scim_matrix.scim.routes import PREFIX
from tests.synapse.conftest import StartService


async def test_scim2_tester_finds_nothing(service: StartService) -> None:
    """Every check of scim2-tester succeeds: no error, none skipped."""
    async with service({}) as running:
        tester = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("scim2")),
            *("--url", f"{running.url}{PREFIX}", "test", "--verbose"),
            env={**os.environ, "SCIM_CLI_HEADERS": f"Authorization: Bearer {SECRET}"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await tester.communicate())[0].decode()
    results = [line.split()[0] for line in output.splitlines() if line[:1].isupper()][1:]
    assert (tester.returncode, set(results)) == (0, {"SUCCESS"}), output
    assert len(results) > 100
