"""A database of PostgreSQL opened: what is seen to before, its schema brought up to date."""

import contextlib
from collections.abc import AsyncIterator

from pydantic import SecretStr

from scim_matrix.store import migrations
from scim_matrix.store.errors import DatabaseUnusableError
from scim_matrix.store.postgresql import MIGRATIONS, Postgresql

# Filling a database takes what it takes; nobody else waits for it. What is read back to be compared
# is not rounded.
_FILLING = """
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL extra_float_digits = 1;
"""
_DATABASE = """
SELECT current_setting('server_version_num')::int AS version, d.datcollate AS collation,
    pg_encoding_to_char(d.encoding) AS encoding,
    EXISTS (SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu') AS icu
FROM pg_database d WHERE d.datname = current_database()
"""
_TABLES = """
SELECT c.relname AS name FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'f') ORDER BY 1
"""
# Texts are sorted by their code points, as SQLite does.
_BY_CODE_POINT = ("C", "POSIX", "C.UTF-8", "C.utf8")


async def open_listener(url: SecretStr) -> Postgresql:
    """Open a database to hear what others commit. Raises DatabaseError."""
    listener = Postgresql(url, listens=True)
    await listener.open()
    return listener


async def open_writer(url: SecretStr) -> Postgresql:
    """Open (and where needed fill or migrate) a database, to write.

    Raises DatabaseError.
    """
    writer = Postgresql(url)
    await writer.open()
    try:
        await _check_poolers(writer, url)
        await _check_database(writer)
        await _migrate(writer)
        await writer.prepare()
    except BaseException:
        await writer.close()
        raise
    return writer


@contextlib.asynccontextmanager
async def filling(url: SecretStr) -> AsyncIterator[Postgresql]:
    """Fill a database that holds no table, wholly or not at all; it has the schema's by then.

    Raises DatabaseError, also where there is a table.
    """
    writer = Postgresql(url)
    await writer.open()
    try:
        await _check_poolers(writer, url)
        await _check_database(writer)
        await writer.begin("SAVEPOINT filling")
        await writer.run(_FILLING)
        await _check_empty(writer)
        await _apply(writer)
        yield writer
        await writer.end("RELEASE SAVEPOINT filling")
    finally:
        # What is not done yet ends with the connection, undone.
        await writer.close()


async def open_reader(url: SecretStr, *, check: bool = False) -> Postgresql:
    """Open a database to read, never waiting for a writer.

    Raises DatabaseError; with `check` also where its schema is not that of this version.
    """
    reader = Postgresql(url, read_only=True)
    await reader.open()
    try:
        if check:
            await _check_poolers(reader, url)
            migrations.check(reader.name, await _version(reader), MIGRATIONS)
    except BaseException:
        await reader.close()
        raise
    return reader


async def _check_poolers(connection: Postgresql, url: SecretStr) -> None:
    """Refuse a pooler that hands a connection to somebody else between transactions.

    Of two who ask in turn it has one process of the server answer both, or another one each time.
    Where nothing pools the process is the one that was told when this connected.
    """
    if await connection.backend() == connection.told_backend:
        return
    other = Postgresql(url)
    try:
        first, again, others = [await one.backend() for one in (connection, connection, other)]
    finally:
        await other.close()
    if first != again or again == others:
        raise DatabaseUnusableError(
            f"{connection.name} is a pooler that hands connections on between transactions"
            " (PgBouncer: pool_mode = transaction or statement): connect to the server itself, or"
            " to a pool of mode session"
        )


async def _check_database(writer: Postgresql) -> None:
    """Refuse a database in which texts would be compared or sorted otherwise than in SQLite."""
    [row] = await writer.fetch(_DATABASE)
    problem = None
    if row["version"] < 140000:
        problem = f"is version {row['version'] // 10000}: 14 or later is needed"
    elif row["encoding"] != "UTF8" or row["collation"] not in _BY_CODE_POINT:
        problem = (
            f"has encoding {row['encoding']} and collation {row['collation']}: make it by CREATE"
            " DATABASE … TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C', as Synapse's"
        )
    elif not row["icu"]:
        problem = "knows no collation und-x-icu: a server that was built with ICU is needed"
    if problem is not None:
        raise DatabaseUnusableError(f"{writer.name} {problem}")


async def _check_empty(writer: Postgresql) -> None:
    found = await writer.fetch(_TABLES)
    if found:
        names = ", ".join(row["name"] for row in found)
        raise DatabaseUnusableError(
            f"{writer.name} holds tables already ({names}): give an empty database, as made by"
            " CREATE DATABASE"
        )


async def _version(connection: Postgresql) -> int:
    [found] = await connection.fetch("SELECT to_regclass('schema_version') IS NOT NULL AS there")
    if not found["there"]:
        return 0
    [row] = await connection.fetch("SELECT number FROM schema_version")
    return int(row["number"])


async def _migrate(writer: Postgresql) -> None:
    """Bring the schema up to date: whoever starts at the same time waits, and finds it done.

    Where it fails the transaction ends with the connection, and nothing has changed.
    """
    await writer.begin("SAVEPOINT migration")
    await _apply(writer)
    await writer.end("RELEASE SAVEPOINT migration")


async def _apply(writer: Postgresql) -> None:
    for number, script in migrations.missing(writer.name, await _version(writer), MIGRATIONS):
        await writer.run(script)
        await writer.fetch("UPDATE schema_version SET number = :number", {"number": number})
