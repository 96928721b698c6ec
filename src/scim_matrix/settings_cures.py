"""What would be right in place of a setting that is not, by what the setting takes (pure)."""

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scim_matrix.settings_values import seconds, size

_SECRET = (
    "16 or more characters that nobody guesses, as python3 -c 'import secrets;"
    " print(secrets.token_urlsafe(32))' makes them"
)
# Of those whose type does not tell.
_SUCH_AS = {
    "WEBHOOK_SECRET": _SECRET,
    "MATRIX_URL": "an address such as https://matrix.example.com",
    "MATRIX_SERVER_NAME": "a name such as example.com",
    "MATRIX_ADMIN_USER_ID": "a user of that server such as @scim-bot:example.com",
    "MATRIX_ADMIN_TOKEN": "an access token of MATRIX_ADMIN_USER_ID",
    "DATA_DIR": "a folder such as /var/lib/scim-matrix",
    "DATABASE_URL": "an address such as postgresql://scim:password@db.example.com/scim",
    "IDP_NAME": "a name such as oidc-authentik (scim-matrix check lists those of Synapse)",
    "MAS_URL": "an address such as https://account.example.com/",
    "MAS_CLIENT_ID": "the ULID of a client such as 01J44Q10GR4AMTFZEEF936DTCM",
    "MAS_CLIENT_SECRET": "the secret of that client",
    "MAS_PROVIDER": "the ULID or the issuer of an upstream provider",
    "IDP_GROUP_TO_ROOM": 'a map such as {"displayName:Staff": ["#general:example.com"]}',
    "GROUP_MAP_FILE": 'a file with {"displayName:Staff": ["#general:example.com"]} or the like',
    "SSO_SUBJECT_ATTRIBUTE": "externalId, id, userName or a path such as name.familyName",
    "LOCALPART_TEMPLATE": "a template such as {externalId}",
    "PROTECTED_USERS": "user IDs or patterns such as @ceo:example.com @board-*:example.com",
    "CONSOLE_MANAGERS": "user IDs or patterns such as @ann:example.com @head-*:example.com",
    "LISTEN_HOST": "an address of this machine such as 127.0.0.1 or 0.0.0.0",
    "PUBLIC_URL": "an address such as https://scim.example.com",
    "MATRIX_PUBLIC_URL": "an address such as https://matrix.example.com",
    "TRUSTED_PROXIES": "networks such as 10.0.0.0/8 ::1",
    "TLS_CERT_FILE": "a PEM file with the chain, beside TLS_KEY_FILE",
    "TLS_KEY_FILE": "a PEM file with the key, beside TLS_CERT_FILE",
}


def cure(model: type[BaseModel], problem: str) -> str:
    """Return what to do about a line of ConfigurationError, which begins with the setting."""
    fields = {known.upper(): field for known, field in model.model_fields.items()}
    name = problem.partition(":")[0]
    name = name if name in fields else name.removesuffix("_FILE")
    if problem.endswith("keep one of the two"):
        other = "DATA_DIR" if "DATA_DIR" in problem else f"{name}_FILE"
        return f"take {name} or {other} out"
    leave = "" if fields[name].is_required() else ", or leave it out"
    return f"set {name} to {_SUCH_AS.get(name) or _taken(fields[name])}{leave}"


def _taken(field: FieldInfo) -> str:
    """Return what values a setting takes."""
    readers = [getattr(extra, "func", None) for extra in field.metadata]
    if seconds in readers:
        return "a duration such as 90s, 15m, 12h or 7d"
    if size in readers:
        return "a size such as 65536, 64KiB or 32MiB"
    if field.annotation is bool:
        return "true or false"
    if words := _literals(field.annotation):
        return f"one of {', '.join(words)}"
    bounds = {"ge": "of at least", "le": "at most"}
    told = [
        f"{words} {getattr(extra, name)}"
        for extra in field.metadata
        for name, words in bounds.items()
        if hasattr(extra, name)
    ]
    return f"a whole number {' and '.join(told)}".strip()


def _literals(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    return tuple(word for part in get_args(kind) for word in _literals(part))
