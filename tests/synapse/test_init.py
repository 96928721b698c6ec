"""`scim-matrix init` against a real Synapse: with options alone, and at a terminal."""

import asyncio
import contextlib
import json
import os
import pty
import stat
import sys
import termios
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import dotenv
import pytest

from scim_matrix.config import Settings
from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import SERVER_NAME, Synapse, User, free_port
from tests.conftest import eventually
from tests.preforked import fork
from tests.synapse.conftest import group_of, ready, room_holds

COMMAND = (sys.executable, "-m", "scim_matrix")


async def run(
    folder: Path, *words: str, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a command in a folder with nothing else in its environment."""
    output = folder / "output"
    output.unlink(missing_ok=True)
    process = fork(words, {"PATH": os.environ["PATH"], **(environment or {})}, folder, output)
    return await process.wait(), output.read_text()


def answers(synapse: Synapse, admin: User, folder: Path) -> list[str]:
    """Return the options that say all that is needed."""
    given = {
        "--matrix-url": synapse.url,
        "--matrix-admin-token": admin.token,
        "--idp-name": "oidc-demo",
        "--public-url": "https://scim.demo.test/",
        "--data-dir": str(folder / "data"),
        "--provider": "authentik",
        "--file": str(folder / "made" / "scim-matrix.env"),
    }
    return [word for pair in given.items() for word in pair]


async def test_everything_can_be_given(
    synapse: Synapse, admin: User, tag: str, tmp_path: Path
) -> None:
    """The file is its owner's alone and what a service starts with; what to paste is printed."""
    room = await admin.create_room(name=f"{tag}Kitchen", room_alias_name=f"{tag}kitchen")
    alias, new = f"#{tag}kitchen:{SERVER_NAME}", f"#{tag}new:{SERVER_NAME}"
    nameless = await admin.create_room()
    status, output = await run(
        tmp_path,
        *("init", *answers(synapse, admin, tmp_path), "--make-rooms"),
        *("--open", f"Cooks # and more={tag}KITCHEN", "--open", f"New={new}"),
        *("--open", f"New={nameless}"),
    )
    assert status == 0, output
    file = tmp_path / "made" / "scim-matrix.env"
    made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    names = ("scim-matrix.env", "webhook_secret", "matrix_admin_token")
    assert made == dict.fromkeys(names, 0o600)
    told = {k: v or "" for k, v in dotenv.dotenv_values(file, interpolate=False).items()}
    settings = Settings.load({**told, "CREDENTIALS_DIRECTORY": str(file.parent)})
    assert settings.matrix_admin_user_id == admin.user_id
    assert settings.matrix_server_name == SERVER_NAME
    assert settings.dry_run
    opened = [(m.pattern, m.room, m.create is not None) for m in settings.group_map()]
    assert opened == [
        ("Cooks # and more", alias, False),
        ("New", new, True),
        ("New", nameless, False),
    ]
    # The same for readers that take no quotes off and no comment behind a value.
    raw = dict(line.split("=", 1) for line in file.read_text().splitlines()[1:])
    assert Settings.load({**raw, "CREDENTIALS_DIRECTORY": str(file.parent)}) == settings
    [secret] = settings.webhook_secrets
    assert len(secret) >= 32
    for line in ("SCIM Provider", "URL    https://scim.demo.test/scim/v2", f"Token  {secret}"):
        assert line in output, output
    assert admin.token not in output + file.read_text()
    assert secret not in file.read_text()
    assert room not in raw["IDP_GROUP_TO_ROOM"]

    status, checked = await run(tmp_path, "check", "--json", "--env-file", str(file))
    assert status == 0, checked
    assert all(json.loads(line)["verdict"] != "error" for line in checked.splitlines())
    key = file.with_name("webhook_secret")
    before = key.read_text()
    status, output = await run(tmp_path, "init", *answers(synapse, admin, tmp_path))
    assert (status, "is there already" in output) == (1, True), output
    assert key.read_text() == before
    given = answers(synapse, admin, tmp_path)
    status, output = await run(
        tmp_path, "init", "--force", *given, "--public-url", "https://x.test"
    )
    assert (status, key.read_text()) == (0, before), output
    assert "changed: PUBLIC_URL, which was https://scim.demo.test/" in output
    assert "IDP_GROUP_TO_ROOM=" + raw["IDP_GROUP_TO_ROOM"] in file.read_text()


async def test_what_is_not_asked_stays(
    synapse: Synapse, admin: User, tag: str, tmp_path: Path
) -> None:
    """Changing a file drops no line, comment or secret; a copy is left, and the change is told."""
    room = await admin.create_room(name=f"{tag}Den")
    given = answers(synapse, admin, tmp_path)
    status, output = await run(tmp_path, "init", *given, "--no-dry-run")
    assert status == 0, output
    file = tmp_path / "made" / "scim-matrix.env"
    by_hand = (
        "# Ours.\nPROTECTED_USERS=@ceo:demo.test @board-*:demo.test\nCONSOLE=true\n"
        'IDP_GROUP_TO_ROOM={"displayName:Old": ["#old:demo.test"]}\n'
    )
    file.write_text(file.read_text() + by_hand)
    before = file.read_text()
    secrets = {n: file.with_name(n).read_text() for n in ("webhook_secret", "matrix_admin_token")}
    words = ["--file", str(file), "--force", "--idp-name", "oidc-demo"]
    # Nothing but the name and a mapping is said anew; what is there answers the rest.
    status, output = await run(
        tmp_path,
        "init",
        *words,
        "--open",
        f"New={room}",
        "--open",
        f"New={room}",
        "--open",
        f"R=D={room}",
    )
    assert status == 0, output
    after = file.read_text()
    assert after.startswith(before.partition("IDP_GROUP_TO_ROOM")[0])
    told = {k: v or "" for k, v in dotenv.dotenv_values(file, interpolate=False).items()}
    settings = Settings.load({**told, "CREDENTIALS_DIRECTORY": str(file.parent)})
    assert [m.pattern for m in settings.group_map()] == ["Old", "New", "R=D"]
    assert after.count(room) == 2
    assert (settings.dry_run, settings.console, len(settings.protected_users)) == (False, True, 2)
    assert {name: file.with_name(name).read_text() for name in secrets} == secrets
    [copy] = file.parent.glob("scim-matrix.env.*")
    assert (copy.read_text(), stat.S_IMODE(copy.stat().st_mode)) == (before, 0o600)
    assert len([*file.parent.iterdir()]) == 4
    kept = next(line for line in output.splitlines() if line.startswith("kept: "))
    assert {"PROTECTED_USERS", "CONSOLE", "WEBHOOK_SECRET"} <= set(kept[6:].split(", "))
    assert "changed: IDP_GROUP_TO_ROOM" in output
    assert str(copy) in output


async def test_what_it_wrote_brings_people_into_rooms(
    synapse: Synapse, admin: User, tag: str, tmp_path: Path
) -> None:
    """From nothing but answers to the first person in a room, with the secret that it made."""
    room = await admin.create_room(name=f"{tag}Kitchen")
    given = [*answers(synapse, admin, tmp_path), "--open", f"{tag}Cooks={tag}kitchen"]
    status, output = await run(tmp_path, "init", *given, "--no-dry-run")
    assert status == 0, output
    file, port = tmp_path / "made" / "scim-matrix.env", free_port()
    service = await asyncio.create_subprocess_exec(
        *(*COMMAND, "serve", "--env-file", str(file)),
        env={"PATH": os.environ["PATH"], "LISTEN_PORT": str(port)},
        cwd=tmp_path,
    )
    try:
        idp = ScimClient(f"http://127.0.0.1:{port}", file.with_name("webhook_secret").read_text())

        async def is_up() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                return bool((await ready(idp))["ready"])
            return False

        await eventually(is_up, lambda up: up)
        await group_of(idp, f"{tag}ann", name=f"{tag}Cooks")
        await room_holds(admin, room, {f"{tag}ann"})
        status, output = await run(tmp_path, "why", f"{tag}ann", "--env-file", str(file))
        assert (status, f"{tag}Kitchen ({room}): there" in output) == (0, True), output
    finally:
        service.terminate()
        await service.wait()


async def test_what_cannot_be_right_is_told_with_its_cure(
    synapse: Synapse, admin: User, tag: str, tmp_path: Path
) -> None:
    """Each answer is tried against the real thing, and nothing is written where one is wrong."""
    nobody = await synapse.register(f"{tag}nobody")
    for name in ("one", "two"):
        await admin.create_room(name=f"{tag}Twins", room_alias_name=f"{tag}{name}")
    (tmp_path / "file").touch()
    wrong: list[tuple[str, str, tuple[str, ...]]] = [
        ("--matrix-url", f"http://127.0.0.1:{free_port()}", ("nothing answers at", "container")),
        ("--matrix-url", f"{synapse.url}/_matrix", ("ends in /_matrix", synapse.url)),
        ("--matrix-url", "matrix", ("no: matrix is no address", "https://matrix.example.com")),
        ("--matrix-url", f"https{synapse.url[4:]}", ("a homeserver does at", "set MATRIX_URL")),
        ("--matrix-admin-token", nobody.token, ("refuses the token", "server admin")),
        ("--matrix-admin-token", "wrong", ("refuses the token", "server admin")),
        ("--public-url", "scim", ("is no address", "https://scim.example.com")),
        ("--data-dir", str(tmp_path / "file" / "x"), ("cannot be made", "owned by the user")),
        ("--open", "Staff", ("no GROUP=ROOM", "Staff=#staff:example.com")),
        ("--open", f"Staff={tag}nowhere", ("no room is called so", "alias or ID")),
        ("--open", f"Staff={tag}twins", ("several rooms", "give one of !")),
        ("--open", f"Staff=#{tag}no:{SERVER_NAME}", ("does not exist", "--make-rooms")),
        ("--open", "Staff=!nowhere:demo.test", ("does not exist", "correct it")),
    ]
    for option, value, words in wrong:
        given = [*answers(synapse, admin, tmp_path), option, value]
        status, output = await run(tmp_path, "init", *given)
        assert status == 1, (option, output)
        for word in words:
            assert word in output, (option, word, output)
        assert "Traceback" not in output
        assert "Error validating" not in output
        assert not (tmp_path / "made").exists()


async def test_without_a_terminal_what_is_missing_is_told(tmp_path: Path, synapse: Synapse) -> None:
    """The option and the variable are named; what is in the environment is not asked."""
    target = ["--file", str(tmp_path / "x")]
    status, output = await run(tmp_path, "init", *target, "--matrix-url", synapse.url)
    assert (status, "--matrix-admin-token (or MATRIX_ADMIN_TOKEN)" in output) == (2, True), output
    environment = {"MATRIX_URL": synapse.url, "MATRIX_ADMIN_TOKEN": "wrong"}
    status, output = await run(tmp_path, "init", *target, environment=environment)
    assert (status, "refuses the token" in output) == (1, True), output


class Terminal:
    """A terminal at which a command asks."""

    def __init__(self, columns: int = 80) -> None:
        self.ours, self.its = pty.openpty()
        termios.tcsetwinsize(self.its, (24, columns))
        os.set_blocking(self.ours, False)
        self.shown = ""

    async def see(self, words: str) -> None:
        """Wait until something has been shown since the last answer."""

        async def look() -> str:
            with contextlib.suppress(BlockingIOError):
                self.shown += os.read(self.ours, 65536).decode()
            return self.shown

        try:
            await eventually(look, lambda shown: words in shown)
        except AssertionError:
            pytest.fail(f"{words!r} was not shown, but:\n{self.shown}")

    async def answer(self, question: str, words: str) -> None:
        """Wait for a question and type an answer."""
        await self.see(question)
        self.shown = ""
        os.write(self.ours, f"{words}\n".encode())

    def close(self) -> None:
        """Take it away."""
        os.close(self.ours)
        os.close(self.its)


async def test_at_a_terminal_it_asks_until_the_answer_is_right(
    synapse: Synapse, admin: User, tag: str, tmp_path: Path
) -> None:
    """A wrong answer is told at once and asked for again; the token is not shown as it is typed."""
    await admin.create_room(name=f"{tag}Kitchen", room_alias_name=f"{tag}kitchen")
    terminal = Terminal()
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "init", "--file", "made.env"),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        stdin=terminal.its,
        stdout=terminal.its,
        stderr=terminal.its,
    )
    try:
        await terminal.answer("Where Synapse answers", f"http://127.0.0.1:{free_port()}")
        await terminal.see("no: ")
        await terminal.answer("Where Synapse answers", synapse.url)
        await terminal.answer("Access token", "wrong")
        await terminal.see("refuses the token")
        await terminal.answer("Access token", admin.token)
        await terminal.see(f"the token is {admin.user_id}'s, a server admin")
        assert admin.token not in terminal.shown
        await terminal.answer("The identity provider, as Synapse names it", "oidc-demo")
        await terminal.see("rooms of the homeserver:")
        await terminal.answer("A group at the identity provider", "Cooks")
        await terminal.answer("A room that Cooks opens", f"{tag}kitchens")
        await terminal.see("no room is called so")
        await terminal.answer("A group at the identity provider", "Cooks")
        await terminal.answer("A room that Cooks opens", f"{tag}kitchen")
        # What has = in its name, and a room that is there: nobody is asked whether to make it.
        await terminal.answer("A group at the identity provider", "R=D")
        await terminal.answer("A room that R=D opens", f"#{tag}kitchen:{SERVER_NAME}")
        await terminal.see("A group at the identity provider")
        assert "Make it" not in terminal.shown
        await terminal.answer("A group at the identity provider", "Makers")
        await terminal.answer("A room that Makers opens", f"#{tag}makers:{SERVER_NAME}")
        await terminal.answer("It is not there. Make it?", "y")
        await terminal.answer("A group at the identity provider", "")
        await terminal.answer("Where the identity provider will reach", "")
        await terminal.answer("Where the database is to live", str(tmp_path / "data"))
        await terminal.answer("Begin with a dry run", "n")
        await terminal.answer("Which product", "okta")
        await terminal.see("scim-matrix status --env-file made.env")
        assert "https://your.host/scim/v2" in terminal.shown
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        terminal.close()
    told = dotenv.dotenv_values(tmp_path / "made.env", interpolate=False)
    found = {k: v or "" for k, v in told.items()}
    mapped = Settings.load({**found, "CREDENTIALS_DIRECTORY": str(tmp_path)}).group_map()
    assert [(m.pattern, m.room, m.create is not None) for m in mapped] == [
        ("Cooks", f"#{tag}kitchen:{SERVER_NAME}", False),
        ("R=D", f"#{tag}kitchen:{SERVER_NAME}", False),
        ("Makers", f"#{tag}makers:{SERVER_NAME}", True),
    ]
    assert told["DRY_RUN"] == "false"
