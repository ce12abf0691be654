"""`PostgresStore`: threads in a Postgres database, shared by any number of processes and hosts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata
from pydantic import BaseModel, TypeAdapter
from sqlalchemy.ext.asyncio import AsyncEngine

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.base import BaseStore, NotFound
from chatkit_rag.stores.interrupted import item_from_json, items_from_json
from chatkit_rag.stores.paging import clamped
from chatkit_rag.stores.postgres_attachments import PostgresAttachments
from chatkit_rag.stores.postgres_coordination import PostgresCoordination
from chatkit_rag.stores.postgres_database import PostgresDatabase
from chatkit_rag.stores.postgres_drivers import Row
from chatkit_rag.stores.postgres_privacy import PostgresPrivacy
from chatkit_rag.stores.postgres_turns import PostgresTurns
from chatkit_rag.stores.rows import (
    attachment_from_json,
    item_to_json,
    page_of_rows,
    read_row,
    thread_from_json,
    thread_to_json,
)
from chatkit_rag.stores.storable import check_item, check_storable

_ANY: TypeAdapter[Any] = TypeAdapter(Any)

_LONG_SECONDS = 30.0
"""For what touches every item of a thread."""

Record = TypeVar("Record", bound=BaseModel)


class PostgresStore(PostgresTurns, PostgresCoordination, PostgresAttachments, PostgresPrivacy, BaseStore):
    """A `Store` in Postgres, opened at its first use. Each operation is one statement, and one flight.

    A database that is away is waited for `patience` seconds by each operation, which then raises StoreUnavailable;
    when it comes back, the next operation finds it. No connection is held between two operations.
    """

    def __init__(
        self,
        database: str | AsyncEngine,
        *,
        schema: str = "chatkit_rag",
        auto_migrate: bool = False,
        pool_size: int = 10,
        pooler: bool | Literal["auto"] = "auto",
        patience: float = 2.5,
    ) -> None:
        """Connects to nothing yet.

        Args:
            database: a URL (`postgresql://user:password@host/database`, with `postgresql+psycopg://` by psycopg
                instead of asyncpg), or an engine of the host's own, which stays the host's to close.
            schema: the name of the Postgres schema that the tables are in.
            auto_migrate: whether opening the store brings the schema to the newest version.
            pool_size: the connections that this process may have; not for an engine.
            pooler: whether the URL leads to a pooler that hands each transaction to another connection (PgBouncer);
                `"auto"`: as the URL says, by `pgbouncer=true` or an address of Neon's or Supabase's poolers. Not for an
                engine, which is made for its pooler by the host.
            patience: the seconds that an operation may take, with all that it waits for.

        Raises:
            ConfigurationError: the URL or the schema's name cannot be used, or the driver is missing.
        """
        self._database = PostgresDatabase(
            database,
            schema=schema,
            auto_migrate=auto_migrate,
            pool_size=pool_size,
            pooler=pooler,
            patience=patience,
        )
        self._sql = self._database.sql

    @property
    def label(self) -> str:
        """Host and database, for people."""
        return self._database.label

    async def open(self) -> None:
        """Connects, and sees to the schema. A database that is away is left to the first operation that finds it.

        Raises:
            StoreUnavailable: the database refuses us, or the tables are not there, or too old.
            ConfigurationError: the schema is newer than this code.
        """
        await self._database.open()

    async def close(self) -> None:
        """See `Lifecycle.close`."""
        await self._database.close()

    async def ping(self) -> None:
        """See `Lifecycle.ping`."""
        await self._database.read(self._sql.version)

    async def migrate(self) -> None:
        """Brings the schema to the newest version; any number of processes may at once.

        Raises:
            StoreUnavailable: the database cannot be reached, or refuses us.
            ConfigurationError: the schema is newer than this code, or Alembic is missing.
        """
        await self._database.migrate()

    async def load_thread(self, thread_id: str, context: RequestContext) -> ThreadMetadata:
        """See `Store.load_thread`."""
        rows = await self._database.read(self._sql.load_thread, *context.owner, thread_id)
        return _record(rows, "thread", thread_id, thread_from_json)

    async def save_thread(self, thread: ThreadMetadata, context: RequestContext) -> None:
        """See `Store.save_thread`."""
        check_storable(thread)
        row = (*context.owner, thread.id, thread_to_json(thread))
        if not await self._database.store(self._sql.save_thread, *row, self._database.age_of(context)):
            raise NotFound("thread", thread.id)

    async def patch_thread(self, thread_id: str, changes: Mapping[str, Any], context: RequestContext) -> None:
        """See `PatchesThreads.patch_thread`; one statement, so that no other change of the thread is lost."""
        check_storable(changes)
        document = _ANY.dump_json(dict(changes)).decode()
        if not await self._database.change(self._sql.patch_thread, *context.owner, thread_id, document):
            raise NotFound("thread", thread_id)

    async def delete_thread(self, thread_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread`."""
        await self._database.change(self._sql.delete_thread, *context.owner, thread_id, patience=_LONG_SECONDS)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: RequestContext
    ) -> Page[ThreadMetadata]:
        """See `Store.load_threads`."""
        way, size = "asc" if order == "asc" else "desc", clamped(limit) + 1
        if after is None:
            rows = await self._database.read(self._sql.threads[way], *context.owner, size)
        else:
            rows = await self._database.read(self._sql.threads_after[way], *context.owner, size, after)
        return page_of_rows(_behind(rows, after, "thread"), limit, "thread", thread_from_json)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: RequestContext
    ) -> Page[ThreadItem]:
        """See `Store.load_thread_items`."""
        way, size = "asc" if order == "asc" else "desc", clamped(limit) + 1
        if after is None:
            rows = await self._database.read(self._sql.items[way], *context.owner, thread_id, size)
        else:
            rows = await self._database.read(self._sql.items_after[way], *context.owner, thread_id, size, after)
        return page_of_rows(_behind(rows, after, "item"), limit, "item", item_from_json, items_from_json)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.add_thread_item`."""
        check_item(item, thread_id)
        payload = item_to_json(item)
        if not await self._database.change(self._sql.add_item, *context.owner, thread_id, item.id, payload):
            raise NotFound("thread", thread_id)

    async def save_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.save_item`."""
        await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: RequestContext) -> ThreadItem:
        """See `Store.load_item`."""
        rows = await self._database.read(self._sql.load_item, *context.owner, thread_id, item_id)
        return _record(rows, "item", item_id, item_from_json)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread_item`."""
        await self._database.change(self._sql.delete_item, *context.owner, thread_id, item_id)

    async def save_feedback(
        self, thread_id: str, item_ids: Sequence[str], feedback: Mapping[str, Any], context: RequestContext
    ) -> None:
        """See `KeepsFeedback.save_feedback`."""
        check_storable(feedback)
        ids = list(dict.fromkeys(item_ids))
        payload = _ANY.dump_json(dict(feedback)).decode()
        if await self._database.refer(self._sql.save_feedback, *context.owner, thread_id, ids, payload) is None:
            raise NotFound("item", ", ".join(ids))

    async def save_attachment(self, attachment: Attachment, context: RequestContext) -> None:
        """See `Store.save_attachment`."""
        check_storable(attachment)
        row = (*context.owner, attachment.id, attachment.model_dump_json())
        if not await self._database.store(self._sql.save_attachment, *row, self._database.age_of(context)):
            raise NotFound("attachment", attachment.id)

    async def load_attachment(self, attachment_id: str, context: RequestContext) -> Attachment:
        """See `Store.load_attachment`."""
        rows = await self._database.read(self._sql.load_attachment, *context.owner, attachment_id)
        return _record(rows, "attachment", attachment_id, attachment_from_json)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """See `Store.delete_attachment`."""
        await self._database.change(self._sql.delete_attachment, *context.owner, attachment_id)


def _record(rows: Sequence[Row], what: str, id_: str, read: Callable[[str], Record]) -> Record:
    record = read_row(id_, rows[0][0], what, read) if rows else None
    if record is None:
        raise NotFound(what, id_)
    return record


def _behind(rows: Sequence[Row], after: str | None, what: str) -> list[Row]:
    """The rows of a page; see `Statements.threads_after`."""
    if after is not None and not rows:
        raise NotFound(what, after)
    return [row for row in rows if row[0] is not None]
