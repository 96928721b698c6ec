"""Walk through an administrator's first hour on a real Synapse, the usual mistakes included.

From an empty folder to people in a room, by what the README and an identity provider's page say.
Prints a transcript; exit status 1 where something was not told or done as it should be.
"""

import asyncio
import contextlib
import os
import shlex
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from scim_matrix.demo.service import ScimClient
from scim_matrix.demo.synapse import IDP, SERVER_NAME, User, free_port, running

PATIENCE = 60.0
WIDTH = 80


class Walk:
    """Types commands in a folder, prints what is seen, and counts what is not as it should be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.wrong = 0

    def say(self, text: str) -> None:
        """Print what is done next."""
        print(f"\n{textwrap.fill('# ' + text, WIDTH, subsequent_indent='# ')}", flush=True)

    def judge(self, right: bool, expected: str) -> None:
        """Count what is not as expected, and say so."""
        if not right:
            self.wrong += 1
            print(f"WRONG: {expected}", flush=True)

    async def start(self, *words: str, **more: str) -> asyncio.subprocess.Process:
        """Start a command in the folder, with the port and more in its environment, and no else."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scim_matrix", *words),
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "COLUMNS": str(WIDTH),
                "LISTEN_PORT": str(self.port),
                "LOG_LEVEL": "error",
                **more,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def type(self, *words: str, shows: str, status: int = 0, **more: str) -> None:
        """Type a command, with more in its environment; it has to end and show as it should."""
        line = shlex.join(["scim-matrix", *words]).replace(" --", " \\\n    --")
        given = "".join(f"{name}={shlex.quote(value)} " for name, value in more.items())
        print(f"\n$ {given}{line}", flush=True)
        process = await self.start(*words, **more)
        output, _ = await process.communicate()
        told = output.decode()
        print(told.strip("\n"), flush=True)
        one_line = " ".join(told.split())
        # Libraries have no say: what is wrong is told in words of our own.
        self.judge("Error validating" not in told, "nothing of a library's log")
        self.judge(
            process.returncode == status and shows in one_line,
            f"exit status {status} and {shows!r} (was {process.returncode})",
        )

    async def wait(self, what: str, look: Callable[[], Awaitable[bool]]) -> None:
        """Wait until something is so."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + PATIENCE
        while not await look():
            if loop.time() > ends:
                self.judge(False, f"not within {PATIENCE:.0f} s: {what}")
                return
            await asyncio.sleep(0.1)
        print(f"  {what}", flush=True)

    async def send(self, idp: ScimClient, method: str, path: str, status: int) -> Any:
        """Send a request as the identity provider; it has to be answered with a status."""
        print(f"\n> {method} {idp.url.replace(str(self.port), 'PORT')}/scim/v2{path}", flush=True)
        seen, answer = await idp.call(method, path)
        detail = (answer or {}).get("detail", "")
        print(textwrap.fill(f"< {seen} {detail}", WIDTH), flush=True)
        self.judge(seen == status, f"answered with {status}")

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[ScimClient]:
        """Run the service with what init wrote, as the identity provider reaches it."""
        print("\n$ scim-matrix serve &", flush=True)
        service = await self.start("serve")
        secret = (self.folder / "webhook_secret").read_text()
        idp = ScimClient(f"http://127.0.0.1:{self.port}", secret)

        async def is_up() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"{idp.url}/readyz") as answer,
                ):
                    return answer.status == 200
            return False

        try:
            await self.wait("it is up, and the homeserver answers it", is_up)
            yield idp
        finally:
            with contextlib.suppress(ProcessLookupError):
                service.terminate()
            await service.wait()


def answers(url: str, admin: User, **other: str) -> list[str]:
    """Return the options that say what init would ask; `other` are those to be different."""
    given = {
        "matrix-url": url,
        "matrix-admin-token": admin.token,
        "idp-name": IDP,
        "data-dir": "data",
        "provider": "authentik",
        "open": "Staff=General",
        # Where nobody walks as root that is where it goes by itself.
        "file": ".env",
    }
    given |= {name.replace("_", "-"): value for name, value in other.items()}
    return [word for name, value in given.items() for word in (f"--{name}", value)]


async def mistakes(walk: Walk, url: str, admin: User, nobody: User) -> None:
    """Make the mistakes that everybody makes, each of which is told with its cure."""
    closed = f"http://127.0.0.1:{free_port()}"
    for says, wrong, shows in (
        ("A wrong address: nobody answers there.", {"matrix_url": closed}, "nothing answers"),
        ("An address without https://.", {"matrix_url": "matrix"}, "https://matrix.example.com"),
        ("A token that was copied badly.", {"matrix_admin_token": "wrong"}, "refuses the token"),
        ("The token of somebody who is no admin.", {"matrix_admin_token": nobody.token}, "admin"),
        ("A room that does not exist.", {"open": "Staff=Genral"}, "no room is called so"),
        ("An alias of no room.", {"open": f"Staff=#no:{SERVER_NAME}"}, "--make-rooms"),
        ("A group without a room.", {"open": "Staff"}, "GROUP=ROOM"),
    ):
        walk.say(says)
        await walk.type("init", *answers(url, admin, **wrong), shows=shows, status=1)
    walk.judge(not [*walk.folder.iterdir()], "nothing is written where an answer is wrong")


async def settings(walk: Walk, url: str) -> None:
    """Make the mistakes that are made in settings: `check` tells each with its cure."""
    (walk.folder / "map.json").write_text('{"Staff": ["#general:demo.test"}')
    twice = {"WEBHOOK_SECRET": "a-secret-of-its-own", "WEBHOOK_SECRET_FILE": "webhook_secret"}
    elsewhere = '{"Staff": ["#a:else.where"]}'
    for says, wrong, shows, status in (
        ("A variable with a typo.", {"PROTECTED_USER": "@boss:*"}, "PROTECTED_USERS", 0),
        ("A secret twice.", twice, "WEBHOOK_SECRET_FILE out", 2),
        ("A secret that is not there.", {"WEBHOOK_SECRET_FILE": "nothing"}, "nothing", 2),
        ("An address with a path of the API.", {"MATRIX_URL": f"{url}/_matrix"}, "/_matrix", 1),
        ("Another provider than Synapse's.", {"IDP_NAME": "oidc-x"}, "no SSO provider", 0),
        ("A pattern for nobody.", {"PROTECTED_USERS": "@bos:*"}, "matches no account", 0),
        ("A map that is no JSON.", {"GROUP_MAP_FILE": "map.json"}, "not JSON", 2),
        ("A room elsewhere.", {"IDP_GROUP_TO_ROOM": elsewhere}, "alias of another server", 1),
        ("No attribute.", {"SSO_SUBJECT_ATTRIBUTE": "user name"}, "SSO_SUBJECT_ATTRIBUTE", 2),
        ("A duration in words.", {"RECONCILE_INTERVAL": "1 hour"}, "RECONCILE_INTERVAL", 2),
        ("A folder that cannot be made.", {"DATA_DIR": "/proc/nowhere"}, "cannot be made", 1),
    ):
        walk.say(says)
        await walk.type("check", shows=shows, status=status, **wrong)
    walk.say("An address that is not this machine's.")
    await walk.type("serve", shows="LISTEN_HOST", status=1, LISTEN_HOST="192.0.2.1")


async def dry(walk: Walk, room_is: Callable[[set[str]], Awaitable[bool]]) -> None:
    """Connect the identity provider and read what would be done."""
    async with walk.serving() as idp:
        walk.say("A second one on the same data: refused, naming the first.")
        await walk.type("serve", shows="process", status=1)
        walk.say("The identity provider has another secret than the service.")
        await walk.send(ScimClient(idp.url, "a-wrong-secret-indeed"), "GET", "/Users", 401)
        walk.say("Its base URL has a part too much.")
        await walk.send(idp, "GET", "/scim/v2/Users", 404)
        walk.say("Both put right, it sends two people and the group Staff.")
        await walk.send(idp, "GET", "/Users", 200)
        people = [await idp.create_user(name) for name in ("ann", "bob")]
        await idp.create_group("Staff", people)

        async def would() -> bool:
            process = await walk.start("log", "--json")
            output, _ = await process.communicate()
            # An account for each, and the first join.
            return output.count(b"dry_run") > len(people)

        await walk.wait("the log says what would be done", would)
        await walk.type("log", shows="would create @ann")
        walk.say("A key of the map that is no group's.")
        mistyped = f'{{"displayName:Staf": ["#general:{SERVER_NAME}"]}}'
        await walk.type("check", shows="no group is called like Staf", IDP_GROUP_TO_ROOM=mistyped)
        walk.judge(await room_is(set()), "the room is empty in a dry run")


async def real(walk: Walk, room_is: Callable[[set[str]], Awaitable[bool]]) -> None:
    """Take the dry run off and see people in the room."""
    file = walk.folder / ".env"
    file.write_text(file.read_text().replace("DRY_RUN=true", "DRY_RUN=false"))
    async with walk.serving():
        await walk.wait("ann and bob are in the room", lambda: room_is({"ann", "bob"}))
        await walk.type("why", "ann", shows=f"#general:{SERVER_NAME}")
        await walk.type("status", shows="failingPairs: 0")


async def walked(walk: Walk, homeserver: Path) -> None:
    """Walk from the mistakes to people in a room."""
    walk.say("A Synapse with a room, a server admin for the service, and somebody else.")
    async with running(homeserver) as synapse:
        admin = await synapse.register("scim-bot", admin=True)
        nobody = await synapse.register("somebody")
        room = await admin.create_room(name="General", room_alias_name="general")

        async def room_is(people: set[str]) -> bool:
            return await admin.members(room) - {"scim-bot"} == people

        await mistakes(walk, synapse.url, admin, nobody)
        walk.say("Everything right. It begins with a dry run.")
        given = answers(synapse.url, admin)
        await walk.type("init", *given, shows="Written to .env")
        walk.say("Once more by mistake: what is there is not written over.")
        await walk.type("init", *given, shows="is there already", status=1)
        await walk.type("check", shows=f"#general:{SERVER_NAME}")
        await settings(walk, synapse.url)
        await dry(walk, room_is)
        walk.say("That reads well: DRY_RUN=false in .env, and a restart.")
        await real(walk, room_is)


def main() -> int:
    """Walk; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="scim-matrix-walk-") as name:
        homeserver, folder = Path(name, "synapse"), Path(name, "scim-matrix")
        homeserver.mkdir()
        folder.mkdir()
        walk = Walk(folder)
        asyncio.run(walked(walk, homeserver))
    print(f"\n{'everything was as it should be' if not walk.wrong else f'{walk.wrong} wrong'}")
    return int(walk.wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
