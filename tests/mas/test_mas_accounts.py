"""What is particular about accounts that belong to MAS."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from scim_matrix.demo.mas import CLIENT_ID, CLIENT_SECRET, ISSUER, Mas
from scim_matrix.demo.mas_state import Account
from scim_matrix.demo.synapse import IDP, SERVER_NAME, User
from scim_matrix.matrix.accounts import Change, MatrixAccount
from scim_matrix.matrix.errors import NameTakenError, NotFoundError, RefusedError, UnavailableError
from scim_matrix.matrix.mas import MasAccounts
from scim_matrix.matrix.mas_answers import MasUnavailableError
from scim_matrix.matrix.mas_client import MasClient
from scim_matrix.matrix.synapse_accounts import SynapseAccounts
from scim_matrix.matrix.transport import Transport
from tests.conftest import eventually
from tests.mas.conftest import Delegated, MasWorld
from tests.mas.test_accounts import brought_back, is_let_in, new
from tests.synapse.proxy import proxying

Accounts = Callable[..., MasAccounts]


@pytest.fixture
def over(client: MasClient, transport: Transport) -> Accounts:
    """Return what makes accounts with options of their own."""

    def make(**more: object) -> MasAccounts:
        synapse = SynapseAccounts(transport, IDP)
        return MasAccounts(client, synapse, SERVER_NAME, **more)  # type: ignore[arg-type]

    return make


def mxid(name: str) -> str:
    """Return the user ID of a localpart."""
    return f"@{name}:{SERVER_NAME}"


async def signed_in(mas: Mas, accounts: MasAccounts, name: str) -> tuple[Account, MatrixAccount]:
    """Have an account be made and used; return it as MAS has it and as it is seen."""
    await accounts.create(new(name))
    person, account = mas.state.account_named(name), await accounts.get(mxid(name))
    assert person is not None
    assert account is not None
    await mas.session(person, "DEV")
    return person, account


# -- What it costs -----------------------------------------------------------


async def test_a_new_user_costs_three_requests(mas: Mas, accounts: MasAccounts, tag: str) -> None:
    """Whose the subject is, the account, the link: three requests; one more for an e-mail."""
    await accounts.by_subject("warm up: token and provider")
    for name, emails in (("a", ()), ("b", (f"{tag}b@x.test",))):
        mas.requests.clear()
        wanted = new(f"{tag}{name}", emails=emails)
        assert await accounts.by_subject(str(wanted.subject)) is None
        assert await accounts.by_mark(wanted.mark) is None
        for email in emails:
            assert await accounts.by_email(email) is None
        await accounts.create(wanted)
        paths = [(method, path.partition("?")[0]) for method, path in mas.asked]
        assert paths == [
            ("GET", "/upstream-oauth-links"),
            ("POST", "/users"),
            ("POST", "/upstream-oauth-links"),
            *[("POST", "/user-emails") for _ in emails],
        ]


async def test_synapses_part_costs_mas_nothing(mas: Mas, accounts: MasAccounts, tag: str) -> None:
    """A display name, a suspension or no change at all is no request to MAS."""
    await accounts.create(new(f"{tag}a"))
    account = await accounts.get(mxid(f"{tag}a"))
    assert account is not None
    mas.requests.clear()
    await accounts.change(account, Change())
    await accounts.change(account, Change(display_name="B", suspended=True))
    assert mas.requests == []


# -- Answers to something else -------------------------------------------------


async def test_a_list_of_what_was_not_asked_for_is_no_answer(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """A proxy that drops queries has MAS list everybody's links: none of them is the user's."""
    wanted = new(f"{tag}a")
    await accounts.create(wanted)
    await accounts.create(new(f"{tag}victim"))
    link = mas.add_link(f"sub-{tag}b", mas.state.account_named(f"{tag}victim"))
    link.provider_id = mas.add_provider("https://other.test").id
    listed = {
        "/upstream-oauth-links?": [x.shown() for x in mas.state.links.values()],
        "/user-emails?": [x.shown() for x in mas.state.emails.values()],
    }

    def unfiltered(method: str, path: str) -> web.Response | None:
        found = [data for part, data in listed.items() if part in path and method == "GET"]
        return web.json_response({"data": found[0], "links": {}}) if found else None

    mas.fault = unfiltered
    for subject in (f"sub-{tag}b", f"sub-{tag}nobody"):
        with pytest.raises(MasUnavailableError):
            await accounts.by_subject(subject)
    with pytest.raises(MasUnavailableError):
        await accounts.get(wanted.user_id)
    listed["/upstream-oauth-links?"].clear()
    with pytest.raises(MasUnavailableError):
        await accounts.get(wanted.user_id)


async def test_an_answer_about_another_user_is_none(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Where a proxy answers with somebody else nobody is linked to them, nor found as them."""
    victim = await mas.add_account(f"{tag}victim")
    link = mas.add_link(f"sub-{tag}linked", await mas.add_account(f"{tag}b"))
    shown = {"data": victim.shown()}

    def mixed_up(method: str, path: str) -> web.Response | None:
        if method == "POST" and path.endswith("/users"):
            return web.json_response(shown, status=201)
        return web.json_response(shown) if path.endswith(str(link.user_id)) else None

    mas.fault = mixed_up
    with pytest.raises(MasUnavailableError):
        await accounts.create(new(f"{tag}a"))
    with pytest.raises(MasUnavailableError):
        await accounts.by_subject(f"sub-{tag}linked")
    assert all(x.user_id != victim.id for x in mas.state.links.values())
    assert all(e.user_id != victim.id for e in mas.state.emails.values())


