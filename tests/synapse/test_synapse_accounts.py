"""What reconciliation asks of an account system, kept by whatever system it is (`Accounts`)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from scim_matrix.demo.synapse import IDP, Synapse, User
from scim_matrix.matrix.accounts import Accounts, Change, MatrixAccount, NewAccount
from scim_matrix.matrix.errors import NotFoundError, RefusedError, UnavailableError
from scim_matrix.matrix.server import Homeserver
from tests.conftest import eventually
from tests.synapse.conftest import mxid


@dataclass(frozen=True)
class System:
    """An account system under test, and what is done in it by other hands.

    `make` makes an account of a localpart, `link_elsewhere` links one to an identity at another
    provider, `make_admin` makes one a server administrator.
    """

    accounts: Accounts
    make: Callable[[str], Awaitable[None]]
    link_elsewhere: Callable[[str], Awaitable[None]]
    make_admin: Callable[[str], Awaitable[None]]

    async def new(self, name: str, **more: Any) -> MatrixAccount:
        """Make an account as the service does and return it."""
        made = {"mark": f"id-{name}", "subject": f"sub-{name}", "display_name": name, "emails": ()}
        await self.accounts.create(NewAccount(mxid(name), **{**made, **more}))
        return await self.there(name)

    async def there(self, name: str) -> MatrixAccount:
        """Return an account that has to be there."""
        account = await self.accounts.get(mxid(name))
        assert account is not None
        return account

    async def changed(self, name: str, change: Change) -> MatrixAccount:
        """Change an account and return what it is then.

        A Synapse that has just started cannot reactivate: an index is still being made.
        """
        present = await self.there(name)

        async def done() -> bool:
            try:
                await self.accounts.change(present, change)
            except UnavailableError:
                if change.deactivated is False:
                    return False
                raise
            return True

        await eventually(done, bool, 60)
        return await self.there(name)


async def _synapse(synapse: Synapse, admin: User) -> AsyncIterator[System]:
    async def put(name: str, body: dict[str, Any]) -> None:
        await admin.call("PUT", f"/_synapse/admin/v2/users/{mxid(name)}", body)

    async def link_elsewhere(name: str) -> None:
        account = await admin.call("GET", f"/_synapse/admin/v2/users/{mxid(name)}")
        links = [*account["external_ids"], {"auth_provider": "saml", "external_id": f"s-{name}"}]
        await put(name, {"external_ids": links})

    homeserver = Homeserver.connect(synapse.url, admin.user_id, admin.token, IDP)
    yield System(
        homeserver.accounts,
        make=lambda name: put(name, {}),
        link_elsewhere=link_elsewhere,
        make_admin=lambda name: put(name, {"admin": True}),
    )
    await homeserver.close()


@pytest_asyncio.fixture(loop_scope="session", params=[_synapse])
async def system(
    request: pytest.FixtureRequest, synapse: Synapse, admin: User
) -> AsyncIterator[System]:
    """Return each account system in turn."""
    async for found in request.param(synapse, admin):
        yield found


async def test_an_account_is_made_with_everything_at_once(system: System, tag: str) -> None:
    """What was asked for is there, and it is found by link, mark and e-mail."""
    name = f"{tag}ann"
    account = await system.new(name, display_name="Ann Ö", emails=(f"{tag}Ann@X.org",))
    assert account == MatrixAccount(
        user_id=mxid(name),
        display_name="Ann Ö",
        emails=(f"{tag}ann@x.org",),
        subjects=frozenset({f"sub-{name}"}),
        marks=frozenset({f"id-{name}"}),
    )
    assert account.is_linked
    accounts = system.accounts
    assert await accounts.by_subject(f"sub-{name}") == mxid(name)
    assert await accounts.by_mark(f"id-{name}") == mxid(name)
    assert await accounts.by_email(f"{tag}ANN@x.ORG") == mxid(name)


async def test_an_account_needs_neither_subject_nor_profile(system: System, tag: str) -> None:
    """The mark alone says whose it is."""
    account = await system.new(f"{tag}ann", subject=None, display_name=None)
    assert account.subjects == frozenset()
    assert account.marks == {f"id-{tag}ann"}


async def test_what_is_not_there_is_not_found(system: System, tag: str) -> None:
    """Neither an account, nor a link, a mark or an e-mail address of nobody."""
    accounts = system.accounts
    assert await accounts.get(mxid(f"{tag}nobody")) is None
    assert await accounts.by_subject(f"{tag}nobody") is None
    assert await accounts.by_mark(f"{tag}nobody") is None
    assert await accounts.by_email(f"{tag}nobody@x.org") is None


async def test_an_account_that_is_there_is_not_made_again(system: System, tag: str) -> None:
    """A name that is taken is refused, and whoever has it is as they were."""
    await system.make(f"{tag}ann")
    before = await system.there(f"{tag}ann")
    assert not before.is_linked
    with pytest.raises(RefusedError) as raised:
        await system.new(f"{tag}ann", emails=(f"{tag}ann@x.org",))
    assert raised.value.errcode == "M_USER_IN_USE"
    assert await system.there(f"{tag}ann") == before
    assert await system.accounts.by_mark(f"id-{tag}ann") is None


async def test_a_name_that_no_account_can_have_is_refused(system: System, tag: str) -> None:
    """It makes nothing."""
    for name in (f"{tag}Ann", f"_{tag}ann", f"{tag}a b"):
        with pytest.raises(RefusedError):
            await system.new(name)
        assert await system.accounts.by_mark(f"id-{name}") is None


async def test_a_subject_of_somebody_else_is_refused(system: System, tag: str) -> None:
    """It stays theirs; an account that was made all the same is found by its mark."""
    await system.new(f"{tag}ann", subject=f"{tag}s")
    with pytest.raises(RefusedError):
        await system.new(f"{tag}bob", subject=f"{tag}s")
    assert await system.accounts.by_subject(f"{tag}s") == mxid(f"{tag}ann")
    there = await system.accounts.get(mxid(f"{tag}bob"))
    assert there is None or there.marks == {f"id-{tag}bob"}
    await system.new(f"{tag}cat")
    with pytest.raises(RefusedError):
        await system.changed(f"{tag}cat", Change(add_subject=f"{tag}s"))
    assert await system.accounts.by_subject(f"{tag}s") == mxid(f"{tag}ann")


async def test_a_change_leaves_out_what_it_does_not_say(system: System, tag: str) -> None:
    """Only the display name becomes another one."""
    before = await system.new(f"{tag}ann", emails=(f"{tag}ann@x.org",))
    await system.link_elsewhere(f"{tag}ann")
    after = await system.changed(f"{tag}ann", Change(display_name="Ann B"))
    assert after.display_name == "Ann B"
    assert after.linked_elsewhere
    assert (after.emails, after.subjects, after.marks) == (
        before.emails,
        before.subjects,
        before.marks,
    )


async def test_others_links_are_kept(system: System, tag: str) -> None:
    """Subjects and marks come and go; what somebody else linked stays, though made meanwhile."""
    await system.make(f"{tag}ann")
    before = await system.there(f"{tag}ann")
    await system.link_elsewhere(f"{tag}ann")
    change = Change(add_subject=f"{tag}1", add_mark=f"{tag}id")
    await system.accounts.change(before, change)
    account = await system.there(f"{tag}ann")
    assert account.subjects == {f"{tag}1"}
    assert account.marks == {f"{tag}id"}
    assert account.linked_elsewhere
    change = Change(add_subject=f"{tag}2", drop_subjects=(f"{tag}1",), drop_marks=(f"{tag}id",))
    account = await system.changed(f"{tag}ann", change)
    assert account.subjects == {f"{tag}2"}
    assert account.marks == frozenset()
    assert account.linked_elsewhere


async def test_a_link_that_was_taken_off_leads_nowhere(system: System, tag: str) -> None:
    """At once, though it was looked up a moment ago; and it can go to another account."""
    await system.new(f"{tag}ann", subject=f"{tag}s")
    await system.new(f"{tag}bob", subject=None)
    assert await system.accounts.by_subject(f"{tag}s") == mxid(f"{tag}ann")
    await system.changed(f"{tag}ann", Change(drop_subjects=(f"{tag}s",)))
    assert await system.accounts.by_subject(f"{tag}s") is None
    await system.changed(f"{tag}bob", Change(add_subject=f"{tag}s"))
    assert await system.accounts.by_subject(f"{tag}s") == mxid(f"{tag}bob")


async def test_emails_are_merged(system: System, tag: str) -> None:
    """Those that are added come to those that are there, in any case of letters, once."""
    await system.new(f"{tag}ann", emails=(f"{tag}a@x.org", f"{tag}b@x.org"))
    change = Change(add_emails=(f"{tag}C@X.org", f"{tag}A@x.org"), drop_emails=(f"{tag}B@x.org",))
    account = await system.changed(f"{tag}ann", change)
    assert set(account.emails) == {f"{tag}a@x.org", f"{tag}c@x.org"}
    assert len(account.emails) == 2
    assert await system.accounts.by_email(f"{tag}b@x.org") is None
    assert await system.changed(f"{tag}ann", change) == account


async def test_an_account_is_locked_and_unlocked(system: System, tag: str) -> None:
    """Nothing else about it changes."""
    before = await system.new(f"{tag}ann", emails=(f"{tag}a@x.org",))
    locked = await system.changed(f"{tag}ann", Change(locked=True))
    assert locked.locked
    assert not locked.deactivated
    assert await system.changed(f"{tag}ann", Change(locked=False)) == before


async def test_an_account_is_suspended_and_that_is_lifted(system: System, tag: str) -> None:
    """Nothing else about it changes."""
    before = await system.new(f"{tag}ann")
    assert (await system.changed(f"{tag}ann", Change(suspended=True))).suspended
    assert await system.changed(f"{tag}ann", Change(suspended=False)) == before


async def test_an_account_is_deactivated_and_comes_back(system: System, tag: str) -> None:
    """It is still found by mark and link; what deactivation took is given to it anew."""
    name = f"{tag}ann"
    before = await system.new(name, emails=(f"{tag}a@x.org",))
    gone = await system.changed(name, Change(deactivated=True))
    assert gone.deactivated
    assert not gone.erased
    assert gone.emails == ()
    assert await system.accounts.by_mark(f"id-{name}") == mxid(name)
    assert await system.accounts.by_subject(f"sub-{name}") == mxid(name)
    back = Change(deactivated=False, display_name=name, add_emails=(f"{tag}a@x.org",))
    assert await system.changed(name, back) == before


async def test_an_account_is_erased_after_it_was_deactivated(system: System, tag: str) -> None:
    """The one does not stand for the other; and even then it comes back, by its mark."""
    name = f"{tag}ann"
    before = await system.new(name)
    await system.changed(name, Change(deactivated=True))
    assert (await system.changed(name, Change(deactivated=True, erase=True))).erased
    back = await system.changed(name, Change(deactivated=False, display_name=name))
    assert back == before


async def test_a_locked_account_can_be_deactivated(system: System, tag: str) -> None:
    """And both are taken off it in one change."""
    before = await system.new(f"{tag}ann")
    await system.changed(f"{tag}ann", Change(locked=True))
    gone = await system.changed(f"{tag}ann", Change(deactivated=True))
    assert gone.locked
    assert gone.deactivated
    change = Change(locked=False, deactivated=False, display_name=f"{tag}ann")
    assert await system.changed(f"{tag}ann", change) == before


async def test_administrators_are_known(system: System, admin: User, tag: str) -> None:
    """They are listed, locked ones too, and an account tells it of itself."""
    await system.make(f"{tag}root")
    await system.make(f"{tag}ann")
    await system.make_admin(f"{tag}root")
    assert (await system.there(f"{tag}root")).is_admin
    await system.changed(f"{tag}root", Change(locked=True))
    admins = await system.accounts.admins()
    assert admins is not None
    assert {admin.user_id, mxid(f"{tag}root")} <= admins
    assert mxid(f"{tag}ann") not in admins


async def test_everybody_is_listed(system: System, tag: str) -> None:
    """Locked and deactivated accounts too, with what the list tells of them."""
    for name in ("ann", "bob", "cat"):
        await system.new(f"{tag}{name}")
    await system.changed(f"{tag}bob", Change(locked=True))
    await system.changed(f"{tag}cat", Change(deactivated=True))
    listed = [account async for page in system.accounts.listed() for account in page]
    found = {a.user_id: a for a in listed if a.user_id.startswith(f"@{tag}")}
    assert set(found) == {mxid(f"{tag}{name}") for name in ("ann", "bob", "cat")}
    ann, bob, cat = (found[mxid(f"{tag}{name}")] for name in ("ann", "bob", "cat"))
    assert (ann.locked, ann.deactivated, ann.display_name) == (False, False, f"{tag}ann")
    assert (bob.locked, cat.deactivated) == (True, True)


@pytest.mark.parametrize("name", ["a/b", "x/../y", "..", ".", "a=2fb", "a+b", "...-_"])
async def test_names_that_look_like_paths(system: System, tag: str, name: str) -> None:
    """Accounts of such names are made, found, changed and told apart."""
    other = name.replace("/", "=2f") if "/" in name else f"{tag}{name}"
    # Of names that are nothing but dots there is one; the rest are this test's own.
    name = name if not name.strip(".") else f"{tag}{name}"
    account = await system.new(name, mark=f"{tag}id/{name}", subject=f"{tag}s/{name}")
    assert account.user_id == mxid(name)
    assert await system.accounts.by_mark(f"{tag}id/{name}") == mxid(name)
    assert (await system.changed(name, Change(locked=True))).locked
    assert (await system.changed(name, Change(suspended=True))).suspended
    assert (await system.changed(name, Change(deactivated=True))).deactivated
    assert await system.accounts.get(mxid(other)) is None or other == name


SUBJECTS = [
    "..",
    ".",
    "a/b",
    "x/../y",
    "%",
    "%2e%2e",
    "%2F",
    "a?b=c",
    "a#b",
    "a b",
    "é😀",
    "a;b",
    "+",
]


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_subjects_that_look_like_paths(system: System, tag: str, subject: str) -> None:
    """An identity leads to its account whatever stands in it."""
    await system.new(f"{tag}ann", subject=subject, mark=f"{subject}")
    assert await system.accounts.by_subject(subject) == mxid(f"{tag}ann")
    assert await system.accounts.by_mark(subject) == mxid(f"{tag}ann")


async def test_emails_that_look_like_paths(system: System, tag: str) -> None:
    """An address leads to its account whatever stands in it."""
    addresses = tuple(f"{tag}{a}@x.org" for a in ("a/b", "../c", "a+b", "50%", "a?b", "a#b", "ö"))
    await system.new(f"{tag}ann", emails=addresses)
    for address in addresses:
        assert await system.accounts.by_email(address) == mxid(f"{tag}ann")


# -- Synapse alone --------------------------------------------------------


async def test_telephone_numbers_are_kept(
    synapse: Synapse, admin: User, system: System, tag: str
) -> None:
    """What is no e-mail address is somebody else's business."""
    await system.new(f"{tag}ann", emails=(f"{tag}a@x.org",))
    path = f"/_synapse/admin/v2/users/{mxid(f'{tag}ann')}"
    held = (await admin.call("GET", path))["threepids"]
    number = {"medium": "msisdn", "address": f"4912345{tag.strip('t-')}"}
    await admin.call("PUT", path, {"threepids": [*held, number]})
    change = Change(drop_emails=(f"{tag}a@x.org",), add_emails=(f"{tag}b@x.org",))
    await system.changed(f"{tag}ann", change)
    held = (await admin.call("GET", path))["threepids"]
    assert sorted((t["medium"], t["address"]) for t in held) == [
        ("email", f"{tag}b@x.org"),
        ("msisdn", number["address"]),
    ]


