"""Make what a release consists of: sdist, wheel, SBOM, image and their checksums, in dist/.

From what is committed alone. docs/releasing.md says how it is used.
"""

import argparse
import configparser
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scim_matrix import __version__

ROOT = Path(__file__).parents[1]
TAG = f"v{__version__}"
# A link or picture whose target is neither an address nor a place on the page.
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)")


def absolute(text: str, url: str) -> str:
    """Return a page whose links and pictures lead to the release's files below an address.

    The places are GitHub's: `blob` for pages, `raw` for pictures; GitLab leads from there to its
    own.
    """

    def lead(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        return f"{picture}[{words}]({url}/{'raw' if picture else 'blob'}/{TAG}/{target})"

    return _RELATIVE.sub(lead, text)


def copy_tracked(target: Path) -> list[str]:
    """Copy the files that git knows, as they are, and return their names."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    names = listed.stdout.decode().rstrip("\0").split("\0")
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return names


def address(tree: Path, url: str) -> None:
    """Say in a copy of the project where it lives: in its metadata and on its first page."""
    readme = tree / "README.md"
    readme.write_text(absolute(readme.read_text(), url))
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(tree / "setup.cfg")
    places = {"Source": "", "Documentation": f"/blob/{TAG}/docs/setup/README.md"}
    places |= {"Changelog": f"/blob/{TAG}/CHANGELOG.md", "Issues": "/issues"}
    setup["metadata"]["url"] = url
    setup["metadata"]["project_urls"] = "".join(f"\n{k} = {url}{v}" for k, v in places.items())
    with (tree / "setup.cfg").open("w") as file:
        setup.write(file)


def obstacles() -> list[str]:
    """Return why there can be no release now."""
    status = ["git", "status", "--porcelain"]
    changed = subprocess.run(status, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = [f"not committed:\n{changed}"] if changed else []
    changelog = (ROOT / "CHANGELOG.md").read_text()
    if not re.search(rf"^## {re.escape(__version__)}\b", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md says nothing of {__version__}")
    return found


def image(tree: Path, dist: Path, url: str, options: list[str]) -> None:
    """Build the image with labels that say what it is of, and put it into an archive."""
    head = ["git", "log", "-1", "--format=%H %cI"]
    told = subprocess.run(head, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    revision, created = told.split()
    labels = {"version": __version__, "revision": revision, "created": created, "source": url}
    name = f"localhost/scim-matrix:{__version__}"
    words = [f"--label=org.opencontainers.image.{key}={value}" for key, value in labels.items()]
    words += ["--format", "docker", "--tag", name, *options]
    subprocess.run(["buildah", "build", *words, str(tree)], check=True)
    archive = dist / f"scim-matrix-{__version__}.image.tar"
    subprocess.run(["buildah", "push", name, f"docker-archive:{archive}:{name}"], check=True)


def checksums(dist: Path) -> str:
    """Return the SHA-256 of each file, as `sha256sum --check` reads them."""
    files = sorted(path for path in dist.iterdir() if path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    return "".join(sums)


def make(dist: Path, url: str, *, with_image: bool, options: list[str]) -> None:
    """Make everything; `options` are buildah's.

    Raises subprocess.CalledProcessError where a tool fails.
    """
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    bill = dist / f"scim-matrix-{__version__}.cdx.json"
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        copy_tracked(tree)
        address(tree, url)
        build = [sys.executable, "-m", "build", "--outdir", str(dist), str(tree)]
        subprocess.run(build, check=True)
        # Of what the image installs, with the hashes that it is held to.
        lock = tree / "deploy" / "requirements.txt"
        tool = Path(sys.executable).with_name("cyclonedx-py")
        subprocess.run([tool, "requirements", "--output-file", bill, lock], check=True)
        if with_image:
            image(tree, dist, url, options)
    (dist / "SHA256SUMS").write_text(checksums(dist))


def main() -> int:
    """Return the exit status: 1 where something stands in the way."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Other options go to `buildah build`."
    )
    parser.add_argument("--url", required=True, help="where the project's repository is published")
    parser.add_argument("--no-image", action="store_true", help="leave the image out")
    given, options = parser.parse_known_args()
    if found := obstacles():
        print(*found, sep="\n", file=sys.stderr)
        return 1
    url = given.url.rstrip("/")
    make(ROOT / "dist", url, with_image=not given.no_image, options=options)
    print((ROOT / "dist" / "SHA256SUMS").read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
