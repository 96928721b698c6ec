"""The command line as a process."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a folder with nothing but the given environment."""
    return subprocess.run(
        [Path(sys.executable).with_name("scim-matrix"), *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_bad_configuration_exits_with_2_and_writes_nothing(tmp_path: Path) -> None:
    """Every mistake is listed by variable, secrets apart, and nothing is started."""
    ended = run("serve", cwd=tmp_path, WEBHOOK_SECRET="hidden-secret", LISTEN_PORT="many")
    assert ended.returncode == 2
    for variable in ("LISTEN_PORT", "MATRIX_URL", "MATRIX_ADMIN_TOKEN", "DATA_DIR"):
        assert f"configuration: {variable}: " in ended.stderr
    assert "hidden-secret" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dotenv_file_is_read(tmp_path: Path) -> None:
    """What stands in .env is part of the configuration; the environment wins."""
    (tmp_path / ".env").write_text("LISTEN_PORT=many\nMATRIX_URL=https://m.example\n")
    ended = run("serve", cwd=tmp_path, LISTEN_PORT="5000")
    assert "MATRIX_URL" not in ended.stderr
    assert "LISTEN_PORT" not in ended.stderr


def test_help_and_version(tmp_path: Path) -> None:
    """The commands are listed."""
    assert "serve" in run("--help", cwd=tmp_path).stdout
    version = run("--version", cwd=tmp_path).stdout
    assert "scim-matrix" in version
    module = [sys.executable, "-m", "scim_matrix", "--version"]
    assert subprocess.run(module, capture_output=True, text=True, check=True).stdout == version


def test_versions_and_completion_are_printed(tmp_path: Path) -> None:
    """Versions also as JSON; completion for each shell that is known."""
    versions = json.loads(run("version", "--json", cwd=tmp_path).stdout)
    assert {"scim-matrix", "schema", "python", "sqlite"} == set(versions)
    for shell in ("bash", "zsh", "fish"):
        assert "_SCIM_MATRIX_COMPLETE" in run("completion", shell, cwd=tmp_path).stdout
    completed = run(
        cwd=tmp_path,
        COMP_WORDS="scim-matrix app",
        COMP_CWORD="1",
        _SCIM_MATRIX_COMPLETE="bash_complete",
    )
    assert completed.stdout == "plain,approve\n"


def test_a_wheel_holds_schemas_and_migrations(tmp_path: Path) -> None:
    """A plain installation finds its data files, from any directory."""
    subprocess.run(
        [sys.executable, *f"-m pip wheel -q --no-deps -w {tmp_path} {ROOT}".split()],
        check=True,
        cwd=tmp_path,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for schema in (ROOT / "schemas").glob("*.json"):
        assert f"scim_matrix/schemas/{schema.name}" in names
    assert "scim_matrix/store/migrations/0001_initial.sql" in names
    assert "scim_matrix/console/templates/base.html" in names
    assert "scim_matrix/console/static/htmx.min.js" in names
    assert not [n for n in names if "test" in n]
