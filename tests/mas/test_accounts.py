"""What is asked of accounts holds on both systems that keep them: Synapse and MAS."""

import aiohttp
import pytest

from scim_matrix.demo.synapse import SERVER_NAME, User
from scim_matrix.matrix.accounts import Change, MatrixAccount, NewAccount
from scim_matrix.matrix.errors import RefusedError, UnavailableError
from tests.conftest import eventually
from tests.mas.conftest import World

WHOAMI = "/_matrix/client/v3/account/whoami"


def new(name: str, **more: object) -> NewAccount:
    """Return what an account of a name is made with."""
    made = NewAccount(
        f"@{name}:{SERVER_NAME}", f"scim-{name}", f"sub-{name}", name.title(), (f"{name}@x.test",)
    )
    return NewAccount(**{f: more.get(f, getattr(made, f)) for f in made.__slots__})  # type: ignore[arg-type]


async def seen(world: World, user_id: str) -> MatrixAccount:
    """Return an account as it is when everything has come through."""
    await world.settled()
    account = await world.accounts.get(user_id)
    assert account is not None
    return account


async def brought_back(world: World, account: MatrixAccount, change: Change) -> MatrixAccount:
    """Reactivate an account and return it as it is then.

    A Synapse that has just started cannot: an index is still being made.
    """

    async def done() -> bool:
        try:
            await world.accounts.change(account, change)
        except UnavailableError:
            return False
        return True

    await eventually(done, bool, 60)
    return await seen(world, account.user_id)


async def is_let_in(user: User) -> bool:
    """Tell whether the homeserver takes somebody's token."""
    headers = {"Authorization": f"Bearer {user.token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(user.url + WHOAMI) as answer,
    ):
        assert answer.status in (200, 401)
        return answer.status == 200


async def test_nobody_is_found_where_nobody_is(world: World, tag: str) -> None:
    """Whoever does not exist is not found, in whichever way they are looked for."""
    accounts = world.accounts
    assert await accounts.by_subject(f"{tag}nobody") is None
    assert await accounts.by_mark(f"{tag}nobody") is None
    assert await accounts.by_email(f"{tag}nobody@x.test") is None
    assert await accounts.get(f"@{tag}nobody:{SERVER_NAME}") is None


async def test_a_new_account_is_what_was_asked_for(world: World, tag: str) -> None:
    """A new account has its name, e-mails and link, is found by them, and is no administrator's."""
    wanted = new(f"{tag}a")
    await world.accounts.create(wanted)
    account = await seen(world, wanted.user_id)
    assert account.display_name == wanted.display_name
    assert account.emails == wanted.emails
    assert account.subjects == {wanted.subject}
    assert account.marks == {wanted.mark}
    assert not account.linked_elsewhere
    assert not account.is_admin
    assert not account.locked
    assert not account.deactivated
    assert not account.suspended
    assert await world.accounts.by_subject(f"sub-{tag}a") == wanted.user_id
    assert await world.accounts.by_email(f"{tag}A@x.test") == wanted.user_id


async def test_an_account_without_a_subject_is_found_by_its_mark(world: World, tag: str) -> None:
    """Where the identity provider gives no subject, the mark says for whom an account was made."""
    wanted = new(f"{tag}a", subject=None)
    await world.accounts.create(wanted)
    assert await world.accounts.by_mark(wanted.mark) == wanted.user_id
    account = await seen(world, wanted.user_id)
    assert account.marks == {wanted.mark}
    assert account.is_linked
    await world.accounts.change(account, Change(drop_marks=(wanted.mark,)))
    assert await world.accounts.by_mark(wanted.mark) is None


async def test_a_taken_name_is_refused(world: World, tag: str) -> None:
    """An account is never made over another one: not somebody's, not a former one."""
    user_id = await world.by_hand(f"{tag}a")
    before = await seen(world, user_id)
    with pytest.raises(RefusedError) as refused:
        await world.accounts.create(new(f"{tag}a"))
    assert refused.value.errcode == "M_USER_IN_USE"
    assert await seen(world, user_id) == before
    await world.accounts.change(before, Change(deactivated=True))
    await world.settled()
    with pytest.raises(RefusedError) as refused:
        await world.accounts.create(new(f"{tag}a"))
    assert refused.value.errcode == "M_USER_IN_USE"
    assert (await seen(world, user_id)).deactivated
    assert await world.accounts.by_subject(f"sub-{tag}a") is None


