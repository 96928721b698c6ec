"""Trying the answers of `init` at once against the real thing."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import HttpUrl, TypeAdapter, ValidationError

from scim_matrix.config import Settings
from scim_matrix.matrix.connecting import connect
from scim_matrix.matrix.errors import HomeserverError, NotFoundError, TokenError
from scim_matrix.matrix.rooms import OwnName
from scim_matrix.matrix.server import Homeserver
from scim_matrix.ops import check_mas, check_settings
from scim_matrix.ops.findings import Finding
from scim_matrix.store.text import folded

# So many rooms are looked through by name, and so many are shown.
MOST_ROOMS = 500
SHOWN = 15
_UNKNOWN = {
    "webhook_secret": "unknown",
    "matrix_server_name": "unknown",
    "matrix_admin_user_id": "@unknown:unknown",
    "data_dir": "/nowhere",
}


class Refusal(Exception):
    """An answer that cannot be right: what was found, and the cure."""

    def __init__(self, found: str, cure: str) -> None:
        super().__init__(found)
        self.found, self.cure = found, cure


class Trial:
    """The settings so far, and what the homeserver told: `told` are sentences about it."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings
        self.told: list[str] = []
        self.providers: list[str] = []
        self.rooms: dict[str, OwnName] = {}

    def so_far(self) -> Settings:
        """Return the settings so far, with something harmless for what is not known yet."""
        known = {name.lower(): value for name, value in self.settings.items()}
        return Settings.model_validate({**_UNKNOWN, **known})

    def homeserver(self) -> Homeserver:
        """Return the homeserver of the settings so far; nothing is changed there."""
        return connect(self.so_far(), dry_run=True)

    def rooms_told(self) -> list[str]:
        """Return the rooms that somebody may want to open, the largest first."""
        shown = [
            " ".join(filter(None, (*own, room))) for room, own in self.rooms.items() if any(own)
        ]
        more = [f"and {len(shown) - SHOWN} more"] if len(shown) > SHOWN else []
        return ["rooms of the homeserver:", *shown[:SHOWN], *more] if shown else []


def _refuse(findings: list[Finding]) -> None:
    """Raise a Refusal where something cannot work."""
    for finding in findings:
        if finding.verdict == "error":
            raise Refusal(f"{finding.about}: {finding.found}", finding.cure)


def _is_address(answer: str, example: str) -> None:
    try:
        TypeAdapter(HttpUrl).validate_python(answer)
    except ValidationError as error:
        found = f"{answer or 'nothing'} is no address"
        raise Refusal(found, f"write one such as {example}") from error


async def an_address(_: Trial, answer: str) -> None:
    """Refuse what is no address; nothing is one that is not known yet."""
    if answer:
        _is_address(answer, "https://scim.example.com")


async def a_folder(_: Trial, answer: str) -> None:
    """Refuse a folder that cannot be made."""
    _refuse(list(check_settings.of_files(Path(answer))))


async def a_homeserver(trial: Trial, answer: str) -> None:
    """Refuse an address at which no homeserver answers; learn whether accounts belong to MAS."""
    _is_address(answer, "https://matrix.example.com")
    trial.settings["MATRIX_URL"] = answer.rstrip("/")
    trial.settings.pop("MAS_URL", None)
    _refuse([*check_settings.of_address_ending(answer.rstrip("/"))])
    _refuse(
        await check_settings.of_address(Settings.model_construct(matrix_url=answer.rstrip("/")))
    )
    homeserver = trial.homeserver()
    try:
        if (issuer := await homeserver.issuer()) is not None:
            trial.settings["MAS_URL"] = issuer
            return
        trial.providers = sorted(await homeserver.sso_providers())
    except HomeserverError as error:
        cure = "give the address of Synapse's client and admin API; inside a container 127.0.0.1 is"
        raise Refusal(f"{answer}: {error}", f"{cure} the container") from error
    finally:
        await homeserver.close()


