"""The servers that work is done on: are they there, and those that the settings say."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Literal

from scim_matrix.clock import Clock
from scim_matrix.matrix.delegation import PLAIN, PLAIN_CURE
from scim_matrix.matrix.errors import (
    FORBIDDEN,
    FencedError,
    HomeserverError,
    MismatchError,
    NoTokenError,
    TokenError,
    UnvouchedError,
)
from scim_matrix.matrix.mas_answers import MasError
from scim_matrix.matrix.mas_client import is_too_old
from scim_matrix.matrix.server import Homeserver
from scim_matrix.sync.breaker import Breaker, condition_by

Lane = Literal["observe", "room", "account"]


def code_of(error: HomeserverError) -> str:
    """Return the code of what is wrong with a server where a request ends so (problems.py)."""
    return f"{'mas' if isinstance(error, MasError) else 'homeserver'}-{condition_by(error)}"


class Servers:
    """The homeserver, and MAS where accounts belong to it, each with a breaker of its own.

    Each is left alone for itself: what ails one does not stop work on the other.
    """

    def __init__(self, homeserver: Homeserver, clock: Clock, concurrency: int) -> None:
        self._homeserver = homeserver
        self.synapse = Breaker("homeserver", clock, concurrency)
        self.mas: Breaker | None = None
        if homeserver.mas is not None:
            self.mas = Breaker("mas", clock, concurrency)
        # Whether accounts belong to MAS, says the homeserver.
        self.delegated = False

    @property
    def all(self) -> list[Breaker]:
        """The servers that there are."""
        return [self.synapse] if self.mas is None else [self.synapse, self.mas]

    @property
    def resting_until(self) -> float:
        """Until when every server is left alone (seconds since the epoch)."""
        return min(server.resting_until for server in self.all)

    def of(self, lane: Lane) -> Breaker:
        """Return the server that work of a lane is mostly done on."""
        return self.mas if lane == "account" and self.mas is not None else self.synapse

    def blamed(self, error: HomeserverError) -> Breaker:
        """Return the server that an error is about."""
        about_mas = isinstance(error, MasError | NoTokenError | UnvouchedError)
        return self.mas if about_mas and self.mas is not None else self.synapse

    def trip(self, error: HomeserverError) -> None:
        """Leave the server alone that an error is about; without a token that is Synapse too."""
        if isinstance(error, NoTokenError | UnvouchedError):
            self.synapse.trip(error)
            self.blamed(error).doubt()
        else:
            self.blamed(error).trip(error)

    def codes(self) -> Iterator[str]:
        """Yield the codes of what is wrong with them (scim_matrix/problems.py)."""
        for server in self.all:
            if server.condition not in ("unknown", "ready"):
                yield f"{server.name}-{server.condition}"
        if self.synapse.condition == "ready" and self.delegated and self.mas is None:
            yield "delegated-authentication"

    async def check(self, server: Breaker, ask: Callable[[], Awaitable[None]]) -> None:
        """Before any work on a server, and where answers said nothing, ask whether it is there."""
        if server.rests_seconds:
            return
        try:
            await ask()
        except FencedError:
            # Says nothing of the server.
            raise
        except HomeserverError as error:
            server.trip(error)
            self.blamed(error).doubt()
        else:
            server.answered()

    async def look(self) -> None:
        """See whether they are there, without any work to do on them."""
        for server, identify in (
            (self.mas, self.identify_mas),
            (self.synapse, self.identify_homeserver),
        ):
            if server is not None:
                # Where the service's own account is to be made first, whoever leads does it.
                with contextlib.suppress(FencedError):
                    await self.check(server, partial(self._look_at, server, identify))

    async def _look_at(self, server: Breaker, identify: Callable[[], Awaitable[str]]) -> None:
        server.met(await identify())

    async def identify_mas(self) -> str:
        """Ask MAS which version it is, and whether it is the homeserver's.

        Raises MismatchError where it is not, and what else a request raises.
        """
        mas = self._homeserver.mas
        assert mas is not None
        version = await mas.version()
        if is_too_old(version):
            raise MismatchError(f"MAS is {version}, and 1.5 is the oldest that has what is needed")
        served = await mas.server_name()
        if served != self._homeserver.server_name:
            raise MismatchError(f"MAS_URL serves {served}, not MATRIX_SERVER_NAME")
        return version

    async def identify_homeserver(self) -> str:
        """Ask the homeserver which version it is, whose the token is, and whose the accounts.

        Raises TokenError and MismatchError where that is not as the settings say, and what else
        a request raises.
        """
        whoami = await self._homeserver.sign_in()
        version = await self._homeserver.server_version()
        if whoami != self._homeserver.user_id:
            raise TokenError(
                403,
                FORBIDDEN,
                f"the token is {whoami}'s, not that of MATRIX_ADMIN_USER_ID"
                f" ({self._homeserver.user_id}) at MATRIX_SERVER_NAME",
            )
        self.delegated = await self._homeserver.accounts_are_delegated()
        if self.mas is not None and not self.delegated:
            raise MismatchError(f"{PLAIN}; {PLAIN_CURE}")
        return version
