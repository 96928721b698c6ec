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
from scim_matrix.cli.environment import INSTALLED, STATE, given_environment
from scim_matrix.cli.first_steps import PRODUCTS, next_steps
from scim_matrix.cli.former import Former, put, read
from scim_matrix.cli.interview import Interview
from scim_matrix.cli.output import visible
from scim_matrix.cli.trying import (
    Refusal,
    Trial,
    a_folder,
    a_homeserver,
    a_mapping,
    a_provider,
    a_token,
    an_address,
    is_there,
    some_mas,
)
from scim_matrix.config import SECRETS, ConfigurationError, Settings
from scim_matrix.groupmap import GroupMapError, document
from scim_matrix.ops.logging import set_up
from scim_matrix.settings_values import unquoted

_FILE = click.Path(dir_okay=False, path_type=Path)


F = TypeVar("F", bound=Callable[..., Any])


def _asked(name: str, told: str) -> Callable[[F], F]:
    """Return the option of a setting, which the environment may hold as well."""
    option = "--" + name.lower().replace("_", "-")
    return click.option(
        option, name.lower(), default=lambda: given_environment().get(name), help=told
    )


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
@click.option("--force", is_flag=True, help="Change a file that is there.")
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
    nothing is asked: what is missing is told. Secrets are written into files beside it. With
    --force what the file says is the answer that is offered, and whatever is not asked stays; a
    copy of what was there is kept beside it. On the homeserver nothing is changed. Exit status: 1
    an answer cannot be right, 2 something is missing.
    """
    # What libraries log of an answer that is refused is told in words of our own.
    set_up("critical", "console")
    target = target or (INSTALLED if os.geteuid() == 0 else Path(".env"))
    there = [path for path in (target, *dict(_secret_files(target)).values()) if path.exists()]
    if there and not force:
        raise click.ClickException(
            f"{there[0]} is there already: give --force to change it, or another --file"
        )
    former = _former(target)
    talk = Interview(sys.stdin.isatty(), former.settings)
    secret = given["webhook_secret"] or former.secrets.get("WEBHOOK_SECRET")
    trial = Trial({"WEBHOOK_SECRET": secret or secrets.token_urlsafe(32)})
    _homeserver(talk, trial, given)
    _mappings(talk, trial, opened, former.lines.get("IDP_GROUP_TO_ROOM"), make_rooms=make_rooms)
    talk.ask("PUBLIC_URL", _PUBLIC_URL, given["public_url"], an_address, trial, default="")
    if "DATABASE_URL" not in former.secrets and "DATABASE_URL_FILE" not in former.lines:
        where = "Where the database is to live"
        talk.ask("DATA_DIR", where, given["data_dir"], a_folder, trial, str(_data_dir()))
    begin = "Begin with a dry run, which changes nothing and says what it would do?"
    dry = not former.lines or former.lines.get("DRY_RUN", "").lower() in _YES
    trial.settings["DRY_RUN"] = str(talk.confirm(begin, dry_run, default=dry)).lower()
    which = talk.choose("Which product is the identity provider?", provider, PRODUCTS)
    _write(target, former, trial.settings)
    for line in next_steps(target, trial.settings, which):
        click.echo(line)


# As pydantic reads a flag.
_YES = ("true", "1", "on", "yes", "y", "t")


def _data_dir() -> Path:
    """Return a folder that this user may make: the unit's, or one of their own (XDG's)."""
    if os.geteuid() == 0:
        return STATE
    own = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(own) / "scim-matrix"


def _former(target: Path) -> Former:
    try:
        return read(target)
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{target}: {error}") from error


_PUBLIC_URL = "Where the identity provider will reach this service (nothing, if not known yet)"


def _homeserver(talk: Interview, trial: Trial, given: Mapping[str, str | None]) -> None:
    """Ask for the homeserver, for what it is asked with, and for the identity provider in it."""
    url = "Where Synapse answers"
    default = "http://127.0.0.1:8008"
    talk.ask("MATRIX_URL", url, given["matrix_url"], a_homeserver, trial, default)
    if "MAS_URL" in trial.settings:
        if (provider := given["mas_provider"] or talk.former.get("MAS_PROVIDER")) is not None:
            trial.settings["MAS_PROVIDER"] = provider
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


def _mappings(
    talk: Interview, trial: Trial, opened: Iterable[str], former: str | None, *, make_rooms: bool
) -> None:
    """Ask which groups open which rooms, beside those of a map that is there."""
    mappings: dict[str, list[Any]] = {}

    def add(group: str, room: str, *, make: bool) -> None:
        found = asyncio.run(a_mapping(trial, group, room, make=make))
        opened_by = mappings.setdefault(f"displayName:{group}", [])
        opened_by += [] if found in opened_by else [found]

    def add_text(text: str) -> None:
        # A group may have = in its name; of rooms only IDs, which begin with !, may.
        group, _, room = text.rpartition("=!") if "=!" in text else text.rpartition("=")
        room = f"!{room}" if "=!" in text else room
        if not group.strip() or not room.strip():
            raise Refusal(f"{text}: is no GROUP=ROOM", "write 'Staff=#staff:example.com'")
        add(group.strip(), room.strip(), make=make_rooms)

    for text in opened:
        talk.take(partial(add_text, text))
    if not opened and talk.asks:
        talk.say(trial.rooms_told())
        while group := talk.prompt("A group at the identity provider, by its name", ""):
            room = talk.prompt(f"A room that {group} opens (name, alias or ID)", "")
            if not room:
                continue
            is_new = room.startswith("#") and not asyncio.run(is_there(trial, room))
            make = is_new and talk.confirm("It is not there. Make it?", None, True)
            talk.again(partial(add, group, room, make=make))
    if mappings:
        try:
            found = {} if former is None else document(unquoted(former))
        except GroupMapError as error:
            raise click.ClickException(f"IDP_GROUP_TO_ROOM: {error}; mend it first") from error
        for key, rooms in mappings.items():
            so_far = found.setdefault(key, [])
            so_far += [room for room in rooms if room not in so_far]
        trial.settings["IDP_GROUP_TO_ROOM"] = spelt(found)


def _write(target: Path, former: Former, settings: Mapping[str, str]) -> None:
    """Write the settings for their owner alone, once they are known to be right.

    Secrets go into files beside it, by the names under which every way to deploy takes them.
    """
    left = former.left(settings)
    # A file that is named may be where only the service sees it, as within a container.
    named = {f"{name}_FILE" for name in SECRETS if name in left}
    try:
        Settings.load({name: value for name, value in left.items() if name not in named})
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    files = {target: former.rewritten(left)} | {
        path: left[name]
        for name, path in _secret_files(target)
        if name in left and not former.names_file_of(name, left[name])
    }
    try:
        copies = put({path: text for path, text in files.items() if not _holds(path, text)})
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{target}: {error}") from error
    if former.settings:
        for line in (*former.told(left), *(f"what was there: {path}" for path in copies)):
            click.echo(visible(line))


def _holds(path: Path, text: str) -> bool:
    """Tell whether a file has a text already, and nobody else may read it."""
    return path.exists() and path.read_text("utf-8") == text and not path.stat().st_mode & 0o077


def _secret_files(target: Path) -> list[tuple[str, Path]]:
    return [(name, target.parent / name.lower()) for name in SECRETS]
