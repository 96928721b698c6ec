"""Services of tests are forked off a process that has imported what they need."""

import os
import sys
from pathlib import Path

from tests.preforked import fork


def tell() -> None:
    """End the process with 0 where what a service imports is there before it begins."""
    os._exit(0 if "scim_matrix.app" in sys.modules else 1)


def test_what_a_service_imports_is_imported_once(tmp_path: Path) -> None:
    """A second of a processor for each of thousands; other scripts fork off processes as well."""
    process = fork((), {}, tmp_path, tmp_path / "output", first=tell)
    assert process.join(30.0) == 0
