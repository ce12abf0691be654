"""A process that writes and reads through a cache, and prints when: run by `test_cached_processes`.

Arguments: the database, Redis, the prefix, this process's number, seconds.
"""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from chatkit.types import SDKHiddenContextItem, ThreadMetadata

from chatkit_rag.context import Principal, RequestContext
from chatkit_rag.stores.cached import CachedStore
from chatkit_rag.stores.postgres import PostgresStore
from chatkit_rag.stores.sql import SQLiteStore

OWNERS = ("ada", "grace")
NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


class Main:
    def __init__(self, database: str, redis: str, prefix: str, number: str, seconds: str) -> None:
        kind: Any = PostgresStore if "://" in database else SQLiteStore
        self.behind = kind(database)
        # So much patience that a busy machine is not taken for a Redis that is away.
        self.store = CachedStore(self.behind, redis, prefix=prefix, patience=20.0)
        self.me = number
        self.seconds = float(seconds)
        self.loaded = 0
        self.told: list[tuple[Any, ...]] = []

    async def run(self) -> None:
        await self.store.open()
        for owner in OWNERS:
            created = ThreadMetadata(id=f"thr_{self.me}", created_at=NOW)
            await self.store.save_thread(created, self.context(owner))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        load = self.behind.load_thread_items

        async def counted(*arguments: Any) -> Any:
            self.loaded += 1
            return await load(*arguments)

        self.behind.load_thread_items = counted
        until = time.monotonic() + self.seconds
        await asyncio.gather(*(work(owner, until) for owner in OWNERS for work in (self.write, self.read, self.read)))
        await self.store.close()
        print(json.dumps({"told": self.told, "loaded": self.loaded}))

    def context(self, owner: str) -> RequestContext:
        return RequestContext(principal=Principal(owner))

    async def write(self, owner: str, until: float) -> None:
        number = 0
        while time.monotonic() < until:
            number += 1
            item = SDKHiddenContextItem(
                id=f"msg_{number}", thread_id=f"thr_{self.me}", created_at=NOW, content=str(number)
            )
            await self.store.add_thread_item(f"thr_{self.me}", item, self.context(owner))
            self.told.append(("wrote", owner, self.me, number, time.monotonic()))
            await asyncio.sleep(0.1)  # so that there is something to read from the cache

    async def read(self, owner: str, until: float) -> None:
        while time.monotonic() < until:
            for thread in ("0", "1"):
                began = time.monotonic()
                page = await self.store.load_thread_items(f"thr_{thread}", None, 3, "desc", self.context(owner))
                seen = int(page.data[0].content) if page.data else 0  # type: ignore[union-attr]
                self.told.append(("read", owner, thread, seen, began))
                await asyncio.sleep(0)


asyncio.run(Main(*sys.argv[1:]).run())
