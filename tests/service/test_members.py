"""Group members: whatever is sent, a group holds exactly what a simple model says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scim_matrix.app import make_app
from tests.service.client import call, made
from tests.service.conftest import SECRET, Client, Start, environment

GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PEOPLE = ["a", "b", "c", "D", "e e", "ü"]

people = st.lists(st.sampled_from(PEOPLE), max_size=4)
spelling = st.sampled_from(["objects", "decorated", "strings"])
paths = st.sampled_from(["members", "MEMBERS", f"{GROUP}:members", " members "])


def spelled(chosen: list[str], how: str) -> list[Any]:
    """Return members as one identity provider or another writes them."""
    if how == "strings":
        return list(chosen)
    if how == "objects":
        return [{"value": p} for p in chosen]
    return [{"Value": p, "DISPLAY": f"Mx {p}", "$ref": None, "type": "User"} for p in chosen]


def selection(chosen: list[str], *, quotes: bool) -> str:
    """Return a path that selects members, with the quotes left out where that can be read."""
    terms = [f'value eq "{p}"' if quotes or " " in p else f"value eq {p}" for p in chosen]
    return f"members[{' or '.join(terms)}]"


@st.composite
def operations(draw: st.DrawFn) -> tuple[dict[str, Any], str, list[str]]:
    """Return one PATCH operation, and what it means: add, remove, replace or nothing."""
    chosen = draw(people)
    sent = spelled(chosen, draw(spelling))
    path = draw(paths)
    form = draw(st.integers(0, 9))
    one = sent[0] if len(sent) == 1 else sent
    selected = selection(chosen, quotes=draw(st.booleans()))
    forms: list[tuple[dict[str, Any], str]] = [
        ({"op": "add", "path": path, "value": one}, "add"),
        ({"op": "Add", "value": {path.strip(): sent}}, "add"),
        ({"op": "replace", "path": path, "value": sent}, "replace"),
        ({"op": "Replace", "value": {"members": sent, "displayName": "g", "x": 1}}, "replace"),
        ({"op": "remove", "path": path, "value": sent}, "remove"),
        ({"op": "Remove", "path": path}, "empty"),
        ({"op": "replace", "path": path, "value": None}, "empty"),
        ({"op": "replace", "path": "displayName", "value": "g"}, "nothing"),
        ({"op": "remove", "path": selected} if chosen else {}, "remove"),
        ({"op": "add", "path": selected, "value": {}} if chosen else {}, "add"),
    ]
    operation, meaning = forms[form]
    if not operation:
        return forms[7][0], "nothing", []
    return operation, meaning, chosen


requests = st.one_of(
    st.tuples(st.just("PATCH"), st.lists(operations(), min_size=1, max_size=4)),
    st.tuples(st.just("PUT"), st.one_of(st.none(), st.tuples(people, spelling))),
    st.tuples(st.just("DELETE"), st.none()),
    st.tuples(st.just("WRONG"), st.lists(operations(), min_size=1, max_size=3)),
)


def model(held: set[str], meaning: str, chosen: list[str]) -> set[str]:
    """Say what a group holds after one operation."""
    return {
        "add": held | set(chosen),
        "remove": held - set(chosen),
        "replace": set(chosen),
        "empty": set[str](),
        "nothing": held,
    }[meaning]


@asynccontextmanager
async def served(folder: Any) -> AsyncIterator[Client]:
    """Serve the application."""
    async with TestClient(
        TestServer(make_app(environment(folder))), headers={"Authorization": f"Bearer {SECRET}"}
    ) as client:
        yield client


def test_a_group_holds_what_the_model_says(tmp_path: Path) -> None:
    """Any sequence of requests, in any spelling, leaves exactly the members it means."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        client = runner.run(stack.enter_async_context(served(tmp_path)))

        @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
        @given(script=st.lists(requests, max_size=8))
        def play(script: list[tuple[str, Any]]) -> None:
            runner.run(_play(client, script))

        try:
            play()
        finally:
            runner.run(stack.aclose())


