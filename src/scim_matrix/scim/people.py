"""From a SCIM user to what its Matrix account should be (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scim_matrix.localpart import user_id_for
from scim_matrix.store.accounts import Profile, Wanted


@dataclass(frozen=True, slots=True)
class Identity:
    """How users become accounts: the settings of design "Who is who"."""

    server_name: str
    localpart_template: str | None
    sso_subject_attribute: str
    delete_grace: float

    def user_id(self, scim_id: str, user: dict[str, Any]) -> str:
        """Return the Matrix user ID of a new user's account. Raises LocalpartError."""
        emails = _emails(user)
        attributes = {
            "userName": user["userName"],
            **({"externalId": user["externalId"]} if user.get("externalId") else {}),
            **({"email": emails[0]} if emails else {}),
        }
        return user_id_for(self.localpart_template, attributes, self.server_name)

    def wanted(self, scim_id: str, user: dict[str, Any]) -> Wanted:
        """Return what the account of a user should be. Raises LocalpartError."""
        name = user.get("name") or {}
        display_name = user.get("displayName") or name.get("formatted")
        return Wanted(
            "active" if user.get("active", True) else "disabled",
            Profile(
                display_name=display_name or user["userName"],
                emails=_emails(user),
                subject=self.subject(scim_id, user),
            ),
            self.user_id(scim_id, user),
        )

    def subject(self, scim_id: str, user: Mapping[str, Any]) -> str | None:
        """Return a user's SSO subject, None where they have none."""
        if self.sso_subject_attribute == "id":
            return scim_id
        value: Any = user
        for step in _steps(self.sso_subject_attribute):
            value = value.get(step) if isinstance(value, dict) else None
        return value if isinstance(value, str) and value else None


def _steps(path: str) -> list[str]:
    urn, colon, attribute = path.rpartition(":")
    return ([urn] if colon else []) + attribute.split(".")


def _emails(user: dict[str, Any]) -> tuple[str, ...]:
    """Return the e-mail addresses, the primary one first, in lower case as Synapse keeps them."""
    entries = [e for e in user.get("emails") or [] if e.get("value")]
    entries.sort(key=lambda e: not e.get("primary"))
    return tuple(dict.fromkeys(e["value"].lower() for e in entries))
