"""The environment as one frozen Settings object, every mistake reported at once."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import dotenv
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    ValidationError,
)

from scim_matrix import groupmap, localpart

SECRETS = ("WEBHOOK_SECRET", "MATRIX_ADMIN_TOKEN")
IGNORED = ("AUTHENTIK_API_URL", "AUTHENTIK_TOKEN")

OnDisable = Literal["lock", "suspend", "deactivate", "erase", "nothing"]


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` has one line a mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _seconds(value: object) -> object:
    """Read durations like 90, 30s, 15m, 12h, 7d as seconds."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+)([smhd]?)", value.strip())):
        return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    return value


def _words(value: object) -> object:
    return tuple(value.split()) if isinstance(value, str) else value


def _template(value: str) -> str:
    localpart.check_template(value)
    return value


def _url(value: str) -> str:
    TypeAdapter(HttpUrl).validate_python(value)
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


class Settings(BaseModel):
    """What the service runs with; the field names are the environment's, in lower case."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)
    ] = "info"
    log_format: Literal["console", "json"] | None = None
    listen_host: str = "127.0.0.1"
    listen_port: Annotated[int, Field(ge=0, le=65535)] = 5000
    public_url: Url | None = None
    webhook_secret: SecretStr
    matrix_url: Url
    matrix_server_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]+$")]
    matrix_admin_user_id: Annotated[str, Field(pattern=r"^@[^:]+:.+$")]
    matrix_admin_token: SecretStr
    idp_name: Annotated[str, Field(min_length=1)]
    idp_group_to_room: tuple[groupmap.Mapping, ...] = ()
    group_map_file: Path | None = None
    data_dir: Path
    sso_subject_attribute: str = "externalId"
    localpart_template: Annotated[str, AfterValidator(_template)] | None = None
    adopt_existing_accounts: bool = False
    on_disable: Annotated[OnDisable, BeforeValidator(_lower)] = "lock"
    on_delete: Annotated[OnDisable, BeforeValidator(_lower)] = "deactivate"
    delete_grace: Annotated[int, BeforeValidator(_seconds), Field(ge=0)] = 7 * 86400
    protected_users: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    reconcile_interval: Annotated[int, BeforeValidator(_seconds), Field(ge=1)] = 3600
    on_self_leave: Annotated[Literal["rejoin", "respect"], BeforeValidator(_lower)] = "rejoin"
    removal_limit_percent: Annotated[int, Field(ge=0, le=100)] = 30
    removal_limit_count: Annotated[int, Field(ge=0)] = 10
    removal_window: Annotated[int, BeforeValidator(_seconds), Field(ge=1)] = 3600
    dry_run: bool = False
    record_keep: Annotated[int, BeforeValidator(_seconds), Field(ge=3600)] = 365 * 86400
    lift_rate_limit: bool = True
    matrix_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The bearer secrets in force."""
        return tuple(self.webhook_secret.get_secret_value().split())

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> Self:
        """Read settings from an environment. Raises ConfigurationError with every problem."""
        problems: list[str] = []
        values: dict[str, Any] = {
            name: environment[name.upper()]
            for name in cls.model_fields
            if environment.get(name.upper(), "") != ""
        }
        for name in SECRETS:
            values |= _secret(name, environment, problems)
        if "idp_group_to_room" in values:
            try:
                values["idp_group_to_room"] = groupmap.parse_group_map(values["idp_group_to_room"])
            except groupmap.GroupMapError as error:
                problems.append(f"IDP_GROUP_TO_ROOM: {error}")
                del values["idp_group_to_room"]
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [f"{str(e['loc'][0]).upper()}: {_reason(e)}" for e in error.errors()]
            raise ConfigurationError(problems) from error
        if not settings.webhook_secrets:
            problems.append("WEBHOOK_SECRET: must hold at least one secret")
        if not settings.matrix_admin_user_id.endswith(f":{settings.matrix_server_name}"):
            problems.append("MATRIX_ADMIN_USER_ID: must be a user of MATRIX_SERVER_NAME")
        try:
            settings.group_map()
        except groupmap.GroupMapError as error:
            problems.append(f"GROUP_MAP_FILE: {error}")
        if problems:
            raise ConfigurationError(problems)
        return settings

    def group_map(self) -> tuple[groupmap.Mapping, ...]:
        """Return the map of environment and file together. Raises groupmap.GroupMapError."""
        if self.group_map_file is None:
            return self.idp_group_to_room
        try:
            text = self.group_map_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise groupmap.GroupMapError(f"cannot be read: {error}") from error
        return groupmap.consistent(self.idp_group_to_room + groupmap.parse_group_map(text))


def _secret(name: str, environment: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """Find a secret: the variable, then <NAME>_FILE, then systemd's credentials directory."""
    if environment.get(name):
        return {name.lower(): environment[name].strip()}
    path: Path | None = None
    if environment.get(f"{name}_FILE"):
        path = Path(environment[f"{name}_FILE"])
    elif environment.get("CREDENTIALS_DIRECTORY"):
        folder = Path(environment["CREDENTIALS_DIRECTORY"])
        found = (folder / spelling for spelling in (name, name.lower()))
        path = next((p for p in found if p.exists()), None)
    if path is None:
        return {}
    try:
        return {name.lower(): path.read_text("utf-8").strip()}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{name}_FILE: cannot be read: {error}")
        return {name.lower(): "unreadable"}


def _reason(error: Any) -> str:
    name = str(error["loc"][0]).upper()
    if error["type"] == "missing":
        secret = f", {name}_FILE or a credential" if name in SECRETS else ""
        return f"is not set (needed; set {name}{secret})"
    message = str(error["msg"])
    return message.removeprefix("Value error, ")


def environment() -> dict[str, str]:
    """Return the process environment over the `.env` of the working directory."""
    file = {k: v for k, v in dotenv.dotenv_values(".env").items() if v is not None}
    return {**file, **os.environ}
