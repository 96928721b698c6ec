"""From the settings to the homeserver, and to MAS where accounts belong to it."""

from collections.abc import Callable, Sequence
from functools import partial

import aiohttp

from scim_matrix.config import Settings
from scim_matrix.matrix import delegation
from scim_matrix.matrix.fence import always
from scim_matrix.matrix.mas import MasAccounts
from scim_matrix.matrix.mas_client import MasClient
from scim_matrix.matrix.mas_token import MasToken
from scim_matrix.matrix.server import Homeserver
from scim_matrix.matrix.synapse_accounts import SynapseAccounts
from scim_matrix.matrix.transport import Transport


def connect(
    settings: Settings,
    *,
    dry_run: bool,
    leads: Callable[[], bool] = always,
    tracing: Sequence[aiohttp.TraceConfig] = (),
) -> Homeserver:
    """Return the homeserver that the settings name; no request is sent yet.

    Needs a running event loop. `leads` tells whether anything may be changed on it.
    """
    given = settings.matrix_admin_token
    transport = Transport.connect(
        settings.matrix_url,
        settings.matrix_admin_user_id,
        "" if given is None else given.get_secret_value(),
        dry_run=dry_run,
        leads=leads,
        tracing=tracing,
    )
    # Without a name there is no identity provider of which Synapse could know.
    synapse = SynapseAccounts(transport, settings.idp_name or "")
    if settings.mas_url is None:
        return Homeserver(transport, synapse)
    assert settings.mas_client_id is not None
    assert settings.mas_client_secret is not None
    mas = MasClient.connect(
        settings.mas_url,
        settings.mas_client_id,
        settings.mas_client_secret.get_secret_value(),
        dry_run=dry_run,
        leads=leads,
        tracing=tracing,
    )
    accounts = MasAccounts(
        mas,
        synapse,
        settings.matrix_server_name,
        provider=settings.mas_provider,
        end_sessions=settings.end_sessions_on_disable,
    )
    user_id = settings.matrix_admin_user_id
    # MAS's resource `compat`: Synapse itself has no sign-in any more.
    door = Transport.connect(settings.mas_url, user_id, "", tracing=tracing)
    sure = partial(delegation.make_sure, transport)
    token = None if given is not None else MasToken(mas, user_id, settings.token_file, sure)
    return Homeserver(transport, accounts, mas, door, token)
