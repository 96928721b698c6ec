"""The command that checks whether everything is as the service needs it."""

import asyncio
import sys
from dataclasses import asdict

import click

from scim_matrix.cli.environment import environment
from scim_matrix.cli.output import JSON, show
from scim_matrix.cli.run import EXIT_CONFIGURATION
from scim_matrix.config import ConfigurationError, Settings, doubtful
from scim_matrix.ops import check as checks
from scim_matrix.ops.findings import Finding
from scim_matrix.ops.logging import set_up


@click.command()
@JSON
def check(as_json: bool) -> None:
    """Check configuration, database, homeserver and every mapped room, and say what to mend.

    Nothing is changed. Exit status: 0 all is well (there may be warnings), 1 something has to be
    mended, 2 the configuration has mistakes.
    """
    variables = environment()
    try:
        settings = Settings.load(variables)
    except ConfigurationError as error:
        findings = [
            Finding("error", "configuration", problem, cure) for problem, cure in error.told()
        ]
    else:
        set_up("critical", settings.log_format)
        findings = asyncio.run(checks.check(settings))
    for problem in doubtful(variables):
        name, _, found = problem.partition(": ")
        findings.insert(0, Finding("warning", name, found, "correct its name, or take it out"))
    show([asdict(finding) for finding in findings], as_json=as_json, empty="")
    if any(finding.about == "configuration" for finding in findings):
        sys.exit(EXIT_CONFIGURATION)
    sys.exit(int(any(finding.verdict == "error" for finding in findings)))
