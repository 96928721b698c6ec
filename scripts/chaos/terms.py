"""Which of several services led when, as the database saw it, and what was sent meanwhile."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

# The lease has no history of its own. Each term is written down in the very transaction that takes
# the lease, by the clock of this machine: whatever another process sends later than that is sent
# after somebody has begun to lead.
_HISTORY = """
CREATE TABLE term_begun (number BIGINT PRIMARY KEY, name TEXT NOT NULL, at FLOAT8 NOT NULL);
CREATE FUNCTION term_begins() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO term_begun VALUES (new.epoch, new.name, extract(epoch FROM clock_timestamp()));
    RETURN NULL;
END $$;
CREATE TRIGGER term_begins AFTER UPDATE ON lease FOR EACH ROW
WHEN (new.epoch <> old.epoch) EXECUTE FUNCTION term_begins();
"""


@dataclass(frozen=True)
class Term:
    """A term: the process that leads in it, and when it began (Unix time of this machine)."""

    number: int
    pid: int
    at: float


@dataclass(frozen=True)
class Sent:
    """A request that would change the homeserver: which process sent it, and when it came."""

    at: float
    pid: int
    what: str


class History:
    """The terms of the services on a database that has the schema, from now on."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ask(_HISTORY)

    def _ask(self, sql: str) -> list[tuple[int, str, float]]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def terms(self) -> list[Term]:
        """Return them, the first one first. Raises psycopg.Error where the database is away."""
        rows = self._ask("SELECT number, name, at FROM term_begun ORDER BY number")
        # "scim-matrix PID on HOST, listening on ADDRESS" (store/postgresql.py, `known_as`).
        return [Term(number, int(name.split()[1]), at) for number, name, at in rows]


def late(terms: Sequence[Term], sent: Iterable[Sent]) -> list[str]:
    """Return a sentence for each request that came while another process led than its sender.

    `terms` in their order. Who led last counts as leading until another one does.
    """
    begun = [term.at for term in terms]
    found = []
    for request in sent:
        place = bisect_right(begun, request.at)
        if place == 0:
            found.append(f"{request.what} of {request.pid} before anybody led")
        elif (term := terms[place - 1]).pid != request.pid:
            after = request.at - term.at
            found.append(
                f"{request.what} of {request.pid} {after:.3f} s into the term of {term.pid}"
            )
    return found
