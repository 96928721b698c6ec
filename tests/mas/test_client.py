"""How the service asks MAS: its token's life, and which answers it believes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate

import pytest
import pytest_asyncio
from aiohttp import web
from structlog.testing import capture_logs

from scim_matrix.demo.mas import CLIENT_ID, CLIENT_SECRET, TOKEN_PATH, Mas
from scim_matrix.matrix.accounts import Change, MatrixAccount, NewAccount
from scim_matrix.matrix.errors import (
    FencedError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    UnavailableError,
    WithheldError,
)
from scim_matrix.matrix.mas import MasAccounts
from scim_matrix.matrix.mas_answers import (
    MasError,
    MasRateLimitedError,
    MasTokenError,
    MasUnavailableError,
    Shape,
)
from scim_matrix.matrix.mas_client import CLOCK_AGE, MasClient, _Token, is_too_old
from scim_matrix.matrix.synapse_accounts import SynapseAccounts
from scim_matrix.matrix.transport import Transport

Connect = Callable[..., MasClient]


@pytest_asyncio.fixture(loop_scope="session")
async def connect(mas: Mas) -> AsyncIterator[Connect]:
    """Return what makes clients of the stand-in."""
    clients: list[MasClient] = []

    def make(secret: str = CLIENT_SECRET, **more: object) -> MasClient:
        clients.append(MasClient.connect(mas.url, CLIENT_ID, secret, **more))  # type: ignore[arg-type]
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


DISCOVERY = "/.well-known/openid-configuration"


def everything(path: str) -> bool:
    """Tell whether a path belongs to the admin API."""
    return path.startswith("/api/")


async def test_who_does_not_lead_changes_nothing(mas: Mas, connect: Connect) -> None:
    """Reading goes on, and so does whatever lets the service itself in."""
    leads = True
    client = connect(leads=lambda: leads)
    body = {"username": "fenced", "skip_homeserver_check": True}
    leads = False
    assert await client.version()
    with pytest.raises(FencedError):
        await client.one("POST", "users", of=Shape, body=body)
    own = {
        "actor_user_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "human_name": "x",
        "scope": "y",
        "expires_in": 60,
    }
    with pytest.raises(RefusedError):
        await client.one("POST", "personal-sessions", of=Shape, body=own)


# -- The token ---------------------------------------------------------------


async def test_one_token_serves_for_its_whole_life(mas: Mas, connect: Connect) -> None:
    """Many requests, at once and one after another, cost one token; 30 s before its end a new one.

    Each token leaves a session in MAS for ever.
    """
    now = 1000.0
    client = connect(clock=lambda: now)
    await asyncio.gather(*(client.version() for _ in range(20)))
    now += 269
    await client.version()
    assert mas.tokens_fetched == 1
    now += 2
    await asyncio.gather(*(client.version() for _ in range(20)))
    assert mas.tokens_fetched == 2


async def test_a_token_that_ended_early_is_fetched_anew_once(mas: Mas, connect: Connect) -> None:
    """Where MAS forgets all tokens, requests under way go on with one new token."""
    client = connect()
    await client.version()
    mas.expire_tokens()
    await asyncio.gather(*(client.version() for _ in range(20)))
    assert mas.tokens_fetched == 2


async def test_a_token_that_was_never_taken_is_not_fetched_again(
    mas: Mas, connect: Connect
) -> None:
    """A client that may not administer says so, and leaves no heap of sessions behind."""
    client = connect()
    refusal = {"errors": [{"title": "Missing urn:mas:admin scope"}]}
    mas.fault = lambda method, path: (
        web.json_response(refusal, status=401) if everything(path) else None
    )
    for _ in range(5):
        with pytest.raises(MasTokenError, match=r"401.*urn:mas:admin"):
            await client.version()
    assert mas.tokens_fetched == 1


async def test_both_ways_to_say_who_the_client_is(mas: Mas, connect: Connect) -> None:
    """A client that MAS knows by client_secret_post is let in as well, and that is remembered."""
    now = 0.0
    client = connect(clock=lambda: now)
    mas.auth_method = "client_secret_post"
    assert await client.version() == "v1.22.0"
    assert mas.tokens_fetched == 2
    now += 300
    await client.version()
    assert mas.tokens_fetched == 3


async def test_a_wrong_secret_and_a_client_without_rights_are_told(
    mas: Mas, connect: Connect
) -> None:
    """Where MAS does not take the client the error names what to look at, and no secret."""
    with pytest.raises(MasTokenError, match="MAS_CLIENT_SECRET") as wrong:
        await connect("not-the-secret").version()
    assert "not-the-secret" not in str(wrong.value)
    mas.client_is_admin = False
    with pytest.raises(MasTokenError, match="admin_clients"):
        await connect().version()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, MasTokenError),
        (429, MasRateLimitedError),
        (500, MasUnavailableError),
        (503, MasUnavailableError),
    ],
)
async def test_a_client_is_refused_only_where_mas_says_no(
    mas: Mas, connect: Connect, status: int, kind: type[MasError]
) -> None:
    """What MAS cannot do now says nothing of the client, in whatever words it is told."""
    told = {"error": "invalid_request", "error_description": "why"}
    mas.fault = lambda method, path: (
        web.json_response(told, status=status) if path == TOKEN_PATH else None
    )
    client = connect()
    with pytest.raises(kind):
        await client.version()
    mas.fault = lambda method, path: None
    assert await client.version()


async def test_where_mas_gives_no_way_to_a_token_that_is_told(mas: Mas, connect: Connect) -> None:
    """How long MAS asks to wait, and what to look at where something else answers."""
    answer = web.Response(status=429, headers={"Retry-After": "7"})
    mas.fault = lambda method, path: answer if path == DISCOVERY else None
    with pytest.raises(MasRateLimitedError) as limited:
        await connect().version()
    assert limited.value.retry_after == 7
    page = {"token_endpoint": f"{mas.url}{TOKEN_PATH}"}
    mas.fault = lambda method, path: (
        web.json_response(page, status=404) if path == DISCOVERY else None
    )
    with pytest.raises(MasUnavailableError, match="404: is MAS_URL MAS's issuer"):
        await connect().version()


async def test_where_tokens_are_given_is_asked_again_once_none_is(
    mas: Mas, connect: Connect
) -> None:
    """MAS may have moved them: whoever is refused there looks where they are by now."""
    elsewhere = {"token_endpoint": f"{mas.url}/moved"}
    mas.fault = lambda method, path: web.json_response(elsewhere) if path == DISCOVERY else None
    client = connect()
    with pytest.raises(MasUnavailableError):
        await client.version()
    mas.fault = lambda method, path: None
    assert await client.version()


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_secret_with_odd_characters_arrives(
    mas: Mas, connect: Connect, method: str
) -> None:
    """Colons, percent and plus signs in a secret are encoded as RFC 6749 wants it."""
    mas.auth_method, mas.client_secret = method, "a:b%c+d/é &="
    assert await connect("a:b%c+d/é &=").version()


async def test_neither_token_nor_secret_is_logged(
    mas: Mas, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that opens MAS stands in logs, representations or errors."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as structured:
        client = connect()
        await client.version()
        token = next(iter(mas.state.client_tokens))
        mas.fault = lambda method, path: web.json_response({"token": token}, status=200)
        with pytest.raises(UnavailableError) as error:
            await client.version()
    words = f"{caplog.text} {structured} {client!r} {client._token!r} {error.value!r}"
    assert token not in words
    assert CLIENT_SECRET not in words


async def test_a_restart_of_mas_costs_nothing(mas: Mas, connect: Connect) -> None:
    """What MAS said before its restart holds after it."""
    client = connect()
    await client.version()
    await mas.stop()
    with pytest.raises(MasUnavailableError):
        await client.version()
    await mas.start()
    assert await client.version() == "v1.22.0"
    assert mas.tokens_fetched == 1


# -- The clock ---------------------------------------------------------------


async def test_mas_clock_is_learnt_from_its_answers(mas: Mas, connect: Connect) -> None:
    """The least that they leave possible, until that is old: clocks are set, forward as well."""
    now, shown = 1000.0, 1_700_000_000.0

    def answer(method: str, path: str) -> web.Response:
        return web.json_response({"data": [], "links": {}}, headers={"Date": formatdate(shown)})

    mas.fault = answer
    client = connect(clock=lambda: now)
    client._token = _Token("x", renew_at=1e9)

    async def moment() -> float:
        assert await client.all("users", of=Shape, query={}) == []
        seen = client.moment()
        assert seen is not None
        return seen.timestamp()

    assert client.moment() is None
    # It may be as much as a second later than an answer says.
    assert await moment() == shown + 1
    now, shown = now + 10, shown + 15
    assert await moment() == shown + 1 - 5
    now, shown = now + 1, shown - 10
    assert await moment() == shown + 1
    # As it is still seen to be: that is no old word.
    now, shown = now + 1, shown + 1
    assert await moment() == shown + 1
    now, shown = now + CLOCK_AGE, shown + 3600
    believed = shown + 1 - 3600 + CLOCK_AGE
    assert await moment() == believed
    now, shown = now + 1, shown + 1
    assert await moment() == shown + 1


# -- Answers -----------------------------------------------------------------

_WITHOUT_ZONE = {"username": "a", "admin": False, "created_at": "2026-11-01T10:00:00"}


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=404, text="<html>", content_type="text/html"),
        lambda: web.json_response({"errcode": "M_UNRECOGNIZED"}, status=404),
        lambda: web.json_response({"errors": []}, status=404),
        lambda: web.Response(status=403, text="Forbidden"),
        lambda: web.Response(status=502, text="<html>", content_type="text/html"),
        lambda: web.Response(status=200, text="<html>", content_type="text/html"),
        lambda: web.json_response({"data": []}),
        lambda: web.json_response({"data": {"id": 1, "attributes": {}}}),
        lambda: web.Response(status=302, headers={"Location": "https://elsewhere.test/"}),
        lambda: web.Response(status=204),
        lambda: web.json_response({"data": {"id": "x", "attributes": _WITHOUT_ZONE}}),
    ],
)
async def test_what_is_not_mas_own_word_says_nothing(
    mas: Mas, accounts: MasAccounts, tag: str, answer: Callable[[], web.Response]
) -> None:
    """Pages of proxies and answers of another shape never mean that somebody does not exist."""
    account = await mas.add_account(f"{tag}a")
    await accounts.admins()
    mas.fault = lambda method, path: answer() if "by-username" in path else None
    with pytest.raises(MasUnavailableError, match="no usable answer"):
        await accounts.get(f"@{account.username}:demo.test")


async def test_a_token_that_cannot_be_sent_is_no_answer(mas: Mas, connect: Connect) -> None:
    """What would end the header line, or has letters beyond ASCII, is not sent to anybody."""
    answer = {"access_token": "", "expires_in": 300}
    mas.fault = lambda method, path: web.json_response(answer) if path == TOKEN_PATH else None
    for token in ("a\r\nX-Other: b", "", "tökén", "a b"):
        answer["access_token"] = token
        with pytest.raises(MasUnavailableError, match="access_token"):
            await connect().version()


async def test_mas_words_are_told_apart(mas: Mas, connect: Connect) -> None:
    """No, not now and not known are different errors, with MAS's own words in them."""
    client = connect()
    await client.version()

    def said(status: int, **headers: str) -> None:
        body = {"errors": [{"title": "because"}]}
        mas.fault = lambda method, path: web.json_response(body, status=status, headers=headers)

    said(500)
    with pytest.raises(MasUnavailableError, match="because") as unavailable:
        await client.version()
    assert unavailable.value.answered
    said(429, **{"Retry-After": "7"})
    with pytest.raises(RateLimitedError) as limited:
        await client.version()
    assert isinstance(limited.value, MasError)
    assert limited.value.retry_after == 7
    said(404)
    with pytest.raises(NotFoundError, match="because"):
        await client.version()
    said(409)
    with pytest.raises(RefusedError, match="because"):
        await client.version()


