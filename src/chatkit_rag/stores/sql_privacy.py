"""What a `SQLiteStore` holds of its readers: told, forgotten, and not kept for longer than is wanted."""

import sqlite3
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from chatkit.types import Attachment

from chatkit_rag.context import RequestContext
from chatkit_rag.stores.holdings import PAGE, Row, Table, rows_in, tables
from chatkit_rag.stores.privacy import MARK_LIFETIME, NEWEST_ITEMS, Deleted, Holding, Owner
from chatkit_rag.stores.rows import attachment_from_json, read_row, second_of
from chatkit_rag.stores.sql_file import SQLiteFile

_OWNER = "tenant = ? AND user = ?"


def _field(name: str, payload: str = "payload") -> str:
    """Of a record; nothing of one that cannot be read."""
    return f"CASE WHEN json_valid({payload}) THEN json_extract({payload}, '$.{name}') END"


_SECOND = f"substr({_field('created_at')}, 1, 19)"

_MARK = """
    INSERT INTO deleted_users (tenant, user, at) VALUES (?, ?, ?)
    ON CONFLICT (tenant, user) DO UPDATE SET at = max(at, excluded.at)"""
_PURGE_THREADS = f"""
    DELETE FROM threads WHERE seq IN (
        SELECT seq FROM threads AS thread
        WHERE {_SECOND} < ?
        AND NOT EXISTS (
            SELECT 1 FROM (
                SELECT payload FROM items
                WHERE tenant = thread.tenant AND user = thread.user AND thread_id = thread.id
                ORDER BY seq DESC LIMIT {NEWEST_ITEMS}
            ) WHERE {_SECOND} >= ?
        )
        AND NOT EXISTS (
            SELECT 1 FROM leases
            WHERE tenant = thread.tenant AND user = thread.user AND thread_id = thread.id AND until > ?
        )
        ORDER BY seq LIMIT ?
    )
    RETURNING tenant, user, id"""
_UNUSED_ATTACHMENTS = f"""
    SELECT tenant, user, id, payload FROM attachments AS file
    WHERE (tenant, user, id) > (?, ?, ?) AND NOT EXISTS (
        SELECT 1 FROM threads
        WHERE tenant = file.tenant AND user = file.user AND id = {_field("thread_id", "file.payload")}
    )
    ORDER BY tenant, user, id LIMIT {PAGE}"""
_EXPIRED = (
    "DELETE FROM leases WHERE until <= ?",
    "DELETE FROM requests WHERE expires <= ?",
    f"DELETE FROM deleted_users WHERE at <= ? - {MARK_LIFETIME.total_seconds()}",
)


_REQUEST = ("fingerprint", "busy_until", "thread_id", "item_id", "expires")


def _request(row: Row) -> dict[str, Any]:
    return dict(zip(("key", *_REQUEST), row, strict=True))


_TABLES = tables(Table("requests", ("key",), ("",), _REQUEST, _request), until="until")


def _page_of(table: Table) -> str:
    key, places = ", ".join(table.key), ", ".join("?" * len(table.key))
    return f"""
        SELECT {", ".join((*table.key, *table.columns))} FROM {table.kind}
        WHERE {_OWNER} AND ({key}) > ({places}) ORDER BY {key} LIMIT {PAGE}"""


class SQLitePrivacy:
    """`ListsHoldings`, `DeletesUsers` and `Purges`, for a store over `_file`."""

    _file: SQLiteFile

    async def holdings(self, context: RequestContext) -> AsyncGenerator[Holding]:
        """See `ListsHoldings.holdings`."""
        for table in _TABLES:
            read = partial(self._file.read, _page_of(table), *context.owner)
            async for holding in rows_in(table, lambda last, read=read: read(*last)):
                yield holding

    async def delete_user(self, context: RequestContext) -> Deleted:
        """See `DeletesUsers.delete_user`; what is deleted is overwritten in the file."""
        owner = context.owner

        def delete(connection: sqlite3.Connection) -> Deleted:
            [(before,)] = connection.execute("PRAGMA secure_delete").fetchall()
            connection.execute("PRAGMA secure_delete = ON")
            try:
                connection.execute(_MARK, (*owner, time.time()))
                # Items, feedback and leases go with their threads.
                gone = [
                    connection.execute(f"DELETE FROM {table} WHERE {_OWNER}", owner).rowcount
                    for table in ("threads", "attachments", "requests")
                ]
            finally:
                connection.execute(f"PRAGMA secure_delete = {before}")
            return Deleted(gone[0], gone[1])

        return await self._file.write(delete)

    async def purge_threads(self, before: datetime, limit: int) -> Sequence[tuple[Owner, str]]:
        """See `Purges.purge_threads`."""
        second = second_of(before)
        rows = await self._file.change(_PURGE_THREADS, second, second, time.time(), limit)
        return [((tenant, user), id_) for tenant, user, id_ in rows]

    async def unused_attachments(self) -> AsyncGenerator[tuple[Owner, Attachment]]:
        """See `Purges.unused_attachments`."""
        last: Sequence[Any] | None = ("", "", "")
        while last is not None:
            page = await self._file.read(_UNUSED_ATTACHMENTS, *last)
            for tenant, user, id_, payload in page:
                if attachment := read_row(id_, payload, "attachment", attachment_from_json):
                    yield (tenant, user), attachment
            last = page[-1][:3] if len(page) == PAGE else None

    async def purge_expired(self) -> int:
        """See `Purges.purge_expired`."""
        now = time.time()
        return await self._file.write(
            lambda connection: sum(connection.execute(statement, (now,)).rowcount for statement in _EXPIRED)
        )
