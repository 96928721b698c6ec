"""The command line."""

import importlib
import os

import click

from scim_matrix import __version__
from scim_matrix.cli.environment import ENV_FILE

# The command, the module that it is in, and its name there.
_COMMANDS = {
    "approve": "decisions.approve",
    "backup": "data.backup",
    "check": "check.check",
    "completion": "data.completion",
    "demo": "run.demo",
    "dismiss": "decisions.dismiss",
    "groups": "show.groups",
    "import-json": "data.import_json",
    "init": "init.init",
    "log": "show.log",
    "migrate-store": "data.migrate_store",
    "plan": "show.plan",
    "restore": "data.restore",
    "rooms": "show.rooms",
    "serve": "run.serve",
    "status": "show.status",
    "sync": "decisions.sync",
    "users": "users.users",
    "version": "data.version",
    "why": "why.why",
}


class _Commands(click.Group):
    """Loads a command's module when it is asked for: the whole service takes over a second.

    See "Lazily Loading Subcommands" in click's documentation.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(".")
        command = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        assert isinstance(command, click.Command)
        if ENV_FILE not in command.params:
            command.params.append(ENV_FILE)
        return command


@click.group(
    cls=_Commands,
    params=[ENV_FILE],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="scim-matrix")
def main() -> None:
    """Keep a Matrix (Synapse) homeserver in line with an identity provider over SCIM 2.0.

    Settings come from the environment, and from one file; docs/settings.md lists them. Exit
    status of every command: 0 success, 1 failure, 2 wrong use or configuration; each command's
    help tells of others.
    """
    # Whatever is made (DATA_DIR, the database, backups) holds names: only its owner may read it.
    os.umask(0o077)
