"""What is taken over from other systems, written into Postgres: a transaction a batch, a statement for all its rows."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
import stamina
from sqlalchemy.ext.asyncio import AsyncConnection

from chatkit_rag.errors import ChatKitRagError, ConfigurationError
from chatkit_rag.stores.imports import ImportBatch, ImportTarget, Kind, NothingYet, Place, Record
from chatkit_rag.stores.postgres_engines import migrating_engine_for
from chatkit_rag.stores.postgres_faults import Fault, fault_of, translated
from chatkit_rag.stores.postgres_schema import migrate
from chatkit_rag.stores.postgres_urls import Address

_TABLES: dict[Kind, str] = {"thread": "threads", "item": "items", "attachment": "attachments"}
_PLACES: dict[Kind, tuple[str, ...]] = {
    "thread": ("tenant", "user_id", "id"),
    "item": ("tenant", "user_id", "thread_id", "id"),
    "attachment": ("tenant", "user_id", "id"),
}

T = TypeVar("T")


class PostgresImports:
    """An `ImportTarget` over the tables of `PostgresStore`, made by `postgres_imports`."""

    def __init__(self, connection: AsyncConnection, schema: str, *, label: str) -> None:
        self._connection = connection
        self._schema = schema
        self._label = label

    async def make_memory(self) -> None:
        """Makes the table of what was taken over, where it is missing. No part of the schema: only imports need it."""
        table = f'"{self._schema}".imported (key bytea PRIMARY KEY, digest bytea NOT NULL)'
        # Alone, or of two imports that begin at once both would make it.
        await self.in_batch(lambda _batch: self._connection.execute(sa.text(f"CREATE TABLE IF NOT EXISTS {table}")))

    async def in_batch(self, work: Callable[[ImportBatch], Awaitable[T]]) -> T:
        """See `ImportTarget.in_batch`."""
        try:
            # Readers write and delete meanwhile, and the database ends one of two that wait for each other.
            async for attempt in stamina.retry_context(on=_was_in_the_way, attempts=5, wait_initial=0.05):
                with attempt:
                    async with self._connection.begin():
                        await self._connection.execute(
                            sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"),
                            {"name": f"chatkit-rag/{self._schema}/imports"},
                        )
                        return await work(_Batch(self._connection, self._schema))
        except ChatKitRagError:
            raise
        except Exception as exc:
            raise translated(exc, self._label) from exc
        raise AssertionError("the last attempt has returned, or raised")


@asynccontextmanager
async def postgres_imports(address: Address, schema: str, *, dry_run: bool) -> AsyncGenerator[ImportTarget]:
    """Where to import into; the tables are brought to the newest version, but for a dry run.

    Raises:
        ConfigurationError: the schema is another system's, or newer than this code.
        StoreUnavailable: the database cannot be reached, or refuses us.
        MissingExtra: Alembic is not installed.
    """
    engine = migrating_engine_for(address)
    try:
        try:
            connection = await engine.connect()
        except Exception as exc:
            raise translated(exc, address.label) from exc
        async with aclosing(connection):
            target = PostgresImports(connection, schema, label=address.label)
            async with connection.begin():
                theirs = await _has(connection, schema, "threads", "data")
                remembers = await _has(connection, schema, "imported", "digest")
            if theirs:
                raise ConfigurationError(
                    f"the schema {schema} in {address.label} holds the tables of an earlier assistant: "
                    "choose another name for ours by database_schema"
                )
            if not dry_run:
                await migrate(engine, schema, label=address.label)
                await target.make_memory()
            yield target if remembers or not dry_run else NothingYet()
    finally:
        await engine.dispose()


class _Batch:
    """An `ImportBatch`."""

    def __init__(self, connection: AsyncConnection, schema: str) -> None:
        self._connection = connection
        self._schema = f'"{schema}"'

    async def known(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """See `ImportBatch.known`."""
        statement = f"SELECT key, digest FROM {self._schema}.imported WHERE key = ANY (CAST(:keys AS bytea[]))"
        return {bytes(row.key): bytes(row.digest) for row in await self._run(statement, keys=list(keys))}

    async def present(self, kind: Kind, places: Sequence[Place]) -> Mapping[Place, bytes]:
        """See `ImportBatch.present`."""
        names = ", ".join(_PLACES[kind])
        found = await self._run(
            f"""SELECT number, sha256(convert_to(payload, 'UTF8')) AS digest
            FROM {_rows(*_PLACES[kind])} JOIN {self._schema}.{_TABLES[kind]} USING ({names})""",
            **_columns(kind, places),
        )
        return {places[row.number - 1]: bytes(row.digest) for row in found}

    async def add(self, kind: Kind, records: Sequence[Record]) -> None:
        """See `ImportBatch.add`; as `PostgresStore` does it, what gives numbers is locked until they are visible."""
        s, rows = self._schema, _rows(*_PLACES[kind], "payload")
        match kind:
            case "thread":
                statement = f"""
                    WITH record AS (SELECT * FROM {rows}),
                    owned AS (SELECT tenant, user_id, count(*) AS many FROM record GROUP BY tenant, user_id),
                    place AS (
                        INSERT INTO {s}.owners AS owner (tenant, user_id, thread_seq)
                        SELECT tenant, user_id, many FROM owned ORDER BY tenant, user_id
                        ON CONFLICT (tenant, user_id) DO UPDATE SET thread_seq = owner.thread_seq + excluded.thread_seq
                        RETURNING tenant, user_id, thread_seq
                    )
                    INSERT INTO {s}.threads (tenant, user_id, id, seq, payload)
                    SELECT tenant, user_id, id, thread_seq - many
                        + row_number() OVER (PARTITION BY tenant, user_id ORDER BY number), payload
                    FROM record JOIN owned USING (tenant, user_id) JOIN place USING (tenant, user_id)
                    ON CONFLICT (tenant, user_id, id) DO NOTHING"""
            case "item":
                statement = f"""
                    WITH record AS (SELECT * FROM {rows}),
                    place AS (
                        UPDATE {s}.threads AS thread SET item_seq = item_seq + many
                        FROM (
                            SELECT tenant, user_id, thread_id, count(*) AS many FROM record
                            GROUP BY tenant, user_id, thread_id
                        ) AS counted
                        WHERE (thread.tenant, thread.user_id, thread.id)
                            = (counted.tenant, counted.user_id, counted.thread_id)
                        RETURNING thread.tenant, thread.user_id, thread_id, item_seq - many AS before
                    )
                    INSERT INTO {s}.items (tenant, user_id, thread_id, id, seq, payload)
                    SELECT tenant, user_id, thread_id, id,
                        before + row_number() OVER (PARTITION BY tenant, user_id, thread_id ORDER BY number), payload
                    FROM record JOIN place USING (tenant, user_id, thread_id)
                    ON CONFLICT (tenant, user_id, thread_id, id) DO NOTHING"""
            case "attachment":
                statement = f"""
                    INSERT INTO {s}.attachments (tenant, user_id, id, payload)
                    SELECT tenant, user_id, id, payload FROM {rows}
                    ON CONFLICT (tenant, user_id, id) DO NOTHING"""
        await self._run(statement, **_columns(kind, [record.place for record in records]), payload=_payloads(records))

    async def replace(self, kind: Kind, records: Sequence[Record], before: Sequence[bytes]) -> None:
        """See `ImportBatch.replace`."""
        same = " AND ".join(f"known.{name} = record.{name}" for name in _PLACES[kind])
        await self._run(
            f"""UPDATE {self._schema}.{_TABLES[kind]} AS known SET payload = record.payload
            FROM {_rows(*_PLACES[kind], "payload", "digest")}
            WHERE {same} AND sha256(convert_to(known.payload, 'UTF8')) = record.digest""",
            **_columns(kind, [record.place for record in records]),
            payload=_payloads(records),
            digest=list(before),
        )

    async def remember(self, records: Sequence[Record]) -> None:
        """See `ImportBatch.remember`."""
        await self._run(
            f"""INSERT INTO {self._schema}.imported (key, digest)
            SELECT * FROM unnest(CAST(:keys AS bytea[]), CAST(:digests AS bytea[]))
            ON CONFLICT (key) DO UPDATE SET digest = excluded.digest""",
            keys=[record.key for record in records],
            digests=[record.digest for record in records],
        )

    async def _run(self, statement: str, **values: Any) -> Sequence[Any]:
        result = await self._connection.execute(sa.text(statement), values)
        return result.all() if result.returns_rows else []


def _rows(*names: str) -> str:
    """The rows of a batch, in a statement; `number` is 1 for the first."""
    arrays = ", ".join(f"CAST(:{name} AS {'bytea' if name == 'digest' else 'text'}[])" for name in names)
    return f"unnest({arrays}) WITH ORDINALITY AS record ({', '.join(names)}, number)"


def _columns(kind: Kind, places: Sequence[Place]) -> dict[str, list[str]]:
    """The values of `_rows`: an array for each part of a place that the kind has."""
    parts = dict(zip(_PLACES["item"], map(list, zip(*places, strict=True)), strict=True))
    return {name: parts[name] for name in _PLACES[kind]}


def _payloads(records: Sequence[Record]) -> list[str]:
    return [record.payload for record in records]


async def _has(connection: AsyncConnection, schema: str, table: str, column: str) -> bool:
    statement = """
        SELECT 1 FROM information_schema.columns
        WHERE table_schema = :schema AND table_name = :table AND column_name = :column"""
    values = {"schema": schema, "table": table, "column": column}
    return bool((await connection.execute(sa.text(statement), values)).all())


def _was_in_the_way(exc: Exception) -> bool:
    return fault_of(exc) is Fault.CONFLICT