@pytest.mark.parametrize("name", ["_under", "Capital", "bl ank", "ümlaut"])
async def test_a_name_outside_the_alphabet_is_refused(world: World, tag: str, name: str) -> None:
    """A name that the system does not allow makes no account, and the reason says so."""
    with pytest.raises(RefusedError) as refused:
        await world.accounts.create(new(f"{name}{tag}"))
    assert str(refused.value).startswith("400 M_INVALID_USERNAME: ")


async def test_every_allowed_character_makes_an_account(world: World, tag: str) -> None:
    """Slashes, dots, plus and equals signs in a name are characters like others."""
    wanted = new(f"{tag}a/../b+c=d_e.f?".removesuffix("?"), emails=())
    await world.accounts.create(wanted)
    assert await world.accounts.by_subject(str(wanted.subject)) == wanted.user_id
    assert (await seen(world, wanted.user_id)).user_id == wanted.user_id


async def test_a_lock_keeps_sessions(world: World, tag: str) -> None:
    """Whoever is locked is kept out, and goes on with the same session when the lock is off."""
    wanted = new(f"{tag}a")
    await world.accounts.create(wanted)
    await world.settled()
    # Synapse remembers for two minutes what MAS said of a token, be it good or bad.
    first, second = [await world.signed_in(wanted.user_id, device) for device in ("A", "B")]
    await world.accounts.change(await seen(world, wanted.user_id), Change(locked=True))
    locked = await seen(world, wanted.user_id)
    assert locked.locked
    assert not locked.deactivated
    assert not await is_let_in(first)
    await world.accounts.change(locked, Change(locked=False))
    assert not (await seen(world, wanted.user_id)).locked
    assert await is_let_in(second)


async def test_deactivation_and_the_way_back(world: World, tag: str) -> None:
    """A deactivated account leaves its rooms and is not erased; it comes back whole."""
    wanted = new(f"{tag}a")
    await world.accounts.create(wanted)
    await world.settled()
    room = await world.admin.create_room()
    await world.admin.call("POST", f"/_synapse/admin/v1/join/{room}", {"user_id": wanted.user_id})
    await world.accounts.change(await seen(world, wanted.user_id), Change(deactivated=True))
    gone = await seen(world, wanted.user_id)
    assert gone.deactivated
    assert not gone.erased
    assert gone.emails == ()
    await eventually(lambda: world.admin.members(room), lambda members: f"{tag}a" not in members)
    back = Change(
        deactivated=False,
        locked=False,
        display_name=wanted.display_name,
        add_emails=wanted.emails,
        add_subject=wanted.subject,
    )
    account = await brought_back(world, gone, back)
    assert not account.deactivated
    assert account.display_name == wanted.display_name
    assert account.emails == wanted.emails
    assert account.subjects == {wanted.subject}
    assert await is_let_in(await world.signed_in(wanted.user_id, "DEV"))


async def test_erasure_only_where_it_is_asked_for(world: World, tag: str) -> None:
    """An account is erased where that was asked for."""
    wanted = new(f"{tag}a")
    await world.accounts.create(wanted)
    account = await seen(world, wanted.user_id)
    await world.accounts.change(account, Change(deactivated=True, erase=True))
    gone = await seen(world, wanted.user_id)
    assert gone.deactivated
    assert gone.erased


async def test_reactivation_leaves_a_lock_in_place(world: World, tag: str) -> None:
    """A lock that nobody asked to take off stays, also over a reactivation."""
    wanted = new(f"{tag}a")
    await world.accounts.create(wanted)
    account = await seen(world, wanted.user_id)
    await world.accounts.change(account, Change(locked=True, deactivated=True))
    gone = await seen(world, wanted.user_id)
    assert gone.locked
    assert gone.deactivated
    back = await brought_back(world, gone, Change(deactivated=False))
    assert back.locked
    assert not back.deactivated


async def test_only_ones_own_links_change(world: World, tag: str) -> None:
    """A subject is exchanged for another one; what somebody else linked stays."""
    wanted = new(f"{tag}a")
    await world.accounts.create(wanted)
    account = await seen(world, wanted.user_id)
    await world.accounts.change(account, Change(add_subject=f"sub2-{tag}"))
    account = await seen(world, wanted.user_id)
    assert account.subjects == {wanted.subject, f"sub2-{tag}"}
    exchange = Change(drop_subjects=(str(wanted.subject),), add_subject=f"sub3-{tag}")
    await world.accounts.change(account, exchange)
    assert (await seen(world, wanted.user_id)).subjects == {f"sub2-{tag}", f"sub3-{tag}"}
    assert await world.accounts.by_subject(str(wanted.subject)) is None


