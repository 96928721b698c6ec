"""Imports lead one way: no circle of modules, and none of packages."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MODULES = {
    ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): file
    for file in (SOURCE / "scim_matrix").rglob("*.py")
}
# From below: what stands on its own, what is kept, who is asked, the work, the edges.
LAYERS = ("story", "store", "matrix", "sync", "edge", "scim", "ops", "console", "demo", "cli")


def imported(module: str) -> set[str]:
    """Return the modules of the package that a module names, those it loads later included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{name.name}" for name in node.names}
            found |= names & MODULES.keys() or {str(node.module)}
    return found & MODULES.keys()


def test_no_circle_of_modules() -> None:
    """Whatever a module imports can be read, and tested, before it."""
    assert list(TopologicalSorter({name: imported(name) for name in MODULES}).static_order())


@pytest.mark.parametrize("layer", LAYERS)
def test_no_arrow_upwards(layer: str) -> None:
    """A package imports packages below it only."""
    inside = [name for name in MODULES if name.startswith(f"scim_matrix.{layer}.")]
    assert inside
    reached = {name.split(".")[1] for module in inside for name in imported(module) if "." in name}
    assert reached & {*LAYERS[LAYERS.index(layer) + 1 :]} == set()


def test_only_drivers_know_which_database_it_is() -> None:
    """Whatever else reads and writes names our own connection, rows and errors, not theirs."""
    knowing = {
        name: set(re.findall(r"^ *(?:import|from) (sqlite3|psycopg)\b", file.read_text(), re.M))
        for name, file in MODULES.items()
    }
    assert {name: found for name, found in knowing.items() if found} == {
        "scim_matrix.store.sqlite": {"sqlite3"},
        "scim_matrix.store.backup": {"sqlite3"},
        "scim_matrix.store.postgresql": {"psycopg"},
        "scim_matrix.store.postgresql_url": {"psycopg"},
    }
