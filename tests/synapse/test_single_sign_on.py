"""Somebody provisioned over SCIM signs in at a real OpenID provider, in a real browser."""

from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.async_api import Browser

from scim_matrix.demo.service import ScimClient
from tests.synapse import browsing, signing_on
from tests.synapse.conftest import compared, mxid, shown, shown_with_cure, told
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
        await shown(process, "users", name, state="active")
        before = await staff.accounts()
        subject = subject or {"userName": name, "id": scim_id}[attribute]
        staff.provider.knows(subject, name)
        assert mxid(name) == await staff.sign_in(browser, subject)
        assert before == await staff.accounts()


async def test_a_wrong_subject_is_shown(browser: Browser, staff: Staff, tag: str) -> None:
    """Where the two values differ, `users` and `check` name the second account, and both values."""
    name = f"{tag}ann"
    async with staff.service() as process:
        idp = ScimClient(process.url)
        await idp.create_user(name, externalId=f"{tag}of-scim")
        await shown(process, "users", name, state="active")
        [before] = await told(process, "users", "--match", name)
        assert before["problem"] is None
        assert before["subject"] == f"{tag}of-scim"

        staff.provider.knows(f"{tag}of-oidc", name)
        second = await staff.sign_in(browser, f"{tag}of-oidc")
        assert second == mxid(f"{name}1")

        findings = await told(process, "check")
        [error] = [f for f in findings if f["verdict"] == "error"]
        assert error["about"] == "SSO_SUBJECT_ATTRIBUTE"
        assert "signed in by SSO as another account" in error["found"]
        for word in (mxid(name), second, f"{tag}of-scim", f"{tag}of-oidc"):
            assert word in error["found"]
        await compared(process)
        shown_now = await shown_with_cure(process, "users", name)
        assert f"signed in by SSO as another account, {second}" in shown_now["problem"]

        await staff.admin.call(
            "POST", f"/_synapse/admin/v1/deactivate/{quote(second)}", {"erase": False}
        )
        await compared(process)
        await shown(process, "users", name, problem=None)
        assert not [f for f in await told(process, "check") if f["verdict"] == "error"]


async def test_who_signed_in_before_with_another_subject_is_in_conflict(
    browser: Browser, staff: Staff, tag: str
) -> None:
    """Both subjects are shown at the user; once they are the same, the account is theirs."""
    name = f"{tag}ann"
    staff.provider.knows(f"{tag}of-oidc", name)
    assert await staff.sign_in(browser, f"{tag}of-oidc") == mxid(name)
    async with staff.service() as process:
        idp = ScimClient(process.url)
        scim_id = await idp.create_user(name, externalId=f"{tag}of-scim")
        conflict = await shown_with_cure(process, "users", name, state="conflict")
        assert f"{tag}of-oidc; the user's is {tag}of-scim" in conflict["problem"]
        right = {"userName": name, "externalId": f"{tag}of-oidc"}
        await idp.ok("PUT", f"/Users/{scim_id}", right)
        await shown(process, "users", name, state="active", bound="link", account=mxid(name))
        assert await staff.sign_in(browser, f"{tag}of-oidc") == mxid(name)


async def test_a_wrong_subject_under_another_name_is_counted(
    browser: Browser, staff: Staff, tag: str
) -> None:
    """Who comes with a subject that no user has, under a name of its own, is told by `check`."""
    async with staff.service() as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann", externalId=f"{tag}of-scim")
        await shown(process, "users", f"{tag}ann", state="active")
        staff.provider.knows(f"{tag}of-oidc", f"{tag}somebody")
        assert await staff.sign_in(browser, f"{tag}of-oidc") == mxid(f"{tag}somebody")
        findings = [
            f for f in await told(process, "check") if f["about"] == "SSO_SUBJECT_ATTRIBUTE"
        ]
        assert [f["verdict"] for f in findings] == ["ok", "warning"]
        assert "with a subject that no user has" in findings[1]["found"]


async def test_no_second_account_is_made_where_synapse_makes_none(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, tag: str
) -> None:
    """With `enable_registration: false` a wrong subject is refused, and the right one is not."""
    async with (
        signing_on.running(tmp_path_factory, enable_registration=False) as staff,
        staff.service() as process,
    ):
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann", externalId="of-scim")
        await shown(process, "users", f"{tag}ann", state="active")
        before = await staff.accounts()
        staff.provider.knows("of-oidc", f"{tag}ann")
        staff.provider.knows("of-scim", f"{tag}ann")
        page = await browser.new_page()
        await page.goto(staff.begin())
        await signing_on.at_the_provider(page, "of-oidc")
        await page.get_by_text("registrations are disabled").wait_for()
        await page.close()
        assert await staff.sign_in(browser, "of-scim") == mxid(f"{tag}ann")
        assert before == await staff.accounts()


async def test_the_console_signs_in_the_same_way(browser: Browser, staff: Staff, tag: str) -> None:
    """Single sign-on to the console ends as the provisioned account, and makes no second one."""
    name = f"{tag}boss"
    async with staff.service(CONSOLE="true", CONSOLE_MANAGERS=f"@{name}:*") as process:
        idp = ScimClient(process.url)
        await idp.create_user(name, externalId=f"{tag}of-both")
        await shown(process, "users", name, state="active")
        before = await staff.accounts()
        staff.provider.knows(f"{tag}of-both", name)
        page = await browser.new_page()
        await page.goto(f"{process.more['PUBLIC_URL']}/console/")
        await page.get_by_role("link", name="Continue with single sign-on").click()
        await signing_on.authenticate(page, f"{tag}of-both")
        await page.get_by_text(mxid(name)).first.wait_for()
        assert urlsplit(page.url).path.startswith("/console/")
        await page.close()
        assert before == await staff.accounts()