@pytest.mark.parametrize(
    ("version", "old"),
    [("1.4.9", True), ("0.20.0", True), ("1.5.0", False), ("1.22.0-3-gabcdef", False), ("?", True)],
)
async def test_a_mas_that_is_too_old_is_known(
    mas: Mas, connect: Connect, monkeypatch: pytest.MonkeyPatch, version: str, old: bool
) -> None:
    """A MAS before 1.5 lacks what is needed, and so may one that does not say its version."""
    monkeypatch.setattr(mas.state, "version", version)
    assert is_too_old(await connect().version()) is old
    assert await connect().server_name() == "demo.test"


@pytest.mark.parametrize("how", ["dark", "lost"])
async def test_nothing_is_sent_twice(mas: Mas, connect: Connect, how: str) -> None:
    """Where the connection breaks the caller is told, and nothing is sent again unasked."""
    client = connect()
    await client.version()
    mas.requests.clear()
    if how == "dark":
        mas.dark = True
    else:
        mas.lost = lambda method, path: True
    with pytest.raises(MasUnavailableError) as error:
        await client.version()
    assert not error.value.answered
    assert len(mas.requests) == 1


async def test_lists_are_read_to_their_end(
    mas: Mas, connect: Connect, transport: Transport, tag: str
) -> None:
    """Every page is read, each account once, whatever comes meanwhile."""
    names = [f"{tag}{n}" for n in range(7)]
    for name in names:
        await mas.add_account(name, admin=True)
    accounts = MasAccounts(connect(page=3), SynapseAccounts(transport, "oidc-demo"), "demo.test")
    found = [a.user_id async for page in accounts.listed() for a in page]
    assert len(found) == len(set(found)) == len(mas.state.accounts)
    admins = await accounts.admins()
    assert admins is not None
    assert {f"@{name}:demo.test" for name in names} < admins


