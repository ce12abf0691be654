"""The drivers that statements go to directly, and what differs between them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chatkit_rag.errors import ConfigurationError

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Driver:
    """What differs between the drivers."""

    fetch: Callable[[Any, str, Sequence[Any]], Awaitable[Sequence[Row]]]
    drop: Callable[[Any], object]
    """Closes a connection without a word to the server, and without waiting."""


def driver_of(name: str) -> Driver:
    """The driver that SQLAlchemy calls `name`. Raises ConfigurationError for others."""
    match name:
        case "asyncpg":
            return Driver(_fetch_by_asyncpg, lambda connection: connection.terminate())
        case "psycopg":
            return Driver(_fetch_by_psycopg, lambda connection: connection.pgconn.finish())
        case _:
            raise ConfigurationError(f"a PostgresStore needs an engine on asyncpg or psycopg, not on {name}")


async def _fetch_by_asyncpg(connection: Any, statement: str, values: Sequence[Any]) -> Sequence[Row]:
    return await connection.fetch(statement, *values)


async def _fetch_by_psycopg(connection: Any, statement: str, values: Sequence[Any]) -> Sequence[Row]:
    from psycopg import AsyncRawCursor

    autocommit = connection.autocommit
    if not autocommit:  # the host's own engine; the switch is the driver's, not the server's
        await connection.set_autocommit(True)
    try:
        async with AsyncRawCursor(connection) as cursor:
            await cursor.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []
    finally:
        if not autocommit and not connection.closed:
            await connection.set_autocommit(False)
