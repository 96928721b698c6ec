"""Somebody provisioned over SCIM signs in at a real OpenID provider, in a real browser."""

from typing import Any

import pytest
from playwright.async_api import Browser

from scim_matrix.demo.service import ScimClient
from tests.synapse import browsing, signing_on
from tests.synapse.conftest import mxid, settled
from tests.synapse.signing_on import Staff

pytestmark = browsing.needs_chromium
browser = browsing.browser
staff = signing_on.staff

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


@pytest.mark.parametrize(
    ("attribute", "sent", "subject"),
    [
        ("externalId", {"externalId": "4f1c"}, "4f1c"),
        ("userName", {}, None),
        (f"{ENTERPRISE}:employeeNumber", {ENTERPRISE: {"employeeNumber": "0815"}}, "0815"),
        ("id", {}, None),
    ],
    ids=["externalId", "userName", "path", "id"],
)
async def test_whoever_signs_in_is_the_provisioned_account(
    browser: Browser,
    staff: Staff,
    tag: str,
    attribute: str,
    sent: dict[str, Any],
    subject: str | None,
) -> None:
    """The subject leads to the account that SCIM made, and no second one is made."""
    name = f"{tag}ann"
    async with staff.service(SSO_SUBJECT_ATTRIBUTE=attribute) as process:
        idp = ScimClient(process.url)
        scim_id = await idp.create_user(name, **sent)
        await settled(idp)
        before = await staff.accounts()
        subject = subject or {"userName": name, "id": scim_id}[attribute]
        staff.provider.knows(subject, name)
        assert mxid(name) == await staff.sign_in(browser, subject)
        assert before == await staff.accounts()
