"""Turns in the file of a `SQLiteStore`: one transaction begins a turn, and one ends it."""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from chatkit.types import ThreadMetadata

from chatkit_rag.context import RequestContext
from chatkit_rag.errors import InvalidRequest
from chatkit_rag.stores import sql_statements as sql
from chatkit_rag.stores.base import NotFound
from chatkit_rag.stores.interrupted import item_from_json, items_from_json
from chatkit_rag.stores.paging import clamped
from chatkit_rag.stores.rows import item_to_json, page_of_rows, read_row, thread_from_json, thread_to_json
from chatkit_rag.stores.sql_file import SQLiteFile
from chatkit_rag.stores.storable import check_item, check_storable
from chatkit_rag.stores.turns import Asked, Begun, Ending, Refusal


class SQLiteTurns:
    """`BeginsTurns`, for a store over `_file`."""

    _file: SQLiteFile

    async def begin_turn(self, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """See `BeginsTurns.begin_turn`."""
        message = asked.message
        check_item(message, message.thread_id)
        within = (*context.owner, message.thread_id)
        payload = item_to_json(message)

        def begin(connection: sqlite3.Connection) -> tuple[ThreadMetadata, Sequence[Any]] | Refusal:
            [stored] = connection.execute(sql.LOAD_THREAD, within).fetchone() or [None]
            thread = stored and read_row(message.thread_id, stored, "thread", thread_from_json)
            if not thread:
                raise NotFound("thread", message.thread_id)
            if thread.status.type != "active":
                return Refusal(thread.status.type)
            if asked.quota and _is_full(connection, sql.COUNT_ITEMS, (*within, message.id), asked.quota):
                return Refusal.FULL
            if not _take_lease(connection, message.thread_id, asked, context):
                return Refusal.BUSY
            size = clamped(asked.history) if asked.history else 0
            history = connection.execute(sql.HISTORY, (*within, message.id, size)).fetchall()
            connection.execute(sql.ADD_ITEM, (*within, message.id, payload))
            _note(connection, asked, context)
            return thread, history

        try:
            begun = await self._file.write(begin)
        except UnicodeEncodeError as exc:
            raise NotFound("thread", message.thread_id) from exc
        if isinstance(begun, Refusal):
            return begun
        thread, history = begun
        return Begun(
            thread=thread, history=page_of_rows(history, asked.history, "item", item_from_json, items_from_json).data
        )

    async def begin_thread(self, thread: ThreadMetadata, asked: Asked, context: RequestContext) -> Begun | Refusal:
        """See `BeginsTurns.begin_thread`."""
        check_storable(thread)
        check_item(asked.message, thread.id)
        owned = (*context.owner, thread.id)
        payloads = thread_to_json(thread), item_to_json(asked.message)

        def begin(connection: sqlite3.Connection) -> Refusal | None:
            if asked.quota and _is_full(connection, sql.COUNT_THREADS, owned, asked.quota):
                return Refusal.FULL
            row = (*owned, payloads[0], *context.owner, context.began.timestamp())
            if not connection.execute(sql.SAVE_THREAD, row).fetchall():
                raise NotFound("thread", thread.id)
            _take_lease(connection, thread.id, asked, context)
            connection.execute(sql.ADD_ITEM, (*owned, asked.message.id, payloads[1]))
            _note(connection, asked, context)
            return None

        try:
            refusal = await self._file.write(begin)
        except UnicodeEncodeError as exc:
            raise InvalidRequest("an id or the owner's name is no text that can be stored") from exc
        return refusal or Begun(thread=thread)

    async def end_turn(self, ending: Ending, context: RequestContext) -> None:
        """See `BeginsTurns.end_turn`."""
        item = ending.item
        check_item(item, item.thread_id)
        within = (*context.owner, item.thread_id)
        payload = item_to_json(item)

        def end(connection: sqlite3.Connection) -> None:
            connection.execute(sql.ADD_ITEM, (*within, item.id, payload))
            _note(connection, ending, context)
            connection.execute(sql.RELEASE_LEASE, (*within, ending.holder))

        try:
            await self._file.write(end)
        except (sqlite3.IntegrityError, UnicodeEncodeError) as exc:  # the thread is not there
            raise NotFound("thread", item.thread_id) from exc


def _is_full(connection: sqlite3.Connection, count: str, values: Sequence[Any], quota: int) -> bool:
    """Whether the list that `count` counts has no room for the row that `values` end with; it has, for one it holds."""
    held, is_known = connection.execute(count, (values[-1], *values[:-1])).fetchone()
    return held >= quota and not is_known


def _take_lease(connection: sqlite3.Connection, thread_id: str, asked: Asked, context: RequestContext) -> bool:
    now = time.time()
    values = (*context.owner, thread_id, asked.holder, now + asked.seconds, now)
    return bool(connection.execute(sql.TAKE_LEASE, values).fetchall())


def _note(connection: sqlite3.Connection, said: Asked | Ending, context: RequestContext) -> None:
    if said.key and said.request is not None:
        connection.execute(sql.NOTE_REQUEST, (*astuple(said.request), *context.owner, said.key))
