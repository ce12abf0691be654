"""Ways to keep items in an SQLite file, each write on the disk when it returns."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, Protocol

from chatkit.types import Page, ThreadItem, ThreadMetadata
from data import ITEM, ITEMS, NOW, READER, WRITTEN
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.sql import SQLiteStore

PAGE = 20
_TABLE = """
CREATE TABLE IF NOT EXISTS items (
    thread_id TEXT NOT NULL, seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, payload TEXT NOT NULL
)"""
_INDEX = "CREATE INDEX IF NOT EXISTS items_in_order ON items (thread_id, seq)"
_ADD = "INSERT INTO items (thread_id, id, payload) VALUES (:thread_id, :id, :payload)"
_PAGE = "SELECT id, payload FROM items WHERE thread_id = :thread_id ORDER BY seq DESC LIMIT :limit"


class FileContender(Protocol):
    """A way to keep items in a file."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def add(self, thread_id: str, item: ThreadItem) -> None: ...

    async def items(self, thread_id: str) -> Page[ThreadItem]: ...


class Direct:
    """`sqlite3` alone, in the event loop's own thread: WAL, and the disk waited for at each commit."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "direct.db"

    async def open(self) -> None:
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", _TABLE, _INDEX):
            self._connection.execute(statement)

    async def close(self) -> None:
        self._connection.close()

    async def add(self, thread_id: str, item: ThreadItem) -> None:
        values = {"thread_id": thread_id, "id": item.id, "payload": item.model_dump_json()}
        self._connection.execute(_ADD, values)
        await asyncio.sleep(0)

    async def items(self, thread_id: str) -> Page[ThreadItem]:
        rows = self._connection.execute(_PAGE, {"thread_id": thread_id, "limit": PAGE + 1}).fetchall()
        await asyncio.sleep(0)
        data = ITEMS.validate_json(f"[{','.join(payload for _, payload in rows[:PAGE])}]")
        return Page(data=data, has_more=len(rows) > PAGE)


class Ours:
    """`SQLiteStore`."""

    def __init__(self, folder: Path) -> None:
        self._store = SQLiteStore(folder / "ours.db")
        self._context = RequestContext(principal=Principal(READER))

    async def open(self) -> None:
        await self._store.open()
        threads = [ThreadMetadata(id=id_, created_at=NOW) for id_ in WRITTEN]
        await asyncio.gather(*(self._store.save_thread(thread, self._context) for thread in threads))

    async def close(self) -> None:
        await self._store.close()

    async def add(self, thread_id: str, item: ThreadItem) -> None:
        await self._store.add_thread_item(thread_id, item, self._context)

    async def items(self, thread_id: str) -> Page[ThreadItem]:
        return await self._store.load_thread_items(thread_id, None, PAGE, "desc", self._context)


class PooledDefault:
    """SQLAlchemy over aiosqlite as it comes: fifteen connections, which fight for the one lock."""

    wal = False

    def __init__(self, folder: Path) -> None:
        self._engine = create_async_engine(f"sqlite+aiosqlite:///{folder / type(self).__name__}.db")
        if self.wal:
            event.listen(self._engine.sync_engine, "connect", _turn_wal_on)
        self.refused = 0
        """Writes that gave up because the file stayed locked."""

    async def open(self) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(text(_TABLE))
            await connection.execute(text(_INDEX))

    async def close(self) -> None:
        await self._engine.dispose()

    async def add(self, thread_id: str, item: ThreadItem) -> None:
        values = {"thread_id": thread_id, "id": item.id, "payload": item.model_dump_json()}
        try:
            async with self._engine.begin() as connection:
                await connection.execute(text(_ADD), values)
        except OperationalError:
            self.refused += 1

    async def items(self, thread_id: str) -> Page[ThreadItem]:
        async with self._engine.connect() as connection:
            rows = list(await connection.execute(text(_PAGE), {"thread_id": thread_id, "limit": PAGE + 1}))
        return Page(data=[ITEM.validate_json(row.payload) for row in rows[:PAGE]], has_more=len(rows) > PAGE)


class PooledWal(PooledDefault):
    """The same on a file in WAL mode, as ours."""

    wal = True


def _turn_wal_on(connection: Any, _record: Any) -> None:
    connection.cursor().execute("PRAGMA journal_mode = WAL")
