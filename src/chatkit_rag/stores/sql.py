"""`SQLiteStore`: threads in one file."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata
from pydantic import BaseModel, TypeAdapter

from chatkit_rag.context import RequestContext
from chatkit_rag.stores import sql_statements as sql
from chatkit_rag.stores.base import BaseStore, NotFound
from chatkit_rag.stores.interrupted import item_from_json, items_from_json
from chatkit_rag.stores.paging import clamped
from chatkit_rag.stores.rows import (
    attachment_from_json,
    item_to_json,
    page_of_rows,
    read_row,
    thread_from_json,
    thread_to_json,
)
from chatkit_rag.stores.sql_attachments import SQLiteAttachments
from chatkit_rag.stores.sql_coordination import SQLiteCoordination
from chatkit_rag.stores.sql_file import SQLiteFile
from chatkit_rag.stores.sql_privacy import SQLitePrivacy
from chatkit_rag.stores.sql_turns import SQLiteTurns
from chatkit_rag.stores.storable import check_item, check_storable

_ANY: TypeAdapter[Any] = TypeAdapter(Any)

Record = TypeVar("Record", bound=BaseModel)


class SQLiteStore(SQLiteTurns, SQLiteCoordination, SQLiteAttachments, SQLitePrivacy, BaseStore):
    """A `Store` in one SQLite file, opened at its first use.

    Writes that come at the same time are committed together, each is acknowledged when it is on the disk, and none is
    cut off by a cancellation. Other processes may read and write the file meanwhile.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = SQLiteFile(Path(path).absolute())

    async def open(self) -> None:
        """Opens the file, and makes it and its tables where they are missing.

        Raises:
            StoreUnavailable: the folder or the file cannot be written, or the file is no database.
            ConfigurationError: the file is of a newer version.
        """
        await self._file.open()

    async def close(self) -> None:
        """See `Lifecycle.close`."""
        await self._file.close()

    async def ping(self) -> None:
        """See `Lifecycle.ping`."""
        await self._file.read(sql.PING)

    async def load_thread(self, thread_id: str, context: RequestContext) -> ThreadMetadata:
        """See `Store.load_thread`."""
        rows = await self._file.read(sql.LOAD_THREAD, *context.owner, thread_id)
        return _record(rows, "thread", thread_id, thread_from_json)

    async def save_thread(self, thread: ThreadMetadata, context: RequestContext) -> None:
        """See `Store.save_thread`."""
        check_storable(thread)
        row = (*context.owner, thread.id, thread_to_json(thread))
        if not await self._file.store(sql.SAVE_THREAD, *row, *context.owner, context.began.timestamp()):
            raise NotFound("thread", thread.id)

    async def patch_thread(self, thread_id: str, changes: Mapping[str, Any], context: RequestContext) -> None:
        """See `PatchesThreads.patch_thread`; one statement, so that no other change of the thread is lost."""
        check_storable(changes)
        values: list[str] = []
        for name, value in changes.items():
            values += [f"$.{name}", _ANY.dump_json(value).decode()]
        if not await self._file.change(sql.patch_thread(changes.keys()), *values, *context.owner, thread_id):
            raise NotFound("thread", thread_id)

    async def delete_thread(self, thread_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread`."""
        await self._file.change(sql.DELETE_THREAD, *context.owner, thread_id)

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: RequestContext
    ) -> Page[ThreadMetadata]:
        """See `Store.load_threads`."""
        rows = await self._page(sql.THREADS, context.owner, after, limit, order)
        return page_of_rows(rows, limit, "thread", thread_from_json)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: RequestContext
    ) -> Page[ThreadItem]:
        """See `Store.load_thread_items`."""
        rows = await self._page(sql.ITEMS, (*context.owner, thread_id), after, limit, order)
        return page_of_rows(rows, limit, "item", item_from_json, items_from_json)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.add_thread_item`."""
        check_item(item, thread_id)
        try:
            await self._file.change(sql.ADD_ITEM, *context.owner, thread_id, item.id, item_to_json(item))
        except sqlite3.IntegrityError as exc:  # the only constraint left to break is the thread's existence
            raise NotFound("thread", thread_id) from exc

    async def save_item(self, thread_id: str, item: ThreadItem, context: RequestContext) -> None:
        """See `Store.save_item`."""
        await self.add_thread_item(thread_id, item, context)

    async def load_item(self, thread_id: str, item_id: str, context: RequestContext) -> ThreadItem:
        """See `Store.load_item`."""
        rows = await self._file.read(sql.LOAD_ITEM, *context.owner, thread_id, item_id)
        return _record(rows, "item", item_id, item_from_json)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: RequestContext) -> None:
        """See `Store.delete_thread_item`."""
        await self._file.change(sql.DELETE_ITEM, *context.owner, thread_id, item_id)

    async def save_feedback(
        self, thread_id: str, item_ids: Sequence[str], feedback: Mapping[str, Any], context: RequestContext
    ) -> None:
        """See `KeepsFeedback.save_feedback`."""
        check_storable(feedback)
        payload = _ANY.dump_json(dict(feedback)).decode()
        rows = [(*context.owner, thread_id, item_id, payload) for item_id in dict.fromkeys(item_ids)]
        try:
            await self._file.write(lambda connection: connection.executemany(sql.SAVE_FEEDBACK, rows))
        except (sqlite3.IntegrityError, UnicodeEncodeError) as exc:  # one of the items is not there
            raise NotFound("item", ", ".join(item_ids)) from exc

    async def save_attachment(self, attachment: Attachment, context: RequestContext) -> None:
        """See `Store.save_attachment`."""
        check_storable(attachment)
        row = (*context.owner, attachment.id, attachment.model_dump_json())
        if not await self._file.store(sql.SAVE_ATTACHMENT, *row, *context.owner, context.began.timestamp()):
            raise NotFound("attachment", attachment.id)

    async def load_attachment(self, attachment_id: str, context: RequestContext) -> Attachment:
        """See `Store.load_attachment`."""
        rows = await self._file.read(sql.LOAD_ATTACHMENT, *context.owner, attachment_id)
        return _record(rows, "attachment", attachment_id, attachment_from_json)

    async def delete_attachment(self, attachment_id: str, context: RequestContext) -> None:
        """See `Store.delete_attachment`."""
        await self._file.change(sql.DELETE_ATTACHMENT, *context.owner, attachment_id)

    async def _page(
        self, pages: sql.Pages, within: Sequence[str], after: str | None, limit: int, order: str
    ) -> Sequence[Any]:
        """Up to one row more than the page holds. Raises NotFound for a cursor that is not there."""
        way, size = "asc" if order == "asc" else "desc", clamped(limit) + 1
        if after is None:
            return await self._file.read(pages.first[way], *within, size)
        rows = await self._file.read(pages.behind[way], *within, after, *within, size)
        if not rows:
            raise NotFound(pages.what, after)
        return [row for row in rows if row[0] is not None]


def _record(rows: Sequence[Sequence[Any]], what: str, id_: str, read: Callable[[str], Record]) -> Record:
    record = read_row(id_, rows[0][0], what, read) if rows else None
    if record is None:
        raise NotFound(what, id_)
    return record
