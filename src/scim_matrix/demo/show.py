"""The demonstration: a homeserver, the service, the story, and what to do next."""

import asyncio
import contextlib
import json
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from scim_matrix.demo.mas import delegating
from scim_matrix.demo.service import SECRET, Service
from scim_matrix.demo.stage import WIDTH, IdentityProvider, Stage
from scim_matrix.demo.story import GENERAL, LAB, Story
from scim_matrix.demo.synapse import PASSWORD, SERVER_NAME, User, running

ALIAS = f"{GENERAL}:{SERVER_NAME}"


@dataclass(frozen=True)
class Ground:
    """A homeserver to show it on: its administrator, a guest, what else the service is told."""

    url: str
    admin: User
    guest: User
    settings: dict[str, str]


@contextlib.asynccontextmanager
async def _plain(folder: Path) -> AsyncIterator[Ground]:
    """Run a homeserver that keeps its accounts itself."""
    async with running(folder) as synapse:
        admin = await synapse.register("scim-bot", admin=True)
        yield Ground(synapse.url, admin, await synapse.register("guest"), {})


@contextlib.asynccontextmanager
async def _with_mas(folder: Path) -> AsyncIterator[Ground]:
    """Run a homeserver whose accounts belong to a stand-in for MAS."""
    async with delegating(folder) as (mas, synapse):
        admin = await mas.synapse_admin("scim-bot")
        guest = await mas.session(await mas.add_account("guest"), "GUEST")
        yield Ground(synapse.url, admin, guest, mas.settings)


async def run(*, with_mas: bool, serve: bool) -> int:
    """Play the demonstration; return 0 if every room was right after every step, else 1.

    With MAS on a homeserver whose accounts belong to a stand-in for it. `serve` leaves the held
    removals to whoever looks around, and keeps it running until SIGINT or SIGTERM.
    """
    console = Console(width=min(Console().width, WIDTH))
    with tempfile.TemporaryDirectory(prefix="scim-matrix-demo-") as name:
        folder = Path(name)
        beside = " beside a stand-in for MAS" if with_mas else ""
        console.print(f"Starting a throwaway Synapse{beside} and the service …")
        (folder / "synapse").mkdir()
        start = _with_mas if with_mas else _plain
        async with (
            start(folder / "synapse") as ground,
            _service(folder, ground) as (service, rooms),
        ):
            console.print("The group map says which group opens which rooms:")
            console.print_json(service.group_map)
            console.print()
            idp = IdentityProvider(service.url)
            stage, story = Stage(console, ground.admin, rooms, service, idp), Story(idp)
            steps = story.until_the_brake()
            for step in steps if serve else [*steps, *story.after_the_brake(ALIAS)]:
                await stage.play(step)
            console.print(*_verdict(stage.wrong, is_served=serve), sep="\n", soft_wrap=True)
            if serve:
                await _look_around(console, service, ground.admin)
    return 1 if stage.wrong else 0


@contextlib.asynccontextmanager
async def _service(folder: Path, ground: Ground) -> AsyncIterator[tuple[Service, dict[str, str]]]:
    """Run the service with two rooms, one of them with a guest in it."""
    admin, guest = ground.admin, ground.guest
    general = await admin.create_room(room_alias_name=GENERAL[1:], name="General")
    lab = await admin.create_room(room_version="12", name=LAB)
    # Invited by hand: nobody granted this, so nobody may take it away.
    invite = f"/_matrix/client/v3/rooms/{lab}/invite"
    await admin.call("POST", invite, {"user_id": guest.user_id})
    await guest.call("POST", f"/_matrix/client/v3/join/{lab}", {})
    group_map = {"grp-staff": [ALIAS], "displayName:Engineering": [lab, ALIAS]}
    service = Service(
        folder / "data",
        ground.url,
        admin.user_id,
        # With MAS the service makes itself one.
        "" if "MAS_URL" in ground.settings else admin.token,
        json.dumps(group_map),
        {"CONSOLE": "true", **ground.settings},
    )
    await service.start()
    try:
        yield service, {GENERAL: general, LAB: lab}
    finally:
        await service.stop()


_SERVE = "  scim-matrix demo --serve   the same, and look around the console"


def _verdict(wrong: int, *, is_served: bool) -> list[str]:
    if wrong:
        return [f"[bold red]{wrong} steps left a room wrong[/]"]
    return [
        "[bold green]Every room was right after every step.[/]",
        "\nNext:",
        *([] if is_served else [_SERVE]),
        "  scim-matrix init           set it up for your homeserver",
        "  docs/setup/README.md       your identity provider, click by click",
    ]


async def _look_around(console: Console, service: Service, admin: User) -> None:
    """Say where everything is, and wait until somebody has seen enough."""
    variables = {k: v for k, v in service.environment().items() if v and k != "PATH"}
    file = service.data_dir / "demo.env"
    file.touch(0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    lines = [
        "\nIt keeps running, and the twelve removals wait for you. Look around:",
        f"  console   {service.url.replace('127.0.0.1', 'localhost')}/console/",
        f"            sign in as {admin.user_id}, password: {PASSWORD}",
        f"  SCIM      {service.url}/scim/v2, bearer secret: {SECRET}",
        f"  commands  scim-matrix status --env-file {file}",
        "Ctrl-C ends it, and nothing is left.",
    ]
    console.print(*lines, sep="\n", highlight=False, soft_wrap=True)
    seen_enough = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, seen_enough.set)
    await seen_enough.wait()
