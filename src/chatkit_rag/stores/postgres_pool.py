"""Where connections to Postgres come from: our own pool, or the engine of a host.

Our connections are made, and renewed, by SQLAlchemy's pool. Between two statements they wait here, newest first, since
taking one out of SQLAlchemy's asynchronous pool costs as much as a statement does.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection

from chatkit_rag.stores.postgres_drivers import driver_of
from chatkit_rag.stores.postgres_engines import CONNECT_SECONDS, RECYCLE_SECONDS
from chatkit_rag.stores.postgres_faults import POOL_SECONDS, NoFreeConnection

_GENERATION = "chatkit_rag.generation"


@dataclass(slots=True, eq=False)
class Lent:
    """A connection that one statement has for itself."""

    proxied: PoolProxiedConnection
    driver_connection: Any
    generation: int
    born: float = field(default_factory=time.monotonic)
    dropped: bool = False
    host: AsyncConnection | None = None


class Pool(Protocol):
    """Lends connections."""

    generation: int
    """Counted up when connections broke: those that are older are not used any more."""

    async def take(self) -> Lent:
        """A connection that nobody else has. Raises NoFreeConnection, and what connecting raises."""
        ...

    async def give_back(self, lent: Lent) -> None:
        """Takes a connection back, also one that was dropped."""
        ...

    def drop(self, lent: Lent) -> None:
        """Closes a lent connection at once; it is still to be given back."""
        ...

    async def warm(self, count: int) -> None:
        """Sees to it that there are `count` connections; one that cannot be made now is left to who needs it."""
        ...

    async def close(self) -> None:
        """Closes the connections that are ours."""
        ...


class OurPool:
    """Up to `size` connections, made by an engine of ours."""

    def __init__(self, engine: AsyncEngine, size: int) -> None:
        self.generation = 0
        self._engine = engine
        self._driver = driver_of(engine.dialect.driver)
        # SQLAlchemy's pool has no queue: who comes back at once takes the connection from those who wait already.
        self._turns = anyio.Semaphore(size, fast_acquire=True)
        self._idle: list[Lent] = []

    async def take(self) -> Lent:
        """See `Pool.take`."""
        try:
            self._turns.acquire_nowait()
        except anyio.WouldBlock:
            try:
                async with asyncio.timeout(POOL_SECONDS):
                    await self._turns.acquire()
            except TimeoutError as exc:
                raise NoFreeConnection from exc
        try:
            while self._idle:
                lent = self._idle.pop()
                if lent.generation == self.generation and time.monotonic() - lent.born < RECYCLE_SECONDS:
                    return lent
                if lent.generation == self.generation:
                    lent.proxied.close()  # the next one that SQLAlchemy's pool gives is new
                else:
                    self.drop(lent)
            return await self._connect()
        except BaseException:
            self._turns.release()
            raise

    async def give_back(self, lent: Lent) -> None:
        """See `Pool.give_back`."""
        if not lent.dropped:
            self._idle.append(lent)
        self._turns.release()

    def drop(self, lent: Lent) -> None:
        """See `Pool.drop`."""
        self._driver.drop(lent.driver_connection)
        lent.proxied.invalidate()
        lent.dropped = True

    async def warm(self, count: int) -> None:
        """See `Pool.warm`."""
        missing = [asyncio.ensure_future(self._connect()) for _ in range(count - len(self._idle))]
        try:
            if missing:
                await asyncio.wait(missing, timeout=CONNECT_SECONDS)
        finally:
            for one in missing:
                one.add_done_callback(self._keep)
                one.cancel()

    async def close(self) -> None:
        """See `Pool.close`."""
        while self._idle:
            self._idle.pop().proxied.close()
        await self._engine.dispose()

    def _keep(self, made: "asyncio.Future[Lent]") -> None:
        if not made.cancelled() and made.exception() is None:
            self._idle.append(made.result())

    async def _connect(self) -> Lent:
        proxied = await self._engine.raw_connection()
        return Lent(proxied, proxied.driver_connection, self.generation)


class HostsEngine:
    """Connections of an engine that is somebody else's, who says how many there are, and closes them."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.generation = 0
        self._engine = engine
        self._driver = driver_of(engine.dialect.driver)

    async def take(self) -> Lent:
        """See `Pool.take`."""
        while True:
            connection = await self._engine.connect()
            try:
                proxied = await connection.get_raw_connection()
                generation = proxied.info.setdefault(_GENERATION, self.generation)
                lent = Lent(proxied, proxied.driver_connection, generation, host=connection)
            except BaseException:
                await connection.close()
                raise
            if generation == self.generation:
                return lent
            self.drop(lent)
            await self.give_back(lent)

    async def give_back(self, lent: Lent) -> None:
        """See `Pool.give_back`."""
        if lent.host is not None:
            await lent.host.close()

    def drop(self, lent: Lent) -> None:
        """See `Pool.drop`."""
        self._driver.drop(lent.driver_connection)
        lent.proxied.invalidate()

    async def warm(self, count: int) -> None:
        """See `Pool.warm`; the host does that."""

    async def close(self) -> None:
        """See `Pool.close`: none is."""
