"""What would be right in place of a setting that is not, by what the setting takes (pure)."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scim_matrix.settings_values import seconds, size

# Beside the database: the token that the service makes itself through MAS.
TOKEN_FILE = "matrix-token.json"
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
    "DATABASE_URL": (
        "an address such as postgresql://scim:password@db.example.com/scim, in whose password @ is"
        " written %40, / %2F, : %3A and % %25"
    ),
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
_MAPS = ("IDP_GROUP_TO_ROOM", "GROUP_MAP_FILE")
# What else would be right where a setting is missing; it cannot simply be left out.
_MAS = ("MAS_URL", "MAS_CLIENT_ID", "MAS_CLIENT_SECRET", "MAS_PROVIDER")
_WITH_MAS = ", or where accounts belong to MAS set MAS_URL, MAS_CLIENT_ID and MAS_CLIENT_SECRET"
_IN_ITS_PLACE = {
    "MATRIX_ADMIN_TOKEN": _WITH_MAS,
    "IDP_NAME": _WITH_MAS,
    **{
        name: f", or take {', '.join(n for n in _MAS if n != name)} out if Synapse keeps accounts"
        for name in _MAS[:3]
    },
    "DATA_DIR": "",
}


def cure(model: type[BaseModel], problem: str) -> str:
    """Return what to do about a line of ConfigurationError, which begins with the setting."""
    fields = {known.upper(): field for known, field in model.model_fields.items()}
    name = problem.partition(":")[0]
    name = name if name in fields else name.removesuffix("_FILE")
    if problem.endswith("keep one of the two"):
        other = "DATA_DIR" if "DATA_DIR" in problem else f"{name}_FILE"
        return f"take {name} or {other} out"
    if f"/{TOKEN_FILE} " in problem:
        return (
            "have it belong to the user as which the service runs (chown), or delete it: the"
            " service makes itself another token"
        )
    if name in _MAPS and "cannot be read" not in problem:
        # Leaving it out would have every mapping forgotten.
        return f"set {name} to {_SUCH_AS[name]}: correct that place in it (docs/settings.md)"
    taken = _SUCH_AS.get(name) or _taken(fields[name])
    return f"set {name} to {taken}{_else(fields, name, problem)}"


def _else(fields: Mapping[str, FieldInfo], name: str, problem: str) -> str:
    """Return what would be right too, other than to set a setting."""
    if "is not set" in problem:
        return _IN_ITS_PLACE.get(name, "")
    if name in _IN_ITS_PLACE or name in _MAPS or fields[name].is_required():
        return ""
    return ", or leave it out"


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
