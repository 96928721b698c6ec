"""A service without what keeps it from acting once another leads, but for one thing."""

from typing import Any

import aiohttp

from scim_matrix.matrix import transport
from scim_matrix.store import lease
from scim_matrix.store.database import Writer
from scim_matrix.store.leadership import Term


def only(fence: str) -> None:
    """Leave one fence standing in this process, or none, and have its terms be short.

    `request` is the last look before one is sent, `transaction` what begins one that hands work out
    or records what came of it, `term` that a term ends by itself.
    """
    lease.LEASE_SECONDS, lease.STOP_BEFORE, lease.TEND_EVERY = 3.0, 1.0, 0.5
    taken_out: list[tuple[Any, str, Any]] = []
    if fence != "request":
        taken_out.append((transport, "fenced", _open))
    if fence != "transaction":
        taken_out.append((Writer, "_enter", _enter_of_no_term))
    if fence == "request":
        taken_out.append((Term, "_watch", _unwatched))
    elif fence != "term":
        taken_out.append((Term, "prolong", _endless))
    for owner, name, instead in taken_out:
        assert hasattr(owner, name)
        setattr(owner, name, instead)


def _open(*_: object) -> type[aiohttp.ClientRequest]:
    return aiohttp.ClientRequest


_ENTER = Writer._enter


async def _enter_of_no_term(
    writer: Writer, savepoint: str, before: str | None, term: Term | None
) -> None:
    await _ENTER(writer, savepoint, before, None)


def _unwatched(term: Term) -> None:
    return None


def _endless(term: Term, until: float) -> None:
    return None