async def _play(client: Client, script: list[tuple[str, Any]]) -> None:
    """Have a group of its own go through a script."""
    group_id = (await made(client, "Groups", displayName="g"))["id"]
    held: set[str] = set()
    for method, what in script:
        path = f"/Groups/{group_id}"
        if method == "DELETE":
            assert (await call(client, "DELETE", path))[0] == 204
            assert (await call(client, "GET", path))[0] == 404
            group_id, held = (await made(client, "Groups", displayName="g"))["id"], set()
        elif method == "PUT":
            sent = {} if what is None else {"members": spelled(*what)}
            status, answer = await call(client, "PUT", path, {"displayName": "g", **sent})
            assert status == 200, answer
            held = set() if what is None else set(what[0])
        else:
            patch = [operation for operation, _, _ in what]
            if method == "WRONG":
                patch.append({"op": "replace", "path": "displayName", "value": {}})
            status, answer = await call(client, "PATCH", path, {"Operations": patch})
            assert status == (400 if method == "WRONG" else 204), answer
            for _, meaning, chosen in what if method == "PATCH" else []:
                held = model(held, meaning, chosen)
        _, group = await call(client, "GET", f"/Groups/{group_id}")
        assert [m["value"] for m in group["members"]] == sorted(held)


async def test_display_is_kept_and_changed(start: Start) -> None:
    """A member's display is what was sent last; what only the member knows cannot be written."""
    client = await start()
    user = await made(client, "Users", userName="u")
    sent = [{"value": user["id"], "display": "One"}, {"value": "x"}]
    group = await made(client, "Groups", displayName="g", members=sent)
    path = f"/Groups/{group['id']}"
    selected = f'members[value eq "{user["id"]}"]'
    for operation, expected in (
        ({"op": "replace", "path": f"{selected}.display", "value": "Two"}, "Two"),
        ({"op": "add", "path": "members", "value": [{"value": user["id"]}]}, "Two"),
        ({"op": "add", "path": "members", "value": [sent[0]]}, "One"),
        ({"op": "add", "path": 'members[value eq "nobody"].display', "value": "Z"}, "One"),
        ({"op": "remove", "path": f"{selected}.display"}, None),
    ):
        status, answer = await call(client, "PATCH", path, {"Operations": [operation]})
        assert status == 204, answer
        _, group = await call(client, "GET", path)
        shown = {m["value"]: m.get("display") for m in group["members"]}
        assert shown == {user["id"]: expected, "x": None}, operation
    for sub, kind in ((".type", "mutability"), (".value", "mutability"), (".x.y", "invalidPath")):
        operation = {"op": "replace", "path": selected + sub, "value": "User"}
        status, error = await call(client, "PATCH", path, {"Operations": [operation]})
        assert (status, error["scimType"]) == (400, kind)
    for text in (selected, 'members[type eq "User"]'):
        wrong = {"op": "replace", "path": f"{text}.display", "value": {"a": 1}}
        status, error = await call(client, "PATCH", path, {"Operations": [wrong]})
        assert (status, error["scimType"]) == (400, "invalidValue")
        assert "members[0].display" in error["detail"]
    for filter_text in ('$id ne "x"', 'nick eq "One"', 'value.x eq "x" and value eq "y"'):
        operation = {"op": "remove", "path": f"members[{filter_text}]"}
        status, error = await call(client, "PATCH", path, {"Operations": [operation]})
        assert (status, error["scimType"]) == (400, "invalidPath")


async def test_members_who_are_there_already_change_nothing(start: Start) -> None:
    """Nor do those who are not: the group is of the same version."""
    client = await start()
    user = await made(client, "Users", userName="u")
    group = await made(client, "Groups", displayName="g", members=[{"value": user["id"]}])
    path = f"/Groups/{group['id']}"
    for op, value in (("add", user["id"]), ("remove", "nobody"), ("replace", user["id"])):
        operation = {"op": op, "path": "members", "value": [{"value": value}]}
        status, _ = await call(client, "PATCH", path, {"Operations": [operation]})
        assert status == 204
        assert (await call(client, "GET", path))[1]["meta"] == group["meta"], op
