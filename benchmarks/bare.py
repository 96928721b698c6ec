"""The least a durable POST costs: an aiohttp handler that does one aiosqlite insert."""

import asyncio
import sys
from collections.abc import AsyncIterator

import aiosqlite
import orjson
from aiohttp import web

DATABASE = web.AppKey("DATABASE", aiosqlite.Connection)
TURN = web.AppKey("TURN", asyncio.Lock)


async def _open(app: web.Application) -> AsyncIterator[None]:
    async with aiosqlite.connect(sys.argv[2], isolation_level=None) as connection:
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            await connection.execute_fetchall(f"PRAGMA {pragma}")
        await connection.execute_fetchall("CREATE TABLE body (id INTEGER PRIMARY KEY, text TEXT)")
        app[DATABASE], app[TURN] = connection, asyncio.Lock()
        yield


async def _post(request: web.Request) -> web.Response:
    body = orjson.loads(await request.read())
    async with request.app[TURN]:
        await request.app[DATABASE].execute_fetchall(
            "INSERT INTO body (text) VALUES (?)", (orjson.dumps(body).decode(),)
        )
    return web.json_response(body, status=201)


async def _get(request: web.Request) -> web.Response:
    return web.Response()


def main() -> None:
    """Serve on the port of the first argument, with the database file of the second."""
    app = web.Application()
    app.cleanup_ctx.append(_open)
    app.router.add_post("/", _post)
    app.router.add_get("/", _get)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
