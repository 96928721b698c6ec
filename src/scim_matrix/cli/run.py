"""Commands that run something: serve, demo."""

import asyncio
import sys

import click

from scim_matrix.app import serve as run_service
from scim_matrix.cli.environment import environment
from scim_matrix.cli.output import visible
from scim_matrix.config import IGNORED, ConfigurationError, Settings, doubtful
from scim_matrix.edge.listening import ListenError
from scim_matrix.ops.logging import set_up
from scim_matrix.store.errors import DatabaseError

EXIT_CONFIGURATION = 2
_UNUSABLE = (DatabaseError, ListenError, OSError)


@click.command()
def serve() -> None:
    """Run the service until SIGTERM; SIGHUP reads the group map again.

    Exit status: 0 stopped on request, 1 the database or address cannot be used, or another service
    or a newer version has the database, 2 the configuration has mistakes (all of them are listed).
    """
    variables = environment()
    for problem in doubtful(variables):
        click.echo(visible(f"warning: {problem}"), err=True)
    try:
        settings = Settings.load(variables)
    except ConfigurationError as error:
        for problem, cure in error.told():
            click.echo(f"configuration: {visible(problem)}\n    → {visible(cure)}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    set_up(settings.log_level, settings.log_format)
    ignored = [name for name in IGNORED if name in variables]
    if ignored:
        click.echo(f"warning: {', '.join(ignored)} have no effect any more", err=True)
    try:
        asyncio.run(run_service(settings, variables))
    except _UNUSABLE as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.option(
    "--mas", "with_mas", is_flag=True, help="On a homeserver whose accounts belong to MAS."
)
@click.option(
    "--serve", "keep", is_flag=True, help="Keep it running afterwards, with the console open."
)
def demo(with_mas: bool, keep: bool) -> None:
    """Show the main job for real: a throwaway Synapse, this service, a played identity provider.

    Needs the extra `demo` (pip install 'scim-matrix[demo]'). Everything runs on loopback in a
    temporary folder and is gone afterwards. Exit status 0 only if every room was right.
    """
    if with_mas and keep:
        raise click.UsageError(
            "the stand-in for MAS has no page to sign in at: --serve without --mas"
        )
    try:
        from scim_matrix.demo.show import run
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: pip install 'scim-matrix[demo]'"
        ) from error
    sys.exit(asyncio.run(run(with_mas=with_mas, serve=keep)))
