"""What `check` finds in settings that are well formed and still wrong."""

import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from scim_matrix.config import Settings
from scim_matrix.groupmap import Mapping, Template
from scim_matrix.matrix.server import Homeserver
from scim_matrix.ops import check, check_settings
from scim_matrix.ops.findings import Finding
from tests.homeserver import World, serving
from tests.homeserver.server import Fault
from tests.service.conftest import environment

LOGIN = {
    "flows": [
        {"type": "m.login.password"},
        {"type": "m.login.sso", "identity_providers": [{"id": "oidc-real", "name": "Real"}]},
    ]
}
USERS = ["@ann:example.org", "@bot-1:example.org", "@eve:example.org"]


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """Answer as Synapse does, a page of one account at a time."""
    if request.path == "/_matrix/client/versions":
        return web.json_response({"versions": ["v1.11"]})
    if request.path == "/_matrix/client/v3/login":
        assert "Authorization" not in request.headers
        return web.json_response(LOGIN)
    if request.path == "/_synapse/admin/v2/users":
        assert request.headers["Authorization"] == "Bearer token"
        start = int(request.query.get("from", 0))
        listed = {"name": USERS[start], "displayname": None, "admin": False, "deactivated": False}
        page: dict[str, Any] = {"users": [listed]}
        if start + 1 < len(USERS):
            page["next_token"] = str(start + 1)
        return web.json_response(page)
    raise web.HTTPNotFound


@contextlib.asynccontextmanager
async def homeserver(
    tls: ssl.SSLContext | None = None, handler: Any = answer
) -> AsyncIterator[str]:
    """Run something that answers at a socket and give its address."""
    server = RawTestServer(handler, scheme="https" if tls else "http")
    await server.start_server(ssl=tls, access_log=None)
    try:
        yield f"{server.scheme}://127.0.0.1:{server.port}"
    finally:
        await server.close()


def told(findings: Any) -> list[tuple[str, str, str]]:
    """Return findings that are not well as verdict, variable and cure."""
    return [(f.verdict, f.about, f.cure) for f in findings if f.verdict != "ok"]


def settings(folder: Path, **more: str) -> Settings:
    """Return good settings with some changed."""
    return environment(folder, **more)


async def of_homeserver(asked: Settings) -> list[Finding]:
    """Return what is found by asking the homeserver."""
    homeserver = Homeserver.connect(
        asked.matrix_url, "@bot:example.org", "token", asked.idp_name or "", dry_run=True
    )
    try:
        return await check_settings.of_homeserver(asked, homeserver)
    finally:
        await homeserver.close()


async def test_the_identity_providers_name_is_asked_for(tmp_path: Path) -> None:
    """An IDP_NAME that the homeserver does not offer is a warning that lists what it offers."""
    async with homeserver() as url:
        wrong = await of_homeserver(settings(tmp_path, MATRIX_URL=url))
        assert [(f.verdict, f.about) for f in wrong] == [("warning", "IDP_NAME")]
        assert "oidc-real" in wrong[0].found
        right = settings(tmp_path, MATRIX_URL=url, IDP_NAME="oidc-real")
        [found] = await of_homeserver(right)
        assert (found.verdict, found.about) == ("ok", "IDP_NAME")


async def test_the_server_of_an_alias_that_is_away_keeps_no_other_room_from_being_looked_at(
    tmp_path: Path,
) -> None:
    """It is that alias which cannot be right, not the homeserver."""
    async with serving(World("example.org", "@bot:example.org")) as synapse:
        room = synapse.world.room("@bot:example.org")
        synapse.faults.append(Fault("unavailable", lambda request: "directory" in request.path, 9))
        given = json.dumps({"g": ["#a:else.where", room.room_id]})
        asked = settings(tmp_path, MATRIX_URL=synapse.url, IDP_GROUP_TO_ROOM=given)
        found = {(f.about, f.verdict): f.cure for f in await check.check(asked)}
    assert found["#a:else.where", "error"] == "let that server answer, or correct the map"
    assert (room.room_id, "ok") in found
    assert ("homeserver", "error") not in found


async def test_patterns_that_protect_nobody_are_told(tmp_path: Path) -> None:
    """A PROTECTED_USERS pattern that matches no account, on any page, is a warning."""
    async with homeserver() as url:
        patterns = "@ann:example.org @e*:example.org @bot-?:* *:example.org @an:example.org @x*:*"
        asked = settings(tmp_path, MATRIX_URL=url, IDP_NAME="oidc-real", PROTECTED_USERS=patterns)
        found = [f for f in await of_homeserver(asked) if f.verdict != "ok"]
    assert [(f.verdict, f.about) for f in found] == [("warning", "PROTECTED_USERS")] * 2
    assert [f.found.split()[0] for f in found] == ["@an:example.org", "@x*:*"]


