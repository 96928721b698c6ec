"""The environment as one frozen Settings object, every mistake reported at once."""

import importlib.util
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    IPvAnyNetwork,
    SecretStr,
    TypeAdapter,
    ValidationError,
)

from scim_matrix import groupmap, localpart, settings_cures
from scim_matrix.settings_values import (
    misspelt,
    seconds,
    size,
    subject_attribute,
    unquoted,
    weak_secret,
)
from scim_matrix.store.database import Place

SECRETS = ("WEBHOOK_SECRET", "MATRIX_ADMIN_TOKEN", "MAS_CLIENT_SECRET", "DATABASE_URL")
# What the Matrix Authentication Service (MAS) is asked with: all of these or none.
_MAS = ("MAS_URL", "MAS_CLIENT_ID", "MAS_CLIENT_SECRET")
# Needed where accounts do not belong to MAS.
_WITHOUT_MAS = ("MATRIX_ADMIN_TOKEN", "IDP_NAME")
IGNORED = ("AUTHENTIK_API_URL", "AUTHENTIK_TOKEN")
# OpenSSL's own: where the authorities are that are trusted.
_OPENSSL = {"SSL_CERT_FILE", "SSL_CERT_DIR"}
# systemd's, which are used too.
_OTHERS = {"CREDENTIALS_DIRECTORY", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}

# What each of several services on one database may have of its own: how it is reached and reaches
# the others, what it logs and how much it takes. All else decides what is done. Secrets are told to
# nobody, and of the map it is told apart.
_OF_ITS_OWN = frozenset(
    {
        *map(str.lower, SECRETS),
        *("data_dir", "matrix_url", "matrix_public_url", "public_url", "trusted_proxies"),
        *("listen_host", "listen_port", "tls_cert_file", "tls_key_file", "console"),
        *("log_level", "log_format", "max_body_bytes", "matrix_concurrency"),
        *("idp_group_to_room", "group_map_file"),
    }
)

