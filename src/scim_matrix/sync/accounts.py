"""Make one Matrix account what its user should be: find or create, link, lock, bring back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from scim_matrix.config import OnDisable
from scim_matrix.matrix.homeserver import Homeserver
from scim_matrix.store.accounts import Account, Profile
from scim_matrix.sync.plan import Policy


class ConflictError(Exception):
    """The account exists and is not this user's; it is left alone."""


class MissingAccountError(Exception):
    """The account has to be made elsewhere (delegated authentication)."""


class HeldError(Exception):
    """The brake keeps the account from being disabled until a human has looked."""


@dataclass(frozen=True, slots=True)
class AccountPolicy:
    """How accounts are treated: `idp` as Synapse's admin API names the identity provider."""

    idp: str
    adopt_existing: bool
    on_disable: OnDisable
    on_delete: OnDisable
    users: Policy


@dataclass(frozen=True, slots=True)
class Applied:
    """The account that was brought in line.

    `did` names what was changed for it: create, update, lock, suspend, deactivate or erase.
    """

    user_id: str
    did: str | None = None


async def apply(
    homeserver: Homeserver,
    account: Account,
    policy: AccountPolicy,
    may_disable: Callable[[], Awaitable[bool]],
    *,
    delegated: bool,
) -> Applied:
    """Bring one account in line with its wanted profile.

    `may_disable` is asked before an account is taken away from its user. Raises ConflictError,
    MissingAccountError, HeldError, or what the homeserver raises.
    """
    wanted = account.wanted
    user_id = account.user_id
    existing = None
    if not account.ready and not delegated and wanted.subject is not None:
        user_id = await homeserver.account_by_link(policy.idp, wanted.subject) or user_id
    existing = await homeserver.account(user_id)
    linked = existing is not None and (account.ready or _is_linked(existing, policy.idp, wanted))
    if delegated:
        if existing is None:
            raise MissingAccountError(f"{user_id} does not exist and cannot be created here")
        return Applied(user_id)
    if existing is None:
        if wanted.state != "active" and not account.ready:
            return Applied(user_id)
        await homeserver.put_account(user_id, _new(wanted, policy))
        return Applied(user_id, "create")
    if not linked and not (policy.adopt_existing and not existing.get("admin")):
        raise ConflictError(f"{user_id} exists and is not linked to this user")
    if existing.get("admin") or policy.users.protects(user_id):
        return Applied(user_id)
    if wanted.state == "active":
        changed = await _activate(homeserver, user_id, existing, account, policy)
        return Applied(user_id, "update" if changed else None)
    how = policy.on_delete if wanted.state == "expired" else policy.on_disable
    if _is_disabled(existing, how):
        return Applied(user_id)
    if not await may_disable():
        raise HeldError(f"{user_id}: unusually many accounts would be disabled")
    await _disable(homeserver, user_id, how)
    return Applied(user_id, how)


def _is_linked(existing: dict[str, Any], idp: str, wanted: Profile) -> bool:
    return {"auth_provider": idp, "external_id": wanted.subject} in existing["external_ids"]


def _new(wanted: Profile, policy: AccountPolicy) -> dict[str, Any]:
    body: dict[str, Any] = {
        "admin": False,
        "threepids": [{"medium": "email", "address": e} for e in wanted.emails],
    }
    if wanted.display_name is not None:
        body["displayname"] = wanted.display_name
    if wanted.subject is not None:
        body["external_ids"] = [{"auth_provider": policy.idp, "external_id": wanted.subject}]
    return body


async def _activate(
    homeserver: Homeserver,
    user_id: str,
    existing: dict[str, Any],
    account: Account,
    policy: AccountPolicy,
) -> bool:
    """Send only what differs, lists merged with what others put there; tell if anything did."""
    wanted, former = account.wanted, account.applied
    body: dict[str, Any] = {}
    if existing.get("deactivated"):
        body["deactivated"] = False
    if existing.get("locked"):
        body["locked"] = False
    if wanted.display_name is not None and wanted.display_name != existing.get("displayname"):
        body["displayname"] = wanted.display_name
    emails = [(t["medium"], t["address"]) for t in existing["threepids"]]
    dropped = {("email", e.lower()) for e in (former.emails if former else ())}
    ours = [("email", e) for e in wanted.emails]
    merged = [e for e in emails if e not in dropped or e in ours]
    merged += [e for e in ours if e not in merged]
    if merged != emails:
        body["threepids"] = [{"medium": m, "address": a} for m, a in merged]
    links = [(x["auth_provider"], x["external_id"]) for x in existing["external_ids"]]
    if wanted.subject is not None and (policy.idp, wanted.subject) not in links:
        stale = (policy.idp, former.subject) if former else None
        kept = [link for link in links if link != stale]
        body["external_ids"] = [
            {"auth_provider": p, "external_id": x} for p, x in [*kept, (policy.idp, wanted.subject)]
        ]
    if existing.get("suspended"):
        await homeserver.suspend(user_id, suspend=False)
    if body:
        await homeserver.put_account(user_id, body)
    return bool(body) or bool(existing.get("suspended"))


def _is_disabled(existing: dict[str, Any], how: OnDisable) -> bool:
    already = {"lock": "locked", "suspend": "suspended"}.get(how, "deactivated")
    return how == "nothing" or bool(existing.get("deactivated")) or bool(existing.get(already))


async def _disable(homeserver: Homeserver, user_id: str, how: OnDisable) -> None:
    if how == "lock":
        await homeserver.put_account(user_id, {"locked": True})
    elif how == "suspend":
        await homeserver.suspend(user_id, suspend=True)
    else:
        await homeserver.deactivate(user_id, erase=how == "erase")
