"""Where commands take the settings from: the environment, and one file."""

import contextlib
import os
from pathlib import Path

import click
import dotenv

from scim_matrix.config import ConfigurationError, place_of

# What deploy/scim-matrix.service reads, and where it keeps its data.
INSTALLED = Path("/etc/scim-matrix/scim-matrix.env")
STATE = Path("/var/lib/scim-matrix")

_KEY = "scim_matrix.env_file"


def _remember(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.meta[_KEY] = value


# Every command takes it, before its name and after.
ENV_FILE = click.Option(
    ["--env-file"],
    expose_value=False,
    is_eager=True,
    callback=_remember,
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help=f"Read settings from this file; if not given, from .env here, else from {INSTALLED}.",
)


def _given() -> Path | None:
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_KEY)


def given_environment() -> dict[str, str]:
    """Return the process environment over the file of --env-file, if that is given."""
    return dict(os.environ) if _given() is None else environment()


def file() -> Path | None:
    """Return the file that settings are read from, None without one."""
    if (given := _given()) is not None:
        return given
    return next((path for path in (Path(".env"), INSTALLED) if os.access(path, os.R_OK)), None)


def environment() -> dict[str, str]:
    """Return the process environment over what a file says (see `file`).

    As for systemd, podman and docker nothing in the file is expanded. Secrets that lie beside it
    in files of their own are found as the unit finds them, and its data where the unit has it,
    before the first start too.
    """
    path = file()
    if path is None:
        return dict(os.environ)
    told = dotenv.dotenv_values(path, interpolate=False)
    found = {name: value for name, value in told.items() if value is not None}
    found.setdefault("CREDENTIALS_DIRECTORY", str(path.absolute().parent))
    merged = {**found, **os.environ}
    # What is wrong with the address is told where it is used.
    with contextlib.suppress(ConfigurationError):
        if path == INSTALLED and place_of(merged) is None:
            merged["DATA_DIR"] = str(STATE)
    return merged
