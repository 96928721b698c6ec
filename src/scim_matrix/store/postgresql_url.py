"""The address of a database of PostgreSQL: what it says, or what is wrong with it (pure).

What is wrong is told without what stands there: where a password is not percent-encoded, any part
may be one of it.
"""

import difflib
import re

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo
from pydantic import SecretStr

_WHOLE = {
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
}
_ONE_OF = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": (
        "any",
        "read-write",
        "read-only",
        "primary",
        "standby",
        "prefer-standby",
    ),
}
# libpq takes it for sslmode=require, as JDBC writes it.
_JDBC = "ssl"


def read(url: SecretStr) -> dict[str, str]:
    """Return what an address says, by the names that libpq has for it.

    Raises ValueError, which says what is wrong with it.
    """
    text = url.get_secret_value()
    _check_parameters(_parameters(text))
    if re.search("%(?![0-9A-Fa-f]{2})|%00", text):
        raise ValueError("has a % that no two hexadecimal digits follow, or %00")
    try:
        found = conninfo_to_dict(text)
    except Error:
        raise ValueError("is no address of PostgreSQL") from None
    told = {name: str(value) for name, value in found.items() if value is not None}
    _check_place(told)
    _check_values(told)
    return told


def _parameters(text: str) -> str:
    """Return what stands behind the question mark, which may be part of a password before it."""
    rest = text.partition("://")[2]
    before, at, behind = rest.partition("@")
    return (behind if at and "/" not in before else rest).partition("?")[2]


def _check_parameters(text: str) -> None:
    known = [default.keyword.decode() for default in Conninfo.get_defaults()]
    for part in text.split("&") if text else ():
        name, is_given, _ = part.partition("=")
        if not is_given:
            raise ValueError("has something else than name=value behind the question mark")
        if name not in known and name != _JDBC:
            near = difflib.get_close_matches(name, known, 1)
            # A name that is near to none may be part of the password.
            told = f"{name}: is {near[0]} meant?" if near else "of another name"
            raise ValueError(f"has a parameter that libpq does not know, {told}")


def _check_place(told: dict[str, str]) -> None:
    hosts = told.get("host", "").split(",")
    # A socket's name may begin with one.
    if any("@" in host[1:] for host in hosts) or "@" in told.get("dbname", ""):
        raise ValueError("has an @ in its host or database, as if from the password")
    for port in filter(None, told.get("port", "").split(",")):
        if not (port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError("has a port that is no number up to 65535, as if from the password")


def _check_values(told: dict[str, str]) -> None:
    for name in _WHOLE & told.keys():
        if not re.fullmatch(r"\s*-?[0-9]+\s*", told[name]):
            raise ValueError(f"has a {name} that is no whole number")
    for name, values in _ONE_OF.items():
        if told.get(name, values[0]) not in values:
            raise ValueError(f"has a {name} that is none of {', '.join(values)}")
