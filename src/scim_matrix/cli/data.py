"""Commands about data and installation: backup, restore, import-json, migrate-store, and others."""

import asyncio
import platform
from pathlib import Path

import click
import orjson
from click.shell_completion import get_completion_class

from scim_matrix import __version__
from scim_matrix.cli.database import PLACE, settings_with, write
from scim_matrix.cli.environment import environment
from scim_matrix.cli.output import JSON, visible
from scim_matrix.config import ConfigurationError, place_of
from scim_matrix.localpart import LocalpartError
from scim_matrix.scim.people import Identity
from scim_matrix.store import backup as copies
from scim_matrix.store import legacy
from scim_matrix.store.database import Connection, Place
from scim_matrix.store.errors import DatabaseError
from scim_matrix.store.migrations import load
from scim_matrix.store.sqlite import SQLITE_VERSION

_FILE = click.Path(dir_okay=False, path_type=Path)


def _folder(place: Place) -> Path:
    if isinstance(place, Path):
        return place
    raise click.ClickException(
        "PostgreSQL is copied and put back by its own pg_dump and pg_restore:"
        " docs/setup/postgresql.md"
    )


@click.command()
@PLACE
@click.argument("file", type=_FILE)
def backup(place: Place, file: Path) -> None:
    """Copy the database, consistent even while the service writes, to the new FILE.

    FILE holds names and e-mail addresses, no secrets of this service; only its owner may read it.
    """
    try:
        copies.backup(_folder(place).absolute(), file)
    except copies.BackupError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"copied to {file} ({file.stat().st_size} bytes), checked")


@click.command()
@PLACE
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(place: Place, file: Path, yes: bool) -> None:
    """Replace the database by the backup FILE; the service must be stopped.

    What the identity provider said since is forgotten: have it synchronise everything again.
    """
    folder = _folder(place)
    if not yes:
        click.confirm(f"Replace the database in {folder}?", abort=True)
    try:
        copies.restore(folder, file)
    except copies.BackupError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"restored from {file}; let the identity provider synchronise everything again")


@click.command("import-json")
@PLACE
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def import_json(place: Place, folder: Path) -> None:
    """Take over users.json and groups.json of an older service from FOLDER.

    users.json is keyed by external ID, groups.json by externalId. The ids that the identity
    provider already holds stay valid: @localpart:server for users, the externalId for groups.
    Whatever can be read is taken over and the rest named, line by line; a database that
    holds anything already is left as it is.
    """
    try:
        settings = settings_with(place)
        identity = Identity(
            settings.matrix_server_name,
            settings.localpart_template,
            settings.sso_subject_attribute,
            settings.delete_grace,
        )
        found = legacy.read(folder, settings.matrix_server_name)
        people = {user: identity.wanted(user, doc) for user, doc in found.users.items()}

        async def work(connection: Connection) -> None:
            await legacy.take_over(connection, found, people)

        write(place, "import-json", work)
    except (ConfigurationError, legacy.LegacyError, LocalpartError) as error:
        raise click.ClickException(str(error)) from error
    for sentence in found.left_out:
        click.echo(visible(sentence))
    click.echo(f"{len(found.users)} users and {len(found.groups)} groups taken over")


@click.command("migrate-store")
@click.option(
    "--data-dir",
    default=lambda: environment().get("DATA_DIR") or None,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the SQLite database lives; from DATA_DIR if not given.",
)
def migrate_store(data_dir: Path | None) -> None:
    """Copy the SQLite database of DATA_DIR into the PostgreSQL database of DATABASE_URL.

    Both settings are needed here, and here only (DATABASE_URL_FILE or a credential will do). The
    service must be stopped. The PostgreSQL database must hold no table: it has everything
    afterwards, compared row by row, or where anything fails nothing. The SQLite database is
    brought up to the schema of this version first, and is otherwise left as it is.
    """
    try:
        url = place_of({**environment(), "DATA_DIR": ""})
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    if data_dir is None or url is None or isinstance(url, Path):
        raise click.UsageError(
            "DATA_DIR (or --data-dir) must say what to copy, DATABASE_URL where to:"
            " docs/setup/postgresql.md"
        )
    from scim_matrix.store.transfer import Copied, transfer

    def tell(copied: Copied) -> None:
        changed = f", {copied.changed} with U+FFFD for what PostgreSQL does not take"
        click.echo(f"{copied.name}: {copied.rows} rows{changed if copied.changed else ''}")

    try:
        copied = asyncio.run(transfer(data_dir, url, tell))
    except DatabaseError as error:
        raise click.ClickException(f"nothing was copied: {error}") from error
    click.echo(
        f"{sum(one.rows for one in copied)} rows of {len(copied)} tables copied and compared:"
        " start the service with DATABASE_URL and without DATA_DIR, and never on both; what is in"
        f" {data_dir} can go once all is well"
    )


@click.command()
@JSON
def version(as_json: bool) -> None:
    """Show the versions of scim-matrix, its database schema, Python and SQLite."""
    versions = {
        "scim-matrix": __version__,
        "schema": load()[-1][0],
        "python": platform.python_version(),
        "sqlite": SQLITE_VERSION,
    }
    if as_json:
        click.echo(orjson.dumps(versions))
    else:
        click.echo("\n".join(f"{name} {number}" for name, number in versions.items()))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete this command's words.

    For bash: scim-matrix completion bash > ~/.local/share/bash-completion/completions/scim-matrix
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.ClickException(f"{shell} is not known")
    root = context.find_root().command
    click.echo(made(root, {}, "scim-matrix", "_SCIM_MATRIX_COMPLETE").source())
