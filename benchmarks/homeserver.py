"""A homeserver in memory, as a process of its own: joins take 20 ms, one at a time in a room, and
so does making an account, one at a time.

    python -m benchmarks.homeserver PORT

Rooms are there as soon as they are asked for: `#roomN` stands for `!roomN`. Everybody has an
account whose name begins with "user" and whose number is below `accounts`; others are made. What
was asked for is counted: `POST /counts` says how often, once that is as often as it asks for.
Nothing else takes time, so that the service is what a benchmark measures.
"""

import asyncio
import sys
from collections import Counter, defaultdict
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web

from benchmarks.seed import BOT
from scim_matrix.demo.synapse import IDP, SERVER_NAME

JOIN_SECONDS = 0.02
ACCOUNT_SECONDS = 0.02
TOKEN = "token"


class Homeserver:
    """Answers what the service asks of Synapse."""

    def __init__(self) -> None:
        self._accounts = 0
        self._made: dict[str, dict[str, Any]] = {}
        self._members: defaultdict[str, set[str]] = defaultdict(set)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._making = asyncio.Lock()
        self._account_data: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()
        self._counted = asyncio.Condition()

    async def handle(self, http: web.Request) -> web.Response:
        """Answer one request."""
        path = tuple(map(unquote, http.raw_path.partition("?")[0].split("/")[1:]))
        body = orjson.loads(await http.read() or b"{}")
        if path == ("counts",):
            self._accounts = body.get("accounts", self._accounts)
            async with self._counted:
                await self._counted.wait_for(
                    lambda: all(self._counts[what] >= n for what, n in body["until"].items())
                )
            return web.json_response(self._counts)
        self._counts["syncs" if path[-1] == "sync" else "requests"] += 1
        # As Synapse says that it made an account, and did not change one.
        makes = (http.method, *path[2:4]) == ("PUT", "v2", "users") and path[-1] not in self._made
        answer = await self._answer(http.method, path, body, http.query)
        async with self._counted:
            self._counted.notify_all()
        if answer is None:
            missing = {"errcode": "M_NOT_FOUND", "error": "not found"}
            return web.Response(status=404, body=orjson.dumps(missing), content_type=JSON)
        status = 201 if makes else 200
        return web.Response(status=status, body=orjson.dumps(answer), content_type=JSON)

    async def _answer(
        self, method: str, path: tuple[str, ...], body: Any, query: Any
    ) -> dict[str, Any] | None:
        match (method, *path[2:]):
            case ("GET", "v1", "server_version"):
                return {"server_version": "1.163.0"}
            case ("GET", "v2", "users"):
                return self._page(query)
            case ("GET", "v2", "users", user_id):
                return self._account(user_id)
            case ("PUT", "v2", "users", user_id):
                if user_id not in self._made:
                    async with self._making:
                        await asyncio.sleep(ACCOUNT_SECONDS)
                    self._counts["accounts"] += 1
                account = self._made.setdefault(user_id, active(user_id))
                account.update(body)
                return account
            case ("POST", "v1", "join", room_id):
                async with self._turns[room_id]:
                    await asyncio.sleep(JOIN_SECONDS)
                    self._counts["memberships"] += body["user_id"] not in self._members[room_id]
                    self._members[room_id].add(body["user_id"])
                    self._counts["joins"] += 1
                return {"room_id": room_id}
            case ("POST", "v1", "users", _, "override_ratelimit"):
                return {}
            case ("GET", "v1", "rooms", room_id):
                return {"room_id": room_id, "creator": BOT, "version": "10"}
            case ("GET", "v1", "rooms", room_id, "members"):
                members = [BOT, *self._members[room_id]]
                return {"members": members, "total": len(members)}
            case ("GET", "v1", "rooms", _, "state"):
                return {"state": _STATE}
            case ("GET", "v3", "directory", "room", alias):
                self._counts["aliases"] += 1
                return {"room_id": "!" + alias[1:], "servers": [SERVER_NAME]}
            case ("GET", "v3", "account", "whoami"):
                return {"user_id": BOT}
            case ("GET", "v3", "user", _, "account_data", kind):
                return self._account_data.get(kind)
            case ("PUT", "v3", "user", _, "account_data", kind):
                self._account_data[kind] = body
                return {}
            case ("POST", "v3", "user", _, "filter"):
                return {"filter_id": "1"}
            case ("GET", "v3", "sync"):
                await asyncio.sleep(int(query.get("timeout", "0")) / 1000)
                return {"next_batch": "s1", "rooms": {"join": {}}}
            case ("GET", "v3", "login"):
                return {"flows": []}
        return None

    def _account(self, user_id: str) -> dict[str, Any] | None:
        number = user_id[5:].partition(":")[0]
        if user_id == BOT or (number.isdigit() and int(number) < self._accounts):
            return active(user_id)
        return self._made.get(user_id)

    def _page(self, query: Any) -> dict[str, Any]:
        if query.get("admins") == "true":
            return {"users": [active(BOT)], "total": 1}
        start, limit = int(query.get("from", "0")), int(query.get("limit", "100"))
        end = min(start + limit, self._accounts)
        users = [active(f"@user{number}:{SERVER_NAME}") for number in range(start, end)]
        more = {"next_token": str(end)} if end < self._accounts else {}
        return {"users": users, "total": self._accounts, **more}


JSON = "application/json"
_STATE = [
    {
        "type": kind,
        "state_key": key,
        "sender": BOT,
        "content": content,
    }
    for kind, key, content in (
        ("m.room.create", "", {"room_version": "10", "creator": BOT}),
        ("m.room.power_levels", "", {"users": {BOT: 100}}),
        ("m.room.member", BOT, {"membership": "join"}),
    )
]


def active(user_id: str) -> dict[str, Any]:
    """Return an account as the admin API shows it, linked to the user of its number."""
    number = user_id[5:].partition(":")[0]
    links = [{"auth_provider": IDP, "external_id": f"x{number}"}]
    return {
        "name": user_id,
        "displayname": f"User {number}",
        "admin": user_id == BOT,
        "deactivated": False,
        "locked": False,
        "suspended": False,
        "threepids": [{"medium": "email", "address": f"user{number}@corp.example"}],
        "external_ids": links if number.isdigit() else [],
    }


async def main() -> None:
    """Serve until the process is ended."""
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", Homeserver().handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
