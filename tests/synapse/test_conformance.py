"""A conformance tester made by others finds nothing wrong with the live service."""

import asyncio
import os
import sys
from pathlib import Path

from scim_matrix.demo.service import SECRET
from scim_matrix.scim.routes import PREFIX
from tests.synapse.conftest import StartService

# Taking `active` away leaves people as they are: nobody who was locked out comes back for it.
DECIDED = """ERROR check_remove_attribute
  PATCH modify() did not remove attribute 'active'
"""


async def test_scim2_tester_finds_nothing(service: StartService) -> None:
    """Every check of scim2-tester succeeds, none is skipped; but for one decided otherwise."""
    async with service({}) as running:
        tester = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("scim2")),
            *("--url", f"{running.url}{PREFIX}", "test", "--verbose"),
            env={**os.environ, "SCIM_CLI_HEADERS": f"Authorization: Bearer {SECRET}"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await tester.communicate())[0].decode()
    assert output.count("ERROR") == output.count(DECIDED) == 1, output
    output = output.replace(DECIDED, "")
    results = [line.split()[0] for line in output.splitlines() if line[:1].isupper()][1:]
    assert set(results) == {"SUCCESS"}, output
    assert len(results) > 100
