"""How values of settings are written: durations, sizes, secrets, attribute paths (pure)."""

import difflib
import re
from collections.abc import Iterable

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
# A secret of fewer characters can be guessed.
LEAST_SECRET = 16
# How alike (0 to 1) two names are of which one is taken for a misspelling of the other: where the
# other is set as well, something else is likelier meant (MATRIX_USER of some other program).
_ALIKE, _ALIKE_ONE_THAT_IS_SET = 0.8, 0.9
# What people put before names, as other programs want it.
_PREFIX = re.compile(r"^SCIM_(MATRIX_)?")
# Shorter names than this, with a word more, are everybody's (LOG_LEVEL_ROOT).
_LEAST_OWN = 12


def seconds(value: str) -> int:
    """Read durations like 90, 30s, 15m, 12h, 7d as seconds. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9})\s*([smhd]?)", value.strip().lower())
    if match is None:
        raise ValueError("is no duration: a number of seconds, or one with s, m, h or d, like 15m")
    return int(match[1]) * _SECONDS[match[2]]


def size(value: str) -> int:
    """Read sizes like 65536, 64KiB, 32MiB, 1GiB as bytes. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,12})\s*([kmg]ib|b|)", value.strip().lower())
    if match is None:
        raise ValueError("is no size: a number of bytes, or one with KiB, MiB or GiB, like 32MiB")
    return int(match[1]) * _BYTES[match[2]]


def unquoted(text: str) -> str:
    """Return a text without the single quotes around it, which podman and docker leave there."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text


def weak_secret(secrets: Iterable[str]) -> str | None:
    """Return what is wrong with bearer secrets and how to make a good one, None if nothing is."""
    if all(len(secret) >= LEAST_SECRET for secret in secrets):
        return None
    make = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
    return f"has a secret of fewer than {LEAST_SECRET} characters; make one with {make}"


def misspelt(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return the names that look like a known one and are none, each with the nearest known."""
    given, targets = set(names), set(known)
    found = {}
    for name in sorted(given - targets):
        if (near := _nearest(name, targets, given)) is not None:
            found[name] = near
    return found


def _nearest(name: str, targets: set[str], given: set[str]) -> str | None:
    """Return the known name that was likely meant by another, which is none."""
    meant = _PREFIX.sub("", name.upper())
    # The kernel may give the first process a `console` of its own.
    if meant in targets:
        return meant if "_" in name else None
    for near in difflib.get_close_matches(meant, targets, n=3, cutoff=_ALIKE):
        alike = difflib.SequenceMatcher(None, meant, near).ratio()
        if near not in given or alike >= _ALIKE_ONE_THAT_IS_SET:
            return near
    shorter = meant.rpartition("_")[0]
    return shorter if shorter in targets and len(shorter) >= _LEAST_OWN else None


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
