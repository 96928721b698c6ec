"""The command line as a process."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from scim_matrix.cli import environment, main
from scim_matrix.groupmap import Mapping
from scim_matrix.problems import OF_SERVERS
from scim_matrix.store import groupmap, record, references, totals
from scim_matrix.store.database import Database
from scim_matrix.store.sqlite import DATABASE_NAME
from scim_matrix.sync.guard import Brake
from tests.homeserver.deployment import Configuration, deployed
from tests.preforked import fork
from tests.service.directory import Directory

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, cwd: Path, **environment: str) -> Ended:
    """Run a command in a folder with nothing but the given environment."""
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        process = fork(arguments, {"PATH": os.environ["PATH"], **environment}, cwd, output, errors)
        return Ended(process.join(60), output.read_text(), errors.read_text())


def test_bad_configuration_exits_with_2_and_writes_nothing(tmp_path: Path) -> None:
    """Every mistake is listed by variable, secrets apart, and nothing is started."""
    ended = run("serve", cwd=tmp_path, WEBHOOK_SECRET="hidden-secret", LISTEN_PORT="many")
    assert ended.returncode == 2
    for variable in ("LISTEN_PORT", "MATRIX_URL", "MATRIX_ADMIN_TOKEN", "DATA_DIR"):
        assert f"configuration: {variable}: " in ended.stderr
    assert "hidden-secret" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dotenv_file_is_read(tmp_path: Path) -> None:
    """What stands in .env is part of the configuration; the environment wins."""
    (tmp_path / ".env").write_text("LISTEN_PORT=many\nMATRIX_URL=https://m.example\n")
    ended = run("serve", cwd=tmp_path, LISTEN_PORT="5000")
    assert "MATRIX_URL" not in ended.stderr
    assert "LISTEN_PORT" not in ended.stderr


def test_a_file_of_settings_is_named(tmp_path: Path) -> None:
    """Before the command and after it; over .env, under the environment, nothing expanded.

    Secrets in files beside it are found; where the data is, commands need not be told again.
    """
    (tmp_path / ".env").write_text("DATA_DIR=/nowhere\n")
    folder = tmp_path / "etc"
    folder.mkdir()
    asyncio.run(_made(tmp_path / "da${ta}"))
    file = folder / "scim-matrix.env"
    settings = good(tmp_path, DATA_DIR=str(tmp_path / "da${ta}"), LISTEN_HOST="203.0.113.1")
    for name in ("WEBHOOK_SECRET", "MATRIX_ADMIN_TOKEN"):
        (folder / name.lower()).write_text(settings.pop(name))
    settings["IDP_GROUP_TO_ROOM"] = '{"displayName:a b": ["#x:example.org", "#y:example.org"]}'
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    for words in (["--env-file", str(file), "rooms"], ["rooms", "--env-file", str(file)]):
        ended = run(*words, cwd=tmp_path)
        assert (ended.returncode, ended.stdout) == (0, "no room is mapped\n"), ended.stderr
    assert run("plan", "--env-file", str(file), cwd=tmp_path).returncode == 0
    served = run("serve", "--env-file", str(file), cwd=tmp_path)
    assert "LISTEN_HOST: " in served.stderr, served.stderr
    served = run("serve", "--env-file", str(file), cwd=tmp_path, LISTEN_PORT="many")
    assert "configuration: LISTEN_PORT: " in served.stderr
    assert "IDP_GROUP_TO_ROOM" not in served.stderr
    ended = run("status", "--env-file", str(folder / "none"), cwd=tmp_path)
    assert (ended.returncode, "does not exist" in ended.stderr) == (2, True)


def test_what_is_installed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the unit's settings and data are, commands need to be told nothing; else, where."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setattr(environment, "INSTALLED", tmp_path / "scim-matrix.env")
    monkeypatch.setattr(environment, "STATE", tmp_path / "state")
    asked = CliRunner().invoke(main, ["status"])
    assert (asked.exit_code, "podman exec scim-matrix scim-matrix status" in asked.output) == (
        2,
        True,
    )
    (tmp_path / "scim-matrix.env").write_text("LOG_LEVEL=debug\n")
    # Before the first start as well, when `check` is to be run.
    assert environment.environment()["DATA_DIR"] == str(tmp_path / "state")
    asyncio.run(_made(tmp_path / "state"))
    asked = CliRunner().invoke(main, ["rooms"])
    assert (asked.exit_code, asked.output) == (0, "no room is mapped\n")


async def _made(folder: Path) -> None:
    await (await Database.open(folder)).close()


def test_a_second_service_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    """Two on one DATA_DIR would undo each other's work; whoever comes after may have it."""
    serve = [str(Path(sys.executable).with_name("scim-matrix")), "serve"]
    environment = {"PATH": os.environ["PATH"], **good(tmp_path)}
    for _ in range(2):
        with subprocess.Popen(
            serve, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        ) as first:
            try:
                assert first.stderr is not None
                assert any("listening" in line for line in first.stderr)
                second = run("serve", cwd=tmp_path, **good(tmp_path))
                assert second.returncode == 1
                assert f"is served already by process {first.pid} on " in second.stderr
                assert "listening on 127.0.0.1:0, since 20" in second.stderr
                # Commands are not, whatever this one tells of a homeserver that nobody started.
                assert "users: 0" in run("status", cwd=tmp_path, **good(tmp_path)).stdout
            finally:
                first.kill()