async def test_the_subject_of_another_is_refused(world: World, tag: str) -> None:
    """A subject that leads to one account is not made to lead to another one."""
    owner = await world.linked(f"{tag}owner", f"{tag}sub")
    wanted = new(f"{tag}a")
    await world.accounts.create(wanted)
    account = await seen(world, wanted.user_id)
    with pytest.raises(RefusedError) as refused:
        await world.accounts.change(account, Change(add_subject=f"{tag}sub"))
    assert refused.value.status == 409
    assert await world.accounts.by_subject(f"{tag}sub") == owner
    assert (await seen(world, wanted.user_id)).subjects == {wanted.subject}


async def test_subjects_are_compared_exactly(world: World, tag: str) -> None:
    """A subject in other letters is another one."""
    owner = await world.linked(f"{tag}a", f"{tag}Sub+ü/&=%")
    assert await world.accounts.by_subject(f"{tag}Sub+ü/&=%") == owner
    assert await world.accounts.by_subject(f"{tag}sub+ü/&=%") is None


async def test_emails_come_and_go(world: World, tag: str) -> None:
    """Addresses are added and taken away one by one; those that nobody named stay."""
    wanted = new(f"{tag}a", emails=(f"{tag}1@x.test", f"{tag}2@x.test"))
    await world.accounts.create(wanted)
    account = await seen(world, wanted.user_id)
    change = Change(drop_emails=(f"{tag}1@x.test",), add_emails=(f"{tag}3@x.test",))
    await world.accounts.change(account, change)
    account = await seen(world, wanted.user_id)
    assert set(account.emails) == {f"{tag}2@x.test", f"{tag}3@x.test"}


async def test_doing_it_again_changes_nothing(world: World, tag: str) -> None:
    """What is there already is success: the same link, the same address, the same lock."""
    wanted = new(f"{tag}a")
    await world.accounts.create(wanted)
    change = Change(add_emails=wanted.emails, add_subject=wanted.subject, locked=True)
    for _ in range(2):
        await world.accounts.change(await seen(world, wanted.user_id), change)
    account = await seen(world, wanted.user_id)
    assert account.emails == wanted.emails
    assert account.subjects == {wanted.subject}
    assert account.locked


async def test_names_and_suspension(world: World, tag: str) -> None:
    """A display name and a suspension are set, and the suspension taken off."""
    wanted = new(f"{tag}a")
    await world.accounts.create(wanted)
    account = await seen(world, wanted.user_id)
    await world.accounts.change(account, Change(display_name="Ä & Ö", suspended=True))
    account = await seen(world, wanted.user_id)
    assert (account.display_name, account.suspended) == ("Ä & Ö", True)
    await world.accounts.change(account, Change(suspended=False))
    assert not (await seen(world, wanted.user_id)).suspended


async def test_administrators_are_known(world: World, tag: str) -> None:
    """Who administers the server is told, nobody else."""
    chief = await world.by_hand(f"{tag}chief", admin=True)
    other = await world.by_hand(f"{tag}other")
    admins = await world.accounts.admins()
    assert admins is not None
    assert chief in admins
    assert other not in admins
    assert (await seen(world, chief)).is_admin


async def test_every_account_is_listed_with_what_a_list_tells(world: World, tag: str) -> None:
    """Lists have everybody, those who are locked or deactivated too."""
    for name, change in (
        ("a", Change(display_name="A")),
        ("b", Change(locked=True)),
        ("c", Change(deactivated=True)),
    ):
        await world.accounts.create(new(f"{tag}{name}"))
        account = await seen(world, f"@{tag}{name}:{SERVER_NAME}")
        await world.accounts.change(account, change)
    await world.settled()
    listed = {a.user_id: a async for page in world.accounts.listed() for a in page}
    a, b, c = (listed[f"@{tag}{name}:{SERVER_NAME}"] for name in "abc")
    assert not a.locked
    assert not a.deactivated
    assert b.locked
    assert c.deactivated
