"""What a release consists of holds what it should."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest

from scim_matrix import __version__
from scripts.release import ROOT, TAG, absolute, address, checksums, copy_tracked

URL = "https://git.example.com/x/scim-matrix"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a folder with sdist and wheel, and the names of all files of the project."""
    tree, dist = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    names = copy_tracked(tree)
    address(tree, URL)
    build = ["-m", "build", "--no-isolation", "--outdir", str(dist), str(tree)]
    subprocess.run([sys.executable, *build], check=True, capture_output=True)
    return dist, names


def test_the_source_holds_the_whole_project(built: tuple[Path, list[str]]) -> None:
    """Documentation, files to deploy and tests are in the sdist, and nothing that git ignores."""
    dist, names = built
    top = f"scim_matrix-{__version__}/"
    with tarfile.open(dist / f"scim_matrix-{__version__}.tar.gz") as archive:
        held = {x.name.removeprefix(top) for x in archive.getmembers() if x.isfile()}
    assert set(names) <= held
    made = {name for name in held - set(names) if ".egg-info/" not in name}
    assert made == {"PKG-INFO"}


def test_the_wheel_holds_each_module_and_its_files(built: tuple[Path, list[str]]) -> None:
    """Whatever is under src/, licences of others included, is in the wheel; its metadata tell."""
    dist, names = built
    [wheel] = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        [metadata] = [name for name in held if name.endswith(".dist-info/METADATA")]
        told = BytesParser().parsebytes(archive.read(metadata))
    assert {x.removeprefix("src/") for x in names if x.startswith("src/")} <= held
    licences = {"LICENSE", "src/scim_matrix/console/static/htmx.LICENSE"}
    assert set(told.get_all("License-File", [])) == licences
    assert f"Source, {URL}" in told.get_all("Project-URL", [])
    page = told.get_payload()
    assert f"]({URL}/raw/{TAG}/docs/pictures/" in page
    assert f"]({URL}/blob/{TAG}/CHANGELOG.md)" in page
    assert "](docs/" not in page


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("[a](docs/b.md#c)", f"[a]({URL}/blob/{TAG}/docs/b.md#c)"),
        ("![a](b.png)", f"![a]({URL}/raw/{TAG}/b.png)"),
        ("[a](https://b.example) [c](#d)", "[a](https://b.example) [c](#d)"),
    ],
)
def test_links_of_the_first_page_lead_somewhere_from_anywhere(page: str, expected: str) -> None:
    """Links and pictures beside the page become addresses; addresses and places in it stay."""
    assert absolute(page, URL) == expected


def test_checksums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    """The usual tool finds each file as it was."""
    sha256sum = shutil.which("sha256sum")
    if sha256sum is None:
        pytest.skip("no sha256sum here")
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    (tmp_path / "SHA256SUMS").write_text(checksums(tmp_path))
    command = [sha256sum, "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a: OK\nb: OK\n")


def test_every_page_that_the_first_page_leads_to_exists() -> None:
    """No link of the README is dead."""
    readme = (ROOT / "README.md").read_text()
    led = absolute(readme, URL).split(f"/{TAG}/")[1:]
    targets = {part.split(")")[0].split("#")[0] for part in led}
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def headings(page: Path) -> set[str]:
    """Return what the headings of a page are linked by."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in found}


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_of_the_documentation_is_dead(page: Path) -> None:
    """Files and headings that a page leads to are there."""
    dead = []
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (heading and heading not in headings(file)):
            dead.append(target)
    assert dead == []
