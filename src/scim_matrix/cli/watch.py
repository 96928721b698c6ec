"""How far accounts and memberships are, shown until nothing is left."""

import time

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from scim_matrix.cli.database import read
from scim_matrix.course import Course
from scim_matrix.store import views
from scim_matrix.store.database import Place

REFRESH_SECONDS = 1.0


def watch_progress(place: Place) -> None:
    """Show a bar each for accounts and memberships until nothing is left, or it is interrupted.

    Where the output is no terminal, a line each second.
    """
    courses = {"accounts": Course(), "memberships": Course()}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console()
    with Progress(*columns, TextColumn("{task.fields[told]}"), console=console) as progress:
        bars = {what: progress.add_task(what, total=None, told="") for what in courses}
        while True:
            found = read(place, views.progress)
            for what, amount in found.items():
                course = courses[what]
                course.note(time.monotonic(), amount.left)
                progress.update(
                    bars[what], total=amount.whole, completed=amount.done, told=course.told()
                )
            if not console.is_terminal:
                parts = (
                    f"{what} {amount.done}/{amount.whole} {courses[what].told()}".rstrip()
                    for what, amount in found.items()
                )
                click.echo("; ".join(parts))
            if not any(amount.left for amount in found.values()):
                return
            time.sleep(REFRESH_SECONDS)
