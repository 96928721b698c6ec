"""Tell whether the image's lock is whole: every dependency, pinned, hashed, from no named host."""

import configparser
import re
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("deploy/requirements.txt", "deploy/requirements-build.txt")
_PINNED = re.compile(r"([A-Za-z0-9._-]+)==([^ ;\\]+)[^\\]*(\\\n\s+--hash=sha256:[0-9a-f]{64}\s*)+")


def problems(needed: str, lock: str) -> list[str]:
    """Return what is wrong with the text of a lock, given the requirements one a line."""
    found = ["names a host"] if "://" in lock else []
    if _PINNED.sub("", lock).strip():
        found.append("has a line that is not pinned with hashes")
    pinned = {canonicalize_name(m[1]): m[2] for m in _PINNED.finditer(lock)}
    for line in filter(None, needed.splitlines()):
        wanted = Requirement(line)
        version = pinned.get(canonicalize_name(wanted.name))
        if version is None or not wanted.specifier.contains(version):
            found.append(f"lacks {line} (has {version})")
    return found


def main() -> int:
    """Return the exit status: 1 where a lock is not whole (make lock makes it anew)."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    build = re.search(r'requires = \["(.*)"\]', (ROOT / "pyproject.toml").read_text())
    image = setup["options"]["install_requires"] + setup["options.extras_require"]["postgresql"]
    needed = (image, build[1] if build else "")
    status = 0
    for name, wanted in zip(LOCKS, needed, strict=True):
        found = problems(wanted, (ROOT / name).read_text())
        print(f"{name} {'is whole' if not found else '; '.join(found)}")
        status |= int(bool(found))
    return status


if __name__ == "__main__":
    sys.exit(main())