# -- Links and e-mails -------------------------------------------------------


async def test_a_link_that_nobody_owned_is_taken_over_and_told(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """A link without a user, left by a sign-in that was not finished, is used and logged."""
    wanted = new(f"{tag}a")
    link = mas.add_link(str(wanted.subject), None)
    assert await accounts.by_subject(str(wanted.subject)) is None
    with capture_logs() as logs:
        await accounts.create(wanted)
    assert await accounts.by_subject(str(wanted.subject)) == wanted.user_id
    told = [e for e in logs if e["event"] == "orphan_link_taken_over"]
    assert [(e["user_id"], e["link"]) for e in told] == [(wanted.user_id, link.id)]


async def test_whoever_signed_in_first_is_found_under_any_name(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """A person who signed in before they were provisioned has the account that MAS gave them."""
    user = await mas.sign_in(f"sub-{tag}", f"{tag}other-name", "DEV")
    assert await accounts.by_subject(f"sub-{tag}") == user.user_id


async def test_who_is_of_another_server_is_nobody_here(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Whoever has the same name at this one."""
    await mas.add_account(f"{tag}a")
    assert await accounts.get(mxid(f"{tag}a")) is not None
    assert await accounts.get(f"@{tag}a:elsewhere.test") is None


async def test_links_of_other_providers_are_not_ours(mas: Mas, over: Accounts, tag: str) -> None:
    """The same subject at another provider is somebody else; the account shows it is linked."""
    other = mas.add_provider("https://other.test")
    account = await mas.add_account(f"{tag}a")
    link = mas.add_link(f"sub-{tag}", account)
    link.provider_id = other.id
    accounts = over(provider=ISSUER)
    assert await accounts.by_subject(f"sub-{tag}") is None
    found = await accounts.get(mxid(f"{tag}a"))
    assert found is not None
    assert found.subjects == frozenset()
    assert found.linked_elsewhere
    await accounts.change(found, Change(add_subject=f"sub-{tag}", drop_subjects=(f"sub-{tag}",)))
    assert {x.provider_id for x in mas.state.links.values() if x.subject == f"sub-{tag}"} == {
        other.id,
        mas.provider.id,
    }


async def test_an_email_of_another_stays_there_and_all_else_is_done(
    mas: Mas, accounts: MasAccounts, delegated: Delegated, tag: str
) -> None:
    """An address that MAS knows of another is told with whose it is, and so is a malformed one."""
    owner = await mas.add_account(f"{tag}owner")
    wanted = new(f"{tag}a", emails=(f"{tag}Taken@x.test", "two words@x.test", f"{tag}free@x.test"))
    await accounts.create(new(f"{tag}b", emails=(f"{tag}taken@x.test",)))
    taken = next(e for e in mas.state.emails.values() if e.email == f"{tag}taken@x.test")
    # As where Synapse has not heard of it.
    taken.user_id = owner.id
    await mas.homeserver.idle()
    await delegated.admin.call(
        "PUT", f"/_synapse/admin/v2/users/{mxid(f'{tag}b')}", {"threepids": []}
    )
    assert await accounts.by_email(f"{tag}taken@x.test") is None
    refused = await accounts.create(wanted)
    assert refused.keys() == {f"{tag}Taken@x.test", "two words@x.test"}
    assert refused[f"{tag}Taken@x.test"] == f"belongs to {mxid(f'{tag}owner')}"
    account = await accounts.get(wanted.user_id)
    assert account is not None
    assert account.emails == (f"{tag}free@x.test",)
    assert account.subjects == {wanted.subject}
    assert taken.user_id == owner.id
    change = Change(add_emails=("two words@x.test",), display_name="B")
    assert (await accounts.change(account, change)).keys() == {"two words@x.test"}
    changed = await accounts.get(wanted.user_id)
    assert changed is not None
    assert changed.display_name == "B"


@pytest.mark.parametrize(
    ("status", "says"),
    [(400, "is refused by MAS: because"), (409, "belonged to another account a moment ago")],
)
async def test_why_mas_does_not_take_an_address_is_told(
    mas: Mas, accounts: MasAccounts, tag: str, status: int, says: str
) -> None:
    """In its words, or that it was somebody's; the account is made all the same."""
    told = {"errors": [{"title": "because"}]}
    mas.fault = lambda method, path: (
        web.json_response(told, status=status) if method == "POST" and "emails" in path else None
    )
    assert await accounts.create(new(f"{tag}a")) == {f"{tag}a@x.test": says}
    assert await accounts.get(mxid(f"{tag}a")) is not None


async def test_an_address_that_an_account_has_already_is_no_obstacle(
    accounts: MasAccounts, tag: str
) -> None:
    """Where the answer was lost it is asked for once more."""
    await accounts.create(new(f"{tag}a"))
    account = await accounts.get(mxid(f"{tag}a"))
    assert account is not None
    assert await accounts.change(account, Change(add_emails=account.emails)) == {}


async def test_that_an_account_is_gone_is_said_of_no_address(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Whoever changes it hears of that, and not that one address was refused."""
    await accounts.create(new(f"{tag}a", emails=()))
    account = await accounts.get(mxid(f"{tag}a"))
    assert account is not None
    told = {"errors": [{"title": "User not found"}]}
    mas.fault = lambda method, path: (
        web.json_response(told, status=404) if method == "POST" and "emails" in path else None
    )
    with pytest.raises(NotFoundError, match="User not found"):
        await accounts.change(account, Change(add_emails=(f"{tag}a@x.test",)))


async def test_an_address_that_was_given_up_is_free_at_once(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Synapse is told later by MAS: what it still knows of an address keeps nobody from it."""
    address = f"{tag}a@x.test"
    await accounts.create(new(f"{tag}a"))
    await mas.homeserver.idle()
    account = await accounts.get(mxid(f"{tag}a"))
    assert account is not None
    assert await accounts.by_email(address) == account.user_id
    told = asyncio.Event()

    async def wait() -> None:
        await told.wait()

    mas.homeserver.later(wait)
    await accounts.change(account, Change(drop_emails=(address,)))
    assert await accounts.by_email(address) is None
    told.set()


async def test_an_address_that_is_anothers_by_now_is_not_taken_off(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Where somebody else has it meanwhile, dropping it leaves it with them."""
    await accounts.create(new(f"{tag}a"))
    await accounts.create(new(f"{tag}b"))
    account = await accounts.get(mxid(f"{tag}a"))
    assert account is not None
    await accounts.change(account, Change(drop_emails=(f"{tag}b@x.test", f"{tag}a@x.test")))
    assert {e.email for e in mas.state.emails.values() if e.email.startswith(tag)} == {
        f"{tag}b@x.test"
    }


async def test_names_in_other_letters_are_others(mas: Mas, accounts: MasAccounts, tag: str) -> None:
    """MAS answers with an account in other letters: that is not the one asked for."""
    await mas.add_account(f"{tag}erika")
    account = mas.state.account_named(f"{tag}erika")
    assert account is not None
    account.username = account.username.title()
    assert await accounts.get(mxid(f"{tag}erika")) is None
    with pytest.raises(RefusedError) as refused:
        await accounts.create(new(f"{tag}erika"))
    assert refused.value.errcode == "M_USER_IN_USE"
    account.username = f"{tag}erika"


async def test_what_mas_refused_was_not_made(mas: Mas, accounts: MasAccounts, tag: str) -> None:
    """An account that somebody else makes of that name right after it is not taken for ours."""
    wanted = new(f"{tag}a")
    await learnt(accounts, tag)
    told = {"errors": [{"title": "because"}]}
    mas.fault = lambda method, path: (
        web.json_response(told, status=400) if _creation(method, path) else None
    )
    with pytest.raises(RefusedError):
        await accounts.create(wanted)
    mas.fault = lambda method, path: None
    await mas.add_account(f"{tag}a")
    assert await accounts.by_mark(wanted.mark) is None


@pytest.mark.parametrize("status", [400, 403, 409])
async def test_only_a_name_that_is_taken_is_told_as_that(
    mas: Mas, accounts: MasAccounts, tag: str, status: int
) -> None:
    """Whatever else MAS has against an account is no conflict with anybody's."""
    told = {"errors": [{"title": "because"}]}
    mas.fault = lambda method, path: (
        web.json_response(told, status=status) if _creation(method, path) else None
    )
    with pytest.raises(RefusedError, match="because") as refused:
        await accounts.create(new(f"{tag}a"))
    assert isinstance(refused.value, NameTakenError) is (status == 409)


async def test_a_name_reserved_by_synapse_is_taken(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """A name that only Synapse has is refused like any other that is taken."""
    account = await mas.add_account(f"{tag}a")
    del mas.state.accounts[account.id]
    with pytest.raises(RefusedError) as refused:
        await accounts.create(new(f"{tag}a"))
    assert refused.value.errcode == "M_USER_IN_USE"


# -- Whoever goes ------------------------------------------------------------


async def test_erasing_is_never_the_default(
    mas: Mas, accounts: MasAccounts, delegated: Delegated, tag: str
) -> None:
    """Deactivation always tells MAS not to erase, but where erasing is asked for."""
    for name, erase in (("a", False), ("b", True)):
        await accounts.create(new(f"{tag}{name}"))
        account = await accounts.get(mxid(f"{tag}{name}"))
        assert account is not None
        await accounts.change(account, Change(deactivated=True, erase=erase))
    sent = [json.loads(e.sent) for e in delegated.exchanges if e.path.endswith("/deactivate")]
    assert sent == [{"skip_erase": True}, {"skip_erase": False}]


async def test_ending_sessions_ends_access_at_once(mas: Mas, over: Accounts, tag: str) -> None:
    """Where sessions are ended nobody waits for what Synapse remembers, and they stay ended."""
    accounts = over(end_sessions=True)
    await accounts.create(new(f"{tag}a"))
    person = mas.state.account_named(f"{tag}a")
    assert person is not None
    sessions: list[User] = [
        await mas.session(person, "NEW"),
        await mas.old_session(person, "OLD"),
    ]
    for session in sessions:
        assert await is_let_in(session)
    account = await accounts.get(mxid(f"{tag}a"))
    assert account is not None
    await accounts.change(account, Change(locked=True))
    await mas.homeserver.idle()
    for session in sessions:
        assert not await is_let_in(session)
    assert mas.state.sessions_of(person) == []
    await accounts.change(account, Change(locked=False))
    for session in sessions:
        assert not await is_let_in(session)
    # Those that have ended are left aside.
    mas.requests.clear()
    await accounts.change(account, Change(locked=True))
    assert not any(path.endswith("/finish") for _, path in mas.asked)


async def test_sessions_rest_where_that_is_not_asked_for(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """A lock alone finishes no session."""
    person, account = await signed_in(mas, accounts, f"{tag}a")
    await accounts.change(account, Change(locked=True))
    assert len(mas.state.sessions_of(person)) == 2


async def test_sessions_are_ended_again_where_the_lock_failed(
    mas: Mas, over: Accounts, tag: str
) -> None:
    """Sessions end before the lock: where that is lost, both are done at the next try."""
    accounts = over(end_sessions=True)
    person, account = await signed_in(mas, accounts, f"{tag}a")
    problem = {"errors": [{"title": "no"}]}
    mas.fault = lambda method, path: (
        web.json_response(problem, status=500) if path.endswith("/finish") else None
    )
    with pytest.raises(MasUnavailableError):
        await accounts.change(account, Change(locked=True))
    assert person.locked_at is None
    mas.fault = lambda method, path: None
    await accounts.change(account, Change(locked=True))
    assert mas.state.sessions_of(person) == []
    assert person.locked_at is not None


async def test_sessions_that_end_meanwhile_are_no_obstacle(
    mas: Mas, over: Accounts, tag: str
) -> None:
    """A session that somebody else has ended since it was listed keeps nobody from being locked."""
    accounts = over(end_sessions=True)
    person, account = await signed_in(mas, accounts, f"{tag}a")

    async def end_first(method: str, path: str) -> None:
        if path.endswith("/finish"):
            for session in mas.state.sessions_of(person):
                session.finished_at = mas.state.now()

    mas.delay = end_first
    await accounts.change(account, Change(locked=True))
    assert person.locked_at is not None


@pytest.mark.parametrize("status", [403, 404])
async def test_only_sessions_that_are_gone_meanwhile_are_no_obstacle(
    mas: Mas, over: Accounts, tag: str, status: int
) -> None:
    """Whoever may not be signed out is not said to be locked either."""
    accounts = over(end_sessions=True)
    person, account = await signed_in(mas, accounts, f"{tag}a")
    problem = {"errors": [{"title": "no"}]}
    mas.fault = lambda method, path: (
        web.json_response(problem, status=status) if path.endswith("/finish") else None
    )
    refused = pytest.raises(RefusedError, match=str(status))
    with contextlib.nullcontext() if status == 404 else refused:
        await accounts.change(account, Change(locked=True))
    assert (person.locked_at is not None) is (status == 404)


async def test_nobody_comes_back_before_they_have_gone(
    mas: Mas, accounts: MasAccounts, delegated: Delegated, tag: str
) -> None:
    """MAS deactivates later in Synapse, and anew in itself: coming back waits for the end of it."""
    wanted = new(f"{tag}a")
    await accounts.create(wanted)
    await mas.homeserver.idle()
    synapse_answers = asyncio.Event()

    async def wait() -> None:
        await synapse_answers.wait()

    mas.homeserver.later(wait)
    account = await accounts.get(wanted.user_id)
    assert account is not None
    await accounts.change(account, Change(deactivated=True))
    gone = await accounts.get(wanted.user_id)
    assert gone is not None
    assert gone.deactivated
    back = Change(deactivated=False, add_emails=wanted.emails)
    with pytest.raises(RefusedError, match="not deactivated"):
        await accounts.change(gone, back)
    synapse_answers.set()
    await mas.homeserver.idle()
    await brought_back(MasWorld(accounts, delegated.admin, mas), gone, back)
    seen = await accounts.get(wanted.user_id)
    assert seen is not None
    assert not seen.deactivated
    assert seen.emails == wanted.emails


# -- The provider ------------------------------------------------------------


async def test_the_provider_is_named_by_ulid_or_issuer_or_is_the_only_one(
    mas: Mas, over: Accounts, tag: str
) -> None:
    """Disabled providers do not count; where nothing fits the error names those there are."""
    user_id = (await mas.sign_in(f"sub-{tag}", f"{tag}a", "DEV")).user_id
    disabled = mas.add_provider("https://old.test", enabled=False)
    for named in (None, mas.provider.id, ISSUER, f"{ISSUER}/"):
        assert await over(provider=named).by_subject(f"sub-{tag}") == user_id
    for wrong in (disabled.id, "https://old.test", "https://unknown.test"):
        with pytest.raises(RefusedError, match=ISSUER):
            await over(provider=wrong).by_subject(f"sub-{tag}")
    mas.provider.disabled_at = mas.state.now()
    try:
        with pytest.raises(RefusedError, match=r"404 MAS: MAS_PROVIDER must .*: none$"):
            await over().by_subject(f"sub-{tag}")
    finally:
        mas.provider.disabled_at = None
    mas.add_provider("https://second.test")
    with pytest.raises(RefusedError, match=r"MAS_PROVIDER.*https://second\.test"):
        await over().by_subject(f"sub-{tag}")


async def test_a_provider_that_was_replaced_is_looked_up_again(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Where MAS no longer has the provider that it had, the next try finds the new one."""
    await accounts.create(new(f"{tag}a"))
    former = mas.provider
    del mas.state.providers[former.id]
    mas.provider = mas.add_provider("https://new.test")
    try:
        with pytest.raises(RefusedError):
            await accounts.create(new(f"{tag}b"))
        assert await accounts.by_mark(f"scim-{tag}b") == mxid(f"{tag}b")
        account = await accounts.get(mxid(f"{tag}b"))
        assert account is not None
        await accounts.change(account, Change(add_subject=f"sub-{tag}b"))
        assert await accounts.by_subject(f"sub-{tag}b") == mxid(f"{tag}b")
    finally:
        mas.state.providers.clear()
        mas.state.providers[former.id] = mas.provider = former


async def test_a_provider_that_was_disabled_is_given_up_at_the_next_comparison(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """MAS only disables what its configuration no longer has, and would go on to take links."""
    await accounts.create(new(f"{tag}a"))
    former = mas.provider
    former.disabled_at = mas.state.now()
    mas.provider = mas.add_provider(ISSUER)
    try:
        assert [page async for page in accounts.listed()]
        await accounts.create(new(f"{tag}b"))
        [link] = [x for x in mas.state.links.values() if x.subject == f"sub-{tag}b"]
        assert link.provider_id == mas.provider.id
    finally:
        former.disabled_at, mas.provider = None, former


async def test_leavers_are_locked_whatever_the_provider(mas: Mas, over: Accounts, tag: str) -> None:
    """Where nobody can say which provider it is, an account is still seen as linked and locked."""
    await mas.sign_in(f"sub-{tag}", f"{tag}a", "DEV")
    mas.add_provider("https://second.test")
    account = await over().get(mxid(f"{tag}a"))
    assert account is not None
    assert account.is_linked
    await over().change(account, Change(locked=True))
    person = mas.state.account_named(f"{tag}a")
    assert person is not None
    assert person.locked_at is not None


# -- Lost answers, and Synapse away ------------------------------------------


async def learnt(accounts: MasAccounts, tag: str) -> None:
    """Make some accounts, from which the clock of MAS is known."""
    for name in ("x", "y", "z"):
        await accounts.create(new(f"{tag}{name}"))


def _creation(method: str, path: str) -> bool:
    return method == "POST" and path.endswith("/users")


async def test_an_account_whose_creation_was_not_answered_is_found(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Where the answer to a creation was lost, the account it made is known for whose it is."""
    wanted = new(f"{tag}a")
    await learnt(accounts, tag)
    mas.lost = _creation
    with pytest.raises(MasUnavailableError):
        await accounts.create(wanted)
    mas.lost = lambda method, path: False
    assert await accounts.by_subject(str(wanted.subject)) is None
    assert await accounts.by_mark(wanted.mark) == wanted.user_id
    account = await accounts.get(wanted.user_id)
    assert account is not None
    await accounts.change(
        account, Change(add_subject=wanted.subject, add_emails=wanted.emails, add_mark=wanted.mark)
    )
    assert await accounts.by_subject(str(wanted.subject)) == wanted.user_id


async def test_a_later_refusal_does_not_unmake_what_was_not_answered(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Whoever asks again is told that the name is taken: by the account that was made for them."""
    wanted = new(f"{tag}a")
    await learnt(accounts, tag)
    mas.lost = _creation
    with pytest.raises(MasUnavailableError):
        await accounts.create(wanted)
    mas.lost = lambda method, path: False
    for _ in range(2):
        with pytest.raises(NameTakenError):
            await accounts.create(wanted)
    assert await accounts.by_mark(wanted.mark) == wanted.user_id


async def test_what_was_asked_for_long_ago_is_not_made_any_more(
    mas: Mas, transport: Transport, tag: str
) -> None:
    """Nobody who has taken the name since then, before it is asked for anew, passes for ours."""
    passed = 0.0
    client = MasClient.connect(
        mas.url, CLIENT_ID, CLIENT_SECRET, clock=lambda: time.monotonic() + passed
    )
    accounts = MasAccounts(client, SynapseAccounts(transport, IDP), SERVER_NAME)
    wanted = new(f"{tag}a")
    await learnt(accounts, tag)
    since = await accounts.about_to_make(wanted.user_id, wanted.mark)
    assert since is not None
    passed += 100
    # As long as an earlier try may come through.
    assert await accounts.about_to_make(wanted.user_id, wanted.mark) == since
    passed += 100
    later = await accounts.about_to_make(wanted.user_id, wanted.mark)
    assert later is not None
    assert later > since + timedelta(seconds=190)
    await mas.add_account(f"{tag}a")
    assert await accounts.by_mark(wanted.mark) is None
    await client.close()


async def test_where_mas_tells_no_time_accounts_are_made_all_the_same(
    mas: Mas, transport: Transport, tag: str
) -> None:
    """But one whose answer was lost is nobody's then: nothing proves for whom it was made."""
    wanted, other = new(f"{tag}a"), new(f"{tag}b")
    async with proxying(mas.url) as proxy:
        proxy.headers["Date"] = ""
        # The token's endpoint too.
        proxy.rewrite = lambda method, path, body: body.replace(
            mas.url.encode(), proxy.url.encode()
        )
        client = MasClient.connect(proxy.url, CLIENT_ID, CLIENT_SECRET)
        accounts = MasAccounts(client, SynapseAccounts(transport, IDP), SERVER_NAME)
        for one in (other, wanted):
            assert await accounts.about_to_make(one.user_id, one.mark) is None
        proxy.lost = _creation
        with pytest.raises(MasUnavailableError):
            await accounts.create(other)
        proxy.lost = lambda method, path: False
        assert mas.state.account_named(f"{tag}b") is not None
        assert await accounts.by_mark(other.mark) is None
        with pytest.raises(NameTakenError):
            await accounts.create(other)
        await accounts.create(wanted)
        assert await accounts.by_subject(str(wanted.subject)) == wanted.user_id
        await client.close()


@pytest.mark.parametrize("failing", ["mark", "link"])
async def test_an_account_that_was_not_finished_is_found(
    mas: Mas, client: MasClient, delegated: Delegated, tag: str, failing: str
) -> None:
    """Where the account was made and its mark or link was not, it is known for whose it is."""
    wanted = new(f"{tag}a")
    async with proxying(delegated.synapse.url) as proxy:
        admin = delegated.admin
        transport = Transport.connect(proxy.url, admin.user_id, admin.token)
        accounts = MasAccounts(client, SynapseAccounts(transport, IDP), SERVER_NAME)

        def fault(method: str, path: str) -> web.Response | None:
            failed = method == "PUT" if failing == "mark" else "oauth-links" in path
            return web.Response(status=502) if failed and method != "GET" else None

        mas.fault = proxy.fault = fault
        with pytest.raises(UnavailableError):
            await accounts.create(wanted)
        mas.fault = proxy.fault = lambda method, path: None
        assert await accounts.by_mark(wanted.mark) == wanted.user_id
        account = await accounts.get(wanted.user_id)
        assert account is not None
        assert account.marks == {wanted.mark}
        if failing == "mark":
            # A MAS that was put back from a backup, where somebody else has the name.
            person = mas.state.account_named(f"{tag}a")
            assert person is not None
            del mas.state.accounts[person.id]
            await mas.add_account(f"{tag}a")
            assert await accounts.by_mark(wanted.mark) is None
        await transport.close()


async def test_an_account_that_mas_has_anew_is_looked_up_again(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """As after a backup was put back: what is not found by its ULID is found by its name."""
    account = await mas.add_account(f"{tag}a")
    seen = await accounts.get(mxid(f"{tag}a"))
    assert seen is not None
    del mas.state.accounts[account.id]
    account.id = mas.state.ulid()
    mas.state.accounts[account.id] = account
    with pytest.raises(NotFoundError):
        await accounts.change(seen, Change(locked=True))
    await accounts.change(seen, Change(locked=True))
    assert account.locked_at is not None


async def test_a_clock_that_is_hardly_known_proves_nothing(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Where MAS has told whole seconds only, an account from just before is not taken for ours."""
    wanted = new(f"{tag}a")
    await accounts.admins()
    account = await mas.add_account(f"{tag}a")
    account.created_at -= timedelta(milliseconds=60)
    mas.dark = True
    with pytest.raises(MasUnavailableError):
        await accounts.create(wanted)
    mas.dark = False
    assert await accounts.by_mark(wanted.mark) is None


@pytest.mark.parametrize("how", ["earlier", "signed in", "linked", "admin", "later"])
async def test_no_other_account_passes_for_one_that_was_not_answered(
    mas: Mas, accounts: MasAccounts, tag: str, how: str
) -> None:
    """An account of that name that somebody else made or uses is never taken for ours."""
    wanted = new(f"{tag}a")
    await learnt(accounts, tag)
    account = None
    if how == "earlier":
        account = await mas.add_account(f"{tag}a")
        account.created_at -= timedelta(milliseconds=60)
    mas.dark = True
    with pytest.raises(MasUnavailableError):
        await accounts.create(wanted)
    mas.dark = False
    if account is None:
        account = await mas.add_account(f"{tag}a", admin=how == "admin")
    if how == "signed in":
        await mas.session(account, "DEV")
    if how == "linked":
        mas.add_link(f"{tag}else", account)
    if how == "later":
        account.created_at += timedelta(minutes=5)
    assert await accounts.by_mark(wanted.mark) is None
    found = await accounts.get(wanted.user_id)
    assert found is not None
    assert found.marks == frozenset()


async def test_a_creation_from_before_a_crash_is_known_if_it_is_told(
    mas: Mas, accounts: MasAccounts, over: Accounts, tag: str
) -> None:
    """After a crash the record of when an account was asked for finds what came of it."""
    wanted = new(f"{tag}a")
    since = mas.state.now()
    mas.lost = _creation
    with pytest.raises(MasUnavailableError):
        await accounts.create(wanted)
    mas.lost = lambda method, path: False
    restarted = over()
    assert await restarted.by_mark(wanted.mark) is None
    restarted.asked_before(wanted.user_id, wanted.mark, since)
    assert await restarted.by_mark(wanted.mark) == wanted.user_id


async def test_a_refusal_after_a_crash_does_not_unmake_what_was_asked_for_before_it(
    mas: Mas, over: Accounts, tag: str
) -> None:
    """Where the request comes through late, the name is taken by the account that it made."""
    wanted = new(f"{tag}a")
    restarted, since = over(), mas.state.now()
    restarted.asked_before(wanted.user_id, wanted.mark, since)
    assert await restarted.by_mark(wanted.mark) is None
    await mas.add_account(f"{tag}a")
    with pytest.raises(NameTakenError):
        await restarted.create(wanted)
    assert await restarted.by_mark(wanted.mark) == wanted.user_id


async def test_synapse_away_is_no_refusal(
    mas: Mas, accounts: MasAccounts, delegated: Delegated, tag: str
) -> None:
    """While Synapse is down nothing is made and nothing refused; leavers are locked all the same.

    MAS is there then, which its errors tell.
    """
    await accounts.create(new(f"{tag}leaver"))
    await mas.homeserver.idle()
    await delegated.synapse.stop()
    try:
        with pytest.raises(MasUnavailableError) as unavailable:
            await accounts.create(new(f"{tag}a"))
        assert unavailable.value.answered
        assert mas.state.account_named(f"{tag}a") is None
        with pytest.raises(UnavailableError) as away:
            await accounts.get(mxid(f"{tag}leaver"))
        assert not isinstance(away.value, MasUnavailableError)
        leaver = await accounts.get_without_homeserver(mxid(f"{tag}leaver"))
        assert leaver is not None
        assert leaver.emails == (f"{tag}leaver@x.test",)
        await accounts.change(leaver, Change(locked=True))
        person = mas.state.account_named(f"{tag}leaver")
        assert person is not None
        assert person.locked_at is not None
        with pytest.raises(UnavailableError):
            await accounts.change(leaver, Change(locked=False, display_name="B"))
        assert person.locked_at is None
    finally:
        await delegated.synapse.start()
    await accounts.create(new(f"{tag}a"))
    assert await accounts.by_subject(f"sub-{tag}a") == mxid(f"{tag}a")


async def test_a_bad_network_loses_nothing_and_does_nothing_twice(
    mas: Mas, accounts: MasAccounts, tag: str
) -> None:
    """Cut, lost and late answers, 5xx, forgotten tokens, a restart: in the end all is right once.

    Each person is tried again until it works, in the way that reconciliation goes.
    """
    await learnt(accounts, tag)
    names = [f"{tag}{n}" for n in range(12)]
    left = 60
    turn = 0

    def due() -> bool:
        nonlocal left, turn
        turn += 1
        if not left or turn % 3:
            return False
        left -= 1
        return True

    def fault(method: str, path: str) -> web.Response | None:
        if not due():
            return None
        match turn % 4:
            case 0:
                return web.Response(status=502, text="<html>", content_type="text/html")
            case 1:
                return web.json_response({"errors": [{"title": "no"}]}, status=500)
            case 2:
                mas.expire_tokens()
        return None

    mas.fault = fault
    mas.lost = lambda method, path: method == "POST" and "/api/" in path and due()

    async def provision(name: str) -> bool:
        wanted = new(name)
        try:
            subject = str(wanted.subject)
            found = await accounts.by_subject(subject) or await accounts.by_mark(wanted.mark)
            if found is None:
                await accounts.create(wanted)
                return False
            account = await accounts.get(found)
            assert account is not None
            change = Change(
                add_subject=None if wanted.subject in account.subjects else wanted.subject,
                add_mark=None if wanted.mark in account.marks else wanted.mark,
                add_emails=tuple(set(wanted.emails) - set(account.emails)),
                locked=None if account.locked else True,
            )
            await accounts.change(account, change)
        except MasUnavailableError:
            return False
        return change == Change()

    for number, name in enumerate(names):
        if number == 6:
            await mas.stop()
            await mas.start()
        await eventually(lambda name=name: provision(name), bool)  # type: ignore[misc]
    assert left < 60
    for name in names:
        person = mas.state.account_named(name)
        assert person is not None
        assert person.locked_at is not None
        links = [x for x in mas.state.links.values() if x.user_id == person.id]
        assert [x.subject for x in links] == [f"sub-{name}"]
        emails = [e.email for e in mas.state.emails.values() if e.user_id == person.id]
        assert emails == [f"{name}@x.test"]