async def test_sign_ins_follow_a_link_that_was_taken_off(
    synapse: Synapse, admin: User, system: System, tag: str
) -> None:
    """Synapse itself no longer finds the account by it: its memory of the link was renewed."""
    await system.new(f"{tag}ann", subject=f"{tag}s")
    path = f"/_synapse/admin/v1/auth_providers/{IDP}/users/{tag}s"
    assert (await admin.call("GET", path))["user_id"] == mxid(f"{tag}ann")
    await system.changed(f"{tag}ann", Change(drop_subjects=(f"{tag}s",)))
    with pytest.raises(Exception, match="404"):
        await admin.call("GET", path)


async def test_a_link_that_others_took_off_is_not_believed(
    synapse: Synapse, admin: User, system: System, tag: str
) -> None:
    """Synapse goes on to find the account by it; the account itself has the last word."""
    await system.new(f"{tag}ann", subject=f"{tag}s")
    assert await system.accounts.by_subject(f"{tag}s") == mxid(f"{tag}ann")
    path = f"/_synapse/admin/v2/users/{mxid(f'{tag}ann')}"
    await admin.call("PUT", path, {"external_ids": []})
    assert await system.accounts.by_subject(f"{tag}s") is None
    assert await system.accounts.by_mark(f"id-{tag}ann") is None


async def test_the_token_says_whose_it_is(synapse: Synapse, admin: User, tag: str) -> None:
    """Whatever account is configured: the homeserver's word is returned, and changes nothing."""
    homeserver = Homeserver.connect(synapse.url, mxid(f"{tag}other"), admin.token, IDP)
    try:
        assert await homeserver.whoami() == admin.user_id
        assert homeserver.user_id == mxid(f"{tag}other")
    finally:
        await homeserver.close()


CHANGES = [
    Change(display_name="Ann"),
    Change(add_mark="id"),
    Change(add_emails=("ann@x.org",)),
    Change(locked=True),
    Change(suspended=True),
    Change(deactivated=True),
    Change(deactivated=False),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_to_nobody_makes_nobody(system: System, tag: str, change: Change) -> None:
    """An account that vanished is not made anew, open, by a change of what it was."""
    with pytest.raises(NotFoundError):
        await system.accounts.change(MatrixAccount(mxid(f"{tag}nobody")), change)
    assert await system.accounts.get(mxid(f"{tag}nobody")) is None
