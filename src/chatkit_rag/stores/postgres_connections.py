"""Connections to Postgres, and statements on them: one flight each, every wait bounded, lost connections replaced.

The pool is SQLAlchemy's. Statements go to the driver itself, on a connection without a transaction: a single
statement is one by itself, and BEGIN and COMMIT would be two flights more. SQLAlchemy's own way from a statement to its
rows costs three times what the driver's does.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from uuid import uuid4

import anyio
import stamina
from sqlalchemy.event import listen
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, PoolProxiedConnection

from chatkit_rag.errors import ConfigurationError, MissingExtra, StoreUnavailable
from chatkit_rag.stores.postgres_faults import Fault, NoFreeConnection, fault_of, reason_of
from chatkit_rag.stores.postgres_urls import Address

Row = Sequence[Any]

_CONNECT_SECONDS = 5.0
_POOL_SECONDS = 1.0
# Less than the five minutes after which hosters put an idle database to sleep, and its connections with it.
_RECYCLE_SECONDS = 240
_GENERATION = "chatkit_rag.generation"


class DatabaseAway(StoreUnavailable):
    """The database cannot be reached now; it may come back without anybody's help."""


class NoReference(Exception):
    """What a row refers to is not there."""


class NoText(Exception):
    """A value is not text that the database can hold."""


def engine_for(address: Address, *, size: int, pooled: bool) -> AsyncEngine:
    """An engine whose connections are kept, and given back as they are.

    `pooled` is for a pooler that runs each transaction on another connection: nothing is prepared for later then.

    Raises:
        MissingExtra: asyncpg is not installed.
        ConfigurationError: psycopg is not, where the URL asks for it.
    """
    _check_driver(address)
    engine = create_async_engine(
        f"postgresql+{address.driver}://",
        pool_size=size,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        pool_recycle=_RECYCLE_SECONDS,
        # No transaction is open when a connection comes back: a ROLLBACK would be a flight for nothing.
        pool_reset_on_return=None,
    )
    _connect_to(engine, address, pooled=pooled, autocommit=True)
    return engine


def migrating_engine_for(address: Address) -> AsyncEngine:
    """An engine with transactions, which keeps no connection. Raises as `engine_for`."""
    _check_driver(address)
    engine = create_async_engine(f"postgresql+{address.driver}://", poolclass=NullPool)
    _connect_to(engine, address, pooled=True, autocommit=False)
    return engine


