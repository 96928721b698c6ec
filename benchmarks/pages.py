"""How long the console's pages take where there is much to show: `make bench`.

`--people 1000 --groups 100 --records 10000` measures a smaller world, to see that all works.
"""

import argparse
import asyncio
import contextlib
import re
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from rich.console import Console
from rich.table import Table

from benchmarks.backlog import by_id, cpu, ring
from benchmarks.homeserver import active
from benchmarks.scim import timed
from benchmarks.seed import BOT, Directory, fill, inhabit
from scim_matrix.demo.service import Service
from scim_matrix.demo.synapse import SERVER_NAME

ROUNDS = 10
SIZE = 100


@contextlib.asynccontextmanager
async def signing_in() -> AsyncIterator[str]:
    """Run a homeserver that lets its administrator in, and does nothing else."""
    answers: dict[tuple[str, str], dict[str, Any]] = {
        ("GET", "/_matrix/client/v3/login"): {"flows": [{"type": "m.login.password"}]},
        ("POST", "/_matrix/client/v3/login"): {"user_id": BOT, "access_token": "t"},
        ("POST", "/_matrix/client/v3/logout"): {},
    }
    account = active(BOT)

    async def answer(request: web.Request) -> web.Response:
        if request.path == f"/_synapse/admin/v2/users/{BOT}":
            return web.json_response(account)
        found = answers.get((request.method, request.path))
        return web.json_response(found) if found is not None else web.Response(status=502)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def visited(
    directory: Directory, group_map: str, homeserver: str
) -> AsyncIterator[tuple[Service, Callable[[str], Coroutine[Any, Any, str]]]]:
    """Serve a directory; return what asks for a page as an administrator who is signed in."""
    map_file = directory.folder / "map.json"
    map_file.write_text(group_map)
    more = {"CONSOLE": "true", "GROUP_MAP_FILE": str(map_file)}
    service = Service(directory.folder, homeserver, BOT, "token", "", more)
    await service.start()
    try:
        async with aiohttp.ClientSession(service.url, cookie_jar=aiohttp.DummyCookieJar()) as ask:
            cookies: dict[str, str] = {}

            async def page(path: str, **form: str) -> str:
                method = "POST" if form else "GET"
                headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
                async with ask.request(
                    method,
                    f"/console/{path}",
                    data=form or None,
                    headers=headers,
                    allow_redirects=False,
                ) as answer:
                    cookies.update({name: c.value for name, c in answer.cookies.items()})
                    text = await answer.text()
                    if answer.status not in (200, 303):
                        raise RuntimeError(f"{path}: {answer.status} {text[:500]}")
                    return text

            found = re.search(r'name="csrf" value="([^"]+)"', await page("sign-in"))
            assert found is not None
            await page("sign-in", user="bot", password="password", csrf=found[1])
            yield service, page
    finally:
        await service.stop()


async def measure(folder: Path, people: int, groups: int, records: int) -> Table:
    """Return the median of a few answers for each page, and the CPU of one.

    The median leaves out whoever else wants the machine for a moment.
    """
    members = {**ring(people, groups, SIZE), "everybody": range(people)}
    directory = await fill(folder, people, members, accounts=True)
    group_map = by_id(directory.groups)
    await inhabit(directory, group_map, records, held=groups // 100)
    title = f"{people:,} people, {groups:,} groups and rooms, {records:,} records"
    table = Table("page", "takes", "CPU", "must be", title=f"{title}, on this machine")
    room = quote(f"!everybody:{SERVER_NAME}", safe="")
    async with (
        signing_in() as homeserver,
        visited(directory, group_map, homeserver) as (service, page),
    ):
        for path in (
            "",
            "people",
            "people?q=user4999",
            "people?q=nobody-at-all",
            f"people/{directory.users[7]}",
            "groups",
            "groups?q=g19&show=mapped",
            "groups?show=not+mapped&from=1000",
            f"groups/{directory.groups['everybody']}",
            "rooms",
            "rooms?q=room+19",
            "rooms?show=held",
            f"rooms/{room}",
            f"rooms/{room}?q=user4999",
            "held",
            "log",
            "log?user=user49",
            "log?group=nobody",
            "log?kind=erase",
            "log?since=yesterday&outcome=refused",
        ):
            await page(path)
            before = cpu(service)
            taken = statistics.median([await timed(page(path)) for _ in range(ROUNDS)])
            used = (cpu(service) - before) / ROUNDS
            name = f"/console/{path}".replace(room, "ROOM")
            name = re.sub(r"[0-9a-f-]{36}", "ID", name)
            figures = (f"{seconds * 1000:.0f} ms" for seconds in (taken, used))
            table.add_row(name, *figures, "≤ 300 ms")
    return table


async def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=50_000)
    parser.add_argument("--groups", type=int, default=2_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder, console.status("measuring"):
        table = await measure(Path(folder), options.people, options.groups, options.records)
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
