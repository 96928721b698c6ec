"""Whose trouble it is, and what would mend it: settings that do not fit, tokens not to be had."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from scim_matrix.config import Settings
from scim_matrix.demo.mas import Mas
from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User, free_port
from scim_matrix.matrix.connecting import connect
from scim_matrix.matrix.errors import TokenError
from scim_matrix.ops.check import check
from scim_matrix.ops.findings import Finding
from tests.mas.conftest import Delegated
from tests.mas.test_service import away, back, conditions
from tests.service.conftest import environment
from tests.synapse.conftest import StartService, command, metric, settled
from tests.synapse.proxy import proxying

Answer = Callable[[], web.Response]


@pytest.fixture(name="bot")
def _bot(tag: str) -> str:
    return f"@{tag}bot:{SERVER_NAME}"


def sessions(mas: Mas) -> int:
    """Return how many personal sessions were ever made."""
    return len(mas.state.personal_sessions)


# -- No token where none is of use ---------------------------------------------


async def test_no_token_is_made_on_a_server_that_keeps_its_accounts(
    plain: tuple[Synapse, User], mas: Mas, service: StartService, tag: str, bot: str
) -> None:
    """With MAS_URL and no token of its own nothing is made in MAS: that is said, with the cure."""
    before, accounts = sessions(mas), set(mas.state.accounts)
    more = {"MATRIX_URL": plain[0].url, "MATRIX_ADMIN_USER_ID": bot}
    async with service({}, **more) as process:
        idp = ScimClient(process.url)
        await idp.create_user(f"{tag}ann")
        seen = await conditions(idp, "mismatched", "ready")
        assert "MAS_URL" in seen["homeserver"]["detail"]
        assert "homeserver-mismatched" in seen["codes"]
        log = (process.data_dir / "service.log").read_text()
        assert "homeserver_mismatched" in log
        assert "MATRIX_ADMIN_TOKEN and IDP_NAME are needed then" in log
        status, output = await command(process, "check")
        assert status == 1
        assert "Synapse keeps accounts itself" in output
        assert [method for method, _ in mas.asked if method != "GET"] == []
        assert sessions(mas) == before
        assert set(mas.state.accounts) == accounts


UNTELLING: dict[str, Answer] = {
    "a proxy's 404": lambda: web.Response(status=404, text="<html>", content_type="text/html"),
    "forbidden": lambda: web.json_response({"errcode": "M_FORBIDDEN", "error": ""}, status=403),
    "an error": lambda: web.json_response({"errcode": "M_UNKNOWN", "error": ""}, status=500),
    "something else": lambda: web.json_response({}),
}


@pytest.mark.parametrize("what", UNTELLING)
async def test_no_token_is_made_where_it_cannot_be_told_who_keeps_the_accounts(
    delegated: Delegated, mas: Mas, service: StartService, bot: str, what: str
) -> None:
    """What is no answer of Synapse's own is no "no": it is asked again until there is one."""
    before = sessions(mas)
    async with proxying(delegated.synapse.url) as proxy:
        proxy.fault = lambda method, path: (
            UNTELLING[what]() if path.endswith("/auth_metadata") else None
        )
        more = {"MATRIX_URL": proxy.url, "MATRIX_ADMIN_USER_ID": bot}
        async with service({}, **more) as process:
            idp = ScimClient(process.url)
            await conditions(idp, "down", "ready")
            status, output = await command(process, "check")
            assert status == 1
            assert "keeps accounts itself" not in output
            assert sessions(mas) == before
            proxy.fault = lambda method, path: None
            await conditions(idp, "ready", "ready")
            assert sessions(mas) == before + 1


async def test_a_wrong_token_does_not_hide_that_synapse_keeps_its_accounts(
    plain: tuple[Synapse, User], mas: Mas, service: StartService
) -> None:
    """Whatever MATRIX_ADMIN_TOKEN is: MAS_URL is what has to go first."""
    async with service({}, MATRIX_URL=plain[0].url, MATRIX_ADMIN_TOKEN="wrong") as process:
        await conditions(ScimClient(process.url), "mismatched", "ready")


# -- Whose trouble --------------------------------------------------------------


async def test_a_token_that_mas_does_not_give_is_no_trouble_of_the_homeserver(
    mas: Mas, service: StartService, bot: str
) -> None:
    """While MAS is away at the first start, the homeserver waits for it; each is told apart."""
    away(mas)
    async with service({}, MATRIX_ADMIN_USER_ID=bot) as process:
        idp = ScimClient(process.url)
        seen = await conditions(idp, "waiting", "down")
        assert {"homeserver-waiting", "mas-down"} <= set(seen["codes"])
        assert "homeserver-down" not in seen["codes"]
        assert await metric(process, "scim_matrix_homeserver_waits_for_mas") == 1
        log = (process.data_dir / "service.log").read_text()
        assert "homeserver_waiting" in log
        assert "homeserver_down" not in log
        back(mas)
        await conditions(idp, "ready", "ready")
        assert await metric(process, "scim_matrix_homeserver_waits_for_mas") == 0


