"""Ways to keep threads in Postgres: the floor, ours, SQLAlchemy's defaults, and what the first systems did."""

import json
from collections.abc import Callable
from typing import Any, Protocol

import asyncpg
from chatkit.types import Page, ThreadItem, ThreadMetadata
from data import ITEM, ITEMS, READER, THREAD, answer, question
from pydantic import BaseModel, TypeAdapter
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.ids import new_id
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.turns import Asked, Ending, Refusal

POOL = 10
PAGE = 20
_THREADS = TypeAdapter(list[ThreadMetadata])


class Contender(Protocol):
    """A way to keep threads."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def load_thread(self, thread_id: str) -> ThreadMetadata: ...

    async def items(self, thread_id: str) -> Page[ThreadItem]:
        """The newest twenty."""
        ...

    async def threads(self) -> Page[ThreadMetadata]:
        """The reader's newest twenty."""
        ...

    async def add(self, thread_id: str, item: ThreadItem) -> None: ...

    async def turn(self, thread_id: str) -> Page[ThreadItem]:
        """What a chat turn stores and loads: the thread, the question, the history, the answer."""
        ...


class Floor:
    """asyncpg alone: nothing that could be left out, and one validation for the page."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        async def leave_as_it_is(_connection: Any) -> None: ...

        self._pool = await asyncpg.create_pool(self._url, min_size=POOL, max_size=POOL, reset=leave_as_it_is)

    async def close(self) -> None:
        await self._pool.close()

    async def load_thread(self, thread_id: str) -> ThreadMetadata:
        statement = "SELECT payload FROM floor_threads WHERE id = $1 AND owner = $2"
        return THREAD.validate_json(await self._pool.fetchval(statement, thread_id, READER))

    async def items(self, thread_id: str) -> Page[ThreadItem]:
        statement = "SELECT id, payload FROM floor_items WHERE thread_id = $1 ORDER BY seq DESC LIMIT $2"
        return self._page(await self._pool.fetch(statement, thread_id, PAGE + 1), ITEMS.validate_json)

    async def threads(self) -> Page[ThreadMetadata]:
        statement = "SELECT id, payload FROM floor_threads WHERE owner = $1 ORDER BY seq DESC LIMIT $2"
        rows = await self._pool.fetch(statement, READER, PAGE + 1)
        return self._page(rows, _THREADS.validate_json)

    async def add(self, thread_id: str, item: ThreadItem) -> None:
        statement = "INSERT INTO floor_items VALUES ($1, nextval('floor_numbers'), $2, $3)"
        await self._pool.execute(statement, thread_id, item.id, item.model_dump_json())

    async def turn(self, thread_id: str) -> Page[ThreadItem]:
        statement = """
            WITH thread AS (SELECT payload FROM floor_threads WHERE id = $1 AND owner = $2),
            added AS (INSERT INTO floor_items SELECT $1, nextval('floor_numbers'), $3, $4 FROM thread)
            SELECT '' AS id, payload FROM thread UNION ALL (
                SELECT id, payload FROM floor_items WHERE thread_id = $1 ORDER BY seq DESC LIMIT $5)"""
        asked = question(new_id("msg"), thread_id)
        values = (thread_id, READER, asked.id, asked.model_dump_json(), PAGE)
        thread, *rows = await self._pool.fetch(statement, *values)
        THREAD.validate_json(thread["payload"])
        page = self._page(rows, ITEMS.validate_json)
        await self.add(thread_id, answer(new_id("msg"), thread_id))
        return page

    def _page(self, rows: list[Any], read: Callable[[str], list[Any]]) -> Page[Any]:
        kept = rows[:PAGE]
        data = read(f"[{','.join(row['payload'] for row in kept)}]")
        return Page(data=data, has_more=len(rows) > PAGE, after=kept[-1]["id"] if len(rows) > PAGE else None)


class Ours:
    """`PostgresStore`."""

    def __init__(self, url: str) -> None:
        self._store = PostgresStore(url, pool_size=POOL)
        self._context = RequestContext(principal=Principal(READER))

    async def open(self) -> None:
        await self._store.open()

    async def close(self) -> None:
        await self._store.close()

    async def load_thread(self, thread_id: str) -> ThreadMetadata:
        return await self._store.load_thread(thread_id, self._context)

    async def items(self, thread_id: str) -> Page[ThreadItem]:
        return await self._store.load_thread_items(thread_id, None, PAGE, "desc", self._context)

    async def threads(self) -> Page[ThreadMetadata]:
        return await self._store.load_threads(PAGE, None, "desc", self._context)

    async def add(self, thread_id: str, item: ThreadItem) -> None:
        await self._store.add_thread_item(thread_id, item, self._context)

    async def turn(self, thread_id: str) -> Page[ThreadItem]:
        asked = question(new_id("msg"), thread_id)
        turn = Asked(message=asked, holder=asked.id, seconds=60.0, quota=0, history=PAGE)
        begun = await self._store.begin_turn(turn, self._context)
        if isinstance(begun, Refusal):
            return Page()  # two at once in one thread: the second is sent away, as a server does
        await self._store.end_turn(Ending(item=answer(new_id("msg"), thread_id), holder=asked.id), self._context)
        return Page(data=list(begun.history))


class Defaults:
    """SQLAlchemy's core as it comes: a transaction about each statement, and a ROLLBACK when it is given back."""

    _ping = False
    _LOAD = text("SELECT payload FROM floor_threads WHERE id = :id AND owner = :owner")
    _ITEMS = text("SELECT id, payload FROM floor_items WHERE thread_id = :id ORDER BY seq DESC LIMIT :limit")
    _THREADS = text("SELECT id, payload FROM floor_threads WHERE owner = :owner ORDER BY seq DESC LIMIT :limit")
    _ADD = text("INSERT INTO floor_items VALUES (:thread_id, nextval('floor_numbers'), :id, :payload)")

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: asyncpg.connect(self._url),
            pool_size=POOL,
            max_overflow=0,
            pool_pre_ping=self._ping,
        )

    async def open(self) -> None:
        await self.load_thread("thr_0")

    async def close(self) -> None:
        await self._engine.dispose()

    async def load_thread(self, thread_id: str) -> ThreadMetadata:
        [row] = await self._read(self._LOAD, id=thread_id, owner=READER)
        return THREAD.validate_json(row.payload)

    async def items(self, thread_id: str) -> Page[ThreadItem]:
        rows = await self._read(self._ITEMS, id=thread_id, limit=PAGE + 1)
        return self._page(rows, ITEM.validate_json)

    async def threads(self) -> Page[ThreadMetadata]:
        return self._page(await self._read(self._THREADS, owner=READER, limit=PAGE + 1), THREAD.validate_json)

    async def add(self, thread_id: str, item: ThreadItem) -> None:
        await self._write(self._ADD, thread_id=thread_id, id=item.id, payload=item.model_dump_json())

    async def turn(self, thread_id: str) -> Page[ThreadItem]:
        return await step_by_step(self, thread_id)

    async def _read(self, statement: TextClause, **values: Any) -> list[Any]:
        async with self._engine.connect() as connection:
            return list(await connection.execute(statement, values))

    async def _write(self, statement: TextClause, **values: Any) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(statement, values)

    def _page(self, rows: list[Any], read: Callable[[Any], Any]) -> Page[Any]:
        data = [read(row[1]) for row in rows[:PAGE]]
        return Page(data=data, has_more=len(rows) > PAGE, after=rows[PAGE - 1].id if len(rows) > PAGE else None)