class Connections:
    """Runs single statements.

    Args:
        engine: whose connections are used.
        label: what the database is called in messages.
        size: how many connections there may be; 0 for an engine of somebody else's, who says so himself.
        patience: seconds that a statement may take, with all that it waits for.
    """

    def __init__(self, engine: AsyncEngine, *, label: str, size: int, patience: float) -> None:
        self._engine = engine
        self._label = label
        self._ours = bool(size)
        # SQLAlchemy's pool has no queue: who comes back at once takes the connection from those who wait already.
        self._turns = anyio.Semaphore(size, fast_acquire=True)
        self._patience = patience
        self._driver = _driver_of(engine.dialect.driver)
        # Connections of an older one are not used any more.
        self._generation = 0

    async def run(self, statement: str, *values: Any, patience: float | None = None) -> Sequence[Row]:
        """The rows of one statement, which may be sent again, since sending it twice comes to the same as once.

        Args:
            statement: with placeholders `$1`, `$2`, …
            values: for these.
            patience: seconds, where this statement may take longer than others.

        Raises:
            NoReference: a row would refer to what is not there.
            NoText: a value is not text that the database can hold.
            StoreUnavailable: the database did not carry it out.
        """
        try:
            async with asyncio.timeout(patience or self._patience):
                try:
                    return await self._once(statement, values)
                except Exception as exc:
                    if not _may_be_sent_again(exc):
                        raise
                # The first attempt is not part of the loop, which would cost as much as a fast statement.
                return await self._again(statement, values)
        except Exception as exc:
            raise translated(exc, self._label) from exc

    async def warm(self, count: int) -> None:
        """Opens `count` connections. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS + 1.0):
                held = await asyncio.gather(
                    *(self._engine.raw_connection() for _ in range(count)), return_exceptions=True
                )
        except TimeoutError as exc:
            raise translated(exc, self._label) from exc
        for one in held:
            if not isinstance(one, BaseException):
                one.close()
        for one in held:
            if isinstance(one, BaseException):
                raise translated(one, self._label) from one

    async def close(self) -> None:
        """Closes the connections that are ours."""
        if self._ours:
            await self._engine.dispose()

    async def _again(self, statement: str, values: Sequence[Any]) -> Sequence[Row]:
        # Not stamina's decorator, which would log the values: they are what readers wrote.
        async for attempt in stamina.retry_context(
            on=_may_be_sent_again, attempts=5, timeout=None, wait_initial=0.02, wait_max=0.5, wait_jitter=0.1
        ):
            with attempt:
                return await self._once(statement, values)
        raise AssertionError("the last attempt has returned, or raised")

    async def _once(self, statement: str, values: Sequence[Any]) -> Sequence[Row]:
        async with self._lent() as connection:
            generation = self._generation
            try:
                return await self._driver.fetch(connection.driver_connection, statement, values)
            except BaseException as exc:
                fault = fault_of(exc)
                if fault in (Fault.AWAY, Fault.SLOW):
                    self._drop(connection)  # also when cancelled: what is under way on it is nobody's any more
                if fault is Fault.AWAY and isinstance(exc, Exception) and generation == self._generation:
                    self._generation += 1
                raise

    @asynccontextmanager
    async def _lent(self) -> AsyncGenerator[PoolProxiedConnection]:
        """A connection that is younger than the last failure."""
        while True:
            async with self._from_our_pool() if self._ours else self._from_the_hosts_engine() as connection:
                if connection.info.setdefault(_GENERATION, self._generation) == self._generation:
                    yield connection
                    return
                self._drop(connection)

    @asynccontextmanager
    async def _from_our_pool(self) -> AsyncGenerator[PoolProxiedConnection]:
        try:
            self._turns.acquire_nowait()
        except anyio.WouldBlock:
            try:
                async with asyncio.timeout(_POOL_SECONDS):
                    await self._turns.acquire()
            except TimeoutError as exc:
                raise NoFreeConnection from exc
        try:
            connection = await self._engine.raw_connection()
            try:
                yield connection
            finally:
                connection.close()  # nothing is to be done to a connection that comes back: it need not be awaited
        finally:
            self._turns.release()

    @asynccontextmanager
    async def _from_the_hosts_engine(self) -> AsyncGenerator[PoolProxiedConnection]:
        async with self._engine.connect() as connection:
            yield await connection.get_raw_connection()

    def _drop(self, connection: PoolProxiedConnection) -> None:
        self._driver.drop(connection.driver_connection)
        connection.invalidate()


def translated(exc: BaseException, label: str) -> Exception:
    """What to raise for an error of a driver or of the pool, about the database that is called `label`."""
    reason = reason_of(exc)
    kind: type[Exception] = StoreUnavailable
    match fault_of(exc):
        case Fault.NO_REFERENCE:
            kind, message = NoReference, reason
        case Fault.NO_TEXT:
            kind, message = NoText, "a value is not text that the database can hold"
        case Fault.AWAY:
            kind, message = DatabaseAway, f"the database {label} cannot be reached: {reason}"
        case Fault.BUSY:
            message = f"every connection to {label} has been in use for {_POOL_SECONDS:g} s: raise pool_size"
        case Fault.NO_TABLES:
            message = f"the tables are not in {label}: run `chatkit-rag migrate`, or set auto_migrate ({reason})"
        case Fault.REFUSED:
            message = (
                f"the database {label} refuses what DATABASE_URL says: {reason}; check user, password and database"
            )
        case _:
            message = f"the database {label} failed: {reason}"
    return kind(message)


@dataclass(frozen=True, slots=True)
class _Driver:
    """What differs between the drivers."""

    fetch: Callable[[Any, str, Sequence[Any]], Awaitable[Sequence[Row]]]
    drop: Callable[[Any], object]
    """Closes a connection without a word to the server, and without waiting."""


def _driver_of(name: str) -> _Driver:
    match name:
        case "asyncpg":
            return _Driver(_fetch_by_asyncpg, lambda connection: connection.terminate())
        case "psycopg":
            return _Driver(_fetch_by_psycopg, lambda connection: connection.pgconn.finish())
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


def _may_be_sent_again(exc: Exception) -> bool:
    return fault_of(exc) in (Fault.AWAY, Fault.CONFLICT)


def _connect_to(engine: AsyncEngine, address: Address, *, pooled: bool, autocommit: bool) -> None:
    """Lets the driver read the URL itself: it knows what `sslmode` and several hosts mean."""

    def connect(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        arguments[:] = [address.dsn]
        if address.driver == "psycopg":
            options |= {"autocommit": autocommit, "connect_timeout": int(_CONNECT_SECONDS)}
            if pooled:
                options["prepare_threshold"] = None
            return
        options["timeout"] = _CONNECT_SECONDS
        if pooled:
            # A statement that is used once has no name, and runs where it was prepared. SQLAlchemy, which asks a
            # new connection for its version, gives names.
            options |= {
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
                # Another client's statement of the same name may be on the connection that the pooler gives.
                "prepared_statement_name_func": lambda: f"__chatkit_rag_{uuid4().hex}__",
            }

    listen(engine.sync_engine, "do_connect", connect)


def _check_driver(address: Address) -> None:
    if find_spec(address.driver) is not None:
        return
    if address.driver == "asyncpg":
        raise MissingExtra("PostgresStore", "postgres")
    raise ConfigurationError("DATABASE_URL asks for psycopg, which is not installed: pip install 'psycopg[binary]'")
