"""The token that the service makes itself for Synapse."""

import json
import logging
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from scim_matrix.demo.mas import CLIENT_ID, CLIENT_SECRET, Mas
from scim_matrix.demo.mas_state import Account
from scim_matrix.demo.synapse import SERVER_NAME, User
from scim_matrix.matrix.delegation import make_sure
from scim_matrix.matrix.errors import NoTokenError, RefusedError, WithheldError
from scim_matrix.matrix.mas_answers import MasUnavailableError
from scim_matrix.matrix.mas_client import MasClient
from scim_matrix.matrix.mas_token import LIFE, RENEW_BEFORE, MasToken
from scim_matrix.matrix.transport import Transport
from tests.conftest import eventually
from tests.mas.conftest import Delegated
from tests.mas.test_accounts import is_let_in

Make = Callable[[], MasToken]


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return tmp_path / "matrix-token.json"


@pytest.fixture(name="user_id")
def _user_id(tag: str) -> str:
    return f"@{tag}bot:{SERVER_NAME}"


@pytest.fixture
def make(client: MasClient, transport: Transport, user_id: str, file: Path) -> Make:
    """Return what starts anew with the file as it is."""
    sure = partial(make_sure, transport)
    return lambda: MasToken(client, user_id, file, sure)


def aged(file: Path, by: timedelta) -> None:
    """Make what the file holds older."""
    kept = json.loads(file.read_text())
    kept["ends"] = (datetime.fromisoformat(kept["ends"]) - by).isoformat()
    file.write_text(json.dumps(kept))


def bot(mas: Mas, user_id: str) -> Account:
    """Return the service's account in MAS."""
    account = mas.state.account_named(user_id[1:].split(":")[0])
    assert account is not None
    return account


async def test_a_token_is_made_with_its_account_and_administers_synapse(
    mas: Mas, make: Make, delegated: Delegated, user_id: str, file: Path
) -> None:
    """Without an account and a token there are both, and Synapse takes it for an administrator."""
    user = User(delegated.synapse.url, user_id, await make().current())
    assert (await user.call("GET", "/_matrix/client/v3/account/whoami"))["user_id"] == user_id
    room = await user.create_room()
    assert await user.members(room) == {user_id[1:].split(":")[0]}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not bot(mas, user_id).admin


async def test_a_dry_run_makes_no_account(
    mas: Mas, transport: Transport, user_id: str, file: Path
) -> None:
    """With DRY_RUN it is told that the service's account would be made, and MAS has none."""
    client = MasClient.connect(f"{mas.url}/", CLIENT_ID, CLIENT_SECRET, dry_run=True)
    with pytest.raises(WithheldError, match=f"own account {user_id}"):
        await MasToken(client, user_id, file, partial(make_sure, transport)).current()
    await client.close()
    assert mas.state.account_named(user_id[1:].split(":")[0]) is None
    assert not file.exists()


async def test_a_token_is_kept_for_its_life(mas: Mas, make: Make) -> None:
    """A start with a good token in the file asks MAS nothing."""
    token = await make().current()
    mas.requests.clear()
    assert await make().current() == token
    assert mas.requests == []


async def test_a_token_is_renewed_before_its_end(
    mas: Mas, make: Make, delegated: Delegated, user_id: str, file: Path
) -> None:
    """Well before its end a token is exchanged for a new one of the same session."""
    token = await make().current()
    aged(file, LIFE - RENEW_BEFORE - timedelta(minutes=1))
    assert await make().current() == token
    aged(file, timedelta(minutes=2))
    renewed = await make().current()
    assert renewed != token
    assert await is_let_in(User(delegated.synapse.url, user_id, renewed))
    sessions = [
        s for s in mas.state.personal_sessions.values() if s.actor_user_id == bot(mas, user_id).id
    ]
    assert len(sessions) == 1
    kept = json.loads(file.read_text())
    assert datetime.fromisoformat(kept["ends"]) > datetime.now(UTC) + LIFE - timedelta(minutes=1)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_token_serves_on_while_mas_is_away(mas: Mas, make: Make, file: Path) -> None:
    """Where MAS does not answer, a token that is due goes on until it has ended."""
    token = await make().current()
    aged(file, LIFE - timedelta(minutes=5))
    mas.dark = True
    assert await make().current() == token
    aged(file, timedelta(minutes=6))
    with pytest.raises(MasUnavailableError):
        await make().current()
    mas.dark = False
    assert await make().current() != token