class FirstThread(BaseModel):
    """How the first systems wrapped what they had stored."""

    thread: ThreadMetadata


class FirstItem(BaseModel):
    """Likewise."""

    item: ThreadItem


class FirstSystems(Defaults):
    """As the first systems' store did it: a ping, BEGIN, the statement, COMMIT; JSONB, a row at a time.

    SQLAlchemy has asyncpg run `json.loads` on each value.
    """

    _ping = True
    _LOAD = text("SELECT data FROM first_threads WHERE id = :id AND user_id = :owner")
    _ITEMS = text(
        "SELECT id, data FROM first_items WHERE thread_id = :id AND user_id = :owner "
        "ORDER BY created_at DESC LIMIT :limit"
    )
    _THREADS = text("SELECT id, data FROM first_threads WHERE user_id = :owner ORDER BY created_at DESC LIMIT :limit")
    _ADD = text(
        "INSERT INTO first_items VALUES (:id, :thread_id, :owner, now(), CAST(:payload AS jsonb)) "
        "ON CONFLICT (id) DO UPDATE SET data = excluded.data"
    )

    async def load_thread(self, thread_id: str) -> ThreadMetadata:
        [row] = await self._read(self._LOAD, id=thread_id, owner=READER)
        return FirstThread.model_validate({"thread": row.data}).thread

    async def items(self, thread_id: str) -> Page[ThreadItem]:
        rows = await self._read(self._ITEMS, id=thread_id, owner=READER, limit=PAGE + 1)
        return self._page(rows, lambda data: FirstItem.model_validate({"item": data}).item)

    async def threads(self) -> Page[ThreadMetadata]:
        rows = await self._read(self._THREADS, owner=READER, limit=PAGE + 1)
        return self._page(rows, lambda data: FirstThread.model_validate({"thread": data}).thread)

    async def add(self, thread_id: str, item: ThreadItem) -> None:
        payload = json.dumps(FirstItem(item=item).model_dump(mode="json")["item"])
        await self._write(self._ADD, id=item.id, thread_id=thread_id, owner=READER, payload=payload)

    async def _read(self, statement: TextClause, **values: Any) -> list[Any]:
        async with self._engine.begin() as connection:
            result = await connection.execute(statement, values)
            return list(result.fetchall())


async def step_by_step(store: Contender, thread_id: str) -> Page[ThreadItem]:
    """A turn on a store that has no more than ChatKit's own methods."""
    await store.load_thread(thread_id)
    await store.add(thread_id, question(new_id("msg"), thread_id))
    page = await store.items(thread_id)
    await store.add(thread_id, answer(new_id("msg"), thread_id))
    return page
