"""The command that sets the service up: asks, tries each answer, writes the file of settings."""

import asyncio
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from scim_matrix.cli.env_file import spelt
from scim_matrix.cli.environment import INSTALLED, environment
from scim_matrix.cli.first_steps import PRODUCTS, next_steps
from scim_matrix.cli.interview import Interview
from scim_matrix.cli.trying import (
    Refusal,
    Trial,
    a_folder,
    a_homeserver,
    a_mapping,
    a_provider,
    a_token,
    an_address,
    some_mas,
)
from scim_matrix.config import SECRETS, ConfigurationError, Settings
from scim_matrix.ops.logging import set_up

_FILE = click.Path(dir_okay=False, path_type=Path)


F = TypeVar("F", bound=Callable[..., Any])


def _asked(name: str, told: str) -> Callable[[F], F]:
    """Return the option of a setting, which the environment may hold as well."""
    option = "--" + name.lower().replace("_", "-")
    return click.option(option, name.lower(), default=lambda: environment().get(name), help=told)


@click.command()
@_asked("MATRIX_URL", "Where Synapse's client and admin API answer.")
@_asked("MATRIX_ADMIN_TOKEN", "Access token of a server admin of its own.")
@_asked("MAS_CLIENT_ID", "Where accounts belong to MAS: a client that may administer it.")
@_asked("MAS_CLIENT_SECRET", "And its secret.")
@_asked("MAS_PROVIDER", "The identity provider in MAS, where it has several.")
@_asked("IDP_NAME", "The identity provider as Synapse names it, such as oidc-authentik.")
@click.option(
    "--open",
    "opened",
    multiple=True,
    metavar="GROUP=ROOM",
    help="A group by its name and a room that it opens; may be given several times.",
)
@click.option("--make-rooms", is_flag=True, help="Make rooms of --open whose alias is not there.")
@_asked("WEBHOOK_SECRET", "The identity provider's bearer secret; made if not given.")
@_asked("PUBLIC_URL", "Where the identity provider will reach this service.")
@_asked("DATA_DIR", "Where the database is to live.")
@click.option(
    "--dry-run/--no-dry-run", default=None, help="Whether to begin with saying what would be done."
)
@click.option(
    "--provider", type=click.Choice([*PRODUCTS]), help="Which product the identity provider is."
)
@click.option("--file", "target", type=_FILE, help="Where to write the settings.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def init(
    opened: tuple[str, ...],
    make_rooms: bool,
    dry_run: bool | None,
    provider: str | None,
    target: Path | None,
    force: bool,
    **given: str | None,
) -> None:
    """Set the service up: ask what is needed, try each answer, write the file of settings.

    Whatever is given as an option, or is in the environment, is not asked. Without a terminal
    nothing is asked: what is missing is told. Secrets are written into files beside it. On the
    homeserver nothing is changed. Exit status: 1 an answer cannot be right, 2 something is missing.
    """
    # What libraries log of an answer that is refused is told in words of our own.
    set_up("critical", "console")
    talk = Interview(sys.stdin.isatty())
    target = target or (INSTALLED if os.geteuid() == 0 else Path(".env"))
    there = [path for path in (target, *dict(_secret_files(target)).values()) if path.exists()]
    if there and not force:
        raise click.ClickException(f"{there[0]} is there already: give --force, or another --file")
    trial = Trial({"WEBHOOK_SECRET": given["webhook_secret"] or secrets.token_urlsafe(32)})
    _homeserver(talk, trial, given)
    _mappings(talk, trial, opened, make_rooms=make_rooms)
    talk.ask("PUBLIC_URL", _PUBLIC_URL, given["public_url"], an_address, trial, default="")
    default = "/var/lib/scim-matrix"
    talk.ask(
        "DATA_DIR", "Where the database is to live", given["data_dir"], a_folder, trial, default
    )
    begin = "Begin with a dry run, which changes nothing and says what it would do?"
    trial.settings["DRY_RUN"] = str(talk.confirm(begin, dry_run, default=True)).lower()
    which = talk.choose("Which product is the identity provider?", provider, PRODUCTS)
    _write(target, trial.settings)
    for line in next_steps(target, trial.settings, which):
        click.echo(line)


_PUBLIC_URL = "Where the identity provider will reach this service (nothing, if not known yet)"


def _homeserver(talk: Interview, trial: Trial, given: Mapping[str, str | None]) -> None:
    """Ask for the homeserver, for what it is asked with, and for the identity provider in it."""
    url = "Where Synapse answers"
    default = "http://127.0.0.1:8008"
    talk.ask("MATRIX_URL", url, given["matrix_url"], a_homeserver, trial, default)
    if "MAS_URL" in trial.settings:
        if given["mas_provider"]:
            trial.settings["MAS_PROVIDER"] = given["mas_provider"]
        talk.ask("MAS_CLIENT_ID", "The client's ID in MAS", given["mas_client_id"], None, trial)
        secret = "The client's secret"
        talk.ask("MAS_CLIENT_SECRET", secret, given["mas_client_secret"], some_mas, trial)
        return
    token = "Access token of a server admin of its own for this service"
    talk.ask("MATRIX_ADMIN_TOKEN", token, given["matrix_admin_token"], a_token, trial)
    talk.say(trial.told)
    name = "The identity provider, as Synapse names it"
    only = trial.providers[0] if len(trial.providers) == 1 else None
    talk.ask("IDP_NAME", name, given["idp_name"], a_provider, trial, only)


def _mappings(talk: Interview, trial: Trial, opened: Iterable[str], *, make_rooms: bool) -> None:
    """Ask which groups open which rooms."""
    mappings: dict[str, list[Any]] = {}

    def add(text: str, *, make: bool) -> None:
        group, _, room = text.partition("=")
        if not group.strip() or not room.strip():
            raise Refusal(f"{text}: is no GROUP=ROOM", "write 'Staff=#staff:example.com'")
        found = asyncio.run(a_mapping(trial, group.strip(), room.strip(), make=make))
        mappings.setdefault(f"displayName:{group.strip()}", []).append(found)

    for text in opened:
        talk.take(partial(add, text, make=make_rooms))
    if not opened and talk.asks:
        talk.say(trial.rooms_told())
        while group := talk.prompt("A group at the identity provider, by its name", ""):
            room = talk.prompt(f"A room that {group} opens (name, alias or ID)", "")
            make = room.startswith("#") and talk.confirm("Make it, if it is not there?", None, True)
            talk.again(partial(add, f"{group}={room}", make=make))
    if mappings:
        trial.settings["IDP_GROUP_TO_ROOM"] = spelt(mappings)


def _write(target: Path, settings: Mapping[str, str]) -> None:
    """Write the settings for their owner alone, once they are known to be right.

    Secrets go into files beside it, by the names under which every way to deploy takes them.
    """
    try:
        Settings.load(settings)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    told = [f"{name}={value}" for name, value in settings.items() if value and name not in SECRETS]
    head = "# Made by scim-matrix init. Settings: docs/settings.md; secrets are beside this."
    files = {target: "\n".join([head, *told, ""])}
    files |= {path: settings[name] for name, path in _secret_files(target) if name in settings}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.unlink(missing_ok=True)
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            with os.fdopen(os.open(path, flags, 0o600), "w") as file:
                file.write(text)
    except OSError as error:
        raise click.ClickException(f"{target}: {error}") from error


def _secret_files(target: Path) -> list[tuple[str, Path]]:
    return [(name, target.parent / name.lower()) for name in SECRETS]
