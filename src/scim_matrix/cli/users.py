"""Commands about users: show them, and settle whose account is whose."""

import asyncio
from typing import Any

import click

from scim_matrix.cli.database import BY, PLACE, read, settings_with, write
from scim_matrix.cli.output import JSON, show, with_names
from scim_matrix.config import ConfigurationError, Settings
from scim_matrix.localpart import is_user_id
from scim_matrix.matrix.errors import HomeserverError
from scim_matrix.store import accounts, binding, record, views
from scim_matrix.store import rooms as known_rooms
from scim_matrix.store.accounts import Account
from scim_matrix.store.database import Connection, Place


@click.group(invoke_without_command=True)
@PLACE
@click.option("--match", help="Only users whose userName or Matrix user ID matches this glob.")
@click.option("--rooms", is_flag=True, help="Each room of each user, and why.")
@JSON
@click.pass_context
def users(
    context: click.Context, place: Place, match: str | None, rooms: bool, as_json: bool
) -> None:
    """Show users, their accounts, and with --rooms where each of them is and why.

    An account in conflict is somebody else's as far as anybody can tell; `users link` says
    otherwise.
    """
    context.obj = place
    if context.invoked_subcommand is not None:
        return

    async def work(connection: Connection) -> list[dict[str, Any]]:
        found = await views.users(connection, match)
        if not as_json:
            # Long, and seldom asked for.
            for user in found:
                del user["subject"]
        if not rooms:
            return found
        known = [user["account"] for user in found if user["account"] is not None]
        places = await views.places(connection, known)
        return with_names(places, await known_rooms.names(connection))

    leave_out = ("granted",) if rooms else ("id", "applied", "held")
    show(read(place, work), as_json=as_json, empty="no such user", leave_out=leave_out)


async def _one(connection: Connection, name: str) -> Account:
    found = await accounts.named(connection, name)
    if not found:
        raise click.ClickException(f"{name}: no user has this SCIM id or user name")
    return found[0]


async def _check_account(settings: Settings, account: str) -> None:
    """Raise ClickException where an account is not of this server, or the service's own."""
    # What talks to homeservers takes half a second to load; other commands do without.
    from scim_matrix.matrix.connecting import connect

    server = settings.matrix_server_name
    if account.partition(":")[2] != server:
        raise click.ClickException(f"{account} is an account of another server than {server}")
    if account == settings.matrix_admin_user_id:
        raise click.ClickException(f"{account} is the service's own account")
    homeserver = connect(settings, dry_run=True)
    try:
        await homeserver.renew_token()
        if await homeserver.accounts.get(account) is None:
            raise click.ClickException(f"{account} does not exist on the homeserver")
    finally:
        await homeserver.close()


@users.command()
@BY
@click.argument("user")
@click.argument("account")
@click.pass_obj
def link(place: Place, by: str, user: str, account: str) -> None:
    """Say that the Matrix account ACCOUNT (@name:server) is USER's (SCIM id or user name).

    A running service takes it up within seconds: it links the account, brings its profile in
    line and brings it into its rooms. An account that USER had so far loses the link, leaves the
    rooms it was given and is locked where the service made it. Recorded with who said so.
    """
    if not is_user_id(account):
        raise click.BadParameter("must be a Matrix user ID, @name:server", param_hint="ACCOUNT")
    try:
        settings = settings_with(place)
        asyncio.run(_check_account(settings, account))
    except (ConfigurationError, HomeserverError) as error:
        raise click.ClickException(str(error)) from error

    async def work(connection: Connection) -> None:
        one = await _one(connection, user)
        if (why_not := await binding.link(connection, one, account, by)) is not None:
            raise click.ClickException(why_not)

    write(place, f"command line {by}", work)
    click.echo(f"{account} is {user}'s")


@users.command()
@BY
@click.argument("user")
@click.pass_obj
def unlink(place: Place, by: str, user: str) -> None:
    """Say that USER's (SCIM id or user name) present Matrix account is not theirs.

    What leads to the account for USER is taken off it (SSO link, mark); else it is left as it is,
    in its rooms too, and not taken for theirs again.
    """

    async def work(connection: Connection) -> str:
        one = await _one(connection, user)
        if one.user_id is None:
            raise click.ClickException(f"{user} has no account")
        await binding.unbind(
            connection,
            one,
            one.user_id,
            f"{by} said that {one.user_id} is not this user's",
            f"scim-matrix users link {one.scim_id} to an account of their own",
            connection.at,
            barred=one.user_id,
        )
        entry = record.Entry("unlink", "asked", one.user_id, detail=f"user {one.scim_id}", by=by)
        await record.add(connection, entry)
        return one.user_id

    former = write(place, f"command line {by}", work)
    click.echo(f"{former} is not {user}'s any more; nothing was done to it")
