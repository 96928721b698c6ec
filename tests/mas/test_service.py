"""The service on a server whose accounts belong to MAS: what it asks, what fails apart."""

import asyncio
import contextlib
import json
import re
import signal
import sqlite3
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from scim_matrix.clock import Clock
from scim_matrix.demo.mas import CLIENT_ID, CLIENT_SECRET, TOKEN_PATH, USER_SCOPE, Mas
from scim_matrix.demo.mas_state import API, Account, Email, PersonalSession
from scim_matrix.demo.service import ScimClient, Service
from scim_matrix.demo.synapse import IDP, Delegation, Synapse, User
from scim_matrix.matrix.connecting import connect
from scim_matrix.sync.breaker import Breaker
from scim_matrix.sync.plan import Policy
from scim_matrix.sync.room_rights import RoomRights
from tests.conftest import eventually
from tests.mas.conftest import Delegated
from tests.mas.hands import MasAdmin
from tests.preforked import PreforkedService
from tests.service.conftest import environment
from tests.synapse.conftest import (
    StartService,
    StartStaffed,
    account,
    command,
    group_of,
    logged,
    metric,
    mxid,
    ready,
    room_holds,
    settled,
    shown,
)
from tests.synapse.proxy import proxying


def admin_api(path: str) -> bool:
    """Tell whether a request is one of the service's."""
    return path.startswith(API) or path == TOKEN_PATH


def away(mas: Mas) -> None:
    """Let MAS answer nothing of what the service asks; Synapse goes on to ask about tokens."""
    mas.fault = lambda method, path: web.Response(status=502) if admin_api(path) else None


def back(mas: Mas) -> None:
    """Let MAS answer again."""
    mas.fault = lambda method, path: None
    mas.lost = lambda method, path: False
    mas.delay = None


async def conditions(idp: ScimClient, homeserver: str, mas: str) -> dict[str, Any]:
    """Wait until /readyz says this of the two servers."""
    return await eventually(
        lambda: ready(idp),
        lambda s: (s["homeserver"]["condition"], s["mas"]["condition"]) == (homeserver, mas),
    )


async def disable(idp: ScimClient, person: str) -> None:
    """Have the identity provider disable a user."""
    await idp.patch(f"/Users/{person}", {"op": "replace", "value": {"active": False}})


def sessions_of(mas: Mas, name: str) -> list[PersonalSession]:
    """Return the sessions that an account's personal tokens have."""
    own = mas.state.account_named(name)
    assert own is not None
    return [s for s in mas.state.personal_sessions.values() if s.actor_user_id == own.id]


# -- What it costs ------------------------------------------------------------


