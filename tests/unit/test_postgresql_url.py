"""What is wrong with the address of a database is told, and nothing of its password."""

import pytest
from pydantic import SecretStr

from scim_matrix.config import ConfigurationError, place_of
from scim_matrix.store.postgresql_url import read

PLACE = "127.0.0.1:1/scim"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"postgresql://scim:p@HIDDEN@{PLACE}", "an @ in its host or database"),
        (f"postgresql://HIDDEN:HIDDEN@p@{PLACE}", "an @ in its host or database"),
        (f"postgresql://scim:1/HIDDEN@{PLACE}", "an @ in its host or database"),
        (f"postgresql://scim:p/HIDDEN@{PLACE}", "an @ in its host or database"),
        (f"postgresql://scim:p/a?HIDDEN@{PLACE}", "something else than name=value"),
        (f"postgresql://scim:p/a?HIDDEN=b@{PLACE}", "does not know, of another name"),
        ("postgresql://scim:HIDDEN/scim", "a port that is no number"),
        ("postgresql://scim:HIDDEN@127.0.0.1:1:2/scim", "a port that is no number"),
        (f"postgresql://scim:HIDDEN%@{PLACE}", "a % that no two hexadecimal digits follow"),
        (f"postgresql://scim:HIDDEN%00@{PLACE}", "or %00"),
        ("postgresql://scim:HIDDEN@[::1/scim", "no address of PostgreSQL"),
        (f"postgresql://scim:HIDDEN@{PLACE}?sslmod=require", "sslmod: is sslmode meant?"),
        (f"postgresql://scim:HIDDEN@{PLACE}?sslmode=requir", "a sslmode that is none of disable,"),
        (f"postgresql://scim:HIDDEN@{PLACE}?port=x", "a port that is no number"),
        (f"postgresql://scim:HIDDEN@{PLACE}?connect_timeout=x", "a connect_timeout that is no"),
    ],
)
def test_what_is_wrong_is_told_without_the_password(url: str, told: str) -> None:
    """It is a mistake of the settings, with its cure, before anybody is connected to."""
    with pytest.raises(ConfigurationError) as refused:
        place_of({"DATABASE_URL": url})
    [(problem, cure)] = refused.value.told()
    assert problem.startswith("DATABASE_URL: ")
    assert told in problem
    assert "HIDDEN" not in problem
    assert "@ is written %40" in cure


@pytest.mark.parametrize(
    ("url", "password"),
    [
        (f"postgresql://scim:p%40%2F%3A%25@{PLACE}?sslmode=verify-full", "p@/:%"),
        (f"postgresql://scim:p?a#b@{PLACE}", "p?a#b"),
        ("postgres://scim:p@a,b:2/scim?target_session_attrs=any&connect_timeout=3", "p"),
        ("postgresql://scim:p@[::1]:5432/scim?application_name=x&ssl=true", "p"),
        ("postgresql://scim:p@/scim?host=/run/postgresql&options=-csearch_path%3Dx", "p"),
        ("postgresql://scim:p@/scim?host=@abstract", "p"),
    ],
)
def test_whatever_libpq_takes_is_taken(url: str, password: str) -> None:
    """Several hosts, sockets, parameters and passwords that are percent-encoded."""
    told = read(SecretStr(url))
    assert (told["user"], told["password"], told["dbname"]) == ("scim", password, "scim")