OnSelfLeave = Literal["rejoin", "respect"]
OnDisable = Literal["lock", "suspend", "deactivate", "erase", "nothing"]


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` has one line a mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def told(self) -> list[tuple[str, str]]:
        """Return each mistake with what to do about it."""
        return [(problem, settings_cures.cure(Settings, problem)) for problem in self.problems]


def _lower(value: str) -> str:
    return value.lower()


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


def _template(value: str) -> str:
    localpart.check_template(value)
    return value


def _database(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        if importlib.util.find_spec("psycopg") is None:
            raise ValueError("needs the extra postgresql: pip install 'scim-matrix[postgresql]'")
        from scim_matrix.store import postgresql_url

        postgresql_url.read(value)
    return value


def _url(value: str) -> str:
    TypeAdapter(HttpUrl).validate_python(value)
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


def _about(text: str, default: str | None = None) -> Any:
    """Say what a setting means, and its default where the value itself does not tell."""
    return Field(description=text, json_schema_extra={"told_default": default})


class Settings(BaseModel):
    """What the service runs with; the field names are the environment's, in lower case."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    webhook_secret: Annotated[
        SecretStr,
        _about(
            "bearer secrets of 16 or more characters, separated by blanks (several while rotating)"
        ),
    ]
    matrix_url: Annotated[Url, _about("the homeserver's client and admin API")]
    matrix_server_name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9.:\[\]-]+$"),
        _about("the part after the colon of its user IDs"),
    ]
    matrix_admin_user_id: Annotated[
        str, Field(pattern=r"^@[^:]+:.+$"), _about("a server admin of its own for this service")
    ]
    data_dir: Annotated[
        Path | None,
        _about("where the database lives", default="needed without `DATABASE_URL`"),
    ] = None
    database_url: Annotated[
        SecretStr | None,
        AfterValidator(_database),
        _about(
            "a database of PostgreSQL in place of `DATA_DIR`, e.g. `postgresql://ann:…@db/scim`"
            " ([PostgreSQL](setup/postgresql.md))"
        ),
    ] = None
    matrix_admin_token: Annotated[
        SecretStr | None,
        _about(
            "that user's access token; without it the service makes itself one through MAS",
            default="needed without `MAS_URL`",
        ),
    ] = None
    idp_name: Annotated[
        str | None,
        _about(
            "the identity provider as Synapse's admin API names it, e.g. `oidc-authentik`",
            default="needed without `MAS_URL`",
        ),
    ] = None
    mas_url: Annotated[
        Url | None,
        _about("where accounts belong to the Matrix Authentication Service (MAS): its issuer"),
    ] = None
    mas_client_id: Annotated[
        str | None, _about("a client in MAS's `clients` and `policy.data.admin_clients`")
    ] = None
    mas_client_secret: Annotated[SecretStr | None, _about("and its secret")] = None
    mas_provider: Annotated[
        str | None,
        _about(
            "the identity provider in MAS, by its ULID or issuer",
            default="the only enabled one",
        ),
    ] = None
    end_sessions_on_disable: Annotated[
        bool,
        _about(
            "with MAS: whoever is locked is signed out everywhere at once, for good; otherwise"
            " access rests within two minutes until the lock is taken off"
        ),
    ] = False
    idp_group_to_room: Annotated[
        tuple[groupmap.Mapping, ...], _about("the group map", default="`{}`")
    ] = ()
    group_map_file: Annotated[
        Path | None, _about("the same in a file, read again when it changes and on SIGHUP")
    ] = None
    sso_subject_attribute: Annotated[
        str,
        AfterValidator(subject_attribute),
        _about("which attribute is the SSO subject: `externalId`, `id`, `userName` or a path"),
    ] = "externalId"
    localpart_template: Annotated[
        str | None,
        AfterValidator(_template),
        _about(
            "how accounts are named, e.g. `{externalId}`; fields `userName`, `externalId`, `email`",
            default="`userName` up to `@`",
        ),
    ] = None
    adopt_existing_accounts: Annotated[
        bool, _about("whether existing accounts that are not linked may be used")
    ] = False
    on_disable: Annotated[
        OnDisable,
        BeforeValidator(_lower),
        _about(
            "what `active: false` does to an account: `lock`, `suspend`, `deactivate`, `erase` or"
            " `nothing`"
        ),
    ] = "lock"
    on_delete: Annotated[
        OnDisable, BeforeValidator(_lower), _about("the same for DELETE, after `DELETE_GRACE`")
    ] = "deactivate"
    delete_grace: Annotated[
        int,
        BeforeValidator(seconds),
        Field(ge=0),
        _about(
            "from DELETE to `ON_DELETE`, while the service runs: until then the account is locked",
            default="`7d`",
        ),
    ] = 7 * 86400
    protected_users: Annotated[
        tuple[str, ...],
        BeforeValidator(_words),
        _about("glob patterns of user IDs never locked, renamed, demoted or kicked"),
    ] = ()
    reconcile_interval: Annotated[
        int,
        BeforeValidator(seconds),
        Field(ge=1),
        _about("how often every mapped room is compared with the homeserver", default="`1h`"),
    ] = 3600
    on_self_leave: Annotated[
        OnSelfLeave,
        BeforeValidator(_lower),
        _about(
            "people who leave a granted room by themselves: `rejoin`, or `respect` until it is"
            " granted anew"
        ),
    ] = "rejoin"
    removal_limit_percent: Annotated[
        int,
        Field(ge=0, le=100),
        _about(
            "the brake: where a room would lose more than this share of its people and more than"
            " `REMOVAL_LIMIT_COUNT` of them, the removals wait for a human; likewise locks and"
            " deactivations over all accounts"
        ),
    ] = 30
    removal_limit_count: Annotated[int, Field(ge=0), _about("the brake's other limit, people")] = 10
    removal_window: Annotated[
        int,
        BeforeValidator(seconds),
        Field(ge=1),
        _about("the time over which the brake counts", default="`1h`"),
    ] = 3600
    dry_run: Annotated[
        bool, _about("do everything but change the homeserver, and record what would be done")
    ] = False
    record_keep: Annotated[
        int,
        BeforeValidator(seconds),
        Field(ge=3600),
        _about("how long the record of actions is kept", default="`365d`"),
    ] = 365 * 86400
    lift_rate_limit: Annotated[
        bool, _about("lift the service account's message rate limit in Synapse (kicks need it)")
    ] = True
    matrix_concurrency: Annotated[
        int,
        Field(ge=1, le=64),
        _about(
            "at most so many rooms and accounts at a time: beyond 4 only while the homeserver's"
            " answers stay as fast, fewer while it fails or limits"
        ),
    ] = 16
    listen_host: Annotated[str, _about("the address to listen on")] = "127.0.0.1"
    listen_port: Annotated[int, Field(ge=0, le=65535), _about("the port to listen on")] = 5000
    public_url: Annotated[
        Url | None,
        _about("the service's own address in `meta.location`", default="from the request"),
    ] = None
    matrix_public_url: Annotated[
        Url | None,
        _about(
            "where browsers reach the homeserver, for single sign-on to the console",
            default="`MAS_URL`, else `MATRIX_URL`",
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[IPvAnyNetwork, ...],
        BeforeValidator(_words),
        _about("networks of proxies whose `X-Forwarded-For` is believed, e.g. `10.0.0.0/8 ::1`"),
    ] = ()
    tls_cert_file: Annotated[
        Path | None, _about("serve TLS with this chain (PEM), read again on SIGHUP")
    ] = None
    tls_key_file: Annotated[Path | None, _about("and with this key")] = None
    console: Annotated[bool, _about("serve the web console at `/console/`")] = False
    console_managers: Annotated[
        tuple[str, ...],
        BeforeValidator(_words),
        _about(
            "glob patterns of user IDs who may map rooms in which they can invite and kick;"
            " homeserver administrators may do everything"
        ),
    ] = ()
    max_body_bytes: Annotated[
        int,
        BeforeValidator(size),
        Field(ge=1024),
        _about("larger requests get 413, compressed ones by what they become", default="`32MiB`"),
    ] = 32 * 1024 * 1024
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"],
        BeforeValidator(_lower),
        _about("the least severity that is logged"),
    ] = "info"
    log_format: Annotated[
        Literal["console", "json"] | None,
        _about("`console` or `json`", default="`console` on a terminal, else `json`"),
    ] = None

    @property
    def place(self) -> Place:
        """Where the database is."""
        place = self.data_dir or self.database_url
        assert place is not None
        return place

    def shared(self) -> dict[str, str]:
        """Return what all services on one database are to have alike, by the variables' names."""
        values = self.model_dump(mode="json", exclude=set(_OF_ITS_OWN))
        return {name.upper(): json.dumps(value) for name, value in values.items()}

    @property
    def token_file(self) -> Path | None:
        """Where the token is kept that the service makes itself; None where it makes none.

        Nor where there is no folder for it: with DATABASE_URL it is kept in memory.
        """
        makes_none = self.mas_url is None or self.matrix_admin_token is not None
        return (
            None
            if makes_none or self.data_dir is None
            else self.data_dir / settings_cures.TOKEN_FILE
        )

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
        problems += _account_system(values)
        problems += _one_database(values)
        if "idp_group_to_room" in values:
            try:
                text = unquoted(values["idp_group_to_room"])
                values["idp_group_to_room"] = groupmap.parse_group_map(text)
            except groupmap.GroupMapError as error:
                problems.append(f"IDP_GROUP_TO_ROOM: {error}")
                del values["idp_group_to_room"]
        broken: set[str] = set()
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [_reason(e, values) for e in error.errors()]
            broken = {str(e["loc"][0]) for e in error.errors()}
            # What is wrong beyond that is told at once, too.
            right = {name: value for name, value in values.items() if name not in broken}
            settings = cls.model_validate({**_STAND_INS, **right})
        problems += settings._beyond(broken)
        if problems:
            raise ConfigurationError(problems)
        return settings

    def _beyond(self, broken: set[str]) -> Iterator[str]:
        """Return what is wrong with settings that are well formed, but for some that are not."""
        if not self.webhook_secrets:
            yield "WEBHOOK_SECRET: must hold at least one secret"
        if (weak := weak_secret(self.webhook_secrets)) is not None:
            yield f"WEBHOOK_SECRET: {weak}"
        is_local = self.matrix_admin_user_id.endswith(f":{self.matrix_server_name}")
        if not is_local and not (
            "matrix_admin_user_id" in broken or "matrix_server_name" in broken
        ):
            yield "MATRIX_ADMIN_USER_ID: must be a user of MATRIX_SERVER_NAME"
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            yield "TLS_CERT_FILE: needs TLS_KEY_FILE, and the other way round"
        elif self.tls_cert_file is not None:
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                    self.tls_cert_file, self.tls_key_file
                )
            except (OSError, ssl.SSLError) as error:
                yield f"TLS_CERT_FILE: cannot be used with TLS_KEY_FILE: {error}"
        if self.token_file is not None:
            yield from _unreadable(self.token_file)
        try:
            self.group_map()
        except groupmap.GroupMapError as error:
            yield f"GROUP_MAP_FILE: {error}"

    def map_sources(self) -> groupmap.Sources:
        """Return in which of the two settings each line of the map stands."""
        lines = ((line.kind, line.pattern, line.room) for line in self.idp_group_to_room)
        file = self.group_map_file
        return groupmap.Sources(frozenset(lines), None if file is None else str(file.absolute()))

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
    """Find a secret: the variable, or <NAME>_FILE, else in systemd's credentials directory."""
    if environment.get(name) and environment.get(f"{name}_FILE"):
        problems.append(f"{name}: {name}_FILE is set as well; keep one of the two")
    if environment.get(name):
        return {name.lower(): environment[name].strip()}
    path: Path | None = None
    if environment.get(f"{name}_FILE"):
        path = Path(environment[f"{name}_FILE"])
    elif environment.get("CREDENTIALS_DIRECTORY"):
        folder = Path(environment["CREDENTIALS_DIRECTORY"])
        found = (folder / spelling for spelling in (name, name.lower()))
        # Path.exists raises where the folder may not be entered.
        path = next((p for p in found if os.path.exists(p)), None)
    if path is None:
        return {}
    try:
        return {name.lower(): path.read_text("utf-8").strip()}
    except PermissionError:
        user = os.geteuid()
        problems.append(
            f"{name}_FILE: {path} may not be read by user {user}, as which this runs:"
            f" chown {user} it (into a container it is mounted with the owner that it has outside)"
        )
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{name}_FILE: cannot be read: {error}")
    # Long enough not to be told of as too short, too: nothing starts with it.
    return {name.lower(): "unreadable-secret"}


