"""Whether MAS is as the service needs it, where accounts belong to it."""

from scim_matrix.config import Settings
from scim_matrix.matrix.errors import HomeserverError, RefusedError
from scim_matrix.matrix.mas import MasAccounts
from scim_matrix.matrix.mas_answers import MasError, MasTokenError
from scim_matrix.matrix.mas_client import is_too_old
from scim_matrix.matrix.server import Homeserver
from scim_matrix.ops.findings import Finding

# To paste into MAS's configuration: one line each, as YAML allows.
_LISTENER = "http: {listeners: [{name: web, resources: [..., {name: adminapi}], ...}]}"


async def of_mas(homeserver: Homeserver, settings: Settings) -> list[Finding]:
    """Tell whether MAS answers, lets the client administer it, and is the right one.

    What cannot be looked at because of what came before is left out. Nothing is changed.
    """
    mas, accounts = homeserver.mas, homeserver.accounts
    assert mas is not None
    assert isinstance(accounts, MasAccounts)
    try:
        version = await mas.version()
    except MasTokenError as error:
        return [_not_let_in(settings, error)]
    except (MasError, RefusedError) as error:
        cure = (
            "MAS_URL must be MAS's issuer (http.public_base), reachable from here, MAS 1.5 or"
            f" later, with its admin API served there: {_LISTENER}"
        )
        return [Finding("error", "MAS_URL", str(error), cure)]
    if is_too_old(version):
        found = f"MAS is {version}, and 1.5 is the oldest that has what is needed"
        return [Finding("error", "MAS_URL", found, "upgrade MAS")]
    findings = [Finding("ok", "MAS_URL", f"MAS {version} lets the client administer it")]
    try:
        served = await mas.server_name()
        if served != settings.matrix_server_name:
            found = f"it serves {served}, not {settings.matrix_server_name}"
            cure = (
                f"set MATRIX_SERVER_NAME to {served} and MATRIX_ADMIN_USER_ID to a user of it, or"
                f" correct MAS_URL: matrix: {{homeserver: {settings.matrix_server_name}}} is what"
                " the right MAS has"
            )
            return [*findings, Finding("error", "MATRIX_SERVER_NAME", found, cure)]
        findings.append(await _provider(accounts))
        findings.append(await _own_account(accounts, settings))
    except HomeserverError as error:
        findings.append(Finding("error", "MAS_URL", str(error), "see its log and try again"))
    return findings


def _not_let_in(settings: Settings, error: MasTokenError) -> Finding:
    client = settings.mas_client_id
    cure = (
        f"put into MAS's configuration: clients: [{{client_id: {client}, client_auth_method:"
        f" client_secret_basic, client_secret: ...}}], policy: {{data: {{admin_clients:"
        f" [{client}]}}}} and restart MAS; MAS_CLIENT_SECRET is that secret"
    )
    return Finding("error", "MAS_CLIENT_ID", f"MAS does not let it administer: {error}", cure)


async def _provider(accounts: MasAccounts) -> Finding:
    try:
        provider = await accounts.provider_id()
    except RefusedError as error:
        cure = (
            "set MAS_PROVIDER to the id or the issuer of one of them; there must be one in MAS's"
            " configuration: upstream_oauth2: {providers: [{id: ..., issuer: ..., ...}]}"
        )
        return Finding("error", "MAS_PROVIDER", error.message, cure)
    return Finding("ok", "MAS_PROVIDER", f"people sign in through {provider}")


async def _own_account(accounts: MasAccounts, settings: Settings) -> Finding:
    user_id, about = settings.matrix_admin_user_id, "MATRIX_ADMIN_USER_ID"
    name = user_id.removeprefix("@").partition(":")[0]
    account = await accounts.get_without_homeserver(user_id)
    if account is None:
        return _without_account(settings, name)
    if account.deactivated:
        found = f"{user_id} is deactivated in MAS"
        return Finding("error", about, found, "set it to another account")
    if account.locked:
        found, cure = f"{user_id} is locked in MAS", f"mas-cli manage unlock-user {name}"
        return Finding("error", about, found, cure)
    return Finding("ok", about, f"{user_id} is there and not locked")


def _without_account(settings: Settings, name: str) -> Finding:
    about, found = "MATRIX_ADMIN_USER_ID", f"{settings.matrix_admin_user_id} does not exist in MAS"
    if settings.matrix_admin_token is not None:
        return Finding("error", about, found, "set it to the user whose MATRIX_ADMIN_TOKEN is")
    if settings.dry_run:
        cure = f"mas-cli manage register-user {name} --yes"
        return Finding("warning", about, f"{found}, and DRY_RUN keeps it from being made", cure)
    return Finding("ok", about, f"{found} yet, and is made at the first start")
