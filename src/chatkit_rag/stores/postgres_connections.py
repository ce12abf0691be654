"""Statements on Postgres: one flight each, every wait bounded, lost connections replaced.

Statements go to the driver itself, on a connection without a transaction: a single statement is one by itself, and
BEGIN and COMMIT would be two flights more. SQLAlchemy's own way from a statement to its rows costs three times what the
driver's does.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import stamina
from sqlalchemy.ext.asyncio import AsyncEngine

from chatkit_rag.stores.postgres_drivers import Row, driver_of
from chatkit_rag.stores.postgres_faults import Fault, fault_of, translated
from chatkit_rag.stores.postgres_pool import HostsEngine, OurPool, Pool


class Connections:
    """Runs single statements.

    Args:
        engine: whose connections are used.
        label: what the database is called in messages.
        size: how many connections there may be; 0 for an engine of somebody else's, who says so himself.
        patience: seconds that a statement may take, with all that it waits for.
    """

    def __init__(self, engine: AsyncEngine, *, label: str, size: int, patience: float) -> None:
        self._label = label
        self._patience = patience
        self._pool: Pool = OurPool(engine, size) if size else HostsEngine(engine)
        self._fetch = driver_of(engine.dialect.driver).fetch

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
        await self._pool.warm(count)

    async def close(self) -> None:
        """Closes the connections that are ours."""
        await self._pool.close()

    async def _again(self, statement: str, values: Sequence[Any]) -> Sequence[Row]:
        # Not stamina's decorator, which would log the values: they are what readers wrote.
        async for attempt in stamina.retry_context(
            on=_may_be_sent_again, attempts=5, timeout=None, wait_initial=0.02, wait_max=0.5, wait_jitter=0.1
        ):
            with attempt:
                return await self._once(statement, values)
        raise AssertionError("the last attempt has returned, or raised")

    async def _once(self, statement: str, values: Sequence[Any]) -> Sequence[Row]:
        pool = self._pool
        lent = await pool.take()
        try:
            return await self._fetch(lent.driver_connection, statement, values)
        except BaseException as exc:
            fault = fault_of(exc)
            if fault in (Fault.AWAY, Fault.SLOW):
                pool.drop(lent)  # also when cancelled: what is under way on it is nobody's any more
            if fault is Fault.AWAY and isinstance(exc, Exception) and lent.generation == pool.generation:
                pool.generation += 1
            raise
        finally:
            await pool.give_back(lent)


def _may_be_sent_again(exc: Exception) -> bool:
    return fault_of(exc) in (Fault.AWAY, Fault.CONFLICT)
