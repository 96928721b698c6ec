"""Whether single sign-on leads to the accounts that were made over SCIM."""

from collections import deque
from collections.abc import Collection

from scim_matrix.config import Settings
from scim_matrix.matrix.accounts import Accounts, MatrixAccount
from scim_matrix.ops.findings import Finding
from scim_matrix.problems import cure_of_second
from scim_matrix.store import accounts, second_accounts, views
from scim_matrix.store.database import Connection, Database
from scim_matrix.sync.second_accounts import Search, is_nobodys

_ABOUT = "SSO_SUBJECT_ATTRIBUTE"
_PAGE = "docs/setup/README.md"
# The newest accounts that are no user's, of which it is asked whose sign-in made them.
_NEWEST = 20
_MOST_SHOWN = 5


async def of_sign_in(settings: Settings, homeserver: Accounts) -> list[Finding]:
    """Tell whether users have SSO subjects, and who came with one that no user has.

    Says nothing before there are users. Raises what `Accounts` does.
    """
    database = await Database.open(settings.place)
    try:
        connection = database.scanner
        counts = await views.subjects(connection)
        if not counts["users"]:
            return []
        findings = _of_counts(settings, counts)
        search = Search(connection, homeserver)
        newest = await _read(connection, homeserver, search, settings.matrix_admin_user_id)
        for second in search.found[:_MOST_SHOWN]:
            account = await accounts.get(connection, second.account_id)
            assert account is not None
            findings.append(_of_second(account, second))
        seen = {second.user_id for second in search.found}
        strange = [a for a in newest if a.user_id not in seen and await is_nobodys(connection, a)]
        return [*findings, *_of_strange(settings, strange, len(newest))]
    finally:
        await database.close()


async def _read(
    connection: Connection, homeserver: Accounts, search: Search, own: str
) -> list[MatrixAccount]:
    """Read all accounts: let `search` look at them, and return the newest that are no user's."""
    newest: deque[str] = deque(maxlen=_NEWEST)
    async for page in homeserver.listed():
        await search.among(page)
        names = [a.user_id for a in page if not (a.deactivated or a.is_admin or a.user_id == own)]
        users = await second_accounts.users_own(connection, names)
        newest.extend(name for name in names if name not in users)
    found = [await homeserver.get(name) for name in newest]
    return [account for account in found if account is not None]


def _of_counts(settings: Settings, counts: dict[str, int]) -> list[Finding]:
    attribute = settings.sso_subject_attribute
    found = []
    if linked := counts["linked"]:
        said = f"{linked} of {counts['users']} users' accounts are linked by their {attribute}"
        found.append(Finding("ok", _ABOUT, said))
    if without := counts["users"] - counts["with_subject"]:
        said = f"{without} of {counts['users']} users have no {attribute}"
        cure = f"have the identity provider send it, or name what it sends: {_PAGE}"
        found.append(
            Finding("warning", _ABOUT, f"{said}: no sign-in leads to their accounts", cure)
        )
    return found


def _of_second(first: accounts.Account, second: second_accounts.SecondAccount) -> Finding:
    return Finding(
        "error",
        _ABOUT,
        f"{first.user_id}'s user signed in by SSO as another account, {second.user_id}, whose"
        f" subject is {second.subject}; theirs is {first.profile.subject or 'not known'}",
        cure_of_second(str(first.scim_id), second.user_id),
    )


def _of_strange(
    settings: Settings, strange: Collection[MatrixAccount], looked: int
) -> list[Finding]:
    if not strange:
        return []
    example = min(strange, key=lambda account: account.user_id)
    provider = settings.idp_name or "the identity provider"
    return [
        Finding(
            "warning",
            _ABOUT,
            f"of the {looked} newest accounts that are no user's, {len(strange)} signed in through"
            f" {provider} with a subject that no user has, such as {example.user_id}"
            f" ({min(example.subjects)})",
            "right for people who are not sent over SCIM; else let the subject and"
            f" {settings.sso_subject_attribute} be the same: {_PAGE}",
        )
    ]
