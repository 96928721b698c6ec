"""What `make test` needs besides Python is installed, or it is said what to do."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize(
    ("user", "archive", "status", "said"),
    [
        (0, "has", 0, ""),
        (0, "lacks", 1, "apt-get cannot install it: "),
        (1000, "has", 0, "cannot be installed without root and apt-get: "),
    ],
)
@pytest.mark.parametrize("name", ["postgresql", "chromium"])
def test_what_is_missing_is_installed_or_told(
    tmp_path: Path, name: str, user: int, archive: str, status: int, said: str
) -> None:
    """Without root the rest is tried; where the package is missing nothing is, but it says so."""
    # What is installed on this machine is out of sight.
    script = (SCRIPTS / f"get_{name}.sh").read_text().replace("/usr/lib/", f"{tmp_path}/")
    programs = tmp_path / "bin"
    programs.mkdir()
    _program(programs / "id", f"echo {user}")
    lacking = f"case $* in *install*{name}*) echo E: no {name} >&2; exit 100;; esac"
    noted = f'echo "$*" >> {tmp_path}/asked'
    _program(programs / "apt-get", noted if archive == "has" else lacking)
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", script], env={"PATH": str(programs)}, capture_output=True, text=True
    )
    assert done.returncode == status
    if said:
        assert name.upper() in done.stderr
        assert f" IS NOT HERE, and {said}" in done.stderr
        assert name in done.stderr.partition(said)[2]
    else:
        assert done.stderr == ""
        assert f"install -y -qq --no-install-recommends {name}" in (tmp_path / "asked").read_text()


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
    path.chmod(0o755)