def _unreadable(token_file: Path) -> list[str]:
    """Return why the token that was kept cannot be read; of its folder the database tells."""
    if not os.access(token_file.parent, os.X_OK):
        return []
    try:
        token_file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:
        return [
            f"DATA_DIR: {token_file} may not be read by user {os.geteuid()}, as which this runs"
        ]
    except OSError as error:
        return [f"DATA_DIR: {token_file} cannot be read: {(error.strerror or str(error)).lower()}"]
    return []


def place_of(environment: Mapping[str, str]) -> Place | None:
    """Return where an environment has the database, None where it does not say that.

    DATA_DIR before DATABASE_URL: whoever has both is told so where the settings are read.
    """
    problems: list[str] = []
    found = _secret("DATABASE_URL", environment, problems)
    if problems:
        raise ConfigurationError(problems)
    if environment.get("DATA_DIR"):
        return Path(environment["DATA_DIR"])
    try:
        return _database(SecretStr(found["database_url"])) if found else None
    except ValueError as error:
        raise ConfigurationError([f"DATABASE_URL: {error}"]) from error


def _one_database(values: Mapping[str, Any]) -> list[str]:
    if {"data_dir", "database_url"} <= values.keys():
        return ["DATABASE_URL: DATA_DIR is set as well; keep one of the two"]
    if not {"data_dir", "database_url"} & values.keys():
        return [f"DATA_DIR: {_not_set('DATA_DIR')}, or DATABASE_URL"]
    return []