async def test_a_refused_token_is_replaced_once(
    mas: Mas, make: Make, delegated: Delegated, user_id: str
) -> None:
    """Whoever finds out first that a token is refused gets a new one, the others get the same."""
    kept = make()
    token = await kept.current()
    session = mas.state.tokens[token]
    mas.state.personal_sessions[session.id].revoked_at = mas.state.now()
    renewed = await kept.renewed(token)
    assert await kept.renewed(token) == renewed != token
    assert mas.state.tokens[renewed].id != session.id
    assert await is_let_in(User(delegated.synapse.url, user_id, renewed))


@pytest.mark.parametrize("path", ["/personal-sessions", "/regenerate"])
async def test_a_lost_answer_costs_another_token_only(
    mas: Mas, make: Make, delegated: Delegated, user_id: str, file: Path, path: str
) -> None:
    """A token that nobody got is replaced by the next one."""
    if path == "/regenerate":
        await make().current()
        aged(file, LIFE)
    mas.lost = lambda method, asked: method == "POST" and asked.endswith(path)
    with pytest.raises(MasUnavailableError):
        await make().current()
    mas.lost = lambda method, asked: False
    token = await make().current()
    assert await is_let_in(User(delegated.synapse.url, user_id, token))


@pytest.mark.parametrize("what", ["locked", "deactivated"])
async def test_a_locked_account_is_left_so_and_told(
    mas: Mas, make: Make, user_id: str, what: str
) -> None:
    """A lock of the service's own account is a human's: it is told, not taken off."""
    token = await make().current()
    setattr(bot(mas, user_id), f"{what}_at", mas.state.now())
    mas.requests.clear()
    with pytest.raises(RefusedError, match=f"403 M_USER_LOCKED: {user_id} is {what}"):
        await make().renewed(token)
    assert not any(method == "POST" and "personal" in path for method, path in mas.requests)


async def test_an_account_that_mas_cannot_make_is_told(mas: Mas, make: Make, user_id: str) -> None:
    """A name that only Synapse has is not taken."""
    account = await mas.add_account(user_id[1:].split(":")[0])
    del mas.state.accounts[account.id]
    with pytest.raises(RefusedError, match="reserved"):
        await make().current()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": "x"}', '{"user_id": 1}', "\xff"])
async def test_a_damaged_file_is_replaced(make: Make, file: Path, content: str) -> None:
    """A file of which nothing can be used costs a new token."""
    file.write_text(content, encoding="latin-1")
    assert await make().current() in file.read_text()


@pytest.mark.parametrize("damage", [{"token": "a\r\nb"}, {"token": ""}, {"ends": "2099-01-01"}])
async def test_what_cannot_be_used_of_a_file_is_replaced(
    make: Make, file: Path, damage: dict[str, str]
) -> None:
    """A token that cannot be sent, or an end that is no moment, costs a new token."""
    await make().current()
    file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
    assert await make().current() in file.read_text()


@pytest.mark.parametrize(
    "attributes",
    [{"access_token": "a\r\nb"}, {"access_token": None}, {}, {"expires_at": "2099-01-01T00:00:00"}],
)
async def test_a_token_that_cannot_be_used_is_no_answer(
    mas: Mas, make: Make, file: Path, attributes: dict[str, str | None]
) -> None:
    """Nothing is kept of it."""
    token = {"access_token": "mpt_x"} if "expires_at" in attributes else {}
    answer = {"data": {"id": "x", "attributes": {**token, **attributes}}}
    mas.fault = lambda method, path: (
        web.json_response(answer, status=201) if path.endswith("/personal-sessions") else None
    )
    with pytest.raises(MasUnavailableError):
        await make().current()
    assert not file.exists()


@pytest.mark.parametrize("said", ["2099-01-01T00:00:00Z", None])
async def test_a_token_ends_when_mas_says_or_as_was_asked_for(
    mas: Mas, make: Make, file: Path, said: str | None
) -> None:
    """MAS need not say when that is."""
    attributes = {"access_token": "mpt_x", "expires_at": said}
    mas.fault = lambda method, path: (
        web.json_response({"data": {"id": "x", "attributes": attributes}}, status=201)
        if path.endswith("/personal-sessions")
        else None
    )
    assert await make().current() == "mpt_x"
    ends = datetime.fromisoformat(json.loads(file.read_text())["ends"])
    assert ends > datetime.now(UTC)
    assert (ends.year == 2099) is (said is not None)


