"""`SQLiteStore`: threads in one file."""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import anyio
import sqlalchemy as sa
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata
from pydantic import BaseModel, TypeAdapter
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.event import listen
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import StoreUnavailable
from chatkit_rag.stores import sql_tables as tables
from chatkit_rag.stores.base import BaseStore, NotFound, RememberedRequest, in_utc
from chatkit_rag.stores.interrupted import item_from_json
from chatkit_rag.stores.paging import clamped
from chatkit_rag.stores.rows import page_of_rows, read_row
from chatkit_rag.stores.shielding import run_to_end
from chatkit_rag.stores.storable import check_item, check_storable

_ATTACHMENT: TypeAdapter[Attachment] = TypeAdapter(Attachment)
_ANY: TypeAdapter[Any] = TypeAdapter(Any)
# Writes what `ThreadMetadata` has and nothing more: a `Thread` carries items besides, which have their own place.
_THREAD = TypeAdapter(ThreadMetadata)

_BUSY_SECONDS = 5
"""How long another process may keep the file locked."""
_QUEUE_SECONDS = 30
"""How long a statement may wait for those before it in this process: a burst of readers is not a failure."""

Record = TypeVar("Record", bound=BaseModel)


class SQLiteStore(BaseStore):
    """A `Store` in one SQLite file, opened at its first use.

    One connection writes and reads, in turn: SQLite has one writer at a time, and waiting here is cheaper than
    fighting for its lock. Other processes may read the file meanwhile. A write is never cut off by a cancellation.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()
        self._engine: AsyncEngine | None = None
        # Not asyncio's, which serves the one event loop that it was first waited for in.
        self._opening = anyio.Lock(fast_acquire=True)

    async def open(self) -> None:
        """Opens the file, and makes it and its tables where they are missing.

        Raises:
            StoreUnavailable: the folder or the file cannot be written, or the file is no database.
        """
        async with self._opening:
            if self._engine is not None:
                return
            engine = create_async_engine(
                sa.URL.create("sqlite+aiosqlite", database=str(self._path)),
                pool_size=1,
                max_overflow=0,
                pool_timeout=_QUEUE_SECONDS,
                connect_args={"timeout": _BUSY_SECONDS},
            )
            listen(engine.sync_engine, "connect", _prepare_connection)
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                await _make_file(engine)
            except (OSError, SQLAlchemyError) as exc:
                await engine.dispose()
                raise StoreUnavailable(
                    f"cannot open {self._path} for the readers' threads: {_reason(exc)}; "
                    "make its folder writable, or choose another with --data-dir"
                ) from exc
            self._engine = engine

    async def close(self) -> None:
        """See `Lifecycle.close`."""
        with anyio.CancelScope(shield=True):  # who is cancelled closes all the more
            async with self._opening:
                if self._engine is not None:
                    # Behind everybody who waits for the one connection: taken from them, it would never be closed.
                    with suppress(SQLAlchemyError):
                        async with self._engine.connect():
                            pass
                    await self._engine.dispose()
                    self._engine = None

    async def ping(self) -> None:
        """See `Lifecycle.ping`."""
        await self._execute(sa.select(sa.literal(1)))

    async def load_thread(self, thread_id: str, context: RequestContext) -> ThreadMetadata:
        """See `Store.load_thread`."""
        return await self._record(tables.threads, "thread", thread_id, _THREAD.validate_json, context)

    async def save_thread(self, thread: ThreadMetadata, context: RequestContext) -> None:
        """See `Store.save_thread`."""
        check_storable(thread)
        payload = _THREAD.dump_json(in_utc(thread)).decode()
        await self._execute(_upsert(tables.threads, context, ("id",), id=thread.id, payload=payload))

    async def patch_thread(self, thread_id: str, changes: Mapping[str, Any], context: RequestContext) -> None:
        """See `PatchesThreads.patch_thread`; one statement, so that no other change of the thread is lost."""
        check_storable(changes)
        payload: sa.ColumnElement[str] = tables.threads.c.payload
        for name, value in changes.items():
            payload = sa.func.json_set(payload, f"$.{name}", sa.func.json(_ANY.dump_json(value).decode()))
        changed = sa.update(tables.threads).where(*_owned(tables.threads, context), tables.threads.c.id == thread_id)
        if not await self._execute(changed.values(payload=payload).returning(tables.threads.c.id)):
            raise NotFound("thread", thread_id)

    async def save_feedback(
        self, thread_id: str, item_ids: Sequence[str], feedback: Mapping[str, Any], context: RequestContext
    ) -> None:
        """See `KeepsFeedback.save_feedback`."""
        check_storable(feedback)
        if not item_ids:
            return
        tenant, user = context.owner
        payload = _ANY.dump_json(dict(feedback)).decode()
        rows = [
            {"tenant": tenant, "user": user, "thread_id": thread_id, "item_id": item_id, "payload": payload}
            for item_id in dict.fromkeys(item_ids)
        ]
        statement = insert(tables.feedback).values(rows)
        key = ["tenant", "user", "thread_id", "item_id"]
        set_ = {"payload": statement.excluded.payload}
        try:
            await self._execute(statement.on_conflict_do_update(index_elements=key, set_=set_))
        except IntegrityError as exc:  # the only constraint left to break is the items' existence
            raise NotFound("item", ", ".join(item_ids)) from exc

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: RequestContext
    ) -> Page[ThreadMetadata]:
        """See `Store.load_threads`."""
        rows = await self._page(tables.threads, _owned(tables.threads, context), after, limit, order, "thread")
        return page_of_rows(rows, limit, "thread", _THREAD.validate_json)

    async def delete_thread(self, thread_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread`."""
        await self._execute(
            sa.delete(tables.threads).where(*_owned(tables.threads, context), tables.threads.c.id == thread_id)
        )

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: RequestContext
    ) -> Page[ThreadItem]:
        """See `Store.load_thread_items`."""
        rows = await self._page(tables.items, _in_thread(thread_id, context), after, limit, order, "item")
        return page_of_rows(rows, limit, "item", item_from_json)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.add_thread_item`."""
        check_item(item, thread_id)
        row = {"thread_id": thread_id, "id": item.id, "payload": _to_json(in_utc(item))}
        try:
            await self._execute(_upsert(tables.items, context, ("thread_id", "id"), **row))
        except IntegrityError as exc:  # the only constraint left to break is the thread's existence
            raise NotFound("thread", thread_id) from exc

    async def save_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.save_item`."""
        await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: RequestContext) -> ThreadItem:
        """See `Store.load_item`."""
        statement = sa.select(tables.items.c.payload).where(
            *_in_thread(thread_id, context), tables.items.c.id == item_id
        )
        rows = await self._execute(statement)
        item = read_row(item_id, rows[0].payload, "item", item_from_json) if rows else None
        if item is None:
            raise NotFound("item", item_id)
        return item

    async def delete_thread_item(self, thread_id: str, item_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread_item`."""
        await self._execute(
            sa.delete(tables.items).where(*_in_thread(thread_id, context), tables.items.c.id == item_id)
        )

    async def save_attachment(self, attachment: Attachment, context: RequestContext) -> None:
        """See `Store.save_attachment`."""
        check_storable(attachment)
        await self._execute(
            _upsert(tables.attachments, context, ("id",), id=attachment.id, payload=_to_json(attachment))
        )

    async def load_attachment(self, attachment_id: str, context: RequestContext) -> Attachment:
        """See `Store.load_attachment`."""
        return await self._record(tables.attachments, "attachment", attachment_id, _ATTACHMENT.validate_json, context)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """See `Store.delete_attachment`."""
        owned = _owned(tables.attachments, context)
        await self._execute(sa.delete(tables.attachments).where(*owned, tables.attachments.c.id == attachment_id))

    async def take_lease(self, thread_id: str, holder: str, seconds: float, context: RequestContext) -> bool:
        """See `KeepsLeases.take_lease`; by the clock of the machine, which all processes over one file share."""
        tenant, user = context.owner
        now = time.time()
        lease = insert(tables.leases).values(
            tenant=tenant, user=user, thread_id=thread_id, holder=holder, until=now + seconds
        )
        taken = lease.on_conflict_do_update(
            index_elements=["tenant", "user", "thread_id"],
            set_={"holder": holder, "until": now + seconds},
            where=sa.or_(tables.leases.c.holder == holder, tables.leases.c.until <= now),
        )
        try:
            return bool(await self._execute(taken.returning(tables.leases.c.holder)))
        except IntegrityError as exc:  # the only constraint left to break is the thread's existence
            raise NotFound("thread", thread_id) from exc

    async def release_lease(self, thread_id: str, holder: str, context: RequestContext) -> None:
        """See `KeepsLeases.release_lease`."""
        held = (
            *_owned(tables.leases, context),
            tables.leases.c.thread_id == thread_id,
            tables.leases.c.holder == holder,
        )
        await self._execute(sa.delete(tables.leases).where(*held))

    async def claim_request(
        self, key: str, request: RememberedRequest, seconds: float, context: RequestContext
    ) -> RememberedRequest | None:
        """See `RemembersRequests.claim_request`."""
        check_storable({"key": key})
        tenant, user = context.owner
        now = time.time()
        values = {**asdict(request), "expires": now + seconds}
        claim = insert(tables.requests).values(tenant=tenant, user=user, key=key, **values)
        given_up = sa.and_(tables.requests.c.thread_id == "", tables.requests.c.busy_until <= now)
        claimed = claim.on_conflict_do_update(
            index_elements=["tenant", "user", "key"],
            set_=values,
            where=sa.or_(tables.requests.c.expires <= now, given_up),
        )
        if await self._execute(claimed.returning(tables.requests.c.key)):
            await self._execute(sa.delete(tables.requests).where(tables.requests.c.expires <= now))
            return None
        columns = [field.name for field in fields(RememberedRequest)]
        known = await self._execute(
            sa.select(*(tables.requests.c[name] for name in columns)).where(
                *_owned(tables.requests, context), tables.requests.c.key == key
            )
        )
        # Forgotten in between, by whoever held it: it was refused, and so the claim may be made again.
        if not known:
            return await self.claim_request(key, request, seconds, context)
        return RememberedRequest(**dict(zip(columns, known[0], strict=True)))

    async def note_request(self, key: str, request: RememberedRequest, context: RequestContext) -> None:
        """See `RemembersRequests.note_request`."""
        noted = sa.update(tables.requests).where(*_owned(tables.requests, context), tables.requests.c.key == key)
        await self._execute(noted.values(**asdict(request)))

    async def forget_request(self, key: str, context: RequestContext) -> None:
        """See `RemembersRequests.forget_request`."""
        await self._execute(
            sa.delete(tables.requests).where(*_owned(tables.requests, context), tables.requests.c.key == key)
        )

    async def _record(
        self, table: sa.Table, what: str, id_: str, read: Callable[[str], Record], context: RequestContext
    ) -> Record:
        rows = await self._execute(sa.select(table.c.payload).where(*_owned(table, context), table.c.id == id_))
        record = read_row(id_, rows[0].payload, what, read) if rows else None
        if record is None:
            raise NotFound(what, id_)
        return record

    async def _page(
        self,
        table: sa.Table,
        within: Sequence[sa.ColumnElement[bool]],
        after: str | None,
        limit: int,
        order: str,
        what: str,
    ) -> Sequence[sa.Row[Any]]:
        """Up to one row more than the page holds."""
        statement = sa.select(table.c.id, table.c.payload).where(*within).limit(clamped(limit) + 1)
        ascending = order == "asc"
        if after is not None:
            place = await self._execute(sa.select(table.c.seq).where(*within, table.c.id == after))
            if not place:
                raise NotFound(what, after)
            beyond = table.c.seq > place[0].seq if ascending else table.c.seq < place[0].seq
            statement = statement.where(beyond)
        return await self._execute(statement.order_by(table.c.seq.asc() if ascending else table.c.seq.desc()))

    async def _execute(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        """The rows of a statement, which is carried out wholly or not at all, whatever becomes of its caller."""
        return await run_to_end(self._run(statement))

    async def _run(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        await self.open()
        assert self._engine is not None  # noqa: S101 - `open` has just set it, or raised
        try:
            async with self._engine.begin() as connection:
                return await _fetch(connection, statement)
        except IntegrityError:
            raise
        except UnicodeEncodeError:
            return []  # an id with half a surrogate pair, which nothing is stored under
        except SQLAlchemyError as exc:
            raise StoreUnavailable(f"the readers' threads in {self._path} cannot be used: {_reason(exc)}") from exc


async def _fetch(connection: AsyncConnection, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
    result = await connection.execute(statement)
    return result.all() if result.returns_rows else []


async def _make_file(engine: AsyncEngine) -> None:
    """The file with its tables, also where another process makes it at this moment."""
    deadline = anyio.current_time() + _BUSY_SECONDS
    while True:
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(_make_tables)
        except OperationalError as exc:
            # SQLite waits for every lock but the one that it needs to turn WAL mode on.
            busy = getattr(exc.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
            if not busy or anyio.current_time() >= deadline:
                raise
        await anyio.sleep(0.02)


def _make_tables(connection: sa.Connection) -> None:
    # Not `create_all`, which looks first and creates then: two processes that start at once would both create.
    for table in tables.schema.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))


def _prepare_connection(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # What was acknowledged survives the machine losing power, not only this process dying.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _owned(table: sa.Table, context: RequestContext) -> list[sa.ColumnElement[bool]]:
    tenant, user = context.owner
    return [table.c.tenant == tenant, table.c.user == user]


def _in_thread(thread_id: str, context: RequestContext) -> list[sa.ColumnElement[bool]]:
    return [*_owned(tables.items, context), tables.items.c.thread_id == thread_id]


def _upsert(table: sa.Table, context: RequestContext, key: tuple[str, ...], **values: str) -> sa.Executable:
    tenant, user = context.owner
    statement = insert(table).values(tenant=tenant, user=user, **values)
    return statement.on_conflict_do_update(
        index_elements=["tenant", "user", *key], set_={"payload": statement.excluded.payload}
    )


def _to_json(record: BaseModel) -> str:
    return record.model_dump_json()


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "orig", None) or exc)