async def test_what_changes_nothing_asks_mas_nothing(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """A new user costs three requests, and one for an e-mail; the same again costs none."""
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        # What is asked once: the token, the provider, the first comparison.
        _, people = await group_of(idp, f"{tag}first")
        await room_holds(admin, room, {f"{tag}first"})
        await settled(idp)
        mas.requests.clear()
        emails = [{"value": f"{tag}ann@x.test"}]
        names = {"userName": f"{tag}ann", "externalId": f"{tag}s", "displayName": "Ann"}
        body = {**names, "emails": emails}
        ann = (await idp.ok("POST", "/Users", body))["id"]
        await settled(idp)
        asked = [(method, path.partition("?")[0]) for method, path in mas.asked]
        assert asked == [
            ("GET", "/upstream-oauth-links"),
            ("POST", "/users"),
            ("POST", "/upstream-oauth-links"),
            ("POST", "/user-emails"),
        ]
        mas.requests.clear()
        await idp.ok("PUT", f"/Users/{ann}", body)
        await idp.patch(f"/Users/{ann}", {"op": "replace", "value": {"emails": emails}})
        await idp.patch(f"/Users/{people[f'{tag}first']}", {"op": "replace", "value": {}})
        await settled(idp)
        assert mas.asked == []


async def test_whoever_signs_in_while_their_account_is_made_has_one_account(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """MAS gives them one in the moment between asking for it and making it: that one is theirs."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        await settled(idp)

        async def sign_in(method: str, path: str) -> None:
            if method == "POST" and path.endswith("/users"):
                mas.delay = None
                await mas.sign_in(f"ext-{name}", name, "PHONE")

        mas.delay = sign_in
        await group_of(idp, name)
        await room_holds(admin, room, {name})
        await shown(process, "users", name, state="active", bound="link", account=mxid(name))


# -- Settings that do not fit the server ---------------------------------------


async def test_a_server_that_keeps_its_accounts_is_left_alone(
    plain: tuple[Synapse, User], mas: Mas, service: StartService, tag: str
) -> None:
    """With MAS_URL nothing is done there, which /readyz, the log and `check` say with the cure."""
    synapse, root = plain
    before = set(mas.state.accounts)
    more = {"MATRIX_URL": synapse.url, "MATRIX_ADMIN_TOKEN": root.token}
    async with service({}, MATRIX_ADMIN_USER_ID=root.user_id, **more) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann")
        seen = await conditions(idp, "mismatched", "ready")
        assert seen["status"] == 503
        assert "MAS_URL" in seen["homeserver"]["detail"]
        status, output = await command(process, "check")
        assert status == 1
        assert "Synapse keeps accounts itself" in output
        assert "matrix_authentication_service" in output
        assert "homeserver_mismatched" in (process.data_dir / "service.log").read_text()
        assert set(mas.state.accounts) == before


@pytest.mark.parametrize(("what", "value"), [("server_name", "other.test"), ("version", "1.4.0")])
async def test_a_mas_that_is_not_the_right_one_is_left_alone(
    mas: Mas,
    service: StartService,
    tag: str,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    value: str,
) -> None:
    """Where MAS serves another server name, or is too old, no account is touched: that is said."""
    monkeypatch.setattr(mas.state, what, value)
    before = set(mas.state.accounts)
    async with service({}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann")
        seen = await eventually(lambda: ready(idp), lambda s: s["mas"]["condition"] == "mismatched")
        assert seen["status"] == 503
        status, output = await command(process, "check")
        assert status == 1
        assert value in output
        assert set(mas.state.accounts) == before


async def test_without_its_settings_no_account_is_touched(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """Rooms of existing accounts are kept in line, nobody is removed, `check` says what lacks."""
    room = await admin.create_room()
    await mas.add_account(f"{tag}ann")
    before = set(mas.state.accounts)
    without = {"MAS_URL": "", "MAS_CLIENT_ID": "", "MAS_CLIENT_SECRET": "", "IDP_NAME": "oidc-x"}
    async with service({"g": [room]}, MATRIX_ADMIN_TOKEN=admin.token, **without) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}new")
        await room_holds(admin, room, {f"{tag}ann"})
        await idp.remove(group, people[f"{tag}ann"])
        await eventually(lambda: ready(idp), lambda s: s["work"]["sparedPairs"] == 1)
        assert await admin.members(room) == {"scim-bot", f"{tag}ann"}
        assert set(mas.state.accounts) == before
        _, output = await command(process, "check")
        assert "MAS_URL" in output
        assert "MAS_URL" in (await ready(idp))["homeserver"]["removals"]


# -- Failure apart -------------------------------------------------------------


async def test_rooms_go_on_without_mas(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """People of before come and go while MAS is away; new ones get their account after."""
    rooms = [await admin.create_room() for _ in range(2)]
    async with service({"g": [rooms[0]], "h": [rooms[1]]}) as process:
        idp = ScimClient(process.url)
        group, people = await group_of(idp, f"{tag}ann", f"{tag}bob")
        await room_holds(admin, rooms[0], {f"{tag}ann", f"{tag}bob"})
        await settled(idp)
        away(mas)
        new = await idp.create_user(f"{tag}new")
        seen = await conditions(idp, "ready", "down")
        assert seen["status"] == 503
        assert await metric(process, "scim_matrix_mas_ready") == 0
        assert await metric(process, "scim_matrix_homeserver_ready") == 1
        await idp.remove(group, people[f"{tag}bob"])
        await idp.create_group("H", [people[f"{tag}ann"], new], externalId="h")
        await room_holds(admin, rooms[0], {f"{tag}ann"})
        await room_holds(admin, rooms[1], {f"{tag}ann"})
        assert mas.state.account_named(f"{tag}new") is None
        back(mas)
        await room_holds(admin, rooms[1], {f"{tag}ann", f"{tag}new"})
        await settled(idp)
        assert await metric(process, "scim_matrix_mas_ready") == 1


async def test_nobody_is_removed_before_mas_has_named_its_administrators(
    mas: Mas, admin: MasAdmin, staffed: StartStaffed, tag: str
) -> None:
    """Where MAS is away since the start everybody stays, until it answers."""
    room = await admin.create_room()
    async with staffed(room, f"{tag}ann", f"{tag}boss") as s:
        boss = mas.state.account_named(f"{tag}boss")
        assert boss is not None
        boss.admin = True
        await s.process.stop()
        away(mas)
        await s.process.start()
        await conditions(s.idp, "ready", "down")
        await s.idp.remove(s.group, *s.people.values())
        await eventually(lambda: ready(s.idp), lambda s: s["work"]["sparedPairs"] == 2)
        assert await admin.members(room) == {"scim-bot", f"{tag}ann", f"{tag}boss"}
        back(mas)
        await room_holds(admin, room, {f"{tag}boss"})


async def test_the_last_word_of_mas_on_its_administrators_counts_for_an_hour(
    mas: Mas, delegated: Delegated, tmp_path: Path, tag: str
) -> None:
    """Then it could be anybody again, whoever PROTECTED_USERS names, until MAS answers."""
    passed = 0.0
    clock = Clock(wall=lambda: 1e9 + passed, monotonic=lambda: passed)
    settings = environment(
        tmp_path,
        **mas.settings,
        MATRIX_URL=delegated.synapse.url,
        MATRIX_SERVER_NAME="demo.test",
        MATRIX_ADMIN_USER_ID="@scim-bot:demo.test",
    )
    homeserver = connect(settings, dry_run=False)
    breaker = Breaker("mas", clock, 4)
    policy = Policy("@scim-bot:demo.test", ("@vip:*",))
    rights = RoomRights(homeserver, policy, clock, breaker)
    ann = mxid(f"{tag}ann")
    assert (await rights.protection()).protects(ann)
    breaker.met("1.22")
    breaker.answered()
    assert not (await rights.renew()).protects(ann)
    away(mas)
    mas.requests.clear()
    for _ in range(3):
        passed += 6
        assert not (await rights.protection()).protects(ann)
    # Once it has not answered, it is asked whether it is there before anything else.
    assert (len(mas.asked), breaker.is_usable) == (1, False)
    passed = 3599
    assert not (await rights.protection()).protects(ann)
    passed += 61
    assert (await rights.protection()).protects(ann)
    assert rights.everybody_stays
    back(mas)
    breaker.answered()
    assert not (await rights.renew()).protects(ann)
    await homeserver.close()


async def test_leavers_are_locked_without_synapse(
    mas: Mas, admin: MasAdmin, delegated: Delegated, staffed: StartStaffed, tag: str
) -> None:
    """Synapse away does not stop locks in MAS; rooms and newcomers wait for it."""
    room = await admin.create_room()
    async with (
        proxying(delegated.synapse.url) as proxy,
        staffed(room, f"{tag}ann", f"{tag}bob", MATRIX_URL=proxy.url) as s,
    ):
        proxy.dark = True
        await s.idp.create_user(f"{tag}new")
        await disable(s.idp, s.people[f"{tag}ann"])
        await s.idp.ok("DELETE", f"/Users/{s.people[f'{tag}bob']}")
        await conditions(s.idp, "down", "ready")

        async def locked() -> list[bool]:
            names = (f"{tag}ann", f"{tag}bob")
            found = [mas.state.account_named(name) for name in names]
            return [x is not None and x.locked_at is not None for x in found]

        await eventually(locked, all)
        assert mas.state.account_named(f"{tag}new") is None
        assert await admin.members(room) == {"scim-bot", f"{tag}ann", f"{tag}bob"}
        proxy.dark = False
        await room_holds(admin, room, set())
        await settled(s.idp)
        assert mas.state.account_named(f"{tag}new") is not None


# -- Nothing lost, nothing twice -----------------------------------------------


def lose_creation(mas: Mas) -> Callable[[], Awaitable[None]]:
    """Let an account be made without an answer, and nothing more; return what waits for that."""
    made = asyncio.Event()

    def lost(method: str, path: str) -> bool:
        if made.is_set() or method != "POST" or not path.endswith("/users"):
            return False
        made.set()
        away(mas)
        return True

    async def wait() -> None:
        await made.wait()

    mas.lost = lost
    return wait


@pytest.mark.parametrize("end", [None, signal.SIGKILL])
async def test_an_account_whose_creation_was_not_answered_is_found(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str, end: int | None
) -> None:
    """Also after a crash, and without a subject: it was written down before it was asked for."""
    name = f"{tag}ann"
    room = await admin.create_room()
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}first")
        await settled(idp)
        made = lose_creation(mas)
        person = await idp.create_user(name, externalId=None)
        await idp.create_group("G", [person], externalId="g")
        await made()
        if end is not None:
            await process.stop(end)
        back(mas)
        if end is not None:
            await process.start()
        await room_holds(admin, room, {name})
        await settled(idp)
        await shown(process, "users", name, state="active", bound="mark", account=mxid(name))


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_whoever_goes_before_the_answer_to_their_creation_is_locked(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str, how: str
) -> None:
    """The identity provider taking its word back leaves no account behind that nobody knows of."""
    name = f"{tag}ann"
    async with service({}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}first")
        await settled(idp)
        made = lose_creation(mas)
        person = await idp.create_user(name)
        await made()
        if how == "disabled":
            await disable(idp, person)
        else:
            await idp.ok("DELETE", f"/Users/{person}")
        back(mas)
        await eventually(lambda: account(admin, name), lambda seen: bool(seen["locked"]))
        await settled(idp)


async def test_whoever_is_disabled_before_a_crash_is_found_after_it(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """Without a subject only when the account was asked for tells whose it is."""
    name = f"{tag}ann"
    async with service({}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}first")
        await settled(idp)
        made = lose_creation(mas)
        person = await idp.create_user(name, externalId=None)
        await made()
        await disable(idp, person)
        await process.stop(signal.SIGKILL)
        back(mas)
        await process.start()
        await eventually(lambda: account(admin, name), lambda seen: bool(seen["locked"]))
        await settled(idp)


async def test_a_bad_network_to_mas_loses_nothing(
    mas: Mas, admin: MasAdmin, service: StartService, tag: str
) -> None:
    """Late, cut and lost answers, 5xx, forgotten tokens, a restart: all ends right, and once."""
    room = await admin.create_room()
    names = [f"{tag}p{n}" for n in range(6)]
    async with service({"g": [room]}) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}first")
        await settled(idp)
        left, turn = 16, 0

        def due() -> bool:
            nonlocal left, turn
            turn += 1
            if not left or turn % 3:
                return False
            left -= 1
            return True

        def fault(method: str, path: str) -> web.Response | None:
            if not admin_api(path) or not due():
                return None
            if turn % 4 == 0:
                mas.expire_tokens()
                return None
            if turn % 4 == 1:
                return web.json_response({"errors": [{"title": "no"}]}, status=500)
            return web.Response(status=502, text="<html>", content_type="text/html")

        async def late(method: str, path: str) -> None:
            # The network's time, differing so that requests overtake each other.
            await asyncio.sleep(len(mas.requests) % 4 * 0.05)

        mas.delay = late
        mas.fault = fault
        mas.lost = lambda method, path: method != "GET" and path.startswith(API) and due()
        people = {}
        for name in names:
            emails = [{"value": f"{name}@x.test"}]
            people[name] = await idp.create_user(name, displayName=name.title(), emails=emails)
        await idp.create_group("G", list(people.values()), externalId="g")
        await mas.stop()
        await mas.start()
        await room_holds(admin, room, set(names), 60)
        await disable(idp, people[names[0]])
        await room_holds(admin, room, set(names[1:]))
        back(mas)
        await settled(idp)
        assert left < 16
        for name in names:
            found = await account(admin, name)
            assert found["displayname"] == name.title()
            assert found["locked"] is (name == names[0])
            addresses = [threepid["address"] for threepid in found["threepids"]]
            assert addresses == [f"{name}@x.test"]
            links = [x["external_id"] for x in found["external_ids"]]
            assert links.count(f"ext-{name}") == 1


# -- The token -----------------------------------------------------------------


async def test_a_token_that_is_refused_is_replaced(
    mas: Mas, admin: MasAdmin, staffed: StartStaffed, tag: str
) -> None:
    """Where Synapse does not take the kept token the service makes another; no log has either."""
    room = await admin.create_room()
    async with staffed(room, f"{tag}ann") as s:
        file = s.process.data_dir / "matrix-token.json"
        assert file.stat().st_mode & 0o777 == 0o600
        kept = json.loads(file.read_text())
        await s.process.stop()
        # What Synapse does not know: it would remember one that was good for two minutes.
        file.write_text(json.dumps({**kept, "token": "mpt_of-another-time"}))
        await s.process.start()
        await s.idp.add(s.group, await s.idp.create_user(f"{tag}bob"))
        await room_holds(admin, room, {f"{tag}ann", f"{tag}bob"})
        now = json.loads(file.read_text())
        assert now["session"] == kept["session"]
        words = (s.process.data_dir / "service.log").read_text()
        assert "token_made" in words
        assert now["token"] not in words
        assert kept["token"] not in words


# -- check ---------------------------------------------------------------------


async def test_check_says_what_mas_lacks_and_how_to_mend_it(
    mas: Mas, service: StartService, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thing that MAS has to be is looked at; what is not so is an error with its cure."""
    async with service({}) as process:
        await settled(ScimClient(process.url))
        status, output = await command(process, "check")
        assert status == 0, output
        assert "lets the client administer it" in output
        assert "the token is an admin's" in output
        own = mas.state.account_named("scim-bot")
        assert own is not None

        async def finds(*words: str) -> None:
            status, output = await command(process, "check")
            assert status == 1, output
            assert all(word in output for word in words), output

        mas.client_is_admin = False
        await finds("MAS_CLIENT_ID", "admin_clients", CLIENT_ID)
        mas.client_is_admin = True
        away(mas)
        await finds("MAS_URL", "adminapi")
        back(mas)
        monkeypatch.setattr(mas.state, "version", "1.4.0")
        await finds("MAS_URL", "1.5")
        monkeypatch.undo()
        mas.provider.disabled_at = mas.state.now()
        await finds("MAS_PROVIDER", "upstream_oauth2")
        mas.provider.disabled_at = None
        own.locked_at = mas.state.now()
        await finds("MATRIX_ADMIN_USER_ID", "unlock-user")
        own.locked_at, own.deactivated_at = None, mas.state.now()
        await finds("MATRIX_ADMIN_USER_ID", "is deactivated in MAS")
        own.deactivated_at = None
        for session in sessions_of(mas, "scim-bot"):
            session.revoked_at = mas.state.now()
        await process.stop()
        (process.data_dir / "matrix-token.json").unlink()
        status, output = await command(process, "check")
        assert status == 0, output
        assert "makes itself a token" in output
        assert CLIENT_SECRET not in output


# -- Moving --------------------------------------------------------------------

_SQL = Path(__file__).parents[2] / "docs" / "setup" / "mas.md"


def marks_aside(synapse: sqlite3.Connection) -> Callable[[], None]:
    """Put the marks aside by the statements of the guide; return what puts them back."""
    [block] = re.findall("```sql\n(.*?)```", _SQL.read_text(), re.DOTALL)
    before, _, afterwards = textwrap.dedent(block).partition("-- afterwards")
    assert "DELETE" in before
    assert "INSERT" in afterwards
    synapse.executescript(before)
    count = "SELECT COUNT(*) FROM user_external_ids WHERE auth_provider = 'scim-matrix'"
    assert synapse.execute(count).fetchone() == (0,)

    def put_back() -> None:
        synapse.executescript(afterwards)

    return put_back


def syn2mas(synapse: sqlite3.Connection, mas: Mas) -> None:
    """Give MAS what Synapse's database has of accounts, as `syn2mas` does.

    Refuses external IDs of providers that MAS does not have, as that does.
    """
    now = mas.state.now()
    accounts = {}
    query = "SELECT name, admin, locked, deactivated FROM users"
    for user_id, is_admin, locked, deactivated in synapse.execute(query):
        name = user_id[1:].partition(":")[0]
        one = Account(mas.state.ulid(), now, name, bool(is_admin))
        one.locked_at = now if locked else None
        one.deactivated_at = now if deactivated else None
        mas.state.accounts[one.id] = accounts[user_id] = one
    query = "SELECT auth_provider, external_id, user_id FROM user_external_ids"
    for provider, subject, user_id in synapse.execute(query):
        assert provider == IDP, "Missing auth provider mapping"
        mas.add_link(subject, accounts[user_id])
    for address, user_id in synapse.execute("SELECT address, user_id FROM user_threepids"):
        email = Email(mas.state.ulid(), now, accounts[user_id].id, address)
        mas.state.emails[email.id] = email


@dataclass
class Move:
    """A Synapse that keeps its accounts, what will take them over, and the service."""

    synapse: Synapse
    mas: Mas
    process: Service
    root: User
    stack: contextlib.AsyncExitStack

    async def delegate(self, external_ids: str) -> None:
        """Have MAS take the accounts over; `external_ids` is what becomes of Synapse's own."""
        await self.synapse.stop()
        database = sqlite3.connect(self.synapse.folder / "synapse.db")
        put_back = marks_aside(database)
        syn2mas(database, self.mas)
        if external_ids != "gone":
            put_back()
        else:
            database.execute("DELETE FROM user_external_ids")
        database.commit()
        database.close()
        await self.mas.start()
        self.stack.push_async_callback(self.mas.stop)
        self.synapse.delegation = Delegation(self.mas.url, self.mas.secret)
        (self.synapse.folder / "homeserver.yaml").unlink()
        await self.synapse.start()
        own = self.mas.state.account_named("scim-bot")
        assert own is not None
        self.root = await self.mas.session(own, "ADMIN", f"{USER_SCOPE} urn:synapse:admin:*")


@contextlib.asynccontextmanager
async def moving(folder: Path) -> AsyncIterator[Move]:
    """Run a Synapse that keeps its accounts, and a service that is not started yet."""
    (folder / "synapse").mkdir()
    synapse = Synapse(folder / "synapse")
    async with contextlib.AsyncExitStack() as stack:
        await synapse.start()
        stack.push_async_callback(synapse.stop)
        root = await synapse.register("scim-bot", admin=True)
        room = await root.create_room()
        process = PreforkedService(
            folder / "data", synapse.url, root.user_id, root.token, json.dumps({"g": [room]})
        )
        stack.push_async_callback(process.stop)
        yield Move(synapse, Mas(synapse.url, "secret-of-both"), process, root, stack)


# More than 20 s of a busy machine: a Synapse of its own starts twice, the service four times.
@pytest.mark.parametrize("external_ids", ["put aside and back", "gone"])
async def test_a_plain_server_moves_to_mas_and_nobody_is_removed(
    tmp_path: Path, external_ids: str
) -> None:
    """With its filled database the service finds everybody, and asks for nothing but a token.

    Also whoever has a mark only, was deleted lately, or was deactivated for good.
    """
    async with moving(tmp_path) as move:
        process = move.process
        process.more = {"DELETE_GRACE": "1d"}
        await process.start()
        idp = ScimClient(process.url)
        [room] = json.loads(process.group_map)["g"]
        emails = [{"value": "ann@x.test"}]
        people = {"ann": await idp.create_user("ann", emails=emails)}
        people["dora"] = await idp.create_user("dora", externalId=None)
        for name in ("bob", "cat", "eve"):
            people[name] = await idp.create_user(name)
        group = await idp.create_group("G", list(people.values()), externalId="g")
        await room_holds(move.root, room, set(people))
        await disable(idp, people["bob"])
        await idp.ok("DELETE", f"/Users/{people['eve']}")
        await room_holds(move.root, room, {"ann", "cat", "dora"})
        await settled(idp)
        await process.stop()
        await move.delegate(external_ids)
        mas = move.mas

        # With the settings of before nobody is removed.
        process.admin_token = move.root.token
        await process.start()
        await idp.remove(group, people["cat"])
        await eventually(lambda: ready(idp), lambda s: s["work"]["sparedPairs"] == 1)
        assert await move.root.members(room) == {"scim-bot", "ann", "cat", "dora"}
        await process.stop()

        mas.requests.clear()
        process.admin_token, process.more = "", {**mas.settings, "DRY_RUN": "true"}
        await process.start()
        await conditions(idp, "ready", "ready")

        async def withheld() -> set[tuple[str, str]]:
            entries = await logged(process, "--since", "1h")
            return {(e["kind"], e["user_id"]) for e in entries if e["outcome"] == "dry_run"}

        would = await eventually(withheld, bool)
        assert would == {("kick", mxid("cat"))}
        await process.stop()

        process.more = mas.settings
        await process.start()
        await room_holds(move.root, room, {"ann", "dora"})
        await settled(idp)
        changed = [path for method, path in mas.asked if method != "GET"]
        assert changed == ["/personal-sessions"]
        await idp.patch(f"/Users/{people['bob']}", {"op": "replace", "value": {"active": True}})
        await idp.patch(f"/Users/{people['dora']}", {"op": "replace", "value": {"title": "Dr"}})
        again = await idp.create_user("eve")
        await idp.add(group, again)
        await room_holds(move.root, room, {"ann", "bob", "dora", "eve"})
        await settled(idp)
        names = sorted(account.username for account in mas.state.accounts.values())
        assert names == ["ann", "bob", "cat", "dora", "eve", "scim-bot"]
        assert not any(account.locked_at for account in mas.state.accounts.values())
        links = sorted(link.subject for link in mas.state.links.values())
        assert links == ["ext-ann", "ext-bob", "ext-cat", "ext-eve"]
        assert [email.email for email in mas.state.emails.values()] == ["ann@x.test"]