async def test_a_token_of_another_account_is_not_used(
    client: MasClient, transport: Transport, make: Make, tag: str, file: Path
) -> None:
    """Where the service's account is another one now, the kept token is not its."""
    token = await make().current()
    sure = partial(make_sure, transport)
    other = MasToken(client, f"@{tag}bot2:{SERVER_NAME}", file, sure)
    assert await other.current() != token


async def test_the_token_is_not_logged(
    make: Make, caplog: pytest.LogCaptureFixture, file: Path
) -> None:
    """The token stands in its file and nowhere else."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        kept = make()
        token = await kept.current()
        aged(file, LIFE)
        renewed = await kept.current()
        words = f"{logs} {caplog.text} {kept!r} {kept._read()!r}"
    assert token not in words
    assert renewed not in words
    assert [e["event"] for e in logs] == ["own_account_made", "token_made", "token_made"]


async def test_the_kept_token_outlives_synapses_memory_of_it(
    mas: Mas, make: Make, delegated: Delegated, user_id: str
) -> None:
    """The device that the token's scope names exists, so that Synapse goes on to take it."""
    token = await make().current()
    await mas.homeserver.sync_devices(bot(mas, user_id))
    user = User(delegated.synapse.url, user_id, token)
    assert await eventually(lambda: is_let_in(user), bool)
    whoami = await user.call("GET", "/_matrix/client/v3/account/whoami")
    assert whoami["device_id"] == "SCIMMATRIX"


async def test_whoever_else_could_read_the_file_can_no_more(make: Make, file: Path) -> None:
    """A file that was copied or restored with wider permissions is narrowed when it is read."""
    token = await make().current()
    file.chmod(0o644)
    assert make().stored() == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert await make().current() == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_without_a_file_no_token_was_made_before(
    client: MasClient, transport: Transport, user_id: str
) -> None:
    """A command that has none says so, whoever may have made one elsewhere."""
    kept = MasToken(client, user_id, None, partial(make_sure, transport))
    assert kept.stored() is None
    assert await kept.current() == await kept.current()
    assert kept.stored() is None


async def test_a_token_is_made_anew_where_the_file_is_gone(make: Make, file: Path) -> None:
    """Whoever is refused then has nothing to exchange, and gets another all the same."""
    kept = make()
    token = await kept.current()
    file.unlink()
    assert await kept.renewed(token) != token
    assert file.exists()


async def test_a_file_that_cannot_be_written_costs_one_token_a_start(
    mas: Mas, make: Make, user_id: str, file: Path
) -> None:
    """The token is kept in memory then, and that is said; it is not made again and again."""
    (file.parent / f"{file.name}.new").mkdir()
    with capture_logs() as logs:
        kept = make()
        token = await kept.current()
        assert await kept.current() == token
    assert [e["event"] for e in logs if e["log_level"] == "warning"] == ["token_file_not_written"]
    assert await make().current() != token
    assert not file.exists()


async def test_once_the_file_can_be_written_it_counts_again(make: Make, file: Path) -> None:
    """Whoever else makes a token then ends the one in memory, and says so there."""
    obstacle = file.parent / f"{file.name}.new"
    obstacle.mkdir()
    kept = make()
    token = await kept.current()
    obstacle.rmdir()
    written = await kept.renewed(token)
    assert await make().current() == written
    elsewhere = await make().renewed(written)
    assert await kept.current() == elsewhere


async def test_a_file_that_cannot_be_read_any_more_leaves_the_token_in_use(
    make: Make, file: Path
) -> None:
    """Whoever has read it goes on; whoever starts then makes no other token in its place."""
    kept = make()
    token = await kept.current()
    file.unlink()
    file.mkdir()
    with capture_logs() as logs:
        assert await kept.current() == token
    assert [e["event"] for e in logs] == ["token_file_unreadable"]
    with pytest.raises(NoTokenError, match="cannot be read"):
        await make().current()
