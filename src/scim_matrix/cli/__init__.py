"""The command line."""

import click

from scim_matrix import __version__
from scim_matrix.cli import check, decide, keep, look, run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="scim-matrix")
def main() -> None:
    """Keep a Matrix (Synapse) homeserver in line with an identity provider over SCIM 2.0.

    Settings come from the environment (and a .env file in the working directory); the README
    lists them. Exit status of every command: 0 success, 1 failure, 2 wrong use or configuration;
    each command's help tells of others.
    """


for command in (
    run.serve,
    check.check,
    look.status,
    look.plan,
    look.rooms,
    look.users,
    look.groups,
    look.log,
    decide.approve,
    decide.dismiss,
    decide.sync,
    keep.backup,
    keep.restore,
    keep.import_json,
    keep.version,
    keep.completion,
    run.demo,
):
    main.add_command(command)
