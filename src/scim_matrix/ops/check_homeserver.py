"""Who keeps the homeserver's accounts, and whether it lets the service in."""

from dataclasses import dataclass

from scim_matrix.config import Settings
from scim_matrix.matrix.delegation import PLAIN, PLAIN_CURE
from scim_matrix.matrix.errors import HomeserverError, TokenError, UnvouchedError
from scim_matrix.matrix.mas_token import SCOPE
from scim_matrix.matrix.server import Homeserver
from scim_matrix.ops.findings import Finding

_REACH = "MATRIX_URL must reach Synapse's client and admin API (/_matrix, /_synapse/admin)"
_TAKE_OUT = (
    "take MATRIX_ADMIN_TOKEN out and restart: the service makes itself one with the scopes that are"
    f" needed ({SCOPE})"
)


@dataclass(frozen=True, slots=True)
class Keeper:
    """Whether MAS keeps the accounts; None where that cannot be told, `why` not."""

    is_mas: bool | None
    why: str = ""


async def who_keeps_accounts(homeserver: Homeserver) -> Keeper:
    """Ask the homeserver who keeps its accounts."""
    try:
        return Keeper(await homeserver.issuer() is not None)
    except HomeserverError as error:
        return Keeper(None, str(error))


async def of_homeserver(
    homeserver: Homeserver, settings: Settings, keeper: Keeper
) -> list[Finding]:
    """Tell whether the settings fit who keeps the accounts, and whether the token is right.

    Afterwards `homeserver.token` is the token to ask it with, empty without one.
    """
    has_mas = homeserver.mas is not None
    if has_mas and keeper.is_mas is False:
        return [Finding("error", "MAS_URL", PLAIN, PLAIN_CURE)]
    if not homeserver.take_stored_token():
        return [_without_token(keeper)]
    try:
        version = await homeserver.server_version()
        whose = await homeserver.whoami()
        delegated = await homeserver.accounts_are_delegated()
    except TokenError as error:
        return [_refused(homeserver, settings, keeper, error)]
    except UnvouchedError as error:
        cure = "MAS must run, and answer Synapse: matrix_authentication_service: {endpoint: ...}"
        return [Finding("error", "homeserver", str(error), cure)]
    except HomeserverError as error:
        return [Finding("error", "homeserver", str(error), _REACH)]
    if whose != homeserver.user_id:
        return [_anothers(homeserver, whose)]
    found = f"Synapse {version}, the token is an admin's"
    findings = [Finding("ok", "homeserver", found)]
    if has_mas and not delegated:
        findings.append(Finding("error", "MAS_URL", PLAIN, PLAIN_CURE))
    if not has_mas and delegated:
        findings += _without_mas(protected=bool(settings.protected_users))
    return findings


def _without_token(keeper: Keeper) -> Finding:
    if keeper.is_mas is None:
        return Finding("error", "homeserver", keeper.why, _REACH)
    return Finding(
        "warning",
        "homeserver",
        "not looked at, nor its rooms: the service makes itself a token through MAS when it starts",
        "start it once",
    )


def _refused(
    homeserver: Homeserver, settings: Settings, keeper: Keeper, error: TokenError
) -> Finding:
    """Return that the token is refused, and what would be a better one."""
    found = f"refuses the token: {error}"
    user_id = homeserver.user_id
    if homeserver.mas is not None and settings.matrix_admin_token is not None:
        return Finding("error", "homeserver", found, _TAKE_OUT)
    if homeserver.mas is not None:
        found = f"refuses the token that the service made itself: {error}"
        return Finding("error", "homeserver", found, "restart the service, which makes another")
    if keeper.is_mas:
        name = user_id.removeprefix("@").partition(":")[0]
        cure = (
            f"set MATRIX_ADMIN_TOKEN to a token of {user_id} (mas-cli manage"
            f" issue-compatibility-token {name} --yes-i-want-to-grant-synapse-admin-privileges),"
            " or MAS_URL, MAS_CLIENT_ID and MAS_CLIENT_SECRET in its place"
        )
        return Finding("error", "homeserver", found, cure)
    cure = (
        f"make {user_id} a server admin (admin API: PUT .../users/{user_id}/admin) and set"
        " MATRIX_ADMIN_TOKEN to a token of it"
    )
    return Finding("error", "homeserver", found, cure)


def _anothers(homeserver: Homeserver, whose: str) -> Finding:
    or_else = f"use a token of {homeserver.user_id}"
    if homeserver.mas is not None:
        or_else = "take MATRIX_ADMIN_TOKEN out, for the service to make itself one"
    cure = (
        f"set MATRIX_ADMIN_USER_ID to {whose} (and MATRIX_SERVER_NAME to its server), or {or_else}"
    )
    return Finding("error", "homeserver", f"the token is {whose}'s", cure)


def _without_mas(*, protected: bool) -> list[Finding]:
    """Tell what is not done on a server whose accounts belong to MAS without its settings."""
    findings = [
        Finding(
            "warning",
            "accounts",
            "belong to the Matrix Authentication Service: none is created or locked",
            "set MAS_URL, MAS_CLIENT_ID and MAS_CLIENT_SECRET; room membership of existing"
            " accounts is kept in line without them",
        )
    ]
    if not protected:
        findings.append(
            Finding(
                "warning",
                "PROTECTED_USERS",
                "is empty, and Synapse does not say who administers it: nobody is removed from"
                " any room",
                "name the administrators, and whoever else must stay, in PROTECTED_USERS",
            )
        )
    return findings
