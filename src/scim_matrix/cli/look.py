"""Commands that show: status, plan, users, groups, rooms, log."""

import datetime
import time
from pathlib import Path
from typing import Any

import aiosqlite
import click
import orjson

from scim_matrix.cli.beside import DATA_DIR, beside
from scim_matrix.cli.output import JSON, show
from scim_matrix.config import ConfigurationError, Settings, environment
from scim_matrix.pair import Pair
from scim_matrix.store import held, look, numbers, pairs, record
from scim_matrix.store.text import told
from scim_matrix.sync.guard import Brake, Tally
from scim_matrix.sync.plan import Invite, Join, Kick, Policy
from scim_matrix.sync.plan import plan as planned

LIMIT = click.option("--limit", default=1000, show_default=True, help="At most so many.")


@click.command()
@DATA_DIR
@LIMIT
@JSON
def status(data_dir: Path, limit: int, as_json: bool) -> None:
    """Show what is pending, held and failing, with reasons.

    Exit status: 0 nothing is held or failing, 1 something is.
    """

    async def work(connection: aiosqlite.Connection) -> tuple[dict[str, Any], list[Any]]:
        counts = await pairs.trouble(connection)
        found = await numbers.numbers(connection)
        summary = {
            **found.resources,
            **counts,
            "oldestPendingSeconds": round(found.oldest_pending),
            "lastComparison": told(found.compared_at),
        }
        return summary, await look.left_to_do(connection, limit)

    summary, rows = beside(data_dir, work)
    for row in rows:
        row.pop("since")
    if as_json:
        click.echo(orjson.dumps({**summary, "work": rows}))
    else:
        click.echo("  ".join(f"{name}: {value}" for name, value in summary.items()))
        show(rows, as_json=False, empty="nothing is left to do")
    click.get_current_context().exit(int(any(row["state"] != "pending" for row in rows)))


@click.command()
@DATA_DIR
@JSON
def plan(data_dir: Path, as_json: bool) -> None:
    """Show what the service would do now, room by room, as far as it knows; nothing is done.

    What the brake would hold is marked so. Who turns out to be an administrator of the homeserver
    is not kicked even if this says so.
    """
    try:
        settings = Settings.load({**environment(), "DATA_DIR": str(data_dir)})
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    policy = Policy(settings.matrix_admin_user_id, settings.protected_users)
    brake = Brake(
        settings.removal_limit_percent, settings.removal_limit_count, settings.removal_window
    )

    def row(what: str, pair: Pair) -> dict[str, Any]:
        return {
            "room": pair.room_id,
            "what": what,
            "user": pair.user_id,
            "group": pair.group_name,
            "request": pair.request,
        }

    async def work(connection: aiosqlite.Connection) -> list[dict[str, Any]]:
        rows = [row("hold", pair) for pair in await pairs.held(connection)]
        never = float("inf")
        for room_id in sorted(await pairs.rooms_due(connection, never, [])):
            since = time.time() - brake.window
            holds = brake.holds(Tally(*await held.room_counts(connection, room_id, since)))
            for action in planned(await pairs.due(connection, room_id, never, -1), policy):
                what = {Join: "join", Invite: "invite", Kick: "kick"}.get(type(action), "spare")
                if what == "kick" and holds and not action.pair.approved:
                    what = "hold"
                rows.append(row(what, action.pair))
            for pair in await pairs.power_due(connection, room_id, never):
                what = "take power back" if pair.power is None else f"give power {pair.power}"
                rows.append(row(what, pair))
        return rows

    show(beside(data_dir, work), as_json=as_json, empty="nothing would be done")


@click.command()
@DATA_DIR
@click.option("--match", help="Only users whose userName or Matrix user ID matches this glob.")
@click.option("--rooms", is_flag=True, help="Each room of each user, and why.")
@JSON
def users(data_dir: Path, match: str | None, rooms: bool, as_json: bool) -> None:
    """Show users, their accounts, and with --rooms where each of them is and why."""

    async def work(connection: aiosqlite.Connection) -> list[dict[str, Any]]:
        found = await look.users(connection, match)
        if not rooms:
            return found
        return [
            place
            for user in found
            if user["account"] is not None
            for place in await look.people(connection, user_id=user["account"])
        ]

    show(beside(data_dir, work), as_json=as_json, empty="no such user")


@click.command()
@DATA_DIR
@click.option("--match", help="Only groups whose displayName matches this glob.")
@JSON
def groups(data_dir: Path, match: str | None, as_json: bool) -> None:
    """Show groups, how many members they have and which rooms the map opens for them."""
    rows = beside(data_dir, lambda connection: look.groups(connection, match))
    show(rows, as_json=as_json, empty="no such group")


@click.command()
@DATA_DIR
@click.argument("room", required=False)
@JSON
def rooms(data_dir: Path, room: str | None, as_json: bool) -> None:
    """Show mapped rooms; with ROOM (alias or room ID) who is in it and why."""

    async def work(connection: aiosqlite.Connection) -> list[dict[str, Any]]:
        if room is None:
            return await look.mapped_rooms(connection)
        return [
            person
            for room_id in await held.rooms_named(connection, room)
            for person in await look.people(connection, room_id=room_id)
        ]

    show(beside(data_dir, work), as_json=as_json, empty="no such room, or nobody is in it")


@click.command()
@DATA_DIR
@click.option("--user", help="Only what was done to this user ID.")
@click.option("--room", help="Only what was done in this room (alias or room ID).")
@click.option("--since", type=click.DateTime(), help="Only from this time (UTC) on.")
@click.option("--limit", default=1000, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def log(
    data_dir: Path,
    user: str | None,
    room: str | None,
    since: datetime.datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show what was done, refused or held: when, what, whom, where, why, with which outcome."""
    start = 0.0 if since is None else since.replace(tzinfo=datetime.UTC).timestamp()

    async def work(connection: aiosqlite.Connection) -> list[dict[str, Any]]:
        rooms = [] if room is None else await held.rooms_named(connection, room) or [room]
        return await record.find(connection, user=user, rooms=rooms, since=start, limit=limit)

    for entry in beside(data_dir, work):
        entry["at"] = told(entry["at"])
        if as_json:
            click.echo(orjson.dumps(entry))
        else:
            parts = (f"{k}={v}" for k, v in entry.items() if v and k not in _IN_FRONT)
            click.echo(" ".join([*(entry[k] for k in _IN_FRONT[1:]), *parts]))


_IN_FRONT = ("id", "at", "kind", "outcome")