def test_help_and_version(tmp_path: Path) -> None:
    """The commands are listed."""
    assert "serve" in run("--help", cwd=tmp_path).stdout
    version = run("--version", cwd=tmp_path).stdout
    assert "scim-matrix" in version
    installed = [str(Path(sys.executable).with_name("scim-matrix"))]
    for command in (installed, [sys.executable, "-m", "scim_matrix"]):
        shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert shown.stdout == version


def test_versions_and_completion_are_printed(tmp_path: Path) -> None:
    """Versions also as JSON; completion for each shell that is known."""
    versions = json.loads(run("version", "--json", cwd=tmp_path).stdout)
    assert {"scim-matrix", "schema", "python", "sqlite"} == set(versions)
    for shell in ("bash", "zsh", "fish"):
        assert "_SCIM_MATRIX_COMPLETE" in run("completion", shell, cwd=tmp_path).stdout
    completed = run(
        cwd=tmp_path,
        COMP_WORDS="scim-matrix app",
        COMP_CWORD="1",
        _SCIM_MATRIX_COMPLETE="bash_complete",
    )
    assert completed.stdout == "plain,approve\n"


def test_a_wheel_holds_schemas_and_migrations(tmp_path: Path) -> None:
    """A plain installation finds its data files, from any directory."""
    subprocess.run(
        [sys.executable, *f"-m pip wheel -q --no-deps -w {tmp_path} {ROOT}".split()],
        check=True,
        cwd=tmp_path,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for schema in (ROOT / "schemas").glob("*.json"):
        assert f"scim_matrix/schemas/{schema.name}" in names
    assert "scim_matrix/store/migrations/0001_initial.sql" in names
    assert "scim_matrix/console/templates/base.html" in names
    assert "scim_matrix/console/static/htmx.min.js" in names
    assert not [n for n in names if "test" in n]


def good(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment in which the service starts."""
    return {
        "WEBHOOK_SECRET": "a-secret-that-is-long-enough",
        "MATRIX_URL": "http://127.0.0.1:9",
        "MATRIX_SERVER_NAME": "example.org",
        "MATRIX_ADMIN_USER_ID": "@bot:example.org",
        "MATRIX_ADMIN_TOKEN": "token",
        "IDP_NAME": "oidc-x",
        "DATA_DIR": str(folder / "data"),
        "LISTEN_PORT": "0",
        **more,
    }


@pytest.mark.parametrize(
    ("host", "variable"),
    [
        ("127.0.0.1", "LISTEN_PORT"),
        ("203.0.113.1", "LISTEN_HOST"),
        ("no.such.host.invalid", "LISTEN_HOST"),
    ],
)
def test_an_address_that_cannot_be_had_names_its_setting(
    tmp_path: Path, host: str, variable: str
) -> None:
    """A port in use and a host that is not here end the start before the homeserver is asked."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.create_server(("127.0.0.1", 0)) as homeserver,
    ):
        port, url = taken.getsockname()[1], homeserver.getsockname()[1]
        environment = good(
            tmp_path,
            LISTEN_HOST=host,
            LISTEN_PORT=str(port),
            MATRIX_URL=f"http://127.0.0.1:{url}",
        )
        ended = run("serve", cwd=tmp_path, **environment)
        assert (ended.returncode, f"Error: {variable}: " in ended.stderr) == (1, True), ended.stderr
        homeserver.setblocking(False)
        with pytest.raises(BlockingIOError):
            homeserver.accept()


def test_misspelt_variables_are_told_at_start_and_by_check(tmp_path: Path) -> None:
    """Somebody who protects PROTECTED_USER is told of PROTECTED_USERS, with other mistakes too."""
    wrong = {"PROTECTED_USER": "@a:*", "LISTEN_HOST": "203.0.113.1"}
    ended = run("serve", cwd=tmp_path, **good(tmp_path, **wrong))
    assert "warning: PROTECTED_USER: is no setting" in ended.stderr
    assert "PROTECTED_USERS" in ended.stderr
    checked = run("check", "--json", cwd=tmp_path, **good(tmp_path, **wrong))
    found = [json.loads(line) for line in checked.stdout.splitlines()]
    assert ("warning", "PROTECTED_USER") in [(f["verdict"], f["about"]) for f in found]
    broken = run("check", "--json", cwd=tmp_path, **good(tmp_path, LISTEN_PORT="x", **wrong))
    assert broken.returncode == 2
    assert "PROTECTED_USER" in broken.stdout


def test_what_is_made_is_its_owners_alone(tmp_path: Path) -> None:
    """DATA_DIR is 0700 and what is in it 0600, whatever the umask."""
    former = os.umask(0)
    try:
        with subprocess.Popen(
            [Path(sys.executable).with_name("scim-matrix"), "serve"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **good(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        ) as service:
            assert service.stderr is not None
            assert any("listening" in line for line in service.stderr)
            made = [tmp_path / "data", *(tmp_path / "data").iterdir()]
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made}
            service.terminate()
    finally:
        os.umask(former)
    assert modes.pop("data") == 0o700
    assert len(modes) >= 1
    assert set(modes.values()) == {0o600}, modes


def test_commands_look_before_they_ask(tmp_path: Path) -> None:
    """A backup that is not there is told before anybody is asked whether to restore it."""
    (tmp_path / "data").mkdir()
    ended = run("restore", str(tmp_path / "none"), cwd=tmp_path, **good(tmp_path))
    assert (ended.returncode, "does not exist" in ended.stderr) == (2, True)
    assert "Replace" not in ended.stdout + ended.stderr


def test_a_folder_without_a_database_is_told_in_a_sentence(tmp_path: Path) -> None:
    """Which file cannot be read, once, and nothing of what the command is made of."""
    (tmp_path / "data").mkdir()
    ended = run("groups", cwd=tmp_path, **good(tmp_path))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert DATABASE_NAME in ended.stderr


@pytest.mark.parametrize(
    "words",
    [("serve",), ("status",), ("rooms",), ("approve", "accounts"), ("check",), ("why", "ann")],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_whoever_may_not_use_the_database_is_told_who_may(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], mode: int
) -> None:
    """Another user than the service's gets no traceback, but its owner and what to type."""
    ours = os.getuid()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        for path in (Path(folder), data):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)

        async def make() -> None:
            await (await Database.open(data)).close()

        asyncio.run(make())
        (data / DATABASE_NAME).chmod(0o600 if ours == 0 else 0)
        # Root may use everything, and others are told of what is their own.
        data.chmod(mode if ours == 0 else mode & 0o577)
        monkeypatch.chdir(folder)
        for name, value in good(Path(folder)).items():
            monkeypatch.setenv(name, value)
        os.seteuid(ours or 10001)
        try:
            ended = CliRunner().invoke(main, words)
        finally:
            os.seteuid(ours)
            data.chmod(0o700)
    assert ended.exit_code in (1, 2), ended.output
    assert isinstance(ended.exception, SystemExit), ended.output
    said = " ".join(ended.output.split())
    assert ("run it as root (sudo …)" if ours == 0 else "chmod u+rw") in said, said
    assert str(data) in said


def test_what_is_not_there_yet_is_told_as_that(tmp_path: Path) -> None:
    """Before the first start nobody is told of an option that they did not give."""
    for _ in ("no folder", "no file"):
        ended = run("status", cwd=tmp_path, **good(tmp_path))
        assert ended.returncode in (1, 2)
        assert "scim-matrix serve" in ended.stderr
        assert "--data-dir" not in ended.stderr
        (tmp_path / "data").mkdir(exist_ok=True)


def test_an_unknown_room_and_a_span_of_time(tmp_path: Path) -> None:
    """A room that nothing maps is a failure; --since takes a span or a date."""
    (tmp_path / "data").mkdir()

    async def make() -> None:
        await (await Database.open(tmp_path / "data")).close()

    asyncio.run(make())
    environment = good(tmp_path)
    assert run("rooms", cwd=tmp_path, **environment).returncode == 0
    ended = run("rooms", "#nowhere:example.org", cwd=tmp_path, **environment)
    assert (ended.returncode, "#nowhere:example.org" in ended.stderr) == (1, True)
    times = ("2h", "2026-11-01 12:00:00", "2026-11-01 12:00", "yesterday", "2026-11-01T12:00+01:00")
    for since, status in (*((time, 0) for time in times), ("soon", 2)):
        ended = run("log", "--since", since, cwd=tmp_path, **environment)
        assert ended.returncode == status, ended.stderr
        assert ("nothing is recorded that fits" in ended.stdout) == (status == 0)


def test_the_log_of_nobody_is_a_failure(tmp_path: Path) -> None:
    """Whoever mistypes a user, room or request is told so, and does not take it for silence."""
    data = tmp_path / "data"

    async def make() -> None:
        database = await Database.open(data)
        async with database.write("0123456789abcdef") as connection:
            entry = record.Entry("join", "done", "@ann:s", "!gone", request="0123456789abcdef")
            await record.add(connection, entry)
        await database.close()

    asyncio.run(make())
    environment = good(tmp_path)
    options = {"--user": "@ann:s", "--room": "!gone", "--request": "0123456789abcdef"}
    for option, known in options.items():
        for value, status in ((known, 0), (f"{known}x", 1)):
            ended = run("log", option, value, cwd=tmp_path, **environment)
            assert ended.returncode == status, (option, ended)
            assert (value in ended.stderr) == (status == 1)


async def test_whoever_approves_an_alias_stands_in_for_whom_it_rested_on(tmp_path: Path) -> None:
    """The room that somebody else's word led to is the administrator's choice from then on."""
    database = await Database.open(tmp_path)
    async with database.write() as connection:
        await groupmap.put(connection, [Mapping("everyone", "", "#room:s")])
        await references.pin(connection, "#room:s", "!room", ["@eve:s"])
    led = await references.get(database.reader, "#room:s")
    assert led is not None
    assert led.led_by == ("@eve:s",)
    for approved in (0, 3):
        done = await asyncio.to_thread(
            run, "approve", "#room:s", "--by", "Grace", cwd=tmp_path, DATA_DIR=str(tmp_path)
        )
        assert done.returncode == approved, done.stderr
    [opening] = await database.reader.execute_fetchall("SELECT * FROM opening")
    assert (opening["room_id"], opening["led_by"]) == ("!room", None)
    [entry] = await database.reader.execute_fetchall("SELECT * FROM action")
    assert (entry["kind"], entry["room_id"], entry["decided_by"]) == ("alias", "!room", "Grace")
    await database.close()


async def test_an_import_can_be_watched_until_nothing_is_left(tmp_path: Path) -> None:
    """How many accounts and memberships are in line, of how many, a line each second."""
    database = await Database.open(tmp_path)
    async with database.write() as connection:
        people = Directory(connection)
        await people.user("ann")
        await people.account("bob")
        await groupmap.put(connection, [Mapping("everyone", "", "!room")])
    watching = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scim_matrix", "status", "--watch", "--data-dir", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    assert watching.stdout is not None
    assert await watching.stdout.readline() == b"accounts 1/2; memberships 0/2\n"
    async with database.write() as connection:
        people = Directory(connection)
        await people.binds("ann", usable=True)
        await people.confirms("ann")
        await people.observed("join", "ann", "bob", room_id="!room")
    told = (await watching.stdout.read()).decode()
    assert "accounts 2/2; memberships 2/2" in told
    assert "nothing is left to do" in told
    assert await watching.wait() == 0
    await database.close()


async def test_a_server_that_is_away_is_told_by_status(tmp_path: Path) -> None:
    """First of all, with code, cure and since when, until it is there again; the status is 1."""
    async with deployed(tmp_path) as deployment:
        await deployment.quiet()
        status = ("status", "--json", "--data-dir", str(tmp_path))
        ended = await asyncio.to_thread(run, *status, cwd=tmp_path)
        assert (ended.returncode, json.loads(ended.stdout)["work"]) == (0, [])
        deployment.homeserver.dark = True
        deployment.reconciler.compare()
        await deployment.settle()
        ended = await asyncio.to_thread(run, *status, cwd=tmp_path)
        [row] = json.loads(ended.stdout)["work"]
        assert (ended.returncode, row["code"], row["state"]) == (1, "homeserver-down", "failing")
        assert "does not answer as Synapse does" in row["reason"]
        assert "So since 20" in row["reason"]
        assert "`MATRIX_URL`" in row["cure"]
        plain = await asyncio.to_thread(run, *status[::2], str(tmp_path), cwd=tmp_path)
        assert "homeserver-down" in plain.stdout
        deployment.homeserver.dark = False
        await deployment.quiet()
        ended = await asyncio.to_thread(run, *status, cwd=tmp_path)
        assert (ended.returncode, json.loads(ended.stdout)["work"]) == (0, [])


async def test_what_is_held_is_told_first_and_by_room(tmp_path: Path) -> None:
    """One line for all who are held alike, with both commands whole; a limit says that it cuts."""
    configuration = Configuration(brake=Brake(0, 0, 3600))
    async with deployed(tmp_path, configuration=configuration) as deployment:
        world = deployment.world
        room = world.room("@admin:s").room_id
        await deployment.put_map({"g": [room]})
        names = ["ann", "bob", "cat", "dan"]
        people = [
            (await deployment.scim("POST", "/Users", {"userName": name}))[1]["id"] for name in names
        ]
        members = [{"value": one} for one in people]
        group = {"displayName": "Staff", "externalId": "g", "members": members}
        found = (await deployment.scim("POST", "/Groups", group))[1]
        world.account("@eve:s")
        await deployment.scim("POST", "/Users", {"userName": "eve"})
        await deployment.quiet()
        group["members"] = members[:1]
        await deployment.scim("PUT", f"/Groups/{found['id']}", group, request_id="r-17")
        await deployment.quiet()

        arguments = ("status", "--data-dir", str(tmp_path), "--limit")
        ended = await asyncio.to_thread(run, *arguments, "9", cwd=tmp_path)
        [held, conflict] = ended.stdout.splitlines()[-2:]
        assert "3 of 4 people" in held
        assert "r-17" in held
        decide = f"scim-matrix approve '{room}', or to keep them: scim-matrix dismiss '{room}'"
        assert decide in held
        assert "@eve:s" in conflict
        ended = await asyncio.to_thread(run, *arguments, "3", cwd=tmp_path)
        [held, cut] = ended.stdout.splitlines()[-2:]
        assert "3 of 4 people" in held
        assert "more than these 3" in cut

        told = await asyncio.to_thread(run, "why", room, *arguments[1:3], cwd=tmp_path)
        assert "Held are @bob:s, @cat:s, @dan:s." in told.stdout


async def test_what_an_older_process_saw_of_a_server_is_not_told_for_ever(tmp_path: Path) -> None:
    """A service that was killed while the homeserver was away corrects that once it answers."""
    database = await Database.open(tmp_path)
    async with database.write() as connection:
        await totals.ail(connection, ["mas-down", "homeserver-down"], OF_SERVERS)
    assert [*await totals.ailing(database.reader, OF_SERVERS)] == ["homeserver-down", "mas-down"]
    await database.close()
    async with deployed(tmp_path) as deployment:
        await deployment.quiet()
        assert await totals.ailing(deployment.database.reader, OF_SERVERS) == {}


async def test_a_decision_about_nothing_says_so(tmp_path: Path) -> None:
    """Nothing is said to be approved or dismissed, and the exit status is that of the help."""
    database = await Database.open(tmp_path)
    async with database.write() as connection:
        await groupmap.put(connection, [Mapping("everyone", "", "!room")])
    await database.close()
    for command, target, says in (
        ("approve", "!room", "no removal is held in !room: nobody was approved"),
        ("dismiss", "!room", "no removal is held in !room: nobody was dismissed"),
        ("approve", "accounts", "no account is held: nobody was approved"),
        ("dismiss", "accounts", "no account is held: nobody was dismissed"),
        ("approve", "restored", "no backup that was put back waits to be confirmed"),
    ):
        arguments = (command, target, "--data-dir", str(tmp_path))
        ended = await asyncio.to_thread(run, *arguments, cwd=tmp_path)
        assert (ended.returncode, says in ended.stdout) == (3, True), ended
        told = " ".join(
            (await asyncio.to_thread(run, command, "--help", cwd=tmp_path)).stdout.split()
        )
        assert "3 nothing was held" in told


async def test_what_came_of_a_request_is_found(tmp_path: Path) -> None:
    """By the ID that its answer carried, and nothing of any other request."""
    database = await Database.open(tmp_path)
    async with database.write() as connection:
        for request in ("r1", "r2"):
            entry = record.Entry("kick", "done", f"@{request}:s", "!room", request=request)
            await record.add(connection, entry)
    await database.close()
    arguments = ("log", "--request", "r2", "--json", "--data-dir", str(tmp_path))
    ended = await asyncio.to_thread(run, *arguments, cwd=tmp_path)
    assert [json.loads(line)["user_id"] for line in ended.stdout.splitlines()] == ["@r2:s"]
