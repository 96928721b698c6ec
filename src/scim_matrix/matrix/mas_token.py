"""The token that the service makes itself through MAS, for its own account in Synapse."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import AwareDatetime, Field, ValidationError

from scim_matrix.matrix.answers import misshapen
from scim_matrix.matrix.errors import (
    USER_LOCKED,
    HomeserverError,
    NotFoundError,
    NoTokenError,
    RefusedError,
)
from scim_matrix.matrix.mas_answers import Shape, Token
from scim_matrix.matrix.mas_client import MasClient

log = structlog.get_logger(__name__)

SCOPE = "urn:matrix:client:api:* urn:matrix:client:device:SCIMMATRIX urn:synapse:admin:*"
# How long a token lives, and when a new one is due: a MAS that is away for weeks costs no access.
LIFE = timedelta(days=60)
RENEW_BEFORE = timedelta(days=30)
NAME = "scim-matrix"


class _Bot(Shape):
    username: str
    locked_at: AwareDatetime | None = None
    deactivated_at: AwareDatetime | None = None


class _Made(Shape):
    access_token: Token
    expires_at: AwareDatetime | None = None


class _Stored(Shape):
    """What the file holds."""

    user_id: str
    session: str
    token: Token = Field(repr=False)
    ends: AwareDatetime

    @property
    def is_due(self) -> bool:
        """Whether a new token is to be made."""
        return self.ends - RENEW_BEFORE <= datetime.now(UTC)

    @property
    def has_ended(self) -> bool:
        """Whether Synapse takes this one no more."""
        return self.ends <= datetime.now(UTC)


class MasToken:
    """Keeps a token for the service's account `user_id` in the file `path`, and in memory.

    The account is made where MAS has none of this name. The file is readable by its owner only,
    and whatever stands in it is nowhere else: neither in logs nor in errors. Before a token is
    made `make_sure` is awaited, which raises what speaks against it: one made on a server that
    does not delegate would be of no use, and the next try would make another.
    """

    def __init__(
        self,
        client: MasClient,
        user_id: str,
        path: Path | None,
        make_sure: Callable[[], Awaitable[None]],
    ) -> None:
        self._mas = client
        self._user_id = user_id
        self._path = path
        self._make_sure = make_sure
        self._kept: _Stored | None = None
        self._is_unwritten = False
        self._making = asyncio.Lock()

    def stored(self) -> str | None:
        """Return the token that was made before, None without one; nothing is asked or changed.

        Raises OSError where the file cannot be read.
        """
        kept = None if self._path is None else self._usable(_content(self._path))
        return None if kept is None else kept.token

    async def current(self) -> str:
        """Return the token to use, renewed where its end comes near.

        One that still works is returned where MAS does not renew it now. Raises what MasClient
        and `make_sure` raise, RefusedError where the account may not be used, and NoTokenError
        where the file cannot be read. A dry run makes a token, for an account that is there.
        """
        async with self._making:
            kept = self._read()
            if kept is None:
                return await self._made(None)
            if not kept.is_due:
                return kept.token
            try:
                return await self._made(kept)
            except HomeserverError as error:
                if kept.has_ended:
                    raise
                log.warning("token_not_renewed", ends=kept.ends.isoformat(), error=str(error))
                return kept.token

    async def renewed(self, refused: str) -> str:
        """Return a token in place of one that Synapse has refused.

        Raises what `current` does.
        """
        async with self._making:
            kept = self._read()
            if kept is not None and kept.token != refused:
                return kept.token
            return await self._made(kept)

    async def _made(self, kept: _Stored | None) -> str:
        """Make a token: in the session that there is, else in a new one.

        Where the answer is lost the file still has a token that MAS no longer takes, or none; a
        session that nobody has a token of ends by itself.
        """
        await self._make_sure()
        bot = await self._bot()
        life = {"expires_in": int(LIFE.total_seconds())}
        made: Any = None
        if kept is not None:
            try:
                path = ("personal-sessions", kept.session, "regenerate")
                _, made = await self._mas.one("POST", *path, of=_Made, body=dict(life))
            except RefusedError:
                # It was revoked, or is another MAS's.
                log.info("token_session_gone", user_id=self._user_id)
        if made is None:
            body = {"actor_user_id": bot, "human_name": NAME, "scope": SCOPE, **life}
            _, made = await self._mas.one("POST", "personal-sessions", of=_Made, body=body)
        token = made.attributes.access_token
        ends = made.attributes.expires_at or datetime.now(UTC) + LIFE
        self._write(_Stored(user_id=self._user_id, session=made.id, token=token, ends=ends))
        log.info("token_made", user_id=self._user_id, ends=ends.isoformat())
        return str(token)

    async def _bot(self) -> str:
        """Return the ULID of the service's account, which may have to be made."""
        name = self._user_id.removeprefix("@").partition(":")[0]
        try:
            _, bot = await self._mas.one("GET", "users", "by-username", name, of=_Bot)
            missing = bot.attributes.username != name
        except NotFoundError:
            missing = True
        if missing:
            self._mas.changes(f"make the service's own account {self._user_id}")
            body = {"username": name, "skip_homeserver_check": False}
            _, bot = await self._mas.one("POST", "users", of=_Bot, body=body)
            log.info("own_account_made", user_id=self._user_id)
        for what, since in (
            ("locked", bot.attributes.locked_at),
            ("deactivated", bot.attributes.deactivated_at),
        ):
            if since is not None:
                words = f"{self._user_id} is {what} in MAS since {since}: take that off by hand"
                raise RefusedError(403, USER_LOCKED, words)
        return bot.id

    def _read(self) -> _Stored | None:
        """Return what the file holds for this account, None where that is nothing of use.

        What it held before serves on where it cannot be read any more, and what could not be
        written serves too. Raises NoTokenError where there is nothing of both.
        """
        if self._path is None or self._is_unwritten:
            return self._kept
        try:
            _narrow(self._path)
            self._kept = self._usable(_content(self._path))
        except OSError as error:
            if self._kept is None:
                raise NoTokenError(f"{self._path} cannot be read: {error}") from error
            log.warning("token_file_unreadable", path=str(self._path), error=str(error))
        return self._kept

    def _usable(self, content: bytes | None) -> _Stored | None:
        """Return what a file's content says for this account, None where that is nothing of use."""
        if content is None:
            return None
        try:
            kept = _Stored.model_validate_json(content)
        except ValidationError as error:
            log.warning("token_file_unreadable", path=str(self._path), error=misshapen(error))
            return None
        return kept if kept.user_id == self._user_id else None

    def _write(self, kept: _Stored) -> None:
        """Keep a token, in the file too: where that fails the next start makes another."""
        self._kept = kept
        if self._path is None:
            return
        try:
            _replace(self._path, kept.model_dump_json())
            self._is_unwritten = False
        except OSError as error:
            self._is_unwritten = True
            log.warning("token_file_not_written", path=str(self._path), error=str(error))


def _content(path: Path) -> bytes | None:
    """Return what a file holds, None where there is none. Raises OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _narrow(path: Path) -> None:
    """Let nobody but its owner read a file, whoever has copied or restored it."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
            log.info("token_file_narrowed", path=str(path))


def _replace(path: Path, content: str) -> None:
    """Replace a file whole, readable by its owner only: a crash leaves the former one."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
