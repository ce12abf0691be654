"""The database of a `PostgresStore`: found when it is there, and asked in statements of which each is one flight."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import anyio
from sqlalchemy.ext.asyncio import AsyncEngine

from chatkit_rag.context import RequestContext, utc_now
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.stores.postgres_connections import Connections
from chatkit_rag.stores.postgres_drivers import Row
from chatkit_rag.stores.postgres_engines import engine_for
from chatkit_rag.stores.postgres_faults import DatabaseAway, NoReference, NoText
from chatkit_rag.stores.postgres_schema import check_version, migrate, migrate_at
from chatkit_rag.stores.postgres_statements import statements
from chatkit_rag.stores.postgres_urls import check_schema_name, read_url
from chatkit_rag.stores.shielding import run_to_end

_WARM = 4

_log = logging.getLogger(__name__)


class PostgresDatabase:
    """Runs statements; see `PostgresStore` for its arguments."""

    def __init__(
        self,
        database: str | AsyncEngine,
        *,
        schema: str,
        auto_migrate: bool,
        pool_size: int,
        pooler: bool | Literal["auto"],
        patience: float,
    ) -> None:
        """Connects to nothing yet. Raises ConfigurationError."""
        self.schema = check_schema_name(schema)
        self.sql = statements(schema)
        self._auto_migrate = auto_migrate
        if isinstance(database, str):
            address = read_url(database)
            self.label, self._warm = address.label, min(pool_size, _WARM)
            pooled = address.pooled if pooler == "auto" else pooler
            engine = engine_for(address, size=pool_size, pooled=pooled)
            self._migrate = partial(migrate_at, address, schema)
        else:
            self.label, self._warm = database.url.render_as_string(hide_password=True).rpartition("@")[2], 0
            engine = database
            self._migrate = partial(migrate, database, schema, label=self.label)
            pool_size = 0
        self._patience = patience
        self._connections = Connections(engine, label=self.label, size=pool_size, patience=patience)
        self._ready = False
        # Not asyncio's, which serves the one event loop that it was first waited for in.
        self._opening = anyio.Lock(fast_acquire=True)

    async def open(self) -> None:
        """Connects, and sees to the schema. A database that is away is left to the first statement that finds it.

        Raises:
            StoreUnavailable: the database refuses us, or the tables are not there, or too old.
            ConfigurationError: the schema is newer than this code.
        """
        try:
            await self._open()
        except DatabaseAway as exc:
            _log.warning("%s; it is looked for again at every request", exc)

    async def close(self) -> None:
        """Closes the connections that are ours; a second call does nothing."""
        with anyio.CancelScope(shield=True):  # who is cancelled closes all the more
            async with self._opening:
                self._ready = False
                await self._connections.close()

    async def migrate(self) -> None:
        """See `PostgresStore.migrate`."""
        await self._migrate()

    async def read(self, statement: str, *values: Any) -> Sequence[Row]:
        """The rows; none where a value is no text that anything could be stored under."""
        try:
            return await self._run(statement, values)
        except NoText:
            return []

    async def change(self, statement: str, *values: Any, patience: float | None = None) -> Sequence[Row]:
        """As `read`, for a statement that changes what is there: carried out whatever becomes of its caller.

        `patience` is for one that may take longer than others, in seconds. Raises NoReference.
        """
        try:
            return await run_to_end(self._run(statement, values, patience))
        except NoText:
            return []

    async def store(self, statement: str, *values: Any) -> Sequence[Row]:
        """As `change`, for a statement that stores. Raises InvalidRequest for what is no text besides."""
        try:
            return await run_to_end(self._run(statement, values))
        except NoText as exc:
            raise InvalidRequest("an id or the owner's name is no text that can be stored") from exc

    async def refer(self, statement: str, *values: Any) -> Sequence[Row] | None:
        """As `change`, for a statement whose rows refer to others; None where one of these is not there."""
        try:
            return await run_to_end(self._run(statement, values))
        except (NoReference, NoText):
            return None

    def age_of(self, context: RequestContext) -> float:
        """How many seconds ago the request came, at most, when a statement that is sent now is carried out.

        Hosts' clocks differ, so the moment itself means nothing to the database. A statement that takes its time on the
        way makes the request look younger than it is, by its patience at most.
        """
        return (utc_now() - context.began).total_seconds() + self._patience

    async def _open(self) -> None:
        async with self._opening:
            if self._ready:
                return
            if self._auto_migrate:
                await self.migrate()
            rows = await self._connections.run(self.sql.version)
            check_version(rows[0][0] if rows else None, schema=self.schema, label=self.label)
            if self._warm:
                await self._connections.warm(self._warm)
            self._ready = True

    async def _run(self, statement: str, values: Sequence[Any], patience: float | None = None) -> Sequence[Row]:
        if not self._ready:
            await self._open()
        return await self._connections.run(statement, *values, patience=patience)
