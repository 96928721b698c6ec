"""The command that tells a person's, a room's or a group's story."""

import contextlib
from dataclasses import asdict
from typing import Literal

import click
from rich.console import Console

from scim_matrix import problems
from scim_matrix.cli.database import PLACE, read, settings_with
from scim_matrix.cli.output import PIPE, json_line, visible
from scim_matrix.cli.rooms import find
from scim_matrix.cli.table import wrapped
from scim_matrix.config import ConfigurationError
from scim_matrix.groupmap import Sources
from scim_matrix.store import story as stories
from scim_matrix.store.database import Connection, Place
from scim_matrix.story import group, person, room
from scim_matrix.story.rows import Line, Part, Story
from scim_matrix.sync.plan import Policy

Kind = Literal["person", "group", "room"]


@click.command()
@PLACE
@click.option(
    "--as",
    "kind",
    type=click.Choice(["person", "group", "room"]),
    help="What WHAT is, where that is not clear.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.argument("what")
@click.argument("where", metavar="[ROOM]", required=False)
def why(place: Place, kind: Kind | None, as_json: bool, what: str, where: str | None) -> None:
    """Tell why WHAT is as it is, in sentences: a person, a group, a room, or a problem's code.

    A person is a Matrix user ID, a user name or a SCIM id, and ROOM leaves the other rooms out; a
    group is a name, an externalId or a SCIM id; a room is a name, an alias or an ID. What waits is
    told with what to type. Exit status: 1 where nobody and nothing is known by that name.
    """

    async def work(connection: Connection) -> Story:
        found = [] if where is None else await find(connection, where)
        if where is not None and not found:
            raise click.ClickException(f"{where}: no mapped room has this name, alias or ID")
        return await _story(connection, place, what, kind, found[-1] if found else None)

    story = read(place, work)
    if as_json:
        click.echo(json_line(asdict(story)))
        return
    console = Console()
    width = console.width if console.is_terminal else PIPE
    for line in told(story, width):
        click.echo(visible(line))


def told(story: Story, width: int) -> list[str]:
    """Return a story as lines of at most so many columns."""
    lines = [story.title]
    for part in story.parts:
        lines += ["", part.heading]
        for line in part.lines:
            lines += _indented(line.text, "  ", "    ", width)
            if line.cure:
                lines += _indented(line.cure, "    → ", "      ", width)
    return lines


def _indented(text: str, first: str, rest: str, width: int) -> list[str]:
    head, *more = wrapped(text, width - len(rest))
    return [first + head, *(rest + line for line in more)]


async def _story(
    connection: Connection, place: Place, what: str, kind: Kind | None, room_id: str | None
) -> Story:
    if what in problems.BY_CODE:
        return _problem(problems.BY_CODE[what])
    found = await _meant(connection, what)
    if kind is not None:
        found = [one for one in found if one[0] == kind]
    if not found and what.startswith("@") and await stories.is_seen(connection, what):
        found = [("person", None)]
    if not found:
        raise click.ClickException(f"{what}: no person, group or mapped room is known by this")
    if len(found) > 1:
        listed = ", ".join(f"the {one} {identity}" for one, identity in found)
        raise click.ClickException(f"{what} may mean {listed}: give the ID, or say --as")
    [(which, identity)] = found
    sources = _sources(place)
    if which == "room":
        return room.story(await stories.room(connection, str(identity), sources))
    if which == "group":
        return group.story(await stories.group(connection, str(identity)))
    account = None if identity is None else int(identity)
    rows = await stories.person(connection, account, what, sources)
    return person.story(rows, _protection(place, rows.user_id), room_id)


async def _meant(connection: Connection, what: str) -> list[tuple[Kind, str | int | None]]:
    """Return whom or what a word may mean."""
    found: list[tuple[Kind, str | int | None]] = []
    if not what.startswith(("#", "!")):
        found += [("person", one) for one in await stories.accounts_called(connection, what)]
    if not what.startswith(("#", "!", "@")):
        found += [("group", one) for one in await stories.groups_called(connection, what)]
    if rooms := await find(connection, what):
        found.append(("room", rooms[-1]))
    return found


def _problem(problem: problems.Problem) -> Story:
    lines = [Line(problem.means), Line(f"Cause: {problem.cause}", problem.cure)]
    return Story(problem.code, [Part("A problem", lines)])


def _sources(place: Place) -> Sources:
    """Return the settings that the map stands in, as far as they are known here."""
    with contextlib.suppress(ConfigurationError):
        return settings_with(place).map_sources()
    return stories.UNTOLD


def _protection(place: Place, user_id: str | None) -> str | None:
    """Return why nobody touches somebody, as far as the settings tell; administrators are not."""
    with contextlib.suppress(ConfigurationError):
        settings = settings_with(place)
        policy = Policy(settings.matrix_admin_user_id, settings.protected_users)
        return policy.protection(user_id) if user_id is not None else None
    return None