def _account_system(values: Mapping[str, Any]) -> list[str]:
    """Return what is missing to ask Synapse for accounts, or MAS."""

    def has(name: str) -> bool:
        return name.lower() in values

    if not any(map(has, (*_MAS, "MAS_PROVIDER"))):
        missing = [name for name in _WITHOUT_MAS if not has(name)]
        return [f"{name}: {_not_set(name)}" for name in missing]
    return [
        f"{name}: {_not_set(name)}: {', '.join(_MAS)} go together" for name in _MAS if not has(name)
    ]


def _not_set(name: str) -> str:
    secret = f", {name}_FILE or a credential" if name in SECRETS else ""
    return f"is not set (needed; set {name}{secret})"


# For what is missing or malformed, while the rest is looked at.
_STAND_INS = {
    "webhook_secret": "stands-in-for-the-secret",
    "matrix_url": "https://matrix.example.com",
    "matrix_server_name": "example.com",
    "matrix_admin_user_id": "@scim-bot:example.com",
}
# The library's words for what is wrong, by its name for it, in those of people.
_WORDS = {
    "bool_parsing": "is neither true nor false",
    "int_parsing": "is no whole number",
    "less_than_equal": "is more than {le}",
    "greater_than_equal": "is less than {ge}",
    "literal_error": "is none of the words that are known here",
    "string_pattern_mismatch": "is not of the form that is needed",
    "ip_any_network": "is no network",
    "url_parsing": "is no address",
    "url_scheme": "is no address that begins with http:// or https://",
}


