"""The pages about identity providers have one shape, say where they know it from, and are found."""

import re
from pathlib import Path

import pytest

from scim_matrix.cli.first_steps import PRODUCTS

FOLDER = Path(__file__).parents[2] / "docs" / "setup"
# Pages about homeservers and databases, and the index.
OTHERS = {"README", "homeserver", "mas", "postgresql"}
PROVIDERS = sorted(p for p in FOLDER.glob("*.md") if p.stem not in OTHERS)
SHAPE = [
    "What you need",
    "Click by click",
    "Attributes",
    "Is the link right?",
    "What goes wrong, and how it shows",
    "Sources",
]
_LINK = re.compile(r"\]\(([^)#\s]+)?(#[^)\s]+)?\)")


def _sections(page: Path) -> dict[str, str]:
    """Return a page's sections by heading."""
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PROVIDERS, ids=lambda page: page.stem)
def test_pages_have_one_shape(page: Path) -> None:
    """Each page has the same sections in the same order, one table of attributes and sources."""
    sections = _sections(page)
    assert list(sections) == SHAPE
    assert len(re.findall(r"^\| ?-|^\|-", sections["Attributes"], re.MULTILINE)) == 1
    assert "(README.md#is-the-link-right)" in sections["Is the link right?"]
    assert re.search(r"https://", sections["Sources"])
    # What would let a second account be made is set off wherever Synapse is configured.
    if "oidc_providers:" in sections["Click by click"]:
        assert "enable_registration: false" in sections["Click by click"]


@pytest.mark.parametrize("name", [name for name in PRODUCTS if name != "other"])
def test_what_init_prints_is_what_the_page_says(name: str) -> None:
    """The place and the two fields are called alike, for each page that has them."""
    sections = _sections(FOLDER / PRODUCTS[name].page)
    attributes = sections["Attributes"]
    assert f"| {PRODUCTS[name].url} | `https://your.host/scim/v2` |" in attributes
    assert PRODUCTS[name].secret in attributes
    assert PRODUCTS[name].place in sections["Click by click"].replace("*", "")


def test_init_knows_every_page_with_such_fields() -> None:
    """Whoever has a base URL to paste is offered, and leads to a page that is there."""
    with_fields = {p.name for p in PROVIDERS if "| `https://your.host/scim/v2` |" in p.read_text()}
    assert {product.page for product in PRODUCTS.values()} == {*with_fields, "README.md"}


def test_the_index_names_every_page() -> None:
    """The index leads to each page, and the README to the index."""
    index = (FOLDER / "README.md").read_text()
    assert [p.name for p in FOLDER.glob("*.md") if f"({p.name})" not in index] == ["README.md"]
    assert "(docs/setup/README.md)" in (FOLDER.parents[1] / "README.md").read_text()


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    """Files and headings that a page links to are there."""
    for path, anchor in _LINK.findall(page.read_text()):
        if path.startswith("http"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in map(_anchor, headings), f"{path}{anchor}"


def _lines(text: str) -> set[str]:
    """Return a configuration's lines without indentation and comments."""
    return {" ".join(line.partition("#")[0].split()) for line in text.splitlines()}


@pytest.mark.parametrize("file", ["Caddyfile", "nginx.conf"])
def test_the_proxy_examples_are_those_that_are_checked(file: str) -> None:
    """What the page shows of a proxy's configuration stands in the file that its tool reads."""
    page = (FOLDER / "homeserver.md").read_text()
    [shown] = re.findall(rf"/{re.escape(file)}\):\n\n```\w*\n(.*?)```", page, re.DOTALL)
    kept = (FOLDER.parents[1] / "deploy" / file).read_text()
    assert _lines(shown) - _lines(kept) == set()


def test_whoever_renames_a_group_is_warned() -> None:
    """No page says that a new name removes nobody, and the index says what to do before."""
    index = (FOLDER / "README.md").read_text()
    assert "renaming a group takes its people out" in index
    assert "(../settings.md#the-group-map)" in index
    for page in PROVIDERS:
        told = [line for line in page.read_text().splitlines() if "renamed" in line]
        assert not any("nobody is removed" in line for line in told), page.stem