async def test_the_scheme_of_the_address_is_tried(tmp_path: Path) -> None:
    """https to a homeserver that speaks http, the reverse, and an address that sends on."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with homeserver() as plain, homeserver(tls) as secure:
        for wrong, right in (
            (plain.replace("http:", "https:"), plain),
            (secure.replace("https:", "http:"), secure),
        ):
            found = await check_settings.of_address(settings(tmp_path, MATRIX_URL=wrong))
            assert told(found) == [("error", "MATRIX_URL", f"set MATRIX_URL to {right}")]
            assert await check_settings.of_address(settings(tmp_path, MATRIX_URL=right)) == []

        async def send_on(request: web.BaseRequest) -> web.StreamResponse:
            raise web.HTTPMovedPermanently(f"{secure}{request.path}")

        async with homeserver(handler=send_on) as moved:
            found = await check_settings.of_address(settings(tmp_path, MATRIX_URL=moved))
            assert told(found) == [("error", "MATRIX_URL", f"set MATRIX_URL to {secure}")]


async def test_a_loopback_address_in_a_container_is_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing answers at 127.0.0.1, it is said whose that address is; not of other hosts."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    [found] = await check_settings.of_address(settings(tmp_path))
    assert (found.verdict, found.about) == ("error", "MATRIX_URL")
    assert "inside a container is the container itself" in found.found
    assert "http://synapse:8008" in found.cure
    elsewhere = settings(tmp_path, MATRIX_URL="http://synapse.invalid:8008")
    assert await check_settings.of_address(elsewhere) == []


@pytest.mark.parametrize(
    ("more", "mapping", "expected"),
    [
        ({"MATRIX_URL": "http://h:1/_matrix"}, None, ("error", "MATRIX_URL", "http://h:1")),
        ({"MATRIX_URL": "http://h:1/_matrix/client/"}, None, ("error", "MATRIX_URL", "http://h:1")),
        ({"MATRIX_URL": "http://h:1/base"}, None, None),
        ({"PROTECTED_USERS": "ann"}, None, ("warning", "PROTECTED_USERS", "@ann:example.org")),
        ({"PROTECTED_USERS": "@ann:* *:x.org"}, None, None),
        ({}, Mapping("everyone", "", "#r:example.org"), None),
        ({}, Mapping("everyone", "", "!r:other.org"), None),
        (
            {},
            Mapping("everyone", "", "#r:other.org"),
            ("warning", "GROUP_MAP_FILE", "#r:example.org"),
        ),
        (
            {},
            Mapping("everyone", "", "#r:other.org", create=Template("R")),
            ("error", "GROUP_MAP_FILE", "example.org"),
        ),
        (
            {"IDP_GROUP_TO_ROOM": '{"*": ["#r:other.org"]}'},
            Mapping("everyone", "", "#r:other.org"),
            ("warning", "IDP_GROUP_TO_ROOM", "#r:example.org"),
        ),
    ],
)
def test_what_the_settings_themselves_show(
    tmp_path: Path,
    more: dict[str, str],
    mapping: Mapping | None,
    expected: tuple[str, str, str] | None,
) -> None:
    """Addresses with a path too much, patterns without a server, aliases of other servers."""
    mappings = [] if mapping is None else [mapping]
    found = told(check_settings.of_words(settings(tmp_path, **more), mappings))
    if expected is None:
        assert found == []
    else:
        [(verdict, about, cure)] = found
        assert ((verdict, about), expected[2] in cure) == (expected[:2], True), cure


def test_keys_that_match_no_group_are_told(tmp_path: Path) -> None:
    """A name without displayName: is told so, what no group has yet is a warning."""
    groups: list[dict[str, Any]] = [
        {"displayName": "Engineering", "externalId": "e1"},
        {"displayName": "[Sales] EU", "externalId": None},
    ]
    mappings = [
        Mapping("everyone", "", "#r:example.org"),
        *(Mapping("external_id", id, "#r:example.org") for id in ("e1", "Engineering", "e2")),
        *(
            Mapping("display_name", pattern, "#r:example.org")
            for pattern in ("Eng*", "[[]Sales]*", "[[]Support]*")
        ),
    ]
    found = list(check_settings.of_groups(settings(tmp_path), mappings, groups))
    assert {f.verdict for f in found} == {"warning"}
    assert [f.cure for f in found][:1] == ['write "displayName:Engineering"']
    assert ["e2" in found[1].found, "[Support]*" in found[2].found, len(found)] == [True, True, 3]
    assert list(check_settings.of_groups(settings(tmp_path), mappings, [])) == []


def test_a_folder_that_cannot_be_made_is_found(tmp_path: Path) -> None:
    """A DATA_DIR that is a file, below one or in /proc is an error, one that can be made is fine.

    It is tried, whoever asks, and nothing of it stays.
    """
    file = tmp_path / "file"
    file.write_text("")
    for folder, why in (
        (file, f"{file} is no directory"),
        (file / "data", f"{file} is no directory"),
        (Path("/proc/scim-matrix/data"), "/proc/scim-matrix: "),
    ):
        [found] = check_settings.of_files(folder)
        assert (found.verdict, found.about) == ("error", "DATA_DIR")
        assert found.found.startswith(f"{folder} cannot be made: {why}")
        assert "chmod" not in found.cure
    assert [f.verdict for f in check_settings.of_files(tmp_path / "new" / "data")] == ["ok"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_open_to_others_is_a_warning(tmp_path: Path) -> None:
    """Who else may read names and addresses is told with the chmod that ends it."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    file = folder / "scim-matrix.sqlite3"
    file.write_text("")
    file.chmod(0o600)
    assert list(check_settings.of_files(folder)) == []
    folder.chmod(0o750)
    file.chmod(0o644)
    found: list[Finding] = list(check_settings.of_files(folder))
    assert told(found) == [
        ("warning", "DATA_DIR", f"chmod 700 {folder}"),
        ("warning", "DATA_DIR", f"chmod 600 {file}"),
    ]


def test_a_token_that_others_may_read_is_a_warning(tmp_path: Path) -> None:
    """The one that the service made itself is told with the way to keep it from them."""
    tmp_path.chmod(0o700)
    file = tmp_path / "matrix-token.json"
    file.touch(mode=0o600)
    assert list(check_settings.of_files(tmp_path)) == []
    file.chmod(0o640)
    [found] = check_settings.of_files(tmp_path)
    assert (found.verdict, found.about, found.cure) == ("warning", "DATA_DIR", f"chmod 600 {file}")
    assert "it holds a token" in found.found