@pytest.mark.parametrize("what", ["locked", "deactivated"])
async def test_a_lock_of_the_services_own_account_is_told_as_that(
    mas: Mas, service: StartService, bot: str, what: str
) -> None:
    """Neither the homeserver nor MAS's client is blamed for it, and nothing is made."""
    own = await mas.add_account(bot[1:].partition(":")[0])
    setattr(own, f"{what}_at", mas.state.now())
    before = sessions(mas)
    async with service({}, MATRIX_ADMIN_USER_ID=bot) as process:
        idp = ScimClient(process.url)
        seen = await conditions(idp, "waiting", "ready")
        assert not {"homeserver-refused", "homeserver-down", "mas-refused"} & set(seen["codes"])
        assert f"{bot} is {what} in MAS" in (process.data_dir / "service.log").read_text()
        assert sessions(mas) == before
        setattr(own, f"{what}_at", None)
        await conditions(idp, "ready", "ready")


async def test_a_mas_that_synapse_alone_does_not_reach_is_told_as_that(
    mas: Mas, service: StartService, bot: str
) -> None:
    """Synapse refusing a token since it cannot ask MAS about it is no trouble of Synapse's."""
    async with service({}, MATRIX_ADMIN_USER_ID=bot) as process:
        idp = ScimClient(process.url)
        await settled(idp)
        await process.stop()
        # One that Synapse has not asked about: it remembers for two minutes.
        file = process.data_dir / "matrix-token.json"
        kept = json.loads(file.read_text())
        mas.state.tokens["mpt_new"] = mas.state.tokens[kept["token"]]
        file.write_text(json.dumps({**kept, "token": "mpt_new"}))
        mas.fault = lambda method, path: (
            web.Response(status=502) if path.endswith("/introspect") else None
        )
        await process.start()
        seen = await conditions(idp, "waiting", "ready")
        assert "homeserver-down" not in seen["codes"]
        back(mas)
        await conditions(idp, "ready", "ready")


async def test_a_homeserver_is_not_there_while_it_takes_no_token(
    delegated: Delegated, mas: Mas, tmp_path: Path
) -> None:
    """With MAS its being there is not its answering, but its knowing whose the token is."""
    settings = environment(
        tmp_path,
        MATRIX_URL=delegated.synapse.url,
        MATRIX_SERVER_NAME=SERVER_NAME,
        MATRIX_ADMIN_USER_ID=delegated.admin.user_id,
        **{**mas.settings, "MATRIX_ADMIN_TOKEN": "mpt_unknown"},
    )
    homeserver = connect(settings, dry_run=True)
    assert await homeserver.server_version()
    with pytest.raises(TokenError):
        await homeserver.is_there()
    await homeserver.close()


async def test_a_command_asks_with_the_token_that_was_made_before_or_with_none(
    delegated: Delegated, mas: Mas, tmp_path: Path, bot: str
) -> None:
    """It makes none itself, and without one there is nothing to ask the homeserver with."""
    settings = environment(
        tmp_path,
        MATRIX_URL=delegated.synapse.url,
        MATRIX_SERVER_NAME=SERVER_NAME,
        MATRIX_ADMIN_USER_ID=bot,
        **{**mas.settings, "MATRIX_ADMIN_TOKEN": ""},
    )
    assert settings.data_dir is not None
    settings.data_dir.mkdir()
    homeserver = connect(settings, dry_run=False)
    assert not homeserver.take_stored_token()
    assert homeserver.token == ""
    assert await homeserver.sign_in() == bot
    command = connect(settings, dry_run=True)
    assert command.take_stored_token()
    assert command.token == homeserver.token
    assert await command.whoami() == bot
    await command.close()
    await homeserver.close()


# -- The token's file -----------------------------------------------------------


async def test_a_token_file_that_cannot_be_read_is_a_configuration_error(
    mas: Mas, service: StartService, bot: str
) -> None:
    """`check` and `serve` say the same of it, and how to mend it; nothing is started."""
    async with service({}, MATRIX_ADMIN_USER_ID=bot) as process:
        await settled(ScimClient(process.url))
        await process.stop()
        file = process.data_dir / "matrix-token.json"
        file.unlink()
        file.mkdir()
        before = sessions(mas)
        for words in ("check", "serve"):
            status, output = await command(process, words)
            assert status == 2, output
            assert f"{file} cannot be read" in re.sub(r"\s+", " ", output)
            assert "delete it" in re.sub(r"\s+", " ", output)
            assert "Traceback" not in output
        assert sessions(mas) == before