def _reason(error: Any, values: Mapping[str, Any]) -> str:
    """Return a line about a setting: the value, unless it may be secret, and what is wrong."""
    field, *inner = error["loc"]
    name = str(field).upper()
    if error["type"] == "missing":
        return f"{name}: {_not_set(name)}"
    words = _WORDS.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
    told = words.format(**error.get("ctx", {})) if error["type"] in _WORDS else words
    value = str(values.get(field, ""))
    if inner:
        value = value.split()[inner[0]]
    # An address may hold a password.
    is_secret = name in SECRETS or ("://" in value and "@" in value)
    return f"{name}: {told}" if is_secret else f"{name}: “{value}” {told}"


def doubtful(environment: Mapping[str, str]) -> list[str]:
    """Return a line for each variable that looks like a setting and is none; it has no effect."""
    known = {name.upper() for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in SECRETS} | set(IGNORED) | _OTHERS | _OPENSSL
    return [
        f"{name}: is no setting and has no effect; is {near} meant?"
        for name, near in misspelt(environment, known).items()
    ]


def table() -> str:
    """Return the settings as a Markdown table."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        told = extra.get("told_default") if isinstance(extra, dict) else None
        if field.is_required():
            told = "needed"
        elif told is None:
            value = field.default
            told = "" if value is None or value == () else f"`{str(value).lower()}`"
            told = f"`{value}`" if isinstance(value, str) else told
        rows.append(f"| `{name.upper()}` | {told} | {field.description} |")
    return "\n".join(rows)
