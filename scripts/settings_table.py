"""Write the table of settings into docs/settings.md; `--check` only tells whether it is there."""

import re
import sys
from pathlib import Path

from scim_matrix.config import table

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
PLACE = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)


def main() -> int:
    """Return the exit status: 1 where the page says something else than the code."""
    before = PAGE.read_text()
    after = PLACE.sub(lambda place: f"{place[1]}{table()}\n{place[2]}", before)
    if "--check" in sys.argv:
        print("the settings in docs/settings.md are", "right" if before == after else "out of date")
        return int(before != after)
    PAGE.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