async def some_mas(trial: Trial, _: str) -> None:
    """Refuse a client that MAS does not let administer it; learn the server's name."""
    homeserver = trial.homeserver()
    try:
        assert homeserver.mas is not None
        with suppress(HomeserverError):
            name = await homeserver.mas.server_name()
            trial.settings["MATRIX_SERVER_NAME"] = name
            trial.settings["MATRIX_ADMIN_USER_ID"] = f"@scim-bot:{name}"
    finally:
        await homeserver.close()
    homeserver = trial.homeserver()
    try:
        _refuse(await check_mas.of_mas(homeserver, trial.so_far()))
    finally:
        await homeserver.close()


async def a_token(trial: Trial, _: str) -> None:
    """Refuse a token that is no administrator's; learn whose it is, and the rooms there are."""
    homeserver = trial.homeserver()
    try:
        user_id = await homeserver.whoami()
        version = await homeserver.server_version()
        trial.rooms = await homeserver.rooms.listed(MOST_ROOMS)
    except TokenError as error:
        cure = "give the token of a server admin: docs/setup/homeserver.md makes one"
        raise Refusal(f"the homeserver refuses the token: {error}", cure) from error
    except HomeserverError as error:
        cure = "let this machine reach /_matrix and /_synapse/admin at that address"
        raise Refusal(str(error), cure) from error
    finally:
        await homeserver.close()
    trial.settings["MATRIX_ADMIN_USER_ID"] = user_id
    trial.settings["MATRIX_SERVER_NAME"] = user_id.partition(":")[2]
    offered = ", ".join(trial.providers) or "none: people cannot sign in through one yet"
    trial.told = [
        f"Synapse {version}; the token is {user_id}'s, a server admin",
        f"identity providers that Synapse has: {offered}",
    ]


async def a_provider(trial: Trial, answer: str) -> None:
    """Refuse an identity provider that Synapse does not have, where it has some."""
    if not answer or (trial.providers and answer not in trial.providers):
        offered = ", ".join(trial.providers) or "oidc- and the idp_id in homeserver.yaml"
        raise Refusal(f"{answer or 'nothing'} is no SSO provider of the homeserver", offered)


async def is_there(trial: Trial, alias: str) -> bool:
    """Tell whether an alias leads to a room, as far as the homeserver can be asked yet."""
    homeserver = trial.homeserver()
    try:
        if homeserver.take_stored_token():
            await homeserver.rooms.resolve_alias(alias)
    except HomeserverError as error:
        return not isinstance(error, NotFoundError)
    finally:
        await homeserver.close()
    return True


async def a_mapping(trial: Trial, group: str, room: str, *, make: bool) -> Any:
    """Return a room as the map names it, and that it is to be made. Raises Refusal."""
    alikes = {
        room_id: own
        for room_id, own in trial.rooms.items()
        if room in (room_id, own[1]) or (own[0] and folded(own[0]) == folded(room))
    }
    if len(alikes) > 1:
        raise Refusal(f"{room}: several rooms are called so", f"give one of {', '.join(alikes)}")
    for room_id, own in alikes.items():
        return own[1] or room_id
    if not room.startswith(("#", "!")):
        raise Refusal(f"{room}: no room is called so", "give its alias or ID, or the name in full")
    homeserver = trial.homeserver()
    try:
        if not homeserver.take_stored_token():
            # MAS makes the token at the first start.
            return room
        if room.startswith("#"):
            await homeserver.rooms.resolve_alias(room)
        else:
            await homeserver.rooms.details(room)
    except NotFoundError as error:
        if make and room.startswith("#"):
            return {"room": room, "create": {"name": group}}
        cure = "make it, give --make-rooms, or correct it"
        raise Refusal(f"{room} does not exist: {error.message}", cure) from error
    except HomeserverError as error:
        raise Refusal(f"{room}: {error}", "correct it") from error
    finally:
        await homeserver.close()
    return room
