"""What may be believed of a homeserver's answers: every method, every strange answer."""

import copy
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from scim_matrix.matrix.errors import FencedError, HomeserverError, UnavailableError, WithheldError
from scim_matrix.matrix.live import Live
from scim_matrix.matrix.rooms import Rooms
from scim_matrix.matrix.server import Homeserver
from scim_matrix.matrix.synapse_accounts import SynapseAccounts
from tests.service.homeserver import REQUESTS, Request, faking

# What sends nothing.
SILENT = {"connect", "close", "user_id", "server_name", "token", "take_stored_token", "renew_token"}
SILENT |= {"dry_run", "accounts.about_to_make", "accounts.asked_before"}
PARTS: dict[str, type] = {"": Homeserver, "rooms.": Rooms, "accounts.": SynapseAccounts}
PARTS["live."] = Live

every_method = pytest.mark.parametrize("name", REQUESTS)


def test_every_method_is_tried() -> None:
    """A new method is among those that are tried with strange answers and in a dry run."""
    methods = {
        prefix + name
        for prefix, part in PARTS.items()
        for name, _ in inspect.getmembers(part)
        if not name.startswith("_") and prefix + name not in SILENT
    }
    assert {name.partition(":")[0] for name in REQUESTS} == methods


@every_method
async def test_the_expected_answer_is_taken(name: str) -> None:
    """Each method is satisfied by the answers that its documentation promises."""
    request = REQUESTS[name]
    async with faking() as (fake, homeserver):
        fake.says_in_turn(*request.answers)
        await request.call(homeserver)
        assert len(request.answers) == len(fake.asked)


NO_JSON = ["", "<html>maintenance</html>", '{"truncated": ', '{"a": NaN}', "[" * 100_000]
NO_OBJECT = ["[]", "null", "true", "17", '"text"', "[{}]"]
OTHER_OBJECT = [
    "{}",
    '{"status": "ok"}',
    orjson.dumps(dict.fromkeys(("room_id", "user_id", "name", "flows", "users"), 5)).decode(),
    '{"flows": [5], "users": [{}], "rooms": [{}], "state": [{}], "chunk": [{}], "members": [5]}',
]


@every_method
async def test_an_answer_of_another_shape_is_no_usable_answer(name: str) -> None:
    """200 with something else, whatever it is, says nothing of the request."""
    request = REQUESTS[name]
    bodies = NO_JSON + NO_OBJECT + ([] if request.anything else OTHER_OBJECT)
    async with faking() as (fake, homeserver):
        for body in bodies:
            fake.says(body)
            with pytest.raises(UnavailableError, match="no usable answer"):
                await request.call(homeserver)
        fake.says("<html>", headers={"Content-Type": "text/html; charset=nonsense"})
        with pytest.raises(UnavailableError, match="no usable answer"):
            await request.call(homeserver)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "<html>", "status 200 without JSON: is MATRIX_URL a Synapse homeserver"),
        (502, "<html>", "status 502 without JSON: is MATRIX_URL a Synapse homeserver"),
        (200, "[]", "status 200 with JSON that is no object: is MATRIX_URL a Synapse homeserver"),
        (500, "{}", "500 None"),
    ],
)
async def test_what_is_no_usable_answer_is_told(status: int, body: str, said: str) -> None:
    """So that whoever gave the address of a proxy or another server sees it."""
    async with faking() as (fake, homeserver):
        fake.says(body, status)
        with pytest.raises(UnavailableError, match=said):
            await homeserver.rooms.kick("!room:s", "@ann:s", "why")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in a JSON value."""
    yield path
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield from places(child, (*path, key))


def changed(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """Return a JSON value with something else in one place."""
    if not path:
        return other
    copied = copy.deepcopy(value)
    place = copied
    for key in path[:-1]:
        place = place[key]
    if other is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = other
    return copied


def variants(request: Request) -> Iterator[list[tuple[int, Any]]]:
    """Yield the answers to a request with one thing in them missing or of another type."""
    others = [None, True, -1, 1.5, "", "text", [], {}, [None], {"a": None}]
    for number, (status, body) in enumerate(request.answers):
        for path in places(body):
            for other in [*others, *([...] if path else [])]:
                answers = list(request.answers)
                answers[number] = (status, changed(body, path, other))
                yield answers


@every_method
async def test_no_answer_is_a_fault_of_ours(name: str) -> None:
    """With anything in an answer missing or of another type, no other error is raised."""
    request = REQUESTS[name]
    async with faking() as (fake, homeserver):
        for answers in variants(request):
            fake.says_in_turn(*answers)
            try:
                await request.call(homeserver)
            except HomeserverError:
                continue
            except Exception as error:
                raise AssertionError(f"{answers!r}") from error


@every_method
async def test_a_dry_run_sends_no_change(name: str) -> None:
    """With DRY_RUN whatever changes the homeserver is withheld, with its words; the rest is not."""
    request = REQUESTS[name]
    async with faking(dry_run=True) as (fake, homeserver):
        fake.says_in_turn(*request.answers)
        if request.changes:
            with pytest.raises(WithheldError, match=r"^DRY_RUN: would \w+"):
                await request.call(homeserver)
            assert fake.asked == []
        else:
            await request.call(homeserver)
            unsafe = {asked.path for asked in fake.asked if asked.method in ("PUT", "DELETE")}
            assert set() == unsafe


@every_method
async def test_who_does_not_lead_sends_no_change(name: str) -> None:
    """Whatever does not only read stays here, but for people who sign in to the console."""
    request = REQUESTS[name]
    leads = True
    async with faking(leads=lambda: leads) as (fake, homeserver):
        fake.says_in_turn(*request.answers)
        await request.call(homeserver)
        leads = False
        writes = [asked.method for asked in fake.asked if asked.method != "GET"]
        fake.asked.clear()
        fake.says_in_turn(*request.answers)
        if writes and name != "who_signs_in":
            with pytest.raises(FencedError):
                await request.call(homeserver)
            assert {asked.method for asked in fake.asked} <= {"GET"}
        else:
            await request.call(homeserver)


@every_method
async def test_a_redirect_is_not_followed(name: str) -> None:
    """The token goes nowhere else, and no change becomes a GET."""
    request = REQUESTS[name]
    async with faking() as (fake, homeserver):

        async def answer(asked: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=302, headers={"Location": fake.url + "/elsewhere"})

        fake.answer = answer
        with pytest.raises(UnavailableError, match="redirect"):
            await request.call(homeserver)
        assert len(fake.asked) == 1


@every_method
async def test_nothing_is_sent_a_second_time(name: str) -> None:
    """A connection that breaks ends the request, reading ones too."""
    request = REQUESTS[name]
    async with faking() as (fake, homeserver):

        async def answer(asked: web.BaseRequest) -> web.StreamResponse:
            assert asked.transport is not None
            asked.transport.abort()
            return web.Response()

        # A connection that is kept is what aiohttp would try again.
        fake.says("{}")
        await homeserver.rooms.invite("!room:s", "@ann:s")
        fake.answer = answer
        with pytest.raises(UnavailableError):
            await request.call(homeserver)
        assert len(fake.asked) == 2