# -- Cures ------------------------------------------------------------------------

# Settings beside those that all have; `good` and `bad` stand for tokens.
SETTINGS: dict[str, dict[str, str]] = {
    "mas": {"MAS": "1"},
    "mas, its token": {"MAS": "1", "MATRIX_ADMIN_TOKEN": "good"},
    "mas, a wrong token": {"MAS": "1", "MATRIX_ADMIN_TOKEN": "bad"},
    "a token": {"MATRIX_ADMIN_TOKEN": "good"},
    "a wrong token": {"MATRIX_ADMIN_TOKEN": "bad"},
}
# What is wrong, and words of the cure.
WRONG: dict[tuple[str, str], tuple[str, str]] = {
    ("mas", "plain"): ("MAS_URL", "IDP_NAME are needed then"),
    ("mas", "unreachable"): ("homeserver", "MATRIX_URL"),
    ("mas, its token", "plain"): ("MAS_URL", "or have Synapse delegate"),
    ("mas, its token", "unreachable"): ("homeserver", "MATRIX_URL"),
    ("mas, a wrong token", "delegating"): ("homeserver", "take MATRIX_ADMIN_TOKEN out"),
    ("mas, a wrong token", "plain"): ("MAS_URL", "or have Synapse delegate"),
    ("mas, a wrong token", "unreachable"): ("homeserver", "MATRIX_URL"),
    ("a token", "unreachable"): ("homeserver", "MATRIX_URL"),
    ("a wrong token", "delegating"): ("homeserver", "or MAS_URL, MAS_CLIENT_ID and"),
    ("a wrong token", "plain"): ("homeserver", "make @root:demo.test a server admin"),
    ("a wrong token", "unreachable"): ("homeserver", "MATRIX_URL"),
}


def contradictions(settings: Settings, findings: list[Finding]) -> list[str]:
    """Return the words that cannot be right with these settings."""
    has_mas, given = settings.mas_url is not None, settings.matrix_admin_token is not None
    words = " | ".join(f"{f.found} | {f.cure}" for f in findings)
    wrong = []
    if has_mas:
        wrong += re.findall(r"set MAS_URL|without MAS_URL|MAS_URL is not set", words)
    else:
        wrong += re.findall(r"take MAS_URL|MAS_URL is set", words)
    if has_mas:
        wrong += re.findall(r"set MATRIX_ADMIN_TOKEN", words)
    if not given:
        wrong += re.findall(r"take MATRIX_ADMIN_TOKEN|token of MATRIX_ADMIN_USER_ID", words)
    return wrong


@pytest.mark.parametrize("keeper", ["delegating", "plain", "unreachable"])
@pytest.mark.parametrize("which", SETTINGS)
async def test_no_cure_contradicts_the_settings_or_itself(
    delegated: Delegated,
    plain: tuple[Synapse, User],
    mas: Mas,
    tmp_path: Path,
    which: str,
    keeper: str,
) -> None:
    """For whatever is set and whoever keeps the accounts, `check` says the one thing to do."""
    servers: dict[str, tuple[str, User]] = {
        "delegating": (delegated.synapse.url, delegated.admin),
        "plain": (plain[0].url, plain[1]),
        "unreachable": (f"http://127.0.0.1:{free_port()}", plain[1]),
    }
    url, root = servers[keeper]
    told = dict(SETTINGS[which])
    more = mas.settings if told.pop("MAS", "") else {"IDP_NAME": "oidc-demo"}
    tokens = {"good": root.token, "bad": "wrong", "": ""}
    settings = environment(
        tmp_path,
        MATRIX_URL=url,
        MATRIX_SERVER_NAME=SERVER_NAME,
        MATRIX_ADMIN_USER_ID=root.user_id,
        **{**more, "MATRIX_ADMIN_TOKEN": tokens[told.get("MATRIX_ADMIN_TOKEN", "")]},
    )
    findings = await check(settings)
    assert contradictions(settings, findings) == []
    # In a container it is also told that the container's own address is none of a homeserver.
    errors = [
        (f.about, f.cure) for f in findings if f.verdict == "error" and f.about != "MATRIX_URL"
    ]
    if (which, keeper) not in WRONG:
        assert errors == []
        return
    about, words = WRONG[which, keeper]
    assert [error[0] for error in errors] == [about]
    assert words in errors[0][1]
