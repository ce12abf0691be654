"""`PostgresStore`: threads in a Postgres database, shared by any number of processes and hosts."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import uuid4

import anyio
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata
from pydantic import BaseModel, TypeAdapter
from sqlalchemy.ext.asyncio import AsyncEngine

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.stores.base import BaseStore, NotFound, RememberedRequest, in_utc
from chatkit_rag.stores.interrupted import item_from_json
from chatkit_rag.stores.paging import clamped
from chatkit_rag.stores.postgres_connections import (
    Connections,
    DatabaseAway,
    NoReference,
    NoText,
    Row,
    engine_for,
)
from chatkit_rag.stores.postgres_schema import check_version, migrate, migrate_at
from chatkit_rag.stores.postgres_statements import statements
from chatkit_rag.stores.postgres_urls import check_schema_name, read_url
from chatkit_rag.stores.rows import page_of_rows, read_row
from chatkit_rag.stores.shielding import run_to_end
from chatkit_rag.stores.storable import check_item, check_storable

_ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)
_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_REQUEST = TypeAdapter(RememberedRequest)
# Writes what `ThreadMetadata` has and nothing more: a `Thread` carries items besides, which have their own place.
_THREAD = TypeAdapter(ThreadMetadata)

_WARM = 4
_LONG_SECONDS = 30.0
"""For what touches every item of a thread."""

_log = logging.getLogger(__name__)

Record = TypeVar("Record", bound=BaseModel)


class _Row(NamedTuple):
    id: str
    payload: str


class PostgresStore(BaseStore):
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
        self._schema = check_schema_name(schema)
        self._sql = statements(schema)
        self._auto_migrate = auto_migrate
        if isinstance(database, str):
            address = read_url(database)
            self._label, self._warm = address.label, min(pool_size, _WARM)
            pooled = address.pooled if pooler == "auto" else pooler
            engine = engine_for(address, size=pool_size, pooled=pooled)
            self._migrate = partial(migrate_at, address, schema)
        else:
            self._label, self._warm = database.url.render_as_string(hide_password=True).rpartition("@")[2], 0
            engine = database
            self._migrate = partial(migrate, database, schema, label=self._label)
            pool_size = 0
        self._connections = Connections(engine, label=self._label, size=pool_size, patience=patience)
        self._ready = False
        # Not asyncio's, which serves the one event loop that it was first waited for in.
        self._opening = anyio.Lock(fast_acquire=True)

    @property
    def label(self) -> str:
        """Host and database, for people."""
        return self._label

    async def open(self) -> None:
        """Connects, and sees to the schema. A database that is away is left to the first operation that finds it.

        Raises:
            StoreUnavailable: the database refuses us, or the tables are not there, or too old.
            ConfigurationError: the schema is newer than this code.
        """
        try:
            await self._open()
        except DatabaseAway as exc:
            _log.warning("%s; it is looked for again at every request", exc)

    async def close(self) -> None:
        """See `Lifecycle.close`."""
        with anyio.CancelScope(shield=True):  # who is cancelled closes all the more
            async with self._opening:
                self._ready = False
                await self._connections.close()

    async def ping(self) -> None:
        """See `Lifecycle.ping`."""
        await self._read(self._sql.version)

    async def migrate(self) -> None:
        """Brings the schema to the newest version; any number of processes may at once.

        Raises:
            StoreUnavailable: the database cannot be reached, or refuses us.
            ConfigurationError: the schema is newer than this code, or Alembic is missing.
        """
        await self._migrate()

    async def load_thread(self, thread_id: str, context: RequestContext) -> ThreadMetadata:
        """See `Store.load_thread`."""
        rows = await self._read(self._sql.load_thread, *context.owner, thread_id)
        return _record(rows, "thread", thread_id, _THREAD.validate_json)

    async def save_thread(self, thread: ThreadMetadata, context: RequestContext) -> None:
        """See `Store.save_thread`."""
        check_storable(thread)
        payload = _THREAD.dump_json(in_utc(thread)).decode()
        await self._write(self._sql.save_thread, *context.owner, thread.id, payload)

    async def patch_thread(self, thread_id: str, changes: Mapping[str, Any], context: RequestContext) -> None:
        """See `PatchesThreads.patch_thread`; one statement, so that no other change of the thread is lost."""
        check_storable(changes)
        document = _ANY.dump_json(dict(changes)).decode()
        if not await self._change(self._sql.patch_thread, *context.owner, thread_id, document):
            raise NotFound("thread", thread_id)

    async def delete_thread(self, thread_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread`."""
        await self._change(self._sql.delete_thread, *context.owner, thread_id, patience=_LONG_SECONDS)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: RequestContext
    ) -> Page[ThreadMetadata]:
        """See `Store.load_threads`."""
        way, size = "asc" if order == "asc" else "desc", clamped(limit) + 1
        if after is None:
            rows = await self._read(self._sql.threads[way], *context.owner, size)
        else:
            rows = await self._read(self._sql.threads_after[way], *context.owner, size, after)
        return page_of_rows(_behind(rows, after, "thread"), limit, "thread", _THREAD.validate_json)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: RequestContext
    ) -> Page[ThreadItem]:
        """See `Store.load_thread_items`."""
        way, size = "asc" if order == "asc" else "desc", clamped(limit) + 1
        if after is None:
            rows = await self._read(self._sql.items[way], *context.owner, thread_id, size)
        else:
            rows = await self._read(self._sql.items_after[way], *context.owner, thread_id, size, after)
        return page_of_rows(_behind(rows, after, "item"), limit, "item", item_from_json)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.add_thread_item`."""
        check_item(item, thread_id)
        payload = in_utc(item).model_dump_json()
        if not await self._change(self._sql.add_item, *context.owner, thread_id, item.id, payload):
            raise NotFound("thread", thread_id)

    async def save_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.save_item`."""
        await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: RequestContext) -> ThreadItem:
        """See `Store.load_item`."""
        rows = await self._read(self._sql.load_item, *context.owner, thread_id, item_id)
        return _record(rows, "item", item_id, item_from_json)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread_item`."""
        await self._change(self._sql.delete_item, *context.owner, thread_id, item_id)

    async def save_feedback(
        self, thread_id: str, item_ids: Sequence[str], feedback: Mapping[str, Any], context: RequestContext
    ) -> None:
        """See `KeepsFeedback.save_feedback`."""
        check_storable(feedback)
        ids = list(dict.fromkeys(item_ids))
        payload = _ANY.dump_json(dict(feedback)).decode()
        try:
            await run_to_end(self._run(self._sql.save_feedback, *context.owner, thread_id, ids, payload))
        except (NoReference, NoText) as exc:
            raise NotFound("item", ", ".join(ids)) from exc

    async def save_attachment(self, attachment: Attachment, context: RequestContext) -> None:
        """See `Store.save_attachment`."""
        check_storable(attachment)
        await self._write(self._sql.save_attachment, *context.owner, attachment.id, attachment.model_dump_json())

    async def load_attachment(self, attachment_id: str, context: RequestContext) -> Attachment:
        """See `Store.load_attachment`."""
        rows = await self._read(self._sql.load_attachment, *context.owner, attachment_id)
        return _record(rows, "attachment", attachment_id, _ATTACHMENT.validate_json)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """See `Store.delete_attachment`."""
        await self._change(self._sql.delete_attachment, *context.owner, attachment_id)

    async def take_lease(self, thread_id: str, holder: str, seconds: float, context: RequestContext) -> bool:
        """See `KeepsLeases.take_lease`; by the database's clock, which all processes share."""
        try:
            work = self._run(self._sql.take_lease, *context.owner, thread_id, holder, float(seconds))
            return bool(await run_to_end(work))
        except (NoReference, NoText) as exc:
            raise NotFound("thread", thread_id) from exc

    async def release_lease(self, thread_id: str, holder: str, context: RequestContext) -> None:
        """See `KeepsLeases.release_lease`."""
        await self._change(self._sql.release_lease, *context.owner, thread_id, holder)

    async def claim_request(
        self, key: str, request: RememberedRequest, seconds: float, context: RequestContext
    ) -> RememberedRequest | None:
        """See `RemembersRequests.claim_request`; `seconds` by the database's clock."""
        claim = uuid4().hex
        payload, given_up = _remembered(request)
        values = (key, claim, payload, given_up, float(seconds))
        [(holder, known)] = await self._write(self._sql.claim_request, *context.owner, *values)
        return None if holder == claim else _REQUEST.validate_json(known)

    async def note_request(self, key: str, request: RememberedRequest, context: RequestContext) -> None:
        """See `RemembersRequests.note_request`."""
        await self._change(self._sql.note_request, *context.owner, key, *_remembered(request))

    async def forget_request(self, key: str, context: RequestContext) -> None:
        """See `RemembersRequests.forget_request`."""
        await self._change(self._sql.forget_request, *context.owner, key)

    async def _open(self) -> None:
        async with self._opening:
            if self._ready:
                return
            if self._warm:
                await self._connections.warm(self._warm)
            if self._auto_migrate:
                await self.migrate()
            rows = await self._connections.run(self._sql.version)
            check_version(rows[0][0] if rows else None, schema=self._schema, label=self._label)
            self._ready = True

    async def _read(self, statement: str, *values: Any) -> Sequence[Row]:
        """The rows; none where a value is no text that anything could be stored under."""
        try:
            return await self._run(statement, *values)
        except NoText:
            return []

    async def _change(self, statement: str, *values: Any, patience: float | None = None) -> Sequence[Row]:
        """As `_read`, for a statement that changes what is there: carried out whatever becomes of its caller."""
        try:
            return await run_to_end(self._run(statement, *values, patience=patience))
        except NoText:
            return []

    async def _write(self, statement: str, *values: Any) -> Sequence[Row]:
        """As `_change`, for a statement that stores: what cannot be stored is refused."""
        try:
            return await run_to_end(self._run(statement, *values))
        except NoText as exc:
            raise InvalidRequest("an id or the owner's name is no text that can be stored") from exc

    async def _run(self, statement: str, *values: Any, patience: float | None = None) -> Sequence[Row]:
        if not self._ready:
            await self._open()
        return await self._connections.run(statement, *values, patience=patience)


def _record(rows: Sequence[Row], what: str, id_: str, read: Callable[[str], Record]) -> Record:
    record = read_row(id_, rows[0][0], what, read) if rows else None
    if record is None:
        raise NotFound(what, id_)
    return record


def _behind(rows: Sequence[Row], after: str | None, what: str) -> list[_Row]:
    """The rows of a page; see `Statements.threads_after`."""
    if after is not None and not rows:
        raise NotFound(what, after)
    return [_Row(*row) for row in rows if row[0] is not None]


def _remembered(request: RememberedRequest) -> tuple[str, float | None]:
    """What is kept of a request, and from when on it counts as given up; None for never."""
    return _ANY.dump_json(asdict(request)).decode(), None if request.thread_id else request.busy_until
