"""Hands on a server whose accounts belong to MAS, which the tests for Synapse use unchanged."""

import re
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from aiohttp import ClientResponseError

from scim_matrix.demo.mas import Mas
from scim_matrix.demo.mas_state import Account, Email
from scim_matrix.demo.synapse import IDP, SERVER_NAME, User

_ACCOUNT = re.compile("/_synapse/admin/v2/users/@([^?]+):" + re.escape(SERVER_NAME))
_DEACTIVATE = re.compile("/_synapse/admin/v1/deactivate/@(.+):" + re.escape(SERVER_NAME))
_LOGIN = "/_matrix/client/v3/login"


@dataclass(frozen=True)
class MasAdmin(User):
    """An administrator who looks at accounts and changes them in MAS, not in Synapse.

    They ask as Synapse's admin API is asked; whatever MAS does not keep is Synapse's.
    """

    mas: Mas = field(kw_only=True, repr=False)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request and return its JSON. Raises aiohttp.ClientResponseError."""
        plain = unquote(path)
        if found := _ACCOUNT.fullmatch(plain):
            if method == "GET":
                return await self._account(found[1], path)
            return await self._set(found[1], path, dict(body))
        if found := _DEACTIVATE.fullmatch(plain):
            return await self._set(found[1], path, {"deactivated": True})
        if path == _LOGIN:
            account = self._found(body["identifier"]["user"])
            return {"access_token": (await self.mas.session(account, "PASSWORD")).token}
        return await super().call(method, path, body)

    def _found(self, name: str) -> Account:
        account = self.mas.state.account_named(name)
        assert account is not None
        return account

    async def _account(self, name: str, path: str) -> dict[str, Any]:
        while True:
            await self.mas.homeserver.idle()
            account = self.mas.state.account_named(name)
            before = None if account is None else replace(account)
            seen: dict[str, Any] = await super().call("GET", path)
            if account == before:
                break
        if account is None:
            # An account that MAS does not have does not count.
            raise ClientResponseError(None, (), status=404, message="404")  # type: ignore[arg-type]
        there = (account.locked_at is not None, account.deactivated_at is not None)
        assert (seen["locked"], seen["deactivated"]) == there, "Synapse thinks otherwise than MAS"
        state = self.mas.state
        links = [
            {"auth_provider": IDP, "external_id": link.subject}
            for link in state.links.values()
            if link.user_id == account.id
        ]
        emails = [
            {"medium": "email", "address": e.email.lower()}
            for e in state.emails.values()
            if e.user_id == account.id
        ]
        return {
            **seen,
            "admin": account.admin,
            "threepids": emails,
            "external_ids": [*seen["external_ids"], *links],
        }

    async def _set(self, name: str, path: str, body: dict[str, Any]) -> Any:
        """Change an account as somebody does in MAS."""
        state, account = self.mas.state, self._found(name)
        now = state.now()
        account.admin = body.pop("admin", account.admin)
        if "locked" in body:
            account.locked_at = now if body.pop("locked") else None
        if "deactivated" in body:
            gone = body.pop("deactivated")
            account.deactivated_at = now if gone else None
            what, more = ("delete_user", {"erase": False}) if gone else ("reactivate_user", {})
            await self.mas.homeserver.do(what, account, **more)
        if "external_ids" in body:
            await self._set_links(account, path, body.pop("external_ids"))
        if "threepids" in body:
            for email in [e for e in state.emails.values() if e.user_id == account.id]:
                del state.emails[email.id]
        for threepid in body.pop("threepids", ()):
            email = Email(state.ulid(), now, account.id, threepid["address"])
            state.emails[email.id] = email
        for word in ("password", "logout_devices"):
            body.pop(word, None)
        if account.deactivated_at is None:
            await self.mas.homeserver.provision(account)
        return await super().call("PUT", path, body) if body else {}

    async def _set_links(self, account: Account, path: str, links: list[dict[str, str]]) -> None:
        """Have an account led to by these and nothing else; those of the provider are MAS's."""
        state = self.mas.state
        subjects = {x["external_id"] for x in links if x["auth_provider"] == IDP}
        for link in [x for x in state.links.values() if x.user_id == account.id]:
            if link.subject not in subjects:
                del state.links[link.id]
            subjects.discard(link.subject)
        for subject in subjects:
            self.mas.add_link(subject, account)
        others = [x for x in links if x["auth_provider"] != IDP]
        await super().call("PUT", path, {"external_ids": others})


@dataclass(frozen=True)
class MasServer:
    """A homeserver on which people are registered in MAS."""

    url: str
    mas: Mas

    async def register(self, name: str, *, admin: bool = False) -> User:
        """Register somebody by hand."""
        account = await self.mas.add_account(name, admin=admin)
        return await self.mas.session(account, "FIRST")
