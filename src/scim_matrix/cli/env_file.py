"""How the file of settings is spelt, so that all who read such files read it alike (pure)."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

# What JSON writes with a backslash and a sign (RFC 8259, section 7), or what ends or changes a
# value for one reader or the other.
_SPECIAL = re.compile(r"\\[\"\\/bfnrt]|['$`\x7f-\x9f\u2028\u2029]")


def spelt(mappings: Mapping[str, list[Any]]) -> str:
    """Return a group map as a value of the file, in single quotes.

    systemd, dotenv, compose and a shell take nothing for special within them, so that `#` and
    blanks stay; podman and docker keep the quotes, which Settings takes off. Backslashes stand
    before `u` only: before others they are taken off by some.
    """
    text = orjson.dumps(mappings).decode()
    return f"'{_SPECIAL.sub(_by_number, text)}'"


def _by_number(found: re.Match[str]) -> str:
    """Return what was found as JSON writes it by its number."""
    [sign] = orjson.loads(f'"{found[0]}"')
    return f"\\u{ord(sign):04x}"
