"""How values of settings are written: durations, sizes, secrets, attribute paths (pure)."""

import difflib
import re
from collections.abc import Iterable

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
# A secret of fewer characters can be guessed.
LEAST_SECRET = 16
# How alike (0 to 1) two names are of which one is taken for a misspelling of the other.
_ALIKE = 0.8


def seconds(value: object) -> object:
    """Read durations like 90, 30s, 15m, 12h, 7d as seconds. Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", value.strip().lower())
    if match is None:
        raise ValueError("is no duration: a number of seconds, or one with s, m, h or d, like 15m")
    return int(match[1]) * _SECONDS[match[2]]


def size(value: object) -> object:
    """Read sizes like 65536, 64KiB, 32MiB, 1GiB as bytes. Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,12})\s*([kmg]ib|b|)", value.strip().lower())
    if match is None:
        raise ValueError("is no size: a number of bytes, or one with KiB, MiB or GiB, like 32MiB")
    return int(match[1]) * _BYTES[match[2]]


def weak_secret(secrets: Iterable[str]) -> str | None:
    """Return what is wrong with bearer secrets and how to make a good one, None if nothing is."""
    if all(len(secret) >= LEAST_SECRET for secret in secrets):
        return None
    make = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
    return f"has a secret of fewer than {LEAST_SECRET} characters; make one with {make}"


def misspelt(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return the names that look like a known one and are none, each with the nearest known."""
    targets = list(known)
    found = {}
    for name in sorted(set(names) - set(targets)):
        if near := difflib.get_close_matches(name, targets, n=1, cutoff=_ALIKE):
            found[name] = near[0]
    return found


def subject_attribute(path: str) -> str:
    """Return the path of a user's attribute as the schemas spell it.

    It has to have one text: `externalId`, `id`, `userName`, `name.familyName`, or the URN of an
    extension and one of its attributes. Raises ValueError.
    """
    # Commands do without these models, which take a second to load.
    from scim2_models import Attribute
    from scim2_server.utils import load_default_schemas

    urn, colon, attribute = path.strip().rpartition(":")
    schemas = {str(s.id).lower(): s for s in load_default_schemas().values()}
    core = "urn:ietf:params:scim:schemas:core:2.0:User"
    schema = schemas.get(urn.lower() if colon else core.lower())
    if not colon and attribute.lower() in ("externalid", "id"):
        return {"externalid": "externalId", "id": "id"}[attribute.lower()]
    names: list[str] = []
    level = None if schema is None else schema.attributes
    found: Attribute | None = None
    for step in attribute.split("."):
        found = next((a for a in level or () if a.name and a.name.lower() == step.lower()), None)
        if found is None or found.multi_valued:
            break
        names.append(str(found.name))
        level = found.sub_attributes
    if found is None or found.multi_valued or found.type != Attribute.Type.string:
        raise ValueError(
            "is no attribute of users with one text: externalId, id, userName or a path such as"
            " name.familyName"
        )
    prefix = "" if schema is None or str(schema.id) == core else f"{schema.id}:"
    return prefix + ".".join(names)