@pytest.mark.parametrize("names", [(), ("a",), ("a", "b")])
async def test_a_list_that_does_not_go_on_is_no_answer(
    mas: Mas, connect: Connect, names: tuple[str, ...]
) -> None:
    """A list whose next page is the same again ends in an error, not never."""
    client = connect()
    people = [
        {
            "id": name,
            "attributes": {"username": name, "admin": True, "created_at": "2026-11-01T10:00:00Z"},
        }
        for name in names
    ]
    # Whoever reads on is not kept at it for ever.
    links = iter([{"self": "/", "next": "/"}] * 3)

    def fault(method: str, path: str) -> web.Response | None:
        if not everything(path):
            return None
        return web.json_response({"data": people, "links": next(links, {"self": "/"})})

    mas.fault = fault
    accounts = MasAccounts(client, None, "demo.test")  # type: ignore[arg-type]
    with pytest.raises(UnavailableError, match="does not go on"):
        await accounts.admins()


@pytest.mark.parametrize("page", [{"links": {}}, {"data": None, "links": {}}])
async def test_a_list_that_is_not_there_is_no_empty_list(
    mas: Mas, connect: Connect, page: dict[str, object]
) -> None:
    """Or nobody would administer the homeserver, and whoever does would be removed."""
    mas.fault = lambda method, path: web.json_response(page) if everything(path) else None
    accounts = MasAccounts(connect(), None, "demo.test")  # type: ignore[arg-type]
    with pytest.raises(UnavailableError, match="no usable answer"):
        await accounts.admins()


async def test_a_dry_run_sends_nothing_that_changes(
    mas: Mas, connect: Connect, transport: Transport, tag: str
) -> None:
    """With DRY_RUN it is told what would be done, and MAS is not asked."""
    accounts = MasAccounts(
        connect(dry_run=True), SynapseAccounts(transport, "oidc-demo"), "demo.test"
    )
    user_id = f"@{tag}a:demo.test"
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: accounts.create(NewAccount(user_id, "mark", "sub", None, ())),
        lambda: accounts.change(MatrixAccount(user_id), Change(locked=True)),
    ]
    for attempt in attempts:
        with pytest.raises(WithheldError, match=user_id):
            await attempt()
    assert mas.requests == []
