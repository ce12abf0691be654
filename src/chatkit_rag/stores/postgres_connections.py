"""Statements on Postgres: one flight each, every wait bounded, lost connections replaced.

The pool is SQLAlchemy's. Statements go to the driver itself, on a connection without a transaction: a single
statement is one by itself, and BEGIN and COMMIT would be two flights more. SQLAlchemy's own way from a statement to its
rows costs three times what the driver's does.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import stamina
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection

from chatkit_rag.stores.postgres_drivers import Row, driver_of
from chatkit_rag.stores.postgres_engines import CONNECT_SECONDS
from chatkit_rag.stores.postgres_faults import POOL_SECONDS, Fault, NoFreeConnection, fault_of, translated

_GENERATION = "chatkit_rag.generation"


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
        self._driver = driver_of(engine.dialect.driver)
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
        """Sees to it that there are `count` connections; one that cannot be made now is left to who needs it."""
        made = [asyncio.ensure_future(self._engine.raw_connection()) for _ in range(count)]
        try:
            await asyncio.wait(made, timeout=CONNECT_SECONDS)
        finally:
            for one in made:
                one.add_done_callback(_give_back)
                one.cancel()

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
                async with asyncio.timeout(POOL_SECONDS):
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


def _give_back(made: "asyncio.Future[PoolProxiedConnection]") -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().close()


def _may_be_sent_again(exc: Exception) -> bool:
    return fault_of(exc) in (Fault.AWAY, Fault.CONFLICT)
