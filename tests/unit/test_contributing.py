"""What CONTRIBUTING.md tells a newcomer is true of the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SECTIONS = {
    part.partition("\n")[0]: part.partition("\n")[2] for part in re.split(r"^## ", TEXT, flags=re.M)
}


def places(text: str) -> set[str]:
    """Return the files and folders that a text names from the root of the project."""
    return set(re.findall(r"`((?:src|schemas|tests|docs|scripts)/[\w./-]+|[A-Z]+\.md)`", text))


def test_every_place_exists() -> None:
    """No file or folder that is named has moved or gone."""
    missing = [place for place in sorted(places(TEXT)) if not (ROOT / place).exists()]
    assert missing == []


def test_every_name_is_where_it_is_said_to_be() -> None:
    """What a file is said to hold has not moved to another one."""
    path = r"`((?:src|tests|scripts)/[\w./-]+)`"
    said = {(name, file) for name, file in re.findall(rf"`(\w+)`(?: in| of|:) {path}", TEXT)}
    said |= {(name, file) for file, name in re.findall(rf"{path} \(`(\w+)`", TEXT)}
    assert len(said) > 5
    wrong = [
        f"{name} in {file}" for name, file in sorted(said) if name not in (ROOT / file).read_text()
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("section", "example", "elsewhere"),
    [
        ("How to add a warning", "child-not-followed", set()),
        # The help of `dismiss` speaks of such rooms.
        (
            "How to add an option of the group map",
            "exclusive",
            {"src/scim_matrix/cli/decisions.py"},
        ),
        (
            "How to add a setting",
            "on_self_leave",
            # Where this one decides something, and what hands it on.
            {f"src/scim_matrix/sync/{name}.py" for name in ("live", "observation", "reconciler")},
        ),
    ],
)
def test_the_example_stands_in_every_place_that_is_listed(
    section: str, example: str, elsewhere: set[str]
) -> None:
    """The list is neither too short nor too long for what is already there."""
    sources = {
        str(file.relative_to(ROOT)): file.read_text()
        for folder in ("src", "schemas")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".sql", ".json", ".html")
    }
    holding = {path for path, text in sources.items() if re.search(rf"\b{example}\b", text)}
    migrations = {path for path in holding if "/migrations/0" in path}
    former = migrations - {max(migrations, default="")}
    # A check is for settings that can be well formed and wrong; how values are written for others.
    # What only some options or settings need is no example's place.
    optional = {
        "src/scim_matrix/ops/check_settings.py",
        "src/scim_matrix/settings_values.py",
        "src/scim_matrix/validation.py",
        "src/scim_matrix/membership.py",
        "src/scim_matrix/store/sqlite.py",
        "src/scim_matrix/store/postgresql.py",
        "src/scim_matrix/store/memberships.py",
        "src/scim_matrix/sync/observation.py",
        "src/scim_matrix/sync/plan.py",
        "src/scim_matrix/cli/show.py",
        "src/scim_matrix/cli/why.py",
        "src/scim_matrix/console/site.py",
        "src/scim_matrix/sync/live.py",
        "src/scim_matrix/sync/reconciler.py",
        "src/scim_matrix/sync/servers.py",
        "src/scim_matrix/console/needs.py",
        "src/scim_matrix/problems.py",
        "src/scim_matrix/settings_cures.py",
    }
    listed = {place for place in places(SECTIONS[section]) if place in sources}
    assert holding - former - elsewhere - optional == listed - optional


def test_every_module_has_its_line() -> None:
    """The table of modules names each of them, once, and none that has gone."""
    package = ROOT / "src" / "scim_matrix"
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("## Modules")[2].partition("\n## ")[0]
    named: list[str] = []
    for cell in re.findall(r"^\| (`.*?) \|", table, flags=re.M):
        folder = ""
        for name in re.findall(r"`([\w/]+\.py)`", cell):
            folder = name.rpartition("/")[0] or folder
            named.append(f"{folder}/{name.rpartition('/')[2]}".lstrip("/"))
    there = [
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if not file.name.startswith("__") and "demo" not in file.parts
    ]
    assert sorted(there) == sorted(named)
