"""Replay a recorded-style conversation of an identity provider and check every answer."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template
from typing import Any

from scim_matrix.demo.service import ScimClient

IDPS = Path(__file__).parent / "idp"


def load(idp: str) -> dict[str, Any]:
    """Return the conversation of one identity provider."""
    conversation: dict[str, Any] = json.loads((IDPS / f"{idp}.json").read_text())
    return conversation


def contains(expected: Any, actual: Any) -> bool:
    """Tell whether an answer holds what is expected; "*" stands for any value."""
    if expected == "*":
        return actual is not None
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            k in actual and contains(v, actual[k]) for k, v in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(expected)
            and all(map(contains, expected, actual))
        )
    return bool(expected == actual)


async def replay(
    conversation: dict[str, Any],
    client: ScimClient,
    rooms_are: Callable[[dict[str, list[str]]], Awaitable[None]],
) -> None:
    """Send every step in order; fail with the step's sentence where an answer is wrong."""
    saved: dict[str, str] = {}
    for step in conversation["steps"]:
        text = json.dumps({"path": step["path"], "body": step.get("body")})
        sent = json.loads(Template(text).safe_substitute(saved))
        status, answer = await client.call(
            step["method"], sent["path"], sent["body"], conversation["sends"]
        )
        expect = json.loads(Template(json.dumps(step["expect"])).safe_substitute(saved))
        allowed = expect["status"] if isinstance(expect["status"], list) else [expect["status"]]
        assert status in allowed, (step["do"], status, answer)
        assert contains(expect.get("body", {}), answer or {}), (step["do"], answer)
        assert not set(expect.get("absent", [])) & set(answer or {}), (step["do"], answer)
        for name, path in step.get("save", {}).items():
            saved[name] = answer[path]
        if "then" in step:
            await rooms_are(step["then"]["rooms"])
