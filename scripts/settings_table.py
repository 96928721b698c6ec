"""Write the table of settings into the README; `--check` only tells whether it is there."""

import re
import sys
from pathlib import Path

from scim_matrix.config import table

README = Path(__file__).parents[1] / "README.md"
PLACE = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)


def main() -> int:
    """Return the exit status: 1 where the README says something else than the code."""
    before = README.read_text()
    after = PLACE.sub(lambda place: f"{place[1]}{table()}\n{place[2]}", before)
    if "--check" in sys.argv:
        print("the settings in README.md are", "right" if before == after else "out of date")
        return int(before != after)
    README.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
