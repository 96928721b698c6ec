"""Accounts as Synapse keeps them (rest/admin/users.py, handlers/deactivate_account.py)."""

import re
from dataclasses import dataclass, field
from typing import Any

from tests.homeserver.errors import MatrixError, not_found

Link = tuple[str, str]
_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")


@dataclass
class Account:
    """One account. `emails` are as Synapse keeps them, `links` pairs of provider and identity."""

    user_id: str
    displayname: str | None = None
    emails: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    admin: bool = False
    locked: bool = False
    suspended: bool = False
    deactivated: bool = False
    erased: bool = False

    def listed(self) -> dict[str, Any]:
        """Return what a list of accounts says of it."""
        return {
            "name": self.user_id,
            "displayname": self.displayname,
            "admin": self.admin,
            "deactivated": self.deactivated,
            "locked": self.locked,
            "erased": self.erased,
            "is_guest": False,
        }

    def shown(self) -> dict[str, Any]:
        """Return what is said of it alone."""
        return {
            **self.listed(),
            "suspended": self.suspended,
            "threepids": [{"medium": "email", "address": email} for email in self.emails],
            "external_ids": [{"auth_provider": p, "external_id": i} for p, i in self.links],
        }


class Accounts:
    """Every account of the homeserver, in the order in which they were made."""

    def __init__(self, server_name: str) -> None:
        self.server_name = server_name
        self.all: dict[str, Account] = {}

    def get(self, user_id: str) -> Account:
        """Return one. Raises MatrixError."""
        if user_id not in self.all:
            raise not_found("User not found")
        return self.all[user_id]

    def is_mine(self, user_id: str) -> bool:
        """Tell whether a user ID is of this homeserver."""
        return user_id.endswith(f":{self.server_name}")

    def linked(self, provider: str, identity: str) -> str:
        """Return whose identity it is. Raises MatrixError."""
        for account in self.all.values():
            if (provider, identity) in account.links:
                return account.user_id
        raise not_found("User not found")

    def with_email(self, address: str) -> str:
        """Return whose address it is. Raises MatrixError."""
        for account in self.all.values():
            if address in account.emails:
                return account.user_id
        raise not_found("User not found")

    def put(self, user_id: str, body: dict[str, Any]) -> tuple[int, Account]:
        """Make or change an account (Create or modify Account); lists replace lists."""
        if not self.is_mine(user_id):
            raise MatrixError(400, "M_UNKNOWN", "This endpoint can only be used with local users")
        if body.get("deactivated") and body.get("locked"):
            raise MatrixError(400, "M_UNKNOWN", "An user can't be deactivated and locked")
        if user_id in self.all:
            account = self.all[user_id]
            if "displayname" in body:
                account.displayname = body["displayname"] or None
            self._put_emails(account, body)
            self._put_links(account, body, replace=True)
            account.admin = body.get("admin", account.admin)
            if body.get("deactivated", account.deactivated) != account.deactivated:
                if body["deactivated"]:
                    self.deactivate(user_id, erase=False)
                else:
                    account.deactivated = account.erased = False
            account.locked = body.get("locked", account.locked)
            return 200, account
        localpart = user_id[1:].partition(":")[0]
        if not _LOCALPART.fullmatch(localpart):
            raise MatrixError(
                400,
                "M_INVALID_USERNAME",
                "User ID can only contain characters a-z, 0-9, or '=_-./+'",
            )
        account = Account(
            user_id, body.get("displayname", localpart), admin=body.get("admin", False)
        )
        self.all[user_id] = account
        self._put_emails(account, body)
        self._put_links(account, body, replace=False)
        return 201, account

    def _put_emails(self, account: Account, body: dict[str, Any]) -> None:
        """Write e-mails; one that another account has moves here."""
        if "threepids" not in body:
            return
        account.emails = []
        for threepid in body["threepids"]:
            for other in self.all.values():
                if threepid["address"] in other.emails:
                    other.emails.remove(threepid["address"])
            account.emails.append(threepid["address"])

    def _put_links(self, account: Account, body: dict[str, Any], *, replace: bool) -> None:
        if "external_ids" not in body:
            return
        wanted = [(link["auth_provider"], link["external_id"]) for link in body["external_ids"]]
        for link in wanted:
            if any(link in other.links for other in self.all.values() if other is not account):
                raise MatrixError(409, "M_UNKNOWN", "External id is already in use.")
            if not replace:
                account.links.append(link)
        if replace:
            account.links = wanted

    def deactivate(self, user_id: str, *, erase: bool) -> Account:
        """Deactivate an account; its e-mails are taken off, its links are not."""
        account = self.get(user_id)
        account.emails = []
        if erase:
            account.displayname = None
            account.erased = True
        account.deactivated = True
        return account

    def page(self, query: dict[str, str]) -> dict[str, Any]:
        """Return a page of a list (List Accounts)."""
        found = [
            account.listed()
            for account in self.all.values()
            if (query.get("locked") == "true" or not account.locked)
            and (query.get("deactivated") == "true" or not account.deactivated)
            and ("admins" not in query or account.admin == (query["admins"] == "true"))
        ]
        start, limit = int(query.get("from", 0)), int(query.get("limit", 100))
        answer: dict[str, Any] = {"users": found[start : start + limit], "total": len(found)}
        if start + limit < len(found):
            answer["next_token"] = str(start + limit)
        return answer
