"""Matrix user IDs, and from a user's attributes to that of a new account (pure)."""

import re
import string
from collections.abc import Mapping

# Matrix specification, appendices, "User Identifiers": the alphabet of localparts.
# "=" is the escape character and so escaped itself.
_ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-/+")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_MAX_BYTES = 255
_USER_ID = re.compile(r"@[^:\s]+:\S+")
FIELDS = frozenset({"userName", "externalId", "email"})


class LocalpartError(ValueError):
    """No valid Matrix user ID follows from these attributes."""


def is_user_id(text: str) -> bool:
    """Tell whether a text looks like a Matrix user ID, historical ones included."""
    return _USER_ID.fullmatch(text) is not None and len(text.encode()) <= _MAX_BYTES


def check_template(template: str) -> None:
    """Raise ValueError where a template names an unknown field or none."""
    names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if not names or not names <= FIELDS:
        raise ValueError(
            f"must use at least one of {', '.join(f'{{{f}}}' for f in sorted(FIELDS))} and no other"
        )


def user_id_for(template: str | None, attributes: Mapping[str, str], server_name: str) -> str:
    """Return the Matrix user ID for a user's `userName`, `externalId` and `email`.

    Without a template the localpart is `userName` up to its first `@`. Characters outside
    Matrix's alphabet are mapped as the specification says (upper case to lower case, other
    bytes of the UTF-8 form to `=hh`). Raises LocalpartError.
    """
    if template is None:
        raw = attributes["userName"].split("@", 1)[0]
    else:
        try:
            raw = template.format_map(attributes)
        except KeyError as missing:
            raise LocalpartError(f"the localpart template needs {missing}") from missing
    lowered = raw.translate(_LOWER)
    localpart = "".join(
        c if c in _ALPHABET else "".join(f"={b:02x}" for b in c.encode()) for c in lowered
    )
    user_id = f"@{localpart}:{server_name}"
    if not localpart:
        raise LocalpartError("the localpart would be empty")
    if len(user_id.encode()) > _MAX_BYTES:
        raise LocalpartError(f"{len(user_id.encode())} bytes are more than Matrix's {_MAX_BYTES}")
    return user_id
