"""Write docs/problems.md from the table in the code; `--check` only tells whether it is right."""

import sys
from pathlib import Path

from scim_matrix.problems import document

PAGE = Path(__file__).parents[1] / "docs" / "problems.md"
SENTENCE = (
    "What `scim-matrix status`, the log and `/readyz` show carries one of these codes (`code`,"
    " in `/readyz` the list `codes`). `scim-matrix why` tells whom and what it is about. Made from"
    " `src/scim_matrix/problems.py` by `python -m scripts.problems_page`."
)


def main() -> int:
    """Return the exit status: 1 where the page says something else than the code."""
    made = document(SENTENCE)
    if "--check" in sys.argv:
        is_right = PAGE.exists() and PAGE.read_text() == made
        print("docs/problems.md is", "right" if is_right else "out of date")
        return int(not is_right)
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
