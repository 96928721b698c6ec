"""Commands that show: status, plan, groups, rooms, log."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from scim_matrix import problems
from scim_matrix.cli.database import PLACE, read, settings_with
from scim_matrix.cli.output import JSON, Rows, Since, json_line, show, visible, with_names
from scim_matrix.cli.rooms import find
from scim_matrix.cli.table import wrapped
from scim_matrix.cli.watch import watch_progress
from scim_matrix.config import ConfigurationError
from scim_matrix.membership import Membership
from scim_matrix.store import brake, memberships, record, references, totals, views
from scim_matrix.store import rooms as known_rooms
from scim_matrix.store.database import Connection, Place
from scim_matrix.store.text import told
from scim_matrix.sync.account_changes import AccountPolicy
from scim_matrix.sync.guard import Brake, Tally
from scim_matrix.sync.plan import Invite, Join, Kick, Policy
from scim_matrix.sync.plan import plan as planned

# What says nothing to people, in lists of who is in a room: its name is above, or asked for.
OF_ONE_ROOM = ("room_id", "name", "granted")
LIMIT = click.option("--limit", default=1000, show_default=True, help="At most so many.")


@click.command()
@PLACE
@LIMIT
@JSON
@click.option("--watch", is_flag=True, help="First show how far it is until nothing is left.")
def status(place: Place, limit: int, as_json: bool, watch: bool) -> None:
    """Show what is pending, held and failing, with reasons.

    Also whose account or which step of the map a human has to settle, and how; and, first, that
    the homeserver or MAS does not answer, as the service last saw them. Exit status: 0 nothing
    needs anybody, 1 something is held, failing, conflicting, suspended, not followed or waiting for
    the map.
    """

    async def work(connection: Connection) -> tuple[dict[str, Any], list[Any]]:
        counts = await memberships.counts(connection)
        found = await totals.totals(connection, connection.at)
        summary = {
            **found.resources,
            **counts,
            "oldestPendingSeconds": round(found.oldest_pending),
            "lastComparison": told(found.compared_at),
            "restored": found.restored,
        }
        if (leader := await views.leader(connection)) is not None:
            summary["ledBy"] = leader
        # One more, to know whether there is.
        found_rows = await views.left_to_do(connection, limit + 1)
        rows = [*await _servers(connection), *found_rows[:limit]]
        for row in rows:
            row["cure"] = row["cure"] or _cure(row["code"])
        if len(found_rows) > limit:
            summary["shownOnly"] = limit
        held_in = {row["room"] for row in rows if row["state"] == "held" and row["room"]}
        of.update(
            {room: (await brake.room_tally(connection, room, connection.at))[1] for room in held_in}
        )
        return summary, with_names(rows, await known_rooms.names(connection))

    of: dict[str, int] = {}
    if watch:
        watch_progress(place)
    summary, rows = read(place, work)
    for row in rows:
        row["since"] = told(row["since"]) if row["since"] else None
    if as_json:
        click.echo(json_line({**summary, "work": rows}))
    else:
        # A number stays beside its name.
        told_of = "  ".join(f"{name}:\xa0{value}" for name, value in summary.items())
        width = shutil.get_terminal_size().columns
        lines = wrapped(told_of, width) if sys.stdout.isatty() else [told_of]
        click.echo("\n".join(lines).replace("\xa0", " "))
        show(_grouped(rows, of), as_json=False, empty="nothing is left to do")
        if "shownOnly" in summary:
            click.echo(
                f"There is more than these {limit}: --limit {10 * limit} shows ten times that."
            )
    click.get_current_context().exit(int(any(row["state"] not in _WELL for row in rows)))


def _grouped(rows: Rows, of: Mapping[str, int]) -> Rows:
    """Return rows that differ only in whom they are about as one that says how many that are.

    `of`: of how many, by room.
    """
    alike: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        alike.setdefault(tuple(row[column] for column in _ALIKE), []).append(row)
    return [_as_one(found, of) for found in alike.values()]


def _as_one(rows: Rows, of: Mapping[str, int]) -> dict[str, Any]:
    row = rows[0]
    if len(rows) == 1:
        return row
    whole = f" of {of[row['room']]}" if row["room"] in of else ""
    requests = {one["request"] for one in rows}
    return {
        **row,
        "user": f"{len(rows)}{whole} people",
        "since": min((one["since"] for one in rows if one["since"]), default=None),
        "request": row["request"] if len(requests) == 1 else f"{len(requests)} requests",
    }


def _cure(code: str | None) -> str | None:
    """Return what to do about a problem of which nothing more is known than its code."""
    return None if code is None else problems.cure_of(code)


async def _servers(connection: Connection) -> Rows:
    """Return what is wrong with the homeserver or MAS, as the service last saw them."""
    found = await totals.ailing(connection, problems.OF_SERVERS)
    return [
        {
            **{"state": "failing", "what": "MAS" if code.startswith("mas") else "homeserver"},
            **{"room": None, "user": None, "group": None},
            "reason": f"{problems.BY_CODE[code].means} So since {told(since)}.",
            **{"cure": problems.BY_CODE[code].cure, "code": code, "since": since, "request": None},
        }
        for code, since in found.items()
    ]


@click.command()
@PLACE
@JSON
def plan(place: Place, as_json: bool) -> None:
    """Show what the service would do now, room by room, as far as it knows; nothing is done.

    What the brake would hold is marked so. Who turns out to be an administrator of the homeserver
    is not kicked even if this says so.
    """
    try:
        settings = settings_with(place)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    policy = Policy(settings.matrix_admin_user_id, settings.protected_users)
    limit = Brake(
        settings.removal_limit_percent, settings.removal_limit_count, settings.removal_window
    )
    accounts = AccountPolicy.of(settings)
    rows = read(place, lambda connection: _planned(connection, policy, accounts, limit))
    show(rows, as_json=as_json, empty="nothing would be done")


async def _planned(
    connection: Connection, policy: Policy, accounts: AccountPolicy, limit: Brake
) -> list[dict[str, Any]]:
    """Return what would be done: accounts first, then room by room."""
    rows = [
        _row(_of_account(account, accounts), None, account["user"], None, account["request"])
        for account in await views.pending_accounts(connection)
    ]
    rows += [
        _row("hold", one.room_id, one.user_id, one.group_name, one.request)
        for one in await brake.held(connection)
    ]
    rows += await references.to_be_opened(connection)
    holds: dict[str, bool] = {}
    for pair in await views.pending_memberships(connection):
        if pair.room_id not in holds:
            since = connection.at - limit.window
            counts = await brake.room_tally(connection, pair.room_id, since)
            holds[pair.room_id] = limit.holds(Tally(*counts))
        rows += _of_pair(pair, policy, holds=holds[pair.room_id])
    return with_names(rows, await known_rooms.names(connection))


def _of_account(account: dict[str, Any], policy: AccountPolicy) -> str:
    """Return what would be done to an account."""
    if account["desired"] != "active":
        return f"{policy.how(account['desired'])} account"
    if account["is_new"]:
        return "create account"
    return "unlock account" if account["is_locked"] else "update account"


def _of_pair(pair: Membership, policy: Policy, *, holds: bool) -> list[dict[str, Any]]:
    rows = []
    for action in planned([pair], policy):
        what = {Join: "join", Invite: "invite", Kick: "kick"}.get(type(action), "spare")
        if what == "kick" and holds and pair.approved_by is None:
            what = "hold"
        rows.append(_row(what, pair.room_id, pair.user_id, pair.group_name, pair.request))
    if pair.power != pair.power_given:
        given = pair.power is not None
        what = f"give power {pair.power}" if given else "take power back"
        rows.append(_row(what, pair.room_id, pair.user_id, pair.group_name, pair.request))
    return rows


def _row(
    what: str, room: str | None, user: str, group: str | None, request: str | None
) -> dict[str, Any]:
    return {"room": room, "what": what, "user": user, "group": group, "request": request}


@click.command()
@PLACE
@click.option("--match", help="Only groups whose displayName matches this glob.")
@JSON
def groups(place: Place, match: str | None, as_json: bool) -> None:
    """Show groups, how many members they have and which rooms the map opens for them."""

    async def work(connection: Connection) -> Rows:
        found = await views.groups(connection, match)
        if as_json:
            return found
        names = await known_rooms.names(connection)
        return [{**group, "rooms": _named(group["rooms"], names)} for group in found]

    show(read(place, work), as_json=as_json, empty="no such group")


def _named(rooms: str | None, names: dict[str, str]) -> list[str]:
    """Return the rooms that a group opens, each with its name."""
    listed = rooms.split(",") if rooms else []
    return [f"{names[room]} {room}" if room in names else room for room in listed]


@click.command()
@PLACE
@click.argument("room", required=False)
@JSON
def rooms(place: Place, room: str | None, as_json: bool) -> None:
    """Show mapped rooms; with ROOM (name, alias or room ID) who is in it and why.

    A room that the map names no more is shown as long as somebody is still to leave it.
    Exit status: 1 where no mapped room is called so, or several are.
    """

    async def work(connection: Connection) -> Rows:
        mapped = await views.mapped_rooms(connection)
        names = await known_rooms.names(connection)
        if room is None:
            return with_names(mapped, names)
        named = await find(connection, room)
        if not named and room not in {row["room"] for row in mapped}:
            raise click.ClickException(f"{room}: no mapped room has this name, alias or ID")
        people = await views.people(connection, named[-1]) if named else []
        return with_names(people, names)

    show(
        read(place, work),
        as_json=as_json,
        empty="no room is mapped" if room is None else "nobody is in it",
        leave_out=() if room is None else OF_ONE_ROOM,
    )


@click.command()
@PLACE
@click.option("--user", help="Only what was done to this user ID.")
@click.option("--room", help="Only what was done in this room (name, alias or room ID).")
@click.option("--request", help="Only what came of this request (its X-Request-ID).")
@click.option(
    "--since",
    type=Since(),
    help="Only since so long ago (90s, 30m, 2h, 7d), since today, yesterday or a date or time (in"
    " UTC unless it says): 2026-11-01, '2026-11-01 12:00' or 2026-11-01T12:00:00+01:00.",
)
@click.option("--limit", default=1000, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def log(
    place: Place,
    user: str | None,
    room: str | None,
    request: str | None,
    since: float | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show what was done, refused or held: when, what, whom, where, why, with which outcome.

    Exit status: 1 where nothing was ever recorded of the user, room or request that is asked for.
    """
    start = since or 0.0

    async def work(connection: Connection) -> Rows:
        named = [] if room is None else await find(connection, room) or [room]
        users = None if user is None else [user]
        rows = await record.find(
            connection, users=users, rooms=named, request=request, since=start, limit=limit
        )
        if not rows:
            await _known(connection, user, room, named, request)
        return with_names(rows, await known_rooms.names(connection))

    found = read(place, work)
    if not found and not as_json:
        click.echo("nothing is recorded that fits")
    for entry in found:
        entry["at"] = told(entry["at"])
        if as_json:
            click.echo(json_line(entry))
        else:
            entry = {"room": entry.pop("name"), **entry}
            parts = (f"{k}={v}" for k, v in entry.items() if v and k not in _IN_FRONT)
            click.echo(visible(" ".join([*(entry[k] for k in _IN_FRONT[1:]), *parts])))


# What rows have in common that are told as one.
_ALIKE = ("state", "what", "room", "group", "reason", "cure", "code")


async def _known(
    connection: Connection,
    user: str | None,
    room: str | None,
    rooms: list[str],
    request: str | None,
) -> None:
    """Raise ClickException where the record has nothing at all of one that is asked for."""

    async def has(
        users: list[str] | None = None, about: Sequence[str] = (), of: str | None = None
    ) -> bool:
        found = await record.find(
            connection, users=users, rooms=about, request=of, since=0.0, limit=1
        )
        return bool(found)

    if user and not await has([user]):
        raise click.ClickException(
            f"{user}: nothing is recorded of this user; write the whole user ID"
            " (@ann:example.com), which scim-matrix why finds by a name"
        )
    if room and rooms == [room] and not await has(about=rooms):
        raise click.ClickException(f"{room}: no room is called so, and nothing is recorded of one")
    if request and not await has(of=request):
        raise click.ClickException(f"{request}: nothing is recorded that came of this request")


# What nobody has to do anything about.
_WELL = ("pending", "spared", "withheld", "by_hand")
_IN_FRONT = ("id", "at", "kind", "outcome")
